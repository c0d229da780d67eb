#version 460
// SPDX-License-Identifier: MIT
// ROPE: rotate the first `rotated` elements of every head by position. x [T,H*C] f32, freq [R,2] u32, pos [T] -> y
// [T,H*C]. One invocation per pair of elements (rotated pairs first, then the untouched rest of each head).
// Specialisation: 0 workgroup size.
// Needs: base. Angles exact to 2^-32 turns, products in f32. Moves 8*H*C bytes a row.
#extension GL_GOOGLE_include_directive : require
#include "abi.h"
#include "io.glsl"
#include "spec.glsl"
#include "rope.glsl"

#define REF_STEP fm_u32s
#define REF_U32 fm_u32s
#define REF_X fm_f32s
#define REF_FREQ fm_u32x2s
#define REF_Y fm_out_f32s

layout(push_constant, scalar) uniform Push { FM_PUSH_ROPE(FM_A, FM_P) } pc;

void main()
{
    uint t = gl_WorkGroupID.y;
    uint pairs = (pc.head + 1) / 2;
    uint i = gl_GlobalInvocationID.x;
    if (t >= pc.step.d[FM_STEP_TOKENS] || i >= pc.heads * pairs)
        return;
    uint m = i % pairs;
    uint at = (t * pc.heads + i / pairs) * pc.head;
    if (m < pc.rotated / 2) {
        uvec2 e = fm_rope_pair(m, pc.rotated, pc.kind);
        vec2 y = fm_rotate(vec2(pc.x.d[at + e.x], pc.x.d[at + e.y]), fm_rope_angle(pc.pos.d[t], pc.freq.d[m]));
        pc.y.d[at + e.x] = y.x;
        pc.y.d[at + e.y] = y.y;
    } else {
        pc.y.d[at + 2 * m] = pc.x.d[at + 2 * m];
        if (2 * m + 1 < pc.head)
            pc.y.d[at + 2 * m + 1] = pc.x.d[at + 2 * m + 1];
    }
}
