// SPDX-License-Identifier: MIT
// The arguments of linear_attend, linear_states and linear_scan, and where elements of its operands lie. A kernel that reads or writes
// an operand in units of several numbers defines REF_X (queries, keys, values), REF_STATE or REF_Y before it includes this.
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

// The first element of head h in a state [S,B,H*K,P], where `place` is a state version (fm_state_version); and in the states of parts,
// [parts,H*K,P], where `place` is a part's number.
uint state_at(uint place, uint h)
{
    return (place * pc.heads + h) * pc.key * pc.head;
}

// The decay exp(-x) as a sum of two numbers, y.x + y.y. A state then goes from s to y.x s + (y.y s + z), where z is what is added to it.
// Why two numbers: slow decays lie next to 1, and a sequence multiplies by them a hundred thousand times. One float is too coarse for
// them, and each step may round s only once, in the last sum. So:
// - For x < 1/2 the decay is 1 + y.y, where y.y = -(1 - exp(-x)) is computed by its Taylor series up to x^10 (the remainder is below
//   1e-11). The product 1 s is exact, whether the driver fuses it with the sum or not. (With y.x = exp(-x), a number just below 1,
//   the product y.x s would be rounded, and in the same direction at every token.)
// - For larger x, y.x = exp(-x) and y.y = 0.
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
// The first element of head h's query, key and value in a row: qk [T,2*H*K] holds all queries of a row, then all its keys; v is [T,H*P].
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
