// SPDX-License-Identifier: MIT
// Computes: y = x w^T (+ bias) (+ residual), or act(x gate^T) * (x up^T), for a few rows of x (ROWS) in one pass over
//     quantised weights; or the same of one row after a root-mean-square norm (FM_NORMED, see vec.glsl).
// Shapes: x [rows, k] f32 with stride_x elements from row to row; w, gate, up [n, k]; y, residual [rows, n] f32.
// Layouts: weights as src/quant/quant.h says, k a multiple of 32; x rows a multiple of 4 elements apart.
// One workgroup: see vec.glsl. An invocation takes every LANES-th block of 32; it loads the block of all its columns at
// once,
//     16 bytes a load, decodes 8 weights of each at a time and multiplies them with all rows.
//     With STAGE (rung sg, one row) each subgroup first copies its run of x to shared memory with neighbouring lanes on
//     neighbouring addresses, 9 quads a block, so that reading a block per lane meets no bank twice.
// Spec constants: 0 workgroup size, 1 subgroup size (rung sg), 2 LANES, 3 COLS, 4 ROWS,
//     5 STAGE: 1 or 0.
// Needs: rung base nothing; rung sg subgroup arithmetic and full subgroups, LANES a multiple of the subgroup size.
// Accumulation: f32. Symmetric formats: integer quants times x summed over a block, then times the scale; affine
// formats: each
//     weight is decoded first. Per invocation blocks in order, then subgroup sum, then subgroups in order.
// Bytes moved: w once; x once per workgroup (from cache); y once.
// Limits: shared memory 4 * workgroup / subgroup size * COLS * ROWS * streams bytes, with STAGE 144 * workgroup size
// more.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "spec.glsl"
#include "quant.glsl"
#include "args.glsl"
#include "vec.glsl"

layout(constant_id = 5) const uint STAGE = 0;

const uint LINES = COLS * STREAMS; // rows of weights that an invocation reads; index column * STREAMS + stream

#ifdef FM_W_SYMMETRIC
// What x is multiplied with before it meets fm_q_unit's values. The sums of a normed row are multiplied with up to
// 1 / sqrt(eps) in the end, and with them what small elements of x lose where subnormal numbers become zero: they are
// kept 4096 times larger, which no weight's place takes below 1.
#if defined(FM_NORMED) && !defined(FM_W_Q8_0)
const float RAISED = 4096.0;
#else
const float RAISED = 1.0;
#endif
#define X_LO (RAISED * FM_QLO)
#define X_HI (RAISED * FM_QHI)
#endif

#if FM_RUNG >= 1
const uint QUADS = 8u, PITCH = 9u; // of x in a block; of its copy
shared vec4 staged[STAGE * FM_WORKGROUP * PITCH + 1u];

// Copies the x of this subgroup's blocks, block0 for its first invocation; zeros beyond the last block.
void stage_x(uint me, uint block0, uint blocks)
{
    uint copy0 = (me - gl_SubgroupInvocationID) * PITCH;
    subgroupBarrier();
    [[unroll]] for (uint i = 0u; i < QUADS; i++) {
        uint quad = i * SUBGROUP + gl_SubgroupInvocationID;
        vec4 x = vec4(0.0);
        if (block0 + quad / QUADS < blocks)
            x = vec_x(FM_CAST(fm_f32x4s, pc.x).d[block0 * QUADS + quad], block0 * QUADS + quad);
#ifdef FM_W_SYMMETRIC
        x *= (quad & 4u) == 0u ? X_LO : X_HI;
#endif
        staged[copy0 + quad / QUADS * PITCH + quad % QUADS] = x;
    }
    subgroupMemoryBarrierShared();
    subgroupBarrier();
}
#endif

// Quads t of the lo and hi elements of row x0 in block b, ready to be multiplied with fm_q_unit's values.
void load_x(uint me, uint x0, uint b, uint t, out vec4 lo, out vec4 hi)
{
#if FM_RUNG >= 1
    if (STAGE != 0u) {
        lo = staged[me * PITCH + t];
        hi = staged[me * PITCH + 4u + t];
        return;
    }
#endif
    uint at = 8u * b + t;
    lo = vec_x(FM_CAST(fm_f32x4s, pc.x).d[x0 + at], at);
    hi = vec_x(FM_CAST(fm_f32x4s, pc.x).d[x0 + at + 4u], at + 4u);
#ifdef FM_W_SYMMETRIC
    lo *= X_LO;
    hi *= X_HI;
#endif
}

void main()
{
    uint rows = pc.step.d[pc.rows_word];
    uint row0 = gl_WorkGroupID.y * ROWS;
    if (FM_ROW_ABSENT(row0, pc.rows_word, rows))
        return;
    uint me = vec_me(), lane = me % LANES;
    uint col0 = (gl_WorkGroupID.x * TEAMS + me / LANES) * COLS;
    uint blocks = pc.k >> 5;
    fm_planes planes = fm_w_planes(pc.n, pc.k);

    // rows and columns beyond the end are computed from the last one and not stored
    uint x0[ROWS], first[COLS];
    [[unroll]] for (uint r = 0u; r < ROWS; r++)
        x0[r] = (ROWS == 1u ? row0 : min(row0 + r, rows - 1u)) * (pc.stride_x >> 2);
    [[unroll]] for (uint c = 0u; c < COLS; c++)
        first[c] = min(col0 + c, pc.n - 1u) * blocks;

    float sums[SUMS];
    [[unroll]] for (uint i = 0u; i < SUMS; i++)
        sums[i] = 0.0;

    // With STAGE whole subgroups go round together; an invocation past the end multiplies the last block with zeros.
#if FM_RUNG >= 1
    uint ahead = STAGE != 0u ? gl_SubgroupInvocationID : 0u;
#else
    const uint ahead = 0u;
#endif
    for (uint round = lane - ahead; round < blocks; round += LANES) {
        uint b = min(round + ahead, blocks - 1u);
        uvec4 q0[LINES];
#if FM_Q_WORDS == 8
        uvec4 q1[LINES];
#endif
        uvec2 high[LINES];
        fm_q_raw_scales raw[LINES];
        [[unroll]] for (uint l = 0u; l < LINES; l++) {
            uint block = first[l / STREAMS] + b;
            fm_u32s w = FM_WEIGHT(l % STREAMS);
#if FM_Q_WORDS == 8
            q0[l] = FM_CAST(fm_u32x4s, w).d[2u * block];
            q1[l] = FM_CAST(fm_u32x4s, w).d[2u * block + 1u];
#else
            q0[l] = FM_CAST(fm_u32x4s, w).d[block];
#endif
            high[l] = fm_q_high(w, planes, block);
            raw[l] = fm_q_load_scales(w, planes, block);
        }
#if FM_RUNG >= 1
        if (STAGE != 0u)
            stage_x(me, round, blocks);
#endif
        vec3 scale[LINES];
        [[unroll]] for (uint l = 0u; l < LINES; l++)
            scale[l] = fm_q_scales(raw[l], first[l / STREAMS] + b);

#ifdef FM_W_SYMMETRIC
        vec2 part[SUMS]; // sums over the block of lo and of hi elements
        [[unroll]] for (uint i = 0u; i < SUMS; i++)
            part[i] = vec2(0.0);
#endif
        [[unroll]] for (uint t = 0u; t < 4u; t++) {
            vec4 lo[LINES], hi[LINES];
            [[unroll]] for (uint l = 0u; l < LINES; l++) {
#if FM_Q_WORDS == 8
                fm_q_unit(q0[l][t], q1[l][t], high[l], t, lo[l], hi[l]);
#else
                fm_q_unit(q0[l][t], 0u, high[l], t, lo[l], hi[l]);
#endif
#ifdef FM_W_AFFINE
                lo[l] = fma(lo[l], scale[l].x * FM_QLO, vec4(scale[l].z));
                hi[l] = fma(hi[l], scale[l].y * FM_QHI, vec4(scale[l].z));
#endif
            }
            [[unroll]] for (uint r = 0u; r < ROWS; r++) {
                vec4 x_lo, x_hi;
                load_x(me, x0[r], b, t, x_lo, x_hi);
                [[unroll]] for (uint l = 0u; l < LINES; l++) {
                    uint at = l * ROWS + r;
                    [[unroll]] for (uint i = 0u; i < 4u; i++) {
#ifdef FM_W_SYMMETRIC
                        part[at].x = fma(lo[l][i], x_lo[i], part[at].x);
                        part[at].y = fma(hi[l][i], x_hi[i], part[at].y);
#else
                        sums[at] = fma(lo[l][i], x_lo[i], sums[at]);
                        sums[at] = fma(hi[l][i], x_hi[i], sums[at]);
#endif
                    }
                }
            }
        }
#ifdef FM_W_SYMMETRIC
        [[unroll]] for (uint i = 0u; i < SUMS; i++)
            sums[i] = fma(scale[i / ROWS].x, part[i].x, fma(scale[i / ROWS].y, part[i].y, sums[i]));
#endif
    }
#ifdef FM_W_SYMMETRIC
    [[unroll]] for (uint i = 0u; i < SUMS; i++)
        sums[i] *= 1.0 / RAISED;
#endif
    vec_keep(me, 0u, sums);
    vec_store(me, rows);
}
