#version 460
// SPDX-License-Identifier: MIT
// LRPE: Qin et al. 2024, section 3.1, without the decay that linear attention has: x [T,H*P], freq [Hf*P,2] u32, pos [T] ->
// y [T,H*2P] f32, on rung f16 f32 or f16: per head act(x) cos(pos freq), then act(x) sin(pos freq). Head h uses the frequencies of h % Hf.
// One invocation per element of x. Specialisation: 0 workgroup size.
// Needs: base; rung f16 float16, storage16. Angles exact to 2^-32 turns, one product. Moves 12*H*P bytes a row.
#extension GL_GOOGLE_include_directive : require
#include "abi.h"
#include "io.glsl"
#include "spec.glsl"
#include "rope.glsl"
#include "element.glsl"

#define REF_STEP fm_u32s
#define REF_U32 fm_u32s
#define REF_X fm_f32s
#define REF_FREQ fm_u32x2s
#define REF_Y fm_out_f32s

layout(push_constant, scalar) uniform Push { FM_PUSH_LRPE(FM_A, FM_P) } pc;

void main()
{
    uint t = gl_WorkGroupID.y, i = gl_GlobalInvocationID.x;
    if (t >= pc.step.d[FM_STEP_TOKENS] || i >= pc.heads * pc.head)
        return;
    uint h = i / pc.head, m = i % pc.head;
    vec2 angle = fm_rope_angle(pc.pos.d[t], pc.freq.d[h % pc.freq_heads * pc.head + m]);
    float x = fm_act(pc.act, pc.x.d[t * pc.heads * pc.head + i]);
    uint at = (t * pc.heads + h) * 2 * pc.head + m;
    FM_PUT_Y(at, x * angle.x);
    FM_PUT_Y(at + pc.head, x * angle.y);
}
