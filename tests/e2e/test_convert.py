#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""fulmen convert and fulmen quantize, without a device.

    test_convert.py FULMEN SOURCE_ROOT

The model fixtures were written by other code than the converter's. Each is taken back to the checkpoint that it would
have come from, in the names and layouts of its official class; converting that must give the fixture again. Ends with
`N passed, N failed, N skipped`.
"""

import json
import math
import pathlib
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback

FULMEN = sys.argv[1]
ROOT = pathlib.Path(sys.argv[2])
sys.path.insert(0, str(ROOT / "tests/support"))

import checkpoint_files as files    # pylint: disable=wrong-import-position
from checkpoint_files import Tensor

MODELS = ROOT / "tests/fixtures/models"
CHECKPOINTS = ROOT / "tests/fixtures/checkpoints"
TOKENIZERS = ROOT / "tests/fixtures/tokenizers"
DEMO = ROOT / "models/demo/demo-llama.gguf"
DONE, BAD_INPUT = 0, 2
SECONDS = 300
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 128}     # of the fixtures llama-rope-freqs and llama-llama3-keys

tests = []


def test(function):
    tests.append((function.__name__, function))
    return function


def run(*arguments, status=DONE):
    arguments = [str(a) for a in arguments]
    done = subprocess.run([FULMEN, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False)
    err = done.stderr.decode("utf-8", "backslashreplace")
    if done.returncode != status:
        raise AssertionError(f"fulmen {' '.join(arguments)}: exit status {done.returncode}, expected {status}\n{err}")
    if done.stdout:
        raise AssertionError(f"fulmen {' '.join(arguments)}: wrote to standard output")
    return err


def refused(folder, *arguments, says, lines=1):
    """One line (or as many as said) that says what was wrong, and no file, not even a temporary one."""
    out = folder / "refused" / "out.gguf"
    out.parent.mkdir(exist_ok=True)
    err = run("convert", folder, "-o", out, *arguments, status=BAD_INPUT)
    expect(len(err.splitlines()) == lines, f"expected {lines} lines:\n{err}")
    expect(says in err, f"expected '{says}' in:\n{err}")
    expect(not list(out.parent.iterdir()), f"left behind: {list(out.parent.iterdir())}")


def expect(condition, what):
    if not condition:
        raise AssertionError(what)


# ---- from fixtures back to checkpoints -------------------------------------------------------------------------------

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


# ---- what must come out ----------------------------------------------------------------------------------------------

def same_tensor(name, found, wanted, rounded):
    expect(found.dtype == wanted.dtype and found.shape == wanted.shape,
           f"{name}: {found.dtype} {found.shape}, expected {wanted.dtype} {wanted.shape}")
    if not rounded:
        expect(found.data == wanted.data, f"{name}: other values")
        return
    far = max(abs(a / b - 1) for a, b in zip(found.floats(), wanted.floats()))
    expect(far < 2e-6, f"{name}: off by {far:.1e} of its values")


def same_keys(found, wanted, skip=()):
    for key, value in wanted.items():
        if key.startswith(("general.", "tokenizer.")) or key in skip:
            continue
        expect(key in found, f"{key} is missing")
        same = abs(found[key] - value) <= 1e-6 * abs(value) if isinstance(value, float) else found[key] == value
        expect(same, f"{key} is {found[key]!r}, expected {value!r}")


def check_fixture(path, folder):
    wanted_meta, wanted = files.read_gguf(path)
    quantised = any(t.dtype == "Q8_0" for t in wanted.values())
    k = Keys(wanted_meta)
    config, hybrid, tensors = BACK[k.arch](k, {name: files.dequantised(t) for name, t in wanted.items()})
    write_folder(folder / "checkpoint", config, hybrid, tensors, shards=3 if "odd" in path.stem else 1)
    err = run("convert", folder / "checkpoint", "-o", folder / "out.gguf", *(("--type", "q8_0") if quantised else ()))
    expect("no tokenizer" in err, f"expected a word about the missing tokenizer:\n{err}")
    meta, found = files.read_gguf(folder / "out.gguf")
    expect(sorted(p.name for p in folder.iterdir()) == ["checkpoint", "out.gguf"], "files left behind")
    skip = {key for key in wanted_meta if ".rope.scaling." in key and k.get("rope.scaling.type") == "llama3"}
    same_keys(meta, wanted_meta, skip)
    expect(meta["general.architecture"] == k.arch and meta["general.file_type"] == (7 if quantised else 0), "architecture or type")
    for name, t in wanted.items():
        expect(name in found, f"{name} is missing")
        if name == "rope_freqs.weight" and k.arch == "mambainllama":
            expect(found[name].shape == t.shape, f"{name}: shape")  # these divisors were drawn, not computed
        elif quantised and t.dtype == "F32" and len(t.shape) == 2 and t.shape[1] % 32 and found[name].dtype == "F16":
            halves = struct.pack(f"<{len(t.floats())}e", *t.floats())
            expect(found[name].data == halves, f"{name}: rows that are no blocks are not the nearest f16")
        else:
            if found[name].shape == t.shape + (1,):     # a vector, or a matrix of one column: readers take both
                t = Tensor(t.dtype, found[name].shape, t.data)
            same_tensor(name, found[name], t, name.endswith("ssm_a") or name == "rope_freqs.weight")
    extra = set(found) - set(wanted) - ({"rope_freqs.weight"} if skip else set())
    expect(not extra, f"extra tensors {extra}")


def fixture_tests():
    skipped = []
    for path in sorted(MODELS.glob("*.gguf")):
        meta, tensors = files.read_gguf(path)
        # A decay that no formula gives is a key of ours: no checkpoint has it.
        if any(t.dtype not in ("F32", "Q8_0") for t in tensors.values()) or "transnormer.attention.decay" in meta:
            skipped.append(path.stem)
        else:
            tests.append((f"fixture {path.stem}", lambda folder, path=path: check_fixture(path, folder)))
    return skipped


SAME_WEIGHTS = {"state-spaces-mamba2": "mamba2-small"}


def check_checkpoint(source, folder):
    run("convert", source, "-o", folder / "out.gguf")
    meta, found = files.read_gguf(folder / "out.gguf")
    wanted_meta, wanted = files.read_gguf(MODELS / (SAME_WEIGHTS.get(source.name, source.name) + ".gguf"))
    scaling = {key for key in wanted_meta if ".rope.scaling." in key}     # as a tensor in what is converted
    expect(set(found) == set(wanted) | ({"rope_freqs.weight"} if scaling else set()), f"tensors {set(found) ^ set(wanted)}")
    for name, t in wanted.items():
        same_tensor(name, found[name], t, name.endswith("ssm_a"))
    same_keys(meta, wanted_meta, scaling)


def checkpoint_tests():
    """Folders as the official classes saved them: what comes out is the fixture of the same name."""
    for source in sorted(CHECKPOINTS.glob("*/config.json")):
        tests.append((f"checkpoint {source.parent.name}", lambda folder, source=source.parent: check_checkpoint(source, folder)))


# ---- dialects --------------------------------------------------------------------------------------------------------

def fixture_checkpoint(name):
    meta, tensors = files.read_gguf(MODELS / f"{name}.gguf")
    return BACK[meta["general.architecture"]](Keys(meta), tensors)


def tiny_mamba():
    """A Mamba of the authors' form: d_model 16, two layers, a vocabulary of 50 in 56 rows."""
    value = iter(range(1, 1 << 30))

    def made(*shape):
        return files.from_floats([math.sin(next(value)) for _ in range(math.prod(shape))], shape)
    out = {"backbone.embedding.weight": made(56, 16), "backbone.norm_f.weight": made(16)}
    for i in range(2):
        out |= {f"backbone.layers.{i}.{name}": made(*shape) for name, shape in {
            "norm.weight": (16,), "mixer.in_proj.weight": (64, 16), "mixer.conv1d.weight": (32, 1, 4),
            "mixer.conv1d.bias": (32,), "mixer.x_proj.weight": (33, 32), "mixer.dt_proj.weight": (32, 1),
            "mixer.dt_proj.bias": (32,), "mixer.A_log": (32, 16), "mixer.D": (32,), "mixer.out_proj.weight": (16, 32)}.items()}
    return out | {"lm_head.weight": out["backbone.embedding.weight"]}


@test
def state_spaces_form_from_a_torch_archive(folder):
    tensors = tiny_mamba()
    (folder / "config.json").write_text(json.dumps({
        "d_model": 16, "n_layer": 2, "vocab_size": 50, "ssm_cfg": {}, "rms_norm": True, "residual_in_fp32": True,
        "fused_add_norm": True, "pad_vocab_size_multiple": 8}))
    files.write_torch(folder / "pytorch_model.bin", tensors)
    run("convert", folder, "-o", folder / "out.gguf")
    meta, found = files.read_gguf(folder / "out.gguf")
    k = Keys(meta)
    expect(k.arch == "mamba" and k["ssm.inner_size"] == 32 and k["ssm.state_size"] == 16 and k["ssm.time_step_rank"] == 1 and
           k["context_length"] == 1 << 20 and k["ssm.dt_b_c_rms"] is False, "keys")
    expect(found["token_embd.weight"].data == tensors["backbone.embedding.weight"].data, "the embedding")
    expect("output.weight" not in found, "the tied head was written")
    a, log = found["blk.1.ssm_a"].floats(), tensors["backbone.layers.1.mixer.A_log"].floats()
    expect(all(abs(x / -math.exp(y) - 1) < 1e-6 for x, y in zip(a, log)), "ssm_a is not -exp(A_log)")
    expect(found["blk.0.ssm_conv1d.weight"].shape == (32, 4), "the convolution's shape")


@test
def newer_keys_mean_the_same(folder):
    config, _, tensors = fixture_checkpoint("llama-rope-freqs")
    write_folder(folder / "old", config, None, tensors)
    newer = {key: value for key, value in config.items() if key not in ("rope_theta", "rope_scaling")}
    newer["rope_parameters"] = {"rope_theta": config["rope_theta"], **config["rope_scaling"]}
    write_folder(folder / "new", newer, None, tensors)
    for name in ("old", "new"):
        run("convert", folder / name, "-o", folder / f"{name}.gguf")
    old, new = (files.read_gguf(folder / f"{name}.gguf") for name in ("old", "new"))
    expect({k: v for k, v in old[0].items() if k != "general.name"} == {k: v for k, v in new[0].items() if k != "general.name"},
           "other keys")
    expect(all(old[1][name].data == new[1][name].data for name in old[1]), "other tensors")


@test
def half_precision_is_kept_or_widened(folder):
    config, _, tensors = fixture_checkpoint("llama")
    cut = {name: Tensor("BF16", t.shape, b"".join(t.data[i + 2:i + 4] for i in range(0, len(t.data), 4)))
           for name, t in tensors.items()}
    write_folder(folder / "bf16", config, None, cut)
    run("convert", folder / "bf16", "-o", folder / "kept.gguf")
    meta, kept = files.read_gguf(folder / "kept.gguf")
    expect(meta["general.file_type"] == 32 and kept["blk.0.attn_v.weight"].dtype == "BF16", "bf16 was not kept")
    expect(kept["blk.0.attn_v.weight"].data == cut["model.layers.0.self_attn.v_proj.weight"].data, "other values")
    expect(kept["blk.0.attn_q.weight"].dtype == "BF16", "a permuted matrix lost its type")
    norm = cut["model.norm.weight"]
    wide = b"".join(b"\0\0" + norm.data[i:i + 2] for i in range(0, len(norm.data), 2))
    expect(kept["output_norm.weight"].dtype == "F32" and kept["output_norm.weight"].data == wide, "norms are no f32")
    run("convert", folder / "bf16", "-o", folder / "f16.gguf", "--type", "f16")
    f16 = files.read_gguf(folder / "f16.gguf")[1]["blk.1.ffn_up.weight"]
    source = cut["model.layers.1.mlp.up_proj.weight"]
    values = struct.unpack(f"<{len(f16.data) // 2}e", f16.data)
    exact = struct.unpack(f"<{len(values)}f", b"".join(b"\0\0" + source.data[i:i + 2] for i in range(0, len(source.data), 2)))
    expect(values == struct.unpack(f"<{len(values)}e", struct.pack(f"<{len(values)}e", *exact)), "f16 is not the nearest")


# ---- quantising ------------------------------------------------------------------------------------------------------

@test
def quantize_gives_the_q8_0_fixture(folder):
    run("quantize", MODELS / "llama.gguf", folder / "out.gguf", "q8_0")
    meta, found = files.read_gguf(folder / "out.gguf")
    wanted_meta, wanted = files.read_gguf(MODELS / "llama-q8_0.gguf")
    expect(set(found) == set(wanted), "names")
    for name, t in wanted.items():
        same_tensor(name, found[name], t, False)
    expect(meta["general.file_type"] == 7 and meta["general.quantization_version"] == 2, "file type")
    same_keys(meta, wanted_meta)
    expect(meta["general.name"] == "fixture llama", "metadata of the source was not kept")


@test
def quantize_falls_back_where_blocks_do_not_fit(folder):
    err = run("quantize", MODELS / "llama.gguf", folder / "k.gguf", "q4_k")
    found = files.read_gguf(folder / "k.gguf")[1]
    expect("became q8_0" in err and found["blk.0.attn_q.weight"].dtype == "Q8_0", f"rows of 64 are no super-blocks:\n{err}")
    err = run("quantize", MODELS / "llama-odd.gguf", folder / "odd.gguf", "q4_0")
    found = files.read_gguf(folder / "odd.gguf")[1]
    expect("f16" in err and found["blk.0.ffn_up.weight"].dtype == "F16", f"rows of 50 are no blocks:\n{err}")
    run("quantize", MODELS / "llama.gguf", folder / "4.gguf", "Q4_0")
    found = files.read_gguf(folder / "4.gguf")[1]
    expect(found["blk.0.ffn_up.weight"].dtype == "Q4_0" and found["token_embd.weight"].dtype == "Q4_0", "q4_0")
    expect(found["output.weight"].dtype == "Q8_0", "a head of 64 columns has no super-blocks: q8_0 instead of q6_k")


@test
def quantize_keeps_the_tokenizer_and_says_what_is_lost(folder):
    err = run("quantize", DEMO, folder / "out.gguf", "q6_k")
    before, after = files.read_gguf(DEMO)[0], files.read_gguf(folder / "out.gguf")[0]
    expect("already" in err, f"expected a word about quantising twice:\n{err}")
    kept = {key for key in before if key not in ("general.file_type", "general.quantization_version")}
    expect(all(before[key] == after[key] for key in kept), "metadata changed")


@test
def a_value_that_f16_cannot_hold_is_named(folder):
    config, _, tensors = fixture_checkpoint("llama")
    t = tensors["model.layers.1.mlp.up_proj.weight"]
    tensors["model.layers.1.mlp.up_proj.weight"] = Tensor("F32", t.shape, t.data[:4 * 65] + struct.pack("<f", 7e4) + t.data[4 * 66:])
    write_folder(folder, config, None, tensors)
    refused(folder, "--type", "f16", says="'blk.1.ffn_up.weight': row 1, column 1 is 70000, which f16 cannot hold", lines=2)
    run("convert", folder, "-o", folder / "out.gguf", "--type", "bf16")


# ---- hybrids ---------------------------------------------------------------------------------------------------------

def hybrid(folder, *arguments, name="out.gguf", source="llama"):
    run("convert", "--to", "mambainllama", *arguments, MODELS / f"{source}.gguf", "-o", folder / name)
    return files.read_gguf(folder / name)


def check_range(t, low, high, what):
    values = t.floats()
    span = high - low
    expect(min(values) >= low and max(values) <= high, f"{what}: {min(values)} to {max(values)}, expected {low} to {high}")
    expect(max(values) - min(values) > 0.5 * span, f"{what}: not spread over {low} to {high}")


@test
def hybrid_version_2_takes_over_the_attention(folder):
    meta, found = hybrid(folder, "--attention-layers", "1")
    source = fixture_checkpoint("llama")[2]     # in the checkpoint's order of rows
    k = Keys(meta)
    expect(k.arch == "mambainllama" and k["ssm.version"] == 2 and k["attention.layers"] == [1] and k["ssm.inner_size"] == 64 and
           k["ssm.xb_size"] == 32 and k["ssm.state_size"] == 16 and k["ssm.time_step_rank"] == 4 and k["ssm.group_count"] == 4, "keys")
    z, x, b, c, dt = split_rows(found["blk.0.ssm_in.weight"], (64, 32, 32, 64, 4))
    for part, name in ((x, "v_proj"), (b, "k_proj"), (c, "q_proj")):
        expect(part.data == source[f"model.layers.0.self_attn.{name}.weight"].data, f"{name} is not where it belongs")
    expect(found["blk.0.ssm_out.weight"].data == source["model.layers.0.self_attn.o_proj.weight"].data, "o_proj")
    expect(found["blk.1.attn_q.weight"].data == source["model.layers.1.self_attn.q_proj.weight"].data, "q_proj of an attention layer")
    expect("blk.1.ssm_in.weight" not in found and "blk.0.attn_q.weight" not in found, "layers of both kinds")
    check_range(z, -1 / 8, 1 / 8, "z")
    check_range(dt, -1 / 8, 1 / 8, "dt")
    check_range(found["blk.0.ssm_conv1d.weight"], -0.5, 0.5, "conv")
    check_range(found["blk.0.ssm_conv1d.bias"], -0.5, 0.5, "conv bias")
    steps = [math.log1p(math.exp(v)) for t in ("blk.0", "blk.2") for v in found[f"{t}.ssm_dt.bias"].floats()]
    expect(all(0.99e-3 < s < 1.01e-1 for s in steps), f"steps {steps}")
    expect(all(-16 <= v <= -1 for v in found["blk.0.ssm_a"].floats()), "A")
    expect(set(found["blk.0.ssm_d"].floats()) == {1.0} and set(found["blk.0.ssm_norm.weight"].floats()) == {1.0}, "D and norm")
    expect(found["blk.0.ssm_in.weight"].rows()[:4] != found["blk.2.ssm_in.weight"].rows()[:4], "two layers are alike")
    expect(z.rows()[:4] != dt.rows(), "dt repeats z")


@test
def hybrid_version_1_and_seeds(folder):
    meta, found = hybrid(folder, "--attention-layers", "none", "--ssm", "1")
    k = Keys(meta)
    expect(k["attention.layers"] == [] and k["ssm.version"] == 1 and k["ssm.state_size"] == 16 and k["ssm.time_step_rank"] == 4, "keys")
    expect(list(found["blk.0.ssm_a"].floats()[16:32]) == [-float(n) for n in range(1, 17)], "A is -1 ... -16 in every row")
    expect(found["blk.0.ssm_a"].shape == (64, 16) and found["blk.0.ssm_conv1d.weight"].shape == (64, 4), "shapes")
    check_range(found["blk.0.ssm_dt.weight"], -0.5, 0.5, "dt_proj")
    expect("blk.0.ssm_norm.weight" not in found, "version 1 has no norm")
    same = hybrid(folder, "--attention-layers", "none", "--ssm", "1", "--seed", "1", name="same.gguf")[1]
    other = hybrid(folder, "--attention-layers", "none", "--ssm", "1", "--seed", "2", name="other.gguf")[1]
    expect(all(same[name].data == found[name].data for name in found), "the same seed gives another file")
    expect(other["blk.0.ssm_conv1d.weight"].data != found["blk.0.ssm_conv1d.weight"].data, "the seed does not matter")
    expect(other["blk.0.ffn_up.weight"].data == found["blk.0.ffn_up.weight"].data, "the seed changed what it should not")


@test
def hybrid_of_quantised_and_of_scaled(folder):
    _, found = hybrid(folder, "--attention-layers", "0,2", source="llama-q8_0", name="q.gguf")
    expect(found["blk.1.ssm_in.weight"].dtype == "Q8_0" and found["blk.1.ssm_out.weight"].dtype == "Q8_0", "types are not kept")
    source = files.read_gguf(MODELS / "llama-q8_0.gguf")[1]
    expect(found["blk.1.ssm_in.weight"].rows()[64:96] == source["blk.1.attn_v.weight"].rows(), "quantised rows changed on their way")
    expect(found["blk.0.attn_q.weight"].data == unpermute(source["blk.0.attn_q.weight"], 4).data, "permuted rows changed")
    meta, found = hybrid(folder, "--attention-layers", "0", "--type", "f32", source="llama-rope-freqs", name="f.gguf")
    expect("rope_freqs.weight" in found and found["blk.1.ssm_in.weight"].dtype == "F32", "scaling or type lost")


# ---- tokenizers ------------------------------------------------------------------------------------------------------

TOKENIZER_KEYS = ("tokens", "token_type", "bos_token_id", "eos_token_id", "unknown_token_id", "padding_token_id")
CL100K = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|", r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
PRE_REGEX = {"llama-bpe": r"\p{N}{1,3}".join(CL100K), "qwen2": r"\p{N}".join(CL100K)}


def vocabulary_folder(folder, rows):
    """The tiny Llama with an embedding of that many rows."""
    config, _, tensors = fixture_checkpoint("llama-tied")
    width = config["hidden_size"]
    tensors["model.embed_tokens.weight"] = Tensor("F32", (rows, width), bytes(4 * rows * width))
    write_folder(folder, config | {"vocab_size": rows}, None, tensors)


def bpe_json(meta, pairs=False):
    tokens, kinds, pre = (meta[f"tokenizer.ggml.{key}"] for key in ("tokens", "token_type", "pre"))
    split = {"type": "Split", "pattern": {"Regex": PRE_REGEX.get(pre)}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": pre == "gpt-2"}
    merges = meta["tokenizer.ggml.merges"]
    return {"version": "1.0", "normalizer": {"type": "NFC"} if pre == "qwen2" else None,
            "pre_tokenizer": level if pre == "gpt-2" else {"type": "Sequence", "pretokenizers": [split, level]},
            "added_tokens": [{"id": i, "content": t, "special": k == 3} for i, (t, k) in enumerate(zip(tokens, kinds)) if k in (3, 4)],
            "model": {"type": "BPE", "byte_fallback": False, "ignore_merges": pre == "llama-bpe",
                      "vocab": {t: i for i, (t, k) in enumerate(zip(tokens, kinds)) if k == 1},
                      "merges": [m.split(" ") for m in merges] if pairs else merges}}


def special_texts(meta):
    names = {"bos": "bos_token_id", "eos": "eos_token_id", "unk": "unknown_token_id", "pad": "padding_token_id"}
    return {f"{ours}_token": meta["tokenizer.ggml.tokens"][meta[f"tokenizer.ggml.{theirs}"]]
            for ours, theirs in names.items() if f"tokenizer.ggml.{theirs}" in meta}


def check_tokenizer(folder, wanted, keys):
    found = files.read_gguf(folder / "out.gguf")[0]
    for key in keys:
        key = f"tokenizer.ggml.{key}"
        expect(found.get(key) == wanted.get(key), f"{key}: {str(found.get(key))[:200]}, expected {str(wanted.get(key))[:200]}")
    return found


def byte_level(name, pairs):
    def body(folder):
        wanted = files.read_gguf(TOKENIZERS / f"{name}.gguf")[0]
        vocabulary_folder(folder, len(wanted["tokenizer.ggml.tokens"]))
        (folder / "tokenizer.json").write_text(json.dumps(bpe_json(wanted, pairs)))
        (folder / "tokenizer_config.json").write_text(json.dumps(
            special_texts(wanted) | {"add_bos_token": True, "chat_template": [
                {"name": "tool", "template": "x"}, {"name": "default", "template": "{{ messages }}"}]}))
        run("convert", folder, "-o", folder / "out.gguf")
        found = check_tokenizer(folder, wanted, ("model", "pre", "merges") + TOKENIZER_KEYS)
        expect(found["tokenizer.ggml.add_bos_token"] is True, "add_bos_token")
        expect(found["tokenizer.chat_template"] == "{{ messages }}", "chat template")
    return body


for model, as_pairs in (("gpt2", False), ("llama3", False), ("qwen2", True)):
    tests.append((f"tokenizer.json of {model}", byte_level(model, as_pairs)))


def spm_folder(folder, more_rows=0):
    wanted = files.read_gguf(TOKENIZERS / "spm.gguf")[0]
    tokens, scores, kinds = (wanted[f"tokenizer.ggml.{key}"] for key in ("tokens", "scores", "token_type"))
    vocabulary_folder(folder, len(tokens) + more_rows)
    (folder / "tokenizer.model").write_bytes(files.sentencepiece(tokens, scores, kinds))
    return wanted


@test
def tokenizer_model_of_sentencepiece(folder):
    wanted = spm_folder(folder, 3)
    n = len(wanted["tokenizer.ggml.tokens"])
    (folder / "added_tokens.json").write_text(json.dumps({"<tool>": n}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": {"content": "<s>"}, "eos_token": "</s>",
        "added_tokens_decoder": {str(n + 1): {"content": "<|end|>", "special": True}, "0": {"content": "<unk>", "special": True}}}))
    run("convert", folder, "-o", folder / "out.gguf")
    found = files.read_gguf(folder / "out.gguf")[0]
    g = {key.removeprefix("tokenizer.ggml."): value for key, value in found.items()}
    w = {key.removeprefix("tokenizer.ggml."): value for key, value in wanted.items()}
    expect(g["model"] == "llama" and g["tokens"][:n] == w["tokens"] and g["token_type"][:n] == w["token_type"], "pieces")
    expect(g["scores"][:n] == w["scores"], "scores")
    expect(g["tokens"][n:] == ["<tool>", "<|end|>", f"[PAD{n + 2}]"] and g["token_type"][n:] == [4, 3, 5], "added tokens")
    expect(g["bos_token_id"] == 1 and g["eos_token_id"] == 2 and g["unknown_token_id"] == 0 and "padding_token_id" not in g, "ids")
    expect(g["add_space_prefix"] is True, "the dummy prefix")


@test
def tokenizer_json_with_byte_fallback_stands_for_sentencepiece(folder):
    wanted = files.read_gguf(TOKENIZERS / "spm.gguf")[0]
    tokens, scores, kinds = (wanted[f"tokenizer.ggml.{key}"] for key in ("tokens", "scores", "token_type"))
    known = {t: i for i, t in enumerate(tokens)}
    merges = []
    for text, kind in zip(tokens, kinds):
        merges += [(scores[known[text]], [text[:i], text[i:]]) for i in range(1, len(text))
                   if kind == 1 and text[:i] in known and text[i:] in known]
    merges.sort(key=lambda m: -m[0])
    vocabulary_folder(folder, len(tokens))
    (folder / "tokenizer.json").write_text(json.dumps({
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}]}, "pre_tokenizer": None,
        "added_tokens": [{"id": i, "content": t, "special": True} for i, (t, k) in enumerate(zip(tokens, kinds)) if k in (2, 3)],
        "model": {"type": "BPE", "unk_token": "<unk>", "byte_fallback": True, "vocab": known, "merges": [m for _, m in merges]}}))
    run("convert", folder, "-o", folder / "out.gguf")
    found = check_tokenizer(folder, wanted, ("model", "tokens", "token_type"))
    made = found["tokenizer.ggml.scores"]
    by_score = [known["".join(pair)] for _, pair in merges]
    ranks = list(dict.fromkeys(by_score))
    expect(all(made[a] > made[b] for a, b in zip(ranks, ranks[1:])), "scores are not in the order of the merges")
    expect(found["tokenizer.ggml.add_space_prefix"] is True, "the dummy prefix")


@test
def pre_tokenizers_are_known_by_their_parts(folder):
    """The forms in which the published tokenizers come, whatever their vocabulary."""
    wanted = files.read_gguf(TOKENIZERS / "gpt2.gguf")[0]
    vocabulary_folder(folder, len(wanted["tokenizer.ggml.tokens"]))
    made = bpe_json(wanted)
    level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    digits = {"type": "Digits", "individual_digits": True}
    threes = {"type": "Split", "pattern": {"Regex": "[0-9][0-9][0-9]"}, "behavior": "Isolated"}
    split = {"type": "Split", "pattern": {"Regex": PRE_REGEX["llama-bpe"]}}
    for pre, parts, normalizer, ignore in (
            ("gpt-2", [level], None, False), ("mpt", [level], "NFC", False), ("smollm", [digits, level], None, False),
            ("llama-bpe", [split, level | {"use_regex": False}], None, True),
            ("dbrx", [split, level | {"use_regex": False}], None, False),
            ("falcon", [{"type": "Punctuation", "behavior": "Contiguous"}, level, {"type": "Digits", "individual_digits": False},
                        threes], None, False),
            (None, [digits, split, level], None, False), (None, [split, level], None, True), (None, [level], "NFKC", False),
            (None, [level | {"add_prefix_space": True}], None, False)):
        made["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": parts}
        made["normalizer"] = {"type": normalizer} if normalizer else None
        made["model"]["ignore_merges"] = ignore
        (folder / "tokenizer.json").write_text(json.dumps(made))
        if pre is None:
            refused(folder, says="is none of gpt-2")
            continue
        run("convert", folder, "-o", folder / "out.gguf")
        found = files.read_gguf(folder / "out.gguf")[0]["tokenizer.ggml.pre"]
        expect(found == pre, f"{parts} came out as {found}, expected {pre}")


@test
def unknown_pre_tokenizer_is_named_and_can_be_given(folder):
    wanted = files.read_gguf(TOKENIZERS / "gpt2.gguf")[0]
    vocabulary_folder(folder, len(wanted["tokenizer.ggml.tokens"]))
    made = bpe_json(wanted)
    made["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": "\\w+"}},
                                                                  {"type": "ByteLevel", "use_regex": False}]}
    (folder / "tokenizer.json").write_text(json.dumps(made))
    refused(folder, says="the pre-tokenizer (\\w+) is none of gpt-2")
    run("convert", folder, "-o", folder / "out.gguf", "--pre", "gpt-2")
    expect(files.read_gguf(folder / "out.gguf")[0]["tokenizer.ggml.pre"] == "gpt-2", "--pre")
    refused(folder, "--pre", "martian", says="martian")
    (folder / "tokenizer.json").unlink()
    refused(folder, "--pre", "gpt-2", says="there is no byte-level tokenizer.json")


@test
def damaged_tokenizers_are_refused(folder):
    wanted = spm_folder(folder)
    good = (folder / "tokenizer.model").read_bytes()
    for bad, says in ((good[:-3], "cannot be read"), (b"\xff" * 40, "cannot be read"), (b"", "its beginning"),
                      (files.sentencepiece(["a"], [0.0], [1], model_type=1), "unigram"),
                      (files.sentencepiece(["a"], [0.0], [9]), "has type 9")):
        (folder / "tokenizer.model").write_bytes(bad)
        refused(folder, says=says)
    (folder / "tokenizer.model").unlink()
    wanted = files.read_gguf(TOKENIZERS / "gpt2.gguf")[0]
    vocabulary_folder(folder, len(wanted["tokenizer.ggml.tokens"]))
    for change, says in (({"vocab": {"a": -1}}, "the id of 'a'"), ({"vocab": {"a": 0, "b": 0}}, "id 0 is both 'a' and 'b'"),
                         ({"vocab": []}, "expected an object"), ({"merges": ["ab"]}, "'model.merges[0]'"),
                         ({"merges": 5}, "expected a list")):
        made = bpe_json(wanted)
        made["model"] |= change
        (folder / "tokenizer.json").write_text(json.dumps(made))
        refused(folder, says=says)


# ---- refusals --------------------------------------------------------------------------------------------------------

@test
def bad_configurations_are_named(folder):
    config, _, tensors = fixture_checkpoint("llama")
    write_folder(folder, config, None, tensors)
    for change, says in (({"model_type": "t5"}, "model_type is 't5', known are llama, mistral, qwen2, gpt2, mamba, falcon_mamba"),
                         ({"model_type": None}, "'model_type' is missing"),
                         ({"hidden_size": "64"}, "'hidden_size': expected a whole number"),
                         ({"hidden_size": 64.5}, "'hidden_size'"), ({"hidden_size": -64}, "'hidden_size'"),
                         ({"hidden_size": None}, "'hidden_size' is missing"),
                         ({"num_hidden_layers": 10 ** 9}, "'num_hidden_layers'"), ({"num_key_value_heads": 3}, "do not divide"),
                         ({"rope_scaling": {"type": "yarn", "factor": 4}}, "'yarn', known are default, linear, llama3"),
                         ({"rope_scaling": {"type": "linear"}}, "'rope_scaling.factor' is missing"),
                         ({"rope_scaling": 3}, "'rope_scaling': expected an object"), ({"rope_theta": 0}, "rope_theta"),
                         ({"hidden_act": "gelu"}, "'hidden_act' is 'gelu'"), ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
                         ({"dual_chunk_attention_config": {"chunk_size": 64}}, "dual_chunk_attention_config.local_size")):
        (folder / "config.json").write_text(json.dumps(config | change))
        refused(folder, says=says)
    for text, says in (("", "no valid JSON"), ("[]", "expected a JSON object"), ('{"a": 1}}', "no valid JSON"),
                       ('{"a": 1, "a": 2}', "'a' is there twice"), ("[" * 5000, "no valid JSON"),
                       ('{"a": [' + "0," * 5000000 + "0]}", "5000003 values"), ('{\n\n"a": x}', "line 3")):
        (folder / "config.json").write_text(text)
        refused(folder, says=says)
    (folder / "config.json").unlink()
    refused(folder, says="config.json")
    mamba, _, _ = fixture_checkpoint("mamba2-groups")
    (folder / "config.json").write_text(json.dumps(mamba | {"time_step_limit": [0.001, 0.1]}))
    refused(folder, says="'time_step_limit' is [0.001, 0.1]")


@test
def bad_tensors_are_named_one_by_one(folder):
    config, _, tensors = fixture_checkpoint("llama")
    q = tensors["model.layers.1.self_attn.q_proj.weight"]

    def with_change(change):
        write_folder(folder, config, None, {name: t for name, t in (tensors | change).items() if t is not None})
    with_change({"model.layers.1.self_attn.q_proj.weight": None})
    refused(folder, says="tensor 'model.layers.1.self_attn.q_proj.weight' is missing")
    with_change({"model.layers.1.self_attn.q_proj.weight": Tensor("F32", (q.shape[1], q.shape[0] // 2), q.data[:len(q.data) // 2])})
    refused(folder, says="tensor 'model.layers.1.self_attn.q_proj.weight' is [64,32], expected [64,64]")
    with_change({"model.layers.1.self_attn.q_proj.weight": Tensor("I32", q.shape, q.data)})
    refused(folder, says="tensor 'model.layers.1.self_attn.q_proj.weight' has type I32, expected F32, F16 or BF16")
    with_change({"model.layers.7.self_attn.q_proj.weight": q})
    refused(folder, says="tensor 'model.layers.7.self_attn.q_proj.weight' [64,64] belongs to no part of a model of type 'llama'")
    with_change({"model.layers.0.mlp.up_proj.weight": None, "model.norm.weight": None, "extra\n": q})
    refused(folder, says="3 tensors are missing", lines=4)
    with_change({"model.layers.1.self_attn.q_proj.rotary_emb.inv_freq": q})
    run("convert", folder, "-o", folder / "out.gguf")   # a buffer that older checkpoints carry


@test
def wrong_uses_are_told(folder):
    for arguments, says in ((("convert",), "no checkpoint folder"), (("convert", folder), "-o FILE.gguf"),
                            (("convert", MODELS / "llama.gguf", "-o", folder / "x"), "expected a checkpoint folder"),
                            (("convert", folder, "-o", folder / "x", "--ssm", "1"), "go with --to"),
                            (("convert", "--to", "mambainllama", MODELS / "llama.gguf", "-o", folder / "x"), "--attention-layers"),
                            (("convert", "--to", "mambainllama", MODELS / "llama.gguf", "-o", folder / "x", "--attention-layers", "3"),
                             "layers 0 to 2"),
                            (("convert", "--to", "mambainllama", MODELS / "qwen2.gguf", "-o", folder / "x", "--attention-layers", "1"),
                             "expected llama"),
                            (("quantize", MODELS / "llama.gguf", folder / "x"), "IN.gguf OUT.gguf TYPE"),
                            (("quantize", MODELS / "llama.gguf", folder / "x", "q3"), "expected one of f32 f16"),
                            (("quantize", MODELS / "llama.gguf", folder, "q8_0"), "is a directory"),
                            (("quantize", MODELS / "llama.gguf", "/dev/null", "q8_0"), "/dev/null"),
                            (("quantize", folder / "none.gguf", folder / "x", "q8_0"), "none.gguf")):
        err = run(*arguments, status=BAD_INPUT)
        expect(len(err.splitlines()) == 1 and says in err, f"expected one line with '{says}':\n{err}")
        expect(not list(folder.iterdir()), f"left behind: {list(folder.iterdir())}")


@test
def an_interrupt_leaves_nothing(folder):
    """A model large enough to be interrupted: the first sight of the temporary file is the sign to."""
    config, _, tensors = fixture_checkpoint("llama-tied")
    width, rows = config["hidden_size"], 400000
    tensors["model.embed_tokens.weight"] = Tensor("F32", (rows, width), bytes(4 * rows * width))
    write_folder(folder / "large", config | {"vocab_size": rows}, None, tensors)
    (folder / "out").mkdir()
    (folder / "out" / "model.gguf").write_bytes(b"the file before")
    child = subprocess.Popen([FULMEN, "convert", folder / "large", "-o", folder / "out" / "model.gguf", "--type", "q5_1"],
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    end = time.monotonic() + 60
    while len(list((folder / "out").iterdir())) < 2 and child.poll() is None and time.monotonic() < end:
        time.sleep(0.001)
    child.send_signal(signal.SIGINT)
    err = child.communicate(timeout=SECONDS)[1].decode()
    expect(child.returncode == 1 and "cancelled" in err, f"exit status {child.returncode}:\n{err}")
    expect([p.name for p in (folder / "out").iterdir()] == ["model.gguf"], "the temporary file stayed")
    expect((folder / "out" / "model.gguf").read_bytes() == b"the file before", "the file before was touched")


def main():
    not_taken = fixture_tests()
    checkpoint_tests()
    failed = 0
    for name, function in tests:
        with tempfile.TemporaryDirectory() as folder:
            try:
                function(pathlib.Path(folder))
            except Exception:   # pylint: disable=broad-except
                failed += 1
                print(f"FAILED {name}\n{traceback.format_exc()}")
    print(f"not taken back (without a checkpoint's form): {' '.join(not_taken)}")
    print(f"{len(tests) - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
