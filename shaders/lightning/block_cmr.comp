#version 460
// SPDX-License-Identifier: MIT
// LINEAR_ATTEND and LINEAR_STATES on matrix units whose accumulators can become operands: Lightning Attention-2 (Qin et al. 2024,
// algorithm 1), with exact decays in a short last block. Let a block have m rows, let S be the state before it and S' the state after
// it, and d the head's decay per token:
//   y_i = sum_{j<=i} d^(i-j) (q_i k_j) v_j + d^(i+1) q_i S;   S' = d^m S + sum_j d^(m-1-j) k_j v_j^T
//   qk [T,2*H*K], v [T,H*P] f16, decay [H] f32, segments, state [S,B,H*K,P] f32 -> y [T,H*P], state'
//   linear_states computes the state only, beginning with zero: -> z [parts,H*K,P]
// One workgroup: COLS columns of P of one head, and the rows of one part (lib/segment.glsl) in blocks of C, one block after another. One
//     subgroup: MS of these columns.
//     Everything is computed transposed (y^T = S^T q^T and so on). Then what only one subgroup needs, S^T and v^T, is the left operand
//     of each product and never leaves its registers: an accumulator becomes a left operand where it lies (on NVIDIA's matrix units
//     both have the same layout). What all subgroups need is the right operand and lies in shared memory: queries, keys, and the
//     decayed products q k.
//     The state is f32. A copy of it for the product with q is rounded to f16, and so are the products q k. Both are multiplied
//     first by powers of two that bring them to at most 2^15. These powers follow from bounds, and the bounds from the largest |q|
//     and |k| of each block and the largest |v| of a subgroup.
//     With AHEAD the next block's queries are loaded while a block is multiplied. linear_states always loads keys and values ahead.
// Spec constants: 0 workgroup size (COLS / MS subgroups), 1 subgroup size, 2 K (a multiple of MS).
// Needs: coopmat_reg (MS x MS x MS, f16 x f16 -> f32, subgroup), float16, subgroup; full subgroups. P a multiple of MS.
// Accumulation: f32 in the matrix units. Rounded to f16, once a block: q and k after their activation, v times its decay within the
//     block, q k, and the copy of the state.
// Bytes moved: q and k once per COLS columns, v and y once.
// Limits: |q|, |k| beyond 65504 saturate. Shared memory 4 C (K + 8), and of linear_attend 2 C (C + 8) + 8.
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_NV_cooperative_matrix2 : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#define FM_USE_SUBGROUP_SIZE
#define REF_X fm_u32x4s
#define REF_STATE fm_out_f32x4s // matrices move in units of 16 bytes
#define REF_Y fm_out_f32x4s
#include "lightning/args.glsl"
#include "lightning/block.glsl"

layout(constant_id = 2) const uint KEY = 128;

// MS, C, COLS and AHEAD come from the manifest.
const uint WORKGROUP = gl_WorkGroupSize.x;
const uint SUBGROUPS = COLS / MS; // across the columns
const uint RT = C / MS, KT = KEY / MS; // matrices down a block, along a key
const uint OCTETS = KEY / 8;           // of a line
const uint TASKS = (C * OCTETS + WORKGROUP - 1) / WORKGROUP, QUADS = 2 * TASKS;
// Pitches of lines in shared memory, in octets of halves. One octet more than a line holds: else neighbouring lines would share banks.
const uint PITCH = (KEY + 8) / 8, P_PITCH = (C + 8) / 8;
const uint BUFFER = C * PITCH;

shared uvec4 lines[2 * BUFFER]; // [row][k]: queries, then keys; of linear_states the keys of two blocks
#ifdef FM_OP_LINEAR_ATTEND
shared uvec4 ps[C * P_PITCH]; // [row][row]: decayed products of queries and keys
shared uint largest[2];       // |q|, |k| of a block
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

ACC state[KT]; // [column][k]
HALVES v[RT];  // [column][row], as loaded
MAT_A v_left[RT];
float head_rate;
uint h, col; // head; first column of this subgroup
uint tid;

// ---- queries and keys are loaded into registers, and stored from there into shared memory

// Loads m rows of a block's queries or keys; `first`: octet of qk where its first row begins. Lines from m on are zero.
void fetch(out uvec4 x[TASKS], uint first, uint m)
{
    [[unroll]] for (uint i = 0; i < TASKS; i++) {
        uint task = i * WORKGROUP + tid, r = task / OCTETS;
        x[i] = r < m ? pc.qk.d[first + r * (pc.heads * KEY / 4) + task % OCTETS] : uvec4(0u);
    }
}

#ifdef FM_OP_LINEAR_ATTEND
void fetch_queries(out uvec4 x[TASKS], uint row, uint m)
{
    fetch(x, query_at(row, h) / 8, m);
}
#endif

void fetch_keys(out uvec4 x[TASKS], uint row, uint m)
{
    fetch(x, key_at(row, h) / 8, m);
}

uvec2 halves_of(vec4 x)
{
    return uvec2(packFloat2x16(f16vec2(x.xy)), packFloat2x16(f16vec2(x.zw)));
}

// Stores what was loaded, after the activation, in `lines` from octet `base` on. Returns the largest magnitude.
float keep(uvec4 raw[TASKS], uint base)
{
    float top = 0.0;
    vec4 x[QUADS];
    [[unroll]] for (uint i = 0; i < TASKS; i++) {
        x[2 * i] = vec4(vec2(unpackFloat2x16(raw[i].x)), vec2(unpackFloat2x16(raw[i].y)));
        x[2 * i + 1] = vec4(vec2(unpackFloat2x16(raw[i].z)), vec2(unpackFloat2x16(raw[i].w)));
    }
    if (pc.act == FM_ACT_SILU) { // asked once for all elements, so that a compiler interleaves their exponentials
        [[unroll]] for (uint i = 0; i < QUADS; i++)
            x[i] = fast_silu(x[i]);
    } else {
        [[unroll]] for (uint i = 0; i < QUADS; i++)
            x[i] = fast_act(x[i]);
    }
    [[unroll]] for (uint i = 0; i < TASKS; i++) {
        uint task = i * WORKGROUP + tid;
        if (C * OCTETS % WORKGROUP != 0 && task >= C * OCTETS)
            continue;
        vec4 a = max(abs(x[2 * i]), abs(x[2 * i + 1]));
        top = max(max(max(a.x, a.y), max(a.z, a.w)), top);
        lines[base + task / OCTETS * PITCH + task % OCTETS] = uvec4(halves_of(x[2 * i]), halves_of(x[2 * i + 1]));
    }
    return top;
}

// ---- values

float16_t read_value(const in uint p, const in uint j, const in float16_t none, const in uint first, const in uint rows)
{
    uint at = first + j * (pc.heads * pc.head) + p;
    return j < rows ? unpackFloat2x16(FM_CAST(fm_u32s, pc.v).d[at / 2])[at & 1] : none;
}

// Loads v of rows [row, row + m), this subgroup's columns; rows from m on are zero, and all of them where the subgroup has no columns.
// v is written in every case, as q_next and k_next below are: a compiler then need not keep the old values in registers.
void fetch_values(uint row, uint m, bool mine)
{
    if (!mine) {
        UNROLL for (uint b = 0; b < RT; b++)
            v[b] = HALVES(0.0);
    } else if (m == C) {
        UNROLL for (uint b = 0; b < RT; b++)
            coopMatLoad(v[b], pc.v.d, (value_at(row + b * MS, h) + col) / 8, pc.heads * pc.head / 8, COLUMNS);
    } else {
        UNROLL for (uint b = 0; b < RT; b++) {
            HALVES none = HALVES(0.0);
            coopMatPerElementNV(v[b], none, read_value, value_at(row + b * MS, h) + col, m - min(m, b * MS));
        }
    }
}

// What fetch_values loaded, as an operand. The largest of it.
float keep_values()
{
    float top = 0.0;
    UNROLL for (uint b = 0; b < RT; b++) {
        UNROLL for (uint e = 0; e < v[0].length(); e++)
            top = max(top, abs(float(v[b][e])));
        v_left[b] = MAT_A(v[b]);
    }
    return subgroupMax(top);
}

// ---- the state

MAT_A decays[RT]; // column j: d^(m-1-j), 0 from m on
#ifdef FM_OP_LINEAR_ATTEND
ACC reads; // column i: d^(i+1)
#endif

float decay_of_value(const in uint p, const in uint j, const in float x, const in uint first, const in uint m, const in float rate)
{
    return first + j < m ? exp(-rate * float(m - 1 - (first + j))) : 0.0;
}

void make_decays(uint m)
{
    UNROLL for (uint b = 0; b < RT; b++) {
        ACC d = ACC(0.0);
        coopMatPerElementNV(d, d, decay_of_value, b * MS, m, head_rate);
        decays[b] = MAT_A(d);
    }
}

// Adds a block of m rows, whose keys lie from quad `keys` on.
void advance(uint m, vec2 decay, uint keys)
{
    UNROLL for (uint i = 0; i < KT; i++)
        state[i] = state[i] * decay.x + state[i] * decay.y;
    UNROLL for (uint b = 0; b < RT; b++) {
        MAT_A left = v_left[b] * decays[b];
        UNROLL for (uint i = 0; i < KT; i++) {
            MAT_B k;
            coopMatLoad(k, lines, keys + b * MS * PITCH + i * (MS / 8), PITCH, ROWS);
            state[i] = coopMatMulAdd(left, k, state[i]);
        }
    }
}

// From element `at` of a head on. The largest of this subgroup's.
float load_state(fm_out_f32x4s from, uint at)
{
    float top = 0.0;
    UNROLL for (uint i = 0; i < KT; i++) {
        coopMatLoad(state[i], from.d, (at + i * MS * pc.head + col) / 4, pc.head / 4, COLUMNS);
        UNROLL for (uint e = 0; e < state[0].length(); e++)
            top = max(top, abs(state[i][e]));
    }
    return subgroupMax(top);
}

void store_state(fm_out_f32x4s to, uint at)
{
    UNROLL for (uint i = 0; i < KT; i++)
        coopMatStore(state[i], to.d, (at + i * MS * pc.head + col) / 4, pc.head / 4, COLUMNS);
}

#ifdef FM_OP_LINEAR_ATTEND

// ---- outputs

// Products of query and key: element (i, j) decays by `apart` + i - j tokens; nothing above the diagonal.
float decay_products(const in uint i, const in uint j, const in float x, const in uint apart, const in float scale,
                     const in float rate)
{
    return apart + i >= j ? x * scale * exp(-rate * float(apart + i - j)) : 0.0;
}

// d^(i+1): what is left of the state before the rows when row i reads it.
float decay_of_read(const in uint p, const in uint i, const in float x, const in float rate)
{
    return exp(-rate * float(i + 1));
}

float write_output(const in uint p, const in uint i, const in float x, const in uint first, const in uint rows)
{
    if (i < rows)
        FM_CAST(fm_out_f32s, pc.y).d[first + i * (pc.heads * pc.head) + p] = x;
    return x;
}

// The lower triangle of q k^T, its matrices shared out over the subgroups.
void multiply_keys(float scale)
{
    for (uint t = gl_SubgroupID; t < RT * (RT + 1) / 2; t += SUBGROUPS) {
        uint i = 0;
        while ((i + 1) * (i + 2) / 2 <= t)
            i++;
        uint j = t - i * (i + 1) / 2;
        ACC p = ACC(0.0);
        UNROLL for (uint b = 0; b < KT; b++) {
            MAT_A q;
            MAT_B k;
            coopMatLoad(q, lines, i * MS * PITCH + b * (MS / 8), PITCH, ROWS);
            coopMatLoad(k, lines, BUFFER + j * MS * PITCH + b * (MS / 8), PITCH, COLUMNS);
            p = coopMatMulAdd(q, k, p);
        }
        coopMatPerElementNV(p, p, decay_products, (i - j) * MS, scale, head_rate);
        HALVES half_p = HALVES(p);
        coopMatStore(half_p, ps, i * MS * P_PITCH + j * (MS / 8), P_PITCH, ROWS);
    }
}

// Finishes and stores rows i * MS to i * MS + MS - 1 of the block. y has their products with the state; the block's own term is added: the
// products in `ps` times v.
void finish(ACC y, uint i, uint row, uint m, float state_scale, float p_scale)
{
    ACC inner = ACC(0.0);
    UNROLL for (uint j = 0; j < RT; j++) {
        MAT_B p;
        if (j > i)
            continue;
        coopMatLoad(p, ps, i * MS * P_PITCH + j * (MS / 8), P_PITCH, COLUMNS);
        inner = coopMatMulAdd(v_left[j], p, inner);
    }
    y = y * reads * (exp(-head_rate * float(i * MS)) / state_scale) + inner * (1.0 / p_scale);
    uint first = value_at(row + i * MS, h) + col;
    if (m == C)
        coopMatStore(y, pc.y.d, first / 4, pc.heads * pc.head / 4, COLUMNS);
    else
        coopMatPerElementNV(y, y, write_output, first, m - min(m, i * MS));
}

void outputs(uint row, uint m, float state_scale, float p_scale)
{
    ACC y[RT];
    UNROLL for (uint i = 0; i < RT; i++)
        y[i] = ACC(0.0);
    UNROLL for (uint b = 0; b < KT; b++) {
        MAT_A left = MAT_A(state[b] * state_scale);
        UNROLL for (uint i = 0; i < RT; i++) {
            MAT_B q;
            coopMatLoad(q, lines, i * MS * PITCH + b * (MS / 8), PITCH, COLUMNS);
            y[i] = coopMatMulAdd(left, q, y[i]);
        }
    }
    UNROLL for (uint i = 0; i < RT; i++)
        finish(y[i], i, row, m, state_scale, p_scale);
}

void raise(uint what, float x)
{
    uint bits = subgroupMax(floatBitsToUint(x));
    if (gl_SubgroupInvocationID == 0)
        atomicMax(largest[what], bits);
}

// linear_attend. `mine`: this subgroup has columns of P. If not, it only helps to load queries and keys.
void attend(fm_part part, bool mine)
{
    uvec4 q_next[TASKS], k_next[TASKS];
    float bound = 0.0; // of the elements of this subgroup's state
    make_decays(C);
    reads = ACC(0.0);
    coopMatPerElementNV(reads, reads, decay_of_read, head_rate);
    if (tid < 2)
        largest[tid] = 0;
    if (mine && FM_PRESENT(pc.starts))
        bound = load_state(pc.starts, state_at(gl_WorkGroupID.y, h));
    else if (mine && part.pos != 0)
        bound = load_state(pc.state, state_at(fm_state_version(part.slot, part.pos, pc.versions), h));
#if AHEAD
    fetch_queries(q_next, part.row, min(part.rows, C));
#endif
    barrier();
    for (uint at = 0; at < part.rows; at += C) {
        uint row = part.row + at, m = min(part.rows - at, C), next = min(part.rows - at - m, C);
#if !AHEAD
        fetch_queries(q_next, row, m);
#endif
        fetch_keys(k_next, row, m);
        raise(0, keep(q_next, 0));
        raise(1, keep(k_next, BUFFER));
        barrier();
        fetch_values(row, m, mine);
#if AHEAD
        fetch_queries(q_next, row + C, next);
#endif
        float top_q = uintBitsToFloat(largest[0]), top_k = uintBitsToFloat(largest[1]);
        float p_scale = fit_half(float(KEY) * top_q * top_k);
        multiply_keys(p_scale);
        float top_v = keep_values();
        barrier();
        if (tid < 2)
            largest[tid] = 0;
        vec2 decay = decay_of(head_rate * float(m));
        if (m < C)
            make_decays(m);
        if (mine) {
            outputs(row, m, fit_half(bound), p_scale);
            advance(m, decay, BUFFER);
        }
        bound = (decay.x + decay.y) * bound + float(m) * top_k * top_v;
        barrier();
    }
    if (mine && part.last)
        store_state(pc.state, state_at(fm_state_version(part.slot, part.pos + part.rows, pc.versions), h));
}

#else

// linear_states. While the keys of a block are multiplied, those of the next are loaded, and then stored in the other buffer.
void collect(fm_part part, bool mine)
{
    uvec4 k_next[TASKS];
    uint at = 0, keys = 0;
    if (part.last)
        return;
    // Rows whose decay up to the part's end is below e^-88, which is no normal number, add nothing and are not read.
    make_decays(C);
    float age = 88.0 / max(head_rate, 1e-30);
    if (age < float(part.rows))
        at = (part.rows - uint(age) - 1) / C * C;
    fetch_keys(k_next, part.row + at, min(part.rows - at, C));
    fetch_values(part.row + at, min(part.rows - at, C), mine);
    keep(k_next, keys);
    barrier();
    for (; at < part.rows; at += C) {
        uint row = part.row + at, m = min(part.rows - at, C), next = min(part.rows - at - m, C);
        keep_values();
        fetch_keys(k_next, row + C, next);
        if (next > 0)
            fetch_values(row + C, next, mine);
        if (m < C)
            make_decays(m);
        if (mine)
            advance(m, decay_of(head_rate * float(m)), keys);
        keys = BUFFER - keys;
        keep(k_next, keys);
        barrier();
    }
    if (mine)
        store_state(pc.z, state_at(gl_WorkGroupID.y, h));
}

#endif

void main()
{
    uint slices = (pc.head + COLS - 1) / COLS;
    fm_part part;
    if (!fm_part_find(pc.step, pc.segment, gl_WorkGroupID.y, pc.part, part))
        return;
    tid = gl_SubgroupID * FM_SUBGROUP + gl_SubgroupInvocationID;
    h = gl_WorkGroupID.x / slices;
    col = gl_WorkGroupID.x % slices * COLS + gl_SubgroupID * MS;
    head_rate = pc.decay.d[h];
    UNROLL for (uint i = 0; i < KT; i++)
        state[i] = ACC(0.0);
#ifdef FM_OP_LINEAR_ATTEND
    attend(part, col < pc.head);
#else
    collect(part, col < pc.head);
#endif
}
