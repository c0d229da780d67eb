// SPDX-License-Identifier: MIT
// ATTEND for prompts without matrix units: FlashAttention-2 (Dao 2023, algorithm 1) over tiles, in f32.
//   q [T,H*C] f32 (dual chunk attention: [T,3*H*C]), kc, vc [S,G,L,Cp] f32, f16 or q8_0, pos, slot [T] -> y [T,H*C] f32 or f16
// One workgroup: 32 consecutive rows of one head, keys in tiles of 64. Rows of one slot follow one another with
//     rising positions (the scheduler's promise); a tile that holds rows of several slots, or of several chunks, does
//     its runs one after another. An invocation makes the scores of 4 rows by 4 keys, out of slices of 32 columns in
//     shared memory, then the sums of 4 rows by 4 columns of every 64; in between 4 invocations a row take masks and exponentials. Quad i
//     of line c lies at i ^ (c/4 mod 8), so that neighbouring invocations can load along c and still store to
//     different banks.
// Spec constants: 0 workgroup size (must be 128), 1 subgroup size, 2 head width C (a multiple of 8, at most 256).
// Needs: subgroup; full subgroups.
// Accumulates in f32: a dot product in order, keys in order, one rescaling per tile.
// Bytes moved: k and v once per 32 rows, q once per 64 keys, y once.
// Limits: 20.6 KiB of shared memory. Cached values behind the last position are not read.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#define FM_USE_SUBGROUP_SIZE
#include "abi.h"
#include "io.glsl"
#include "spec.glsl"
#include "attend.glsl"
#include "result.glsl"

layout(constant_id = 2) const uint HEAD = 128;

#define REF_STEP fm_u32s
#define REF_U32 fm_u32s
#define REF_X fm_f32x4s
#ifdef FM_W_F32
#define REF_KV fm_f32x4s
#elif defined(FM_W_Q8_0)
#define REF_KV fm_u32s
#else
#define REF_KV fm_u32x2s
#endif
#define REF_Y fm_out_f32x4s
#define REF_PART fm_out_f32s

layout(push_constant, scalar) uniform Push { FM_PUSH_ATTEND(FM_A, FM_P) } pc;

const uint BR = 32, BC = 64; // rows, keys of a tile
const uint DEPTH = 32;       // columns of a slice of q and k
const uint HALF = 32;        // keys of a slice of v
const uint WORKGROUP = 128;
const uint WIDE = (HEAD + 63) / 64;
const uint PARTS = WORKGROUP / BR; // invocations a row in softmax

shared vec4 qs[DEPTH * BR / 4]; // [c][row]
shared vec4 kv[DEPTH * BC / 4]; // k: [c][key]; v: [key][c], 64 columns
shared vec4 probs[BC * BR / 4]; // [key][row]
shared float factor[BR];

uint tid, tx, ty;
vec4 acc[4 * WIDE];

uvec2 plane; // first quad of the cache's head, its number of quads
#ifdef FM_W_Q8_0
const uint PITCH = (HEAD + 31) / 32 * 8; // quads from row to row of a cache
#else
const uint PITCH = HEAD / 4;
#endif

// elements 4i..4i+3 of the cache's head
vec4 load4(REF_KV cache, uint i)
{
#if defined(FM_W_F32)
    return cache.d[plane.x + i];
#elif defined(FM_W_Q8_0)
    uint block = i / 8;
    float d = unpackHalf2x16(cache.d[plane.x + plane.y + block / 2] >> (16 * (block & 1))).x;
    int w = int(cache.d[plane.x + i]);
    return d * vec4(bitfieldExtract(w, 0, 8), bitfieldExtract(w, 8, 8), bitfieldExtract(w, 16, 8), bitfieldExtract(w, 24, 8));
#else
    uvec2 words = cache.d[plane.x + i];
    return vec4(unpackHalf2x16(words.x), unpackHalf2x16(words.y));
#endif
}

// Columns [c0, c0 + DEPTH) of rows [first, end) of q (`line`: copy and head) and of keys [key0, key0 + BC), zeros elsewhere.
void load_slice(uint line, uint first, uint end, uint key0, uint n_keys, uint c0)
{
    float scale = uintBitsToFloat(pc.scale_bits);
    for (uint i = tid; i < BR * DEPTH / 4; i += WORKGROUP) {
        uint row = i / (DEPTH / 4), quad = i % (DEPTH / 4);
        vec4 v = vec4(0.0);
        if (first + row < end && c0 + 4 * quad < HEAD)
            v = scale * pc.q.d[((first + row) * pc.stride_q + line * HEAD + c0) / 4 + quad];
        [[unroll]] for (uint e = 0; e < 4; e++)
            qs[(4 * quad + e) * (BR / 4) + ((row >> 2) ^ quad)][row & 3] = v[e];
    }
    for (uint i = tid; i < BC * DEPTH / 4; i += WORKGROUP) {
        uint key = i / (DEPTH / 4), quad = i % (DEPTH / 4);
        vec4 v = vec4(0.0);
        if (key0 + key < n_keys && c0 + 4 * quad < HEAD)
            v = load4(pc.kc, (key0 + key) * PITCH + c0 / 4 + quad);
        [[unroll]] for (uint e = 0; e < 4; e++)
            kv[(4 * quad + e) * (BC / 4) + ((key >> 2) ^ quad)][key & 3] = v[e];
    }
}

// Columns [c0, c0 + 64) of values [key0, key0 + HALF).
void load_values(uint key0, uint n_keys, uint c0)
{
    for (uint i = tid; i < HALF * 16; i += WORKGROUP) {
        uint key = i / 16, quad = i % 16;
        vec4 v = vec4(0.0);
        if (key0 + key < n_keys && c0 + 4 * quad < HEAD)
            v = load4(pc.vc, (key0 + key) * PITCH + c0 / 4 + quad);
        kv[i] = v;
    }
}

// Scores of the tile, left in `probs`.
void multiply_keys(uint line, uint first, uint end, uint key0, uint n_keys)
{
    vec4 s[4] = vec4[4](vec4(0.0), vec4(0.0), vec4(0.0), vec4(0.0));
    for (uint c0 = 0; c0 < HEAD; c0 += DEPTH) {
        load_slice(line, first, end, key0, n_keys, c0);
        barrier();
        for (uint c = 0; c < DEPTH; c++) {
            vec4 q = qs[c * (BR / 4) + (ty ^ (c >> 2))], k = kv[c * (BC / 4) + (tx ^ (c >> 2))];
            [[unroll]] for (uint i = 0; i < 4; i++)
                s[i] = fma(vec4(q[i]), k, s[i]);
        }
        barrier();
    }
    [[unroll]] for (uint j = 0; j < 4; j++)
        probs[(4 * tx + j) * (BR / 4) + ty] = vec4(s[0][j], s[1][j], s[2][j], s[3][j]);
}

// Scores become probabilities, and the sums' factor. `pos` is the position of this invocation's row, which sees keys below
// `stop` (rows without queries: 0).
void softmax(uint stop, uint pos, uint key0, inout float top, inout float sum)
{
    uint row = tid / PARTS, part = tid % PARTS;
    float s[BC / PARTS], new_top = top;
    [[unroll]] for (uint i = 0; i < BC / PARTS; i++) {
        uint key = key0 + i * PARTS + part;
        bool seen = key < stop && (pc.window == 0 || key + pc.window > pos);
        s[i] = seen ? probs[(i * PARTS + part) * (BR / 4) + (row >> 2)][row & 3] : FM_ATTEND_NONE;
        new_top = max(new_top, s[i]);
    }
    [[unroll]] for (uint d = 1; d < PARTS; d <<= 1)
        new_top = max(new_top, subgroupShuffleXor(new_top, d));
    float keep = exp(top - new_top), own = 0.0;
    [[unroll]] for (uint i = 0; i < BC / PARTS; i++) {
        float p = s[i] == FM_ATTEND_NONE ? 0.0 : exp(s[i] - new_top);
        own += p;
        probs[(i * PARTS + part) * (BR / 4) + (row >> 2)][row & 3] = p;
    }
    [[unroll]] for (uint d = 1; d < PARTS; d <<= 1)
        own += subgroupShuffleXor(own, d);
    sum = sum * keep + own;
    top = new_top;
    if (part == 0)
        factor[row] = keep;
}

void scale_sums()
{
    [[unroll]] for (uint i = 0; i < 4; i++)
        [[unroll]] for (uint b = 0; b < WIDE; b++)
            acc[i * WIDE + b] *= factor[4 * ty + i];
}

void multiply_values(uint key0, uint n_keys)
{
    [[unroll]] for (uint b = 0; b < WIDE; b++)
        for (uint part = 0; part < BC; part += HALF) {
            load_values(key0 + part, n_keys, 64 * b);
            barrier();
            for (uint key = 0; key < HALF; key++) {
                vec4 p = probs[(part + key) * (BR / 4) + ty], v = kv[key * 16 + tx];
                [[unroll]] for (uint i = 0; i < 4; i++)
                    acc[i * WIDE + b] = fma(vec4(p[i]), v, acc[i * WIDE + b]);
            }
            barrier();
        }
}

// Rows [first, end) are of one slot and one chunk.
void attend_run(uint h, uint first, uint end)
{
    plane = uvec2(pc.slot.d[first] * pc.heads_kv + h / (pc.heads / pc.heads_kv), pc.ctx * PITCH);
#ifdef FM_W_Q8_0
    plane.x *= plane.y + plane.y / 16; // lib/cache.glsl
#else
    plane.x *= plane.y;
#endif
    bool used = first + tid / PARTS < end;
    uint pos = used ? pc.pos.d[first + tid / PARTS] : 0, pos0 = pc.pos.d[first], n_keys = pc.pos.d[end - 1] + 1;
    uint key_first = pc.window != 0 && pos0 + 1 > pc.window ? (pos0 + 1 - pc.window) / BC * BC : 0;
    [[unroll]] for (uint i = 0; i < 4 * WIDE; i++)
        acc[i] = vec4(0.0);
    float top = FM_ATTEND_NONE, sum = 0.0;
    for (uint copy = fm_attend_copies(pos0, pc.chunk); copy-- > 0;) {
        uvec2 keys = fm_attend_copy_keys(uvec2(key_first, n_keys), pos0, pc.chunk, copy);
        uint stop = used ? min(pos + 1, keys.y) : 0;
        for (uint key0 = keys.x; key0 < keys.y; key0 += BC) {
            multiply_keys(copy * pc.heads + h, first, end, key0, keys.y);
            barrier();
            softmax(stop, pos, key0, top, sum);
            barrier();
            scale_sums();
            multiply_values(key0, keys.y);
        }
    }
    if (tid % PARTS == 0)
        factor[tid / PARTS] = sum > 0.0 ? 1.0 / sum : 0.0;
    barrier();
    scale_sums();
    [[unroll]] for (uint i = 0; i < 4; i++)
        [[unroll]] for (uint b = 0; b < WIDE; b++) {
            uint row = first + 4 * ty + i, c = 64 * b + 4 * tx;
            if (row < end && c < HEAD)
                fm_store_quad(pc.y, ((row * pc.heads + h) * HEAD + c) / 4, acc[i * WIDE + b]);
        }
    barrier(); // the next run's factors
}

void main()
{
    uint h = gl_WorkGroupID.x, row = gl_WorkGroupID.y * BR;
    uint end = min(pc.step.d[FM_STEP_TOKENS], row + BR);
    tid = gl_SubgroupID * FM_SUBGROUP + gl_SubgroupInvocationID;
    tx = tid & 15;
    ty = tid >> 4;
    while (row < end) {
        uint slot = pc.slot.d[row], stop = row + 1;
        uint most = row + min(end - row, fm_attend_chunk_rows(pc.pos.d[row], pc.chunk));
        while (stop < most && pc.slot.d[stop] == slot)
            stop++;
        attend_run(h, row, stop);
        row = stop;
    }
}
