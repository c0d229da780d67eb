# SPDX-License-Identifier: MIT
"""GGUF files written by the standard library alone, for tests that change a model a little: read one with
checkpoint_files.read_gguf, change keys or tensors, write it."""

import struct

KINDS = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 8}
HALF_NAN = b"\x00\x7e"


def _text(text):
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(value):
    """-> type, bytes; whole numbers are u32, or i32 when negative."""
    if isinstance(value, bool):
        return 7, struct.pack("<?", value)
    if isinstance(value, int):
        return (4, struct.pack("<I", value)) if value >= 0 else (5, struct.pack("<i", value))
    if isinstance(value, float):
        return 6, struct.pack("<f", value)
    if isinstance(value, str):
        return 8, _text(value)
    kinds = [_value(v) for v in value] or [(4, b"")]
    return 9, struct.pack("<IQ", kinds[0][0], len(value)) + b"".join(raw for _, raw in kinds)


def write_gguf(path, meta, tensors):
    """meta: a dictionary; tensors: a dictionary of checkpoint_files.Tensor."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(meta))
    for key, value in meta.items():
        kind, raw = _value(value)
        head += _text(key) + struct.pack("<I", kind) + raw
    body = b""
    for name, t in tensors.items():
        dims = t.shape[::-1]
        head += _text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, KINDS[t.dtype], len(body))
        body += t.data + b"\0" * (-len(t.data) % 32)
    path.write_bytes(head + b"\0" * (-len(head) % 32) + body)
