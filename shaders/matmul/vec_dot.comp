// SPDX-License-Identifier: MIT
// Computes: y = x w^T (+ bias) (+ residual), or act(x gate^T) * (x up^T), for a few rows of x (ROWS) in one pass over
//     quantised weights, with packed 4x8 integer dot products; or the same of one row after a root-mean-square norm
//     (FM_NORMED, see vec.glsl: what becomes integers is x times the norm's weight).
// Shapes: x [rows, k] f32 with stride_x elements from row to row; w, gate, up [n, k]; y, residual [rows, n] f32.
// Layouts: weights as src/quant/quant.h says, k a multiple of 32; x rows a multiple of 4 elements apart.
// Method: every block of 32 elements of x becomes integers of 16 bits, x = step * i with step = max |x| / 32512, and
//     those two signed bytes, i = 256 h + l. A block's sum of q * x is then step * (256 * sum(q h) + sum(q l)): two
//     packed products for four weights, exact in 32-bit integers. Zero points are taken off with the sum of i, exact
//     too.
// One workgroup: see vec.glsl for teams and columns. It turns CHUNK blocks of each row at a time into bytes in shared
//     memory, where neighbouring blocks are neighbouring quads; then an invocation takes every LANES-th block, for all
//     its columns at once, 16 bytes a load. The weights of the next turn are under way while this one is computed, the
//     first ones while x is converted.
// Spec constants: 0 workgroup size, 1 subgroup size, 2 LANES (a multiple of the subgroup size), 3 COLS, 4 ROWS,
//     5 CHUNK (blocks, a multiple of LANES), 6 SWEEPS (more than one only where CHUNK holds whole rows).
// Needs: subgroup arithmetic and shuffle, full subgroups of at least 4; packed integer dot products.
// Accumulation: within a block exact; blocks in f32: per invocation in order, then subgroup sum, then subgroups in
//     order.
// Error: |x - step * i| <= step / 2, about max |x| of the block * 2^-16; f32 from block to block.
// Bytes moved: w once; x once per workgroup (from cache); y once.
// Limits: shared memory ROWS * (64 * (CHUNK + 4) + 12 * CHUNK) + 4 * workgroup / subgroup size * SWEEPS * COLS * ROWS *
//     streams bytes.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_integer_dot_product : require
#include "spec.glsl"
#include "quant.glsl"
#include "args.glsl"
#include "blocks.glsl"
#define FM_VEC_SHARED_X
#include "vec.glsl"
#extension GL_KHR_shader_subgroup_shuffle : require

layout(constant_id = 5) const uint CHUNK = 128;

const uint LINES = COLS * STREAMS; // rows of weights that an invocation reads; index column * STREAMS + stream

// ---- x as bytes --------------------------------------------------------------------------------------------------

// A piece is what one invocation converts: elements 4t..4t+3 and 16+4t..16+4t+3 of a block, t = piece % 4.
const uint PIECES = ROWS * CHUNK * 4u;
const uint TURNS = (PIECES + FM_WORKGROUP - 1u) / FM_WORKGROUP;
const uint BATCH = TURNS < 4u ? TURNS : 4u; // pieces loaded before the first is converted

// Four quads a block, each in a plane of its own: h of lo elements, h of hi elements, l of lo, l of hi.
const uint PITCH = CHUNK + 4u;
shared uvec4 x_bytes[ROWS * 4u * PITCH];
shared float x_step[ROWS * CHUNK];

// How the sum of i is used: not at all, as an integer times the zero point (Q6_K: one per scale), or as a number times
// the offset.
#if defined(FM_W_Q8_0)
const int BIAS = 0;
#elif defined(FM_W_AFFINE)
shared float x_sum[ROWS * CHUNK];
#elif defined(FM_W_Q6_K)
const int BIAS = 32;
shared ivec2 x_sum[ROWS * CHUNK];
#else
#if defined(FM_W_Q4_0)
const int BIAS = 8;
#else
const int BIAS = 16;
#endif
shared int x_sum[ROWS * CHUNK];
#endif

// Converts a piece; the four invocations of its block are neighbours and come here together.
void store_piece(vec4 lo, vec4 hi, uint row, uint block, uint t, bool wanted)
{
    uint bits = max(fm_block_bits(lo), fm_block_bits(hi));
    bits = max(bits, subgroupShuffleXor(bits, 1u));
    bits = max(bits, subgroupShuffleXor(bits, 2u));
    float most = fm_block_most(bits);
    float inverse = FM_MOST_TWO / most;
    uvec4 v_lo = fm_block_ints(lo, inverse), v_hi = fm_block_ints(hi, inverse);
    ivec2 sum = ivec2(fm_sum_ints(v_lo), fm_sum_ints(v_hi));
#if defined(FM_W_Q6_K)
    sum += subgroupShuffleXor(sum, 1u);
    sum += subgroupShuffleXor(sum, 2u);
#elif !defined(FM_W_Q8_0)
    int both = sum.x + sum.y;
    both += subgroupShuffleXor(both, 1u);
    both += subgroupShuffleXor(both, 2u);
#endif
    if (!wanted)
        return;
    uint at = row * 4u * PITCH + block;
    x_bytes[at][t] = fm_pack_high(v_lo);
    x_bytes[at + PITCH][t] = fm_pack_high(v_hi);
    x_bytes[at + 2u * PITCH][t] = fm_pack_low(v_lo);
    x_bytes[at + 3u * PITCH][t] = fm_pack_low(v_hi);
    if (t == 0u) {
        x_step[row * CHUNK + block] = most * (1.0 / FM_MOST_TWO);
#if defined(FM_W_Q6_K)
        x_sum[row * CHUNK + block] = sum;
#elif defined(FM_W_AFFINE)
        x_sum[row * CHUNK + block] = float(both);
#elif !defined(FM_W_Q8_0)
        x_sum[row * CHUNK + block] = both;
#endif
    }
}

// Converts blocks block0 .. block0 + CHUNK of all rows, as far as they exist; row r of x begins at quad x0[r].
void convert_x(uint me, uint x0[ROWS], uint block0, uint blocks)
{
    for (uint turn = 0u; turn < TURNS; turn += BATCH) {
        if (ROWS == 1u && block0 + turn * FM_WORKGROUP / 4u >= blocks)
            break;
        vec4 lo[BATCH], hi[BATCH];
#ifdef FM_NORMED
        vec4 norm_lo[BATCH], norm_hi[BATCH];
#endif
        [[unroll]] for (uint i = 0u; i < BATCH; i++) {
            uint piece = min((turn + i) * FM_WORKGROUP + me, PIECES - 4u + (me & 3u));
            uint block = min(block0 + piece / 4u % CHUNK, blocks - 1u);
            uint quad = x0[piece / (4u * CHUNK)] + 8u * block + (piece & 3u);
            lo[i] = FM_CAST(fm_f32x4s, pc.x).d[quad];
            hi[i] = FM_CAST(fm_f32x4s, pc.x).d[quad + 4u];
#ifdef FM_NORMED
            norm_lo[i] = FM_CAST(fm_f32x4s, pc.norm).d[quad - x0[0]];
            norm_hi[i] = FM_CAST(fm_f32x4s, pc.norm).d[quad - x0[0] + 4u];
#endif
        }
        [[unroll]] for (uint i = 0u; i < BATCH; i++) {
            uint piece = (turn + i) * FM_WORKGROUP + me, block = piece / 4u % CHUNK;
            bool wanted = piece < PIECES && block0 + block < blocks;
#ifdef FM_NORMED
            if (wanted) {
                vec_square(lo[i]);
                vec_square(hi[i]);
            }
            lo[i] *= norm_lo[i];
            hi[i] *= norm_hi[i];
#endif
            store_piece(lo[i], hi[i], piece / (4u * CHUNK), block, piece & 3u, wanted);
        }
    }
}

// ---- products ----------------------------------------------------------------------------------------------------

int dot16(uvec4 q, uvec4 x, int sum)
{
    [[unroll]] for (uint t = 0u; t < 4u; t++)
        sum += dotPacked4x8EXT(int(q[t]), int(x[t]));
    return sum;
}

// Adds the products of a block of x (row r, block `at` of the chunk) with one of each line.
void add_block(inout float sums[SUMS], uint r, uint at, uvec4 lo[LINES], uvec4 hi[LINES], vec3 scale[LINES])
{
    uint quad = r * 4u * PITCH + at;
    uvec4 h_lo = x_bytes[quad], h_hi = x_bytes[quad + PITCH];
    uvec4 l_lo = x_bytes[quad + 2u * PITCH], l_hi = x_bytes[quad + 3u * PITCH];
    float step = x_step[r * CHUNK + at];
    [[unroll]] for (uint l = 0u; l < LINES; l++) {
        float value;
#if defined(FM_W_Q6_K)
        ivec2 zero = BIAS * x_sum[r * CHUNK + at];
        int first = dot16(lo[l], h_lo, 0) * 256 + dot16(lo[l], l_lo, 0) - zero.x;
        int second = dot16(hi[l], h_hi, 0) * 256 + dot16(hi[l], l_hi, 0) - zero.y;
        value = fma(scale[l].x, float(first), scale[l].y * float(second));
#else
        int whole = dot16(hi[l], h_hi, dot16(lo[l], h_lo, 0)) * 256;
        whole += dot16(hi[l], l_hi, dot16(lo[l], l_lo, 0));
#if defined(FM_W_AFFINE)
        value = fma(scale[l].x, float(whole), scale[l].z * x_sum[r * CHUNK + at]);
#elif defined(FM_W_Q8_0)
        value = scale[l].x * float(whole);
#else
        value = scale[l].x * float(whole - BIAS * x_sum[r * CHUNK + at]);
#endif
#endif
        sums[l * ROWS + r] = fma(step, value, sums[l * ROWS + r]);
    }
}

void main()
{
    uint rows = pc.step.d[pc.rows_word];
    uint row0 = gl_WorkGroupID.y * ROWS;
    if (FM_ROW_ABSENT(row0, pc.rows_word, rows))
        return;
    uint me = vec_me(), lane = me % LANES;
    uint col0 = gl_WorkGroupID.x * GROUP_COLS + me / LANES * COLS;
    uint blocks = pc.k >> 5;
    fm_planes planes = fm_w_planes(pc.n, pc.k);

    // rows and columns beyond the end are computed from the last one and not stored
    uint x0[ROWS], first[COLS];
    [[unroll]] for (uint r = 0u; r < ROWS; r++)
        x0[r] = (r == 0u ? row0 : min(row0 + r, rows - 1u)) * (pc.stride_x >> 2);
    [[unroll]] for (uint c = 0u; c < COLS; c++)
        first[c] = min(col0 + c, pc.n - 1u) * blocks;

    fm_raw_block ahead[LINES];
    [[unroll]] for (uint l = 0u; l < LINES; l++)
        ahead[l] = fm_load_block(FM_WEIGHT(l % STREAMS), planes, first[l / STREAMS] + min(lane, blocks - 1u));

    for (uint sweep = 0u; sweep < SWEEPS; sweep++) {
        float sums[SUMS];
        [[unroll]] for (uint i = 0u; i < SUMS; i++)
            sums[i] = 0.0;
        // all teams make the same number of turns: they meet at the barriers
        for (uint turn = 0u; turn < blocks; turn += LANES) {
            uint at = turn % CHUNK + lane, b = turn + lane;
            if (sweep == 0u && turn % CHUNK == 0u) {
                if (turn != 0u)
                    barrier();
                convert_x(me, x0, turn, blocks);
                barrier();
            }
            fm_raw_block raw[LINES];
            vec3 scale[LINES];
            [[unroll]] for (uint l = 0u; l < LINES; l++) {
                raw[l] = ahead[l];
                scale[l] = fm_q_scales(raw[l].scales, first[l / STREAMS] + b);
            }
            uint next = b + LANES;
            bool again = turn + LANES < blocks;
            if (!again) {
                [[unroll]] for (uint c = 0u; c < COLS; c++)
                    first[c] = min(col0 + (sweep + 1u) * SWEEP_COLS + c, pc.n - 1u) * blocks;
                next = lane;
            }
            if (again || sweep + 1u < SWEEPS) {
                [[unroll]] for (uint l = 0u; l < LINES; l++)
                    ahead[l] = fm_load_block(FM_WEIGHT(l % STREAMS), planes, first[l / STREAMS] + min(next, blocks - 1u));
            }
            if (b < blocks) {
                uvec4 lo[LINES], hi[LINES];
                [[unroll]] for (uint l = 0u; l < LINES; l++)
                    fm_unpack_block(raw[l], lo[l], hi[l]);
                [[unroll]] for (uint r = 0u; r < ROWS; r++)
                    add_block(sums, r, at, lo, hi, scale);
            }
        }
        vec_keep(me, sweep, sums);
    }
    vec_store(me, rows);
}
