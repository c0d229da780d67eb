#version 460
// SPDX-License-Identifier: MIT
// ROPE_KV_WRITE: rotate q, rotate k into the cache, copy v into the cache: what lies between the projections and
// attention.
//   q [T,H*C], k, v [T,G*C] f32, freq [R,2] u32, pos, slot, length [T] -> y [T,H*C] f32; kc, vc [S,G,L,Cp] f32, f16 or q8_0,
//   padding columns 0. Dual chunk attention (chunk > 0): y [T,3*H*C], three rotations of q (lib/rope.glsl)
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

// elements e of the head at element `from`, scaled for the sequence's length; zeros beyond the head's width
vec2 load(REF_X x, uint from, uvec2 e, uint t)
{
    vec2 v = vec2(e.x < pc.head ? x.d[from + e.x] : 0.0, e.y < pc.head ? x.d[from + e.y] : 0.0);
    return pc.original != 0 ? v * fm_rope_factor(pc.lengths.d[t], pc.original) : v;
}

vec2 rotated(vec2 v, uint m, uint pos)
{
    return 2 * m < pc.rotated ? fm_rotate(v, fm_rope_angle(pos, pc.freq.d[m])) : v;
}

void write_query(uint t, uint h)
{
    uint copies = pc.chunk != 0 ? 3 : 1;
    for (uint m = gl_LocalInvocationID.x; 2 * m < pc.head; m += FM_WORKGROUP) {
        uvec2 e = elements(m);
        vec2 x = load(pc.q, (t * pc.heads + h) * pc.head, e, t);
        for (uint copy = 0; copy < copies; copy++) {
            uint to = ((t * copies + copy) * pc.heads + h) * pc.head;
            vec2 v = rotated(x, m, fm_rope_position(pc.pos.d[t], pc.chunk, pc.cap, copy));
            pc.y.d[to + e.x] = v.x;
            if (e.y < pc.head)
                pc.y.d[to + e.y] = v.y;
        }
    }
}

#ifdef FM_W_Q8_0
// The row in shared memory into the cache.
void store_row(REF_KV cache, uvec2 plane, uint to)
{
    barrier();
    for (uint c = 4 * gl_LocalInvocationID.x; c < pc.head_stride; c += 4 * FM_WORKGROUP) {
        float most = 0.0;
        for (uint b = c & ~31u; b < (c & ~31u) + 32; b++)
            most = max(most, abs(row[b]));
        fm_cache_store_q8(cache, plane, to + c, vec4(row[c], row[c + 1], row[c + 2], row[c + 3]), most);
    }
}
#endif

void write_key(uint t, uint from, uvec2 plane, uint to)
{
    uint pos = fm_rope_position(pc.pos.d[t], pc.chunk, pc.cap, 0);
    for (uint m = gl_LocalInvocationID.x; 2 * m < pc.head_stride; m += FM_WORKGROUP) {
        uvec2 e = elements(m);
        vec2 v = rotated(load(pc.k, from, e, t), m, pos);
#ifdef FM_CACHE_SINGLE
        fm_cache_store(pc.kc, to + e.x, v.x);
        fm_cache_store(pc.kc, to + e.y, v.y);
    }
#else
        row[e.x] = v.x;
        row[e.y] = v.y;
    }
#ifdef FM_W_Q8_0
    store_row(pc.kc, plane, to);
#else
    barrier();
    for (uint c = 2 * gl_LocalInvocationID.x; c < pc.head_stride; c += 2 * FM_WORKGROUP)
        fm_cache_store2(pc.kc, to + c, vec2(row[c], row[c + 1]));
#endif
#endif
}

void write_value(uint from, uvec2 plane, uint to)
{
    for (uint c = 2 * gl_LocalInvocationID.x; c < pc.head_stride; c += 2 * FM_WORKGROUP) {
        vec2 v = vec2(c < pc.head ? pc.v.d[from + c] : 0.0, c + 1 < pc.head ? pc.v.d[from + c + 1] : 0.0);
#ifdef FM_W_Q8_0
        row[c] = v.x;
        row[c + 1] = v.y;
    }
    store_row(pc.vc, plane, to);
#else
        fm_cache_store2(pc.vc, to + c, v);
    }
#endif
}

void main()
{
    uint t = gl_WorkGroupID.y, h = gl_WorkGroupID.x;
    if (FM_ROW_ABSENT(t, FM_STEP_TOKENS, pc.step.d[FM_STEP_TOKENS]))
        return;
    if (h < pc.heads) {
        write_query(t, h);
        return;
    }
    uint g = (h - pc.heads) % pc.heads_kv, from = (t * pc.heads_kv + g) * pc.head;
    uvec2 plane = fm_cache_plane(pc.slot.d[t], g, pc.heads_kv, pc.ctx, pc.head_stride);
    uint to = plane.x + pc.pos.d[t] * pc.head_stride;
    if (h < pc.heads + pc.heads_kv)
        write_key(t, from, plane, to);
    else
        write_value(from, plane, to);
}
