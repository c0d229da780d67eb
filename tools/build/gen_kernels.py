#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compiles the kernels that shaders/kernels.toml names and writes the kernel table of the library.

    gen_kernels.py --source DIR --glslang PROGRAM --spirv-val PROGRAM --spirv-opt PROGRAM
                   --cache DIR --out-c FILE --out-asm FILE --out-blob FILE --depfile FILE [--jobs N]
    gen_kernels.py --source DIR --list          the expanded rows, nothing is compiled

shaders/README.md describes the manifest. Ops, formats, capabilities and parameters are read from the C headers that define
them, so that a name means the same on both sides. What is unknown or does not fit is an error that names row and key.

Modules are compiled in parallel and kept in --cache under a hash of all that goes in (source, includes, definitions, flags,
compiler), so that a second run compiles only what changed. Each is checked by spirv-val, and the capabilities that it declares
are compared with the row's `needs`: a kernel cannot run where the selector would not let it. The shared memory of a workgroup
is counted in the module.
"""

import argparse
import ast
import concurrent.futures
import hashlib
import itertools
import operator
import os
import pathlib
import re
import subprocess
import sys
import tomllib

import spirv_module

OLDEST_GLSLANG = (15, 1)
FLAGS = ["-V", "--quiet", "--target-env", "vulkan1.3", "-S", "comp"]
MAX_WINDOWS, MAX_SPECS = 6, 10          # FM_KERNEL_WINDOWS, FM_KERNEL_SPECS
MAX_U32 = 0xFFFFFFFF
LARGEST_BOUND = 1 << 16                 # windows that reach further have no end
MOST_SHARED = [16384, 49152]            # bytes of shared memory: rung base, rungs above
TILE_PARAM = 0x80000000                 # FM_TILE_PARAM: the tile is the value of a parameter

ROW_KEYS = {"name", "file", "rung", "expand", "op", "x", "w", "y", "copy", "needs", "window", "workgroup", "spec", "tile", "split",
            "matrix", "order", "full_subgroups", "dequantize", "priority", "bound", "define", "opt"}
TABLE_KEYS = ROW_KEYS | {"variants"}
INHERITED_BY_KEY = {"expand", "window", "spec", "define", "bound"}  # tables whose keys a variant adds to or replaces one by one
# The planner casts what these multiply on matrix units or in packed f16; readers of these results may want that.
OPS_WITH_F16_X = {"matmul", "matmul_add", "matmul_glu", "attend", "ssd", "ssd_states", "linear_attend", "linear_states"}
OPS_WITH_F16_Y = {"matmul", "matmul_add", "matmul_glu", "attend", "norm", "add_norm", "norm_gate", "glu", "act", "conv1d",
                  "selective_scan", "lrpe", "ssd_gate"}
OPS_WITH_PARTS = {"matmul", "matmul_add", "matmul_glu"}             # with a split, the planner sets constant PARTS_SPEC
PARTS_SPEC = 2                                                      # FM_SPEC_PARTS of src/plan/build.h
OPS_WITH_COPY = {"conv1d"}                                          # these have an address for an f16 copy of their result
OPS_WITH_INT_X = {"matmul", "matmul_add", "matmul_glu"}             # the planner makes integers of their first operand
INTS = {"i16": 2, "i8": 1}                                          # bytes of these
OPS_NORMED = {"norm_matmul", "norm_matmul_add", "norm_matmul_glu", "matmul_conv", "norm_matmul_conv"}  # these read it as it is
OPS_WITH_TILE = {"matmul", "matmul_add", "matmul_glu"} | OPS_NORMED # what a workgroup makes has no default
OPS_WITH_W = OPS_WITH_TILE | {"dequantize", "embed", "kv_write", "rope_kv_write", "attend", "rope_attend"}
UNITS = {"f32": 2.0 ** -24, "f16": 2.0 ** -11, "bf16": 2.0 ** -8}

# SPIR-V capabilities by number, and the capability bit that a device must have for them (None: in every Vulkan 1.3 device
# that fulmen accepts).
SPIRV_CAPABILITIES = {
    0: None, 1: None,                                                       # Matrix, Shader
    5347: None,                                                             # PhysicalStorageBufferAddresses
    61: "subgroup", 62: "subgroup", 63: "subgroup", 64: "subgroup", 65: "subgroup", 66: "subgroup", 67: "subgroup",
    9: "float16",
    22: "storage16", 4433: "storage16", 4434: "storage16",                  # the bit means shaderInt16 too
    39: "storage8", 4448: "storage8", 4449: "storage8",
    6016: "int_dot", 6017: "int_dot", 6018: "int_dot", 6019: "int_dot",
    6022: "coopmat",
    5345: "memory_model", 5346: "memory_model",
    5430: "coopmat_reg", 5431: "coopmat_reg", 5432: "coopmat_reg",
}


# Capabilities that come with others: cooperative matrices exist only under the Vulkan memory model.
IMPLIED = {"coopmat": ["memory_model"], "coopmat_reg": ["coopmat", "memory_model"]}


class ManifestError(Exception):
    """One line for the user: where, what, expected, found."""


# ------------------------------------------------------------------------------------------------- what the C side defines

class Tables:
    """Names from the C headers: {name: enum constant without its prefix}, in their order."""

    def __init__(self, source):
        src = pathlib.Path(source) / "src"
        self.files = [src / "kernel/rungs.def", src / "graph/ops.def", src / "quant/quant.def", src / "kernel/kernel.h"]
        caps, ops, types, kernel_h = (f.read_text(encoding="utf-8") for f in self.files)
        self.ops = {name: ident for ident, name in re.findall(r'^X\((\w+), "(\w+)"', ops, re.M)}
        self.types = {name.lower(): ident for ident, name in re.findall(r'^X\((\w+), "(\w+)"', types, re.M)}
        rows = re.findall(r'^X\((\w+), "(\w+)", (\w+),', caps, re.M)
        self.caps = {name: ident for ident, name, _ in rows}
        enum = re.search(r"enum fm_rung \{([^}]*)\}", kernel_h).group(1)
        orders = re.search(r"enum fm_matrix_order \{([^}]*)\}", kernel_h).group(1)
        self.orders = [o.lower() for o in re.findall(r"^ *FM_MATRIX_ORDER_(\w+)", orders, re.M) if o != "COUNT"]
        self.rungs = [r.lower() for r in re.findall(r"FM_RUNG_(\w+)", enum) if r != "COUNT"]
        self.cap_rung = {name: self.rungs.index(rung.lower()) for _, name, rung in rows}
        params = re.search(r"#define FM_PARAMS\(X\)(.*?)enum fm_param", kernel_h, re.S).group(1)
        self.params = {name: ident for ident, name in re.findall(r'X\((\w+), "(\w+)"\)', params)}
        self.type_number = {ident: number for number, ident in enumerate(self.types.values())}


# ------------------------------------------------------------------------------------------------------------ the manifest

class Row:
    """One kernel, checked. Enum constants are kept without their prefixes."""


def known(row_name, key, value, names):
    if value not in names:
        raise ManifestError(f"{row_name}: unknown {key} '{value}' (known: {' '.join(names)})")
    return value


def number(row_name, key, value, low=0, high=MAX_U32):
    if isinstance(value, str) and re.fullmatch(r"-?\d+", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ManifestError(f"{row_name}: {key} = {value!r}, expected a number from {low} to {high}")
    return value


def substitute(value, words, row_name):
    """Replaces {word} in every string of a row."""
    if isinstance(value, str):
        def replace(match):
            if match.group(1) not in words:
                raise ManifestError(f"{row_name}: '{{{match.group(1)}}}' is no word of expand ({' '.join(words) or 'none'})")
            return str(words[match.group(1)])
        return re.sub(r"\{(\w+)\}", replace, value)
    if isinstance(value, list):
        return [substitute(v, words, row_name) for v in value]
    if isinstance(value, dict):
        return {k: substitute(v, words, row_name) for k, v in value.items()}
    return value


OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
             ast.Mod: operator.mod, ast.Pow: operator.pow}


def evaluate(text, words, label):
    """The whole number that an expression gives: numbers, words of expand, + - * // % ** and brackets."""
    def value(node):
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return node.value
        if isinstance(node, ast.Name):
            return number(label, f"'{node.id}' in '={text}'", words.get(node.id, f"'{node.id}'"))
        if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            return OPERATORS[type(node.op)](value(node.left), value(node.right))
        raise ManifestError(f"{label}: '={text}' has more than numbers, words of expand, + - * // % ** and brackets")
    try:
        return value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ZeroDivisionError) as error:
        raise ManifestError(f"{label}: '={text}' is no expression: {error}") from error


def calculate(value, words, label):
    """Replaces every string that begins with '=' by the number that it gives."""
    if isinstance(value, str) and value.startswith("="):
        return evaluate(value[1:], words, label)
    if isinstance(value, list):
        return [calculate(v, words, label) for v in value]
    if isinstance(value, dict):
        return {k: calculate(v, words, label) for k, v in value.items()}
    return value


def inherit(base, variant):
    """A variant with all that it does not say itself taken from its table."""
    out = {k: v for k, v in base.items() if k != "variants"}
    for key, value in variant.items():
        both = key in INHERITED_BY_KEY and isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = {**out[key], **value} if both else value
    return out


def variants_of(table, index):
    """The rows that a [[kernel]] of the manifest stands for: itself, or its variants."""
    label = table.get("name", f"kernel number {index + 1} ({table.get('file', 'no file')})")
    if "variants" not in table:
        return [table]
    if "name" in table:
        raise ManifestError(f"{label}: a table with variants has no name of its own")
    variants = table["variants"]
    if not isinstance(variants, list) or not variants or not all(isinstance(v, dict) for v in variants):
        raise ManifestError(f"{label}: variants is no list of tables")
    for variant in variants:
        if "name" not in variant:
            raise ManifestError(f"{label}: a variant without name")
    return [inherit(table, variant) for variant in variants]


def expand_words(expand, lists, label):
    """{word: its values}; a string names one of the manifest's lists."""
    if not isinstance(expand, dict):
        raise ManifestError(f"{label}: expand is no table")
    out = {}
    for word, values in expand.items():
        if word == "weights":
            raise ManifestError(f"{label}: 'weights' is no word for expand: it says how many weights the op reads")
        if isinstance(values, str):
            values = lists[known(label, f"list in expand.{word}", values, lists)]
        if not isinstance(values, list) or not values:
            raise ManifestError(f"{label}: expand.{word} is no list of values")
        out[word] = values
    return out


def expand_row(raw, lists, index):
    """A row of the manifest as one dictionary per combination of its `expand` words."""
    label = raw.get("name", f"kernel number {index + 1}")
    unknown = set(raw) - ROW_KEYS
    if unknown:
        raise ManifestError(f"{label}: unknown key '{sorted(unknown)[0]}' (known: {' '.join(sorted(TABLE_KEYS))})")
    for key in ("name", "file", "rung", "workgroup"):
        if key not in raw:
            raise ManifestError(f"{label}: '{key}' is missing")
    expand = expand_words(raw.get("expand", {}), lists, label)
    body = {k: v for k, v in raw.items() if k != "expand"}
    for combination in itertools.product(*expand.values()):
        words = dict(zip(expand, combination))
        words["weights"] = 2 if str(words.get("op", raw.get("op", ""))).endswith("_glu") else 1
        fields = {k: v for k, v in words.items() if k in ROW_KEYS}
        yield calculate(substitute({**body, **fields}, words, label), words, label)


def parse_window(name, window, tables):
    out = []
    for param, spec in window.items():
        known(name, "window parameter", param, tables.params)
        if isinstance(spec, str) and spec.startswith("%"):
            low, high, multiple = 0, MAX_U32, number(name, f"window.{param}", spec[1:], 1)
        elif isinstance(spec, list) and len(spec) in (2, 3):
            low, high = (number(name, f"window.{param}", v) for v in spec[:2])
            multiple = number(name, f"window.{param}", spec[2], 1) if len(spec) == 3 else 1
        else:
            raise ManifestError(f'{name}: window.{param} = {spec!r}, expected [min, max], [min, max, multiple] or "%multiple"')
        if low > high:
            raise ManifestError(f"{name}: window.{param} = {spec!r} is empty")
        out.append((tables.params[param], low, high, multiple))
    if len(out) > MAX_WINDOWS:
        raise ManifestError(f"{name}: {len(out)} windows, at most {MAX_WINDOWS}")
    return out


def parse_spec(name, spec, workgroup, tables):
    out = [(0, "COUNT", workgroup)]
    for ident, value in spec.items():
        ident = number(name, "spec constant id", ident, 1, 255)
        if isinstance(value, str) and not re.fullmatch(r"\d+", value):
            out.append((ident, tables.params[known(name, f"parameter in spec.{ident}", value, tables.params)], 0))
        else:
            out.append((ident, "COUNT", number(name, f"spec.{ident}", value)))
    if len(out) > MAX_SPECS:
        raise ManifestError(f"{name}: {len(out)} spec constants with the workgroup size, at most {MAX_SPECS}")
    return out


def parse_tile(name, tile, tables):
    if not isinstance(tile, list) or len(tile) != 2:
        raise ManifestError(f"{name}: tile = {tile!r}, expected [rows, columns]")
    params = list(tables.params)
    return [TILE_PARAM | params.index(t) if t in params else number(name, "tile", t, 0, TILE_PARAM - 1) for t in tile]


def parse_bound(name, bound):
    if not isinstance(bound, dict) or set(bound) != {"c", "unit"}:
        raise ManifestError(f"{name}: bound = {bound!r}, expected {{ c = number, unit = \"f32\" }}")
    known(name, "bound.unit", bound["unit"], UNITS)
    if isinstance(bound["c"], bool) or not isinstance(bound["c"], (int, float)) or not bound["c"] >= 0:
        raise ManifestError(f"{name}: bound.c = {bound['c']!r}, expected a number that is not negative")
    return float(bound["c"]), UNITS[bound["unit"]]


def parse_needs(name, needs, rung, tables):
    for need in needs:
        known(name, "capability", need, tables.caps)
        if tables.cap_rung[need] > rung:
            raise ManifestError(f"{name}: needs '{need}', which is of rung {tables.rungs[tables.cap_rung[need]]}, but the row's "
                                f"rung is {tables.rungs[rung]}")
    if len(set(needs)) != len(needs):
        raise ManifestError(f"{name}: a capability stands twice in needs")
    return list(dict.fromkeys([*needs, *(i for n in needs for i in IMPLIED.get(n, []))]))


def row_defines(row, tables, extra):
    defines = {f"FM_OP_{tables.ops[row.op]}": "1", f"FM_RUNG_{tables.rungs[row.rung].upper()}": "1", "FM_RUNG": str(row.rung)}
    if row.w:
        read = "F16" if row.dequantize else row.w
        defines |= {"FM_W": str(tables.type_number[read]), f"FM_W_{read}": "1"}
    defines[f"FM_X_{'INT' if row.x_bytes else row.x or 'F32'}"] = "1"
    if row.y:
        defines[f"FM_Y_{row.y}"] = "1"
    if row.order != "none":
        defines[f"FM_ORDER_{row.order.upper()}"] = "1"
    for key, value in extra.items():
        if not re.fullmatch(r"[A-Za-z_]\w*", key) or key in defines:
            raise ManifestError(f"{row.name}: define.{key} is no name that is free")
        defines[key] = str(int(value)) if isinstance(value, bool) else str(value)
    return defines


def parse_row(raw, source, tables):
    row = Row()
    name = row.name = raw["name"]
    if not re.fullmatch(r"[a-z0-9_]+", name):
        raise ManifestError(f"{name}: a name is made of a-z, 0-9 and _")
    row.rung_name = known(name, "rung", raw["rung"], tables.rungs)
    row.rung = tables.rungs.index(row.rung_name)
    if raw["rung"] not in name.split("_"):
        raise ManifestError(f"{name}: the rung '{raw['rung']}' must be a word of the name")
    if "op" not in raw:
        raise ManifestError(f"{name}: 'op' is missing")
    row.op = known(name, "op", raw["op"], tables.ops)
    x = known(name, "format x", raw["x"], ("f32", "f16", *INTS)) if "x" in raw else None
    row.x, row.x_bytes = (None, INTS[x]) if x in INTS else (tables.types[x] if x else None, 0)
    row.w = tables.types[known(name, "format w", str(raw["w"]).lower(), tables.types)] if "w" in raw else None
    if (row.w is None) == (row.op in OPS_WITH_W):
        raise ManifestError(f"{name}: op {row.op} {'needs a' if row.w is None else 'has no'} format w")
    if row.x_bytes and row.op not in OPS_WITH_INT_X:
        raise ManifestError(f"{name}: op {row.op} cannot ask for x = \"{x}\" (only {' '.join(sorted(OPS_WITH_INT_X))} can)")
    if row.x == "F16" and row.op not in OPS_WITH_F16_X:
        raise ManifestError(f"{name}: op {row.op} cannot ask for x = \"f16\" (only {' '.join(sorted(OPS_WITH_F16_X))} can)")
    y = raw.get("y")
    if isinstance(y, dict):                                         # which ops of the row
        for op in y:
            known(name, "op of y", op, tables.ops)
        y = y.get(row.op)
    row.y = tables.types[known(name, "format y", y, ("f16",))] if y else None
    if row.y and row.op not in OPS_WITH_F16_Y:
        raise ManifestError(f"{name}: op {row.op} cannot write y = \"f16\" (only {' '.join(sorted(OPS_WITH_F16_Y))} can)")
    row.copy = bool(raw.get("copy", False))
    if row.copy and row.op not in OPS_WITH_COPY:
        raise ManifestError(f"{name}: op {row.op} cannot write a copy (only {' '.join(sorted(OPS_WITH_COPY))} can)")
    row.file = pathlib.Path(source) / "shaders" / raw["file"]
    if not row.file.is_file():
        raise ManifestError(f"{name}: no file shaders/{raw['file']}")
    row.needs = parse_needs(name, raw.get("needs", []), row.rung, tables)
    row.window = parse_window(name, raw.get("window", {}), tables)
    row.workgroup = number(name, "workgroup", raw["workgroup"], 1, 1024)
    row.spec = parse_spec(name, raw.get("spec", {}), row.workgroup, tables)
    if row.y and len(row.spec) == MAX_SPECS:
        raise ManifestError(f"{name}: y takes a spec constant (FM_SPEC_HALVES), so at most {MAX_SPECS - 2} can stand in spec")
    row.tile = parse_tile(name, raw.get("tile", [0, 0]), tables)
    if row.op in OPS_WITH_TILE and 0 in row.tile:
        raise ManifestError(f"{name}: op {row.op} needs tile = [rows, columns], both at least 1")
    row.split = number(name, "split", raw.get("split", 1), 1, 65535)
    if row.y and row.op == "attend" and row.split > 1:
        raise ManifestError(f"{name}: y = \"f16\" and split = {row.split}, but the parts of attention are partial sums in f32")
    if row.split > 1 and row.op in OPS_WITH_PARTS and (PARTS_SPEC, "COUNT", 1) not in row.spec:
        raise ManifestError(f"{name}: split = {row.split}, so spec needs {PARTS_SPEC} = 1, which becomes the number of parts of k")
    matrix = raw.get("matrix", [0, 0, 0])
    if not isinstance(matrix, list) or len(matrix) != 3:
        raise ManifestError(f"{name}: matrix = {matrix!r}, expected [m, n, k]")
    row.matrix = [number(name, "matrix", m) for m in matrix]
    row.order = known(name, "order", raw.get("order", "none"), tables.orders)
    row.full_subgroups = bool(raw.get("full_subgroups", False))
    row.dequantize = bool(raw.get("dequantize", False))
    if row.dequantize and row.op not in OPS_WITH_TILE:
        raise ManifestError(f"{name}: op {row.op} cannot ask for dequantize (only {' '.join(sorted(OPS_WITH_TILE))} can)")
    row.opt = bool(raw.get("opt", False))
    row.priority = number(name, "priority", raw.get("priority", [10, 20, 30, 40, 60, 70][row.rung]), -1000, 1000)
    row.bound_c, row.bound_unit = parse_bound(name, raw.get("bound", {"c": 0, "unit": "f32"}))
    row.defines = row_defines(row, tables, raw.get("define", {}))
    return row


def load_manifest(source, tables):
    path = pathlib.Path(source) / "shaders/kernels.toml"
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ManifestError(f"not TOML: {error}") from error
    unknown = set(raw) - {"kernel", "lists"}
    if unknown:
        raise ManifestError(f"unknown table '{sorted(unknown)[0]}' (expected [lists] and [[kernel]])")
    rows = []
    for index, table in enumerate(raw.get("kernel", [])):
        for variant in variants_of(table, index):
            rows += [parse_row(r, source, tables) for r in expand_row(variant, raw.get("lists", {}), index)]
    seen = set()
    for row in rows:
        if row.name in seen:
            raise ManifestError(f"{row.name}: two rows have this name")
        seen.add(row.name)
    return rows


# --------------------------------------------------------------------------------------------------------------- compiling

def includes_of(path, folders, found):
    """All files that `path` includes, directly or not. Conditions are not looked at: too many files are harmless."""
    if path in found:
        return
    found.add(path)
    for name in re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(encoding="utf-8"), re.M):
        for folder in (path.parent, *folders):
            if (folder / name).is_file():
                includes_of((folder / name).resolve(), folders, found)
                break
        else:
            raise ManifestError(f"{path.name}: included file '{name}' is not there")


def check_capabilities(row, spirv):
    for capability in spirv_module.capabilities(spirv):
        if capability not in SPIRV_CAPABILITIES:
            raise ManifestError(f"{row.name}: the module declares SPIR-V capability {capability}, which no capability bit covers")
        bit = SPIRV_CAPABILITIES[capability]
        if bit and bit not in row.needs:
            raise ManifestError(f"{row.name}: the module declares SPIR-V capability {capability}, so needs must list '{bit}'")


def parameter_values(row, parameter):
    """The values of a parameter at which a row's shared memory is looked at: the ends of its window. None: it has no end."""
    low, high = next(((low, high) for name, low, high, _ in row.window if name == parameter), (0, MAX_U32))
    if parameter == "SUBGROUP":
        return [size for size in (4, 8, 16, 32, 64, 128) if low <= size <= high]
    return [low, high] if high <= LARGEST_BOUND else None


def shared_bytes(row, spirv):
    """The most shared memory that a workgroup of the row can have, whatever the problem."""
    memory = spirv_module.SharedMemory(spirv)
    memory.bytes({})
    ids, choices = [], []
    for ident, parameter, value in row.spec:
        if ident not in memory.asked:
            continue
        values = [value] if parameter == "COUNT" else parameter_values(row, parameter)
        if values is None:
            raise ManifestError(f"{row.name}: its shared memory depends on '{parameter.lower()}', for which the window has no end")
        ids.append(ident)
        choices.append(values)
    return max(memory.bytes(dict(zip(ids, values))) for values in itertools.product(*choices))


def tool_output(command, what, folder=None):
    try:
        done = subprocess.run([str(c) for c in command], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace", check=False)
    except OSError as error:
        raise ManifestError(f"{what}: cannot run {command[0]}: {error.strerror}") from error
    if done.returncode != 0:
        raise ManifestError(f"{what}: {pathlib.Path(str(command[0])).name} failed\n{done.stdout.strip()}")
    return done.stdout


def compiler_version(glslang):
    text = tool_output([glslang, "--version"], "shader compiler")
    match = re.search(r"Glslang Version: \d+:(\d+)\.(\d+)", text)
    if not match:
        raise ManifestError(f"shader compiler: {glslang} says no version that can be read")
    version = tuple(map(int, match.groups()))
    if version < OLDEST_GLSLANG:
        raise ManifestError(f"shader compiler: glslang {version[0]}.{version[1]} is too old for the rung cmr, at least "
                            f"{OLDEST_GLSLANG[0]}.{OLDEST_GLSLANG[1]} is needed (tools/build/setup.sh fetches one)")
    return text


class Compiler:
    def __init__(self, options):
        self.source = pathlib.Path(options.source).resolve()
        self.tools = options
        self.folders = [self.source / "shaders/lib", self.source / "shaders"]
        self.cache = pathlib.Path(options.cache)
        self.version = compiler_version(options.glslang)
        self.files = set()
        self.texts = {}

    def key(self, row):
        """What tells one module from another: everything that goes into it."""
        found = set()
        includes_of(row.file.resolve(), self.folders, found)
        self.files |= found
        hasher = hashlib.sha256(repr((FLAGS, self.version, sorted(row.defines.items()), row.opt, row.file.name)).encode())
        for path in sorted(found):
            if path not in self.texts:
                self.texts[path] = path.read_bytes()
            hasher.update(repr((path.name, len(self.texts[path]))).encode() + self.texts[path])
        return hasher.hexdigest()[:40]

    def compile(self, key, row):
        final = self.cache / f"{key}.spv"
        if final.is_file():
            return final.read_bytes(), False
        made = self.cache / f"{key}.{os.getpid()}.tmp"
        where = f"{row.name} (shaders/{row.file.resolve().relative_to(self.source / 'shaders')})"
        try:
            # From the folder of the shaders: the compiler puts names of files in #line, where some characters have a meaning.
            shaders = self.source / "shaders"
            words = tool_output([self.tools.glslang, *FLAGS, *(f"-I{f.relative_to(shaders)}" for f in self.folders),
                                 *(f"-D{k}={v}" for k, v in row.defines.items()), "-o", made.absolute(),
                                 row.file.resolve().relative_to(shaders)], where, shaders)
            if re.search(r"\bwarning\b", words, re.I):
                raise ManifestError(f"{where}: the compiler warns\n{words.strip()}")
            if row.opt:
                tool_output([self.tools.spirv_opt, "-O", made, "-o", made], where)
            tool_output([self.tools.spirv_val, "--target-env", "vulkan1.3", "--scalar-block-layout", made], where)
            made.replace(final)
        finally:
            made.unlink(missing_ok=True)
        return final.read_bytes(), True

    def compile_all(self, rows, jobs):
        """Sets row.spirv of all rows; the number of modules, and of those that had to be compiled."""
        self.cache.mkdir(parents=True, exist_ok=True)
        modules = {}
        for row in rows:
            row.key = self.key(row)
            modules.setdefault(row.key, row)
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            futures = {pool.submit(self.compile, key, row): key for key, row in modules.items()}
            spirv, fresh, failures = {}, 0, []
            for future in concurrent.futures.as_completed(futures):
                try:
                    spirv[futures[future]], new = future.result()
                    fresh += new
                except ManifestError as error:
                    failures.append(str(error))
        if failures:
            raise ManifestError("\n".join(sorted(failures)))
        for row in rows:
            row.spirv = spirv[row.key]
            check_capabilities(row, row.spirv)
            row.shared = shared_bytes(row, row.spirv)
            if row.shared > MOST_SHARED[min(row.rung, len(MOST_SHARED) - 1)]:
                raise ManifestError(f"{row.name}: {row.shared} bytes of shared memory, at most "
                                    f"{MOST_SHARED[min(row.rung, len(MOST_SHARED) - 1)]} on rung {row.rung_name}")
        for stale in self.cache.glob("*.spv"):
            if stale.stem not in modules:
                stale.unlink()
        return len(modules), fresh


# ------------------------------------------------------------------------------------------------------------------ output

def c_row(row, offset):
    windows = ", ".join(f"{{FM_PARAM_{p}, {low}u, {high}u, {m}u}}" for p, low, high, m in row.window)
    specs = ", ".join(f"{{{i}, FM_PARAM_{p}, {v}u}}" for i, p, v in row.spec)
    needs = " | ".join(f"(1ull << FM_CAP_INDEX_{n})" for n in row.need_idents) or "0"
    fields = [f'.name = "{row.name}"', f".op = FM_OP_{row.op_ident}", f".rung = FM_RUNG_{row.rung_ident}", f".needs = {needs}",
              f".x = FM_TYPE_{row.x or 'NONE'}", f".w = FM_TYPE_{row.w or 'NONE'}", f".x_bytes = {row.x_bytes}u",
              f".y = FM_TYPE_{row.y or 'NONE'}", *([".copy = true"] if row.copy else []),
              *([f".window = {{{windows}}}", f".n_windows = {len(row.window)}"] if row.window else []),
              f".spec = {{{specs}}}", f".n_specs = {len(row.spec)}", f".workgroup = {row.workgroup}u",
              f".tile_rows = {row.tile[0]}u", f".tile_cols = {row.tile[1]}u", f".split = {row.split}u",
              f".shared_bytes = {row.shared}u", *(f".matrix_{d} = {v}u" for d, v in zip("mnk", row.matrix)),
              f".matrix_order = FM_MATRIX_ORDER_{row.order.upper()}",
              f".dequantize = {'true' if row.dequantize else 'false'}",
              f".full_subgroups = {'true' if row.full_subgroups else 'false'}", f".priority = {row.priority}",
              f".bound_c = {row.bound_c!r}f", f".bound_unit = {row.bound_unit!r}",
              f".spirv = fm_kernel_spirv + {offset // 4}", f".spirv_bytes = {len(row.spirv)}"]
    return "    {" + ", ".join(fields) + "},\n"


ASM_TEXT = """// SPDX-License-Identifier: MIT
// The SPIR-V modules of the kernels, one after another. Generated from shaders/kernels.toml; contents {digest}
#if defined(__APPLE__)
    .section __TEXT,__const
    .globl _fm_kernel_spirv
    .private_extern _fm_kernel_spirv
    .balign 16
_fm_kernel_spirv:
#else
    .section .rodata.fm_kernel_spirv, "a"
    .globl fm_kernel_spirv
    .hidden fm_kernel_spirv
    .balign 16
fm_kernel_spirv:
#endif
    .incbin "{blob}"
    .balign 4
    .long 0
#if defined(__ELF__)
    .section .note.GNU-stack, "", %progbits
#endif
"""


def write_if_changed(path, data):
    path = pathlib.Path(path)
    if not (path.is_file() and path.read_bytes() == data):
        path.write_bytes(data)


def write_outputs(options, rows, tables):
    blob, offsets = bytearray(), {}
    hasher = hashlib.sha256()
    table = ""
    for row in rows:
        row.op_ident, row.rung_ident = tables.ops[row.op], tables.rungs[row.rung].upper()
        row.need_idents = [tables.caps[n] for n in row.needs]
        if row.key not in offsets:
            offsets[row.key] = len(blob)
            blob += row.spirv
        table += c_row(row, offsets[row.key])
    hasher.update(table.encode() + blob)
    built = [r for i, r in enumerate(tables.rungs) if any(row.rung == i for row in rows)]
    text = ("// SPDX-License-Identifier: MIT\n// The kernel table. Generated from shaders/kernels.toml by tools/build/gen_kernels.py.\n"
            '#include "kernel/kernel.h"\n\n'
            "extern const uint32_t fm_kernel_spirv[];\n\n"
            f"const struct fm_kernel fm_kernels[] = {{\n{table or '    {0},' + chr(10)}}};\n"
            f"const size_t fm_kernel_count = {len(rows)};\n"
            f"const uint64_t fm_kernel_manifest_hash = 0x{hasher.hexdigest()[:16]}ull;\n"
            f'const char *const fm_kernel_rungs_built = "{" ".join(built)}";\n')
    write_if_changed(options.out_blob, bytes(blob))
    digest = hashlib.sha256(blob).hexdigest()
    # Relative, too: the assembler runs where ninja runs.
    blob_path = os.path.relpath(options.out_blob).replace("\\", "\\\\").replace('"', '\\"')
    write_if_changed(options.out_asm, ASM_TEXT.format(digest=digest, blob=blob_path).encode())
    write_if_changed(options.out_c, text.encode())


def write_depfile(options, files):
    outputs = " ".join((options.out_c, options.out_asm, options.out_blob))
    # Relative to where ninja runs: the place of the checkout may have characters that no dependency file can hold.
    inputs = " ".join(os.path.relpath(f).replace("$", "$$").replace(" ", "\\ ") for f in sorted(files))
    pathlib.Path(options.depfile).write_text(f"{outputs}: {inputs}\n", encoding="utf-8")


def print_list(rows, tables):
    for row in rows:
        print(f"{row.name:40} {row.op:14} {(row.w or '-').lower():6} {tables.rungs[row.rung]:5} {row.priority:4} "
              f"{row.file.name} {' '.join(row.needs)}")


def main(arguments=None):
    parser = argparse.ArgumentParser(description="compiles the kernels and writes the kernel table")
    parser.add_argument("--source", required=True, metavar="DIR", help="root of the checkout")
    parser.add_argument("--list", action="store_true", help="print the expanded rows only")
    for name in ("glslang", "spirv-val", "spirv-opt", "cache", "out-c", "out-asm", "out-blob", "depfile"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)
    try:
        tables = Tables(options.source)
        rows = load_manifest(options.source, tables)
        if options.list:
            print_list(rows, tables)
            return 0
        for name in ("glslang", "spirv_val", "spirv_opt", "cache", "out_c", "out_asm", "out_blob", "depfile"):
            if getattr(options, name) is None:
                parser.error(f"--{name.replace('_', '-')} is missing")
        compiler = Compiler(options)
        modules, fresh = compiler.compile_all(rows, max(1, options.jobs))
        write_outputs(options, rows, tables)
        write_depfile(options, compiler.files | {f.resolve() for f in tables.files})
    except ManifestError as error:
        print(f"shaders/kernels.toml: {error}", file=sys.stderr)
        return 1
    counts = [(r, sum(row.rung == i for row in rows)) for i, r in enumerate(tables.rungs)]
    print(f"{len(rows)} kernels in {modules} modules ({fresh} compiled now); rungs built: "
          + " ".join(f"{r}({n})" for r, n in counts if n))
    return 0


if __name__ == "__main__":
    sys.exit(main())
