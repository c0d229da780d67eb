#version 460
// SPDX-License-Identifier: MIT
// NORM and ADD_NORM: root-mean-square norm (Zhang and Sennrich 2019) or layer norm of rows, ADD_NORM after adding two
// operands.
//   x (, x2) [T,D] f32, w [D] f32, optional bias [D] f32 -> (sum [T,D],) y [T,D] f32
// One workgroup makes one row: it reads the row two times (RMS) or three times (LAYER); the later reads come from the
// cache.
// Specialisation: 0 FM_WORKGROUP (power of two). Needs: base; the sg rung sums within subgroups.
// Accumulates in f32: FM_WORKGROUP strided partial sums, then a tree. The variance is taken about the mean (no
// cancellation). Moves 4*D*(2 or 4) bytes a row and 4*D or 8*D of parameters.
#extension GL_GOOGLE_include_directive : require
#include "abi.h"
#include "io.glsl"
#include "spec.glsl"
#define FM_REDUCE_MAX_WORKGROUP 1024
#if FM_RUNG >= 1
#define FM_REDUCE_SUBGROUP
#endif
#include "reduce.glsl"

#define REF_STEP fm_u32s
#define REF_X fm_f32s
#define REF_V fm_f32s
#define REF_Y fm_out_f32s

#define FM_NORM_RMS 0u

layout(push_constant, scalar) uniform Push
{
#ifdef FM_OP_ADD_NORM
    FM_PUSH_ADD_NORM(FM_A, FM_P)
#else
    FM_PUSH_NORM(FM_A, FM_P)
#endif
} pc;

#ifdef FM_OP_ADD_NORM
#define SOURCE(i) pc.sum.d[i]
#else
#define SOURCE(i) pc.x.d[i]
#endif

void main()
{
    uint row = gl_WorkGroupID.x, tid = gl_LocalInvocationID.x;
    if (row >= pc.step.d[pc.rows_word])
        return;
    uint at = row * pc.width;
    float sum = 0;
    for (uint i = tid; i < pc.width; i += FM_WORKGROUP) {
#ifdef FM_OP_ADD_NORM
        float v = pc.x.d[at + i] + pc.x2.d[at + i];
        pc.sum.d[at + i] = v; // read again by this invocation only
#else
        float v = pc.x.d[at + i];
#endif
        sum += pc.kind == FM_NORM_RMS ? v * v : v;
    }
    float mean = 0;
    if (pc.kind != FM_NORM_RMS) {
        mean = fm_workgroup_sum(sum) / float(pc.width);
        sum = 0;
        for (uint i = tid; i < pc.width; i += FM_WORKGROUP) {
            float d = SOURCE(at + i) - mean;
            sum += d * d;
        }
    }
    float scale = 1.0 / sqrt(fm_workgroup_sum(sum) / float(pc.width) + uintBitsToFloat(pc.eps_bits));
    bool has_bias = FM_PRESENT(pc.bias);
    for (uint i = tid; i < pc.width; i += FM_WORKGROUP) {
        float y = (SOURCE(at + i) - mean) * scale * pc.w.d[i];
        if (has_bias)
            y += pc.bias.d[i];
        pc.y.d[at + i] = y;
    }
}
