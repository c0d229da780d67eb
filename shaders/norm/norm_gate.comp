#version 460
// SPDX-License-Identifier: MIT
// NORM_GATE: root-mean-square norm over each of the equal parts of a row, and a gate before (Mamba-2) or after it (TransNormer).
//   x, gate [T,D] f32, optional w [D] f32 -> y [T,D] f32
//   gate first: v = x act(gate), y = v r w; gate last: v = x, y = v r act(gate) w; r = 1 / sqrt(mean v^2 + eps) of the part
// One workgroup makes one part of one row; it reads the part two times, the second time from the cache.
// Spec constants: 0 workgroup size (power of two). Needs: base; the sg rung sums within subgroups.
// Accumulates in f32: FM_WORKGROUP strided partial sums, then a tree. Moves 12*D bytes a row and 4*D of parameters.
#extension GL_GOOGLE_include_directive : require
#include "abi.h"
#include "io.glsl"
#include "spec.glsl"
#include "num.glsl"
#define FM_REDUCE_MAX_WORKGROUP 1024
#if FM_RUNG >= 1
#define FM_REDUCE_SUBGROUP
#endif
#include "reduce.glsl"

#define REF_STEP fm_u32s
#define REF_X fm_f32s
#define REF_V fm_f32s
#define REF_Y fm_out_f32s

#define FM_GATE_FIRST 0u

layout(push_constant, scalar) uniform Push { FM_PUSH_NORM_GATE(FM_A, FM_P) } pc;

void main()
{
    uint row = gl_WorkGroupID.x, first = gl_WorkGroupID.y * pc.part;
    if (row >= pc.step.d[pc.rows_word])
        return;
    uint at = row * pc.width + first;
    bool gate_first = pc.kind == FM_GATE_FIRST, has_w = FM_PRESENT(pc.w);
    float sum = 0.0;
    for (uint i = gl_LocalInvocationID.x; i < pc.part; i += FM_WORKGROUP) {
        float v = pc.x.d[at + i];
        if (gate_first)
            v *= fm_act(pc.act, pc.gate.d[at + i]);
        sum += v * v;
    }
    float scale = 1.0 / sqrt(fm_workgroup_sum(sum) / float(pc.part) + uintBitsToFloat(pc.eps_bits));
    for (uint i = gl_LocalInvocationID.x; i < pc.part; i += FM_WORKGROUP) {
        float y = pc.x.d[at + i] * fm_act(pc.act, pc.gate.d[at + i]) * scale;
        pc.y.d[at + i] = has_w ? y * pc.w.d[first + i] : y;
    }
}
