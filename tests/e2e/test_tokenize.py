#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""fulmen tokenize with files that hold a vocabulary only. Needs no device.

    test_tokenize.py FULMEN SOURCE_ROOT

Ends with `N passed, N failed, N skipped`.
"""

import pathlib
import signal
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(sys.argv[2]) / "tests/support"))

from cli_runner import FAILED, FULMEN, fulmen, main, refused, test    # pylint: disable=wrong-import-position

NORMAL, UNKNOWN, CONTROL, USER, BYTE = 1, 2, 3, 4, 6
PIECES = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL), *((f"<0x{b:02X}>", BYTE) for b in range(256)),
          ("\u2581", NORMAL), ("a", NORMAL), ("b", NORMAL), ("ab", NORMAL), ("\u2581ab", NORMAL), ("<|x|>", USER)]
A, B, AB, SPACE_AB, X = range(260, 265)


def text_of(text):
    return struct.pack("<Q", len(text.encode())) + text.encode()


def vocabulary(folder, **more):
    """A SentencePiece model of a few pieces, in a file without tensors."""
    count = len(PIECES)
    pairs = [text_of("general.architecture") + struct.pack("<I", 8) + text_of("unheard-of"),
             text_of("tokenizer.ggml.model") + struct.pack("<I", 8) + text_of("llama"),
             text_of("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, count) + b"".join(text_of(t) for t, _ in PIECES),
             text_of("tokenizer.ggml.token_type") + struct.pack(f"<IIQ{count}i", 9, 5, count, *(k for _, k in PIECES)),
             text_of("tokenizer.ggml.scores") + struct.pack(f"<IIQ{count}f", 9, 6, count, *(-i for i in range(count))),
             *(text_of(f"tokenizer.ggml.{key}") + struct.pack("<I?", 7, value) for key, value in more.items())]
    path = pathlib.Path(folder) / "vocab.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs)) + b"".join(pairs))
    return path


def ids(path, text, *options):
    return fulmen("tokenize", "-m", path, "-p", text, "--json", *options).json()


@test
def a_vocabulary_alone_is_enough():
    with tempfile.TemporaryDirectory() as folder:
        path = vocabulary(folder)
        assert ids(path, "ab ab") == [1, SPACE_AB, SPACE_AB]
        assert ids(path, "ab", "--no-bos") == [SPACE_AB]
        assert ids(vocabulary(folder, add_bos_token=False), "ab") == [SPACE_AB]


@test
def running_it_says_what_is_missing():
    with tempfile.TemporaryDirectory() as folder:
        refused("info", "-m", vocabulary(folder), says="holds no weights, only a vocabulary")


@test
def no_special_token_is_matched_when_none_is_wanted():
    with tempfile.TemporaryDirectory() as folder:
        path = vocabulary(folder, add_space_prefix=False)
        assert ids(path, "<s>ab<|x|>", "--no-bos") == [1, AB, X]
        found = ids(path, "<s>ab<|x|>", "--no-bos", "--no-parse-special")
        assert found == [3 + ord(c) for c in "<s>"] + [AB] + [3 + ord(c) for c in "<|x|>"], found


@test
def two_tokens_for_the_beginning_warn():
    with tempfile.TemporaryDirectory() as folder:
        path = vocabulary(folder)
        warned = [b"begins with <s>" in fulmen("tokenize", "-m", path, "-p", text, *options).err
                  for text, options in (("<s>ab", ()), ("ab", ()), ("<s>ab", ("--no-bos",)), ("<s>ab", ("--no-parse-special",)))]
        assert warned == [True, False, False, False], warned
        path = vocabulary(folder, add_bos_token=False)
        assert b"begins with" not in fulmen("tokenize", "-m", path, "-p", "<s>ab").err


@test
def a_signal_ends_it():
    with tempfile.TemporaryDirectory() as folder:
        with subprocess.Popen([FULMEN, "tokenize", "-m", vocabulary(folder), "-f", "-", "--json"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            # When the pipe is written the tool has caught signals, and has the last of the text still to read.
            process.stdin.write(b"ab ba bbbb aaaa " * 2000000)
            process.stdin.close()
            process.stdin = None
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=300)
        assert process.returncode == FAILED and out == b"" and b"cancelled" in err, (process.returncode, out[:100], err)


if __name__ == "__main__":
    sys.exit(main())
