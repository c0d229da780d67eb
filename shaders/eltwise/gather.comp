#version 460
// SPDX-License-Identifier: MIT
// GATHER: the rows whose logits are wanted. x [T,D] f32, out_row [O] u32 -> y [O,D] f32.
// A workgroup copies TILE_COLS columns of one row. Specialisation: 0 workgroup size. Needs: base. Moves 8*D bytes a
// row.
#extension GL_GOOGLE_include_directive : require
#include "abi.h"
#include "io.glsl"
#include "spec.glsl"

#define REF_STEP fm_u32s
#define REF_U32 fm_u32s
#define REF_X fm_f32s
#define REF_Y fm_out_f32s

layout(push_constant, scalar) uniform Push { FM_PUSH_GATHER(FM_A, FM_P) } pc;

void main()
{
    uint row = gl_WorkGroupID.y;
    if (row >= pc.step.d[FM_STEP_OUTPUTS])
        return;
    uint from = pc.out_row.d[row] * pc.width;
    uint end = min(pc.width, (gl_WorkGroupID.x + 1) * TILE_COLS);
    for (uint col = gl_WorkGroupID.x * TILE_COLS + gl_LocalInvocationID.x; col < end; col += FM_WORKGROUP)
        pc.y.d[row * pc.width + col] = pc.x.d[from + col];
}
