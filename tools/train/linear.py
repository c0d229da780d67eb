# SPDX-License-Identifier: MIT
"""Attention without softmax, for training: causal products whose weights decay, computed in blocks.

One function serves both families: Lightning Attention (Qin et al. 2024) with a fixed decay a head, and the state space
duality of Mamba-2 (Dao & Gu 2024, section 6) with a decay a token. The blocks are those of the latter.
"""
import torch
import torch.nn.functional as F
from torch import nn

BLOCK = 64


def decaying_attention(q, k, v, log_decay):
    """q, k [B,T,H,K], v [B,T,H,P], log_decay [B or 1,T,H] f32, <= 0 -> [B,T,H,P] f32.

    y_t = sum over s <= t of exp(log_decay_{s+1} + ... + log_decay_t) (q_t k_s) v_s.
    """
    b, t, h, _ = q.shape
    pad = -t % BLOCK
    if pad:
        q, k, v = (F.pad(x, (0, 0, 0, 0, 0, pad)) for x in (q, k, v))
        log_decay = F.pad(log_decay, (0, 0, 0, pad))
    n = (t + pad) // BLOCK
    q, k, v = (x.reshape(b, n, BLOCK, h, x.shape[-1]).permute(0, 3, 1, 2, 4) for x in (q, k, v))
    since = log_decay.reshape(-1, n, BLOCK, h).permute(0, 3, 1, 2).cumsum(-1)           # [b,h,n,c]
    seen = torch.ones(BLOCK, BLOCK, dtype=torch.bool, device=q.device).tril()
    gap = since[..., :, None] - since[..., None, :]
    inside = (q @ k.transpose(-1, -2)) * gap.masked_fill(~seen, -torch.inf).exp()
    y = (inside.to(v.dtype) @ v).float()
    if n > 1:
        total = since[..., -1]
        fading = k * (total[..., None] - since).exp()[..., None].to(k.dtype)
        states = fading.transpose(-1, -2) @ v                                             # [b,h,n,K,P]
        ends = total.cumsum(-1)
        earlier = torch.ones(n, n, dtype=torch.bool, device=q.device).tril(-1)
        gap = (ends - total)[..., :, None] - ends[..., None, :]
        carry = gap.masked_fill(~earlier, -torch.inf).exp().to(states.dtype)
        before = (carry @ states.flatten(-2)).unflatten(-1, states.shape[-2:])
        y = y + since.exp()[..., None] * (q @ before.to(q.dtype))
    return y.permute(0, 2, 3, 1, 4).reshape(b, t + pad, h, -1)[:, :t]


def rms(x, eps):
    """Norm without weight, in fp32."""
    x = x.float()
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)


def causal_conv(x, weight, bias):
    """Depthwise over tokens: x [B,T,C], weight [C,1,W], bias [C]; the last tap is the current token's."""
    taps, t = weight.shape[-1], x.shape[1]
    padded = F.pad(x, (0, 0, taps - 1, 0))
    return sum(padded[:, j:j + t] * weight[:, 0, j].to(x.dtype) for j in range(taps)) + bias.to(x.dtype)


class HeadMamba2(nn.Module):
    """Mamba-2 in the place of a grouped attention (Wang et al. 2024, "The Mamba in the Llama"; variant 2 of its code).

    The state is as wide as a head; x and B have the heads of values and keys and are repeated for the query heads; every
    head is normed by itself, after the gate. Parameter names are those of its checkpoints.
    """

    def __init__(self, cfg):
        super().__init__()
        self.heads, self.width = cfg.num_attention_heads, cfg.head_dim
        self.inner, self.xb = self.heads * self.width, cfg.num_key_value_heads * self.width
        self.eps = cfg.rms_norm_eps
        channels = self.inner + 2 * self.xb
        self.in_proj = nn.Linear(cfg.hidden_size, self.inner + channels + self.heads, bias=False)
        self.conv1d = nn.Conv1d(channels, channels, cfg.conv_kernel, groups=channels, padding=cfg.conv_kernel - 1)
        step = torch.exp(torch.empty(self.heads).uniform_(-6.9, -2.3))                    # from 0.001 to 0.1
        self.dt_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))
        self.A_log = nn.Parameter(torch.empty(self.heads).uniform_(1, 16).log())
        self.D = nn.Parameter(torch.ones(self.heads))
        self.norm = nn.Module()
        self.norm.weight = nn.Parameter(torch.ones(self.inner))
        self.out_proj = nn.Linear(self.inner, cfg.hidden_size, bias=False)

    def adopt(self, attention):
        """Algorithm 1 of the paper: queries become C, keys B, values x; the rest of the rows stay as they are."""
        with torch.no_grad():
            rows = self.in_proj.weight
            at = self.inner
            for source in (attention.v_proj, attention.k_proj, attention.q_proj):
                rows[at:at + source.weight.shape[0]] = source.weight
                at += source.weight.shape[0]
            self.out_proj.weight.copy_(attention.o_proj.weight)

    def forward(self, x):
        b, t, _ = x.shape
        z, mixed, dt = self.in_proj(x).split([self.inner, self.inner + 2 * self.xb, self.heads], dim=-1)
        mixed = F.silu(causal_conv(mixed, self.conv1d.weight, self.conv1d.bias))
        v, k, q = (u.reshape(b, t, -1, self.width) for u in mixed.split([self.xb, self.xb, self.inner], dim=-1))
        v, k = (u.repeat_interleave(self.inner // self.xb, dim=2) for u in (v, k))
        dt = F.softplus(dt.float() + self.dt_bias)
        y = decaying_attention(q, k, v * dt[..., None].to(v.dtype), -dt * self.A_log.exp())
        y = (y + self.D[:, None] * v).reshape(b, t, self.inner) * F.silu(z.float())
        y = rms(y.reshape(b, t, self.heads, self.width), self.eps).reshape(b, t, self.inner) * self.norm.weight
        return self.out_proj(y)
