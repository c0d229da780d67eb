// SPDX-License-Identifier: MIT
// What the reference functions share. Each op has one function; fused ops call the functions' cores with their parts.
#ifndef FM_REF_OPS_H
#define FM_REF_OPS_H

#include "ref/ref.h"

// Cores, on rows of doubles. `mag` may be NULL.
double fm_ref_act(unsigned kind, double x);
// Error scale of act(x), where that of x is x_mag (0: x is exact).
double fm_ref_act_mag(unsigned kind, double x, double x_mag);
// act(g) * u and its error scale.
double fm_ref_glu(unsigned kind, double g, double u, double *out_mag);
// y = x w^T + bias + residual for rows [t,k] x [n,k]; bias [n] and residual [t,n] may be NULL.
void fm_ref_matmul_rows(const double *x, const double *w, const double *bias, const double *residual, uint64_t t,
                        uint64_t n, uint64_t k, double *y, double *mag);
// One row; x_mag (error scale of x relative to |x|, NULL = exact) widens the result's.
void fm_ref_norm_row(const struct fm_attr *attr, const double *x, const double *x_mag, const double *w,
                     const double *bias, uint64_t width, double *y, double *mag);
// pos * freq in radians, exact modulo one turn; freq: {low, high} words of a fraction of a turn.
double fm_ref_angle(const double freq[2], uint32_t pos);
// One head of `head` elements at position pos; freq [R,2].
void fm_ref_rope_head(const struct fm_attr *attr, const double *x, const double *freq, uint32_t pos, double *y,
                      double *mag);

fm_ref_fn fm_ref_token_feed, fm_ref_embed, fm_ref_norm, fm_ref_matmul, fm_ref_rope, fm_ref_kv_write, fm_ref_attend,
    fm_ref_glu_op, fm_ref_act_op, fm_ref_add, fm_ref_gather, fm_ref_sample, fm_ref_matmul_add, fm_ref_matmul_glu,
    fm_ref_norm_matmul, fm_ref_norm_matmul_add, fm_ref_norm_matmul_glu,
    fm_ref_matmul_conv, fm_ref_norm_matmul_conv,
    fm_ref_rope_kv_write, fm_ref_rope_attend, fm_ref_add_norm, fm_ref_cast, fm_ref_cast_int,
    fm_ref_read_sum, fm_ref_norm_gate, fm_ref_conv1d, fm_ref_selective_scan, fm_ref_ssd, fm_ref_ssd_gate,
    fm_ref_linear_attend, fm_ref_scan_states,
    fm_ref_scan_carry, fm_ref_lrpe, fm_ref_ssd_states, fm_ref_ssd_scan, fm_ref_linear_states,
    fm_ref_linear_scan;

#endif
