#version 460
// SPDX-License-Identifier: MIT
// LINEAR_ATTEND and LINEAR_STATES for prompts without matrix units, in f32: Lightning Attention-2 (Qin et al. 2024, algorithm 1), with
// exact decays in a short last block. Let a block have m rows, let S be the state before it and S' the state after it, and d the
// head's decay per token:
//   y_i = sum_{j<=i} d^(i-j) (q_i k_j) v_j + d^(i+1) q_i S;   S' = d^m S + sum_j d^(m-1-j) k_j v_j^T
//   qk [T,2*H*K], v [T,H*P], decay [H] f32, segments, state [S,B,H*K,P] f32 -> y [T,H*P], state'
//   linear_states computes the state only, beginning with zero: -> z [parts,H*K,P]
// One workgroup: 16 columns of P of one head, and the rows of one part (lib/segment.glsl) in blocks of 32, one block after another. The
//     state stays in shared memory. q and k come into shared memory in slices of 32 columns of K. Of a slice an invocation makes the
//     products of 4 queries and 2 keys, 4 rows of one column of q S, and 4 columns of one row of the state.
//     In a slice, line c holds column c of the block's 32 rows, as 8 quads; quad i of line c is stored at place i ^ (c / 4 mod 8). So
//     neighbouring invocations store to different banks, and loads along c stay free of conflicts.
// Spec constants: 0 workgroup size (must be 128), 2 K (a multiple of 4). P a multiple of 4.
// Needs: more shared memory than base promises. No capability says that, so the manifest asks for subgroups, which are not used.
// Accumulates in f32: products in order of k, then of rows; the state is rounded once a block.
// Bytes moved: q and k once per 16 columns, v and y once.
// Limits: 14.3 KiB and 64 K bytes of shared memory.
#extension GL_GOOGLE_include_directive : require
#define REF_X fm_f32x4s
#define REF_STATE fm_out_f32x4s
#include "lightning/args.glsl"

layout(constant_id = 2) const uint KEY = 128;

const uint C = 32, COLS = 16, SLICE = 32;
const uint WORKGROUP = 128;
const uint LINE = C / 4; // quads of rows

#ifdef FM_OP_LINEAR_ATTEND
shared vec4 qs[SLICE * LINE]; // [k][row]
shared vec4 ps[C * LINE];     // [key's row][query's row]
#endif
shared vec4 ks[SLICE * LINE]; // [k][row]
shared vec4 vs[C * COLS / 4]; // [row][column]
shared vec4 state[KEY * COLS / 4];
shared float power[C + 1]; // d^n
shared float left[C];      // d^(m-1-j): what is left of row j after the block

uint h, col0, tid;

vec4 act4(vec4 x)
{
    return vec4(fm_act(pc.act, x.x), fm_act(pc.act, x.y), fm_act(pc.act, x.z), fm_act(pc.act, x.w));
}

// Loads a slice, columns [k0, k0 + SLICE) of q and k after their activation, of rows [row, row + m); zero elsewhere.
void load_slice(uint row, uint m, uint k0)
{
    for (uint i = tid; i < C * SLICE / 4; i += WORKGROUP) {
        uint r = i / (SLICE / 4), quad = i % (SLICE / 4);
        bool there = r < m && k0 + 4 * quad < KEY;
        vec4 k = there ? act4(pc.qk.d[(key_at(row + r, h) + k0) / 4 + quad]) : vec4(0.0);
#ifdef FM_OP_LINEAR_ATTEND
        vec4 q = there ? act4(pc.qk.d[(query_at(row + r, h) + k0) / 4 + quad]) : vec4(0.0);
#endif
        [[unroll]] for (uint e = 0; e < 4; e++) {
            uint at = (4 * quad + e) * LINE + ((r >> 2) ^ quad);
            ks[at][r & 3] = k[e];
#ifdef FM_OP_LINEAR_ATTEND
            qs[at][r & 3] = q[e];
#endif
        }
    }
}

void load_values(uint row, uint m)
{
    uint r = tid / (COLS / 4), quad = tid % (COLS / 4);
    bool there = r < m && col0 + 4 * quad < pc.head;
    vs[tid] = there ? FM_CAST(fm_f32x4s, pc.v).d[(value_at(row + r, h) + col0) / 4 + quad] : vec4(0.0);
}

#ifdef FM_OP_LINEAR_ATTEND
// What the slice at k0 adds, for rows 4 ty to 4 ty + 3 of the block: p[0] and p[1], products of queries with keys 2 tx and 2 tx + 1; y,
// column tx of q S.
void multiply(uint ty, uint tx, uint k0, inout vec4 p[2], inout vec4 y)
{
    for (uint c = 0; c < min(SLICE, KEY - k0); c++) {
        vec4 q = qs[c * LINE + (ty ^ (c >> 2))], k = ks[c * LINE + ((tx >> 1) ^ (c >> 2))];
        p[0] = fma(q, vec4((tx & 1) == 0 ? k.x : k.z), p[0]);
        p[1] = fma(q, vec4((tx & 1) == 0 ? k.y : k.w), p[1]);
        y = fma(q, vec4(state[(k0 + c) * (COLS / 4) + tx / 4][tx % 4]), y);
    }
}

// What the block's own rows add to y.
vec4 multiply_values(uint ty, uint tx)
{
    vec4 y = vec4(0.0);
    for (uint j = 0; j < 4 * ty + 4; j++)
        y = fma(ps[j * LINE + ty], vec4(vs[j * (COLS / 4) + tx / 4][tx % 4]), y);
    return y;
}
#endif

// From S to S', for row k0 + tid / 4 of the state, four of its columns. decay: decay_of d^m
void advance(uint k0, vec2 decay)
{
    uint c = tid / 4, at = (k0 + c) * (COLS / 4) + tid % 4;
    if (k0 + c >= KEY)
        return;
    vec4 sum = vec4(0.0);
    for (uint i = 0; i < LINE; i++) {
        vec4 k = ks[c * LINE + (i ^ (c >> 2))];
        [[unroll]] for (uint e = 0; e < 4; e++)
            sum = fma(vec4(k[e] * left[4 * i + e]), vs[(4 * i + e) * (COLS / 4) + tid % 4], sum);
    }
    state[at] = fma(vec4(decay.x), state[at], fma(vec4(decay.y), state[at], sum));
}

// Computes the block of rows [row, row + m).
void block(uint row, uint m, float rate)
{
    uint ty = tid / 16, tx = tid % 16;
    vec2 decay = decay_of(rate * float(m));
    if (tid < C)
        left[tid] = tid < m ? power[m - 1 - tid] : 0.0;
    load_values(row, m);
#ifdef FM_OP_LINEAR_ATTEND
    vec4 p[2] = vec4[2](vec4(0.0), vec4(0.0)), y = vec4(0.0);
#endif
    for (uint k0 = 0; k0 < KEY; k0 += SLICE) {
        load_slice(row, m, k0);
        barrier();
#ifdef FM_OP_LINEAR_ATTEND
        multiply(ty, tx, k0, p, y);
        barrier();
#endif
        advance(k0, decay);
        barrier();
    }
#ifdef FM_OP_LINEAR_ATTEND
    [[unroll]] for (uint e = 0; e < 2; e++) {
        uint j = 2 * tx + e;
        vec4 d;
        [[unroll]] for (uint i = 0; i < 4; i++)
            d[i] = 4 * ty + i >= j ? power[4 * ty + i - j] : 0.0;
        ps[j * LINE + ty] = p[e] * d;
    }
    barrier();
    vec4 d = vec4(power[4 * ty + 1], power[4 * ty + 2], power[4 * ty + 3], power[4 * ty + 4]);
    y = fma(y, d, multiply_values(ty, tx));
    [[unroll]] for (uint i = 0; i < 4; i++)
        if (4 * ty + i < m && col0 + tx < pc.head)
            pc.y.d[value_at(row + 4 * ty + i, h) + col0 + tx] = y[i];
    barrier();
#endif
}

// The state of this workgroup's columns, in quads, row by row. `at`: the head's first element.
void load_state(fm_out_f32x4s from, uint at)
{
    for (uint i = tid; i < KEY * COLS / 4; i += WORKGROUP)
        if (col0 + i % 4 * 4 < pc.head)
            state[i] = from.d[(at + i / 4 * pc.head + col0) / 4 + i % 4];
}

void store_state(fm_out_f32x4s to, uint at)
{
    for (uint i = tid; i < KEY * COLS / 4; i += WORKGROUP)
        if (col0 + i % 4 * 4 < pc.head)
            to.d[(at + i / 4 * pc.head + col0) / 4 + i % 4] = state[i];
}

void main()
{
    uint slices = (pc.head + COLS - 1) / COLS;
    fm_part part;
    if (!fm_part_find(pc.step, pc.segment, gl_WorkGroupID.y, pc.part, part))
        return;
    tid = gl_LocalInvocationID.x;
    h = gl_WorkGroupID.x / slices;
    col0 = gl_WorkGroupID.x % slices * COLS;
    float rate = pc.decay.d[h];
    uint at = 0;
    for (uint i = tid; i <= C; i += WORKGROUP)
        power[i] = fm_exp(-rate * float(i));
    for (uint i = tid; i < KEY * COLS / 4; i += WORKGROUP)
        state[i] = vec4(0.0);
#ifdef FM_OP_LINEAR_ATTEND
    if (FM_PRESENT(pc.starts))
        load_state(pc.starts, state_at(gl_WorkGroupID.y, h));
    else if (part.pos != 0)
        load_state(pc.state, state_at(fm_state_version(part.slot, part.pos, pc.versions), h));
#else
    if (part.last)
        return;
    // Rows whose decay up to the part's end is below e^-88, which is no normal number, add nothing and are not read.
    float age = 88.0 / max(rate, 1e-30);
    if (age < float(part.rows))
        at = (part.rows - uint(age) - 1) / C * C;
#endif
    barrier();
    for (; at < part.rows; at += C)
        block(part.row + at, min(part.rows - at, C), rate);
    barrier();
#ifdef FM_OP_LINEAR_ATTEND
    if (part.last)
        store_state(pc.state, state_at(fm_state_version(part.slot, part.pos + part.rows, pc.versions), h));
#else
    store_state(pc.z, state_at(gl_WorkGroupID.y, h));
#endif
}
