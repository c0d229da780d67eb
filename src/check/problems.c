// SPDX-License-Identifier: MIT
// The list of problems: for every op and format the sizes 1, primes, tile +- 1, multiples and maxima, and the awkward
// data.
#include "check/problems.h"

#include <stdio.h>

static const char *const data_names[FM_DATA_UNEVEN + 1] = {"normal", "zero", "tiny", "huge", "cancel", "nan", "inf", "small",
                                                          "uneven"};

void fm_problems_push(struct fm_problems *l, const struct fm_problem *p, const char *shape)
{
    if (l->error)
        return;
    l->error = fm_array_reserve((void **)&l->items, &l->cap, l->count + 1, sizeof *l->items);
    if (l->error)
        return;
    struct fm_problem *q = &l->items[l->count++];
    *q = *p;
    q->optional |= (fm_op_info(p->op)->flags & FM_OP_OPTIONAL) != 0;
    snprintf(q->name, sizeof q->name, "%s%s%s/%s%s%s%s%s", fm_op_info(p->op)->name, p->w == FM_TYPE_NONE ? "" : ".",
             p->w == FM_TYPE_NONE ? "" : fm_type_info(p->w)->name, shape, p->bias ? "+b" : "", p->x_bytes ? ",q8" : "",
             p->data ? "," : "", p->data ? data_names[p->data] : "");
}

static void matmul(struct fm_problems *l, enum fm_op op, enum fm_type w, uint32_t bucket, uint32_t rows, uint32_t n, uint32_t k, bool bias,
                   enum fm_problem_data data, bool bench)
{
    struct fm_problem p = {.op = op, .w = w, .bucket = bucket, .rows = rows, .n = n, .k = k, .bias = bias, .data = data, .bench = bench,
                           .variant = (uint8_t)(n % FM_ACT_COUNT)};
    char shape[64];
    snprintf(shape, sizeof shape, "%u:%ux%ux%u", bucket, rows, n, k);
    fm_problems_push(l, &p, shape);
}

static void matmuls(struct fm_problems *l)
{
    static const enum fm_op ops[] = {FM_OP_MATMUL, FM_OP_MATMUL_ADD, FM_OP_MATMUL_GLU};
    static const struct { uint32_t bucket, rows; } rows[] = {{1, 1},   {2, 2},   {4, 3},   {8, 8},    {8, 5},  {16, 9},
                                                             {32, 32}, {32, 31}, {64, 33}, {128, 127}, {160, 129}};
    for (int t = 0; t < FM_TYPE_COUNT; t++) {
        const struct fm_type_info *info = fm_type_info((enum fm_type)t);
        if (!info->is_weight)
            continue;
        uint32_t unit = info->block_elems;
        for (size_t o = 0; o < FM_COUNT(ops); o++) {
            bool can_bias = ops[o] != FM_OP_MATMUL_GLU;
            for (size_t r = 0; r < FM_COUNT(rows); r++) {
                // One tile-friendly and one awkward shape each.
                matmul(l, ops[o], (enum fm_type)t, rows[r].bucket, rows[r].rows, 128, 512, false, FM_DATA_NORMAL, false);
                uint32_t k = unit == 1 ? 61 : unit * 3;
                matmul(l, ops[o], (enum fm_type)t, rows[r].bucket, rows[r].rows, 67, k, can_bias && r % 2, FM_DATA_NORMAL, false);
            }
            if (unit > 1) // kernels that go along k in turns of 128: three turns, a bias, columns that fill no tile
                matmul(l, ops[o], (enum fm_type)t, 8, 7, 67, FM_MAX(unit, 128) * 3, can_bias, FM_DATA_NORMAL, false);
            matmul(l, ops[o], (enum fm_type)t, 1, 1, 1, unit == 1 ? 1 : unit, can_bias, FM_DATA_NORMAL, false);
            matmul(l, ops[o], (enum fm_type)t, 1, 1, 300, 4096, false, FM_DATA_NORMAL, false);
            matmul(l, ops[o], (enum fm_type)t, 32, 17, 257, 1280, can_bias, FM_DATA_NORMAL, false);
            matmul(l, ops[o], (enum fm_type)t, 256, 131, 264, 512, can_bias, FM_DATA_NORMAL, false);
            if (unit == 1 && o < 2) // more columns than the kernels for most widths take
                matmul(l, ops[o], (enum fm_type)t, 1, 1, 262145, 8, false, FM_DATA_NORMAL, false);
            for (uint32_t bucket = 32; unit == 1 && bucket <= 160; bucket += 128) // no multiple of the slices that most take along k
                matmul(l, ops[o], (enum fm_type)t, bucket, bucket - 31, 67, 96, false, FM_DATA_NORMAL, false);
            // Matrix kernels for wide results, decoding as they load and before; whole and with few rows in use.
            const uint32_t shallow = FM_MAX(unit, 64);
            const bool whole = t == FM_TYPE_F16 || t == FM_TYPE_Q4_0;
            matmul(l, ops[o], (enum fm_type)t, 128, whole ? 66 : 5, 8200, shallow, can_bias, FM_DATA_NORMAL, false);
            matmul(l, ops[o], (enum fm_type)t, 256, whole ? 130 : 3, 8200, shallow, false, FM_DATA_NORMAL, false);
            matmul(l, ops[o], (enum fm_type)t, 320, 300, 136, shallow, can_bias, FM_DATA_NORMAL, false); // and for many rows
            matmul(l, ops[o], (enum fm_type)t, 1024, 1000, 72, shallow, false, FM_DATA_NORMAL, false);
            for (uint32_t bucket = 8; bucket <= 32; bucket *= 2) // kernels of few rows for wide results
                matmul(l, ops[o], (enum fm_type)t, bucket, bucket / 2 + 1, 8200, FM_MAX(unit, 128), can_bias, FM_DATA_NORMAL, false);
            // Long sums: more than kernels for most widths hold of x at once, and more than any does.
            static const struct { uint32_t rows, k; } deep[] = {{1, 6400}, {1, 16640}, {2, 8448}, {3, 2304}, {8, 2304}};
            for (size_t i = 0; i < FM_COUNT(deep); i++)
                matmul(l, ops[o], (enum fm_type)t, deep[i].rows, deep[i].rows, 9, deep[i].k, false, FM_DATA_NORMAL, false);
            for (uint32_t bucket = 8; bucket <= 16; bucket *= 2)
                matmul(l, ops[o], (enum fm_type)t, bucket, bucket, 64, 256, false, FM_DATA_SMALL, false);
            for (int d = FM_DATA_ZERO; d <= FM_DATA_NAN; d++) {
                matmul(l, ops[o], (enum fm_type)t, 1, 1, 64, 256, false, (enum fm_problem_data)d, false);
                matmul(l, ops[o], (enum fm_type)t, 32, 32, 64, 256, false, (enum fm_problem_data)d, false);
            }
        }
        // Llama-8B's shapes, decode and prefill.
        static const struct { uint32_t n, k; } large[] = {{4096, 4096}, {14336, 4096}, {4096, 14336}};
        for (size_t i = 0; i < FM_COUNT(large); i++)
            for (uint32_t r = 1; r <= 2048; r *= r < 512 ? 2 : 4)
                matmul(l, FM_OP_MATMUL, (enum fm_type)t, r, r, large[i].n, large[i].k, false, FM_DATA_NORMAL, true);
        for (uint32_t r = 1; r <= 8; r *= 2) {
            matmul(l, FM_OP_MATMUL_ADD, (enum fm_type)t, r, r, 4096, 14336, false, FM_DATA_NORMAL, true);
            matmul(l, FM_OP_MATMUL_GLU, (enum fm_type)t, r, r, 14336, 4096, false, FM_DATA_NORMAL, true);
        }
        matmul(l, FM_OP_MATMUL_GLU, (enum fm_type)t, 512, 512, 14336, 4096, false, FM_DATA_NORMAL, true);
    }
}

// Where activations may be integers of 8 bits.
static void q8_matmuls(struct fm_problems *l)
{
    static const enum fm_op ops[] = {FM_OP_MATMUL, FM_OP_MATMUL_ADD, FM_OP_MATMUL_GLU};
    static const struct { uint32_t bucket, rows, n; bool whole; } shapes[] = {
        {16, 9, 67, false}, {32, 32, 128, true}, {64, 33, 131, false}, {160, 129, 128, true}, {128, 127, 67, false}};
    static const struct { uint32_t n, k; } large[] = {{4096, 4096}, {14336, 4096}, {4096, 14336}};
    for (int t = 0; t < FM_TYPE_COUNT; t++) {
        const struct fm_type_info *info = fm_type_info((enum fm_type)t);
        if (!info->is_weight || info->block_elems == 1)
            continue;
        struct fm_problem p = {.w = (enum fm_type)t, .x_bytes = 1};
        char shape[64];
        for (size_t o = 0; o < FM_COUNT(ops); o++)
            for (size_t i = 0; i < FM_COUNT(shapes); i++)
                for (int d = FM_DATA_NORMAL; d <= (i == 1 ? FM_DATA_NAN : FM_DATA_NORMAL); d++) {
                    p.op = ops[o];
                    p.bucket = shapes[i].bucket;
                    p.rows = shapes[i].rows;
                    p.n = shapes[i].n;
                    p.k = shapes[i].whole ? 512 : FM_MAX(info->block_elems, 128) * 3;
                    p.bias = ops[o] != FM_OP_MATMUL_GLU && i % 2 == 0;
                    p.data = (enum fm_problem_data)d;
                    p.variant = (uint8_t)(p.n % FM_ACT_COUNT);
                    snprintf(shape, sizeof shape, "%u:%ux%ux%u", p.bucket, p.rows, p.n, p.k);
                    fm_problems_push(l, &p, shape);
                }
        for (size_t i = 0; i < FM_COUNT(large); i++)
            for (uint32_t r = 32; r <= 512; r *= 2) {
                p = (struct fm_problem){.op = FM_OP_MATMUL, .w = (enum fm_type)t, .x_bytes = 1, .bucket = r, .rows = r, .n = large[i].n,
                                        .k = large[i].k, .bench = true};
                snprintf(shape, sizeof shape, "%u:%ux%ux%u", r, r, p.n, p.k);
                fm_problems_push(l, &p, shape);
            }
    }
}

// Products of normed rows are made for decoding: one row, of whole pieces of 8 elements or blocks of 32.
static void normed_matmuls(struct fm_problems *l)
{
    static const struct { enum fm_op op; uint32_t n, k; } bench[] = {
        {FM_OP_NORM_MATMUL, 4096, 4096},       {FM_OP_NORM_MATMUL, 128256, 4096}, {FM_OP_NORM_MATMUL, 5120, 2560},
        {FM_OP_NORM_MATMUL_ADD, 2560, 5120},   {FM_OP_NORM_MATMUL_GLU, 14336, 4096}};
    static const enum fm_op ops[] = {FM_OP_NORM_MATMUL, FM_OP_NORM_MATMUL_ADD, FM_OP_NORM_MATMUL_GLU};
    for (int t = 0; t < FM_TYPE_COUNT; t++) {
        const struct fm_type_info *info = fm_type_info((enum fm_type)t);
        if (!info->is_weight)
            continue;
        const enum fm_type w = (enum fm_type)t;
        const uint32_t unit = info->block_elems, least = unit == 1 ? 8 : unit;
        for (size_t o = 0; o < FM_COUNT(ops); o++) {
            const bool can_bias = ops[o] != FM_OP_NORM_MATMUL_GLU;
            const struct { uint32_t n, k; bool bias; } shapes[] = {
                {1, least, true}, {67, 3 * least, false}, {131, 5 * least, true}, {128, 512, false}, {300, 4096, true},
                {9, 6400, true},   {9, 16640, false}};
            for (size_t i = 0; i < FM_COUNT(shapes); i++)
                matmul(l, ops[o], w, 1, 1, shapes[i].n, shapes[i].k, can_bias && shapes[i].bias, FM_DATA_NORMAL, false);
            for (int d = FM_DATA_ZERO; d <= FM_DATA_NAN; d++)
                matmul(l, ops[o], w, 1, 1, 64, 256, false, (enum fm_problem_data)d, false);
        }
        for (size_t i = 0; i < FM_COUNT(bench); i++)
            matmul(l, bench[i].op, w, 1, 1, bench[i].n, bench[i].k, false, FM_DATA_NORMAL, true);
    }
}

static void few_normed(struct fm_problems *l, enum fm_op op, enum fm_type w, uint32_t rows, uint32_t n, uint32_t k, bool bias,
                       enum fm_problem_data data, bool bench)
{
    matmul(l, op, w, rows > 8 ? 16 : rows > 4 ? 8 : rows, rows, n, k, bias, data, bench);
    if (!l->error)
        l->items[l->count - 1].optional = true;
}

// Few normed rows on matrix units.
static void few_normed_matmuls(struct fm_problems *l)
{
    static const enum fm_op ops[] = {FM_OP_NORM_MATMUL, FM_OP_NORM_MATMUL_ADD, FM_OP_NORM_MATMUL_GLU};
    for (int t = 0; t < FM_TYPE_COUNT; t++) {
        const struct fm_type_info *info = fm_type_info((enum fm_type)t);
        if (!info->is_weight || t == FM_TYPE_F32)
            continue;
        const enum fm_type w = (enum fm_type)t;
        const uint32_t block = FM_MAX(info->block_elems, 32);
        for (size_t o = 0; o < FM_COUNT(ops); o++) {
            const bool can_bias = ops[o] != FM_OP_NORM_MATMUL_GLU;
            const struct { uint32_t rows, n, k; } few[] = {
                {2, 131, 512},  {4, 131, 512},   {5, 300, 4096},    {8, 67, 3 * block}, {7, 8200, block},
                {8, 8200, 256}, {16, 300, 4096}, {9, 67, 3 * block}, {9, 8200, block},  {16, 8200, 256}};
            for (size_t i = 0; i < FM_COUNT(few); i++)
                few_normed(l, ops[o], w, few[i].rows, few[i].n, few[i].k, can_bias && i % 2, FM_DATA_NORMAL, false);
            for (uint32_t rows = 8; rows <= 16; rows *= 2)
                for (int d = FM_DATA_ZERO; d <= FM_DATA_UNEVEN; d++)
                    if (d != FM_DATA_INF)
                        few_normed(l, ops[o], w, rows, 64, 2048, false, (enum fm_problem_data)d, false);
        }
        for (uint32_t rows = 8; rows <= 16; rows *= 2) {
            few_normed(l, FM_OP_NORM_MATMUL, w, rows, 4096, 4096, false, FM_DATA_NORMAL, true);
            few_normed(l, FM_OP_NORM_MATMUL, w, rows, 128256, 4096, false, FM_DATA_NORMAL, true);
            few_normed(l, FM_OP_NORM_MATMUL_GLU, w, rows, 14336, 4096, false, FM_DATA_NORMAL, true);
        }
    }
}

static void embeds(struct fm_problems *l)
{
    for (int t = 0; t < FM_TYPE_COUNT; t++) {
        const struct fm_type_info *info = fm_type_info((enum fm_type)t);
        if (!info->is_weight)
            continue;
        uint32_t unit = info->block_elems;
        uint32_t widths[] = {unit == 1 ? 61 : unit, unit * 3, 512};
        for (size_t i = 0; i < FM_COUNT(widths); i++) {
            struct fm_problem p = {.op = FM_OP_EMBED, .w = (enum fm_type)t, .bucket = 8, .rows = 7, .n = 97, .k = widths[i]};
            char shape[64];
            snprintf(shape, sizeof shape, "%ux%u", p.n, p.k);
            fm_problems_push(l, &p, shape);
        }
        for (uint32_t rows = 1; rows <= 512; rows += 511) {
            struct fm_problem p = {.op = FM_OP_EMBED, .w = (enum fm_type)t, .bucket = rows, .rows = rows, .n = 4096, .k = 4096,
                                   .bench = true};
            char shape[64];
            snprintf(shape, sizeof shape, "%u:%ux%u", rows, p.n, p.k);
            fm_problems_push(l, &p, shape);
        }
    }
}

// f16 copies of activations and of quantised weights. Rows of copies are multiples of 8 halves.
static void copies(struct fm_problems *l)
{
    static const struct { uint32_t bucket, rows, k; bool bench; } casts[] = {
        {1, 1, 8, false},       {4, 3, 64, false},     {32, 32, 1032, false},
        {16, 9, 4104, false},   {512, 512, 4096, true}, {512, 512, 14336, true}};
    for (size_t i = 0; i < FM_COUNT(casts); i++)
        for (int d = 0; d < (casts[i].bench ? 1 : FM_DATA_COUNT); d++) {
            struct fm_problem p = {.op = FM_OP_CAST, .w = FM_TYPE_NONE, .bucket = casts[i].bucket, .rows = casts[i].rows,
                                   .k = casts[i].k, .data = (enum fm_problem_data)d, .bench = casts[i].bench};
            char shape[64];
            snprintf(shape, sizeof shape, "%ux%u", p.rows, p.k);
            fm_problems_push(l, &p, shape);
        }
    for (int t = 0; t < FM_TYPE_COUNT; t++) {
        const struct fm_type_info *info = fm_type_info((enum fm_type)t);
        if (!info->is_weight || info->block_elems == 1)
            continue;
        uint32_t unit = info->block_elems;
        const struct { uint32_t n, k; bool bench; } shapes[] = {{1, unit, false}, {67, unit * 3, false}, {128, 2304, false},
                                                                {14336, 4096, true}};
        for (size_t i = 0; i < FM_COUNT(shapes); i++) {
            struct fm_problem p = {.op = FM_OP_DEQUANTIZE, .w = (enum fm_type)t, .bucket = 1, .rows = 1, .n = shapes[i].n,
                                   .k = shapes[i].k, .bench = shapes[i].bench};
            char shape[64];
            snprintf(shape, sizeof shape, "%ux%u", p.n, p.k);
            fm_problems_push(l, &p, shape);
        }
    }
}

// Ops on rows of one width.
static void rowwise(struct fm_problems *l)
{
    static const enum fm_op ops[] = {FM_OP_NORM, FM_OP_ADD_NORM, FM_OP_GLU, FM_OP_ACT, FM_OP_ADD, FM_OP_GATHER};
    static const uint32_t widths[] = {1, 7, 64, 255, 256, 257, 1024, 4099, 3076, 5120, 16384};
    for (size_t o = 0; o < FM_COUNT(ops); o++) {
        bool norm = ops[o] == FM_OP_NORM || ops[o] == FM_OP_ADD_NORM;
        uint8_t variants = norm || ops[o] == FM_OP_GLU || ops[o] == FM_OP_ACT ? 2 : 1;
        for (uint8_t v = 0; v < variants; v++) {
            for (size_t w = 0; w < FM_COUNT(widths); w++) {
                struct fm_problem p = {.op = ops[o], .w = FM_TYPE_NONE, .bucket = 32, .rows = w % 2 ? 32 : 9, .k = widths[w], .variant = v,
                                       .bias = norm && v == FM_NORM_LAYER && w % 3 != 0};
                char shape[64];
                snprintf(shape, sizeof shape, "v%u:%ux%u", v, p.rows, p.k);
                fm_problems_push(l, &p, shape);
            }
            for (int d = FM_DATA_ZERO; d < FM_DATA_COUNT; d++) {
                struct fm_problem p = {.op = ops[o], .w = FM_TYPE_NONE, .bucket = 4, .rows = 4, .k = 256, .variant = v,
                                       .data = (enum fm_problem_data)d};
                char shape[64];
                snprintf(shape, sizeof shape, "v%u:4x256", v);
                fm_problems_push(l, &p, shape);
            }
        }
    }
    struct fm_problem bench = {.op = FM_OP_NORM, .w = FM_TYPE_NONE, .bucket = 512, .rows = 512, .k = 4096, .bench = true};
    fm_problems_push(l, &bench, "v0:512x4096");
}

static void tokens(struct fm_problems *l)
{
    for (uint32_t slots = 1; slots <= 3; slots += 2) {
        struct fm_problem p = {.op = FM_OP_TOKEN_FEED, .w = FM_TYPE_NONE, .bucket = 32, .rows = 29, .ctx = 50,
                               .slots = slots, .first_pos = 3};
        char shape[64];
        snprintf(shape, sizeof shape, "29,s%u", slots);
        fm_problems_push(l, &p, shape);
    }
    static const uint32_t vocabs[] = {1, 96, 257, 4096, 50257};
    for (uint8_t variant = 0; variant < 8; variant++)
        for (size_t v = 0; v < FM_COUNT(vocabs); v++) {
            struct fm_problem p = {.op = FM_OP_SAMPLE, .w = FM_TYPE_NONE, .bucket = 4, .rows = 3, .n = vocabs[v], .ctx = 90, .slots = 3,
                                   .first_pos = 70, .variant = variant};
            char shape[64];
            snprintf(shape, sizeof shape, "v%u:%u", variant, p.n);
            fm_problems_push(l, &p, shape);
            for (int d = FM_DATA_NAN; d <= FM_DATA_INF && variant < 4; d++) { // one row is no numbers, the others are
                p.data = (enum fm_problem_data)d;
                fm_problems_push(l, &p, shape);
            }
        }
    struct fm_problem bench = {.op = FM_OP_SAMPLE, .w = FM_TYPE_NONE, .bucket = 1, .rows = 1, .n = 128256, .ctx = 512, .slots = 1,
                               .first_pos = 400, .variant = 3, .bench = true};
    fm_problems_push(l, &bench, "v3:128256");
}

static uint32_t result_width(const struct fm_problem *p)
{
    switch (p->op) {
    case FM_OP_NORM:
    case FM_OP_ADD_NORM:
    case FM_OP_NORM_GATE:
    case FM_OP_GLU:
    case FM_OP_ACT:
        return p->k;
    case FM_OP_MATMUL:
    case FM_OP_MATMUL_ADD:
    case FM_OP_MATMUL_GLU:
        return p->n;
    case FM_OP_CONV1D:
        return p->k * p->repeat;
    case FM_OP_SELECTIVE_SCAN:
        return p->k;
    case FM_OP_LRPE:
        return 2 * p->heads * p->head;
    case FM_OP_ATTEND:
    case FM_OP_SSD_GATE:
        return p->heads * p->head;
    default:
        return 0;
    }
}

// The same with results in f16, which kernels can write for steps of many rows (plan/narrow.c).
static void halves(struct fm_problems *l)
{
    for (size_t i = 0, n = l->count; i < n && !l->error; i++) {
        struct fm_problem p = l->items[i];
        size_t length = strlen(p.name);
        if (p.bench || result_width(&p) == 0 || result_width(&p) % 8 != 0 || (p.w != FM_TYPE_NONE && p.rows <= 16))
            continue;
        p.halves = true;
        snprintf(p.name + length, sizeof p.name - length, ",halves");
        l->error = fm_array_reserve((void **)&l->items, &l->cap, l->count + 1, sizeof *l->items);
        if (!l->error)
            l->items[l->count++] = p;
    }
}

enum fm_result fm_problems_list(struct fm_problem **out_problems, size_t *out_count)
{
    struct fm_problems l = {0};
    embeds(&l);
    copies(&l);
    rowwise(&l);
    tokens(&l);
    fm_problems_attention(&l);
    fm_problems_lightning(&l);
    fm_problems_ssd(&l);
    fm_problems_ssm(&l);
    fm_problems_together(&l);
    matmuls(&l);
    normed_matmuls(&l);
    few_normed_matmuls(&l);
    q8_matmuls(&l);
    halves(&l);
    if (l.error) {
        fm_free(l.items);
        return l.error;
    }
    *out_problems = l.items;
    *out_count = l.count;
    return FM_OK;
}
