# SPDX-License-Identifier: MIT
"""The model fixtures taken back to the checkpoints that they would have come from, in the names and layouts of their official
classes. They were written by other code than the converter's."""

import json
import math
import struct

import checkpoint_files as files
from checkpoint_files import Tensor
from convert_runner import ROOT, expect

MODELS = ROOT / "tests/fixtures/models"
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 128}     # of the fixtures llama-rope-freqs and llama-llama3-keys


def unpermute(t, heads):
    """Rows of q or k as GGUF's llama has them (pairs) to those of the checkpoint (halves)."""
    rows, out = t.rows(), []
    width = len(rows) // heads
    for h in range(heads):
        for b in range(2):
            out += [rows[h * width + 2 * m + b] for m in range(width // 2)]
    return Tensor(t.dtype, t.shape, b"".join(out))


def transpose(t):
    rows = [struct.unpack(f"<{t.shape[1]}f", row) for row in t.rows()]
    return files.from_floats([row[c] for c in range(t.shape[1]) for row in rows], (t.shape[1], t.shape[0]))


def log_of_a(t, shape):
    """A_log of -exp(A_log), to the nearest f32."""
    return files.from_floats([math.log(-a) for a in t.floats()], shape)


def split_rows(t, sizes):
    rows, out = t.rows(), []
    for n in sizes:
        out.append(files.from_rows(rows[:n], t.shape[1]))
        rows = rows[n:]
    expect(not rows, "rows left over")
    return out


class Keys:
    """Metadata under one architecture's prefix."""

    def __init__(self, meta):
        self.arch, self.meta = meta["general.architecture"], meta

    def __getitem__(self, key):
        return self.meta[f"{self.arch}.{key}"]

    def get(self, key, fallback=None):
        return self.meta.get(f"{self.arch}.{key}", fallback)


LAYER_NAMES = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
               "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
               "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
TOP_NAMES = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
             "output.weight": "lm_head.weight"}


def llama_config(k, tensors):
    config = {"model_type": k.arch, "hidden_size": k["embedding_length"], "intermediate_size": k["feed_forward_length"],
              "num_hidden_layers": k["block_count"], "num_attention_heads": k["attention.head_count"],
              "num_key_value_heads": k["attention.head_count_kv"], "vocab_size": tensors["token_embd.weight"].shape[0],
              "max_position_embeddings": k["context_length"], "rms_norm_eps": k["attention.layer_norm_rms_epsilon"],
              "rope_theta": k["rope.freq_base"], "hidden_act": "silu", "tie_word_embeddings": "output.weight" not in tensors}
    if k.get("attention.key_length"):
        config["head_dim"] = k["attention.key_length"]
    if k.get("rope.scaling.type") == "linear":
        config["rope_scaling"] = {"type": "linear", "factor": k["rope.scaling.factor"]}
    elif k.get("rope.scaling.type") == "llama3" or "rope_freqs.weight" in tensors:
        config["rope_scaling"] = LLAMA3
    if k.get("attention.dual_chunk.chunk_size"):
        chunks = {"chunk_size": k["attention.dual_chunk.chunk_size"], "local_size": k["attention.dual_chunk.local_size"]}
        if k.get("attention.dual_chunk.original_context_length"):
            chunks["original_max_position_embeddings"] = k["attention.dual_chunk.original_context_length"]
        config["dual_chunk_attention_config"] = chunks
    return config


def split_name(name):
    """'blk.3.attn_q.weight' -> 3, 'attn_q', '.weight'."""
    _, layer, rest = name.split(".", 2)
    base, _, end = rest.partition(".")
    return int(layer), base, "." + end if end else ""


def from_llama(k, tensors):
    config, out = llama_config(k, tensors), {}
    if k.get("attention.sliding_window"):
        config |= {"model_type": "mistral", "sliding_window": k["attention.sliding_window"]}
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    for name, t in tensors.items():
        if name in TOP_NAMES:
            out[TOP_NAMES[name]] = t
        elif name != "rope_freqs.weight":
            layer, base, end = split_name(name)
            permuted = k.arch == "llama" and base in heads
            out[f"model.layers.{layer}.{LAYER_NAMES[base]}{end}"] = unpermute(t, heads[base]) if permuted else t
    return config, None, out


def from_gpt2(k, tensors):
    config = {"model_type": "gpt2", "n_embd": k["embedding_length"], "n_layer": k["block_count"], "vocab_size":
              tensors["token_embd.weight"].shape[0], "n_head": k["attention.head_count"], "n_positions": k["context_length"],
              "n_inner": k["feed_forward_length"], "layer_norm_epsilon": k["attention.layer_norm_epsilon"],
              "activation_function": "gelu_new"}
    names = {"attn_norm": "ln_1", "attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj", "ffn_norm": "ln_2",
             "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"}
    top = {"token_embd.weight": "wte.weight", "position_embd.weight": "wpe.weight", "output_norm.weight": "ln_f.weight",
           "output_norm.bias": "ln_f.bias"}
    out = {"h.0.attn.bias": files.from_floats([0.0], (1, 1))}   # a mask that old checkpoints carry
    for name, t in tensors.items():
        if name in top:
            out[top[name]] = t
        elif name != "output.weight":
            layer, base, end = split_name(name)
            out[f"transformer.h.{layer}.{names[base]}{end}"] = transpose(t) if len(t.shape) == 2 else t
    return config, None, out


MIXER = {"ssm_in": "in_proj", "ssm_conv1d": "conv1d", "ssm_x": "x_proj", "ssm_dt": "dt_proj", "ssm_out": "out_proj"}


def mixer_tensor(base, end, t, second):
    """One tensor of a Mamba's mixer -> its name and form in the checkpoint."""
    if base == "ssm_a":
        return "A_log", log_of_a(t, t.shape[:1] if second else t.shape)
    if base == "ssm_d":
        return "D", Tensor(t.dtype, t.shape[:1], t.data)
    if base == "ssm_norm":
        return "norm.weight", Tensor(t.dtype, (len(t.data) // 4,), t.data)
    if base == "ssm_conv1d" and end == ".weight":
        return "conv1d.weight", Tensor(t.dtype, (t.shape[0], 1, t.shape[1]), t.data)
    if base == "ssm_dt" and second:
        return "dt_bias", t
    return MIXER[base] + end, t


def from_mamba(k, tensors):
    second = k.arch == "mamba2"
    config = {"hidden_size": k["embedding_length"], "num_hidden_layers": k["block_count"], "vocab_size":
              tensors["token_embd.weight"].shape[0], "state_size": k["ssm.state_size"], "conv_kernel": k["ssm.conv_kernel"],
              "intermediate_size": k["ssm.inner_size"], "expand": 16, "layer_norm_epsilon":
              k["attention.layer_norm_rms_epsilon"], "tie_word_embeddings": "output.weight" not in tensors}
    if second:
        heads = k["ssm.time_step_rank"]
        config |= {"model_type": "mamba2", "num_heads": heads, "head_dim": k["ssm.inner_size"] // heads,
                   "n_groups": k["ssm.group_count"], "time_step_limit": [0.0, math.inf]}
    else:
        config |= {"model_type": "falcon_mamba" if k.get("ssm.dt_b_c_rms") else "mamba",
                   "time_step_rank": k["ssm.time_step_rank"],
                   "mixer_rms_eps": k.get("ssm.dt_b_c_rms_epsilon", k["attention.layer_norm_rms_epsilon"])}
    top = {"token_embd.weight": "backbone.embeddings.weight", "output_norm.weight": "backbone.norm_f.weight",
           "output.weight": "lm_head.weight"}
    out = {}
    for name, t in tensors.items():
        if name in top:
            out[top[name]] = t
            continue
        layer, base, end = split_name(name)
        theirs, t = ("norm.weight", t) if base == "attn_norm" else mixer_tensor(base, end, t, second)
        out[f"backbone.layers.{layer}.{'' if base == 'attn_norm' else 'mixer.'}{theirs}"] = t
    return config, None, out


def from_transnormer(k, tensors):
    lrpe = k.get("attention.lrpe") or [True] + [False] * (k["block_count"] - 1)     # absent: the first layer alone
    scaled = abs(k["embedding_scale"] - math.sqrt(k["embedding_length"])) < 1e-3
    config = {"model_type": "transnormer", "decoder_embed_dim": k["embedding_length"], "hidden_dim": k["embedding_length"],
              "decoder_layers": k["block_count"], "decoder_attention_heads": k["attention.head_count"],
              "glu_dim": k["feed_forward_length"], "vocab_size": tensors["token_embd.weight"].shape[0],
              "no_scale_embedding": not scaled, "linear_act_fun": "swish" if k.get("attention.activation") != "none" else "none",
              "linear_use_lrpe_list": [int(x) for x in lrpe], "model_max_length": k["context_length"],
              "norm_type": "simplermsnorm", "tie_word_embeddings": "output.weight" not in tensors}
    names = {"attn_qkvu": "token_mixer.qkvu_proj.weight", "attn_lrpe": "token_mixer.lrpe.theta",
             "attn_output": "token_mixer.out_proj.weight", "ffn_gate": "channel_mixer.l1.weight",
             "ffn_up": "channel_mixer.l2.weight", "ffn_down": "channel_mixer.l3.weight"}
    out = {}
    for name, t in tensors.items():
        if name in TOP_NAMES:
            out[TOP_NAMES[name]] = t
            continue
        layer, base, _ = split_name(name)
        if base == "attn_lrpe":
            t = Tensor(t.dtype, (t.shape[0], 1, t.shape[1]), t.data)
        out[f"model.layers.{layer}.{names[base]}"] = t
    out.setdefault("lm_head.weight", out["model.embed_tokens.weight"])     # the released files hold it, tied or not
    return config, None, out


def from_mambainllama(k, tensors):
    second = k["ssm.version"] == 2
    config, out = llama_config(k, tensors) | {"model_type": "llama"}, {}
    inner, xb, rank = k["ssm.inner_size"], k["ssm.xb_size"], k["ssm.time_step_rank"]
    ssm = {"expand": 1, "d_state": k["ssm.state_size"], "d_conv": k["ssm.conv_kernel"]}
    if second:
        ssm["ngroups"] = k["ssm.group_count"]
    elif rank != math.ceil(config["hidden_size"] / 16):
        ssm["dt_rank"] = rank
    hybrid = {"d_model": config["hidden_size"], "ssm_cfg": ssm, "rms_norm_eps": config["rms_norm_eps"], "vocab_size": None,
              "d_inner": inner, "d_xb": xb, "intermediate_size": config["intermediate_size"], "hidden_act": "silu",
              "n_layer": config["num_hidden_layers"], "attn_layers": k["attention.layers"]}
    for name, t in tensors.items():
        if name in TOP_NAMES:
            out[TOP_NAMES[name]] = t
            continue
        if name == "rope_freqs.weight":
            continue
        layer, base, end = split_name(name)
        if base in LAYER_NAMES:
            out[f"model.layers.{layer}.{LAYER_NAMES[base]}{end}"] = t
        elif base == "ssm_in" and not second:
            parts = split_rows(t, (inner, xb, xb, inner, rank))
            for part, theirs in zip(parts, ("in_proj_z", "in_proj_x", "B_proj", "C_proj", "dt_proj_down")):
                out[f"model.layers.{layer}.mamba.{theirs}.weight"] = part
        else:
            theirs, t = mixer_tensor(base, end, t, second)
            out[f"model.layers.{layer}.mamba.{theirs}"] = t
    return config, hybrid, out


BACK = {"llama": from_llama, "qwen2": from_llama, "gpt2": from_gpt2, "mamba": from_mamba, "mamba2": from_mamba,
        "transnormer": from_transnormer, "mambainllama": from_mambainllama}


def write_folder(folder, config, hybrid, tensors, shards=1):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if hybrid is not None:
        (folder / "mamba_config.json").write_text(json.dumps(hybrid))
    if shards > 1:
        files.write_sharded(folder, tensors, shards)
    else:
        files.write_safetensors(folder / "model.safetensors", tensors)


def fixture_checkpoint(name):
    meta, tensors = files.read_gguf(MODELS / f"{name}.gguf")
    return BACK[meta["general.architecture"]](Keys(meta), tensors)
