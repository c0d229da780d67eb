#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Files that the command-line tool writes: which it refuses to write, and what is left when something fails.

    test_cli_files.py FULMEN SOURCE_ROOT

Runs on whatever device Vulkan finds (tests/support/cli_runner.py). Ends with `N passed, N failed, N skipped`.
"""

import os
import pathlib
import pty
import resource
import select
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(sys.argv[2]) / "tests/support"))

from checkpoint_back import fixture_checkpoint, write_folder     # pylint: disable=wrong-import-position
from cli_runner import (BAD_INPUT, DEMO, DONE, FAILED, FULMEN, MODELS, RUNNER, SECONDS,     # pylint: disable=wrong-import-position
                        Skipped, fulmen, main, refused, test)

NOBODY = 65534
RUN = ("-p", "Once upon a time", "-n", 2, "-c", 64, "--temp", 0)


def in_folder(function):
    """The test gets an empty folder, with a model of its own in it: model.gguf."""
    def wrapped():
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            shutil.copy(DEMO, folder / "model.gguf")
            function(folder)
    wrapped.__name__ = function.__name__
    return wrapped


def writers(folder, target):
    """Every command that writes a file, with that target."""
    model = folder / "model.gguf"
    return (("run", "-m", model, *RUN, "--state-save", target),
            ("bench", "-m", model, "-p", 4, "-n", 0, "-r", 1, "--plot", target),
            ("logits", "-m", model, "-p", "Once", "-o", target),
            ("quantize", model, target, "q8_0"))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# ---------------------------------------------------------------------------------------------------- targets

@test
@in_folder
def the_model_is_never_written(folder):
    """Under whatever name, and told before anything is done: the device is not even opened."""
    model = folder / "model.gguf"
    before = model.read_bytes()
    os.link(model, folder / "hard")
    (folder / "soft").symlink_to("model.gguf")
    for target in (model, folder / "hard", folder / "soft", folder / ".." / folder.name / "model.gguf"):
        for arguments in writers(folder, target):
            result = fulmen(*arguments, status=BAD_INPUT, no_driver=True)
            result.expect(b"would replace a file that is read" in result.err and result.err.count(b"\n") == 1, "expected the reason")
            assert model.read_bytes() == before, arguments
    assert names(folder) == ["hard", "model.gguf", "soft"] and (folder / "soft").is_symlink(), names(folder)


@test
@in_folder
def the_prompt_is_not_written(folder):
    prompt = folder / "prompt.txt"
    prompt.write_text("Once upon a time\n", encoding="utf-8")
    for command, option in (("run", "--state-save"), ("logits", "-o")):
        refused(command, "-m", DEMO, "-f", prompt, option, prompt, says="would replace a file that is read")
        arguments = [*RUNNER, FULMEN, command, "-m", str(DEMO), "-f", "-", option, str(prompt)]
        with open(prompt, "rb") as file:
            done = subprocess.run(arguments, stdin=file, capture_output=True, timeout=SECONDS, check=False)
        assert done.returncode == BAD_INPUT and b"would replace a file that is read" in done.stderr, done
    assert prompt.read_text(encoding="utf-8") == "Once upon a time\n"


@test
@in_folder
def the_tuning_is_not_written(folder):
    tuning = folder / "tuning.txt"
    tuning.write_text("attend_part_keys = 32\n", encoding="utf-8")
    for command, option in (("run", "--state-save"), ("logits", "-o"), ("bench", "--plot")):
        more = () if command == "bench" else ("--tokens", "5")
        refused(command, "-m", DEMO, *more, "--tuning", tuning, option, tuning, says="would replace a file that is read")
    assert tuning.read_text(encoding="utf-8") == "attend_part_keys = 32\n"


@test
@in_folder
def a_reader_that_leaves_costs_no_state(folder):
    state = folder / "state"
    with subprocess.Popen([*RUNNER, FULMEN, "run", "-m", str(DEMO), "-p", "Once", "-n", "50", "--ignore-eos", "--state-save", str(state)],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        child.stdout.read(3)
        child.stdout.close()
        assert child.wait(timeout=SECONDS) == 0
    assert state.stat().st_size > 1000


@test
@in_folder
def only_a_regular_file_or_a_new_name_is_written(folder):
    os.mkfifo(folder / "pipe")
    (folder / "sub").mkdir()
    (folder / "null").symlink_to("/dev/null")
    for name, says in (("pipe", "is a pipe"), ("sub", "is a directory"), ("null", "is a device"), ("no/where", "No such file"),
                       ("new/", "new/"), ("n" * 256, "too long"), ("model.gguf/x", "Not a directory")):
        for arguments in writers(folder, f"{folder}/{name}"):
            result = fulmen(*arguments, status=BAD_INPUT, no_driver=True)
            result.expect(says.encode() in result.err and result.err.count(b"\n") == 1, f"expected '{says}'")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode) and (folder / "null").is_symlink()
    assert stat.S_ISFIFO(os.stat(folder / "pipe").st_mode)
    assert names(folder) == ["model.gguf", "null", "pipe", "sub"] and not names(folder / "sub"), names(folder)


@test
@in_folder
def a_device_node_stays(folder):
    try:
        os.mknod(folder / "node", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError as error:
        raise Skipped("only root makes device nodes") from error
    for arguments in writers(folder, folder / "node"):
        result = fulmen(*arguments, status=BAD_INPUT, no_driver=True)
        result.expect(b"is a device" in result.err, "expected the reason")
    assert stat.S_ISCHR(os.lstat(folder / "node").st_mode)


@test
@in_folder
def links_are_followed(folder):
    (folder / "sub").mkdir()
    (folder / "sub/old").write_bytes(b"old")
    (folder / "to-old").symlink_to("sub/old")
    (folder / "to-new").symlink_to(folder / "sub/new")
    for name in ("old", "new"):
        fulmen("run", "-m", DEMO, *RUN, "--state-save", folder / f"to-{name}")
        assert (folder / f"to-{name}").is_symlink() and not (folder / "sub" / name).is_symlink()
        assert (folder / "sub" / name).read_bytes()[:8] == b"FMSTATE1"
        fulmen("run", "-m", DEMO, "-n", 2, "-c", 64, "--state-load", folder / f"to-{name}", "--state-save", folder / f"to-{name}")
    assert names(folder / "sub") == ["new", "old"], names(folder / "sub")


@test
@in_folder
def states_are_their_owners_alone(folder):
    state = folder / "state"
    old = os.umask(0)
    try:
        fulmen("run", "-m", DEMO, *RUN, "--state-save", state)
        assert stat.S_IMODE(state.stat().st_mode) == 0o600, oct(state.stat().st_mode)
        state.chmod(0o644)
        fulmen("run", "-m", DEMO, *RUN, "--state-save", state)
        assert stat.S_IMODE(state.stat().st_mode) == 0o600, oct(state.stat().st_mode)
        fulmen("logits", "-m", DEMO, "-p", "Once", "-o", folder / "logits")
        assert stat.S_IMODE((folder / "logits").stat().st_mode) == 0o666
        (folder / "logits").chmod(0o640)
        fulmen("logits", "-m", DEMO, "-p", "Once", "-o", folder / "logits")
        assert stat.S_IMODE((folder / "logits").stat().st_mode) == 0o640
    finally:
        os.umask(old)


@test
@in_folder
def a_link_under_a_foreseen_name_is_not_followed(folder):
    """A temporary named after the process could be foreseen: a link of that name led elsewhere."""
    victim, state = folder / "victim", folder / "state"
    victim.write_bytes(b"victim")
    script = 'for tail in "$$.part" "$$" part tmp; do ln -s "$1" "$2.$tail"; done; shift 2; exec "$@"'
    subprocess.run(["sh", "-c", script, "sh", victim, state, *RUNNER, FULMEN, "run", "-m", DEMO, *(str(a) for a in RUN),
                    "--state-save", state], check=True, capture_output=True, timeout=SECONDS)
    assert victim.read_bytes() == b"victim" and state.read_bytes()[:8] == b"FMSTATE1" and not state.is_symlink()


@test
@in_folder
def a_checkpoint_is_not_written(folder):
    checkpoint = folder / "checkpoint"
    write_folder(checkpoint, *fixture_checkpoint("llama"))
    kept = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    os.link(checkpoint / "model.safetensors", folder / "hard")
    (folder / "soft").symlink_to("checkpoint/config.json")
    for target in (*(checkpoint / name for name in kept), folder / "hard", folder / "soft"):
        refused("convert", checkpoint, "-o", target, says="would replace a file that is read")
    refused("convert", checkpoint, "-o", checkpoint, says="is a directory")
    assert kept == {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    for _ in range(2):  # an earlier result is no part of it
        fulmen("convert", checkpoint, "-o", checkpoint / "out.gguf")
    assert names(checkpoint) == sorted([*kept, "out.gguf"])


# ---------------------------------------------------------------------------------------------------- failures

def limit_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@test
@in_folder
def a_full_disk_keeps_the_old_file(folder):
    """A limit on the size of files stands for it."""
    target = folder / "target"
    for old in (b"old", None):
        for arguments in writers(folder, target):
            if old is not None:
                target.write_bytes(old)
            result = fulmen(*arguments, status=FAILED, preexec_fn=limit_files)
            result.expect(b"target: cannot write: File too large" in result.err, "expected the reason")
            assert names(folder) == (["model.gguf", "target"] if old else ["model.gguf"]), names(folder)
            assert old is None or target.read_bytes() == old
        target.unlink(missing_ok=True)


@test
@in_folder
def a_read_only_folder_is_told_before_the_work(folder):
    shutil.copy(FULMEN, folder / "fulmen")  # where it lies may be closed to others
    folder.chmod(0o755)
    (folder / "sub").mkdir()
    (folder / "sub/old").write_bytes(b"old")
    (folder / "sub").chmod(0o555)
    another = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}    # rights do not bind root
    for name in ("old", "new"):
        for arguments in writers(folder, folder / "sub" / name):
            done = subprocess.run([folder / "fulmen", *(str(a) for a in arguments)], stdin=subprocess.DEVNULL, capture_output=True,
                                  timeout=SECONDS, check=False, **another)
            assert done.returncode == FAILED and b"Permission denied" in done.stderr and b"device" not in done.stderr, done
    assert names(folder / "sub") == ["old"] and (folder / "sub/old").read_bytes() == b"old"
    (folder / "sub").chmod(0o755)


def begun(*arguments, runner=tuple(RUNNER), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=None):
    """fulmen, running."""
    return subprocess.Popen([*runner, FULMEN, *(str(a) for a in arguments)],     # pylint: disable=consider-using-with
                            stdin=stdin, stdout=stdout, stderr=stderr, env=env)


@test
@in_folder
def what_a_kill_left_goes_with_the_next_writer(folder):
    """A command that is killed as soon as its temporary is seen, a few times over, and then one that is not."""
    sub, model = folder / "sub", folder / "large.gguf"
    sub.mkdir()
    large_model(model)
    left = 0
    for _ in range(5):
        child = begun("quantize", model, sub / "out.gguf", "q4_0", runner=())
        end = time.monotonic() + SECONDS
        seen = set(names(sub))
        while set(names(sub)) <= seen and child.poll() is None and time.monotonic() < end:
            time.sleep(0.001)
        child.kill()
        child.communicate(timeout=SECONDS)
        left += child.returncode == -signal.SIGKILL
        assert len(names(sub)) <= 1, names(sub)     # each writer removed what the one before left
    assert left > 0 and len(names(sub)) == 1, (left, names(sub))
    fulmen("quantize", model, sub / "out.gguf", "q4_0")
    assert names(sub) == ["out.gguf"], names(sub)


def large_model(path):
    """A GGUF file of one F32 tensor of 64 MB."""
    rows, cols = 4096, 4096

    def text(value):
        return struct.pack("<Q", len(value)) + value
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + text(b"general.architecture") + struct.pack("<I", 8) + text(b"none")
    head += text(b"w") + struct.pack("<IQQIQ", 2, cols, rows, 0, 0)
    head += bytes(-len(head) % 32)
    row = struct.pack(f"<{cols}f", *((i * 37 % 101 - 50) / 50 for i in range(cols)))
    with open(path, "wb") as file:
        file.write(head)
        for _ in range(rows):
            file.write(row)


@test
@in_folder
def two_that_save_to_one_path_leave_a_whole_file(folder):
    state = folder / "state"
    for _ in range(3):
        children = [begun("run", "-m", DEMO, "-p", text, "-n", n, "-c", 128, "--temp", 0, "--state-save", state)
                    for text, n in (("Once", 2), ("There was a fox in the wood", 60))]
        for child in children:
            err = child.communicate(timeout=SECONDS)[1]
            assert child.returncode == DONE, err
        assert names(folder) == ["model.gguf", "state"], names(folder)
        fulmen("run", "-m", DEMO, "-n", 2, "-c", 128, "--state-load", state)


# ---------------------------------------------------------------------------------------------------- chat

class Chat:
    """fulmen chat on a pseudo terminal; messages (standard error) come to a file."""

    def __init__(self, *arguments):
        self.messages = tempfile.TemporaryFile()    # pylint: disable=consider-using-with
        self.ours, theirs = pty.openpty()
        self.child = begun("chat", *arguments, stdin=theirs, stdout=theirs, stderr=self.messages, env=os.environ | {"TERM": "dumb"})
        os.close(theirs)
        self.told = 0
        self.wait()
        self.new_messages()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.kill()
        self.child.wait()
        os.close(self.ours)
        self.messages.close()

    def wait(self):
        shown = b""
        while not (b"\n" + shown).endswith(b"\n> "):
            ready, _, _ = select.select([self.ours], [], [], SECONDS)
            assert ready, f"chat: nothing came after {shown!r}"
            shown += os.read(self.ours, 65536)

    def new_messages(self):
        self.messages.seek(self.told)
        text = self.messages.read()
        self.told += len(text)
        return text.decode()

    def say(self, line):
        os.write(self.ours, line.encode() + b"\n")
        self.wait()
        return self.new_messages()


@test
@in_folder
def a_conversation_is_not_saved_over_the_model(folder):
    model, moved, notes = folder / "model.gguf", folder / "moved.gguf", folder / "notes.txt"
    notes.write_text("Hello.", encoding="utf-8")
    before = model.read_bytes()
    os.link(model, folder / "hard")
    os.mkfifo(folder / "pipe")
    tuning = folder / "tuning.txt"
    tuning.write_text("attend_part_keys = 32\n", encoding="utf-8")
    with Chat("-m", model, "-n", 4, "-c", 128, "--temp", 0, "--tuning", tuning) as chat:
        chat.say("Who are you?")
        assert "would replace a file that is read" in chat.say(f"/save {tuning}")
        tuning.unlink()
        chat.say(f"/read {notes}")
        assert "would replace a file that is read" in chat.say(f"/save {notes}") and notes.read_text(encoding="utf-8") == "Hello."
        notes.unlink()
        for name, says in (("model.gguf", "is the model's file"), ("hard", "is the model's file"), ("pipe", "is a pipe"),
                           (".", "is a directory"), ("no/where", "No such file")):
            told = chat.say(f"/save {folder}/{name}")
            assert says in told and told.count("\n") == 1, (name, told)
        model.rename(moved)     # it is in use under any name
        assert "is the model's file" in chat.say(f"/save {moved}")
        assert "saved" in chat.say(f"/save {folder}/talk")
        assert "loaded" in chat.say(f"/load {folder}/talk") and "saved" in chat.say(f"/save {folder}/talk")
    assert moved.read_bytes() == before and stat.S_IMODE((folder / "talk").stat().st_mode) == 0o600
    assert names(folder) == ["hard", "moved.gguf", "pipe", "talk"], names(folder)


# ---------------------------------------------------------------------------------------------------- caches

def with_cache(folder):
    result = fulmen("run", "-m", MODELS / "llama.gguf", "--tokens", "1,2", "-n", 1, "-c", 16, env_more={"FULMEN_CACHE_DIR": str(folder)})
    return [line for line in result.err.decode().splitlines() if "the cache is not used" in line]


@test
@in_folder
def a_cache_that_is_not_to_be_trusted_is_not_used(folder):
    cache = folder / "cache"
    assert not with_cache(cache)
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    files = sorted(cache.iterdir())
    assert files and all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files), files
    for file in files:  # a pipe under its name: nothing waits for its other end
        file.unlink()
        os.mkfifo(file)
    told = with_cache(cache)
    assert len(told) == 1 and told[0].startswith("fulmen: warning: ") and "is no regular file" in told[0], told
    assert sorted(cache.iterdir()) == files and all(stat.S_ISFIFO(file.stat().st_mode) for file in files)
    for file in files:
        file.unlink()
    cache.chmod(0o777)
    told = with_cache(cache)
    assert len(told) == 1 and "others may write it" in told[0] and not names(cache), (told, names(cache))
    cache.chmod(0o700)
    if os.geteuid() == 0:
        os.chown(cache, NOBODY, NOBODY)
        told = with_cache(cache)
        assert len(told) == 1 and "another user's" in told[0] and not names(cache), (told, names(cache))


@test
@in_folder
def reserved_words_of_a_state_are_zero(folder):
    state = folder / "state"
    fulmen("run", "-m", DEMO, *RUN, "--state-save", state)
    good = state.read_bytes()
    assert good[56:64] == bytes(8)
    for at in (56, 63):
        state.write_bytes(good[:at] + b"\x01" + good[at + 1:])
        refused("run", "-m", DEMO, "--state-load", state, "-c", 64, says="reserved words")


if __name__ == "__main__":
    sys.exit(main())
