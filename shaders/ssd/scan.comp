#version 460
// SPDX-License-Identifier: MIT
// SSD_SCAN: finds the state in which each part of a segment begins, from what the part before it adds to the state. In place.
//   state [S,B,H*P,N], sums [parts,H], z [parts,H*P,N] f32 -> z
//   The first part begins with the state of the sequence, or with zero at position 0. If a part begins with s, the next one
//   begins with exp(sums of the part) s + z of the part.
// One invocation: 4 neighbouring elements of one segment's state, through its parts in order.
// Spec constants: 0 workgroup size. Needs: base only. P*N is a multiple of 4.
// Accumulation: f32, one chain over the parts. Moves 8 bytes an element and part, and the state once.
#extension GL_GOOGLE_include_directive : require
#include "abi.h"
#include "io.glsl"
#include "spec.glsl"
#include "num.glsl"
#include "segment.glsl"

#define REF_STEP fm_u32s
#define REF_SEGMENT fm_u32x4s
#define REF_V fm_f32s
#define REF_STATE fm_out_f32x4s

layout(push_constant, scalar) uniform Push { FM_PUSH_SSD_SCAN(FM_A, FM_P) } pc;

void main()
{
    uint quads = pc.heads * pc.elems >> 2, i = gl_WorkGroupID.x * FM_WORKGROUP + gl_LocalInvocationID.x;
    if (i >= quads || gl_WorkGroupID.y >= pc.step.d[FM_STEP_SEGMENTS])
        return;
    uint h = i / (pc.elems >> 2), first = 0u;
    for (uint g = 0u; g < gl_WorkGroupID.y; g++)
        first += (pc.segment.d[g][FM_SEGMENT_ROWS] - 1u) / pc.part + 1u;
    uvec4 segment = pc.segment.d[gl_WorkGroupID.y];
    uint parts = (segment[FM_SEGMENT_ROWS] - 1u) / pc.part + 1u, pos = segment[FM_SEGMENT_POS];
    vec4 s = vec4(0.0);
    if (pos != 0u)
        s = pc.state.d[fm_state_version(segment[FM_SEGMENT_SLOT], pos, pc.versions) * quads + i];
    for (uint n = first; n < first + parts; n++) {
        bool last = n + 1u == first + parts; // what the last part adds is not needed
        vec4 add = last ? vec4(0.0) : pc.z.d[n * quads + i];
        pc.z.d[n * quads + i] = s;
        if (!last)
            s = fma(s, vec4(fm_exp(pc.sums.d[n * pc.heads + h])), add);
    }
}
