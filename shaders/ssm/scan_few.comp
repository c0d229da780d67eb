#version 460
// SPDX-License-Identifier: MIT
// SELECTIVE_SCAN of few rows: the recurrence of Mamba-1 (Gu and Dao 2023, algorithm 2) for decoding, one fused kernel.
//   u, dt, z [T,E], a [E,N], b [T,Gb*N], c [T,Gc*N], d, dt_bias [E], state [S,B,E,N] -> y [T,E]; all f32,
//   but y on rung f16 f32 or f16
// LANES neighbouring invocations share one channel of one segment. Each keeps four of its N states in registers, and loads and stores
// them 16 bytes at a time. While a row is computed, the operands of the next one are loaded.
// Specialisation: 0 workgroup size, 1 subgroup size, 2 N. Needs: subgroup; rung f16 float16, storage16. f32; the sum
// over N is a tree over the lanes.
// Moves 4*(4*E + N*(Gb + Gc)) bytes a row, 4*E*N for a, and 8*E*N a segment.
// Limits: N a multiple of 4, at most 64, and N/4 rounded up to a power of two at most the subgroup size.
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#define FM_USE_SUBGROUP_SIZE
#include "abi.h"
#include "io.glsl"
#include "spec.glsl"
#include "scan.glsl"
#include "segment.glsl"
#include "element.glsl"

#define REF_STEP fm_u32s
#define REF_SEGMENT fm_u32x4s
#define REF_X fm_f32s
#define REF_V fm_f32s
#define REF_ROWS fm_f32x4s
#define REF_STATE fm_out_f32x4s
#define REF_Y fm_out_f32s

layout(constant_id = 2) const uint N = 16;

const uint QUADS = N / 4;
const uint LANES = QUADS <= 1 ? 1 : QUADS <= 2 ? 2 : QUADS <= 4 ? 4 : QUADS <= 8 ? 8 : 16;

layout(push_constant, scalar) uniform Push { FM_PUSH_SELECTIVE_SCAN(FM_A, FM_P) } pc;

struct row_data {
    float u, dt, z;
    vec4 b, c;
};

row_data load_row(uint row, uint e, uint b_at, uint c_at)
{
    uint at = row * pc.channels + e;
    return row_data(pc.u.d[at], pc.dt.d[at], pc.z.d[at], pc.b.d[row * pc.groups_b * QUADS + b_at],
                    pc.c.d[row * pc.groups_c * QUADS + c_at]);
}

void main()
{
    uint lane = gl_LocalInvocationID.x % LANES, channel = gl_GlobalInvocationID.x / LANES;
    fm_part part; // a whole segment
    if (!fm_part_find(pc.step, pc.segment, gl_WorkGroupID.y, pc.part, part))
        return;
    // Lanes beyond the states, and invocations beyond the channels, compute what the last ones do, and write nothing.
    uint q = min(lane, QUADS - 1), e = min(channel, pc.channels - 1);
    bool mine = lane < QUADS && channel < pc.channels;
    uint b_at = e / (pc.channels / pc.groups_b) * QUADS + q, c_at = e / (pc.channels / pc.groups_c) * QUADS + q;
    row_data next = load_row(part.row, e, b_at, c_at);
    vec4 a = FM_LOG2_E * pc.a.d[e * QUADS + q];
    float bias = pc.dt_bias.d[e], skip = pc.d.d[e];
    vec4 s = vec4(0.0);
    if (part.pos != 0)
        s = pc.state.d[(fm_state_version(part.slot, part.pos, pc.versions) * pc.channels + e) * QUADS + q];
    for (uint t = 0; t < part.rows; t++) {
        row_data row = next;
        if (t + 1 < part.rows)
            next = load_row(part.row + t + 1, e, b_at, c_at);
        float v = fm_scan_step(row.dt + bias);
        s = fma(exp2(v * a), s, v * row.u * row.b);
        float y = mine ? dot(s, row.c) : 0.0;
        [[unroll]] for (uint i = 1; i < LANES; i <<= 1)
            y += subgroupShuffleXor(y, i);
        if (mine && lane == 0)
            FM_PUT_Y((part.row + t) * pc.channels + e, fma(skip, row.u, y) * fm_scan_gate(row.z));
        if (mine && part.rows - t <= pc.kept)
            pc.state.d[(fm_state_version(part.slot, part.pos + t + 1, pc.versions) * pc.channels + e) * QUADS + q] = s;
    }
}
