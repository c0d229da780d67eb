#version 460
// SPDX-License-Identifier: MIT
// SSD (Mamba-2) of prompts on matrix units whose accumulators can become operands: the block form of Dao and Gu 2024, section 6. The
// rows of a part go through in blocks of Q = MATRICES * MS rows, one block after another. SSD_STATES computes the state only,
// beginning with zero, and writes no outputs.
//   xbc [T,W] f16, dt [T,H], a, d, dt_bias [H], seg, state [S,B,H*P,N] -> y [T,H*P], state'
//   Let v = softplus(dt + dt_bias), and u_t = the sum of v a over the rows of the block up to row t. Let s0 be the state before the
//   block, s' the state after it, and r the block's last row:
//     y_t = exp(u_t) s0 c_t + sum_{s<=t} (c_t b_s) exp(u_t - u_s) v_s x_s + d x_t
//     s'  = exp(u_r) s0 + sum_s exp(u_r - u_s) v_s x_s b_s^T
//   The factors (c_t b_s) exp(u_t - u_s) v_s are called the block's weights: one for each pair of its rows, zero where s > t.
// One workgroup: one part of a segment (lib/segment.glsl) and HEADS heads that share b and c. A head has a team of subgroups; a
//     subgroup has MS rows p of the head's state [P,N], so that a team has PB = MS * subgroups / HEADS of them.
//     Everything is computed transposed, so that what a subgroup has in registers is the left operand of each product:
//     - The state [p][n] stays in accumulators. For y^T = s0 c^T it is converted to a left operand where it lies.
//     - x^T is loaded from memory into the same layout. It is the left operand of x^T weights^T, is scaled and multiplied by b for
//       the state, and is added to y^T as d x.
//     b and c of a block are stored in shared memory for all subgroups. The weights of a head are made by its team, each subgroup a
//     share of them, and stored in shared memory, too.
//     Barriers: SSD_STATES has one a block; SSD has two where b has two places (AHEAD 1), else three.
//     What a block needs of memory is loaded while the block before it is computed: x into the registers of the x that has just been
//     used; dt two blocks ahead; b and c one block ahead with AHEAD 1. Code for whole blocks has no condition around its loads,
//     because a compiler does not move loads across conditions: beyond the part it reads the part's last rows, and does not use
//     them. The tables of a head (u, v and what follows of them) are made by the last subgroup of its team, a block ahead.
// Spec constants: 0 workgroup size, 1 subgroup size, 2 N; N a multiple of MS and of 8; PB divides P, and is P where HEADS > 1.
// Defines: MS, the shape MS x MS x MS of one matrix; MATRICES, 2 or 4; HEADS, which divides the number of heads that share b and c;
//     AHEAD. 0: b and c are loaded when the block before is done. 1 (always for SSD_STATES): they are loaded while the block before
//     is computed, and b has two places in shared memory.
// Needs: coopmat_reg (conversions, per-element operations), float16, subgroup arithmetic; full subgroups.
// Accumulation: f32 in the matrix units. The operands are f16: x, b, c, the weights, and the copy of the state that is multiplied.
//     The state itself stays f32. Three scales, powers of two, keep these operands in f16's range: one for v, one for a subgroup's
//     rows of the state, one for the weights of a block. The last comes from a bound, |c b| <= N max|c| max|b|, because the
//     weights are not known when it is needed. The bound is about 2^7 times what they are (N 128); 22 binades remain below them before
//     f16 loses digits. v a is not less than -128, where its exponential is 0 in any case: larger sums would lose digits of their
//     differences, and the differences are what exp sees.
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

#define TURNS (1 + AHEAD) // places for b; `turn` is the parity of a block, 0 or 1

const uint Q = MATRICES * MS;
const uint WORKGROUP = gl_WorkGroupSize.x;
const uint SUBGROUPS = WORKGROUP / FM_SUBGROUP;
const uint TEAM = SUBGROUPS / HEADS; // subgroups of a head's team
const uint DEEP = STATE / MS;        // matrices along n
const uint OWN = Q / FM_SUBGROUP;    // rows of a block for each lane of a subgroup that makes tables
const uint LINES = Q * (STATE / 8);  // units of 8 halves in a block of b or c
const uint MOVES = (LINES + WORKGROUP - 1) / WORKGROUP;
// Pitches of lines in shared memory, in units of 8 halves. One unit more than a line holds: else neighbouring lines would share banks.
const uint PITCH = STATE / 8 + 1, W_PITCH = Q / 8 + 1;

// Tables [turn][head][row]: of the block that is computed, and of the next one.
shared uvec4 bs[TURNS * Q * PITCH];   // [s][n] b
shared float sums[2 * HEADS * Q];     // u
shared float onward[2 * HEADS * Q];   // v exp(u_r - u_s) * unit: what row s adds to the state
shared float unit[2 * HEADS];         // [turn][head] the scale of v: the power of two that brings it below 1
#ifdef FM_OP_SSD
shared uvec4 cs[Q * PITCH];                // [t][n] c
shared uvec4 weights[HEADS * Q * W_PITCH]; // [head][t][s]; matrices above the diagonal are not used
shared float steps[2 * HEADS * Q];         // v * unit
shared float reach[2 * HEADS * Q];         // exp(u)
shared float most_b[SUBGROUPS], most_c[SUBGROUPS]; // the greatest element of b, of c, that each subgroup stored
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

ACC held[DEEP]; // the subgroup's rows of the state times held_unit, matrix after matrix along n
float held_unit;
HALVES xs[MATRICES]; // x^T of the subgroup's rows p, matrix after matrix along s
uvec4 next_b[MOVES];
#ifdef FM_OP_SSD
uvec4 next_c[MOVES];
uint at_c;
ACC y[MATRICES]; // y^T of the subgroup's rows p, matrix after matrix along t
#endif
uint tid, team, member; // this subgroup is number `member` of team `team`
uint h;                 // the team's head
uint begin, count;      // the part's first row, and its number of rows
uint stride_x, at_b, at_x;

// The power of two that brings `greatest` below 2^(target + 1).
float power_for(float greatest, int target)
{
    int e = clamp(int(floatBitsToUint(greatest) >> 23) - 127, -30, 60);
    return uintBitsToFloat(uint(target - e + 127) << 23);
}

// The greatest element of what this subgroup loaded of b or c. All of it is of the block, also what an invocation loaded twice.
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

// Loads this invocation's share of b or c into registers: Q rows from row c0 of the part on; `at` is the first column in xbc.
void fetch_lines(out uvec4 next[MOVES], uint c0, uint at)
{
    [[unroll]] for (uint i = 0; i < MOVES; i++) {
        uint task = i * WORKGROUP + tid, line = task / (STATE / 8);
        if (LINES % WORKGROUP != 0)
            line = min(line, Q - 1);
        next[i] = pc.xbc.d[((begin + min(c0 + line, count - 1)) * stride_x + at) / 8 + task % (STATE / 8)];
    }
}

// Stores what fetch_lines has loaded into shared memory.
#define KEEP_LINES(to, first, next)                                                                                    \
    [[unroll]] for (uint i = 0; i < MOVES; i++) {                                                                      \
        uint task = i * WORKGROUP + tid;                                                                               \
        if (LINES % WORKGROUP == 0 || task < LINES)                                                                    \
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

// Loads dt of the block from row c0 on, for publish_steps.
void fetch_steps(out float raw[OWN], uint c0)
{
    [[unroll]] for (uint i = 0; i < OWN; i++) {
        uint row = min(c0 + i * FM_SUBGROUP + gl_SubgroupInvocationID, count - 1);
        raw[i] = pc.dt.d[(begin + row) * pc.heads + h];
    }
}

// Makes the tables of the team's head for a block of `rows` rows; one subgroup of the team calls it.
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

// Loads matrix k of x^T of the block from row c0 on. Either all its rows are in the part, or it is not used.
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

// Loads x^T of a short block, of `rows` rows; rows that it lacks are zero.
void read_short_x(uint c0, uint rows)
{
    UNROLL for (uint k = 0; k < MATRICES; k++) {
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

// Adds to the state what matrix k of x^T gives. Rows that a short block lacks have v = 0 and x = 0, and add nothing.
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

// Loads or stores (MOVE) the subgroup's rows of a state in memory; `at`: their first element.
#define MOVE_STATE(MOVE, memory, at)                                                                                   \
    UNROLL for (uint n = 0; n < DEEP; n++)                                                                             \
        MOVE(held[n], memory, ((at) + n * MS) / 4, STATE / 4, ROWS);

void unscale_state()
{
    UNROLL for (uint n = 0; n < DEEP; n++)
        held[n] = held[n] * (1.0 / held_unit);
}

#ifdef FM_OP_SSD

// The scale of the subgroup's rows of the state.
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

// Sets y^T to the state's term, exp(u_t) s0 c_t, times `to`. Then the state decays to the block's end, and gets the block's own unit.
void multiply_state(uint turn, float to)
{
    uint place = turn * HEADS + team, table = place * Q;
    float scale = scale_of_state(), keep = exp(sums[table + Q - 1]) * (unit[place] / held_unit);
    UNROLL for (uint j = 0; j < MATRICES; j++)
        y[j] = ACC(0.0);
    UNROLL for (uint n = 0; n < DEEP; n++) {
        MAT_A s = MAT_A(held[n] * scale);
        held[n] = held[n] * keep;
        UNROLL for (uint j = 0; j < MATRICES; j++) {
            MAT_B c;
            coopMatLoad(c, cs, j * MS * PITCH + n * (MS / 8), PITCH, COLUMNS);
            y[j] = coopMatMulAdd(s, c, y[j]);
        }
    }
    UNROLL for (uint j = 0; j < MATRICES; j++)
        coopMatPerElementNV(y[j], y[j], decay, table + j * MS, 1.0 / (scale * held_unit), to);
    held_unit = unit[place];
}

// Adds to y^T what matrix k of x^T gives to the rows of matrices k, k + 1, ... (earlier rows do not see it).
void multiply_x(HALVES x, uint k)
{
    MAT_A left = MAT_A(x);
    UNROLL for (uint j = 0; j < MATRICES; j++) {
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

// Uses x: adds its terms to y^T, stores y, and adds what x gives to the state; then loads the next block's x. `rows`: of this block, Q if
// `whole`. at_y: element of y at its first row. `from`: undoes the scales of y^T.
void finish(const bool whole, uint c0, uint rows, uint turn, float d, uint stride_y, uint at_y, float from)
{
    UNROLL for (uint k = 0; k < MATRICES; k++) {
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

// Computes the block from row c0 of the part on.
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
    UNROLL for (uint k = 0; k < MATRICES; k++) {
        update(ACC(xs[k]), k, turn);
        if (whole)
            fetch_x(k, c0 + Q);
    }
}

// Takes the block from row c0 of the part into the state. Returns the block's sum of v a.
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

// Finds where this subgroup's operands begin. p0: its first row p of head h; `first`: the workgroup's first head.
void locate(fm_part part, uint first, uint p0)
{
    begin = part.row;
    count = part.rows;
    // The planner guarantees these multiples; said in arithmetic, so that the compiler knows of aligned loads.
    uint first_b = pc.heads_x * pc.head & ~7u;
    stride_x = first_b + (((pc.groups_b + pc.groups_c) * STATE) & ~7u);
    at_x = (h / (pc.heads / pc.heads_x) * pc.head & ~7u) + p0;
    at_b = first_b + first / (pc.heads / pc.groups_b) * STATE;
#ifdef FM_OP_SSD
    at_c = first_b + (pc.groups_b + first / (pc.heads / pc.groups_c)) * STATE;
#endif
}

void fetch_first()
{
    fetch_lines(next_b, 0, at_b);
#ifdef FM_OP_SSD
    fetch_lines(next_c, 0, at_c);
#endif
    if (count >= Q) {
        UNROLL for (uint k = 0; k < MATRICES; k++)
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
    if (part.last) // what the last part adds is not needed
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
        if (publisher) { // for the next block
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
