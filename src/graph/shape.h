// SPDX-License-Identifier: MIT
// Shape rules: what each op demands of its operands and what it returns.
#ifndef FM_GRAPH_SHAPE_H
#define FM_GRAPH_SHAPE_H

#include "graph/attr.h"

// Attributes that an op uses, a set of enum fm_attr_bit.
uint32_t fm_graph_attr_mask(enum fm_op op);

// Results of a node whose op, sources, attributes and name are set: kind, type, dims and alias of out_dst[0..n_dst),
// names and producers left alone. FM_ARG naming the node, the operand, what was found and what was expected.
enum fm_result fm_graph_infer(const struct fm_graph *graph, const struct fm_node *node, struct fm_value *out_dst);

// Set a result's name from its node's: result 0 is called like the node, a later value of a state like the state,
// others "<node>.<i>". FM_NOMEM.
enum fm_result fm_graph_name_result(struct fm_graph *graph, const struct fm_node *node, unsigned i,
                                    struct fm_value *value);

#endif
