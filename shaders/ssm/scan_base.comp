#version 460
// SPDX-License-Identifier: MIT
// SELECTIVE_SCAN: the recurrence of Mamba-1 (Gu and Dao 2023, algorithm 2), token by token (graph/ops.def).
//   u, dt, z [T,E], a [E,N], b [T,Gb*N], c [T,Gc*N], d, dt_bias [E], state [S,B,E,N] -> y [T,E]; all f32
// One invocation: one channel of one segment, whose N states it keeps in registers. For each row it adds the bias to dt, takes the
// softplus, decays and updates the states, multiplies them by c, adds the skip d u, applies the gate, and writes the state versions.
// Specialisation: 0 workgroup size, 2 N. Needs: base. f32, tokens and states in order.
// Moves 4*(4*E + N*(Gb + Gc)) bytes a row and 8*E*N a segment. Limits: N at most 64.
#extension GL_GOOGLE_include_directive : require
#include "abi.h"
#include "io.glsl"
#include "spec.glsl"
#include "num.glsl"
#include "segment.glsl"

#define REF_STEP fm_u32s
#define REF_SEGMENT fm_u32x4s
#define REF_X fm_f32s
#define REF_V fm_f32s
#define REF_ROWS fm_f32s
#define REF_STATE fm_out_f32s
#define REF_Y fm_out_f32s

layout(constant_id = 2) const uint N = 16;

layout(push_constant, scalar) uniform Push { FM_PUSH_SELECTIVE_SCAN(FM_A, FM_P) } pc;

void main()
{
    uint e = gl_GlobalInvocationID.x;
    fm_part part; // a whole segment
    if (e >= pc.channels || !fm_part_find(pc.step, pc.segment, gl_WorkGroupID.y, pc.part, part))
        return;
    float s[N];
    uint from = (fm_state_version(part.slot, part.pos, pc.versions) * pc.channels + e) * N;
    for (uint n = 0; n < N; n++)
        s[n] = part.pos != 0 ? pc.state.d[from + n] : 0.0;
    float bias = pc.dt_bias.d[e], skip = pc.d.d[e];
    uint b_group = e / (pc.channels / pc.groups_b), c_group = e / (pc.channels / pc.groups_c);
    for (uint t = 0; t < part.rows; t++) {
        uint row = part.row + t, at = row * pc.channels + e;
        uint b = (row * pc.groups_b + b_group) * N, c = (row * pc.groups_c + c_group) * N;
        float u = pc.u.d[at], v = fm_softplus(pc.dt.d[at] + bias), y = skip * u;
        for (uint n = 0; n < N; n++) {
            s[n] = fma(fm_exp(v * pc.a.d[e * N + n]), s[n], v * u * pc.b.d[b + n]);
            y = fma(s[n], pc.c.d[c + n], y);
        }
        pc.y.d[at] = y * fm_silu(pc.z.d[at]);
        if (part.rows - t > pc.kept)
            continue;
        uint to = (fm_state_version(part.slot, part.pos + t + 1, pc.versions) * pc.channels + e) * N;
        for (uint n = 0; n < N; n++)
            pc.state.d[to + n] = s[n];
    }
}
