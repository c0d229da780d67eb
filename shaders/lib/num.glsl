// SPDX-License-Identifier: MIT
// Elementary functions whose error is known on every device. Vulkan allows sin and cos an absolute error of 2^-11, exp
// 3 + 2|x| ULP and log an absolute 2^-21; these use additions, multiplications and bit operations only.
#ifndef FM_NUM_GLSL
#define FM_NUM_GLSL

// enum fm_act_kind
#define FM_ACT_SILU 0u
#define FM_ACT_GELU_TANH 1u
#define FM_ACT_NONE 2u

// e^x, error below 2 ULP for results that are normal numbers; 0 below -87.33 (where the result would be denormal), +inf
// above
// 88.72, NaN for NaN. x = i ln2 + r, |r| <= ln2/2, with ln2 in two parts (Cody and Waite); e^r by its Taylor polynomial
// of degree 7 (remainder 5e-9).
float fm_exp(float x)
{
    float i = floor(x * 1.44269504089 + 0.5);
    i = clamp(i, -127.0, 128.0);
    float r = fma(i, -0.693359375, x);
    r = fma(i, 2.12194440e-4, r);
    float p = 1.0 / 5040.0;
    p = fma(p, r, 1.0 / 720.0);
    p = fma(p, r, 1.0 / 120.0);
    p = fma(p, r, 1.0 / 24.0);
    p = fma(p, r, 1.0 / 6.0);
    p = fma(p, r, 0.5);
    p = fma(p, r, 1.0);
    p = fma(p, r, 1.0);
    // 2^i in two factors, so that i = 128 and i = -126 both work
    int half_i = int(i) / 2;
    float a = intBitsToFloat((half_i + 127) << 23);
    float b = intBitsToFloat((int(i) - half_i + 127) << 23);
    float y = p * a * b;
    y = x < -87.33 ? 0.0 : y;
    y = x > 88.7228 ? uintBitsToFloat(0x7f800000u) : y;
    return isnan(x) ? x : y;
}

// Natural logarithm of a positive normal number, error below 3 ULP (absolute 2^-24 near x = 1); -inf for 0 and
// denormals. x = 2^e m, m in [sqrt(1/2), sqrt(2)); log m = 2 artanh(s), s = (m-1)/(m+1), by the series to s^9.
float fm_log(float x)
{
    uint bits = floatBitsToUint(x);
    int e = int(bits >> 23) - 127;
    float m = uintBitsToFloat((bits & 0x007fffffu) | 0x3f800000u);
    if (m > 1.41421356) {
        m *= 0.5;
        e += 1;
    }
    float s = (m - 1.0) / (m + 1.0);
    float z = s * s;
    float p = 2.0 / 9.0;
    p = fma(p, z, 2.0 / 7.0);
    p = fma(p, z, 2.0 / 5.0);
    p = fma(p, z, 2.0 / 3.0);
    float log_m = fma(p * z, s, 2.0 * s);
    float y = fma(float(e), 0.693359375, fma(float(e), -2.12194440e-4, log_m));
    return x < 1.17549435e-38 ? -uintBitsToFloat(0x7f800000u) : (bits == 0x7f800000u ? x : y);
}

// tanh(x), relative error below 4 ULP. Small arguments by the odd Taylor polynomial (|x| < 0.3, remainder 1e-8
// relative), the others by 1 - 2 / (e^2x + 1).
float fm_tanh(float x)
{
    float a = abs(x), z = x * x, y;
    if (a < 0.3) {
        float p = -1382.0 / 155925.0;
        p = fma(p, z, 62.0 / 2835.0);
        p = fma(p, z, -17.0 / 315.0);
        p = fma(p, z, 2.0 / 15.0);
        p = fma(p, z, -1.0 / 3.0);
        y = fma(p * z, a, a);
    } else {
        y = a > 10.0 ? 1.0 : 1.0 - 2.0 / (fm_exp(2.0 * a) + 1.0);
    }
    return x < 0.0 ? -y : (isnan(x) ? x : y);
}

// log(1 + x) for x in [0, 1], relative error below 4 ULP: 2 artanh(s), s = x / (2 + x) <= 1/3, by the series to s^13
// (remainder 2e-8).
float fm_log1p_unit(float x)
{
    float s = x / (2.0 + x), z = s * s;
    float p = 2.0 / 13.0;
    p = fma(p, z, 2.0 / 11.0);
    p = fma(p, z, 2.0 / 9.0);
    p = fma(p, z, 2.0 / 7.0);
    p = fma(p, z, 2.0 / 5.0);
    p = fma(p, z, 2.0 / 3.0);
    return fma(p * z, s, 2.0 * s);
}

// log(1 + e^x), relative error below 8 ULP; x + e^-x has no more digits than x beyond 20, where references return x.
float fm_softplus(float x)
{
    return max(x, 0.0) + fm_log1p_unit(fm_exp(-abs(x)));
}

float fm_silu(float x)
{
    // below -87 the quotient would be x / inf; the exact value is then smaller than 1e-36
    return x < -87.0 ? 0.0 : x / (1.0 + fm_exp(-x));
}

// the tanh form: x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), written as x / (1 + e^-2u), which does not cancel for x
// < 0
float fm_gelu_tanh(float x)
{
    float u = 0.797884560803 * fma(0.044715 * x * x, x, x);
    return u < -43.0 ? 0.0 : x / (1.0 + fm_exp(-2.0 * u));
}

float fm_act(uint kind, float x)
{
    return kind == FM_ACT_SILU ? fm_silu(x) : kind == FM_ACT_NONE ? x : fm_gelu_tanh(x);
}

// cos and sin of `turn` / 2^32 turns (one turn = 2 pi), error below 2^-22. The nearest quarter turn comes from the
// bits; Taylor polynomials for the rest, |angle| <= pi/4.
vec2 fm_cos_sin_turn(uint turn)
{
    uint q = (turn + 0x20000000u) >> 30;
    float a = float(int(turn - (q << 30))) * 1.46291807926715968e-9; // 2 pi / 2^32
    float z = a * a;
    float s = -1.0 / 39916800.0;
    s = fma(s, z, 1.0 / 362880.0);
    s = fma(s, z, -1.0 / 5040.0);
    s = fma(s, z, 1.0 / 120.0);
    s = fma(s, z, -1.0 / 6.0);
    s = fma(s * z, a, a);
    float c = 1.0 / 479001600.0;
    c = fma(c, z, -1.0 / 3628800.0);
    c = fma(c, z, 1.0 / 40320.0);
    c = fma(c, z, -1.0 / 720.0);
    c = fma(c, z, 1.0 / 24.0);
    c = fma(c, z, -0.5);
    c = fma(c, z, 1.0);
    vec2 r = (q & 1u) == 0u ? vec2(c, s) : vec2(-s, c);
    return q >= 2u ? -r : r;
}

#endif
