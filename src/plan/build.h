// SPDX-License-Identifier: MIT
// The plan under construction: what emitters (emit*.c) write and what memory.c and hazard.c then resolve.
#ifndef FM_PLAN_BUILD_H
#define FM_PLAN_BUILD_H

#include "plan/plan.h"

// A piece of the arena: one per TEMP or OUTPUT value and per scratch. Until memory.c has run, an ARENA binding's offset
// is the buffer's index.
struct fm_plan_buffer {
    uint64_t bytes;
    uint32_t first, last; // dispatches that touch it first and last; FM_NONE, 0 = none yet
    bool to_end;          // read by the host after the last dispatch
    uint64_t offset;
};

// The f16 copy of a value that its consumers share; none where the value itself is f16 (narrow.c).
struct fm_plan_cast {
    uint32_t consumers; // kernels that want f16; 0 = no cast
    uint32_t stride;    // elements from row to row
    uint32_t pad_rows;  // rows of the copy
    uint32_t buffer;    // FM_NONE until it is made
};

// Rows of a value as integers of 1 and 2 bytes, [0] and [1], that its consumers share: buffers, FM_NONE until they are made.
struct fm_plan_ints {
    uint32_t buffer[2];
};

#define FM_SPEC_PARTS 2u // constant of products with split > 1: the parts of k that the plan chose
#define FM_CAST_ALIGN_ELEMS 8u // rows of an f16 copy start at multiples of 16 bytes

// How far ahead of its first reader a weight is dequantised: the readers of one input follow one another.
#define FM_PLAN_AHEAD 4u

struct fm_build {
    struct fm_graph *graph; // only types change, by narrow.c
    const struct fm_layout *layout;
    const struct fm_caps *caps;
    struct fm_dims dims;
    struct fm_plan_options options;
    struct fm_plan *plan;
    enum fm_result error; // first failure; everything after it does nothing
    struct fm_selector *selector; // of caps

    const struct fm_kernel **kernel; // per node
    struct fm_want *want;            // per node
    uint32_t *value_buffer;          // per value: index in buffers or FM_NONE
    struct fm_plan_cast *casts;      // per value
    struct fm_plan_ints *ints;       // per value
    uint32_t *dequantized;           // per value: buffer of a weight's f16 copy, FM_NONE until it is made

    struct fm_dispatch *dispatches;
    size_t n_dispatches, cap_dispatches;
    struct fm_plan_buffer *buffers;
    size_t n_buffers, cap_buffers;
    uint32_t next_counter; // in bytes
};

// ---- emit.c: helpers of the emitters -----------------------------------------------------------------------------

typedef void fm_emit_fn(struct fm_build *b, uint32_t node);
fm_emit_fn *fm_emit_of(enum fm_op op); // NULL for ops that are made inside others' emitters only

// Append a dispatch of `kernel` for `want`, all addresses null but bind 0, the step block. The name is the node's and
// `suffix`. NULL once the build has failed. The pointer holds until the next call.
struct fm_dispatch *fm_emit_begin(struct fm_build *b, uint32_t node, const struct fm_kernel *kernel, const struct fm_want *want,
                                  const char *suffix, uint32_t n_bind, uint32_t n_words);
// Bind a value of the graph (a state's place is its first value's), or a buffer.
void fm_emit_bind(struct fm_build *b, struct fm_dispatch *d, uint32_t at, uint32_t value, bool written);
void fm_emit_bind_buffer(struct fm_build *b, struct fm_dispatch *d, uint32_t at, uint32_t buffer, bool written);
// Set the grid; fails the build when a dimension is out of range.
void fm_emit_grid(struct fm_build *b, struct fm_dispatch *d, uint64_t x, uint64_t y, uint64_t z);
// Grid of elementwise ops: ceil(width / tile_cols), ceil(rows / tile_rows).
void fm_emit_grid_elements(struct fm_build *b, struct fm_dispatch *d, const struct fm_want *want, uint64_t width, uint64_t rows);
// New scratch; FM_NONE when the build has failed.
uint32_t fm_emit_buffer(struct fm_build *b, uint64_t bytes);
// Bind `count` counters, at most FM_COUNTER_BYTES / 4, which the kernel finds at zero and leaves at zero.
void fm_emit_bind_counters(struct fm_build *b, struct fm_dispatch *d, uint32_t at, uint32_t count);
// Make sure that `value` (of rows counted by rows_word) exists as f16, as itself or as a copy; its buffer, and its stride in elements.
uint32_t fm_emit_cast(struct fm_build *b, uint32_t node, uint32_t value, uint32_t *out_stride);
// Fail the build unless rows of the f16 form of `value` are as long as its own.
void fm_emit_unpadded(struct fm_build *b, uint32_t node, uint32_t value, uint32_t stride);
// Make sure that `value` exists as integers of `bytes` bytes; its buffer, and the units of 16 bytes from row to row.
uint32_t fm_emit_cast_int(struct fm_build *b, uint32_t node, uint32_t value, uint32_t bytes, uint32_t *out_stride);

// The f16 copy of `value` that its producer, `node`, is to write beside it; FM_NONE: its kernel writes none, or nobody wants one.
uint32_t fm_emit_copy(struct fm_build *b, uint32_t node, uint32_t value);

// Make sure that the f16 copy of a quantised weight exists; its buffer.
uint32_t fm_emit_dequantize(struct fm_build *b, uint32_t node, uint32_t value);

uint32_t fm_emit_tile(uint32_t tile, const struct fm_want *want, uint32_t otherwise); // `otherwise` in place of 0
uint32_t fm_emit_rows_word(const struct fm_build *b, uint32_t value); // FM_STEP_TOKENS or FM_STEP_OUTPUTS, by its first dimension
uint32_t fm_float_bits(float value);
// Workgroups that fill the device with `per_core` of them a core (tuning.def).
uint64_t fm_emit_workgroups(const struct fm_build *b, uint32_t per_core);
// Most parts that the longest sequence of a step may be cut into, so that the states of all parts of the step, state_bytes each, fit
// into the memory that tuning.def grants them.
uint64_t fm_emit_most_parts(const struct fm_build *b, const struct fm_want *want, uint64_t state_bytes);
// Most sequences that a step has, of those that `want` asks for.
uint32_t fm_emit_sequences(const struct fm_build *b, const struct fm_want *want);
// How many state versions a step writes for each sequence: those after each of its last B rows, or the one after its last row.
uint32_t fm_emit_kept_state_versions(const struct fm_build *b, const struct fm_want *want);
// Record the first failure.
void fm_build_fail(struct fm_build *b, enum fm_result result);

fm_emit_fn fm_emit_matmul, fm_emit_matmul_glu, fm_emit_norm_matmul, fm_emit_norm_matmul_glu, fm_emit_matmul_conv; // emit_matmul.c
fm_emit_fn fm_emit_rope, fm_emit_kv_write, fm_emit_rope_kv_write, fm_emit_attend, fm_emit_rope_attend; // emit_attend.c
fm_emit_fn fm_emit_token_feed, fm_emit_embed, fm_emit_gather, fm_emit_sample;   // emit_token.c
fm_emit_fn fm_emit_conv1d, fm_emit_selective_scan; // emit_ssm.c
fm_emit_fn fm_emit_norm_gate, fm_emit_ssd, fm_emit_ssd_gate; // emit_ssd.c
fm_emit_fn fm_emit_norm, fm_emit_add_norm, fm_emit_glu, fm_emit_act, fm_emit_add; // emit_rows.c
fm_emit_fn fm_emit_lrpe, fm_emit_linear_attend; // emit_lightning.c

// ---- narrow.c ----------------------------------------------------------------------------------------------------

// With all kernels chosen: activations become f16 where their producer can write that and every reader wants it. Sets their type in the
// graph. FM_NOMEM.
enum fm_result fm_plan_narrow(struct fm_build *b);
// Is operand i one that the node's kernel reads as f16 (its `x`)?
bool fm_plan_reads_halves(const struct fm_build *b, uint32_t node, unsigned i);
// Elements that the rows of what a kernel reads as f16 are a multiple of.
uint32_t fm_plan_cast_align(const struct fm_kernel *kernel);
// The result that a kernel's `y` speaks of.
uint32_t fm_plan_narrow_result(const struct fm_node *node);

// ---- resolving ---------------------------------------------------------------------------------------------------

// Barriers (hazard.c): a dispatch gets one iff it touches bytes that were written, or writes bytes that were touched,
// since the last barrier. WEIGHTS and STEP are never written by the device. out_groups: barrier groups (barriers + 1).
// FM_NOMEM.
enum fm_result fm_plan_mark_barriers(struct fm_dispatch *dispatches, size_t count, uint32_t *out_groups);

// Offsets of all buffers (memory.c), by the barriers that are marked: two buffers share bytes only if a barrier lies
// between their lives, so that sharing never asks for a barrier of its own.
enum fm_result fm_plan_place_buffers(struct fm_build *b, uint64_t *out_arena_bytes);

enum fm_result fm_step_layout_make(const struct fm_dims *dims, struct fm_step_layout *out_layout); // layout.c
// Bytes of a value as it lies on the device: weights and constants packed, others rows of their type. false on
// overflow.
bool fm_value_device_bytes(const struct fm_value *value, const struct fm_dims *dims, uint64_t *out_bytes);

#endif
