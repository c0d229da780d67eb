#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks that the sources keep to the house rules of src/README.md.

    tools/dev/check_layers.py [--root DIR]

- Includes run one way: base <- quant, format, text <- graph <- pass, ref, kernel, convert <- plan <- vk <- run, check. Folders
  of one layer may include one another as long as they form no circle. models/ sees base, format and graph; tools/ and examples
  see the public headers, tools/ also kernel, plan and check for the commands that print them.
- getenv stands in base/env.c alone, Vulkan's names in vk/ alone, vendors' names in kernel/quirks alone.
- The library never ends the process: no exit, abort, assert.
- Text of a file reaches a message through FM_QUOTE alone: in the folders that read files, what a %s of a message takes is a
  constant, a path, a word from the lists of quoting.py, or quoted.
- Files are created, renamed and truncated in base/writer*.c alone (tests may): library, tool and examples write through it.
- Files: UTF-8, no tabs, no trailing blanks, lines that aim at 120 columns and never pass 140, an SPDX line at the top.

Prints one line per breach (file:line: what) and leaves with 1 if there is any, else one line with the count of files.
"""

import argparse
import pathlib
import re
import sys

from quoting import TOKENS, unquoted

LAYERS = [["base"], ["quant", "format", "text"], ["graph"], ["pass", "ref", "kernel", "convert"], ["plan"], ["vk"],
          ["run", "check"]]
LEVEL = {folder: level for level, folders in enumerate(LAYERS) for folder in folders}
MAX_COLUMNS = 140
MODELS_SEE = {"base", "format", "graph", "models"}
TOOLS_SEE = {"kernel", "plan", "check", "tools"}

INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)')
VULKAN_NAME = re.compile(r"\b(?:Vk[A-Z]\w*|vk[A-Z]\w*|VK_[A-Z0-9_]+|PFN_vk\w*|volk[A-Z]\w*)\b")
VENDOR_NAME = re.compile(
    r"(?<![a-z])(?:nvidia|geforce|radeon|radv|amdvlk|intel|adreno|qualcomm|mali|moltenvk|"
    r"mesa(?!-vulkan-drivers)|lavapipe|llvmpipe|swiftshader)(?![a-z])|\bAMD\b", re.IGNORECASE)
GETENV = re.compile(r"\b(?:secure_)?getenv\s*\(")
ENDS_PROCESS = re.compile(r"\b(?:exit|_exit|_Exit|quick_exit|abort|assert)\s*\(")
WRITES_FILE = re.compile(
    r"\bO_(?:CREAT|TRUNC|TMPFILE)\b|\b(?:creat|mkstemps?|mkostemps?|tmpfile|tempnam|tmpnam|rename|renameat2?|f?truncate|"
    r"stbi_write_(?:png|bmp|tga|jpg|hdr))\s*\(|\bf(?:re)?open\s*\([^;]*,\s*\"[^\"]*[wa+][^\"]*\"")
FIXED_PLACE = re.compile(r"""["'](?:/tmp\b|/var/tmp\b|/nonexistent|/no-such)""")

SOURCE_SUFFIXES = {".c", ".h", ".def"}
SHADER_SUFFIXES = {".comp", ".glsl"}
STYLED_FOLDERS = ("include", "src", "models", "shaders", "tools", "tests", "examples")


def without(text, strings):
    """The text with comments blanked, and string literals too if asked for; line numbers stay."""
    def blank(match):
        token = match.group(0)
        if token.startswith(("//", "/*")) or strings:
            return re.sub(r"[^\n]", " ", token)
        return token
    return TOKENS.sub(blank, text)


def place_of(path, root):
    """The folder that the rules know a file by: a folder of src/, 'models', 'tools', 'include' ..."""
    parts = path.relative_to(root).parts
    return parts[1] if parts[0] == "src" and len(parts) > 2 else parts[0]


def target_of(name, path, root):
    """The file in this tree that an include names, or None for a header of the system or a generated one."""
    for base in (path.parent, root / "src", root, root / "include"):
        candidate = (base / name).resolve()
        if candidate.is_file() and candidate.is_relative_to(root):
            return candidate
    return None


class Checker:
    def __init__(self, root):
        self.root = root
        self.breaches = []
        self.files = 0
        self.edges = {}         # (from folder, to folder) of one layer -> where it was seen first

    def breach(self, path, line, what):
        self.breaches.append(f"{path.relative_to(self.root)}:{line}: {what}")

    def check_include(self, path, line, place, name):
        target = target_of(name, path, self.root)
        # A generated header has no file here; the first part of its name says whose it is.
        seen = place_of(target, self.root) if target else name.split("/")[0] if "/" in name else None
        if seen is None or seen == place or seen == "include" or name.startswith("fulmen/"):
            return
        if place in LEVEL:
            if seen in LEVEL and LEVEL[seen] == LEVEL[place]:
                self.edges.setdefault((place, seen), (path, line))
            elif seen in LEVEL and LEVEL[seen] > LEVEL[place]:
                self.breach(path, line, f'{place}/, layer {LEVEL[place]}, includes "{name}" of layer {LEVEL[seen]}')
            elif seen in ("tools", "tests"):
                self.breach(path, line, f'the library includes "{name}" of {seen}/')
        elif place == "models" and (seen in LEVEL or seen in ("tools", "tests")) and seen not in MODELS_SEE:
            self.breach(path, line, f'models/ includes "{name}"; it may see base, format and graph')
        elif place == "tools" and seen in LEVEL and seen not in TOOLS_SEE:
            self.breach(path, line, f'tools/ includes "{name}"; it may see the public headers, kernel and plan')
        elif place == "examples":
            self.breach(path, line, f'an example includes "{name}"; it may see the public headers')

    def check_names(self, path, text, place):
        relative = path.relative_to(self.root).as_posix()
        in_library = relative.startswith(("src/", "models/", "include/"))
        no_comments = without(text, strings=False).split("\n")
        for number, code in enumerate(without(text, strings=True).split("\n"), 1):
            if in_library and GETENV.search(code) and relative != "src/base/env.c":
                self.breach(path, number, "getenv outside src/base/env.c")
            if in_library and ENDS_PROCESS.search(code):
                self.breach(path, number, "the library must not end the process: " + ENDS_PROCESS.search(code).group(0))
            if in_library and place != "vk" and VULKAN_NAME.search(code):
                self.breach(path, number, f"Vulkan name {VULKAN_NAME.search(code).group(0)} outside src/vk/")
            writes = WRITES_FILE.search(no_comments[number - 1])
            if writes and relative.startswith(("src/", "models/", "include/", "tools/", "examples/")) and \
                    not relative.startswith("src/base/writer") and '"/dev/null"' not in writes.group(0):
                self.breach(path, number, f"writes a file, {writes.group(0)}, outside src/base/writer.c")
            vendor = VENDOR_NAME.search(no_comments[number - 1])
            if in_library and vendor and not relative.startswith("src/kernel/quirks"):
                self.breach(path, number, f"vendor name '{vendor.group(0)}' outside src/kernel/quirks")

    def check_source(self, path):
        text = path.read_text(encoding="utf-8")
        place = place_of(path, self.root)
        for number, code in enumerate(without(text, strings=False).split("\n"), 1):
            match = INCLUDE.match(code)
            if match:
                name = match.group(1) or match.group(2)
                if re.match(r"(?:volk|vulkan/|vk_)", name) and place not in ("vk", "tests"):
                    self.breach(path, number, f"<{name}> outside src/vk/")
                self.check_include(path, number, place, name)
        self.check_names(path, text, place)
        for line, what in unquoted(path.relative_to(self.root).as_posix(), without(text, strings=False)):
            self.breach(path, line, what)

    def check_style(self, path):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            self.breach(path, 1, f"not UTF-8: {error.reason} at byte {error.start}")
            return
        lines = text.split("\n")
        if not any("SPDX-License-Identifier: MIT" in line for line in lines[:2]):
            self.breach(path, 1, "no 'SPDX-License-Identifier: MIT' in the first two lines")
        in_tests = place_of(path, self.root) == "tests"
        for number, line in enumerate(lines, 1):
            if in_tests and FIXED_PLACE.search(line):
                self.breach(path, number, "a path that depends on the machine (tests/support/temporary.h makes temporary ones)")
            if "\t" in line:
                self.breach(path, number, "tab")
            if line != line.rstrip():
                self.breach(path, number, "trailing blanks")
            if len(line) > MAX_COLUMNS:
                self.breach(path, number, f"{len(line)} columns (at most {MAX_COLUMNS})")

    def check_circles(self):
        """Folders of one layer may include one another, but in one direction."""
        def reach(start, goal, seen):
            return any(to == goal or (to not in seen and reach(to, goal, seen | {to}))
                       for frm, to in self.edges if frm == start)
        for (frm, to), (path, line) in self.edges.items():
            if reach(to, frm, {to}):
                self.breach(path, line, f"{frm}/ and {to}/ of one layer include one another in a circle")

    def check_folders(self):
        for path in sorted((self.root / "src").iterdir()):
            if path.is_dir() and path.name not in LEVEL and any(path.glob("*.[ch]")):
                self.breach(path, 1, "a folder of src/ that has no layer (LAYERS of this script, src/README.md)")

    def run(self):
        self.check_folders()
        for folder in STYLED_FOLDERS:
            for path in sorted((self.root / folder).rglob("*")):
                if not path.is_file():
                    continue
                if path.suffix in SOURCE_SUFFIXES | SHADER_SUFFIXES | {".py", ".sh"} or path.name == "meson.build":
                    self.files += 1
                    self.check_style(path)
                if path.suffix in SOURCE_SUFFIXES:
                    self.check_source(path)
        self.check_circles()


def main():
    parser = argparse.ArgumentParser(description="checks the includes and the house rules")
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parents[2])
    root = parser.parse_args().root.resolve()
    checker = Checker(root)
    checker.run()
    for line in checker.breaches:
        print(line)
    if checker.files == 0:
        print(f"{root}: no sources found")
        return 1
    if not checker.breaches:
        print(f"{checker.files} files keep to the rules")
    return 1 if checker.breaches else 0


if __name__ == "__main__":
    sys.exit(main())
