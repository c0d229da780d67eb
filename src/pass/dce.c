// SPDX-License-Identifier: MIT
// Dead code: nodes whose results nobody reads go. Outputs are read by the host, states by the next step.
#include "pass/pass_impl.h"

static bool has_effect(const struct fm_graph *graph, const struct fm_node *node)
{
    for (unsigned d = 0; d < node->n_dst; d++) {
        enum fm_value_kind kind = graph->values[node->dst[d]].kind;
        if (kind == FM_VALUE_OUTPUT || kind == FM_VALUE_STATE)
            return true;
    }
    return false;
}

enum fm_result fm_pass_dce(struct fm_graph *graph, const struct fm_pass_context *context)
{
    (void)context;
    uint32_t *uses = fm_pass_uses(graph);
    if (!uses)
        return fm_nomem();
    // Backwards: when a node is reached, all its readers have been decided.
    for (uint32_t i = (uint32_t)graph->n_nodes; i-- > 0;) {
        struct fm_node *node = &graph->nodes[i];
        bool read = has_effect(graph, node);
        for (unsigned d = 0; d < node->n_dst && !read; d++)
            read = uses[node->dst[d]] > 0;
        if (read)
            continue;
        for (unsigned s = 0; s < node->n_src; s++)
            uses[node->src[s]]--;
        fm_pass_kill(graph, i);
    }
    fm_free(uses);
    fm_pass_compact(graph);
    return FM_OK;
}
