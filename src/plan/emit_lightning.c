// SPDX-License-Identifier: MIT
// Linear attention and its position encoding.
//   lrpe            elementwise over rows x (heads * head)
//   linear_attend   grid: heads * ceil(head / tile_cols), parts, 1
//   linear_states   the same
//   linear_scan     grid: ceil(heads * key * head / (4 * workgroup)), sequences, 1
// Kernels that may split cut the rows of a sequence into parts, which then run at once: what each part adds to the state
// (linear_states), the states in which they begin (linear_scan), the outputs. The grid has room for the most parts and sequences
// that a step can have; there may be fewer.
#include "plan/build.h"

#include "shaders/lib/abi.h"

void fm_emit_lrpe(struct fm_build *b, uint32_t node_id)
{
    const struct fm_node *node = &b->graph->nodes[node_id];
    const struct fm_want *want = &b->want[node_id];
    FM_DISPATCH_LAYOUT(FM_PUSH_LRPE);
    struct fm_dispatch *d = fm_emit_begin(b, node_id, b->kernel[node_id], want, "", n_bind, n_words);
    if (d == NULL)
        return;
    fm_emit_bind(b, d, bind_x, node->src[0], false);
    fm_emit_bind(b, d, bind_freq, node->src[1], false);
    fm_emit_bind(b, d, bind_pos, node->src[2], false);
    fm_emit_bind(b, d, bind_y, node->dst[0], true);
    d->word[word_heads] = node->attr.heads;
    d->word[word_head] = node->attr.head;
    d->word[word_freq_heads] = b->graph->values[node->src[1]].dims[0] / node->attr.head;
    d->word[word_act] = node->attr.act;
    d->moved_bytes += d->bind[bind_freq].bytes;
    fm_emit_grid_elements(b, d, want, (uint64_t)node->attr.heads * node->attr.head, want->param[FM_PARAM_ROWS]);
}

// How the rows of each sequence are cut.
struct parts {
    uint32_t rows;   // of a part
    uint32_t places; // most parts that a step can have
    uint32_t starts; // buffer of their states, FM_NONE where every sequence is one part
    const struct fm_kernel *states, *scan;
    uint32_t qk, v;  // buffers of the operands as f16; FM_NONE where they are read as f32
};

static const struct fm_kernel *lowered(struct fm_build *b, struct fm_want want, enum fm_op op)
{
    want.op = op;
    return fm_selector_get(b->selector, &want);
}

static uint64_t state_bytes(const struct fm_node *node)
{
    return 4ull * node->attr.heads * node->attr.state * node->attr.head;
}

static uint64_t grid_x(const struct fm_kernel *kernel, const struct fm_want *want)
{
    uint32_t head = want->param[FM_PARAM_HEAD];
    return (uint64_t)want->param[FM_PARAM_HEADS] * fm_ceil_div_u32(head, fm_emit_tile(kernel->tile_cols, want, head));
}

// As many parts of the longest sequence as fill the device, within what tuning.def says of parts.
static struct parts choose_parts(struct fm_build *b, uint32_t node_id)
{
    const struct fm_want *want = &b->want[node_id];
    const struct fm_kernel *kernel = b->kernel[node_id];
    uint32_t run = want->param[FM_PARAM_RUN], sequences = fm_emit_sequences(b, want);
    struct parts p = {.rows = run, .places = sequences, .starts = FM_NONE, .qk = FM_NONE, .v = FM_NONE};
    if (kernel->split <= 1)
        return p;
    const struct fm_tuning *tuning = fm_tuning_of(b->caps);
    uint64_t across = grid_x(kernel, want), few = fm_emit_workgroups(b, tuning->linear_workgroups_per_core);
    uint64_t many = (uint64_t)tuning->linear_long_workgroups_per_core * b->caps->cores;
    uint64_t count = FM_MAX(FM_MIN(few / across, run / tuning->linear_part_rows), FM_MIN(many / across, run / tuning->linear_long_rows));
    count = FM_MIN(count, kernel->split);
    uint64_t most_parts = fm_emit_most_parts(b, want, state_bytes(&b->graph->nodes[node_id]));
    count = FM_MIN(count, most_parts);
    p.states = lowered(b, *want, FM_OP_LINEAR_STATES);
    p.scan = lowered(b, *want, FM_OP_LINEAR_SCAN);
    if (count < 2 || p.states == NULL || p.scan == NULL || p.states->x != kernel->x)
        return p;
    uint32_t tile = fm_emit_tile(kernel->tile_rows, want, 1);
    p.rows = fm_ceil_div_u32(fm_ceil_div_u32(run, (uint32_t)count), tile) * tile;
    p.places = fm_ceil_div_u32(want->param[FM_PARAM_ROWS], p.rows) + sequences;
    p.starts = fm_emit_buffer(b, p.places * state_bytes(&b->graph->nodes[node_id]));
    return p;
}

static void bind_operand(struct fm_build *b, struct fm_dispatch *d, uint32_t at, uint32_t value, uint32_t buffer)
{
    if (buffer != FM_NONE)
        fm_emit_bind_buffer(b, d, at, buffer, false);
    else
        fm_emit_bind(b, d, at, value, false);
}

static void emit_states(struct fm_build *b, uint32_t node_id, const struct parts *p)
{
    const struct fm_node *node = &b->graph->nodes[node_id];
    struct fm_want want = b->want[node_id];
    want.op = FM_OP_LINEAR_STATES;
    FM_DISPATCH_LAYOUT(FM_PUSH_LINEAR_STATES);
    struct fm_dispatch *d = fm_emit_begin(b, node_id, p->states, &want, "/states", n_bind, n_words);
    if (d == NULL)
        return;
    fm_emit_bind(b, d, bind_segment, node->src[3], false);
    bind_operand(b, d, bind_qk, node->src[0], p->qk);
    bind_operand(b, d, bind_v, node->src[1], p->v);
    fm_emit_bind(b, d, bind_decay, node->src[2], false);
    fm_emit_bind_buffer(b, d, bind_z, p->starts, true);
    d->word[word_heads] = node->attr.heads;
    d->word[word_key] = node->attr.state;
    d->word[word_head] = node->attr.head;
    d->word[word_act] = node->attr.act;
    d->word[word_part] = p->rows;
    fm_emit_grid(b, d, grid_x(p->states, &want), p->places, 1);
}

static void emit_scan(struct fm_build *b, uint32_t node_id, const struct parts *p)
{
    const struct fm_node *node = &b->graph->nodes[node_id];
    struct fm_want want = b->want[node_id];
    want.op = FM_OP_LINEAR_SCAN;
    FM_DISPATCH_LAYOUT(FM_PUSH_LINEAR_SCAN);
    struct fm_dispatch *d = fm_emit_begin(b, node_id, p->scan, &want, "/scan", n_bind, n_words);
    if (d == NULL)
        return;
    fm_emit_bind(b, d, bind_segment, node->src[3], false);
    fm_emit_bind(b, d, bind_decay, node->src[2], false);
    fm_emit_bind(b, d, bind_state, node->src[4], false);
    fm_emit_bind_buffer(b, d, bind_z, p->starts, true);
    d->word[word_heads] = node->attr.heads;
    d->word[word_key] = node->attr.state;
    d->word[word_head] = node->attr.head;
    d->word[word_versions] = fm_dim_resolve(FM_DIM_B, &b->dims);
    d->word[word_part] = p->rows;
    uint64_t elems = state_bytes(node) / 4, per_workgroup = 4ull * p->scan->workgroup;
    fm_emit_grid(b, d, (elems + per_workgroup - 1) / per_workgroup, fm_emit_sequences(b, &want), 1);
}

void fm_emit_linear_attend(struct fm_build *b, uint32_t node_id)
{
    const struct fm_node *node = &b->graph->nodes[node_id];
    const struct fm_want *want = &b->want[node_id];
    struct parts p = choose_parts(b, node_id);
    if (b->kernel[node_id]->x == FM_TYPE_F16) { // as wide as the values: kernels demand multiples of a matrix
        uint32_t stride;
        p.qk = fm_emit_cast(b, node_id, node->src[0], &stride);
        uint32_t stride_v;
        p.v = fm_emit_cast(b, node_id, node->src[1], &stride_v);
        fm_emit_unpadded(b, node_id, node->src[0], stride);
        fm_emit_unpadded(b, node_id, node->src[1], stride_v);
    }
    if (p.starts != FM_NONE) {
        emit_states(b, node_id, &p);
        emit_scan(b, node_id, &p);
    }
    FM_DISPATCH_LAYOUT(FM_PUSH_LINEAR_ATTEND);
    struct fm_dispatch *d = fm_emit_begin(b, node_id, b->kernel[node_id], want, "", n_bind, n_words);
    if (d == NULL)
        return;
    uint32_t rows = want->param[FM_PARAM_ROWS];
    fm_emit_bind(b, d, bind_segment, node->src[3], false);
    bind_operand(b, d, bind_qk, node->src[0], p.qk);
    bind_operand(b, d, bind_v, node->src[1], p.v);
    fm_emit_bind(b, d, bind_decay, node->src[2], false);
    fm_emit_bind(b, d, bind_state, node->dst[1], true);
    if (p.starts != FM_NONE)
        fm_emit_bind_buffer(b, d, bind_starts, p.starts, false);
    fm_emit_bind(b, d, bind_y, node->dst[0], true);
    d->word[word_heads] = node->attr.heads;
    d->word[word_key] = node->attr.state;
    d->word[word_head] = node->attr.head;
    d->word[word_act] = node->attr.act;
    d->word[word_versions] = fm_dim_resolve(FM_DIM_B, &b->dims);
    d->word[word_kept] = fm_emit_kept_state_versions(b, want);
    d->word[word_part] = p.rows;
    d->moved_bytes += 2 * state_bytes(node) * fm_emit_sequences(b, want); // read and written, of every sequence
    d->flops = 4.0 * rows * (double)(state_bytes(node) / 4); // as the recurrence has them
    fm_emit_grid(b, d, grid_x(b->kernel[node_id], want), p.places, 1);
}
