// SPDX-License-Identifier: MIT
// Push constants of MATMUL, MATMUL_ADD, MATMUL_GLU and MATMUL_CONV, and of these with a norm before them, under one set of names,
// for kernels that serve all of them.
//   FM_STREAMS  weight matrices read (2: gate and up)
//   FM_CONV     defined where a convolution follows; specialisation constant 9: its taps
//   FM_NORMED   defined where x is normed: x^ = x norm / sqrt(mean x^2 + eps)
#ifndef FM_MATMUL_ARGS_GLSL
#define FM_MATMUL_ARGS_GLSL

#include "abi.h"
#include "io.glsl"
#include "num.glsl"
#ifdef FM_Y_F16
#define FM_RESULT_ELEMENTS
#include "result.glsl"
#endif

#define REF_STEP fm_u32s
#define REF_X fm_f32s
#define REF_W fm_u32s
#define REF_V fm_f32s
#define REF_Y fm_out_f32s
#define REF_PARTIAL fm_out_f32x4s
#define REF_ARRIVED fm_out_u32s

#if defined(FM_OP_NORM_MATMUL) || defined(FM_OP_NORM_MATMUL_ADD) || defined(FM_OP_NORM_MATMUL_GLU) || \
    defined(FM_OP_NORM_MATMUL_CONV)
#define FM_NORMED 1
#endif
#if defined(FM_OP_MATMUL_CONV) || defined(FM_OP_NORM_MATMUL_CONV)
#define FM_CONV 1
#include "segment.glsl"
#define REF_SEGMENT fm_u32x4s
#define REF_STATE fm_out_f32s
layout(constant_id = 9) const uint TAPS = 4;
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
#if defined(FM_CONV)
layout(push_constant, scalar) uniform Push { FM_PUSH_MATMUL_CONV(FM_A, FM_P) } pc;
#elif defined(FM_NORMED)
layout(push_constant, scalar) uniform Push { FM_PUSH_NORM_MATMUL(FM_A, FM_P) } pc;
#else
layout(push_constant, scalar) uniform Push { FM_PUSH_MATMUL(FM_A, FM_P) } pc;
#endif
#define FM_WEIGHT(stream) pc.w
#endif

// An element of y: f32, or what the planner decided (lib/result.glsl).
void fm_put_y(uint row, uint col, float y)
{
#ifdef FM_Y_F16
    fm_store_one(pc.y, row * pc.n + col, y);
#else
    pc.y.d[row * pc.n + col] = y;
#endif
}

// What is left to do with the sums of one element of y: bias, residual, gate, or a step of the channel's convolution.
#if FM_STREAMS == 2
void fm_store_y(uint row, uint col, float gate, float up)
{
    fm_put_y(row, col, fm_act(pc.act, gate) * up);
}
#elif defined(FM_CONV)
// Each row is of another sequence, so the inputs before it are all in the state. Nobody else touches this channel of it.
void fm_store_y(uint row, uint col, float sum)
{
    const uvec4 segment = pc.segment.d[row];
    const uint slot = segment[FM_SEGMENT_SLOT], pos = segment[FM_SEGMENT_POS], version = (TAPS - 1u) * pc.n;
    const uint from = fm_state_version(slot, pos, pc.versions) * version + col;
    const uint to = fm_state_version(slot, pos + 1u, pc.versions) * version + col;
    float window[TAPS]; // oldest first
    [[unroll]] for (uint j = 0u; j < TAPS - 1u; j++)
        window[j] = pos != 0u ? pc.state.d[from + j * pc.n] : 0.0;
    window[TAPS - 1u] = sum;
    for (uint r = 0u; r < pc.repeat; r++) {
        uint channel = (col / pc.head * pc.repeat + r) * pc.head + col % pc.head;
        float y = FM_PRESENT(pc.bias) ? pc.bias.d[channel] : 0.0;
        [[unroll]] for (uint j = 0u; j < TAPS; j++)
            y = fma(pc.taps.d[channel * TAPS + j], window[j], y);
        pc.y.d[row * pc.n * pc.repeat + channel] = fm_act(pc.act, y);
    }
    [[unroll]] for (uint j = 0u; j < TAPS - 1u; j++)
        pc.state.d[to + j * pc.n] = window[j + 1u];
}
#else
void fm_store_y(uint row, uint col, float sum)
{
    if (FM_PRESENT(pc.bias))
        sum += pc.bias.d[col];
#if defined(FM_OP_MATMUL_ADD) || defined(FM_OP_NORM_MATMUL_ADD)
    sum += pc.residual.d[row * pc.n + col];
#endif
    fm_put_y(row, col, sum);
}
#endif

#endif
