// SPDX-License-Identifier: MIT
// What passes share. A pass that removes a node sets its op to FM_OP_COUNT, marks results that nobody took over
// FM_VALUE_DEAD, and ends with fm_pass_compact().
#ifndef FM_PASS_IMPL_H
#define FM_PASS_IMPL_H

#include "pass/pass.h"

typedef enum fm_result fm_pass_fn(struct fm_graph *graph, const struct fm_pass_context *context);

#define X(name) fm_pass_fn fm_pass_##name;
#include "pass/passes.def"
#undef X

// Close the gaps of removed nodes.
void fm_pass_compact(struct fm_graph *graph);
// Remove node `at`: its results become DEAD.
void fm_pass_kill(struct fm_graph *graph, uint32_t at);
// Number of operands that each value is (outputs count one more). Release with fm_free; NULL when out of memory.
uint32_t *fm_pass_uses(const struct fm_graph *graph);

#endif
