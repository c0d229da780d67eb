// SPDX-License-Identifier: MIT
// The compiled program: a flat list of dispatches with every offset resolved. Plain C: no Vulkan here.
#ifndef FM_PLAN_PLAN_H
#define FM_PLAN_PLAN_H

#include "kernel/kernel.h"

enum fm_pool {
    FM_POOL_WEIGHTS,
    FM_POOL_STATE,
    FM_POOL_ARENA,
    FM_POOL_STEP,
    FM_POOL_RESULT,
    FM_POOL_COUNTER, // FM_COUNTER_BYTES of zeros: kernels that count here leave it as they found it
    FM_POOL_COUNT,
    FM_POOL_NONE = FM_POOL_COUNT
};
const char *fm_pool_name(enum fm_pool pool);

// Dispatches take turns with the counters; those between two barriers have their own.
#define FM_COUNTER_BYTES 65536u

// A pool is one range of offsets. Offsets from i * alloc_bytes on lie in device allocation i, which has alloc_used[i] bytes;
// no value straddles two allocations.
struct fm_pool_size {
    uint64_t alloc_bytes;
    uint32_t n_allocs;
    uint64_t *alloc_used; // bytes used of each allocation
    uint64_t total_bytes; // sum of alloc_used
};

struct fm_place { // where a value lies; pool NONE = nowhere (yet)
    enum fm_pool pool;
    uint64_t offset, bytes;
};

// Places of weights, constants and states: made once per model and session, shared by all plans. Value ids of these
// kinds are the same in every graph built from one architecture and configuration, and passes keep them.
struct fm_layout {
    struct fm_arena arena;
    struct fm_place *place; // [n_values of the graph it was made from]
    size_t n_values;
    struct fm_pool_size pool[FM_POOL_COUNT]; // WEIGHTS and STATE filled
};

// Weights go packed (fm_pack_layout); constants too, into the WEIGHTS pool. dims: s and l give the states' size. Each
// place starts at a multiple of 256 and is followed by at least `guard_bytes` (tests), and never less than 16, of
// nothing, so that 16-byte loads may overrun; as many stand before the first.
// FM_NOSPACE when one tensor is larger than caps->max_alloc_bytes or than kernels can index; the message names it.
enum fm_result fm_layout_create(const struct fm_graph *graph, const struct fm_caps *caps, const struct fm_dims *dims,
                                uint64_t guard_bytes, struct fm_layout *out_layout);
void fm_layout_finish(struct fm_layout *layout);

// Offsets in the step block, for a plan's T and O.
struct fm_step_layout {
    uint32_t input_offset[FM_INPUT_COUNT]; // bytes, enum fm_input
    uint32_t bytes;
};

#define FM_MAX_BIND 13
#define FM_MAX_WORDS 16

struct fm_binding { // a device address: pool base + offset
    uint8_t pool;   // enum fm_pool; FM_POOL_NONE = null address
    bool written;
    uint64_t offset, bytes;
};

struct fm_dispatch {
    const struct fm_kernel *kernel;
    uint32_t n_spec;
    struct { uint32_t id, value; } spec[FM_KERNEL_SPECS];
    uint32_t grid[3];
    uint32_t n_bind, n_words; // push constants: n_bind addresses, then n_words words
    struct fm_binding bind[FM_MAX_BIND];
    uint32_t word[FM_MAX_WORDS];
    bool barrier_before;
    const char *name; // node name (plus "/cast", "/states" ... for lowered parts)
    uint32_t node;    // in the plan's graph
    uint64_t moved_bytes; // least bytes that must be read and written; of a cache only what this step writes
    double flops;         // products and attention (over a full cache); 0 for the others
};

// Positions of an op's push constants (shaders/lib/abi.h) in a dispatch, as enumerators of the function or file that uses this:
// bind_<name>, word_<name>, and their numbers n_bind and n_words.
#define FM_DISPATCH_BIND(ref, name) bind_##name,
#define FM_DISPATCH_WORD(name) word_##name,
#define FM_DISPATCH_SKIP_BIND(ref, name)
#define FM_DISPATCH_SKIP_WORD(name)
#define FM_DISPATCH_LAYOUT(push) \
    enum { push(FM_DISPATCH_BIND, FM_DISPATCH_SKIP_WORD) n_bind }; \
    enum { push(FM_DISPATCH_SKIP_BIND, FM_DISPATCH_WORD) n_words }; \
    _Static_assert(8 * n_bind + 4 * n_words <= 128, "push constants of more than 128 bytes"); \
    _Static_assert(n_bind <= FM_MAX_BIND && n_words <= FM_MAX_WORDS, "too many push constants")

struct fm_plan {
    struct fm_arena arena;
    struct fm_dims dims;
    struct fm_dispatch *dispatches; // from the heap
    size_t n_dispatches;
    struct fm_place *place; // per value of the (rewritten) graph
    size_t n_values;
    uint64_t arena_bytes;   // ARENA pool this plan needs
    uint64_t result_bytes;  // RESULT pool: ids [O] u32
    struct fm_step_layout step;
    struct fm_place logits, ids; // where the host finds them
    uint32_t n_groups;      // barrier groups: what runs between two barriers
    uint64_t hash;          // of everything above
};

// Compile `graph` (rewritten in place by the passes) for `dims` on `caps`. FM_UNSUPPORTED when some node has no kernel
// (the message names node, op, formats and the nearest kernel's reason) or a grid is too large; FM_ARG when the layout
// was made for other dims. options: NULL = all zero. With keep_values every TEMP gets memory of its own (tests read
// them back).
struct fm_plan_options {
    bool keep_values;
    bool no_fuse;            // skip the passes (tests of single ops)
    bool narrow_outputs;     // outputs as f16 where a kernel can write that: tests of kernels that do
    uint64_t guard_bytes;    // empty bytes before and after every TEMP and OUTPUT
    const struct fm_kernel *force; // take this kernel for the nodes of its op (must fit); NULL = selector's choice
};
enum fm_result fm_plan_create(struct fm_graph *graph, const struct fm_layout *layout, const struct fm_caps *caps,
                              const struct fm_dims *dims, const struct fm_plan_options *options, struct fm_plan *out_plan);
void fm_plan_finish(struct fm_plan *plan);

// EXPLAIN: pools and their sizes, then a line a dispatch: barrier, node, kernel, spec constants, grid, bytes. Release
// with fm_free.
enum fm_result fm_plan_print(const struct fm_graph *graph, const struct fm_plan *plan, char **out_text);

// The last of an op's operands, from the first on, that a kernel with x = "f16" reads as f16.
unsigned fm_plan_last_half(enum fm_op op);

// What a node of this graph wants under dims on caps.
enum fm_result fm_want_from_node(const struct fm_graph *graph, const struct fm_node *node, const struct fm_dims *dims,
                                 const struct fm_caps *caps, struct fm_want *out_want);

#endif
