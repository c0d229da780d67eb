// SPDX-License-Identifier: MIT
// Rotation, cache writing, attention.
//   rope            elementwise over rows x (heads * head / 2) pairs
//   kv_write        grid: ceil(heads_kv * head_stride / tile_cols), rows, 1
//   rope_kv_write   grid: heads + 2 heads_kv, ceil(rows / tile_rows), 1: query heads, key heads, value heads
//   attend, rope_attend   grid: ceil(heads / tile_cols), ceil(rows / tile_rows), split
#include "plan/build.h"

#include "shaders/lib/abi.h"

void fm_emit_rope(struct fm_build *b, uint32_t node_id)
{
    const struct fm_node *node = &b->graph->nodes[node_id];
    const struct fm_want *want = &b->want[node_id];
    FM_DISPATCH_LAYOUT(FM_PUSH_ROPE);
    struct fm_dispatch *d = fm_emit_begin(b, node_id, b->kernel[node_id], want, "", n_bind, n_words);
    if (d == NULL)
        return;
    fm_emit_bind(b, d, bind_x, node->src[0], false);
    fm_emit_bind(b, d, bind_freq, node->src[1], false);
    fm_emit_bind(b, d, bind_pos, node->src[2], false);
    if (node->n_src > 3)
        fm_emit_bind(b, d, bind_lengths, node->src[3], false);
    fm_emit_bind(b, d, bind_y, node->dst[0], true);
    d->word[word_heads] = node->attr.heads;
    d->word[word_head] = node->attr.head;
    d->word[word_rotated] = node->attr.rotated;
    d->word[word_kind] = node->attr.rope;
    d->word[word_copies] = FM_MAX(node->attr.copies, 1u);
    d->word[word_chunk] = node->attr.chunk;
    d->word[word_cap] = node->attr.cap;
    d->word[word_original] = node->attr.original;
    d->moved_bytes += d->bind[bind_freq].bytes;
    fm_emit_grid_elements(b, d, want, ((uint64_t)node->attr.heads * node->attr.head + 1) / 2, want->param[FM_PARAM_ROWS]);
}

// Elements from position to position of a cache: its last dimension.
static uint32_t head_stride(const struct fm_build *b, uint32_t cache)
{
    return fm_dim_resolve(b->graph->values[cache].dims[3], &b->dims);
}

// Bytes of `rows` positions in keys and values of all heads.
static uint64_t cache_rows_bytes(const struct fm_build *b, uint32_t cache, uint64_t rows)
{
    const struct fm_value *v = &b->graph->values[cache];
    const struct fm_type_info *type = fm_type_info(v->type);
    return 2 * rows * v->dims[1] * head_stride(b, cache) / type->block_elems * type->block_bytes;
}

void fm_emit_kv_write(struct fm_build *b, uint32_t node_id)
{
    const struct fm_node *node = &b->graph->nodes[node_id];
    const struct fm_want *want = &b->want[node_id];
    FM_DISPATCH_LAYOUT(FM_PUSH_KV_WRITE);
    struct fm_dispatch *d = fm_emit_begin(b, node_id, b->kernel[node_id], want, "", n_bind, n_words);
    if (d == NULL)
        return;
    fm_emit_bind(b, d, bind_k, node->src[0], false);
    fm_emit_bind(b, d, bind_v, node->src[1], false);
    fm_emit_bind(b, d, bind_pos, node->src[2], false);
    fm_emit_bind(b, d, bind_slot, node->src[3], false);
    fm_emit_bind(b, d, bind_kc, node->dst[0], true);
    fm_emit_bind(b, d, bind_vc, node->dst[1], true);
    uint32_t stride = head_stride(b, node->dst[0]), rows = want->param[FM_PARAM_ROWS];
    d->word[word_heads_kv] = node->attr.heads_kv;
    d->word[word_head] = node->attr.head;
    d->word[word_head_stride] = stride;
    d->word[word_ctx] = want->param[FM_PARAM_CTX];
    d->moved_bytes += cache_rows_bytes(b, node->dst[0], rows);
    uint64_t tile_cols = fm_emit_tile(d->kernel->tile_cols, want, d->kernel->workgroup);
    fm_emit_grid(b, d, ((uint64_t)node->attr.heads_kv * stride + tile_cols - 1) / tile_cols, rows, 1);
}

void fm_emit_rope_kv_write(struct fm_build *b, uint32_t node_id)
{
    const struct fm_node *node = &b->graph->nodes[node_id];
    const struct fm_want *want = &b->want[node_id];
    FM_DISPATCH_LAYOUT(FM_PUSH_ROPE_KV_WRITE);
    struct fm_dispatch *d = fm_emit_begin(b, node_id, b->kernel[node_id], want, "", n_bind, n_words);
    if (d == NULL)
        return;
    fm_emit_bind(b, d, bind_q, node->src[0], false);
    fm_emit_bind(b, d, bind_k, node->src[1], false);
    fm_emit_bind(b, d, bind_v, node->src[2], false);
    fm_emit_bind(b, d, bind_freq, node->src[3], false);
    fm_emit_bind(b, d, bind_pos, node->src[4], false);
    fm_emit_bind(b, d, bind_slot, node->src[5], false);
    if (node->n_src > 8)
        fm_emit_bind(b, d, bind_lengths, node->src[8], false);
    fm_emit_bind(b, d, bind_kc, node->dst[1], true);
    fm_emit_bind(b, d, bind_vc, node->dst[2], true);
    fm_emit_bind(b, d, bind_y, node->dst[0], true);
    uint32_t rows = want->param[FM_PARAM_ROWS], tile_rows = fm_emit_tile(d->kernel->tile_rows, want, 1);
    d->word[word_heads] = node->attr.heads;
    d->word[word_heads_kv] = node->attr.heads_kv;
    d->word[word_head] = node->attr.head;
    d->word[word_head_stride] = head_stride(b, node->dst[1]);
    d->word[word_rotated] = node->attr.rotated;
    d->word[word_kind] = node->attr.rope;
    d->word[word_ctx] = want->param[FM_PARAM_CTX];
    d->word[word_chunk] = node->attr.chunk;
    d->word[word_cap] = node->attr.cap;
    d->word[word_original] = node->attr.original;
    d->moved_bytes += d->bind[bind_freq].bytes + cache_rows_bytes(b, node->dst[1], rows);
    fm_emit_grid(b, d, (uint64_t)node->attr.heads + 2ull * node->attr.heads_kv, fm_ceil_div_u32(rows, tile_rows), 1);
}

// Into how many parts the keys may be cut: as many as fill the device, none of fewer keys of a full cache than attend_part_keys.
static uint32_t choose_split(const struct fm_build *b, const struct fm_kernel *kernel, const struct fm_want *want, uint64_t workgroups)
{
    const struct fm_tuning *tuning = fm_tuning_of(b->caps);
    if (workgroups > FM_COUNTER_BYTES / 4)
        return 1;
    uint64_t wanted = fm_emit_workgroups(b, tuning->attend_workgroups_per_core);
    uint64_t fill = (wanted + workgroups - 1) / workgroups;
    uint32_t split = FM_MIN(kernel->split, fm_ceil_div_u32(want->param[FM_PARAM_CTX], tuning->attend_part_keys));
    split = (uint32_t)FM_MIN((uint64_t)split, fill);
    return FM_MAX(split, 1u);
}

// Records of parts (shaders/lib/attend.glsl): [rows, heads, split, head rounded up to 4, and 4] f32
static uint32_t partial_buffer(struct fm_build *b, uint32_t node_id, uint32_t rows, uint32_t split)
{
    const struct fm_node *node = &b->graph->nodes[node_id];
    uint64_t bytes = ((node->attr.head + 3ull) / 4 * 4 + 4) * 4;
    if (!fm_mul_u64(bytes, rows, &bytes) || !fm_mul_u64(bytes, node->attr.heads, &bytes) || !fm_mul_u64(bytes, split, &bytes))
        fm_build_fail(b, fm_fail(FM_NOSPACE, "node '%s': the partial sums of attention overflow", node->name));
    return fm_emit_buffer(b, bytes);
}

// How the keys are cut.
struct parts {
    uint64_t grid_x, grid_y;
    uint32_t split, partial; // partial: FM_NONE where there is one part
};

static struct parts cut_keys(struct fm_build *b, uint32_t node_id)
{
    const struct fm_want *want = &b->want[node_id];
    const struct fm_kernel *kernel = b->kernel[node_id];
    uint32_t rows = want->param[FM_PARAM_ROWS], heads = want->param[FM_PARAM_HEADS];
    struct parts p = {.partial = FM_NONE};
    p.grid_x = fm_ceil_div_u32(heads, fm_emit_tile(kernel->tile_cols, want, 1));
    p.grid_y = fm_ceil_div_u32(rows, fm_emit_tile(kernel->tile_rows, want, 1));
    p.split = choose_split(b, kernel, want, p.grid_x * p.grid_y);
    if (p.split > 1)
        p.partial = partial_buffer(b, node_id, rows, p.split);
    return p;
}

static void bind_parts(struct fm_build *b, struct fm_dispatch *d, const struct parts *p, uint32_t at_partial, uint32_t at_counter)
{
    if (p->split == 1)
        return;
    fm_emit_bind_buffer(b, d, at_partial, p->partial, true);
    fm_emit_bind_counters(b, d, at_counter, (uint32_t)(p->grid_x * p->grid_y));
}

static double attend_flops(const struct fm_want *want) // over a full cache
{
    return 4.0 * want->param[FM_PARAM_ROWS] * want->param[FM_PARAM_HEADS] * want->param[FM_PARAM_HEAD] * want->param[FM_PARAM_CTX];
}

void fm_emit_attend(struct fm_build *b, uint32_t node_id)
{
    const struct fm_node *node = &b->graph->nodes[node_id];
    const struct fm_want *want = &b->want[node_id];
    const struct fm_kernel *kernel = b->kernel[node_id];
    uint32_t rows = want->param[FM_PARAM_ROWS], heads = node->attr.heads, head = node->attr.head;
    uint32_t cast_buffer = FM_NONE, stride_q = heads * head * (node->attr.chunk > 0 ? 3 : 1);
    if (kernel->x == FM_TYPE_F16)
        cast_buffer = fm_emit_cast(b, node_id, node->src[0], &stride_q);
    struct parts parts = cut_keys(b, node_id);
    FM_DISPATCH_LAYOUT(FM_PUSH_ATTEND);
    struct fm_dispatch *d = fm_emit_begin(b, node_id, kernel, want, "", n_bind, n_words);
    if (d == NULL)
        return;
    if (cast_buffer != FM_NONE)
        fm_emit_bind_buffer(b, d, bind_q, cast_buffer, false);
    else
        fm_emit_bind(b, d, bind_q, node->src[0], false);
    fm_emit_bind(b, d, bind_kc, node->src[1], false);
    fm_emit_bind(b, d, bind_vc, node->src[2], false);
    fm_emit_bind(b, d, bind_pos, node->src[3], false);
    fm_emit_bind(b, d, bind_slot, node->src[4], false);
    fm_emit_bind(b, d, bind_y, node->dst[0], true);
    bind_parts(b, d, &parts, bind_partial, bind_counter);
    d->word[word_heads] = heads;
    d->word[word_heads_kv] = node->attr.heads_kv;
    d->word[word_head] = head;
    d->word[word_head_stride] = head_stride(b, node->src[1]);
    d->word[word_ctx] = want->param[FM_PARAM_CTX];
    d->word[word_window] = node->attr.window;
    d->word[word_scale_bits] = fm_float_bits(node->attr.scale);
    d->word[word_split] = parts.split;
    d->word[word_part_keys] = fm_tuning_of(b->caps)->attend_part_keys;
    d->word[word_stride_q] = stride_q;
    d->word[word_chunk] = node->attr.chunk;
    d->moved_bytes += cache_rows_bytes(b, node->src[1], rows); // at least what this step wrote
    d->flops = attend_flops(want);
    fm_emit_grid(b, d, parts.grid_x, parts.grid_y, parts.split);
}

void fm_emit_rope_attend(struct fm_build *b, uint32_t node_id)
{
    const struct fm_node *node = &b->graph->nodes[node_id];
    const struct fm_want *want = &b->want[node_id];
    struct parts parts = cut_keys(b, node_id);
    FM_DISPATCH_LAYOUT(FM_PUSH_ROPE_ATTEND);
    struct fm_dispatch *d = fm_emit_begin(b, node_id, b->kernel[node_id], want, "", n_bind, n_words);
    if (d == NULL)
        return;
    fm_emit_bind(b, d, bind_q, node->src[0], false);
    fm_emit_bind(b, d, bind_k, node->src[1], false);
    fm_emit_bind(b, d, bind_v, node->src[2], false);
    fm_emit_bind(b, d, bind_freq, node->src[3], false);
    fm_emit_bind(b, d, bind_pos, node->src[4], false);
    fm_emit_bind(b, d, bind_slot, node->src[5], false);
    fm_emit_bind(b, d, bind_kc, node->dst[1], true);
    fm_emit_bind(b, d, bind_vc, node->dst[2], true);
    fm_emit_bind(b, d, bind_y, node->dst[0], true);
    bind_parts(b, d, &parts, bind_partial, bind_counter);
    d->word[word_heads_kv] = node->attr.heads_kv;
    d->word[word_ctx] = want->param[FM_PARAM_CTX];
    d->word[word_window] = node->attr.window;
    d->word[word_scale_bits] = fm_float_bits(node->attr.scale);
    d->word[word_split] = parts.split;
    d->word[word_part_keys] = fm_tuning_of(b->caps)->attend_part_keys;
    d->word[word_kind] = node->attr.rope;
    d->moved_bytes += d->bind[bind_freq].bytes + cache_rows_bytes(b, node->dst[1], want->param[FM_PARAM_ROWS]);
    d->flops = attend_flops(want);
    fm_emit_grid(b, d, parts.grid_x, parts.grid_y, parts.split);
}
