// SPDX-License-Identifier: MIT
// binary16 and bfloat16 by bit arithmetic (IEEE 754-2019, 3.6 and 7).
#include "base/half.h"

#include <string.h>

static uint32_t float_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static float bits_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

float fm_half_to_float(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t exponent = (half >> 10) & 0x1fu;
    uint32_t mantissa = half & 0x3ffu;
    if (exponent == 0) {
        // Zero or denormal: mantissa * 2^-24 is exact in f32.
        float magnitude = (float)mantissa * 0x1p-24f;
        return bits_float(float_bits(magnitude) | sign);
    }
    if (exponent == 31)
        return bits_float(sign | 0x7f800000u | (mantissa << 13));
    return bits_float(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

// `value` shifted right by `shift` (1..31), rounded to nearest, ties to even.
static uint32_t shift_round(uint32_t value, unsigned shift)
{
    uint32_t kept = value >> shift;
    uint32_t rest = value & ((1u << shift) - 1);
    uint32_t half = 1u << (shift - 1);
    return kept + (rest > half || (rest == half && (kept & 1u)));
}

uint16_t fm_float_to_half(float value)
{
    uint32_t bits = float_bits(value);
    uint16_t sign = (uint16_t)((bits >> 16) & 0x8000u);
    uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) // NaN: keep the upper payload bits, stay a (quiet) NaN
        return (uint16_t)(sign | 0x7e00u | ((magnitude >> 13) & 0x1ffu));
    if (magnitude >= 0x47800000u) // 2^16 and above, infinity
        return (uint16_t)(sign | 0x7c00u);
    if (magnitude >= 0x38800000u) // normal in binary16; rounding may carry up to infinity, as it should
        return (uint16_t)(sign | shift_round(magnitude - 0x38000000u, 13));
    if (magnitude < 0x33000000u) // below half of the smallest denormal
        return sign;
    uint32_t exponent = magnitude >> 23; // 102..112
    uint32_t mantissa = (magnitude & 0x7fffffu) | 0x800000u;
    return (uint16_t)(sign | shift_round(mantissa, 126 - exponent));
}

float fm_bf16_to_float(uint16_t bf16)
{
    return bits_float((uint32_t)bf16 << 16);
}

uint16_t fm_float_to_bf16(float value)
{
    uint32_t bits = float_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)((bits >> 16) | 0x40u); // quiet NaN
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
