// SPDX-License-Identifier: MIT
#include "graph/graph.h"

#include "graph/shape.h"

#include <stdio.h>

static const struct fm_op_info op_infos[FM_OP_COUNT] = {
#define X(id, name, min_src, max_src, n_dst, flags) [FM_OP_##id] = {name, min_src, max_src, n_dst, flags},
#include "graph/ops.def"
#undef X
};

const struct fm_op_info *fm_op_info(enum fm_op op)
{
    return &op_infos[op];
}

enum fm_op fm_op_from_name(const char *name)
{
    for (int i = 0; i < FM_OP_COUNT; i++)
        if (strcmp(op_infos[i].name, name) == 0)
            return (enum fm_op)i;
    return FM_OP_COUNT;
}

void fm_graph_finish(struct fm_graph *graph)
{
    fm_arena_finish(&graph->arena);
    fm_free(graph->nodes);
    fm_free(graph->values);
    *graph = (struct fm_graph){.logits = FM_NONE, .ids = FM_NONE};
}

uint32_t fm_dim_resolve(uint32_t dim, const struct fm_dims *dims)
{
    switch (dim) {
    case FM_DIM_T: return dims->t;
    case FM_DIM_O: return dims->o;
    case FM_DIM_S: return dims->s;
    case FM_DIM_L: return dims->l;
    case FM_DIM_B: return FM_MAX(dims->b, 1u);
    default: return dim;
    }
}

uint32_t fm_dims_run(const struct fm_dims *dims)
{
    return dims->run != 0 ? dims->run : dims->t;
}

bool fm_value_elems(const struct fm_value *value, const struct fm_dims *dims, uint64_t *out_elems)
{
    uint64_t n = 1;
    for (unsigned i = 0; i < value->n_dims; i++)
        if (!fm_mul_u64(n, fm_dim_resolve(value->dims[i], dims), &n))
            return false;
    *out_elems = n;
    return true;
}

const char *fm_value_shape_text(const struct fm_value *value, char *out, size_t out_bytes)
{
    static const char *const letters[] = {"B", "L", "S", "O", "T"}; // in the order of FM_DIM_FIRST .. FM_DIM_T
    const char *type = value->type < FM_TYPE_COUNT ? fm_type_info(value->type)->name : "?";
    size_t at = 0;
    int n = snprintf(out, out_bytes, "%s[", type);
    at += n > 0 ? (size_t)n : 0;
    for (unsigned i = 0; i < value->n_dims && at < out_bytes; i++) {
        uint32_t d = value->dims[i];
        const char *comma = i ? "," : "";
        if (d >= FM_DIM_FIRST)
            n = snprintf(out + at, out_bytes - at, "%s%s", comma, letters[d - FM_DIM_FIRST]);
        else
            n = snprintf(out + at, out_bytes - at, "%s%u", comma, d);
        at += n > 0 ? (size_t)n : 0;
    }
    if (at < out_bytes)
        snprintf(out + at, out_bytes - at, "]");
    return out;
}

uint32_t fm_value_root(const struct fm_graph *graph, uint32_t value)
{
    uint32_t alias = graph->values[value].alias;
    return alias == FM_NONE ? value : alias;
}

static enum fm_result reserve(struct fm_graph *graph, size_t more_nodes, size_t more_values)
{
    void *p = graph->nodes;
    enum fm_result r = fm_array_reserve(&p, &graph->cap_nodes, graph->n_nodes + more_nodes, sizeof(*graph->nodes));
    graph->nodes = p;
    if (r != FM_OK)
        return r;
    p = graph->values;
    r = fm_array_reserve(&p, &graph->cap_values, graph->n_values + more_values, sizeof(*graph->values));
    graph->values = p;
    return r;
}

enum fm_result fm_graph_add(struct fm_graph *graph, enum fm_op op, const char *name, const uint32_t *src,
                            uint32_t n_src, const struct fm_attr *attr, uint32_t *out_dst)
{
    if ((unsigned)op >= FM_OP_COUNT)
        return fm_fail(FM_ARG, "node '%s': unknown op %u", name, (unsigned)op);
    if (n_src > FM_MAX_SRC)
        return fm_fail(FM_ARG, "%s '%s': %u operands, at most %d fit", fm_op_info(op)->name, name, n_src, FM_MAX_SRC);
    struct fm_node node = {.op = op, .n_src = (uint8_t)n_src, .n_dst = fm_op_info(op)->n_dst};
    struct fm_value dst[FM_MAX_DST];
    memcpy(node.src, src, n_src * sizeof(*src));
    if (attr)
        node.attr = *attr;
    fm_attr_keep(&node.attr, fm_graph_attr_mask(op));
    node.name = fm_arena_strdup(&graph->arena, name);
    if (!node.name)
        return fm_nomem();
    enum fm_result r = fm_graph_infer(graph, &node, dst);
    for (unsigned i = 0; i < node.n_dst && r == FM_OK; i++)
        r = fm_graph_name_result(graph, &node, i, &dst[i]);
    if (r == FM_OK)
        r = reserve(graph, 1, node.n_dst);
    if (r != FM_OK)
        return r;
    for (unsigned i = 0; i < node.n_dst; i++) {
        dst[i].producer = (uint32_t)graph->n_nodes;
        node.dst[i] = (uint32_t)graph->n_values;
        graph->values[graph->n_values++] = dst[i];
        out_dst[i] = node.dst[i];
    }
    graph->nodes[graph->n_nodes++] = node;
    return FM_OK;
}

enum fm_result fm_graph_add_value(struct fm_graph *graph, const struct fm_value *value, uint32_t *out_id)
{
    struct fm_value v = *value;
    if ((unsigned)v.type >= FM_TYPE_COUNT || v.n_dims == 0 || v.n_dims > FM_MAX_DIMS)
        return fm_fail(FM_ARG, "value '%s': bad type %u or %u dimensions", v.name, (unsigned)v.type, v.n_dims);
    v.name = fm_arena_strdup(&graph->arena, v.name);
    if (!v.name)
        return fm_nomem();
    v.producer = v.alias = FM_NONE;
    for (unsigned i = v.n_dims; i < FM_MAX_DIMS; i++)
        v.dims[i] = 0;
    if (v.kind == FM_VALUE_CONST) {
        uint64_t elems = 1, bytes;
        for (unsigned i = 0; i < v.n_dims; i++)
            if (v.dims[i] >= FM_DIM_FIRST || !fm_mul_u64(elems, v.dims[i], &elems))
                return fm_fail(FM_ARG, "constant '%s': symbolic or too large dimensions", v.name);
        if (!fm_type_bytes(v.type, elems, &bytes) || bytes > SIZE_MAX)
            return fm_fail(FM_ARG, "constant '%s': too large", v.name);
        v.of.data = fm_arena_copy(&graph->arena, v.of.data, (size_t)bytes);
        if (!v.of.data)
            return fm_nomem();
    }
    enum fm_result r = reserve(graph, 0, 1);
    if (r != FM_OK)
        return r;
    if (graph->n_values == 0)
        graph->logits = graph->ids = FM_NONE;
    *out_id = (uint32_t)graph->n_values;
    graph->values[graph->n_values++] = v;
    return FM_OK;
}
