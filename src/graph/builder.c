// SPDX-License-Identifier: MIT
#include "graph/builder.h"

#include <math.h>
#include <stdio.h>

// ISO C has no M_PI.
#define TWO_PI_L 6.283185307179586476925286766559005768L

void fm_build_prefix(struct fm_builder *b, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(b->prefix, sizeof(b->prefix), fmt, args);
    va_end(args);
}

#define FULL_NAME_BYTES 160

static const char *full_name(const struct fm_builder *b, const char *name, char *out)
{
    snprintf(out, FULL_NAME_BYTES, "%s%s", b->prefix, name);
    return out;
}

static uint32_t add_value(struct fm_builder *b, const char *name, struct fm_value *v, uint32_t n_dims,
                          const uint32_t *dims)
{
    char full[FULL_NAME_BYTES];
    uint32_t id = FM_NONE;
    if (b->error != FM_OK)
        return FM_NONE;
    v->name = full_name(b, name, full);
    v->n_dims = (uint8_t)n_dims;
    if (n_dims == 0 || n_dims > FM_MAX_DIMS) {
        b->error = fm_fail(FM_ARG, "value '%s': %u dimensions", full, n_dims);
        return FM_NONE;
    }
    memcpy(v->dims, dims, n_dims * sizeof(*dims));
    b->error = fm_graph_add_value(b->graph, v, &id);
    return b->error == FM_OK ? id : FM_NONE;
}

uint32_t fm_build_input(struct fm_builder *b, enum fm_input input)
{
    static const struct {
        const char *name;
        uint32_t n_dims, dims[2];
    } shapes[FM_INPUT_COUNT] = {
        [FM_INPUT_TOKEN] = {"token", 1, {FM_DIM_T}},       [FM_INPUT_POS] = {"pos", 1, {FM_DIM_T}},
        [FM_INPUT_SLOT] = {"slot", 1, {FM_DIM_T}},         [FM_INPUT_OUT_ROW] = {"out_row", 1, {FM_DIM_O}},
        [FM_INPUT_SAMPLER] = {"sampler", 2, {FM_DIM_O, 8}}, [FM_INPUT_SEGMENT] = {"segment", 2, {FM_DIM_S, 4}},
        [FM_INPUT_LENGTH] = {"length", 1, {FM_DIM_T}},
    };
    if (b->error != FM_OK)
        return FM_NONE;
    // One value per field, whoever asks.
    for (uint32_t i = 0; i < b->graph->n_values; i++)
        if (b->graph->values[i].kind == FM_VALUE_INPUT && b->graph->values[i].of.input == input)
            return i;
    struct fm_value v = {.name = shapes[input].name, .kind = FM_VALUE_INPUT, .type = FM_TYPE_I32, .of.input = input};
    v.n_dims = (uint8_t)shapes[input].n_dims;
    memcpy(v.dims, shapes[input].dims, sizeof(shapes[input].dims));
    uint32_t id = FM_NONE;
    b->error = fm_graph_add_value(b->graph, &v, &id);
    return b->error == FM_OK ? id : FM_NONE;
}

uint32_t fm_build_weight(struct fm_builder *b, const char *name, enum fm_type type, uint32_t tensor, uint32_t n_dims,
                         const uint32_t *dims)
{
    struct fm_value v = {.kind = FM_VALUE_WEIGHT, .type = type, .of.tensor = tensor};
    return add_value(b, name, &v, n_dims, dims);
}

uint32_t fm_build_const(struct fm_builder *b, const char *name, enum fm_type type, uint32_t n_dims,
                        const uint32_t *dims, const void *data)
{
    struct fm_value v = {.kind = FM_VALUE_CONST, .type = type, .of.data = data};
    return add_value(b, name, &v, n_dims, dims);
}

uint32_t fm_build_state(struct fm_builder *b, const char *name, enum fm_type type, uint32_t n_dims,
                        const uint32_t *dims)
{
    struct fm_value v = {.kind = FM_VALUE_STATE, .type = type};
    return add_value(b, name, &v, n_dims, dims);
}

// Any number of results; out_dst is filled with FM_NONE on error.
static void add_node(struct fm_builder *b, enum fm_op op, const char *name, const struct fm_attr *attr, uint32_t n_src,
                     const uint32_t *src, uint32_t out_dst[FM_MAX_DST])
{
    char full[FULL_NAME_BYTES];
    for (unsigned i = 0; i < FM_MAX_DST; i++)
        out_dst[i] = FM_NONE;
    if (b->error == FM_OK)
        b->error = fm_graph_add(b->graph, op, full_name(b, name, full), src, n_src, attr, out_dst);
}

uint32_t fm_build_node(struct fm_builder *b, enum fm_op op, const char *name, const struct fm_attr *attr,
                       uint32_t n_src, const uint32_t *src)
{
    uint32_t dst[FM_MAX_DST];
    add_node(b, op, name, attr, n_src, src, dst);
    return dst[0];
}

uint32_t fm_build_embed(struct fm_builder *b, const char *name, uint32_t w, uint32_t ids, float scale)
{
    struct fm_attr attr = {.scale = scale};
    return fm_build_node(b, FM_OP_EMBED, name, &attr, 2, (uint32_t[]){w, ids});
}

uint32_t fm_build_norm(struct fm_builder *b, const char *name, enum fm_norm_kind kind, uint32_t x, uint32_t w,
                       uint32_t bias, float eps)
{
    struct fm_attr attr = {.norm = (uint8_t)kind, .eps = eps};
    return fm_build_node(b, FM_OP_NORM, name, &attr, bias == FM_NONE ? 2 : 3, (uint32_t[]){x, w, bias});
}

uint32_t fm_build_matmul(struct fm_builder *b, const char *name, uint32_t x, uint32_t w, uint32_t bias)
{
    return fm_build_node(b, FM_OP_MATMUL, name, NULL, bias == FM_NONE ? 2 : 3, (uint32_t[]){x, w, bias});
}

uint32_t fm_build_add(struct fm_builder *b, const char *name, uint32_t x, uint32_t y)
{
    return fm_build_node(b, FM_OP_ADD, name, NULL, 2, (uint32_t[]){x, y});
}

// Whole turns do nothing: keep the fraction. 2^64 steps to a turn; the scaling is exact.
static void put_turns(long double turns, uint32_t words[2])
{
    long double steps = ldexpl(turns - floorl(turns), 64);
    uint64_t fixed = steps >= 0x1p64L ? UINT64_MAX : (uint64_t)steps;
    words[0] = (uint32_t)fixed;
    words[1] = (uint32_t)(fixed >> 32);
}

uint32_t fm_build_turn_table(struct fm_builder *b, const char *name, uint32_t count, const double *radians)
{
    if (b->error != FM_OK)
        return FM_NONE;
    uint32_t *words = fm_alloc_zero(FM_MAX(count, 1), 2 * sizeof(*words));
    if (!words) {
        b->error = fm_nomem();
        return FM_NONE;
    }
    for (uint32_t i = 0; i < count; i++)
        put_turns((long double)radians[i] / TWO_PI_L, words + 2 * (size_t)i);
    uint32_t id = fm_build_const(b, name, FM_TYPE_I32, 2, (uint32_t[]){count, 2}, words);
    fm_free(words);
    return id;
}

uint32_t fm_build_ones(struct fm_builder *b, uint32_t width)
{
    if (b->error != FM_OK)
        return FM_NONE;
    float *ones = fm_alloc_zero(FM_MAX(width, 1), sizeof(*ones));
    if (!ones) {
        b->error = fm_nomem();
        return FM_NONE;
    }
    for (uint32_t i = 0; i < width; i++)
        ones[i] = 1;
    uint32_t id = fm_build_const(b, "ones", FM_TYPE_F32, 1, &width, ones);
    fm_free(ones);
    return id;
}

uint32_t fm_build_recurrent_state(struct fm_builder *b, const char *name, uint32_t rows, uint32_t width)
{
    return fm_build_state(b, name, FM_TYPE_F32, 4, (uint32_t[]){FM_DIM_S, FM_DIM_B, rows, width});
}

uint32_t fm_build_rope_table(struct fm_builder *b, const char *name, uint32_t pairs, double base,
                             const double *divisors)
{
    if (b->error != FM_OK)
        return FM_NONE;
    if (pairs == 0 || pairs > 1u << 16 || !(base > 0)) {
        b->error = fm_fail(FM_ARG, "rope table '%s%s': %u pairs, base %g", b->prefix, name, pairs, base);
        return FM_NONE;
    }
    uint32_t *words = fm_alloc_zero(pairs, 2 * sizeof(*words));
    if (!words) {
        b->error = fm_nomem();
        return FM_NONE;
    }
    for (uint32_t m = 0; m < pairs; m++) {
        long double turns = powl((long double)base, -(long double)m / (long double)pairs) / TWO_PI_L;
        put_turns(divisors ? turns / (long double)divisors[m] : turns, words + 2 * (size_t)m);
    }
    uint32_t id = fm_build_const(b, name, FM_TYPE_I32, 2, (uint32_t[]){pairs, 2}, words);
    fm_free(words);
    return id;
}

uint32_t fm_build_attention(struct fm_builder *b, uint32_t q, uint32_t k, uint32_t v, uint32_t freq,
                            const struct fm_attr *attr)
{
    uint32_t pos = fm_build_input(b, FM_INPUT_POS);
    uint32_t slot = fm_build_input(b, FM_INPUT_SLOT);
    uint32_t caches_first[2];
    for (unsigned i = 0; i < 2; i++) {
        uint32_t unit = b->kv_type[i] == FM_TYPE_Q8_0 ? 32 : 8;
        uint32_t dims[] = {FM_DIM_S, attr->heads_kv, FM_DIM_L, (attr->head + unit - 1) / unit * unit};
        caches_first[i] = fm_build_state(b, i ? "v_cache" : "k_cache", b->kv_type[i], 4, dims);
    }
    if (freq != FM_NONE) {
        struct fm_attr q_attr = *attr, k_attr = *attr;
        uint32_t n_src = attr->original ? 4 : 3, length = attr->original ? fm_build_input(b, FM_INPUT_LENGTH) : FM_NONE;
        q_attr.copies = attr->chunk ? 3 : 0;
        k_attr.heads = attr->heads_kv;
        q = fm_build_node(b, FM_OP_ROPE, "q_rope", &q_attr, n_src, (uint32_t[]){q, freq, pos, length});
        k = fm_build_node(b, FM_OP_ROPE, "k_rope", &k_attr, n_src, (uint32_t[]){k, freq, pos, length});
    }
    uint32_t caches[FM_MAX_DST];
    add_node(b, FM_OP_KV_WRITE, "kv_write", attr, 6, (uint32_t[]){k, v, pos, slot, caches_first[0], caches_first[1]}, caches);
    return fm_build_node(b, FM_OP_ATTEND, "attend", attr, 5, (uint32_t[]){q, caches[0], caches[1], pos, slot});
}

// The last value of a state by name, FM_NONE when there is none.
static uint32_t newest_state(const struct fm_graph *g, const char *name)
{
    uint32_t id = FM_NONE;
    for (uint32_t i = 0; i < g->n_values; i++)
        if (g->values[i].kind == FM_VALUE_STATE && strcmp(g->values[i].name, name) == 0)
            id = i;
    return id;
}

uint32_t fm_build_tokens(struct fm_builder *b)
{
    uint32_t history = fm_build_state(b, "history", FM_TYPE_I32, 2, (uint32_t[]){FM_DIM_S, FM_DIM_L});
    uint32_t last = fm_build_state(b, "last", FM_TYPE_I32, 1, (uint32_t[]){FM_DIM_S});
    uint32_t src[] = {fm_build_input(b, FM_INPUT_TOKEN), fm_build_input(b, FM_INPUT_POS),
                      fm_build_input(b, FM_INPUT_SLOT), history, last};
    return fm_build_node(b, FM_OP_TOKEN_FEED, "tokens", NULL, 5, src);
}

uint32_t fm_build_ffn(struct fm_builder *b, enum fm_act_kind act, uint32_t x, const struct fm_ffn *ffn)
{
    const struct fm_attr attr = {.act = (uint8_t)act};
    uint32_t a = fm_build_matmul(b, "ffn_gate", x, ffn->gate, ffn->gate_bias), u = fm_build_matmul(b, "ffn_up", x, ffn->up, ffn->up_bias);
    uint32_t y = fm_build_node(b, FM_OP_GLU, "ffn_glu", &attr, 2, (uint32_t[]){a, u});
    return fm_build_matmul(b, "ffn_down", y, ffn->down, ffn->down_bias);
}

uint32_t fm_build_output_rows(struct fm_builder *b, const char *name, uint32_t x)
{
    return fm_build_node(b, FM_OP_GATHER, name, NULL, 2, (uint32_t[]){x, fm_build_input(b, FM_INPUT_OUT_ROW)});
}

static void mark_output(struct fm_builder *b, uint32_t value, uint32_t *out_slot)
{
    if (b->error != FM_OK)
        return;
    b->graph->values[value].kind = FM_VALUE_OUTPUT;
    *out_slot = value;
}

void fm_build_head(struct fm_builder *b, uint32_t x, uint32_t norm_w, uint32_t norm_b, enum fm_norm_kind kind,
                   float eps, uint32_t w_out, uint32_t bias, uint32_t vocab)
{
    uint32_t out_row = fm_build_input(b, FM_INPUT_OUT_ROW);
    x = fm_build_norm(b, "output_norm", kind, x, norm_w, norm_b, eps);
    uint32_t logits = fm_build_matmul(b, "logits", x, w_out, bias);
    struct fm_attr attr = {.vocab = vocab};
    uint32_t src[] = {logits,
                      out_row,
                      fm_build_input(b, FM_INPUT_POS),
                      fm_build_input(b, FM_INPUT_SLOT),
                      fm_build_input(b, FM_INPUT_SAMPLER),
                      newest_state(b->graph, "history"),
                      newest_state(b->graph, "last")};
    uint32_t ids = fm_build_node(b, FM_OP_SAMPLE, "sample", &attr, 7, src);
    mark_output(b, logits, &b->graph->logits);
    mark_output(b, ids, &b->graph->ids);
}
