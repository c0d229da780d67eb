#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""fulmen bench: ranges of numbers, several sequences together, profiles, in every form of output.

    test_cli_bench.py FULMEN SOURCE_ROOT

Runs on whatever device Vulkan finds (tests/support/cli_runner.py). Ends with `N passed, N failed, N skipped`.
"""

import csv
import json
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(sys.argv[2]) / "tests/support"))

from cli_runner import DEMO, MODELS, TINY, fulmen, main, refused, test     # pylint: disable=wrong-import-position

FORMATS = ("md", "json", "jsonl", "csv")


def table(text):
    """Rows of a table in Markdown, each a dictionary by the columns' names."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    assert set("".join(lines[1])) <= set("-: "), lines[1]
    assert all(len(line) == len(lines[0]) for line in lines), lines
    return [dict(zip(lines[0], line)) for line in lines[2:]]


def near(a, b, share=1e-6):
    return abs(a - b) <= share * max(abs(a), abs(b))


# ---------------------------------------------------------------------------------------------------- ranges

@test
def ranges():
    rows = fulmen("bench", "-m", TINY, "-p", "1-4*2,9", "-n", "0-2", "-d", "0-8+8", "-r", 1, "-o", "json").json()
    want = [(p, n, d) for d in (0, 8) for p, n in ((1, 0), (2, 0), (4, 0), (9, 0), (0, 1), (0, 2))]
    assert [(r["n_prompt"], r["n_gen"], r["n_depth"]) for r in rows] == want, rows
    rows = fulmen("bench", "-m", TINY, "-p", 4, "-n", 2, "-np", "1-3", "-r", 1, "-o", "json").json()
    assert [(r["pp"], r["tg"], r["pl"]) for r in rows] == [(4, 2, b) for b in (1, 2, 3)], rows


@test
def bad_ranges():
    bench = ("bench", "-m", TINY)
    for option in ("-p", "-n", "-d", "-np"):
        refused(*bench, option, "8-4", says=f"{option}: the range '8-4' has nothing in it")
        refused(*bench, option, "1-8*1", says=f"{option}: the range '1-8*1' has no end")
        refused(*bench, option, "1-8/2", says=f"{option}: '1-8/2' is no range, expected A-B, A-B+N or A-B*F")
        refused(*bench, option, "4,x", says=f"{option}: '4,x' is no list of whole numbers")
    refused(*bench, "-np", "0-2", says="-np: '0-2' has no sequences in it, expected at least 1")
    refused(*bench, "-np", 2, "-d", 8, says="-np and -d exclude one another")
    refused(*bench, "-np", 2, "--plot", "x.png", says="-np and --plot exclude one another")
    refused(*bench, "-np", 2, "-p", 0, "-n", 0, says="nothing to do")
    refused(*bench, "-np", 2000, "-p", 4, "-n", 1, says="2000 slots")
    refused(*bench, "-np", 8, "-ub", 4, "-p", 4, "-n", 1, says="at least the number of slots, 8")
    refused(*bench, "-p", "1-9999", "-n", "1-9999", "-d", "1-9999", says="tests, expected at most")


# ---------------------------------------------------------------------------------------------------- sequences together

def check_together(row, p, n, b):
    assert (row["pp"], row["tg"], row["pl"], row["n_kv"]) == (p, n, b, b * (p + n)), row
    assert near(row["t"], row["t_pp"] + row["t_tg"]), row
    for tokens, speed, seconds in ((b * p, "speed_pp", "t_pp"), (b * n, "speed_tg", "t_tg"), (b * (p + n), "speed", "t")):
        if tokens == 0:
            assert row[speed] == 0 and abs(row[seconds]) < 1e-3, row
        else:   # the mean of the speeds is at least the speed in the mean time, and not far from it
            assert 0.999 * tokens / row[seconds] <= row[speed] and row[speed.replace("speed", "stddev")] >= 0, (tokens, row)


@test
def sequences_together():
    for model in (TINY, MODELS / "mamba2.gguf"):
        bench = ("bench", "-m", model, "-p", "12,0", "-n", "3,0", "-np", "1-4*4", "-r", 2)
        want = [(p, n, b) for p in (12, 0) for n in (3, 0) for b in (1, 4) if p + n > 0]
        rows = fulmen(*bench, "-o", "json").json()
        assert len(rows) == len(want), rows
        for row, (p, n, b) in zip(rows, want):
            check_together(row, p, n, b)
            assert len(row["samples_pp_ns"]) == len(row["samples_tg_ns"]) == 2, row
            assert near(sum(row["samples_pp_ns"]) / 2e9, row["t_pp"], 1e-4) or p == 0, row
    lines = [json.loads(line) for line in fulmen(*bench, "-o", "jsonl").text().splitlines()]
    assert [set(line) for line in lines] == [set(row) for row in rows], lines
    for row in csv.DictReader(fulmen(*bench, "-o", "csv").text().splitlines()):
        names = list(row)
        check_together({name: float(row[name]) for name in names[names.index("pp"):]}, *want.pop(0))
    assert not want


@test
def sequences_together_as_a_table():
    text = fulmen("bench", "-m", DEMO, "-p", 2, "-n", "2-3", "-np", "2,3", "-r", 2).text()
    rows = table(text)
    assert list(rows[0]) == ["PP", "TG", "B", "N_KV", "T_PP s", "S_PP t/s", "T_TG s", "S_TG t/s", "T s", "S t/s"], rows[0]
    assert [(r["PP"], r["TG"], r["B"], r["N_KV"]) for r in rows] == [
        ("2", str(n), str(b), str(b * (2 + n))) for n in (2, 3) for b in (2, 3)], rows
    for row in rows:
        assert all(re.fullmatch(r"[0-9.]+ ± [0-9.]+", row[name]) for name in ("S_PP t/s", "S_TG t/s", "S t/s")), row
        assert abs(float(row["T s"]) - float(row["T_PP s"]) - float(row["T_TG s"])) < 0.0021, row
    assert "; llama 7M q8_0; " in text.splitlines()[-1], text      # its columns do not name the model
    widths = {len(line) for line in text.splitlines() if line.startswith("|")}
    assert len(widths) == 1, text
    assert "| -" in fulmen("bench", "-m", TINY, "-p", 4, "-n", 0, "-np", 1, "-r", 1).text().replace("  ", " ")


@test
def a_shape_works_as_a_file_does():
    bench = ("bench", "--shape", "mamba-130m:q4_0", "-p", 2, "-n", 1, "-np", 2, "-r", 1)
    row, = fulmen(*bench, "-o", "json").json()
    check_together(row, 2, 1, 2)


# ---------------------------------------------------------------------------------------------------- profiles

def profiled(*arguments, form):
    return fulmen("bench", "-m", *arguments, "--profile", "-o", form)


def check_rows(rows, step):
    """Of ops or of kernels: together they are the step."""
    assert len(rows) > 3 and [r["ns"] for r in rows] == sorted((r["ns"] for r in rows), reverse=True), rows
    assert near(sum(r["ns"] for r in rows), step["sum_ns"], 1e-9) and near(sum(r["share"] for r in rows), 1), (rows, step)
    assert abs(step["sum_ns"] - step["profiled_ns"]) <= step["step_calls"], step       # each was rounded
    assert sum(r["calls"] for r in rows) == step["step_calls"], (rows, step)
    for row in rows:
        assert 1 <= row["groups"] <= min(row["calls"], step["step_groups"]) and row["moved_bytes"] > 0, row
        assert near(row["gb_per_s"], row["moved_bytes"] / row["ns"]), row
        assert near(row["tflop_per_s"], row["flops"] / row["ns"] / 1000) if row["flops"] > 0 else row["tflop_per_s"] is None, row


@test
def profile_as_json():
    rows = profiled(DEMO, "-p", 4, "-n", 3, "-r", 2, form="json").json()
    assert [(r["n_prompt"], r["n_gen"]) for r in rows] == [(4, 0), (0, 3)], rows
    for row, tokens, steps in zip(rows, (4, 1), (2, 6)):
        step, = row["profile"]
        assert (step["step_tokens"], step["steps"]) == (tokens, steps), step
        assert near(step["wall_ns"], sum(row["samples_ns"]) / steps, 1e-3) and step["device_ns"] > 0, (step, row)
        check_rows(step["ops"], step)
        check_rows(step["kernels"], step)
        by_op = {}
        for kernel in step["kernels"]:
            by_op[kernel["op"]] = by_op.get(kernel["op"], 0) + kernel["ns"]
            assert kernel["kernel"].startswith(kernel["op"]), kernel
        assert by_op == {op["op"]: op["ns"] for op in step["ops"]}, (by_op, step["ops"])
        assert all(op["kernel"] is None for op in step["ops"]), step
        # The same program as fulmen plan prints.
        plan = fulmen("plan", "-m", DEMO, "-c", {4: 5, 1: 4}[tokens], "--step", tokens).text()
        assert f"plan for {tokens} tokens" in plan, plan
        assert f"\n{step['step_calls']} dispatches in {step['step_groups']} barrier groups" in plan, (plan, step)


@test
def profile_of_prompts_in_several_steps():
    row, = profiled(TINY, "-p", 40, "-n", 0, "-ub", 16, "-r", 2, form="json").json()
    assert [(s["step_tokens"], s["steps"], s["wall_ns"]) for s in row["profile"]] == [(16, 4, None), (8, 2, None)], row["profile"]
    for step in row["profile"]:
        check_rows(step["kernels"], step)


@test
def profile_of_sequences_together():
    row, = profiled(TINY, "-p", 8, "-n", 5, "-np", 3, "-r", 2, form="json").json()
    check_together(row, 8, 5, 3)
    assert [(s["step_tokens"], s["steps"]) for s in row["profile"]] == [(24, 2), (3, 10)], row["profile"]
    for step in row["profile"]:
        check_rows(step["ops"], step)


@test
def profile_in_lines():
    line, = profiled(TINY, "-p", 4, "-n", 0, "-r", 1, form="jsonl").text().splitlines()
    step, = json.loads(line)["profile"]
    check_rows(step["ops"], step)
    rows = list(csv.DictReader(profiled(TINY, "-p", 4, "-n", 2, "-r", 1, form="csv").text().splitlines()))
    assert {r["test"] for r in rows} == {"pp4", "tg2"} and all(float(r["avg_ts"]) > 0 for r in rows), rows
    for name in ("pp4", "tg2"):
        for kernels in (False, True):
            mine = [r for r in rows if r["test"] == name and (r["kernel"] != "") == kernels]
            assert sum(float(r["ns"]) for r in mine) == float(mine[0]["sum_ns"]), mine
            assert sum(int(r["calls"]) for r in mine) == int(mine[0]["step_calls"]), mine


@test
def profile_as_text():
    told = profiled(DEMO, "-p", 4, "-n", 2, "-r", 2, form="md").text()
    assert [row["test"] for row in table(told)] == ["pp4", "tg2"], told
    parts = re.split(r"\n(?=pp4: |tg2: )", told)[1:]
    assert len(parts) == 2, told
    for part, tokens in zip(parts, ("4 tokens", "1 token")):
        lines = part.splitlines()
        assert f": a step of {tokens}, mean over the middle half of " in lines[0], lines[0]
        said = [float(line.split()[0]) for line in lines[1:4]]
        assert all(us > 0 for us in said), lines
        assert "on the device" in lines[1] and "clock" in lines[2] and "the sum of the rows" in lines[3], lines
        blocks = [block.splitlines() for block in part.split("\n\n")[1:3]]
        assert [block[0].split() for block in blocks] == [
            [name, "µs", "%", "calls", "groups", "GB/s", "TFLOP/s"] for name in ("op", "kernel")], blocks
        total = blocks[0].pop().split()
        assert total[0] == "all" and total[2] == "100.0" and abs(float(total[1]) - said[2]) < 0.11, total
        for block in blocks:
            rows = [line.split() for line in block[1:]]
            assert len(rows) > 3 and all(len(row) == 7 for row in rows), rows
            assert abs(sum(float(row[1]) for row in rows) - said[2]) < 0.1 * len(rows), rows
            assert abs(sum(float(row[2]) for row in rows) - 100) < 0.1 * len(rows), rows
            assert sum(int(row[3]) for row in rows) == int(total[3]), rows
            assert len({len(line) for line in block}) == 1 and len(block[0]) <= 80, block
        assert all(len(line) <= 80 for line in lines[:4]), lines


@test
def no_profile_where_none_was_asked_for():
    for form in FORMATS:
        told = fulmen("bench", "-m", TINY, "-p", 4, "-n", 0, "-r", 1, "-o", form).text()
        assert "profile" not in told and "step_tokens" not in told and "TFLOP/s" not in told, told


if __name__ == "__main__":
    sys.exit(main())
