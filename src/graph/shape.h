// SPDX-License-Identifier: MIT
// Shape rules: what each op demands of its operands and what it returns.
#ifndef FM_GRAPH_SHAPE_H
#define FM_GRAPH_SHAPE_H

#include "graph/graph.h"

// Which fields of fm_attr an op uses.
enum fm_attr_bit {
    FM_ATTR_SCALE = 1,
    FM_ATTR_EPS = 2,
    FM_ATTR_NORM = 4,
    FM_ATTR_ACT = 8,
    FM_ATTR_ROPE = 16,
    FM_ATTR_HEADS = 32,
    FM_ATTR_HEADS_KV = 64,
    FM_ATTR_HEAD = 128,
    FM_ATTR_ROTATED = 256,
    FM_ATTR_WINDOW = 512,
    FM_ATTR_VOCAB = 1024,
    FM_ATTR_STATE = 2048,
    FM_ATTR_GROUPS = 4096,
    FM_ATTR_GROUPS_C = 8192,
    FM_ATTR_REPEAT = 16384,
    FM_ATTR_GATE = 32768,
    FM_ATTR_COPIES = 65536,
    FM_ATTR_CHUNK = 131072,
    FM_ATTR_CAP = 262144, // cap, original
};
uint32_t fm_graph_attr_mask(enum fm_op op);
// Clear what the op does not use.
void fm_graph_attr_clear(enum fm_op op, struct fm_attr *attr);

// Results of a node whose op, sources, attributes and name are set: kind, type, dims and alias of out_dst[0..n_dst),
// names and producers left alone. FM_ARG naming the node, the operand, what was found and what was expected.
enum fm_result fm_graph_infer(const struct fm_graph *graph, const struct fm_node *node, struct fm_value *out_dst);

// Set a result's name from its node's: result 0 is called like the node, a new version of a state like the state,
// others "<node>.<i>". FM_NOMEM.
enum fm_result fm_graph_name_result(struct fm_graph *graph, const struct fm_node *node, unsigned i,
                                    struct fm_value *value);

#endif
