#version 460
// SPDX-License-Identifier: MIT
// SSD (Mamba-2) of prompts on matrix units, with the state as an operand in registers: chunks of Q = BLOCKS * MS rows (Dao and
// Gu 2024, section 6), one after another. SSD_STATES is the same without outputs, from a zero state.
//   xbc [T,W] f16, dt [T,H], a, d, dt_bias [H], seg, state [S,B,H*P,N] -> y [T,H*P], state'
//   With v = softplus(dt + dt_bias), u_t the sum of v a up to row t of the chunk, s0 the state before it and r its last row:
//     y_t = exp(u_t) s0 c_t + sum_{s<=t} (c_t b_s) exp(u_t - u_s) v_s x_s + d x_t;  s' = exp(u_r) s0 + sum_s exp(u_r - u_s) v_s x_s b_s^T
// One workgroup: HEADS heads that share b and c, MS rows p of one of them for each of its subgroups (PB rows of a head), and one part of
//     a segment. All is transposed: a subgroup holds its rows of the state [p][n] in accumulators that never leave it; for
//     y^T = s0 c^T they become the left operand where they are, and so does x^T, which comes from memory in the accumulators' places
//     and meets y^T there once more for d x. Of one chunk b and c go to shared memory, a head's subgroups share out its weights
//     (c b^T) exp(u_t - u_s) v_s up to the diagonal and put them there too. SSD_STATES has one barrier a chunk; SSD two where
//     AHEAD gives b a second place, else three.
//     What a chunk needs of memory is on its way while the one before is worked on: x takes the place of the x that has just been
//     used, dt is two chunks ahead, b and c one where AHEAD says so. Whole chunks have no conditions that would keep a compiler
//     from moving loads; rows beyond the part are then read as its last ones, and not used. What rows have in common (u, v) is
//     made by a head's last subgroup, a chunk ahead.
// Spec constants: 0 workgroup size, 1 subgroup size, 2 N; N a multiple of MS and of 8; PB = MS * subgroups / HEADS divides P, and is P
//     where HEADS > 1.
// Defines: MS, the shape MS x MS x MS of one matrix; BLOCKS, 2 or 4; HEADS, which divides the heads that share b and c; AHEAD: 0: b
//     and c are fetched when the chunk before is done; 1: while it is worked on, with two places for b (SSD_STATES: 1).
// Needs: coopmat_reg (conversions, per-element operations), float16, subgroup arithmetic; full subgroups.
// Accumulation: f32 in the matrix units; x, b, c, weights and the state where it is read are f16. The state itself stays f32.
//     Powers of two keep f16 in range: for v, for the subgroup's rows of the state, and for the weights of a chunk, these from
//     |c b| <= N max|c| max|b|. That is about 2^7 above what they are (N 128), which leaves 22 binades below them before f16 loses
//     digits. v a is cut off at -128, where its exponential is 0 in any case, so that differences of sums keep their digits; only
//     they meet exp.
// Bytes moved: b, c once per HEADS heads and PB rows; x, y once (SSD_STATES reads x and b once more); the state once a part.
// Limits: shared memory, with L = 2 Q (N + 8): L for each place of b, and 16 Q HEADS + 8 HEADS; of SSD besides
//     L + HEADS (2 Q (Q + 8) + 16 Q) + 8 subgroups.
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_NV_cooperative_matrix2 : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_KHR_shader_subgroup_ballot : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#define FM_USE_SUBGROUP_SIZE
#include "abi.h"
#include "io.glsl"
#include "spec.glsl"
#include "num.glsl"
#include "segment.glsl"

layout(constant_id = 2) const uint STATE = 128;

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

#define TURNS (1 + AHEAD) // places for b

const uint Q = BLOCKS * MS;
const uint WORKGROUP = gl_WorkGroupSize.x;
const uint SUBGROUPS = WORKGROUP / FM_SUBGROUP;
const uint TEAM = SUBGROUPS / HEADS; // subgroups of a head
const uint DEEP = STATE / MS;        // blocks of n
const uint OWN = Q / FM_SUBGROUP;    // rows of a chunk for a lane of the subgroup that makes sums
const uint LINES = Q * (STATE / 8);  // units of 8 halves in a chunk of b or c
const uint MOVES = (LINES + WORKGROUP - 1) / WORKGROUP;
// Pitches of lines in shared memory, in units of 8 halves; one unit more than is full keeps lines off the same banks.
const uint PITCH = STATE / 8 + 1, W_PITCH = Q / 8 + 1;

// Tables are of the chunk that is worked on and the next one: [chunk][head][row].
shared uvec4 bs[TURNS * Q * PITCH];   // [s][n] b
shared float sums[2 * HEADS * Q];     // u
shared float onward[2 * HEADS * Q];   // v exp(u_r - u_s) in units of `unit`
shared float unit[2 * HEADS];         // the power of two that brings v below 1
#ifdef FM_OP_SSD
shared uvec4 cs[Q * PITCH];                // [t][n] c
shared uvec4 weights[HEADS * Q * W_PITCH]; // [head][t][s], up to the diagonal's blocks
shared float steps[2 * HEADS * Q];         // v in units of `unit`
shared float reach[2 * HEADS * Q];         // exp(u)
shared float most_b[SUBGROUPS], most_c[SUBGROUPS]; // the largest that a subgroup moved
#endif

#define MAT_A coopmat<float16_t, gl_ScopeSubgroup, MS, MS, gl_MatrixUseA>
#define MAT_B coopmat<float16_t, gl_ScopeSubgroup, MS, MS, gl_MatrixUseB>
#define ACC coopmat<float, gl_ScopeSubgroup, MS, MS, gl_MatrixUseAccumulator>
#define HALVES coopmat<float16_t, gl_ScopeSubgroup, MS, MS, gl_MatrixUseAccumulator>
#define ROWS gl_CooperativeMatrixLayoutRowMajor
#define COLUMNS gl_CooperativeMatrixLayoutColumnMajor

// Small matrices are for processors, whose drivers spend long on long programs.
#if MS < 16
#define UNROLL [[dont_unroll]]
#else
#define UNROLL [[unroll]]
#endif

ACC held[DEEP]; // the subgroup's rows of the state, in units of held_unit; block n
float held_unit;
HALVES xs[BLOCKS]; // x^T of the subgroup's p, block of s
uvec4 next_b[MOVES];
#ifdef FM_OP_SSD
uvec4 next_c[MOVES];
uint at_c;
ACC y[BLOCKS]; // y^T of the subgroup's p, block of t
#endif
uint tid, team, member; // the subgroup is `member` of those of head `team` of the workgroup's
uint h;                 // that head
uint begin, count;      // rows of the part
uint stride_x, at_b, at_x;

// The power of two that brings `greatest` below 2^(target + 1).
float power_for(float greatest, int target)
{
    int e = clamp(int(floatBitsToUint(greatest) >> 23) - 127, -30, 60);
    return uintBitsToFloat(uint(target - e + 127) << 23);
}

// Of what a subgroup fetched: rows of the chunk, also where an invocation has less than MOVES to move.
float greatest_of(uvec4 next[MOVES])
{
    f16vec2 top = f16vec2(0.0);
    [[unroll]] for (uint i = 0; i < MOVES; i++) {
        f16vec2 low = max(abs(unpackFloat2x16(next[i].x)), abs(unpackFloat2x16(next[i].y)));
        f16vec2 high = max(abs(unpackFloat2x16(next[i].z)), abs(unpackFloat2x16(next[i].w)));
        top = max(top, max(low, high));
    }
    return subgroupMax(float(max(top.x, top.y)));
}

// Rows of b or c, whose first column is `at`, from row c0 of the part on, to registers.
void fetch_lines(out uvec4 next[MOVES], uint c0, uint at)
{
    [[unroll]] for (uint i = 0; i < MOVES; i++) {
        uint task = i * WORKGROUP + tid, line = task / (STATE / 8);
        if (LINES % WORKGROUP != 0)
            line = min(line, Q - 1);
        next[i] = pc.xbc.d[((begin + min(c0 + line, count - 1)) * stride_x + at) / 8 + task % (STATE / 8)];
    }
}

// From there to shared memory. Of SSD, besides, the largest that the subgroup moved.
#define KEEP_LINES(to, first, next)                                                                                    \
    [[unroll]] for (uint i = 0; i < MOVES; i++) {                                                                      \
        uint task = i * WORKGROUP + tid;                                                                                   \
        if (LINES % WORKGROUP == 0 || task < LINES)                                                                        \
            to[(first) + task / (STATE / 8) * PITCH + task % (STATE / 8)] = next[i];                                   \
    }

void keep_b(uint turn)
{
    KEEP_LINES(bs, turn % TURNS * Q * PITCH, next_b)
#ifdef FM_OP_SSD
    float top = greatest_of(next_b);
    if (subgroupElect())
        most_b[gl_SubgroupID] = top;
#endif
}

#ifdef FM_OP_SSD
void keep_c()
{
    KEEP_LINES(cs, 0, next_c)
    float top = greatest_of(next_c);
    if (subgroupElect())
        most_c[gl_SubgroupID] = top;
}
#endif

// dt of the chunk from row c0 on, for publish_steps.
void fetch_steps(out float raw[OWN], uint c0)
{
    [[unroll]] for (uint i = 0; i < OWN; i++) {
        uint row = min(c0 + i * FM_SUBGROUP + gl_SubgroupInvocationID, count - 1);
        raw[i] = pc.dt.d[(begin + row) * pc.heads + h];
    }
}

// The tables of a head for a chunk of `rows` rows, by one of the head's subgroups.
void publish_steps(float raw[OWN], uint rows, float a, float bias, uint turn)
{
    float v[OWN], u[OWN], before = 0.0, top = 0.0;
    [[unroll]] for (uint i = 0; i < OWN; i++) {
        v[i] = i * FM_SUBGROUP + gl_SubgroupInvocationID < rows ? fm_softplus(raw[i] + bias) : 0.0;
        u[i] = before + subgroupInclusiveAdd(max(v[i] * a, -128.0));
        before = subgroupBroadcast(u[i], FM_SUBGROUP - 1);
        top = max(top, v[i]);
    }
    float power = power_for(subgroupMax(top), -1);
    uint place = turn * HEADS + team;
    [[unroll]] for (uint i = 0; i < OWN; i++) {
        uint at = place * Q + i * FM_SUBGROUP + gl_SubgroupInvocationID;
        sums[at] = u[i];
        onward[at] = v[i] * power * exp(before - u[i]);
#ifdef FM_OP_SSD
        steps[at] = v[i] * power;
        reach[at] = exp(u[i]);
#endif
    }
    if (subgroupElect())
        unit[place] = power;
}

// Block k of x^T of the chunk from row c0 on, of which all rows are there or none is used.
void fetch_x(uint k, uint c0)
{
    uint row = begin + min(c0 + k * MS, count - MS);
    coopMatLoad(xs[k], pc.xbc.d, (row * stride_x + at_x) / 8, stride_x / 8, COLUMNS);
}

float16_t read_x(const in uint p, const in uint s, const in float16_t none, const in uint row, const in uint rows,
                 const in uint stride, const in uint at)
{
    uint i = (row + s) * stride + at + p;
    return s < rows ? unpackFloat2x16(FM_CAST(fm_u32s, pc.xbc).d[i / 2])[i & 1] : none;
}

// x^T of a chunk of `rows` rows; zeros beyond.
void read_short_x(uint c0, uint rows)
{
    UNROLL for (uint k = 0; k < BLOCKS; k++) {
        uint first = k * MS;
        xs[k] = HALVES(0.0);
        if (rows > first)
            coopMatPerElementNV(xs[k], xs[k], read_x, begin + c0 + first, rows - first, stride_x, at_x);
    }
}

float carry_on(const in uint p, const in uint s, const in float x, const in uint first)
{
    return x * onward[first + s];
}

// What block k of the chunk adds to the state. Padding rows have v = 0 and x = 0.
void update(ACC x, uint k, uint turn)
{
    coopMatPerElementNV(x, x, carry_on, (turn * HEADS + team) * Q + k * MS);
    MAT_A left = MAT_A(x);
    UNROLL for (uint n = 0; n < DEEP; n++) {
        MAT_B b;
        coopMatLoad(b, bs, (turn % TURNS * Q + k * MS) * PITCH + n * (MS / 8), PITCH, ROWS);
        held[n] = coopMatMulAdd(left, b, held[n]);
    }
}

// To or from a state in memory, whose rows of this subgroup begin at element `at`.
#define MOVE_STATE(MOVE, memory, at)                                                                                   \
    UNROLL for (uint n = 0; n < DEEP; n++)                                                                             \
        MOVE(held[n], memory, ((at) + n * MS) / 4, STATE / 4, ROWS);

void unscale_state()
{
    UNROLL for (uint n = 0; n < DEEP; n++)
        held[n] = held[n] * (1.0 / held_unit);
}

#ifdef FM_OP_SSD

// The power of two for the state as f16.
float scale_of_state()
{
    float top = 0.0;
    UNROLL for (uint n = 0; n < DEEP; n++)
        UNROLL for (uint e = 0; e < held[0].length(); e++)
            top = max(top, abs(held[n][e]));
    return power_for(subgroupMax(top), 14);
}

#include "ssd/weights_cmr.glsl"

float decay(const in uint p, const in uint t, const in float y, const in uint t0, const in float from,
            const in float to)
{
    return y * from * (reach[t0 + t] * to);
}

// y^T of what the state before the chunk gives, in units of `to`; the state goes on to the chunk's end, in units of its v.
void multiply_state(uint turn, float to)
{
    uint place = turn * HEADS + team, table = place * Q;
    float scale = scale_of_state(), keep = exp(sums[table + Q - 1]) * (unit[place] / held_unit);
    UNROLL for (uint j = 0; j < BLOCKS; j++)
        y[j] = ACC(0.0);
    UNROLL for (uint n = 0; n < DEEP; n++) {
        MAT_A s = MAT_A(held[n] * scale);
        held[n] = held[n] * keep;
        UNROLL for (uint j = 0; j < BLOCKS; j++) {
            MAT_B c;
            coopMatLoad(c, cs, j * MS * PITCH + n * (MS / 8), PITCH, COLUMNS);
            y[j] = coopMatMulAdd(s, c, y[j]);
        }
    }
    UNROLL for (uint j = 0; j < BLOCKS; j++)
        coopMatPerElementNV(y[j], y[j], decay, table + j * MS, 1.0 / (scale * held_unit), to);
    held_unit = unit[place];
}

// What block k of x gives to all rows of blocks from k on.
void multiply_x(HALVES x, uint k)
{
    MAT_A left = MAT_A(x);
    UNROLL for (uint j = 0; j < BLOCKS; j++) {
        if (j < k)
            continue;
        MAT_B w;
        coopMatLoad(w, weights, (team * Q + j * MS) * W_PITCH + k * (MS / 8), W_PITCH, COLUMNS);
        y[j] = coopMatMulAdd(left, w, y[j]);
    }
}

float put_y(const in uint p, const in uint t, const in float y, const in uint rows, const in uint stride,
            const in uint at)
{
    if (t < rows)
        FM_CAST(fm_out_f32s, pc.y).d[t * stride + at + p] = y;
    return y;
}

// What x gives to y and to the state; the next chunk's x is fetched. `rows`: of the chunk, Q if `whole`; at_y: of its first row.
void finish(const bool whole, uint c0, uint rows, uint turn, float d, uint stride_y, uint at_y, float from)
{
    UNROLL for (uint k = 0; k < BLOCKS; k++) {
        uint first = k * MS, at = at_y + first * stride_y;
        ACC x = ACC(xs[k]);
        multiply_x(xs[k], k);
        ACC sum = y[k] * from + x * d;
        if (whole)
            coopMatStore(sum, pc.y.d, at / 4, stride_y / 4, COLUMNS);
        else if (rows > first)
            coopMatPerElementNV(sum, sum, put_y, rows - first, stride_y, at);
        update(x, k, turn);
        if (whole)
            fetch_x(k, c0 + Q);
    }
}

// The chunk from row c0 of the part on.
void advance(uint c0, uint rows, uint turn, float d, uint stride_y, uint at_y)
{
    float scale = scale_of_weights();
    for (uint share = member; share < SHARES; share += TEAM)
        weigh_share(share, turn, scale);
    multiply_state(turn, scale * unit[turn * HEADS + team]);
    barrier();
#if AHEAD
    keep_b(turn ^ 1);
    keep_c();
#endif
    float from = 1.0 / (scale * held_unit);
    if (rows == Q)
        finish(true, c0, rows, turn, d, stride_y, at_y, from);
    else
        finish(false, c0, rows, turn, d, stride_y, at_y, from);
#if !AHEAD
    barrier();
    fetch_lines(next_b, c0 + Q, at_b);
    fetch_lines(next_c, c0 + Q, at_c);
    keep_c();
    keep_b(turn ^ 1);
#endif
}

#else

void finish(const bool whole, uint c0, uint turn)
{
    UNROLL for (uint k = 0; k < BLOCKS; k++) {
        update(ACC(xs[k]), k, turn);
        if (whole)
            fetch_x(k, c0 + Q);
    }
}

// The chunk from row c0 of the part on; the sum of its v a.
float advance(uint c0, uint rows, uint turn)
{
    uint place = turn * HEADS + team;
    float sum = sums[place * Q + Q - 1], keep = exp(sum) * (unit[place] / held_unit);
    held_unit = unit[place];
    UNROLL for (uint n = 0; n < DEEP; n++)
        held[n] = held[n] * keep;
    if (rows == Q)
        finish(true, c0, turn);
    else
        finish(false, c0, turn);
    keep_b(turn ^ 1);
    return sum;
}

#endif

// Where this subgroup's operands are: p0 its first row of head h, `first` the workgroup's first head.
void locate(fm_part part, uint first, uint p0)
{
    begin = part.row;
    count = part.rows;
    // The planner guarantees these multiples; said in arithmetic, so that the compiler knows of aligned loads.
    uint first_b = pc.heads_x * pc.head & ~7u;
    stride_x = first_b + (((pc.groups + pc.groups_c) * STATE) & ~7u);
    at_x = (h / (pc.heads / pc.heads_x) * pc.head & ~7u) + p0;
    at_b = first_b + first / (pc.heads / pc.groups) * STATE;
#ifdef FM_OP_SSD
    at_c = first_b + (pc.groups + first / (pc.heads / pc.groups_c)) * STATE;
#endif
}

void fetch_first()
{
    fetch_lines(next_b, 0, at_b);
#ifdef FM_OP_SSD
    fetch_lines(next_c, 0, at_c);
#endif
    if (count >= Q) {
        UNROLL for (uint k = 0; k < BLOCKS; k++)
            fetch_x(k, 0);
    }
}

void main()
{
    tid = gl_SubgroupID * FM_SUBGROUP + gl_SubgroupInvocationID;
    team = gl_SubgroupID / TEAM;
    member = gl_SubgroupID % TEAM;
    uint tiles = HEADS > 1 ? 1 : pc.head / (MS * TEAM), first = gl_WorkGroupID.x / tiles * HEADS;
    h = first + team;
    uint p0 = (gl_WorkGroupID.x % tiles * TEAM + member) * MS;
    fm_part part;
    if (!fm_part_find(pc.step, pc.segment, gl_WorkGroupID.y, pc.part, part))
        return;
#ifndef FM_OP_SSD
    if (part.last) // nobody asks what it adds
        return;
#endif
    locate(part, first, p0);
    uint state_elems = pc.heads * pc.head * STATE, at_state = (h * pc.head + p0) * STATE;
    float a = pc.a.d[h], bias = pc.dt_bias.d[h], raw[OWN];
    bool publisher = member == TEAM - 1;
    held_unit = 1.0;
    UNROLL for (uint n = 0; n < DEEP; n++)
        held[n] = ACC(0.0);
#ifdef FM_OP_SSD
    uint stride_y = pc.heads * pc.head & ~7u;
    float d = pc.skip.d[h];
#else
    float total = 0.0;
#endif
    fetch_first();
    if (publisher)
        fetch_steps(raw, 0);
#ifdef FM_OP_SSD
    if (FM_PRESENT(pc.starts)) {
        MOVE_STATE(coopMatLoad, pc.starts.d, gl_WorkGroupID.y * state_elems + at_state)
    } else if (part.pos != 0) {
        MOVE_STATE(coopMatLoad, pc.state.d, fm_state_version(part.slot, part.pos, pc.versions) * state_elems + at_state)
    }
#endif
    keep_b(0);
#ifdef FM_OP_SSD
    keep_c();
#endif
    if (publisher) {
        publish_steps(raw, min(count, Q), a, bias, 0);
        fetch_steps(raw, Q);
    }
    for (uint c0 = 0; c0 < count; c0 += Q) {
        uint rows = min(count - c0, Q), turn = c0 / Q % 2;
        if (rows < Q)
            read_short_x(c0, rows);
        barrier();
#if AHEAD
        fetch_lines(next_b, c0 + Q, at_b);
#ifdef FM_OP_SSD
        fetch_lines(next_c, c0 + Q, at_c);
#endif
#endif
        if (publisher) { // for the next chunk
            publish_steps(raw, min(count - c0 - rows, Q), a, bias, turn ^ 1);
            fetch_steps(raw, c0 + 2 * Q);
        }
#ifdef FM_OP_SSD
        advance(c0, rows, turn, d, stride_y, (begin + c0) * stride_y + h * pc.head + p0);
#else
        total += advance(c0, rows, turn);
#endif
    }
    unscale_state();
#ifdef FM_OP_SSD
    if (part.last) {
        MOVE_STATE(coopMatStore, pc.state.d, fm_state_version(part.slot, part.pos + part.rows, pc.versions) * state_elems + at_state)
    }
#else
    MOVE_STATE(coopMatStore, pc.z.d, gl_WorkGroupID.y * state_elems + at_state)
    if (gl_WorkGroupID.x % tiles == 0 && member == 0 && subgroupElect())
        pc.sums.d[gl_WorkGroupID.y * pc.heads + h] = total;
#endif
}
