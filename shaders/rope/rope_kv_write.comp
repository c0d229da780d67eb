#version 460
// SPDX-License-Identifier: MIT
// ROPE_KV_WRITE: rotate q, rotate k into the cache, copy v into the cache: what lies between the projections and
// attention.
//   q [T,H*C], k, v [T,G*C] f32, freq [R,2] u32, pos, slot [T] -> y [T,H*C] f32; kc, vc [S,G,L,Cp] f32 or f16, padding
//   columns 0
// A workgroup makes one head of one token: heads 0..H-1 of q, then G of k, then G of v. Keys are rotated in shared
// memory, because a pair's elements may be far apart and the cache is written two neighbours at a time. Head width at
// most 512.
// Specialisation: 0 workgroup size. Needs: base. Moves 4*(2H+2G)*C + 2*G*Cp*cache bytes a token.
#extension GL_GOOGLE_include_directive : require
#include "abi.h"
#include "io.glsl"
#include "spec.glsl"
#include "rope.glsl"
#include "cache.glsl"

#define REF_STEP fm_u32s
#define REF_U32 fm_u32s
#define REF_X fm_f32s
#define REF_FREQ fm_u32x2s
#define REF_Y fm_out_f32s

layout(push_constant, scalar) uniform Push { FM_PUSH_ROPE_KV_WRITE(FM_A, FM_P) } pc;

shared float row[512];

void main()
{
    uint t = gl_WorkGroupID.y, h = gl_WorkGroupID.x, tid = gl_LocalInvocationID.x;
    if (FM_ROW_ABSENT(t, FM_STEP_TOKENS, pc.step.d[FM_STEP_TOKENS]))
        return;
    uint pos = pc.pos.d[t], pairs = pc.rotated / 2;
    bool is_q = h < pc.heads, is_v = h >= pc.heads + pc.heads_kv;
    uint g = is_v ? h - pc.heads - pc.heads_kv : h - pc.heads;
    uint from = is_q ? (t * pc.heads + h) * pc.head : (t * pc.heads_kv + g) * pc.head;
    REF_X source = FM_SELECT(REF_X, is_q, pc.q, FM_SELECT(REF_X, is_v, pc.v, pc.k));
    for (uint c = tid; c < pc.head_stride; c += FM_GROUP)
        row[c] = c < pc.head ? source.d[from + c] : 0.0;
    barrier();
    if (!is_v) {
        for (uint m = tid; m < pairs; m += FM_GROUP) {
            uvec2 e = fm_rope_pair(m, pc.rotated, pc.kind);
            vec2 r = fm_rotate(vec2(row[e.x], row[e.y]), fm_rope_angle(pos, pc.freq.d[m]));
            row[e.x] = r.x;
            row[e.y] = r.y;
        }
        barrier();
    }
    if (is_q) {
        for (uint c = tid; c < pc.head; c += FM_GROUP)
            pc.y.d[from + c] = row[c];
        return;
    }
    uint to = fm_cache_row(pc.slot.d[t], g, pc.heads_kv, pos, pc.ctx, pc.head_stride);
    for (uint c = 2 * tid; c < pc.head_stride; c += 2 * FM_GROUP) {
        if (is_v)
            fm_cache_store2(pc.vc, to + c, vec2(row[c], row[c + 1]));
        else
            fm_cache_store2(pc.kc, to + c, vec2(row[c], row[c + 1]));
    }
}
