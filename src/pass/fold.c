// SPDX-License-Identifier: MIT
// Equal nodes (op, operands, attributes) are computed once. A reader of a state reads the same as another only while
// they read the same value of it, which their operands say; nodes that write states stay as they are.
#include "base/map.h"
#include "graph/attr.h"
#include "pass/pass_impl.h"

static bool writes_state(const struct fm_graph *graph, const struct fm_node *node)
{
    for (unsigned d = 0; d < node->n_dst; d++)
        if (graph->values[node->dst[d]].kind == FM_VALUE_STATE)
            return true;
    return false;
}

// What makes two nodes equal, without padding bytes.
#define KEY_WORDS (2 + FM_ATTR_COUNT + FM_MAX_SRC)
static void make_key(const struct fm_node *node, uint32_t key[KEY_WORDS])
{
    memset(key, 0, KEY_WORDS * sizeof(*key));
    key[0] = (uint32_t)node->op;
    key[1] = node->n_src;
    fm_attr_words(&node->attr, &key[2]);
    memcpy(&key[2 + FM_ATTR_COUNT], node->src, node->n_src * sizeof(*key));
}

// Node `twin` computed the same before `at`: readers of `at` go there.
static void replace(struct fm_graph *graph, uint32_t at, uint32_t twin)
{
    for (unsigned d = 0; d < graph->nodes[at].n_dst; d++)
        for (uint32_t i = at + 1; i < graph->n_nodes; i++)
            for (unsigned s = 0; s < graph->nodes[i].n_src; s++)
                if (graph->nodes[i].src[s] == graph->nodes[at].dst[d])
                    graph->nodes[i].src[s] = graph->nodes[twin].dst[d];
    fm_pass_kill(graph, at);
}

enum fm_result fm_pass_fold(struct fm_graph *graph, const struct fm_pass_context *context)
{
    (void)context;
    struct fm_map seen = {0};
    enum fm_result r = FM_OK;
    uint32_t(*keys)[KEY_WORDS] = fm_alloc_zero(FM_MAX(graph->n_nodes, 1), sizeof(*keys));
    if (!keys)
        return fm_nomem();
    for (uint32_t i = 0; i < graph->n_nodes && r == FM_OK; i++) {
        uint32_t twin;
        bool output = false;
        for (unsigned d = 0; d < graph->nodes[i].n_dst; d++)
            output = output || graph->values[graph->nodes[i].dst[d]].kind == FM_VALUE_OUTPUT;
        if (output || writes_state(graph, &graph->nodes[i]))
            continue;
        make_key(&graph->nodes[i], keys[i]);
        if (fm_map_get(&seen, keys[i], sizeof(keys[i]), &twin))
            replace(graph, i, twin);
        else
            r = fm_map_put(&seen, keys[i], sizeof(keys[i]), i, NULL);
    }
    fm_map_finish(&seen);
    fm_free(keys);
    fm_pass_compact(graph);
    return r;
}
