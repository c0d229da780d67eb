// SPDX-License-Identifier: MIT
#ifndef FM_HALF_GLSL
#define FM_HALF_GLSL

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
