#version 460
// SPDX-License-Identifier: MIT
// SSD (Mamba-2, Dao and Gu 2024), row by row: softplus, decay, update and reading of the state in one kernel. For decoding, and for
// prompts where there are no matrix units.
//   xbc [T,Gx*P + Gb*N + Gc*N], dt [T,H], a, d, dt_bias [H], seg [S,4], state [S,B,H*P,N] -> y [T,H*P], state'
//   All f32; on rung f16, y of SSD_GATE is f32 or f16.
//   s = exp(v a) s + v x b^T, y = s c + d x, v = softplus(dt + dt_bias); SSD_GATE: y = (s c + d x) silu(z), z [T,H*P]
// One workgroup: WORKGROUP / LANES rows p of the state [P,N] of one head, and all rows of one segment. LANES neighbouring invocations
//     hold one row p in registers, in units of UNIT elements; lane l has the units l, l + LANES, ... While a row of the step is
//     computed, the next row's operands are loaded. Loops over units must be unrolled: old versions of lavapipe count the
//     iterations of all loops of a shader together, and end every loop after 65535. For the same reason: at most 32768 rows.
// Spec constants: 0 workgroup size, 2 N, 3 LANES (base: 1; a power of two, within a subgroup, 16 at most).
// Defines: QUADS: units are 4 elements, and N is a multiple of 4. Without it a unit is one element.
// Needs: on base nothing; on sg subgroup shuffle; on f16 the same, float16 and storage16.
// Accumulation: f32; the state in one chain over the rows, y over a lane's units, then a tree over the lanes.
// Bytes moved: the state read once and written `kept` times; b and c once per workgroup, x, dt, z and y once.
#extension GL_GOOGLE_include_directive : require
#if FM_RUNG >= 1
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#endif
#include "abi.h"
#include "io.glsl"
#include "spec.glsl"
#include "num.glsl"
#include "segment.glsl"
#include "element.glsl"

layout(constant_id = 2) const uint STATE = 128;
layout(constant_id = 3) const uint LANES = 1;

#define REF_STEP fm_u32s
#define REF_SEGMENT fm_u32x4s
#define REF_X fm_f32s
#define REF_V fm_f32s
#define REF_STATE fm_out_f32s
#define REF_Y fm_out_f32s

#ifdef FM_OP_SSD_GATE
layout(push_constant, scalar) uniform Push { FM_PUSH_SSD_GATE(FM_A, FM_P) } pc;
#else
layout(push_constant, scalar) uniform Push { FM_PUSH_SSD(FM_A, FM_P) } pc;
#endif

#ifdef QUADS
#define UNIT_TYPE vec4
#define UNIT 4u
#define INPUT(at) FM_CAST(fm_f32x4s, pc.xbc).d[(at) / 4u]
#define HELD(at) FM_CAST(fm_out_f32x4s, pc.state).d[(at) / 4u]
#else
#define UNIT_TYPE float
#define UNIT 1u
#define INPUT(at) pc.xbc.d[at]
#define HELD(at) pc.state.d[at]
#endif
const uint UNITS = STATE / UNIT;
const uint OWN = (UNITS + LANES - 1u) / LANES;

uint at_x, at_b, at_c, stride, at_y, h, lane; // at_*: this invocation's first element in a row of xbc, and of y; stride: of a row of xbc

// The operands of the next row of the step. b and c of units beyond N are zero.
float next_x, next_dt, next_z;
UNIT_TYPE next_b[OWN], next_c[OWN];

void load_row(uint row)
{
    next_x = pc.xbc.d[row * stride + at_x];
    next_dt = pc.dt.d[row * pc.heads + h];
#ifdef FM_OP_SSD_GATE
    next_z = pc.z.d[row * pc.heads * pc.head + at_y];
#endif
    [[unroll]] for (uint i = 0u; i < OWN; i++) {
        uint unit = i * LANES + lane;
        bool there = unit < UNITS;
        next_b[i] = there ? INPUT(row * stride + at_b + unit * UNIT) : UNIT_TYPE(0.0);
        next_c[i] = there ? INPUT(row * stride + at_c + unit * UNIT) : UNIT_TYPE(0.0);
    }
}

float across_lanes(float sum)
{
#if FM_RUNG >= 1
    [[unroll]] for (uint i = 0u; i < 4u; i++)
        if (1u << i < LANES)
            sum += subgroupShuffleXor(sum, 1u << i);
#endif
    return sum;
}

void main()
{
    uint rows_p = FM_WORKGROUP / LANES, tiles = (pc.head + rows_p - 1u) / rows_p;
    h = gl_WorkGroupID.x / tiles;
    lane = gl_LocalInvocationID.x % LANES;
    uint p = gl_WorkGroupID.x % tiles * rows_p + gl_LocalInvocationID.x / LANES;
    bool inside = p < pc.head;
    p = min(p, pc.head - 1u);
    fm_part part;
    if (!fm_part_find(pc.step, pc.segment, gl_WorkGroupID.y, 0xffffffffu, part))
        return;
    stride = pc.heads_x * pc.head + (pc.groups_b + pc.groups_c) * STATE;
    at_x = h / (pc.heads / pc.heads_x) * pc.head + p;
    at_b = pc.heads_x * pc.head + h / (pc.heads / pc.groups_b) * STATE;
    at_c = pc.heads_x * pc.head + (pc.groups_b + h / (pc.heads / pc.groups_c)) * STATE;
    at_y = h * pc.head + p;
    float a = pc.a.d[h], d = pc.skip.d[h], bias = pc.dt_bias.d[h];

    uint version_elems = pc.heads * pc.head * STATE, held_row = at_y * STATE;
    uint from = fm_state_version(part.slot, part.pos, pc.versions) * version_elems + held_row;
    UNIT_TYPE s[OWN];
    [[unroll]] for (uint i = 0u; i < OWN; i++) {
        uint unit = i * LANES + lane;
        s[i] = part.pos != 0u && unit < UNITS ? HELD(from + unit * UNIT) : UNIT_TYPE(0.0);
    }
    load_row(part.row);
    for (uint t = 0u; t < part.rows; t++) {
        float x = next_x, v = fm_softplus(next_dt + bias), decay = fm_exp(v * a), sum = 0.0;
        UNIT_TYPE c[OWN];
#ifdef FM_OP_SSD_GATE
        float gate = fm_silu(next_z);
#else
        const float gate = 1.0;
#endif
        [[unroll]] for (uint i = 0u; i < OWN; i++) {
            s[i] = fma(s[i], UNIT_TYPE(decay), v * x * next_b[i]);
            c[i] = next_c[i];
        }
        if (t + 1u < part.rows)
            load_row(part.row + t + 1u);
        [[unroll]] for (uint i = 0u; i < OWN; i++)
            sum += dot(s[i], c[i]);
        sum = across_lanes(sum);
        if (inside && lane == 0u)
            FM_PUT_Y((part.row + t) * pc.heads * pc.head + at_y, fma(d, x, sum) * gate);
        if (!inside || part.rows - t > pc.kept)
            continue;
        uint to = fm_state_version(part.slot, part.pos + t + 1u, pc.versions) * version_elems + held_row;
        [[unroll]] for (uint i = 0u; i < OWN; i++) {
            uint unit = i * LANES + lane;
            if (unit < UNITS)
                HELD(to + unit * UNIT) = s[i];
        }
    }
}
