// SPDX-License-Identifier: MIT
#include "pass/pass_impl.h"

static const struct {
    const char *name;
    fm_pass_fn *run;
} passes[] = {
#define X(name) {#name, fm_pass_##name},
#include "pass/passes.def"
#undef X
};

static enum fm_result run_one(struct fm_graph *graph, size_t i, const struct fm_pass_context *context)
{
    enum fm_result r = passes[i].run(graph, context);
    if (r != FM_OK)
        return r;
    if ((r = fm_graph_validate(graph)) != FM_OK)
        fm_fail_prefix(r, "pass %s", passes[i].name);
    return r;
}

enum fm_result fm_passes_run(struct fm_graph *graph, const struct fm_pass_context *context)
{
    for (size_t i = 0; i < FM_COUNT(passes); i++) {
        enum fm_result r = run_one(graph, i, context);
        if (r != FM_OK)
            return r;
    }
    return FM_OK;
}

enum fm_result fm_pass_run(struct fm_graph *graph, const char *name, const struct fm_pass_context *context)
{
    for (size_t i = 0; i < FM_COUNT(passes); i++)
        if (strcmp(passes[i].name, name) == 0)
            return run_one(graph, i, context);
    return fm_fail(FM_ARG, "no pass '%s'", name);
}

void fm_pass_compact(struct fm_graph *graph)
{
    uint32_t to = 0;
    for (uint32_t from = 0; from < graph->n_nodes; from++) {
        if (graph->nodes[from].op == FM_OP_COUNT)
            continue;
        graph->nodes[to] = graph->nodes[from];
        for (unsigned d = 0; d < graph->nodes[to].n_dst; d++)
            graph->values[graph->nodes[to].dst[d]].producer = to;
        to++;
    }
    graph->n_nodes = to;
}

void fm_pass_kill(struct fm_graph *graph, uint32_t at)
{
    struct fm_node *node = &graph->nodes[at];
    for (unsigned d = 0; d < node->n_dst; d++) {
        struct fm_value *v = &graph->values[node->dst[d]];
        v->kind = FM_VALUE_DEAD;
        v->producer = v->alias = FM_NONE;
    }
    node->op = FM_OP_COUNT;
}

uint32_t *fm_pass_uses(const struct fm_graph *graph)
{
    uint32_t *uses = fm_alloc_zero(FM_MAX(graph->n_values, 1), sizeof(*uses));
    for (size_t i = 0; uses && i < graph->n_nodes; i++)
        for (unsigned s = 0; s < graph->nodes[i].n_src; s++)
            uses[graph->nodes[i].src[s]]++;
    for (size_t i = 0; uses && i < graph->n_values; i++)
        uses[i] += graph->values[i].kind == FM_VALUE_OUTPUT;
    return uses;
}
