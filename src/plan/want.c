// SPDX-License-Identifier: MIT
// What a node asks of a kernel. Only sources are read: fusion asks before the results exist.
#include "plan/plan.h"

struct look {
    const struct fm_graph *graph;
    const struct fm_node *node;
    const struct fm_dims *dims;
};

static const struct fm_value *source(const struct look *l, unsigned i)
{
    return &l->graph->values[l->node->src[i]];
}

static uint32_t dim(const struct look *l, unsigned src, unsigned i)
{
    return fm_dim_resolve(source(l, src)->dims[i], l->dims);
}

static uint32_t common_divisor(uint32_t a, uint32_t b)
{
    while (b != 0) {
        uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static void set_width(struct fm_want *want, uint32_t n, uint32_t k)
{
    want->param[FM_PARAM_N] = n;
    want->param[FM_PARAM_K] = k;
}

// Heads and cache of attention and cache writing; `kc` is the operand that holds the keys' cache.
static enum fm_result want_cache(const struct look *l, unsigned kc, uint32_t heads, struct fm_want *want)
{
    const struct fm_attr *a = &l->node->attr;
    if (source(l, kc)->type != source(l, kc + 1)->type)
        return fm_fail(FM_UNSUPPORTED, "%s '%s': keys are kept as %s and values as %s, kernels read one format",
                       fm_op_info(l->node->op)->name, l->node->name, fm_type_info(source(l, kc)->type)->name,
                       fm_type_info(source(l, kc + 1)->type)->name);
    if (a->heads_kv == 0)
        return fm_fail(FM_ARG, "%s '%s': heads_kv is 0", fm_op_info(l->node->op)->name, l->node->name);
    if (source(l, kc)->type == FM_TYPE_Q8_0 && dim(l, kc, 2) % FM_CACHE_POSITIONS != 0)
        return fm_fail(FM_UNSUPPORTED, "%s '%s': a q8_0 cache of %u positions, expected a multiple of %u", fm_op_info(l->node->op)->name,
                       l->node->name, dim(l, kc, 2), FM_CACHE_POSITIONS);
    want->w = source(l, kc)->type;
    want->param[FM_PARAM_HEADS] = heads;
    want->param[FM_PARAM_HEAD] = a->head;
    want->param[FM_PARAM_HEADS_PER_KV] = heads / a->heads_kv;
    want->param[FM_PARAM_CTX] = dim(l, kc, 2);
    want->param[FM_PARAM_CHUNK] = a->chunk;
    return FM_OK;
}

// Parameters that depend on the op.
static enum fm_result want_by_op(const struct look *l, struct fm_want *want)
{
    const struct fm_attr *a = &l->node->attr;
    switch (l->node->op) {
    case FM_OP_TOKEN_FEED:
        want->x = FM_TYPE_NONE;
        want->param[FM_PARAM_CTX] = dim(l, 3, 1);
        return FM_OK;
    case FM_OP_EMBED:
        want->x = FM_TYPE_NONE;
        want->w = source(l, 0)->type;
        want->param[FM_PARAM_ROWS] = dim(l, 1, 0);
        set_width(want, dim(l, 0, 1), dim(l, 0, 1));
        return FM_OK;
    case FM_OP_MATMUL:
    case FM_OP_MATMUL_ADD:
    case FM_OP_MATMUL_GLU:
    case FM_OP_NORM_MATMUL:
    case FM_OP_NORM_MATMUL_ADD:
    case FM_OP_NORM_MATMUL_GLU:
    case FM_OP_MATMUL_CONV:
    case FM_OP_NORM_MATMUL_CONV:
        want->w = source(l, 1)->type;
        want->x_bytes = l->dims->x_bytes == 0 ? 2 : l->dims->x_bytes;
        set_width(want, dim(l, 1, 0), dim(l, 1, 1));
        if (l->node->op == FM_OP_MATMUL_CONV || l->node->op == FM_OP_NORM_MATMUL_CONV)
            want->param[FM_PARAM_STATE] = dim(l, l->node->op == FM_OP_MATMUL_CONV ? 2 : 3, 1);
        return FM_OK;
    case FM_OP_GATHER:
        want->param[FM_PARAM_ROWS] = dim(l, 1, 0);
        set_width(want, dim(l, 0, 1), dim(l, 0, 1));
        return FM_OK;
    case FM_OP_NORM_GATE: // HEAD: elements that share a mean
        set_width(want, dim(l, 0, 1), dim(l, 0, 1));
        want->param[FM_PARAM_HEAD] = a->groups == 0 ? 0 : dim(l, 0, 1) / a->groups;
        return FM_OK;
    case FM_OP_CONV1D: // HEAD: channels of a piece
        set_width(want, dim(l, 1, 0), dim(l, 0, 1));
        want->param[FM_PARAM_HEAD] = a->repeat > 1 ? a->head : dim(l, 0, 1);
        want->param[FM_PARAM_STATE] = dim(l, 1, 1);
        return FM_OK;
    case FM_OP_SELECTIVE_SCAN: // HEADS_PER_BC: channels that share a row of b, or that share a row of c: whichever are fewer
        set_width(want, dim(l, 0, 1), dim(l, 0, 1));
        want->param[FM_PARAM_STATE] = a->state;
        want->param[FM_PARAM_HEADS_PER_BC] = a->heads == 0 || a->heads_kv == 0 ? 0 : dim(l, 0, 1) / FM_MAX(a->heads, a->heads_kv);
        return FM_OK;
    case FM_OP_SCAN_STATES:
        set_width(want, dim(l, 0, 1), dim(l, 0, 1));
        want->param[FM_PARAM_STATE] = a->state;
        want->param[FM_PARAM_HEADS_PER_BC] = a->heads_kv == 0 ? 0 : dim(l, 0, 1) / a->heads_kv;
        return FM_OK;
    case FM_OP_SCAN_CARRY:
        set_width(want, dim(l, 0, 0), dim(l, 0, 0));
        want->param[FM_PARAM_STATE] = a->state;
        return FM_OK;
    case FM_OP_SSD_SCAN:
        set_width(want, a->heads * a->head, a->heads * a->head);
        want->param[FM_PARAM_HEADS] = a->heads;
        want->param[FM_PARAM_HEAD] = a->head;
        want->param[FM_PARAM_STATE] = a->state;
        return FM_OK;
    case FM_OP_SSD_STATES:
    case FM_OP_SSD_GATE:
    case FM_OP_SSD:
        set_width(want, a->heads * a->head, dim(l, 0, 1));
        want->param[FM_PARAM_HEADS] = a->heads;
        want->param[FM_PARAM_HEAD] = a->head;
        want->param[FM_PARAM_STATE] = a->state;
        if (a->groups != 0 && a->groups_c != 0)
            want->param[FM_PARAM_HEADS_PER_BC] = common_divisor(a->heads / a->groups, a->heads / a->groups_c);
        return FM_OK;
    case FM_OP_LINEAR_ATTEND:
    case FM_OP_LINEAR_STATES:
        set_width(want, dim(l, 1, 1), dim(l, 0, 1));
        want->param[FM_PARAM_HEADS] = a->heads;
        want->param[FM_PARAM_HEAD] = a->head;
        want->param[FM_PARAM_STATE] = a->state;
        return FM_OK;
    case FM_OP_LRPE:
        set_width(want, 2 * dim(l, 0, 1), dim(l, 0, 1));
        want->param[FM_PARAM_HEADS] = a->heads;
        want->param[FM_PARAM_HEAD] = a->head;
        return FM_OK;
    case FM_OP_ROPE:
        want->param[FM_PARAM_HEADS] = a->heads;
        want->param[FM_PARAM_CHUNK] = a->chunk;
        want->param[FM_PARAM_HEAD] = a->head;
        set_width(want, dim(l, 0, 1), dim(l, 0, 1));
        return FM_OK;
    case FM_OP_KV_WRITE:
        set_width(want, dim(l, 0, 1), dim(l, 0, 1));
        return want_cache(l, 4, a->heads_kv, want);
    case FM_OP_ROPE_KV_WRITE:
        set_width(want, dim(l, 0, 1), dim(l, 0, 1));
        return want_cache(l, 6, a->heads, want);
    case FM_OP_ROPE_ATTEND:
        set_width(want, a->heads * a->head, dim(l, 0, 1));
        want->param[FM_PARAM_ROTATED] = a->rotated;
        return want_cache(l, 6, a->heads, want);
    case FM_OP_ATTEND:
        set_width(want, a->heads * a->head, dim(l, 0, 1));
        return want_cache(l, 1, a->heads, want);
    case FM_OP_SAMPLE:
        set_width(want, dim(l, 0, 1), dim(l, 0, 1));
        want->param[FM_PARAM_CTX] = dim(l, 5, 1);
        return FM_OK;
    case FM_OP_LINEAR_SCAN:
        want->param[FM_PARAM_HEADS] = a->heads;
        want->param[FM_PARAM_HEAD] = a->head;
        want->param[FM_PARAM_STATE] = a->state;
        set_width(want, a->heads * a->head, a->heads * a->state);
        return FM_OK;
    case FM_OP_DEQUANTIZE:
        want->x = FM_TYPE_NONE;
        want->w = source(l, 0)->type;
        set_width(want, dim(l, 0, 0), dim(l, 0, 1));
        return FM_OK;
    case FM_OP_NORM:
    case FM_OP_ADD_NORM:
    case FM_OP_GLU:
    case FM_OP_ACT:
    case FM_OP_ADD:
    case FM_OP_CAST:
    case FM_OP_CAST_INT:
    case FM_OP_READ_SUM:
        set_width(want, dim(l, 0, 1), dim(l, 0, 1));
        return FM_OK;
    case FM_OP_COUNT:
        break;
    }
    return fm_fail(FM_ARG, "node '%s' has no op", l->node->name);
}

enum fm_result fm_want_from_node(const struct fm_graph *graph, const struct fm_node *node, const struct fm_dims *dims,
                                 const struct fm_caps *caps, struct fm_want *out_want)
{
    struct look look = {.graph = graph, .node = node, .dims = dims};
    struct fm_want want = {.op = node->op, .x = FM_TYPE_F32, .w = FM_TYPE_NONE};
    want.param[FM_PARAM_ROWS] = dim(&look, 0, 0);
    want.param[FM_PARAM_RUN] = fm_dims_run(dims);
    want.param[FM_PARAM_SUBGROUP] = caps->subgroup_size;
    want.param[FM_PARAM_CORES] = caps->cores;
    enum fm_result result = want_by_op(&look, &want);
    if (result == FM_OK)
        *out_want = want;
    return result;
}
