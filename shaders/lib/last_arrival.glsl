// SPDX-License-Identifier: MIT
// A result that several workgroups share out: each stores its part, and the last one to arrive adds them all, in the order of the
// parts, whichever it is. So the sums do not depend on timing, and nobody waits.
//   fm_parts_f32x4s     what parts are stored to and read from
//   fm_arrives_last     every invocation calls it after its stores
// Needs memory_model.
#ifndef FM_LAST_ARRIVAL_GLSL
#define FM_LAST_ARRIVAL_GLSL

#extension GL_KHR_memory_scope_semantics : require
#include "io.glsl"

// Not `coherent`: an H200 then waits for each load before the next, 3.5 us for 16 KB. One barrier makes all of them visible.
layout(buffer_reference, scalar, buffer_reference_align = 16) nonprivate buffer fm_parts_f32x4s { vec4 d[]; };
layout(buffer_reference, scalar, buffer_reference_align = 4) nonprivate buffer fm_counters { uint d[]; };

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
    bool last = FM_ARRIVAL_WORD == parts - 1u;
    memoryBarrierBuffer();
    barrier(); // the word may be used again
    return last;
}

#endif
