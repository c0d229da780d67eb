#version 460
// SPDX-License-Identifier: MIT
// SSD_CAST: b and c of every row as f16, for matrix units: all heads read them again.
//   xbc [T,W] f32 -> bc [T,columns] f16, the last columns of each row, saturated to +-65504
// One workgroup: 4 elements an invocation, over rows of workgroups. Spec constants: 0 workgroup size. Needs: base only.
// W and columns are multiples of 4. Rounds to nearest even. Moves 6 bytes an element.
#extension GL_GOOGLE_include_directive : require
#include "abi.h"
#include "io.glsl"
#include "spec.glsl"
#include "half.glsl"

layout(buffer_reference, scalar, buffer_reference_align = 8) writeonly buffer fm_out_u32x2s { uvec2 d[]; };

#define REF_STEP fm_u32s
#define REF_X fm_f32x4s
#define REF_BC fm_out_u32x2s

layout(push_constant, scalar) uniform Push { FM_PUSH_SSD_CAST(FM_A, FM_P) } pc;

void main()
{
    uint quads = pc.columns >> 2;
    uint i = (gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x) * FM_GROUP + gl_LocalInvocationID.x;
    uint row = i / quads;
    if (row >= pc.step.d[FM_STEP_TOKENS])
        return;
    vec4 x = pc.xbc.d[(row + 1u) * (pc.width >> 2) - quads + i % quads];
    x = mix(clamp(x, vec4(-65504.0), vec4(65504.0)), x, isnan(x)); // clamp() may make a number of a NaN
    pc.bc.d[i] = uvec2(fm_pack_half2(x.x, x.y), fm_pack_half2(x.z, x.w));
}
