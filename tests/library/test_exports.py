#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The library defines no name for others to meet but its own: test_exports.py NM LIBRARY

Of a shared library the dynamic symbols count, of a static one all that are not local to an object.
"""

import pathlib
import re
import subprocess
import sys

# Under sanitizers the compiler adds names of its own.
OURS = re.compile(r"fm_\w+|__odr_asan(?:_gen_|\.)fm_\w+")


def main():
    nm, library = sys.argv[1:]
    shared = ".so" in pathlib.Path(library).name
    done = subprocess.run([nm, "--defined-only", "--extern-only", "--format=posix", *(["--dynamic"] if shared else []), library],
                          stdout=subprocess.PIPE, text=True, check=True)
    names = {line.split()[0] for line in done.stdout.splitlines() if len(line.split()) >= 2}
    if "fm_device_open" not in names:
        print(f"{library}: fm_device_open is not there ({len(names)} names)")
        return 1
    foreign = sorted(name for name in names if not OURS.fullmatch(name))
    for name in foreign[:20]:
        print(f"{library}: defines {name}")
    if shared:
        foreign += internal_names(names)
    print(f"{library}: {len(names)} names, {len(foreign)} that should not be there")
    return 1 if foreign else 0


def internal_names(names):
    """Names of a shared library that no public header declares."""
    headers = (pathlib.Path(__file__).resolve().parents[2] / "include/fulmen").glob("*.h")
    declared = set(re.findall(r"\b(fm_\w+)\(", "".join(header.read_text(encoding="utf-8") for header in headers)))
    internal = sorted(name for name in names if name.startswith("fm_") and name not in declared)
    for name in internal:
        print(f"exported, but in no public header: {name}")
    return internal


if __name__ == "__main__":
    sys.exit(main())
