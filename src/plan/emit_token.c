// SPDX-License-Identifier: MIT
// The two ends of a step: tokens in, rows picked, ids out.
//   token_feed   grid: ceil(rows / workgroup), 1, 1
//   embed, gather: elementwise     sample: O, 1, 1
#include "plan/build.h"

#include "shaders/lib/abi.h"

void fm_emit_token_feed(struct fm_build *b, uint32_t node_id)
{
    const struct fm_node *node = &b->graph->nodes[node_id];
    const struct fm_want *want = &b->want[node_id];
    FM_DISPATCH_LAYOUT(FM_PUSH_TOKEN_FEED);
    struct fm_dispatch *d = fm_emit_begin(b, node_id, b->kernel[node_id], want, "", n_bind, n_words);
    if (d == NULL)
        return;
    fm_emit_bind(b, d, bind_token, node->src[0], false);
    fm_emit_bind(b, d, bind_pos, node->src[1], false);
    fm_emit_bind(b, d, bind_slot, node->src[2], false);
    fm_emit_bind(b, d, bind_history, node->dst[1], true);
    fm_emit_bind(b, d, bind_last, node->dst[2], true);
    fm_emit_bind(b, d, bind_ids, node->dst[0], true);
    d->word[word_ctx] = want->param[FM_PARAM_CTX];
    d->moved_bytes += 8ull * want->param[FM_PARAM_ROWS];
    fm_emit_grid(b, d, fm_ceil_div_u32(want->param[FM_PARAM_ROWS], d->kernel->workgroup), 1, 1);
}

void fm_emit_embed(struct fm_build *b, uint32_t node_id)
{
    const struct fm_node *node = &b->graph->nodes[node_id];
    const struct fm_want *want = &b->want[node_id];
    uint32_t rows = want->param[FM_PARAM_ROWS], width = want->param[FM_PARAM_N];
    FM_DISPATCH_LAYOUT(FM_PUSH_EMBED);
    struct fm_dispatch *d = fm_emit_begin(b, node_id, b->kernel[node_id], want, "", n_bind, n_words);
    if (d == NULL)
        return;
    fm_emit_bind(b, d, bind_w, node->src[0], false);
    fm_emit_bind(b, d, bind_ids, node->src[1], false);
    fm_emit_bind(b, d, bind_y, node->dst[0], true);
    uint32_t n_vocab = fm_dim_resolve(b->graph->values[node->src[0]].dims[0], &b->dims);
    d->word[word_n_vocab] = n_vocab;
    d->word[word_width] = width;
    d->word[word_scale_bits] = fm_float_bits(node->attr.scale);
    d->moved_bytes += d->bind[bind_w].bytes / FM_MAX(n_vocab, 1u) * rows;
    fm_emit_grid_elements(b, d, want, width, rows);
}

void fm_emit_gather(struct fm_build *b, uint32_t node_id)
{
    const struct fm_node *node = &b->graph->nodes[node_id];
    const struct fm_want *want = &b->want[node_id];
    uint32_t rows = want->param[FM_PARAM_ROWS], width = want->param[FM_PARAM_N];
    FM_DISPATCH_LAYOUT(FM_PUSH_GATHER);
    struct fm_dispatch *d = fm_emit_begin(b, node_id, b->kernel[node_id], want, "", n_bind, n_words);
    if (d == NULL)
        return;
    fm_emit_bind(b, d, bind_x, node->src[0], false);
    fm_emit_bind(b, d, bind_out_row, node->src[1], false);
    fm_emit_bind(b, d, bind_y, node->dst[0], true);
    d->word[word_width] = width;
    d->moved_bytes = (uint64_t)rows * (width * 8ull + 4); // not the rows of x that are left
    fm_emit_grid_elements(b, d, want, width, rows);
}

void fm_emit_sample(struct fm_build *b, uint32_t node_id)
{
    const struct fm_node *node = &b->graph->nodes[node_id];
    const struct fm_want *want = &b->want[node_id];
    FM_DISPATCH_LAYOUT(FM_PUSH_SAMPLE);
    struct fm_dispatch *d = fm_emit_begin(b, node_id, b->kernel[node_id], want, "", n_bind, n_words);
    if (d == NULL)
        return;
    fm_emit_bind(b, d, bind_logits, node->src[0], true); // the repetition penalty is applied in place
    fm_emit_bind(b, d, bind_out_row, node->src[1], false);
    fm_emit_bind(b, d, bind_pos, node->src[2], false);
    fm_emit_bind(b, d, bind_slot, node->src[3], false);
    fm_emit_bind(b, d, bind_settings, node->src[4], false);
    fm_emit_bind(b, d, bind_history, node->src[5], false);
    fm_emit_bind(b, d, bind_last, node->dst[1], true);
    fm_emit_bind(b, d, bind_id, node->dst[0], true);
    d->word[word_n_vocab] = want->param[FM_PARAM_N];
    d->word[word_vocab] = node->attr.vocab;
    d->word[word_ctx] = want->param[FM_PARAM_CTX];
    fm_emit_grid(b, d, want->param[FM_PARAM_ROWS], 1, 1);
}
