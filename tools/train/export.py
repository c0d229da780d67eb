# SPDX-License-Identifier: MIT
"""The trained model as files: GGUF for runtimes, safetensors for further training."""
import json

import numpy as np
import torch

from bpe import SPECIALS
from gguf_writer import (BOOL, FILE_TYPE, I32, STRING, TOKEN_CONTROL, TOKEN_NORMAL, U32, GgufWriter, permute_rope)

CHAT_TEMPLATE = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + "
                 "'<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}"
                 "{{ '<|im_start|>assistant\\n' }}{% endif %}")
LAYER_TENSORS = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
                 "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
                 "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
                 "mlp.down_proj": "ffn_down"}
MAMBA_TENSORS = {"mamba.in_proj.weight": "ssm_in.weight", "mamba.conv1d.bias": "ssm_conv1d.bias",
                 "mamba.dt_bias": "ssm_dt.bias", "mamba.D": "ssm_d", "mamba.norm.weight": "ssm_norm.weight",
                 "mamba.out_proj.weight": "ssm_out.weight"}
TRANSNORMER_TENSORS = {"token_mixer.qkvu_proj.weight": "attn_qkvu.weight",
                       "token_mixer.out_proj.weight": "attn_output.weight",
                       "token_mixer.lrpe.theta": "attn_lrpe.weight", "channel_mixer.l1.weight": "ffn_gate.weight",
                       "channel_mixer.l2.weight": "ffn_up.weight", "channel_mixer.l3.weight": "ffn_down.weight"}


def _add_tokenizer(w, bpe):
    w.string("tokenizer.ggml.model", "gpt2")
    w.string("tokenizer.ggml.pre", "gpt-2")
    w.array("tokenizer.ggml.tokens", STRING, bpe.tokens)
    w.array("tokenizer.ggml.token_type", I32, [TOKEN_CONTROL if t in SPECIALS else TOKEN_NORMAL for t in bpe.tokens])
    w.array("tokenizer.ggml.merges", STRING, [f"{a} {b}" for a, b in bpe.merges])
    w.u32("tokenizer.ggml.bos_token_id", bpe.endoftext)
    w.u32("tokenizer.ggml.eos_token_id", bpe.im_end)
    w.u32("tokenizer.ggml.padding_token_id", bpe.endoftext)
    w.bool("tokenizer.ggml.add_bos_token", False)
    w.bool("tokenizer.ggml.add_eos_token", False)
    w.string("tokenizer.chat_template", CHAT_TEMPLATE)


def is_quantised(p):
    """Matrices take the type of the file. Vectors stay F32, and what has three dimensions: convolutions, LRPE's angles."""
    return p.dim() == 2


def _llama_keys(w, c, arch):
    w.u32(f"{arch}.context_length", c.max_position_embeddings)
    w.u32(f"{arch}.embedding_length", c.hidden_size)
    w.u32(f"{arch}.block_count", c.num_hidden_layers)
    w.u32(f"{arch}.feed_forward_length", c.intermediate_size)
    w.u32(f"{arch}.attention.head_count", c.num_attention_heads)
    w.u32(f"{arch}.attention.head_count_kv", c.num_key_value_heads)
    w.f32(f"{arch}.attention.layer_norm_rms_epsilon", c.rms_norm_eps)
    w.u32(f"{arch}.rope.dimension_count", c.head_dim)
    w.f32(f"{arch}.rope.freq_base", c.rope_theta)
    w.u32(f"{arch}.vocab_size", c.vocab_size)


def _hybrid_keys(w, c, arch):
    _llama_keys(w, c, arch)
    w.u32(f"{arch}.attention.key_length", c.head_dim)
    w.array(f"{arch}.attention.layers", U32, list(c.attention_layers))
    w.u32(f"{arch}.ssm.version", 2)
    w.u32(f"{arch}.ssm.conv_kernel", c.conv_kernel)
    w.u32(f"{arch}.ssm.inner_size", c.num_attention_heads * c.head_dim)
    w.u32(f"{arch}.ssm.state_size", c.head_dim)
    w.u32(f"{arch}.ssm.xb_size", c.num_key_value_heads * c.head_dim)
    w.u32(f"{arch}.ssm.time_step_rank", c.num_attention_heads)
    w.u32(f"{arch}.ssm.group_count", c.num_attention_heads)


def _transnormer_keys(w, c, arch):
    w.u32(f"{arch}.context_length", c.max_position_embeddings)
    w.u32(f"{arch}.embedding_length", c.hidden_size)
    w.u32(f"{arch}.block_count", c.num_hidden_layers)
    w.u32(f"{arch}.feed_forward_length", c.glu_dim)
    w.u32(f"{arch}.vocab_size", c.vocab_size)
    w.u32(f"{arch}.attention.head_count", c.num_attention_heads)
    w.f32(f"{arch}.attention.layer_norm_rms_epsilon", 1e-6)
    w.array(f"{arch}.attention.lrpe", BOOL, c.lrpe)
    w.f32(f"{arch}.embedding_scale", c.hidden_size ** 0.5)


def _llama_tensor(c, name, x):
    """(name in the file, value) of a layer's parameter; q and k get adjacent pairs."""
    theirs = LAYER_TENSORS[name.removesuffix(".weight")]
    if theirs in ("attn_q", "attn_k"):
        x = permute_rope(x, c.num_attention_heads if theirs == "attn_q" else c.num_key_value_heads)
    return theirs + ".weight", x


def _hybrid_tensor(c, name, x):
    if name == "mamba.A_log":
        return "ssm_a", -np.exp(x)
    if name == "mamba.conv1d.weight":
        return "ssm_conv1d.weight", x[:, 0]
    if name in MAMBA_TENSORS:
        return MAMBA_TENSORS[name], x
    return LAYER_TENSORS[name.removesuffix(".weight")] + ".weight", x


def _transnormer_tensor(c, name, x):
    return TRANSNORMER_TENSORS[name], x[:, 0] if name.endswith("theta") else x


# by class: architecture, title, writer of keys, names of a layer's tensors
KINDS = {"Llama": ("llama", "Llama", _llama_keys, _llama_tensor),
         "Hybrid": ("mambainllama", "Mamba in the Llama", _hybrid_keys, _hybrid_tensor),
         "TransNormer": ("transnormer", "TransNormer", _transnormer_keys, _transnormer_tensor)}


def write_gguf(path, model, bpe, kind):
    """kind: the type of the matrices, 'Q8_0', 'F16', 'BF16' or 'F32'; everything else is always F32."""
    c = model.cfg
    arch, title, add_keys, tensor = KINDS[type(model).__name__]
    w = GgufWriter(arch)
    w.string("general.name", f"fulmen demo ({title})")
    w.string("general.author", "the fulmen authors")
    w.string("general.license", "MIT")
    w.u32("general.file_type", FILE_TYPE[kind])
    if kind == "Q8_0":
        w.u32("general.quantization_version", 2)
    add_keys(w, c, arch)
    _add_tokenizer(w, bpe)
    state = {k: (v.detach().float().cpu().numpy(), kind if is_quantised(v) else "F32")
             for k, v in model.state_dict().items()}
    w.tensor("token_embd.weight", *state.pop("model.embed_tokens.weight"))
    norm = state.pop("model.norm.weight", None)
    for key, (x, form) in state.items():
        layer, name = key.removeprefix("model.layers.").split(".", 1)
        theirs, x = tensor(c, name, x)
        w.tensor(f"blk.{layer}.{theirs}", x, form)
    if norm:
        w.tensor("output_norm.weight", *norm)
    w.save(path)


def write_checkpoint(path, model):
    """F16 safetensors with Hugging Face's names; its config as metadata."""
    from safetensors.torch import save_file
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "tie_word_embeddings": True,
              **model.cfg.as_dict()}
    state = {k: v.detach().to(torch.float16).cpu().contiguous() for k, v in model.state_dict().items()}
    save_file(state, path, metadata={"format": "pt", "config": json.dumps(config)})
