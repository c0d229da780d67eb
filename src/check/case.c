// SPDX-License-Identifier: MIT
// A problem made concrete: a graph of one node, its operands as states and weights, and their data.
#include "check/case.h"

#include "base/map.h"
#include "graph/builder.h"
#include "shaders/lib/abi.h"

#include <math.h>

// ---- random numbers (splitmix64) ---------------------------------------------------------------------------------

static uint64_t next(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

static float normal(uint64_t *state)
{
    // Sum of four uniform variables: close enough to a bell, bounded by 3.5.
    float sum = 0;
    for (int i = 0; i < 4; i++)
        sum += (float)(next(state) >> 40) * (1.0f / (1 << 24)) - 0.5f;
    return sum * 1.7320508f;
}

static float value(uint64_t *state, enum fm_problem_data data, uint64_t i)
{
    float x = normal(state);
    switch (data) {
    case FM_DATA_ZERO:
        return 0;
    case FM_DATA_TINY:
        return ldexpf(x, -130 + (int)(next(state) % 20));
    case FM_DATA_SMALL:
        return ldexpf(x, -12);
    case FM_DATA_UNEVEN:
        return i % 2048 < 600 ? 0 : i % 211 ? x : ldexpf(x, 20);
    case FM_DATA_HUGE:
        return x * 1e4f;
    case FM_DATA_CANCEL:
        return (i % 2 ? -1.0f : 1.0f) * (1 + ldexpf(x, -10));
    default:
        return x;
    }
}

// ---- graph -------------------------------------------------------------------------------------------------------

uint32_t fm_case_operand(struct fm_builder *b, const char *name, uint32_t rows, uint32_t width)
{
    return fm_build_state(b, name, FM_TYPE_F32, 2, (uint32_t[]){rows, width});
}

uint32_t fm_case_vector(struct fm_builder *b, const char *name, uint32_t width)
{
    return fm_build_weight(b, name, FM_TYPE_F32, FM_NONE, 1, &width);
}

static uint32_t build_sources(struct fm_builder *b, const struct fm_problem *p, struct fm_attr *attr, uint32_t src[FM_MAX_SRC])
{
    const uint32_t T = FM_DIM_T;
    const uint32_t unit = p->w == FM_TYPE_Q8_0 ? 32 : 8, stride = fm_ceil_div_u32(p->head, unit) * unit;
    uint32_t n = 0;
    attr->heads = p->heads;
    attr->heads_kv = p->heads_kv;
    attr->head = p->head;
    attr->rotated = p->rotated;
    attr->window = p->window;
    attr->rope = p->variant;
    attr->norm = p->variant;
    attr->act = p->variant;
    attr->eps = 1e-5f;
    attr->scale = p->op == FM_OP_EMBED ? 1.5f : p->head ? 1.0f / sqrtf((float)p->head) : 1.0f;
    attr->vocab = p->n > 5 ? p->n - 3 : p->n;
    attr->gate = p->variant % 2;
    attr->state = p->state;
    attr->groups = p->groups;
    attr->groups_c = p->groups_c;
    attr->repeat = p->repeat;
    attr->chunk = p->chunk;
    attr->cap = p->cap;
    attr->original = p->original;
    attr->copies = p->copies;
    switch (p->op) {
    case FM_OP_MATMUL:
    case FM_OP_MATMUL_ADD:
        src[n++] = fm_case_operand(b, "x", T, p->k);
        src[n++] = fm_build_weight(b, "w", p->w, FM_NONE, 2, (uint32_t[]){p->n, p->k});
        if (p->op == FM_OP_MATMUL_ADD)
            src[n++] = fm_case_operand(b, "residual", T, p->n);
        if (p->bias)
            src[n++] = fm_case_vector(b, "bias", p->n);
        break;
    case FM_OP_MATMUL_GLU:
        src[n++] = fm_case_operand(b, "x", T, p->k);
        src[n++] = fm_build_weight(b, "gate", p->w, FM_NONE, 2, (uint32_t[]){p->n, p->k});
        src[n++] = fm_build_weight(b, "up", p->w, FM_NONE, 2, (uint32_t[]){p->n, p->k});
        break;
    case FM_OP_NORM_MATMUL:
    case FM_OP_NORM_MATMUL_ADD:
        src[n++] = fm_case_operand(b, "x", T, p->k);
        src[n++] = fm_build_weight(b, "w", p->w, FM_NONE, 2, (uint32_t[]){p->n, p->k});
        if (p->op == FM_OP_NORM_MATMUL_ADD)
            src[n++] = fm_case_operand(b, "residual", T, p->n);
        src[n++] = fm_case_vector(b, "norm", p->k);
        if (p->bias)
            src[n++] = fm_case_vector(b, "bias", p->n);
        break;
    case FM_OP_NORM_MATMUL_GLU:
        src[n++] = fm_case_operand(b, "x", T, p->k);
        src[n++] = fm_build_weight(b, "gate", p->w, FM_NONE, 2, (uint32_t[]){p->n, p->k});
        src[n++] = fm_build_weight(b, "up", p->w, FM_NONE, 2, (uint32_t[]){p->n, p->k});
        src[n++] = fm_case_vector(b, "norm", p->k);
        break;
    case FM_OP_EMBED:
        src[n++] = fm_build_weight(b, "w", p->w, FM_NONE, 2, (uint32_t[]){p->n, p->k});
        src[n++] = fm_build_input(b, FM_INPUT_TOKEN);
        break;
    case FM_OP_NORM:
        src[n++] = fm_case_operand(b, "x", T, p->k);
        src[n++] = fm_case_vector(b, "w", p->k);
        if (p->bias)
            src[n++] = fm_case_vector(b, "bias", p->k);
        break;
    case FM_OP_ADD_NORM:
        src[n++] = fm_case_operand(b, "a", T, p->k);
        src[n++] = fm_case_operand(b, "b", T, p->k);
        src[n++] = fm_case_vector(b, "w", p->k);
        if (p->bias)
            src[n++] = fm_case_vector(b, "bias", p->k);
        break;
    case FM_OP_GLU:
    case FM_OP_ADD:
        src[n++] = fm_case_operand(b, "a", T, p->k);
        src[n++] = fm_case_operand(b, "b", T, p->k);
        break;
    case FM_OP_ACT:
    case FM_OP_CAST:
        src[n++] = fm_case_operand(b, "x", T, p->k);
        break;
    case FM_OP_DEQUANTIZE:
        src[n++] = fm_build_weight(b, "w", p->w, FM_NONE, 2, (uint32_t[]){p->n, p->k});
        break;
    case FM_OP_GATHER:
        src[n++] = fm_case_operand(b, "x", T, p->k);
        src[n++] = fm_build_input(b, FM_INPUT_OUT_ROW);
        break;
    case FM_OP_ROPE:
        src[n++] = fm_case_operand(b, "x", T, p->heads * p->head);
        src[n++] = fm_build_rope_table(b, "freq", p->rotated / 2, 10000.0, NULL);
        src[n++] = fm_build_input(b, FM_INPUT_POS);
        if (p->original)
            src[n++] = fm_build_input(b, FM_INPUT_LENGTH);
        break;
    case FM_OP_KV_WRITE:
    case FM_OP_ROPE_KV_WRITE:
    case FM_OP_ROPE_ATTEND:
        if (p->op != FM_OP_KV_WRITE)
            src[n++] = fm_case_operand(b, "q", T, p->heads * p->head);
        src[n++] = fm_case_operand(b, "k", T, p->heads_kv * p->head);
        src[n++] = fm_case_operand(b, "v", T, p->heads_kv * p->head);
        if (p->op != FM_OP_KV_WRITE)
            src[n++] = fm_build_rope_table(b, "freq", p->rotated / 2, 10000.0, NULL);
        src[n++] = fm_build_input(b, FM_INPUT_POS);
        src[n++] = fm_build_input(b, FM_INPUT_SLOT);
        src[n++] = fm_build_state(b, "k_cache", p->w, 4, (uint32_t[]){FM_DIM_S, p->heads_kv, FM_DIM_L, stride});
        src[n++] = fm_build_state(b, "v_cache", p->w, 4, (uint32_t[]){FM_DIM_S, p->heads_kv, FM_DIM_L, stride});
        if (p->original)
            src[n++] = fm_build_input(b, FM_INPUT_LENGTH);
        break;
    case FM_OP_ATTEND:
        src[n++] = fm_case_operand(b, "q", T, p->heads * p->head * (p->chunk > 0 ? 3 : 1));
        src[n++] = fm_build_state(b, "k_cache", p->w, 4, (uint32_t[]){FM_DIM_S, p->heads_kv, FM_DIM_L, stride});
        src[n++] = fm_build_state(b, "v_cache", p->w, 4, (uint32_t[]){FM_DIM_S, p->heads_kv, FM_DIM_L, stride});
        src[n++] = fm_build_input(b, FM_INPUT_POS);
        src[n++] = fm_build_input(b, FM_INPUT_SLOT);
        break;
    case FM_OP_TOKEN_FEED:
        src[n++] = fm_build_input(b, FM_INPUT_TOKEN);
        src[n++] = fm_build_input(b, FM_INPUT_POS);
        src[n++] = fm_build_input(b, FM_INPUT_SLOT);
        src[n++] = fm_build_state(b, "history", FM_TYPE_I32, 2, (uint32_t[]){FM_DIM_S, FM_DIM_L});
        src[n++] = fm_build_state(b, "last", FM_TYPE_I32, 1, (uint32_t[]){FM_DIM_S});
        break;
    case FM_OP_SAMPLE:
        src[n++] = fm_case_operand(b, "logits", FM_DIM_O, p->n);
        src[n++] = fm_build_input(b, FM_INPUT_OUT_ROW);
        src[n++] = fm_build_input(b, FM_INPUT_POS);
        src[n++] = fm_build_input(b, FM_INPUT_SLOT);
        src[n++] = fm_build_input(b, FM_INPUT_SAMPLER);
        src[n++] = fm_build_state(b, "history", FM_TYPE_I32, 2, (uint32_t[]){FM_DIM_S, FM_DIM_L});
        src[n++] = fm_build_state(b, "last", FM_TYPE_I32, 1, (uint32_t[]){FM_DIM_S});
        break;
    case FM_OP_NORM_GATE:
    case FM_OP_CONV1D:
    case FM_OP_MATMUL_CONV:
    case FM_OP_NORM_MATMUL_CONV:
    case FM_OP_SELECTIVE_SCAN:
    case FM_OP_SSD:
    case FM_OP_SSD_GATE:
    case FM_OP_LINEAR_ATTEND:
    case FM_OP_LRPE:
        return fm_case_recurrent_sources(b, p, attr, src);
    default:
        b->error = fm_fail(FM_UNSUPPORTED, "no problem generator for op %s", fm_op_info(p->op)->name);
    }
    return n;
}

// ---- data --------------------------------------------------------------------------------------------------------

static enum fm_result fill_value(struct fm_case *c, const struct fm_problem *p, uint32_t id, uint64_t *rng)
{
    const struct fm_value *v = &c->graph.values[id];
    uint64_t elems, bytes;
    if (!fm_value_elems(v, &c->dims, &elems) || !fm_type_bytes(v->type, elems, &bytes))
        return fm_fail(FM_ARG, "operand %s is too large", v->name);
    c->data[id] = fm_alloc_zero(1, FM_MAX(bytes, 1));
    if (!c->data[id])
        return fm_nomem();
    c->data_bytes[id] = bytes;
    if (v->type == FM_TYPE_I32) {
        uint32_t *words = c->data[id];
        for (uint64_t i = 0; i < elems; i++)
            words[i] = (uint32_t)(next(rng) % (p->n ? p->n : 1000));
        return FM_OK;
    }
    // Weights keep a normal spread whatever the activations are, so that only one side is extreme. Large problems
    // repeat a block.
    enum fm_problem_data data = v->kind == FM_VALUE_WEIGHT ? FM_DATA_NORMAL : p->data;
    uint32_t last = v->dims[v->n_dims - 1];
    uint64_t distinct = FM_MIN(elems, p->bench ? (uint64_t)(last > 1 << 16 ? 1 : (1 << 16) / last) * last : elems);
    if (distinct == 0)
        distinct = FM_MIN(elems, last);
    float *f = fm_alloc(distinct * sizeof *f);
    if (!f)
        return fm_nomem();
    bool cache = v->kind == FM_VALUE_STATE && v->n_dims == 4 && v->dims[1] != FM_DIM_B;
    for (uint64_t i = 0; i < distinct; i++)
        f[i] = cache && i % last >= p->head ? 0.0f : fm_case_recurrent_value(p->op, v->name, value(rng, data, i));
    if (data == FM_DATA_NAN)
        f[distinct / 2] = NAN;
    for (uint64_t i = distinct / 2; data == FM_DATA_INF && i < FM_MIN(distinct / 2 + last, distinct); i++)
        f[i] = -INFINITY;
    uint64_t block_bytes = 0;
    fm_type_bytes(v->type, distinct, &block_bytes);
    fm_quant_encode(v->type, f, distinct, c->data[id]);
    for (uint64_t at = block_bytes; at < bytes; at += block_bytes)
        memcpy((uint8_t *)c->data[id] + at, c->data[id], FM_MIN(block_bytes, bytes - at));
    fm_free(f);
    return FM_OK;
}

static uint32_t float_word(float f)
{
    uint32_t w;
    memcpy(&w, &f, sizeof w);
    return w;
}

static void fill_sampler(uint32_t *record, uint8_t variant, uint32_t row)
{
    static const struct { float temp, top_p, min_p, penalty; uint32_t top_k, last_n; } settings[8] = {
        {0, 1, 0, 1, 0, 0},        {0, 1, 0, 1.3f, 0, 64},    {1, 1, 0, 1, 0, 0},          {0.8f, 0.95f, 0.05f, 1.1f, 40, 64},
        {1, 0.5f, 0, 1, 0, 0},     {1.5f, 1, 0.1f, 1, 0, 0},  {0.7f, 1, 0, 1, 5, 0},       {1, 0.9f, 0.02f, 1.05f, 100, 16}};
    record[FM_SAMPLER_TEMP] = float_word(settings[variant].temp);
    record[FM_SAMPLER_TOP_K] = settings[variant].top_k;
    record[FM_SAMPLER_TOP_P] = float_word(settings[variant].top_p);
    record[FM_SAMPLER_MIN_P] = float_word(settings[variant].min_p);
    record[FM_SAMPLER_REPEAT_PENALTY] = float_word(settings[variant].penalty);
    record[FM_SAMPLER_REPEAT_LAST_N] = settings[variant].last_n;
    record[FM_SAMPLER_SEED_LO] = 1234 + row;
    record[FM_SAMPLER_SEED_HI] = 77;
}

static enum fm_result fill_inputs(struct fm_case *c, const struct fm_problem *p, uint64_t *rng)
{
    for (int i = 0; i < FM_INPUT_COUNT; i++) {
        c->input_words[i] = i == FM_INPUT_SAMPLER   ? p->bucket * FM_SAMPLER_WORDS
                            : i == FM_INPUT_SEGMENT ? FM_MAX(p->slots, 1) * FM_SEGMENT_WORDS
                                                    : p->bucket;
        c->input[i] = fm_alloc_zero(c->input_words[i], sizeof(uint32_t));
        if (!c->input[i])
            return fm_nomem();
    }
    uint32_t slots = FM_MAX(p->slots, 1);
    uint32_t per_slot = fm_ceil_div_u32(p->rows, slots);
    for (uint32_t t = 0; t < p->bucket; t++) {
        bool used = t < p->rows;
        // Padding rows hold what would do harm if a kernel looked at them.
        uint32_t token = (uint32_t)(next(rng) % (p->n ? p->n : 1000));
        if (p->op == FM_OP_TOKEN_FEED && t % 5 == 2)
            token = FM_TOKEN_LAST;
        c->input[FM_INPUT_TOKEN][t] = used ? token : 0x7fffffffu;
        c->input[FM_INPUT_SLOT][t] = used ? t / per_slot : 0x7fffffffu;
        c->input[FM_INPUT_POS][t] = used ? p->first_pos + t % per_slot : 0x7fffffffu;
        c->input[FM_INPUT_OUT_ROW][t] = used ? (p->rows - 1 - t) : 0x7fffffffu;
        c->input[FM_INPUT_LENGTH][t] = used ? p->first_pos + per_slot : 0x7fffffffu;
        fill_sampler(&c->input[FM_INPUT_SAMPLER][t * FM_SAMPLER_WORDS], p->variant % 8, t);
    }
    for (uint32_t s = 0; s < slots && s * per_slot < p->rows; s++) {
        uint32_t *segment = &c->input[FM_INPUT_SEGMENT][s * FM_SEGMENT_WORDS];
        segment[FM_SEGMENT_ROW] = s * per_slot;
        segment[FM_SEGMENT_ROWS] = FM_MIN(per_slot, p->rows - s * per_slot);
        segment[FM_SEGMENT_SLOT] = s;
        segment[FM_SEGMENT_POS] = p->first_pos;
        c->segments++;
    }
    return FM_OK;
}

enum fm_result fm_case_create(const struct fm_problem *problem, struct fm_case *out_case)
{
    struct fm_case c = {.dims = {.t = problem->bucket, .o = problem->bucket, .s = FM_MAX(problem->slots, 1), .l = FM_MAX(problem->ctx, 1),
                                 .b = problem->versions, .run = problem->run, .x_bytes = problem->x_bytes}};
    struct fm_builder b = {.graph = &c.graph, .kv_type = {problem->w, problem->w}};
    struct fm_attr attr = {0};
    uint32_t src[FM_MAX_SRC];
    uint32_t dst[FM_MAX_DST];
    uint32_t n = build_sources(&b, problem, &attr, src);
    enum fm_result r = b.error;
    if (!r)
        r = fm_graph_add(&c.graph, problem->op, fm_op_info(problem->op)->name, src, n, &attr, dst);
    if (r) {
        fm_case_finish(&c);
        return r;
    }
    // Float results are read back by the test.
    for (uint32_t i = 0; i < c.graph.nodes[0].n_dst; i++)
        if (c.graph.values[dst[i]].kind == FM_VALUE_TEMP)
            c.graph.values[dst[i]].kind = FM_VALUE_OUTPUT;
    if (problem->op == FM_OP_SAMPLE) // in the pool of results, as a session's
        c.graph.ids = dst[0];
    c.halves = problem->halves;
    for (uint32_t i = 0; problem->half_x && i <= fm_plan_last_half(problem->op); i++)
        c.graph.values[src[i]].type = FM_TYPE_F16;
    *out_case = c;
    return FM_OK;
}

enum fm_result fm_case_fill(const struct fm_problem *problem, uint32_t seed, struct fm_case *c)
{
    uint64_t rng = fm_hash64(problem->name, strlen(problem->name), FM_HASH_SEED) + seed;
    c->data = fm_alloc_zero(c->graph.n_values, sizeof *c->data);
    c->data_bytes = fm_alloc_zero(c->graph.n_values, sizeof *c->data_bytes);
    if (!c->data || !c->data_bytes)
        return fm_nomem();
    enum fm_result r = fill_inputs(c, problem, &rng);
    for (uint32_t id = 0; id < c->graph.n_values && !r; id++) {
        const struct fm_value *v = &c->graph.values[id];
        if (v->kind == FM_VALUE_WEIGHT || (v->kind == FM_VALUE_STATE && v->producer == FM_NONE))
            r = fill_value(c, problem, id, &rng);
    }
    return r;
}

void fm_case_planes(const struct fm_case *c, uint32_t value, uint64_t *out_planes, uint64_t *out_blocks)
{
    const struct fm_value *v = &c->graph.values[value];
    *out_planes = (uint64_t)c->dims.s * v->dims[1];
    *out_blocks = (uint64_t)c->dims.l * v->dims[3] / fm_type_info(v->type)->block_elems;
}

void fm_case_finish(struct fm_case *c)
{
    for (size_t i = 0; c->data && i < c->graph.n_values; i++)
        fm_free(c->data[i]);
    for (int i = 0; i < FM_INPUT_COUNT; i++)
        fm_free(c->input[i]);
    fm_free(c->data);
    fm_free(c->data_bytes);
    fm_graph_finish(&c->graph);
    *c = (struct fm_case){0};
}
