#version 460
// SPDX-License-Identifier: MIT
// GLU: y = act(gate) * up (Shazeer 2020). ACT: y = act(x). ADD: y = a + b. Rows of one width.
//   operands [T,F] f32 -> y [T,F] f32, on rung f16 f32 or f16
// A workgroup makes tile_cols (kernels.toml) columns of one row. Specialisation: 0 workgroup size. Needs: base; rung f16
// float16, storage16.
// Moves 4*F*(2 or 3) bytes a row.
#extension GL_GOOGLE_include_directive : require
#include "abi.h"
#include "io.glsl"
#include "spec.glsl"
#include "num.glsl"
#include "element.glsl"

#define REF_STEP fm_u32s
#define REF_X fm_f32s
#define REF_Y fm_out_f32s

layout(push_constant, scalar) uniform Push
{
#if defined(FM_OP_GLU)
    FM_PUSH_GLU(FM_A, FM_P)
#elif defined(FM_OP_ACT)
    FM_PUSH_ACT(FM_A, FM_P)
#else
    FM_PUSH_ADD(FM_A, FM_P)
#endif
} pc;

void main()
{
    uint row = gl_WorkGroupID.y;
    if (row >= pc.step.d[pc.rows_word])
        return;
    uint end = min(pc.width, (gl_WorkGroupID.x + 1) * TILE_COLS);
    for (uint col = gl_WorkGroupID.x * TILE_COLS + gl_LocalInvocationID.x; col < end; col += FM_WORKGROUP) {
        uint i = row * pc.width + col;
#if defined(FM_OP_GLU)
        FM_PUT_Y(i, fm_act(pc.act, pc.gate.d[i]) * pc.up.d[i]);
#elif defined(FM_OP_ACT)
        FM_PUT_Y(i, fm_act(pc.act, pc.x.d[i]));
#else
        FM_PUT_Y(i, pc.x.d[i] + pc.x2.d[i]);
#endif
    }
}
