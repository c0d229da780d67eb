#version 460
// SPDX-License-Identifier: MIT
// SCAN_CARRY: finds the state in which each part begins, for a selective scan in parts. The first part of a segment begins with the state
// of its sequence. If a part begins with s, the next one begins with exp(a * steps of the part) s + ends of the part, where `ends` is the
// state in which the part ends if it begins with zero, and `steps` is its sum of v = softplus(dt + dt_bias).
//   a [E,N], steps [parts,E], state [S,B,E,N], ends [parts,N/4,E,4] -> starts, in place of ends; all f32
// One invocation: four states of one channel of one segment, through its parts in order. It loads AHEAD parts at a time.
// Specialisation: 0 workgroup size, 2 N. Needs: base. f32, parts in order. Moves 4*E*(2*N + 1) bytes a part.
// Limits: N a multiple of 4.
#extension GL_GOOGLE_include_directive : require
#include "abi.h"
#include "io.glsl"
#include "spec.glsl"
#include "scan.glsl"
#include "segment.glsl"

#define REF_STEP fm_u32s
#define REF_SEGMENT fm_u32x4s
#define REF_X fm_f32s
#define REF_ROWS fm_f32x4s
#define REF_STATE fm_out_f32x4s

layout(constant_id = 2) const uint N = 16;

const uint QUADS = N / 4;
#define AHEAD 16

layout(push_constant, scalar) uniform Push { FM_PUSH_SCAN_CARRY(FM_A, FM_P) } pc;

void main()
{
    uint e = gl_GlobalInvocationID.x, q = gl_WorkGroupID.y, index = gl_WorkGroupID.z;
    if (e >= pc.channels || index >= pc.step.d[FM_STEP_SEGMENTS])
        return;
    uint number = 0; // of the segment's first part
    for (uint i = 0; i < index; i++)
        number += (pc.segment.d[i][FM_SEGMENT_ROWS] + pc.part - 1) / pc.part;
    uvec4 segment = pc.segment.d[index];
    uint parts = (segment[FM_SEGMENT_ROWS] + pc.part - 1) / pc.part;
    vec4 a = FM_LOG2_E * pc.a.d[e * QUADS + q], s = vec4(0.0);
    if (segment[FM_SEGMENT_POS] != 0)
        s = pc.state.d[(fm_state_version(segment[FM_SEGMENT_SLOT], segment[FM_SEGMENT_POS], pc.versions) * pc.channels + e) * QUADS + q];
    for (uint p = 0; p < parts; p += AHEAD) {
        vec4 end[AHEAD];
        float steps[AHEAD];
        [[unroll]] for (uint i = 0; i < AHEAD; i++) {
            if (p + i + 1 < parts) {
                end[i] = pc.ends.d[((number + p + i) * QUADS + q) * pc.channels + e];
                steps[i] = pc.steps.d[(number + p + i) * pc.channels + e];
            }
        }
        [[unroll]] for (uint i = 0; i < AHEAD; i++) {
            if (p + i < parts)
                pc.ends.d[((number + p + i) * QUADS + q) * pc.channels + e] = s;
            if (p + i + 1 < parts)
                s = fma(exp2(steps[i] * a), s, end[i]);
        }
    }
}
