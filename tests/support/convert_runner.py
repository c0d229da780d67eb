# SPDX-License-Identifier: MIT
"""Running the converter in tests, which end with main(). Their first two arguments are FULMEN and SOURCE_ROOT. Every test
gets an empty folder of its own."""

import pathlib
import subprocess
import sys
import tempfile
import traceback

FULMEN = sys.argv[1]
ROOT = pathlib.Path(sys.argv[2])
DONE, BAD_INPUT = 0, 2
SECONDS = 300

tests = []


def test(function):
    tests.append((function.__name__, function))
    return function


def run(*arguments, status=DONE):
    arguments = [str(a) for a in arguments]
    done = subprocess.run([FULMEN, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False)
    err = done.stderr.decode("utf-8", "backslashreplace")
    if done.returncode != status:
        raise AssertionError(f"fulmen {' '.join(arguments)}: exit status {done.returncode}, expected {status}\n{err}")
    if done.stdout:
        raise AssertionError(f"fulmen {' '.join(arguments)}: wrote to standard output")
    return err


def refused(folder, *arguments, says, lines=1):
    """One line (or as many as said) that says what was wrong, and no file, not even a temporary one."""
    out = folder / "refused" / "out.gguf"
    out.parent.mkdir(exist_ok=True)
    err = run("convert", folder, "-o", out, *arguments, status=BAD_INPUT)
    expect(len(err.splitlines()) == lines, f"expected {lines} lines:\n{err}")
    expect(says in err, f"expected '{says}' in:\n{err}")
    expect(not list(out.parent.iterdir()), f"left behind: {list(out.parent.iterdir())}")


def expect(condition, what):
    if not condition:
        raise AssertionError(what)


def main():
    failed = 0
    for name, function in tests:
        with tempfile.TemporaryDirectory() as folder:
            try:
                function(pathlib.Path(folder))
            except Exception:   # pylint: disable=broad-except
                failed += 1
                print(f"FAILED {name}\n{traceback.format_exc()}")
    print(f"{len(tests) - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0
