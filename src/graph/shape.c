// SPDX-License-Identifier: MIT
#include "graph/shape_impl.h"

#include <stdio.h>

enum fm_result fm_shape_mismatch(const struct fm_shape_call *c, unsigned i, const struct fm_value *expected)
{
    char found[FM_SHAPE_TEXT_BYTES], wanted[FM_SHAPE_TEXT_BYTES];
    return fm_fail(FM_ARG, "%s '%s': operand %u '%s' is %s, expected %s", fm_op_info(c->node->op)->name, c->node->name,
                   i, c->src[i]->name, fm_value_shape_text(c->src[i], found, sizeof(found)),
                   fm_value_shape_text(expected, wanted, sizeof(wanted)));
}

enum fm_result fm_shape_wrong(const struct fm_shape_call *c, unsigned i, const char *what)
{
    char found[FM_SHAPE_TEXT_BYTES];
    return fm_fail(FM_ARG, "%s '%s': operand %u '%s' is %s, expected %s", fm_op_info(c->node->op)->name, c->node->name,
                   i, c->src[i]->name, fm_value_shape_text(c->src[i], found, sizeof(found)), what);
}

enum fm_result fm_shape_bad_attr(const struct fm_shape_call *c, const char *what)
{
    const struct fm_attr *a = &c->node->attr;
    return fm_fail(FM_ARG, "%s '%s': %s (heads %u, heads_kv %u, head %u, rotated %u, vocab %u)",
                   fm_op_info(c->node->op)->name, c->node->name, what, a->heads, a->heads_kv, a->head, a->rotated,
                   a->vocab);
}

enum fm_result fm_shape_want(const struct fm_shape_call *c, unsigned i, enum fm_type type, uint8_t n_dims, uint32_t d0,
                           uint32_t d1)
{
    struct fm_value e = {.type = type, .n_dims = n_dims, .dims = {d0, d1}};
    const struct fm_value *v = c->src[i];
    if (v->type == type && v->n_dims == n_dims && v->dims[0] == d0 && (n_dims < 2 || v->dims[1] == d1))
        return FM_OK;
    return fm_shape_mismatch(c, i, &e);
}

enum fm_result fm_shape_want_rows(const struct fm_shape_call *c, unsigned i)
{
    const struct fm_value *v = c->src[i];
    if (v->type == FM_TYPE_F32 && v->n_dims == 2 && v->dims[1] < FM_DIM_FIRST)
        return FM_OK;
    return fm_shape_wrong(c, i, "f32 rows [T,width]");
}

enum fm_result fm_shape_want_u32(const struct fm_shape_call *c, unsigned i, uint32_t rows)
{
    return fm_shape_want(c, i, FM_TYPE_I32, 1, rows, 0);
}

enum fm_result fm_shape_want_matrix(const struct fm_shape_call *c, unsigned i, uint32_t k)
{
    const struct fm_value *v = c->src[i];
    if (v->n_dims != 2 || !fm_type_info(v->type)->is_weight || v->dims[0] >= FM_DIM_FIRST)
        return fm_shape_wrong(c, i, "a weight [N,K]");
    if (k != FM_NONE && v->dims[1] != k) {
        struct fm_value e = *v;
        e.dims[1] = k;
        return fm_shape_mismatch(c, i, &e);
    }
    if (v->dims[1] % fm_type_info(v->type)->block_elems != 0)
        return fm_shape_wrong(c, i, "rows of whole blocks");
    return FM_OK;
}

enum fm_result fm_shape_want_state(const struct fm_shape_call *c, unsigned i, enum fm_type type, uint8_t n_dims)
{
    const struct fm_value *v = c->src[i];
    if (v->kind != FM_VALUE_STATE)
        return fm_shape_wrong(c, i, "a state");
    if (v->n_dims != n_dims)
        return fm_shape_wrong(c, i,
                     n_dims == 4   ? "a state of 4 dimensions"
                     : n_dims == 2 ? "a state of 2 dimensions"
                                   : "a state of 1 dimension");
    if (type == FM_SHAPE_CACHE ? v->type != FM_TYPE_F16 && v->type != FM_TYPE_F32 && v->type != FM_TYPE_Q8_0 : v->type != type)
        return fm_shape_wrong(c, i,
                              type == FM_SHAPE_CACHE ? "an f16, f32 or q8_0 state"
                              : type == FM_TYPE_F32  ? "an f32 state"
                                                     : "a u32 state");
    return FM_OK;
}

void fm_shape_give(const struct fm_shape_call *c, unsigned i, enum fm_type type, uint8_t n_dims, uint32_t d0, uint32_t d1)
{
    c->dst[i].kind = FM_VALUE_TEMP;
    c->dst[i].type = type;
    c->dst[i].n_dims = n_dims;
    c->dst[i].dims[0] = d0;
    c->dst[i].dims[1] = n_dims > 1 ? d1 : 0;
}

void fm_shape_give_state(const struct fm_shape_call *c, unsigned i, unsigned s)
{
    const struct fm_value *v = c->src[s];
    c->dst[i].kind = FM_VALUE_STATE;
    c->dst[i].type = v->type;
    c->dst[i].n_dims = v->n_dims;
    memcpy(c->dst[i].dims, v->dims, sizeof(v->dims));
    c->dst[i].alias = fm_value_root(c->graph, c->node->src[s]);
}

static enum fm_result shape_token_feed(const struct fm_shape_call *c)
{
    uint32_t rows = c->src[0]->dims[0];
    for (unsigned i = 0; i < 3; i++)
        TRY(fm_shape_want_u32(c, i, rows));
    TRY(fm_shape_want_state(c, 3, FM_TYPE_I32, 2));
    TRY(fm_shape_want_state(c, 4, FM_TYPE_I32, 1));
    TRY(fm_shape_want_u32(c, 4, c->src[3]->dims[0]));
    fm_shape_give(c, 0, FM_TYPE_I32, 1, rows, 0);
    fm_shape_give_state(c, 1, 3);
    fm_shape_give_state(c, 2, 4);
    return FM_OK;
}

static enum fm_result shape_embed(const struct fm_shape_call *c)
{
    TRY(fm_shape_want_matrix(c, 0, FM_NONE));
    TRY(fm_shape_want_u32(c, 1, c->src[1]->dims[0]));
    fm_shape_give(c, 0, FM_TYPE_F32, 2, c->src[1]->dims[0], c->src[0]->dims[1]);
    return FM_OK;
}

static enum fm_result want_norm(const struct fm_shape_call *c, unsigned w, uint32_t width)
{
    TRY(fm_shape_want(c, w, FM_TYPE_F32, 1, width, 0));
    if (c->node->n_src > w + 1)
        TRY(fm_shape_want(c, w + 1, FM_TYPE_F32, 1, width, 0));
    if (c->node->attr.norm == FM_NORM_RMS && c->node->n_src > w + 1)
        return fm_shape_bad_attr(c, "an RMS norm has no bias");
    return FM_OK;
}

static enum fm_result shape_norm(const struct fm_shape_call *c)
{
    TRY(fm_shape_want_rows(c, 0));
    TRY(want_norm(c, 1, c->src[0]->dims[1]));
    fm_shape_give(c, 0, FM_TYPE_F32, 2, c->src[0]->dims[0], c->src[0]->dims[1]);
    return FM_OK;
}

static enum fm_result shape_add(const struct fm_shape_call *c)
{
    TRY(fm_shape_want_rows(c, 0));
    TRY(fm_shape_want(c, 1, FM_TYPE_F32, 2, c->src[0]->dims[0], c->src[0]->dims[1]));
    fm_shape_give(c, 0, FM_TYPE_F32, 2, c->src[0]->dims[0], c->src[0]->dims[1]);
    return FM_OK;
}

static enum fm_result shape_add_norm(const struct fm_shape_call *c)
{
    TRY(shape_add(c));
    TRY(want_norm(c, 2, c->src[0]->dims[1]));
    fm_shape_give(c, 1, FM_TYPE_F32, 2, c->src[0]->dims[0], c->src[0]->dims[1]);
    return FM_OK;
}

// x, w, and a residual and a bias at these operands (0: none; the bias may be absent).
static enum fm_result product(const struct fm_shape_call *c, unsigned residual, unsigned bias)
{
    TRY(fm_shape_want_rows(c, 0));
    TRY(fm_shape_want_matrix(c, 1, c->src[0]->dims[1]));
    uint32_t n = c->src[1]->dims[0];
    if (residual != 0)
        TRY(fm_shape_want(c, residual, FM_TYPE_F32, 2, c->src[0]->dims[0], n));
    if (c->node->n_src > bias)
        TRY(fm_shape_want(c, bias, FM_TYPE_F32, 1, n, 0));
    fm_shape_give(c, 0, FM_TYPE_F32, 2, c->src[0]->dims[0], n);
    return FM_OK;
}

static enum fm_result shape_matmul(const struct fm_shape_call *c)
{
    return product(c, 0, 2);
}

static enum fm_result shape_matmul_add(const struct fm_shape_call *c)
{
    return product(c, 2, 3);
}

static enum fm_result shape_matmul_glu(const struct fm_shape_call *c)
{
    TRY(fm_shape_want_rows(c, 0));
    TRY(fm_shape_want_matrix(c, 1, c->src[0]->dims[1]));
    TRY(fm_shape_want(c, 2, c->src[1]->type, 2, c->src[1]->dims[0], c->src[1]->dims[1]));
    fm_shape_give(c, 0, FM_TYPE_F32, 2, c->src[0]->dims[0], c->src[1]->dims[0]);
    return FM_OK;
}

static enum fm_result shape_norm_matmul(const struct fm_shape_call *c)
{
    TRY(product(c, 0, 3));
    return fm_shape_want(c, 2, FM_TYPE_F32, 1, c->src[0]->dims[1], 0);
}

static enum fm_result shape_norm_matmul_add(const struct fm_shape_call *c)
{
    TRY(product(c, 2, 4));
    return fm_shape_want(c, 3, FM_TYPE_F32, 1, c->src[0]->dims[1], 0);
}

static enum fm_result shape_norm_matmul_glu(const struct fm_shape_call *c)
{
    TRY(shape_matmul_glu(c));
    return fm_shape_want(c, 3, FM_TYPE_F32, 1, c->src[0]->dims[1], 0);
}

static enum fm_result shape_matmul_conv(const struct fm_shape_call *c)
{
    TRY(fm_shape_want_rows(c, 0));
    TRY(fm_shape_want_matrix(c, 1, c->src[0]->dims[1]));
    return fm_shape_convolution(c, 2, c->src[1]->dims[0]);
}

static enum fm_result shape_norm_matmul_conv(const struct fm_shape_call *c)
{
    TRY(fm_shape_want_rows(c, 0));
    TRY(fm_shape_want_matrix(c, 1, c->src[0]->dims[1]));
    TRY(fm_shape_want(c, 2, FM_TYPE_F32, 1, c->src[0]->dims[1], 0));
    return fm_shape_convolution(c, 3, c->src[1]->dims[0]);
}

static enum fm_result shape_glu(const struct fm_shape_call *c)
{
    if (c->node->attr.act >= FM_ACT_COUNT)
        return fm_shape_bad_attr(c, "unknown activation");
    return shape_add(c);
}

static enum fm_result shape_act(const struct fm_shape_call *c)
{
    if (c->node->attr.act >= FM_ACT_COUNT)
        return fm_shape_bad_attr(c, "unknown activation");
    TRY(fm_shape_want_rows(c, 0));
    fm_shape_give(c, 0, FM_TYPE_F32, 2, c->src[0]->dims[0], c->src[0]->dims[1]);
    return FM_OK;
}

static enum fm_result shape_gather(const struct fm_shape_call *c)
{
    TRY(fm_shape_want_rows(c, 0));
    TRY(fm_shape_want_u32(c, 1, c->src[1]->dims[0]));
    fm_shape_give(c, 0, FM_TYPE_F32, 2, c->src[1]->dims[0], c->src[0]->dims[1]);
    return FM_OK;
}

// Operand i must be f32 [rows of operand 0, heads * head].
static enum fm_result want_heads(const struct fm_shape_call *c, unsigned i, uint64_t heads)
{
    uint64_t width = heads * c->node->attr.head;
    if (width == 0 || width >= FM_DIM_FIRST)
        return fm_shape_bad_attr(c, "heads * head out of range");
    return fm_shape_want(c, i, FM_TYPE_F32, 2, c->src[0]->dims[0], (uint32_t)width);
}

static enum fm_result want_freq(const struct fm_shape_call *c, unsigned i)
{
    const struct fm_attr *a = &c->node->attr;
    if (a->rotated == 0 || a->rotated % 2 != 0 || a->rotated > a->head)
        return fm_shape_bad_attr(c, "rotated must be even and within the head");
    return fm_shape_want(c, i, FM_TYPE_I32, 2, a->rotated / 2, 2);
}

// Operands i and i+1 must be key and value caches [S,G,L,Cp] with the same S and L.
static enum fm_result want_caches(const struct fm_shape_call *c, unsigned i)
{
    const struct fm_attr *a = &c->node->attr;
    for (unsigned j = i; j < i + 2; j++) {
        TRY(fm_shape_want_state(c, j, FM_SHAPE_CACHE, 4));
        uint64_t unit = c->src[j]->type == FM_TYPE_Q8_0 ? 32 : 8, padded = ((uint64_t)a->head + unit - 1) / unit * unit;
        struct fm_value e = *c->src[j];
        e.dims[0] = c->src[i]->dims[0];
        e.dims[1] = a->heads_kv;
        e.dims[2] = c->src[i]->dims[2];
        e.dims[3] = (uint32_t)padded;
        if (memcmp(e.dims, c->src[j]->dims, sizeof(e.dims)) != 0)
            return fm_shape_mismatch(c, j, &e);
    }
    return FM_OK;
}

// Dual chunk attention: the `length` operand is there exactly when `original` is set; 1 or 3 copies.
static enum fm_result want_chunk(const struct fm_shape_call *c, unsigned length)
{
    const struct fm_attr *a = &c->node->attr;
    if (a->chunk == 0 && (a->copies > 1 || a->cap || a->original))
        return fm_shape_bad_attr(c, "copies, cap and original are for dual chunk attention");
    if (a->chunk > 0 && (a->cap < a->chunk || (a->copies > 1 && a->copies != 3)))
        return fm_shape_bad_attr(c, "dual chunk attention wants chunk <= cap, and 1 or 3 copies");
    if ((a->original > 0) != (c->node->n_src > length))
        return fm_shape_bad_attr(c, "the sequences' lengths are an operand exactly when they scale");
    return a->original > 0 ? fm_shape_want_u32(c, length, c->src[0]->dims[0]) : FM_OK;
}

static enum fm_result shape_rope(const struct fm_shape_call *c)
{
    TRY(want_heads(c, 0, c->node->attr.heads));
    TRY(want_freq(c, 1));
    TRY(fm_shape_want_u32(c, 2, c->src[0]->dims[0]));
    TRY(want_chunk(c, 3));
    fm_shape_give(c, 0, FM_TYPE_F32, 2, c->src[0]->dims[0], c->src[0]->dims[1] * FM_MAX(c->node->attr.copies, 1u));
    return FM_OK;
}

static enum fm_result shape_kv_write(const struct fm_shape_call *c)
{
    const struct fm_attr *a = &c->node->attr;
    TRY(want_heads(c, 0, a->heads_kv));
    TRY(want_heads(c, 1, a->heads_kv));
    TRY(fm_shape_want_u32(c, 2, c->src[0]->dims[0]));
    TRY(fm_shape_want_u32(c, 3, c->src[0]->dims[0]));
    TRY(want_caches(c, 4));
    fm_shape_give_state(c, 0, 4);
    fm_shape_give_state(c, 1, 5);
    return FM_OK;
}

static enum fm_result shape_rope_kv_write(const struct fm_shape_call *c)
{
    const struct fm_attr *a = &c->node->attr;
    TRY(want_heads(c, 0, a->heads));
    TRY(want_heads(c, 1, a->heads_kv));
    TRY(want_heads(c, 2, a->heads_kv));
    TRY(want_freq(c, 3));
    TRY(fm_shape_want_u32(c, 4, c->src[0]->dims[0]));
    TRY(fm_shape_want_u32(c, 5, c->src[0]->dims[0]));
    TRY(want_caches(c, 6));
    TRY(want_chunk(c, 8));
    fm_shape_give(c, 0, FM_TYPE_F32, 2, c->src[0]->dims[0], c->src[0]->dims[1] * (a->chunk > 0 ? 3 : 1));
    fm_shape_give_state(c, 1, 6);
    fm_shape_give_state(c, 2, 7);
    return FM_OK;
}

static enum fm_result shape_rope_attend(const struct fm_shape_call *c)
{
    const struct fm_attr *a = &c->node->attr;
    if (a->heads_kv == 0 || a->heads % a->heads_kv != 0)
        return fm_shape_bad_attr(c, "query heads must be a multiple of key heads");
    TRY(shape_rope_kv_write(c));
    fm_shape_give(c, 0, FM_TYPE_F32, 2, c->src[0]->dims[0], a->heads * a->head);
    return FM_OK;
}

static enum fm_result shape_attend(const struct fm_shape_call *c)
{
    const struct fm_attr *a = &c->node->attr;
    if (a->heads_kv == 0 || a->heads % a->heads_kv != 0)
        return fm_shape_bad_attr(c, "query heads must be a multiple of key heads");
    if (a->chunk > 0 && a->window > 0)
        return fm_shape_bad_attr(c, "a sliding window and dual chunk attention exclude each other");
    TRY(want_heads(c, 0, (uint64_t)a->heads * (a->chunk > 0 ? 3 : 1)));
    TRY(want_caches(c, 1));
    TRY(fm_shape_want_u32(c, 3, c->src[0]->dims[0]));
    TRY(fm_shape_want_u32(c, 4, c->src[0]->dims[0]));
    fm_shape_give(c, 0, FM_TYPE_F32, 2, c->src[0]->dims[0], a->heads * a->head);
    return FM_OK;
}

static enum fm_result shape_sample(const struct fm_shape_call *c)
{
    TRY(fm_shape_want_rows(c, 0));
    uint32_t outputs = c->src[0]->dims[0];
    if (c->node->attr.vocab == 0 || c->node->attr.vocab > c->src[0]->dims[1])
        return fm_shape_bad_attr(c, "vocab must be in 1..V");
    TRY(fm_shape_want_u32(c, 1, outputs));
    TRY(fm_shape_want_u32(c, 2, c->src[2]->dims[0]));
    TRY(fm_shape_want_u32(c, 3, c->src[2]->dims[0]));
    TRY(fm_shape_want(c, 4, FM_TYPE_I32, 2, outputs, 8));
    TRY(fm_shape_want_state(c, 5, FM_TYPE_I32, 2));
    TRY(fm_shape_want_state(c, 6, FM_TYPE_I32, 1));
    TRY(fm_shape_want_u32(c, 6, c->src[5]->dims[0]));
    fm_shape_give(c, 0, FM_TYPE_I32, 1, outputs, 0);
    fm_shape_give_state(c, 1, 6);
    return FM_OK;
}

static enum fm_result shape_cast(const struct fm_shape_call *c)
{
    TRY(fm_shape_want_rows(c, 0));
    fm_shape_give(c, 0, FM_TYPE_F16, 2, c->src[0]->dims[0], c->src[0]->dims[1]);
    return FM_OK;
}

// x [T,K], K a multiple of 32 -> the same as multiples of a step for each block
static enum fm_result shape_cast_int(const struct fm_shape_call *c)
{
    TRY(fm_shape_want_rows(c, 0));
    if (c->src[0]->dims[1] % 32 != 0 || c->node->attr.x_bytes < 1 || c->node->attr.x_bytes > 2)
        return fm_fail(FM_ARG, "cast_int '%s': rows of %u as integers of %u bytes, expected a multiple of 32 and 1 or 2", c->node->name,
                       c->src[0]->dims[1], c->node->attr.x_bytes);
    fm_shape_give(c, 0, FM_TYPE_F32, 2, c->src[0]->dims[0], c->src[0]->dims[1]);
    return FM_OK;
}

// w [N,K] -> the same in f16
static enum fm_result shape_dequantize(const struct fm_shape_call *c)
{
    fm_shape_give(c, 0, FM_TYPE_F16, 2, c->src[0]->dims[0], c->src[0]->dims[1]);
    return FM_OK;
}

// x [T,W] u32
static enum fm_result shape_read_sum(const struct fm_shape_call *c)
{
    const struct fm_value *v = c->src[0];
    if (v->type != FM_TYPE_I32 || v->n_dims != 2)
        return fm_shape_wrong(c, 0, "i32 [T,W]");
    fm_shape_give(c, 0, FM_TYPE_I32, 1, v->dims[0], 0);
    return FM_OK;
}

#define CONVOLUTION (FM_ATTR_ACT | FM_ATTR_HEAD | FM_ATTR_REPEAT)
#define HEADS (FM_ATTR_HEADS | FM_ATTR_HEAD)
#define HEADS_KV (FM_ATTR_HEADS_KV | FM_ATTR_HEAD)
#define CHUNK FM_ATTR_CHUNK
#define ROTATE (FM_ATTR_ROPE | FM_ATTR_ROTATED)
#define CAP (FM_ATTR_CAP | FM_ATTR_ORIGINAL)

// The table: one row per op.
static const struct {
    enum fm_result (*rule)(const struct fm_shape_call *c);
    uint32_t attrs;
} rows[FM_OP_COUNT] = {
    [FM_OP_TOKEN_FEED] = {shape_token_feed, 0},
    [FM_OP_EMBED] = {shape_embed, FM_ATTR_SCALE},
    [FM_OP_NORM] = {shape_norm, FM_ATTR_NORM | FM_ATTR_EPS},
    [FM_OP_MATMUL] = {shape_matmul, 0},
    [FM_OP_ROPE] = {shape_rope, HEADS | ROTATE | FM_ATTR_COPIES | CHUNK | CAP},
    [FM_OP_KV_WRITE] = {shape_kv_write, HEADS_KV},
    [FM_OP_ATTEND] = {shape_attend, HEADS | HEADS_KV | FM_ATTR_SCALE | FM_ATTR_WINDOW | CHUNK},
    [FM_OP_GLU] = {shape_glu, FM_ATTR_ACT},
    [FM_OP_ACT] = {shape_act, FM_ATTR_ACT},
    [FM_OP_ADD] = {shape_add, 0},
    [FM_OP_GATHER] = {shape_gather, 0},
    [FM_OP_SAMPLE] = {shape_sample, FM_ATTR_VOCAB},
    [FM_OP_MATMUL_ADD] = {shape_matmul_add, 0},
    [FM_OP_MATMUL_GLU] = {shape_matmul_glu, FM_ATTR_ACT},
    [FM_OP_NORM_MATMUL] = {shape_norm_matmul, FM_ATTR_EPS},
    [FM_OP_NORM_MATMUL_ADD] = {shape_norm_matmul_add, FM_ATTR_EPS},
    [FM_OP_NORM_MATMUL_GLU] = {shape_norm_matmul_glu, FM_ATTR_EPS | FM_ATTR_ACT},
    [FM_OP_MATMUL_CONV] = {shape_matmul_conv, CONVOLUTION},
    [FM_OP_NORM_MATMUL_CONV] = {shape_norm_matmul_conv, CONVOLUTION | FM_ATTR_EPS},
    [FM_OP_ROPE_KV_WRITE] = {shape_rope_kv_write, HEADS | HEADS_KV | ROTATE | CHUNK | CAP},
    [FM_OP_ROPE_ATTEND] = {shape_rope_attend, HEADS | HEADS_KV | ROTATE | FM_ATTR_SCALE | FM_ATTR_WINDOW},
    [FM_OP_ADD_NORM] = {shape_add_norm, FM_ATTR_NORM | FM_ATTR_EPS},
    [FM_OP_NORM_GATE] = {fm_shape_norm_gate, FM_ATTR_EPS | FM_ATTR_ACT | FM_ATTR_GATE | FM_ATTR_GROUPS},
    [FM_OP_CONV1D] = {fm_shape_conv1d, CONVOLUTION},
    [FM_OP_SELECTIVE_SCAN] = {fm_shape_selective_scan, FM_ATTR_HEADS | FM_ATTR_HEADS_KV | FM_ATTR_STATE},
    [FM_OP_SSD] = {fm_shape_ssd, HEADS | FM_ATTR_HEADS_KV | FM_ATTR_GROUPS | FM_ATTR_GROUPS_C | FM_ATTR_STATE},
    [FM_OP_SSD_GATE] = {fm_shape_ssd_gate, HEADS | FM_ATTR_HEADS_KV | FM_ATTR_GROUPS | FM_ATTR_GROUPS_C | FM_ATTR_STATE},
    [FM_OP_LINEAR_ATTEND] = {fm_shape_linear_attend, HEADS | FM_ATTR_STATE | FM_ATTR_ACT},
    [FM_OP_LRPE] = {fm_shape_lrpe, HEADS | FM_ATTR_ACT},
    [FM_OP_LINEAR_STATES] = {fm_shape_linear_states, HEADS | FM_ATTR_STATE | FM_ATTR_ACT | FM_ATTR_PART},
    [FM_OP_LINEAR_SCAN] = {fm_shape_linear_scan, HEADS | FM_ATTR_STATE | FM_ATTR_PART},
    [FM_OP_SCAN_STATES] = {fm_shape_scan_states, FM_ATTR_HEADS | FM_ATTR_HEADS_KV | FM_ATTR_STATE | FM_ATTR_PART},
    [FM_OP_SCAN_CARRY] = {fm_shape_scan_carry, FM_ATTR_HEADS | FM_ATTR_HEADS_KV | FM_ATTR_STATE | FM_ATTR_PART},
    [FM_OP_SSD_STATES] = {fm_shape_ssd_states, HEADS | FM_ATTR_HEADS_KV | FM_ATTR_GROUPS | FM_ATTR_GROUPS_C | FM_ATTR_STATE | FM_ATTR_PART},
    [FM_OP_SSD_SCAN] = {fm_shape_ssd_scan, HEADS | FM_ATTR_HEADS_KV | FM_ATTR_GROUPS | FM_ATTR_GROUPS_C | FM_ATTR_STATE | FM_ATTR_PART},
    [FM_OP_CAST] = {shape_cast, 0},
    [FM_OP_CAST_INT] = {shape_cast_int, FM_ATTR_X_BYTES},
    [FM_OP_DEQUANTIZE] = {shape_dequantize, 0},
    [FM_OP_READ_SUM] = {shape_read_sum, 0},
};

uint32_t fm_graph_attr_mask(enum fm_op op)
{
    return rows[op].attrs;
}

enum fm_result fm_graph_infer(const struct fm_graph *graph, const struct fm_node *node, struct fm_value *out_dst)
{
    if ((unsigned)node->op >= FM_OP_COUNT)
        return fm_fail(FM_ARG, "node '%s': unknown op %u", node->name, (unsigned)node->op);
    const struct fm_op_info *info = fm_op_info(node->op);
    if (node->n_src < info->min_src || node->n_src > info->max_src)
        return fm_fail(FM_ARG, "%s '%s': %u operands, expected %u to %u", info->name, node->name, node->n_src,
                       info->min_src, info->max_src);
    struct fm_shape_call c = {.graph = graph, .node = node, .dst = out_dst};
    for (unsigned i = 0; i < node->n_src; i++) {
        if (node->src[i] >= graph->n_values)
            return fm_fail(FM_ARG, "%s '%s': operand %u is no value (%u of %zu)", info->name, node->name, i,
                           node->src[i], graph->n_values);
        c.src[i] = &graph->values[node->src[i]];
    }
    for (unsigned i = 0; i < info->n_dst; i++)
        out_dst[i] = (struct fm_value){.producer = FM_NONE, .alias = FM_NONE};
    return rows[node->op].rule(&c);
}

enum fm_result fm_graph_name_result(struct fm_graph *graph, const struct fm_node *node, unsigned i,
                                    struct fm_value *value)
{
    if (value->alias != FM_NONE)
        value->name = graph->values[value->alias].name;
    else if (i == 0)
        value->name = node->name;
    else
        value->name = fm_arena_printf(&graph->arena, "%s.%u", node->name, i);
    return value->name ? FM_OK : fm_nomem();
}
