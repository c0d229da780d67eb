// SPDX-License-Identifier: MIT
#include "check.h"

#include <stdio.h>
#include <stdlib.h>

static char message[512];

#define FAULT(...)                                                                                                     \
    do {                                                                                                               \
        snprintf(message, sizeof(message), __VA_ARGS__);                                                               \
        return message;                                                                                                \
    } while (0)

// Who wrote a piece of the arena last.
struct owner {
    uint64_t begin, end;
    size_t dispatch;
};

struct owners {
    struct owner list[65536];
    size_t count;
};

static bool overlap(const struct fm_binding *a, const struct fm_binding *b)
{
    return a->pool == b->pool && a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
}

static const char *check_groups(const struct fm_plan *plan)
{
    size_t start = 0;
    uint32_t groups = plan->n_dispatches > 0;
    for (size_t i = 0; i < plan->n_dispatches; i++) {
        const struct fm_dispatch *d = &plan->dispatches[i];
        if (d->barrier_before) {
            start = i;
            groups++;
        }
        for (size_t j = start; j < i; j++)
            for (uint32_t a = 0; a < d->n_bind; a++)
                for (uint32_t b = 0; b < plan->dispatches[j].n_bind; b++) {
                    const struct fm_binding *x = &d->bind[a], *y = &plan->dispatches[j].bind[b];
                    if (x->pool != FM_POOL_NONE && (x->written || y->written) && overlap(x, y))
                        FAULT("%s and %s run at once but share bytes of %s", plan->dispatches[j].name, d->name,
                              fm_pool_name((enum fm_pool)x->pool));
                }
    }
    if (groups != plan->n_groups)
        FAULT("%u barrier groups, the plan says %u", groups, plan->n_groups);
    return NULL;
}

// Forget what a write covers, then remember the write.
static void own(struct owners *o, uint64_t begin, uint64_t end, size_t dispatch)
{
    size_t kept = 0;
    for (size_t i = 0; i < o->count; i++)
        if (o->list[i].end <= begin || end <= o->list[i].begin)
            o->list[kept++] = o->list[i];
    o->count = kept;
    o->list[o->count++] = (struct owner){begin, end, dispatch};
}

static const struct owner *owner_of(const struct owners *o, uint64_t begin, uint64_t end)
{
    for (size_t i = 0; i < o->count; i++)
        if (o->list[i].begin == begin && o->list[i].end == end)
            return &o->list[i];
    return NULL;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

// The value of this node's sources that lies exactly there; FM_NONE when there is none (scratch).
static uint32_t source_at(const struct fm_graph *graph, const struct fm_plan *plan, const struct fm_dispatch *d,
                          const struct fm_binding *bind, const struct fm_dispatch *writer)
{
    const struct fm_node *node = &graph->nodes[d->node];
    for (unsigned i = 0; i < node->n_src; i++) {
        uint32_t v = node->src[i];
        const struct fm_place *p = &plan->place[v];
        if (p->pool == FM_POOL_ARENA && p->offset == bind->offset && p->bytes == bind->bytes &&
            graph->values[v].producer == writer->node)
            return v;
    }
    return FM_NONE;
}

static const char *check_read(const struct fm_graph *graph, const struct fm_plan *plan, const struct owners *o, size_t index,
                              const struct fm_binding *bind)
{
    const struct fm_dispatch *d = &plan->dispatches[index];
    const struct owner *owner = owner_of(o, bind->offset, bind->offset + bind->bytes);
    if (owner == NULL)
        FAULT("%s reads bytes %llu + %llu of the arena that nobody wrote as a whole", d->name, (unsigned long long)bind->offset,
              (unsigned long long)bind->bytes);
    const struct fm_dispatch *writer = &plan->dispatches[owner->dispatch];
    bool copy = ends_with(writer->name, "/cast") || ends_with(writer->name, "/cast_int") || ends_with(writer->name, "/dequantize");
    for (unsigned i = 0; i < graph->nodes[d->node].n_src && !copy; i++) // f16 beside a value that is one of the operands
        copy = writer->kernel->copy && graph->values[graph->nodes[d->node].src[i]].producer == writer->node;
    bool scratch = copy || writer->node == d->node; // the dispatches of a node hand on what is no value of the graph
    if (!scratch && source_at(graph, plan, d, bind, writer) == FM_NONE)
        FAULT("%s reads what %s wrote, which is none of its operands", d->name, writer->name);
    return NULL;
}

static const char *check_flow(const struct fm_graph *graph, const struct fm_plan *plan)
{
    struct owners *o = calloc(1, sizeof(*o));
    const char *fault = o ? NULL : "out of memory";
    for (size_t i = 0; i < plan->n_dispatches && !fault; i++) {
        const struct fm_dispatch *d = &plan->dispatches[i];
        for (uint32_t b = 0; b < d->n_bind && !fault; b++)
            if (d->bind[b].pool == FM_POOL_ARENA && !d->bind[b].written)
                fault = check_read(graph, plan, o, i, &d->bind[b]);
        for (uint32_t b = 0; b < d->n_bind && !fault; b++)
            if (d->bind[b].pool == FM_POOL_ARENA && d->bind[b].written)
                own(o, d->bind[b].offset, d->bind[b].offset + d->bind[b].bytes, i);
    }
    for (uint32_t v = 0; v < plan->n_values && !fault; v++) {
        const struct fm_place *p = &plan->place[v];
        if (graph->values[v].kind != FM_VALUE_OUTPUT || p->pool != FM_POOL_ARENA)
            continue;
        const struct owner *owner = owner_of(o, p->offset, p->offset + p->bytes);
        // Sampling applies its penalty to the logits where they lie.
        const struct fm_node *last = owner ? &graph->nodes[plan->dispatches[owner->dispatch].node] : NULL;
        bool penalised = last && last->op == FM_OP_SAMPLE && last->src[0] == v;
        if (!owner || (!penalised && plan->dispatches[owner->dispatch].node != graph->values[v].producer)) {
            snprintf(message, sizeof(message), "output %s is not whole at the end", graph->values[v].name);
            fault = message;
        }
    }
    free(o);
    return fault;
}

static uint64_t pool_bytes(const struct fm_plan *plan, const struct fm_layout *layout, uint8_t pool)
{
    switch (pool) {
    case FM_POOL_ARENA: return plan->arena_bytes;
    case FM_POOL_STEP: return plan->step.bytes;
    case FM_POOL_RESULT: return plan->result_bytes;
    case FM_POOL_COUNTER: return FM_COUNTER_BYTES;
    default: return (uint64_t)layout->pool[pool].n_allocs * layout->pool[pool].alloc_bytes;
    }
}

static const char *check_bounds(const struct fm_plan *plan, const struct fm_layout *layout)
{
    for (size_t i = 0; i < plan->n_dispatches; i++) {
        const struct fm_dispatch *d = &plan->dispatches[i];
        if (d->bind[0].pool != FM_POOL_STEP || d->bind[0].offset != 0)
            FAULT("%s: the first address is not the step block", d->name);
        for (int g = 0; g < 3; g++)
            if (d->grid[g] == 0 || d->grid[g] > 65535)
                FAULT("%s: grid[%d] = %u", d->name, g, d->grid[g]);
        for (uint32_t b = 0; b < d->n_bind; b++) {
            const struct fm_binding *bind = &d->bind[b];
            if (bind->pool == FM_POOL_NONE)
                continue;
            if (bind->bytes == 0 || bind->offset + bind->bytes > pool_bytes(plan, layout, bind->pool))
                FAULT("%s: address %u reaches out of %s", d->name, b, fm_pool_name((enum fm_pool)bind->pool));
            if (bind->written && (bind->pool == FM_POOL_WEIGHTS || bind->pool == FM_POOL_STEP))
                FAULT("%s writes to %s", d->name, fm_pool_name((enum fm_pool)bind->pool));
            if (bind->offset % 16 != 0)
                FAULT("%s: address %u is not aligned", d->name, b);
        }
    }
    return NULL;
}

const char *check_plan(const struct fm_graph *graph, const struct fm_plan *plan, const struct fm_layout *layout)
{
    const char *fault = check_groups(plan);
    if (!fault)
        fault = check_flow(graph, plan);
    if (!fault)
        fault = check_bounds(plan, layout);
    return fault;
}

struct fm_caps check_caps(enum fm_rung rung)
{
    struct fm_caps caps = {.name = "made up", .kind = 2, .bits = fm_rung_bits(rung), .subgroup_size = 32, .subgroup_min = 32,
                           .subgroup_max = 32, .subgroup_size_control = true, .shared_bytes = 49152, .max_invocations = 1024,
                           .max_push_bytes = 256, .max_workgroup_size = {1024, 1024, 64}, .max_workgroups = {65535, 65535, 65535},
                           .max_alloc_bytes = 4ull << 30, .max_buffer_bytes = 1ull << 40, .device_bytes = 140ull << 30,
                           .available_bytes = 140ull << 30, .cores = 132};
    if (rung >= FM_RUNG_CM)
        caps.matrix[caps.n_matrix++] = (struct fm_matrix_shape){.m = 16, .n = 16, .k = 16};
    return caps;
}
