# SPDX-License-Identifier: MIT
"""fulmen chat on a pseudo terminal, for tests that cli_runner runs."""

import json
import os
import pathlib
import pty
import re
import select
import subprocess
import tempfile

from cli_runner import DONE, FULMEN, RUNNER, SECONDS


class Terminal:
    """fulmen chat on a pseudo terminal, said one line at a time. Messages (standard error) do not go there. `kind` of a terminal
    (TERM); a dumb one gets nothing but text. `locale`: the environment of the program says so; None: it says nothing."""

    def __init__(self, *arguments, kind="dumb", locale="C.UTF-8"):
        self.arguments = ["chat", *(str(a) for a in arguments)]
        self.shown, self.told = b"", 0
        self.messages = tempfile.TemporaryFile()    # pylint: disable=consider-using-with
        self.ours, theirs = pty.openpty()
        environment = {name: value for name, value in os.environ.items() if name != "LANG" and not name.startswith("LC_")} | {"TERM": kind}
        if locale is not None:
            environment["LC_ALL"] = locale
        self.child = subprocess.Popen([*RUNNER, FULMEN, *self.arguments], stdin=theirs, stdout=theirs, stderr=self.messages,
                                      env=environment)    # pylint: disable=consider-using-with
        os.close(theirs)
        self.read_to_mark()
        self.new_messages()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        os.close(self.ours)
        self.messages.close()

    def expect(self, condition, what):
        if not condition:
            raise AssertionError(f"fulmen {' '.join(self.arguments)}: {what}\n  shown: {self.shown[-600:]!r}")

    def read(self):
        ready, _, _ = select.select([self.ours], [], [], SECONDS)
        self.expect(ready, "nothing came")
        try:
            return os.read(self.ours, 65536)
        except OSError:     # the other end is closed
            return b""

    def read_to_mark(self):
        """To the next "> " at the beginning of a line, or after the request for marks around what is pasted."""
        shown = b""
        while not re.search(rb"(?:^|[\r\n]|\x1b\[\?2004h)> (?:\x1b\[[0-9;]*[A-Za-z])*$", shown):
            some = self.read()
            self.expect(some, "ended before its prompt")
            shown += some
            self.shown += some
        return shown

    def say(self, line):
        """-> what is printed, without the echo of the line and the next prompt; and the new messages, as lines."""
        os.write(self.ours, line.encode() + b"\n")
        shown = self.read_to_mark().decode()[:-2].splitlines()
        while shown and shown[0] == line:   # by the terminal too, if it came before the editor
            shown.pop(0)
        return "\n".join(shown).strip(), self.new_messages()

    def messages_of(self, file):
        """The conversation, as (role, text), as /save puts it into a file."""
        self.send(f"/save {file}\n".encode())
        saved = pathlib.Path(file).read_bytes()
        note = json.JSONDecoder().raw_decode(saved[saved.index(b'{"template"'):].decode("utf-8", "replace"))[0]
        return [(message["role"], message["content"]) for message in note["messages"]]

    def send(self, keys):
        """Keys that end with the one that sends a message or a command; -> what is printed until the next prompt."""
        os.write(self.ours, keys)
        return self.read_to_mark()

    def new_messages(self):
        self.messages.seek(self.told)
        messages = self.messages.read()
        self.told += len(messages)
        return messages.decode().splitlines()

    def refused(self, line, says):
        shown, messages = self.say(line)
        self.expect(shown == "" and len(messages) == 1 and messages[0].startswith("fulmen: ") and says in messages[0],
                    f"{line}: expected one line with '{says}', found {shown!r}, {messages}")

    def leave(self):
        os.write(self.ours, b"/exit\n")
        while some := self.read():
            self.shown += some
        self.expect(self.child.wait(timeout=SECONDS) == DONE, "exit status")
