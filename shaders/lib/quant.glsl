// SPDX-License-Identifier: MIT
// Decoding of weights: every format of quant.def that kernels read, in the device layout of src/quant/quant.h. The
// format is chosen by the manifest (FM_W_<TYPE>).
//
// Plain formats (FM_W_PLAIN: F32, F16, BF16) are rows of elements. Quantised ones (FM_W_QUANT) are blocks of 32; the
// smallest piece handled here is a *unit*, t = 0..3 of a block: elements 4t..4t+3 ("lo") and 16+4t..16+4t+3 ("hi"),
// because these share one word of nibbles.
//
// Bytes become floats without conversions or shifts to place: with M = 2^23, uintBitsToFloat((w & mask) | M) is 2^23 +
// q*2^s for a field of the word's lower 23 bits at bit s; subtracting 2^23 (+ bias*2^s) is exact. What remains is a
// power of two per position, 2^s: `fm_q_unit` returns q*2^s and FM_QLO, FM_QHI hold 2^-s, which the caller multiplies
// into whatever is cheapest
// (the activations, when several columns share them).
//
//   symmetric (FM_W_SYMMETRIC):  w = scale * (q - bias), the bias is taken off by fm_q_unit
//   affine    (FM_W_AFFINE):     w = scale * q + offset
//   Q6_K has two scales in a block, one for lo and one for hi elements; all others have scale.x == scale.y.
#ifndef FM_QUANT_GLSL
#define FM_QUANT_GLSL

#include "half.glsl"
#include "io.glsl"

#if defined(FM_W_F32) || defined(FM_W_F16) || defined(FM_W_BF16)
#define FM_W_PLAIN 1
#else
#define FM_W_QUANT 1
#endif

// ---- plain formats
// ------------------------------------------------------------------------------------------------------
#ifdef FM_W_PLAIN

// element e of the weight
float fm_w_element(fm_u32s w, uint e)
{
#if defined(FM_W_F32)
    return uintBitsToFloat(w.d[e]);
#elif defined(FM_W_F16)
    vec2 pair = unpackHalf2x16(w.d[e >> 1]);
    return (e & 1u) == 0u ? pair.x : pair.y;
#else
    uint word = w.d[e >> 1];
    return uintBitsToFloat((e & 1u) == 0u ? word << 16 : word & 0xffff0000u);
#endif
}

// two 16-bit elements of a word
vec2 fm_w_pair(uint word)
{
#if defined(FM_W_BF16)
    return vec2(uintBitsToFloat(word << 16), uintBitsToFloat(word & 0xffff0000u));
#else
    return fm_unpack_half2(word);
#endif
}

// elements 4i..4i+3; rows must be multiples of 4 elements long
vec4 fm_w_quad(fm_u32s w, uint i)
{
#if defined(FM_W_F32)
    return uintBitsToFloat(FM_CAST(fm_u32x4s, w).d[i]);
#else
    uvec2 words = FM_CAST(fm_u32x2s, w).d[i];
    return vec4(fm_w_pair(words.x), fm_w_pair(words.y));
#endif
}

#endif
// ---- quantised formats
// --------------------------------------------------------------------------------------------------
#ifdef FM_W_QUANT

#if defined(FM_W_Q4_1) || defined(FM_W_Q5_1) || defined(FM_W_Q4_K) || defined(FM_W_Q5_K)
#define FM_W_AFFINE 1
#else
#define FM_W_SYMMETRIC 1
#endif

// words of a block's quants: 4 (nibbles) or 8 (bytes)
#if defined(FM_W_Q8_0)
#define FM_Q_WORDS 8
#else
#define FM_Q_WORDS 4
#endif

#if defined(FM_W_Q8_0)
#define FM_QLO vec4(1.0)
#define FM_QHI vec4(1.0)
#elif defined(FM_W_Q4_0) || defined(FM_W_Q4_1) || defined(FM_W_Q4_K)
#define FM_QLO vec4(1.0, 1.0 / 256.0, 1.0, 1.0 / 256.0)
#define FM_QHI vec4(1.0 / 16.0, 1.0 / 4096.0, 1.0 / 16.0, 1.0 / 4096.0)
#else
#define FM_QLO vec4(1.0, 1.0 / 256.0, 1.0, 1.0 / 256.0)
#define FM_QHI vec4(1.0, 1.0 / 256.0, 1.0, 1.0 / 256.0)
#endif

// where the planes of a weight [n,k] begin, in words (qs begins at 0)
struct fm_planes {
    uint qh, sc, sd;
};

fm_planes fm_w_planes(uint n, uint k)
{
    uint blocks = n * (k >> 5);
    fm_planes p;
    p.qh = blocks * uint(FM_Q_WORDS);
#if defined(FM_W_Q5_0) || defined(FM_W_Q5_1) || defined(FM_W_Q5_K)
    p.sc = (p.qh + blocks + 3u) & ~3u;
#elif defined(FM_W_Q6_K)
    p.sc = (p.qh + 2u * blocks + 3u) & ~3u;
#else
    p.sc = p.qh;
#endif
    p.sd = (p.sc + (blocks >> 1) + 3u) & ~3u; // Q6_K only
    return p;
}

// the bits above the nibbles of a block: two words for Q6_K, else one (0 where the format has none)
uvec2 fm_q_high(fm_u32s w, fm_planes p, uint block)
{
#if defined(FM_W_Q5_0) || defined(FM_W_Q5_1) || defined(FM_W_Q5_K)
    return uvec2(w.d[p.qh + block], 0u);
#elif defined(FM_W_Q6_K)
    return FM_CAST(fm_u32x2s, w).d[(p.qh >> 1) + block];
#else
    return uvec2(0u);
#endif
}

// words that hold the scales of a block, as they lie in memory; fm_q_scales makes numbers of them. Apart, so that loads
// can be issued long before their use.
#if defined(FM_W_Q4_K) || defined(FM_W_Q5_K)
#define fm_q_raw_scales uvec4
#elif defined(FM_W_Q6_K)
#define fm_q_raw_scales uvec2
#else
#define fm_q_raw_scales uint
#endif

fm_q_raw_scales fm_q_load_scales(fm_u32s w, fm_planes p, uint block)
{
#if defined(FM_W_Q4_K) || defined(FM_W_Q5_K)
    return FM_CAST(fm_u32x4s, w).d[(p.sc >> 2) + (block >> 3)];
#elif defined(FM_W_Q6_K)
    return uvec2(w.d[p.sc + (block >> 1)], w.d[p.sd + (block >> 4)]);
#elif defined(FM_W_Q4_1) || defined(FM_W_Q5_1)
    return w.d[p.sc + block];
#else
    return w.d[p.sc + (block >> 1)];
#endif
}

// x: scale of lo, y: scale of hi elements, z: offset (affine formats)
vec3 fm_q_scales(fm_q_raw_scales raw, uint block)
{
#if defined(FM_W_Q4_K) || defined(FM_W_Q5_K)
    uint i = block & 7u;
    uint scale = ((raw.x >> (4u * i)) & 15u) | ((raw.z >> (2u * i)) & 3u) << 4;
    uint minimum = ((raw.y >> (4u * i)) & 15u) | ((raw.z >> (16u + 2u * i)) & 3u) << 4;
    vec2 d = unpackHalf2x16(raw.w);
    float s = d.x * float(scale);
    return vec3(s, s, -d.y * float(minimum));
#elif defined(FM_W_Q6_K)
    int at = int((block & 1u) << 4);
    vec2 pair = unpackHalf2x16(raw.y);
    float d = (block & 8u) == 0u ? pair.x : pair.y;
    return vec3(d * float(bitfieldExtract(int(raw.x), at, 8)), d * float(bitfieldExtract(int(raw.x), at + 8, 8)), 0.0);
#elif defined(FM_W_Q4_1) || defined(FM_W_Q5_1)
    vec2 d = unpackHalf2x16(raw);
    return vec3(d.x, d.x, d.y);
#else
    vec2 pair = unpackHalf2x16(raw);
    float d = (block & 1u) == 0u ? pair.x : pair.y;
    return vec3(d, d, 0.0);
#endif
}

// fields of the lower 16 bits of both halves of `word` under `mask` and mask * 256, minus `bias` at their place
vec4 fm_q_fields(uint word, uint mask, float bias)
{
    uint upper = word >> 16;
    vec4 f = vec4(uintBitsToFloat((word & mask) | 0x4b000000u), uintBitsToFloat((word & (mask << 8)) | 0x4b000000u),
                  uintBitsToFloat((upper & mask) | 0x4b000000u), uintBitsToFloat((upper & (mask << 8)) | 0x4b000000u));
    return f - (vec4(8388608.0) + bias * vec4(1.0, 256.0, 1.0, 256.0));
}

vec4 fm_q_signed_bytes(uint word)
{
    int i = int(word);
    return vec4(bitfieldExtract(i, 0, 8), bitfieldExtract(i, 8, 8), bitfieldExtract(i, 16, 8), i >> 24);
}

// Unit t of a block as unsigned bytes, without scale and offset and FM_Q_BIAS too large: q0 = word t of its quants, q1 = word t+4
// (bytes only), high = fm_q_high.
#if defined(FM_W_Q8_0)
#define FM_Q_BIAS 128.0
#elif defined(FM_W_Q4_0)
#define FM_Q_BIAS 8.0
#elif defined(FM_W_Q5_0)
#define FM_Q_BIAS 16.0
#elif defined(FM_W_Q6_K)
#define FM_Q_BIAS 32.0
#else
#define FM_Q_BIAS 0.0
#endif
void fm_q_bytes(uint q0, uint q1, uvec2 high, uint t, out uint lo, out uint hi)
{
#if defined(FM_W_Q8_0)
    lo = q0 ^ 0x80808080u;
    hi = q1 ^ 0x80808080u;
#else
    lo = q0 & 0x0f0f0f0fu;
    hi = (q0 >> 4) & 0x0f0f0f0fu;
#if defined(FM_W_Q6_K)
    lo |= ((high.x >> (2u * t)) & 0x03030303u) << 4;
    hi |= ((high.y >> (2u * t)) & 0x03030303u) << 4;
#elif defined(FM_W_Q5_0) || defined(FM_W_Q5_1) || defined(FM_W_Q5_K)
    lo |= ((high.x >> t) & 0x01010101u) << 4;
    hi |= ((high.x >> (4u + t)) & 0x01010101u) << 4;
#endif
#endif
}

// The same as numbers, without the bias. Values come without scale and offset and times 1/FM_QLO, 1/FM_QHI.
void fm_q_unit(uint q0, uint q1, uvec2 high, uint t, out vec4 lo, out vec4 hi)
{
#if defined(FM_W_Q8_0)
    lo = fm_q_signed_bytes(q0);
    hi = fm_q_signed_bytes(q1);
#elif defined(FM_W_Q4_0)
    lo = fm_q_fields(q0, 0x0fu, 8.0);
    hi = fm_q_fields(q0, 0xf0u, 128.0);
#elif defined(FM_W_Q4_1) || defined(FM_W_Q4_K)
    lo = fm_q_fields(q0, 0x0fu, 0.0);
    hi = fm_q_fields(q0, 0xf0u, 0.0);
#else
    uint a, b;
    fm_q_bytes(q0, q1, high, t, a, b);
    lo = fm_q_fields(a, 0xffu, FM_Q_BIAS);
    hi = fm_q_fields(b, 0xffu, FM_Q_BIAS);
#endif
}

// Unit t of block `block`, decoded to weights.
void fm_w_unit(fm_u32s w, fm_planes p, uint block, uint t, out vec4 lo, out vec4 hi)
{
    uint q0 = w.d[block * uint(FM_Q_WORDS) + t];
#if FM_Q_WORDS == 8
    uint q1 = w.d[block * 8u + 4u + t];
#else
    uint q1 = 0u;
#endif
    vec3 s = fm_q_scales(fm_q_load_scales(w, p, block), block);
    fm_q_unit(q0, q1, fm_q_high(w, p, block), t, lo, hi);
    lo = fma(lo * FM_QLO, vec4(s.x), vec4(s.z));
    hi = fma(hi * FM_QHI, vec4(s.y), vec4(s.z));
}

#endif
#endif
