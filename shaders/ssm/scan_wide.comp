#version 460
// SPDX-License-Identifier: MIT
// SELECTIVE_SCAN of many rows, and SCAN_STATES: the scan of Mamba-1 (Gu and Dao 2023, section 3.3.2), cut into parts that run at the
// same time, as in Blelloch's scan of two levels (1990).
//   u, dt, z [T,E], a [E,N], b [T,Gb*N], c [T,Gc*N], d, dt_bias [E], state [S,B,E,N] -> y [T,E]; all f32,
//   but y on rung f16 f32 or f16
//   scan_states computes the states only, beginning with zero: -> ends [parts,N/4,E,4], steps [parts,E]
// One workgroup: one part (lib/segment.glsl); an invocation takes one channel and keeps its N states in registers. A part begins with
// `starts`, which scan_carry made; where every segment is one part, it begins with the state of its sequence. u, dt and z are loaded
// into registers BATCH rows ahead. b and c are loaded a tile of rows at a time into shared memory. It has two places for them: one is
// read while the other is filled.
// Specialisation: 0 workgroup size, 2 N. Definition: BATCH, rows that are loaded ahead and computed without a branch. With more of them a
// core needs fewer workgroups to hide the loads, and has registers for fewer.
// Needs: base; rung f16 float16, storage16. f32, tokens and states in order.
// Moves 4*(4*E + N*(Gb + Gc)) bytes a row; scan_states 4*(2*E + N*Gb).
// Limits: N a multiple of 4; BATCH rows of the b (or c) that a workgroup's channels use fit into a tile of TILE_QUADS.
#extension GL_GOOGLE_include_directive : require
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
#define TILE_ROWS 16 // most rows of a tile
#define TILE_QUADS 256
const uint AHEAD = (TILE_QUADS + gl_WorkGroupSize.x - 1) / gl_WorkGroupSize.x; // quads of a tile that an invocation loads

layout(push_constant, scalar) uniform Push
{
#ifdef FM_OP_SCAN_STATES
    FM_PUSH_SCAN_STATES(FM_A, FM_P)
#else
    FM_PUSH_SELECTIVE_SCAN(FM_A, FM_P)
#endif
} pc;

shared vec4 tile_b[2 * TILE_QUADS];
#ifndef FM_OP_SCAN_STATES
shared vec4 tile_c[2 * TILE_QUADS];
#endif

// The groups of b, or of c, that this workgroup's channels use. A row of the tile holds only these. All in quads of a row.
struct groups {
    uint first, quads; // where they begin in a row of b or c, and how many quads they are
    uint own;          // where the group of this invocation's channel begins in a row of the tile
    uint stride;       // quads of a whole row of b or c
};

groups find_groups(uint e, uint count)
{
    uint share = pc.channels / count, e0 = gl_WorkGroupID.x * FM_WORKGROUP, e1 = min(e0 + FM_WORKGROUP, pc.channels) - 1;
    return groups(e0 / share * QUADS, (e1 / share - e0 / share + 1) * QUADS, (e / share - e0 / share) * QUADS, count * QUADS);
}

vec4 s[QUADS], a[QUADS];
float u[BATCH], dt[BATCH];
#ifndef FM_OP_SCAN_STATES
float z[BATCH];
#endif

void load_batch(uint row, uint last, uint e)
{
    [[unroll]] for (uint i = 0; i < BATCH; i++) {
        uint at = min(row + i, last) * pc.channels + e;
        u[i] = pc.u.d[at];
        dt[i] = pc.dt.d[at];
#ifndef FM_OP_SCAN_STATES
        z[i] = pc.z.d[at];
#endif
    }
}

// Loads this invocation's quads of the tile of `rows` rows from row0 on.
void load_tile(REF_ROWS from, groups g, uint row0, uint rows, out vec4 next[AHEAD])
{
    [[unroll]] for (uint i = 0; i < AHEAD; i++) {
        uint k = gl_LocalInvocationID.x + i * FM_WORKGROUP;
        if (k < rows * g.quads)
            next[i] = from.d[(row0 + k / g.quads) * g.stride + g.first + k % g.quads];
    }
}

void main()
{
    uint tid = gl_LocalInvocationID.x, channel = gl_GlobalInvocationID.x, number = gl_WorkGroupID.y;
    fm_part part;
    if (!fm_part_find(pc.step, pc.segment, number, pc.part, part))
        return;
#ifdef FM_OP_SCAN_STATES
    if (part.last)
        return;
    float steps = 0.0;
#endif
    // Invocations beyond the channels compute what the last channel's does, and write nothing.
    uint e = min(channel, pc.channels - 1), last = part.row + part.rows - 1;
    load_batch(part.row, last, e);
    groups gb = find_groups(e, pc.groups_b);
#ifdef FM_OP_SCAN_STATES
    uint tile_rows = min(TILE_ROWS, TILE_QUADS / gb.quads) & ~(BATCH - 1u);
#else
    groups gc = find_groups(e, pc.groups_c);
    uint tile_rows = min(TILE_ROWS, TILE_QUADS / max(gb.quads, gc.quads)) & ~(BATCH - 1u);
    float skip = pc.d.d[e];
#endif
    float bias = pc.dt_bias.d[e];
    [[unroll]] for (uint q = 0; q < QUADS; q++) {
        a[q] = FM_LOG2_E * pc.a.d[e * QUADS + q];
        s[q] = vec4(0.0);
    }
#ifndef FM_OP_SCAN_STATES
    if (FM_PRESENT(pc.starts)) {
        [[unroll]] for (uint q = 0; q < QUADS; q++)
            s[q] = pc.starts.d[(number * QUADS + q) * pc.channels + e];
    } else if (part.pos != 0) {
        uint from = (fm_state_version(part.slot, part.pos, pc.versions) * pc.channels + e) * QUADS;
        [[unroll]] for (uint q = 0; q < QUADS; q++)
            s[q] = pc.state.d[from + q];
    }
#endif
    uint rows = min(tile_rows, part.rows), place = 0;
    vec4 next_b[AHEAD];
    load_tile(pc.b, gb, part.row, rows, next_b);
#ifndef FM_OP_SCAN_STATES
    vec4 next_c[AHEAD];
    load_tile(pc.c, gc, part.row, rows, next_c);
#endif
    for (uint t0 = 0; t0 < part.rows; t0 += tile_rows) {
        // Invocations that still read the tile before this one read the other place.
        [[unroll]] for (uint i = 0; i < AHEAD; i++) {
            uint k = tid + i * FM_WORKGROUP;
            if (k < rows * gb.quads)
                tile_b[place + k] = next_b[i];
#ifndef FM_OP_SCAN_STATES
            if (k < rows * gc.quads)
                tile_c[place + k] = next_c[i];
#endif
        }
        barrier();
        uint row0 = part.row + t0, next_rows = min(tile_rows, part.rows - min(part.rows, t0 + tile_rows));
        load_tile(pc.b, gb, row0 + tile_rows, next_rows, next_b);
#ifndef FM_OP_SCAN_STATES
        load_tile(pc.c, gc, row0 + tile_rows, next_rows, next_c);
#endif
        for (uint t = 0; t < rows; t += BATCH) {
            float v[BATCH], vu[BATCH];
#ifndef FM_OP_SCAN_STATES
            float y[BATCH], gate[BATCH];
#endif
            [[unroll]] for (uint i = 0; i < BATCH; i++) {
                // A row beyond the end changes nothing: e^0 s + 0 b.
                v[i] = t + i < rows ? fm_scan_step(dt[i] + bias) : 0.0;
                vu[i] = v[i] * u[i];
#ifdef FM_OP_SCAN_STATES
                steps += v[i];
#else
                y[i] = skip * u[i];
                gate[i] = fm_scan_gate(z[i]);
#endif
            }
            load_batch(row0 + t + BATCH, last, e);
            [[unroll]] for (uint i = 0; i < BATCH; i++) {
                uint at_b = place + min(t + i, rows - 1) * gb.quads + gb.own;
#ifndef FM_OP_SCAN_STATES
                uint at_c = place + min(t + i, rows - 1) * gc.quads + gc.own;
#endif
                [[unroll]] for (uint q = 0; q < QUADS; q++) {
                    s[q] = fma(exp2(v[i] * a[q]), s[q], vu[i] * tile_b[at_b + q]);
#ifndef FM_OP_SCAN_STATES
                    vec4 c = tile_c[at_c + q];
                    y[i] = fma(s[q].w, c.w, fma(s[q].z, c.z, fma(s[q].y, c.y, fma(s[q].x, c.x, y[i]))));
#endif
                }
#ifndef FM_OP_SCAN_STATES
                if (channel < pc.channels && t + i < rows)
                    FM_PUT_Y((row0 + t + i) * pc.channels + e, y[i] * gate[i]);
#endif
            }
        }
        rows = next_rows;
        place ^= TILE_QUADS;
    }
    if (channel >= pc.channels)
        return;
#ifdef FM_OP_SCAN_STATES
    pc.steps.d[number * pc.channels + e] = steps;
    [[unroll]] for (uint q = 0; q < QUADS; q++)
        pc.ends.d[(number * QUADS + q) * pc.channels + e] = s[q];
#else
    uint to = (fm_state_version(part.slot, part.pos + part.rows, pc.versions) * pc.channels + e) * QUADS;
    [[unroll]] for (uint q = 0; q < QUADS; q++)
        if (part.last)
            pc.state.d[to + q] = s[q];
#endif
}
