#version 460
// SPDX-License-Identifier: MIT
// ATTEND_MERGE: put the parts of a split attention together by their log-sum-exp (Flash-Decoding, Dao et al. 2023).
//   partial [T,H,split,C+2] f32 (not normalised sums, max, sum of exponentials) -> y [T,H*C] f32
// A workgroup makes one head of one token: first all maxima and sums at once, then the sums of the parts that are not
// empty (those
//     come first: fm_attend_range). The sums of an empty part are never read.
// Spec constants: 0 workgroup size. Needs: base. Parts in order, f32.
// Moves 4*parts*(C+2) + 4*C bytes a head and token. Limits: split at most 64.
#extension GL_GOOGLE_include_directive : require
#include "abi.h"
#include "io.glsl"
#include "spec.glsl"
#include "attend.glsl"

#define REF_STEP fm_u32s
#define REF_PART fm_f32s
#define REF_Y fm_out_f32s

layout(push_constant, scalar) uniform Push { FM_PUSH_ATTEND_MERGE(FM_A, FM_P) } pc;

#define MAX_SPLIT 64

shared float part_top[MAX_SPLIT];
shared float part_sum[MAX_SPLIT];

void main()
{
    uint h = gl_WorkGroupID.x, t = gl_WorkGroupID.y, tid = gl_LocalInvocationID.x;
    if (FM_ROW_ABSENT(t, FM_STEP_TOKENS, pc.step.d[FM_STEP_TOKENS]))
        return;
    uint record = fm_attend_record(t, h, 0, pc.heads, pc.head, pc.split), words = pc.head + 2;
    for (uint p = tid; p < pc.split; p += FM_GROUP) {
        part_top[p] = pc.partial.d[record + p * words + pc.head];
        part_sum[p] = pc.partial.d[record + p * words + pc.head + 1];
    }
    barrier();
    float top = part_top[0], total = 0.0;
    uint parts = 1;
    while (parts < pc.split && part_sum[parts] > 0.0)
        top = max(top, part_top[parts++]);
    for (uint p = 0; p < parts; p++)
        total = fma(exp(part_top[p] - top), part_sum[p], total);
    for (uint c = tid; c < pc.head; c += FM_GROUP) {
        float y = 0.0;
        for (uint p = 0; p < parts; p++)
            y = fma(exp(part_top[p] - top), pc.partial.d[record + p * words + c], y);
        pc.y.d[(t * pc.heads + h) * pc.head + c] = y / total;
    }
}
