#version 460
// SPDX-License-Identifier: MIT
// ROPE: rotate the first `rotated` elements of every head by position. x [T,H*C] f32, freq [R,2] u32, pos, length [T] -> y
// [T,H*C], or [T,copies*H*C]: each copy by a position of its own (dual chunk attention, lib/rope.glsl).
// One invocation per pair of elements (rotated pairs first, then the untouched rest of each head), all its copies.
// Specialisation: 0 workgroup size.
// Needs: base. Angles exact to 2^-32 turns, products in f32. Moves 4*(1+copies)*H*C bytes a row.
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
    uint m = i % pairs, width = pc.heads * pc.head;
    uint from = t * width + i / pairs * pc.head, to = t * pc.copies * width + i / pairs * pc.head;
    bool turns = m < pc.rotated / 2;
    uvec2 e = turns ? fm_rope_pair(m, pc.rotated, pc.kind) : uvec2(2 * m, 2 * m + 1);
    vec2 x = vec2(pc.x.d[from + e.x], e.y < pc.head ? pc.x.d[from + e.y] : 0.0);
    if (pc.original != 0)
        x *= fm_rope_factor(pc.lengths.d[t], pc.original);
    for (uint copy = 0; copy < pc.copies; copy++, to += width) {
        uint pos = fm_rope_position(pc.pos.d[t], pc.chunk, pc.cap, copy);
        vec2 y = turns ? fm_rotate(x, fm_rope_angle(pos, pc.freq.d[m])) : x;
        pc.y.d[to + e.x] = y.x;
        if (e.y < pc.head)
            pc.y.d[to + e.y] = y.y;
    }
}
