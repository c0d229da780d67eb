#version 460
// SPDX-License-Identifier: MIT
// LINEAR_SCAN: from what parts add to the state to the states in which they begin, in place:
//   z [parts,H*K,P] f32 (of linear_states), decay [H], segments, state [S,B,H*K,P] f32 -> starts [parts,H*K,P]
//   start of the first part of a segment = its state
//   start of part p + 1 = exp(-rate rows of a part) start of p + z of p
// One invocation: WIDE elements of the state, a workgroup apart, over the parts of one segment. A segment's last part
//     adds nothing here. Parts are read DEEP at a time: in place, a part's read otherwise waits behind the last write.
// Specialisation: 0 workgroup size.
// Needs: base. One product and one addition a part, in order. Moves 8 H K P bytes a part.
#extension GL_GOOGLE_include_directive : require
#include "lightning/args.glsl"

const uint WIDE = 4, DEEP = 4;

void main()
{
    uint elems = pc.heads * pc.key * pc.head, first = gl_WorkGroupID.x * FM_WORKGROUP * WIDE + gl_LocalInvocationID.x;
    uint index = gl_WorkGroupID.y, place = 0;
    if (index >= pc.step.d[FM_STEP_SEGMENTS])
        return;
    for (uint i = 0; i < index; i++)
        place += (pc.segment.d[i][FM_SEGMENT_ROWS] - 1) / pc.part + 1;
    uvec4 s = pc.segment.d[index];
    uint end = place + (s[FM_SEGMENT_ROWS] - 1) / pc.part + 1;
    uint from = fm_state_version(s[FM_SEGMENT_SLOT], s[FM_SEGMENT_POS], pc.versions) * elems;
    float carry[WIDE];
    vec2 decay[WIDE];
    [[unroll]] for (uint i = 0; i < WIDE; i++) {
        uint e = first + i * FM_WORKGROUP;
        carry[i] = e < elems && s[FM_SEGMENT_POS] != 0 ? pc.state.d[from + e] : 0.0;
        decay[i] = decay_of(pc.decay.d[min(e, elems - 1) / pc.head / pc.key] * float(pc.part));
    }
    for (; place < end; place += DEEP) {
        float z[DEEP][WIDE];
        [[unroll]] for (uint p = 0; p < DEEP; p++)
            [[unroll]] for (uint i = 0; i < WIDE; i++) {
                uint e = first + i * FM_WORKGROUP;
                z[p][i] = e < elems && place + p + 1 < end ? pc.z.d[(place + p) * elems + e] : 0.0;
            }
        [[unroll]] for (uint p = 0; p < DEEP; p++)
            [[unroll]] for (uint i = 0; i < WIDE; i++) {
                uint e = first + i * FM_WORKGROUP;
                if (e < elems && place + p < end)
                    pc.z.d[(place + p) * elems + e] = carry[i];
                carry[i] = fma(decay[i].x, carry[i], fma(decay[i].y, carry[i], z[p][i]));
            }
    }
}
