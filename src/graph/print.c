// SPDX-License-Identifier: MIT
// A graph as text, and back (parse.c). One line per source value, then one per node in order:
//   values 12
//   %0 = weight 3 : q8_0[64,32]  # token_embd.weight          weight TENSOR[+ROW0] | weight none
//   %1 = const 0000803f.. : f32[2]  # name                    bytes in hex
//   %2 = input token : i32[T]  # token
//   %3 = state : f16[S,2,L,16]  # blk.0.k_cache
//   %7, %8 = kv_write %5 %6 %1 %2 %3 %4 {heads_kv=2 head=16} : f16[S,2,L,16], f16[S,2,L,16]  # blk.0.kv_write
//   output %9
//   logits %9
//   ids %11
// Ids that do not occur are dead values. Names of results follow from the node's.
#include "graph/shape.h"

#include <stdarg.h>
#include <stdio.h>

struct text {
    char *data;
    size_t bytes, cap;
    bool failed;
};

static void put(struct text *t, const char *fmt, ...) FM_PRINTF(2, 3);
static void put(struct text *t, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    void *p = t->data;
    if (t->failed || n < 0 || fm_array_reserve(&p, &t->cap, t->bytes + (size_t)n + 1, 1) != FM_OK) {
        t->failed = true;
        return;
    }
    t->data = p;
    va_start(args, fmt);
    vsnprintf(t->data + t->bytes, (size_t)n + 1, fmt, args);
    va_end(args);
    t->bytes += (size_t)n;
}

static void put_source(struct text *t, const struct fm_value *v, uint32_t id)
{
    static const char *const inputs[FM_INPUT_COUNT] = {"token", "pos", "slot", "out_row", "sampler", "segment", "length"};
    char shape[FM_SHAPE_TEXT_BYTES];
    uint64_t elems = 1, bytes = 0;
    switch (v->kind) {
    case FM_VALUE_WEIGHT:
        if (v->of.tensor == FM_NONE)
            put(t, "%%%u = weight none", id);
        else
            put(t, "%%%u = weight %u", id, v->of.tensor);
        if (v->row0)
            put(t, "+%u", v->row0);
        break;
    case FM_VALUE_CONST:
        put(t, "%%%u = const ", id);
        for (unsigned i = 0; i < v->n_dims; i++)
            elems *= v->dims[i];
        fm_type_bytes(v->type, elems, &bytes);
        for (uint64_t i = 0; i < bytes; i++)
            put(t, "%02x", ((const uint8_t *)v->of.data)[i]);
        break;
    case FM_VALUE_INPUT: put(t, "%%%u = input %s", id, inputs[v->of.input]); break;
    case FM_VALUE_STATE: put(t, "%%%u = state", id); break;
    case FM_VALUE_TEMP:
    case FM_VALUE_OUTPUT:
    case FM_VALUE_DEAD: return;
    }
    put(t, " : %s  # %s\n", fm_value_shape_text(v, shape, sizeof(shape)), v->name);
}

static void put_attr(struct text *t, enum fm_op op, const struct fm_attr *a)
{
    uint32_t mask = fm_graph_attr_mask(op);
    const char *space = "";
    char value[FM_ATTR_TEXT_BYTES];
    if (mask == 0)
        return;
    put(t, " {");
    for (enum fm_attr_id id = 0; id < FM_ATTR_COUNT; id++) {
        if (!(mask & 1u << id) || !fm_attr_is_printed(a, id))
            continue;
        put(t, "%s%s=%s", space, fm_attr_name(id), fm_attr_text(a, id, value));
        space = " ";
    }
    put(t, "}");
}

static void put_node(struct text *t, const struct fm_graph *g, const struct fm_node *node)
{
    char shape[FM_SHAPE_TEXT_BYTES];
    for (unsigned i = 0; i < node->n_dst; i++)
        put(t, "%s%%%u", i ? ", " : "", node->dst[i]);
    put(t, " = %s", fm_op_info(node->op)->name);
    for (unsigned i = 0; i < node->n_src; i++)
        put(t, " %%%u", node->src[i]);
    put_attr(t, node->op, &node->attr);
    for (unsigned i = 0; i < node->n_dst; i++)
        put(t, "%s%s", i ? ", " : " : ", fm_value_shape_text(&g->values[node->dst[i]], shape, sizeof(shape)));
    put(t, "  # %s\n", node->name);
}

enum fm_result fm_graph_print(const struct fm_graph *graph, char **out_text)
{
    struct text t = {0};
    put(&t, "values %zu\n", graph->n_values);
    for (uint32_t i = 0; i < graph->n_values; i++)
        if (graph->values[i].producer == FM_NONE)
            put_source(&t, &graph->values[i], i);
    for (size_t i = 0; i < graph->n_nodes; i++)
        put_node(&t, graph, &graph->nodes[i]);
    for (uint32_t i = 0; i < graph->n_values; i++)
        if (graph->values[i].kind == FM_VALUE_OUTPUT)
            put(&t, "output %%%u\n", i);
    if (graph->n_values && graph->logits != FM_NONE)
        put(&t, "logits %%%u\n", graph->logits);
    if (graph->n_values && graph->ids != FM_NONE)
        put(&t, "ids %%%u\n", graph->ids);
    if (t.failed) {
        fm_free(t.data);
        return fm_nomem();
    }
    *out_text = t.data;
    return FM_OK;
}
