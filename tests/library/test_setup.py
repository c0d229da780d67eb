#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The set-up on a system without apt: test_setup.py SOURCE

PATH leads to a folder of links to this system's programs, but those of apt and dpkg. What is taken away besides must be
named, and nothing else; with everything there the set-up goes on and fills .toolchain.
"""

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest

SOURCE = pathlib.Path(sys.argv[1])
SETUP = ("setup.sh", "toolchain.sh", "by_hand.sh")
SHADER_TOOLS = ("glslang", "spirv-opt", "spirv-val", "spirv-dis")
MODULES = ("libpcre2-8", "libcjson", "libutf8proc", "libzip", "libedit", "stb", "cmocka")
# What the set-up itself is made of.
BASIC = ("bash", "cat", "cut", "dirname", "find", "flock", "grep", "id", "ln", "mkdir", "mktemp", "rm", "sed", "sha256sum", "sort", "tail")


class System:
    """A copy of the set-up, and what it sees of this system."""

    def __init__(self, folder):
        self.root = folder / "it's a $place"
        self.bin, self.modules = folder / "bin", folder / "modules"
        for path in (self.root / "tools/build", self.bin, self.modules):
            path.mkdir(parents=True)
        for name in SETUP:
            shutil.copy(SOURCE / "tools/build" / name, self.root / "tools/build")

    def add_programs(self, names=None, without=()):
        for place in os.get_exec_path():
            for program in pathlib.Path(place).glob("*"):
                if re.match(r"apt|dpkg", program.name) or program.name in without or (names and program.name not in names):
                    continue
                if not (self.bin / program.name).is_symlink():
                    (self.bin / program.name).symlink_to(program)
        if not names and "python3" not in without:
            (self.bin / "python3").unlink(missing_ok=True)
            (self.bin / "python3").symlink_to(sys.executable)

    def add_shader_tools(self, without=()):
        """The ones of this checkout, as an SDK would bring them."""
        for name in SHADER_TOOLS:
            (self.bin / name).unlink(missing_ok=True)
            if name not in without:
                (self.bin / name).write_text(f'#!/bin/sh\nexec {shlex.quote(str(SOURCE / ".toolchain/bin" / name))} "$@"\n')
                (self.bin / name).chmod(0o755)
        (self.bin / "glslangValidator").unlink(missing_ok=True)

    def add_modules(self, without=()):
        path = subprocess.run(["pkg-config", "--variable", "pc_path", "pkg-config"], stdout=subprocess.PIPE, text=True, check=True)
        for place in path.stdout.strip().split(":"):
            for module in pathlib.Path(place).glob("*.pc"):
                if module.stem not in without and not (self.modules / module.name).is_symlink():
                    (self.modules / module.name).symlink_to(module)

    def setup(self, *arguments):
        """Exit status of the set-up, all that it said, and the lines of what is missing."""
        environment = {"PATH": str(self.bin), "PKG_CONFIG_LIBDIR": str(self.modules), "HOME": "/",
                       "VULKAN_SDK": str(SOURCE / ".toolchain"), "VK_DRIVER_FILES": os.environ.get("VK_DRIVER_FILES", "a driver")}
        done = subprocess.run([self.root / "tools/build/setup.sh", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, env=environment, check=False)
        return done.returncode, done.stdout, [line[9:] for line in done.stdout.splitlines() if line.startswith("setup:   ")]


class WithoutApt(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="fulmen-setup-")    # pylint: disable=consider-using-with
        self.addCleanup(folder.cleanup)
        self.system = System(pathlib.Path(folder.name).resolve())

    def test_nothing_there(self):
        self.system.add_programs(names=BASIC)
        status, text, missing = self.system.setup("--tests")
        self.assertEqual(status, 1, text)
        named = "\n".join(missing)
        for word in (*MODULES, *SHADER_TOOLS, "meson", "ninja", "pkg-config", "python3", "C compiler", "clang", "g++", "valgrind",
                     "PCRE2", "cJSON", "utf8proc", "Vulkan loader"):
            self.assertIn(word, named)
        self.assertNotIn("Vulkan-Headers", named)

    def test_one_missing(self):
        for name in ("meson", "ninja", "spirv-val", "glslang", "libzip", "libcjson"):
            with self.subTest(name):
                self.setUp()
                self.system.add_programs(without=(name,))
                self.system.add_shader_tools(without=(name,))
                self.system.add_modules(without=(name,))
                status, text, missing = self.system.setup()
                self.assertEqual(status, 1, text)
                self.assertEqual(len(missing), 1, text)
                self.assertRegex(missing[0], rf"\b{re.escape(name)}\b")

    def test_all_there(self):
        self.system.add_programs()
        self.system.add_shader_tools()
        self.system.add_modules()
        status, text, missing = self.system.setup("--tests")
        self.assertEqual((status, missing), (0, []), text)
        toolchain = self.system.root / ".toolchain"
        for name in ("bin/glslang", "bin/spirv-val", "include/volk.c", "include/vulkan/vulkan_core.h", "icd/lavapipe.json"):
            self.assertTrue((toolchain / name).is_file(), f"{name}\n{text}")
        self.assertEqual(self.system.setup("--tests"), (0, "", []), "a second run finds nothing to do")


if __name__ == "__main__":
    result = unittest.TextTestRunner(stream=sys.stdout).run(unittest.defaultTestLoader.loadTestsFromTestCase(WithoutApt))
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed, 0 skipped")
    sys.exit(failed > 0)
