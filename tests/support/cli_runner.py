# SPDX-License-Identifier: MIT
"""Running the command-line tool in tests, which end with main(). Their first two arguments are FULMEN and SOURCE_ROOT.
FM_TEST_RUNNER, if set, is the command line, in a shell's quotes, that programs are started with."""

import json
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys

FULMEN = sys.argv[1]
ROOT = pathlib.Path(sys.argv[2])
RUNNER = shlex.split(os.environ.get("FM_TEST_RUNNER", ""))
DEMO = ROOT / "models/demo/demo-llama.gguf"
MODELS = ROOT / "tests/fixtures/models"
TINY = MODELS / "llama.gguf"        # F32 weights, no tokenizer
DONE, FAILED, BAD_INPUT, NO_DEVICE = 0, 1, 2, 3
SECONDS = 300
LAYER_LINE = re.compile(rb"^Validation Layer Info - Logging [^\n]*\n", re.MULTILINE)  # of tools/dev/device.sh with FM_VALIDATION_DIR

# Whoever started the tests may ignore it (nohup), and the tool would go on to: what is caught here is as ever in a new program.
signal.signal(signal.SIGHUP, lambda *_: None)

tests = []


def test(function):
    tests.append(function)
    return function


class Skipped(Exception):
    """Raised by a test that cannot run here; it is counted, with the reason."""


class Result:
    def __init__(self, arguments, done):
        self.arguments = arguments
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr
        if self.out and "FM_VALIDATION_DIR" in os.environ:
            self.out = LAYER_LINE.sub(b"", self.out)

    def text(self):
        return self.out.decode("utf-8")

    def json(self):
        return json.loads(self.text())

    def expect(self, condition, what):
        if not condition:
            raise AssertionError(f"fulmen {' '.join(self.arguments)}: {what}\n  exit status {self.status}\n"
                                 f"  stdout: {self.out[-600:]!r}\n  stderr: {self.err[-600:]!r}")


def fulmen(*arguments, status=DONE, stdin=b"", no_driver=False, stdout=subprocess.PIPE, env_more=None, **options):
    """Runs the tool. Whatever happens it must not be a crash, and with no terminal nothing may be painted on one. no_driver: True,
    or what the loader is told to take for the manifests of the drivers."""
    arguments = [str(a) for a in arguments]
    environment = dict(os.environ) | (env_more or {})
    runner = RUNNER
    if no_driver:
        absent = ROOT / "README.md/no-such-file.json"      # below a file, so it cannot be there
        manifests = str(absent if no_driver is True else no_driver)
        environment |= {"VK_DRIVER_FILES": manifests, "VK_ICD_FILENAMES": manifests}
        runner = []     # it would set its own driver
    done = subprocess.run([*runner, FULMEN, *arguments], input=stdin, stdout=stdout, stderr=subprocess.PIPE, env=environment,
                          timeout=SECONDS, check=False, **options)
    result = Result(arguments, done)
    result.expect(done.returncode == status, f"expected exit status {status}")
    result.expect(b"\r" not in done.stderr and b"\x1b" not in done.stderr, "paints on what is no terminal")
    return result


def refused(*arguments, says, status=BAD_INPUT, **options):
    """A refusal is one line that says what was wrong, perhaps after the one that names the device, and nothing on standard
    output."""
    result = fulmen(*arguments, status=status, **options)
    lines = [line for line in result.err.decode("utf-8").splitlines() if not line.startswith("device: ")]
    result.expect(len(lines) == 1 and lines[0].startswith("fulmen: "), "expected one line on standard error")
    result.expect(says in lines[0], f"expected '{says}' in the message")
    result.expect(result.out == b"", "expected nothing on standard output")


def main():
    failed = skipped = 0
    for function in tests:
        try:
            function()
            print(f"ok   {function.__name__}", flush=True)
        except Skipped as reason:
            skipped += 1
            print(f"skip {function.__name__}: {reason}", flush=True)
        except (AssertionError, KeyError, IndexError, StopIteration, ValueError, OSError, subprocess.TimeoutExpired) as error:
            failed += 1
            print(f"FAIL {function.__name__}: {type(error).__name__}: {error}", flush=True)
    print(f"{len(tests) - failed - skipped} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0
