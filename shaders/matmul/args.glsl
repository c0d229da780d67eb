// SPDX-License-Identifier: MIT
// Push constants of MATMUL, MATMUL_ADD and MATMUL_GLU, and of these with a norm before them, under one set of names, for
// kernels that serve all of them.
//   FM_STREAMS  weight matrices read (2: gate and up)
//   FM_NORMED   defined where x is normed: x^ = x norm / sqrt(mean x^2 + eps)
#ifndef FM_MATMUL_ARGS_GLSL
#define FM_MATMUL_ARGS_GLSL

#include "abi.h"
#include "io.glsl"
#include "num.glsl"

#define REF_STEP fm_u32s
#define REF_X fm_f32s
#define REF_W fm_u32s
#define REF_V fm_f32s
#define REF_Y fm_out_f32s
#define REF_PARTIAL fm_out_f32x4s
#define REF_ARRIVED fm_out_u32s

#if defined(FM_OP_NORM_MATMUL) || defined(FM_OP_NORM_MATMUL_ADD) || defined(FM_OP_NORM_MATMUL_GLU)
#define FM_NORMED 1
#endif

#if defined(FM_OP_MATMUL_GLU) || defined(FM_OP_NORM_MATMUL_GLU)
#define FM_STREAMS 2
#ifdef FM_NORMED
layout(push_constant, scalar) uniform Push { FM_PUSH_NORM_MATMUL_GLU(FM_A, FM_P) } pc;
#else
layout(push_constant, scalar) uniform Push { FM_PUSH_MATMUL_GLU(FM_A, FM_P) } pc;
#endif
#define FM_WEIGHT(stream) FM_SELECT(fm_u32s, (stream) == 0u, pc.gate, pc.up)
#else
#define FM_STREAMS 1
#ifdef FM_NORMED
layout(push_constant, scalar) uniform Push { FM_PUSH_NORM_MATMUL(FM_A, FM_P) } pc;
#else
layout(push_constant, scalar) uniform Push { FM_PUSH_MATMUL(FM_A, FM_P) } pc;
#endif
#define FM_WEIGHT(stream) pc.w
#endif

// What is left to do with the sums of one element of y: bias, residual, gate.
#if FM_STREAMS == 2
void fm_store_y(uint row, uint col, float gate, float up)
{
    pc.y.d[row * pc.n + col] = fm_act(pc.act, gate) * up;
}
#else
void fm_store_y(uint row, uint col, float sum)
{
    if (FM_PRESENT(pc.bias))
        sum += pc.bias.d[col];
#if defined(FM_OP_MATMUL_ADD) || defined(FM_OP_NORM_MATMUL_ADD)
    sum += pc.residual.d[row * pc.n + col];
#endif
    pc.y.d[row * pc.n + col] = sum;
}
#endif

#endif
