// SPDX-License-Identifier: MIT
// Computes: y = x w^T (+ bias) (+ residual), or act(x gate^T) * (x up^T), on matrix units through
// NV_cooperative_matrix2.
// Shapes: x [rows, k] f16 with stride_x elements from row to row (a cast copy); w, gate, up [n, k]; y, residual [rows,
// n] f32.
// Layouts: weights as src/quant/quant.h says; k a multiple of 32, n of 8.
// One workgroup: BM rows by BN columns of y, in slices of BK along k. Tiles at the edge load through a layout that
// clamps (zero beyond) and
//     stores nothing beyond; inner tiles do without the checks. Quantised weights are decoded element by element as
//     they are loaded.
// Spec constants: 0 workgroup size.
// Needs: coopmat2, float16, storage16.
// Accumulation: f32 in the matrix units, operands rounded to f16: error <= 2^-11 |x||w| a term, plus the order of the
// unit's sums. Bytes moved: w once per BM rows, x once per BN columns, y once.
// Limits: weights beyond 65504 (bf16, quantised) saturate.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_NV_cooperative_matrix2 : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_EXT_shader_16bit_storage : require
#include "spec.glsl"
#include "quant.glsl"
#include "args.glsl"

layout(buffer_reference, scalar, buffer_reference_align = 16) readonly buffer fm_f16s { float16_t d[]; };

float16_t to_half(float x)
{
    return float16_t(clamp(x, -65504.0, 65504.0));
}

// ---- one weight as the tensor load wants it: a function per stream, because it has to know the planes' base
// ------------

#if defined(FM_W_BF16)
layout(buffer_reference, scalar, buffer_reference_align = 4) readonly buffer fm_block { uint pair; };
layout(buffer_reference, scalar, buffer_reference_align = 16) readonly buffer fm_blocks { uint d[]; };
#define FM_DECODE(name, weight)                                                                                        \
    float16_t name(const in fm_block b, const in uint block[2], const in uint at[2])                                   \
    {                                                                                                                  \
        return to_half(uintBitsToFloat(at[1] == 0u ? b.pair << 16 : b.pair & 0xffff0000u));                            \
    }
#elif defined(FM_W_QUANT)
struct fm_words { uint q[FM_Q_WORDS]; };
layout(buffer_reference, scalar, buffer_reference_align = 16) readonly buffer fm_block { fm_words b; };
layout(buffer_reference, scalar, buffer_reference_align = 16) readonly buffer fm_blocks { fm_words d[]; };

// Element e of block `index`, whose quants are b.
float16_t element(fm_block b, fm_u32s w, uint index, uint e)
{
    fm_planes planes = fm_w_planes(pc.n, pc.k);
    uint byte_at = 8u * (e & 3u), t = (e & 15u) >> 2, upper = e >> 4;
#if defined(FM_W_Q8_0)
    float q = float(bitfieldExtract(int(b.b.q[e >> 2]), int(byte_at), 8));
#else
    uint bits = (b.b.q[t] >> (byte_at + 4u * upper)) & 15u;
#if defined(FM_W_Q6_K)
    uvec2 high = fm_q_high(w, planes, index);
    bits |= (((upper == 0u ? high.x : high.y) >> (byte_at + 2u * t)) & 3u) << 4;
    float q = float(bits) - 32.0;
#elif defined(FM_W_Q5_0) || defined(FM_W_Q5_1) || defined(FM_W_Q5_K)
    bits |= ((fm_q_high(w, planes, index).x >> (byte_at + t + 4u * upper)) & 1u) << 4;
#if defined(FM_W_Q5_0)
    float q = float(bits) - 16.0;
#else
    float q = float(bits);
#endif
#elif defined(FM_W_Q4_0)
    float q = float(bits) - 8.0;
#else
    float q = float(bits);
#endif
#endif
    vec3 s = fm_q_scales(fm_q_load_scales(w, planes, index), index);
    return to_half(fma(q, upper == 0u ? s.x : s.y, s.z));
}
#define FM_DECODE(name, weight)                                                                                        \
    float16_t name(const in fm_block b, const in uint block[2], const in uint at[2])                                   \
    {                                                                                                                  \
        return element(b, weight, block[0] * (pc.k >> 5) + block[1], at[1]);                                           \
    }
#endif

#ifdef FM_W_F16
#define LOAD_W(m, weight, decode, slice) coopMatLoadTensorNV(m, fm_f16s(weight).d, 0, slice, transposed)
#define BLOCK_ELEMS 1u
#else
#ifdef FM_W_BF16
#define BLOCK_ELEMS 2u
#else
#define BLOCK_ELEMS 32u
#endif
FM_DECODE(decode0, FM_WEIGHT(0u))
#if FM_STREAMS == 2
FM_DECODE(decode1, FM_WEIGHT(1u))
#endif
#define LOAD_W(m, weight, decode, slice) coopMatLoadTensorNV(m, fm_blocks(weight).d, 0, slice, transposed, decode)
#endif

#define ACC coopmat<float, gl_ScopeWorkgroup, BM, BN, gl_MatrixUseAccumulator>

#if FM_STREAMS == 2
float activate(const in uint row, const in uint col, const in float gate)
{
    return fm_act(pc.act, gate);
}
#endif

// The product of one tile under layouts that clamp, or do not.
#define TILE(CLAMP)                                                                                                    \
    tensorLayoutNV<2, CLAMP> lx = createTensorLayoutNV(2, CLAMP);                                                      \
    tensorLayoutNV<2, CLAMP> lw = createTensorLayoutNV(2, CLAMP);                                                      \
    tensorLayoutNV<2, CLAMP> ly = createTensorLayoutNV(2, CLAMP);                                                      \
    lx = setTensorLayoutDimensionNV(lx, rows, k);                                                                      \
    lx = setTensorLayoutStrideNV(lx, stride_x, 1);                                                                     \
    lw = setTensorLayoutBlockSizeNV(lw, 1, BLOCK_ELEMS);                                                               \
    lw = setTensorLayoutDimensionNV(lw, pc.n, k);                                                                      \
    lw = setTensorLayoutStrideNV(lw, k / BLOCK_ELEMS, 1);                                                              \
    ly = setTensorLayoutDimensionNV(ly, rows, pc.n);                                                                   \
    ly = setTensorLayoutStrideNV(ly, stride_y, 1);                                                                     \
    ACC acc = ACC(0.0);                                                                                                \
    START(CLAMP)                                                                                                       \
    for (uint k0 = 0u; k0 < k; k0 += BK) {                                                                             \
        coopmat<float16_t, gl_ScopeWorkgroup, BM, BK, gl_MatrixUseA> a;                                                \
        coopmat<float16_t, gl_ScopeWorkgroup, BK, BN, gl_MatrixUseB> b;                                                \
        coopMatLoadTensorNV(a, fm_f16s(pc.x).d, 0, sliceTensorLayoutNV(lx, row0, BM, k0, BK));                         \
        LOAD_W(b, FM_WEIGHT(0u), decode0, sliceTensorLayoutNV(lw, col0, BN, k0, BK));                                  \
        acc = coopMatMulAdd(a, b, acc);                                                                                \
        SECOND                                                                                                         \
    }                                                                                                                  \
    FINISH                                                                                                             \
    coopMatStoreTensorNV(acc, pc.y.d, 0, sliceTensorLayoutNV(ly, row0, BM, col0, BN));

#if FM_STREAMS == 2
#define START(CLAMP) ACC up = ACC(0.0);
#define SECOND                                                                                                         \
    LOAD_W(b, FM_WEIGHT(1u), decode1, sliceTensorLayoutNV(lw, col0, BN, k0, BK));                                      \
    up = coopMatMulAdd(a, b, up);
#define FINISH                                                                                                         \
    coopMatPerElementNV(acc, acc, activate);                                                                           \
    acc = acc * up;
#else
// Bias and residual are where the sums begin.
#define LOAD_BIAS(CLAMP)                                                                                               \
    if (FM_PRESENT(pc.bias)) {                                                                                         \
        tensorLayoutNV<2, CLAMP> lb = createTensorLayoutNV(2, CLAMP);                                                  \
        lb = setTensorLayoutDimensionNV(lb, rows, pc.n);                                                               \
        lb = setTensorLayoutStrideNV(lb, 0, 1);                                                                        \
        coopMatLoadTensorNV(acc, pc.bias.d, 0, sliceTensorLayoutNV(lb, row0, BM, col0, BN));                           \
    }
#ifdef FM_OP_MATMUL_ADD
#define START(CLAMP)                                                                                                   \
    LOAD_BIAS(CLAMP)                                                                                                   \
    {                                                                                                                  \
        ACC residual;                                                                                                  \
        coopMatLoadTensorNV(residual, pc.residual.d, 0, sliceTensorLayoutNV(ly, row0, BM, col0, BN));                  \
        acc = acc + residual;                                                                                          \
    }
#else
#define START(CLAMP) LOAD_BIAS(CLAMP)
#endif
#define SECOND
#define FINISH
#endif

void main()
{
    uint rows = pc.step.d[pc.rows_word];
    uint row0 = gl_WorkGroupID.y * BM, col0 = gl_WorkGroupID.x * BN;
    if (row0 >= rows)
        return;
    // The planner guarantees these multiples; said in arithmetic, so that the compiler loads 16 bytes at a time.
    uint k = pc.k & ~31u, stride_x = pc.stride_x & ~7u, stride_y = pc.n & ~7u;
    tensorViewNV<2, false, 1, 0> transposed = createTensorViewNV(2, false, 1, 0);
    if (row0 + BM <= rows && col0 + BN <= pc.n && k % BK == 0u) {
        TILE(gl_CooperativeMatrixClampModeUndefinedNV)
    } else {
        TILE(gl_CooperativeMatrixClampModeConstantNV)
    }
}
