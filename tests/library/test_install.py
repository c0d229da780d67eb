#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Installs a build into a folder and builds programs against it with pkg-config: test_install.py SOURCE BUILD

The C program is examples/chat.c, the C++ program is below. Each is linked with the shared library, and with the static one
and the other libraries shared (not every distribution has static ones of all), and run until the library reports an error.
"""

import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

SOURCE, BUILD = map(pathlib.Path, sys.argv[1:3])

CPP = """// Calls the library from C++.
#include <cstdio>
#include <cstring>
#include <fulmen/fulmen.h>

int main()
{
    struct fm_model *model = nullptr;
    bool same = std::strcmp(fm_version(), FM_VERSION_STRING) == 0;
    std::fprintf(stderr, "%s\\n", fm_model_open("no-such-file.gguf", &model) == FM_OK ? "opened" : fm_error_message());
    return same && model == nullptr ? 1 : 3;
}
"""


def output(command, **options):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", check=False, **options)
    if done.returncode != 0:
        sys.exit(f"{shlex.join(map(str, command))}: exit status {done.returncode}\n{done.stdout}")
    return done.stdout


def pkg_config(prefix, *arguments):
    escaped = re.sub(r"([^\w./-])", r"\\\1", str(prefix))
    environment = dict(os.environ, PKG_CONFIG_PATH=":".join(str(f.parent) for f in prefix.rglob("fulmen.pc")))
    return shlex.split(output(["pkg-config", f"--define-variable=prefix={escaped}", *arguments, "fulmen"],
                              env=environment))


def runs(program, libraries, folder):
    """The program must fail on a file that is not there, with the library's message."""
    done = subprocess.run([program, folder / "no-such-file.gguf"], cwd=folder, stderr=subprocess.PIPE, text=True, errors="replace",
                          env=dict(os.environ, LD_LIBRARY_PATH=str(libraries)), stdout=subprocess.DEVNULL, check=False)
    if done.returncode != 1 or "no-such-file.gguf" not in done.stderr:
        sys.exit(f"{program.name}: expected exit status 1 and a message on no-such-file.gguf, found {done.returncode} and "
                 f"'{done.stderr.strip()}'")


def main():
    with tempfile.TemporaryDirectory(prefix="fulmen install ") as name:
        folder = pathlib.Path(name).resolve()
        output(["meson", "install", "-C", BUILD, "--no-rebuild", "--destdir", folder / "root"])
        prefix = next((folder / "root").rglob("bin/fulmen")).parents[1]
        libraries = next(prefix.rglob("libfulmen.a")).parent
        (folder / "call.cpp").write_text(CPP, encoding="utf-8")
        static = ["-l:libfulmen.a" if word == "-lfulmen" else word for word in pkg_config(prefix, "--static", "--libs")]
        for compiler, source in (("cc", SOURCE / "examples/chat.c"), ("c++", folder / "call.cpp")):
            for kind, words in (("shared", pkg_config(prefix, "--libs")), ("static", static)):
                program = folder / f"{source.stem}-{kind}"
                output([compiler, source, *pkg_config(prefix, "--cflags"), *words, "-o", program])
                needed = "libfulmen.so" in output(["readelf", "--dynamic", program])
                if needed != (kind == "shared"):
                    sys.exit(f"{program.name}: linked with {'the shared' if needed else 'no shared'} library")
                runs(program, libraries, folder)
        output([prefix / "bin/fulmen", "--version"])
    print("4 passed, 0 failed, 0 skipped")


if __name__ == "__main__":
    main()
