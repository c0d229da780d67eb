#version 460
// SPDX-License-Identifier: MIT
// ATTEND_MERGE: put the parts of a split attention together by their log-sum-exp (Flash-Decoding, Dao et al. 2023).
//   partial [T,H,split,C+2] f32 (not normalised sums, max, sum of exponentials) -> y [T,H*C] f32
// A workgroup makes one head of one token. Specialisation: 0 workgroup size. Needs: base. Parts in order, f32.
// Moves 4*split*(C+2) + 4*C bytes a head and token.
#extension GL_GOOGLE_include_directive : require
#include "abi.h"
#include "io.glsl"
#include "spec.glsl"
#include "num.glsl"
#include "attend.glsl"

#define REF_STEP fm_u32s
#define REF_PART fm_f32s
#define REF_Y fm_out_f32s

layout(push_constant, scalar) uniform Push { FM_PUSH_ATTEND_MERGE(FM_A, FM_P) } pc;

void main()
{
    uint h = gl_WorkGroupID.x, t = gl_WorkGroupID.y;
    if (t >= pc.step.d[FM_STEP_TOKENS])
        return;
    uint record = fm_attend_record(t, h, 0, pc.heads, pc.head, pc.split), words = pc.head + 2;
    float top = pc.partial.d[record + pc.head];
    for (uint p = 1; p < pc.split; p++)
        top = max(top, pc.partial.d[record + p * words + pc.head]);
    float sum = 0.0;
    for (uint p = 0; p < pc.split; p++)
        sum += fm_exp(pc.partial.d[record + p * words + pc.head] - top) * pc.partial.d[record + p * words + pc.head + 1];
    for (uint c = gl_LocalInvocationID.x; c < pc.head; c += FM_GROUP) {
        float y = 0.0;
        for (uint p = 0; p < pc.split; p++)
            y = fma(fm_exp(pc.partial.d[record + p * words + pc.head] - top), pc.partial.d[record + p * words + c], y);
        pc.y.d[(t * pc.heads + h) * pc.head + c] = y / sum;
    }
}
