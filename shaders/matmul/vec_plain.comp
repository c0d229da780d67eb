// SPDX-License-Identifier: MIT
// Computes: y = x w^T (+ bias) (+ residual), or act(x gate^T) * (x up^T), for a few rows of x (ROWS) in one pass over
//     f32, f16 or bf16 weights; or the same of one row after a root-mean-square norm (FM_NORMED, see vec.glsl).
// Shapes: x [rows, k] f32 with stride_x elements from row to row; w, gate, up [n, k]; y, residual [rows, n] f32.
// Layouts: k a multiple of 8; x rows a multiple of 4 elements apart.
// One workgroup: see vec.glsl. An invocation takes every LANES-th piece of 8 elements, UNROLL pieces of all its columns
// loaded
//     before the first is used, 16 bytes a load.
// Spec constants: 0 workgroup size, 1 subgroup size (rung sg), 2 LANES, 3 COLS, 4 ROWS, 5 UNROLL.
// Needs: rung base nothing; rung sg subgroup arithmetic and full subgroups, LANES a multiple of the subgroup size.
// Accumulation: f32, one fused multiply-add per term; per invocation in order of k, then subgroup sum, then subgroups
// in order. Bytes moved: w once; x once per workgroup (from cache); y once.
// Limits: shared memory 4 * workgroup / subgroup size * COLS * ROWS * streams bytes.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "spec.glsl"
#include "quant.glsl"
#include "args.glsl"
#include "vec.glsl"

layout(constant_id = 5) const uint UNROLL = 4;

const uint LINES = COLS * STREAMS; // rows of weights that an invocation reads; index column * STREAMS + stream

#ifdef FM_W_F32
#define LOADS 2u // of 16 bytes, in a piece
#else
#define LOADS 1u
#endif

// elements 4h..4h+3 of a piece
vec4 quad_of(uvec4 piece[LOADS], uint h)
{
#ifdef FM_W_F32
    return uintBitsToFloat(piece[h]);
#else
    return vec4(fm_w_pair(piece[0][2u * h]), fm_w_pair(piece[0][2u * h + 1u]));
#endif
}

// `count` pieces from `p` on, LANES apart, added to the sums
#define ADD_PIECES(count)                                                                                              \
    {                                                                                                                  \
        uvec4 w[count * LINES][LOADS];                                                                                 \
        [[unroll]] for (uint u = 0u; u < count; u++)                                                                   \
            [[unroll]] for (uint l = 0u; l < LINES; l++)                                                               \
                [[unroll]] for (uint h = 0u; h < LOADS; h++)                                                           \
                    w[u * LINES + l][h] = FM_CAST(fm_u32x4s, FM_WEIGHT(l % STREAMS)).d[(first[l / STREAMS] + p + u * LANES) * LOADS + h]; \
        [[unroll]] for (uint u = 0u; u < count; u++)                                                                   \
            [[unroll]] for (uint h = 0u; h < 2u; h++)                                                                  \
                [[unroll]] for (uint r = 0u; r < ROWS; r++) {                                                          \
                    uint at = 2u * (p + u * LANES) + h;                                                                \
                    vec4 x = vec_x(FM_CAST(fm_f32x4s, pc.x).d[x0[r] + at], at);                                        \
                    [[unroll]] for (uint l = 0u; l < LINES; l++) {                                                     \
                        vec4 v = quad_of(w[u * LINES + l], h);                                                         \
                        [[unroll]] for (uint i = 0u; i < 4u; i++)                                                      \
                            sums[l * ROWS + r] = fma(v[i], x[i], sums[l * ROWS + r]);                                  \
                    }                                                                                                  \
                }                                                                                                      \
    }

void main()
{
    uint rows = pc.step.d[pc.rows_word];
    uint row0 = gl_WorkGroupID.y * ROWS;
    if (FM_ROW_ABSENT(row0, pc.rows_word, rows))
        return;
    uint me = vec_me(), lane = me % LANES;
    uint col0 = (gl_WorkGroupID.x * TEAMS + me / LANES) * COLS;
    uint pieces = pc.k >> 3;

    // rows and columns beyond the end are computed from the last one and not stored
    uint x0[ROWS], first[COLS];
    [[unroll]] for (uint r = 0u; r < ROWS; r++)
        x0[r] = (ROWS == 1u ? row0 : min(row0 + r, rows - 1u)) * (pc.stride_x >> 2);
    [[unroll]] for (uint c = 0u; c < COLS; c++)
        first[c] = min(col0 + c, pc.n - 1u) * pieces;

    float sums[SUMS];
    [[unroll]] for (uint i = 0u; i < SUMS; i++)
        sums[i] = 0.0;

    uint p = lane;
    for (; p + (UNROLL - 1u) * LANES < pieces; p += UNROLL * LANES)
        ADD_PIECES(UNROLL)
    for (; p < pieces; p += LANES)
        ADD_PIECES(1u)
    vec_keep(me, 0u, sums);
    vec_store(me, rows);
}
