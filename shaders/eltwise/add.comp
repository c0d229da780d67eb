// SPDX-License-Identifier: MIT
// Computes: y = a + b, element by element.
// Shapes: a, b, y [rows, width] f32, rows from the step block.
// One workgroup: 4 * workgroup size columns of one row, neighbouring invocations on neighbouring columns.
// Spec constants: 0 workgroup size.
// Accumulation: one addition in f32. Bytes moved: 12 per element.
#version 460
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_scalar_block_layout : require
#extension GL_GOOGLE_include_directive : require
#include "abi.h"

layout(local_size_x_id = 0) in;

layout(buffer_reference, scalar, buffer_reference_align = 4) readonly buffer StepRef { uint v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 4) readonly buffer InRef { float v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 4) writeonly buffer OutRef { float v[]; };
#define REF_STEP StepRef
#define REF_X InRef
#define REF_Y OutRef
#define FM_A(ref, name) ref name;
#define FM_P(name) uint name;
layout(push_constant, scalar) uniform Push { FM_PUSH_ADD(FM_A, FM_P) } pc;

void main()
{
    uint row = gl_WorkGroupID.y;
    if (row >= pc.step.v[pc.rows_word])
        return;
    uint first = gl_WorkGroupID.x * 4u * gl_WorkGroupSize.x + gl_LocalInvocationID.x;
    for (uint i = 0u; i < 4u; i++) {
        uint column = first + i * gl_WorkGroupSize.x;
        if (column < pc.width) {
            uint at = row * pc.width + column;
            pc.y.v[at] = pc.x.v[at] + pc.x2.v[at];
        }
    }
}
