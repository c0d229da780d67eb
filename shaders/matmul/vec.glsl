// SPDX-License-Identifier: MIT
// What the mat-vec kernels share: how a workgroup is cut up, the sums, and their reduction.
//
// A workgroup is FM_GROUP / LANES teams; a team of LANES invocations makes COLS neighbouring columns of y (of gate and
// of up too) for ROWS rows, its invocations taking turns along k. From rung sg on a team is a whole number of
// subgroups.
//
// With FM_NORMED the rows are normed on the way: an invocation multiplies what it takes of x with the norm's weight, and
// sums the squares of x beside its products; a team has seen the whole row, and the factor 1 / sqrt(mean x^2 + eps) is
// left for the end.
#ifndef FM_VEC_GLSL
#define FM_VEC_GLSL

#if FM_RUNG >= 1
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
layout(constant_id = 1) const uint SUBGROUP = 32;
#else
const uint SUBGROUP = 1;
#endif
layout(constant_id = 2) const uint LANES = 32;
layout(constant_id = 3) const uint COLS = 2;
layout(constant_id = 4) const uint ROWS = 1;

const uint STREAMS = uint(FM_STREAMS);
const uint TEAMS = FM_GROUP / LANES;
const uint PRODUCTS = COLS * STREAMS * ROWS; // of one team; index (column * STREAMS + stream) * ROWS + row
#ifdef FM_NORMED
const uint SUMS = PRODUCTS + ROWS; // then the squares of each row

// Four elements of x, quad `at` of a row, as products take them; their squares are added.
vec4 vec_x(vec4 x, uint at, inout float squares)
{
    [[unroll]] for (uint i = 0u; i < 4u; i++)
        squares = fma(x[i], x[i], squares);
    return x * FM_CAST(fm_f32x4s, pc.norm).d[at];
}
#else
const uint SUMS = PRODUCTS;
#define vec_x(x, at, squares) (x)
#endif

shared float team_sums[(FM_GROUP / SUBGROUP) * SUMS];

// position in the workgroup, such that a subgroup is a run of positions
uint vec_me()
{
#if FM_RUNG >= 1
    return gl_SubgroupID * gl_SubgroupSize + gl_SubgroupInvocationID;
#else
    return gl_LocalInvocationID.x;
#endif
}

const uint WAYS = LANES / SUBGROUP; // of a team: values to be added for each of its sums

float team_total(uint first)
{
    float total = 0.0;
    for (uint i = 0u; i < WAYS; i++)
        total += team_sums[first + i * SUMS];
    return total;
}

// Adds up the sums of every team (invocations in order, subgroups by the device's subgroupAdd) and stores y.
void vec_finish(uint me, uint rows, float sums[SUMS])
{
#if FM_RUNG >= 1
    [[unroll]] for (uint i = 0u; i < SUMS; i++) {
        float sum = subgroupAdd(sums[i]);
        if (gl_SubgroupInvocationID == 0u)
            team_sums[gl_SubgroupID * SUMS + i] = sum;
    }
#else
    for (uint i = 0u; i < SUMS; i++)
        team_sums[me * SUMS + i] = sums[i];
#endif
    barrier();
    for (uint o = me; o < TEAMS * COLS * ROWS; o += FM_GROUP) {
        uint r = o / (TEAMS * COLS), row = gl_WorkGroupID.y * ROWS + r, at = o % (TEAMS * COLS);
        uint col = gl_WorkGroupID.x * TEAMS * COLS + at;
        if (row >= rows || col >= pc.n)
            continue;
        uint team = at / COLS * WAYS * SUMS, first = team + (at % COLS) * STREAMS * ROWS + r;
        float factor = 1.0;
#ifdef FM_NORMED
        factor = 1.0 / sqrt(team_total(team + PRODUCTS + r) / float(pc.k) + uintBitsToFloat(pc.eps_bits));
#endif
        float total = team_total(first) * factor;
#if FM_STREAMS == 2
        fm_store_y(row, col, total, team_total(first + ROWS) * factor);
#else
        fm_store_y(row, col, total);
#endif
    }
}

#endif
