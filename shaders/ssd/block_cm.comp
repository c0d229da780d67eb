#version 460
// SPDX-License-Identifier: MIT
// SSD (Mamba-2) of prompts on matrix units through KHR_cooperative_matrix: the block form of Dao and Gu 2024, section 6. The rows
// of a part go through in blocks of Q rows, one block after another; the state stays in registers. SSD_STATES computes the state
// only, beginning with zero, and writes no outputs.
//   xbc [T,W] f16, dt [T,H], a, d, dt_bias [H], seg, state [S,B,H*P,N] -> y [T,H*P], state'
//   Let v = softplus(dt + dt_bias), and u_t = the sum of v a over the rows of the block up to row t. Let s0 be the state before the
//   block, s' the state after it, and r the block's last row:
//     y_t = exp(u_t) s0 c_t + sum_{s<=t} (c_t b_s) exp(u_t - u_s) v_s x_s + d x_t
//     s'  = exp(u_r) s0 + sum_s exp(u_r - u_s) v_s x_s b_s^T
//   The factors (c_t b_s) exp(u_t - u_s) are called the block's weights: one for each pair of its rows, zero where s > t.
// One workgroup: one part of a segment (lib/segment.glsl), and of one head PB rows p of the state [P,N], that is PB columns of x and y.
//     Its subgroups form a grid of DOWN x ACROSS. In y [Q,PB], DOWN subgroups share the rows and ACROSS subgroups the columns; in
//     the state [PB,N], ACROSS subgroups share the rows p and DOWN subgroups the columns n. For each block:
//     1. c and the state (rounded to f16) go to shared memory, and their product becomes the first term of y.
//     2. b takes the place of the state in shared memory, and v x is stored beside it.
//     3. The weights are made of c b^T and take the place of c.
//     4. Weights times v x is the second term of y; v x, decayed to the block's end, times b goes into the state.
// Spec constants: 0 workgroup size, 1 subgroup size, 2 N, 3 PB; N a multiple of MS, PB of MS * ACROSS; PB divides P.
// Defines: MS, the shape MS x MS x MS of one matrix; Q, rows of a block.
// Needs: coopmat, float16, subgroup arithmetic; full subgroups.
// Accumulation: f32 in the matrix units. The operands are f16: x, b, c, c b^T, the weights, and the copy of the state that is
//     multiplied. The state itself stays f32. Three scales, powers of two, keep these operands in f16's range: one for v x, one for
//     the state, one for the weights of a block. v a is not less than -128, where its exponential is 0 in any case: larger sums
//     would lose digits of their differences, and the differences are what exp sees.
// Bytes moved: b, c once per head and PB rows; x, y once (SSD_STATES reads x and b once more); the state once a part.
// Limits: shared memory, with W = max(N, Q): 2 Q (W + PB + 20) + 2 max(Q, PB) (N + 8) + 4 Q MS + 4 subgroups bytes.
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
#define REF_X fm_u32x4s
#define REF_V fm_f32s
#define REF_STATE fm_out_f32x4s // matrices move in units of 16 bytes
#ifdef FM_OP_SSD
#define REF_Y fm_out_f32x4s
layout(push_constant, scalar) uniform Push { FM_PUSH_SSD(FM_A, FM_P) } pc;
#else
#define REF_Y fm_out_f32s
layout(push_constant, scalar) uniform Push { FM_PUSH_SSD_STATES(FM_A, FM_P) } pc;
#endif

const uint WORKGROUP = gl_WorkGroupSize.x;
const uint SUBGROUPS = WORKGROUP / FM_SUBGROUP;
const uint DOWN = SUBGROUPS < Q / MS ? SUBGROUPS : Q / MS;
const uint ACROSS = SUBGROUPS / DOWN;
const uint TR = Q / MS / DOWN;             // a subgroup's matrices down y
const uint TP = PB / MS / ACROSS;          // a subgroup's matrices along p, in y and in the state
const uint DEEP = STATE / MS;              // matrices along n
const uint TN = (DEEP + DOWN - 1) / DOWN;  // a subgroup's matrices along n, in the state
const uint TS = Q / MS / ACROSS;           // a subgroup's matrices across c b^T
const uint CELLS = MS * MS;
const uint WIDE = STATE > Q ? STATE : Q;
// Pitches of lines in shared memory, in quads of halves. 8 halves more than a line holds: else neighbouring lines would share banks.
const uint C_PITCH = (WIDE + 8) / 4, B_PITCH = (STATE + 8) / 4, X_PITCH = (PB + 8) / 4;

shared f16vec4 bs[(Q > PB ? Q : PB) * B_PITCH];          // [p][n] the state as f16, then [s][n] b
shared f16vec4 xs[Q * X_PITCH];          // [s][p] v x
shared float steps[Q], sums[Q];          // v, u
#ifdef FM_OP_SSD
shared f16vec4 cs[Q * C_PITCH];          // [t][n] c, then [t][s] weights
shared float factor[Q * MS];             // [row][MS] the row's factor, as a matrix; in store_rest matrices of y
// The greatest element of the state, or of c b^T, that each subgroup has. Whole units of 16 bytes, because arrays of matrices may
// follow and must be aligned to 16 bytes.
shared float most[(SUBGROUPS + 3) / 4 * 4];
#endif

#define MAT_A coopmat<float16_t, gl_ScopeSubgroup, MS, MS, gl_MatrixUseA>
#define MAT_B coopmat<float16_t, gl_ScopeSubgroup, MS, MS, gl_MatrixUseB>
#define ACC coopmat<float, gl_ScopeSubgroup, MS, MS, gl_MatrixUseAccumulator>
#define HALVES(m) coopmat<float16_t, gl_ScopeSubgroup, MS, MS, gl_MatrixUseAccumulator>(m)
#define ROWS gl_CooperativeMatrixLayoutRowMajor
#define COLUMNS gl_CooperativeMatrixLayoutColumnMajor

// Small matrices are for processors, whose drivers spend long on long programs.
#if MS < 16
#define UNROLL [[dont_unroll]]
#else
#define UNROLL [[unroll]]
#endif

ACC held[TP * TN]; // the subgroup's matrices of the state: [i * TN + j] is the one at p (across * TP + i) * MS, n (down + j * DOWN) * MS
uint tid, down, across, h, p0;

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

// Loads b or c: N columns of xbc from column `at` on, of `rows` rows from row0 on, into the lines of `to`. Lines that have no row are zero.
#define LOAD_HALVES(to, pitch, row0, rows, at)                                                                         \
    for (uint i = tid; i < Q * (STATE / 8); i += WORKGROUP) {                                                          \
        uint line = i / (STATE / 8), octet = i % (STATE / 8);                                                          \
        uvec4 raw = uvec4(0);                                                                                          \
        if (line < rows)                                                                                               \
            raw = pc.xbc.d[(((row0) + line) * stride_x + (at)) / 8 + octet];                                           \
        to[line * pitch + 2 * octet] = f16vec4(unpackFloat2x16(raw.x), unpackFloat2x16(raw.y));                        \
        to[line * pitch + 2 * octet + 1] = f16vec4(unpackFloat2x16(raw.z), unpackFloat2x16(raw.w));                    \
    }

// Makes `steps` (v) and `sums` (u) of a block; the first subgroup does.
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

// The scale of v x: the power of two that brings every v of the block below 1, whatever x is.
float scale_of_steps()
{
    float top = 0.0;
    for (uint i = gl_SubgroupInvocationID; i < Q; i += FM_SUBGROUP)
        top = max(top, steps[i]);
    return power_for(subgroupMax(top), -1);
}

// Stores v x times `scale` in `xs`, for the rows of a block; with `decayed` also times exp(u_r - u_s), their decay to the block's end.
void load_x(uint row0, uint rows, uint stride_x, uint at_x, float scale, bool decayed)
{
    for (uint i = tid; i < Q * (PB / 4); i += WORKGROUP) {
        uint s = i / (PB / 4), quad = i % (PB / 4);
        vec4 x = vec4(0.0);
        if (s < rows) {
            uvec2 raw = FM_CAST(fm_u32x2s, pc.xbc).d[((row0 + s) * stride_x + at_x) / 4 + quad];
            x = steps[s] * scale * vec4(vec2(unpackFloat2x16(raw.x)), vec2(unpackFloat2x16(raw.y)));
        }
        xs[s * X_PITCH + quad] = to_halves(decayed ? x * exp(sums[Q - 1] - sums[s]) : x);
    }
}

// From the state before the block to the state after it. `scale` is that of v x. A short block needs no case of its own: rows that it
// lacks have v = 0, so the last element of `sums` is the sum at its last row.
void advance(float scale)
{
    float keep = exp(sums[Q - 1]) * scale;
    UNROLL for (uint j = 0; j < TN; j++) {
        uint matrix = down + j * DOWN;
        if (DEEP % DOWN != 0 && matrix >= DEEP)
            continue;
        UNROLL for (uint i = 0; i < TP; i++)
            held[i * TN + j] = held[i * TN + j] * keep;
        UNROLL for (uint k = 0; k < Q / MS; k++) {
            MAT_B b;
            coopMatLoad(b, bs, k * MS * B_PITCH + matrix * (MS / 4), B_PITCH, ROWS);
            UNROLL for (uint i = 0; i < TP; i++) {
                MAT_A x;
                coopMatLoad(x, xs, k * MS * X_PITCH + (across * TP + i) * (MS / 4), X_PITCH, COLUMNS);
                held[i * TN + j] = coopMatMulAdd(x, b, held[i * TN + j]);
            }
        }
        UNROLL for (uint i = 0; i < TP; i++)
            held[i * TN + j] = held[i * TN + j] * (1.0 / scale);
    }
}

// Loads or stores (MOVE) the subgroup's matrices of a state in memory; `at`: first element of the workgroup's rows p.
#define MOVE_STATE(MOVE, memory, at)                                                                                   \
    UNROLL for (uint j = 0; j < TN; j++) {                                                                             \
        uint matrix = down + j * DOWN;                                                                                 \
        if (DEEP % DOWN != 0 && matrix >= DEEP)                                                                        \
            continue;                                                                                                  \
        UNROLL for (uint i = 0; i < TP; i++)                                                                           \
            MOVE(held[i * TN + j], memory, ((at) + (across * TP + i) * MS * STATE + matrix * MS) / 4, STATE / 4, ROWS); \
    }

#ifdef FM_OP_SSD

// Notes a subgroup's greatest element. After a barrier power_of_most makes one scale for all subgroups of what each has noted.
void note_most(float top)
{
    top = subgroupMax(top);
    if (subgroupElect())
        most[gl_SubgroupID] = top;
}

float power_of_most()
{
    float top = 0.0;
    UNROLL for (uint i = 0; i < SUBGROUPS; i++)
        top = max(top, most[i]);
    return power_for(top, 14);
}

float greatest_held()
{
    float top = 0.0;
    UNROLL for (uint i = 0; i < TP * TN; i++)
        UNROLL for (uint e = 0; e < held[0].length(); e++)
            top = max(top, abs(held[i][e]));
    return top;
}

// Writes the state as f16 to shared memory, where b goes later.
void publish_state(float scale)
{
    UNROLL for (uint j = 0; j < TN; j++) {
        uint matrix = down + j * DOWN;
        if (DEEP % DOWN != 0 && matrix >= DEEP)
            continue;
        UNROLL for (uint i = 0; i < TP; i++)
            coopMatStore(HALVES(held[i * TN + j] * scale), bs, (across * TP + i) * MS * B_PITCH + matrix * (MS / 4), B_PITCH, ROWS);
    }
}

MAT_A query[TR * DEEP]; // the subgroup's rows of c
ACC acc[TR * TP];       // its rows of y
ACC g[TR * TS];         // its part of c b^T: [i * TS + j] is in matrix column across + j * ACROSS

void multiply_state()
{
    UNROLL for (uint i = 0; i < TR; i++)
        UNROLL for (uint k = 0; k < DEEP; k++)
            coopMatLoad(query[i * DEEP + k], cs, (down * TR + i) * MS * C_PITCH + k * (MS / 4), C_PITCH, ROWS);
    UNROLL for (uint j = 0; j < TR * TP; j++)
        acc[j] = ACC(0.0);
    UNROLL for (uint k = 0; k < DEEP; k++)
        UNROLL for (uint j = 0; j < TP; j++) {
            MAT_B s;
            coopMatLoad(s, bs, (across * TP + j) * MS * B_PITCH + k * (MS / 4), B_PITCH, COLUMNS);
            UNROLL for (uint i = 0; i < TR; i++)
                acc[i * TP + j] = coopMatMulAdd(query[i * DEEP + k], s, acc[i * TP + j]);
        }
}

// c b^T: matrices above the diagonal stay zero. Returns the greatest element of the subgroup's.
float multiply_b()
{
    float top = 0.0;
    UNROLL for (uint j = 0; j < TS; j++) {
        uint matrix = across + j * ACROSS;
        UNROLL for (uint i = 0; i < TR; i++)
            g[i * TS + j] = ACC(0.0);
        if (matrix > down * TR + TR - 1)
            continue;
        UNROLL for (uint k = 0; k < DEEP; k++) {
            MAT_B b;
            coopMatLoad(b, bs, matrix * MS * B_PITCH + k * (MS / 4), B_PITCH, COLUMNS);
            UNROLL for (uint i = 0; i < TR; i++)
                g[i * TS + j] = coopMatMulAdd(query[i * DEEP + k], b, g[i * TS + j]);
        }
        UNROLL for (uint i = 0; i < TR; i++)
            UNROLL for (uint e = 0; e < g[0].length(); e++)
                top = max(top, abs(g[i * TS + j][e]));
    }
    return top;
}

// Writes c b^T to `cs`, and makes `factor`: exp(u_t), by which row t of the state's term of y is multiplied.
// `scale` is that of the weights; `scale_rows` brings the state's term to the scale of the other term of y.
void publish_weights(float scale, float scale_rows)
{
    UNROLL for (uint i = 0; i < TR; i++)
        UNROLL for (uint j = 0; j < TS; j++)
            coopMatStore(HALVES(g[i * TS + j] * scale), cs, (down * TR + i) * MS * C_PITCH + (across + j * ACROSS) * (MS / 4),
                         C_PITCH, ROWS);
    for (uint i = tid; i < Q * MS; i += WORKGROUP)
        factor[i] = exp(sums[i / MS]) * scale_rows;
}

// Makes the block's weights of c b^T in `cs`: multiplies by exp(u_t - u_s), and sets elements above the diagonal to zero.
void decay_weights()
{
    for (uint i = tid; i < Q * (Q / 4); i += WORKGROUP) {
        uint t = i / (Q / 4), s = i % (Q / 4) * 4, at = t * C_PITCH + s / 4;
        if (s / MS > t / MS)
            continue;
        vec4 w = vec4(cs[at]) * exp(sums[t] - vec4(sums[s], sums[s + 1], sums[s + 2], sums[s + 3]));
        cs[at] = f16vec4(mix(w, vec4(0.0), greaterThan(uvec4(s) + uvec4(0, 1, 2, 3), uvec4(t))));
    }
}

void multiply_x()
{
    UNROLL for (uint i = 0; i < TR; i++) {
        uint row_matrix = down * TR + i;
        ACC f;
        coopMatLoad(f, factor, row_matrix * CELLS, MS, ROWS);
        UNROLL for (uint j = 0; j < TP; j++)
            acc[i * TP + j] = acc[i * TP + j] * f;
        UNROLL for (uint k = 0; k < Q / MS; k++) {
            if (k > row_matrix)
                continue;
            MAT_A w;
            coopMatLoad(w, cs, row_matrix * MS * C_PITCH + k * (MS / 4), C_PITCH, ROWS);
            UNROLL for (uint j = 0; j < TP; j++) {
                MAT_B x;
                coopMatLoad(x, xs, k * MS * X_PITCH + (across * TP + j) * (MS / 4), X_PITCH, ROWS);
                acc[i * TP + j] = coopMatMulAdd(w, x, acc[i * TP + j]);
            }
        }
    }
}

// Stores y = acc * scale + d x, for those matrices of y all of whose rows exist. x is loaded as a matrix, too.
void store_whole(uint row0, uint rows, uint stride_x, uint at_x, float scale)
{
    float d = pc.skip.d[h];
    UNROLL for (uint i = 0; i < TR; i++) {
        uint t0 = (down * TR + i) * MS;
        if (t0 + MS > rows)
            continue;
        UNROLL for (uint j = 0; j < TP; j++) {
            uint p = (across * TP + j) * MS;
            coopmat<float16_t, gl_ScopeSubgroup, MS, MS, gl_MatrixUseAccumulator> x;
            coopMatLoad(x, pc.xbc.d, ((row0 + t0) * stride_x + at_x + p) / 8, stride_x / 8, ROWS);
            ACC y = acc[i * TP + j] * scale + ACC(x) * d;
            coopMatStore(y, pc.y.d, (((row0 + t0) * pc.heads + h) * pc.head + p0 + p) / 4, pc.heads * pc.head / 4, ROWS);
        }
    }
}

// Stores the rows of a short block's last matrices, of which only some exist: through `factor`, row by row.
void store_rest(uint row0, uint rows, uint stride_x, uint at_x, float scale)
{
    float d = pc.skip.d[h];
    uint t0 = rows / MS * MS;
    UNROLL for (uint j = 0; j < TP; j++) {
        barrier();
        UNROLL for (uint i = 0; i < TR; i++)
            if ((down * TR + i) * MS == t0)
                coopMatStore(acc[i * TP + j], factor, across * CELLS, MS, ROWS);
        barrier();
        for (uint e = tid; e < ACROSS * CELLS; e += WORKGROUP) {
            uint t = t0 + e % CELLS / MS, p = (e / CELLS * TP + j) * MS + e % MS;
            if (t < rows) {
                uint at = (row0 + t) * stride_x + at_x + p;
                float x = unpackHalf2x16(FM_CAST(fm_u32s, pc.xbc).d[at / 2] >> (16 * (at & 1u))).x;
                FM_CAST(fm_out_f32s, pc.y).d[((row0 + t) * pc.heads + h) * pc.head + p0 + p] = fma(factor[e], scale, d * x);
            }
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
    down = gl_SubgroupID / ACROSS;
    across = gl_SubgroupID % ACROSS;
    fm_part part;
    if (!fm_part_find(pc.step, pc.segment, gl_WorkGroupID.y, pc.part, part))
        return;
    // The planner guarantees these multiples; said in arithmetic, so that the compiler knows of aligned loads.
    uint first_b = pc.heads_x * pc.head & ~7u, stride_x = first_b + (((pc.groups_b + pc.groups_c) * STATE) & ~7u);
    uint at_b = first_b + h / (pc.heads / pc.groups_b) * STATE, at_x = h / (pc.heads / pc.heads_x) * pc.head + p0;
    uint state_elems = pc.heads * pc.head * STATE, at_state = (h * pc.head + p0) * STATE;
    float a = pc.a.d[h], bias = pc.dt_bias.d[h];
    UNROLL for (uint i = 0; i < TP * TN; i++)
        held[i] = ACC(0.0);
#ifdef FM_OP_SSD
    uint at_c = first_b + (pc.groups_b + h / (pc.heads / pc.groups_c)) * STATE;
    if (FM_PRESENT(pc.starts)) {
        MOVE_STATE(coopMatLoad, pc.starts.d, gl_WorkGroupID.y * state_elems + at_state)
    } else if (part.pos != 0) {
        MOVE_STATE(coopMatLoad, pc.state.d, fm_state_version(part.slot, part.pos, pc.versions) * state_elems + at_state)
    }
    for (uint c0 = 0; c0 < part.rows; c0 += Q) {
        uint row0 = part.row + c0, rows = min(part.rows - c0, Q);
        note_most(greatest_held());
        load_steps(row0, rows, a, bias);
        LOAD_HALVES(cs, C_PITCH, row0, rows, at_c)
        barrier();
        float scale_state = power_of_most(), scale_x = scale_of_steps();
        publish_state(scale_state);
        barrier();
        multiply_state();
        barrier();
        LOAD_HALVES(bs, B_PITCH, row0, rows, at_b)
        load_x(row0, rows, stride_x, at_x, scale_x, false);
        barrier();
        note_most(multiply_b());
        barrier();
        float scale = power_of_most();
        publish_weights(scale, scale * scale_x / scale_state);
        barrier();
        decay_weights();
        barrier();
        multiply_x();
        store_whole(row0, rows, stride_x, at_x, 1.0 / (scale * scale_x));
        if (rows % MS != 0)
            store_rest(row0, rows, stride_x, at_x, 1.0 / (scale * scale_x));
        barrier();
        for (uint i = tid; i < Q * (PB / 4); i += WORKGROUP) {
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
    if (part.last) // what the last part adds is not needed
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
