// SPDX-License-Identifier: MIT
// ROPE_ATTEND's part of attend_vec.comp: keys and values of this step's rows, which are not in the caches yet. Queries and keys are
// rotated (lib/rope.glsl) by each workgroup that needs them. Keys and values are rounded to the format of the caches before they are
// used, so that they are the same bits that a later step finds in the caches. Which workgroup stores a row into the caches: of the
// workgroups of that same row, those whose part of the keys contains it (one for each KV head).
#ifndef FM_STEP_ROWS_GLSL
#define FM_STEP_ROWS_GLSL

#include "rope.glsl"

layout(constant_id = 4) const uint ROTATED = 128; // elements of a head; a multiple of 8

// The first row of this step that is of row t's sequence. Rows of a sequence stand together, so rows before t are looked at until one has
// another slot. The index is never below 0, even where `row > 0` is false: a processor's driver may load slot.d[..] all the same.
uint first_row(uint t)
{
    uint slot = pc.slot.d[t], row = t;
    while (row > 0 && pc.slot.d[max(row, 1) - 1] == slot)
        row--;
    return row;
}

// ---- rotation, a quad at a time: quad i is elements 4 * i to 4 * i + 3 of a head

// The cosine for each element of quad i, and the sine by which its partner is multiplied, with its sign. An element and its partner are the
// two that a rotation turns together.
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
    bool second = i >= ROTATED / 8; // NEOX: is it in the second half, whose partners are in the first?
    uint m = 4 * (second ? i - ROTATED / 8 : i);
    [[unroll]] for (uint j = 0; j < 4; j++) {
        vec2 a = fm_rope_angle(pos, pc.freq.d[m + j]);
        cosine[j] = a.x;
        sine[j] = second ? a.y : -a.y;
    }
}

// Quad i after the rotation; the head begins at x.d[from].
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
        uint octet = octet_of(c, lane);
        bool there = !RAGGED || octet < OCTETS;
        octet = there ? octet : OCTETS - 1;
        vec4 cosine[2], sine[2];
        [[unroll]] for (uint i = 0; i < 2; i++)
            turn4(2 * octet + i, pos, cosine[i], sine[i]);
        [[unroll]] for (uint h = 0; h < QH; h++) {
            uint from = (t * heads + head0 + h) * (HEAD / 4);
            [[unroll]] for (uint i = 0; i < 2; i++) {
                vec4 q = scale * rotated4(pc.q, from, 2 * octet + i, cosine[i], sine[i]);
                query[h * PER + c][i] = there ? q : vec4(0.0);
            }
        }
    }
}

// ---- rounding to the format of the caches

#ifdef FM_W_F32
RAW narrow(mat2x4 x)
{
    return x;
}
#elif defined(FM_W_Q8_0)
// A block of 32 elements is four octets, in neighbouring lanes: OF_BLOCK of them in each.
#ifdef PAIRS
const uint OF_BLOCK = 2;
#else
const uint OF_BLOCK = 1;
#endif

// The greatest magnitude of a block. x and y: this lane's octets of it, the same one twice where it has one.
float largest(mat2x4 x, mat2x4 y)
{
    vec4 a = max(max(abs(x[0]), abs(x[1])), max(abs(y[0]), abs(y[1])));
    float most = max(max(a.x, a.y), max(a.z, a.w));
    [[unroll]] for (uint d = 1; d < 4 / OF_BLOCK; d <<= 1)
        most = max(most, subgroupShuffleXor(most, d));
    return most;
}

// Rounds an octet as fm_cache_store_q8 does (lib/cache.glsl). most: greatest magnitude of its block
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

// An octet of the key, and of the value, of row `row` and KV head g; from = row * G + g.
mat2x4 step_key(uint from, uint pos, uint octet)
{
    mat2x4 x;
    [[unroll]] for (uint i = 0; i < 2; i++) {
        vec4 cosine, sine;
        turn4(2 * octet + i, pos, cosine, sine);
        x[i] = rotated4(pc.k, from * (HEAD / 4), 2 * octet + i, cosine, sine);
    }
    return x;
}

mat2x4 step_value(uint from, uint octet)
{
    uint at = from * (HEAD / 4) + 2 * octet;
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

// Stores number `c` of a lane's octets, of raw_k and raw_v, into the caches if `written`. row: octet of the plane where the key's row
// begins. q8_0: one word holds the scales of two neighbouring blocks; the lane that has the first octet of the first block stores it. To
// get the other block's scale it needs a shuffle, so all lanes of a cluster must call this.
void store_octet(uvec2 plane, uint row, uint c, uint lane, bool written)
{
    uint octet = octet_of(c, lane);
#ifdef FM_W_Q8_0
    const uint apart = 4 / OF_BLOCK; // lanes from one block to the next
    uvec2 own = uvec2(raw_k[c].z, raw_v[c].z), after = uvec2(raw_k[min(c + 1, PER - 1)].z, raw_v[min(c + 1, PER - 1)].z);
    if (LANES > apart)
        after = uvec2(subgroupShuffleXor(own.x, apart), subgroupShuffleXor(own.y, apart));
#endif
    if (!written || (RAGGED && octet >= OCTETS))
        return;
    store8(pc.kc, plane.x + row + octet, raw_k[c]);
    store8(pc.vc, plane.x + row + octet, raw_v[c]);
#ifdef FM_W_Q8_0
    if (octet % 8 == 0) {
        uint at = (plane.x + plane.y) * 2 + (row + octet) / 8;
        FM_CAST(CACHE_U32, pc.kc).d[at] = own.x | after.x << 16;
        FM_CAST(CACHE_U32, pc.vc).d[at] = own.y | after.y << 16;
    }
#endif
}

#endif
