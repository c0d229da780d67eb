// SPDX-License-Identifier: MIT
// The mixer of Mamba-1: convolution and selective scan.
//   conv1d           grid: ceil(channels in / tile_cols), parts of tile_rows rows, 1
//   selective_scan   grid: ceil(channels / tile_cols), parts, 1
//   scan_states      the same
//   scan_carry       grid: ceil(channels / workgroup), quarters of a state, sequences
// Kernels that may split cut the rows of a sequence into parts, which then run at once: the state that each part ends in from zero
// (scan_states), the states in which they begin (scan_carry), the outputs. The grid has room for the most parts and
// sequences that a step can have; there may be fewer.
#include "plan/build.h"

#include "shaders/lib/abi.h"

// Most parts of `part` rows that a step can have.
static uint64_t part_places(const struct fm_build *b, const struct fm_want *want, uint32_t part)
{
    return (want->param[FM_PARAM_ROWS] + (uint64_t)fm_emit_sequences(b, want) * (part - 1)) / part;
}

void fm_emit_conv1d(struct fm_build *b, uint32_t node_id)
{
    const struct fm_node *node = &b->graph->nodes[node_id];
    const struct fm_want *want = &b->want[node_id];
    uint32_t copy = fm_emit_copy(b, node_id, node->dst[0]);
    FM_DISPATCH_LAYOUT(FM_PUSH_CONV1D);
    struct fm_dispatch *d = fm_emit_begin(b, node_id, b->kernel[node_id], want, "", n_bind, n_words);
    if (d == NULL)
        return;
    fm_emit_bind(b, d, bind_segment, node->src[2], false);
    fm_emit_bind(b, d, bind_x, node->src[0], false);
    fm_emit_bind(b, d, bind_w, node->src[1], false);
    if (node->n_src > 4)
        fm_emit_bind(b, d, bind_bias, node->src[4], false);
    fm_emit_bind(b, d, bind_state, node->dst[1], true);
    fm_emit_bind(b, d, bind_y, node->dst[0], true);
    if (copy != FM_NONE)
        fm_emit_bind_buffer(b, d, bind_copy, copy, true);
    uint32_t rows = want->param[FM_PARAM_ROWS], in = want->param[FM_PARAM_K], width = want->param[FM_PARAM_STATE];
    uint32_t part = fm_emit_tile(d->kernel->tile_rows, want, 32);
    d->word[word_channels] = in;
    d->word[word_head] = want->param[FM_PARAM_HEAD];
    d->word[word_repeat] = node->attr.repeat;
    d->word[word_act] = node->attr.act;
    d->word[word_versions] = fm_dim_resolve(FM_DIM_B, &b->dims);
    d->word[word_kept] = fm_emit_kept_state_versions(b, want);
    d->word[word_part] = part;
    d->moved_bytes = 4ull * ((uint64_t)rows * in + 2ull * in * (width - 1)) + d->bind[bind_y].bytes + d->bind[bind_copy].bytes +
                     d->bind[bind_w].bytes;
    fm_emit_grid(b, d, fm_ceil_div_u32(in, fm_emit_tile(d->kernel->tile_cols, want, d->kernel->workgroup)),
                 part_places(b, want, part), 1);
}

// How the rows of each sequence are cut.
struct parts {
    uint32_t rows;         // of a part
    uint64_t places;       // most parts that a step can have
    uint32_t starts;       // buffer of their states, FM_NONE where every sequence is one part
    uint32_t steps;        // buffer of the sums of their time steps
    const struct fm_kernel *states, *carry;
};

static uint64_t state_bytes(const struct fm_want *want)
{
    return 4ull * want->param[FM_PARAM_N] * want->param[FM_PARAM_STATE];
}

static const struct fm_kernel *lowered(struct fm_build *b, struct fm_want want, enum fm_op op)
{
    want.op = op;
    return fm_selector_get(b->selector, &want);
}

static uint32_t grid_x(const struct fm_kernel *kernel, const struct fm_want *want)
{
    return fm_ceil_div_u32(want->param[FM_PARAM_N], fm_emit_tile(kernel->tile_cols, want, kernel->workgroup));
}

// As many parts of the longest sequence as fill the device, within what tuning.def says of parts. With fewer than three, running twice
// over the rows costs more than it wins.
static struct parts choose_parts(struct fm_build *b, uint32_t node_id)
{
    const struct fm_want *want = &b->want[node_id];
    const struct fm_kernel *kernel = b->kernel[node_id];
    uint32_t run = want->param[FM_PARAM_RUN], sequences = fm_emit_sequences(b, want);
    struct parts p = {.rows = run, .places = sequences, .starts = FM_NONE, .steps = FM_NONE};
    if (kernel->split <= 1)
        return p;
    const struct fm_tuning *tuning = fm_tuning_of(b->caps);
    uint64_t wanted = fm_emit_workgroups(b, tuning->scan_workgroups_per_core);
    uint64_t count = FM_MIN(wanted / grid_x(kernel, want), FM_MIN(kernel->split, run / tuning->scan_part_rows));
    uint64_t most_parts = fm_emit_most_parts(b, want, state_bytes(want));
    count = FM_MIN(count, most_parts);
    p.states = lowered(b, *want, FM_OP_SCAN_STATES);
    p.carry = lowered(b, *want, FM_OP_SCAN_CARRY);
    if (count < 3 || p.states == NULL || p.carry == NULL)
        return p;
    uint32_t tile = fm_emit_tile(kernel->tile_rows, want, 1);
    p.rows = fm_ceil_div_u32(fm_ceil_div_u32(run, (uint32_t)count), tile) * tile;
    p.places = part_places(b, want, p.rows);
    p.starts = fm_emit_buffer(b, p.places * state_bytes(want));
    p.steps = fm_emit_buffer(b, 4 * p.places * want->param[FM_PARAM_N]);
    return p;
}

static void emit_states(struct fm_build *b, uint32_t node_id, const struct parts *p)
{
    const struct fm_node *node = &b->graph->nodes[node_id];
    struct fm_want want = b->want[node_id];
    want.op = FM_OP_SCAN_STATES;
    FM_DISPATCH_LAYOUT(FM_PUSH_SCAN_STATES);
    struct fm_dispatch *d = fm_emit_begin(b, node_id, p->states, &want, "/states", n_bind, n_words);
    if (d == NULL)
        return;
    fm_emit_bind(b, d, bind_segment, node->src[8], false);
    fm_emit_bind(b, d, bind_u, node->src[0], false);
    fm_emit_bind(b, d, bind_dt, node->src[1], false);
    fm_emit_bind(b, d, bind_a, node->src[2], false);
    fm_emit_bind(b, d, bind_b, node->src[3], false);
    fm_emit_bind(b, d, bind_dt_bias, node->src[6], false);
    fm_emit_bind_buffer(b, d, bind_ends, p->starts, true);
    fm_emit_bind_buffer(b, d, bind_steps, p->steps, true);
    d->word[word_channels] = want.param[FM_PARAM_N];
    d->word[word_groups_b] = node->attr.heads_kv;
    d->word[word_part] = p->rows;
    fm_emit_grid(b, d, grid_x(p->states, &want), p->places, 1);
}

static void emit_carry(struct fm_build *b, uint32_t node_id, const struct parts *p)
{
    const struct fm_node *node = &b->graph->nodes[node_id];
    struct fm_want want = b->want[node_id];
    want.op = FM_OP_SCAN_CARRY;
    FM_DISPATCH_LAYOUT(FM_PUSH_SCAN_CARRY);
    struct fm_dispatch *d = fm_emit_begin(b, node_id, p->carry, &want, "/carry", n_bind, n_words);
    if (d == NULL)
        return;
    fm_emit_bind(b, d, bind_segment, node->src[8], false);
    fm_emit_bind(b, d, bind_a, node->src[2], false);
    fm_emit_bind_buffer(b, d, bind_steps, p->steps, false);
    fm_emit_bind(b, d, bind_state, node->src[9], false);
    fm_emit_bind_buffer(b, d, bind_ends, p->starts, true);
    d->word[word_channels] = want.param[FM_PARAM_N];
    d->word[word_versions] = fm_dim_resolve(FM_DIM_B, &b->dims);
    d->word[word_part] = p->rows;
    fm_emit_grid(b, d, grid_x(p->carry, &want), want.param[FM_PARAM_STATE] / 4, fm_emit_sequences(b, &want));
}

void fm_emit_selective_scan(struct fm_build *b, uint32_t node_id)
{
    const struct fm_node *node = &b->graph->nodes[node_id];
    const struct fm_want *want = &b->want[node_id];
    struct parts p = choose_parts(b, node_id);
    if (p.starts != FM_NONE) {
        emit_states(b, node_id, &p);
        emit_carry(b, node_id, &p);
    }
    FM_DISPATCH_LAYOUT(FM_PUSH_SELECTIVE_SCAN);
    struct fm_dispatch *d = fm_emit_begin(b, node_id, b->kernel[node_id], want, "", n_bind, n_words);
    if (d == NULL)
        return;
    const uint32_t at[] = {bind_u, bind_dt, bind_a, bind_b, bind_c, bind_d, bind_dt_bias, bind_z, bind_segment};
    for (uint32_t i = 0; i < FM_COUNT(at); i++)
        fm_emit_bind(b, d, at[i], node->src[i], false);
    fm_emit_bind(b, d, bind_state, node->dst[1], true);
    fm_emit_bind(b, d, bind_y, node->dst[0], true);
    if (p.starts != FM_NONE)
        fm_emit_bind_buffer(b, d, bind_starts, p.starts, false);
    uint64_t rows = want->param[FM_PARAM_ROWS], channels = want->param[FM_PARAM_N], state = want->param[FM_PARAM_STATE];
    d->word[word_channels] = (uint32_t)channels;
    d->word[word_groups_b] = node->attr.heads_kv;
    d->word[word_groups_c] = node->attr.heads;
    d->word[word_versions] = fm_dim_resolve(FM_DIM_B, &b->dims);
    d->word[word_kept] = fm_emit_kept_state_versions(b, want);
    d->word[word_part] = p.rows;
    d->moved_bytes = 4 * (rows * (4 * channels + state * ((uint64_t)node->attr.heads + node->attr.heads_kv)) + 3 * channels * state);
    fm_emit_grid(b, d, grid_x(d->kernel, want), p.places, 1);
}
