// SPDX-License-Identifier: MIT
// Builder with a sticky error: architectures call these in a row and check once at the end.
#ifndef FM_GRAPH_BUILDER_H
#define FM_GRAPH_BUILDER_H

#include "graph/graph.h"

struct fm_builder {
    struct fm_graph *graph;
    enum fm_result error; // first failure; later calls return FM_NONE and do nothing
    char prefix[32];      // "blk.3." put before every node and value name given
    enum fm_type kv_type[2]; // of K and V states
};

void fm_build_prefix(struct fm_builder *b, const char *fmt, ...) FM_PRINTF(2, 3);
uint32_t fm_build_input(struct fm_builder *b, enum fm_input input);
uint32_t fm_build_weight(struct fm_builder *b, const char *name, enum fm_type type, uint32_t tensor, uint32_t n_dims,
                         const uint32_t *dims);
uint32_t fm_build_const(struct fm_builder *b, const char *name, enum fm_type type, uint32_t n_dims,
                        const uint32_t *dims, const void *data);
uint32_t fm_build_state(struct fm_builder *b, const char *name, enum fm_type type, uint32_t n_dims,
                        const uint32_t *dims);
// A node with one result.
uint32_t fm_build_node(struct fm_builder *b, enum fm_op op, const char *name, const struct fm_attr *attr,
                       uint32_t n_src, const uint32_t *src);

// Convenience, each one node (bias = FM_NONE where there is none):
uint32_t fm_build_embed(struct fm_builder *b, const char *name, uint32_t w, uint32_t ids, float scale);
uint32_t fm_build_norm(struct fm_builder *b, const char *name, enum fm_norm_kind kind, uint32_t x, uint32_t w,
                       uint32_t bias, float eps);
uint32_t fm_build_matmul(struct fm_builder *b, const char *name, uint32_t x, uint32_t w, uint32_t bias);
uint32_t fm_build_add(struct fm_builder *b, const char *name, uint32_t x, uint32_t y);

// Rope table for R pairs: turns per position = base^(-2m/(2R)) / divisor[m] / (2 pi), as 64-bit fixed-point fractions,
// computed in long double. `divisors` may be NULL (all 1).
uint32_t fm_build_rope_table(struct fm_builder *b, const char *name, uint32_t pairs, double base,
                             const double *divisors);

// The same for any frequencies: [count,2] words of radians[i] / (2 pi) turns per position.
uint32_t fm_build_turn_table(struct fm_builder *b, const char *name, uint32_t count, const double *radians);
// 1, 1, 1, ...: the weight of a norm that has none.
uint32_t fm_build_ones(struct fm_builder *b, uint32_t width);
// A recurrent state "<prefix>name" f32 [S,B,rows,width].
uint32_t fm_build_recurrent_state(struct fm_builder *b, const char *name, uint32_t rows, uint32_t width);

// rope(q), rope(k) (freq = FM_NONE: none), write k, v to the layer's cache and attend. q [T,H*C], k, v [T,G*C] ->
// [T,H*C]. Creates the states "<prefix>k_cache", "<prefix>v_cache" [S,G,L,Cp]. attr: heads, heads_kv, head, rotated,
// rope, scale, window, chunk, cap, original.
uint32_t fm_build_attention(struct fm_builder *b, uint32_t q, uint32_t k, uint32_t v, uint32_t freq,
                            const struct fm_attr *attr);

// Gated feed-forward part: (act(x gate^T) * (x up^T)) down^T; gate, up [F,D], down [D,F].
struct fm_ffn {
    uint32_t gate, up, down;                // matrices
    uint32_t gate_bias, up_bias, down_bias; // FM_NONE = none
};
uint32_t fm_build_ffn(struct fm_builder *b, enum fm_act_kind act, uint32_t x, const struct fm_ffn *ffn);

// The rows of x [T,D] that are output -> [O,D]. In the last layer, everything after the attention is needed for these
// only.
uint32_t fm_build_output_rows(struct fm_builder *b, const char *name, uint32_t x);

// Token feed at the start (-> ids [T]); norm, head and sampling at the end, for the output rows x [O,D]. `vocab` = ids
// that may be sampled.
uint32_t fm_build_tokens(struct fm_builder *b);
void fm_build_head(struct fm_builder *b, uint32_t x, uint32_t norm_w, uint32_t norm_b, enum fm_norm_kind kind,
                   float eps, uint32_t w_out, uint32_t bias, uint32_t vocab);

#endif
