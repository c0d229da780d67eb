// SPDX-License-Identifier: MIT
// From nodes to dispatches: the table of emitters, and what they share.
#include "plan/build.h"

#include "shaders/lib/abi.h"

#define LARGEST_GRID 65535u // every Vulkan device can do this much
#define COUNTER_ALIGN_BYTES 64u

static fm_emit_fn emit_cast_node, emit_dequantize_node;

// Lowered ops come into being inside the emitters of others. Two can be nodes all the same, in the one-node graphs of
// the kernel suite, which nothing validates.
static fm_emit_fn *const emitters[FM_OP_COUNT] = {
    [FM_OP_TOKEN_FEED] = fm_emit_token_feed,
    [FM_OP_EMBED] = fm_emit_embed,
    [FM_OP_NORM] = fm_emit_norm,
    [FM_OP_MATMUL] = fm_emit_matmul,
    [FM_OP_ROPE] = fm_emit_rope,
    [FM_OP_KV_WRITE] = fm_emit_kv_write,
    [FM_OP_ATTEND] = fm_emit_attend,
    [FM_OP_GLU] = fm_emit_glu,
    [FM_OP_ACT] = fm_emit_act,
    [FM_OP_ADD] = fm_emit_add,
    [FM_OP_GATHER] = fm_emit_gather,
    [FM_OP_SAMPLE] = fm_emit_sample,
    [FM_OP_CONV1D] = fm_emit_conv1d,
    [FM_OP_SELECTIVE_SCAN] = fm_emit_selective_scan,
    [FM_OP_LINEAR_ATTEND] = fm_emit_linear_attend,
    [FM_OP_LRPE] = fm_emit_lrpe,
    [FM_OP_NORM_GATE] = fm_emit_norm_gate,
    [FM_OP_SSD] = fm_emit_ssd,
    [FM_OP_SSD_GATE] = fm_emit_ssd_gate,
    [FM_OP_MATMUL_ADD] = fm_emit_matmul,
    [FM_OP_MATMUL_GLU] = fm_emit_matmul_glu,
    [FM_OP_NORM_MATMUL] = fm_emit_norm_matmul,
    [FM_OP_NORM_MATMUL_ADD] = fm_emit_norm_matmul,
    [FM_OP_NORM_MATMUL_GLU] = fm_emit_norm_matmul_glu,
    [FM_OP_MATMUL_CONV] = fm_emit_matmul_conv,
    [FM_OP_NORM_MATMUL_CONV] = fm_emit_matmul_conv,
    [FM_OP_ROPE_KV_WRITE] = fm_emit_rope_kv_write,
    [FM_OP_ROPE_ATTEND] = fm_emit_rope_attend,
    [FM_OP_ADD_NORM] = fm_emit_add_norm,
    [FM_OP_CAST] = emit_cast_node,
    [FM_OP_DEQUANTIZE] = emit_dequantize_node,
};

fm_emit_fn *fm_emit_of(enum fm_op op)
{
    return (unsigned)op < FM_OP_COUNT ? emitters[op] : NULL;
}

void fm_build_fail(struct fm_build *b, enum fm_result result)
{
    if (b->error == FM_OK)
        b->error = result;
}

uint64_t fm_emit_workgroups(const struct fm_build *b, uint32_t per_core)
{
    return b->caps->cores != 0 ? (uint64_t)per_core * b->caps->cores : fm_tuning_of(b->caps)->workgroups_unknown;
}

// All sequences together have rows / run times the parts of the longest, and one more each.
uint64_t fm_emit_most_parts(const struct fm_build *b, const struct fm_want *want, uint64_t state_bytes)
{
    uint64_t places = ((uint64_t)fm_tuning_of(b->caps)->part_states_mib << 20) / state_bytes, sequences = fm_emit_sequences(b, want);
    return places > sequences ? (places - sequences) * want->param[FM_PARAM_RUN] / want->param[FM_PARAM_ROWS] : 0;
}

uint32_t fm_emit_sequences(const struct fm_build *b, const struct fm_want *want)
{
    return FM_MIN(want->param[FM_PARAM_ROWS], b->dims.s);
}

uint32_t fm_emit_kept_state_versions(const struct fm_build *b, const struct fm_want *want)
{
    return want->param[FM_PARAM_RUN] <= FM_STATE_VERSION_ROWS ? fm_dim_resolve(FM_DIM_B, &b->dims) : 1;
}

uint32_t fm_float_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

uint32_t fm_emit_tile(uint32_t tile, const struct fm_want *want, uint32_t otherwise)
{
    uint32_t value = fm_kernel_tile(tile, want);
    return value == 0 ? otherwise : value;
}

uint32_t fm_emit_rows_word(const struct fm_build *b, uint32_t value)
{
    return b->graph->values[value].dims[0] == FM_DIM_O ? FM_STEP_OUTPUTS : FM_STEP_TOKENS;
}

static bool reserve_dispatch(struct fm_build *b)
{
    void *list = b->dispatches;
    enum fm_result result = fm_array_reserve(&list, &b->cap_dispatches, b->n_dispatches + 1, sizeof(*b->dispatches));
    b->dispatches = list;
    fm_build_fail(b, result);
    return result == FM_OK;
}

struct fm_dispatch *fm_emit_begin(struct fm_build *b, uint32_t node, const struct fm_kernel *kernel,
                                  const struct fm_want *want, const char *suffix, uint32_t n_bind, uint32_t n_words)
{
    if (b->error != FM_OK || !reserve_dispatch(b))
        return NULL;
    struct fm_dispatch *d = &b->dispatches[b->n_dispatches];
    *d = (struct fm_dispatch){.kernel = kernel, .node = node, .n_bind = n_bind, .n_words = n_words, .n_spec = kernel->n_specs};
    d->name = fm_arena_printf(&b->plan->arena, "%s%s", b->graph->nodes[node].name, suffix);
    if (d->name == NULL) {
        fm_build_fail(b, fm_nomem());
        return NULL;
    }
    for (uint32_t i = 0; i < kernel->n_specs; i++) {
        const struct fm_spec *spec = &kernel->spec[i];
        d->spec[i].id = spec->id;
        d->spec[i].value = spec->param < FM_PARAM_COUNT ? want->param[spec->param] : spec->value;
    }
    if (kernel->y == FM_TYPE_F16 && b->graph->values[fm_plan_narrow_result(&b->graph->nodes[node])].type == FM_TYPE_F16) {
        d->spec[d->n_spec].id = FM_SPEC_HALVES;
        d->spec[d->n_spec++].value = 1;
    }
    for (uint32_t i = 0; i < FM_MAX_BIND; i++)
        d->bind[i].pool = FM_POOL_NONE;
    d->bind[0] = (struct fm_binding){.pool = FM_POOL_STEP, .bytes = FM_STEP_HEADER_WORDS * 4};
    b->n_dispatches++;
    return d;
}

void fm_emit_bind_buffer(struct fm_build *b, struct fm_dispatch *d, uint32_t at, uint32_t buffer, bool written)
{
    if (b->error != FM_OK)
        return;
    struct fm_plan_buffer *buf = &b->buffers[buffer];
    uint32_t index = (uint32_t)(d - b->dispatches);
    if (buf->first == FM_NONE)
        buf->first = index;
    buf->last = FM_MAX(buf->last, index);
    d->bind[at] = (struct fm_binding){.pool = FM_POOL_ARENA, .written = written, .offset = buffer, .bytes = buf->bytes};
    d->moved_bytes += buf->bytes;
}

void fm_emit_bind(struct fm_build *b, struct fm_dispatch *d, uint32_t at, uint32_t value, bool written)
{
    if (b->error != FM_OK)
        return;
    if (b->value_buffer[value] != FM_NONE) {
        fm_emit_bind_buffer(b, d, at, b->value_buffer[value], written);
        return;
    }
    const struct fm_place *place = &b->plan->place[value];
    if (place->pool == FM_POOL_NONE) {
        fm_build_fail(b, fm_fail(FM_ARG, "node '%s': value '%s' has no place in the layout", d->name,
                                 b->graph->values[value].name));
        return;
    }
    d->bind[at] = (struct fm_binding){.pool = (uint8_t)place->pool, .written = written, .offset = place->offset,
                                      .bytes = place->bytes};
    // Of a state, and of a table that is looked up, a step moves a part only: the emitter counts it.
    enum fm_value_kind kind = b->graph->values[value].kind;
    if (kind != FM_VALUE_STATE && kind != FM_VALUE_WEIGHT && kind != FM_VALUE_CONST)
        d->moved_bytes += place->bytes;
}

void fm_emit_bind_counters(struct fm_build *b, struct fm_dispatch *d, uint32_t at, uint32_t count)
{
    if (b->error != FM_OK)
        return;
    uint32_t bytes = fm_ceil_div_u32(4 * count, COUNTER_ALIGN_BYTES) * COUNTER_ALIGN_BYTES;
    if (bytes > FM_COUNTER_BYTES - b->next_counter)
        b->next_counter = 0;
    d->bind[at] = (struct fm_binding){.pool = FM_POOL_COUNTER, .written = true, .offset = b->next_counter, .bytes = 4ull * count};
    b->next_counter += bytes;
}

void fm_emit_grid(struct fm_build *b, struct fm_dispatch *d, uint64_t x, uint64_t y, uint64_t z)
{
    if (b->error != FM_OK)
        return;
    const uint64_t grid[3] = {x, y, z};
    for (unsigned i = 0; i < 3; i++) {
        uint32_t largest = b->caps->max_workgroups[i] == 0 ? LARGEST_GRID : FM_MIN(LARGEST_GRID, b->caps->max_workgroups[i]);
        if (grid[i] == 0 || grid[i] > largest) {
            fm_build_fail(b, fm_fail(FM_UNSUPPORTED, "%s: %s needs a grid of %llu x %llu x %llu workgroups, the %c is not in 1..%u",
                                     d->name, d->kernel->name, (unsigned long long)x, (unsigned long long)y,
                                     (unsigned long long)z, "xyz"[i], largest));
            return;
        }
        d->grid[i] = (uint32_t)grid[i];
    }
}

static uint64_t ceil_div(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

void fm_emit_grid_elements(struct fm_build *b, struct fm_dispatch *d, const struct fm_want *want, uint64_t width, uint64_t rows)
{
    uint32_t tile_cols = fm_emit_tile(d->kernel->tile_cols, want, d->kernel->workgroup);
    uint32_t tile_rows = fm_emit_tile(d->kernel->tile_rows, want, 1);
    fm_emit_grid(b, d, ceil_div(width, tile_cols), ceil_div(rows, tile_rows), 1);
}

uint32_t fm_emit_buffer(struct fm_build *b, uint64_t bytes)
{
    if (b->error != FM_OK)
        return FM_NONE;
    void *list = b->buffers;
    enum fm_result result = fm_array_reserve(&list, &b->cap_buffers, b->n_buffers + 1, sizeof(*b->buffers));
    b->buffers = list;
    fm_build_fail(b, result);
    if (result != FM_OK)
        return FM_NONE;
    b->buffers[b->n_buffers] = (struct fm_plan_buffer){.bytes = bytes, .first = FM_NONE};
    return (uint32_t)b->n_buffers++;
}

static const struct fm_kernel *cast_kernel(struct fm_build *b, uint32_t node, struct fm_want *want)
{
    const struct fm_kernel *force = b->options.force;
    const struct fm_kernel *kernel = force != NULL && force->op == FM_OP_CAST && fm_kernel_fits(b->caps, force, want, NULL, NULL)
                                         ? force
                                         : fm_selector_get(b->selector, want);
    if (kernel == NULL)
        fm_build_fail(b, fm_fail(FM_UNSUPPORTED, "node '%s': %s wants f16 activations, and no kernel casts rows of %u here",
                                 b->graph->nodes[node].name, b->kernel[node]->name, want->param[FM_PARAM_K]));
    return kernel;
}

// value [rows,K] f32 -> buffer [pad_rows,stride] f16
static void dispatch_cast(struct fm_build *b, uint32_t node, const struct fm_kernel *kernel, const struct fm_want *want,
                          const char *suffix, uint32_t value, uint32_t buffer, uint32_t stride, uint32_t pad_rows)
{
    FM_DISPATCH_LAYOUT(FM_PUSH_CAST);
    struct fm_dispatch *d = fm_emit_begin(b, node, kernel, want, suffix, n_bind, n_words);
    if (d == NULL)
        return;
    fm_emit_bind(b, d, bind_x, value, false);
    fm_emit_bind_buffer(b, d, bind_y, buffer, true);
    d->word[word_width] = want->param[FM_PARAM_K];
    d->word[word_stride_y] = stride;
    d->word[word_rows_word] = fm_emit_rows_word(b, value);
    d->word[word_pad_rows] = pad_rows;
    fm_emit_grid_elements(b, d, want, stride, want->param[FM_PARAM_ROWS]);
}

static void emit_cast_node(struct fm_build *b, uint32_t node_id)
{
    const struct fm_node *node = &b->graph->nodes[node_id];
    const struct fm_want *want = &b->want[node_id];
    uint32_t width = want->param[FM_PARAM_K];
    if (width % FM_CAST_ALIGN_ELEMS != 0) {
        fm_build_fail(b, fm_fail(FM_UNSUPPORTED, "node '%s': rows of %u halves, expected a multiple of %u", node->name, width,
                                 FM_CAST_ALIGN_ELEMS));
        return;
    }
    dispatch_cast(b, node_id, b->kernel[node_id], want, "", node->src[0], b->value_buffer[node->dst[0]], width, 1);
}

uint32_t fm_emit_cast(struct fm_build *b, uint32_t node, uint32_t value, uint32_t *out_stride)
{
    struct fm_plan_cast *cast = &b->casts[value];
    const struct fm_value *v = &b->graph->values[value];
    uint32_t width = fm_dim_resolve(v->dims[1], &b->dims);
    *out_stride = v->type == FM_TYPE_F16 ? width : cast->stride;
    if (v->type == FM_TYPE_F16)
        return b->value_buffer[value];
    if (b->error != FM_OK || cast->buffer != FM_NONE)
        return cast->buffer;
    struct fm_want want = {.op = FM_OP_CAST, .x = FM_TYPE_F32, .w = FM_TYPE_NONE};
    want.param[FM_PARAM_ROWS] = cast->pad_rows;
    want.param[FM_PARAM_N] = want.param[FM_PARAM_K] = width;
    want.param[FM_PARAM_SUBGROUP] = b->caps->subgroup_size;
    want.param[FM_PARAM_CORES] = b->caps->cores;
    const struct fm_kernel *kernel = cast_kernel(b, node, &want);
    if (kernel == NULL)
        return FM_NONE;
    uint64_t bytes;
    if (!fm_mul_u64((uint64_t)cast->pad_rows * 2, cast->stride, &bytes)) {
        fm_build_fail(b, fm_fail(FM_NOSPACE, "node '%s': its f16 input overflows", b->graph->nodes[node].name));
        return FM_NONE;
    }
    cast->buffer = fm_emit_buffer(b, bytes);
    dispatch_cast(b, node, kernel, &want, "/cast", value, cast->buffer, cast->stride, cast->pad_rows);
    return cast->buffer;
}

void fm_emit_unpadded(struct fm_build *b, uint32_t node, uint32_t value, uint32_t stride)
{
    uint32_t width = fm_dim_resolve(b->graph->values[value].dims[1], &b->dims);
    if (b->error == FM_OK && stride != width)
        fm_build_fail(b, fm_fail(FM_UNSUPPORTED, "node '%s': an operand of rows of %u as f16 has rows of %u", b->graph->nodes[node].name,
                                 width, stride));
}

uint32_t fm_emit_cast_int(struct fm_build *b, uint32_t node, uint32_t value, uint32_t bytes, uint32_t *out_stride)
{
    uint32_t *buffer = &b->ints[value].buffer[bytes - 1];
    const struct fm_value *v = &b->graph->values[value];
    uint32_t width = fm_dim_resolve(v->dims[1], &b->dims), rows = fm_dim_resolve(v->dims[0], &b->dims), blocks = width / 32;
    *out_stride = 2 * bytes * blocks + (blocks + 1) / 2;
    if (b->error != FM_OK || *buffer != FM_NONE)
        return *buffer;
    struct fm_want want = {.op = FM_OP_CAST_INT, .x = FM_TYPE_F32, .w = FM_TYPE_NONE};
    want.param[FM_PARAM_ROWS] = rows;
    want.param[FM_PARAM_N] = want.param[FM_PARAM_K] = width;
    want.param[FM_PARAM_SUBGROUP] = b->caps->subgroup_size;
    want.param[FM_PARAM_CORES] = b->caps->cores;
    const struct fm_kernel *kernel = fm_selector_get(b->selector, &want); // one exists: the product's kernel was chosen
    *buffer = fm_emit_buffer(b, 16ull * rows * *out_stride);
    FM_DISPATCH_LAYOUT(FM_PUSH_CAST_INT);
    struct fm_dispatch *d = fm_emit_begin(b, node, kernel, &want, "/cast_int", n_bind, n_words);
    if (d == NULL)
        return FM_NONE;
    fm_emit_bind(b, d, bind_x, value, false);
    fm_emit_bind_buffer(b, d, bind_y, *buffer, true);
    d->word[word_width] = width;
    d->word[word_stride_y] = *out_stride;
    d->word[word_rows_word] = fm_emit_rows_word(b, value);
    d->word[word_bytes] = bytes;
    fm_emit_grid_elements(b, d, &want, width, rows);
    return *buffer;
}

uint32_t fm_emit_copy(struct fm_build *b, uint32_t node, uint32_t value)
{
    struct fm_plan_cast *cast = &b->casts[value];
    uint64_t bytes = 2ull * b->want[node].param[FM_PARAM_ROWS];
    if (!b->kernel[node]->copy || cast->consumers == 0 || cast->stride != b->graph->values[value].dims[1])
        return FM_NONE;
    if (!fm_mul_u64(bytes, cast->stride, &bytes))
        fm_build_fail(b, fm_fail(FM_NOSPACE, "node '%s': its f16 copy overflows", b->graph->nodes[node].name));
    cast->buffer = fm_emit_buffer(b, bytes);
    return cast->buffer;
}

// value [N,K] quantised -> buffer [N,K] f16
static void dispatch_dequantize(struct fm_build *b, uint32_t node, const struct fm_kernel *kernel, const struct fm_want *want,
                                const char *suffix, uint32_t value, uint32_t buffer)
{
    uint32_t n = want->param[FM_PARAM_N], k = want->param[FM_PARAM_K];
    FM_DISPATCH_LAYOUT(FM_PUSH_DEQUANTIZE);
    struct fm_dispatch *d = fm_emit_begin(b, node, kernel, want, suffix, n_bind, n_words);
    if (d == NULL)
        return;
    fm_emit_bind(b, d, bind_w, value, false);
    fm_emit_bind_buffer(b, d, bind_y, buffer, true);
    d->word[word_n] = n;
    d->word[word_k] = k;
    d->moved_bytes += d->bind[bind_w].bytes;
    // Half blocks, one per invocation, in as many rows of workgroups as the grid's limit asks for.
    uint64_t workgroups = ((uint64_t)n * k / 16 + kernel->workgroup - 1) / kernel->workgroup;
    uint64_t across = FM_MIN(workgroups, LARGEST_GRID);
    fm_emit_grid(b, d, across, (workgroups + across - 1) / across, 1);
}

static void emit_dequantize_node(struct fm_build *b, uint32_t node_id)
{
    const struct fm_node *node = &b->graph->nodes[node_id];
    dispatch_dequantize(b, node_id, b->kernel[node_id], &b->want[node_id], "", node->src[0], b->value_buffer[node->dst[0]]);
}

uint32_t fm_emit_dequantize(struct fm_build *b, uint32_t node, uint32_t value)
{
    if (b->error != FM_OK || b->dequantized[value] != FM_NONE)
        return b->dequantized[value];
    const struct fm_value *v = &b->graph->values[value];
    struct fm_want want = {.op = FM_OP_DEQUANTIZE, .x = FM_TYPE_NONE, .w = v->type};
    want.param[FM_PARAM_ROWS] = want.param[FM_PARAM_N] = v->dims[0];
    want.param[FM_PARAM_K] = v->dims[1];
    want.param[FM_PARAM_SUBGROUP] = b->caps->subgroup_size;
    want.param[FM_PARAM_CORES] = b->caps->cores;
    const struct fm_kernel *kernel = fm_selector_get(b->selector, &want);
    if (kernel == NULL) {
        fm_build_fail(b, fm_fail(FM_UNSUPPORTED, "node '%s': %s wants dequantised weights, and no kernel dequantises %s here",
                                 b->graph->nodes[node].name, b->kernel[node]->name, fm_type_info(v->type)->name));
        return FM_NONE;
    }
    b->dequantized[value] = fm_emit_buffer(b, 2ull * v->dims[0] * v->dims[1]);
    dispatch_dequantize(b, node, kernel, &want, "/dequantize", value, b->dequantized[value]);
    return b->dequantized[value];
}
