// SPDX-License-Identifier: MIT
// Problems of the recurrent ops made concrete.
#include "check/case.h"

#include <math.h>

static uint32_t segments(struct fm_builder *b)
{
    return fm_build_input(b, FM_INPUT_SEGMENT);
}

static uint32_t recurrent_state(struct fm_builder *b, uint32_t rows, uint32_t width)
{
    return fm_build_state(b, "state", FM_TYPE_F32, 4, (uint32_t[]){FM_DIM_S, FM_DIM_B, rows, width});
}

static uint32_t matrix(struct fm_builder *b, const char *name, uint32_t rows, uint32_t width)
{
    return fm_build_weight(b, name, FM_TYPE_F32, FM_NONE, 2, (uint32_t[]){rows, width});
}

// The operands of a convolution of so many channels, after n others.
static uint32_t convolution(struct fm_builder *b, const struct fm_problem *p, uint32_t channels, struct fm_attr *attr, uint32_t *src,
                            uint32_t n)
{
    attr->act = p->variant % 2 ? FM_ACT_NONE : FM_ACT_SILU;
    src[n++] = matrix(b, "taps", channels * p->repeat, p->state);
    src[n++] = segments(b);
    src[n++] = recurrent_state(b, p->state - 1, channels);
    if (p->bias)
        src[n++] = fm_case_vector(b, "bias", channels * p->repeat);
    return n;
}

uint32_t fm_case_recurrent_sources(struct fm_builder *b, const struct fm_problem *p, struct fm_attr *attr, uint32_t *src)
{
    const uint32_t T = FM_DIM_T;
    uint32_t n = 0;
    switch (p->op) {
    case FM_OP_NORM_GATE: // k wide
        attr->act = p->variant / 2 % 2 ? FM_ACT_NONE : FM_ACT_SILU;
        src[n++] = fm_case_operand(b, "x", T, p->k);
        src[n++] = fm_case_operand(b, "gate", T, p->k);
        if (p->bias)
            src[n++] = fm_case_vector(b, "w", p->k);
        break;
    case FM_OP_CONV1D: // k channels in, k * repeat out
        src[n++] = fm_case_operand(b, "x", T, p->k);
        return convolution(b, p, p->k, attr, src, n);
    case FM_OP_MATMUL_CONV:
    case FM_OP_NORM_MATMUL_CONV: // n channels in, n * repeat out
        src[n++] = fm_case_operand(b, "x", T, p->k);
        src[n++] = fm_build_weight(b, "w", p->w, FM_NONE, 2, (uint32_t[]){p->n, p->k});
        if (p->op == FM_OP_NORM_MATMUL_CONV)
            src[n++] = fm_case_vector(b, "norm", p->k);
        return convolution(b, p, p->n, attr, src, n);
    case FM_OP_SELECTIVE_SCAN: // k channels
        src[n++] = fm_case_operand(b, "u", T, p->k);
        src[n++] = fm_case_operand(b, "dt", T, p->k);
        src[n++] = matrix(b, "a", p->k, p->state);
        src[n++] = fm_case_operand(b, "b", T, p->heads_kv * p->state);
        src[n++] = fm_case_operand(b, "c", T, p->heads * p->state);
        src[n++] = fm_case_vector(b, "d", p->k);
        src[n++] = fm_case_vector(b, "dt_bias", p->k);
        src[n++] = fm_case_operand(b, "z", T, p->k);
        src[n++] = segments(b);
        src[n++] = recurrent_state(b, p->k, p->state);
        break;
    case FM_OP_SSD:
    case FM_OP_SSD_GATE:
        src[n++] = fm_case_operand(b, "xbc", T, p->heads_kv * p->head + (p->groups + p->groups_c) * p->state);
        src[n++] = fm_case_operand(b, "dt", T, p->heads);
        src[n++] = fm_case_vector(b, "a", p->heads);
        src[n++] = fm_case_vector(b, "d", p->heads);
        src[n++] = fm_case_vector(b, "dt_bias", p->heads);
        src[n++] = segments(b);
        src[n++] = recurrent_state(b, p->heads * p->head, p->state);
        if (p->op == FM_OP_SSD_GATE)
            src[n++] = fm_case_operand(b, "z", T, p->heads * p->head);
        break;
    case FM_OP_LINEAR_ATTEND:
        attr->act = p->variant % 2 ? FM_ACT_NONE : FM_ACT_SILU;
        src[n++] = fm_case_operand(b, "qk", T, 2 * p->heads * p->state);
        src[n++] = fm_case_operand(b, "v", T, p->heads * p->head);
        src[n++] = fm_case_vector(b, "decay", p->heads);
        src[n++] = segments(b);
        src[n++] = recurrent_state(b, p->heads * p->state, p->head);
        break;
    default: // FM_OP_LRPE: two sets of heads share the frequencies when `heads` is even
        attr->act = p->variant % 2 ? FM_ACT_NONE : FM_ACT_SILU;
        src[n++] = fm_case_operand(b, "x", T, p->heads * p->head);
        src[n++] = fm_build_rope_table(b, "freq", (p->heads % 2 ? p->heads : p->heads / 2) * p->head, 10000.0, NULL);
        src[n++] = fm_build_input(b, FM_INPUT_POS);
        break;
    }
    return n;
}

float fm_case_recurrent_value(enum fm_op op, const char *name, float x)
{
    if (op != FM_OP_SELECTIVE_SCAN && op != FM_OP_SSD && op != FM_OP_SSD_GATE && op != FM_OP_LINEAR_ATTEND)
        return x;
    if (strcmp(name, "a") == 0)
        return -expf(x) - 0.01f; // decays
    if (strcmp(name, "decay") == 0)
        return x * x * 0.25f + 1e-5f; // rates
    if (strcmp(name, "dt_bias") == 0)
        return x - 2.0f; // softplus of it: 0.004 to 1.7, as trained models have
    return x;
}
