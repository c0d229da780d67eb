// SPDX-License-Identifier: MIT
// What host and shaders agree on: push-constant layouts and the step block. Valid as C17 and as GLSL.
//
// A push-constant block is device addresses (8 bytes each) followed by u32 words, 128 bytes at most in all. The
// layout of each op is one macro, FM_PUSH_<OP>(A, P): A(REF, name) per address, P(name) per u32 word.
//   C:     A and P count positions (plan/emit.c).
//   GLSL:  a shader defines the REF_* macros that its op uses as buffer_reference types and writes
//              layout(push_constant, scalar) uniform Push { FM_PUSH_MATMUL(FM_A, FM_P) } pc;
#ifndef FM_ABI_H
#define FM_ABI_H

// ---- the step block
// -------------------------------------------------------------------------------------------------- All that changes
// from step to step; written by the host. Header (8 words), then the arrays token[T], pos[T], slot[T], out_row[O],
// sampler[O], segment[S], length[T] at offsets of the plan (fm_step_layout).
#define FM_STEP_TOKENS 0u      // tokens of this step: rows >= this are padding of the bucket
#define FM_STEP_OUTPUTS 1u     // output rows of this step
#define FM_STEP_SEGMENTS 2u    // sequences that have rows in this step
#define FM_STEP_HEADER_WORDS 8u

// words of one segment: rows [ROW, ROW + ROWS) of the step are positions POS, POS + 1, ... of the sequence in SLOT
#define FM_SEGMENT_ROW 0u
#define FM_SEGMENT_ROWS 1u
#define FM_SEGMENT_SLOT 2u
#define FM_SEGMENT_POS 3u
#define FM_SEGMENT_WORDS 4u

// token value: take the id sampled last for the slot
#define FM_TOKEN_LAST 0xffffffffu
// id that SAMPLE gives for a row of logits that holds a NaN, or whose greatest is infinite; EMBED makes zeros of it
#define FM_TOKEN_NAN 0xfffffffeu

// words of one sampler record
#define FM_SAMPLER_TEMP 0u           // float; <= 0: greedy
#define FM_SAMPLER_TOP_K 1u          // 0: off
#define FM_SAMPLER_TOP_P 2u          // float; >= 1: off
#define FM_SAMPLER_MIN_P 3u          // float; <= 0: off
#define FM_SAMPLER_REPEAT_PENALTY 4u // float; 1: off
#define FM_SAMPLER_REPEAT_LAST_N 5u  // positions looked back; 0: off
#define FM_SAMPLER_SEED_LO 6u
#define FM_SAMPLER_SEED_HI 7u
#define FM_SAMPLER_WORDS 8u

// ---- specialisation constants that the planner sets
// ----------------------------------------------------------------------- 1: the result is written as f16. For kernels with y = "f16"
// (kernels.toml), where all readers of the result want that
#define FM_SPEC_HALVES 31u

// ---- push constants, by op
// ------------------------------------------------------------------------------------------- `step` is the step
// block's header everywhere. `rows_word` = FM_STEP_TOKENS or FM_STEP_OUTPUTS: which count bounds the rows of x and y.
// An absent optional operand has address 0.

// grid: see plan/emit.c, one line per op. S and L: slots and context length of the states.
#define FM_PUSH_TOKEN_FEED(A, P) A(REF_STEP, step) A(REF_U32, token) A(REF_U32, pos) A(REF_U32, slot) A(REF_U32, history) \
    A(REF_U32, last) A(REF_U32, ids) P(ctx)
#define FM_PUSH_EMBED(A, P) A(REF_STEP, step) A(REF_W, w) A(REF_U32, ids) A(REF_Y, y) P(n_vocab) P(width) P(scale_bits)
#define FM_PUSH_NORM(A, P) A(REF_STEP, step) A(REF_X, x) A(REF_V, w) A(REF_V, bias) A(REF_Y, y) P(width) P(eps_bits) P(kind) P(rows_word)
#define FM_PUSH_ADD_NORM(A, P) A(REF_STEP, step) A(REF_X, x) A(REF_X, x2) A(REF_V, w) A(REF_V, bias) A(REF_Y, sum) A(REF_Y, y) \
    P(width) P(eps_bits) P(kind) P(rows_word)
// y [T,n] = x [T,k] w [n,k]^T (+ bias [n]) (+ residual [T,n]); MATMUL and MATMUL_ADD. stride_x: elements from row to
// row of x (k, or the padded width of a cast copy), or units of 16 bytes of what CAST_INT made.
// partial, arrived: where k is split over the grid's z (lib/last_arrival.glsl), else absent. The parts' sums, tile by tile:
// [tiles, parts, elements of a tile] f32, in an order of the kernel's own; and one counter a tile.
#define FM_PUSH_MATMUL(A, P) A(REF_STEP, step) A(REF_X, x) A(REF_W, w) A(REF_V, bias) A(REF_Y, residual) A(REF_Y, y) \
    A(REF_PARTIAL, partial) A(REF_ARRIVED, arrived) P(n) P(k) P(stride_x) P(rows_word)
// y [T,n] = act(x gate^T) * (x up^T)
#define FM_PUSH_MATMUL_GLU(A, P) A(REF_STEP, step) A(REF_X, x) A(REF_W, gate) A(REF_W, up) A(REF_Y, y) \
    A(REF_PARTIAL, partial) A(REF_ARRIVED, arrived) P(n) P(k) P(stride_x) P(rows_word) P(act)
// The same of x^ = x norm / sqrt(mean x^2 + eps); NORM_MATMUL and NORM_MATMUL_ADD, NORM_MATMUL_GLU. norm [k].
#define FM_PUSH_NORM_MATMUL(A, P) A(REF_STEP, step) A(REF_X, x) A(REF_W, w) A(REF_X, norm) A(REF_V, bias) A(REF_Y, residual) \
    A(REF_Y, y) P(n) P(k) P(stride_x) P(rows_word) P(eps_bits)
#define FM_PUSH_NORM_MATMUL_GLU(A, P) A(REF_STEP, step) A(REF_X, x) A(REF_W, gate) A(REF_W, up) A(REF_X, norm) A(REF_Y, y) \
    P(n) P(k) P(stride_x) P(rows_word) P(act) P(eps_bits)
// y [T,n*repeat] = conv1d whose input is the same product (channels n; head, repeat, act and versions as CONV1D has them), where each
// row is of another sequence: MATMUL_CONV (norm absent) and NORM_MATMUL_CONV
#define FM_PUSH_MATMUL_CONV(A, P) A(REF_STEP, step) A(REF_SEGMENT, segment) A(REF_X, x) A(REF_W, w) A(REF_X, norm) A(REF_V, taps) \
    A(REF_V, bias) A(REF_STATE, state) A(REF_Y, y) P(n) P(k) P(stride_x) P(rows_word) P(eps_bits) P(head) P(repeat) P(act) P(versions)
// chunk, cap, original: dual chunk attention (0 = off); lengths [T]: absent where original is 0
#define FM_PUSH_ROPE(A, P) A(REF_STEP, step) A(REF_X, x) A(REF_FREQ, freq) A(REF_U32, pos) A(REF_U32, lengths) A(REF_Y, y) \
    P(heads) P(head) P(rotated) P(kind) P(copies) P(chunk) P(cap) P(original)
#define FM_PUSH_KV_WRITE(A, P) A(REF_STEP, step) A(REF_X, k) A(REF_X, v) A(REF_U32, pos) A(REF_U32, slot) A(REF_KV, kc) A(REF_KV, vc) \
    P(heads_kv) P(head) P(head_stride) P(ctx)
#define FM_PUSH_ROPE_KV_WRITE(A, P) A(REF_STEP, step) A(REF_X, q) A(REF_X, k) A(REF_X, v) A(REF_FREQ, freq) A(REF_U32, pos) \
    A(REF_U32, slot) A(REF_U32, lengths) A(REF_KV, kc) A(REF_KV, vc) A(REF_Y, y) P(heads) P(heads_kv) P(head) P(head_stride) \
    P(rotated) P(kind) P(ctx) P(chunk) P(cap) P(original)
// stride_q: elements from row to row of q; chunk > 0: a row is 3 copies of heads * head elements.
// split: parts that the keys may be cut into, of part_keys keys at least. More than 1: parts are handed over in `partial`
// (lib/attend.glsl), and `counter` has a word for each workgroup of a part (lib/arrive.glsl); else both are absent
#define FM_PUSH_ATTEND(A, P) A(REF_STEP, step) A(REF_X, q) A(REF_KV, kc) A(REF_KV, vc) A(REF_U32, pos) A(REF_U32, slot) A(REF_Y, y) \
    A(REF_PART, partial) A(REF_U32, counter) P(heads) P(heads_kv) P(head) P(head_stride) P(ctx) P(window) P(scale_bits) P(split) \
    P(part_keys) P(stride_q) P(chunk)
// as ATTEND and ROPE_KV_WRITE. Heads, their width and what is rotated of it: by the grid and constants
#define FM_PUSH_ROPE_ATTEND(A, P) A(REF_STEP, step) A(REF_X, q) A(REF_X, k) A(REF_X, v) A(REF_FREQ, freq) A(REF_U32, pos) \
    A(REF_U32, slot) A(REF_KV, kc) A(REF_KV, vc) A(REF_Y, y) A(REF_PART, partial) A(REF_U32, counter) P(heads_kv) P(ctx) P(window) \
    P(scale_bits) P(split) P(part_keys) P(kind)
#define FM_PUSH_GLU(A, P) A(REF_STEP, step) A(REF_X, gate) A(REF_X, up) A(REF_Y, y) P(width) P(act) P(rows_word)
#define FM_PUSH_ACT(A, P) A(REF_STEP, step) A(REF_X, x) A(REF_Y, y) P(width) P(act) P(rows_word)
#define FM_PUSH_ADD(A, P) A(REF_STEP, step) A(REF_X, x) A(REF_X, x2) A(REF_Y, y) P(width) P(rows_word)
#define FM_PUSH_GATHER(A, P) A(REF_STEP, step) A(REF_X, x) A(REF_U32, out_row) A(REF_Y, y) P(width)
#define FM_PUSH_SAMPLE(A, P) A(REF_STEP, step) A(REF_Y, logits) A(REF_U32, out_row) A(REF_U32, pos) A(REF_U32, slot) \
    A(REF_U32, settings) A(REF_U32, history) A(REF_U32, last) A(REF_U32, id) P(n_vocab) P(vocab) P(ctx)
// part: elements that share a mean, width a multiple; kind: enum fm_gate_kind
#define FM_PUSH_NORM_GATE(A, P) A(REF_STEP, step) A(REF_X, x) A(REF_X, gate) A(REF_V, w) A(REF_Y, y) \
    P(width) P(part) P(eps_bits) P(act) P(kind) P(rows_word)
// Of all recurrent ops. versions: B, how many state versions a slot has (lib/segment.glsl). kept: how many of them the step writes, those
// after each of a segment's last `kept` rows. part: rows of a part. starts: the states in which parts begin; absent where every
// segment is one part, which begins with the state of its sequence.
// SSD. starts [parts,H*P,N]; groups_b, groups_c: of b, of c
#define FM_PUSH_SSD(A, P) A(REF_STEP, step) A(REF_SEGMENT, segment) A(REF_X, xbc) A(REF_V, dt) A(REF_V, a) A(REF_V, skip) \
    A(REF_V, dt_bias) A(REF_STATE, state) A(REF_STATE, starts) A(REF_Y, y) P(heads) P(head) P(heads_x) P(groups_b) P(groups_c) \
    P(versions) P(kept) P(part)
#define FM_PUSH_SSD_GATE(A, P) A(REF_STEP, step) A(REF_SEGMENT, segment) A(REF_X, xbc) A(REF_V, dt) A(REF_V, a) A(REF_V, skip) \
    A(REF_V, dt_bias) A(REF_X, z) A(REF_STATE, state) A(REF_Y, y) P(heads) P(head) P(heads_x) P(groups_b) P(groups_c) P(versions) \
    P(kept)
#define FM_PUSH_SSD_STATES(A, P) A(REF_STEP, step) A(REF_SEGMENT, segment) A(REF_X, xbc) A(REF_V, dt) A(REF_V, a) \
    A(REF_V, dt_bias) A(REF_STATE, z) A(REF_Y, sums) P(heads) P(head) P(heads_x) P(groups_b) P(groups_c) P(part)
// in place: z becomes starts. elems: P*N
#define FM_PUSH_SSD_SCAN(A, P) A(REF_STEP, step) A(REF_SEGMENT, segment) A(REF_STATE, state) A(REF_V, sums) A(REF_STATE, z) \
    P(heads) P(elems) P(versions) P(part)
#define FM_PUSH_DEQUANTIZE(A, P) A(REF_STEP, step) A(REF_W, w) A(REF_Y, y) P(n) P(k)
// y as shaders/eltwise/cast_int.comp says; stride_y in units of 16 bytes; bytes of an integer: 1 or 2
#define FM_PUSH_CAST_INT(A, P) A(REF_STEP, step) A(REF_X, x) A(REF_Y, y) P(width) P(stride_y) P(rows_word) P(bytes)
#define FM_PUSH_CAST(A, P) A(REF_STEP, step) A(REF_X, x) A(REF_Y, y) P(width) P(stride_y) P(rows_word) P(pad_rows)
// Linear attention. key, head: K and P; starts [parts,H*K,P]
#define FM_PUSH_LINEAR_ATTEND(A, P) A(REF_STEP, step) A(REF_SEGMENT, segment) A(REF_X, qk) A(REF_X, v) A(REF_V, decay) \
    A(REF_STATE, state) A(REF_STATE, starts) A(REF_Y, y) P(heads) P(key) P(head) P(act) P(versions) P(kept) P(part)
#define FM_PUSH_LINEAR_STATES(A, P) A(REF_STEP, step) A(REF_SEGMENT, segment) A(REF_X, qk) A(REF_X, v) A(REF_V, decay) \
    A(REF_STATE, z) P(heads) P(key) P(head) P(act) P(part)
// in place: z becomes starts
#define FM_PUSH_LINEAR_SCAN(A, P) A(REF_STEP, step) A(REF_SEGMENT, segment) A(REF_V, decay) A(REF_STATE, state) A(REF_STATE, z) \
    P(heads) P(key) P(head) P(versions) P(part)
#define FM_PUSH_LRPE(A, P) A(REF_STEP, step) A(REF_X, x) A(REF_FREQ, freq) A(REF_U32, pos) A(REF_Y, y) \
    P(heads) P(head) P(freq_heads) P(act)
// channels: Ex; head: channels of a repeated piece; copy: y once more, as f16, for readers that want f16
#define FM_PUSH_CONV1D(A, P) A(REF_STEP, step) A(REF_SEGMENT, segment) A(REF_X, x) A(REF_V, w) A(REF_V, bias) A(REF_STATE, state) \
    A(REF_Y, y) A(REF_Y, copy) P(channels) P(head) P(repeat) P(act) P(versions) P(kept) P(part)
// starts [parts,N/4,E,4]
#define FM_PUSH_SELECTIVE_SCAN(A, P) A(REF_STEP, step) A(REF_SEGMENT, segment) A(REF_X, u) A(REF_X, dt) A(REF_ROWS, a) A(REF_ROWS, b) \
    A(REF_ROWS, c) A(REF_V, d) A(REF_V, dt_bias) A(REF_X, z) A(REF_STATE, state) A(REF_STATE, starts) A(REF_Y, y) \
    P(channels) P(groups_b) P(groups_c) P(versions) P(kept) P(part)
// ends: laid out as starts; steps [parts,E]
#define FM_PUSH_SCAN_STATES(A, P) A(REF_STEP, step) A(REF_SEGMENT, segment) A(REF_X, u) A(REF_X, dt) A(REF_ROWS, a) A(REF_ROWS, b) \
    A(REF_V, dt_bias) A(REF_STATE, ends) A(REF_Y, steps) P(channels) P(groups_b) P(part)
// in place: ends become starts
#define FM_PUSH_SCAN_CARRY(A, P) A(REF_STEP, step) A(REF_SEGMENT, segment) A(REF_ROWS, a) A(REF_X, steps) A(REF_STATE, state) \
    A(REF_STATE, ends) P(channels) P(versions) P(part)
// y [T] = sums of the rows of x [T,width] u32
#define FM_PUSH_READ_SUM(A, P) A(REF_STEP, step) A(REF_X, x) A(REF_Y, y) P(width)

#endif
