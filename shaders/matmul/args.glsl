// SPDX-License-Identifier: MIT
// Push constants of MATMUL, MATMUL_ADD and MATMUL_GLU under one set of names, for kernels that serve all three.
//   FM_STREAMS  weight matrices read (2: gate and up)
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

#ifdef FM_OP_MATMUL_GLU
#define FM_STREAMS 2
layout(push_constant, scalar) uniform Push { FM_PUSH_MATMUL_GLU(FM_A, FM_P) } pc;
#define FM_WEIGHT(stream) FM_SELECT(fm_u32s, (stream) == 0u, pc.gate, pc.up)
#else
#define FM_STREAMS 1
layout(push_constant, scalar) uniform Push { FM_PUSH_MATMUL(FM_A, FM_P) } pc;
#define FM_WEIGHT(stream) pc.w
#endif

// What is left to do with the sums of one element of y: bias, residual, gate.
#ifdef FM_OP_MATMUL_GLU
void fm_store_y(uint row, uint col, float gate, float up)
{
    pc.y.d[row * pc.n + col] = fm_act(pc.act, gate) * up;
}
#else
void fm_store_y(uint row, uint col, float sum)
{
    if (FM_PRESENT(pc.bias))
        sum += pc.bias.d[col];
#ifdef FM_OP_MATMUL_ADD
    sum += pc.residual.d[row * pc.n + col];
#endif
    pc.y.d[row * pc.n + col] = sum;
}
#endif

#endif
