# SPDX-License-Identifier: MIT
"""TransNormerLLM in plain PyTorch (Qin et al. 2024), as the released code computes it.

Parameter names are those of the released checkpoints. The decay rates follow the code, not equation 2 of the paper.
"""
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn

from linear import decaying_attention, rms

NORM_EPS = 1e-6


@dataclass
class Config:
    vocab_size: int = 2048
    hidden_size: int = 256
    glu_dim: int = 768
    num_hidden_layers: int = 7
    num_attention_heads: int = 4
    max_position_embeddings: int = 1024

    @property
    def lrpe(self):
        """One flag a layer: the first layer only, as in all releases."""
        return [i == 0 for i in range(self.num_hidden_layers)]

    def as_dict(self):
        return asdict(self)


def decay_rates(cfg, layer):
    """[H] f32: slopes of ALiBi times a factor that falls from 1 to (not quite) 0 with the layer."""
    h = cfg.num_attention_heads
    if h & (h - 1):
        raise ValueError(f"{h} heads: this training code knows powers of two only")
    slopes = torch.tensor([2.0 ** (-8.0 * (i + 1) / h) for i in range(h)])
    return slopes * (1 - layer / (cfg.num_hidden_layers - 1) + 1e-5)


class Lrpe(nn.Module):
    def __init__(self, heads, width):
        super().__init__()
        joint = torch.arange(heads * width, dtype=torch.float64) / (heads * width)
        self.theta = nn.Parameter((10000.0 ** (-2 * joint)).float().reshape(heads, 1, width))

    def forward(self, x):
        """x [B,T,H,P] -> [B,T,H,2P]."""
        angle = torch.arange(x.shape[1], device=x.device, dtype=torch.float32)[:, None, None] * self.theta[:, 0]
        return torch.cat([x * angle.cos().to(x.dtype), x * angle.sin().to(x.dtype)], dim=-1)


class TokenMixer(nn.Module):
    def __init__(self, cfg, layer):
        super().__init__()
        d, self.heads = cfg.hidden_size, cfg.num_attention_heads
        self.qkvu_proj = nn.Linear(d, 4 * d, bias=False)
        self.out_proj = nn.Linear(d, d, bias=False)
        self.lrpe = Lrpe(self.heads, d // self.heads) if cfg.lrpe[layer] else None
        self.register_buffer("rates", decay_rates(cfg, layer), persistent=False)

    def forward(self, x):
        b, t, d = x.shape
        q, k, v, u = self.qkvu_proj(x).chunk(4, dim=-1)
        q, k, v = (y.reshape(b, t, self.heads, -1) for y in (F.silu(q), F.silu(k), v))
        if self.lrpe is not None:
            q, k = self.lrpe(q), self.lrpe(k)
        y = decaying_attention(q, k, v, -self.rates.expand(1, t, self.heads))
        return self.out_proj(rms(y.reshape(b, t, d), NORM_EPS) * u)


class ChannelMixer(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.l1 = nn.Linear(cfg.hidden_size, cfg.glu_dim, bias=False)
        self.l2 = nn.Linear(cfg.hidden_size, cfg.glu_dim, bias=False)
        self.l3 = nn.Linear(cfg.glu_dim, cfg.hidden_size, bias=False)

    def forward(self, x):
        return self.l3(self.l1(x) * self.l2(x))


class Block(nn.Module):
    def __init__(self, cfg, layer):
        super().__init__()
        self.token_mixer = TokenMixer(cfg, layer)
        self.channel_mixer = ChannelMixer(cfg)

    def forward(self, x):
        x = x + self.token_mixer(rms(x, NORM_EPS))
        return x + self.channel_mixer(rms(x, NORM_EPS))


class TransNormer(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(cfg.vocab_size, cfg.hidden_size)
        self.model.layers = nn.ModuleList(Block(cfg, i) for i in range(cfg.num_hidden_layers))
        for name, p in self.named_parameters():
            if p.dim() == 2:
                deep = name.endswith(("out_proj.weight", "l3.weight"))
                nn.init.normal_(p, std=0.02 / ((2 * cfg.num_hidden_layers) ** 0.5 if deep else 1.0))

    def hidden(self, ids):
        """ids [B,T] -> normed hidden states [B,T,D] f32."""
        x = self.model.embed_tokens(ids) * self.cfg.hidden_size ** 0.5
        for block in self.model.layers:
            x = block(x)
        return rms(x, NORM_EPS)

    def logits(self, hidden):
        return F.linear(hidden, self.model.embed_tokens.weight)

    def forward(self, ids):
        return self.logits(self.hidden(ids))

    def compile_blocks(self):
        """Compile the blocks that are alike, once for each row width; those with LRPE would need code of their own."""
        for block, lrpe in zip(self.model.layers, self.cfg.lrpe):
            if not lrpe:
                block.compile(dynamic=False)
