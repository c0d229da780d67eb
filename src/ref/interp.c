// SPDX-License-Identifier: MIT
// Runs a graph on the references.
#include "ref/ref_ops.h"

struct fm_ref {
    const struct fm_graph *graph;
    struct fm_dims dims;
    struct fm_ref_tensor *tensors; // one per value
    double *scratch;
};

static fm_ref_fn *const functions[FM_OP_COUNT] = {
    [FM_OP_TOKEN_FEED] = fm_ref_token_feed, [FM_OP_EMBED] = fm_ref_embed,
    [FM_OP_NORM] = fm_ref_norm,             [FM_OP_MATMUL] = fm_ref_matmul,
    [FM_OP_ROPE] = fm_ref_rope,             [FM_OP_KV_WRITE] = fm_ref_kv_write,
    [FM_OP_ATTEND] = fm_ref_attend,         [FM_OP_GLU] = fm_ref_glu_op,
    [FM_OP_ACT] = fm_ref_act_op,            [FM_OP_ADD] = fm_ref_add,
    [FM_OP_GATHER] = fm_ref_gather,         [FM_OP_SAMPLE] = fm_ref_sample,
    [FM_OP_MATMUL_ADD] = fm_ref_matmul_add, [FM_OP_MATMUL_GLU] = fm_ref_matmul_glu,
    [FM_OP_SSD_GATE] = fm_ref_ssd_gate,
    [FM_OP_NORM_MATMUL] = fm_ref_norm_matmul, [FM_OP_NORM_MATMUL_ADD] = fm_ref_norm_matmul_add,
    [FM_OP_NORM_MATMUL_GLU] = fm_ref_norm_matmul_glu,
    [FM_OP_MATMUL_CONV] = fm_ref_matmul_conv, [FM_OP_NORM_MATMUL_CONV] = fm_ref_norm_matmul_conv,
    [FM_OP_ROPE_KV_WRITE] = fm_ref_rope_kv_write, [FM_OP_ADD_NORM] = fm_ref_add_norm,
    [FM_OP_CAST_INT] = fm_ref_cast_int,
    [FM_OP_CAST] = fm_ref_cast,             [FM_OP_ROPE_ATTEND] = fm_ref_rope_attend,
    [FM_OP_NORM_GATE] = fm_ref_norm_gate,   [FM_OP_CONV1D] = fm_ref_conv1d,
    [FM_OP_SELECTIVE_SCAN] = fm_ref_selective_scan, [FM_OP_SSD] = fm_ref_ssd,
    [FM_OP_LINEAR_ATTEND] = fm_ref_linear_attend, [FM_OP_LRPE] = fm_ref_lrpe,
    [FM_OP_LINEAR_STATES] = fm_ref_linear_states, [FM_OP_LINEAR_SCAN] = fm_ref_linear_scan,
    [FM_OP_SCAN_STATES] = fm_ref_scan_states, [FM_OP_SCAN_CARRY] = fm_ref_scan_carry,
    [FM_OP_SSD_STATES] = fm_ref_ssd_states, [FM_OP_SSD_SCAN] = fm_ref_ssd_scan,
    [FM_OP_READ_SUM] = fm_ref_read_sum,     [FM_OP_DEQUANTIZE] = fm_ref_cast, // of weights decoded before
};

fm_ref_fn *fm_ref_of(enum fm_op op)
{
    return functions[op];
}

static bool is_conv_of_product(enum fm_op op)
{
    return op == FM_OP_MATMUL_CONV || op == FM_OP_NORM_MATMUL_CONV;
}

uint64_t fm_ref_scratch_elems(const struct fm_graph *graph, const struct fm_node *node)
{
    // Recurrences keep one version of their state, [S,B,rows,width], three times; behind it a convolution's product, and a normed
    // row before that, each with its error scale.
    for (unsigned d = 0; d < node->n_dst; d++) {
        const struct fm_value *v = &graph->values[node->dst[d]], *w = &graph->values[node->src[1]];
        if (v->kind == FM_VALUE_STATE && v->n_dims == 4 && v->dims[1] == FM_DIM_B)
            return 3 * (uint64_t)v->dims[2] * v->dims[3] + (is_conv_of_product(node->op) ? 2 * ((uint64_t)w->dims[0] + w->dims[1]) : 0);
    }
    switch (node->op) {
    case FM_OP_ROPE_ATTEND: // the rotated heads of a row, and their error scales
        return 2 * (uint64_t)node->attr.heads * node->attr.head;
    case FM_OP_SAMPLE:
        return 2 * (uint64_t)node->attr.vocab;
    case FM_OP_NORM_MATMUL:
    case FM_OP_NORM_MATMUL_ADD:
    case FM_OP_NORM_MATMUL_GLU: // a normed row and its error scale
        return 2 * (uint64_t)graph->values[node->src[0]].dims[1];
    default:
        return 0;
    }
}

// dims and elems of a tensor, and its memory unless it shares that of `root`.
static enum fm_result make_tensor(struct fm_ref *ref, uint32_t id)
{
    const struct fm_value *value = &ref->graph->values[id];
    struct fm_ref_tensor *t = &ref->tensors[id];
    if (value->kind == FM_VALUE_DEAD)
        return FM_OK;
    t->n_dims = value->n_dims;
    for (unsigned i = 0; i < value->n_dims; i++)
        t->dims[i] = fm_dim_resolve(value->dims[i], &ref->dims);
    if (!fm_value_elems(value, &ref->dims, &t->elems) || t->elems > SIZE_MAX / sizeof(double))
        return fm_fail(FM_ARG, "reference of '%s': too many elements", value->name);
    if (value->alias != FM_NONE)
        return FM_OK;
    bool source = value->producer == FM_NONE && value->kind != FM_VALUE_STATE;
    t->v = fm_alloc_zero(FM_MAX((size_t)t->elems, 1), sizeof(double));
    t->mag = source ? NULL : fm_alloc_zero(FM_MAX((size_t)t->elems, 1), sizeof(double));
    return t->v && (source || t->mag) ? FM_OK : fm_nomem();
}

enum fm_result fm_ref_create(const struct fm_graph *graph, const struct fm_dims *dims, struct fm_ref **out_ref)
{
    struct fm_ref *ref = fm_alloc_zero(1, sizeof(*ref));
    if (!ref)
        return fm_nomem();
    ref->graph = graph;
    ref->dims = *dims;
    ref->tensors = fm_alloc_zero(FM_MAX(graph->n_values, 1), sizeof(*ref->tensors));
    enum fm_result r = ref->tensors ? FM_OK : fm_nomem();
    for (uint32_t i = 0; i < graph->n_values && r == FM_OK; i++)
        r = make_tensor(ref, i);
    uint64_t scratch = 0;
    for (size_t i = 0; i < graph->n_nodes; i++)
        scratch = FM_MAX(scratch, fm_ref_scratch_elems(graph, &graph->nodes[i]));
    if (r == FM_OK && scratch > 0 && !(ref->scratch = fm_alloc_zero((size_t)scratch, sizeof(double))))
        r = fm_nomem();
    if (r != FM_OK) {
        fm_ref_destroy(&ref);
        return r;
    }
    for (uint32_t i = 0; i < graph->n_values; i++) {
        const struct fm_value *value = &graph->values[i];
        if (value->alias != FM_NONE) {
            ref->tensors[i].v = ref->tensors[value->alias].v;
            ref->tensors[i].mag = ref->tensors[value->alias].mag;
        }
        if (value->kind == FM_VALUE_CONST)
            fm_ref_set_encoded(ref, i, value->of.data);
    }
    *out_ref = ref;
    return FM_OK;
}

void fm_ref_destroy(struct fm_ref **ref)
{
    if (!ref || !*ref)
        return;
    struct fm_ref *r = *ref;
    for (size_t i = 0; r->tensors && i < r->graph->n_values; i++)
        if (r->graph->values[i].alias == FM_NONE) {
            fm_free(r->tensors[i].v);
            fm_free(r->tensors[i].mag);
        }
    fm_free(r->tensors);
    fm_free(r->scratch);
    fm_free(r);
    *ref = NULL;
}

struct fm_ref_tensor *fm_ref_tensor(struct fm_ref *ref, uint32_t value)
{
    return &ref->tensors[value];
}

// Elements decoded at a time: a multiple of every format's block.
#define PIECE_ELEMS 1024

void fm_ref_set_encoded(struct fm_ref *ref, uint32_t value, const void *data)
{
    enum fm_type type = ref->graph->values[value].type;
    const struct fm_type_info *info = fm_type_info(type);
    struct fm_ref_tensor *t = &ref->tensors[value];
    const uint8_t *bytes = data;
    float piece[PIECE_ELEMS];
    for (uint64_t at = 0; at < t->elems; at += PIECE_ELEMS) {
        uint64_t count = FM_MIN(t->elems - at, PIECE_ELEMS);
        if (type == FM_TYPE_I32) {
            for (uint64_t i = 0; i < count; i++) {
                uint32_t word;
                memcpy(&word, bytes + (at + i) * sizeof(word), sizeof(word));
                t->v[at + i] = (double)word;
            }
            continue;
        }
        fm_quant_decode(type, bytes + at / info->block_elems * info->block_bytes, count, piece);
        for (uint64_t i = 0; i < count; i++)
            t->v[at + i] = (double)piece[i];
    }
}

void fm_ref_run(struct fm_ref *ref)
{
    fm_ref_run_with(ref, NULL, NULL);
}

void fm_ref_run_with(struct fm_ref *ref, fm_ref_before_fn *before, void *user)
{
    for (size_t i = 0; i < ref->graph->n_nodes; i++) {
        const struct fm_node *node = &ref->graph->nodes[i];
        struct fm_ref_call call = {.graph = ref->graph, .node = node, .dims = ref->dims, .scratch = ref->scratch};
        for (unsigned s = 0; s < node->n_src; s++)
            call.src[s] = &ref->tensors[node->src[s]];
        for (unsigned d = 0; d < node->n_dst; d++)
            call.dst[d] = &ref->tensors[node->dst[d]];
        if (before)
            before(user, &call);
        fm_ref_of(node->op)(&call);
    }
}
