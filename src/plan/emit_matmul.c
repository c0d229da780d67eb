// SPDX-License-Identifier: MIT
// Matrix products. Grid: ceil(n / tile_cols), ceil(rows / tile_rows), parts of k.
#include "plan/build.h"

#include "shaders/lib/abi.h"

// x as the kernel wants it: the value itself, its shared f16 copy, or its shared integers.
static uint32_t stride_of_x(struct fm_build *b, uint32_t node, uint32_t *out_buffer)
{
    uint32_t x = b->graph->nodes[node].src[0];
    uint32_t stride = fm_dim_resolve(b->graph->values[x].dims[1], &b->dims);
    *out_buffer = FM_NONE;
    if (b->kernel[node]->x == FM_TYPE_F16)
        *out_buffer = fm_emit_cast(b, node, x, &stride);
    if (b->kernel[node]->x_bytes != 0)
        *out_buffer = fm_emit_cast_int(b, node, x, b->kernel[node]->x_bytes, &stride);
    return stride;
}

static void bind_input(struct fm_build *b, struct fm_dispatch *d, uint32_t at, uint32_t value, uint32_t cast_buffer)
{
    if (cast_buffer != FM_NONE)
        fm_emit_bind_buffer(b, d, at, cast_buffer, false);
    else
        fm_emit_bind(b, d, at, value, false);
}

// The f16 copies that this product's kernel wants, and those of the products of the same input that follow, so that one
// barrier serves all.
static void dequantize_ahead(struct fm_build *b, uint32_t node)
{
    uint32_t x = b->graph->nodes[node].src[0];
    for (uint32_t i = node; i < b->graph->n_nodes && i < node + FM_PLAN_AHEAD; i++) {
        const struct fm_node *next = &b->graph->nodes[i];
        if (next->src[0] != x || b->kernel[i] == NULL || !b->kernel[i]->dequantize)
            break;
        fm_emit_dequantize(b, i, next->src[1]);
        if (next->op == FM_OP_MATMUL_GLU)
            fm_emit_dequantize(b, i, next->src[2]);
    }
}

// The weight as the kernel reads it: as it lies, or its f16 copy.
static void bind_weight(struct fm_build *b, struct fm_dispatch *d, uint32_t at, uint32_t value)
{
    if (d->kernel->dequantize) {
        fm_emit_bind_buffer(b, d, at, b->dequantized[value], false);
        return;
    }
    fm_emit_bind(b, d, at, value, false);
    d->moved_bytes += d->bind[at].bytes;
}

// Into how many parts k is cut over the grid: as many as let the device be done first. Cores take workgroups in waves; each takes
// as long as its part of k, and some k more for its beginning and end, and for each part of `elems` sums that the last one adds.
static uint32_t choose_parts(const struct fm_build *b, const struct fm_kernel *kernel, uint64_t k, uint64_t tiles, uint64_t elems)
{
    const struct fm_tuning *tuning = fm_tuning_of(b->caps);
    uint64_t places = fm_emit_workgroups(b, FM_MAX(tuning->matmul_resident / kernel->workgroup, 1u)), least = UINT64_MAX;
    uint32_t best = 1;
    if (tiles > FM_COUNTER_BYTES / 4)
        return 1;
    for (uint32_t parts = 1; parts <= kernel->split && parts * tuning->matmul_part_k <= FM_MAX(k, tuning->matmul_part_k); parts++) {
        uint64_t waves = (tiles * parts + places - 1) / places, merge = parts > 1 ? parts * elems / tuning->matmul_merge_elems : 0;
        uint64_t time = waves * ((k + parts - 1) / parts + tuning->matmul_start_k) + merge;
        if (time < least) {
            least = time;
            best = parts;
        }
    }
    return best;
}

// The grid. at_partial, at_arrived: places of what a product whose k is split needs; FM_NONE: its kernels split none.
static void finish(struct fm_build *b, struct fm_dispatch *d, const struct fm_want *want, uint32_t n_weights, uint32_t at_partial,
                   uint32_t at_arrived)
{
    uint64_t n = want->param[FM_PARAM_N], k = want->param[FM_PARAM_K], rows = want->param[FM_PARAM_ROWS];
    uint64_t tile_cols = fm_emit_tile(d->kernel->tile_cols, want, 1), tile_rows = fm_emit_tile(d->kernel->tile_rows, want, 1);
    uint64_t across = (n + tile_cols - 1) / tile_cols, down = (rows + tile_rows - 1) / tile_rows;
    uint32_t parts = at_partial != FM_NONE ? choose_parts(b, d->kernel, k, across * down, tile_cols * tile_rows * n_weights) : 1;
    if (parts > 1) {
        uint64_t bytes = 4 * across * tile_cols * down * tile_rows * n_weights * parts;
        for (uint32_t i = 0; i < d->n_spec; i++)
            if (d->spec[i].id == FM_SPEC_PARTS)
                d->spec[i].value = parts;
        fm_emit_bind_buffer(b, d, at_partial, fm_emit_buffer(b, bytes), true);
        fm_emit_bind_counters(b, d, at_arrived, (uint32_t)(across * down));
        d->moved_bytes += bytes;
    }
    d->flops = 2.0 * (double)n * (double)k * (double)rows * n_weights;
    fm_emit_grid(b, d, across, down, parts);
}

void fm_emit_matmul(struct fm_build *b, uint32_t node_id)
{
    const struct fm_node *node = &b->graph->nodes[node_id];
    const struct fm_want *want = &b->want[node_id];
    bool add = node->op == FM_OP_MATMUL_ADD;
    unsigned bias = add ? 3 : 2;
    uint32_t cast_buffer, stride = stride_of_x(b, node_id, &cast_buffer);
    dequantize_ahead(b, node_id);
    FM_DISPATCH_LAYOUT(FM_PUSH_MATMUL);
    struct fm_dispatch *d = fm_emit_begin(b, node_id, b->kernel[node_id], want, "", n_bind, n_words);
    if (d == NULL)
        return;
    bind_input(b, d, bind_x, node->src[0], cast_buffer);
    bind_weight(b, d, bind_w, node->src[1]);
    if (node->n_src > bias)
        fm_emit_bind(b, d, bind_bias, node->src[bias], false);
    if (add)
        fm_emit_bind(b, d, bind_residual, node->src[2], false);
    fm_emit_bind(b, d, bind_y, node->dst[0], true);
    d->word[word_n] = want->param[FM_PARAM_N];
    d->word[word_k] = want->param[FM_PARAM_K];
    d->word[word_stride_x] = stride;
    d->word[word_rows_word] = fm_emit_rows_word(b, node->src[0]);
    d->moved_bytes += d->bind[bind_bias].bytes;
    finish(b, d, want, 1, bind_partial, bind_arrived);
}

void fm_emit_matmul_glu(struct fm_build *b, uint32_t node_id)
{
    const struct fm_node *node = &b->graph->nodes[node_id];
    const struct fm_want *want = &b->want[node_id];
    uint32_t cast_buffer, stride = stride_of_x(b, node_id, &cast_buffer);
    dequantize_ahead(b, node_id);
    FM_DISPATCH_LAYOUT(FM_PUSH_MATMUL_GLU);
    struct fm_dispatch *d = fm_emit_begin(b, node_id, b->kernel[node_id], want, "", n_bind, n_words);
    if (d == NULL)
        return;
    bind_input(b, d, bind_x, node->src[0], cast_buffer);
    bind_weight(b, d, bind_gate, node->src[1]);
    bind_weight(b, d, bind_up, node->src[2]);
    fm_emit_bind(b, d, bind_y, node->dst[0], true);
    d->word[word_n] = want->param[FM_PARAM_N];
    d->word[word_k] = want->param[FM_PARAM_K];
    d->word[word_stride_x] = stride;
    d->word[word_rows_word] = fm_emit_rows_word(b, node->src[0]);
    d->word[word_act] = node->attr.act;
    finish(b, d, want, 2, bind_partial, bind_arrived);
}

// Kernels of products with a norm read x as it is, in f32, and weights as they lie.
void fm_emit_norm_matmul(struct fm_build *b, uint32_t node_id)
{
    const struct fm_node *node = &b->graph->nodes[node_id];
    const struct fm_want *want = &b->want[node_id];
    bool add = node->op == FM_OP_NORM_MATMUL_ADD;
    unsigned norm = add ? 3 : 2;
    FM_DISPATCH_LAYOUT(FM_PUSH_NORM_MATMUL);
    struct fm_dispatch *d = fm_emit_begin(b, node_id, b->kernel[node_id], want, "", n_bind, n_words);
    if (d == NULL)
        return;
    fm_emit_bind(b, d, bind_x, node->src[0], false);
    bind_weight(b, d, bind_w, node->src[1]);
    fm_emit_bind(b, d, bind_norm, node->src[norm], false);
    if (node->n_src > norm + 1)
        fm_emit_bind(b, d, bind_bias, node->src[norm + 1], false);
    if (add)
        fm_emit_bind(b, d, bind_residual, node->src[2], false);
    fm_emit_bind(b, d, bind_y, node->dst[0], true);
    d->word[word_n] = want->param[FM_PARAM_N];
    d->word[word_k] = d->word[word_stride_x] = want->param[FM_PARAM_K];
    d->word[word_rows_word] = fm_emit_rows_word(b, node->src[0]);
    d->word[word_eps_bits] = fm_float_bits(node->attr.eps);
    d->moved_bytes += d->bind[bind_norm].bytes + d->bind[bind_bias].bytes;
    finish(b, d, want, 1, FM_NONE, FM_NONE);
}

void fm_emit_norm_matmul_glu(struct fm_build *b, uint32_t node_id)
{
    const struct fm_node *node = &b->graph->nodes[node_id];
    const struct fm_want *want = &b->want[node_id];
    FM_DISPATCH_LAYOUT(FM_PUSH_NORM_MATMUL_GLU);
    struct fm_dispatch *d = fm_emit_begin(b, node_id, b->kernel[node_id], want, "", n_bind, n_words);
    if (d == NULL)
        return;
    fm_emit_bind(b, d, bind_x, node->src[0], false);
    bind_weight(b, d, bind_gate, node->src[1]);
    bind_weight(b, d, bind_up, node->src[2]);
    fm_emit_bind(b, d, bind_norm, node->src[3], false);
    fm_emit_bind(b, d, bind_y, node->dst[0], true);
    d->word[word_n] = want->param[FM_PARAM_N];
    d->word[word_k] = d->word[word_stride_x] = want->param[FM_PARAM_K];
    d->word[word_rows_word] = fm_emit_rows_word(b, node->src[0]);
    d->word[word_act] = node->attr.act;
    d->word[word_eps_bits] = fm_float_bits(node->attr.eps);
    d->moved_bytes += d->bind[bind_norm].bytes;
    finish(b, d, want, 2, FM_NONE, FM_NONE);
}

// Such kernels read x and weights as those of products with a norm do, whether there is one or not.
void fm_emit_matmul_conv(struct fm_build *b, uint32_t node_id)
{
    const struct fm_node *node = &b->graph->nodes[node_id];
    const struct fm_want *want = &b->want[node_id];
    bool normed = node->op == FM_OP_NORM_MATMUL_CONV;
    unsigned taps = normed ? 3 : 2;
    FM_DISPATCH_LAYOUT(FM_PUSH_MATMUL_CONV);
    struct fm_dispatch *d = fm_emit_begin(b, node_id, b->kernel[node_id], want, "", n_bind, n_words);
    if (d == NULL)
        return;
    fm_emit_bind(b, d, bind_x, node->src[0], false);
    bind_weight(b, d, bind_w, node->src[1]);
    if (normed)
        fm_emit_bind(b, d, bind_norm, node->src[2], false);
    fm_emit_bind(b, d, bind_taps, node->src[taps], false);
    fm_emit_bind(b, d, bind_segment, node->src[taps + 1], false);
    if (node->n_src > taps + 3)
        fm_emit_bind(b, d, bind_bias, node->src[taps + 3], false);
    fm_emit_bind(b, d, bind_state, node->dst[1], true);
    fm_emit_bind(b, d, bind_y, node->dst[0], true);
    uint32_t n = want->param[FM_PARAM_N], rows = want->param[FM_PARAM_ROWS], width = want->param[FM_PARAM_STATE];
    d->word[word_n] = n;
    d->word[word_k] = d->word[word_stride_x] = want->param[FM_PARAM_K];
    d->word[word_rows_word] = fm_emit_rows_word(b, node->src[0]);
    d->word[word_eps_bits] = fm_float_bits(node->attr.eps);
    d->word[word_head] = node->attr.repeat > 1 ? node->attr.head : n;
    d->word[word_repeat] = node->attr.repeat;
    d->word[word_act] = node->attr.act;
    d->word[word_versions] = fm_dim_resolve(FM_DIM_B, &b->dims);
    d->moved_bytes += d->bind[bind_norm].bytes + d->bind[bind_taps].bytes + d->bind[bind_bias].bytes + 8ull * rows * n * (width - 1);
    finish(b, d, want, 1, FM_NONE, FM_NONE);
}
