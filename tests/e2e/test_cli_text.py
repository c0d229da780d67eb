#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Text that comes into the command-line tool, and text of files and models that leaves it.

    test_cli_text.py FULMEN SOURCE_ROOT

Runs on whatever device Vulkan finds (tests/support/cli_runner.py). Ends with `N passed, N failed, N skipped`.
"""

import csv
import json
import os
import pathlib
import pty
import select
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(sys.argv[2]) / "tests/support"))

from cli_runner import (BAD_INPUT, DEMO, DONE, FULMEN, RUNNER, SECONDS, TINY, fulmen, main,     # pylint: disable=wrong-import-position
                        refused, test)

TEXT = "Grüße, 日本 😀!"


def counted(text):
    return struct.pack("<Q", len(text)) + text


def patched(folder, name, *pairs):
    """A copy of the demo model with other strings, each as long as the one that it replaces."""
    data = DEMO.read_bytes()
    for old, new in pairs:
        old, new = old.encode(), new.encode()
        assert len(old) == len(new) and data.count(counted(old)) == 1, (old, new, data.count(counted(old)))
        data = data.replace(counted(old), counted(new))
    path = pathlib.Path(folder) / name
    path.write_bytes(data)
    return path


def byte_level(data):
    """Bytes as a byte-level vocabulary writes them."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in plain]
    return "".join(chr(b) if b in plain else chr(0x100 + rest.index(b)) for b in data)


def on_terminal(*arguments, stdin=subprocess.DEVNULL):
    """-> what the tool writes to standard output when that is a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen([*RUNNER, FULMEN, *(str(a) for a in arguments)], stdin=stdin, stdout=theirs,
                          stderr=subprocess.PIPE) as child:
        os.close(theirs)
        out, err, ends = b"", b"", {ours, child.stderr.fileno()}
        while ends:
            ready, _, _ = select.select(ends, [], [], SECONDS)
            assert ready, f"fulmen {arguments}: nothing came after {out!r}, {err!r}"
            for end in ready:
                try:
                    some = os.read(end, 65536)
                except OSError:     # a terminal without another end
                    some = b""
                if not some:
                    ends.remove(end)
                out, err = (out + some, err) if end == ours else (out, err + some)
        status = child.wait(timeout=SECONDS)
    os.close(ours)
    assert status == DONE, f"fulmen {arguments}: exit status {status}, {out!r}, {err!r}"
    return out.replace(b"\r\n", b"\n")      # the terminal puts the carriage returns there


def controls(text, kept="\n\t"):
    return [c for c in text if (ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0) and c not in kept]


# ---------------------------------------------------------------------------------------------------- what a model writes

@test
def control_characters_are_shown_on_a_terminal():
    """The demo's answer, "I am the demo", with a piece that is none of a terminal's business; into a pipe it goes unchanged."""
    for data, shown in ((b"\x1b[m", b"\\x1b[m"), (b"\r[m", b"\\x0d[m"), (b"\x00am", b"\\x00am"), (b"\x7fam", b"\\x7fam"),
                        (b"\xc2\x9b", b"\\xc2\\x9b"), (b"\t\n", b"\t\n"), (b"\xc3\xa9", b"\xc3\xa9")):
        with tempfile.TemporaryDirectory() as folder:
            model = patched(folder, "model.gguf", ("Ġam", byte_level(data)))
            run = ("run", "-m", model, "--temp", 0, "-n", 4, "--tokens", demo_prompt())
            result = fulmen(*run)
            result.expect(result.out == b"I" + data + b" the demo\n", "the pipe's text is another")
            result = fulmen(*run, "--json")
            result.expect(result.json()["text"] == "I" + data.decode() + " the demo", "another text")
            result.expect(not controls(result.text()), "control characters in JSON")
            seen = on_terminal(*run)
            assert seen == b"I" + shown + b" the demo\n", (data, seen)
            if data[0] not in b"\x1b\0\t":
                continue    # runs are enough
            chat = ("chat", "-m", model, "--temp", 0, "-n", 4, "-p", "Who are you?")
            result = fulmen(*chat)
            result.expect(result.out == b"I" + data + b" the demo\n", "the pipe's answer is another")
            result.expect((b"1 NUL characters" in result.err) == (b"\0" in data), "a NUL in an answer is to be told")
            seen = on_terminal(*chat)
            assert seen == b"I" + shown + b" the demo\n", (data, seen)


def demo_prompt():
    """The ids of a question in the demo's chat template."""
    text = "<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\n"
    return ",".join(str(token) for token in fulmen("tokenize", "-m", DEMO, "-p", text, "--json").json())


@test
def tokens_are_listed_without_control_characters():
    with tempfile.TemporaryDirectory() as folder:
        model = patched(folder, "model.gguf", ("<|im_end|>", "<\u009b31\\\x1b\x7f\r>"))     # a special token is one piece
        result = fulmen("tokenize", "-m", model, "-p", "a<\u009b31\\\x1b\x7f\r>\u009b\x1b")
        result.expect(b"'<\\xc2\\x9b31\\x5c\\x1b\\x7f\\x0d>'\n" in result.out and not controls(result.text()), "control characters")


# ---------------------------------------------------------------------------------------------------- what a file says

@test
def texts_of_files_are_quoted():
    """Every string below is of a file, and reaches a message."""
    with tempfile.TemporaryDirectory() as folder:
        for key, old, new in (("pre", "gpt-2", "\x1b[3m\r"), ("type", "llama", "\x9b12J\n"), ("tokenizer", "gpt2", "\x1b[2J")):
            data = DEMO.read_bytes()
            at = {"pre": b"tokenizer.ggml.pre", "type": b"general.architecture", "tokenizer": b"tokenizer.ggml.model"}[key]
            at = data.index(at) + len(at) + 4 + 8
            assert data[at:at + len(old)] == old.encode(), data[at:at + 20]
            path = pathlib.Path(folder) / f"{key}.gguf"
            path.write_bytes(data[:at] + new.encode("latin-1") + data[at + len(old):])
            result = fulmen("info", path, status=BAD_INPUT)
            said = result.err.decode("utf-8")
            result.expect(said.count("\n") == 1 and not controls(said) and "\\x" in said, "expected one line without controls")


def checkpoint(folder, config, index=None, shard=None):
    path = pathlib.Path(tempfile.mkdtemp(dir=folder))
    (path / "config.json").write_text(json.dumps(config))
    if index is not None:
        (path / "model.safetensors.index.json").write_text(json.dumps(index))
    if shard is not None:
        head = json.dumps(shard).encode()
        (path / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + bytes(64))
    return path


@test
def texts_of_checkpoints_are_quoted():
    esc = "\x1b[31m\r\n\u009b\u202e"
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8, "vocab_size": 8}
    llama = {"model_type": "llama"} | sizes
    with tempfile.TemporaryDirectory() as folder:
        one = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
        for path in (checkpoint(folder, {"model_type": esc}),
                     checkpoint(folder, {"d_model": 8, "n_layer": 1, "ssm_cfg": {"layer": esc}}),
                     checkpoint(folder, llama | {"hidden_act": esc}, shard={"a": one}),
                     checkpoint(folder, llama | {"rope_scaling": {"rope_type": esc, "factor": 2}}, shard={"a": one}),
                     checkpoint(folder, llama, {"weight_map": {"a": "../" + esc}}),
                     checkpoint(folder, llama, {"weight_map": {esc: 7}}),
                     checkpoint(folder, llama, shard={esc: one | {"dtype": "F33"}}),
                     checkpoint(folder, llama, shard={"a": one | {"dtype": esc}}),
                     checkpoint(folder, llama, shard={esc: one | {"data_offsets": [0, 9]}})):
            result = fulmen("convert", path, "-o", path / "out.gguf", status=BAD_INPUT)
            said = result.err.decode("utf-8")
            result.expect(not controls(said) and "\u202e" not in said, f"control characters of {path}")
            result.expect("\\x" in said or "config" in said, "nothing was quoted")


@test
def names_on_the_command_line_are_quoted():
    for arguments in (("info", "no\x1b[2Jthing"), ("run", "-m", "no\x9b\r\nthing", "-p", "x"), ("fl\x1by",), ("run", "--f\x1b"),
                      ("chat", "-m", DEMO, "-f", "no\x1bthing"), ("tokenize", "-m", DEMO, "-f", "no\rthing")):
        result = fulmen(*arguments, status=BAD_INPUT)
        said = result.err.decode("utf-8")
        result.expect(not controls(said) and "\\x" in said, "control characters")


# ---------------------------------------------------------------------------------------------------- what comes in

def tokens(data, **options):
    return fulmen("tokenize", "-m", DEMO, "-f", "-", "--json", stdin=data, **options).json()


@test
def text_comes_in_any_unicode_encoding():
    whole = fulmen("tokenize", "-m", DEMO, "-p", TEXT, "--json").json()
    for data in (TEXT.encode(), b"\xef\xbb\xbf" + TEXT.encode(), b"\xff\xfe" + TEXT.encode("utf-16-le"),
                 b"\xfe\xff" + TEXT.encode("utf-16-be")):
        assert tokens(data) == whole, data
    # A NUL is a character like others.
    assert tokens(b"ab\0cd") == [*tokens(b"ab"), *tokens(b"\0"), *tokens(b"cd")]
    assert len(tokens(b"\0" * 7)) >= 1 and tokens(b"\xff\xfe" + "a\0b".encode("utf-16-le")) == tokens(b"a\0b")
    for data, says in ((TEXT.encode("utf-16-le") + "plain text".encode("utf-16-le"), "UTF-16 without a byte order mark"),
                       ("plain text".encode("utf-16-be"), "iconv -f UTF-16BE"), (b"\xff\xfea", "odd number of bytes"),
                       (b"\xff\xfe\x3d\xd8a\0", "broken UTF-16 at byte 2"), (b"\xff\xfe\x00\xdc", "broken UTF-16 at byte 2"),
                       ("text".encode("utf-32"), "UTF-32"), (b"\0\0\xfe\xff" + "text".encode("utf-32-be"), "UTF-32")):
        refused("tokenize", "-m", DEMO, "-f", "-", stdin=data, says=says)
    # The same text for every command that reads one.
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "text"
        answers = []
        for data in (b"Who are you?\n", b"\xef\xbb\xbfWho are you?\n", b"\xff\xfe" + "Who are you?\r\n".encode("utf-16-le")):
            file.write_bytes(data)
            answers.append([fulmen("chat", "-m", DEMO, "--temp", 0, "-n", 6, "-f", file).out,
                            fulmen("chat", "-m", DEMO, "--temp", 0, "-n", 6, stdin=data).out])
        assert len({answer for pair in answers for answer in pair}) == 1, answers
        counts = []
        for data in (b"Once upon\0 a time", b"\xef\xbb\xbfOnce upon\0 a time"):
            file.write_bytes(data)
            counts.append(fulmen("run", "-m", DEMO, "-n", 1, "--json", "-f", file).json()["prompt_tokens"])
        assert counts[0] == counts[1] == len(tokens(b"Once upon\0 a time")), counts


@test
def what_a_message_cannot_hold_is_told():
    refused("chat", "-m", DEMO, "-n", 1, stdin=b"Who\0 are you?", says="byte 3 is NUL")
    for arguments in (("tokenize", "-m", DEMO, "-p", b"caf\xe9 x\xff"), ("run", "-m", DEMO, "-n", 1, "-p", b"caf\xe9 x\xff"),
                      ("chat", "-m", DEMO, "-n", 1, "-p", b"caf\xe9 x\xff")):
        result = fulmen(*(a if isinstance(a, str) else os.fsdecode(a) if isinstance(a, bytes) else a for a in arguments))
        result.expect(b"-p: byte 3, 0xe9, is no UTF-8 (2 such bytes in all)" in result.err, "expected a warning")
    result = fulmen("tokenize", "-m", DEMO, "-f", "-", stdin=b"a\xc3")
    result.expect(b"standard input: byte 1, 0xc3, is no UTF-8 (1 such" in result.err, "expected a warning")


# ---------------------------------------------------------------------------------------------------- tables

@test
def rows_of_a_bench_fit_one_header():
    """A prompt and a generation, of a model in a folder whose name has everything that CSV and JSON have to escape."""
    with tempfile.TemporaryDirectory() as folder:
        model = pathlib.Path(folder) / 'a "b", c|d\\e\nf\x1bg.gguf'
        model.write_bytes(TINY.read_bytes())
        bench = ("bench", "-m", model, "-p", 8, "-n", 4, "-r", 1, "-o")
        result = fulmen(*bench, "csv")
        result.expect(result.out.endswith(b"\r\n"), "lines of RFC 4180 end in CR LF")
        header, *rows = csv.reader(result.out.decode().splitlines(keepends=True), strict=True)
        result.expect(len(rows) == 2 and all(len(row) == len(header) for row in rows), "rows and header differ")
        of_csv = [dict(zip(header, row)) for row in rows]
        listed = fulmen(*bench, "json").json()
        lines = [json.loads(line) for line in fulmen(*bench, "jsonl").text().splitlines()]
        for found in (of_csv, listed, lines):
            assert [row["test"] for row in found] == ["pp8", "tg4"], found
            assert all(row["model_filename"] == str(model) for row in found), found
        assert [list(row)[:len(header)] for row in (*listed, *lines)] == [header] * 4, (header, listed)
        assert of_csv[0]["read_gb_per_s"] == "" and float(of_csv[1]["read_gb_per_s"]) > 0, of_csv
        assert listed[0]["read_gb_per_s"] is None, listed
        table = [line for line in fulmen(*bench, "md").text().splitlines() if line.startswith("|")]
        assert len(table) == 4 and len({line.count("|") for line in table}) == 1, table
        described = fulmen("info", model, "--json")
        described.expect(described.json()["file"] == str(model), "another name")
        assert not controls(fulmen("info", model).text()), "control characters of a name"


if __name__ == "__main__":
    sys.exit(main())
