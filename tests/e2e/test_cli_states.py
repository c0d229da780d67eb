#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Sequences and conversations that are saved and gone on with, by the command-line tool.

    test_cli_states.py FULMEN SOURCE_ROOT

Runs on whatever device Vulkan finds (tests/support/cli_runner.py). Ends with `N passed, N failed, N skipped`.
"""

import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(sys.argv[2]) / "tests/support"))

from cli_runner import (DEMO, FAILED, FULMEN, MODELS, ROOT, RUNNER, SECONDS, fulmen, main,     # pylint: disable=wrong-import-position
                        refused, test)
from cli_terminal import Terminal     # pylint: disable=wrong-import-position


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


def interrupted(*arguments, bar=None):
    """fulmen run, interrupted (Ctrl-C) at its first output, or as soon as a bar of that name is on the terminal that standard
    error is. -> its output; prompt tokens read, of how many, and tokens generated, as it says."""
    terminal, theirs = pty.openpty()
    child = subprocess.Popen([*RUNNER, FULMEN, "run", *(str(a) for a in arguments)],     # pylint: disable=consider-using-with
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    out, err, open_ends = b"", b"", {terminal, child.stdout.fileno()}
    sent = False
    while open_ends:
        ready, _, _ = select.select(open_ends, [], [], SECONDS)
        assert ready, f"fulmen run: nothing came after {out!r}, {err!r}"
        for end in ready:
            try:
                some = os.read(end, 65536)
            except OSError:     # a terminal without another end
                some = b""
            if not some:
                open_ends.remove(end)
            out, err = (out, err + some) if end == terminal else (out + some, err)
        if not sent and (out if bar is None else bar + b" [" in err):
            sent = True
            child.send_signal(signal.SIGINT)
    child.stdout.close()
    os.close(terminal)
    status = child.wait(timeout=SECONDS)
    told = re.search(rb"fulmen: interrupted: (\d+) of (\d+) prompt tokens read, (\d+) generated; --state-load (\S+) goes on", err)
    assert status == FAILED and told, f"fulmen run: exit status {status}, {out!r}, {err!r}"
    assert told[4].decode() in [str(a) for a in arguments], f"names another file: {err!r}"
    return out, *(int(number) for number in told.groups()[:3])


@test
def an_interrupted_run_goes_on():
    """Stopped by Ctrl-C while it generates, and while it reads a prompt (in steps of 4 tokens, so that there is time)."""
    with tempfile.TemporaryDirectory() as folder:
        state = pathlib.Path(folder) / "state"
        arguments = ("-m", ROOT / "models/demo/demo-hybrid.gguf", "--temp", 0.9, "--ignore-eos", "-c", 2048, "-ub", 8)
        prompt = ("-p", "Once upon a time", "-s", 7)
        out, read, total, made = interrupted(*arguments, *prompt, "--state-save", state)
        assert read == total and 0 < made < 2048 - total, (read, total, made)
        rest = fulmen("run", *arguments, "--state-load", state, "-n", 8, "--json").json()["tokens"]
        whole = fulmen("run", *arguments, *prompt, "-n", made + 8, "--json").json()
        assert rest == whole["tokens"][made:], (made, rest, whole)
        assert out and whole["text"].startswith(out.decode().rstrip("\n\ufffd")), (out, whole)
        arguments = ("-m", MODELS / "mambainllama-2.gguf", "--temp", 0.9, "--ignore-eos", "-c", 4096, "-ub", 4)
        prompt = ("--tokens", ",".join(str(i * 31 % 90) for i in range(2000)), "-s", 7, "-n", 8)
        out, read, total, made = interrupted(*arguments, *prompt, "--state-save", state, bar=b"prompt")
        assert 0 < read < total == 2000 and made == 0 and out == b"", (read, total, made, out)
        rest = fulmen("run", *arguments, "--state-load", state, "-n", 8, "--json").json()
        assert rest["prompt_tokens"] == total - read, (rest, total, read)
        assert rest["tokens"] == fulmen("run", *arguments, *prompt, "--json").json()["tokens"], rest


# ---------------------------------------------------------------------------------------------------- conversations

def kept(messages):
    """How many tokens of the conversation were in the slot, by -v."""
    return next(int(m[1]) for line in messages if (m := re.match(r"prompt: \d+ tokens \((\d+) kept\)", line)))


@test
def saved_conversations_go_on():
    """What is said after /save is what is said after /load in another process: with the seed, what was read, and
    /regen. The hybrid has caches and recurrent states."""
    first, second = "Who are you?", "Tell me a story."
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/talk"
        arguments = ("-m", ROOT / "models/demo/demo-hybrid.gguf", "-n", 16, "-c", 256, "-v", "--temp", 1.5)
        with Terminal(*arguments, "-s", 7, "-sys", "You are kind.") as talk:
            talk.refused("/save " + file, says="nothing was said yet")
            begun, _ = talk.say(first)
            shown, messages = talk.say("/save " + file)
            talk.expect(shown == "" and len(messages) == 1 and file in messages[0], f"/save told {messages}")
            whole = [talk.say(second), talk.say("/regen"), talk.say("/clear"), talk.say(first)]
            talk.leave()
        with Terminal(*arguments) as talk:
            talk.refused("/regen", says="no answer to make again")
            talk.say("Where is the cat?")
            _, messages = talk.say("/load " + file)
            talk.expect(len(messages) == 1 and file in messages[0], f"/load told {messages}")
            rest = [talk.say(second), talk.say("/regen"), talk.say("/clear"), talk.say(first)]
            talk.expect([shown for shown, _ in rest] == [shown for shown, _ in whole], f"went on with {rest}, expected {whole}")
            talk.expect(kept(rest[0][1]) == kept(whole[0][1]) > 20, "the file's state was not gone on from")
            # The last answer before it was saved can be made again, too.
            talk.say("/load " + file)
            again, messages = talk.say("/regen")
            talk.expect(again != "" and kept(messages) >= 0, "no answer was made again")
            talk.leave()
        assert begun and len({shown for shown, _ in whole[:2]}) == 2, (begun, whole)


@test
def what_cannot_be_loaded_leaves_the_conversation():
    first, second, third = "Who are you?", "Tell me a story about a fox.", "Where is the cat?"
    arguments = ("-m", DEMO, "-n", 24, "-c", 512, "-v", "--temp", 0)
    with tempfile.TemporaryDirectory() as folder:
        of_run, other, damaged = (pathlib.Path(folder) / name for name in ("run", "other", "damaged"))
        fulmen("run", "-m", DEMO, "-p", "Once upon a time", "-n", 2, "--state-save", of_run)
        fulmen("run", "-m", ROOT / "models/demo/demo-hybrid.gguf", "-p", "Once", "-n", 1, "--state-save", other)
        good = of_run.read_bytes()
        damaged.write_bytes(good[:200] + bytes([good[200] ^ 1]) + good[201:])
        with Terminal(*arguments) as talk:
            whole = [talk.say(text) for text in (first, second, third)]
            talk.leave()
        with Terminal(*arguments) as talk:
            rest = [talk.say(first)]
            for line, says in (("/load", "/load needs a file"), ("/save  ", "/save needs a file"), ("/load /none", "/none: cannot open"),
                               (f"/load {other}", "the state of another model"), (f"/load {damaged}", "damaged"),
                               (f"/load {ROOT}/README.md", "no saved state"), (f"/save {folder}/no/where", "No such file"),
                               ("/fly", "unknown command '/fly'"), ("/clear all", "unknown command '/clear all'")):
                talk.refused(line, says=says)
            rest.append(talk.say(second))
            talk.expect(kept(rest[1][1]) == kept(whole[1][1]), "the conversation was read again")
            talk.refused(f"/load {of_run}", says="holds no conversation")
            rest.append(talk.say(third))
            talk.expect([shown for shown, _ in rest] == [shown for shown, _ in whole], f"went on with {rest}, expected {whole}")
            talk.leave()


@test
def without_a_terminal_a_slash_is_text():
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "talk"
        result = fulmen("chat", "-m", DEMO, "-n", 4, "--temp", 0, stdin=f"/save {file}\n".encode())
        result.expect(result.out != b"" and not file.exists(), "expected an answer, and no file")


if __name__ == "__main__":
    sys.exit(main())
