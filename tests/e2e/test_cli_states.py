#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Sequences that are saved and gone on with, by the command-line tool.

    test_cli_states.py FULMEN SOURCE_ROOT

Runs on whatever device Vulkan finds (tests/support/cli_runner.py). Ends with `N passed, N failed, N skipped`.
"""

import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(sys.argv[2]) / "tests/support"))

from cli_runner import DEMO, ROOT, fulmen, main, refused, test      # pylint: disable=wrong-import-position


# ---------------------------------------------------------------------------------------------------- sequences

@test
def saved_states_go_on():
    """A run of 8 tokens is a run of 4, saved, and a run of 4 that loads it, for caches, for recurrent states and for both."""
    with tempfile.TemporaryDirectory() as folder:
        states = {}
        for name, sampling in (("llama", ("--temp", 0)), ("transnormer", ("--temp", 0.9)), ("hybrid", ("--temp", 0.9))):
            model, state = ROOT / f"models/demo/demo-{name}.gguf", pathlib.Path(folder) / name
            arguments = ("run", "-m", model, *sampling, "--ignore-eos", "-c", 128, "--json")
            prompt = ("-s", 7, "-p", "Once upon a time")
            whole = fulmen(*arguments, *prompt, "-n", 8).json()["tokens"]
            begun = fulmen(*arguments, *prompt, "-n", 4, "--state-save", state).json()["tokens"]
            rest = fulmen(*arguments, "--state-load", state, "-n", 4, "-c", 96).json()["tokens"]
            assert len(whole) == 8 and begun + rest == whole, (name, begun, rest, whole)
            states[name] = state
        model, state = ROOT / "models/demo/demo-transnormer.gguf", states["transnormer"]
        arguments = ("run", "-m", model, "--temp", 0, "-c", 64, "--json")
        # Only the prompt, then what follows it; and a prompt that goes on.
        read = pathlib.Path(folder) / "read"
        whole = fulmen(*arguments, "-p", "Once upon a time", "-n", 3).json()
        nothing = fulmen(*arguments, "-p", "Once upon a time", "-n", 0, "--state-save", read).json()
        assert nothing["tokens"] == [] and nothing["stop"] == "length", nothing
        assert fulmen(*arguments, "--state-load", read, "-n", 3).json()["tokens"] == whole["tokens"]
        more = fulmen(*arguments, "--state-load", read, "--tokens", "5,6,7", "-n", 1).json()
        assert more["prompt_tokens"] == 4, more
        # Refused.
        refused("run", "-m", DEMO, "--state-load", state, says="another model")
        refused("run", "-m", model, "--state-load", state, "-c", 4, says="do not fit the context of 4")
        refused("run", "-m", model, "--state-load", read, "-p", "x " * 9, "-c", 20, says="do not fit the context of 20")
        refused("run", "-m", model, "--state-load", f"{folder}/none", says="none")
        good = state.read_bytes()
        bad = pathlib.Path(folder) / "bad"
        for content, says in ((good[:-1], "header says"), (b"x" + good[1:], "no saved state"), (b"", str(bad)),
                              (good[:200] + bytes([good[200] ^ 1]) + good[201:], "damaged")):
            bad.write_bytes(content)
            refused("run", "-m", model, "--state-load", bad, says=says)
        refused(*arguments, "-p", "x", "-n", 1, "--state-save", f"{folder}/no/where", says="No such file")


if __name__ == "__main__":
    sys.exit(main())
