// SPDX-License-Identifier: MIT
// Results in f32, or in f16 where all of their readers want that: for kernels with y = "f16" (kernels.toml). The planner decides
// (src/plan/narrow.c). Kernels that store single elements define FM_RESULT_ELEMENTS and need storage16. f16 is what the op `cast` makes of
// a result: saturated to +-65504, NaN stays, rounded to nearest even, on rungs from f16 on as the device does.
#ifndef FM_RESULT_GLSL
#define FM_RESULT_GLSL

#if FM_RUNG >= 2
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#endif
#include "abi.h"
#include "half.glsl"

layout(constant_id = FM_SPEC_HALVES) const bool FM_HALVES = false;

layout(buffer_reference, scalar, buffer_reference_align = 8) buffer fm_out_u32x2s { uvec2 d[]; };

// clamp() may make a number of a NaN.
vec4 fm_saturated(vec4 v)
{
    bvec4 nan = greaterThan(floatBitsToUint(v) & 0x7fffffffu, uvec4(0x7f800000u));
    return mix(clamp(v, vec4(-65504.0), vec4(65504.0)), v, nan);
}

float fm_saturated(float v)
{
    return fm_saturated(vec4(v)).x;
}

uvec2 fm_narrow(vec4 v)
{
    vec4 s = fm_saturated(v);
#if FM_RUNG >= 2
    f16vec4 h = f16vec4(s);
    return uvec2(packFloat2x16(h.xy), packFloat2x16(h.zw));
#else
    return uvec2(fm_pack_half2(s.x, s.y), fm_pack_half2(s.z, s.w));
#endif
}

#ifdef FM_RESULT_ELEMENTS
#extension GL_EXT_shader_16bit_storage : require
layout(buffer_reference, scalar, buffer_reference_align = 2) buffer fm_result_f16s { float16_t d[]; };

// Element i of a result y.
void fm_store_half(fm_out_f32s y, uint i, float v)
{
    FM_CAST(fm_result_f16s, y).d[i] = float16_t(fm_saturated(v));
}

void fm_store_one(fm_out_f32s y, uint i, float v)
{
    if (FM_HALVES)
        fm_store_half(y, i, v);
    else
        y.d[i] = v;
}
#endif

// Elements 4 i to 4 i + 3 of a result y.
void fm_store_quad(fm_out_f32x4s y, uint i, vec4 v)
{
    if (FM_HALVES)
        FM_CAST(fm_out_u32x2s, y).d[i] = fm_narrow(v);
    else
        y.d[i] = v;
}

#endif
