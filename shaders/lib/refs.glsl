// SPDX-License-Identifier: MIT
// What every shader starts with: extensions, the workgroup size, buffer reference types, the push-constant macros. No 64-bit integers:
// addresses are only indexed and compared with zero. An index is at most 2^31 - 1 elements of its type.
#ifndef FM_REFS_GLSL
#define FM_REFS_GLSL

#extension GL_EXT_buffer_reference : require
#extension GL_EXT_buffer_reference_uvec2 : require
#extension GL_EXT_scalar_block_layout : require
#extension GL_EXT_control_flow_attributes : require

#include "abi.h"

// Specialisation constant 0: workgroup size.
layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint GROUP = 64;

layout(buffer_reference, scalar, buffer_reference_align = 4) buffer RefF32 { float v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 16) buffer RefVec4 { vec4 v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 4) buffer RefU32 { uint v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 8) buffer RefUvec2 { uvec2 v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 16) buffer RefUvec4 { uvec4 v[]; };

#define REF_STEP RefU32
#define REF_U32 RefU32

#define FM_A(REF, name) REF name;
#define FM_P(name) uint name;

// Is an optional operand there?
#define FM_PRESENT(ref) (uvec2(ref) != uvec2(0u))

#endif
