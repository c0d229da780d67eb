# SPDX-License-Identifier: MIT
"""Model files for tests of the converter, by the standard library alone: GGUF is read, safetensors, PyTorch archives and
SentencePiece models are written. None of it shares code with what it tests."""

import collections
import io
import json
import pathlib
import pickle
import struct
import sys
import types
import zipfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools/dev"))
import gguf_dump    # pylint: disable=wrong-import-position

ELEMENT_BYTES = {"F32": 4, "F16": 2, "BF16": 2}


class Tensor:
    """dtype: "F32", ...; shape in PyTorch's order; data: bytes."""

    def __init__(self, dtype, shape, data):
        self.dtype, self.shape, self.data = dtype, tuple(shape), bytes(data)

    def rows(self):
        size = len(self.data) // self.shape[0]
        return [self.data[i * size:(i + 1) * size] for i in range(self.shape[0])]

    def floats(self):
        return struct.unpack(f"<{len(self.data) // 4}f", self.data)


def from_rows(rows, cols=None):
    return Tensor("F32", (len(rows),) if cols is None else (len(rows), cols), b"".join(rows))


def from_floats(values, shape):
    return Tensor("F32", shape, struct.pack(f"<{len(values)}f", *values))


def dequantised(t):
    """The f32 tensor that a reader of a Q8_0 one sees; others as they are."""
    if t.dtype != "Q8_0":
        return t
    out = []
    for at in range(0, len(t.data), 34):
        scale, *q = struct.unpack_from("<e32b", t.data, at)
        out += [scale * x for x in q]   # exact in f32
    return from_floats(out, t.shape)


def read_gguf(path):
    """-> metadata as a dictionary, tensors as a dictionary of Tensor in the order of the file."""
    r = gguf_dump.Reader(path)
    if r.take(4) != b"GGUF" or r.number("<I") != 3:
        raise AssertionError(f"{path}: no GGUF of version 3")
    count, pairs = r.number("<Q"), r.number("<Q")
    meta = {}
    for _ in range(pairs):
        key = r.string().decode()
        if key in meta:
            raise AssertionError(f"{path}: {key} twice")
        meta[key] = r.value(r.number("<I"))
    entries = []
    for _ in range(count):
        name = r.string().decode()
        dims = [r.number("<Q") for _ in range(r.number("<I"))][::-1]
        entries.append((name, dims, r.number("<I"), r.number("<Q")))
    base = (r.at + 31) // 32 * 32
    tensors = {}
    for name, dims, kind, offset in entries:
        dtype, block, size = gguf_dump.TYPES[kind]
        elems = 1
        for d in dims:
            elems *= d
        begin, size = base + offset, elems // block * size
        if offset % 32 or begin + size > len(r.data):
            raise AssertionError(f"{path}: {name} lies badly")
        tensors[name] = Tensor(dtype, dims, r.data[begin:begin + size])
    return meta, tensors


def write_safetensors(path, tensors):
    header, data = {}, io.BytesIO()
    for name, t in tensors.items():
        begin = data.tell()
        data.write(t.data)
        header[name] = {"dtype": t.dtype, "shape": t.shape, "data_offsets": [begin, data.tell()]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data.getvalue())


def write_sharded(folder, tensors, shards):
    """model-0000i-of-0000n.safetensors and their index."""
    names = list(tensors)
    index = {}
    for i in range(shards):
        part = names[i::shards]
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        write_safetensors(folder / file, {name: tensors[name] for name in part})
        index |= {name: file for name in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))


def write_torch(path, tensors):
    """What torch.save makes of a state_dict: tensors are rebuilt by a function of torch._utils from storages that the
    archive holds beside the pickle."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})

    def rebuild():
        raise AssertionError("never called here")
    rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = rebuild

    class Storage:
        def __init__(self, key, count):
            self.key, self.count = key, count

    class Pickled:
        def __init__(self, storage, shape):
            self.storage, self.shape = storage, shape

        def __reduce__(self):
            stride, step = [], 1
            for d in reversed(self.shape):
                stride.insert(0, step)
                step *= d
            return rebuild, (self.storage, 0, self.shape, tuple(stride), False, collections.OrderedDict())

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            return ("storage", torch.FloatStorage, obj.key, "cpu", obj.count) if isinstance(obj, Storage) else None
    state, stream = collections.OrderedDict(), io.BytesIO()
    for i, (name, t) in enumerate(tensors.items()):
        state[name] = Pickled(Storage(str(i), len(t.data) // 4), t.shape)
    saved = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules |= {"torch": torch, "torch._utils": utils}
    try:
        Pickler(stream, 2).dump(state)
    finally:
        for name, module in saved.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as z:
        z.writestr("archive/data.pkl", stream.getvalue())
        z.writestr("archive/byteorder", b"little")
        for i, t in enumerate(tensors.values()):
            z.writestr(f"archive/data/{i}", t.data)
        z.writestr("archive/version", b"3\n")


def _varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def _field(number, wire, payload):
    return _varint(number << 3 | wire) + (_varint(len(payload)) + payload if wire == 2 else payload)


def sentencepiece(tokens, scores, kinds, model_type=2, dummy_prefix=True):
    """The bytes of a tokenizer.model."""
    out = b""
    for text, score, kind in zip(tokens, scores, kinds):
        piece = _field(1, 2, text.encode()) + _field(2, 5, struct.pack("<f", score))
        out += _field(1, 2, piece + (b"" if kind == 1 else _field(3, 0, _varint(kind))))
    out += _field(2, 2, _field(3, 0, _varint(model_type)) + _field(40, 0, _varint(0)) + _field(41, 0, _varint(1)) +
                  _field(42, 0, _varint(2)) + _field(43, 0, _varint((1 << 64) - 1)))
    return out + _field(3, 2, _field(1, 2, b"identity") + _field(3, 0, _varint(int(dummy_prefix))))


def sentencepiece_rules(remove_extra=True, escape=True):
    """Settings of the normaliser that are added to a tokenizer.model: fields that come later count."""
    return _field(3, 2, _field(4, 0, _varint(int(remove_extra))) + _field(5, 0, _varint(int(escape))))


def sentencepiece_bytes():
    """The setting byte_fallback, likewise."""
    return _field(2, 2, _field(35, 0, _varint(1)))
