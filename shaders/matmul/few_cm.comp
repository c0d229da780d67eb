// SPDX-License-Identifier: MIT
// Computes: y = x w^T (+ bias) (+ residual), or act(x gate^T) * (x up^T), for few rows of x on matrix units
//     (KHR_cooperative_matrix): the weights are read once for all rows, by lanes that put them into matrix A themselves. The same of
//     x^ = x norm / sqrt(mean x^2 + eps), with f32 x (few_x.glsl).
// Shapes: x [rows, k] with stride_x elements from row to row, f32 or f16 (FM_X_F16); w, gate, up [n, k]; norm [k] f32; y [rows, n] f32
//     or (FM_Y_F16) f16, residual f32.
// Layouts: weights as src/quant/quant.h says; k a multiple of 32.
// One workgroup: LINES * MM rows of weights (with two streams half of them gate and half up), and XROWS rows of x. Its subgroups take
//     turns along k, TURN units of 32 at a time. The next turn's weights and the next unit's x are on their way while the present ones
//     are multiplied. The subgroups' sums are added in shared memory.
// Precision: an f32 x is the sum of two f16 numbers, 64 (high + low / 2048), each with sums of its own. It is off by 2^-22 of x or
//     2^-30, whichever is more; beyond 4e6 the sums are no numbers. Where x is normed (few_x.glsl), the parts of x scaled are high + low,
//     with one sum; it is off by 2^-22 of x or about 2^-31 of the row's largest, whichever is more.
//     Quantised weights become exact small integers in f16; the sums of a block of 32 are multiplied by its scales in f32, and an offset
//     by the sum of the block's x.
// Order of elements: which element a lane's component holds is the device's choice. lib/matrix_order.glsl has the orders that
//     this kernel knows; vk/vk_matrix_order.c finds out whether a device has one.
// Spec constants: 0 workgroup size, 1 subgroup size.
// Needs: coopmat (MM x MN x MK, f16 x f16 -> f32, subgroup), float16, subgroup; full subgroups.
// Accumulation: f32 in the matrix units, then over blocks, then subgroups in order. Bytes moved: w once per BLOCKS * MN rows; x
//     once per workgroup (from cache); y once.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_vote : require
#extension GL_KHR_shader_subgroup_shuffle : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#define FM_USE_SUBGROUP_SIZE
#include "spec.glsl"
#include "quant.glsl"
#include "args.glsl"
#include "matrix_order.glsl"

// LINES, BLOCKS and TURN (1 or 4) come from the manifest.
#ifndef TURN
#define TURN 1
#endif
const uint SUBGROUPS = gl_WorkGroupSize.x / FM_SUBGROUP;
const uint PIECE = FM_ORDER_ELEMENTS / 2u;                 // neighbours in k that a lane loads at once; two such pieces a unit
const uint MATRICES = FM_ORDER_ELEMENTS / FM_ORDER_K;      // along k in a unit
const uint COLS = LINES * MM / uint(FM_STREAMS);           // columns of y
const uint XROWS = BLOCKS * MN;

#ifdef FM_X_F16
#define PARTS 1
#else
#define PARTS 2 // high and low
#ifndef FM_NORMED
#define LOW_SCALED // low is 2048 times what it stands for
const float LOW = 2048.0;
#endif
#endif

#define MAT_A coopmat<float16_t, gl_ScopeSubgroup, MM, MK, gl_MatrixUseA>
#define MAT_B coopmat<float16_t, gl_ScopeSubgroup, MK, MN, gl_MatrixUseB>
#define MAT_C coopmat<float, gl_ScopeSubgroup, MM, MN, gl_MatrixUseAccumulator>

#ifdef FM_W_Q6_K
#define SCALES 2 // of the halves of a block
#else
#define SCALES 1
#endif

#include "few_weights.glsl"

shared float sums[SUBGROUPS * LINES * MM * XROWS]; // [subgroup][row of x][line of weights]

// Elements of x that a lane loads at once.
#if PARTS == 2 && FM_ORDER_ELEMENTS == 8
#define fm_raw_x vec4
#elif PARTS == 2
#define fm_raw_x vec2
#elif FM_ORDER_ELEMENTS == 8
#define fm_raw_x uvec2
#else
#define fm_raw_x uint
#endif

#define W_LOADS (LINES * FM_ORDER_ROWS)
#define X_LOADS (BLOCKS * FM_ORDER_COLS * 2u)
fm_raw next_w[W_LOADS];   // of the next turn
fm_raw_x next_x[X_LOADS]; // of the next unit
#ifdef FM_NORMED
fm_raw_x next_norm[2];
#endif
#if defined(LOW_SCALED) && !defined(FM_W_QUANT)
#define ACCS 2u // of high and of low
#else
#define ACCS 1u
#endif
MAT_C acc[LINES * BLOCKS * ACCS];

// Row of weights that row `row` of matrix `line` is; the last one stands in for those beyond.
uint weight_row(uint col0, uint line, uint row)
{
    return min(col0 + (line % (LINES / uint(FM_STREAMS))) * MM + row, pc.n - 1u);
}

// Number of the first block, or unit, that load i of a turn is of.
uint first_of_load(uint i, uint col0, uint turn, uint units, uint lane)
{
    return weight_row(col0, i / FM_ORDER_ROWS, fm_order_row(lane, i % FM_ORDER_ROWS)) * units + turn * TURN;
}

void fetch_w(uint col0, uint turn, uint units, uint lane)
{
    [[unroll]] for (uint i = 0u; i < W_LOADS; i++)
        next_w[i] = load_weights(FM_WEIGHT(i / FM_ORDER_ROWS / (LINES / uint(FM_STREAMS))),
                                 first_of_load(i, col0, turn, units, lane), lane);
}

// First of the PIECE elements of a unit that the lane's piece `piece` (0 or 1) holds.
uint piece_of(uint lane, uint piece)
{
#ifdef FM_W_QUANT
    return fm_order_k(lane) * PIECE + piece * 16u; // as units of quant.glsl are made
#else
    return (fm_order_k(lane) * 2u + piece) * PIECE;
#endif
}

void fetch_x(uint row0, uint rows, uint unit, uint lane)
{
#ifdef FM_NORMED
    [[unroll]] for (uint piece = 0u; piece < 2u; piece++) {
        uint from = unit * 32u + piece_of(lane, piece);
#if FM_ORDER_ELEMENTS == 8
        next_norm[piece] = FM_CAST(fm_f32x4s, pc.norm).d[from >> 2];
#else
        next_norm[piece] = vec2(pc.norm.d[from], pc.norm.d[from + 1u]);
#endif
    }
#endif
    [[unroll]] for (uint block = 0u; block < BLOCKS; block++)
        [[unroll]] for (uint j = 0u; j < FM_ORDER_COLS; j++)
            [[unroll]] for (uint piece = 0u; piece < 2u; piece++) {
                uint i = (block * FM_ORDER_COLS + j) * 2u + piece;
                uint row = min(row0 + block * MN + fm_order_col(lane, j), rows - 1u);
                uint from = row * pc.stride_x + unit * 32u + piece_of(lane, piece);
#if PARTS == 2 && FM_ORDER_ELEMENTS == 8
                next_x[i] = FM_CAST(fm_f32x4s, pc.x).d[from >> 2];
#elif PARTS == 2
                next_x[i] = vec2(pc.x.d[from], pc.x.d[from + 1u]);
#elif FM_ORDER_ELEMENTS == 8
                next_x[i] = FM_CAST(fm_u32x2s, pc.x).d[from >> 2];
#else
                next_x[i] = FM_CAST(fm_u32s, pc.x).d[from >> 1];
#endif
            }
}

#include "few_x.glsl"

// A piece of x, scaled, in the order of the weights' elements.
void decode_x(fm_raw_x raw, out float16_t high[PIECE], out float16_t low[PIECE])
{
#if PARTS == 1 && FM_ORDER_ELEMENTS == 8
    f16vec4 h = X_ORDER(f16vec4(unpackFloat2x16(raw.x), unpackFloat2x16(raw.y)));
#elif PARTS == 1
    f16vec2 h = unpackFloat2x16(raw);
#elif !defined(LOW_SCALED)
    // What the mask leaves of x is high; where f16 does not hold all of that, x is tiny beside the row's largest.
#if FM_ORDER_ELEMENTS == 8
    vec4 x = X_ORDER(raw), cut = uintBitsToFloat(floatBitsToUint(x) & 0xffffe000u), rest = x - cut;
    f16vec4 h = f16vec4(unpackFloat2x16(packHalf2x16(cut.xy)), unpackFloat2x16(packHalf2x16(cut.zw)));
    f16vec4 l = f16vec4(unpackFloat2x16(packHalf2x16(rest.xy)), unpackFloat2x16(packHalf2x16(rest.zw)));
#else
    vec2 cut = uintBitsToFloat(floatBitsToUint(raw) & 0xffffe000u);
    f16vec2 h = unpackFloat2x16(packHalf2x16(cut)), l = unpackFloat2x16(packHalf2x16(raw - cut));
#endif
#else
    // What the high part lacks, however the device rounds. Its bits pass an operation that the compiler cannot see through (n is below
    // 2^31): a driver took the conversion there and back for nothing to do, and the low part was zero. Two numbers at a time, which is
    // one instruction.
    uint zero = pc.n >> 31;
#if FM_ORDER_ELEMENTS == 8
    vec4 x = X_ORDER(raw);
    uvec2 bits = uvec2(packHalf2x16(x.xy), packHalf2x16(x.zw)) ^ zero;
    vec4 rest = (x - vec4(unpackHalf2x16(bits.x), unpackHalf2x16(bits.y))) * LOW;
    f16vec4 h = f16vec4(unpackFloat2x16(bits.x), unpackFloat2x16(bits.y));
    f16vec4 l = f16vec4(unpackFloat2x16(packHalf2x16(rest.xy)), unpackFloat2x16(packHalf2x16(rest.zw)));
#else
    uint bits = packHalf2x16(raw) ^ zero;
    f16vec2 h = unpackFloat2x16(bits), l = unpackFloat2x16(packHalf2x16((raw - unpackHalf2x16(bits)) * LOW));
#endif
#endif
    [[unroll]] for (uint i = 0u; i < PIECE; i++) {
        high[i] = h[i];
#if PARTS == 2
        low[i] = l[i];
#endif
    }
}

// ---- products

// The sums of one unit: of `line` with block `block` of x.
void add_unit(uint line, uint block, MAT_A a[MATRICES], MAT_B high[MATRICES], MAT_B low[MATRICES], vec3 scale[FM_ORDER_ROWS], MAT_C sum_x,
              uint lane)
{
    uint at = line * BLOCKS + block;
#ifdef FM_W_QUANT
    MAT_C part[SCALES];
    [[unroll]] for (uint h = 0u; h < SCALES; h++) {
        const uint per = MATRICES / SCALES;
        part[h] = MAT_C(0.0);
#if PARTS == 2
        [[unroll]] for (uint t = 0u; t < per; t++)
            part[h] = coopMatMulAdd(a[h * per + t], low[h * per + t], part[h]);
#endif
#ifdef LOW_SCALED
        part[h] = part[h] * (1.0 / LOW);
#endif
        [[unroll]] for (uint t = 0u; t < per; t++)
            part[h] = coopMatMulAdd(a[h * per + t], high[h * per + t], part[h]);
    }
    [[unroll]] for (uint i = 0u; i < acc[0].length(); i++) {
        vec3 s = scale[fm_order_sum_row(lane, i)];
        float sum = fma(s.x, part[0][i], acc[at][i]);
#if SCALES == 2
        sum = fma(s.y, part[1][i], sum);
#endif
#ifdef FM_W_AFFINE
        sum = fma(s.z, sum_x[i], sum);
#endif
        acc[at][i] = sum;
    }
#else
    [[unroll]] for (uint t = 0u; t < MATRICES; t++) {
        acc[at * ACCS] = coopMatMulAdd(a[t], high[t], acc[at * ACCS]);
#if PARTS == 2
        acc[at * ACCS + ACCS - 1u] = coopMatMulAdd(a[t], low[t], acc[at * ACCS + ACCS - 1u]);
#endif
    }
#endif
}

// Unit u of a turn.
void multiply(fm_turn w[W_LOADS], fm_raw_x x[X_LOADS], uint u, uint lane)
{
    MAT_A a[LINES][MATRICES];
    vec3 scale[LINES][FM_ORDER_ROWS];
    [[unroll]] for (uint line = 0u; line < LINES; line++)
        [[unroll]] for (uint j = 0u; j < FM_ORDER_ROWS; j++) {
            float16_t e[FM_ORDER_ELEMENTS];
            decode(w[line * FM_ORDER_ROWS + j], u, lane, e);
            [[unroll]] for (uint i = 0u; i < FM_ORDER_ELEMENTS; i++)
                a[line][i / FM_ORDER_K][j * FM_ORDER_K + i % FM_ORDER_K] = e[i];
#ifdef FM_W_QUANT
            scale[line][j] = scales_of(w[line * FM_ORDER_ROWS + j], u, lane);
#endif
        }
    [[unroll]] for (uint block = 0u; block < BLOCKS; block++) {
        MAT_B high[MATRICES], low[MATRICES];
        [[unroll]] for (uint j = 0u; j < FM_ORDER_COLS; j++)
            [[unroll]] for (uint piece = 0u; piece < 2u; piece++) {
                float16_t h[PIECE], l[PIECE];
                uint loaded = (block * FM_ORDER_COLS + j) * 2u + piece;
                decode_x(scale_x(x[loaded], loaded), h, l);
                see_high(loaded, h);
                [[unroll]] for (uint i = 0u; i < PIECE; i++) {
                    uint e = piece * PIECE + i;
                    high[e / FM_ORDER_K][j * FM_ORDER_K + e % FM_ORDER_K] = h[i];
#if PARTS == 2
                    low[e / FM_ORDER_K][j * FM_ORDER_K + e % FM_ORDER_K] = l[i];
#endif
                }
            }
        MAT_C sum_x = MAT_C(0.0);
#ifdef FM_W_AFFINE
        const MAT_A ones = MAT_A(float16_t(1.0));
#if PARTS == 2
        [[unroll]] for (uint t = 0u; t < MATRICES; t++)
            sum_x = coopMatMulAdd(ones, low[t], sum_x);
#endif
#ifdef LOW_SCALED
        sum_x = sum_x * (1.0 / LOW);
#endif
        [[unroll]] for (uint t = 0u; t < MATRICES; t++)
            sum_x = coopMatMulAdd(ones, high[t], sum_x);
#endif
        [[unroll]] for (uint line = 0u; line < LINES; line++)
            add_unit(line, block, a[line], high, low, scale[line], sum_x, lane);
    }
}

// Adds the subgroups' sums and stores y.
void finish(uint row0, uint rows, uint col0, uint subgroup, uint lane)
{
    [[unroll]] for (uint line = 0u; line < LINES; line++)
        [[unroll]] for (uint block = 0u; block < BLOCKS; block++) {
#if defined(FM_W_PLAIN) && defined(LOW_SCALED)
            MAT_C sum = acc[(line * BLOCKS + block) * 2u] + acc[(line * BLOCKS + block) * 2u + 1u] * (1.0 / LOW);
#else
            MAT_C sum = acc[line * BLOCKS + block];
#endif
            coopMatStore(sum, sums, ((subgroup * XROWS + block * MN) * LINES + line) * MM, LINES * MM,
                         gl_CooperativeMatrixLayoutColumnMajor);
        }
    keep_rows(subgroup, lane);
    barrier();
    for (uint e = subgroup * FM_SUBGROUP + lane; e < COLS * XROWS; e += gl_WorkGroupSize.x) {
        uint row = e / COLS, col = e % COLS;
        float sum[FM_STREAMS];
        [[unroll]] for (uint stream = 0u; stream < FM_STREAMS; stream++) {
            sum[stream] = 0.0;
            [[unroll]] for (uint s = 0u; s < SUBGROUPS; s++)
                sum[stream] += sums[(s * XROWS + row) * LINES * MM + stream * COLS + col] * sum_scale(s, row);
            sum[stream] *= row_factor(row);
        }
        if (row0 + row < rows && col0 + col < pc.n)
#if FM_STREAMS == 2
            fm_store_y(row0 + row, col0 + col, sum[0], sum[1]);
#else
            fm_store_y(row0 + row, col0 + col, sum[0]);
#endif
    }
}

void main()
{
    uint rows = pc.step.d[pc.rows_word];
    uint row0 = gl_WorkGroupID.y * XROWS, col0 = gl_WorkGroupID.x * COLS;
    if (FM_ROW_ABSENT(row0, pc.rows_word, rows))
        return;
    uint subgroup = gl_SubgroupID, lane = gl_SubgroupInvocationID;
    uint units = pc.k >> 5;
    uint turns = units / TURN, first = min(subgroup, turns - 1u);
    bool again = false;
    do {
        [[unroll]] for (uint i = 0u; i < acc.length(); i++)
            acc[i] = MAT_C(0.0);
        fetch_w(col0, first, units, lane);
        fetch_x(row0, rows, first * TURN, lane);
        choose_scales(again, row0, rows, first, turns, lane);
        for (uint turn = subgroup; turn < turns; turn += SUBGROUPS) {
            fm_turn w[W_LOADS];
            [[unroll]] for (uint i = 0u; i < W_LOADS; i++)
                w[i] = arrange(next_w[i], first_of_load(i, col0, turn, units, lane), lane);
            uint following = min(turn + SUBGROUPS, turns - 1u);
            fetch_w(col0, following, units, lane);
            [[unroll]] for (uint u = 0u; u < TURN; u++) {
                fm_raw_x x[X_LOADS] = next_x;
                keep_norm();
                fetch_x(row0, rows, u + 1u < TURN ? turn * TURN + u + 1u : following * TURN, lane);
                multiply(w, x, u, lane);
            }
        }
        again = !again && any_overflow();
    } while (again);
    finish(row0, rows, col0, subgroup, lane);
}
