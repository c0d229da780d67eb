#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Signals end whatever the tool is doing, long before its work is done.

    test_cli_signals.py FULMEN SOURCE_ROOT

Every command gets work for minutes and a signal once it is in the middle of it. Ends with `N passed, N failed, N skipped`.
"""

import os
import pathlib
import pty
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(sys.argv[2]) / "tests/support"))

from cli_runner import DEMO, FAILED, FULMEN, RUNNER, SECONDS, TINY, main, test     # pylint: disable=wrong-import-position

class Working:
    """fulmen at work. Its standard error is a terminal, so that it shows its bars; its standard output is a pipe."""

    def __init__(self, *arguments, stdin=subprocess.DEVNULL):
        self.arguments = [str(a) for a in arguments]
        self.terminal, theirs = pty.openpty()
        self.child = subprocess.Popen([*RUNNER, FULMEN, *self.arguments], stdin=stdin,    # pylint: disable=consider-using-with
                                      stdout=subprocess.PIPE, stderr=theirs)
        os.close(theirs)
        self.out, self.err = b"", b""
        self.ends = {self.terminal, self.child.stdout.fileno()}

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        self.child.stdout.close()
        os.close(self.terminal)

    def expect(self, condition, what):
        if not condition:
            raise AssertionError(f"fulmen {' '.join(self.arguments)}: {what}\n  stdout: {self.out[-300:]!r}\n  stderr: {self.err[-600:]!r}")

    def listen(self):
        """Until something comes, or an end is closed."""
        ready, _, _ = select.select(self.ends, [], [], SECONDS)
        self.expect(ready, "nothing came")
        for end in ready:
            try:
                some = os.read(end, 65536)
            except OSError:     # a terminal without another end
                some = b""
            if not some:
                self.ends.remove(end)
            self.out, self.err = (self.out, self.err + some) if end == self.terminal else (self.out + some, self.err)

    def wait_for(self, out=None, err=None):
        while (out is not None and out not in self.out) or (err is not None and err not in self.err):
            self.expect(self.ends, "ended before its work began")
            self.listen()

    def end_by(self, number):
        self.child.send_signal(number)
        while self.ends:
            self.listen()
        return self.child.wait(timeout=SECONDS)


def interrupted(*arguments, out=None, err=None, says=b"cancelled", numbers=(signal.SIGINT, signal.SIGTERM)):
    for number in numbers:
        with Working(*arguments) as work:
            work.wait_for(out, err)
            status = work.end_by(number)
            work.expect(status == FAILED, f"{number}: exit status {status}")
            work.expect(says in work.err, f"expected '{says.decode()}'")


def big_gguf(path):
    """One matrix of 2^29 halves, all zero, that take no room on the disk."""
    name, key = b"blk.0.ffn_up.weight", b"general.architecture"
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 1)
    head += struct.pack("<Q", len(key)) + key + struct.pack("<IQ", 8, 4) + b"none"
    head += struct.pack("<Q", len(name)) + name + struct.pack("<IQQIQ", 2, 4096, 1 << 17, 1, 0)
    head += bytes(-len(head) % 32)
    path.write_bytes(head)
    os.truncate(path, len(head) + (1 << 30))


@test
def quantizing():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        big_gguf(folder / "big.gguf")
        interrupted("quantize", folder / "big.gguf", folder / "out.gguf", "q4_k", err=b"quantizing [")
        assert [file.name for file in folder.iterdir()] == ["big.gguf"]


@test
def measuring_and_checking():
    interrupted("bench", "-m", TINY, "-p", 1, "-n", ",".join(["120"] * 400), "-r", 50, out=b"| pp1 ")
    interrupted("check", "-v", "--rung", "base", out=b"ok ")
    interrupted("bench", "kernels", "--op", "norm", "-r", 100000, err=b"measuring", says=b"fulmen: ")


@test
def perplexity():
    with tempfile.TemporaryDirectory() as folder:
        text = pathlib.Path(folder) / "text"
        text.write_text("The fox went home and was cheerful. " * 20000)
        interrupted("perplexity", "-m", DEMO, "-f", text, "-c", 64, out=b"[1]")


@test
def loading():
    interrupted("bench", "--shape", "llama-1b:q4_0", "-p", 4, "-n", 0, "-r", 1, err=b"loading [")


@test
def generating_and_reading():
    interrupted("run", "-m", DEMO, "-p", "Once", "--ignore-eos", "-n", -1, "-c", 2048, out=b" ")
    interrupted("run", "-m", DEMO, "--tokens", ",".join(["5"] * 2000), "-c", 2048, "-ub", 4, err=b"prompt [")
    interrupted("logits", "-m", DEMO, "--tokens", ",".join(["5"] * 2000), "-c", 2048, "-ub", 4, "--all", out=b"\0")


@test
def waiting_for_a_text():
    """Standard input that never ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        for command in (("tokenize", "-m", DEMO, "-f", "-"), ("chat", "-m", DEMO, "-f", "-"), ("run", "-m", DEMO, "-f", "-")):
            with Working(*command, stdin=subprocess.PIPE) as work:
                for _ in range(40):
                    work.child.stdin.write(b"word " * 10000)    # more than a pipe holds: it is being read
                work.child.stdin.flush()
                status = work.end_by(number)
                work.child.stdin.close()
                work.expect(status == FAILED and b"fulmen: interrupted" in work.err, f"exit status {status}")


@test
def tokenizing():
    with tempfile.TemporaryDirectory() as folder:
        text = pathlib.Path(folder) / "text"
        with open(text, "wb") as file:
            file.write(b"The fox went home, and was cheerful. " * (1 << 20))
        for more in ((), ("--json",)):
            interrupted("tokenize", "-m", DEMO, "-f", text, *more, out=b"1", says=b"fulmen: interrupted")


@test
def a_reader_that_does_not_read():
    """Standard output is a pipe that is full, as under a pager that waits."""
    with tempfile.TemporaryDirectory() as folder:
        state, text = pathlib.Path(folder) / "state", pathlib.Path(folder) / "text"
        text.write_text("The fox went home. " * 100000, encoding="utf-8")
        for command in (("tokenize", "-m", DEMO, "-f", text), ("logits", "-m", TINY, "--tokens", ",".join(["5"] * 200), "--all"),
                        ("run", "-m", DEMO, "-p", "Once", "--ignore-eos", "-n", -1, "-c", 2048, "--state-save", state)):
            theirs, ours = os.pipe()
            os.set_blocking(ours, False)
            try:
                while True:
                    os.write(ours, bytes(4096))
            except BlockingIOError:
                os.set_blocking(ours, True)
            with subprocess.Popen([*RUNNER, FULMEN, *map(str, command)], stdout=ours, stderr=subprocess.PIPE) as child:
                os.close(ours)
                while not is_asleep_in_a_write(child.pid):
                    time.sleep(0.05)
                child.send_signal(signal.SIGINT)
                told = child.communicate(timeout=SECONDS)[1]
            os.close(theirs)
            assert child.returncode == FAILED and b"interrupted" in told, (command, child.returncode, told)
        assert state.stat().st_size > 1000


def is_asleep_in_a_write(pid):
    """In a system call on standard output: the number of the call differs between processors, its first argument is 1."""
    return pathlib.Path(f"/proc/{pid}/syscall").read_text(encoding="ascii").split()[1:2] == ["0x1"]


@test
def a_state_is_saved_all_the_same():
    with tempfile.TemporaryDirectory() as folder:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            state = pathlib.Path(folder) / str(int(number))
            interrupted("run", "-m", DEMO, "-p", "Once", "--ignore-eos", "-n", -1, "-c", 2048, "--state-save", state, out=b" ",
                        says=b"goes on", numbers=(number,))
            assert state.stat().st_size > 1000, number


@test
def a_second_signal_ends_it_at_once():
    """While a step of many tokens is in flight, which the first signal waits for."""
    with Working("run", "-m", DEMO, "--tokens", ",".join(["5"] * 2000), "-n", 1, "-c", 2048, "-ub", 2000, "-ctk", "f32") as work:
        work.wait_for(err=b"device: ")
        work.child.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        status = work.end_by(signal.SIGINT) if work.child.poll() is None else FAILED
        work.expect(status in (FAILED, -signal.SIGINT), f"exit status {status}")


if __name__ == "__main__":
    sys.exit(main())
