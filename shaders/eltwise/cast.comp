#version 460
// SPDX-License-Identifier: MIT
// CAST: activations to f16 for products that multiply halves. x [T,K] f32 -> y [T,stride_y] f16, saturated to +-65504 (NaN stays), columns
// beyond K zero, and so are the rows from T up to a multiple of pad_rows. A workgroup makes TILE_COLS columns of TILE_ROWS
// rows; an invocation makes two per turn, on rung f16 (K a multiple of 4) four. Specialisation: 0 workgroup size. Needs:
// base nothing, rung f16 16-bit types and storage. Rounds to nearest even, on rung f16 as the device does. Moves 6*K
// bytes a row.
#extension GL_GOOGLE_include_directive : require
#include "abi.h"
#include "io.glsl"
#include "spec.glsl"
#include "result.glsl"

#define REF_STEP fm_u32s
#define REF_X fm_f32s
#ifdef FM_RUNG_F16
#define REF_Y fm_out_u32x2s
#define TURN 4u
#else
#define REF_Y fm_out_u32s
#define TURN 2u
#endif

layout(push_constant, scalar) uniform Push { FM_PUSH_CAST(FM_A, FM_P) } pc;

#ifdef FM_RUNG_F16
void cast_turn(uint row, uint col, bool there)
{
    vec4 x = there && col < pc.width ? FM_CAST(fm_f32x4s, pc.x).d[(row * pc.width + col) / 4] : vec4(0.0);
    pc.y.d[(row * pc.stride_y + col) / 4] = fm_narrow(x);
}
#else
void cast_turn(uint row, uint col, bool there)
{
    uint at = row * pc.width + col;
    float low = there && col < pc.width ? pc.x.d[at] : 0.0;
    float high = there && col + 1 < pc.width ? pc.x.d[at + 1] : 0.0;
    pc.y.d[(row * pc.stride_y + col) / 2] = fm_narrow(vec4(low, high, 0.0, 0.0)).x;
}
#endif

void main()
{
    uint rows = pc.step.d[pc.rows_word], end_row = (rows + pc.pad_rows - 1u) / pc.pad_rows * pc.pad_rows;
    uint first = gl_WorkGroupID.x * TILE_COLS, end = min(pc.stride_y, first + TILE_COLS), row0 = gl_WorkGroupID.y * TILE_ROWS;
    for (uint row = row0; row < min(row0 + TILE_ROWS, end_row); row++)
        for (uint col = first + TURN * gl_LocalInvocationID.x; col < end; col += TURN * FM_WORKGROUP)
            cast_turn(row, col, row < rows);
}
