#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tests of tools/build/gen_kernels.py: what a manifest may hold, what it must not, and what comes out.

    test_gen_kernels.py SOURCE_ROOT TOOLCHAIN_BIN

Ends with a line `N passed, N failed, 0 skipped`.
"""

import contextlib
import importlib.util
import io
import pathlib
import shutil
import re
import struct
import sys
import tempfile
import unittest

ROOT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
TOOLS = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else ROOT / ".toolchain/bin")

sys.path.insert(0, str(ROOT / "tools/build"))
spec = importlib.util.spec_from_file_location("gen_kernels", ROOT / "tools/build/gen_kernels.py")
gen = importlib.util.module_from_spec(spec)
spec.loader.exec_module(gen)

ROW = 'name = "add_base"\nfile = "a.comp"\nrung = "base"\nop = "add"\nworkgroup = 64\n'
SHADER = """#version 460
#extension GL_GOOGLE_include_directive : require
#include "b.glsl"
layout(local_size_x_id = 0) in;
layout(push_constant) uniform Push { uint n; } pc;
layout(binding = 0) buffer Out { uint v[]; };
layout(constant_id = 1) const uint WIDTH = 1u;
shared vec4 rows[2u * WIDTH + gl_WorkGroupSize.x];
shared uint one;
void main()
{
    rows[gl_LocalInvocationID.x] = vec4(VALUE);
    one = 1u;
    barrier();
    v[gl_GlobalInvocationID.x] = VALUE + NUMBER + pc.n + uint(rows[0].x) + one;
}
"""


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="fulmen-gen-")
        self.root = pathlib.Path(self.folder.name)
        for name in ("src/kernel/rungs.def", "src/kernel/kernel.h", "src/graph/ops.def", "src/quant/quant.def"):
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.root / name)
        (self.root / "shaders/lib").mkdir(parents=True)
        (self.root / "shaders/lib/b.glsl").write_text("#define VALUE 1u\n")
        (self.root / "shaders/a.comp").write_text(SHADER)

    def tearDown(self):
        self.folder.cleanup()

    def manifest(self, *rows, lists=""):
        (self.root / "shaders/kernels.toml").write_text("[lists]\n" + lists + "".join("[[kernel]]\n" + r for r in rows))

    def load(self, *rows, lists=""):
        self.manifest(*rows, lists=lists)
        return gen.load_manifest(self.root, gen.Tables(self.root))

    def generate(self, *rows):
        """Exit status, standard output, standard error."""
        self.manifest(*rows)
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = gen.main(["--source", str(self.root), "--glslang", str(TOOLS / "glslang"),
                               "--spirv-val", str(TOOLS / "spirv-val"), "--spirv-opt", str(TOOLS / "spirv-opt"),
                               "--cache", str(self.root / "cache"), "--out-c", str(self.root / "k.c"),
                               "--out-asm", str(self.root / "k.S"), "--out-blob", str(self.root / "k.bin"),
                               "--depfile", str(self.root / "k.d"), "--jobs", "2"])
        return status, out.getvalue(), err.getvalue()


class Manifest(Case):
    def test_defaults(self):
        row, = self.load(ROW)
        self.assertEqual((row.name, row.op, row.rung, row.workgroup), ("add_base", "add", 0, 64))
        self.assertEqual((row.tile, row.split, row.priority), ([0, 0], 1, 10))
        self.assertEqual(row.spec, [(0, "COUNT", 64)])
        self.assertEqual(row.defines, {"FM_OP_ADD": "1", "FM_RUNG_BASE": "1", "FM_RUNG": "0", "FM_X_F32": "1"})
        self.assertEqual((row.bound_c, row.bound_unit), (0.0, 2.0 ** -24))

    def test_expansion(self):
        rows = self.load('name = "{op}_{w}_{tile_k}_sg"\nfile = "a.comp"\nrung = "sg"\nneeds = ["subgroup"]\nworkgroup = 64\n'
                         'expand = { op = ["matmul", "matmul_add"], w = ["f16", "q4_k"], tile_k = [8, 16] }\n'
                         'tile = [1, 4]\ndefine = { K = "{tile_k}" }\nspec = { 1 = "subgroup", 2 = "{tile_k}", 3 = 7 }\n')
        self.assertEqual([r.name for r in rows[:3]], ["matmul_f16_8_sg", "matmul_f16_16_sg", "matmul_q4_k_8_sg"])
        self.assertEqual(len(rows), 8)
        self.assertEqual({(r.op, r.w) for r in rows}, {(o, w) for o in ("matmul", "matmul_add") for w in ("F16", "Q4_K")})
        self.assertEqual(rows[1].defines["K"], "16")
        self.assertEqual(rows[0].spec, [(0, "COUNT", 64), (1, "SUBGROUP", 0), (2, "COUNT", 8), (3, "COUNT", 7)])

    def test_windows_and_tiles(self):
        row, = self.load(ROW + 'window = { rows = [1, 8], k = "%32", head = [16, 256, 16] }\ntile = ["heads_per_kv", 4]\n')
        self.assertEqual(row.window, [("ROWS", 1, 8, 1), ("K", 0, gen.MAX_U32, 32), ("HEAD", 16, 256, 16)])
        names = list(gen.Tables(self.root).params)
        self.assertEqual(row.tile, [gen.TILE_PARAM | names.index("heads_per_kv"), 4])

    def test_variants(self):
        rows = self.load('file = "a.comp"\nrung = "base"\nworkgroup = 64\nexpand = { op = ["matmul", "matmul_glu"], w = "plain" }\n'
                         'window = { k = "%8", rows = [1, 1] }\ntile = [1, "=32 // weights"]\nvariants = [\n'
                         '  { name = "{op}_{w}_base" },\n'
                         '  { name = "{op}_{w}_r{r}_base", expand = { op = ["matmul"], r = [2, 8] }, workgroup = 128,\n'
                         'window = { rows = ["=r // 2 + 1", "=r"] }, split = "=16 * (r + 1) - 4", spec = { 2 = 1, 3 = "{r}" } },\n]\n'
                         .replace('128,\nwindow', '128, window'), lists='plain = ["f32", "f16"]\n')
        self.assertEqual([r.name for r in rows], ["matmul_f32_base", "matmul_f16_base", "matmul_glu_f32_base", "matmul_glu_f16_base",
                                                  "matmul_f32_r2_base", "matmul_f32_r8_base", "matmul_f16_r2_base", "matmul_f16_r8_base"])
        self.assertEqual([r.tile for r in rows[:5:2]], [[1, 32], [1, 16], [1, 32]])
        self.assertEqual(rows[5].window, [("K", 0, gen.MAX_U32, 8), ("ROWS", 5, 8, 1)])
        self.assertEqual((rows[5].split, rows[5].workgroup, rows[0].split, rows[0].workgroup), (140, 128, 1, 64))
        self.assertEqual(rows[5].spec, [(0, "COUNT", 128), (2, "COUNT", 1), (3, "COUNT", 8)])

    def test_implied_needs(self):
        row, = self.load(ROW.replace("base", "cmr") + 'needs = ["coopmat_reg"]\n')
        self.assertEqual(row.needs, ["coopmat_reg", "coopmat", "memory_model"])

    def test_activations(self):
        matmul = ROW.replace("add", "matmul").replace('"base"', '"base"\nw = "f16"\ntile = [1, 1]')
        found = [(row.x, row.x_bytes, row.defines.keys() & {"FM_X_F32", "FM_X_F16", "FM_X_INT"})
                 for x in ("f32", "f16", "i16", "i8") for row in self.load(matmul + f'x = "{x}"\n')]
        self.assertEqual(found, [("F32", 0, {"FM_X_F32"}), ("F16", 0, {"FM_X_F16"}), (None, 2, {"FM_X_INT"}), (None, 1, {"FM_X_INT"})])

    def test_refusals(self):
        matmul = ROW.replace("add", "matmul").replace('"base"', '"base"\nw = "f16"')
        for rows, words in (
                ([ROW + "grup = 3\n"], "add_base: unknown key 'grup'"),
                ([ROW.replace('"add"', '"ad"')], "unknown op 'ad'"),
                ([ROW.replace('rung = "base"', 'rung = "basic"')], "unknown rung 'basic'"),
                ([ROW.replace("add_base", "add_sg")], "the rung 'base' must be a word of the name"),
                ([ROW.replace("a.comp", "none.comp")], "no file shaders/none.comp"),
                ([ROW.replace("workgroup = 64\n", "")], "'workgroup' is missing"),
                ([ROW.replace("64", "2048")], "workgroup = 2048, expected a number from 1 to 1024"),
                ([ROW, ROW], "add_base: two rows have this name"),
                ([ROW + 'needs = ["subgrup"]\n'], "unknown capability 'subgrup'"),
                ([ROW + 'needs = ["subgroup"]\n'], "needs 'subgroup', which is of rung sg"),
                ([ROW + "window = { row = [1, 2] }\n"], "unknown window parameter 'row'"),
                ([ROW + "window = { rows = [2, 1] }\n"], "window.rows = [2, 1] is empty"),
                ([ROW + "window = { rows = 3 }\n"], "window.rows = 3, expected"),
                ([ROW + 'spec = { 1 = "subgrop" }\n'], "unknown parameter in spec.1 'subgrop'"),
                ([ROW + "spec = { x = 1 }\n"], "spec constant id = 'x', expected a number"),
                ([ROW + "tile = [1]\n"], "tile = [1], expected [rows, columns]"),
                ([ROW + 'w = "f16"\n'], "op add has no format w"),
                ([ROW.replace('op = "add"', 'op = "matmul"') + "tile = [1, 1]\n"], "op matmul needs a format w"),
                ([matmul], "op matmul needs tile"),
                ([ROW + 'x = "f16"\n'], 'op add cannot ask for x = "f16"'),
                ([ROW + 'x = "i8"\n'], 'op add cannot ask for x = "i8"'),
                ([ROW + 'x = "i4"\n'], "unknown format x 'i4'"),
                ([ROW + 'y = "f16"\n'], 'op add cannot write y = "f16"'),
                ([ROW + 'y = { adt = "f16" }\n'], "unknown op of y 'adt'"),
                ([ROW.replace('op = "add"', 'op = "matmul"') + 'w = "f16"\ntile = [1, 1]\nsplit = 2\n'], "spec needs 2 = 1"),
                ([ROW.replace("add", "act") + 'y = "f32"\n'], "unknown format y 'f32'"),
                ([ROW.replace("add", "act") + 'y = "f16"\nspec = {' + ", ".join(f" {i} = 1" for i in range(1, 10)) + " }\n"],
                 "y takes a spec constant (FM_SPEC_HALVES), so at most 8 can stand in spec"),
                ([ROW + "copy = true\n"], "op add cannot write a copy"),
                ([ROW + 'bound = { c = -1, unit = "f32" }\n'], "bound.c = -1"),
                ([ROW + 'bound = { c = 1 }\n'], "bound = {'c': 1}"),
                ([ROW + 'define = { FM_RUNG = "1" }\n'], "define.FM_RUNG is no name that is free"),
                ([ROW.replace("add_base", "{what}_base")], "'{what}' is no word of expand"),
                ([ROW + 'variants = [{ name = "x_base" }]\n'], "add_base: a table with variants has no name of its own"),
                ([ROW.replace('name = "add_base"\n', "") + "variants = []\n"], "variants is no list of tables"),
                ([ROW.replace('name = "add_base"\n', "") + "variants = [{ op = \"add\" }]\n"], "a variant without name"),
                ([ROW.replace('name = "add_base"\n', "") + 'variants = [{ name = "x_base", grup = 1 }]\n'], "x_base: unknown key 'grup'"),
                ([ROW + 'expand = { w = "formats" }\n'], "unknown list in expand.w 'formats'"),
                ([ROW + "expand = { weights = [1] }\n"], "'weights' is no word for expand"),
                ([ROW + 'split = "=2 * r"\n'], "'r' in '=2 * r' = \"'r'\", expected a number"),
                ([ROW + 'split = "=2 *"\n'], "'=2 *' is no expression"),
                ([ROW + 'split = "=1 // 0"\n'], "'=1 // 0' is no expression"),
                ([ROW + 'split = "=open(1)"\n'], "has more than numbers"),
                ([ROW + 'split = "=1 - 2"\n'], "split = -1, expected a number"),
                (["name = 3 =\n"], "not TOML"),
        ):
            with self.subTest(words=words), self.assertRaises(gen.ManifestError) as caught:
                self.load(*rows)
            self.assertIn(words, str(caught.exception))


class Output(Case):
    def row(self, name, number):
        return ROW.replace("add_base", name) + f'define = {{ NUMBER = "{number}u" }}\n'

    def test_modules_are_shared_and_cached(self):
        rows = [self.row("add_base", 1), self.row("add_base_b", 1) + "priority = 5\n", self.row("add_base_c", 2)]
        status, out, err = self.generate(*rows)
        self.assertEqual((status, err), (0, ""))
        self.assertIn("3 kernels in 2 modules (2 compiled now); rungs built: base(3)", out)
        blob, table = (self.root / "k.bin").read_bytes(), (self.root / "k.c").read_text()
        self.assertEqual(struct.unpack("<I", blob[:4])[0], 0x07230203)
        self.assertEqual(table.count(".spirv = fm_kernel_spirv + 0,"), 2)
        self.assertIn("const size_t fm_kernel_count = 3;", table)
        self.assertIn("shaders/lib/b.glsl", (self.root / "k.d").read_text())
        stamp = (self.root / "k.c").stat().st_mtime_ns
        self.assertIn("(0 compiled now)", self.generate(*rows)[1])
        self.assertEqual((self.root / "k.c").stat().st_mtime_ns, stamp)
        (self.root / "shaders/lib/b.glsl").write_text("#define VALUE 5u\n")
        self.assertIn("(2 compiled now)", self.generate(*rows)[1])
        self.assertEqual(len(list((self.root / "cache").glob("*.spv"))), 2)
        self.assertNotEqual((self.root / "k.c").read_text(), table)

    def test_compile_error_names_the_row(self):
        status, _, err = self.generate(ROW)
        self.assertEqual(status, 1)
        self.assertIn("add_base (shaders/a.comp): glslang failed", err)
        self.assertIn("NUMBER", err)

    def test_missing_include(self):
        (self.root / "shaders/lib/b.glsl").unlink()
        status, _, err = self.generate(self.row("add_base", 1))
        self.assertEqual((status, "included file 'b.glsl' is not there" in err), (1, True))

    def test_undeclared_capability(self):
        (self.root / "shaders/a.comp").write_text(
            "#version 460\n#extension GL_KHR_shader_subgroup_arithmetic : require\nlayout(local_size_x_id = 0) in;\n"
            "layout(binding = 0) buffer Out { uint v[]; };\nvoid main() { v[0] = subgroupAdd(v[1]); }\n")
        status, _, err = self.generate(ROW)
        self.assertEqual((status, "needs must list 'subgroup'" in err), (1, True))
        self.assertEqual(self.generate(ROW.replace("base", "sg") + 'needs = ["subgroup"]\n')[0], 0)

    def shared_of(self, *rows):
        status, _, err = self.generate(*rows)
        self.assertEqual((status, err), (0, ""))
        return [int(n) for n in re.findall(r"\.shared_bytes = (\d+)u", (self.root / "k.c").read_text())]

    def test_shared_memory_is_counted(self):
        one, window = self.row("add_base", 1), "window = { head = [8, 100], subgroup = [8, 32] }\n"
        self.assertEqual(self.shared_of(one), [16 * (2 + 64) + 16])
        self.assertEqual(self.shared_of(one + "spec = { 1 = 5 }\n"), [16 * (10 + 64) + 16])
        self.assertEqual(self.shared_of(one + window + 'spec = { 1 = "head" }\n'), [16 * (200 + 64) + 16])
        self.assertEqual(self.shared_of(one + window + 'spec = { 1 = "subgroup" }\n'), [16 * (64 + 64) + 16])
        self.assertEqual(self.shared_of(one + 'spec = { 2 = "head" }\n'), [16 * (2 + 64) + 16])
        self.assertIn("add_base: its shared memory depends on 'head', for which the window has no end",
                      self.generate(one + 'spec = { 1 = "head" }\n')[2])
        self.assertIn("add_base: 17040 bytes of shared memory, at most 16384 on rung base", self.generate(one + "spec = { 1 = 500 }\n")[2])

    def test_old_compiler(self):
        fake = self.root / "glslang"
        fake.write_text("#!/bin/sh\necho 'Glslang Version: 11:12.0.0'\n")
        fake.chmod(0o755)
        with self.assertRaises(gen.ManifestError) as caught:
            gen.compiler_version(fake)
        self.assertIn("glslang 12.0 is too old", str(caught.exception))


def main():
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=1).run(
        unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"]))
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed, {len(result.skipped)} skipped")
    return 1 if failed or result.testsRun == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
