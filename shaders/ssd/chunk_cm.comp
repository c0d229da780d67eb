#version 460
// SPDX-License-Identifier: MIT
// SSD (Mamba-2) of prompts on matrix units through KHR_cooperative_matrix: chunks of Q rows (Dao and Gu 2024, section 6), one
// after another, with the state in registers. SSD_STATES is the same without outputs, from a zero state.
//   xbc [T,W] f32, bc [T,(Gb+Gc)*N] f16, dt [T,H], a, d, dt_bias [H], seg, state [S,B,H*P,N] -> y [T,H*P], state'
//   With v = softplus(dt + dt_bias), u_t the sum of v a up to row t of the chunk, s0 the state before it and r its last row:
//     y_t = exp(u_t) s0 c_t + sum_{s<=t} (c_t b_s) exp(u_t - u_s) v_s x_s + d x_t;  s' = exp(u_r) s0 + sum_s exp(u_r - u_s) v_s x_s b_s^T
// One workgroup: PB rows p of one head and one part of a segment. A subgroup makes TR blocks of MS rows of y, and of the state the
//     columns n of every SUBGROUPS-th block. Of one chunk: c and the state go to shared memory and are multiplied; then b in the
//     place of the state, and v x; a subgroup turns its rows of c b^T into weights, in the place of its rows of c.
// Spec constants: 0 workgroup size, 1 subgroup size, 2 N, 3 PB; N and PB multiples of MS, PB divides P.
// Defines: MS, the shape MS x MS x MS of one matrix; Q, rows of a chunk.
// Needs: coopmat, float16, subgroup arithmetic; full subgroups.
// Accumulation: f32 in the matrix units; x, b, c, weights and the state where it is read are f16. The state itself stays f32. Powers
//     of two keep f16 in range: one for v x and one for the state of a chunk, one for a subgroup's rows of weights. v a is cut off at
//     -128, where its exponential is 0 in any case, so that differences of sums keep their digits; only they meet exp.
// Bytes moved: b, c once per head and PB rows; x, y once (SSD_STATES reads x and b once more); the state once a part.
// Limits: shared memory, with W = max(N, Q): 2 Q (W + PB + 20) + 2 max(Q, PB) (N + 8) + 4 (MS * MS + 1) * subgroups bytes.
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#define FM_USE_SUBGROUP_SIZE
#include "abi.h"
#include "io.glsl"
#include "spec.glsl"
#include "num.glsl"
#include "segment.glsl"

layout(constant_id = 2) const uint STATE = 128;
layout(constant_id = 3) const uint PB = 64;

#define REF_STEP fm_u32s
#define REF_SEGMENT fm_u32x4s
#define REF_X fm_f32x4s
#define REF_BC fm_u32x4s
#define REF_V fm_f32s
#define REF_STATE fm_out_f32s
#ifdef FM_OP_SSD
#define REF_Y fm_out_f32x4s
layout(push_constant, scalar) uniform Push { FM_PUSH_SSD(FM_A, FM_P) } pc;
#else
#define REF_Y fm_out_f32s
layout(push_constant, scalar) uniform Push { FM_PUSH_SSD_STATES(FM_A, FM_P) } pc;
#endif

const uint GROUP = gl_WorkGroupSize.x;
const uint SUBGROUPS = GROUP / FM_SUBGROUP;
const uint TR = Q / MS / SUBGROUPS;                  // blocks of rows of a subgroup
const uint TP = PB / MS;                             // blocks of p
const uint DEEP = STATE / MS;                        // blocks of n
const uint TN = (DEEP + SUBGROUPS - 1) / SUBGROUPS;  // of them, a subgroup's
const uint CELLS = MS * MS;
const uint WIDE = STATE > Q ? STATE : Q;
// Pitches of lines in shared memory, in quads of halves; what is added keeps them off the same banks.
const uint C_PITCH = (WIDE + 8) / 4, B_PITCH = (STATE + 8) / 4, X_PITCH = (PB + 8) / 4;

shared f16vec4 bs[(Q > PB ? Q : PB) * B_PITCH];          // [s][n] b; before that [p][n] the state
shared f16vec4 xs[Q * X_PITCH];          // [s][p] v x
shared float steps[Q], sums[Q];          // v, u
#ifdef FM_OP_SSD
shared f16vec4 cs[Q * C_PITCH];          // [t][n] c; then [t][s] weights
shared float stage[SUBGROUPS * CELLS];   // a matrix of each subgroup
shared float most[SUBGROUPS];            // greatest element of its part of the state
#endif

#define MAT_A coopmat<float16_t, gl_ScopeSubgroup, MS, MS, gl_MatrixUseA>
#define MAT_B coopmat<float16_t, gl_ScopeSubgroup, MS, MS, gl_MatrixUseB>
#define ACC coopmat<float, gl_ScopeSubgroup, MS, MS, gl_MatrixUseAccumulator>
#define ROWS gl_CooperativeMatrixLayoutRowMajor
#define COLUMNS gl_CooperativeMatrixLayoutColumnMajor

// Small matrices are for processors, whose drivers spend long on long programs.
#if MS < 16
#define UNROLL [[dont_unroll]]
#else
#define UNROLL [[unroll]]
#endif

ACC held[TP * TN]; // the state: block i of p, block gl_SubgroupID + j * SUBGROUPS of n
uint tid, h, p0;

f16vec4 to_halves(vec4 v)
{
    return f16vec4(clamp(v, vec4(-65504.0), vec4(65504.0)));
}

// The power of two that brings `greatest` below 2^(target + 1).
float power_for(float greatest, int target)
{
    int e = clamp(int(floatBitsToUint(greatest) >> 23) - 127, -30, 60);
    return uintBitsToFloat(uint(target - e + 127) << 23);
}

// `rows` rows of N halves of bc from column `at` on, into lines of shared memory; zeros below.
#define LOAD_HALVES(to, pitch, row0, rows, at)                                                                         \
    for (uint i = tid; i < Q * (STATE / 8); i += GROUP) {                                                              \
        uint line = i / (STATE / 8), chunk = i % (STATE / 8);                                                          \
        uvec4 raw = uvec4(0);                                                                                          \
        if (line < rows)                                                                                               \
            raw = pc.bc.d[(((row0) + line) * stride_bc + (at)) / 8 + chunk];                                           \
        to[line * pitch + 2 * chunk] = f16vec4(unpackFloat2x16(raw.x), unpackFloat2x16(raw.y));                        \
        to[line * pitch + 2 * chunk + 1] = f16vec4(unpackFloat2x16(raw.z), unpackFloat2x16(raw.w));                    \
    }

// v and u of a chunk, by the first subgroup.
void load_steps(uint row0, uint rows, float a, float bias)
{
    float before = 0.0;
    for (uint i = gl_SubgroupInvocationID; i < Q && gl_SubgroupID == 0; i += FM_SUBGROUP) {
        float v = i < rows ? fm_softplus(pc.dt.d[(row0 + i) * pc.heads + h] + bias) : 0.0;
        float x = max(v * a, -128.0);
        steps[i] = v;
        sums[i] = before + subgroupInclusiveAdd(x);
        before += subgroupAdd(x);
    }
}

// The power of two for v x of this chunk: v alone is brought below 1.
float scale_of_steps()
{
    float top = 0.0;
    for (uint i = gl_SubgroupInvocationID; i < Q; i += FM_SUBGROUP)
        top = max(top, steps[i]);
    return power_for(subgroupMax(top), -1);
}

// v x of a chunk times `scale`, and with `decayed` times exp(u_r - u_s).
void load_x(uint row0, uint rows, uint stride_x, uint at_x, float scale, bool decayed)
{
    for (uint i = tid; i < Q * (PB / 4); i += GROUP) {
        uint s = i / (PB / 4), quad = i % (PB / 4);
        vec4 x = vec4(0.0);
        if (s < rows)
            x = steps[s] * scale * pc.xbc.d[((row0 + s) * stride_x + at_x) / 4 + quad];
        xs[s * X_PITCH + quad] = to_halves(decayed ? x * exp(sums[Q - 1] - sums[s]) : x);
    }
}

// The state after the chunk. Padding rows have v = 0: the last sum is that of the chunk's last row.
void advance(float scale)
{
    float keep = exp(sums[Q - 1]) * scale;
    UNROLL for (uint j = 0; j < TN; j++) {
        uint block = gl_SubgroupID + j * SUBGROUPS;
        if (DEEP % SUBGROUPS != 0 && block >= DEEP)
            continue;
        UNROLL for (uint i = 0; i < TP; i++)
            held[i * TN + j] = held[i * TN + j] * keep;
        UNROLL for (uint k = 0; k < Q / MS; k++) {
            MAT_B b;
            coopMatLoad(b, bs, k * MS * B_PITCH + block * (MS / 4), B_PITCH, ROWS);
            UNROLL for (uint i = 0; i < TP; i++) {
                MAT_A x;
                coopMatLoad(x, xs, k * MS * X_PITCH + i * (MS / 4), X_PITCH, COLUMNS);
                held[i * TN + j] = coopMatMulAdd(x, b, held[i * TN + j]);
            }
        }
        UNROLL for (uint i = 0; i < TP; i++)
            held[i * TN + j] = held[i * TN + j] * (1.0 / scale);
    }
}

// To or from a state in memory, whose head begins at element `at`.
#define MOVE_STATE(MOVE, memory, at)                                                                                   \
    UNROLL for (uint j = 0; j < TN; j++) {                                                                             \
        uint block = gl_SubgroupID + j * SUBGROUPS;                                                                    \
        if (DEEP % SUBGROUPS != 0 && block >= DEEP)                                                                    \
            continue;                                                                                                  \
        UNROLL for (uint i = 0; i < TP; i++)                                                                           \
            MOVE(held[i * TN + j], memory, (at) + i * MS * STATE + block * MS, STATE, ROWS);                           \
    }

#ifdef FM_OP_SSD

// The greatest element of the state, for its power of two in the next chunk.
void note_most()
{
    float top = 0.0;
    UNROLL for (uint i = 0; i < TP * TN; i++)
        UNROLL for (uint e = 0; e < held[0].length(); e++)
            top = max(top, abs(held[i][e]));
    top = subgroupMax(top);
    if (subgroupElect())
        most[gl_SubgroupID] = top;
}

// The state as halves, in the place of b. Returns its power of two.
float publish_state()
{
    float top = 0.0;
    UNROLL for (uint i = 0; i < SUBGROUPS; i++)
        top = max(top, most[i]);
    float scale = power_for(top, 14);
    UNROLL for (uint j = 0; j < TN; j++) {
        uint block = gl_SubgroupID + j * SUBGROUPS;
        if (DEEP % SUBGROUPS != 0 && block >= DEEP)
            continue;
        UNROLL for (uint i = 0; i < TP; i++) {
            coopmat<float16_t, gl_ScopeSubgroup, MS, MS, gl_MatrixUseAccumulator> half_state =
                coopmat<float16_t, gl_ScopeSubgroup, MS, MS, gl_MatrixUseAccumulator>(held[i * TN + j] * scale);
            coopMatStore(half_state, bs, i * MS * B_PITCH + block * (MS / 4), B_PITCH, ROWS);
        }
    }
    return scale;
}

MAT_A query[TR * DEEP]; // the subgroup's rows of c
ACC acc[TR * TP];       // its rows of y

void multiply_state()
{
    UNROLL for (uint i = 0; i < TR; i++)
        UNROLL for (uint k = 0; k < DEEP; k++)
            coopMatLoad(query[i * DEEP + k], cs, (gl_SubgroupID * TR + i) * MS * C_PITCH + k * (MS / 4), C_PITCH, ROWS);
    UNROLL for (uint j = 0; j < TR * TP; j++)
        acc[j] = ACC(0.0);
    UNROLL for (uint k = 0; k < DEEP; k++)
        UNROLL for (uint j = 0; j < TP; j++) {
            MAT_B s;
            coopMatLoad(s, bs, j * MS * B_PITCH + k * (MS / 4), B_PITCH, COLUMNS);
            UNROLL for (uint i = 0; i < TR; i++)
                acc[i * TP + j] = coopMatMulAdd(query[i * DEEP + k], s, acc[i * TP + j]);
        }
}

// Block i of the subgroup's rows: c b^T up to the diagonal, as weights into its rows of cs; acc begins with what the state gave.
// Returns the weights' power of two.
float weigh(uint i, float scale_x, float scale_state)
{
    uint row_block = gl_SubgroupID * TR + i, own = gl_SubgroupID * CELLS, lane = gl_SubgroupInvocationID;
    ACC g[Q / MS];
    float top = 0.0;
    UNROLL for (uint j = 0; j < Q / MS; j++) {
        g[j] = ACC(0.0);
        if (j > row_block)
            continue;
        UNROLL for (uint k = 0; k < DEEP; k++) {
            MAT_B b;
            coopMatLoad(b, bs, j * MS * B_PITCH + k * (MS / 4), B_PITCH, COLUMNS);
            g[j] = coopMatMulAdd(query[i * DEEP + k], b, g[j]);
        }
        UNROLL for (uint e = 0; e < g[0].length(); e++)
            top = max(top, abs(g[j][e]));
    }
    float scale = power_for(subgroupMax(top), 14);

    subgroupBarrier();
    for (uint e = lane; e < CELLS; e += FM_SUBGROUP)
        stage[own + e] = exp(sums[row_block * MS + e / MS]) * (scale * scale_x / scale_state);
    subgroupBarrier();
    ACC factor;
    coopMatLoad(factor, stage, own, MS, ROWS);
    UNROLL for (uint j = 0; j < TP; j++)
        acc[i * TP + j] = acc[i * TP + j] * factor;

    UNROLL for (uint j = 0; j < Q / MS; j++) { // as many barriers in every subgroup: lavapipe has all of them meet
        bool seen = j <= row_block;
        subgroupBarrier();
        if (seen)
            coopMatStore(g[j], stage, own, MS, ROWS);
        subgroupBarrier();
        for (uint e = lane; e < CELLS / 4 && seen; e += FM_SUBGROUP) {
            uint t = row_block * MS + e / (MS / 4), s = j * MS + e % (MS / 4) * 4;
            vec4 w;
            UNROLL for (uint n = 0; n < 4; n++)
                w[n] = s + n <= t ? stage[own + 4 * e + n] * scale * exp(sums[t] - sums[s + n]) : 0.0;
            cs[t * C_PITCH + s / 4] = to_halves(w);
        }
    }
    subgroupBarrier();
    return scale;
}

void multiply_x(uint i)
{
    uint row_block = gl_SubgroupID * TR + i;
    UNROLL for (uint k = 0; k < Q / MS; k++) {
        if (k > row_block)
            continue;
        MAT_A w;
        coopMatLoad(w, cs, row_block * MS * C_PITCH + k * (MS / 4), C_PITCH, ROWS);
        UNROLL for (uint j = 0; j < TP; j++) {
            MAT_B x;
            coopMatLoad(x, xs, k * MS * X_PITCH + j * (MS / 4), X_PITCH, ROWS);
            acc[i * TP + j] = coopMatMulAdd(w, x, acc[i * TP + j]);
        }
    }
}

// Block i of the subgroup's rows, with the skip.
void store(uint i, uint row0, uint rows, uint stride_x, uint at_x, float factor)
{
    uint own = gl_SubgroupID * CELLS;
    float d = pc.skip.d[h];
    UNROLL for (uint j = 0; j < TP; j++) {
        subgroupBarrier();
        coopMatStore(acc[i * TP + j], stage, own, MS, ROWS);
        subgroupBarrier();
        for (uint e = gl_SubgroupInvocationID; e < CELLS / 4; e += FM_SUBGROUP) {
            uint t = (gl_SubgroupID * TR + i) * MS + e / (MS / 4), p = j * MS + e % (MS / 4) * 4;
            if (t >= rows)
                continue;
            vec4 y = vec4(stage[own + 4 * e], stage[own + 4 * e + 1], stage[own + 4 * e + 2], stage[own + 4 * e + 3]);
            vec4 x = pc.xbc.d[((row0 + t) * stride_x + at_x + p) / 4];
            pc.y.d[(((row0 + t) * pc.heads + h) * pc.head + p0 + p) / 4] = fma(y, vec4(factor), d * x);
        }
    }
}

#endif

void main()
{
    uint tiles = pc.head / PB;
    h = gl_WorkGroupID.x / tiles;
    p0 = gl_WorkGroupID.x % tiles * PB;
    tid = gl_SubgroupID * FM_SUBGROUP + gl_SubgroupInvocationID;
    fm_part part;
    if (!fm_part_find(pc.step, pc.segment, gl_WorkGroupID.y, pc.part, part))
        return;
    // The planner guarantees these multiples; said in arithmetic, so that the compiler knows of aligned loads.
    uint stride_bc = ((pc.groups + pc.groups_c) * STATE) & ~7u, stride_x = (pc.heads_x * pc.head & ~7u) + stride_bc;
    uint at_b = h / (pc.heads / pc.groups) * STATE, at_x = h / (pc.heads / pc.heads_x) * pc.head + p0;
    uint state_elems = pc.heads * pc.head * STATE, at_state = (h * pc.head + p0) * STATE;
    float a = pc.a.d[h], bias = pc.dt_bias.d[h];
    UNROLL for (uint i = 0; i < TP * TN; i++)
        held[i] = ACC(0.0);
#ifdef FM_OP_SSD
    uint at_c = (pc.groups + h / (pc.heads / pc.groups_c)) * STATE;
    if (FM_PRESENT(pc.starts)) {
        MOVE_STATE(coopMatLoad, pc.starts.d, gl_WorkGroupID.y * state_elems + at_state)
    } else if (part.pos != 0) {
        MOVE_STATE(coopMatLoad, pc.state.d, fm_state_version(part.slot, part.pos, pc.versions) * state_elems + at_state)
    }
    for (uint c0 = 0; c0 < part.rows; c0 += Q) {
        uint row0 = part.row + c0, rows = min(part.rows - c0, Q);
        note_most();
        load_steps(row0, rows, a, bias);
        LOAD_HALVES(cs, C_PITCH, row0, rows, at_c)
        barrier();
        float scale_state = publish_state();
        barrier();
        multiply_state();
        barrier();
        float scale_x = scale_of_steps();
        LOAD_HALVES(bs, B_PITCH, row0, rows, at_b)
        load_x(row0, rows, stride_x, at_x, scale_x, false);
        barrier();
        UNROLL for (uint i = 0; i < TR; i++) {
            float scale = weigh(i, scale_x, scale_state);
            multiply_x(i);
            store(i, row0, rows, stride_x, at_x, 1.0 / (scale * scale_x));
        }
        barrier();
        for (uint i = tid; i < Q * (PB / 4); i += GROUP) {
            uint s = i / (PB / 4), at = s * X_PITCH + i % (PB / 4);
            xs[at] = f16vec4(vec4(xs[at]) * exp(sums[Q - 1] - sums[s]));
        }
        barrier();
        advance(scale_x);
        barrier();
    }
    if (part.last) {
        MOVE_STATE(coopMatStore, pc.state.d, fm_state_version(part.slot, part.pos + part.rows, pc.versions) * state_elems + at_state)
    }
#else
    if (part.last) // nobody asks what it adds
        return;
    float total = 0.0;
    for (uint c0 = 0; c0 < part.rows; c0 += Q) {
        uint row0 = part.row + c0, rows = min(part.rows - c0, Q);
        load_steps(row0, rows, a, bias);
        LOAD_HALVES(bs, B_PITCH, row0, rows, at_b)
        barrier();
        float scale_x = scale_of_steps();
        load_x(row0, rows, stride_x, at_x, scale_x, true);
        barrier();
        advance(scale_x);
        total += sums[Q - 1];
        barrier();
    }
    MOVE_STATE(coopMatStore, pc.z.d, gl_WorkGroupID.y * state_elems + at_state)
    if (p0 == 0 && tid == 0)
        pc.sums.d[gl_WorkGroupID.y * pc.heads + h] = total;
#endif
}
