#version 460
// SPDX-License-Identifier: MIT
// GATHER: the rows whose logits are wanted. x [T,D] f32, out_row [O] u32 -> y [O,D] f32.
// A workgroup copies TILE_COLS columns of one row. Specialisation: 0 workgroup size. Needs: base. Moves 8*D bytes a row.
#extension GL_GOOGLE_include_directive : require
#include "refs.glsl"

#define REF_X RefF32
#define REF_Y RefF32

layout(push_constant, scalar) uniform Push { FM_PUSH_GATHER(FM_A, FM_P) } pc;

void main()
{
    uint row = gl_WorkGroupID.y;
    if (row >= pc.step.v[FM_STEP_OUTPUTS])
        return;
    uint from = pc.out_row.v[row] * pc.width;
    uint end = min(pc.width, (gl_WorkGroupID.x + 1) * TILE_COLS);
    for (uint col = gl_WorkGroupID.x * TILE_COLS + gl_LocalInvocationID.x; col < end; col += GROUP)
        pc.y.v[row * pc.width + col] = pc.x.v[from + col];
}
