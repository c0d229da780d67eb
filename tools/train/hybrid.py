# SPDX-License-Identifier: MIT
"""Mamba in the Llama: a Llama of which some layers have Mamba-2 in the place of attention (Wang et al. 2024)."""
from dataclasses import dataclass

import torch

import gguf_reader
from export import LAYER_TENSORS
from gguf_writer import unpermute_rope
from linear import HeadMamba2
from model import Block, Config, Llama


@dataclass
class HybridConfig(Config):
    attention_layers: tuple = (1, 3, 5, 7)
    conv_kernel: int = 4


class MambaBlock(Block):
    def __init__(self, cfg):
        super().__init__(cfg)
        del self.self_attn
        self.mamba = HeadMamba2(cfg)

    def forward(self, x, cos, sin):
        x = x + self.mamba(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class Hybrid(Llama):
    def __init__(self, cfg):
        super().__init__(cfg)
        for i in range(cfg.num_hidden_layers):
            if i not in cfg.attention_layers:
                self.model.layers[i] = MambaBlock(cfg)

    def adopt(self, teacher):
        """Take over all that the teacher has; its attention becomes the projections of Mamba where it is replaced."""
        mine = self.state_dict()
        mine.update({k: v for k, v in teacher.state_dict().items() if k in mine})
        self.load_state_dict(mine)
        for own, other in zip(self.model.layers, teacher.model.layers):
            if isinstance(own, MambaBlock):
                own.mamba.adopt(other.self_attn)

    def kept(self):
        """Parameters that the teacher had already in their place."""
        return [p for name, p in self.named_parameters() if ".mamba." not in name]


def load_llama(path):
    """The Llama of a GGUF file, with the values that its reader sees."""
    keys, tensors = gguf_reader.read(path)
    if keys["general.architecture"] != "llama":
        raise ValueError(f"{path}: architecture {keys['general.architecture']}, expected llama")

    def key(name):
        return keys["llama." + name]
    heads, groups = key("attention.head_count"), key("attention.head_count_kv")
    cfg = Config(vocab_size=key("vocab_size"), hidden_size=key("embedding_length"),
                 intermediate_size=key("feed_forward_length"), num_hidden_layers=key("block_count"),
                 num_attention_heads=heads, num_key_value_heads=groups, head_dim=key("rope.dimension_count"),
                 max_position_embeddings=key("context_length"), rope_theta=key("rope.freq_base"),
                 rms_norm_eps=key("attention.layer_norm_rms_epsilon"))
    state = {"model.embed_tokens.weight": tensors["token_embd.weight"], "model.norm.weight": tensors["output_norm.weight"]}
    for i in range(cfg.num_hidden_layers):
        for ours, theirs in LAYER_TENSORS.items():
            x = tensors[f"blk.{i}.{theirs}.weight"]
            if theirs in ("attn_q", "attn_k"):
                x = unpermute_rope(x, heads if theirs == "attn_q" else groups)
            state[f"model.layers.{i}.{ours}.weight"] = x
    model = Llama(cfg)
    model.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in state.items()})
    return model
