#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""fulmen convert and fulmen quantize, without a device (tokenizers: test_convert_tokenizers.py).

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
import time

sys.path.insert(0, str(pathlib.Path(sys.argv[2]) / "tests/support"))

import checkpoint_files as files    # pylint: disable=wrong-import-position
from checkpoint_back import BACK, MODELS, Keys, fixture_checkpoint, split_rows, unpermute, write_folder
from checkpoint_files import Tensor
from convert_runner import BAD_INPUT, FULMEN, ROOT, SECONDS, expect, main, refused, run, test, tests

CHECKPOINTS = ROOT / "tests/fixtures/checkpoints"
DEMO = ROOT / "models/demo/demo-llama.gguf"


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
    refused(folder, "--type", "f16", says="'model.layers.1.mlp.up_proj.weight'): element 65 (row 1, column 1) is 70000, which f16 cannot hold", lines=2)
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
def a_file_is_not_replaced_by_what_is_made_of_it(folder):
    model = (MODELS / "llama.gguf").read_bytes()
    (folder / "in.gguf").write_bytes(model)
    (folder / "link.gguf").symlink_to(folder / "in.gguf")
    for arguments in (("quantize", folder / "in.gguf", folder / "in.gguf", "q8_0"),
                      ("quantize", folder / "in.gguf", folder / "link.gguf", "q8_0"),
                      ("convert", "--to", "mambainllama", folder / "in.gguf", "-o", folder / "in.gguf", "--attention-layers", "1")):
        err = run(*arguments, status=BAD_INPUT)
        expect("would replace a file that is read" in err, err)
    expect((folder / "in.gguf").read_bytes() == model, "the file changed")


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


if __name__ == "__main__":
    not_taken = fixture_tests()
    checkpoint_tests()
    print(f"not taken back (without a checkpoint's form): {' '.join(not_taken)}")
    sys.exit(main())
