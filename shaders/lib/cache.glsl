// SPDX-License-Identifier: MIT
// The KV cache: [S,G,L,Cp] in f32 or f16, Cp = head width rounded up to 8. Elements are written in pairs, so that
// halves need no 16-bit store.
#ifndef FM_CACHE_GLSL
#define FM_CACHE_GLSL

#include "half.glsl"
#include "io.glsl"

#ifdef FM_W_F32
#define REF_KV fm_out_f32s
#else
#define REF_KV fm_out_u32s
#endif

// First element of the row of (slot, KV head, position).
uint fm_cache_row(uint slot, uint g, uint heads_kv, uint position, uint ctx, uint head_stride)
{
    return ((slot * heads_kv + g) * ctx + position) * head_stride;
}

// `at` is even.
void fm_cache_store2(REF_KV cache, uint at, vec2 x)
{
#ifdef FM_W_F32
    cache.d[at] = x.x;
    cache.d[at + 1] = x.y;
#else
    cache.d[at / 2] = fm_pack_half2(x.x, x.y);
#endif
}

vec2 fm_cache_load2(REF_KV cache, uint at)
{
#ifdef FM_W_F32
    return vec2(cache.d[at], cache.d[at + 1]);
#else
    return unpackHalf2x16(cache.d[at / 2]);
#endif
}

#endif
