// SPDX-License-Identifier: MIT
// ATTEND for prompts, on matrices in registers: FlashAttention-2 (Dao 2023, algorithm 1 and section 3.3).
//   q [T,H*C] f32 (dual chunk attention: [T,3*H*C]), kc, vc [S,G,L,Cp] f16 or q8_0, pos, slot [T] -> y [T,H*C] f32 or f16
// One workgroup: BR = MS rows a subgroup, consecutive, of one head; keys in tiles of BC. Rows of one slot follow one another
//     with rising positions (the scheduler's promise); a tile that holds rows of several slots, or of several chunks, does its
//     runs one after another, each over up to three ranges of keys with a copy of the queries. A subgroup keeps queries,
//     scores and sums of its rows in registers: maxima by reductions of matrices, probabilities by conversion from accumulator
//     to factor. Only keys and values go through shared memory; while the keys of a tile are multiplied, its values are on
//     their way into registers, and the next keys while the values are. Workgroups run head by head, the rows with most keys
//     first.
// Spec constants: 0 workgroup size, 1 subgroup size, 2 head width C (a multiple of 16).
// Defines: MS, the shape MS x MS x MS of one matrix; BC, keys of a tile, a multiple of MS.
// Needs: coopmat_reg, float16, subgroup; full subgroups.
// Accumulates in f32; q, k, v and the probabilities are rounded to f16. Exponentials are powers of two.
// Bytes moved: k and v once per BR rows (from the cache, where the rows of a head run at the same time), q and y once.
// Limits: shared memory the larger of 4 BC (C + 8) and 80 BR bytes. Cached values behind the last position are not read.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_NV_cooperative_matrix2 : require
#extension GL_KHR_shader_subgroup_basic : require
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
#define REF_Y fm_out_f32x4s // matrices move in units of 16 bytes
#define REF_PART fm_out_f32s

layout(push_constant, scalar) uniform Push { FM_PUSH_ATTEND(FM_A, FM_P) } pc;

const uint WORKGROUP = gl_WorkGroupSize.x;
const uint BR = WORKGROUP / FM_SUBGROUP * MS;
const uint DEEP = HEAD / MS;                                 // matrices across a row
const uint TILES = BC / MS;                                  // matrices across the scores
const uint PITCH = (HEAD + 8) / 8;                           // octets of halves from key to key; 8 more keep them off the same banks
const uint OCTETS = BC * (HEAD / 8);                         // of a tile
const uint TASKS = (OCTETS + WORKGROUP - 1) / WORKGROUP;             // of an invocation
const uint SLICE = 32, SLICE_PITCH = (SLICE + 8) / 8;        // columns of q on their way into matrices
const uint VALUES = BC * PITCH;                              // where values begin
const uint ROOM = 2 * BC * PITCH > BR * SLICE_PITCH ? 2 * BC * PITCH : BR * SLICE_PITCH;

shared uvec4 kv[ROOM]; // [key][c] of keys, then of values, in f16; slices of q; rows of y of a matrix that is not whole

#define MAT_A coopmat<float16_t, gl_ScopeSubgroup, MS, MS, gl_MatrixUseA>
#define MAT_B coopmat<float16_t, gl_ScopeSubgroup, MS, MS, gl_MatrixUseB>
#define ACC coopmat<float, gl_ScopeSubgroup, MS, MS, gl_MatrixUseAccumulator>
#define ROWS gl_CooperativeMatrixLayoutRowMajor
#define COLUMNS gl_CooperativeMatrixLayoutColumnMajor

// Small matrices are for processors, whose drivers spend long on long programs.
#if MS < 16
#define UNROLL [[dont_unroll]]
#else
#define UNROLL [[unroll]]
#endif

const float FLOOR = -1.0e29;  // below every score
const float MASKED = -3.0e38; // 2^(MASKED - FLOOR) is 0

MAT_A query[DEEP];
ACC acc[DEEP], scores[TILES];
ACC top, total; // greatest score of a row in every column; a lane's sums of its own columns
uint tid, plane;
#ifdef FM_W_Q8_0
uvec2 next[TASKS];
float next_scale[TASKS];
#else
uvec4 next[TASKS];
#endif

float larger(const in float a, const in float b)
{
    return max(a, b);
}

float add(const in float a, const in float b)
{
    return a + b;
}

// Scores of keys that a row does not see: row r is at position pos + r, column c is key key + c of those below `stop`.
float mask(const in uint row, const in uint col, const in float x, const in uint pos, const in uint key, const in uint stop)
{
    uint p = pos + row, k = key + col;
    return k <= p && k < stop && (pc.window == 0 || k + pc.window > p) ? x : MASKED;
}

uvec2 to_halves(vec4 v)
{
    vec4 h = mix(clamp(v, vec4(-65504.0), vec4(65504.0)), v, isnan(v));
    return uvec2(packFloat2x16(f16vec2(h.xy)), packFloat2x16(f16vec2(h.zw)));
}

// Rows [first, end) of q (`line`: copy and head) by slices of columns into matrices; zeros below.
void load_queries(uint line, uint first, uint end)
{
    float scale = uintBitsToFloat(pc.scale_bits) * 1.44269504089; // exponentials are powers of two
    UNROLL for (uint c0 = 0; c0 < HEAD; c0 += SLICE) {
        barrier();
        for (uint i = tid; i < BR * SLICE / 8; i += WORKGROUP) {
            uint row = i / (SLICE / 8), octet = i % (SLICE / 8);
            vec4 low = vec4(0.0), high = vec4(0.0);
            if (first + row < end && c0 + 8 * octet < HEAD) {
                uint at = ((first + row) * pc.stride_q + line * HEAD + c0) / 4 + 2 * octet;
                low = scale * pc.q.d[at];
                high = scale * pc.q.d[at + 1];
            }
            kv[row * SLICE_PITCH + octet] = uvec4(to_halves(low), to_halves(high));
        }
        barrier();
        UNROLL for (uint d = c0 / MS; d < min(c0 + SLICE, HEAD) / MS; d++)
            coopMatLoad(query[d], kv, gl_SubgroupID * MS * SLICE_PITCH + (d * MS - c0) / 8, SLICE_PITCH, ROWS);
    }
    barrier();
}

// Keys [key0, key0 + BC) of keys or values into registers; zeros from `stop` on, because what lies there may be no number.
void fetch(REF_KV cache, uint key0, uint stop)
{
    [[unroll]] for (uint i = 0; i < TASKS; i++) {
        uint task = i * WORKGROUP + tid, key = key0 + task / (HEAD / 8), octet = task % (HEAD / 8);
        bool there = (OCTETS % WORKGROUP == 0 || task < OCTETS) && key < stop;
#ifdef FM_W_Q8_0
        const uint LINE = (HEAD + 31) / 32 * 4; // octets from row to row of a cache (lib/cache.glsl)
        uint elems = pc.ctx * LINE, begin = plane * (elems + elems / 16), at = key * LINE + octet;
        next[i] = uvec2(0);
        next_scale[i] = 0.0;
        if (there) {
            uint pair = FM_CAST(fm_u32s, cache).d[(begin + elems) * 2 + at / 8] >> (16 * (at / 4 & 1));
            next[i] = cache.d[begin + at];
            next_scale[i] = unpackHalf2x16(pair).x;
        }
#else
        next[i] = uvec4(0);
        if (there)
            next[i] = cache.d[(plane * pc.ctx + key) * (HEAD / 8) + octet];
#endif
    }
}

// What was fetched into shared memory, from octet `to` on.
void keep(uint to)
{
    [[unroll]] for (uint i = 0; i < TASKS; i++) {
        uint task = i * WORKGROUP + tid, at = to + task / (HEAD / 8) * PITCH + task % (HEAD / 8);
        if (OCTETS % WORKGROUP != 0 && task >= OCTETS)
            continue;
#ifdef FM_W_Q8_0
        ivec2 words = ivec2(next[i]);
        vec4 low, high;
        [[unroll]] for (int e = 0; e < 4; e++) {
            low[e] = next_scale[i] * float(bitfieldExtract(words.x, 8 * e, 8));
            high[e] = next_scale[i] * float(bitfieldExtract(words.y, 8 * e, 8));
        }
        kv[at] = uvec4(to_halves(low), to_halves(high));
#else
        kv[at] = next[i];
#endif
    }
}

// `pos`: of the subgroup's first row.
void multiply_keys(uint pos, uint key0, uint stop)
{
    UNROLL for (uint j = 0; j < TILES; j++) {
        scores[j] = ACC(0.0);
        UNROLL for (uint d = 0; d < DEEP; d++) {
            MAT_B k;
            coopMatLoad(k, kv, j * MS * PITCH + d * (MS / 8), PITCH, COLUMNS);
            scores[j] = coopMatMulAdd(query[d], k, scores[j]);
        }
    }
    if (key0 + BC > min(pos + 1, stop) || pc.window != 0) {
        UNROLL for (uint j = 0; j < TILES; j++)
            coopMatPerElementNV(scores[j], scores[j], mask, pos, key0 + j * MS, stop);
    }
}

// Scores become exponentials; what the rows have so far shrinks where their maxima grow.
void softmax()
{
    ACC greatest = scores[0], tile_top, shrink;
    UNROLL for (uint j = 1; j < TILES; j++)
        for (uint e = 0; e < greatest.length(); e++)
            greatest[e] = max(greatest[e], scores[j][e]);
    coopMatReduceNV(tile_top, greatest, gl_CooperativeMatrixReduceRowNV, larger);
    for (uint e = 0; e < shrink.length(); e++) {
        float new_top = max(top[e], tile_top[e]);
        shrink[e] = exp2(top[e] - new_top);
        top[e] = new_top;
    }
    total = total * shrink;
    UNROLL for (uint j = 0; j < TILES; j++) {
        for (uint e = 0; e < shrink.length(); e++)
            scores[j][e] = exp2(scores[j][e] - top[e]);
        total = total + scores[j];
    }
    UNROLL for (uint d = 0; d < DEEP; d++)
        acc[d] = acc[d] * shrink;
}

void multiply_values()
{
    UNROLL for (uint j = 0; j < TILES; j++) {
        MAT_A p = MAT_A(scores[j]);
        UNROLL for (uint d = 0; d < DEEP; d++) {
            MAT_B v;
            coopMatLoad(v, kv, VALUES + j * MS * PITCH + d * (MS / 8), PITCH, ROWS);
            acc[d] = coopMatMulAdd(p, v, acc[d]);
        }
    }
}

// Keys [keys.x, keys.y) meet the queries. `used`: the subgroup has rows.
void attend_keys(uvec2 keys, uint pos, bool used)
{
    fetch(pc.kc, keys.x, keys.y);
    keep(0);
    barrier();
    [[dont_unroll]] for (uint key0 = keys.x; key0 < keys.y; key0 += BC) {
        bool more = key0 + BC < keys.y, seen = used && key0 < pos + MS;
        fetch(pc.vc, key0, keys.y);
        if (seen)
            multiply_keys(pos, key0, keys.y);
        keep(VALUES);
        barrier();
        if (more)
            fetch(pc.kc, key0 + BC, keys.y);
        if (seen) {
            softmax();
            multiply_values();
        }
        if (more)
            keep(0);
        barrier();
    }
}

// y of rows [first, end), of which this subgroup has those from `own` on.
void store(uint h, uint first, uint end, uint own)
{
    ACC sum;
    coopMatReduceNV(sum, total, gl_CooperativeMatrixReduceRowNV, add);
    for (uint e = 0; e < sum.length(); e++)
        sum[e] = sum[e] == 0.0 ? 0.0 : 1.0 / sum[e];
    UNROLL for (uint d = 0; d < DEEP; d++) {
        acc[d] = acc[d] * sum;
        uint at = (own * pc.heads + h) * HEAD + d * MS, stride = pc.heads * HEAD;
        if (own + MS <= end && FM_HALVES) // within the range of f16, as values are
            coopMatStore(MAT_A(acc[d]), FM_CAST(fm_out_u32x4s, pc.y).d, at / 8, stride / 8, ROWS);
        else if (own + MS <= end)
            coopMatStore(acc[d], pc.y.d, at / 4, stride / 4, ROWS);
    }
    uint rest = (end - first) % MS, row0 = end - rest;
    if (rest == 0)
        return;
    UNROLL for (uint d = 0; d < DEEP; d++) {
        if (own == row0)
            coopMatStore(acc[d], kv, 0, MS / 4, ROWS);
        barrier();
        for (uint i = tid; i < rest * (MS / 4); i += WORKGROUP)
            fm_store_quad(pc.y, (((row0 + i / (MS / 4)) * pc.heads + h) * HEAD + d * MS) / 4 + i % (MS / 4), uintBitsToFloat(kv[i]));
        barrier();
    }
}

// Rows [first, end) are of one slot and one chunk.
void attend_run(uint h, uint first, uint end)
{
    uint own = first + gl_SubgroupID * MS, pos0 = pc.pos.d[first], pos = pos0 + gl_SubgroupID * MS, n_keys = pos0 + (end - first);
    uint key_first = pc.window != 0 && pos0 + 1 > pc.window ? (pos0 + 1 - pc.window) / BC * BC : 0;
    plane = pc.slot.d[first] * pc.heads_kv + h / (pc.heads / pc.heads_kv);
    UNROLL for (uint d = 0; d < DEEP; d++)
        acc[d] = ACC(0.0);
    top = ACC(FLOOR);
    total = ACC(0.0);
    [[dont_unroll]] for (uint copy = fm_attend_copies(pos0, pc.chunk); copy-- > 0;) {
        uvec2 keys = fm_attend_copy_keys(uvec2(key_first, n_keys), pos0, pc.chunk, copy);
        load_queries(copy * pc.heads + h, first, end);
        attend_keys(keys, pos, own < end);
    }
    store(h, first, end, own);
}

void main()
{
    uint blocks = gl_NumWorkGroups.y, number = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
    uint h = number / blocks, row = (blocks - 1 - number % blocks) * BR;
    uint end = min(pc.step.d[FM_STEP_TOKENS], row + BR);
    tid = gl_SubgroupID * FM_SUBGROUP + gl_SubgroupInvocationID;
    while (row < end) {
        uint slot = pc.slot.d[row], stop = row + 1;
        uint most = row + min(end - row, fm_attend_chunk_rows(pc.pos.d[row], pc.chunk));
        while (stop < most && pc.slot.d[stop] == slot)
            stop++;
        attend_run(h, row, stop);
        row = stop;
    }
}
