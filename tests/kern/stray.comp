#version 460
// SPDX-License-Identifier: MIT
// The kernels of test_strays: ADD and SAMPLE (of one token) as they should be, and with one store too many.
// Specialisation: 0 workgroup size, 2 where the stray store goes (enum stray of test_strays.c).
#extension GL_GOOGLE_include_directive : require
#include "abi.h"
#include "io.glsl"
#include "spec.glsl"

layout(constant_id = 2) const uint stray = 0;
const uint NOWHERE = 0, BEFORE = 1, BEHIND = 2, ABSENT_ROW = 3, OPERAND = 4, STEP = 5;

#define REF_STEP fm_u32s
#define REF_U32 fm_out_u32s
#define REF_X fm_f32s
#define REF_Y fm_out_f32s
#ifdef FM_OP_ADD
layout(push_constant, scalar) uniform Push { FM_PUSH_ADD(FM_A, FM_P) } pc;
#else
layout(push_constant, scalar) uniform Push { FM_PUSH_SAMPLE(FM_A, FM_P) } pc;
#endif

void store(uvec2 at)
{
    fm_out_u32s(at).d[0] = 12345u;
}

// Words of `width` from `first` on.
uvec2 row(uvec2 first, uint row, uint width)
{
    return first + uvec2(row * width * 4u, 0u);
}

void main()
{
#ifdef FM_OP_ADD
    uint rows = pc.step.d[pc.rows_word], at = gl_WorkGroupID.y, all = gl_NumWorkGroups.y, width = pc.width;
    uvec2 result = uvec2(pc.y), operand = uvec2(pc.x);
#else
    uint rows = pc.step.d[FM_STEP_OUTPUTS], at = gl_WorkGroupID.x, all = gl_NumWorkGroups.x, width = 1u;
    uvec2 result = uvec2(pc.id), operand = uvec2(pc.history);
#endif
    if (at >= rows)
        return;
#ifdef FM_OP_ADD
    for (uint col = gl_LocalInvocationID.x; col < width; col += FM_WORKGROUP)
        pc.y.d[at * width + col] = pc.x.d[at * width + col] + pc.x2.d[at * width + col];
#else
    if (gl_LocalInvocationID.x == 0u) {
        pc.id.d[at] = 0u;
        pc.last.d[pc.slot.d[pc.out_row.d[at]]] = 0u;
    }
#endif
    if (gl_GlobalInvocationID != uvec3(0u))
        return;
    if (stray == BEFORE)
        store(result - uvec2(4u, 0u));
    if (stray == BEHIND)
        store(row(result, all, width));
    if (stray == ABSENT_ROW)
        store(row(result, rows, width));
    if (stray == OPERAND)
        store(operand);
    if (stray == STEP)
        store(uvec2(pc.step) + uvec2(FM_STEP_HEADER_WORDS * 4u, 0u));
}
