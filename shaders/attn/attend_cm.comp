// SPDX-License-Identifier: MIT
// ATTEND for prompts, on matrix units through KHR_cooperative_matrix: FlashAttention-2 (Dao 2023, algorithm 1), tiled.
//   q [T,H*C] f32 (dual chunk attention: [T,3*H*C]), kc, vc [S,G,L,Cp] f16 or q8_0, pos, slot [T] -> y [T,H*C] f32 or f16
// One workgroup: 64 consecutive rows of one head, keys in tiles of 32. Rows of one slot follow one another with
//     rising positions (the scheduler's promise); a tile that holds rows of several slots, or of several chunks,
//     does its runs one after another, each over up to three ranges of keys with a copy of the queries.
//     A subgroup holds the queries and the sums of its rows in matrices: DOWN subgroups share the rows, ACROSS the
//     columns. Scores go through shared memory, where masks and exponentials are taken, PARTS invocations
//     a row; a factor per row meets the sums as a matrix of equal columns.
// Spec constants: 0 workgroup size (64 or 128), 1 subgroup size, 2 head width C (a multiple of 16).
// Defines: MS, the shape MS x MS x MS of one matrix.
// Needs: coopmat, float16, subgroup; full subgroups.
// Accumulates in f32; q, k, v and the probabilities are rounded to f16.
// Bytes moved: k and v once per 64 rows, q and y once.
// Limits: shared memory 64 C + 14848 + 256 MS bytes. Cached values behind the last position are not read.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
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
#ifdef FM_W_Q8_0
#define REF_KV fm_u32x2s
#else
#define REF_KV fm_u32x4s
#endif
#define REF_Y fm_out_f32x4s
#define REF_PART fm_out_f32s

layout(push_constant, scalar) uniform Push { FM_PUSH_ATTEND(FM_A, FM_P) } pc;

const uint BR = 64, BC = 32; // rows, keys of a tile
const uint WORKGROUP = gl_WorkGroupSize.x;
const uint SUBGROUPS = WORKGROUP / FM_SUBGROUP;
const uint DOWN = SUBGROUPS < 4 ? SUBGROUPS : 4;
const uint ACROSS = SUBGROUPS / DOWN;
const uint TR = BR / MS / DOWN;                    // matrices of a subgroup, one above the other
const uint TC = (BC / MS + ACROSS - 1) / ACROSS;   // matrices of scores, side by side
const uint TD = (HEAD / MS + ACROSS - 1) / ACROSS; // matrices of sums, side by side
const uint DEEP = HEAD / MS;
const uint PARTS = WORKGROUP / BR;
const uint SHARE = BC / PARTS; // scores of one invocation
// Pitches of lines in shared memory; what is added keeps them off the same banks.
const uint P_PITCH = (BC + 8) / 4; // in quads of halves
const uint KV_PITCH = (HEAD + 8) / 4;
const uint S_PITCH = BC + 4;

shared f16vec4 kv[BC * KV_PITCH];  // keys, then values of the tile: [key][c]
shared f16vec4 probs[BR * P_PITCH]; // [row][key]; at first slices of q: [row][c]
shared float scores[BR * S_PITCH]; // [row][key]; in the end slices of y
shared float factor[BR * MS];      // a row's factor, MS times

#define MAT_A coopmat<float16_t, gl_ScopeSubgroup, MS, MS, gl_MatrixUseA>
#define MAT_B coopmat<float16_t, gl_ScopeSubgroup, MS, MS, gl_MatrixUseB>
#define ACC coopmat<float, gl_ScopeSubgroup, MS, MS, gl_MatrixUseAccumulator>

// Small matrices are for processors, whose drivers spend long on long programs.
#if MS < 16
#define UNROLL [[dont_unroll]]
#else
#define UNROLL [[unroll]]
#endif

MAT_A query[TR * DEEP];
ACC acc[TR * TD];
uint tid, down, across;

f16vec4 to_halves(vec4 v)
{
    return f16vec4(mix(clamp(v, vec4(-65504.0), vec4(65504.0)), v, isnan(v))); // clamp() may make a number of a NaN
}

// Rows [first, end) of q (`line`: copy and head) in slices of BC columns through `probs` into matrices; zeros below.
void load_queries(uint line, uint first, uint end)
{
    float scale = uintBitsToFloat(pc.scale_bits);
    UNROLL for (uint c0 = 0; c0 < HEAD; c0 += BC) {
        barrier();
        for (uint i = tid; i < BR * BC / 4; i += WORKGROUP) {
            uint row = i / (BC / 4), quad = i % (BC / 4);
            vec4 v = vec4(0.0);
            if (first + row < end && c0 + 4 * quad < HEAD)
                v = scale * pc.q.d[((first + row) * pc.stride_q + line * HEAD + c0) / 4 + quad];
            probs[row * P_PITCH + quad] = to_halves(v);
        }
        barrier();
        UNROLL for (uint i = 0; i < TR; i++)
            UNROLL for (uint d = c0 / MS; d < min(c0 + BC, HEAD) / MS; d++)
                coopMatLoad(query[i * DEEP + d], probs, (down * TR + i) * MS * P_PITCH + (d * MS - c0) / 4, P_PITCH,
                            gl_CooperativeMatrixLayoutRowMajor);
    }
}

// Keys [key0, key0 + BC) of keys or values; zeros from n_keys on, because what lies there may be no number.
void load_tile(REF_KV cache, uint plane_index, uint key0, uint n_keys)
{
    for (uint i = tid; i < BC * (HEAD / 8); i += WORKGROUP) {
        uint key = i / (HEAD / 8), octet = i % (HEAD / 8);
#ifdef FM_W_Q8_0
        const uint PITCH = (HEAD + 31) / 32 * 4; // octets from row to row of a cache
        vec4 low = vec4(0.0), high = vec4(0.0);
        if (key0 + key < n_keys) {
            uint elems = pc.ctx * PITCH, begin = plane_index * (elems + elems / 16), at = (key0 + key) * PITCH + octet; // lib/cache.glsl
            uint scale = FM_CAST(fm_u32s, cache).d[(begin + elems) * 2 + at / 8] >> (16 * (at / 4 & 1));
            ivec2 words = ivec2(cache.d[begin + at]);
            float d = unpackHalf2x16(scale).x;
            [[unroll]] for (int e = 0; e < 4; e++) {
                low[e] = d * float(bitfieldExtract(words.x, 8 * e, 8));
                high[e] = d * float(bitfieldExtract(words.y, 8 * e, 8));
            }
        }
        kv[key * KV_PITCH + 2 * octet] = to_halves(low);
        kv[key * KV_PITCH + 2 * octet + 1] = to_halves(high);
#else
        uvec4 raw = uvec4(0);
        if (key0 + key < n_keys)
            raw = cache.d[(plane_index * pc.ctx + key0 + key) * (HEAD / 8) + octet];
        kv[key * KV_PITCH + 2 * octet] = f16vec4(unpackFloat2x16(raw.x), unpackFloat2x16(raw.y));
        kv[key * KV_PITCH + 2 * octet + 1] = f16vec4(unpackFloat2x16(raw.z), unpackFloat2x16(raw.w));
#endif
    }
}

void multiply_keys()
{
    UNROLL for (uint j = 0; j < TC; j++) {
        uint block = across + j * ACROSS;
        if (BC / MS % ACROSS != 0 && block >= BC / MS)
            continue;
        ACC s[TR];
        UNROLL for (uint i = 0; i < TR; i++)
            s[i] = ACC(0.0);
        UNROLL for (uint d = 0; d < DEEP; d++) {
            MAT_B k;
            coopMatLoad(k, kv, block * MS * KV_PITCH + d * (MS / 4), KV_PITCH, gl_CooperativeMatrixLayoutColumnMajor);
            UNROLL for (uint i = 0; i < TR; i++)
                s[i] = coopMatMulAdd(query[i * DEEP + d], k, s[i]);
        }
        UNROLL for (uint i = 0; i < TR; i++)
            coopMatStore(s[i], scores, (down * TR + i) * MS * S_PITCH + block * MS, S_PITCH,
                         gl_CooperativeMatrixLayoutRowMajor);
    }
}

void write_factor(uint row, float x)
{
    for (uint i = tid % PARTS; i < MS; i += PARTS)
        factor[row * MS + i] = x;
}

// Scores become probabilities. `pos` is the position of this invocation's row, which sees keys below `stop` (rows without
// queries: 0).
void softmax(uint row, uint stop, uint pos, uint key0, inout float top, inout float sum)
{
    uint part = tid % PARTS;
    float s[SHARE], new_top = top;
    UNROLL for (uint i = 0; i < SHARE; i++) {
        uint key = key0 + part * SHARE + i;
        bool seen = key < stop && (pc.window == 0 || key + pc.window > pos);
        s[i] = seen ? scores[row * S_PITCH + part * SHARE + i] : FM_ATTEND_NONE;
        new_top = max(new_top, s[i]);
    }
    UNROLL for (uint d = 1; d < PARTS; d <<= 1)
        new_top = max(new_top, subgroupShuffleXor(new_top, d));
    float keep = exp(top - new_top), own = 0.0;
    UNROLL for (uint i = 0; i < SHARE; i++) {
        s[i] = s[i] == FM_ATTEND_NONE ? 0.0 : exp(s[i] - new_top);
        own += s[i];
    }
    UNROLL for (uint i = 0; i < SHARE; i += 4)
        probs[row * P_PITCH + (part * SHARE + i) / 4] = f16vec4(s[i], s[i + 1], s[i + 2], s[i + 3]);
    UNROLL for (uint d = 1; d < PARTS; d <<= 1)
        own += subgroupShuffleXor(own, d);
    sum = sum * keep + own;
    top = new_top;
    write_factor(row, keep);
}

void scale_sums()
{
    UNROLL for (uint i = 0; i < TR; i++) {
        ACC f;
        coopMatLoad(f, factor, (down * TR + i) * MS * MS, MS, gl_CooperativeMatrixLayoutRowMajor);
        UNROLL for (uint j = 0; j < TD; j++)
            acc[i * TD + j] = acc[i * TD + j] * f;
    }
}

void multiply_values()
{
    UNROLL for (uint b = 0; b < BC / MS; b++) {
        MAT_A p[TR];
        UNROLL for (uint i = 0; i < TR; i++)
            coopMatLoad(p[i], probs, (down * TR + i) * MS * P_PITCH + b * (MS / 4), P_PITCH,
                        gl_CooperativeMatrixLayoutRowMajor);
        UNROLL for (uint j = 0; j < TD; j++) {
            uint block = across + j * ACROSS;
            if (DEEP % ACROSS != 0 && block >= DEEP)
                continue;
            MAT_B v;
            coopMatLoad(v, kv, b * MS * KV_PITCH + block * (MS / 4), KV_PITCH, gl_CooperativeMatrixLayoutRowMajor);
            UNROLL for (uint i = 0; i < TR; i++)
                acc[i * TD + j] = coopMatMulAdd(p[i], v, acc[i * TD + j]);
        }
    }
}

// y by slices of ACROSS matrices side by side, through `scores`.
void store(uint h, uint first, uint end)
{
    UNROLL for (uint j = 0; j < TD; j++) {
        uint block = across + j * ACROSS;
        barrier();
        if (block < DEEP) {
            UNROLL for (uint i = 0; i < TR; i++)
                coopMatStore(acc[i * TD + j], scores, (down * TR + i) * MS * S_PITCH + across * MS, S_PITCH,
                             gl_CooperativeMatrixLayoutRowMajor);
        }
        barrier();
        for (uint i = tid; i < BR * ACROSS * (MS / 4); i += WORKGROUP) {
            uint row = i / (ACROSS * (MS / 4)), col = i % (ACROSS * (MS / 4)) * 4, c = j * ACROSS * MS + col;
            if (first + row < end && c < HEAD) {
                uint at = row * S_PITCH + col;
                fm_store_quad(pc.y, (((first + row) * pc.heads + h) * HEAD + c) / 4,
                              vec4(scores[at], scores[at + 1], scores[at + 2], scores[at + 3]));
            }
        }
    }
}

// Rows [first, end) are of one slot and one chunk.
void attend_run(uint h, uint first, uint end)
{
    uint plane_index = pc.slot.d[first] * pc.heads_kv + h / (pc.heads / pc.heads_kv);
    uint row = tid / PARTS;
    bool used = first + row < end;
    uint pos = used ? pc.pos.d[first + row] : 0, pos0 = pc.pos.d[first], n_keys = pc.pos.d[end - 1] + 1;
    uint key_first = pc.window != 0 && pos0 + 1 > pc.window ? (pos0 + 1 - pc.window) / BC * BC : 0;
    UNROLL for (uint i = 0; i < TR * TD; i++)
        acc[i] = ACC(0.0);
    float top = FM_ATTEND_NONE, sum = 0.0;
    [[dont_unroll]] for (uint copy = fm_attend_copies(pos0, pc.chunk); copy-- > 0;) {
        uvec2 keys = fm_attend_copy_keys(uvec2(key_first, n_keys), pos0, pc.chunk, copy);
        uint stop = used ? min(pos + 1, keys.y) : 0;
        load_queries(copy * pc.heads + h, first, end);
        for (uint key0 = keys.x; key0 < keys.y; key0 += BC) {
            load_tile(pc.kc, plane_index, key0, keys.y);
            barrier();
            multiply_keys();
            barrier();
            load_tile(pc.vc, plane_index, key0, keys.y);
            softmax(row, stop, pos, key0, top, sum);
            barrier();
            scale_sums();
            multiply_values();
            barrier();
        }
    }
    write_factor(row, sum > 0.0 ? 1.0 / sum : 0.0);
    barrier();
    scale_sums();
    store(h, first, end);
}

void main()
{
    uint h = gl_WorkGroupID.x, row = gl_WorkGroupID.y * BR;
    uint end = min(pc.step.d[FM_STEP_TOKENS], row + BR);
    tid = gl_SubgroupID * FM_SUBGROUP + gl_SubgroupInvocationID;
    down = gl_SubgroupID / ACROSS;
    across = gl_SubgroupID % ACROSS;
    while (row < end) {
        uint slot = pc.slot.d[row], stop = row + 1;
        uint most = row + min(end - row, fm_attend_chunk_rows(pc.pos.d[row], pc.chunk));
        while (stop < most && pc.slot.d[stop] == slot)
            stop++;
        attend_run(h, row, stop);
        row = stop;
    }
}
