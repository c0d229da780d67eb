#version 460
// SPDX-License-Identifier: MIT
// KV_WRITE: append keys and values to the cache. k, v [T,G*C] f32, pos, slot [T] -> kc, vc [S,G,L,Cp] f32 or f16,
// padding columns 0. One invocation per pair of cache columns of one token. Specialisation: 0 workgroup size. Needs:
// base. Rounds to nearest even.
#extension GL_GOOGLE_include_directive : require
#include "abi.h"
#include "io.glsl"
#include "spec.glsl"
#include "cache.glsl"

#define REF_STEP fm_u32s
#define REF_U32 fm_u32s
#define REF_X fm_f32s

layout(push_constant, scalar) uniform Push { FM_PUSH_KV_WRITE(FM_A, FM_P) } pc;

vec2 load2(REF_X x, uint at, uint c)
{
    return vec2(c < pc.head ? x.d[at + c] : 0.0, c + 1 < pc.head ? x.d[at + c + 1] : 0.0);
}

void main()
{
    uint t = gl_WorkGroupID.y;
    uint i = gl_GlobalInvocationID.x * 2;
    if (t >= pc.step.d[FM_STEP_TOKENS] || i >= pc.heads_kv * pc.head_stride)
        return;
    uint g = i / pc.head_stride, c = i % pc.head_stride;
    uint from = (t * pc.heads_kv + g) * pc.head;
    uint to = fm_cache_row(pc.slot.d[t], g, pc.heads_kv, pc.pos.d[t], pc.ctx, pc.head_stride) + c;
    fm_cache_store2(pc.kc, to, load2(pc.k, from, c));
    fm_cache_store2(pc.vc, to, load2(pc.v, from, c));
}
