// SPDX-License-Identifier: MIT
// ATTEND for prompts, on matrix units through NV_cooperative_matrix2: FlashAttention-2 (Dao 2023, algorithm 1) over
// tiles.
//   q [T,H*C] f32 (dual chunk attention: [T,3*H*C]), kc, vc [S,G,L,Cp] f16, pos, slot [T] -> y [T,H*C] f32
// One workgroup: BR consecutive rows of one head. Rows of one slot follow one another with rising positions (the
// scheduler's promise); a tile that holds rows of several slots, or of several chunks, does its runs one after another,
// each over up to three segments of keys with a copy of the queries.
// Spec constants: 0 workgroup size, 2 head width C (a multiple of 32).
// Needs: coopmat2, float16, storage16. Accumulates in f32; q, k, v and the probabilities are rounded to f16.
// Bytes moved: k and v once per BR rows, q and y once.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_NV_cooperative_matrix2 : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_EXT_shader_16bit_storage : require
#include "abi.h"
#include "io.glsl"
#include "spec.glsl"
#include "attend.glsl"

layout(constant_id = 2) const uint HEAD = 128;

layout(buffer_reference, scalar, buffer_reference_align = 16) readonly buffer fm_f16s { float16_t d[]; };
layout(buffer_reference, scalar, buffer_reference_align = 4) readonly buffer fm_f32_block { float x; };

#define REF_STEP fm_u32s
#define REF_U32 fm_u32s
#define REF_X fm_f32s
#define REF_KV fm_f16s
#define REF_Y fm_out_f32s
#define REF_PART fm_out_f32s

layout(push_constant, scalar) uniform Push { FM_PUSH_ATTEND(FM_A, FM_P) } pc;

#define SCORES coopmat<float, gl_ScopeWorkgroup, BR, BC, gl_MatrixUseAccumulator>
#define SUMS coopmat<float, gl_ScopeWorkgroup, BR, HEAD, gl_MatrixUseAccumulator>
#define PROBS coopmat<float16_t, gl_ScopeWorkgroup, BR, BC, gl_MatrixUseA>
#define CLAMP gl_CooperativeMatrixClampModeConstantNV

const float FLOOR = -1.0e29;  // below every score
const float MASKED = -3.0e38; // exp(MASKED - FLOOR) is 0

float16_t scaled_query(const in fm_f32_block b, const in uint block[2], const in uint at[2])
{
    return float16_t(clamp(b.x * uintBitsToFloat(pc.scale_bits), -65504.0, 65504.0));
}

// Scores of keys that the row does not see. Row r is at position pos0 + r, column c is key key0 + c of those below `stop`.
float mask(const in uint row, const in uint col, const in float score, const in uint pos0, const in uint key0, const in uint stop)
{
    uint pos = pos0 + row, key = key0 + col;
    bool seen = key <= pos && key < stop && (pc.window == 0 || key + pc.window > pos);
    return seen ? score : MASKED;
}

float exponential(const in uint row, const in uint col, const in float x)
{
    return exp(x);
}

float inverse(const in uint row, const in uint col, const in float x)
{
    return x > 0.0 ? 1.0 / x : 0.0;
}

float reduce_max(const in float a, const in float b)
{
    return max(a, b);
}

float reduce_sum(const in float a, const in float b)
{
    return a + b;
}

// All columns of a row hold the same: any of them will do.
float reduce_any(const in float a, const in float b)
{
    return a;
}

// Rows [first, end) are of one slot and one chunk.
void attend_run(uint h, uint first, uint end)
{
    uint g = h / (pc.heads / pc.heads_kv);
    uint stride_kv = pc.head_stride & ~7u;
    uint cache_row = (pc.slot.d[first] * pc.heads_kv + g) * pc.ctx;
    uint pos0 = pc.pos.d[first];
    uint n_keys = pos0 + (end - first);
    uint key_first = pc.window != 0 && pos0 + 1 > pc.window ? (pos0 + 1 - pc.window) / BC * BC : 0;

    tensorLayoutNV<2, CLAMP> lq = createTensorLayoutNV(2, CLAMP);
    lq = setTensorLayoutBlockSizeNV(lq, 1, 1);
    lq = setTensorLayoutDimensionNV(lq, end - first, HEAD);
    lq = setTensorLayoutStrideNV(lq, pc.stride_q, 1);
    tensorLayoutNV<2, CLAMP> lkv = createTensorLayoutNV(2, CLAMP);
    lkv = setTensorLayoutDimensionNV(lkv, n_keys, HEAD);
    lkv = setTensorLayoutStrideNV(lkv, stride_kv, 1);
    tensorViewNV<2, false, 1, 0> transposed = createTensorViewNV(2, false, 1, 0);

    SUMS y = SUMS(0.0);
    SCORES top = SCORES(FLOOR), total = SCORES(0.0);
    [[dont_unroll]] for (uint copy = fm_attend_segments(pos0, pc.chunk); copy-- > 0;) {
        uvec2 keys = fm_attend_segment(uvec2(key_first, n_keys), pos0, pc.chunk, copy);
        coopmat<float16_t, gl_ScopeWorkgroup, BR, HEAD, gl_MatrixUseA> q;
        coopMatLoadTensorNV(q, pc.q.d, first * pc.stride_q + (copy * pc.heads + h) * HEAD,
                            sliceTensorLayoutNV(lq, 0, BR, 0, HEAD), scaled_query);
        for (uint key0 = keys.x; key0 < keys.y; key0 += BC) {
            coopmat<float16_t, gl_ScopeWorkgroup, HEAD, BC, gl_MatrixUseB> kt;
            coopMatLoadTensorNV(kt, pc.kc.d, cache_row * stride_kv, sliceTensorLayoutNV(lkv, key0, BC, 0, HEAD), transposed);
            SCORES s = coopMatMulAdd(q, kt, SCORES(0.0));
            if (key0 + BC > min(pos0 + 1, keys.y) || pc.window != 0)
                coopMatPerElementNV(s, s, mask, pos0, key0, keys.y);

            SCORES tile_top, new_top, keep;
            coopMatReduceNV(tile_top, s, gl_CooperativeMatrixReduceRowNV, reduce_max);
            [[unroll]] for (int i = 0; i < tile_top.length(); i++)
                new_top[i] = max(top[i], tile_top[i]);
            s = s - new_top;
            coopMatPerElementNV(s, s, exponential);
            keep = top - new_top;
            coopMatPerElementNV(keep, keep, exponential);

            SCORES tile_total;
            coopMatReduceNV(tile_total, s, gl_CooperativeMatrixReduceRowNV, reduce_sum);
            total = total * keep + tile_total;
            top = new_top;

            SUMS keep_wide;
            coopMatReduceNV(keep_wide, keep, gl_CooperativeMatrixReduceRowNV, reduce_any);
            y = y * keep_wide;
            PROBS p = PROBS(s);
            coopmat<float16_t, gl_ScopeWorkgroup, BC, HEAD, gl_MatrixUseB> v;
            coopMatLoadTensorNV(v, pc.vc.d, cache_row * stride_kv, sliceTensorLayoutNV(lkv, key0, BC, 0, HEAD));
            y = coopMatMulAdd(p, v, y);
        }
    }
    SUMS total_wide;
    coopMatReduceNV(total_wide, total, gl_CooperativeMatrixReduceRowNV, reduce_any);
    coopMatPerElementNV(total_wide, total_wide, inverse);
    y = y * total_wide;

    tensorLayoutNV<2, CLAMP> ly = createTensorLayoutNV(2, CLAMP);
    ly = setTensorLayoutDimensionNV(ly, end - first, HEAD);
    ly = setTensorLayoutStrideNV(ly, pc.heads * HEAD, 1);
    coopMatStoreTensorNV(y, pc.y.d, first * pc.heads * HEAD + h * HEAD, sliceTensorLayoutNV(ly, 0, BR, 0, HEAD));
}

void main()
{
    uint h = gl_WorkGroupID.x;
    uint row = gl_WorkGroupID.y * BR;
    uint end = min(pc.step.d[FM_STEP_TOKENS], row + BR);
    while (row < end) {
        uint slot = pc.slot.d[row], stop = row + 1;
        uint most = row + min(end - row, fm_attend_chunk_rows(pc.pos.d[row], pc.chunk));
        while (stop < most && pc.slot.d[stop] == slot)
            stop++;
        attend_run(h, row, stop);
        row = stop;
    }
}
