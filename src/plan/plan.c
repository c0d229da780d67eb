// SPDX-License-Identifier: MIT
// From a graph to a plan: passes, a kernel for every node, dispatches, barriers, memory.
#include "plan/build.h"

#include <stdio.h>

#include "base/map.h"
#include "pass/pass.h"

// ---- a kernel for every node -------------------------------------------------------------------------------------

struct pass_user {
    struct fm_selector *selector;
    const struct fm_dims *dims;
};

static bool can_run(void *user, const struct fm_graph *graph, const struct fm_node *node)
{
    const struct pass_user *u = user;
    struct fm_want want;
    return fm_want_from_node(graph, node, u->dims, u->selector->caps, &want) == FM_OK &&
           fm_selector_get(u->selector, &want) != NULL;
}

// How near a refused kernel came: wrong formats are furthest, missing capabilities of the right format next.
static int nearness(const struct fm_candidate *candidate)
{
    return candidate->reject == FM_REJECT_FORMAT ? 0 : (int)candidate->reject;
}

static enum fm_result no_kernel(const struct fm_build *b, const struct fm_node *node, const struct fm_want *want)
{
    struct fm_candidate *list = fm_alloc_zero(fm_kernel_count + 1, sizeof(*list));
    if (list == NULL)
        return fm_nomem();
    size_t count = fm_kernel_count + 1;
    fm_kernel_select(b->caps, want, list, &count);
    const struct fm_candidate *best = NULL;
    for (size_t i = 0; i < count; i++)
        if (list[i].kernel->w == want->w && (best == NULL || nearness(&list[i]) > nearness(best)))
            best = &list[i];
    for (size_t i = 0; i < count && best == NULL; i++)
        best = &list[i];
    char nearest[FM_REASON_BYTES + 80] = "there is none for this op";
    if (best != NULL)
        snprintf(nearest, sizeof(nearest), "nearest is %.60s: %s", best->kernel->name, best->reason);
    fm_free(list);
    const char *weights = want->w < FM_TYPE_COUNT ? fm_type_info(want->w)->name : "none";
    return fm_fail(FM_UNSUPPORTED, "node '%s': no kernel runs %s (weights %s, rows %u, run %u, n %u, k %u, head %u, ctx %u) here; %s",
                   node->name, fm_op_info(node->op)->name, weights, want->param[FM_PARAM_ROWS], want->param[FM_PARAM_RUN],
                   want->param[FM_PARAM_N], want->param[FM_PARAM_K], want->param[FM_PARAM_HEAD], want->param[FM_PARAM_CTX], nearest);
}

static enum fm_result select_kernel(struct fm_build *b, uint32_t id)
{
    const struct fm_node *node = &b->graph->nodes[id];
    const struct fm_kernel *force = b->options.force;
    enum fm_result result = fm_want_from_node(b->graph, node, &b->dims, b->caps, &b->want[id]);
    if (result != FM_OK)
        return result;
    if (force != NULL && force->op == node->op) {
        char reason[FM_REASON_BYTES];
        if (!fm_kernel_fits(b->caps, force, &b->want[id], NULL, reason))
            return fm_fail(FM_UNSUPPORTED, "node '%s': %s cannot run it: %s", node->name, force->name, reason);
        b->kernel[id] = force;
        return FM_OK;
    }
    b->kernel[id] = fm_selector_get(b->selector, &b->want[id]);
    return b->kernel[id] != NULL ? FM_OK : no_kernel(b, node, &b->want[id]);
}

// All consumers of a value's f16 copy share one: its rows and its stride fit the largest tile among them.
static enum fm_result want_cast(struct fm_build *b, uint32_t id, uint32_t value)
{
    const struct fm_kernel *kernel = b->kernel[id];
    struct fm_plan_cast *cast = &b->casts[value];
    uint32_t width = fm_dim_resolve(b->graph->values[value].dims[1], &b->dims), rows = b->want[id].param[FM_PARAM_ROWS];
    uint64_t align = fm_plan_cast_align(kernel), tile = fm_emit_tile(kernel->tile_rows, &b->want[id], 1);
    uint64_t stride = (width + align - 1) / align * align, pad_rows = (rows + tile - 1) / tile * tile;
    if (stride > UINT32_MAX || pad_rows > UINT32_MAX)
        return fm_fail(FM_NOSPACE, "node '%s': its f16 input overflows", b->graph->nodes[id].name);
    cast->consumers++;
    cast->stride = FM_MAX(cast->stride, (uint32_t)stride);
    cast->pad_rows = FM_MAX(cast->pad_rows, (uint32_t)pad_rows);
    return FM_OK;
}

static enum fm_result want_casts(struct fm_build *b, uint32_t id)
{
    const struct fm_node *node = &b->graph->nodes[id];
    enum fm_result result = FM_OK;
    for (unsigned i = 0; i < node->n_src && result == FM_OK; i++)
        if (fm_plan_reads_halves(b, id, i) && b->graph->values[node->src[i]].type == FM_TYPE_F32)
            result = want_cast(b, id, node->src[i]);
    return result;
}

// ---- places ------------------------------------------------------------------------------------------------------

static enum fm_result place_from_layout(struct fm_build *b, uint32_t id)
{
    const struct fm_value *value = &b->graph->values[id];
    uint32_t root = fm_value_root(b->graph, id);
    uint64_t bytes;
    if (root >= b->layout->n_values || b->layout->place[root].pool == FM_POOL_NONE)
        return FM_OK; // an error only if something binds it
    if (!fm_value_device_bytes(&b->graph->values[root], &b->dims, &bytes) || bytes != b->layout->place[root].bytes)
        return fm_fail(FM_ARG, "'%s': the layout was made for other dimensions or another graph", value->name);
    b->plan->place[id] = b->layout->place[root];
    return FM_OK;
}

static enum fm_result place_result(struct fm_build *b, uint32_t id)
{
    uint64_t guard_bytes, bytes;
    if (!fm_value_device_bytes(&b->graph->values[id], &b->dims, &bytes) ||
        !fm_align_u64(b->options.guard_bytes, 256, &guard_bytes) || guard_bytes > UINT32_MAX)
        return fm_fail(FM_ARG, "'%s': its size overflows", b->graph->values[id].name);
    b->plan->place[id] = (struct fm_place){.pool = FM_POOL_RESULT, .offset = guard_bytes, .bytes = bytes};
    b->plan->result_bytes = guard_bytes + bytes + guard_bytes;
    return FM_OK;
}

static enum fm_result place_value(struct fm_build *b, uint32_t id)
{
    const struct fm_value *value = &b->graph->values[id];
    struct fm_place *place = &b->plan->place[id];
    uint64_t bytes;
    *place = (struct fm_place){.pool = FM_POOL_NONE};
    switch (value->kind) {
    case FM_VALUE_WEIGHT:
    case FM_VALUE_CONST:
    case FM_VALUE_STATE:
        return place_from_layout(b, id);
    case FM_VALUE_INPUT:
        if (!fm_value_device_bytes(value, &b->dims, &bytes))
            return fm_fail(FM_ARG, "'%s': its size overflows", value->name);
        *place = (struct fm_place){.pool = FM_POOL_STEP, .offset = b->plan->step.input_offset[value->of.input], .bytes = bytes};
        return FM_OK;
    case FM_VALUE_DEAD:
        return FM_OK;
    case FM_VALUE_TEMP:
    case FM_VALUE_OUTPUT:
        break;
    }
    if (id == b->graph->ids)
        return place_result(b, id);
    if (!fm_value_device_bytes(value, &b->dims, &bytes))
        return fm_fail(FM_ARG, "'%s': its size overflows", value->name);
    b->value_buffer[id] = fm_emit_buffer(b, bytes);
    if (b->error == FM_OK)
        b->buffers[b->value_buffer[id]].to_end = value->kind == FM_VALUE_OUTPUT;
    return b->error;
}

static enum fm_result place_values(struct fm_build *b)
{
    bool *used = fm_alloc_zero(b->graph->n_values + 1, sizeof(*used));
    if (used == NULL)
        return fm_nomem();
    for (size_t n = 0; n < b->graph->n_nodes; n++) {
        const struct fm_node *node = &b->graph->nodes[n];
        for (unsigned i = 0; i < node->n_src; i++)
            used[node->src[i]] = true;
        for (unsigned i = 0; i < node->n_dst; i++)
            used[node->dst[i]] = true;
    }
    enum fm_result result = FM_OK;
    for (uint32_t v = 0; v < b->graph->n_values && result == FM_OK; v++) {
        b->plan->place[v].pool = FM_POOL_NONE;
        b->value_buffer[v] = FM_NONE;
        b->casts[v].buffer = FM_NONE;
        b->ints[v] = (struct fm_plan_ints){{FM_NONE, FM_NONE}};
        b->dequantized[v] = FM_NONE;
        if (used[v]) // passes leave values behind that nothing makes any more
            result = place_value(b, v);
    }
    fm_free(used);
    return result;
}

// ---- resolving ---------------------------------------------------------------------------------------------------

// Barriers first, as if every buffer had memory of its own; then offsets such that sharing breaks none of them.
static enum fm_result resolve_memory(struct fm_build *b)
{
    uint32_t *index = fm_alloc_zero(b->n_dispatches * FM_MAX_BIND + 1, sizeof(*index));
    uint64_t at = 0;
    enum fm_result result = index != NULL ? FM_OK : fm_nomem();
    for (size_t i = 0; i < b->n_buffers && result == FM_OK; i++) {
        b->buffers[i].offset = at;
        if (!fm_add_u64(at, b->buffers[i].bytes, &at))
            result = fm_fail(FM_NOSPACE, "the activations need more than 2^64 bytes");
    }
    for (int round = 0; round < 2 && result == FM_OK; round++) {
        for (size_t i = 0; i < b->n_dispatches; i++) {
            struct fm_dispatch *d = &b->dispatches[i];
            for (uint32_t j = 0; j < d->n_bind; j++) {
                if (d->bind[j].pool != FM_POOL_ARENA)
                    continue;
                if (round == 0)
                    index[i * FM_MAX_BIND + j] = (uint32_t)d->bind[j].offset;
                d->bind[j].offset = b->buffers[index[i * FM_MAX_BIND + j]].offset;
            }
        }
        result = fm_plan_mark_barriers(b->dispatches, b->n_dispatches, &b->plan->n_groups);
        if (result == FM_OK && round == 0)
            result = fm_plan_place_buffers(b, &b->plan->arena_bytes);
    }
    fm_free(index);
    return result;
}

static uint64_t hash_u64(uint64_t value, uint64_t hash)
{
    return fm_hash64(&value, sizeof(value), hash);
}

static uint64_t hash_dispatch(const struct fm_dispatch *d, uint64_t hash)
{
    hash = fm_hash64(d->kernel->name, strlen(d->kernel->name), hash);
    hash = fm_hash64(d->name, strlen(d->name), hash);
    for (uint32_t i = 0; i < d->n_spec; i++)
        hash = hash_u64((uint64_t)d->spec[i].id << 32 | d->spec[i].value, hash);
    hash = fm_hash64(d->grid, sizeof(d->grid), hash);
    for (uint32_t i = 0; i < d->n_bind; i++) {
        hash = hash_u64(d->bind[i].offset, hash);
        hash = hash_u64(d->bind[i].bytes << 8 | (uint64_t)d->bind[i].written << 4 | d->bind[i].pool, hash);
    }
    hash = fm_hash64(d->word, d->n_words * sizeof(d->word[0]), hash);
    return hash_u64(d->barrier_before, hash);
}

static uint64_t hash_plan(const struct fm_plan *plan)
{
    uint64_t hash = hash_u64(fm_kernel_manifest_hash, FM_HASH_SEED);
    const uint32_t dims[] = {plan->dims.t, fm_dims_run(&plan->dims), plan->dims.o, plan->dims.s, plan->dims.l};
    hash = fm_hash64(dims, sizeof(dims), hash);
    hash = hash_u64(plan->arena_bytes, hash_u64(plan->result_bytes, hash_u64(plan->step.bytes, hash)));
    for (size_t i = 0; i < plan->n_dispatches; i++)
        hash = hash_dispatch(&plan->dispatches[i], hash);
    return hash;
}

static enum fm_result finish_plan(struct fm_build *b)
{
    struct fm_plan *plan = b->plan;
    enum fm_result result = resolve_memory(b);
    if (result != FM_OK)
        return result;
    for (uint32_t v = 0; v < b->graph->n_values; v++) {
        uint32_t buffer = b->value_buffer[v];
        if (buffer != FM_NONE)
            plan->place[v] = (struct fm_place){.pool = FM_POOL_ARENA, .offset = b->buffers[buffer].offset,
                                               .bytes = b->buffers[buffer].bytes};
    }
    plan->n_dispatches = b->n_dispatches;
    plan->dispatches = b->dispatches;
    b->dispatches = NULL;
    plan->logits = plan->ids = (struct fm_place){.pool = FM_POOL_NONE};
    if (b->graph->logits != FM_NONE)
        plan->logits = plan->place[b->graph->logits];
    if (b->graph->ids != FM_NONE)
        plan->ids = plan->place[b->graph->ids];
    plan->hash = hash_plan(plan);
    return FM_OK;
}

// ---- the whole ---------------------------------------------------------------------------------------------------

static enum fm_result start_build(struct fm_build *b)
{
    size_t n_nodes = b->graph->n_nodes, n_values = b->graph->n_values;
    b->kernel = fm_alloc_zero(n_nodes + 1, sizeof(*b->kernel));
    b->want = fm_alloc_zero(n_nodes + 1, sizeof(*b->want));
    b->value_buffer = fm_alloc_zero(n_values + 1, sizeof(*b->value_buffer));
    b->casts = fm_alloc_zero(n_values + 1, sizeof(*b->casts));
    b->ints = fm_alloc_zero(n_values + 1, sizeof(*b->ints));
    b->dequantized = fm_alloc_zero(n_values + 1, sizeof(*b->dequantized));
    b->plan->place = fm_arena_alloc(&b->plan->arena, n_values + 1, sizeof(*b->plan->place));
    if (!b->kernel || !b->want || !b->value_buffer || !b->casts || !b->ints || !b->dequantized || !b->plan->place)
        return fm_nomem();
    b->plan->n_values = n_values;
    return fm_step_layout_make(&b->dims, &b->plan->step);
}

static enum fm_result build(struct fm_build *b)
{
    enum fm_result result = start_build(b);
    for (uint32_t n = 0; n < b->graph->n_nodes && result == FM_OK; n++)
        result = select_kernel(b, n);
    if (result == FM_OK)
        result = fm_plan_narrow(b);
    for (uint32_t n = 0; n < b->graph->n_nodes && result == FM_OK; n++)
        result = want_casts(b, n);
    if (result == FM_OK)
        result = place_values(b);
    for (uint32_t n = 0; n < b->graph->n_nodes && result == FM_OK; n++) {
        fm_emit_fn *emit = fm_emit_of(b->graph->nodes[n].op);
        if (emit == NULL)
            return fm_fail(FM_ARG, "node '%s': %s is made by the planner only", b->graph->nodes[n].name,
                           fm_op_info(b->graph->nodes[n].op)->name);
        emit(b, n);
        result = b->error;
    }
    return result == FM_OK ? finish_plan(b) : result;
}

enum fm_result fm_plan_create(struct fm_graph *graph, const struct fm_layout *layout, const struct fm_caps *caps,
                              const struct fm_dims *dims, const struct fm_plan_options *options, struct fm_plan *out_plan)
{
    struct fm_plan plan = {.dims = *dims};
    struct fm_selector selector = {.caps = caps};
    struct fm_build b = {.graph = graph, .layout = layout, .caps = caps, .dims = *dims, .plan = &plan, .selector = &selector};
    if (options != NULL)
        b.options = *options;
    if (dims->t == 0 || dims->o == 0 || dims->s == 0 || dims->l == 0)
        return fm_fail(FM_ARG, "a plan needs tokens, outputs, slots and context (found %u, %u, %u, %u)", dims->t, dims->o,
                       dims->s, dims->l);
    if (dims->run > dims->t)
        return fm_fail(FM_ARG, "a plan for %u rows of one sequence, expected at most the step's %u", dims->run, dims->t);
    enum fm_result result = FM_OK;
    if (!b.options.no_fuse) {
        struct pass_user user = {.selector = &selector, .dims = dims};
        struct fm_pass_context context = {.can_run = can_run, .user = &user, .tuning = fm_tuning_of(caps), .dims = dims};
        result = fm_passes_run(graph, &context);
    }
    if (result == FM_OK)
        result = build(&b);
    if (result == FM_OK)
        result = selector.error;
    fm_selector_finish(&selector);
    fm_free(b.kernel);
    fm_free(b.want);
    fm_free(b.value_buffer);
    fm_free(b.casts);
    fm_free(b.ints);
    fm_free(b.dequantized);
    fm_free(b.dispatches);
    fm_free(b.buffers);
    if (result != FM_OK) {
        fm_plan_finish(&plan);
        return result;
    }
    *out_plan = plan;
    return FM_OK;
}

void fm_plan_finish(struct fm_plan *plan)
{
    fm_free(plan->dispatches);
    fm_arena_finish(&plan->arena);
    *plan = (struct fm_plan){0};
}
