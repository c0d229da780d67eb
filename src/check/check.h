// SPDX-License-Identifier: MIT
// Kernel self-test and kernel benchmark: one list of problems, the production selector and planner, the double
// reference. Used by tests/kern, `fulmen check` and `fulmen bench kernels`.
#ifndef FM_CHECK_CHECK_H
#define FM_CHECK_CHECK_H

#include "plan/plan.h"
#include "vk/vk.h"

// What the activations are filled with.
enum fm_problem_data {
    FM_DATA_NORMAL,  // independent, roughly N(0,1)
    FM_DATA_ZERO,
    FM_DATA_TINY,    // down to denormals
    FM_DATA_HUGE,    // near the overflow of f32 sums of squares, but not over
    FM_DATA_CANCEL,  // +a, -a, ... : sums near zero
    FM_DATA_COUNT,
    FM_DATA_NAN = FM_DATA_COUNT, // products and sampling: normal but for one NaN in the middle, which must reach what it should
    FM_DATA_INF,                 // sampling only: a row of -inf
    FM_DATA_SMALL,               // products: so small that f16 holds fewer bits of it
    FM_DATA_UNEVEN               // products of normed rows: many zeros first, then numbers of which some are 2^20 times as large
};

// One op on one shape. Fields that an op does not use are 0.
struct fm_problem {
    char name[96]; // unique; what --problem takes
    enum fm_op op;
    enum fm_type w;    // weight or cache format, or NONE
    uint32_t bucket;   // T and O of the plan
    uint32_t rows;     // rows really used, <= bucket
    uint32_t run;      // most rows of one sequence that the plan is made for; 0 = bucket
    uint32_t n, k;     // columns and inner dimension (matmul); k = width (norm, add, ...)
    uint32_t heads, heads_kv, head, rotated, ctx, slots, window, first_pos;
    uint32_t state, groups, groups_c, repeat, versions; // of recurrent ops (graph/ops.def); conv1d: state = W
    uint32_t chunk, cap, original, copies;              // of dual chunk attention
    uint8_t variant;   // norm kind, activation, rope kind, sampler setting
    bool bias;
    bool halves;       // the result as f16, where a kernel can write that
    bool half_x;       // timing: operands that kernels read as f16 come so, as in a model; for such kernels only
    enum fm_problem_data data;
    uint32_t x_bytes;  // products: bytes of the integers that stand for activations, for kernels that take these only; 0 = any kernel
                       // that a session takes without asking
    bool bench;        // large: for timing, not part of the check
    bool optional;     // a device may have no kernel for it: plans then keep the parts that the op is made of
};

// All problems, in a fixed order. Release with fm_free.
enum fm_result fm_problems_list(struct fm_problem **out_problems, size_t *out_count);

// A problem made concrete: the one-node graph and, once filled, its data.
struct fm_case {
    struct fm_graph graph;
    struct fm_dims dims;          // of the plan
    uint32_t node;
    bool halves;                  // as the problem's
    void **data;                  // per value: raw bytes as a file (weights) or the device (others) holds them; NULL where computed
    uint64_t *data_bytes;
    uint32_t *input[FM_INPUT_COUNT]; // step-block arrays, NULL where unused
    uint32_t input_words[FM_INPUT_COUNT];
    uint32_t segments;            // sequences that have rows in the step
};
enum fm_result fm_case_create(const struct fm_problem *problem, struct fm_case *out_case); // graph and dims
enum fm_result fm_case_fill(const struct fm_problem *problem, uint32_t seed, struct fm_case *c); // all data; once
// Planes of a cache of q8_0 (quant.h), and blocks of each.
void fm_case_planes(const struct fm_case *c, uint32_t value, uint64_t *out_planes, uint64_t *out_blocks);
void fm_case_finish(struct fm_case *c);

// A case on a device: memory, plan, program.
struct fm_case_run {
    struct fm_layout layout;
    struct fm_plan plan;
    struct fm_vk_memory *memory[FM_POOL_COUNT];
    struct fm_vk_program *program;
};
// Plans with the production planner for `caps` (masked as the caller likes), or with the kernel `force` unless NULL,
// and uploads everything.
enum fm_result fm_case_run_create(struct fm_vk *vk, const struct fm_caps *caps, struct fm_case *c, const struct fm_kernel *force,
                                  uint32_t rows, bool timed, struct fm_case_run *out_run);
void fm_case_run_finish(struct fm_case_run *run);
// Upload the states again (they may have been changed by a run), and poison the arena and the results.
enum fm_result fm_case_run_reset(struct fm_vk *vk, const struct fm_case *c, struct fm_case_run *run);
// Run once and wait.
enum fm_result fm_case_run_submit(struct fm_vk *vk, struct fm_case_run *run);

struct fm_check_result {
    const struct fm_problem *problem;
    const struct fm_kernel *kernel;
    enum fm_rung rung;    // limit under which the selector chose it
    uint32_t seed;
    bool passed;
    double worst;         // largest |got - ref| / bound
    char message[320];    // failure: value, first bad index, got, ref, bound
};

struct fm_check_params {
    const char *kernel;  // only kernels whose name contains this; NULL = all
    const char *problem; // only problems whose name contains this
    const char *op;      // only this op
    uint32_t seed;
    enum fm_rung max_rung;
    bool quick;          // not every problem on every kernel: see fm_check_list_make (choose.h)
    bool as_is;          // only what the selector takes on the device as it is, not on the rungs below
    uint32_t part, parts; // only the kernels of part `part` (from 0) of `parts`; 0 parts = all. Parts can run side by side
    void (*report)(void *user, const struct fm_check_result *result); // after each
    fm_cancel_fn *cancel; // may be NULL
    void *user;           // of both
};

struct fm_check_totals {
    uint32_t passed, failed;
    uint32_t kernels;     // different kernels run
    uint32_t unsupported; // problems for which no kernel exists under a rung (each also counts as failed)
};

// Open the device that `selector` names (as fm_vk_choose takes it; NULL = the default). *out_limit: the rung called `rung`, or the
// last where that is NULL, for params.max_rung: a device may have capabilities beyond the rung that it reaches, and kernels that
// need no others. FM_ARG for an unknown rung. Close with fm_vk_close.
enum fm_result fm_check_open(const char *selector, const char *rung, struct fm_vk **out_vk, enum fm_rung *out_limit);
// FM_ARG when params name an op or a kernel that does not exist.
enum fm_result fm_check_validate(const struct fm_check_params *params);

// Rung by rung, then as the device is, with its quirks, up to the limit: every kernel that the production selector can choose on the
// device, each problem twice, against the reference and for stray stores. FM_OK even when checks failed (see totals).
enum fm_result fm_check_run(struct fm_vk *vk, const struct fm_check_params *params, struct fm_check_totals *out_totals);

// One problem with one kernel of its op, which need not be of the table, but must outlive `vk`. For tests of the check itself.
enum fm_result fm_check_kernel(struct fm_vk *vk, const struct fm_problem *problem, const struct fm_kernel *kernel, uint32_t seed,
                               struct fm_check_result *out_result);

struct fm_kernel_time {
    const struct fm_problem *problem;
    const struct fm_kernel *kernel;
    uint64_t median_ns, min_ns, max_ns;
    uint64_t moved_bytes;
    double flops;
};
// Time the bench problems with GPU timestamps: every kernel that fits when `all_kernels`, else the selector's choice.
// `repeat` replays on a device that was warmed up, on GPUs with cold caches.
enum fm_result fm_check_bench(struct fm_vk *vk, const struct fm_check_params *params, bool all_kernels, uint32_t repeat,
                              void (*report)(void *user, const struct fm_kernel_time *time), void *user);

// What this device reads from its memory at best: GB/s (10^9 bytes), the median of several passes over 1 GiB (64 MiB on
// processors; less where less is free), with the device warmed up. Takes about half a second. The sums that the kernel
// makes are checked. `cancel` may be NULL. FM_UNSUPPORTED on devices without timestamps, FM_NOSPACE, FM_CANCELLED.
enum fm_result fm_check_read_bandwidth(struct fm_vk *vk, fm_cancel_fn *cancel, void *user, double *out_gbps);

#endif
