// SPDX-License-Identifier: MIT
// Computes: y[t] = scale * w[ids[t]]; a row of zeros for an id that is no row of w.
// Shapes: ids [rows] u32, w [n_vocab, width] of any weight format, y [rows, width] f32.
// Layouts: weights as src/quant/quant.h says.
// One workgroup: 8 columns per invocation of one row (tile columns = 8 * workgroup size): 8 neighbouring elements of
//     plain formats (on rung f16 in one load, width a multiple of 8), one unit (two runs of 4 elements of a block of 32)
//     of quantised ones.
// Spec constants: 0 workgroup size.
// Needs: Vulkan 1.3 only; rung f16: float16.
// Accumulation: none; decoding rounds at most twice, the scale once.
// Bytes moved: one row of w and of y per token.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "abi.h"
#include "io.glsl"
#include "spec.glsl"
#include "quant.glsl"

#define REF_STEP fm_u32s
#define REF_U32 fm_u32s
#define REF_W fm_u32s
#define REF_Y fm_out_f32s
layout(push_constant, scalar) uniform Push { FM_PUSH_EMBED(FM_A, FM_P) } pc;

void store(uint at, vec4 v)
{
    v *= uintBitsToFloat(pc.scale_bits);
    for (uint i = 0u; i < 4u; i++)
        pc.y.d[at + i] = v[i];
}

void main()
{
    uint row = gl_WorkGroupID.y;
    if (row >= pc.step.d[FM_STEP_TOKENS])
        return;
    uint id = pc.ids.d[row];
    bool known = id < pc.n_vocab;
    uint piece = gl_WorkGroupID.x * FM_WORKGROUP + gl_LocalInvocationID.x;
    uint y0 = row * pc.width;

#if defined(FM_RUNG_F16)
    if (8u * piece >= pc.width)
        return;
    uvec4 raw = known ? FM_CAST(fm_u32x4s, pc.w).d[(id * pc.width >> 3) + piece] : uvec4(0u);
    float scale = uintBitsToFloat(pc.scale_bits);
    uint quad = (y0 >> 2) + 2u * piece;
    FM_CAST(fm_out_f32x4s, pc.y).d[quad] = scale * vec4(fm_w_pair(raw.x), fm_w_pair(raw.y));
    FM_CAST(fm_out_f32x4s, pc.y).d[quad + 1u] = scale * vec4(fm_w_pair(raw.z), fm_w_pair(raw.w));
#elif defined(FM_W_PLAIN)
    for (uint i = 8u * piece; i < min(8u * piece + 8u, pc.width); i++)
        pc.y.d[y0 + i] = known ? uintBitsToFloat(pc.scale_bits) * fm_w_element(pc.w, id * pc.width + i) : 0.0;
#else
    if (8u * piece >= pc.width)
        return;
    uint block = piece >> 2, t = piece & 3u;
    vec4 lo = vec4(0.0), hi = vec4(0.0);
    if (known)
        fm_w_unit(pc.w, fm_w_planes(pc.n_vocab, pc.width), id * (pc.width >> 5) + block, t, lo, hi);
    store(y0 + 32u * block + 4u * t, lo);
    store(y0 + 32u * block + 16u + 4u * t, hi);
#endif
}
