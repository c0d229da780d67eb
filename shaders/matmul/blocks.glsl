// SPDX-License-Identifier: MIT
// Blocks of 32 for products in integers: of x, as integers of 16 or 8 bits with one step, and of quantised weights, as bytes.
//
// A block of x becomes x = step * i with step = max |x| / 32512 and i = 256 h + l, two signed bytes, or step = max |x| / 127 and i
// one signed byte: |x - step * i| <= step / 2. Below 1e-33 step stops shrinking. A NaN in a block makes its step NaN, an infinity makes
// it infinite, so that neither is lost.
#ifndef FM_MATMUL_BLOCKS_GLSL
#define FM_MATMUL_BLOCKS_GLSL

#include "io.glsl"

// ---- x -----------------------------------------------------------------------------------------------------------

#define FM_MOST_TWO 32512.0 // largest i of two planes of bytes, 127 * 256, and of one
#define FM_MOST_ONE 127.0

// Magnitudes compare as their bits do, with NaN above all else; a maximum of floats may forget it.
uint fm_block_bits(vec4 x)
{
    uvec4 m = floatBitsToUint(x) & 0x7fffffffu;
    return max(max(m.x, m.y), max(m.z, m.w));
}

// The largest magnitude of a block, from the largest of its bits; x * most / that is i.
float fm_block_most(uint bits)
{
    return uintBitsToFloat(max(bits, floatBitsToUint(1e-33)));
}

// The lower 16 bits of these are i + 128: byte 1 is h, byte 0 is l + 128. Of one plane byte 0 is i + 128.
const float FM_INT_MAGIC = 12582912.0 + 128.0; // 1.5 * 2^23

uvec4 fm_block_ints(vec4 x, float inverse)
{
    return floatBitsToUint(fma(x, vec4(inverse), vec4(FM_INT_MAGIC)));
}

int fm_sum_ints(uvec4 v)
{
    return int(v.x + v.y + v.z + v.w - 4u * floatBitsToUint(FM_INT_MAGIC));
}

uint fm_pack_bytes(uvec4 v, int bit)
{
    uvec4 b = (v >> bit) & 0xffu;
    return b.x | b.y << 8 | b.z << 16 | b.w << 24;
}

uint fm_pack_high(uvec4 v)
{
    return fm_pack_bytes(v, 8);
}

uint fm_pack_low(uvec4 v)
{
    return fm_pack_bytes(v, 0) ^ 0x80808080u;
}

// ---- weights -----------------------------------------------------------------------------------------------------

#ifdef FM_W_QUANT
// a block as it lies in memory
struct fm_raw_block {
    uvec4 q0;
#if FM_Q_WORDS == 8
    uvec4 q1;
#endif
    uvec2 high;
    fm_q_raw_scales scales;
};

fm_raw_block fm_load_block(fm_u32s w, fm_planes planes, uint block)
{
    fm_raw_block raw;
#if FM_Q_WORDS == 8
    raw.q0 = FM_CAST(fm_u32x4s, w).d[2u * block];
    raw.q1 = FM_CAST(fm_u32x4s, w).d[2u * block + 1u];
#else
    raw.q0 = FM_CAST(fm_u32x4s, w).d[block];
#endif
    raw.high = fm_q_high(w, planes, block);
    raw.scales = fm_q_load_scales(w, planes, block);
    return raw;
}

// Quants as bytes, four of lo elements and four of hi elements a word, FM_Q_BIAS too large except for Q8_0.
void fm_unpack_block(fm_raw_block raw, out uvec4 lo, out uvec4 hi)
{
#if FM_Q_WORDS == 8
    lo = raw.q0;
    hi = raw.q1;
#else
    lo = raw.q0 & 0x0f0f0f0fu;
    hi = (raw.q0 >> 4) & 0x0f0f0f0fu;
#if defined(FM_W_Q6_K)
    lo |= ((uvec4(raw.high.x) >> uvec4(0u, 2u, 4u, 6u)) & 0x03030303u) << 4;
    hi |= ((uvec4(raw.high.y) >> uvec4(0u, 2u, 4u, 6u)) & 0x03030303u) << 4;
#elif defined(FM_W_Q5_0) || defined(FM_W_Q5_1) || defined(FM_W_Q5_K)
    lo |= ((uvec4(raw.high.x) >> uvec4(0u, 1u, 2u, 3u)) & 0x01010101u) << 4;
    hi |= ((uvec4(raw.high.x) >> uvec4(4u, 5u, 6u, 7u)) & 0x01010101u) << 4;
#endif
#endif
}
#endif

#endif
