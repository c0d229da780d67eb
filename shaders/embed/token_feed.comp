#version 460
// SPDX-License-Identifier: MIT
// TOKEN_FEED: the ids that this step embeds, and the history that the sampler's repetition penalty looks back on.
//   token, pos, slot [T] u32; history [S,L] u32, last [S] u32 -> ids [T]; history[slot,pos] = id
// One invocation a token. An id above FM_TOKEN_LAST - 1 means "what was sampled last for the slot".
// Specialisation: 0 workgroup size. Needs: base.
#extension GL_GOOGLE_include_directive : require
#include "abi.h"
#include "io.glsl"
#include "spec.glsl"


#define REF_STEP fm_u32s
#define REF_U32 fm_out_u32s
layout(push_constant, scalar) uniform Push { FM_PUSH_TOKEN_FEED(FM_A, FM_P) } pc;

void main()
{
    uint t = gl_GlobalInvocationID.x;
    if (t >= pc.step.d[FM_STEP_TOKENS])
        return;
    uint slot = pc.slot.d[t];
    uint id = pc.token.d[t];
    if (id == FM_TOKEN_LAST)
        id = pc.last.d[slot];
    pc.ids.d[t] = id;
    pc.history.d[slot * pc.ctx + pc.pos.d[t]] = id;
}
