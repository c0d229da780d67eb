#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the seeds of fuzz_normalize into the folder given (tests/fuzz/corpus/normalize)."""

import pathlib
import struct
import sys

MARK = "▁"
TEXTS = {"plain": "a b  ab <u> sun </s>", "marks": "e\u0301 \u212b ａＢ \u0344 \u1e9b\u0323 İ Σ", "white": " \t\u3000sun\n <u> \u200b",
         "broken": None}
STEPS = {"legacy": ["prepend", MARK, "replace", " ", MARK], "forms": ["nfkc", "lowercase", "strip", "both"],
         "accents": ["nfd", "strip_accents", "nmt"], "longer": ["replace", "a", "aa"] * 6, "empty": ["replace", "a", ""],
         "unknown": ["bert"], "short": ["replace", "a"]}


def charsmap():
    """Two rules, A -> b and AA -> two spaces, as tests/support/pipeline_make.c has them, in a small trie."""
    units = [0] * 1024
    first = 256 ^ 65
    units[0] = 256 << 10
    units[first] = 512 << 10 | 1 << 8 | 65
    units[first ^ 512] = 1 << 31
    second = first ^ 512 ^ 65
    units[second] = 128 << 10 | 1 << 8 | 65
    units[second ^ 128] = 1 << 31 | 2
    return struct.pack("<I1024I", 4096, *units) + b"b\0  \0"


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for i, (name, words) in enumerate(STEPS.items()):
        part = b"".join(w.encode() + b"\0" for w in words)
        for k, (kind, text) in enumerate(TEXTS.items()):
            text = b"\xff a\xe2\x96 <u\x00>\xc3" if text is None else text.encode()
            (folder / f"{name}-{kind}").write_bytes(struct.pack("<BBH", 0, (i * 37 + k * 16) % 256, len(part)) + part + text)
    for kind in ("plain", "white"):
        (folder / f"map-{kind}").write_bytes(struct.pack("<BBH", 1, 1, len(charsmap())) + charsmap() + TEXTS[kind].encode() + b" AAA A")
    (folder / "nothing").write_bytes(struct.pack("<BBH", 2, 65, 0) + TEXTS["plain"].encode())


main()
