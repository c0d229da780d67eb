// SPDX-License-Identifier: MIT
// What the files of this folder share: the structs behind the public handles.
#ifndef FM_RUN_RUN_H
#define FM_RUN_RUN_H

#include <stdatomic.h>

#include "base/os.h"
#include "fulmen/session.h"
#include "models/arch.h"
#include "plan/plan.h"
#include "run/bucket.h"
#include "text/tokenizer.h"
#include "vk/vk.h"

#define FM_RUN_RING 2u     // step blocks: one is written while the device works on the other
#define FM_RUN_ENTRY_ALIGN 256u // bytes: ring entries begin at multiples

struct fm_device {
    struct fm_vk *vk;
    double read_bytes_per_s; // 0 = not measured yet
    struct fm_tuning tuning; // of its capabilities, where a file was given
};

struct fm_model_type { // elements and device bytes of one weight type
    enum fm_type type;
    uint64_t elems, bytes;
};

struct fm_model {
    struct fm_arena arena;
    const char *path, *name;
    size_t name_bytes;
    struct fm_file *file; // NULL for built-in shapes
    const struct fm_arch *arch;
    struct fm_config config;
    struct fm_tokenizer *tokenizer; // NULL when the file has none
    enum fm_type random_type;       // of built-in shapes
    enum fm_type kv_type;           // default of sessions
    struct fm_graph graph;          // as built, with kv_type; sessions work on copies
    struct fm_model_type types[FM_TYPE_COUNT];
    uint32_t n_types;
    uint64_t n_params, weight_bytes, token_bytes;

    // once loaded
    struct fm_device *device;
    struct fm_vk_memory *weights;
    uint64_t identity; // of its tensors and metadata, for files of states
};

// A bucket, planned.
struct fm_planned_step {
    struct fm_step_size bucket;
    struct fm_graph graph; // rewritten by the passes; names in the plan point here
    struct fm_plan plan;
};

// Everything about a session that can be known without a device: parameters resolved, layout, sizes.
struct fm_blueprint {
    uint32_t n_ctx, n_slots, n_ubatch, n_rollback;
    enum fm_type kv_type[2];
    uint32_t x_bytes;  // fewest bytes of the integers that products may see activations as
    uint32_t state_versions; // of each recurrent state; 0 = the model has none
    struct fm_graph own_graph;    // when the cache type is not the model's, or the chunks; else empty
    const struct fm_graph *graph; // the model's, or NULL: own_graph
    struct fm_layout layout;
    struct fm_buckets buckets;
    // The most that a bucket needs with rows of logits for the slots. Strides: bytes of an entry of the ring.
    uint64_t arena_bytes, step_stride, result_stride;
};

// blueprint.c. FM_ARG, FM_UNSUPPORTED, FM_NOSPACE, FM_NOMEM; on failure nothing is left.
enum fm_result fm_blueprint_make(const struct fm_model *model, const struct fm_caps *caps,
                                 const struct fm_session_params *params, struct fm_blueprint *out_blueprint);
void fm_blueprint_finish(struct fm_blueprint *blueprint);
// The longest context, in steps of 256, with which `params` fits on the device; 0 = none below the one asked for.
uint32_t fm_blueprint_longest(const struct fm_model *model, const struct fm_caps *caps, const struct fm_session_params *params);
void fm_blueprint_need(const struct fm_blueprint *blueprint, struct fm_memory_need *out_need);
// The graph that its plans are made from.
const struct fm_graph *fm_blueprint_graph(const struct fm_blueprint *blueprint);
// Plan a bucket, with rows of logits for the slots, or for every row of the step. What fm_blueprint_make returns.
enum fm_result fm_blueprint_plan(const struct fm_blueprint *blueprint, const struct fm_caps *caps, struct fm_step_size bucket,
                                 bool all_rows, struct fm_planned_step *out_planned);
void fm_planned_step_finish(struct fm_planned_step *planned);
uint64_t fm_blueprint_entry_bytes(uint64_t bytes); // what `bytes` take in a ring

// A graph that shares names and constants with `graph`, which must outlive it. FM_NOMEM. (blueprint.c)
enum fm_result fm_graph_copy(const struct fm_graph *graph, struct fm_graph *out_graph);

// Does the graph have recurrent states, which are kept in state versions? (blueprint.c)
bool fm_graph_is_recurrent(const struct fm_graph *graph);

// state_file.c: a hash of the names, shapes and types of all tensors, of the metadata, and of a sample of every tensor's bytes.
enum fm_result fm_state_model_identity(const struct fm_model *model, uint64_t *out_identity);

// random.c: fill the weights of a built-in shape.
enum fm_result fm_random_load(const struct fm_model *model, struct fm_vk *vk, struct fm_vk_memory *memory,
                              const struct fm_layout *layout, const struct fm_load_params *params);

#endif
