#version 460
// SPDX-License-Identifier: MIT
// CAST: activations to f16 for matrix units. x [T,K] f32 -> y [T,stride_y] f16, saturated to +-65504, columns beyond K
// zero, and so are the rows from T up to a multiple of pad_rows. A workgroup makes TILE_COLS columns of one row, two
// per invocation and turn. Specialisation: 0 workgroup size. Needs: base. Rounds to nearest even. Moves 6*K bytes a
// row.
#extension GL_GOOGLE_include_directive : require
#include "abi.h"
#include "io.glsl"
#include "spec.glsl"
#include "half.glsl"

#define REF_STEP fm_u32s
#define REF_X fm_f32s
#define REF_Y fm_out_u32s

layout(push_constant, scalar) uniform Push { FM_PUSH_CAST(FM_A, FM_P) } pc;

void main()
{
    uint row = gl_WorkGroupID.y;
    uint rows = pc.step.d[pc.rows_word];
    if (row >= (rows + pc.pad_rows - 1) / pc.pad_rows * pc.pad_rows)
        return;
    uint end = min(pc.stride_y, (gl_WorkGroupID.x + 1) * TILE_COLS);
    for (uint col = gl_WorkGroupID.x * TILE_COLS + 2 * gl_LocalInvocationID.x; col < end; col += 2 * FM_GROUP) {
        vec2 x = vec2(0.0);
        if (row < rows) {
            uint at = row * pc.width + col;
            x.x = col < pc.width ? pc.x.d[at] : 0.0;
            x.y = col + 1 < pc.width ? pc.x.d[at + 1] : 0.0;
        }
        x = clamp(x, vec2(-65504.0), vec2(65504.0));
        pc.y.d[(row * pc.stride_y + col) / 2] = fm_pack_half2(x.x, x.y);
    }
}
