// SPDX-License-Identifier: MIT
// Halves: how kernels turn them into f32 and back. Rung f16 has native ones (capability float16).
#ifndef FM_HALF_GLSL
#define FM_HALF_GLSL

#ifdef FM_RUNG_F16
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#endif

// Two halves of a word as f32. Words, not 16-bit types, are what kernels load: 16 bytes of them are one load everywhere.
vec2 fm_unpack_half2(uint word)
{
#ifdef FM_RUNG_F16
    return vec2(unpackFloat2x16(word));
#else
    return unpackHalf2x16(word);
#endif
}

// f32 -> f16 by the device's own conversion, which Vulkan lets round to either neighbour.
uint fm_round_half2(vec2 x)
{
    return packHalf2x16(x);
}

// f32 -> f16 by integer arithmetic: round to nearest even on every device (packHalf2x16 may truncate). Overflow gives
// infinity, NaN stays NaN.

uint fm_half_bits(float x)
{
    uint bits = floatBitsToUint(x);
    uint sign = (bits >> 16) & 0x8000u;
    uint a = bits & 0x7fffffffu;
    if (a >= 0x47800000u) // 65536 and above
        return sign | (a > 0x7f800000u ? 0x7e00u : 0x7c00u);
    if (a < 0x38800000u) { // below 2^-14: a denormal half; adding 0.5 lines the bits up, the addition rounds
        uint r = floatBitsToUint(uintBitsToFloat(a) + 0.5) - 0x3f000000u;
        return sign | r;
    }
    return sign | ((a + 0xfffu + ((a >> 13) & 1u)) - 0x38000000u) >> 13;
}

uint fm_pack_half2(float low, float high)
{
    return fm_half_bits(low) | (fm_half_bits(high) << 16);
}

#endif
