// SPDX-License-Identifier: MIT
// The KV cache: [S,G,L,Cp] in f32, f16 or q8_0, Cp = head width rounded up to 8, for q8_0 to 32. Where a device has no 16-bit
// store, halves are written in pairs of neighbours; f32 and halves of rung f16 (FM_CACHE_SINGLE) can be written one by one.
// q8_0 (src/quant/quant.h): a slot's head is a plane of L*Cp int8, then L*Cp/32 scales f16, one for 32 neighbours of a row. L is
// a multiple of 8, so that planes begin at multiples of 16 bytes. It is written a block at a time, scales by atomics, because two
// rows of different workgroups may share a word of them.
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

// Plane of (slot, KV head): its first element and their number. Elements are counted from the cache's start; of q8_0, bytes are.
uvec2 fm_cache_plane(uint slot, uint g, uint heads_kv, uint ctx, uint head_stride)
{
    uint elems = ctx * head_stride;
#ifdef FM_W_Q8_0
    return uvec2((slot * heads_kv + g) * (elems + elems / 16), elems);
#else
    return uvec2((slot * heads_kv + g) * elems, elems);
#endif
}

#ifdef FM_W_Q8_0
// First byte of the scale of element `at`.
uint fm_cache_scale_byte(uvec2 plane, uint at)
{
    return plane.x + plane.y + (at - plane.x) / 32 * 2;
}

// Four elements from `at` on, a multiple of 4, of a block whose greatest magnitude is `most`, rounded as the encoder of
// src/quant/encode.c rounds.
void fm_cache_store_q8(REF_KV cache, uvec2 plane, uint at, vec4 x, float most)
{
    float d = most / 127.0, id = d > 1.1754944e-38 ? 1.0 / d : 0.0;
    uint word = 0;
    for (uint i = 0; i < 4; i++) {
        float q = min(floor(abs(x[i]) * id + 0.5), 127.0);
        word |= (uint(int(x[i] < 0.0 ? -q : q)) & 0xffu) << (8 * i);
    }
    cache.d[at / 4] = word;
    if ((at & 31) != 0)
        return;
    uint byte = fm_cache_scale_byte(plane, at), shift = 8 * (byte & 2);
    atomicAnd(cache.d[byte / 4], 0xffff0000u >> shift);
    atomicOr(cache.d[byte / 4], fm_half_bits(d) << shift);
}
#endif

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

#ifndef FM_W_Q8_0
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

#endif

// `at` is even.
vec2 fm_cache_load2(REF_KV cache, uvec2 plane, uint at)
{
#if defined(FM_W_Q8_0)
    uint byte = fm_cache_scale_byte(plane, at);
    float d = unpackHalf2x16(cache.d[byte / 4] >> (8 * (byte & 2))).x;
    int word = int(cache.d[at / 4] >> (8 * (at & 2)));
    return d * vec2(bitfieldExtract(word, 0, 8), bitfieldExtract(word, 8, 8));
#elif defined(FM_CACHE_SINGLE)
    return vec2(cache.d[at], cache.d[at + 1]);
#else
    return unpackHalf2x16(cache.d[at / 2]);
#endif
}

#endif
