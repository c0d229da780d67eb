#version 460
// SPDX-License-Identifier: MIT
// NORM_GATE of parts that a team of invocations holds in registers: the same function as norm_gate.comp in one read.
//   x, gate [T,D] f32, optional w [D] f32 -> y [T,D] f32 or f16
//   gate first: v = x act(gate), y = v r w; gate last: v = x, y = v r act(gate) w; r = 1 / sqrt(mean v^2 + eps) of the part
// A team makes one part of one row: the workgroup, or with FM_TEAM_SUBGROUP each subgroup, which suits the parts of a head.
// Spec constants: 0 workgroup size, 1 subgroup size, 2 QUADS; a part holds at most 4 * QUADS * team elements, a multiple of 4.
// Needs: subgroup arithmetic, full subgroups.
// Accumulation: f32; an invocation's own elements in order, subgroupAdd, then subgroups by subgroupAdd.
// Bytes moved: 12*D bytes a row and 4*D of parameters.
#extension GL_GOOGLE_include_directive : require
#define FM_USE_SUBGROUP_SIZE
#include "abi.h"
#include "io.glsl"
#include "spec.glsl"
#include "result.glsl"
#include "num.glsl"
#define FM_REDUCE_MAX_WORKGROUP 1024
#define FM_REDUCE_SUBGROUP
#include "reduce.glsl"

layout(constant_id = 2) const uint QUADS = 1;

#define REF_STEP fm_u32s
#define REF_X fm_f32x4s
#define REF_V fm_f32x4s
#define REF_Y fm_out_f32x4s

#define FM_GATE_FIRST 0u

layout(push_constant, scalar) uniform Push { FM_PUSH_NORM_GATE(FM_A, FM_P) } pc;

#ifdef FM_TEAM_SUBGROUP
const uint TEAM = FM_SUBGROUP;
#define TEAM_SUM(x) subgroupAdd(x)
#else
#define TEAM FM_WORKGROUP
#define TEAM_SUM(x) fm_workgroup_sum(x)
#endif

vec4 activate(vec4 g)
{
    return vec4(fm_act(pc.act, g.x), fm_act(pc.act, g.y), fm_act(pc.act, g.z), fm_act(pc.act, g.w));
}

void main()
{
    uint row = gl_WorkGroupID.x, parts = pc.width / pc.part;
#ifdef FM_TEAM_SUBGROUP
    uint part = gl_WorkGroupID.y * (FM_WORKGROUP / FM_SUBGROUP) + gl_SubgroupID, lane = gl_SubgroupInvocationID;
    if (part >= parts)
        return;
#else
    uint part = gl_WorkGroupID.y, lane = gl_LocalInvocationID.x;
#endif
    if (FM_ROW_ABSENT(row, pc.rows_word, pc.step.d[pc.rows_word]))
        return;
    uint quads = pc.part >> 2, at = (row * parts + part) * quads;
    bool gate_first = pc.kind == FM_GATE_FIRST, has_w = FM_PRESENT(pc.w);
    vec4 y[QUADS], w[QUADS];
    float sum = 0.0;
    [[unroll]] for (uint i = 0u; i < QUADS; i++) {
        uint q = i * TEAM + lane;
        y[i] = w[i] = vec4(1.0);
        if (q < quads) {
            vec4 x = pc.x.d[at + q], gate = pc.gate.d[at + q];
            if (has_w)
                w[i] = pc.w.d[part * quads + q];
            y[i] = x * activate(gate);
            sum += gate_first ? dot(y[i], y[i]) : dot(x, x);
        }
    }
    float scale = 1.0 / sqrt(TEAM_SUM(sum) / float(pc.part) + uintBitsToFloat(pc.eps_bits));
    [[unroll]] for (uint i = 0u; i < QUADS; i++) {
        uint q = i * TEAM + lane;
        if (q < quads)
            fm_store_quad(pc.y, at + q, y[i] * scale * w[i]);
    }
}
