// SPDX-License-Identifier: MIT
// What the mat-vec kernels share: how a workgroup is cut up, the sums, and their reduction.
//
// A workgroup is FM_GROUP / LANES teams; a team of LANES invocations makes COLS neighbouring columns of y (of gate and
// of up too) for ROWS rows, its invocations taking turns along k. From rung sg on a team is a whole number of
// subgroups.
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
const uint SUMS = COLS * STREAMS * ROWS; // of one team; index (column * STREAMS + stream) * ROWS + row

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
    const uint ways = LANES / SUBGROUP;
    for (uint o = me; o < TEAMS * COLS * ROWS; o += FM_GROUP) {
        uint r = o / (TEAMS * COLS), row = gl_WorkGroupID.y * ROWS + r, at = o % (TEAMS * COLS);
        uint col = gl_WorkGroupID.x * TEAMS * COLS + at;
        if (row >= rows || col >= pc.n)
            continue;
        uint first = at / COLS * ways * SUMS + (at % COLS) * STREAMS * ROWS + r;
        float total = 0.0;
        for (uint i = 0u; i < ways; i++)
            total += team_sums[first + i * SUMS];
#if FM_STREAMS == 2
        float total_up = 0.0;
        for (uint i = 0u; i < ways; i++)
            total_up += team_sums[first + ROWS + i * SUMS];
        fm_store_y(row, col, total, total_up);
#else
        fm_store_y(row, col, total);
#endif
    }
}

#endif
