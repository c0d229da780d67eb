// SPDX-License-Identifier: MIT
// The oracle: the scalar reference of every op in double precision, and the graph interpreter on it.
#ifndef FM_REF_REF_H
#define FM_REF_REF_H

#include "graph/graph.h"

// A tensor under concrete dims. Integers are held as doubles too (exact).
struct fm_ref_tensor {
    uint32_t n_dims;
    uint64_t dims[FM_MAX_DIMS];
    uint64_t elems;
    double *v;   // values; rounded to the value's storage type where that is f16 (states)
    // Error scale of each element of a result, sources taken as exact: an implementation with unit roundoff u may be
    // off by c * u * mag with a small c. Sum of |terms| for sums, |result| where nothing cancels; each function says
    // where it is more. 0 for integers and for elements of a state that were not written: those must be exact. NULL for
    // values that no node writes.
    double *mag;
};

// x [elems], elems a multiple of 32, to the nearest multiples of a step for each block of 32: its largest magnitude over 32512 with two
// bytes for an integer, over 127 with one. A block with a NaN or an infinity becomes NaN. How cast_int rounds.
void fm_ref_round_blocks(double *x, uint64_t elems, uint32_t bytes);

struct fm_ref_call {
    const struct fm_graph *graph;
    const struct fm_node *node;
    struct fm_dims dims;
    const struct fm_ref_tensor *src[FM_MAX_SRC];
    struct fm_ref_tensor *dst[FM_MAX_DST]; // a state's later value shares its memory with the one before
    double *scratch;                       // fm_ref_scratch_elems() doubles, NULL when that is 0
};
uint64_t fm_ref_scratch_elems(const struct fm_graph *graph, const struct fm_node *node);
typedef void fm_ref_fn(const struct fm_ref_call *call);
fm_ref_fn *fm_ref_of(enum fm_op op); // never NULL

struct fm_ref;
// Interpreter for a graph under `dims`: t and o are what the step has, `run` is what it is planned for. The graph must outlive it.
// FM_NOMEM.
enum fm_result fm_ref_create(const struct fm_graph *graph, const struct fm_dims *dims, struct fm_ref **out_ref);
void fm_ref_destroy(struct fm_ref **ref);
// Storage of a value's tensor, for filling inputs, weights and states, and for reading results after a run. Constants
// are filled already.
struct fm_ref_tensor *fm_ref_tensor(struct fm_ref *ref, uint32_t value);
// Decode file data (type of the value) into a weight's tensor.
void fm_ref_set_encoded(struct fm_ref *ref, uint32_t value, const void *data);
// Run every node in order. States keep what was written to them: call again with new inputs for the next step.
void fm_ref_run(struct fm_ref *ref);
// The same, but `before` may put other tensors of the same dims in the place of a node's sources, as an implementation
// that rounds its operands does.
typedef void fm_ref_before_fn(void *user, struct fm_ref_call *call);
void fm_ref_run_with(struct fm_ref *ref, fm_ref_before_fn *before, void *user);

#endif
