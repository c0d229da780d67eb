#version 460
// SPDX-License-Identifier: MIT
// LINEAR_SCAN: from what parts add to the state to the states in which they begin, in place:
//   z [parts,H*K,P] f32 (of linear_states), decay [H], segments, state [S,B,H*K,P] f32 -> starts [parts,H*K,P]
//   start of the first part of a segment = its state; start of part p + 1 = exp(-rate rows of a part) start of p + z of p
// One invocation: four elements of the state, over the parts of one segment. A segment's last part adds nothing here.
// Specialisation: 0 workgroup size.
// Needs: base. One product and one addition a part, in order. Moves 8 H K P bytes a part.
#extension GL_GOOGLE_include_directive : require
#include "lightning/args.glsl"

void main()
{
    uint elems = pc.heads * pc.key * pc.head, first = (gl_WorkGroupID.x * FM_GROUP + gl_LocalInvocationID.x) * 4;
    uint index = gl_WorkGroupID.y, place = 0;
    if (index >= pc.step.d[FM_STEP_SEGMENTS])
        return;
    for (uint i = 0; i < index; i++)
        place += (pc.segment.d[i][FM_SEGMENT_ROWS] - 1) / pc.part + 1;
    uvec4 s = pc.segment.d[index];
    uint parts = (s[FM_SEGMENT_ROWS] - 1) / pc.part + 1;
    uint from = fm_state_version(s[FM_SEGMENT_SLOT], s[FM_SEGMENT_POS], pc.versions) * elems;
    for (uint e = first; e < min(first + 4, elems); e++) {
        float carry = 0.0;
        if (s[FM_SEGMENT_POS] != 0)
            carry = pc.state.d[from + e];
        vec2 decay = decay_of(pc.decay.d[e / pc.head / pc.key] * float(pc.part));
        for (uint p = place; p < place + parts; p++) {
            float z = 0.0;
            if (p + 1 < place + parts)
                z = pc.z.d[p * elems + e];
            pc.z.d[p * elems + e] = carry;
            carry = fma(decay.x, carry, fma(decay.y, carry, z));
        }
    }
}
