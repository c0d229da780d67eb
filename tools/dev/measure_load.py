#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures loading: writes a Llama-8B shaped F16 GGUF of random weights (16 GB), then runs `fulmen run --tokens` on it several times.

python3 tools/dev/measure_load.py --fulmen build/fulmen --file /tmp/llama-8b-f16.gguf [--runs 3]

Prints, per run: wall time, the tool's own line on loading and pipelines, and the most anonymous memory the process held (RssAnon: what
is not the page cache). The file stays, so that a second call need not write it again. Standard library only.
"""
import argparse
import os
import random
import struct
import subprocess
import sys
import time

ALIGN = 32
U32, F32, STRING = 4, 6, 8
LAYERS, WIDTH, HEADS, HEADS_KV, HEAD, FFN, VOCAB = 32, 4096, 32, 8, 128, 14336, 128256


def text(s):
    raw = s.encode()
    return struct.pack("<Q", len(raw)) + raw


def metadata():
    yield "general.architecture", STRING, text("llama")
    for key, value in (("context_length", 8192), ("embedding_length", WIDTH), ("block_count", LAYERS), ("feed_forward_length", FFN),
                       ("attention.head_count", HEADS), ("attention.head_count_kv", HEADS_KV), ("rope.dimension_count", HEAD),
                       ("vocab_size", VOCAB)):
        yield "llama." + key, U32, struct.pack("<I", value)
    yield "llama.attention.layer_norm_rms_epsilon", F32, struct.pack("<f", 1e-5)
    yield "llama.rope.freq_base", F32, struct.pack("<f", 5e5)


def tensors():
    """(name, shape, GGUF type): F16 = 1, F32 = 0."""
    yield "token_embd.weight", (VOCAB, WIDTH), 1
    for i in range(LAYERS):
        p = f"blk.{i}."
        yield p + "attn_norm.weight", (WIDTH,), 0
        yield p + "attn_q.weight", (HEADS * HEAD, WIDTH), 1
        yield p + "attn_k.weight", (HEADS_KV * HEAD, WIDTH), 1
        yield p + "attn_v.weight", (HEADS_KV * HEAD, WIDTH), 1
        yield p + "attn_output.weight", (WIDTH, HEADS * HEAD), 1
        yield p + "ffn_norm.weight", (WIDTH,), 0
        yield p + "ffn_gate.weight", (FFN, WIDTH), 1
        yield p + "ffn_up.weight", (FFN, WIDTH), 1
        yield p + "ffn_down.weight", (WIDTH, FFN), 1
    yield "output_norm.weight", (WIDTH,), 0
    yield "output.weight", (VOCAB, WIDTH), 1


def size_of(shape, kind):
    n = 1
    for d in shape:
        n *= d
    return n * (2 if kind else 4)


def write_model(path):
    meta, table, offset = list(metadata()), list(tensors()), 0
    head = b"GGUF" + struct.pack("<IQQ", 3, len(table), len(meta))
    for key, kind, payload in meta:
        head += text(key) + struct.pack("<I", kind) + payload
    for name, shape, kind in table:
        head += text(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", d) for d in reversed(shape))
        head += struct.pack("<IQ", kind, offset)
        offset += (size_of(shape, kind) + ALIGN - 1) // ALIGN * ALIGN
    rng = random.Random(1)
    # F16 values of either sign between 2^-7 and 2^-5; F32 ones.
    half = b"".join(struct.pack("<H", (rng.getrandbits(1) << 15) | (8 << 10) | rng.getrandbits(11)) for _ in range(1 << 18)) * 32
    one = struct.pack("<f", 1.0) * WIDTH
    with open(path, "wb") as f:
        f.write(head + b"\0" * (-len(head) % ALIGN))
        for _, shape, kind in table:
            left = size_of(shape, kind)
            block = half if kind else one
            while left:
                f.write(block[:left])
                left -= min(left, len(block))


def anonymous_kb(pid):
    try:
        with open(f"/proc/{pid}/status") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("RssAnon"))
    except (OSError, StopIteration):
        return 0


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--fulmen", required=True)
    p.add_argument("--file", required=True)
    p.add_argument("--runs", type=int, default=3)
    args = p.parse_args()
    if not os.path.exists(args.file):
        start = time.monotonic()
        write_model(args.file)
        print(f"wrote {os.path.getsize(args.file) / 1e9:.2f} GB in {time.monotonic() - start:.1f} s")
    for run in range(args.runs):
        start, most = time.monotonic(), 0
        child = subprocess.Popen([args.fulmen, "run", "-m", args.file, "--tokens", "5,17,3", "-n", "8", "-c", "512", "--temp", "0"],
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while child.poll() is None:
            most = max(most, anonymous_kb(child.pid))
            time.sleep(0.02)
        out, err = child.communicate()
        print(f"run {run + 1}: {time.monotonic() - start:.2f} s in all, exit {child.returncode}, RssAnon at most {most / 1000:.0f} MB")
        print("   " + "\n   ".join((out + err).strip().splitlines()))
        if child.returncode:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
