#version 460
// SPDX-License-Identifier: MIT
// LINEAR_ATTEND and LINEAR_STATES, token by token: the recurrence itself (Qin et al., "TransNormerLLM", 2024, algorithm 2).
//   qk [T,2*H*K], v [T,H*P], decay [H] f32, segments, state [S,B,H*K,P] f32 -> y [T,H*P], state'
//   linear_states computes the state only, beginning with zero: -> z [parts,H*K,P]
// One workgroup: COLS columns of P of one head, and the rows of one part (lib/segment.glsl). Of the state, an invocation keeps every eighth
//     row of one column in registers. A token's query and key are stored in shared memory.
// Specialisation: 0 workgroup size (must be 128), 2 K.
// Needs: base. Accumulates in f32: per column a chain of K/8 products, then 8 partial sums in order.
// Bytes moved: q and k once per COLS columns, v and y once, a state once each way.
#extension GL_GOOGLE_include_directive : require
#include "lightning/args.glsl"

layout(constant_id = 2) const uint KEY = 128;

const uint COLS = 16;
const uint DOWN = 8; // invocations that share a column
const uint DEEP = (KEY + DOWN - 1) / DOWN;

shared float qs[KEY], ks[KEY], sums[DOWN * COLS];
float s[DEEP];

void load_state(REF_STATE from, uint at, bool used)
{
    for (uint i = 0; i < DEEP; i++)
        s[i] = used && i * DOWN + gl_LocalInvocationID.x / COLS < KEY ? from.d[at + i * DOWN * pc.head] : 0.0;
}

void store_state(REF_STATE to, uint at, bool used)
{
    for (uint i = 0; i < DEEP; i++)
        if (used && i * DOWN + gl_LocalInvocationID.x / COLS < KEY)
            to.d[at + i * DOWN * pc.head] = s[i];
}

void main()
{
    uint tid = gl_LocalInvocationID.x, slices = (pc.head + COLS - 1) / COLS;
    uint h = gl_WorkGroupID.x / slices, col = gl_WorkGroupID.x % slices * COLS + tid % COLS, k0 = tid / COLS;
    fm_part part;
    if (!fm_part_find(pc.step, pc.segment, gl_WorkGroupID.y, pc.part, part))
        return;
    bool used = col < pc.head;
    uint at = k0 * pc.head + col; // of this invocation's first element in a head's state
    vec2 decay = decay_of(pc.decay.d[h]);
    for (uint i = 0; i < DEEP; i++)
        s[i] = 0.0;
#ifdef FM_OP_LINEAR_ATTEND
    if (FM_PRESENT(pc.starts))
        load_state(pc.starts, state_at(gl_WorkGroupID.y, h) + at, used);
    else if (part.pos != 0)
        load_state(pc.state, state_at(fm_state_version(part.slot, part.pos, pc.versions), h) + at, used);
#else
    if (part.last)
        return;
#endif
    for (uint t = 0; t < part.rows; t++) {
        uint row = part.row + t;
        for (uint i = tid; i < KEY; i += FM_WORKGROUP) {
            ks[i] = fm_act(pc.act, pc.qk.d[key_at(row, h) + i]);
#ifdef FM_OP_LINEAR_ATTEND
            qs[i] = fm_act(pc.act, pc.qk.d[query_at(row, h) + i]);
#endif
        }
        float v = used ? pc.v.d[value_at(row, h) + col] : 0.0, sum = 0.0;
        barrier();
        for (uint i = 0; i < DEEP; i++) {
            uint k = i * DOWN + k0;
            if (k >= KEY)
                break;
            s[i] = fma(decay.x, s[i], fma(decay.y, s[i], ks[k] * v));
#ifdef FM_OP_LINEAR_ATTEND
            sum = fma(qs[k], s[i], sum);
#endif
        }
#ifdef FM_OP_LINEAR_ATTEND
        sums[tid] = sum;
        barrier();
        if (tid < COLS && used) {
            for (uint i = 1; i < DOWN; i++)
                sum += sums[i * COLS + tid];
            pc.y.d[value_at(row, h) + col] = sum;
        }
        if (part.last && part.rows - t <= pc.kept)
            store_state(pc.state, state_at(fm_state_version(part.slot, part.pos + t + 1, pc.versions), h) + at, used);
#else
        barrier();
#endif
    }
#ifdef FM_OP_LINEAR_STATES
    store_state(pc.z, state_at(gl_WorkGroupID.y, h) + at, used);
#endif
}
