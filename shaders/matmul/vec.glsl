// SPDX-License-Identifier: MIT
// What the mat-vec kernels share: how a workgroup is cut up, the sums, and their reduction.
//
// A workgroup is FM_WORKGROUP / LANES teams; a team of LANES invocations makes COLS neighbouring columns of y (of gate and
// of up too) for ROWS rows, its invocations taking turns along k. From rung sg on a team is a whole number of
// subgroups. Where x is shared (FM_VEC_SHARED_X) a workgroup may make SWEEPS times as many columns, one sweep after the
// other, so that x is made ready once for all of them.
//
// With FM_NORMED (one row) x is normed on the way: an invocation multiplies what it takes of x with the norm's weight, and
// sums the squares of x beside its products. When all is summed the whole row has been seen, by each team, or by the
// workgroup together (FM_VEC_SHARED_X), and the factor 1 / sqrt(mean x^2 + eps) is left for the end.
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

#ifdef FM_VEC_SHARED_X
layout(constant_id = 6) const uint SWEEPS = 1;
#else
const uint SWEEPS = 1;
#endif

const uint STREAMS = uint(FM_STREAMS);
const uint TEAMS = FM_WORKGROUP / LANES;
const uint SUMS = COLS * STREAMS * ROWS; // of one team in a sweep; index (column * STREAMS + stream) * ROWS + row
const uint SWEEP_COLS = TEAMS * COLS;
const uint GROUP_COLS = SWEEPS * SWEEP_COLS; // columns that a workgroup makes

#ifdef FM_NORMED
const uint PITCH_SUMS = SWEEPS * SUMS + 1u; // then the squares
float vec_squares = 0.0;

// Every element of x comes here once.
void vec_square(vec4 x)
{
    [[unroll]] for (uint i = 0u; i < 4u; i++)
        vec_squares = fma(x[i], x[i], vec_squares);
}

// Four elements of x, quad `at` of the row, as products take them; they are squared, too.
vec4 vec_x(vec4 x, uint at)
{
    vec_square(x);
    return x * FM_CAST(fm_f32x4s, pc.norm).d[at];
}
#else
const uint PITCH_SUMS = SWEEPS * SUMS;
#define vec_x(x, at) (x)
#endif

shared float team_sums[(FM_WORKGROUP / SUBGROUP) * PITCH_SUMS];

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

float total_of(uint first, uint ways)
{
    float total = 0.0;
    for (uint i = 0u; i < ways; i++)
        total += team_sums[first + i * PITCH_SUMS];
    return total;
}

#ifdef FM_NORMED
// The factor of the rows of the team whose sums begin at `first`.
float norm_factor(uint first)
{
#ifdef FM_VEC_SHARED_X
    float squares = total_of(SWEEPS * SUMS, FM_WORKGROUP / SUBGROUP);
#else
    float squares = total_of(first + SUMS, WAYS);
#endif
    return 1.0 / sqrt(squares / float(pc.k) + uintBitsToFloat(pc.eps_bits));
}
#else
#define norm_factor(first) 1.0
#endif

// The sum of a value over the subgroup, or the invocation's own, to its place.
void keep_sum(uint me, uint i, float value)
{
#if FM_RUNG >= 1
    float sum = subgroupAdd(value);
    if (gl_SubgroupInvocationID == 0u)
        team_sums[gl_SubgroupID * PITCH_SUMS + i] = sum;
#else
    team_sums[me * PITCH_SUMS + i] = value;
#endif
}

// Keeps the sums of a sweep.
void vec_keep(uint me, uint sweep, float sums[SUMS])
{
    [[unroll]] for (uint i = 0u; i < SUMS; i++)
        keep_sum(me, sweep * SUMS + i, sums[i]);
}

// Adds up the kept sums of every team (invocations in order, subgroups by the device's subgroupAdd) and stores y.
void vec_store(uint me, uint rows)
{
#ifdef FM_NORMED
    keep_sum(me, SWEEPS * SUMS, vec_squares);
#endif
    barrier();
    for (uint o = me; o < GROUP_COLS * ROWS; o += FM_WORKGROUP) {
        uint r = o / GROUP_COLS, row = gl_WorkGroupID.y * ROWS + r, at = o % GROUP_COLS;
        uint col = gl_WorkGroupID.x * GROUP_COLS + at;
        if (row >= rows || col >= pc.n)
            continue;
        uint team = at % SWEEP_COLS / COLS * WAYS * PITCH_SUMS;
        uint first = team + at / SWEEP_COLS * SUMS + at % COLS * STREAMS * ROWS + r;
        float total = total_of(first, WAYS) * norm_factor(team);
#if FM_STREAMS == 2
        fm_store_y(row, col, total, total_of(first + ROWS, WAYS) * norm_factor(team));
#else
        fm_store_y(row, col, total);
#endif
    }
}

#endif
