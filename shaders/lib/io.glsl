// SPDX-License-Identifier: MIT
// Device addresses: the buffer types that kernels read and write through, and the macros that turn a layout of abi.h
// into a push-constant block. No 64-bit integers: addresses are only indexed, cast from type to type and compared with
// zero.
//
//     #define REF_STEP fm_u32s
//     ...
//     layout(push_constant, scalar) uniform Push { FM_PUSH_ADD(FM_A, FM_P) } pc;
//
// An index is at most 2^31 - 1 elements of its type. Types with "out" are written; a buffer read through a read-only
// type must not be written by the same dispatch.
#ifndef FM_IO_GLSL
#define FM_IO_GLSL

#extension GL_EXT_buffer_reference : require
#extension GL_EXT_buffer_reference_uvec2 : require
#extension GL_EXT_scalar_block_layout : require
#extension GL_EXT_control_flow_attributes : require

layout(buffer_reference, scalar, buffer_reference_align = 4) readonly buffer fm_u32s { uint d[]; };
layout(buffer_reference, scalar, buffer_reference_align = 8) readonly buffer fm_u32x2s { uvec2 d[]; };
layout(buffer_reference, scalar, buffer_reference_align = 16) readonly buffer fm_u32x4s { uvec4 d[]; };
layout(buffer_reference, scalar, buffer_reference_align = 4) readonly buffer fm_f32s { float d[]; };
layout(buffer_reference, scalar, buffer_reference_align = 16) readonly buffer fm_f32x4s { vec4 d[]; };
layout(buffer_reference, scalar, buffer_reference_align = 4) buffer fm_out_u32s { uint d[]; };
layout(buffer_reference, scalar, buffer_reference_align = 16) buffer fm_out_u32x4s { uvec4 d[]; };
layout(buffer_reference, scalar, buffer_reference_align = 4) buffer fm_out_f32s { float d[]; };
layout(buffer_reference, scalar, buffer_reference_align = 16) buffer fm_out_f32x4s { vec4 d[]; };

// 16-bit stores, for kernels that need `storage16` (the build checks it).
#ifdef FM_RUNG_F16
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_EXT_shader_16bit_storage : require
layout(buffer_reference, scalar, buffer_reference_align = 2) buffer fm_out_f16s { float16_t d[]; };
layout(buffer_reference, scalar, buffer_reference_align = 8) buffer fm_out_f16x4s { f16vec4 d[]; };
#endif

#define FM_A(type, name) type name;
#define FM_P(name) uint name;

// The same address as another type. Through words, because SwiftShader dies of a direct cast between reference types.
#define FM_CAST(type, ref) type(uvec2(ref))

// condition ? a : b for references of one type, in words for the same reason.
#define FM_SELECT(type, condition, a, b) type(mix(uvec2(b), uvec2(a), bvec2(condition)))

// Is an optional operand there?
#define FM_PRESENT(ref) (uvec2(ref) != uvec2(0u))

#endif
