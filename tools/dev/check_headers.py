#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compiles every header by itself, so that none leans on what its includer happened to include before.

    tools/dev/check_headers.py BUILD_DIR [COMPILER...]

The include paths and definitions are those that BUILD_DIR's compile_commands.json names for the library. A public
header (include/) must compile with nothing but -I include, and as C++ too. Prints the compiler's words for each header
that fails and ends with `N passed, N failed, N skipped`.
"""

import json
import pathlib
import re
import shlex
import subprocess
import sys

WARNINGS = ["-std=c17", "-fsyntax-only", "-Wall", "-Wextra", "-Wpedantic", "-Wstrict-prototypes", "-Werror"]


def library_flags(build_dir, root):
    """-I, -isystem and -D of all compile commands of src/, with paths made absolute."""
    flags = {}
    for entry in json.loads((build_dir / "compile_commands.json").read_text()):
        if not pathlib.Path(entry["directory"], entry["file"]).resolve().is_relative_to(root / "src"):
            continue
        words = shlex.split(entry["command"])
        for number, word in enumerate(words):
            if word.startswith("-I"):
                flags["-I" + str(pathlib.Path(entry["directory"], word[2:]).resolve())] = None
            elif word.startswith("-isystem"):
                path = word[len("-isystem"):] or words[number + 1]
                flags["-isystem" + str(pathlib.Path(entry["directory"], path).resolve())] = None
            elif word.startswith("-D"):
                flags[word] = None
    return list(flags)


def compile_alone(compiler, flags, header):
    """The compiler's words if the header does not compile by itself, else None. Included twice, to try its guard."""
    text = f'#include "{header}"\n#include "{header}"\nextern int fm_header_is_alone;\n'
    language = "c++" if "++" in compiler else "c"
    result = subprocess.run([compiler, *flags, "-x", language, "-"], input=text, text=True, capture_output=True)
    return result.stderr if result.returncode else None


def main():
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    root = pathlib.Path(__file__).resolve().parents[2]
    build_dir = pathlib.Path(sys.argv[1]).resolve()
    compilers = sys.argv[2:] or ["gcc", "clang"]
    flags = library_flags(build_dir, root)
    public = sorted((root / "include").rglob("*.h"))
    private = [h for folder in ("src", "models") for h in sorted((root / folder).rglob("*.h"))]
    jobs = [(c, [*WARNINGS, f"-I{root / 'include'}"], h) for c in compilers for h in public]
    jobs += [("clang++", ["-fsyntax-only", "-Wall", "-Werror", f"-I{root / 'include'}"], h) for h in public]
    jobs += [(c, [*WARNINGS, *flags], h) for c in compilers for h in private]
    failed = 0
    for compiler, options, header in jobs:
        words = compile_alone(compiler, options, header)
        if words is not None:
            failed += 1
            print(f"{header.relative_to(root)}: does not compile alone with {compiler}")
            print(re.sub(r"^", "    ", words.strip(), flags=re.MULTILINE))
    print(f"{len(jobs) - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed or not jobs else 0


if __name__ == "__main__":
    sys.exit(main())
