# SPDX-License-Identifier: MIT
"""Reads a GGUF v3 file whole: metadata as a dict, tensors as row-major f32 arrays, [out, in] for a matrix."""
import struct

import numpy as np

from gguf_writer import ALIGNMENT_BYTES, ARRAY, Q8_0_BLOCK_ELEMS, STRING, TENSOR_TYPE, _PACK

_TYPE_NAME = {number: name for name, number in TENSOR_TYPE.items()}
_ELEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2}


class _Cursor:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, size_bytes):
        if self.at + size_bytes > len(self.data):
            raise ValueError(f"offset {self.at}: {size_bytes} bytes wanted, {len(self.data) - self.at} left")
        self.at += size_bytes
        return self.data[self.at - size_bytes:self.at]

    def number(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def string(self):
        return self.take(self.number("<Q")).decode("utf-8")

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            item, count = self.number("<I"), self.number("<Q")
            return [self.value(item) for _ in range(count)]
        if kind not in _PACK:
            raise ValueError(f"offset {self.at}: value type {kind}, known are {sorted(_PACK)}, strings and arrays")
        return self.number(_PACK[kind])


def _decode(raw, kind, name):
    if kind == "F32":
        return np.frombuffer(raw, dtype="<f4")
    if kind == "F16":
        return np.frombuffer(raw, dtype="<f2").astype(np.float32)
    if kind == "BF16":
        return (np.frombuffer(raw, dtype="<u2").astype("<u4") << 16).view("<f4")
    if kind == "Q8_0":
        blocks = np.frombuffer(raw, dtype=np.uint8).reshape(-1, 2 + Q8_0_BLOCK_ELEMS)
        return (blocks[:, 2:].view(np.int8).astype(np.float32) * blocks[:, :2].copy().view("<f2").astype(np.float32)).ravel()
    raise ValueError(f"tensor {name}: type {kind}, known are {sorted(TENSOR_TYPE)}")


def read(path):
    """-> ({key: value}, {name: f32 array})."""
    with open(path, "rb") as f:
        c = _Cursor(f.read())
    magic, version = c.take(4), c.number("<I")
    if magic != b"GGUF" or version != 3:
        raise ValueError(f"{path}: expected GGUF version 3, found {magic!r} version {version}")
    n_tensors, n_keys = c.number("<Q"), c.number("<Q")
    keys = {}
    for _ in range(n_keys):
        name = c.string()
        keys[name] = c.value(c.number("<I"))
    infos = []
    for _ in range(n_tensors):
        name = c.string()
        dims = [c.number("<Q") for _ in range(c.number("<I"))]
        infos.append((name, tuple(reversed(dims)), _TYPE_NAME.get(c.number("<I")), c.number("<Q")))
    base = -(-c.at // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
    tensors = {}
    for name, shape, kind, offset in infos:
        count = int(np.prod(shape))
        size_bytes = count // Q8_0_BLOCK_ELEMS * (2 + Q8_0_BLOCK_ELEMS) if kind == "Q8_0" else count * _ELEM_BYTES.get(kind, 0)
        c.at = base + offset
        tensors[name] = _decode(c.take(size_bytes), kind, name).reshape(shape)
    return keys, tensors
