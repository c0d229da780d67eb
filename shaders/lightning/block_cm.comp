#version 460
// SPDX-License-Identifier: MIT
// LINEAR_ATTEND and LINEAR_STATES on matrix units through KHR_cooperative_matrix: Lightning Attention-2 (Qin et al. 2024, algorithm 1),
// with exact decays in a short last block. Let a block have m rows, let S be the state before it and S' the state after it, and d the
// head's decay per token:
//   y_i = sum_{j<=i} d^(i-j) (q_i k_j) v_j + d^(i+1) q_i S;   S' = d^m S + sum_j d^(m-1-j) k_j v_j^T
//   qk [T,2*H*K], v [T,H*P] f16, decay [H] f32, segments, state [S,B,H*K,P] f32 -> y [T,H*P], state'
//   linear_states computes the state only, beginning with zero: -> z [parts,H*K,P]
// One workgroup: COLS columns of P of one head, and the rows of one part (lib/segment.glsl) in blocks of C, one block after another.
//     The state stays in accumulators, in f32. For the product q S it is copied to shared memory in slabs of SD * MS rows, as f16.
//     The products q k are copied there as f16, too. Both are multiplied first by powers of two that bring them to at most 2^15.
//     These powers follow from bounds, and the bounds from the largest |q|, |k| and |v| of each block.
//     While a block is multiplied, the next one is loaded into registers.
// Spec constants: 0 workgroup size, 1 subgroup size, 2 K (a multiple of MS).
// Needs: coopmat (MS x MS x MS, f16 x f16 -> f32, subgroup), float16, subgroup; full subgroups. P a multiple of MS.
// Accumulation: f32 in the matrix units. Rounded to f16, once a block: q and k after their activation, decays within a block, q k, and the
//     copy of the state.
// Bytes moved: q and k once per COLS columns, v and y once.
// Limits: |q|, |k| beyond 65504 saturate. Shared memory 2 C (2 K + COLS + C + 32) + 2 SD MS (COLS + 8) and the maxima.
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#define FM_USE_SUBGROUP_SIZE
#define REF_X fm_u32x2s
#define REF_STATE fm_out_f32x4s // matrices move in units of 16 bytes
#define REF_Y fm_out_f32x4s
#include "lightning/args.glsl"
#include "lightning/block.glsl"

layout(constant_id = 2) const uint KEY = 128;

// MS, C and COLS come from the manifest.
const uint WORKGROUP = gl_WorkGroupSize.x;
const uint SUBGROUPS = WORKGROUP / FM_SUBGROUP;
const uint RT = C / MS, KT = KEY / MS, CT = COLS / MS; // matrices down a block, down the state, and across either
const uint YA = SUBGROUPS / RT;                        // in y: subgroups across; down there are RT
const uint TY = (CT + YA - 1) / YA;                    // in y: a subgroup's matrices
const uint SD = 4, SA = SUBGROUPS / SD;                // in the state: subgroups down and across
const uint TK = (KT + SD - 1) / SD, TC = (CT + SA - 1) / SA; // in the state: a subgroup's matrices down and across
// Pitches of lines in shared memory, in quads of halves; S_PITCH in octets. 8 halves more than a line holds: else neighbouring lines would
// share banks.
const uint K_PITCH = (KEY + 8) / 4, V_PITCH = (COLS + 8) / 4, P_PITCH = (C + 8) / 4, S_PITCH = (COLS + 8) / 8;

#ifdef FM_OP_LINEAR_ATTEND
shared f16vec4 qs[C * K_PITCH]; // [row][k]
shared f16vec4 ps[C * P_PITCH]; // [row][row]: decayed products of queries and keys
#endif
shared f16vec4 ks[C * K_PITCH];
shared f16vec4 vs[C * V_PITCH];       // [row][column]
shared uvec4 slab[SD * MS * S_PITCH]; // rows of the state [k][column] in f16; at other times tables, or rows of y
shared uint largest[2][4];            // [parity of a block]: its largest |q|, |k|, |v|, as bits; [0][3]: |S| at the part's start

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

const uint K_TASKS = (C * KEY / 4 + WORKGROUP - 1) / WORKGROUP, V_TASKS = (C * COLS / 4 + WORKGROUP - 1) / WORKGROUP; // quads

uvec2 k_next[K_TASKS], v_next[V_TASKS];
ACC state[TK * TC];
MAT_A decays[RT]; // in column j, all rows: d^(m-1-j)
float rate;
uint h, col0, cols, tid, lane;
#ifdef FM_OP_LINEAR_ATTEND
uvec2 q_next[K_TASKS];
ACC mask, row_decay; // this subgroup's elements (i, j) of d^(i-j), zero above the diagonal; in row i, all columns: d^(i+1)
#endif

// ---- a block is loaded into registers, and stored from there into shared memory

// Loads the block of rows [row, row + m); lines from m on are zero.
void fetch(uint row, uint m)
{
    [[unroll]] for (uint i = 0; i < K_TASKS; i++) {
        uint task = i * WORKGROUP + tid, r = task / (KEY / 4), quad = task % (KEY / 4);
        bool there = r < m;
        k_next[i] = there ? pc.qk.d[key_at(row + r, h) / 4 + quad] : uvec2(0u);
#ifdef FM_OP_LINEAR_ATTEND
        q_next[i] = there ? pc.qk.d[query_at(row + r, h) / 4 + quad] : uvec2(0u);
#endif
    }
    [[unroll]] for (uint i = 0; i < V_TASKS; i++) {
        uint task = i * WORKGROUP + tid, r = task / (COLS / 4), quad = task % (COLS / 4);
        bool there = r < m && 4 * quad < cols;
        v_next[i] = there ? pc.v.d[(value_at(row + r, h) + col0) / 4 + quad] : uvec2(0u);
    }
}

f16vec4 halves(uvec2 raw)
{
    return f16vec4(unpackFloat2x16(raw.x), unpackFloat2x16(raw.y));
}

float top_of(vec4 x)
{
    vec4 a = abs(x);
    return max(max(a.x, a.y), max(a.z, a.w));
}

// Raises largest[parity][what] to the greatest x of this subgroup.
void raise(uint parity, uint what, float x)
{
    uint bits = subgroupMax(floatBitsToUint(x));
    if (lane == 0)
        atomicMax(largest[parity][what], bits);
}

// Stores the block that was loaded, after the activation of q and k, and notes its maxima in largest[parity].
void keep(uint parity)
{
    float top_k = 0.0, top_v = 0.0;
#ifdef FM_OP_LINEAR_ATTEND
    float top_q = 0.0;
#endif
    [[unroll]] for (uint i = 0; i < K_TASKS; i++) {
        uint task = i * WORKGROUP + tid, at = task / (KEY / 4) * K_PITCH + task % (KEY / 4);
        if (C * KEY / 4 % WORKGROUP != 0 && task >= C * KEY / 4)
            continue;
        vec4 k = fast_act(vec4(halves(k_next[i])));
        top_k = max(top_k, top_of(k));
        ks[at] = f16vec4(k);
#ifdef FM_OP_LINEAR_ATTEND
        vec4 q = fast_act(vec4(halves(q_next[i])));
        top_q = max(top_q, top_of(q));
        qs[at] = f16vec4(q);
#endif
    }
    [[unroll]] for (uint i = 0; i < V_TASKS; i++) {
        uint task = i * WORKGROUP + tid;
        if (C * COLS / 4 % WORKGROUP != 0 && task >= C * COLS / 4)
            continue;
        f16vec4 v = halves(v_next[i]);
        top_v = max(top_v, top_of(vec4(v)));
        vs[task / (COLS / 4) * V_PITCH + task % (COLS / 4)] = v;
    }
#ifdef FM_OP_LINEAR_ATTEND
    raise(parity, 0, top_q);
    raise(parity, 1, top_k);
    raise(parity, 2, top_v);
#endif
}

// ---- decays of a block of m rows: written as tables to `slab`, loaded from there as matrices

void write_word(uint at, uint bits)
{
    slab[at / 4][at % 4] = bits;
}

void make_decays(uint m)
{
    barrier();
    for (uint i = tid; i < MS * C / 2; i += WORKGROUP) {
        uint j = i % (C / 2) * 2;
        vec2 d = vec2(j < m ? exp(-rate * float(m - 1 - j)) : 0.0, j + 1 < m ? exp(-rate * float(m - 2 - j)) : 0.0);
        write_word(i, packFloat2x16(f16vec2(d)));
    }
    barrier();
    UNROLL for (uint b = 0; b < RT; b++)
        coopMatLoad(decays[b], slab, b * MS / 8, C / 8, ROWS);
    barrier();
}

#ifdef FM_OP_LINEAR_ATTEND
void make_tables()
{
    barrier();
    for (uint i = tid; i < C * C; i += WORKGROUP)
        write_word(i, floatBitsToUint(i / C >= i % C ? exp(-rate * float(i / C - i % C)) : 0.0));
    barrier();
    uint down = gl_SubgroupID % RT, across = min(gl_SubgroupID / RT, RT - 1);
    coopMatLoad(mask, slab, (down * MS * C + across * MS) / 4, C / 4, ROWS);
    barrier();
    for (uint i = tid; i < C * MS; i += WORKGROUP)
        write_word(i, floatBitsToUint(exp(-rate * float(i / MS + 1))));
    barrier();
    coopMatLoad(row_decay, slab, down * MS * MS / 4, MS / 4, ROWS);
}

// ---- products

// The decayed products of queries and keys times `scale`, into `ps`. A subgroup makes one matrix: there are at least RT * RT subgroups.
void multiply_keys(float scale)
{
    uint down = gl_SubgroupID % RT, across = gl_SubgroupID / RT;
    if (across >= RT)
        return;
    ACC p = ACC(0.0);
    UNROLL for (uint b = 0; b < KT; b++) {
        MAT_A q;
        MAT_B k;
        coopMatLoad(q, qs, down * MS * K_PITCH + b * (MS / 4), K_PITCH, ROWS);
        coopMatLoad(k, ks, across * MS * K_PITCH + b * (MS / 4), K_PITCH, COLUMNS);
        p = coopMatMulAdd(q, k, p);
    }
    p = p * mask * scale;
    HALVES half_p = HALVES(p);
    coopMatStore(half_p, ps, down * MS * P_PITCH + across * (MS / 4), P_PITCH, ROWS);
}

// Stores rows [row, row + m) of y: whole matrices where the block is whole, else element by element through `slab`.
void store_rows(ACC y[TY], uint row, uint m)
{
    uint down = gl_SubgroupID % RT, stride = pc.heads * pc.head;
    if (m < C)
        barrier(); // the slab is free
    UNROLL for (uint j = 0; j < TY; j++) {
        uint col = (gl_SubgroupID / RT + j * YA) * MS, own = gl_SubgroupID * MS * MS;
        if (m == C) {
            if (col < cols)
                coopMatStore(y[j], pc.y.d, (value_at(row + down * MS, h) + col0 + col) / 4, stride / 4, ROWS);
            continue;
        }
        // Every subgroup must come here equally often: llvmpipe treats a subgroup's barrier as the workgroup's.
        subgroupBarrier();
        coopMatStore(y[j], slab, own / 4, MS / 4, ROWS);
        subgroupBarrier();
        for (uint e = lane; e < MS * MS; e += FM_SUBGROUP)
            if (down * MS + e / MS < m && col < cols)
                FM_CAST(fm_out_f32s, pc.y).d[value_at(row + down * MS + e / MS, h) + col0 + col + e % MS] =
                    uintBitsToFloat(slab[(own + e) / 4][e % 4]);
    }
}

// The outputs of the block at `row`. `bound`: no element of the state is larger.
void outputs(uint row, uint m, uint parity, float bound)
{
    uint down = gl_SubgroupID % RT, first = gl_SubgroupID / RT;
    float state_scale = fit_half(bound), p_scale = 1.0;
    ACC y[TY];
    UNROLL for (uint j = 0; j < TY; j++)
        y[j] = ACC(0.0);
    UNROLL for (uint i = 0; i < TK; i++) {
        UNROLL for (uint j = 0; j < TC; j++) {
            uint r = gl_SubgroupID % SD, c = gl_SubgroupID / SD + j * SA;
            if (i * SD + r >= KT || c >= CT)
                continue;
            HALVES part = HALVES(state[i * TC + j] * state_scale);
            coopMatStore(part, slab, r * MS * S_PITCH + c * MS / 8, S_PITCH, ROWS);
        }
        barrier();
        UNROLL for (uint b = 0; b < SD; b++) {
            if (i * SD + b >= KT)
                continue;
            MAT_A q;
            coopMatLoad(q, qs, down * MS * K_PITCH + (i * SD + b) * (MS / 4), K_PITCH, ROWS);
            UNROLL for (uint j = 0; j < TY; j++) {
                MAT_B part;
                if (first + j * YA >= CT)
                    continue;
                coopMatLoad(part, slab, b * MS * S_PITCH + (first + j * YA) * MS / 8, S_PITCH, ROWS);
                y[j] = coopMatMulAdd(q, part, y[j]);
            }
        }
        if (i == 0) {
            p_scale = fit_half(float(KEY) * uintBitsToFloat(largest[parity][0]) * uintBitsToFloat(largest[parity][1]));
            multiply_keys(p_scale);
        }
        barrier();
    }
    UNROLL for (uint j = 0; j < TY; j++)
        y[j] = y[j] * row_decay * (1.0 / state_scale);
    ACC inner[TY];
    UNROLL for (uint j = 0; j < TY; j++)
        inner[j] = ACC(0.0);
    UNROLL for (uint b = 0; b < RT; b++) {
        if (b > down)
            continue;
        MAT_A p;
        coopMatLoad(p, ps, down * MS * P_PITCH + b * (MS / 4), P_PITCH, ROWS);
        UNROLL for (uint j = 0; j < TY; j++) {
            MAT_B v;
            if (first + j * YA >= CT)
                continue;
            coopMatLoad(v, vs, b * MS * V_PITCH + (first + j * YA) * (MS / 4), V_PITCH, ROWS);
            inner[j] = coopMatMulAdd(p, v, inner[j]);
        }
    }
    UNROLL for (uint j = 0; j < TY; j++)
        y[j] = y[j] + inner[j] * (1.0 / p_scale);
    store_rows(y, row, m);
}
#endif

// From S to S'. decay: d^m
void advance(float decay)
{
    UNROLL for (uint i = 0; i < TK * TC; i++)
        state[i] = state[i] * decay;
    uint r0 = gl_SubgroupID % SD, c0 = gl_SubgroupID / SD;
    UNROLL for (uint b = 0; b < RT; b++) {
        MAT_B v[TC];
        UNROLL for (uint j = 0; j < TC; j++)
            if (c0 + j * SA < CT)
                coopMatLoad(v[j], vs, b * MS * V_PITCH + (c0 + j * SA) * (MS / 4), V_PITCH, ROWS);
        UNROLL for (uint i = 0; i < TK; i++) {
            if (r0 + i * SD >= KT)
                continue;
            MAT_A k;
            coopMatLoad(k, ks, b * MS * K_PITCH + (r0 + i * SD) * (MS / 4), K_PITCH, COLUMNS);
            k = k * decays[b];
            UNROLL for (uint j = 0; j < TC; j++)
                if (c0 + j * SA < CT)
                    state[i * TC + j] = coopMatMulAdd(k, v[j], state[i * TC + j]);
        }
    }
}

// ---- the state in memory; `at`: the head's first element

void load_state(fm_out_f32x4s from, uint at)
{
    float top = 0.0;
    UNROLL for (uint i = 0; i < TK; i++)
        UNROLL for (uint j = 0; j < TC; j++) {
            uint r = (gl_SubgroupID % SD + i * SD) * MS, c = (gl_SubgroupID / SD + j * SA) * MS;
            if (r >= KEY || c >= cols)
                continue;
            coopMatLoad(state[i * TC + j], from.d, (at + r * pc.head + col0 + c) / 4, pc.head / 4, ROWS);
            for (uint e = 0; e < state[0].length(); e++)
                top = max(top, abs(state[i * TC + j][e]));
        }
#ifdef FM_OP_LINEAR_ATTEND
    raise(0, 3, top);
#endif
}

void store_state(fm_out_f32x4s to, uint at)
{
    UNROLL for (uint i = 0; i < TK; i++)
        UNROLL for (uint j = 0; j < TC; j++) {
            uint r = (gl_SubgroupID % SD + i * SD) * MS, c = (gl_SubgroupID / SD + j * SA) * MS;
            if (r < KEY && c < cols)
                coopMatStore(state[i * TC + j], to.d, (at + r * pc.head + col0 + c) / 4, pc.head / 4, ROWS);
        }
}

void main()
{
    uint slices = (pc.head + COLS - 1) / COLS;
    fm_part part;
    if (!fm_part_find(pc.step, pc.segment, gl_WorkGroupID.y, pc.part, part))
        return;
    tid = gl_SubgroupID * FM_SUBGROUP + gl_SubgroupInvocationID;
    lane = gl_SubgroupInvocationID;
    h = gl_WorkGroupID.x / slices;
    col0 = gl_WorkGroupID.x % slices * COLS;
    cols = min(pc.head - col0, COLS);
    rate = pc.decay.d[h];
    uint at = 0;
    UNROLL for (uint i = 0; i < TK * TC; i++)
        state[i] = ACC(0.0);
    if (tid < 8)
        largest[tid / 4][tid % 4] = 0;
#ifdef FM_OP_LINEAR_ATTEND
    make_tables();
    if (FM_PRESENT(pc.starts))
        load_state(pc.starts, state_at(gl_WorkGroupID.y, h));
    else if (part.pos != 0)
        load_state(pc.state, state_at(fm_state_version(part.slot, part.pos, pc.versions), h));
#else
    if (part.last)
        return;
    // Rows whose decay up to the part's end is below e^-88, which is no normal number, add nothing and are not read.
    float age = 88.0 / max(rate, 1e-30);
    if (age < float(part.rows))
        at = (part.rows - uint(age) - 1) / C * C;
#endif
    fetch(part.row + at, min(part.rows - at, C));
    make_decays(min(part.rows - at, C));
#ifdef FM_OP_LINEAR_ATTEND
    float bound = uintBitsToFloat(largest[0][3]);
#endif
    for (uint parity = 0; at < part.rows; at += C, parity ^= 1) {
        uint m = min(part.rows - at, C);
        vec2 both = decay_of(rate * float(m));
        float decay = both.x + both.y;
        if (m < C && at != 0)
            make_decays(m);
        keep(parity);
#ifndef FM_OP_LINEAR_ATTEND
        barrier();
#endif
        if (at + C < part.rows)
            fetch(part.row + at + C, min(part.rows - at - C, C));
#ifdef FM_OP_LINEAR_ATTEND
        outputs(part.row + at, m, parity, bound);
        bound = decay * bound + float(m) * uintBitsToFloat(largest[parity][1]) * uintBitsToFloat(largest[parity][2]);
#endif
        advance(decay);
        barrier();
#ifdef FM_OP_LINEAR_ATTEND
        if (tid < 3)
            largest[parity][tid] = 0; // for the block after the next
#endif
    }
#ifdef FM_OP_LINEAR_ATTEND
    if (part.last)
        store_state(pc.state, state_at(fm_state_version(part.slot, part.pos + part.rows, pc.versions), h));
#else
    store_state(pc.z, state_at(gl_WorkGroupID.y, h));
#endif
}
