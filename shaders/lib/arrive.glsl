// SPDX-License-Identifier: MIT
// Workgroups of one dispatch that make parts of one result, and the last of which puts them together: no second dispatch and no
// barrier of commands between. Each writes its part through a coherent type and arrives; the one that finds all others there sees what
// they wrote. Parts are added in an order of their own, so that timing changes nothing. No workgroup waits for another.
// Counters lie in a pool of their own (FM_POOL_COUNTER): zero at first, and zero again when the last has arrived.
#ifndef FM_ARRIVE_GLSL
#define FM_ARRIVE_GLSL

#include "io.glsl"

layout(buffer_reference, scalar, buffer_reference_align = 4) coherent buffer fm_counters { uint d[]; };
layout(buffer_reference, scalar, buffer_reference_align = 4) coherent buffer fm_parts_f32s { float d[]; };
layout(buffer_reference, scalar, buffer_reference_align = 16) coherent buffer fm_parts_f32x4s { vec4 d[]; };

shared bool fm_arrived_last;

// Is this workgroup the last of `count` that arrive at the counter? All invocations call it, once, after they wrote their part; it
// has barriers before and after.
bool fm_arrive(fm_counters counter, uint at, uint count)
{
    memoryBarrierBuffer();
    barrier();
    if (gl_LocalInvocationIndex == 0u) {
        memoryBarrierBuffer();
        fm_arrived_last = atomicAdd(counter.d[at], 1u) + 1u == count;
        if (fm_arrived_last)
            atomicExchange(counter.d[at], 0u);
        memoryBarrierBuffer();
    }
    barrier();
    memoryBarrierBuffer();
    return fm_arrived_last;
}

#endif
