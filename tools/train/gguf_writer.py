# SPDX-License-Identifier: MIT
"""A minimal GGUF v3 writer: metadata, tensors in F32, F16, BF16 and Q8_0, 32-byte alignment.

Tensors are given as row-major numpy arrays, [out, in] for a matrix; the file lists dimensions fastest first.
"""
import struct

import numpy as np

ALIGNMENT_BYTES = 32
Q8_0_BLOCK_ELEMS = 32

# metadata value types of the format
U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
_PACK = {U8: "<B", I8: "<b", U16: "<H", I16: "<h", U32: "<I", I32: "<i", F32: "<f", BOOL: "<?", U64: "<Q",
         I64: "<q", F64: "<d"}

# tensor types of the format, and the value of general.file_type that goes with each
TENSOR_TYPE = {"F32": 0, "F16": 1, "Q8_0": 8, "BF16": 30}
FILE_TYPE = {"F32": 0, "F16": 1, "Q8_0": 7, "BF16": 32}

# tokenizer.ggml.token_type
TOKEN_NORMAL, TOKEN_UNKNOWN, TOKEN_CONTROL, TOKEN_USER, TOKEN_UNUSED, TOKEN_BYTE = range(1, 7)


def quantize_q8_0(x):
    """x [rows, cols] f32 -> bytes of [rows, cols/32] blocks {f16 d; i8 q[32]}, d = max|x| / 127, q = round(x / d).

    Rounds halves away from zero, as C's roundf does; q is computed with the unrounded f32 scale.
    """
    blocks = np.ascontiguousarray(x, dtype=np.float32).reshape(-1, Q8_0_BLOCK_ELEMS)
    scale = (np.abs(blocks).max(axis=1) / np.float32(127)).astype(np.float32)
    inverse = np.zeros_like(scale)
    np.divide(np.float32(1), scale, out=inverse, where=scale > 0)
    scaled = (blocks * inverse[:, None]).astype(np.float32).astype(np.float64)
    q = (np.sign(scaled) * np.floor(np.abs(scaled) + 0.5)).astype(np.int8)
    out = np.empty((len(blocks), 2 + Q8_0_BLOCK_ELEMS), dtype=np.uint8)
    out[:, :2] = scale.astype("<f2").view(np.uint8).reshape(-1, 2)
    out[:, 2:] = q.view(np.uint8)
    return out.tobytes()


def dequantize_q8_0(x):
    """x [rows, cols] f32 -> the f32 values that a reader of the Q8_0 form of x sees, same shape."""
    raw = np.frombuffer(quantize_q8_0(x), dtype=np.uint8).reshape(-1, 2 + Q8_0_BLOCK_ELEMS)
    scale = raw[:, :2].copy().view("<f2").astype(np.float32)
    return (raw[:, 2:].view(np.int8).astype(np.float32) * scale).reshape(x.shape)


def _encode_bf16(x):
    """Round f32 to bf16, nearest even. x holds finite values only."""
    bits = np.ascontiguousarray(x, dtype="<f4").view("<u4").astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()


def _encode(x, kind):
    if kind == "F32":
        return np.ascontiguousarray(x, dtype="<f4").tobytes()
    if kind == "F16":
        return np.ascontiguousarray(x, dtype="<f2").tobytes()
    if kind == "BF16":
        return _encode_bf16(x)
    if kind == "Q8_0":
        return quantize_q8_0(x)
    raise ValueError(f"tensor type {kind}: expected one of {sorted(TENSOR_TYPE)}")


def _string(text):
    raw = text if isinstance(text, bytes) else text.encode("utf-8")
    return struct.pack("<Q", len(raw)) + raw


class GgufWriter:
    """Collects metadata and tensors, then writes them with save()."""

    def __init__(self, arch):
        self._meta = {}
        self._tensors = []
        self.string("general.architecture", arch)

    def _put(self, key, kind, payload):
        if key in self._meta:
            raise ValueError(f"metadata key {key}: given twice")
        self._meta[key] = struct.pack("<I", kind) + payload

    def scalar(self, key, kind, value):
        self._put(key, kind, struct.pack(_PACK[kind], value))

    def u32(self, key, value):
        self.scalar(key, U32, int(value))

    def f32(self, key, value):
        self.scalar(key, F32, float(value))

    def bool(self, key, value):
        self.scalar(key, BOOL, bool(value))

    def string(self, key, value):
        self._put(key, STRING, _string(value))

    def array(self, key, kind, values):
        if kind == STRING:
            body = b"".join(_string(v) for v in values)
        else:
            body = b"".join(struct.pack(_PACK[kind], v) for v in values)
        self._put(key, ARRAY, struct.pack("<IQ", kind, len(values)) + body)

    def tensor(self, name, x, kind="F32"):
        x = np.asarray(x, dtype=np.float32)
        if not np.isfinite(x).all():
            raise ValueError(f"tensor {name}: holds values that are not finite")
        if kind == "Q8_0" and x.shape[-1] % Q8_0_BLOCK_ELEMS:
            raise ValueError(f"tensor {name}: {x.shape[-1]} columns, Q8_0 needs a multiple of {Q8_0_BLOCK_ELEMS}")
        self._tensors.append((name, x.shape, TENSOR_TYPE[kind], _encode(x, kind)))

    def save(self, path):
        head = [b"GGUF", struct.pack("<IQQ", 3, len(self._tensors), len(self._meta))]
        head += [_string(key) + value for key, value in self._meta.items()]
        offset_bytes = 0
        for name, shape, kind, data in self._tensors:
            head.append(_string(name) + struct.pack("<I", len(shape)))
            head.append(b"".join(struct.pack("<Q", d) for d in reversed(shape)))
            head.append(struct.pack("<IQ", kind, offset_bytes))
            offset_bytes += _padded(len(data))
        raw = b"".join(head)
        with open(path, "wb") as f:
            f.write(raw.ljust(_padded(len(raw)), b"\0"))
            for _, _, _, data in self._tensors:
                f.write(data.ljust(_padded(len(data)), b"\0"))


def _padded(size_bytes):
    return -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def permute_rope(w, n_head):
    """Rows of a q or k projection (or its bias) from half-split RoPE order to adjacent pairs.

    w [H*C, D] or [H*C]: new row h*C + 2m + b is old row h*C + b*C/2 + m, which is what arch "llama" expects.
    """
    width = w.shape[0] // n_head
    return w.reshape(n_head, 2, width // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def unpermute_rope(w, n_head):
    """The reverse of permute_rope."""
    width = w.shape[0] // n_head
    return w.reshape(n_head, width // 2, 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)
