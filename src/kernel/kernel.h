// SPDX-License-Identifier: MIT
// What a device can do, which kernels exist, and which one to take. Plain C: no Vulkan here.
#ifndef FM_KERNEL_KERNEL_H
#define FM_KERNEL_KERNEL_H

#include "base/map.h"
#include "graph/graph.h"
#include "kernel/tuning.h"

// ---- capabilities ------------------------------------------------------------------------------------------------

enum fm_rung { FM_RUNG_BASE, FM_RUNG_SG, FM_RUNG_F16, FM_RUNG_DOT, FM_RUNG_CM, FM_RUNG_CMR, FM_RUNG_COUNT };
const char *fm_rung_name(enum fm_rung rung); // "base", "sg", ...
// The highest rung that may be used; NULL and "" set no limit. FM_ARG with the names that there are.
enum fm_result fm_rung_limit(const char *name, enum fm_rung *out_rung);
enum fm_rung fm_rung_from_name(const char *name); // FM_RUNG_COUNT when unknown

enum fm_cap_index {
#define X(id, name, rung, what) FM_CAP_INDEX_##id,
#include "kernel/rungs.def"
#undef X
    FM_CAP_COUNT
};
#define X(id, name, rung, what) static const uint64_t FM_CAP_##id = 1ull << FM_CAP_INDEX_##id;
#include "kernel/rungs.def"
#undef X

struct fm_matrix_shape { // one listed cooperative matrix shape of a subgroup, f16 x f16 -> f32
    uint32_t m, n, k;
};

// Which elements of a matrix a lane's components hold (shaders/lib/matrix_order.glsl), for kernels that fill matrices by components.
enum fm_matrix_order {
    FM_MATRIX_ORDER_NONE, // any will do (kernel); none of those known (device)
    FM_MATRIX_ORDER_QUADS,
    FM_MATRIX_ORDER_LANE_K,
    FM_MATRIX_ORDER_COUNT
};
const char *fm_matrix_order_name(enum fm_matrix_order order); // "none", "quads", "lane_k"

// Immutable snapshot of a device. Limits of 0 mean "unsupported".
struct fm_caps {
    char name[256], driver[256], driver_info[256];
    uint8_t uuid[16];
    uint32_t vendor_id, device_id, driver_id, driver_version, api_version;
    uint8_t kind; // 0 other, 1 integrated, 2 discrete, 3 virtual, 4 cpu
    uint64_t bits; // FM_CAP_*
    uint32_t subgroup_size, subgroup_min, subgroup_max;
    bool subgroup_size_control;
    uint32_t shared_bytes, max_invocations, max_push_bytes;
    uint32_t max_workgroup_size[3], max_workgroups[3];
    uint64_t max_alloc_bytes;  // largest single allocation
    uint64_t max_buffer_bytes;
    uint64_t device_bytes;     // size of the largest device-local heap
    uint64_t available_bytes;  // budget left in it (device_bytes where the device does not say)
    bool unified;              // device-local memory is the host's
    uint32_t cores;            // shader cores (SMs, CUs) where the device says, else 0
    float timestamp_ns;        // ns per timestamp tick; 0 = none
    uint32_t n_matrix;
    struct fm_matrix_shape matrix[32];
    enum fm_matrix_order matrix_order; // found out when the device is opened (vk_matrix_order.c)
    uint32_t quirks; // FM_QUIRK_* bits of quirks.c
    const struct fm_tuning *tuning; // what was measured on this device; NULL = what is shipped. Outlives the snapshot
};

const char *fm_cap_name(enum fm_cap_index index); // "subgroup", "float16", ...
uint64_t fm_rung_bits(enum fm_rung rung); // FM_CAP_* bits of this rung and of all below
// The rung that these capabilities reach: the highest whose bits and those of all rungs below are there.
enum fm_rung fm_caps_rung(const struct fm_caps *caps);
// Copy with every bit above `rung` cleared.
struct fm_caps fm_caps_mask(const struct fm_caps *caps, enum fm_rung rung);
// Apply the quirk table (quirks.c): may clear bits and set quirk flags; logs each row that applied at DEBUG.
void fm_caps_apply_quirks(struct fm_caps *caps);

// ---- the kernel table --------------------------------------------------------------------------------------------

// Numbers that a kernel's window, specialisation and grid may refer to. Filled per node by fm_want_from_node.
#define FM_PARAMS(X)                                                                                                   \
    X(ROWS, "rows")       /* rows of the step that this op works on: the bucket's T or O */                            \
    X(RUN, "run")         /* most rows that one sequence has in the step: 1 where all decode */                        \
    X(N, "n")             /* columns of the result (matmul), or its width */                                           \
    X(K, "k")             /* inner dimension (matmul), or width of the input */                                        \
    X(HEAD, "head")       /* C */                                                                                      \
    X(HEADS, "heads")     /* H */                                                                                      \
    X(HEADS_PER_KV, "heads_per_kv") /* H / G: query heads that share a KV head */                                       \
    X(HEADS_PER_BC, "heads_per_bc") /* heads, side by side, that share a row of b and a row of c; of Mamba-1: channels */ \
    X(STATE, "state")     /* N or K of a recurrent op; W of conv1d */                                                  \
    X(ROTATED, "rotated") /* elements of a head that are rotated (rope_attend) */                                      \
    X(CHUNK, "chunk")     /* positions of a chunk of dual chunk attention; 0 = plain */                                \
    X(CTX, "ctx")         /* L */                                                                                      \
    X(SUBGROUP, "subgroup") /* subgroup size that the pipeline will run with */                                        \
    X(CORES, "cores")

enum fm_param {
#define X(id, name) FM_PARAM_##id,
    FM_PARAMS(X)
#undef X
    FM_PARAM_COUNT
};

const char *fm_param_name(enum fm_param param); // "rows", "k", ...

// A tile that is FM_TILE_PARAM | enum fm_param has that parameter's value.
#define FM_TILE_PARAM 0x80000000u

// What a node asks for.
struct fm_want {
    enum fm_op op;
    enum fm_type x;  // first activation operand: F32 (a kernel that wants F16 gets a cast before it)
    enum fm_type w;  // weight or KV-cache format; NONE where the op has none
    uint32_t x_bytes; // products: fewest bytes of the integers that may stand for activations
    uint32_t param[FM_PARAM_COUNT];
};

struct fm_window { // param in [min, max] and a multiple of `multiple`
    uint8_t param;
    uint32_t min, max, multiple;
};

struct fm_spec { // specialisation constant `id` = param's value, or `value` when param == FM_PARAM_COUNT
    uint8_t id, param;
    uint32_t value;
};

#define FM_KERNEL_WINDOWS 6
#define FM_KERNEL_SPECS 10

struct fm_kernel { // one manifest row, expanded; generated from shaders/kernels.toml
    const char *name;
    enum fm_op op;
    enum fm_rung rung;
    uint64_t needs;       // FM_CAP_* bits
    enum fm_type x, w;    // formats read; NONE = the op has no such operand or any will do
    uint32_t x_bytes;     // the first operand is made integers of so many bytes before (op CAST_INT), and the kernel reads these; 0: is not
    enum fm_type y;       // F16: the result can be written as f16, too (FM_SPEC_HALVES); NONE: as f32 only
    bool copy;            // beside its f32 result it can write an f16 copy
    struct fm_window window[FM_KERNEL_WINDOWS];
    uint8_t n_windows;
    struct fm_spec spec[FM_KERNEL_SPECS]; // constant ids as in shaders/lib/spec.glsl; id 0 = workgroup size x
    uint8_t n_specs;
    uint32_t workgroup;     // invocations (size x)
    // Rows and columns (or heads) of the result that one workgroup makes: numbers or FM_TILE_PARAM | param; 0 = rule of
    // the op.
    uint32_t tile_rows, tile_cols;
    uint32_t split;         // most parts a reduction may be cut into (attention keys, K); 1 = no split
    uint32_t shared_bytes;
    uint32_t matrix_m, matrix_n, matrix_k; // cooperative matrix shape that must be listed; 0 = none
    enum fm_matrix_order matrix_order; // that the device must have
    bool dequantize;        // the weights are written out as f16 before (op DEQUANTIZE), and the kernel reads that
    bool full_subgroups;    // require subgroup size = caps.subgroup_size and full subgroups
    int32_t priority;       // higher wins
    float bound_c;          // |got - ref| <= bound_c * unit * mag + tiny
    double bound_unit;      // 2^-24 (f32), 2^-11 (f16) ...
    const uint32_t *spirv;
    size_t spirv_bytes;
};

extern const struct fm_kernel fm_kernels[];
extern const size_t fm_kernel_count;
extern const uint64_t fm_kernel_manifest_hash;
extern const char *const fm_kernel_rungs_built; // "base sg f16 dot cm cmr"

// ---- selection ---------------------------------------------------------------------------------------------------

enum fm_reject { FM_REJECT_NONE, FM_REJECT_NEEDS, FM_REJECT_FORMAT, FM_REJECT_WINDOW, FM_REJECT_SHARED, FM_REJECT_MATRIX,
                 FM_REJECT_WORKGROUP, FM_REJECT_QUIRK, FM_REJECT_SCORE };

#define FM_REASON_BYTES 96

struct fm_candidate { // one line of `plan --why`
    const struct fm_kernel *kernel;
    enum fm_reject reject;  // NONE for the chosen one
    char reason[FM_REASON_BYTES]; // "needs coopmat", "k = 60 is no multiple of 32", "priority 40 < 60"
    int32_t score;
};

// Best kernel for `want` on `caps`; NULL when there is none ("not supported" means exactly this).
// candidates (may be NULL) receives up to *n_candidates rows, every kernel of the op, the chosen first.
const struct fm_kernel *fm_kernel_select(const struct fm_caps *caps, const struct fm_want *want, struct fm_candidate *candidates,
                                         size_t *n_candidates);
// Remembers what was selected: the layers of a model ask for the same again and again. All zero but for caps at first.
struct fm_selector {
    const struct fm_caps *caps;
    struct fm_arena arena;
    struct fm_map map; // wants to places in fm_kernels
    enum fm_result error; // FM_NOMEM when something could not be remembered
};
const struct fm_kernel *fm_selector_get(struct fm_selector *selector, const struct fm_want *want); // as fm_kernel_select
void fm_selector_finish(struct fm_selector *selector);
// A kernel's tile for `want`: the number, or the value of the parameter that it names.
uint32_t fm_kernel_tile(uint32_t tile, const struct fm_want *want);
// Can the kernel run at all, whatever its score? out_reject and out_reason (at least FM_REASON_BYTES) may be NULL.
bool fm_kernel_fits(const struct fm_caps *caps, const struct fm_kernel *kernel, const struct fm_want *want, enum fm_reject *out_reject,
                    char *out_reason);

#endif
