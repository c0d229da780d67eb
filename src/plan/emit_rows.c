// SPDX-License-Identifier: MIT
// Ops that work row by row or element by element.
//   norm, add_norm   grid: rows, 1, 1
//   add, glu, act    grid: ceil(width / tile_cols), ceil(rows / tile_rows), 1
#include "plan/build.h"

#include "shaders/lib/abi.h"

void fm_emit_norm(struct fm_build *b, uint32_t node_id)
{
    const struct fm_node *node = &b->graph->nodes[node_id];
    const struct fm_want *want = &b->want[node_id];
    FM_DISPATCH_LAYOUT(FM_PUSH_NORM);
    struct fm_dispatch *d = fm_emit_begin(b, node_id, b->kernel[node_id], want, "", n_bind, n_words);
    if (d == NULL)
        return;
    fm_emit_bind(b, d, bind_x, node->src[0], false);
    fm_emit_bind(b, d, bind_w, node->src[1], false);
    if (node->n_src > 2)
        fm_emit_bind(b, d, bind_bias, node->src[2], false);
    fm_emit_bind(b, d, bind_y, node->dst[0], true);
    d->word[word_width] = want->param[FM_PARAM_N];
    d->word[word_eps_bits] = fm_float_bits(node->attr.eps);
    d->word[word_kind] = node->attr.norm;
    d->word[word_rows_word] = fm_emit_rows_word(b, node->src[0]);
    d->moved_bytes += d->bind[bind_w].bytes + d->bind[bind_bias].bytes;
    fm_emit_grid(b, d, want->param[FM_PARAM_ROWS], 1, 1);
}

void fm_emit_add_norm(struct fm_build *b, uint32_t node_id)
{
    const struct fm_node *node = &b->graph->nodes[node_id];
    const struct fm_want *want = &b->want[node_id];
    FM_DISPATCH_LAYOUT(FM_PUSH_ADD_NORM);
    struct fm_dispatch *d = fm_emit_begin(b, node_id, b->kernel[node_id], want, "", n_bind, n_words);
    if (d == NULL)
        return;
    fm_emit_bind(b, d, bind_x, node->src[0], false);
    fm_emit_bind(b, d, bind_x2, node->src[1], false);
    fm_emit_bind(b, d, bind_w, node->src[2], false);
    if (node->n_src > 3)
        fm_emit_bind(b, d, bind_bias, node->src[3], false);
    fm_emit_bind(b, d, bind_sum, node->dst[0], true);
    fm_emit_bind(b, d, bind_y, node->dst[1], true);
    d->word[word_width] = want->param[FM_PARAM_N];
    d->word[word_eps_bits] = fm_float_bits(node->attr.eps);
    d->word[word_kind] = node->attr.norm;
    d->word[word_rows_word] = fm_emit_rows_word(b, node->src[0]);
    d->moved_bytes += d->bind[bind_w].bytes + d->bind[bind_bias].bytes;
    fm_emit_grid(b, d, want->param[FM_PARAM_ROWS], 1, 1);
}

void fm_emit_add(struct fm_build *b, uint32_t node_id)
{
    const struct fm_node *node = &b->graph->nodes[node_id];
    const struct fm_want *want = &b->want[node_id];
    FM_DISPATCH_LAYOUT(FM_PUSH_ADD);
    struct fm_dispatch *d = fm_emit_begin(b, node_id, b->kernel[node_id], want, "", n_bind, n_words);
    if (d == NULL)
        return;
    fm_emit_bind(b, d, bind_x, node->src[0], false);
    fm_emit_bind(b, d, bind_x2, node->src[1], false);
    fm_emit_bind(b, d, bind_y, node->dst[0], true);
    d->word[word_width] = want->param[FM_PARAM_N];
    d->word[word_rows_word] = fm_emit_rows_word(b, node->src[0]);
    fm_emit_grid_elements(b, d, want, want->param[FM_PARAM_N], want->param[FM_PARAM_ROWS]);
}

void fm_emit_glu(struct fm_build *b, uint32_t node_id)
{
    const struct fm_node *node = &b->graph->nodes[node_id];
    const struct fm_want *want = &b->want[node_id];
    FM_DISPATCH_LAYOUT(FM_PUSH_GLU);
    struct fm_dispatch *d = fm_emit_begin(b, node_id, b->kernel[node_id], want, "", n_bind, n_words);
    if (d == NULL)
        return;
    fm_emit_bind(b, d, bind_gate, node->src[0], false);
    fm_emit_bind(b, d, bind_up, node->src[1], false);
    fm_emit_bind(b, d, bind_y, node->dst[0], true);
    d->word[word_width] = want->param[FM_PARAM_N];
    d->word[word_act] = node->attr.act;
    d->word[word_rows_word] = fm_emit_rows_word(b, node->src[0]);
    fm_emit_grid_elements(b, d, want, want->param[FM_PARAM_N], want->param[FM_PARAM_ROWS]);
}

void fm_emit_act(struct fm_build *b, uint32_t node_id)
{
    const struct fm_node *node = &b->graph->nodes[node_id];
    const struct fm_want *want = &b->want[node_id];
    FM_DISPATCH_LAYOUT(FM_PUSH_ACT);
    struct fm_dispatch *d = fm_emit_begin(b, node_id, b->kernel[node_id], want, "", n_bind, n_words);
    if (d == NULL)
        return;
    fm_emit_bind(b, d, bind_x, node->src[0], false);
    fm_emit_bind(b, d, bind_y, node->dst[0], true);
    d->word[word_width] = want->param[FM_PARAM_N];
    d->word[word_act] = node->attr.act;
    d->word[word_rows_word] = fm_emit_rows_word(b, node->src[0]);
    fm_emit_grid_elements(b, d, want, want->param[FM_PARAM_N], want->param[FM_PARAM_ROWS]);
}
