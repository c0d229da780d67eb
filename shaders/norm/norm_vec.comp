// SPDX-License-Identifier: MIT
// NORM and ADD_NORM of rows that one workgroup holds in registers: the same function as norm.comp in one read of the
// row, with every load issued before the first sum, for decoding, where a row's latency counts and nothing else.
//   x (, x2) [T,D] f32, w [D] f32, optional bias [D] f32 -> (sum [T,D] f32,) y [T,D] f32 or f16
// One workgroup makes one row; an invocation holds QUADS quads of 4 neighbours, FM_WORKGROUP quads apart.
// Spec constants: 0 workgroup size, 2 QUADS; D <= 4 * QUADS * workgroup size, a multiple of 4.
// Needs: subgroup arithmetic, full subgroups.
// Accumulation: f32; an invocation's own elements in order, subgroupAdd, then subgroups by subgroupAdd. The variance is
// taken about the mean. Bytes moved: 4*D*(2 or 4) a row and 4*D or 8*D of parameters.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "abi.h"
#include "io.glsl"
#include "spec.glsl"
#include "result.glsl"

#define FM_REDUCE_MAX_WORKGROUP 1024
#define FM_REDUCE_SUBGROUP
#include "reduce.glsl"

layout(constant_id = 2) const uint QUADS = 1;

#define REF_STEP fm_u32s
#define REF_X fm_f32x4s
#define REF_V fm_f32x4s
#define REF_Y fm_out_f32x4s

#define FM_NORM_RMS 0u

layout(push_constant, scalar) uniform Push
{
#ifdef FM_OP_ADD_NORM
    FM_PUSH_ADD_NORM(FM_A, FM_P)
#else
    FM_PUSH_NORM(FM_A, FM_P)
#endif
} pc;

void main()
{
    uint row = gl_WorkGroupID.x, tid = gl_LocalInvocationID.x;
    uint quads = pc.width >> 2, at = row * quads;
    if (FM_ROW_ABSENT(row, pc.rows_word, pc.step.d[pc.rows_word]))
        return;
    vec4 x[QUADS], w[QUADS], b[QUADS];
    bool has_bias = FM_PRESENT(pc.bias);
    [[unroll]] for (uint i = 0u; i < QUADS; i++) {
        uint q = i * FM_WORKGROUP + tid;
        bool inside = q < quads;
        x[i] = inside ? pc.x.d[at + q] : vec4(0.0);
#ifdef FM_OP_ADD_NORM
        x[i] += inside ? pc.x2.d[at + q] : vec4(0.0);
#endif
        w[i] = inside ? pc.w.d[q] : vec4(0.0);
        b[i] = inside && has_bias ? pc.bias.d[q] : vec4(0.0);
    }
    float sum = 0.0;
    float mean = 0.0;
    if (pc.kind != FM_NORM_RMS) {
        [[unroll]] for (uint i = 0u; i < QUADS; i++)
            sum += x[i].x + x[i].y + x[i].z + x[i].w;
        mean = fm_workgroup_sum(sum) / float(pc.width);
        sum = 0.0;
    }
    [[unroll]] for (uint i = 0u; i < QUADS; i++) {
        vec4 d = i * FM_WORKGROUP + tid < quads ? x[i] - mean : vec4(0.0);
        sum += dot(d, d);
    }
    float scale = 1.0 / sqrt(fm_workgroup_sum(sum) / float(pc.width) + uintBitsToFloat(pc.eps_bits));
    [[unroll]] for (uint i = 0u; i < QUADS; i++) {
        uint q = i * FM_WORKGROUP + tid;
        if (q < quads) {
#ifdef FM_OP_ADD_NORM
            pc.sum.d[at + q] = x[i];
#endif
            fm_store_quad(pc.y, at + q, fma((x[i] - mean) * scale, w[i], b[i]));
        }
    }
}
