# SPDX-License-Identifier: MIT
"""The trained model as files: GGUF for runtimes, safetensors for further training."""
import json

import torch

from bpe import SPECIALS
from gguf_writer import (FILE_TYPE, I32, STRING, TOKEN_CONTROL, TOKEN_NORMAL, GgufWriter, permute_rope)

CHAT_TEMPLATE = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + "
                 "'<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}"
                 "{{ '<|im_start|>assistant\\n' }}{% endif %}")
LAYER_TENSORS = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
                 "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
                 "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
                 "mlp.down_proj": "ffn_down"}


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


def write_gguf(path, model, bpe, kind):
    """kind: the type of the matrices, 'Q8_0', 'F16', 'BF16' or 'F32'; norm weights are always F32."""
    c = model.cfg
    w = GgufWriter("llama")
    w.string("general.name", "fulmen demo (Llama)")
    w.string("general.author", "the fulmen authors")
    w.string("general.license", "MIT")
    w.u32("general.file_type", FILE_TYPE[kind])
    if kind == "Q8_0":
        w.u32("general.quantization_version", 2)
    w.u32("llama.context_length", c.max_position_embeddings)
    w.u32("llama.embedding_length", c.hidden_size)
    w.u32("llama.block_count", c.num_hidden_layers)
    w.u32("llama.feed_forward_length", c.intermediate_size)
    w.u32("llama.attention.head_count", c.num_attention_heads)
    w.u32("llama.attention.head_count_kv", c.num_key_value_heads)
    w.f32("llama.attention.layer_norm_rms_epsilon", c.rms_norm_eps)
    w.u32("llama.rope.dimension_count", c.head_dim)
    w.f32("llama.rope.freq_base", c.rope_theta)
    w.u32("llama.vocab_size", c.vocab_size)
    _add_tokenizer(w, bpe)
    state = {k: v.detach().float().cpu().numpy() for k, v in model.state_dict().items()}
    w.tensor("token_embd.weight", state["model.embed_tokens.weight"], kind)
    for i in range(c.num_hidden_layers):
        for ours, theirs in LAYER_TENSORS.items():
            x = state[f"model.layers.{i}.{ours}.weight"]
            if theirs == "attn_q":
                x = permute_rope(x, c.num_attention_heads)
            elif theirs == "attn_k":
                x = permute_rope(x, c.num_key_value_heads)
            w.tensor(f"blk.{i}.{theirs}.weight", x, kind if x.ndim > 1 else "F32")
    w.tensor("output_norm.weight", state["model.norm.weight"], "F32")
    w.save(path)


def write_checkpoint(path, model):
    """F16 safetensors with Hugging Face's names; its config as metadata."""
    from safetensors.torch import save_file
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "tie_word_embeddings": True,
              **model.cfg.as_dict()}
    state = {k: v.detach().to(torch.float16).cpu().contiguous() for k, v in model.state_dict().items()}
    save_file(state, path, metadata={"format": "pt", "config": json.dumps(config)})
