#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The tool on files that are not what they should be: changed while they are read, with weights that are no numbers, folders."""

import json
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from support.cli_runner import (  # pylint: disable=wrong-import-position
    BAD_INPUT, DEMO, DONE, FAILED, FULMEN, ROOT, RUNNER, SECONDS, TINY, Result, fulmen, main, refused, test)

CHECKPOINT = ROOT / "tests/fixtures/checkpoints/qwen2-tied-odd"
U32, F32, STRING = 4, 6, 8
TYPE_F32, TYPE_F16, TYPE_Q8_0 = 0, 1, 8


def text(s):
    return struct.pack("<Q", len(s.encode())) + s.encode()


def write_gguf(path, tensors, metadata=()):
    """tensors: (name, shape, type, bytes or a length of zeros); offsets follow from the order unless a fifth item gives one."""
    metas = list(metadata)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metas))
    head += b"".join(text(key) + struct.pack("<I", kind) + payload for key, kind, payload in metas)
    offset, places = 0, []
    for name, shape, kind, data, *place in tensors:
        size = data if isinstance(data, int) else len(data)
        places.append(place[0] if place else offset)
        head += text(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", d) for d in reversed(shape))
        head += struct.pack("<IQ", kind, places[-1])
        offset = max(offset, (places[-1] + size + 31) // 32 * 32)
    start = (len(head) + 31) // 32 * 32
    with open(path, "wb") as file:
        file.write(head)
        for (_, _, _, data, *_), place in zip(tensors, places):
            if not isinstance(data, int):
                file.seek(start + place)
                file.write(data)
        file.truncate(start + offset)


def llama(path, vocab, width, name=""):
    """One layer, all zeros: the file is sparse, and its size is that of the embedding."""
    def u32(key, value):
        return "llama." + key, U32, struct.pack("<I", value)

    def ones(n):
        return struct.pack("<f", 1) * n

    metadata = [("general.architecture", STRING, text("llama")), ("general.name", STRING, text(name)),
                u32("context_length", 64), u32("block_count", 1),
                u32("embedding_length", width), u32("feed_forward_length", width), u32("vocab_size", vocab),
                u32("attention.head_count", 1), u32("attention.head_count_kv", 1),
                ("llama.attention.layer_norm_rms_epsilon", F32, struct.pack("<f", 1e-5))]
    square = [(f"blk.0.{name}.weight", (width, width), TYPE_F32, 4 * width * width)
              for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")]
    norms = [(name + ".weight", (width,), TYPE_F32, ones(width)) for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm")]
    write_gguf(path, norms + square + [("token_embd.weight", (vocab, width), TYPE_F32, 4 * vocab * width)], metadata)


def bytes_read(pid):
    with open(f"/proc/{pid}/io", encoding="ascii") as file:
        return int(next(line for line in file if line.startswith("rchar")).split()[1])


def changed_meanwhile(arguments, path, after, change):
    """Runs the tool, stops it when it has read `after` bytes, changes the file, lets it go on."""
    size = path.stat().st_size
    for _ in range(5):
        os.truncate(path, size)
        child = subprocess.Popen([*RUNNER, FULMEN, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            begin = None
            while child.poll() is None and (begin is None or bytes_read(child.pid) < begin + after):
                begin = bytes_read(child.pid) if begin is None else begin
            os.kill(child.pid, signal.SIGSTOP)
        except (ProcessLookupError, FileNotFoundError, PermissionError):
            child.communicate()
            continue    # it was faster than this: once more
        change(path)
        os.kill(child.pid, signal.SIGCONT)
        child.stdout_bytes, child.stderr_bytes = child.communicate(timeout=SECONDS)
        done = subprocess.CompletedProcess(arguments, child.returncode, child.stdout_bytes, child.stderr_bytes)
        if done.returncode != DONE:
            return Result([str(a) for a in arguments], done)
    raise AssertionError(f"fulmen {' '.join(map(str, arguments))}: was never caught reading")


def shorter(path):
    os.truncate(path, 1 << 20)


def longer(path):
    os.truncate(path, path.stat().st_size + 1)


def written(path):
    with open(path, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\1")


@test
def a_file_that_changes_is_told():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        model, out = folder / "m.gguf", folder / "out.gguf"
        commands = (("quantize", model, out, "q8_0"), ("info", "--verify", model), ("run", "-m", model, "--tokens", "5,17", "-n", "1"))
        for command in commands:
            for change, says in ((shorter, "became shorter while it was read (1048576 bytes, expected "),
                                 (longer, "changed while it was read"), (written, "changed while it was read")):
                model.unlink(missing_ok=True)
                llama(model, 1 << 18, 256)  # 256 MB
                result = changed_meanwhile(command, model, 64 << 20, change)
                result.expect(result.status == FAILED, "expected exit status 1")
                lines = [line for line in result.err.decode().splitlines() if not line.startswith("device: ")]
                result.expect(len(lines) == 1 and f"{model}: {says}" in lines[0], f"expected one line with '{says}'")
                result.expect(sorted(p.name for p in folder.iterdir()) == ["m.gguf"], "leaves a file behind")


@test
def a_state_is_saved_when_the_model_is_gone():
    """The model's file is cut while the sequence goes on: it is in memory, and saving does not look at the file."""
    with tempfile.TemporaryDirectory() as folder:
        model, state = pathlib.Path(folder) / "m.gguf", pathlib.Path(folder) / "s.fms"
        shutil.copy(DEMO, model)
        child = subprocess.Popen([*RUNNER, FULMEN, "run", "-m", model, "-p", "Once upon a time", "-n", "400", "--ignore-eos", "--temp", "0",
                                  "-c", "512", "--state-save", state], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        begin = child.stdout.read(8)
        os.truncate(model, 100)
        child.send_signal(signal.SIGINT)
        rest, err = child.communicate(timeout=SECONDS)
        if child.returncode not in (DONE, FAILED) or not state.exists():
            raise AssertionError(f"exit status {child.returncode}, {begin + rest!r}, {err!r}")
        fulmen("run", "-m", DEMO, "--state-load", state, "-n", "2", "--temp", "0", "-c", "512")


@test
def verify_finds_what_is_no_number():
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "m.gguf"
        nan, inf = struct.pack("<f", float("nan")), struct.pack("<f", float("-inf"))
        block = struct.pack("<e", 1.0) + bytes(32)
        broken = struct.pack("<e", float("inf")) + bytes(32)
        metadata = [("general.architecture", STRING, text("llama"))]
        write_gguf(path, [("a", (2, 3), TYPE_F32, bytes(16) + nan + inf), ("b", (2, 32), TYPE_Q8_0, block + broken),
                          ("c\x1b[2J", (4,), TYPE_F16, bytes(6) + b"\x00\x7e"), ("d", (4,), TYPE_F16, bytes(8))], metadata)
        result = fulmen("info", "--verify", path, status=FAILED)  # its configuration is missing, and that is said last
        result.expect([line.removeprefix(f"{path}: ") for line in result.text().splitlines()] ==
                      ["tensor 'a': 2 of 6 weights are infinite or NaN, the first is element 4",
                       "tensor 'b': 32 of 64 weights are infinite or NaN, the first is element 32",
                       "tensor 'c\\x1b[2J': 1 of 4 weights are infinite or NaN, the first is element 3"], "expected three findings")
        for kind, says in (("f32", "tensor 'a': element 4 (row 1, column 1) is nan: the weights are damaged"),
                           ("q8_0", "tensor 'a': element 4")):
            result = fulmen("quantize", path, path.with_name("out.gguf"), kind, status=BAD_INPUT)
            result.expect(says in result.err.decode(), f"expected '{says}'")
        for tensor, says in ((("b", (2, 32), TYPE_Q8_0, block + broken), "tensor 'b': element 32 (row 1, column 0) is "),
                             (("c.weight", (2, 2), TYPE_F16, bytes(6) + b"\x00\xfc"), "element 3 (row 1, column 1) is -inf")):
            write_gguf(path, [tensor], metadata)
            for kind in ("q8_0", "f16", "f32"):
                result = fulmen("quantize", path, path.with_name("out.gguf"), kind, status=BAD_INPUT)
                err = result.err.decode()
                result.expect(says in err and "the weights are damaged" in err, f"{kind}: expected '{says}'")
        # What the new type cannot hold is named as well: largest finite numbers, and scales that overflow.
        for value, kind in ((7e4, "f16"), (3.4028234e38, "bf16"), (1e8, "q8_0"), (1e7, "q4_0"), (1e7, "q4_1"), (1e7, "q5_0"),
                            (1e7, "q5_1")):
            write_gguf(path, [("w.weight", (2, 32), TYPE_F32, bytes(4 * 40) + struct.pack("<f", value) + bytes(4 * 23))], metadata)
            result = fulmen("quantize", path, path.with_name("out.gguf"), kind, status=BAD_INPUT)
            says = f"element 40 (row 1, column 8) is {value:g}, which {kind} cannot hold"
            result.expect(says in result.err.decode(), f"expected '{says}'")
        if path.with_name("out.gguf").exists():
            raise AssertionError("a file was made")


@test
def verify_of_files_of_others():
    """An architecture that is not known, none at all, and a type that nothing computes with."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "m.gguf"
        bad = ("w", (1, 2), TYPE_F32, bytes(4) + struct.pack("<f", float("nan")))
        for metadata in ([("general.architecture", STRING, text("clip"))], []):
            write_gguf(path, [bad], metadata)
            result = fulmen("info", "--verify", path, status=FAILED)
            result.expect("'w': 1 of 2 weights" in result.text() and "1 tensors, 0.00 GB: 1 finding\n" in result.text(), "expected a sum")
            write_gguf(path, [("w", (1, 2), TYPE_F32, bytes(8))], metadata)
            result = fulmen("info", "--verify", path)
            result.expect(result.text().endswith(": nothing wrong\n"), "expected nothing wrong")
        path = path.with_suffix(".safetensors")
        header = json.dumps({"c": {"dtype": "C64", "shape": [3], "data_offsets": [0, 24]}}).encode()
        path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(12) + struct.pack("<f", float("inf")) + bytes(8))
        result = fulmen("info", "--verify", path, status=FAILED)
        result.expect("'c': 1 of 3 weights are infinite or NaN, the first is element 1" in result.text(), "expected the element")


@test
def a_name_is_handed_on_as_it_is():
    with tempfile.TemporaryDirectory() as folder:
        path, name = pathlib.Path(folder) / "m.gguf", "a\u009bb\0c\x1b" + "x" * 1000
        llama(path, 64, 4, name)
        assert fulmen("info", "--json", path).json()["name"] == name
        result = fulmen("info", path)
        result.expect("name          a\\xc2\\x9bb\\x00c\\x1bxxx" in result.text(), "expected a quoted name")


@test
def verify_of_whole_models():
    for path in (DEMO, CHECKPOINT, CHECKPOINT / "model.safetensors", ROOT / "tests/fixtures/checkpoints/state-spaces-mamba2"):
        result = fulmen("info", "--verify", path)
        result.expect(result.text().startswith(f"{path}: ") and result.text().endswith(": nothing wrong\n"), "expected nothing wrong")
    with tempfile.TemporaryDirectory() as folder:
        bad = pathlib.Path(folder) / "model.safetensors"
        data = bytearray((CHECKPOINT / "model.safetensors").read_bytes())
        data[-4:] = struct.pack("<f", float("inf"))
        bad.write_bytes(data)
        result = fulmen("info", "--verify", folder, status=FAILED)
        result.expect("weights are infinite or NaN" in result.text() and ": 1 finding\n" in result.text(), "expected one finding")
        shutil.copy(CHECKPOINT / "config.json", folder)
        result = fulmen("convert", folder, "-o", pathlib.Path(folder) / "out.gguf", status=BAD_INPUT)
        err = result.err.decode()
        result.expect("(of 'model." in err and "is inf: the weights are damaged" in err, "expected the tensor")
        cut = pathlib.Path(folder) / "cut.gguf"
        cut.write_bytes(DEMO.read_bytes()[:-1000])
        result = fulmen("info", "--verify", cut, DEMO, status=FAILED)
        result.expect("exceeds the file's" in result.err.decode() and "nothing wrong" in result.text(), "expected both files to be told of")


@test
def tensors_that_overlap_are_refused():
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "m.gguf"
        metadata = [("general.architecture", STRING, text("llama"))]
        for places in ((0, 0), (0, 32), (32, 0), (64, 32)):
            write_gguf(path, [("one", (16,), TYPE_F32, 64, places[0]), ("two", (16,), TYPE_F32, 64, places[1])], metadata)
            for command in (("run", "-m", path, "--tokens", "1"), ("info", path), ("quantize", path, path.with_name("o"), "f16")):
                result = fulmen(*command, status=BAD_INPUT)
                err = result.err.decode()
                result.expect(f"{path}: tensors '" in err and "' overlap: bytes " in err, "expected both names")
            fulmen("info", "--verify", path, status=FAILED)


@test
def several_files():
    result = fulmen("info", TINY, "-m", DEMO)
    said = result.text()
    result.expect(said.count("architecture  llama") == 2 and str(DEMO) in said and str(TINY) in said, "expected both")
    both = fulmen("info", "--json", TINY, DEMO).json()
    one = fulmen("info", "--json", TINY).json()
    if not isinstance(both, list) or [m["file"] for m in both] != [str(TINY), str(DEMO)] or one["file"] != str(TINY):
        raise AssertionError(json.dumps(both))
    result = fulmen("info", ROOT / "absent.gguf", TINY, status=BAD_INPUT)
    result.expect("absent.gguf: cannot open" in result.err.decode() and str(TINY) in result.text(), "expected the good one as well")


@test
def folders_say_what_to_do():
    refused("run", "-m", CHECKPOINT, "-p", "x", says=f"{CHECKPOINT}: is a checkpoint folder: fulmen convert FOLDER -o FILE.gguf")
    refused("info", DEMO.parent, says="'demo-llama.gguf'")
    refused("quantize", CHECKPOINT, "out.gguf", "f16", says="is a checkpoint folder")
    with tempfile.TemporaryDirectory() as folder:
        refused("chat", "-m", folder, "-p", "x", says="is a folder without a GGUF file or a config.json in it")
        adapter = pathlib.Path(folder) / "adapter_config.json"
        adapter.write_text('{"peft_type": "LORA"}', encoding="utf-8")
        refused("run", "-m", folder, "-p", "x", says="adapter (LoRA), not a model: merge it")
        refused("convert", folder, "-o", pathlib.Path(folder) / "o.gguf", says="adapter (LoRA), not a model: merge it")
        lora = pathlib.Path(folder) / "lora.gguf"
        write_gguf(lora, [("blk.0.attn_q.weight.lora_a", (2, 4), TYPE_F32, 32)], [("general.architecture", STRING, text("llama")),
                                                                               ("general.type", STRING, text("adapter"))])
        refused("run", "-m", lora, "-p", "x", says="lora.gguf: is an adapter (LoRA), not a model")


@test
def tiny_metadata_stays_small():
    """Ten million strings of no or one byte: at most three times the file's bytes, besides what the tool takes anyway."""
    def most_memory(path):
        code = ("import resource, subprocess, sys; "
                "subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False); "
                "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)")
        out = subprocess.run([sys.executable, "-c", code, FULMEN, "tokenize", "-m", path, "-p", "x"], capture_output=True, text=True,
                             check=True, timeout=SECONDS).stdout
        return int(out) * 1024

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "m.gguf"
        usual = most_memory(TINY)
        array = struct.pack("<IQ", STRING, 5_000_000)
        for what, strings in (("empty", bytes(8 * 5_000_000)), ("short", (struct.pack("<Q", 1) + b"a") * 5_000_000)):
            write_gguf(path, [], [("general.architecture", STRING, text("llama")), ("x", 9, array + strings)])
            used, size = most_memory(path), path.stat().st_size
            if used > usual + 3 * size + (8 << 20):
                raise AssertionError(f"{what}: {used} bytes for a file of {size}, {usual} are usual")
        for count in (65_530, 300_000):
            keys = [(f"{i:x}", 7, b"\1") for i in range(count)]
            write_gguf(path, [], [("general.architecture", STRING, text("llama")), *keys])
            used, size = most_memory(path), path.stat().st_size
            if used > usual + 3 * size + (32 << 20):
                raise AssertionError(f"{count} keys: {used} bytes for a file of {size}, {usual} are usual")


if __name__ == "__main__":
    sys.exit(main())
