// SPDX-License-Identifier: MIT
// The KV cache: [S,G,L,Cp] in f32 or f16, Cp = head width rounded up to 8. Where a device has no 16-bit store, halves are
// written in pairs of neighbours; f32 and halves of rung f16 (FM_CACHE_SINGLE) can be written one by one.
#ifndef FM_CACHE_GLSL
#define FM_CACHE_GLSL

#include "half.glsl"
#include "io.glsl"

#if defined(FM_W_F32)
#define REF_KV fm_out_f32s
#define FM_CACHE_SINGLE 1
#elif defined(FM_RUNG_F16)
#define REF_KV fm_out_f16s
#define FM_CACHE_SINGLE 1
#else
#define REF_KV fm_out_u32s
#endif

// First element of the row of (slot, KV head, position).
uint fm_cache_row(uint slot, uint g, uint heads_kv, uint position, uint ctx, uint head_stride)
{
    return ((slot * heads_kv + g) * ctx + position) * head_stride;
}

#ifdef FM_CACHE_SINGLE
void fm_cache_store(REF_KV cache, uint at, float x)
{
#ifdef FM_W_F32
    cache.d[at] = x;
#else
    cache.d[at] = float16_t(x);
#endif
}
#endif

// `at` is even.
void fm_cache_store2(REF_KV cache, uint at, vec2 x)
{
#ifdef FM_CACHE_SINGLE
    fm_cache_store(cache, at, x.x);
    fm_cache_store(cache, at + 1, x.y);
#else
    cache.d[at / 2] = fm_pack_half2(x.x, x.y);
#endif
}

// `at` is a multiple of 4.
void fm_cache_store4(REF_KV cache, uint at, vec4 x)
{
#if defined(FM_W_F32)
    FM_CAST(fm_out_f32x4s, cache).d[at / 4] = x;
#elif defined(FM_RUNG_F16)
    FM_CAST(fm_out_f16x4s, cache).d[at / 4] = f16vec4(x);
#else
    cache.d[at / 2] = fm_pack_half2(x.x, x.y);
    cache.d[at / 2 + 1] = fm_pack_half2(x.z, x.w);
#endif
}

vec2 fm_cache_load2(REF_KV cache, uint at)
{
#ifdef FM_CACHE_SINGLE
    return vec2(cache.d[at], cache.d[at + 1]);
#else
    return unpackHalf2x16(cache.d[at / 2]);
#endif
}

#endif
