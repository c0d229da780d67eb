// SPDX-License-Identifier: MIT
// Sums and maxima over a workgroup. The order of additions depends on the workgroup and subgroup sizes only, so that a
// run repeated gives the same bits. Define FM_REDUCE_MAX_WORKGROUP (greatest workgroup size) before including; with
// FM_REDUCE_SUBGROUP the first steps use subgroup operations, otherwise a tree in shared memory, which takes a
// workgroup size that is a power of two. Every invocation must call, and all get the result.
#ifndef FM_REDUCE_GLSL
#define FM_REDUCE_GLSL

#ifdef FM_REDUCE_SUBGROUP
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
// one value per subgroup, of 4 invocations at least
shared float fm_reduce_part[FM_REDUCE_MAX_WORKGROUP / 4];

#define FM_REDUCE_BODY(subgroup_op, op, identity)                                                                              \
    value = subgroup_op(value);                                                                                        \
    if (gl_NumSubgroups == 1u)                                                                                         \
        return value;                                                                                                  \
    barrier();                                                                                                         \
    if (gl_SubgroupInvocationID == 0u)                                                                                 \
        fm_reduce_part[gl_SubgroupID] = value;                                                                         \
    barrier();                                                                                                         \
    if (gl_NumSubgroups <= gl_SubgroupSize)                                                                            \
        return subgroup_op(gl_SubgroupInvocationID < gl_NumSubgroups ? fm_reduce_part[gl_SubgroupInvocationID] : identity); \
    value = fm_reduce_part[0];                                                                                         \
    for (uint i = 1u; i < gl_NumSubgroups; i++)                                                                        \
        value = op(value, fm_reduce_part[i]);                                                                          \
    return value;

#define FM_REDUCE_PLUS(a, b) ((a) + (b))
float fm_workgroup_sum(float value) { FM_REDUCE_BODY(subgroupAdd, FM_REDUCE_PLUS, 0.0) }
float fm_workgroup_max(float value) { FM_REDUCE_BODY(subgroupMax, max, uintBitsToFloat(0xff800000u)) }

#else
shared float fm_reduce_part[FM_REDUCE_MAX_WORKGROUP];

#define FM_REDUCE_BODY(op)                                                                                             \
    uint me = gl_LocalInvocationID.x;                                                                                  \
    barrier();                                                                                                         \
    fm_reduce_part[me] = value;                                                                                        \
    barrier();                                                                                                         \
    for (uint stride = gl_WorkGroupSize.x >> 1; stride > 0u; stride >>= 1) {                                           \
        if (me < stride)                                                                                               \
            fm_reduce_part[me] = op(fm_reduce_part[me], fm_reduce_part[me + stride]);                                  \
        barrier();                                                                                                     \
    }                                                                                                                  \
    return fm_reduce_part[0];

#define FM_REDUCE_PLUS(a, b) ((a) + (b))
float fm_workgroup_sum(float value) { FM_REDUCE_BODY(FM_REDUCE_PLUS) }
float fm_workgroup_max(float value) { FM_REDUCE_BODY(max) }
#endif

#endif
