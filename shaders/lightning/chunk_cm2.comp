#version 460
// SPDX-License-Identifier: MIT
// LINEAR_ATTEND and LINEAR_STATES on matrix units through NV_cooperative_matrix2: Lightning Attention-2 (Qin et al. 2024,
// algorithm 1), with exact decays in a short last block. For a block of m rows with state S before it:
//   y_i = sum_{j<=i} d^(i-j) (q_i k_j) v_j + d^(i+1) q_i S;   S <- d^m S + sum_j d^(m-1-j) k_j v_j^T
//   qk [T,2*H*K], v [T,H*P], decay [H] f32, segments, state [S,B,H*K,P] f32 -> y [T,H*P], state'
//   linear_states: -> z [parts,H*K,P], from zero
// One workgroup: COLS columns of P of one head, over the rows of one part in blocks of C. The state stays in accumulators, in
//     f32, and is rounded to f16 for the product with q after a power of two has brought it below 2^15; so are the products q k.
//     Bounds for these powers come from the largest q, k and v of each block. With AHEAD the next block is loaded before this
//     one is multiplied.
// Spec constants: 0 workgroup size, 1 subgroup size, 2 K (a multiple of 32).
// Needs: coopmat2, float16, subgroup; full subgroups. P a multiple of 32.
// Accumulation: f32 in the matrix units; q, k, v, v's decays within a block, q k and the state each rounded to f16 once a block.
// Bytes moved: q and k once per COLS columns, v and y once.
// Limits: |q|, |k|, |v| beyond 65504 saturate.
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_NV_cooperative_matrix2 : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_scalar_block_layout : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require

// Numbers whose rows begin at multiples of 16 bytes.
layout(buffer_reference, scalar, buffer_reference_align = 16) readonly buffer fm_f32_rows { float d[]; };
layout(buffer_reference, scalar, buffer_reference_align = 16) buffer fm_out_f32_rows { float d[]; };

#define FM_USE_SUBGROUP_SIZE
#define REF_X fm_f32_rows
#define REF_STATE fm_out_f32_rows
#define REF_Y fm_out_f32_rows
#include "lightning/args.glsl"
#include "lightning/chunk.glsl"

layout(constant_id = 2) const uint KEY = 128;

shared uint largest[2][4]; // |q|, |k|, |v| of a block; [..][3]: |state| at the start

#define ACC(rows, cols) coopmat<float, gl_ScopeWorkgroup, rows, cols, gl_MatrixUseAccumulator>
#define MAT_A(rows, cols) coopmat<float16_t, gl_ScopeWorkgroup, rows, cols, gl_MatrixUseA>
#define MAT_B(rows, cols) coopmat<float16_t, gl_ScopeWorkgroup, rows, cols, gl_MatrixUseB>
#define CLAMPED gl_CooperativeMatrixClampModeConstantNV
#define WHOLE gl_CooperativeMatrixClampModeUndefinedNV

// Products of query and key: element (i, j) decays by i - j tokens; nothing above the diagonal.
float decay_products(const in uint i, const in uint j, const in float x, const in float rate, const in float scale)
{
    return i >= j ? x * scale * exp(-rate * float(i - j)) : 0.0;
}

// What row i reads of the state before the block.
float decay_reads(const in uint i, const in uint col, const in float x, const in float rate, const in float scale)
{
    return x * scale * exp(-rate * float(i + 1));
}

// Values on their way into the state after row m - 1; rows from m on are zero.
float decay_values(const in uint j, const in uint col, const in float x, const in float rate, const in uint m)
{
    return j < m ? x * exp(-rate * float(m - 1 - j)) : 0.0;
}

float clamp_half(float x)
{
    return clamp(x, -65504.0, 65504.0);
}

void raise(uint parity, uint what, float x)
{
    uint bits = subgroupMax(floatBitsToUint(x));
    if (gl_SubgroupInvocationID == 0)
        atomicMax(largest[parity][what], bits);
}

// Rows of a matrix in memory, `stride` elements apart.
#define LAYOUT(name, clamp_mode, rows, cols, stride)                                                                   \
    tensorLayoutNV<2, clamp_mode> name = createTensorLayoutNV(2, clamp_mode);                                          \
    name = setTensorLayoutDimensionNV(name, rows, cols);                                                               \
    name = setTensorLayoutStrideNV(name, stride, 1);

#ifdef FM_OP_LINEAR_ATTEND
#define FETCH_QUERIES(row, layout_qk) coopMatLoadTensorNV(q, pc.qk.d, query_at(row, h), sliceTensorLayoutNV(layout_qk, 0, C, 0, KEY));
#else
#define FETCH_QUERIES(row, layout_qk)
#endif

#define FETCH_BLOCK(clamp_mode, row, rows)                                                                             \
    {                                                                                                                  \
        LAYOUT(lqk, clamp_mode, rows, KEY, 2 * pc.heads * KEY)                                                         \
        LAYOUT(lv, clamp_mode, rows, cols, stride_v)                                                                   \
        FETCH_QUERIES(row, lqk)                                                                                        \
        coopMatLoadTensorNV(k, pc.qk.d, key_at(row, h), sliceTensorLayoutNV(lqk, 0, C, 0, KEY), transposed);           \
        coopMatLoadTensorNV(v, FM_CAST(fm_f32_rows, pc.v).d, (value_at(row, h) & ~31u) + col0,                         \
                            sliceTensorLayoutNV(lv, 0, C, 0, COLS));                                                   \
    }

// Rows [row, row + rows) of q, k (transposed) and v; zeros beyond.
#define FETCH(row, rows)                                                                                               \
    if ((rows) == C && cols == COLS)                                                                                   \
        FETCH_BLOCK(WHOLE, row, rows)                                                                                  \
    else                                                                                                               \
        FETCH_BLOCK(CLAMPED, row, rows)

#define STORE(clamp_mode)                                                                                              \
    {                                                                                                                  \
        LAYOUT(ly, clamp_mode, m, cols, stride_v)                                                                      \
        coopMatStoreTensorNV(y, pc.y.d, (value_at(row, h) & ~31u) + col0, sliceTensorLayoutNV(ly, 0, C, 0, COLS));     \
    }

void main()
{
    uint slices = (pc.head + COLS - 1) / COLS, h = gl_WorkGroupID.x / slices;
    uint col0 = gl_WorkGroupID.x % slices * COLS, cols = min(pc.head - col0, COLS);
    uint tid = gl_SubgroupID * FM_SUBGROUP + gl_SubgroupInvocationID;
    // The manifest guarantees these multiples; said in arithmetic, so that the compiler loads 16 bytes at a time.
    uint stride_v = (pc.heads * pc.head) & ~31u, stride_state = pc.head & ~31u;
    float rate = pc.decay.d[h];
    fm_part part;
    if (!fm_part_find(pc.step, pc.segment, gl_WorkGroupID.y, pc.part, part))
        return;
    tensorViewNV<2, false, 1, 0> transposed = createTensorViewNV(2, false, 1, 0);
    LAYOUT(lstate, CLAMPED, KEY, cols, stride_state)
    ACC(KEY, COLS) state = ACC(KEY, COLS)(0.0);
    ACC(KEY, C) k;
    ACC(C, COLS) v;
    uint at = 0;
#ifdef FM_OP_LINEAR_ATTEND
    ACC(C, KEY) q;
    if (tid < 8)
        largest[tid / 4][tid % 4] = 0;
    barrier();
    float top = 0.0;
    if (FM_PRESENT(pc.starts))
        coopMatLoadTensorNV(state, pc.starts.d, state_at(gl_WorkGroupID.y, h) + col0, sliceTensorLayoutNV(lstate, 0, KEY, 0, COLS));
    else if (part.pos != 0)
        coopMatLoadTensorNV(state, pc.state.d, state_at(fm_state_version(part.slot, part.pos, pc.versions), h) + col0,
                            sliceTensorLayoutNV(lstate, 0, KEY, 0, COLS));
    for (uint i = 0; i < state.length(); i++)
        top = max(top, abs(state[i]));
    raise(0, 3, top);
    barrier();
    float bound = uintBitsToFloat(largest[0][3]);
#else
    if (part.last)
        return;
    // Rows so long ago that nothing of them is left (e^-88 is no normal number) need not be read.
    float age = 88.0 / max(rate, 1e-30);
    if (age < float(part.rows))
        at = (part.rows - uint(age) - 1) / C * C;
#endif
    FETCH(part.row + at, min(part.rows - at, C))
    for (uint parity = 0; at < part.rows; at += C, parity ^= 1) {
        uint row = part.row + at, m = min(part.rows - at, C), next = min(part.rows - at - m, C);
        vec2 both = decay_of(rate * float(m));
        float decay = both.x + both.y;
#ifdef FM_OP_LINEAR_ATTEND
        float top_q = 0.0, top_k = 0.0, top_v = 0.0;
        [[unroll]] for (uint i = 0; i < q.length(); i++) {
            q[i] = fast_act(q[i]);
            top_q = max(top_q, abs(q[i]));
        }
        raise(parity, 0, top_q);
#else
        float top_k = 0.0, top_v = 0.0;
#endif
        [[unroll]] for (uint i = 0; i < k.length(); i++) {
            k[i] = fast_act(k[i]);
            top_k = max(top_k, abs(k[i]));
        }
        [[unroll]] for (uint i = 0; i < v.length(); i++) {
            v[i] = clamp_half(v[i]);
            top_v = max(top_v, abs(v[i]));
        }
        MAT_A(KEY, C) k_in = MAT_A(KEY, C)(k);
#ifdef FM_OP_LINEAR_ATTEND
        raise(parity, 1, top_k);
        raise(parity, 2, top_v);
        MAT_A(C, KEY) q_half = MAT_A(C, KEY)(q);
        MAT_B(KEY, C) k_half = MAT_B(KEY, C)(k);
        MAT_B(C, COLS) v_half = MAT_B(C, COLS)(v);
#endif
        ACC(C, COLS) v_decayed;
        coopMatPerElementNV(v_decayed, v, decay_values, rate, m);
        MAT_B(C, COLS) v_in = MAT_B(C, COLS)(v_decayed);
#if AHEAD
        if (next != 0) {
            FETCH(row + C, next)
        }
#endif
#ifdef FM_OP_LINEAR_ATTEND
        barrier(); // the maxima of the block are there
        top_k = uintBitsToFloat(largest[parity][1]);
        float p_scale = fit_half(float(KEY) * uintBitsToFloat(largest[parity][0]) * top_k), state_scale = fit_half(bound);
        ACC(C, C) p = coopMatMulAdd(q_half, k_half, ACC(C, C)(0.0));
        coopMatPerElementNV(p, p, decay_products, rate, p_scale);
        MAT_A(C, C) p_half = MAT_A(C, C)(p);
        ACC(C, COLS) inner = coopMatMulAdd(p_half, v_half, ACC(C, COLS)(0.0));
        MAT_B(KEY, COLS) state_half = MAT_B(KEY, COLS)(state * state_scale);
        ACC(C, COLS) y = coopMatMulAdd(q_half, state_half, ACC(C, COLS)(0.0));
        coopMatPerElementNV(y, y, decay_reads, rate, 1.0 / state_scale);
        y = y + inner * (1.0 / p_scale);
        if (m == C && cols == COLS)
            STORE(WHOLE)
        else
            STORE(CLAMPED)
        bound = decay * bound + float(m) * top_k * uintBitsToFloat(largest[parity][2]);
        if (tid < 3)
            largest[parity ^ 1][tid] = 0; // for the next block
        barrier();
#endif
        state = coopMatMulAdd(k_in, v_in, state * decay);
#if !AHEAD
        if (next != 0) {
            FETCH(row + C, next)
        }
#endif
    }
#ifdef FM_OP_LINEAR_ATTEND
    if (part.last)
        coopMatStoreTensorNV(state, pc.state.d, state_at(fm_state_version(part.slot, part.pos + part.rows, pc.versions), h) + col0,
                             sliceTensorLayoutNV(lstate, 0, KEY, 0, COLS));
#else
    coopMatStoreTensorNV(state, pc.z.d, state_at(gl_WorkGroupID.y, h) + col0, sliceTensorLayoutNV(lstate, 0, KEY, 0, COLS));
#endif
}
