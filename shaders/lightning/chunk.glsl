// SPDX-License-Identifier: MIT
// What the chunked kernels on matrix units share: activations at the speed of the hardware's exponential, which f16 factors do
// not tell from the exact one, and powers of two that keep sums within f16.
#ifndef FM_CHUNK_GLSL
#define FM_CHUNK_GLSL

float fast_silu(float x)
{
    return clamp(x < -80.0 ? 0.0 : x / (1.0 + exp(-x)), -65504.0, 65504.0);
}

vec4 fast_silu(vec4 x)
{
    return vec4(fast_silu(x.x), fast_silu(x.y), fast_silu(x.z), fast_silu(x.w));
}

float fast_act(float x)
{
    if (pc.act != FM_ACT_SILU)
        return clamp(fm_act(pc.act, x), -65504.0, 65504.0);
    return fast_silu(x);
}

vec4 fast_act(vec4 x)
{
    return vec4(fast_act(x.x), fast_act(x.y), fast_act(x.z), fast_act(x.w));
}

// The power of two that brings numbers of at most `bound` to at most 2^15. It and its inverse are normal numbers.
float fit_half(float bound)
{
    int e = int(floatBitsToUint(bound) >> 23); // bound < 2^(e - 126)
    return uintBitsToFloat(uint(clamp(268 - e, 2, 252)) << 23);
}

#endif
