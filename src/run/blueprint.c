// SPDX-License-Identifier: MIT
// A session before there is one: parameters resolved, memory laid out, every bucket's need of memory known. No device is touched, so
// that the sizes are known, and refused, before anything is uploaded.
#include "run/run.h"

#define DEFAULT_CONTEXT 4096u
#define DEFAULT_UBATCH 512u
#define MAX_UBATCH 8192u
#define MAX_SLOTS 1024u
#define MAX_CONTEXT (1u << 24)

enum fm_result fm_graph_copy(const struct fm_graph *graph, struct fm_graph *out_graph)
{
    struct fm_graph copy = {.n_nodes = graph->n_nodes, .cap_nodes = graph->n_nodes, .n_values = graph->n_values,
                            .cap_values = graph->n_values, .logits = graph->logits, .ids = graph->ids};
    copy.nodes = fm_alloc_zero(graph->n_nodes, sizeof(*copy.nodes));
    copy.values = fm_alloc_zero(graph->n_values, sizeof(*copy.values));
    if (copy.nodes == NULL || copy.values == NULL) {
        fm_graph_finish(&copy);
        return fm_nomem();
    }
    memcpy(copy.nodes, graph->nodes, graph->n_nodes * sizeof(*copy.nodes));
    memcpy(copy.values, graph->values, graph->n_values * sizeof(*copy.values));
    *out_graph = copy;
    return FM_OK;
}

// ---- parameters --------------------------------------------------------------------------------------------------

static enum fm_result cache_type(const char *name, enum fm_type fallback, enum fm_type *out_type)
{
    *out_type = name == NULL || name[0] == '\0' ? fallback : fm_type_from_name(name);
    if (*out_type == FM_TYPE_F16 || *out_type == FM_TYPE_F32 || *out_type == FM_TYPE_Q8_0)
        return FM_OK;
    return fm_fail(FM_ARG, "cache type '%s', expected f16, f32 or q8_0", FM_QUOTE_Z(name));
}

static enum fm_result activation_bytes(const char *name, uint32_t *out_bytes)
{
    bool is_auto = name == NULL || strcmp(name, "auto") == 0;
    if (!is_auto && strcmp(name, "q8") != 0)
        return fm_fail(FM_ARG, "activations '%s', expected auto or q8", FM_QUOTE_Z(name));
    *out_bytes = is_auto ? 2 : 1;
    return FM_OK;
}

static enum fm_result resolve(const struct fm_model *model, const struct fm_session_params *p, struct fm_blueprint *b)
{
    const struct fm_config *c = &model->config;
    b->n_ctx = p->n_ctx != 0 ? p->n_ctx : FM_MIN(c->context, DEFAULT_CONTEXT);
    b->n_slots = p->n_slots != 0 ? p->n_slots : 1;
    b->n_ubatch = p->n_ubatch != 0 ? p->n_ubatch : FM_MAX(DEFAULT_UBATCH, b->n_slots);
    if (b->n_ctx > MAX_CONTEXT || b->n_slots > MAX_SLOTS || b->n_ubatch > MAX_UBATCH)
        return fm_fail(FM_ARG, "context %u, %u slots, micro-batch %u; expected at most %u, %u and %u", b->n_ctx, b->n_slots,
                       b->n_ubatch, MAX_CONTEXT, MAX_SLOTS, MAX_UBATCH);
    if (b->n_ubatch < b->n_slots)
        return fm_fail(FM_ARG, "micro-batch of %u tokens, expected at least the number of slots, %u", b->n_ubatch, b->n_slots);
    if (p->n_rollback > FM_STATE_VERSION_ROWS - FM_RUN_RING)
        return fm_fail(FM_ARG, "sequences that roll back %u tokens, expected at most %u", p->n_rollback,
                       FM_STATE_VERSION_ROWS - FM_RUN_RING);
    b->n_rollback = p->n_rollback;
    if (b->n_ctx > c->context && c->position_table)
        return fm_fail(FM_ARG, "context %u, but this model's table has %u positions", b->n_ctx, c->context);
    b->n_ubatch = (uint32_t)FM_MIN(b->n_ubatch, (uint64_t)b->n_ctx * b->n_slots); // no step has more tokens
    enum fm_result result = activation_bytes(p->activations, &b->x_bytes);
    if (result == FM_OK)
        result = cache_type(p->cache_type_k, model->kv_type, &b->kv_type[0]);
    if (result == FM_OK)
        result = cache_type(p->cache_type_v, p->cache_type_v == NULL ? b->kv_type[0] : model->kv_type, &b->kv_type[1]);
    if (result == FM_OK && p->cache_type_k == NULL)
        b->kv_type[0] = b->kv_type[1];
    if (result == FM_OK && b->kv_type[0] != b->kv_type[1])
        return fm_fail(FM_ARG, "cache type %s for keys and %s for values, expected one type for both", fm_type_info(b->kv_type[0])->name,
                       fm_type_info(b->kv_type[1])->name);
    if (result == FM_OK && b->kv_type[0] == FM_TYPE_Q8_0)
        b->n_ctx = fm_ceil_div_u32(b->n_ctx, FM_CACHE_POSITIONS) * FM_CACHE_POSITIONS;
    return result;
}

// Dual chunk attention as the session wants it.
static enum fm_result choose_chunks(const struct fm_model *model, const struct fm_session_params *p, struct fm_config *config)
{
    uint32_t cap = p->dca == FM_DCA_GIVEN ? p->dca_cap : (uint32_t)((uint64_t)config->context * 3 / 4);
    uint32_t local = p->dca == FM_DCA_GIVEN ? p->dca_local : config->context / 8;
    bool rotates = false;
    if (p->dca == FM_DCA_FILE)
        return FM_OK;
    if (p->dca == FM_DCA_OFF) {
        config->chunk = config->cap = config->original = 0;
        return FM_OK;
    }
    for (size_t i = 0; i < model->graph.n_nodes && !rotates; i++)
        rotates = model->graph.nodes[i].op == FM_OP_ROPE;
    if (!rotates)
        return fm_fail(FM_UNSUPPORTED, "dual chunk attention wants attention with rotary positions, this %s has none",
                       model->arch->name);
    if (config->window > 0)
        return fm_fail(FM_UNSUPPORTED, "dual chunk attention wants attention over all positions, this %s has a window of %u",
                       model->arch->name, config->window);
    if (local >= cap)
        return fm_fail(FM_ARG, "dual chunk attention with positions up to %u and a window of %u, expected less than %u", cap, local, cap);
    config->chunk = cap - local;
    config->cap = cap;
    return FM_OK;
}

// The model's graph, or one of its own when cache type or chunks differ.
static enum fm_result choose_graph(const struct fm_model *model, const struct fm_session_params *params, struct fm_blueprint *b)
{
    struct fm_config config = model->config;
    enum fm_result result = choose_chunks(model, params, &config);
    if (result != FM_OK)
        return result;
    if (config.chunk == model->config.chunk && config.cap == model->config.cap && b->kv_type[0] == model->kv_type &&
        b->kv_type[1] == model->kv_type) {
        b->graph = &model->graph;
        return FM_OK;
    }
    struct fm_graph_options options = {.kv_type = {b->kv_type[0], b->kv_type[1]}, .random_type = model->random_type};
    return fm_arch_build(model->arch, &config, model->file, &options, &b->own_graph);
}

static bool is_recurrent(const struct fm_value *value)
{
    return value->kind == FM_VALUE_STATE && value->n_dims == 4 && value->dims[1] == FM_DIM_B;
}

// A cache or the history: as long as the context.
static bool has_positions(const struct fm_value *value)
{
    bool is_long = false;
    for (uint32_t i = 0; i < value->n_dims; i++)
        is_long = is_long || value->dims[i] == FM_DIM_L;
    return value->kind == FM_VALUE_STATE && is_long;
}

bool fm_graph_is_recurrent(const struct fm_graph *graph)
{
    for (size_t i = 0; i < graph->n_values; i++)
        if (is_recurrent(&graph->values[i]))
            return true;
    return false;
}

// A state for now, one for each step that may be under way when a sequence turns out to have ended, and those asked for.
static uint32_t count_state_versions(const struct fm_graph *graph, uint32_t n_rollback)
{
    return fm_graph_is_recurrent(graph) ? FM_RUN_RING + n_rollback : 0;
}

const struct fm_graph *fm_blueprint_graph(const struct fm_blueprint *b)
{
    return b->graph != NULL ? b->graph : &b->own_graph;
}

// ---- plans -------------------------------------------------------------------------------------------------------

enum fm_result fm_blueprint_plan(const struct fm_blueprint *b, const struct fm_caps *caps, struct fm_step_size bucket, bool all_rows,
                                 struct fm_planned_step *out_planned)
{
    struct fm_planned_step planned = {.bucket = bucket};
    const struct fm_dims dims = {.t = bucket.rows, .o = all_rows ? bucket.rows : FM_MIN(bucket.rows, b->n_slots), .s = b->n_slots,
                                 .l = b->n_ctx, .b = b->state_versions, .run = bucket.run, .x_bytes = b->x_bytes};
    enum fm_result result = fm_graph_copy(fm_blueprint_graph(b), &planned.graph);
    if (result != FM_OK)
        return result;
    result = fm_plan_create(&planned.graph, &b->layout, caps, &dims, NULL, &planned.plan);
    if (result != FM_OK) {
        fm_graph_finish(&planned.graph);
        return result;
    }
    *out_planned = planned;
    return FM_OK;
}

void fm_planned_step_finish(struct fm_planned_step *planned)
{
    fm_plan_finish(&planned->plan);
    fm_graph_finish(&planned->graph);
    *planned = (struct fm_planned_step){0};
}

uint64_t fm_blueprint_entry_bytes(uint64_t bytes)
{
    return (bytes + FM_RUN_ENTRY_ALIGN - 1) / FM_RUN_ENTRY_ALIGN * FM_RUN_ENTRY_ALIGN;
}

// Sizes by run end where the windows of kernels do that can run here, and where steps stop to keep a state version after each row.
static void choose_buckets(struct fm_blueprint *b, const struct fm_caps *caps)
{
    const struct fm_graph *graph = fm_blueprint_graph(b);
    bool has[FM_OP_COUNT] = {false};
    b->buckets = (struct fm_buckets){.n_ubatch = b->n_ubatch, .n_slots = b->n_slots};
    for (size_t i = 0; i < graph->n_nodes; i++)
        has[graph->nodes[i].op] = true;
    has[FM_OP_MATMUL_CONV] = has[FM_OP_CONV1D]; // of fused ops this one alone has kernels with windows of its own
    if (b->state_versions > 0)
        fm_buckets_add_run(&b->buckets, FM_STATE_VERSION_ROWS);
    for (size_t i = 0; i < fm_kernel_count; i++) {
        const struct fm_kernel *kernel = &fm_kernels[i];
        for (unsigned w = 0; w < kernel->n_windows && has[kernel->op] && (kernel->needs & ~caps->bits) == 0; w++) {
            const struct fm_window *window = &kernel->window[w];
            if (window->param != FM_PARAM_RUN)
                continue;
            if (window->min > 1)
                fm_buckets_add_run(&b->buckets, window->min - 1);
            fm_buckets_add_run(&b->buckets, window->max);
        }
    }
}

// Every bucket is planned once: fewer rows do not always need less, since kernels and cuts differ.
static enum fm_result measure_buckets(struct fm_blueprint *b, const struct fm_caps *caps)
{
    choose_buckets(b, caps);
    for (uint32_t i = 0; i < FM_BUCKETS; i++) {
        struct fm_step_size bucket;
        struct fm_planned_step planned;
        if (!fm_bucket_at(&b->buckets, i, &bucket))
            continue;
        enum fm_result result = fm_blueprint_plan(b, caps, bucket, false, &planned);
        if (result != FM_OK)
            return result;
        b->arena_bytes = FM_MAX(b->arena_bytes, planned.plan.arena_bytes);
        b->step_stride = FM_MAX(b->step_stride, fm_blueprint_entry_bytes(planned.plan.step.bytes));
        b->result_stride = FM_MAX(b->result_stride, fm_blueprint_entry_bytes(planned.plan.result_bytes));
        fm_planned_step_finish(&planned);
    }
    return FM_OK;
}

enum fm_result fm_blueprint_make(const struct fm_model *model, const struct fm_caps *caps, const struct fm_session_params *params,
                                 struct fm_blueprint *out_blueprint)
{
    static const struct fm_session_params defaults = {0};
    struct fm_blueprint b = {0};
    if (params == NULL)
        params = &defaults;
    enum fm_result result = resolve(model, params, &b);
    if (result == FM_OK)
        result = choose_graph(model, params, &b);
    if (result == FM_OK) {
        b.state_versions = count_state_versions(fm_blueprint_graph(&b), b.n_rollback);
        const struct fm_dims dims = {.t = b.n_ubatch, .o = b.n_slots, .s = b.n_slots, .l = b.n_ctx, .b = b.state_versions};
        result = fm_layout_create(fm_blueprint_graph(&b), caps, &dims, 0, &b.layout);
    }
    if (result == FM_OK)
        result = measure_buckets(&b, caps);
    if (result != FM_OK) {
        fm_blueprint_finish(&b);
        return result;
    }
    *out_blueprint = b;
    return FM_OK;
}

void fm_blueprint_finish(struct fm_blueprint *b)
{
    fm_layout_finish(&b->layout);
    fm_graph_finish(&b->own_graph);
    *b = (struct fm_blueprint){0};
}

// ---- what would fit ----------------------------------------------------------------------------------------------

#define CONTEXT_STEP 256u

static bool fits(const struct fm_model *model, const struct fm_caps *caps, struct fm_session_params params, uint32_t n_ctx)
{
    struct fm_blueprint blueprint;
    struct fm_memory_need need;
    params.n_ctx = n_ctx;
    if (fm_blueprint_make(model, caps, &params, &blueprint) != FM_OK)
        return false;
    fm_blueprint_need(&blueprint, &need);
    fm_blueprint_finish(&blueprint);
    return need.total_bytes <= caps->available_bytes;
}

uint32_t fm_blueprint_longest(const struct fm_model *model, const struct fm_caps *caps, const struct fm_session_params *params)
{
    const struct fm_session_params asked = params != NULL ? *params : (struct fm_session_params){0};
    uint32_t n_ctx = asked.n_ctx != 0 ? asked.n_ctx : FM_MIN(model->config.context, DEFAULT_CONTEXT);
    uint32_t low = 0, high = (FM_MIN(n_ctx, MAX_CONTEXT) + CONTEXT_STEP - 1) / CONTEXT_STEP; // low fits (or is 0), high does not
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (fits(model, caps, asked, middle * CONTEXT_STEP))
            low = middle;
        else
            high = middle;
    }
    return low * CONTEXT_STEP;
}

void fm_blueprint_need(const struct fm_blueprint *b, struct fm_memory_need *out_need)
{
    struct fm_memory_need need = {.weights_bytes = b->layout.pool[FM_POOL_WEIGHTS].total_bytes,
                                  .state_bytes = b->layout.pool[FM_POOL_STATE].total_bytes,
                                  .arena_bytes = b->arena_bytes + FM_COUNTER_BYTES,
                                  .step_bytes = b->step_stride * FM_RUN_RING,
                                  .result_bytes = b->result_stride * FM_RUN_RING,
                                  .n_ctx = b->n_ctx, .n_slots = b->n_slots, .n_ubatch = b->n_ubatch, .n_versions = b->state_versions};
    const struct fm_graph *graph = fm_blueprint_graph(b);
    need.state_fixed_bytes = need.state_bytes;
    for (uint32_t id = 0; id < graph->n_values; id++)
        if (has_positions(&graph->values[id]) && graph->values[id].alias == FM_NONE)
            need.state_fixed_bytes -= b->layout.place[id].bytes;
    need.total_bytes = need.weights_bytes + need.state_bytes + need.arena_bytes + need.step_bytes + need.result_bytes;
    *out_need = need;
}
