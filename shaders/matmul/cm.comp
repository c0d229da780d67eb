// SPDX-License-Identifier: MIT
// Computes: y = x w^T (+ bias) (+ residual), or act(x gate^T) * (x up^T), on matrix units through KHR_cooperative_matrix.
// Shapes: x [rows, k] f16 with stride_x elements from row to row; w, gate, up [n, k]; y [rows, n] f32 or f16, residual f32.
// Layouts: weights as src/quant/quant.h says; k a multiple of BK, stride_x of 8; rows and n any.
// One workgroup: BM rows by BN columns of y (BN / 2 of gate and of up) of one part of k, in slices of BK. The next slice is on its way
//     into registers while this one is multiplied out of shared memory, where weights lie decoded to f16. A subgroup makes a
//     rectangle of TM x TN matrices of MM x MN. Whole tiles go straight to y, with the residual; where there is a bias or an
//     edge, they go through shared memory. With parts of k, the last workgroup of a tile adds their sums in order.
// Spec constants: 0 workgroup size, 1 subgroup size, 2 parts of k.
// Needs: coopmat (MM x MN x MK, f16 x f16 -> f32, subgroup), float16, subgroup; full subgroups.
// Accumulation: f32 in the matrix units, operands rounded to f16: error <= 2^-11 |x||w| a term, plus the order of the
// unit's sums. Bytes moved: w once per BM rows, x once per BN columns, y once; of parts their sums.
// Limits: weights beyond 65504 (bf16, quantised) saturate. Shared memory (BM + BN) (2 BK + 16) bytes.
// Timed on an H200 and slower: two slices in shared memory or in registers; lanes that fill the matrices by components as few_cm.comp
// does; 128 x 192, 128 x 256 and 256 x 128 tiles. Merging code costs registers even where it is not run: so parts are a constant. With
// code for f16 results, run or not, products with one weight took six times as long there; those with two did not. So only these have it.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#define FM_USE_SUBGROUP_SIZE
#include "spec.glsl"
#include "quant.glsl"
#include "args.glsl"

// BM, BN, BK (32 or 64), and the shape MM, MN, MK of one matrix come from the manifest.
#include "slices.glsl"
#define FM_ARRIVAL_WORD ws[0].x
#include "last_arrival.glsl"

layout(constant_id = 2) const uint PARTS = 1;

const uint SUBGROUPS = WORKGROUP / FM_SUBGROUP;
const uint DOWN = SUBGROUPS >= 8u ? (BN > BM ? 2u : 4u) : SUBGROUPS >= 4u ? 2u : 1u; // subgroups one above the other
const uint ACROSS = SUBGROUPS / DOWN;
const uint TM = BM / MM / DOWN, TN = BN / MN / ACROSS;
const uint CELLS = MM * MN;

#define ACC coopmat<float, gl_ScopeSubgroup, MM, MN, gl_MatrixUseAccumulator>
#define HALVES(m) coopmat<float16_t, gl_ScopeSubgroup, MM, MN, gl_MatrixUseAccumulator>(m)

// ---- products

ACC acc[TM * TN];

// Small matrices are for processors, whose drivers spend long on long programs.
#if MK < 16
#define UNROLL_K [[dont_unroll]]
#else
#define UNROLL_K [[unroll]]
#endif

// Line of the weights' tile where matrix j of a subgroup in column `across` begins. With two streams the second half of
// a subgroup's matrices is up, for the same columns of y as the first.
uint line_of(uint across, uint j)
{
#if FM_STREAMS == 2
    return (j >= TN / 2u ? BN / 2u : 0u) + (across * (TN / 2u) + j % (TN / 2u)) * MN;
#else
    return (across * TN + j) * MN;
#endif
}

void multiply(uint down, uint across)
{
    UNROLL_K for (uint kk = 0u; kk < BK / 8u; kk += MK / 8u) {
        coopmat<float16_t, gl_ScopeSubgroup, MM, MK, gl_MatrixUseA> a[TM];
        [[unroll]] for (uint i = 0u; i < TM; i++)
            coopMatLoad(a[i], xs, (down * TM + i) * MM * PITCH + kk, PITCH, gl_CooperativeMatrixLayoutRowMajor);
        [[unroll]] for (uint j = 0u; j < TN; j++) {
            coopmat<float16_t, gl_ScopeSubgroup, MK, MN, gl_MatrixUseB> b;
            coopMatLoad(b, ws, line_of(across, j) * PITCH + kk, PITCH, gl_CooperativeMatrixLayoutColumnMajor);
            [[unroll]] for (uint i = 0u; i < TM; i++)
                acc[i * TN + j] = coopMatMulAdd(a[i], b, acc[i * TN + j]);
        }
    }
}

// Adds the sums of all parts of tile `tile`, if this workgroup is the last to have its own; else false.
bool merge_parts(uint tile, uint tid)
{
    const uint quads = acc[0].length() / 4u, stride = BM * BN / 4u;
    uint at = tile * PARTS * stride + tid;
    fm_parts_f32x4s partial = FM_CAST(fm_parts_f32x4s, pc.partial);
    [[unroll]] for (uint m = 0u; m < TM * TN; m++)
        [[unroll]] for (uint q = 0u; q < quads; q++)
            partial.d[at + gl_WorkGroupID.z * stride + (m * quads + q) * WORKGROUP] =
                vec4(acc[m][4u * q], acc[m][4u * q + 1u], acc[m][4u * q + 2u], acc[m][4u * q + 3u]);
    if (!fm_arrives_last(FM_CAST(fm_counters, pc.arrived), tile, PARTS))
        return false;
    [[unroll]] for (uint m = 0u; m < TM * TN; m++)
        acc[m] = ACC(0.0);
    [[dont_unroll]] for (uint part = 0u; part < PARTS; part++, at += stride)
        [[unroll]] for (uint m = 0u; m < TM * TN; m++)
            [[unroll]] for (uint q = 0u; q < quads; q++) {
                vec4 sums = partial.d[at + (m * quads + q) * WORKGROUP];
                [[unroll]] for (uint i = 0u; i < 4u; i++)
                    acc[m][4u * q + i] += sums[i];
            }
    return true;
}

// Matrix at (row, col) of y, all of which is there; n is a multiple of 4.
void store_whole(ACC sums, uint row, uint col)
{
    uint at = (row * pc.n + col) / 4u, stride = pc.n / 4u;
#ifdef FM_OP_MATMUL_ADD
    ACC residual;
    coopMatLoad(residual, FM_CAST(fm_f32x4s, pc.residual).d, at, stride, gl_CooperativeMatrixLayoutRowMajor);
    sums = sums + residual;
#endif
    coopMatStore(sums, FM_CAST(fm_out_f32x4s, pc.y).d, at, stride, gl_CooperativeMatrixLayoutRowMajor);
}

// The same by elements, with edges and bias.
void store_elements(ACC sums, uint first_row, uint first_col, uint rows, uint subgroup, uint lane)
{
    subgroupBarrier();
    coopMatStore(sums, ws, subgroup * CELLS / 4u, MN / 4u, gl_CooperativeMatrixLayoutRowMajor);
    subgroupBarrier();
    for (uint e = lane; e < CELLS; e += FM_SUBGROUP) {
        uint row = first_row + e / MN, col = first_col + e % MN;
        if (row >= rows || col >= pc.n)
            continue;
        float sum = uintBitsToFloat(ws[(subgroup * CELLS + e) / 4u][e % 4u]);
#if FM_STREAMS == 2
        pc.y.d[row * pc.n + col] = sum;
#else
        fm_store_y(row, col, sum);
#endif
    }
}

#ifdef FM_Y_F16
// Products of gate and up as f16; n is a multiple of 8 then (src/plan/narrow.c). `whole`: all of the matrix is there.
void store_halves(ACC sums, bool whole, uint row0, uint col0, uint rows, uint subgroup, uint lane)
{
    if (whole) {
        uint at = row0 * pc.n + col0;
        [[unroll]] for (uint e = 0u; e < sums.length(); e++)
            sums[e] = fm_saturated(sums[e]);
        coopMatStore(HALVES(sums), FM_CAST(fm_out_u32x4s, pc.y).d, at / 8u, pc.n / 8u, gl_CooperativeMatrixLayoutRowMajor);
        return;
    }
    subgroupBarrier();
    coopMatStore(sums, ws, subgroup * CELLS / 4u, MN / 4u, gl_CooperativeMatrixLayoutRowMajor);
    subgroupBarrier();
    for (uint q = lane; q < CELLS / 4u; q += FM_SUBGROUP) {
        uint row = row0 + q / (MN / 4u), col = col0 + q % (MN / 4u) * 4u;
        if (row >= rows || col >= pc.n)
            continue;
        FM_CAST(fm_out_u32x2s, pc.y).d[(row * pc.n + col) / 4u] = fm_narrow(uintBitsToFloat(ws[subgroup * CELLS / 4u + q]));
    }
}
#endif

void store(uint row0, uint rows, uint col0, uint down, uint across, uint subgroup, uint lane)
{
    bool whole = row0 + BM <= rows && col0 + BN / uint(FM_STREAMS) <= pc.n && (pc.n & 3u) == 0u;
#if FM_STREAMS == 1
    whole = whole && !FM_PRESENT(pc.bias);
#endif
    [[unroll]] for (uint i = 0u; i < TM; i++)
        [[unroll]] for (uint j = 0u; j < TN / uint(FM_STREAMS); j++) {
            uint row = row0 + (down * TM + i) * MM, col = col0 + line_of(across, j);
#if FM_STREAMS == 2
            [[unroll]] for (uint e = 0u; e < acc[0].length(); e++)
                acc[i * TN + j][e] = fm_act(pc.act, acc[i * TN + j][e]) * acc[i * TN + TN / 2u + j][e];
#endif
#ifdef FM_Y_F16
            if (FM_HALVES) {
                store_halves(acc[i * TN + j], whole, row, col, rows, subgroup, lane);
                continue;
            }
#endif
            if (whole)
                store_whole(acc[i * TN + j], row, col);
            else
                store_elements(acc[i * TN + j], row, col, rows, subgroup, lane);
        }
}

void main()
{
    uint rows = pc.step.d[pc.rows_word];
    // Tiles of the same columns follow one another, so that they find each other's weights in a cache.
    uint tile = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
    uint row0 = tile % gl_NumWorkGroups.y * BM, col0 = tile / gl_NumWorkGroups.y * (BN / uint(FM_STREAMS));
    if (row0 >= rows)
        return;
    uint subgroup = gl_SubgroupID, lane = gl_SubgroupInvocationID, tid = subgroup * FM_SUBGROUP + lane;
    uint down = subgroup / ACROSS, across = subgroup % ACROSS;
    uint slices = pc.k / BK, end = slices * (gl_WorkGroupID.z + 1u) / PARTS * BK;
    [[unroll]] for (uint i = 0u; i < TM * TN; i++)
        acc[i] = ACC(0.0);
    uint k0 = slices * gl_WorkGroupID.z / PARTS * BK;
    fetch(row0, rows, col0, min(k0, pc.k - BK), tid);
    for (; k0 < end; k0 += BK) {
        keep(col0, k0, tid);
        barrier();
        if (k0 + BK < end)
            fetch(row0, rows, col0, k0 + BK, tid);
        multiply(down, across);
        barrier();
    }
    if (PARTS > 1u && !merge_parts(tile, tid))
        return;
    store(row0, rows, col0, down, across, subgroup, lane);
}
