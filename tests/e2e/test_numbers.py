#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Models whose numbers are none end in an error that says so, on every rung, and optional biases count.

    test_numbers.py FULMEN SOURCE_ROOT

Ends with `N passed, N failed, N skipped`.
"""

import math
import pathlib
import struct
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(sys.argv[2]) / "tests/support"))

import checkpoint_files as files    # pylint: disable=wrong-import-position
from cli_runner import BAD_INPUT, DEMO, DONE, FAILED, MODELS, TINY, fulmen, main, refused, test
from gguf_files import HALF_NAN, write_gguf

RUNGS = ("base", "cmr")     # the lowest, and as high as the device goes
NO_NUMBERS = b"are no numbers"
CAUSES = (b"damaged", b"fulmen info --verify", b"fulmen check")
NAN, INF = struct.pack("<f", math.nan), struct.pack("<f", math.inf)


def changed(folder, model, name, change, start=0):
    """A copy of a model with other bytes in one tensor, from byte `start` on."""
    meta, tensors = files.read_gguf(model)
    t = tensors[name]
    data = bytearray(t.data)
    data[start:start + len(change)] = change
    tensors[name] = files.Tensor(t.dtype, t.shape, data)
    path = pathlib.Path(folder) / "changed.gguf"
    write_gguf(path, meta, tensors)
    return path


def ends(path, tokens, rung="cmr"):
    result = fulmen("run", "-m", path, "--rung", rung, "--tokens", tokens, "-n", "3", status=FAILED)
    result.expect(NO_NUMBERS in result.err and all(c in result.err for c in CAUSES), f"rung {rung}: expected an error with causes")
    result.expect(result.out == b"", f"rung {rung}: expected no token")


LONG = ",".join(str(i % 60 + 1) for i in range(40))


@test
def a_damaged_norm_ends_every_family():
    with tempfile.TemporaryDirectory() as folder:
        for model, name, prompt in (("llama", "blk.0.attn_norm.weight", LONG), ("qwen2", "blk.1.ffn_norm.weight", "1,2,3"),
                                    ("gpt2", "blk.0.ffn_norm.bias", LONG), ("mamba", "blk.0.attn_norm.weight", LONG),
                                    ("mamba2", "blk.0.ssm_norm.weight", LONG), ("mambainllama-1", "blk.1.ffn_norm.weight", "1"),
                                    ("mambainllama-2", "output_norm.weight", LONG)):
            ends(changed(folder, MODELS / f"{model}.gguf", name, NAN, 12), prompt)
        for rung in ("base", "sg", "f16"):
            ends(changed(folder, TINY, "blk.1.ffn_norm.weight", NAN, 12), LONG, rung)


@test
def damaged_weights_of_every_format():
    """A NaN in a matrix: as an element, as the scale of a block."""
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("f32", "f16", "q8_0", "q4_0"):
            model = TINY
            if kind != "f32":
                model = pathlib.Path(folder) / f"{kind}.gguf"
                fulmen("quantize", TINY, model, kind)
            nan = NAN if kind == "f32" else HALF_NAN
            for name, change in (("blk.0.attn_q.weight", nan), ("blk.1.ffn_down.weight", nan)):
                ends(changed(folder, model, name, change), LONG)


@test
def damaged_embeddings_count_when_they_are_read():
    """The row of a token that nobody wrote harms nobody; other sequences and earlier tokens stay."""
    with tempfile.TemporaryDirectory() as folder:
        path = changed(folder, MODELS / "llama.gguf", "token_embd.weight", NAN, 4 * 64 * 7)
        good = fulmen("run", "-m", MODELS / "llama.gguf", "--tokens", "1,2,3", "-n", "3", "--temp", "0")
        expected = b"7" in good.out.split()
        result = fulmen("run", "-m", path, "--tokens", "1,2,3", "-n", "3", "--temp", "0",
                        status=FAILED if expected else DONE)
        result.expect(expected or result.out == good.out, "expected the same tokens as without the damage")
        ends(path, "1,7,3")


@test
def infinities_that_meet():
    """inf - inf within a product."""
    with tempfile.TemporaryDirectory() as folder:
        path = changed(folder, MODELS / "llama.gguf", "blk.0.attn_norm.weight", INF, 8)
        ends(path, "1,2,3")


@test
def perplexity_ends_and_logits_warns():
    with tempfile.TemporaryDirectory() as folder:
        path = changed(folder, DEMO, "output_norm.weight", NAN, 8)
        result = fulmen("perplexity", "-m", path, "-p", "Once upon a time there was a fox. " * 8, "-c", "32", status=FAILED)
        result.expect(NO_NUMBERS in result.err and all(c in result.err for c in CAUSES), "expected an error with causes")
        result.expect(b"PPL" not in result.out, "expected no estimate")
        result = fulmen("logits", "-m", path, "--tokens", "1,2,3", "--all")
        result.expect(b"3 rows of logits are no numbers" in result.err, "expected a warning with a count")
        result.expect(len(result.out) == 3 * 4 * 2048, "expected the rows all the same")


# ---- optional biases -------------------------------------------------------------------------------------------------

def rows(t):
    values, width = t.floats(), t.shape[-1]
    return [values[i:i + width] for i in range(0, len(values), width)]


def product(matrix, x, bias=None):
    return [sum(a * b for a, b in zip(row, x)) + (bias[i] if bias else 0) for i, row in enumerate(matrix)]


def normed(x, weight, eps):
    scale = 1 / math.sqrt(sum(v * v for v in x) / len(x) + eps)
    return [v * scale * w for v, w in zip(x, weight)]


def turned(x, heads, width, position, base):
    """RoPE on adjacent pairs."""
    out = list(x)
    for h in range(heads):
        for m in range(width // 2):
            angle, at = position * base ** (-2 * m / width), h * width + 2 * m
            a, b = x[at], x[at + 1]
            out[at] = a * math.cos(angle) - b * math.sin(angle)
            out[at + 1] = a * math.sin(angle) + b * math.cos(angle)
    return out


def attended(q, keys, values, heads, heads_kv, width):
    out = []
    for h in range(heads):
        at, own = h * width, h // (heads // heads_kv) * width
        scores = [sum(q[at + i] * k[own + i] for i in range(width)) / math.sqrt(width) for k in keys]
        weights = [math.exp(s - max(scores)) for s in scores]
        out += [sum(w * v[own + i] for w, v in zip(weights, values)) / sum(weights) for i in range(width)]
    return out


def forward(meta, tensors, tokens):
    """Logits after the last token of a Llama, in double precision, with whatever biases the file has."""
    def get(name):
        return rows(tensors[name]) if len(tensors[name].shape) == 2 else list(tensors[name].floats())

    def linear(name, x):
        bias = get(f"{name}.bias") if f"{name}.bias" in tensors else None
        return product(get(f"{name}.weight"), x, bias)
    heads, heads_kv = meta["llama.attention.head_count"], meta["llama.attention.head_count_kv"]
    width, eps = meta["llama.embedding_length"] // heads, meta["llama.attention.layer_norm_rms_epsilon"]
    xs = [list(get("token_embd.weight")[t]) for t in tokens]
    for i in range(meta["llama.block_count"]):
        b, keys, values = f"blk.{i}.", [], []
        for at, x in enumerate(xs):
            n = normed(x, get(b + "attn_norm.weight"), eps)
            keys.append(turned(linear(b + "attn_k", n), heads_kv, width, at, meta["llama.rope.freq_base"]))
            values.append(linear(b + "attn_v", n))
            q = turned(linear(b + "attn_q", n), heads, width, at, meta["llama.rope.freq_base"])
            y = linear(b + "attn_output", attended(q, keys, values, heads, heads_kv, width))
            x = [u + v for u, v in zip(x, y)]
            n = normed(x, get(b + "ffn_norm.weight"), eps)
            gate, up = linear(b + "ffn_gate", n), linear(b + "ffn_up", n)
            y = linear(b + "ffn_down", [g / (1 + math.exp(-g)) * u for g, u in zip(gate, up)])
            xs[at] = [u + v for u, v in zip(x, y)]
    return product(get("output.weight"), normed(xs[-1], get("output_norm.weight"), eps))


@test
def biases_of_a_llama_are_used():
    meta, tensors = files.read_gguf(TINY)
    sizes = {name: tensors[f"blk.0.{name}.weight"].shape[0] for name in
             ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")}
    plain = forward(meta, tensors, [1, 2, 3])
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "biased.gguf"
        for some in (("ffn_gate",), tuple(sizes)):
            biased = dict(tensors)
            for layer in range(meta["llama.block_count"]):
                for at, name in enumerate(some):
                    biased[f"blk.{layer}.{name}.bias"] = files.from_floats(
                        [math.sin(i * (at + 2) + layer) for i in range(sizes[name])], (sizes[name],))
            write_gguf(path, meta, biased)
            wanted = forward(meta, biased, [1, 2, 3])
            top = max(abs(v) for v in wanted)
            if max(abs(a - b) for a, b in zip(wanted, plain)) < 0.01 * top:
                raise AssertionError(f"{some}: these biases change nothing")
            for rung in RUNGS:
                result = fulmen("logits", "-m", path, "--tokens", "1,2,3", "--rung", rung, "-ctk", "f32", "-ctv", "f32")
                found = struct.unpack(f"<{len(wanted)}f", result.out)
                far = max(abs(a - b) for a, b in zip(found, wanted)) / top
                result.expect(far < 2e-3, f"{some}, rung {rung}: off by {far:.1e} of the greatest logit")


@test
def what_is_not_used_is_refused():
    meta, tensors = files.read_gguf(TINY)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "more.gguf"
        for name, size in (("blk.0.attn_q_norm.weight", 16), ("output_norm.bias", 64), ("blk.1.ffn_norm.bias", 64)):
            write_gguf(path, meta, tensors | {name: files.from_floats([0.0] * size, (size,))})
            refused("run", "-m", path, "--tokens", "1,2", "-n", "2", says=name, status=BAD_INPUT)
        for key, value in (("llama.final_logit_softcapping", 30.0), ("llama.attention.scale", 0.5), ("llama.logit_scale", 0.5)):
            write_gguf(path, meta | {key: value}, tensors)
            refused("info", path, says=key, status=BAD_INPUT)


if __name__ == "__main__":
    sys.exit(main())
