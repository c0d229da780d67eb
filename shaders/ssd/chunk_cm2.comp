#version 460
// SPDX-License-Identifier: MIT
// SSD (Mamba-2) of prompts on matrix units through NV_cooperative_matrix2: chunks of Q rows (Dao and Gu 2024, section 6), one after
// another, with the state in accumulators. SSD_STATES is the same without outputs, from a zero state.
//   xbc [T,W] f32, bc [T,(Gb+Gc)*N] f16, dt [T,H], a, d, dt_bias [H], seg, state [S,B,H*P,N] -> y [T,H*P], state'
//   With v = softplus(dt + dt_bias), u_t the sum of v a up to row t of the chunk, s0 the state before it and r its last row:
//     y_t = exp(u_t) s0 c_t + sum_{s<=t} (c_t b_s) exp(u_t - u_s) v_s x_s + d x_t;  s' = exp(u_r) s0 + sum_s exp(u_r - u_s) v_s x_s b_s^T
// One workgroup: PB rows p of one head and one part of a segment. The state lies transposed, [N,PB]. One barrier a chunk: before it
//     the first subgroup has v and u, and all have the greatest elements of c, b and the state; three sets of them take turns.
// Spec constants: 0 workgroup size, 1 subgroup size, 2 N (a multiple of 32).
// Defines: Q, rows of a chunk, PB: multiples of 32; PB divides P.
// Needs: coopmat2, float16, storage16, subgroup arithmetic; full subgroups.
// Accumulation: f32 in the matrix units; x, b, c, weights and the state where it is read are f16. The state itself stays f32. Powers
//     of two keep f16 in range: for v x, for the state and for the weights of a chunk. v a is cut off at -128, where its exponential
//     is 0 in any case, so that differences of sums keep their digits; only they meet exp.
// Bytes moved: b, c once per head and PB rows; x, y once (SSD_STATES reads x and b once more); the state once a part.
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_NV_cooperative_matrix2 : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_EXT_shader_16bit_storage : require
#define FM_USE_SUBGROUP_SIZE
#include "abi.h"
#include "io.glsl"
#include "spec.glsl"
#include "num.glsl"
#include "segment.glsl"

layout(constant_id = 2) const uint STATE = 128;

// Numbers whose rows begin at multiples of 16 bytes.
layout(buffer_reference, scalar, buffer_reference_align = 16) readonly buffer fm_f16_rows { float16_t d[]; };
layout(buffer_reference, scalar, buffer_reference_align = 16) readonly buffer fm_f32_rows { float d[]; };
layout(buffer_reference, scalar, buffer_reference_align = 16) buffer fm_out_f32_rows { float d[]; };

#define REF_STEP fm_u32s
#define REF_SEGMENT fm_u32x4s
#define REF_X fm_f32_rows
#define REF_BC fm_f16_rows
#define REF_V fm_f32s
#define REF_STATE fm_out_f32_rows
#define REF_Y fm_out_f32_rows
#ifdef FM_OP_SSD
layout(push_constant, scalar) uniform Push { FM_PUSH_SSD(FM_A, FM_P) } pc;
#else
layout(push_constant, scalar) uniform Push { FM_PUSH_SSD_STATES(FM_A, FM_P) } pc;
#endif

#define SETS 3u
#define MOST_B 0u
#define MOST_C 1u
#define MOST_STATE 2u
shared float steps[SETS][Q], sums[SETS][Q]; // v, u
shared uint largest[SETS][3];

#define ACC(rows, cols) coopmat<float, gl_ScopeWorkgroup, rows, cols, gl_MatrixUseAccumulator>
#define HALF_ACC(rows, cols) coopmat<float16_t, gl_ScopeWorkgroup, rows, cols, gl_MatrixUseAccumulator>
#define MAT_A(rows, cols) coopmat<float16_t, gl_ScopeWorkgroup, rows, cols, gl_MatrixUseA>
#define MAT_B(rows, cols) coopmat<float16_t, gl_ScopeWorkgroup, rows, cols, gl_MatrixUseB>
#define CLAMPED gl_CooperativeMatrixClampModeConstantNV
#define WHOLE gl_CooperativeMatrixClampModeUndefinedNV

// Rows of a matrix in memory, `stride` elements apart.
#define LAYOUT(name, clamp_mode, rows, cols, stride)                                                                   \
    tensorLayoutNV<2, clamp_mode> name = createTensorLayoutNV(2, clamp_mode);                                          \
    name = setTensorLayoutDimensionNV(name, rows, cols);                                                               \
    name = setTensorLayoutStrideNV(name, stride, 1);

// c b^T: the decay from row s to row t; nothing above the diagonal.
float weigh(const in uint t, const in uint s, const in float x, const in uint set, const in float scale)
{
    return s <= t ? x * scale * exp(sums[set][t] - sums[set][s]) : 0.0;
}

// What row t reads of the state before the chunk.
float decay_read(const in uint t, const in uint p, const in float x, const in uint set, const in float scale)
{
    return x * scale * exp(sums[set][t]);
}

// v x, and the same on its way into the state after the chunk.
float step_input(const in uint s, const in uint p, const in float x, const in uint set, const in float scale)
{
    return clamp(x * (steps[set][s] * scale), -65504.0, 65504.0);
}

float decay_input(const in uint s, const in uint p, const in float x, const in uint set, const in float scale)
{
    return clamp(x * (steps[set][s] * scale), -65504.0, 65504.0) * exp(sums[set][Q - 1] - sums[set][s]);
}

// The power of two that brings `greatest` below 2^(target + 1).
float power_for(float greatest, int target)
{
    int e = clamp(int(floatBitsToUint(greatest) >> 23) - 127, -30, 60);
    return uintBitsToFloat(uint(target - e + 127) << 23);
}

// v and u of a chunk, by the first subgroup.
void load_steps(uint set, uint h, uint row0, uint rows, float a, float bias)
{
    float before = 0.0;
    for (uint i = gl_SubgroupInvocationID; i < Q && gl_SubgroupID == 0; i += FM_SUBGROUP) {
        float v = i < rows ? fm_softplus(pc.dt.d[(row0 + i) * pc.heads + h] + bias) : 0.0;
        float x = max(v * a, -128.0);
        steps[set][i] = v;
        sums[set][i] = before + subgroupInclusiveAdd(x);
        before += subgroupAdd(x);
    }
}

// The power of two for v x of this chunk: v alone is brought below 1.
float scale_of_steps(uint set)
{
    float top = 0.0;
    for (uint i = gl_SubgroupInvocationID; i < Q; i += FM_SUBGROUP)
        top = max(top, steps[set][i]);
    return power_for(subgroupMax(top), -1);
}

void raise(uint set, uint what, float x)
{
    uint bits = subgroupMax(floatBitsToUint(x));
    if (gl_SubgroupInvocationID == 0)
        atomicMax(largest[set][what], bits);
}

float largest_of(uint set, uint what)
{
    return uintBitsToFloat(largest[set][what]);
}

#ifdef FM_OP_SSD
#define FETCH_C(layout_bc) coopMatLoadTensorNV(c, pc.bc.d, row0 * stride_bc + at_c, sliceTensorLayoutNV(layout_bc, 0, Q, 0, STATE));
#else
#define FETCH_C(layout_bc)
#endif

// Rows [row0, row0 + rows) of b (transposed), c and x; zeros beyond.
#define FETCH(clamp_mode)                                                                                              \
    {                                                                                                                  \
        LAYOUT(lbc, clamp_mode, rows, STATE, stride_bc)                                                                \
        LAYOUT(lx, clamp_mode, rows, PB, stride_x)                                                                     \
        FETCH_C(lbc)                                                                                                   \
        coopMatLoadTensorNV(b, pc.bc.d, row0 * stride_bc + at_b, sliceTensorLayoutNV(lbc, 0, Q, 0, STATE), transposed); \
        coopMatLoadTensorNV(x, pc.xbc.d, row0 * stride_x + at_x, sliceTensorLayoutNV(lx, 0, Q, 0, PB));                 \
    }

#define STORE(clamp_mode)                                                                                              \
    {                                                                                                                  \
        LAYOUT(ly, clamp_mode, rows, PB, stride_y)                                                                     \
        coopMatStoreTensorNV(y, pc.y.d, row0 * stride_y + at_y, sliceTensorLayoutNV(ly, 0, Q, 0, PB));                  \
    }

void main()
{
    uint tiles = pc.head / PB, h = gl_WorkGroupID.x / tiles, p0 = gl_WorkGroupID.x % tiles * PB;
    uint tid = gl_SubgroupID * FM_SUBGROUP + gl_SubgroupInvocationID;
    fm_part part;
    if (!fm_part_find(pc.step, pc.segment, gl_WorkGroupID.y, pc.part, part))
        return;
    // The manifest guarantees these multiples; said in arithmetic, so that the compiler loads 16 bytes at a time.
    uint stride_bc = ((pc.groups + pc.groups_c) * STATE) & ~31u, stride_x = (pc.heads_x * pc.head & ~31u) + stride_bc;
    uint at_b = (h / (pc.heads / pc.groups) * STATE) & ~31u, at_x = (h / (pc.heads / pc.heads_x) * pc.head + p0) & ~31u;
    uint state_elems = pc.heads * pc.head * STATE, at_state = (h * pc.head + p0) * STATE;
    float a = pc.a.d[h], bias = pc.dt_bias.d[h];
    tensorViewNV<2, false, 1, 0> transposed = createTensorViewNV(2, false, 1, 0);
    LAYOUT(lstate, WHOLE, PB, STATE, STATE)
    ACC(STATE, PB) state = ACC(STATE, PB)(0.0);
    if (tid < SETS * 3)
        largest[tid / 3][tid % 3] = 0;
    barrier();
#ifdef FM_OP_SSD
    uint at_c = ((pc.groups + h / (pc.heads / pc.groups_c)) * STATE) & ~31u;
    uint stride_y = (pc.heads * pc.head) & ~31u, at_y = (h * pc.head + p0) & ~31u;
    float d = pc.skip.d[h];
    if (FM_PRESENT(pc.starts))
        coopMatLoadTensorNV(state, pc.starts.d, gl_WorkGroupID.y * state_elems + at_state,
                            sliceTensorLayoutNV(lstate, 0, PB, 0, STATE), transposed);
    else if (part.pos != 0)
        coopMatLoadTensorNV(state, pc.state.d, fm_state_version(part.slot, part.pos, pc.versions) * state_elems + at_state,
                            sliceTensorLayoutNV(lstate, 0, PB, 0, STATE), transposed);
#else
    if (part.last) // nobody asks what it adds
        return;
    float total = 0.0;
#endif
    for (uint c0 = 0, set = 0; c0 < part.rows; c0 += Q, set = set + 1 == SETS ? 0 : set + 1) {
        uint row0 = part.row + c0, rows = min(part.rows - c0, Q);
        HALF_ACC(STATE, Q) b;
        ACC(Q, PB) x;
#ifdef FM_OP_SSD
        HALF_ACC(Q, STATE) c;
#endif
        if (rows == Q)
            FETCH(WHOLE)
        else
            FETCH(CLAMPED)
        load_steps(set, h, row0, rows, a, bias);
#ifdef FM_OP_SSD
        float top_b = 0.0, top_c = 0.0, top_state = 0.0;
        [[unroll]] for (uint i = 0; i < b.length(); i++)
            top_b = max(top_b, abs(float(b[i])));
        [[unroll]] for (uint i = 0; i < c.length(); i++)
            top_c = max(top_c, abs(float(c[i])));
        [[unroll]] for (uint i = 0; i < state.length(); i++)
            top_state = max(top_state, abs(state[i]));
        raise(set, MOST_B, top_b);
        raise(set, MOST_C, top_c);
        raise(set, MOST_STATE, top_state);
#endif
        barrier();
        float scale_x = scale_of_steps(set), keep = exp(sums[set][Q - 1]);
#ifdef FM_OP_SSD
        if (tid < 3) // of the set after the next: everybody is done with it
            largest[set == 0 ? SETS - 1 : set - 1][tid] = 0;
        float scale = power_for(float(STATE) * largest_of(set, MOST_B) * largest_of(set, MOST_C), 14);
        float scale_state = power_for(largest_of(set, MOST_STATE), 14);
        MAT_A(Q, STATE) c_half = MAT_A(Q, STATE)(c);
        MAT_B(STATE, Q) b_half = MAT_B(STATE, Q)(b);
        ACC(Q, Q) g = coopMatMulAdd(c_half, b_half, ACC(Q, Q)(0.0));
        coopMatPerElementNV(g, g, weigh, set, scale);
        MAT_A(Q, Q) weights = MAT_A(Q, Q)(g);
        MAT_B(STATE, PB) state_half = MAT_B(STATE, PB)(state * scale_state);
        ACC(Q, PB) y = coopMatMulAdd(c_half, state_half, ACC(Q, PB)(0.0));
        coopMatPerElementNV(y, y, decay_read, set, scale * scale_x / scale_state);
        ACC(Q, PB) input_;
        coopMatPerElementNV(input_, x, step_input, set, scale_x);
        MAT_B(Q, PB) input_half = MAT_B(Q, PB)(input_);
        y = coopMatMulAdd(weights, input_half, y);
        y = y * (1.0 / (scale * scale_x)) + x * d;
        if (rows == Q)
            STORE(WHOLE)
        else
            STORE(CLAMPED)
#else
        total += sums[set][Q - 1];
#endif
        ACC(Q, PB) decayed;
        coopMatPerElementNV(decayed, x, decay_input, set, scale_x);
        MAT_B(Q, PB) decayed_half = MAT_B(Q, PB)(decayed);
        MAT_A(STATE, Q) b_in = MAT_A(STATE, Q)(b);
        state = coopMatMulAdd(b_in, decayed_half, state * (keep * scale_x));
        state = state * (1.0 / scale_x);
    }
#ifdef FM_OP_SSD
    if (part.last)
        coopMatStoreTensorNV(state, pc.state.d, fm_state_version(part.slot, part.pos + part.rows, pc.versions) * state_elems + at_state,
                             sliceTensorLayoutNV(lstate, 0, PB, 0, STATE), transposed);
#else
    coopMatStoreTensorNV(state, pc.z.d, gl_WorkGroupID.y * state_elems + at_state, sliceTensorLayoutNV(lstate, 0, PB, 0, STATE),
                         transposed);
    if (p0 == 0 && tid == 0)
        pc.sums.d[gl_WorkGroupID.y * pc.heads + h] = total;
#endif
}
