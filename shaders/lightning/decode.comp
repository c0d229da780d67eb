#version 460
// SPDX-License-Identifier: MIT
// LINEAR_ATTEND for few rows: one pass over the state, which stays in registers from token to token (Qin et al.,
// "TransNormerLLM", 2024, algorithm 2), with the activations of queries and keys.
//   qk [T,2*H*K], v [T,H*P], decay [H] f32, segments, state [S,B,H*K,P] f32 -> y [T,H*P], state'
// One workgroup: 32 columns of P of one head, and all rows of one segment. 8 neighbouring invocations hold 128 bytes of a row of the
//     state, 4 columns each. There are workgroup / 8 such teams; a workgroup of 256 has 32, so an invocation keeps every 32nd row.
// Specialisation: 0 workgroup size, 1 subgroup size, 2 K. P must be a multiple of 4.
// Needs: subgroup. Accumulates in f32: a chain of K/32 products, then a tree within the subgroup and subgroups in order.
// Bytes moved: the state once each way; a row's q and k once per 32 columns, v and y once.
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#define FM_USE_SUBGROUP_SIZE
#define REF_STATE fm_out_f32x4s
#include "lightning/args.glsl"

layout(constant_id = 2) const uint KEY = 128;

const uint LANES = 8; // invocations side by side
const uint COLS = 4 * LANES;
const uint DOWN = gl_WorkGroupSize.x / LANES;
const uint DEEP = (KEY + DOWN - 1) / DOWN;
const uint SHARE = FM_SUBGROUP > LANES ? FM_SUBGROUP : LANES; // invocations whose sums are added by shuffles; a team at least
const uint SHARES = gl_WorkGroupSize.x / SHARE;

// Two places, used in turn: a token's sums may be stored while those of the token before are still read.
shared vec4 sums[2 * SHARES * LANES];

void main()
{
    uint tid = gl_SubgroupID * FM_SUBGROUP + gl_SubgroupInvocationID, lane = tid % LANES, k0 = tid / LANES;
    uint slices = (pc.head + COLS - 1) / COLS, h = gl_WorkGroupID.x / slices;
    uint col0 = gl_WorkGroupID.x % slices * COLS, col = col0 + 4 * lane;
    fm_part part;
    if (!fm_part_find(pc.step, pc.segment, gl_WorkGroupID.y, pc.part, part))
        return;
    bool used = col < pc.head;
    uint at = (k0 * pc.head + col) / 4, step = DOWN * pc.head / 4; // in quads
    vec2 decay = decay_of(pc.decay.d[h]);
    vec4 s[DEEP];
    uint from = state_at(fm_state_version(part.slot, part.pos, pc.versions), h) / 4 + at;
    [[unroll]] for (uint i = 0; i < DEEP; i++) {
        s[i] = vec4(0.0);
        if (used && part.pos != 0 && i * DOWN + k0 < KEY)
            s[i] = pc.state.d[from + i * step];
    }
    for (uint t = 0; t < part.rows; t++) {
        uint row = part.row + t, q_at = query_at(row, h) + k0, k_at = key_at(row, h) + k0;
        vec4 v = vec4(0.0), sum = vec4(0.0);
        if (used)
            v = FM_CAST(fm_f32x4s, pc.v).d[(value_at(row, h) + col) / 4];
        [[unroll]] for (uint i = 0; i < DEEP; i++) {
            if (i * DOWN + k0 >= KEY)
                continue;
            float q = fm_act(pc.act, pc.qk.d[q_at + i * DOWN]), k = fm_act(pc.act, pc.qk.d[k_at + i * DOWN]);
            s[i] = fma(vec4(decay.x), s[i], fma(vec4(decay.y), s[i], k * v));
            sum = fma(vec4(q), s[i], sum);
        }
        [[unroll]] for (uint d = LANES; d < FM_SUBGROUP; d <<= 1)
            sum += subgroupShuffleXor(sum, d);
        uint half_at = t % 2 * SHARES * LANES;
        if (gl_SubgroupInvocationID < LANES)
            sums[half_at + tid / SHARE * LANES + lane] = sum;
        barrier();
        if (tid < COLS && col0 + tid < pc.head) {
            float y = 0.0;
            [[unroll]] for (uint i = 0; i < SHARES; i++)
                y += sums[half_at + i * LANES + tid / 4][tid % 4];
            pc.y.d[value_at(row, h) + col0 + tid] = y;
        }
        if (part.rows - t > pc.kept || !used)
            continue;
        uint to = state_at(fm_state_version(part.slot, part.pos + t + 1, pc.versions), h) / 4 + at;
        [[unroll]] for (uint i = 0; i < DEEP; i++)
            if (i * DOWN + k0 < KEY)
                pc.state.d[to + i * step] = s[i];
    }
}
