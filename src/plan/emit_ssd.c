// SPDX-License-Identifier: MIT
// The mixer of Mamba-2: state space duality (SSD), and the gated norm behind it.
//   norm_gate    grid: rows, ceil(parts of a row / tile_cols), 1
//   ssd          grid: heads * ceil(head / tile_cols), parts, 1; kernels of several heads: heads * head / tile_cols, parts, 1
//   ssd_states   the same
//   ssd_scan     grid: ceil(heads * head * state / (4 * workgroup)), sequences, 1
// Kernels with split > 1 (in the manifest) are those on matrix units. They read x, b and c as f16, and a workgroup takes a tile of rows at
// a time. For them the rows of a sequence may be cut into parts that run at the same time. Then one node becomes three dispatches:
// ssd_states finds what each part adds to the state; ssd_scan finds from that the state in which each part begins; ssd makes the
// outputs. The grid has room for the most parts and sequences that a step of this plan can have; workgroups without a part leave at once.
#include "plan/build.h"

#include "shaders/lib/abi.h"

void fm_emit_norm_gate(struct fm_build *b, uint32_t node_id)
{
    const struct fm_node *node = &b->graph->nodes[node_id];
    const struct fm_want *want = &b->want[node_id];
    FM_DISPATCH_LAYOUT(FM_PUSH_NORM_GATE);
    struct fm_dispatch *d = fm_emit_begin(b, node_id, b->kernel[node_id], want, "", n_bind, n_words);
    if (d == NULL)
        return;
    fm_emit_bind(b, d, bind_x, node->src[0], false);
    fm_emit_bind(b, d, bind_gate, node->src[1], false);
    if (node->n_src > 2)
        fm_emit_bind(b, d, bind_w, node->src[2], false);
    fm_emit_bind(b, d, bind_y, node->dst[0], true);
    d->word[word_width] = want->param[FM_PARAM_K];
    d->word[word_part] = want->param[FM_PARAM_HEAD];
    d->word[word_eps_bits] = fm_float_bits(node->attr.eps);
    d->word[word_act] = node->attr.act;
    d->word[word_kind] = node->attr.gate;
    d->word[word_rows_word] = fm_emit_rows_word(b, node->src[0]);
    d->moved_bytes = 8ull * want->param[FM_PARAM_ROWS] * want->param[FM_PARAM_K] + d->bind[bind_y].bytes + d->bind[bind_w].bytes;
    fm_emit_grid(b, d, want->param[FM_PARAM_ROWS],
                 fm_ceil_div_u32(node->attr.groups, fm_emit_tile(d->kernel->tile_cols, want, 1)), 1);
}

// How the rows of each sequence are cut into parts, and the buffers for that.
struct parts {
    uint32_t rows;   // rows of a part
    uint32_t places; // most parts that a step can have
    uint32_t xbc;    // buffer: x, b and c as f16; FM_NONE where they are read as f32
    uint32_t starts; // buffer: what each part adds to the state, then the state in which it begins; FM_NONE where a sequence is one part
    uint32_t sums;   // buffer: the sum of v a over each part, for each head. exp of it is the part's decay
};

// Bytes of one state, [H*P,N] f32.
static uint64_t state_bytes(const struct fm_node *node)
{
    return 4ull * node->attr.heads * node->attr.head * node->attr.state;
}

// How many workgroups compute one part. The columns of all heads lie side by side, and a workgroup takes tile_cols of them. In kernels with
// split > 1 a tile is several whole heads, or an even fraction of one: their windows demand that. In the others a tile is of one head
// only, and a head's last tile may be partly empty.
static uint64_t grid_x(const struct fm_kernel *kernel, const struct fm_want *want)
{
    uint32_t head = want->param[FM_PARAM_HEAD], heads = want->param[FM_PARAM_HEADS];
    uint32_t tile = fm_emit_tile(kernel->tile_cols, want, head);
    return kernel->split > 1 ? (uint64_t)heads * head / tile : (uint64_t)heads * fm_ceil_div_u32(head, tile);
}

// Begins the dispatch of a lowered op (ssd_states, ssd_scan) for a node: the same want with another op. NULL once the build has failed.
static struct fm_dispatch *begin_lowered(struct fm_build *b, uint32_t node_id, enum fm_op op, const char *suffix, uint32_t n_bind,
                                         uint32_t n_words)
{
    struct fm_want want = b->want[node_id];
    want.op = op;
    const struct fm_kernel *kernel = fm_selector_get(b->selector, &want);
    if (kernel == NULL) {
        fm_build_fail(b, fm_fail(FM_UNSUPPORTED, "node '%s': %s wants %s, and no kernel does that here",
                                 b->graph->nodes[node_id].name, b->kernel[node_id]->name, fm_op_info(op)->name));
        return NULL;
    }
    return fm_emit_begin(b, node_id, kernel, &want, suffix, n_bind, n_words);
}

// How many rows a part has when the longest sequence is cut into `count` parts: a multiple of the kernel's tile.
static uint32_t part_rows(const struct fm_kernel *kernel, const struct fm_want *want, uint64_t count)
{
    uint32_t tile = fm_emit_tile(kernel->tile_rows, want, 1);
    return fm_ceil_div_u32(fm_ceil_div_u32(want->param[FM_PARAM_RUN], (uint32_t)count), tile) * tile;
}

// An estimate of the time that a step of one sequence takes when the sequence is cut into `count` parts. The unit is half of the time
// that ssd takes for one row of one head.
//   Rows: ssd takes 2 units a row. With parts, ssd_states reads every row once more, for 1 unit.
//   States: with parts, the state of each part, P N floats, is moved four times. That takes 2 N units: half of what as many bytes of
//   rows take, because rows wait for more than memory.
//   Waves: the device runs `wide` workgroups at a time, and a last, partly empty wave takes as long as a full one. How many workgroups a
//   core holds is not known when a plan is made, so the estimate is a sum over all numbers that are possible.
static uint64_t time_in_parts(const struct fm_build *b, const struct fm_node *node, const struct fm_want *want,
                              const struct fm_kernel *kernel, uint64_t count)
{
    uint64_t run = want->param[FM_PARAM_RUN], rows = count > 1 ? part_rows(kernel, want, count) : run, time = 0;
    uint64_t workgroups = grid_x(kernel, want) * ((run + rows - 1) / rows);
    uint64_t half_rows = count > 1 ? 3 * rows + 2ull * node->attr.state : 2 * rows;
    const struct fm_tuning *tuning = fm_tuning_of(b->caps);
    uint32_t least = FM_MAX(tuning->ssd_least_resident / kernel->workgroup, 1);
    uint32_t most = FM_MAX(tuning->ssd_most_resident / kernel->workgroup, 1);
    for (uint32_t resident = least; resident <= most; resident++) {
        uint64_t wide = (uint64_t)b->caps->cores * resident;
        time += (workgroups + wide - 1) / wide * resident * half_rows;
    }
    return time;
}

// The number of parts, at most `most`, that is estimated to be fastest. Where the device does not say how many cores it has, enough parts
// to fill a small one.
static uint64_t count_parts(const struct fm_build *b, const struct fm_node *node, const struct fm_want *want,
                            const struct fm_kernel *kernel, uint64_t most)
{
    if (b->caps->cores == 0)
        return FM_MIN((fm_tuning_of(b->caps)->workgroups_unknown + grid_x(kernel, want) - 1) / grid_x(kernel, want), most);
    uint64_t best = 1, least = time_in_parts(b, node, want, kernel, 1);
    for (uint64_t count = 2; count <= most; count++) {
        uint64_t time = time_in_parts(b, node, want, kernel, count);
        if (time < least) {
            least = time;
            best = count;
        }
    }
    return best;
}

// Cuts the rows into parts, so that the workgroups of the longest sequence fill the device. tuning.def has the limits: fewest rows of a
// part (ssd_part_rows), most memory for the states of parts (part_states_mib).
static struct parts choose_parts(struct fm_build *b, uint32_t node_id)
{
    const struct fm_node *node = &b->graph->nodes[node_id];
    const struct fm_want *want = &b->want[node_id];
    const struct fm_kernel *kernel = b->kernel[node_id];
    uint32_t rows = want->param[FM_PARAM_ROWS], run = want->param[FM_PARAM_RUN], sequences = fm_emit_sequences(b, want);
    struct parts p = {.rows = run, .places = sequences, .xbc = FM_NONE, .starts = FM_NONE, .sums = FM_NONE};
    if (kernel->split <= 1)
        return p;
    uint64_t most_parts = fm_emit_most_parts(b, want, state_bytes(node));
    uint64_t most = FM_MIN(kernel->split, run / fm_tuning_of(b->caps)->ssd_part_rows);
    uint64_t count = count_parts(b, node, want, kernel, FM_MIN(most, most_parts));
    if (count < 2)
        return p;
    p.rows = part_rows(kernel, want, count);
    p.places = (uint32_t)((rows + (uint64_t)sequences * (p.rows - 1)) / p.rows);
    p.starts = fm_emit_buffer(b, p.places * state_bytes(node));
    p.sums = fm_emit_buffer(b, 4ull * p.places * node->attr.heads);
    return p;
}

static void emit_states(struct fm_build *b, uint32_t node_id, const struct parts *p)
{
    const struct fm_node *node = &b->graph->nodes[node_id];
    FM_DISPATCH_LAYOUT(FM_PUSH_SSD_STATES);
    struct fm_dispatch *d = begin_lowered(b, node_id, FM_OP_SSD_STATES, "/states", n_bind, n_words);
    if (d == NULL)
        return;
    fm_emit_bind(b, d, bind_segment, node->src[5], false);
    fm_emit_bind_buffer(b, d, bind_xbc, p->xbc, false);
    fm_emit_bind(b, d, bind_dt, node->src[1], false);
    fm_emit_bind(b, d, bind_a, node->src[2], false);
    fm_emit_bind(b, d, bind_dt_bias, node->src[4], false);
    fm_emit_bind_buffer(b, d, bind_z, p->starts, true);
    fm_emit_bind_buffer(b, d, bind_sums, p->sums, true);
    d->word[word_heads] = node->attr.heads;
    d->word[word_head] = node->attr.head;
    d->word[word_heads_x] = node->attr.heads_kv;
    d->word[word_groups_b] = node->attr.groups;
    d->word[word_groups_c] = node->attr.groups_c;
    d->word[word_part] = p->rows;
    fm_emit_grid(b, d, grid_x(d->kernel, &b->want[node_id]), p->places, 1);
}

static void emit_scan(struct fm_build *b, uint32_t node_id, const struct parts *p)
{
    const struct fm_node *node = &b->graph->nodes[node_id];
    FM_DISPATCH_LAYOUT(FM_PUSH_SSD_SCAN);
    struct fm_dispatch *d = begin_lowered(b, node_id, FM_OP_SSD_SCAN, "/scan", n_bind, n_words);
    if (d == NULL)
        return;
    fm_emit_bind(b, d, bind_segment, node->src[5], false);
    fm_emit_bind(b, d, bind_state, node->src[6], false);
    fm_emit_bind_buffer(b, d, bind_sums, p->sums, false);
    fm_emit_bind_buffer(b, d, bind_z, p->starts, true);
    d->word[word_heads] = node->attr.heads;
    d->word[word_elems] = node->attr.head * node->attr.state;
    d->word[word_versions] = fm_dim_resolve(FM_DIM_B, &b->dims);
    d->word[word_part] = p->rows;
    uint64_t elems = state_bytes(node) / 4, per_workgroup = 4ull * d->kernel->workgroup;
    fm_emit_grid(b, d, (elems + per_workgroup - 1) / per_workgroup, fm_emit_sequences(b, &b->want[node_id]), 1);
}

void fm_emit_ssd(struct fm_build *b, uint32_t node_id)
{
    const struct fm_node *node = &b->graph->nodes[node_id];
    const struct fm_want *want = &b->want[node_id];
    struct parts p = choose_parts(b, node_id);
    uint32_t stride;
    if (b->kernel[node_id]->x == FM_TYPE_F16) { // kernels demand multiples of 16, so the f16 form needs no padding
        p.xbc = fm_emit_cast(b, node_id, node->src[0], &stride);
        fm_emit_unpadded(b, node_id, node->src[0], stride);
    }
    if (p.starts != FM_NONE) {
        emit_states(b, node_id, &p);
        emit_scan(b, node_id, &p);
    }
    FM_DISPATCH_LAYOUT(FM_PUSH_SSD);
    struct fm_dispatch *d = fm_emit_begin(b, node_id, b->kernel[node_id], want, "", n_bind, n_words);
    if (d == NULL)
        return;
    uint32_t rows = want->param[FM_PARAM_ROWS];
    fm_emit_bind(b, d, bind_segment, node->src[5], false);
    if (p.xbc != FM_NONE)
        fm_emit_bind_buffer(b, d, bind_xbc, p.xbc, false);
    else
        fm_emit_bind(b, d, bind_xbc, node->src[0], false);
    fm_emit_bind(b, d, bind_dt, node->src[1], false);
    fm_emit_bind(b, d, bind_a, node->src[2], false);
    fm_emit_bind(b, d, bind_skip, node->src[3], false);
    fm_emit_bind(b, d, bind_dt_bias, node->src[4], false);
    fm_emit_bind(b, d, bind_state, node->dst[1], true);
    if (p.starts != FM_NONE)
        fm_emit_bind_buffer(b, d, bind_starts, p.starts, false);
    fm_emit_bind(b, d, bind_y, node->dst[0], true);
    d->word[word_heads] = node->attr.heads;
    d->word[word_head] = node->attr.head;
    d->word[word_heads_x] = node->attr.heads_kv;
    d->word[word_groups_b] = node->attr.groups;
    d->word[word_groups_c] = node->attr.groups_c;
    d->word[word_versions] = fm_dim_resolve(FM_DIM_B, &b->dims);
    d->word[word_kept] = fm_emit_kept_state_versions(b, want);
    d->word[word_part] = p.rows;
    // The state of one sequence is read and written; of every row x, b, c are read and y is written.
    d->moved_bytes = 2 * state_bytes(node) + (uint64_t)rows * ((d->kernel->x == FM_TYPE_F16 ? 2 : 4) * (uint64_t)want->param[FM_PARAM_K] +
                                                              4ull * want->param[FM_PARAM_N]);
    d->flops = 5.0 * rows * (double)(state_bytes(node) / 4); // of the recurrence, row by row: what a kernel does besides is not counted
    fm_emit_grid(b, d, grid_x(b->kernel[node_id], want), p.places, 1);
}

// Kernels of ssd_gate go row by row, so every sequence is one part and there is one dispatch.
void fm_emit_ssd_gate(struct fm_build *b, uint32_t node_id)
{
    const struct fm_node *node = &b->graph->nodes[node_id];
    const struct fm_want *want = &b->want[node_id];
    FM_DISPATCH_LAYOUT(FM_PUSH_SSD_GATE);
    struct fm_dispatch *d = fm_emit_begin(b, node_id, b->kernel[node_id], want, "", n_bind, n_words);
    if (d == NULL)
        return;
    uint32_t rows = want->param[FM_PARAM_ROWS];
    fm_emit_bind(b, d, bind_segment, node->src[5], false);
    fm_emit_bind(b, d, bind_xbc, node->src[0], false);
    fm_emit_bind(b, d, bind_dt, node->src[1], false);
    fm_emit_bind(b, d, bind_a, node->src[2], false);
    fm_emit_bind(b, d, bind_skip, node->src[3], false);
    fm_emit_bind(b, d, bind_dt_bias, node->src[4], false);
    fm_emit_bind(b, d, bind_z, node->src[7], false);
    fm_emit_bind(b, d, bind_state, node->dst[1], true);
    fm_emit_bind(b, d, bind_y, node->dst[0], true);
    d->word[word_heads] = node->attr.heads;
    d->word[word_head] = node->attr.head;
    d->word[word_heads_x] = node->attr.heads_kv;
    d->word[word_groups_b] = node->attr.groups;
    d->word[word_groups_c] = node->attr.groups_c;
    d->word[word_versions] = fm_dim_resolve(FM_DIM_B, &b->dims);
    d->word[word_kept] = fm_emit_kept_state_versions(b, want);
    d->moved_bytes = 2 * state_bytes(node) + 4ull * rows * (want->param[FM_PARAM_K] + 2 * (uint64_t)want->param[FM_PARAM_N]);
    d->flops = 5.0 * rows * (double)(state_bytes(node) / 4);
    fm_emit_grid(b, d, grid_x(b->kernel[node_id], want), fm_emit_sequences(b, want), 1);
}
