// SPDX-License-Identifier: MIT
// A result that several workgroups share out: each stores its part, and the last one to arrive adds them all, in the order of the
// parts, whichever it is. So the sums do not depend on timing, and nobody waits.
//   fm_parts_f32x4s     what parts are stored to and read from
//   fm_arrives_last     every invocation calls it after its stores
#ifndef FM_LAST_ARRIVAL_GLSL
#define FM_LAST_ARRIVAL_GLSL

#include "io.glsl"

layout(buffer_reference, scalar, buffer_reference_align = 16) coherent buffer fm_parts_f32x4s { vec4 d[]; };
layout(buffer_reference, scalar, buffer_reference_align = 4) coherent buffer fm_counters { uint d[]; };

// A word of shared memory that nobody needs meanwhile; whoever includes this may have one.
#ifndef FM_ARRIVAL_WORD
shared uint fm_arrival;
#define FM_ARRIVAL_WORD fm_arrival
#endif

// Is this the last of `parts` workgroups that arrive at counter `index`? Then the stores that the others made before they came may
// be read. The counter is at zero before the first and after the last. Uniform over the workgroup, and to be called so.
bool fm_arrives_last(fm_counters counters, uint index, uint parts)
{
    memoryBarrierBuffer();
    barrier();
    if (gl_LocalInvocationIndex == 0u) {
        memoryBarrierBuffer();
        uint before = atomicAdd(counters.d[index], 1u);
        if (before == parts - 1u)
            counters.d[index] = 0u;
        FM_ARRIVAL_WORD = before;
        memoryBarrierBuffer();
    }
    barrier();
    memoryBarrierBuffer();
    return FM_ARRIVAL_WORD == parts - 1u;
}

#endif
