// SPDX-License-Identifier: MIT
// Computes: y = w as f16, saturated to +-65504, for matrix products of so many rows that decoding the weights once per
//     step costs less than decoding them in every tile.
// Shapes: w [n, k] quantised, k a multiple of 32 -> y [n, k] f16.
// Layouts: weights as src/quant/quant.h says.
// One invocation: half a block of 32: units 2i and 2i+1 (lib/quant.glsl), two stores of 16 bytes.
// Spec constants: 0 workgroup size.
// Needs: Vulkan 1.3 only. Rounding: the device's.
// Bytes moved: w once, 2 per element.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "abi.h"
#include "spec.glsl"
#include "half.glsl"
#include "quant.glsl"

#define REF_STEP fm_u32s
#define REF_W fm_u32s
#define REF_Y fm_out_u32x4s

layout(push_constant, scalar) uniform Push { FM_PUSH_DEQUANTIZE(FM_A, FM_P) } pc;

uvec4 pack(vec4 a, vec4 b)
{
    const vec4 most = vec4(65504.0);
    a = mix(clamp(a, -most, most), a, isnan(a)); // clamp() may make a number of a NaN
    b = mix(clamp(b, -most, most), b, isnan(b));
    return uvec4(fm_round_half2(a.xy), fm_round_half2(a.zw), fm_round_half2(b.xy), fm_round_half2(b.zw));
}

void main()
{
    uint index = (gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x) * FM_WORKGROUP + gl_LocalInvocationID.x;
    uint block = index >> 1, i = index & 1u;
    if (block >= pc.n * (pc.k >> 5))
        return;
    fm_planes planes = fm_w_planes(pc.n, pc.k);
    vec4 lo[2], hi[2];
    for (uint t = 0u; t < 2u; t++)
        fm_w_unit(pc.w, planes, block, 2u * i + t, lo[t], hi[t]);
    pc.y.d[4u * block + i] = pack(lo[0], lo[1]);
    pc.y.d[4u * block + 2u + i] = pack(hi[0], hi[1]);
}
