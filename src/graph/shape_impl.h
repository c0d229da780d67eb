// SPDX-License-Identifier: MIT
// What the files of shape rules share.
#ifndef FM_GRAPH_SHAPE_IMPL_H
#define FM_GRAPH_SHAPE_IMPL_H

#include "graph/shape.h"

// One node under inspection.
struct fm_shape_call {
    const struct fm_graph *graph;
    const struct fm_node *node;
    const struct fm_value *src[FM_MAX_SRC];
    struct fm_value *dst;
};

// Errors: operand i is not `expected`; is not `what`; the attributes are wrong.
enum fm_result fm_shape_mismatch(const struct fm_shape_call *c, unsigned i, const struct fm_value *expected);
enum fm_result fm_shape_wrong(const struct fm_shape_call *c, unsigned i, const char *what);
enum fm_result fm_shape_bad_attr(const struct fm_shape_call *c, const char *what);

// Operand i must be `type` [d0] or [d0,d1].
enum fm_result fm_shape_want(const struct fm_shape_call *c, unsigned i, enum fm_type type, uint8_t n_dims, uint32_t d0, uint32_t d1);
// f32 rows [*,width] with a known width.
enum fm_result fm_shape_want_rows(const struct fm_shape_call *c, unsigned i);
// u32 [rows].
enum fm_result fm_shape_want_u32(const struct fm_shape_call *c, unsigned i, uint32_t rows);
// A weight matrix [*,k] whose rows are whole blocks; any k when that is FM_NONE.
enum fm_result fm_shape_want_matrix(const struct fm_shape_call *c, unsigned i, uint32_t k);
// A state of `n_dims` dimensions.
#define FM_SHAPE_CACHE FM_TYPE_NONE // f16, f32 or q8_0
enum fm_result fm_shape_want_state(const struct fm_shape_call *c, unsigned i, enum fm_type type, uint8_t n_dims);

// Result i is a TEMP of this type and shape; is the next value of the state in operand s.
void fm_shape_give(const struct fm_shape_call *c, unsigned i, enum fm_type type, uint8_t n_dims, uint32_t d0, uint32_t d1);
void fm_shape_give_state(const struct fm_shape_call *c, unsigned i, unsigned s);

#define TRY(expr)                                                                                                      \
    do {                                                                                                               \
        enum fm_result try_ = (expr);                                                                                  \
        if (try_ != FM_OK)                                                                                             \
            return try_;                                                                                               \
    } while (0)

// shape_recurrent.c
enum fm_result fm_shape_norm_gate(const struct fm_shape_call *c);
enum fm_result fm_shape_conv1d(const struct fm_shape_call *c);
// The taps in operand `taps` and what follows it in conv1d, of a convolution of `in` channels; gives both results.
enum fm_result fm_shape_convolution(const struct fm_shape_call *c, unsigned taps, uint32_t in);
enum fm_result fm_shape_selective_scan(const struct fm_shape_call *c);
enum fm_result fm_shape_ssd(const struct fm_shape_call *c);
enum fm_result fm_shape_ssd_gate(const struct fm_shape_call *c);
enum fm_result fm_shape_linear_attend(const struct fm_shape_call *c);
enum fm_result fm_shape_linear_states(const struct fm_shape_call *c);
enum fm_result fm_shape_linear_scan(const struct fm_shape_call *c);
enum fm_result fm_shape_scan_states(const struct fm_shape_call *c);
enum fm_result fm_shape_scan_carry(const struct fm_shape_call *c);
enum fm_result fm_shape_ssd_states(const struct fm_shape_call *c);
enum fm_result fm_shape_ssd_scan(const struct fm_shape_call *c);
enum fm_result fm_shape_lrpe(const struct fm_shape_call *c);

#endif
