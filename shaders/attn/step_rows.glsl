// SPDX-License-Identifier: MIT
// Rows of this step in attend_vec.comp: queries and keys that are rotated where they are needed (lib/rope.glsl), keys and values rounded
// as the caches hold them, and written there. A workgroup whose part has keys of the step makes them from k and v, whoever writes them:
// the same bits as a later step finds in the cache. A row is written by the workgroup of that row whose part it is in.
#ifndef FM_STEP_ROWS_GLSL
#define FM_STEP_ROWS_GLSL

#include "rope.glsl"

layout(constant_id = 4) const uint ROTATED = 128; // elements of a head; a multiple of 8

// First row of this step that is of row t's sequence: its rows stand together. Row 0 looks at itself: a processor's driver may load what
// the condition before rules out (lib/attend.glsl).
uint first_row(uint t)
{
    uint slot = pc.slot.d[t], row = t;
    while (row > 0 && pc.slot.d[max(row, 1) - 1] == slot)
        row--;
    return row;
}

// ---- rotation, four neighbours at a time: elements 4 * i to 4 * i + 3 of a head

// Cosines, and sines with the sign that the partner of each element has.
void turn4(uint i, uint pos, out vec4 cosine, out vec4 sine)
{
    cosine = vec4(1.0);
    sine = vec4(0.0);
    if (4 * i >= ROTATED)
        return;
    if (pc.kind == FM_ROPE_NORM) {
        vec2 a = fm_rope_angle(pos, pc.freq.d[2 * i]), b = fm_rope_angle(pos, pc.freq.d[2 * i + 1]);
        cosine = vec4(a.xx, b.xx);
        sine = vec4(-a.y, a.y, -b.y, b.y);
        return;
    }
    bool second = i >= ROTATED / 8; // of the two elements of a pair
    uint m = 4 * (second ? i - ROTATED / 8 : i);
    [[unroll]] for (uint j = 0; j < 4; j++) {
        vec2 a = fm_rope_angle(pos, pc.freq.d[m + j]);
        cosine[j] = a.x;
        sine[j] = second ? a.y : -a.y;
    }
}

// Of the head that begins at x.d[from].
vec4 rotated4(REF_X x, uint from, uint i, vec4 cosine, vec4 sine)
{
    vec4 own = x.d[from + i];
    if (4 * i >= ROTATED)
        return own;
    bool second = i >= ROTATED / 8;
    vec4 partner = pc.kind == FM_ROPE_NORM ? own.yxwz : x.d[from + (second ? i - ROTATED / 8 : i + ROTATED / 8)];
    return fm_rotate4(own, partner, cosine, sine);
}

void load_queries(uint t, uint head0, uint lane)
{
    float scale = uintBitsToFloat(pc.scale_bits);
    uint pos = pc.pos.d[t], heads = gl_NumWorkGroups.x * QH;
    [[unroll]] for (uint c = 0; c < PER; c++) {
        uint chunk = chunk_of(c, lane);
        bool there = !RAGGED || chunk < CHUNKS;
        chunk = there ? chunk : CHUNKS - 1;
        vec4 cosine[2], sine[2];
        [[unroll]] for (uint i = 0; i < 2; i++)
            turn4(2 * chunk + i, pos, cosine[i], sine[i]);
        [[unroll]] for (uint h = 0; h < QH; h++) {
            uint from = (t * heads + head0 + h) * (HEAD / 4);
            [[unroll]] for (uint i = 0; i < 2; i++) {
                vec4 q = scale * rotated4(pc.q, from, 2 * chunk + i, cosine[i], sine[i]);
                query[h * PER + c][i] = there ? q : vec4(0.0);
            }
        }
    }
}

// ---- as the caches hold it

#ifdef FM_W_F32
RAW narrow(mat2x4 x)
{
    return x;
}
#elif defined(FM_W_Q8_0)
// The four chunks of a block lie in neighbouring lanes, OF_BLOCK in each.
#ifdef PAIRS
const uint OF_BLOCK = 2;
#else
const uint OF_BLOCK = 1;
#endif

// Greatest magnitude of a block, of which this lane has x and y.
float largest(mat2x4 x, mat2x4 y)
{
    vec4 a = max(max(abs(x[0]), abs(x[1])), max(abs(y[0]), abs(y[1])));
    float most = max(max(a.x, a.y), max(a.z, a.w));
    [[unroll]] for (uint d = 1; d < 4 / OF_BLOCK; d <<= 1)
        most = max(most, subgroupShuffleXor(most, d));
    return most;
}

// As fm_cache_store_q8 rounds (lib/cache.glsl).
RAW narrow(mat2x4 x, float most)
{
    float d = most / 127.0, id = d > 1.1754944e-38 ? 1.0 / d : 0.0;
    RAW raw = RAW(0, 0, fm_half_bits(d));
    [[unroll]] for (uint i = 0; i < 8; i++) {
        float e = x[i / 4][i % 4], q = min(floor(abs(e) * id + 0.5), 127.0);
        raw[i / 4] |= (uint(int(e < 0.0 ? -q : q)) & 0xffu) << (8 * (i % 4));
    }
    return raw;
}
#else
RAW narrow(mat2x4 x)
{
    return RAW(fm_pack_half2(x[0].x, x[0].y), fm_pack_half2(x[0].z, x[0].w), fm_pack_half2(x[1].x, x[1].y),
               fm_pack_half2(x[1].z, x[1].w));
}
#endif

// Chunk of KV head `from` = row * G + g.
mat2x4 step_key(uint from, uint pos, uint chunk)
{
    mat2x4 x;
    [[unroll]] for (uint i = 0; i < 2; i++) {
        vec4 cosine, sine;
        turn4(2 * chunk + i, pos, cosine, sine);
        x[i] = rotated4(pc.k, from * (HEAD / 4), 2 * chunk + i, cosine, sine);
    }
    return x;
}

mat2x4 step_value(uint from, uint chunk)
{
    uint at = from * (HEAD / 4) + 2 * chunk;
    return mat2x4(pc.v.d[at], pc.v.d[at + 1]);
}

#ifdef FM_W_F32
void store8(REF_KV cache, uint i, RAW raw)
{
    cache.d[2 * i] = raw[0];
    cache.d[2 * i + 1] = raw[1];
}
#elif defined(FM_W_Q8_0)
void store8(REF_KV cache, uint i, RAW raw)
{
    cache.d[i] = raw.xy;
}
#else
void store8(REF_KV cache, uint i, RAW raw)
{
    cache.d[i] = raw;
}
#endif

// A lane's chunk `c` of raw_k and raw_v into row `row` (its first chunk) of the caches' planes, if `written`. Scales of q8_0 go by pairs
// of blocks, with the first chunk of the first; all lanes of a row call this.
void store_chunk(uvec2 plane, uint row, uint c, uint lane, bool written)
{
    uint chunk = chunk_of(c, lane);
#ifdef FM_W_Q8_0
    const uint apart = 4 / OF_BLOCK; // lanes from block to block
    uvec2 own = uvec2(raw_k[c].z, raw_v[c].z), after = uvec2(raw_k[min(c + 1, PER - 1)].z, raw_v[min(c + 1, PER - 1)].z);
    if (LANES > apart)
        after = uvec2(subgroupShuffleXor(own.x, apart), subgroupShuffleXor(own.y, apart));
#endif
    if (!written || (RAGGED && chunk >= CHUNKS))
        return;
    store8(pc.kc, plane.x + row + chunk, raw_k[c]);
    store8(pc.vc, plane.x + row + chunk, raw_v[c]);
#ifdef FM_W_Q8_0
    if (chunk % 8 == 0) {
        uint at = (plane.x + plane.y) * 2 + (row + chunk) / 8;
        FM_CAST(CACHE_U32, pc.kc).d[at] = own.x | after.x << 16;
        FM_CAST(CACHE_U32, pc.vc).d[at] = own.y | after.y << 16;
    }
#endif
}

#endif
