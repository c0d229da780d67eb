// SPDX-License-Identifier: MIT
// Order: nodes that do not depend on one another stand side by side (q, k and v, say), so that the planner can put them
// into one barrier group. Nodes are sorted by depth, the longest chain of nodes before them, and keep their order
// within a depth. A writer of a state comes after every reader of the value that it overwrites.
#include "pass/pass_impl.h"

#include <stdlib.h>

struct place {
    uint32_t depth, at;
};

static int by_depth(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    if (x->depth != y->depth)
        return x->depth < y->depth ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

// read_depth[v]: one more than the greatest depth of a reader of value v so far.
static uint32_t depth_of(const struct fm_graph *graph, const struct fm_node *node, const struct place *places,
                         const uint32_t *read_depth)
{
    uint32_t depth = 0;
    bool writes = false;
    for (unsigned d = 0; d < node->n_dst; d++)
        writes = writes || graph->values[node->dst[d]].kind == FM_VALUE_STATE;
    for (unsigned s = 0; s < node->n_src; s++) {
        const struct fm_value *v = &graph->values[node->src[s]];
        if (v->producer != FM_NONE)
            depth = FM_MAX(depth, places[v->producer].depth + 1);
        if (writes && v->kind == FM_VALUE_STATE)
            depth = FM_MAX(depth, read_depth[node->src[s]]);
    }
    return depth;
}

enum fm_result fm_pass_order(struct fm_graph *graph, const struct fm_pass_context *context)
{
    (void)context;
    size_t n = FM_MAX(graph->n_nodes, 1);
    struct place *places = fm_alloc_zero(n, sizeof(*places));
    struct fm_node *nodes = fm_alloc_zero(n, sizeof(*nodes));
    uint32_t *read_depth = fm_alloc_zero(FM_MAX(graph->n_values, 1), sizeof(*read_depth));
    enum fm_result r = places && nodes && read_depth ? FM_OK : fm_nomem();
    for (uint32_t i = 0; i < graph->n_nodes && r == FM_OK; i++) {
        const struct fm_node *node = &graph->nodes[i];
        places[i] = (struct place){depth_of(graph, node, places, read_depth), i};
        for (unsigned s = 0; s < node->n_src; s++)
            read_depth[node->src[s]] = FM_MAX(read_depth[node->src[s]], places[i].depth + 1);
    }
    if (r == FM_OK) {
        memcpy(nodes, graph->nodes, graph->n_nodes * sizeof(*nodes));
        qsort(places, graph->n_nodes, sizeof(*places), by_depth);
        for (size_t i = 0; i < graph->n_nodes; i++)
            graph->nodes[i] = nodes[places[i].at];
        fm_pass_compact(graph); // sets producers
    }
    fm_free(places);
    fm_free(nodes);
    fm_free(read_depth);
    return r;
}
