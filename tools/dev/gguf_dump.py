#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Lists a GGUF file: metadata, tensors, and whether every tensor lies inside the file. Standard library only.

python3 tools/dev/gguf_dump.py FILE...
"""
import struct
import sys

SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, ARRAY = 8, 9
# tensor type -> (name, elements a block, bytes a block)
TYPES = {0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
         7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176),
         14: ("Q6_K", 256, 210), 30: ("BF16", 1, 2)}
SHOWN_ITEMS = 4


class Reader:
    def __init__(self, path):
        with open(path, "rb") as f:
            self.data = f.read()
        self.at = 0

    def take(self, size_bytes):
        if self.at + size_bytes > len(self.data):
            raise ValueError(f"offset {self.at}: {size_bytes} bytes wanted, {len(self.data) - self.at} left")
        self.at += size_bytes
        return self.data[self.at - size_bytes:self.at]

    def number(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def string(self):
        return self.take(self.number("<Q"))

    def value(self, kind):
        if kind in SCALARS:
            return self.number(SCALARS[kind])
        if kind == STRING:
            return self.string().decode("utf-8", "backslashreplace")
        if kind == ARRAY:
            item, count = self.number("<I"), self.number("<Q")
            return [self.value(item) for _ in range(count)]
        raise ValueError(f"offset {self.at}: value type {kind}, known are 0 to 12")


def dump(path):
    r = Reader(path)
    if r.take(4) != b"GGUF":
        raise ValueError("magic: expected 'GGUF'")
    version, tensors, pairs = r.number("<I"), r.number("<Q"), r.number("<Q")
    print(f"{path}: version {version}, {tensors} tensors, {pairs} metadata pairs, {len(r.data)} bytes")
    alignment = 32
    for _ in range(pairs):
        key = r.string().decode()
        value = r.value(r.number("<I"))
        if key == "general.alignment":
            alignment = value
        more = f" ... {len(value)} items" if isinstance(value, list) and len(value) > SHOWN_ITEMS else ""
        print(f"  {key} = {(value[:SHOWN_ITEMS] if isinstance(value, list) else value)!r}{more}")
    infos = []
    for _ in range(tensors):
        name = r.string().decode()
        dims = [r.number("<Q") for _ in range(r.number("<I"))]
        infos.append((name, dims, r.number("<I"), r.number("<Q")))
    base = -(-r.at // alignment) * alignment
    for name, dims, kind, offset in infos:
        label, elems, size = TYPES[kind]
        count = 1
        for d in dims:
            count *= d
        if dims[0] % elems or offset % alignment or base + offset + count // elems * size > len(r.data):
            raise ValueError(f"tensor {name}: {label} {dims} at {offset} does not fit the file or its alignment")
        print(f"  {name:32} {label:5} {dims} at {offset}")


if __name__ == "__main__":
    for file in sys.argv[1:]:
        try:
            dump(file)
        except (ValueError, OSError) as error:
            sys.exit(f"{file}: {error}")
