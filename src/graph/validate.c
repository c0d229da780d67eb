// SPDX-License-Identifier: MIT
// Every invariant of a graph, checked after building, parsing and each pass.
#include "graph/shape.h"

static enum fm_result check_value(const struct fm_graph *g, uint32_t id)
{
    const struct fm_value *v = &g->values[id];
    bool leaf = v->producer == FM_NONE;
    if (!v->name)
        return fm_fail(FM_ARG, "value %%%u has no name", id);
    if (!leaf && v->producer >= g->n_nodes)
        return fm_fail(FM_ARG, "value %%%u '%s': no node %u", id, v->name, v->producer);
    if (v->alias != FM_NONE &&
        (v->kind != FM_VALUE_STATE || v->alias >= g->n_values || g->values[v->alias].alias != FM_NONE))
        return fm_fail(FM_ARG, "value %%%u '%s': bad alias %u", id, v->name, v->alias);
    switch (v->kind) {
    case FM_VALUE_WEIGHT:
    case FM_VALUE_CONST:
    case FM_VALUE_INPUT:
        if (!leaf)
            return fm_fail(FM_ARG, "value %%%u '%s': a source is written by node '%s'", id, v->name,
                           g->nodes[v->producer].name);
        break;
    case FM_VALUE_STATE:
        if (leaf != (v->alias == FM_NONE))
            return fm_fail(FM_ARG, "value %%%u '%s': a state that a node returns needs both a node and an alias", id,
                           v->name);
        break;
    case FM_VALUE_TEMP:
    case FM_VALUE_OUTPUT:
        if (leaf)
            return fm_fail(FM_ARG, "value %%%u '%s': written by no node", id, v->name);
        break;
    case FM_VALUE_DEAD:
        if (!leaf)
            return fm_fail(FM_ARG, "value %%%u '%s': dead, but written by node '%s'", id, v->name,
                           g->nodes[v->producer].name);
        break;
    }
    return FM_OK;
}

static enum fm_result check_result(const struct fm_graph *g, uint32_t at, unsigned i, const struct fm_value *rule)
{
    const struct fm_node *n = &g->nodes[at];
    if (n->dst[i] >= g->n_values)
        return fm_fail(FM_ARG, "%s '%s': result %u is no value", fm_op_info(n->op)->name, n->name, i);
    const struct fm_value *v = &g->values[n->dst[i]];
    char found[FM_SHAPE_TEXT_BYTES], expected[FM_SHAPE_TEXT_BYTES];
    if (v->producer != at)
        return fm_fail(FM_ARG, "%s '%s': result %u '%s' says it is written by node %u", fm_op_info(n->op)->name,
                       n->name, i, v->name, v->producer);
    for (unsigned j = 0; j < i; j++)
        if (n->dst[j] == n->dst[i])
            return fm_fail(FM_ARG, "%s '%s': results %u and %u are one value", fm_op_info(n->op)->name, n->name, j, i);
    bool kind_ok = v->kind == rule->kind || (v->kind == FM_VALUE_OUTPUT && rule->kind == FM_VALUE_TEMP);
    if (v->type != rule->type || v->n_dims != rule->n_dims || memcmp(v->dims, rule->dims, sizeof(v->dims)) != 0 ||
        !kind_ok || v->alias != rule->alias)
        return fm_fail(FM_ARG, "%s '%s': result %u '%s' is %s, the rule gives %s", fm_op_info(n->op)->name, n->name, i,
                       v->name, fm_value_shape_text(v, found, sizeof(found)),
                       fm_value_shape_text(rule, expected, sizeof(expected)));
    return FM_OK;
}

// `current[root]` is the value of a state that its memory holds before node `at`.
static enum fm_result check_node(const struct fm_graph *g, uint32_t at, uint32_t *current)
{
    const struct fm_node *n = &g->nodes[at];
    struct fm_value rule[FM_MAX_DST];
    if ((unsigned)n->op >= FM_OP_COUNT || !n->name)
        return fm_fail(FM_ARG, "node %u has no name or an unknown op", at);
    const char *op = fm_op_info(n->op)->name;
    if (fm_op_info(n->op)->flags & FM_OP_LOWERED)
        return fm_fail(FM_ARG, "%s '%s': made by the planner only, never in a graph", op, n->name);
    enum fm_result r = fm_graph_infer(g, n, rule);
    if (r != FM_OK)
        return r;
    if (n->n_dst != fm_op_info(n->op)->n_dst)
        return fm_fail(FM_ARG, "%s '%s': %u results, expected %u", op, n->name, n->n_dst, fm_op_info(n->op)->n_dst);
    for (unsigned i = 0; i < n->n_src; i++) {
        uint32_t s = n->src[i];
        const struct fm_value *v = &g->values[s];
        if (v->kind == FM_VALUE_DEAD)
            return fm_fail(FM_ARG, "%s '%s': operand %u '%s' is dead", op, n->name, i, v->name);
        if (v->producer != FM_NONE && v->producer >= at)
            return fm_fail(FM_ARG, "%s '%s': operand %u '%s' is used before it is written", op, n->name, i, v->name);
        if (v->kind == FM_VALUE_STATE && current[fm_value_root(g, s)] != s)
            return fm_fail(FM_ARG, "%s '%s': operand %u is state '%s' before it was overwritten", op, n->name, i,
                           v->name);
    }
    for (unsigned i = 0; i < n->n_dst; i++) {
        if ((r = check_result(g, at, i, &rule[i])) != FM_OK)
            return r;
        if (rule[i].kind == FM_VALUE_STATE)
            current[rule[i].alias] = n->dst[i];
    }
    return FM_OK;
}

static enum fm_result check_outputs(const struct fm_graph *g)
{
    const uint32_t outputs[] = {g->logits, g->ids};
    for (unsigned i = 0; i < 2; i++)
        if (outputs[i] != FM_NONE && (outputs[i] >= g->n_values || g->values[outputs[i]].kind != FM_VALUE_OUTPUT))
            return fm_fail(FM_ARG, "the graph's %s is no output value", i ? "ids" : "logits");
    return FM_OK;
}

enum fm_result fm_graph_validate(const struct fm_graph *graph)
{
    if (graph->n_values == 0)
        return graph->n_nodes ? fm_fail(FM_ARG, "a graph of nodes without values") : FM_OK;
    enum fm_result r = check_outputs(graph);
    for (uint32_t i = 0; i < graph->n_values && r == FM_OK; i++)
        r = check_value(graph, i);
    if (r != FM_OK)
        return r;
    uint32_t *current = fm_alloc_zero(graph->n_values, sizeof(*current));
    if (!current)
        return fm_nomem();
    for (uint32_t i = 0; i < graph->n_values; i++)
        current[i] = i;
    for (uint32_t i = 0; i < graph->n_nodes && r == FM_OK; i++)
        r = check_node(graph, i, current);
    // A value whose node does not list it would never be written.
    for (uint32_t i = 0; i < graph->n_values && r == FM_OK; i++) {
        const struct fm_value *v = &graph->values[i];
        bool listed = v->producer == FM_NONE;
        for (unsigned d = 0; !listed && d < graph->nodes[v->producer].n_dst; d++)
            listed = graph->nodes[v->producer].dst[d] == i;
        if (!listed)
            r = fm_fail(FM_ARG, "value %%%u '%s' is no result of its node '%s'", i, v->name,
                        graph->nodes[v->producer].name);
    }
    fm_free(current);
    return r;
}
