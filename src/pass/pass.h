// SPDX-License-Identifier: MIT
// Passes rewrite the graph for one plan. Fusion is data (fuse_rules.def) and fires only where the selector can run the
// result.
#ifndef FM_PASS_PASS_H
#define FM_PASS_PASS_H

#include "graph/graph.h"
#include "kernel/tuning.h"

struct fm_pass_context {
    // true when some kernel can run this node (op and operands set, results not yet) under the plan's dims on the
    // plan's device.
    bool (*can_run)(void *user, const struct fm_graph *graph, const struct fm_node *node);
    void *user;
    const struct fm_tuning *tuning; // NULL = fm_tuning_shipped
    const struct fm_dims *dims;     // of the plan; NULL: one row
};

// Run all passes of passes.def in order, validating after each. FM_ARG names the pass that broke an invariant.
enum fm_result fm_passes_run(struct fm_graph *graph, const struct fm_pass_context *context);
// One pass by name (tests).
enum fm_result fm_pass_run(struct fm_graph *graph, const char *name, const struct fm_pass_context *context);

#endif
