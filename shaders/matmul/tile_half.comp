// SPDX-License-Identifier: MIT
// Computes: y = x w^T (+ bias) (+ residual), or act(x gate^T) * (x up^T), with packed f16 arithmetic, for devices without matrix
//     units.
// Shapes: x [rows, k] f16 with stride_x elements from row to row (a cast copy); w, gate, up [n, k]; y, residual [rows, n] f32.
// Layouts: weights as src/quant/quant.h says; k a multiple of BK, stride_x of 8; rows and n any.
// One workgroup: BM rows by BN columns of y (BN / 2 of gate and of up), in slices of BK along k that lie in shared memory, weights
//     decoded to f16. TEAMS teams of invocations share out each slice along k and add their sums at the end. An invocation makes
//     TM rows by TN columns, GY rows and GX columns apart, so that neighbours read neighbouring lines.
// Spec constants: 0 workgroup size = BM / TM * BN / TN * TEAMS; 2 BM, 3 BN, 4 BK, 5 TM, 6 TN, 7 CHAIN, 8 TEAMS.
// Needs: float16.
// Accumulation: products of pairs along k in both halves of an f16vec2, CHAIN / 2 terms a half, k ascending, then f32. The operands'
//     rounding is 2^-11 |x||w| a term at most; a half's sums, chains of CHAIN / 2 roundings of 2^-11 of what there is so far: for
//     terms of any sign as much as rounding one operand, times sqrt(CHAIN / 4). x is raised by 2^5, so that products keep their
//     bits down to 2^-19, and are off by up to 2^-30 below. A tile whose sums leave f16's range is done again, as it is, with f32 sums.
// Bytes moved: w once per BM rows, x once per BN columns, y once.
// Limits: weights beyond 65504 (bf16, quantised) saturate. CHAIN divides BK / TEAMS. Shared memory (BM + BN) (2 BK + 16) bytes, and
//     with teams a TM-th of 4 BM BN for all but the first.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#include "spec.glsl"
#include "quant.glsl"
#include "args.glsl"

layout(constant_id = 2) const uint BM = 64;
layout(constant_id = 3) const uint BN = 64;
layout(constant_id = 4) const uint BK = 32;
layout(constant_id = 5) const uint TM = 8;
layout(constant_id = 6) const uint TN = 4;
layout(constant_id = 7) const uint CHAIN = 32;
layout(constant_id = 8) const uint TEAMS = 1;
#include "slices.glsl"

const uint GX = BN / TN, GY = BM / TM;
const uint TEAM_OCTETS = OCTETS / TEAMS; // of each line, for one team
const uint PLACES = GX * GY;             // invocations of a team

shared float sums[TEAMS > 1u ? (TEAMS - 1u) * TN * PLACES : 1u]; // of one row of each invocation, but those of the first team
shared uint overflows; // invocations whose sums left the range of f16

const float RAISE = 32.0; // of x in f16 sums: small products are common, large ones can be done again

float acc[TM * TN];

// Line of xs that row i of an invocation is, and of ws that its column j is: with two streams, j + TN / 2 is up for the same column
// of y that j is gate for.
uint line_of_x(uint ty, uint i)
{
    return (ty + GY * i) * PITCH;
}

uint line_of_w(uint tx, uint j)
{
    return (tx + GX * j) * PITCH;
}

// Octets first..first + CHAIN / 8 of every line, in f16.
void add_chain(uint tx, uint ty, uint first)
{
    f16vec2 chain[TM * TN];
    [[unroll]] for (uint i = 0u; i < TM * TN; i++)
        chain[i] = f16vec2(0.0);
    [[unroll]] for (uint o = 0u; o < CHAIN / 8u; o++) {
        uvec4 w[TN];
        [[unroll]] for (uint j = 0u; j < TN; j++)
            w[j] = ws[line_of_w(tx, j) + first + o];
        [[unroll]] for (uint i = 0u; i < TM; i++) {
            uvec4 x = xs[line_of_x(ty, i) + first + o];
            [[unroll]] for (uint p = 0u; p < 4u; p++)
                [[unroll]] for (uint j = 0u; j < TN; j++)
                    chain[i * TN + j] = fma(unpackFloat2x16(x[p]), unpackFloat2x16(w[j][p]), chain[i * TN + j]);
        }
    }
    [[unroll]] for (uint i = 0u; i < TM * TN; i++)
        acc[i] += float(chain[i].x) + float(chain[i].y);
}

// One octet of every line, in f32.
void add_octet(uint tx, uint ty, uint o)
{
    uvec4 w[TN];
    [[unroll]] for (uint j = 0u; j < TN; j++)
        w[j] = ws[line_of_w(tx, j) + o];
    [[unroll]] for (uint i = 0u; i < TM; i++) {
        uvec4 x = xs[line_of_x(ty, i) + o];
        [[unroll]] for (uint p = 0u; p < 4u; p++)
            [[unroll]] for (uint j = 0u; j < TN; j++) {
                vec2 a = vec2(unpackFloat2x16(x[p])), b = vec2(unpackFloat2x16(w[j][p]));
                acc[i * TN + j] = fma(a.y, b.y, fma(a.x, b.x, acc[i * TN + j]));
            }
    }
}

// The next slice of x, still in registers.
void raise_x()
{
    [[unroll]] for (uint i = 0u; i < X_TASKS; i++)
        [[unroll]] for (uint p = 0u; p < 4u; p++)
            x_next[i][p] = packFloat2x16(unpackFloat2x16(x_next[i][p]) * f16vec2(RAISE));
}

void add_slices(uint row0, uint rows, uint col0, uint tid, uint team, uint tx, uint ty, bool wide)
{
    [[unroll]] for (uint i = 0u; i < TM * TN; i++)
        acc[i] = 0.0;
    fetch(row0, rows, col0, 0u, tid);
    for (uint k0 = 0u; k0 < pc.k; k0 += BK) {
        if (!wide)
            raise_x();
        keep(col0, k0, tid);
        barrier();
        if (k0 + BK < pc.k)
            fetch(row0, rows, col0, k0 + BK, tid);
        if (wide)
            [[dont_unroll]] for (uint o = 0u; o < TEAM_OCTETS; o++)
                add_octet(tx, ty, team * TEAM_OCTETS + o);
        else
            [[dont_unroll]] for (uint o = 0u; o < TEAM_OCTETS; o += CHAIN / 8u)
                add_chain(tx, ty, team * TEAM_OCTETS + o);
        barrier();
    }
    if (!wide)
        [[unroll]] for (uint i = 0u; i < TM * TN; i++)
            acc[i] *= 1.0 / RAISE;
}

// Sums that are no numbers, in any team: the operands hold some, or sums in f16 overflowed.
bool is_lost()
{
    bool lost = false;
    [[unroll]] for (uint i = 0u; i < TM * TN; i++)
        lost = lost || (floatBitsToUint(acc[i]) & 0x7f800000u) == 0x7f800000u;
    if (lost)
        atomicAdd(overflows, 1u);
    barrier();
    return overflows != 0u;
}

// The first team gets the sums of all, in the teams' order, row by row.
void add_teams(uint team, uint place)
{
    [[unroll]] for (uint i = 0u; i < TM; i++) {
        if (team != 0u)
            [[unroll]] for (uint j = 0u; j < TN; j++)
                sums[((team - 1u) * TN + j) * PLACES + place] = acc[i * TN + j];
        barrier();
        if (team == 0u)
            for (uint other = 0u; other + 1u < TEAMS; other++)
                [[unroll]] for (uint j = 0u; j < TN; j++)
                    acc[i * TN + j] += sums[(other * TN + j) * PLACES + place];
        barrier();
    }
}

void store(uint row0, uint rows, uint col0, uint tx, uint ty)
{
    [[unroll]] for (uint i = 0u; i < TM; i++)
        [[unroll]] for (uint j = 0u; j < TN / uint(FM_STREAMS); j++) {
            uint row = row0 + ty + GY * i, col = col0 + tx + GX * j;
            if (row < rows && col < pc.n)
#if FM_STREAMS == 2
                fm_store_y(row, col, acc[i * TN + j], acc[i * TN + TN / 2u + j]);
#else
                fm_store_y(row, col, acc[i * TN + j]);
#endif
        }
}

void main()
{
    uint rows = pc.step.d[pc.rows_word];
    uint row0 = gl_WorkGroupID.y * BM, col0 = gl_WorkGroupID.x * (BN / uint(FM_STREAMS));
    if (row0 >= rows)
        return;
    uint tid = gl_LocalInvocationID.x, team = tid / PLACES, place = tid % PLACES, tx = place % GX, ty = place / GX;
    if (tid == 0u)
        overflows = 0u;
    for (uint pass = 0u; pass < 2u; pass++) {
        add_slices(row0, rows, col0, tid, team, tx, ty, pass != 0u);
        if (pass != 0u || !is_lost())
            break;
    }
    if (TEAMS > 1u)
        add_teams(team, place);
    if (team == 0u)
        store(row0, rows, col0, tx, ty);
}
