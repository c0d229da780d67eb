// SPDX-License-Identifier: MIT
// Arguments of linear_attend, linear_states and linear_scan, and where their elements lie. Define REF_X, REF_STATE and REF_Y
// before including where they are not single numbers.
#ifndef FM_LIGHTNING_ARGS_GLSL
#define FM_LIGHTNING_ARGS_GLSL

#include "abi.h"
#include "io.glsl"
#include "spec.glsl"
#include "num.glsl"
#include "segment.glsl"

#define REF_STEP fm_u32s
#define REF_SEGMENT fm_u32x4s
#define REF_V fm_f32s
#ifndef REF_X
#define REF_X fm_f32s
#endif
#ifndef REF_STATE
#define REF_STATE fm_out_f32s
#endif
#ifndef REF_Y
#define REF_Y fm_out_f32s
#endif

layout(push_constant, scalar) uniform Push
{
#if defined(FM_OP_LINEAR_ATTEND)
    FM_PUSH_LINEAR_ATTEND(FM_A, FM_P)
#elif defined(FM_OP_LINEAR_STATES)
    FM_PUSH_LINEAR_STATES(FM_A, FM_P)
#else
    FM_PUSH_LINEAR_SCAN(FM_A, FM_P)
#endif
} pc;

// First element of version `version` (fm_state_version) of head h of the state [S,B,H*K,P], and of a part's [parts,H*K,P].
uint state_at(uint version, uint h)
{
    return (version * pc.heads + h) * pc.key * pc.head;
}

// exp(-x) as a sum of two factors, for s <- y.x s + (y.y s + z): decays next to 1, multiplied up over a hundred thousand tokens,
// want more than one float, and less than one rounding of s besides that of the sum. Slow decays are 1 and what is lost, so that
// the first product is exact whether or not the driver fuses it with the sum; a decay just below 1 would round s the same way
// at every token. The second factor of fast decays is 0. 1 - e^-x by its Taylor series to x^10 (x < 1/2, remainder 1e-11).
vec2 decay_of(float x)
{
    if (x >= 0.5)
        return vec2(fm_exp(-x), 0.0);
    float p = 1.0;
    for (float i = 10.0; i > 1.0; i -= 1.0)
        p = fma(-p, x / i, 1.0);
    return vec2(1.0, -p * x);
}

#ifndef FM_OP_LINEAR_SCAN
// First elements of a row's query, key and value of head h.
uint query_at(uint row, uint h)
{
    return (row * 2u * pc.heads + h) * pc.key;
}

uint key_at(uint row, uint h)
{
    return ((row * 2u + 1u) * pc.heads + h) * pc.key;
}

uint value_at(uint row, uint h)
{
    return (row * pc.heads + h) * pc.head;
}
#endif

#endif
