#version 460
// SPDX-License-Identifier: MIT
// LINEAR_SCAN: finds the state in which each part begins, from what the part before it adds to the state. In place:
//   z [parts,H*K,P] f32 (of linear_states), decay [H], segments, state [S,B,H*K,P] f32 -> starts [parts,H*K,P]
//   The first part of a segment begins with the state of its sequence. If a part begins with s, the next one begins with
//   exp(-rate * rows of a part) s + z of the part. A segment's last part has no z: nothing follows it.
// One invocation: WIDE elements of the state, a workgroup's size apart, through the parts of one segment. It loads DEEP parts at a
//     time: because the result overwrites z, a single load would wait for the store before it.
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
