#version 460
// SPDX-License-Identifier: MIT
// KV_WRITE: append keys and values to the cache. k, v [T,G*C] f32, pos, slot [T] -> kc, vc [S,G,L,Cp] f32, f16 or
// q8_0, padding columns 0. One invocation per four cache columns of one token. Specialisation: 0 workgroup size. Needs: base
// nothing, rung f16 16-bit types and storage. Rounds to nearest even, on rung f16 as the device does.
// Moves 2*G*(4*C + Cp*cache) bytes a token.
#extension GL_GOOGLE_include_directive : require
#include "abi.h"
#include "io.glsl"
#include "spec.glsl"
#include "cache.glsl"

#define REF_STEP fm_u32s
#define REF_U32 fm_u32s
#define REF_X fm_f32s

layout(push_constant, scalar) uniform Push { FM_PUSH_KV_WRITE(FM_A, FM_P) } pc;

// columns c..c+3 of the head that begins at element `at`; zeros beyond its width
vec4 load4(REF_X x, uint at, uint c)
{
    if ((pc.head & 3) == 0)
        return c < pc.head ? FM_CAST(fm_f32x4s, x).d[(at + c) / 4] : vec4(0.0);
    vec4 v = vec4(0.0);
    for (uint i = 0; i < 4 && c + i < pc.head; i++)
        v[i] = x.d[at + c + i];
    return v;
}

void main()
{
    uint t = gl_WorkGroupID.y;
    uint i = gl_GlobalInvocationID.x * 4;
    if (t >= pc.step.d[FM_STEP_TOKENS] || i >= pc.heads_kv * pc.head_stride)
        return;
    uint g = i / pc.head_stride, c = i % pc.head_stride;
    uint from = (t * pc.heads_kv + g) * pc.head;
    uvec2 plane = fm_cache_plane(pc.slot.d[t], g, pc.heads_kv, pc.ctx, pc.head_stride);
    uint to = plane.x + pc.pos.d[t] * pc.head_stride + c;
#ifdef FM_W_Q8_0
    float most_k = 0.0, most_v = 0.0;
    for (uint b = c & ~31u; b < (c & ~31u) + 32; b += 4) {
        vec4 k = abs(load4(pc.k, from, b)), v = abs(load4(pc.v, from, b));
        most_k = max(most_k, max(max(k.x, k.y), max(k.z, k.w)));
        most_v = max(most_v, max(max(v.x, v.y), max(v.z, v.w)));
    }
    fm_cache_store_q8(pc.kc, plane, to, load4(pc.k, from, c), most_k);
    fm_cache_store_q8(pc.vc, plane, to, load4(pc.v, from, c), most_v);
#else
    fm_cache_store4(pc.kc, to, load4(pc.k, from, c));
    fm_cache_store4(pc.vc, to, load4(pc.v, from, c));
#endif
}
