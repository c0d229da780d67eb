#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The command-line tool as a user or a script meets it: output, messages, exit codes.

    test_cli.py FULMEN SOURCE_ROOT

Runs on whatever device Vulkan finds (tests/support/cli_runner.py). Ends with `N passed, N failed, N skipped`.
"""

import csv
import json
import os
import pathlib
import re
import struct
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(sys.argv[2]) / "tests/support"))

from cli_runner import (BAD_INPUT, DEMO, FAILED, MODELS, NO_DEVICE, ROOT, Skipped, TINY, fulmen,     # pylint: disable=wrong-import-position
                        main, refused, test)

RUNGS = ["base", "sg", "f16", "dot", "cm", "cmr"]


# ---------------------------------------------------------------------------------------------------- the frame

@test
def version():
    result = fulmen("--version")
    result.expect(result.text().startswith("fulmen ") and result.text().count("\n") == 1, "expected one line")


@test
def help_lists_commands_and_their_options():
    usage = fulmen("--help").text()
    names = [line[2:16].strip() for line in usage.splitlines() if line.startswith("  ") and line[2] != " "]
    for name in ("run", "chat", "logits", "perplexity", "tokenize", "info", "devices", "plan", "bench", "bench kernels", "check"):
        assert name in names, f"help does not list {name}: {names}"
    for name in names:
        result = fulmen(*name.split(), "--help")
        result.expect(result.text().startswith(f"fulmen {name}"), "help begins with the name")
        result.expect(len(result.text().splitlines()) >= 4, "help lists options")


@test
def no_command():
    result = fulmen(status=BAD_INPUT)
    result.expect(b"devices" in result.err and result.out == b"", "expected the usage on standard error")


@test
def bad_command_lines():
    refused("fly", says="unknown command 'fly'")
    refused("devices", "--fly", says="unknown option '--fly'")
    refused("devices", "fly", says="unknown argument 'fly'")
    refused("run", DEMO, "-p", "x", says="a model is given with -m")
    refused("-m", DEMO, says="'-m' before a command")
    refused("plan", "-m", says="-m needs a value")
    refused("run", "-m", DEMO, "-p", "x", "-n", "-3", says="-n: '-3', expected a whole number")
    refused("run", "-m", DEMO, "-p", "x", "-n", "12x", says="-n: '12x', expected a whole number")
    refused("run", "-m", DEMO, "-p", "x", "-n", " 4", says="-n: ' 4', expected a whole number")
    refused("run", "-m", DEMO, "-p", "x", "-n", "", says="-n: '', expected a whole number")
    refused("run", "-m", DEMO, "-p", "x", "-s", "-7", says="-s: '-7', expected a whole number")
    refused("run", "-m", DEMO, "-p", "x", "-c", "99999999999", says="-c")
    refused("run", "-m", DEMO, "-p", "x", "--temp", "warm", says="--temp")
    for value in ("nan", "inf", "0x1p-1", "", "0,5"):
        refused("run", "-m", DEMO, "-p", "x", "--temp", value, says=f"--temp: '{value}', expected a number")
    for value in ("-1", "nan", "1e-9", "1e9"):
        refused("run", "-m", DEMO, "-p", "x", "--repeat-penalty", value, says=f"--repeat-penalty: '{value}', expected a number from 0.01")
    refused("bench", "kernels", "-r", "0", says="-r")
    refused("bench", "-m", TINY, "-r", 0, says="-r 0, expected at least 1")
    refused("perplexity", "-m", DEMO, says="no text: give -f FILE or -p TEXT")
    refused("chat", "-m", DEMO, "-p", "x", "-f", "y", says="found both")
    refused("chat", "-m", DEMO, says="no prompt on standard input")
    refused("run", "-m", TINY, "--tokens", "1", "-ctk", "f16", "-ctv", "f32", says="f16 for keys and f32 for values")
    refused("run", "-m", TINY, "--tokens", "1", "--activations", "q4", says="activations 'q4', expected auto or q8")
    refused("run", "-m", TINY, "--tokens", "99999", says="token 0 of the prompt is 99999")
    refused("bench", "kernels", "-o", "xml", says="expected md, json, jsonl or csv")


@test
def habits_of_llama_cpp():
    result = fulmen("plan", "-m", TINY, "-ngl", "99", "-fa", "-t", 4, "--flash-attn", "on", "--no-mmap", "-b", 2048)
    notes = result.err.decode().splitlines()
    for option, note in zip(("-ngl", "-fa", "-t", "--flash-attn", "--no-mmap", "-b"), notes):
        result.expect(note.startswith(f"fulmen: {option} is not needed: "), f"expected a note on {option}")
    result.expect(len(notes) == 6, "expected one line for each")
    result.expect(result.text().startswith("plan for"), "expected the plan")
    result.expect(b"-ngl" in fulmen("run", "--help").out, "expected help to name them")
    refused("plan", "-m", TINY, "-ngl", says="-ngl needs a value")
    refused("plan", "-m", TINY, "-no-cnv", says="unknown option '-no-cnv'")     # of run only
    refused("devices", "-ngl", "99", says="unknown option '-ngl'")


@test
def numbers_of_llama_cpp():
    """No limit but the context, a penalty that looks back over all of it, none at all; and values after a sign of equality."""
    run = ("run", "-m", DEMO, "--tokens", "5,6,7", "--temp=0", "-c", 24, "--ignore-eos", "--json")
    for length in ("-1", "-2"):
        result = fulmen(*run, "-n", length).json()
        assert len(result["tokens"]) == 24 - 3 + 1 and result["stop"] == "context", result
    plain = fulmen(*run, "--n-predict=12").json()["tokens"]
    strong = ("-n", 12, "--repeat-penalty=50")
    whole = fulmen(*run, *strong, "--repeat-last-n", -1).json()["tokens"]
    assert whole == fulmen(*run, *strong, "--repeat-last-n=24").json()["tokens"] != plain, (whole, plain)
    assert len(set(whole)) == len(whole), f"a token came again: {whole}"
    for off in (("--repeat-penalty=0",), ("--repeat-penalty", "1"), (*strong[2:], "--repeat-last-n=0")):
        assert fulmen(*run, "-n", 12, *off).json()["tokens"] == plain, off
    assert fulmen(*run, "-n", 12, "--top-k=-1", "--temp=-1").json()["tokens"] == plain
    assert fulmen(*run, "-n", 4, "--flash-attn=on", "--gpu-layers=99").json()["tokens"] == plain[:4]
    refused("run", "--json=yes", says="--json takes no value, found 'yes'")
    refused("run", "-m", DEMO, "--ctx-size=", "-p", "x", says="--ctx-size: '', expected a whole number")
    # What begins with a dash is a value where one is wanted, and an operand after --.
    assert fulmen("tokenize", "-m", DEMO, "--prompt=-n=4").out == fulmen("tokenize", "-m", DEMO, "-p", "-n=4").out
    refused("info", "--", "-n.gguf", says="-n.gguf: ")


@test
def a_name_that_is_near_is_named():
    for words, says in ((("run", "--temperatur", 1), "unknown option '--temperatur' ("), (("run", "--tmep=1"), "did you mean --temp?"),
                        (("run", "--n_predict", 1), "did you mean --n-predict?"), (("bench", "--flot", "x"), "did you mean --plot?"),
                        (("tokenise",), "did you mean tokenize?"), (("xyzzy",), "unknown command 'xyzzy' (")):
        refused(*words, says=says)
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "out.gguf"
        for name, near in (("Q4_K_M", "q4_K"), ("q5_k_s", "q5_K"), ("IQ3_XXS", "q4_K"), ("Q2_K", "q4_K"), ("Q8_K", "q8_0")):
            refused("quantize", TINY, out, name, says=f"type '{name}' is unknown, expected one of f32 f16 q4_0")
            refused("quantize", TINY, out, name, says=f"(the nearest is {near})")
        refused("quantize", TINY, out, "heavy", says="bf16")
        assert not list(pathlib.Path(folder).iterdir())
        fulmen("quantize", TINY, out, "Q8_0")
        assert out.read_bytes()[:4] == b"GGUF"


# One of each command that prints, with little to do.
PRINTING = (("--help",), ("--version",), ("run", "--help"), ("devices",), ("devices", "--json"), ("info", TINY), ("info", TINY, "--json"),
            ("plan", "-m", TINY), ("tokenize", "-m", DEMO, "-p", "x"), ("tokenize", "-m", DEMO, "-f", ROOT / "README.md"),
            ("tokenize", "-m", DEMO, "-f", ROOT / "README.md", "--json"), ("logits", "-m", TINY, "--tokens", "5"),
            ("run", "-m", DEMO, "-p", "x", "-n", 2), ("run", "-m", DEMO, "-p", "x", "-n", 2, "--json"),
            ("chat", "-m", DEMO, "-p", "x", "-n", 2), ("perplexity", "-m", DEMO, "-p", "one two three " * 9, "-c", 16),
            ("bench", "-m", TINY, "-p", 4, "-n", 2, "-r", 1), ("bench", "-m", TINY, "-p", 4, "-n", 2, "-r", 1, "-np", 2, "--profile"),
            ("bench", "-m", TINY, "-p", 4, "-n", 2, "-r", 1, "-o", "csv"),
            ("check", "--op", "embed", "--rung", "base"))


@test
def full_disk_is_noticed():
    for command in PRINTING:
        with open("/dev/full", "wb") as full:
            result = fulmen(*command, status=FAILED, stdout=full)
        result.expect(result.err.count(b"standard output: No space left on device") == 1, "expected the reason")


@test
def closed_pipe_is_quiet():
    for command in PRINTING:
        reader, writer = os.pipe()
        os.close(reader)
        result = fulmen(*command, stdout=writer)
        os.close(writer)
        lines = [line for line in result.err.decode().splitlines() if not line.startswith("device: ")]
        result.expect(not lines, "expected no message")


# ---------------------------------------------------------------------------------------------------- devices

@test
def devices():
    lines = fulmen("devices").text().splitlines()
    described = fulmen("devices", "--json").json()
    assert len(lines) == len(described) >= 1, lines
    for index, (line, device) in enumerate(zip(lines, described)):
        assert line.startswith(f"{index}: {device['name']} ({device['kind']}), driver {device['driver']}"), line
        assert device["rungs"] == RUNGS[:len(device["rungs"])] and device["rungs"][-1] == device["rung"], device
        assert f"rungs {' '.join(device['rungs'])}," in line, line
        assert 0 < device["available_bytes"] <= device["memory_bytes"], device


@test
def device_selection():
    device = fulmen("devices", "--json").json()[0]
    for selector in ("0", device["uuid"], device["name"][:8].lower()):
        assert fulmen("plan", "-m", TINY, "--device", selector).text().startswith("plan for")
    refused("plan", "-m", TINY, "--device", "no such thing", says="no device matches 'no such thing'", status=NO_DEVICE)
    refused("plan", "-m", TINY, "--rung", "top", says="no rung 'top'")


@test
def no_driver():
    for command in (("devices",), ("devices", "--json"), ("check",), ("bench", "kernels"), ("plan", "-m", TINY),
                    ("run", "-m", DEMO, "-p", "x")):
        refused(*command, says="Vulkan", status=NO_DEVICE, no_driver=True)
    result = fulmen("info", TINY, no_driver=True)       # a file can be described without a device
    result.expect("device        none: " in result.text(), "expected a line that there is no device")
    assert fulmen("info", TINY, "--json", no_driver=True).json()["devices"] == []


@test
def a_damaged_driver_manifest_is_named():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        no_driver = folder / "no-driver.so"
        no_driver.write_bytes(b"not a library")
        icd = '{"file_format_version": "1.0.0", "ICD": {"library_path": "%s", "api_version": "1.3.0"}}'
        for name, content, says in (("cut.json", b'{"ICD": {', "it is not JSON"), ("empty.json", b"", "it is not JSON"),
                                    ("other.json", b'{"layer": {}}', "ICD.library_path is missing"),
                                    ("gone.json", (icd % (folder / "gone.so")).encode(), f"its library {folder}/gone.so is missing"),
                                    ("odd.json", (icd % no_driver).encode(), f"its library {no_driver} does not load")):
            manifest = folder / name
            manifest.write_bytes(content)
            for command in (("devices",), ("run", "-m", DEMO, "-p", "x")):
                refused(*command, says=f"no Vulkan driver could be loaded: VK_DRIVER_FILES: {manifest}", status=NO_DEVICE,
                        no_driver=manifest)
            refused("devices", says=says, status=NO_DEVICE, no_driver=manifest)
        both = f"{folder}/odd.json:{folder}/cut.json"       # what is surely wrong is named first
        refused("check", says=f"{folder}/cut.json: no driver manifest", status=NO_DEVICE, no_driver=both)
        refused("devices", says="none.json: cannot open", status=NO_DEVICE, no_driver=folder / "none.json")
        told = fulmen("info", TINY, no_driver=folder / "cut.json").text()
        assert "device        none: no Vulkan driver" in told, told


# ---------------------------------------------------------------------------------------------------- model files

@test
def info():
    described = fulmen("info", TINY, "--json").json()
    assert described["architecture"] == "llama" and described["file_bytes"] == TINY.stat().st_size, described
    assert [t["type"] for t in described["types"]] == ["f32"], described
    assert described["params"] == sum(t["elems"] for t in described["types"]), described
    assert described["types"][0]["bytes"] == 4 * described["params"], described
    device = described["devices"][0]
    assert device["fits"] and device["total_bytes"] >= device["weights_bytes"] + device["state_bytes"], device
    longer = fulmen("info", TINY, "--json", "-c", 2 * device["context"]).json()["devices"][0]
    assert longer["state_bytes"] > 1.9 * device["state_bytes"], (device, longer)
    text = fulmen("info", "-m", DEMO).text()
    assert "llama, 8 layers" in text and "q8_0" in text and "chatml" in text and "fits" in text, text


@test
def too_large_a_model_does_not_fit():
    device = fulmen("info", "--shape", "llama2-70b:f16", "--json").json()["devices"][0]
    assert device["fits"] == (device.get("total_bytes", 1 << 62) <= device["available_bytes"]), device
    text = fulmen("info", "--shape", "llama2-70b:f16").text()
    assert device["fits"] or "does not fit" in text or "largest" in text, text


@test
def bad_files():
    data = TINY.read_bytes()
    refused("info", TINY / "absent", says=f"{TINY / 'absent'}: cannot open")
    refused("info", ROOT, says=str(ROOT))
    refused("info", ROOT / "README.md", says="expected GGUF")
    refused("info", says="no model")
    with tempfile.TemporaryDirectory() as folder:
        bad = pathlib.Path(folder) / "bad.gguf"
        for what, content in (("nothing", b""), ("a header", data[:24]), ("half", data[:len(data) // 2]),
                              ("no end", data[:-1]), ("a version", data[:4] + struct.pack("<I", 99) + data[8:]),
                              ("a count", data[:8] + struct.pack("<Q", 1 << 60) + data[16:])):
            bad.write_bytes(content)
            for command in (("info", bad), ("plan", "-m", bad), ("logits", "-m", bad, "--tokens", "1")):
                try:
                    refused(*command, says=str(bad))
                except AssertionError as error:
                    raise AssertionError(f"file with {what}: {error}") from error


@test
def shapes():
    refused("plan", "--shape", "llama-1b", says="NAME:TYPE")
    refused("plan", "--shape", "llama-9z:q4_0", says="no built-in shape 'llama-9z'")
    refused("plan", "--shape", "llama-1b:q9", says="no weight type 'q9'")
    refused("plan", "--shape", "llama-1b:f16", "-m", TINY, says="exclude")


# ---------------------------------------------------------------------------------------------------- text

@test
def tokenize():
    text = "Hello <|im_start|>user\nworld, é€"
    ids = fulmen("tokenize", "-m", DEMO, "-p", text, "--json").json()
    assert fulmen("tokenize", "-m", DEMO, "-f", "-", "--json", stdin=text.encode()).json() == ids
    with tempfile.NamedTemporaryFile() as file:
        file.write(text.encode())
        file.flush()
        assert fulmen("tokenize", "-m", DEMO, "-f", file.name, "--json").json() == ids
    lines = fulmen("tokenize", "-m", DEMO, "-p", text).text().splitlines()
    assert [int(line.split("->")[0]) for line in lines] == ids, lines
    assert sum("<|im_start|>" in line for line in lines) == 1, lines
    plain = fulmen("tokenize", "-m", DEMO, "-p", text, "--json", "--no-parse-special").json()
    assert len(plain) > len(ids), (plain, ids)
    assert fulmen("tokenize", "-m", DEMO, "-p", "", "--json", "--no-bos").json() == []
    refused("tokenize", "-m", TINY, "-p", "x", says="has no tokenizer")
    refused("tokenize", "-m", DEMO, says="found none")
    refused("tokenize", "-m", DEMO, "-p", "x", "-f", "y", says="found both")
    refused("tokenize", "-m", DEMO, "-f", TINY / "absent", says=str(TINY / "absent"))


@test
def the_beginning_of_a_text_can_be_left_out():
    # The demo model adds nothing, so nothing may change; test_tokenize.py has a model that does.
    arguments = ("run", "-m", DEMO, "-p", "Once upon a time", "-n", "4", "--temp", 0)
    assert fulmen(*arguments, "--no-bos").out == fulmen(*arguments).out


@test
def run_is_repeatable():
    arguments = ("run", "-m", DEMO, "-p", "Once upon a time", "-n", 12, "--temp", 0)
    first = fulmen(*arguments, "--json").json()
    assert 1 <= len(first["tokens"]) <= 12 and first["prompt_tokens"] >= 1, first
    assert fulmen(*arguments, "--json").json()["tokens"] == first["tokens"]
    streamed = fulmen(*arguments)
    streamed.expect(first["text"].strip() in streamed.text(), "the text of --json and the text streamed differ")
    sampled = [fulmen("run", "-m", DEMO, "-p", "Once", "-n", 12, "-s", 7, "--json").json()["tokens"] for _ in range(2)]
    assert sampled[0] == sampled[1], sampled


@test
def lengths():
    arguments = ("run", "-m", DEMO, "-p", "Once upon", "--temp", 0, "--json", "-no-cnv")
    nothing = fulmen(*arguments, "-n", 0).json()
    assert nothing["tokens"] == [] and nothing["text"] == "" and nothing["stop"] == "length", nothing
    assert nothing["prompt_tokens"] >= 1 and nothing["timings"]["prompt_ms"] > 0, nothing
    whole = fulmen(*arguments, "-n", -1, "-c", 24).json()
    assert whole["stop"] in ("end", "context") and len(whole["tokens"]) > 1, whole
    assert fulmen(*arguments, "-c", 24).json()["tokens"] == whole["tokens"]


@test
def bench_at_depth_is_drawn():
    with tempfile.TemporaryDirectory() as folder:
        for model in (MODELS / "llama.gguf", MODELS / "mamba2.gguf"):
            picture = pathlib.Path(folder) / "picture.png"
            rows = fulmen("bench", "-m", model, "-p", 4, "-n", 2, "-d", "0,8,32", "-r", 1, "-o", "json", "--plot", picture).json()
            assert [(r["n_prompt"], r["n_gen"], r["n_depth"]) for r in rows] == [
                (p, n, d) for d in (0, 8, 32) for p, n in ((4, 0), (0, 2))], rows
            data = picture.read_bytes()
            width, height = struct.unpack(">II", data[16:24])
            assert data[:8] == b"\x89PNG\r\n\x1a\n" and width > 500 and height > 500, data[:24]
            picture.unlink()
        refused("bench", "-m", TINY, "-p", 4, "-n", 0, "-r", 1, "--plot", f"{folder}/no/where.png", says="where.png")


@test
def a_context_that_does_not_fit_names_one_that_does():
    shape = ("--shape", "llama-1b:q4_0")     # 32 KiB a token: 500 GB, more than any device has
    result = fulmen("bench", *shape, "-p", 16000000, "-n", 0, status=NO_DEVICE)
    told = result.err.decode().split("a context of ")
    result.expect(len(told) == 2, "expected a context that fits")
    fitting = int(told[1].split()[0])
    said = fulmen("info", *shape, "-c", fitting, "--json").json()["devices"][0]
    longer = fulmen("info", *shape, "-c", fitting + 256, "--json").json()["devices"][0]
    # What is available may be another number by now: the message may name the one that it was about.
    named = re.search(r"but ([0-9.]+) of [0-9.]+ MB are available", told[0])
    available, unsure = (float(named[1]) * 1e6, 1e5) if named else (said["available_bytes"], 0.25 * said["available_bytes"])
    assert fitting >= 256 and said["total_bytes"] <= available + unsure, (said, available)
    assert longer.get("total_bytes", 1 << 62) > available - unsure, (longer, available)


@test
def info_tells_states_that_do_not_grow():
    sizes = [fulmen("info", MODELS / "mamba.gguf", "--json", "-c", c).json()["devices"][0] for c in (128, 1 << 20)]
    assert sizes[0]["state_fixed_bytes"] == sizes[1]["state_fixed_bytes"] > 0, sizes
    assert sizes[1]["state_bytes"] - sizes[0]["state_bytes"] == 4 * ((1 << 20) - 128), sizes     # ids of the tokens
    assert "whatever the context" in fulmen("info", MODELS / "mamba.gguf").text()
    assert "whatever the context" not in fulmen("info", TINY).text()


@test
def a_context_too_long_is_told_once():
    lines = fulmen("run", "-m", TINY, "--tokens", "1,2", "-n", 1, "-c", 5000).err.decode().splitlines()
    assert sum("5000 is more than the" in line for line in lines) == 1, lines


@test
def a_file_is_a_prompt_without_its_last_newline():
    count = fulmen("run", "-m", DEMO, "-p", "Once upon", "-n", 0, "--json").json()["prompt_tokens"]
    for text, more in ((b"Once upon", False), (b"Once upon\n", False), (b"Once upon\n\n", True)):
        got = fulmen("run", "-m", DEMO, "-f", "-", "-n", 0, "--json", stdin=text).json()["prompt_tokens"]
        assert (got > count) == more, (text, got, count)


@test
def logits_are_the_fixtures():
    case = next(c for c in json.loads((MODELS / "models.json").read_text())["models"] if c["model"] == TINY.name)
    run = next(r for r in case["runs"] if r["length"] == 33)
    count = run["rows"] * case["vocab_size"]
    want = struct.unpack_from(f"<{count}f", (MODELS / case["logits"]).read_bytes(), run["offset_bytes"])
    tokens = ",".join(str(i) for i in case["ids"][:33])
    got = fulmen("logits", "-m", TINY, "--tokens", tokens, "--all", "--rung", "base").out
    assert len(got) == 4 * count, (len(got), count)
    got = struct.unpack(f"<{count}f", got)
    largest, worst = max(map(abs, want)), max(abs(g - w) for g, w in zip(got, want))
    assert worst <= 2e-4 * largest, f"worst difference {worst}, largest logit {largest}"
    last = struct.unpack(f"<{case['vocab_size']}f", fulmen("logits", "-m", TINY, "--tokens", tokens, "--rung", "base").out)
    assert max(abs(a - b) for a, b in zip(last, got[-case["vocab_size"]:])) <= 2e-4 * largest
    refused("logits", "-m", TINY, "--tokens", "1,,2", says="1,,2")
    refused("logits", "-m", TINY, "--tokens", str(case["vocab_size"]), says=str(case["vocab_size"]))


# ---------------------------------------------------------------------------------------------------- plan, check, bench

def plan_rows(text):
    """Node and kernel of every dispatch of a listing."""
    rows = []
    for line in text.splitlines():
        words = line.replace("|", " ").split()
        if words and words[0].isdigit() and " x " in line:
            rows.append((words[1], words[3]))
    return rows


@test
def plan():
    text = fulmen("plan", "-m", TINY).text()
    rows = plan_rows(text)
    assert text.startswith("plan for 1 tokens") and len(rows) > 10, text
    for pool in ("weights", "state", "arena", "step", "result", "counter"):
        assert f"pool {pool}" in text, text
    base = plan_rows(fulmen("plan", "-m", TINY, "--rung", "base").text())
    assert base and all("base" in kernel.split("_") for _, kernel in base), base
    node, kernel = next(row for row in rows if "ffn_down" in row[0])
    why = fulmen("plan", "-m", TINY, "--why", node).text().splitlines()
    chosen = [line.split()[1] for line in why if line.startswith("*")]
    assert chosen == [kernel], (chosen, kernel)
    rejected = [line.split(None, 1) for line in why if line.startswith("  ")]
    assert rejected and all(len(words) == 2 for words in rejected), "every other candidate has a reason"
    refused("plan", "-m", TINY, "--why", "nothing", says="nothing")
    # Sequences that decode together: their attention is that of few tokens, whatever their number.
    attends = [[kernel for node, kernel in plan_rows(fulmen("plan", "-m", TINY, "--step", n, "--run", run).text()) if "attend" in kernel]
               for n, run in ((7, 1), (8, 1), (23, 1))]
    assert attends[0] and attends[0] == attends[1] == attends[2], attends
    text = fulmen("plan", "-m", TINY, "--step", 23, "--run", 9).text()
    assert text.startswith("plan for 24 tokens, at most 24 of one sequence, 3 outputs, 3 slots"), text
    refused("plan", "-m", TINY, "--step", 4, "--run", 5, says="no more of one sequence than in all")


@test
def activations_of_8_bits_are_asked_for():
    def plan(*options):
        return fulmen("plan", "-m", DEMO, "--step", 32, *options).text()

    def logits(*options):
        data = fulmen("logits", "-m", DEMO, "--tokens", ",".join(str(t) for t in range(300, 332)), "-c", 32, *options).out
        return struct.unpack(f"<{len(data) // 4}f", data)

    ends = "takes activations of 8 bits, which have to be asked for"
    names = [line.split()[0] for node in ("attn_q", "attn_output", "ffn_gate")
             for line in plan("--why", f"blk.0.{node}").splitlines() if line.endswith(ends)]
    if not names:
        assert not any("dot" in device["rungs"] for device in fulmen("devices", "--json").json())
        raise Skipped("no integer dot products")
    assert "cast_int" not in plan() and "_q8_dot" not in plan()
    with tempfile.TemporaryDirectory() as folder:
        tuning = pathlib.Path(folder) / "tuning.txt" # devices without fast products may have faster kernels
        tuning.write_text("".join(f"priority {name} = 1000\n" for name in names), encoding="utf-8")
        assert "_q8_dot" not in plan("--tuning", tuning) and "_q8_dot" not in plan("--tuning", tuning, "--activations", "auto")
        products = plan("--tuning", tuning, "--activations", "q8").count("_q8_dot")
        assert products % 6 == 3, products # q, k, v, output, gate and up, down; the last layer keeps one row after attention
        exact, short = logits(), logits("--tuning", tuning, "--activations", "q8")
    assert logits("--activations", "auto") == exact
    off = max(abs(a - b) for a, b in zip(exact, short)) / max(abs(a) for a in exact)
    assert 1e-4 < off < 4e-2, off


@test
def a_tuning_changes_what_is_chosen():
    with tempfile.TemporaryDirectory() as folder:
        tuning = pathlib.Path(folder) / "tuning.txt"
        tuning.write_text("priority embed_f32_base = 17\nattend_part_keys = 32 # fewer\n", encoding="utf-8")
        tuned = ("plan", "-m", TINY, "--tuning", tuning)
        node = next(row[0] for row in plan_rows(fulmen(*tuned).text()) if "attn_output" in row[0])
        why = fulmen("plan", "-m", TINY, "--why", node).text().splitlines()
        chosen = next(line.split()[1] for line in why if line.startswith("*"))
        other = next(line.split()[0] for line in why if "score" in line)
        tuning.write_text(f"priority {other} = 1000\n", encoding="utf-8")
        why = fulmen(*tuned, "--why", node).text().splitlines()
        assert [line.split()[1] for line in why if line.startswith("*")] == [other] != [chosen], why
        tuning.write_text("attend_part_keys = 0\n", encoding="utf-8")
        refused(*tuned, says="line 1: expected attend_part_keys = NUMBER")
        refused("plan", "-m", TINY, "--tuning", pathlib.Path(folder) / "absent", says="absent")
        for path, says in ((pathlib.Path(folder) / "absent", b"absent"), (folder, b"is a directory")):
            result = fulmen("info", TINY, "--tuning", path, status=BAD_INPUT)
            result.expect(says in result.err, "expected the reason")


@test
def check():
    described = fulmen("check", "--op", "add", "--json").json()
    assert described["passed"] > 0 and described["failed"] == 0 and described["failures"] == [], described
    assert described["rung"] in RUNGS and described["kernels"] >= 1, described
    result = fulmen("check", "--op", "add", "--rung", "base", "--seed", 5, "-v")
    lines = [line for line in result.text().splitlines() if line.startswith("ok ")]
    result.expect(lines and all("rung base" in line for line in lines), "expected a line per problem at base")
    result.expect(f"{len(lines)} passed, 0 failed" in result.text(), "the total is the number of lines")
    refused("check", "--op", "levitate", says="no op 'levitate'")
    refused("check", "--kernel", "levitate", says="no kernel has 'levitate'")
    refused("check", "--rung", "top", says=f"no rung 'top', there are {' '.join(RUNGS)}")
    result = fulmen("check", "--op", "add", "--problem", "levitate", status=BAD_INPUT)
    result.expect(b"no problem matches" in result.err, "expected the reason")


@test
def bench_kernels():
    described = fulmen("bench", "kernels", "--op", "sample", "-r", 2, "-o", "json").json()
    assert described["read_gb_per_s"] > 0 and len(described["kernels"]) == 1, described
    row = described["kernels"][0]
    assert 0 < row["min_ns"] <= row["median_ns"] <= row["max_ns"], row
    rows = list(csv.DictReader(fulmen("bench", "kernels", "--op", "sample", "-r", 2, "-o", "csv").text().splitlines()))
    assert len(rows) == 1 and rows[0]["problem"] == row["problem"] and int(rows[0]["median_ns"]) > 0, rows
    table = fulmen("bench", "kernels", "--op", "sample", "-r", 2).text()
    assert row["kernel"] in table and "GB/s" in table, table


if __name__ == "__main__":
    sys.exit(main())
