#version 460
// SPDX-License-Identifier: MIT
// ROPE_KV_WRITE: rotate q, rotate k into the cache, copy v into the cache: what lies between the projections and
// attention.
//   q [T,H*C], k, v [T,G*C] f32, freq [R,2] u32, pos, slot [T] -> y [T,H*C] f32; kc, vc [S,G,L,Cp] f32 or f16, padding
//   columns 0
// A workgroup makes one head of one token: heads 0..H-1 of q, then G of k, then G of v; an invocation makes pairs of its
// elements. Where the cache takes no single elements (lib/cache.glsl) a row of it goes through shared memory, because a
// pair's elements may be far apart and the cache is written two neighbours at a time. Head width at most 512.
// Specialisation: 0 workgroup size. Needs: base nothing, rung f16 16-bit types and storage. Moves 4*(2H+2G)*C +
// 2*G*Cp*cache bytes a token.
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

#ifndef FM_CACHE_SINGLE
shared float row[512];
#endif

// the two elements of pair m of a head of keys or queries; pairs beyond the rotated ones are neighbours
uvec2 elements(uint m)
{
    return 2 * m < pc.rotated ? fm_rope_pair(m, pc.rotated, pc.kind) : uvec2(2 * m, 2 * m + 1);
}

// elements e of the head at element `from`, rotated; zeros beyond the head's width
vec2 rotated(REF_X x, uint from, uint m, uvec2 e, uint pos)
{
    vec2 v = vec2(e.x < pc.head ? x.d[from + e.x] : 0.0, e.y < pc.head ? x.d[from + e.y] : 0.0);
    return 2 * m < pc.rotated ? fm_rotate(v, fm_rope_angle(pos, pc.freq.d[m])) : v;
}

void write_query(uint from, uint pos)
{
    for (uint m = gl_LocalInvocationID.x; 2 * m < pc.head; m += FM_GROUP) {
        uvec2 e = elements(m);
        vec2 v = rotated(pc.q, from, m, e, pos);
        pc.y.d[from + e.x] = v.x;
        if (e.y < pc.head)
            pc.y.d[from + e.y] = v.y;
    }
}

void write_key(uint from, uint to, uint pos)
{
    for (uint m = gl_LocalInvocationID.x; 2 * m < pc.head_stride; m += FM_GROUP) {
        uvec2 e = elements(m);
        vec2 v = rotated(pc.k, from, m, e, pos);
#ifdef FM_CACHE_SINGLE
        fm_cache_store(pc.kc, to + e.x, v.x);
        fm_cache_store(pc.kc, to + e.y, v.y);
    }
#else
        row[e.x] = v.x;
        row[e.y] = v.y;
    }
    barrier();
    for (uint c = 2 * gl_LocalInvocationID.x; c < pc.head_stride; c += 2 * FM_GROUP)
        fm_cache_store2(pc.kc, to + c, vec2(row[c], row[c + 1]));
#endif
}

void write_value(uint from, uint to)
{
    for (uint c = 2 * gl_LocalInvocationID.x; c < pc.head_stride; c += 2 * FM_GROUP) {
        vec2 v = vec2(c < pc.head ? pc.v.d[from + c] : 0.0, c + 1 < pc.head ? pc.v.d[from + c + 1] : 0.0);
        fm_cache_store2(pc.vc, to + c, v);
    }
}

void main()
{
    uint t = gl_WorkGroupID.y, h = gl_WorkGroupID.x;
    if (FM_ROW_ABSENT(t, FM_STEP_TOKENS, pc.step.d[FM_STEP_TOKENS]))
        return;
    uint pos = pc.pos.d[t];
    if (h < pc.heads) {
        write_query((t * pc.heads + h) * pc.head, pos);
        return;
    }
    uint g = (h - pc.heads) % pc.heads_kv, from = (t * pc.heads_kv + g) * pc.head;
    uint to = fm_cache_row(pc.slot.d[t], g, pc.heads_kv, pos, pc.ctx, pc.head_stride);
    if (h < pc.heads + pc.heads_kv)
        write_key(from, to, pos);
    else
        write_value(from, to);
}
