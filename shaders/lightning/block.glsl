// SPDX-License-Identifier: MIT
// What block_cm.comp and block_cmr.comp share. First, activations by the hardware's exponential: its error is far below the rounding to f16
// that follows. Second, the powers of two that keep numbers in f16's range.
#ifndef FM_LIGHTNING_BLOCK_GLSL
#define FM_LIGHTNING_BLOCK_GLSL

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

// The power of two p for which p * bound is at most 2^15. Both p and 1 / p are normal numbers of f32.
float fit_half(float bound)
{
    int e = int(floatBitsToUint(bound) >> 23); // bound < 2^(e - 126)
    return uintBitsToFloat(uint(clamp(268 - e, 2, 252)) << 23);
}

#endif
