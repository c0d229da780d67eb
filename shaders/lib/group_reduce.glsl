// SPDX-License-Identifier: MIT
// Sum and maximum over a workgroup, in an order that depends on the workgroup and subgroup sizes only, so that a run repeated gives the same
// bits: a tree in shared memory on the base rung (GROUP a power of two up to 1024), within subgroups first from the sg rung on. Every invocation
// must call, and all get the result.
#ifndef FM_GROUP_REDUCE_GLSL
#define FM_GROUP_REDUCE_GLSL

#if FM_RUNG >= 1
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require

shared float fm_reduce_part[256]; // one per subgroup, of 4 invocations at least

#define FM_REDUCE_BODY(subgroup_op, op)                                                                                \
    value = subgroup_op(value);                                                                                        \
    if (gl_NumSubgroups == 1u)                                                                                         \
        return value;                                                                                                  \
    barrier();                                                                                                         \
    if (gl_SubgroupInvocationID == 0u)                                                                                 \
        fm_reduce_part[gl_SubgroupID] = value;                                                                         \
    barrier();                                                                                                         \
    value = fm_reduce_part[0];                                                                                         \
    for (uint i = 1u; i < gl_NumSubgroups; i++)                                                                        \
        value = op(value, fm_reduce_part[i]);                                                                          \
    return value;

#define FM_REDUCE_PLUS(a, b) ((a) + (b))
float fm_group_sum(float value) { FM_REDUCE_BODY(subgroupAdd, FM_REDUCE_PLUS) }
float fm_group_max(float value) { FM_REDUCE_BODY(subgroupMax, max) }

#else
shared float fm_reduce_part[1024];

#define FM_REDUCE_BODY(op)                                                                                             \
    uint me = gl_LocalInvocationID.x;                                                                                  \
    barrier();                                                                                                         \
    fm_reduce_part[me] = value;                                                                                        \
    barrier();                                                                                                         \
    for (uint step = GROUP >> 1; step > 0u; step >>= 1) {                                                              \
        if (me < step)                                                                                                 \
            fm_reduce_part[me] = op(fm_reduce_part[me], fm_reduce_part[me + step]);                                    \
        barrier();                                                                                                     \
    }                                                                                                                  \
    return fm_reduce_part[0];

#define FM_REDUCE_PLUS(a, b) ((a) + (b))
float fm_group_sum(float value) { FM_REDUCE_BODY(FM_REDUCE_PLUS) }
float fm_group_max(float value) { FM_REDUCE_BODY(max) }
#endif

#endif
