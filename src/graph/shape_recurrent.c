// SPDX-License-Identifier: MIT
// Shape rules of the recurrent families: convolution, scans, linear attention, and the gated norm between them.
#include "graph/shape_impl.h"

// Operand i must be f32 [rows of operand 0, width].
static enum fm_result want_width(const struct fm_shape_call *c, unsigned i, uint64_t width)
{
    if (width == 0 || width >= FM_DIM_FIRST)
        return fm_shape_bad_attr(c, "a row is empty or too long");
    return fm_shape_want(c, i, FM_TYPE_F32, 2, c->src[0]->dims[0], (uint32_t)width);
}

// Operand i must be the step's segments.
static enum fm_result want_segments(const struct fm_shape_call *c, unsigned i)
{
    return fm_shape_want(c, i, FM_TYPE_I32, 2, FM_DIM_S, 4);
}

// Operand i must be a recurrent state f32 [S,B,rows,width].
static enum fm_result want_recurrent(const struct fm_shape_call *c, unsigned i, uint64_t rows, uint32_t width)
{
    TRY(fm_shape_want_state(c, i, FM_TYPE_F32, 4));
    struct fm_value e = *c->src[i];
    if (rows == 0 || rows >= FM_DIM_FIRST)
        return fm_shape_bad_attr(c, "the state is empty or too large");
    e.dims[0] = FM_DIM_S;
    e.dims[1] = FM_DIM_B;
    e.dims[2] = (uint32_t)rows;
    e.dims[3] = width;
    return memcmp(e.dims, c->src[i]->dims, sizeof(e.dims)) == 0 ? FM_OK : fm_shape_mismatch(c, i, &e);
}

static enum fm_result want_act(const struct fm_shape_call *c)
{
    return c->node->attr.act < FM_ACT_COUNT ? FM_OK : fm_shape_bad_attr(c, "unknown activation");
}

// Does every group of `parts` hold the same number of `whole`?
static bool divides(uint32_t parts, uint32_t whole)
{
    return parts > 0 && whole > 0 && whole % parts == 0;
}

enum fm_result fm_shape_norm_gate(const struct fm_shape_call *c)
{
    TRY(want_act(c));
    TRY(fm_shape_want_rows(c, 0));
    uint32_t width = c->src[0]->dims[1];
    if (!divides(c->node->attr.groups, width))
        return fm_shape_bad_attr(c, "the row is no whole number of groups");
    TRY(fm_shape_want(c, 1, FM_TYPE_F32, 2, c->src[0]->dims[0], width));
    if (c->node->n_src > 2)
        TRY(fm_shape_want(c, 2, FM_TYPE_F32, 1, width, 0));
    fm_shape_give(c, 0, FM_TYPE_F32, 2, c->src[0]->dims[0], width);
    return FM_OK;
}

enum fm_result fm_shape_convolution(const struct fm_shape_call *c, unsigned taps, uint32_t in)
{
    const struct fm_attr *a = &c->node->attr;
    TRY(want_act(c));
    TRY(fm_shape_want_matrix(c, taps, FM_NONE));
    uint32_t out = c->src[taps]->dims[0], width = c->src[taps]->dims[1];
    if (c->src[taps]->type != FM_TYPE_F32)
        return fm_shape_wrong(c, taps, "f32 [E,W]");
    if (width < 2 || a->repeat == 0 || (uint64_t)in * a->repeat != out || (a->repeat > 1 && !divides(a->head, in)))
        return fm_shape_bad_attr(c, "wants W >= 2 and E = Ex * repeat, Ex whole pieces of `head`");
    TRY(want_segments(c, taps + 1));
    TRY(want_recurrent(c, taps + 2, width - 1, in));
    if (c->node->n_src > taps + 3)
        TRY(fm_shape_want(c, taps + 3, FM_TYPE_F32, 1, out, 0));
    fm_shape_give(c, 0, FM_TYPE_F32, 2, c->src[0]->dims[0], out);
    fm_shape_give_state(c, 1, taps + 2);
    return FM_OK;
}

enum fm_result fm_shape_conv1d(const struct fm_shape_call *c)
{
    TRY(fm_shape_want_rows(c, 0));
    return fm_shape_convolution(c, 1, c->src[0]->dims[1]);
}

enum fm_result fm_shape_selective_scan(const struct fm_shape_call *c)
{
    const struct fm_attr *a = &c->node->attr;
    TRY(fm_shape_want_rows(c, 0));
    uint32_t channels = c->src[0]->dims[1];
    if (!divides(a->heads, channels) || !divides(a->heads_kv, channels) || a->state == 0)
        return fm_shape_bad_attr(c, "the channels are no whole number of groups, or the state is empty");
    TRY(want_width(c, 1, channels));
    TRY(fm_shape_want(c, 2, FM_TYPE_F32, 2, channels, a->state));
    TRY(want_width(c, 3, (uint64_t)a->heads_kv * a->state));
    TRY(want_width(c, 4, (uint64_t)a->heads * a->state));
    TRY(fm_shape_want(c, 5, FM_TYPE_F32, 1, channels, 0));
    TRY(fm_shape_want(c, 6, FM_TYPE_F32, 1, channels, 0));
    TRY(want_width(c, 7, channels));
    TRY(want_segments(c, 8));
    TRY(want_recurrent(c, 9, channels, a->state));
    fm_shape_give(c, 0, FM_TYPE_F32, 2, c->src[0]->dims[0], channels);
    fm_shape_give_state(c, 1, 9);
    return FM_OK;
}

enum fm_result fm_shape_ssd(const struct fm_shape_call *c)
{
    const struct fm_attr *a = &c->node->attr;
    if (!divides(a->heads_kv, a->heads) || !divides(a->groups, a->heads) || !divides(a->groups_c, a->heads) || a->state == 0 ||
        a->head == 0)
        return fm_shape_bad_attr(c, "the heads are no whole number of groups, or a head or the state is empty");
    TRY(want_width(c, 0, (uint64_t)a->heads_kv * a->head + ((uint64_t)a->groups + a->groups_c) * a->state));
    TRY(want_width(c, 1, a->heads));
    for (unsigned i = 2; i < 5; i++)
        TRY(fm_shape_want(c, i, FM_TYPE_F32, 1, a->heads, 0));
    TRY(want_segments(c, 5));
    TRY(want_recurrent(c, 6, (uint64_t)a->heads * a->head, a->state));
    fm_shape_give(c, 0, FM_TYPE_F32, 2, c->src[0]->dims[0], a->heads * a->head);
    fm_shape_give_state(c, 1, 6);
    return FM_OK;
}

enum fm_result fm_shape_ssd_gate(const struct fm_shape_call *c)
{
    TRY(fm_shape_ssd(c));
    return want_width(c, 7, (uint64_t)c->node->attr.heads * c->node->attr.head);
}

enum fm_result fm_shape_linear_attend(const struct fm_shape_call *c)
{
    const struct fm_attr *a = &c->node->attr;
    TRY(want_act(c));
    TRY(want_width(c, 0, 2 * (uint64_t)a->heads * a->state));
    TRY(want_width(c, 1, (uint64_t)a->heads * a->head));
    TRY(fm_shape_want(c, 2, FM_TYPE_F32, 1, a->heads, 0));
    TRY(want_segments(c, 3));
    TRY(want_recurrent(c, 4, (uint64_t)a->heads * a->state, a->head));
    fm_shape_give(c, 0, FM_TYPE_F32, 2, c->src[0]->dims[0], a->heads * a->head);
    fm_shape_give_state(c, 1, 4);
    return FM_OK;
}

// Result 0 is a state per part, f32 [T,H*inner,width].
static enum fm_result give_parts(const struct fm_shape_call *c, uint32_t inner, uint32_t width)
{
    const struct fm_attr *a = &c->node->attr;
    uint64_t rows = (uint64_t)a->heads * inner;
    if (a->part == 0 || rows == 0 || rows >= FM_DIM_FIRST || width == 0)
        return fm_shape_bad_attr(c, "a part or its state is empty or too large");
    fm_shape_give(c, 0, FM_TYPE_F32, 3, FM_DIM_T, (uint32_t)rows);
    c->dst[0].dims[2] = width;
    return FM_OK;
}

enum fm_result fm_shape_linear_states(const struct fm_shape_call *c)
{
    const struct fm_attr *a = &c->node->attr;
    TRY(want_act(c));
    TRY(want_width(c, 0, 2 * (uint64_t)a->heads * a->state));
    TRY(want_width(c, 1, (uint64_t)a->heads * a->head));
    TRY(fm_shape_want(c, 2, FM_TYPE_F32, 1, a->heads, 0));
    TRY(want_segments(c, 3));
    return give_parts(c, a->state, a->head); // [T,H*K,P]
}

enum fm_result fm_shape_linear_scan(const struct fm_shape_call *c)
{
    const struct fm_attr *a = &c->node->attr;
    const struct fm_value *z = c->src[0];
    uint64_t rows = (uint64_t)a->heads * a->state;
    if (z->type != FM_TYPE_F32 || z->n_dims != 3 || z->dims[1] != rows || z->dims[2] != a->head)
        return fm_shape_wrong(c, 0, "f32 [T,H*K,P]");
    TRY(fm_shape_want(c, 1, FM_TYPE_F32, 1, a->heads, 0));
    TRY(want_segments(c, 2));
    TRY(want_recurrent(c, 3, rows, a->head));
    return give_parts(c, a->state, a->head); // [T,H*K,P]
}

// Result 0 is a state per part in quarters, f32 [T,N/4,E,4].
static enum fm_result give_quads(const struct fm_shape_call *c, uint32_t channels)
{
    const struct fm_attr *a = &c->node->attr;
    if (a->part == 0 || a->state == 0 || a->state % 4 != 0)
        return fm_shape_bad_attr(c, "a part is empty, or the state is no multiple of 4");
    fm_shape_give(c, 0, FM_TYPE_F32, 4, FM_DIM_T, a->state / 4);
    c->dst[0].dims[2] = channels;
    c->dst[0].dims[3] = 4;
    return FM_OK;
}

enum fm_result fm_shape_scan_states(const struct fm_shape_call *c)
{
    const struct fm_attr *a = &c->node->attr;
    TRY(fm_shape_want_rows(c, 0));
    uint32_t channels = c->src[0]->dims[1];
    if (!divides(a->heads_kv, channels))
        return fm_shape_bad_attr(c, "the channels are no whole number of groups");
    TRY(want_width(c, 1, channels));
    TRY(fm_shape_want(c, 2, FM_TYPE_F32, 2, channels, a->state));
    TRY(want_width(c, 3, (uint64_t)a->heads_kv * a->state));
    TRY(fm_shape_want(c, 4, FM_TYPE_F32, 1, channels, 0));
    TRY(want_segments(c, 5));
    fm_shape_give(c, 1, FM_TYPE_F32, 2, FM_DIM_T, channels);
    return give_quads(c, channels);
}

enum fm_result fm_shape_scan_carry(const struct fm_shape_call *c)
{
    const struct fm_attr *a = &c->node->attr;
    TRY(fm_shape_want_matrix(c, 0, FM_NONE));
    uint32_t channels = c->src[0]->dims[0];
    const struct fm_value *ends = c->src[1];
    if (ends->type != FM_TYPE_F32 || ends->n_dims != 4 || ends->dims[1] != a->state / 4 || ends->dims[2] != channels ||
        ends->dims[3] != 4)
        return fm_shape_wrong(c, 1, "f32 [T,N/4,E,4]");
    TRY(fm_shape_want(c, 2, FM_TYPE_F32, 2, ends->dims[0], channels));
    TRY(want_segments(c, 3));
    TRY(want_recurrent(c, 4, channels, a->state));
    return give_quads(c, channels);
}

enum fm_result fm_shape_lrpe(const struct fm_shape_call *c)
{
    const struct fm_attr *a = &c->node->attr;
    TRY(want_act(c));
    TRY(want_width(c, 0, (uint64_t)a->heads * a->head));
    const struct fm_value *freq = c->src[1];
    if (freq->type != FM_TYPE_I32 || freq->n_dims != 2 || freq->dims[1] != 2 || !divides(a->head, freq->dims[0]) ||
        !divides(freq->dims[0] / a->head, a->heads))
        return fm_shape_wrong(c, 1, "u32 [Hf*P,2], with H a multiple of Hf");
    TRY(fm_shape_want_u32(c, 2, c->src[0]->dims[0]));
    fm_shape_give(c, 0, FM_TYPE_F32, 2, c->src[0]->dims[0], 2 * a->heads * a->head);
    return FM_OK;
}

enum fm_result fm_shape_ssd_states(const struct fm_shape_call *c)
{
    const struct fm_attr *a = &c->node->attr;
    if (!divides(a->heads_kv, a->heads) || !divides(a->groups, a->heads) || !divides(a->groups_c, a->heads))
        return fm_shape_bad_attr(c, "the heads are no whole number of groups");
    uint64_t bc = ((uint64_t)a->groups + a->groups_c) * a->state;
    TRY(want_width(c, 0, (uint64_t)a->heads_kv * a->head + bc));
    if (bc >= FM_DIM_FIRST)
        return fm_shape_bad_attr(c, "a row is too long");
    TRY(want_width(c, 1, a->heads));
    TRY(fm_shape_want(c, 2, FM_TYPE_F32, 1, a->heads, 0));
    TRY(fm_shape_want(c, 3, FM_TYPE_F32, 1, a->heads, 0));
    TRY(want_segments(c, 4));
    fm_shape_give(c, 1, FM_TYPE_F32, 2, FM_DIM_T, a->heads);
    return give_parts(c, a->head, a->state); // [T,H*P,N]
}

enum fm_result fm_shape_ssd_scan(const struct fm_shape_call *c)
{
    const struct fm_attr *a = &c->node->attr;
    const struct fm_value *z = c->src[0];
    uint64_t rows = (uint64_t)a->heads * a->head;
    if (z->type != FM_TYPE_F32 || z->n_dims != 3 || z->dims[1] != rows || z->dims[2] != a->state)
        return fm_shape_wrong(c, 0, "f32 [T,H*P,N]");
    TRY(want_width(c, 1, a->heads));
    TRY(want_segments(c, 2));
    TRY(want_recurrent(c, 3, rows, a->state));
    return give_parts(c, a->head, a->state); // [T,H*P,N]
}
