// SPDX-License-Identifier: MIT
// Problems of the mixer of Mamba-1: convolution and selective scan.
#include "check/problems.h"

#include <stdio.h>

struct rows {
    uint32_t bucket, rows, slots, first, versions;
};

struct conv_shape {
    uint32_t channels, width, head, repeat;
};

static void conv(struct fm_problems *l, const struct conv_shape *s, const struct rows *r, uint8_t variant, bool bias,
                 enum fm_problem_data data, bool bench)
{
    struct fm_problem p = {.op = FM_OP_CONV1D, .w = FM_TYPE_NONE, .bucket = r->bucket, .rows = r->rows, .k = s->channels,
                           .state = s->width, .head = s->head, .repeat = s->repeat, .slots = r->slots, .first_pos = r->first,
                           .versions = r->versions, .variant = variant, .bias = bias, .data = data, .bench = bench};
    char text[64];
    snprintf(text, sizeof text, "%u:%u@%u,%ux%ur%u,s%u,b%u,v%u", r->bucket, r->rows, r->first, s->channels, s->width,
             s->repeat, r->slots, r->versions, variant);
    fm_problems_push(l, &p, text);
}

// Lengths around the parts of 32 rows, and shorter than the window; positions within the first window.
static void convs(struct fm_problems *l)
{
    static const struct conv_shape shapes[] = {{64, 4, 0, 1},  {37, 4, 0, 1},  {260, 3, 0, 1}, {20, 2, 0, 1},
                                               {24, 8, 0, 1},  {48, 4, 16, 3}, {15, 4, 5, 2},  {8, 7, 4, 4}};
    static const struct rows rows[] = {{1, 1, 1, 0, 1},    {1, 1, 1, 5, 3},    {2, 2, 1, 1, 3},    {4, 3, 3, 7, 1},    {8, 8, 2, 2, 3},
                                       {16, 13, 3, 9, 3},  {16, 16, 16, 4, 1}, {32, 31, 1, 0, 1},  {32, 32, 1, 3, 3},  {64, 33, 1, 6, 1},
                                       {128, 101, 3, 1, 3}, {64, 1, 1, 4, 1},  {64, 2, 1, 0, 3}};
    for (size_t s = 0; s < FM_COUNT(shapes); s++)
        for (size_t r = 0; r < FM_COUNT(rows); r++)
            conv(l, &shapes[s], &rows[r], (uint8_t)((s + r) % 2), (s + r) % 3 != 0, FM_DATA_NORMAL, false);
    for (int d = FM_DATA_ZERO; d < FM_DATA_COUNT; d++) {
        conv(l, &shapes[0], &rows[1], 0, true, (enum fm_problem_data)d, false);
        conv(l, &shapes[0], &rows[9], 0, true, (enum fm_problem_data)d, false);
    }
    static const struct conv_shape large = {5120, 4, 0, 1};
    static const struct rows bench[] = {{1, 1, 1, 100, 1}, {8, 8, 8, 100, 1},        {5, 5, 1, 100, 6},
                                        {8, 8, 1, 100, 6}, {16, 16, 1, 100, 6}, {2048, 2048, 1, 0, 1}};
    for (size_t r = 0; r < FM_COUNT(bench); r++)
        conv(l, &large, &bench[r], 0, true, FM_DATA_NORMAL, true);
}

// Products before convolutions: a row of each sequence, or one of one; of whole pieces of 8 elements or blocks of 32. A norm comes
// with one row only.
static void conv_product(struct fm_problems *l, enum fm_op op, enum fm_type w, const struct rows *r, const struct conv_shape *s,
                         uint32_t k, bool bias, enum fm_problem_data data, bool bench)
{
    struct fm_problem p = {.op = op, .w = w, .bucket = r->bucket, .rows = r->rows, .run = 1, .n = s->channels, .k = k, .state = s->width,
                           .head = s->head, .repeat = s->repeat, .slots = r->slots, .first_pos = r->first, .versions = r->versions,
                           .variant = (uint8_t)(k % 3 == 0), .bias = bias, .data = data, .bench = bench};
    char text[64];
    snprintf(text, sizeof text, "%u:%u@%u,%ux%u,%ur%u,s%u,b%u", r->bucket, r->rows, r->first, s->channels, k, s->width, s->repeat, r->slots,
             r->versions);
    fm_problems_push(l, &p, text);
}

static void conv_products(struct fm_problems *l)
{
    static const struct conv_shape wide = {128, 4, 0, 1}, odd = {67, 3, 0, 1}, pieces = {30, 4, 5, 2}, few = {9, 2, 0, 1},
                                   widest = {8200, 4, 0, 1}, large[] = {{5120, 4, 0, 1}, {5376, 4, 0, 1}};
    static const struct rows rows[] = {{1, 1, 1, 5, 3}, {1, 1, 1, 0, 1}, {2, 2, 2, 1, 3},
                                       {4, 3, 4, 7, 1}, {8, 8, 8, 2, 2}, {8, 5, 6, 0, 3}};
    static const struct { uint32_t rows, k; } deep[] = {{1, 6400}, {1, 16640}, {2, 8448}, {3, 2304}, {8, 2304}};
    for (int t = 0; t < FM_TYPE_COUNT; t++) {
        const struct fm_type_info *info = fm_type_info((enum fm_type)t);
        if (!info->is_weight)
            continue;
        const enum fm_type w = (enum fm_type)t;
        const uint32_t unit = info->block_elems, least = unit == 1 ? 8 : unit;
        for (size_t o = 0; o < 2; o++) {
            const enum fm_op op = o == 0 ? FM_OP_MATMUL_CONV : FM_OP_NORM_MATMUL_CONV;
            const size_t n_rows = o == 0 ? FM_COUNT(rows) : 2;
            for (size_t r = 0; r < n_rows; r++) {
                conv_product(l, op, w, &rows[r], &wide, 512, r % 2 == 0, FM_DATA_NORMAL, false);
                conv_product(l, op, w, &rows[r], r % 2 ? &odd : &pieces, 3 * least, r % 2, FM_DATA_NORMAL, false);
                if (o == 0 && r >= 4)
                    conv_product(l, op, w, &rows[r], &widest, FM_MAX(unit, 128), true, FM_DATA_NORMAL, false);
            }
            conv_product(l, op, w, &rows[0], &few, least, true, FM_DATA_NORMAL, false);
            conv_product(l, op, w, &rows[0], &odd, 4096, true, FM_DATA_NORMAL, false);
            for (size_t i = 0; i < (o == 0 ? FM_COUNT(deep) : 2); i++) {
                const struct rows r = {deep[i].rows, deep[i].rows, deep[i].rows, 3, 2};
                conv_product(l, op, w, &r, &few, deep[i].k, false, FM_DATA_NORMAL, false);
            }
            for (int d = FM_DATA_ZERO; d < FM_DATA_COUNT; d++)
                conv_product(l, op, w, &rows[0], &wide, 256, true, (enum fm_problem_data)d, false);
            for (uint32_t r = 1; r <= (o == 0 ? 8u : 1u); r *= 2)
                for (size_t i = 0; i < FM_COUNT(large); i++) {
                    const struct rows many = {r, r, r, 100, 2};
                    conv_product(l, op, w, &many, &large[i], 2560, true, FM_DATA_NORMAL, true);
                }
        }
    }
}

struct scan_shape {
    uint32_t channels, state, groups_b, groups_c;
};

static void scan(struct fm_problems *l, const struct scan_shape *s, const struct rows *r, enum fm_problem_data data, bool bench)
{
    struct fm_problem p = {.op = FM_OP_SELECTIVE_SCAN, .w = FM_TYPE_NONE, .bucket = r->bucket, .rows = r->rows, .k = s->channels,
                           .state = s->state, .heads = s->groups_c, .heads_kv = s->groups_b, .slots = r->slots,
                           .first_pos = r->first, .versions = r->versions, .data = data, .bench = bench};
    char text[64];
    snprintf(text, sizeof text, "%u:%u@%u,%ux%u,g%u/%u,s%u,b%u", r->bucket, r->rows, r->first, s->channels, s->state, s->groups_b,
             s->groups_c, r->slots, r->versions);
    fm_problems_push(l, &p, text);
}

// Lengths around the tiles of 16 rows, and those that are cut into parts (from 192 rows).
static void scans(struct fm_problems *l)
{
    static const struct scan_shape shapes[] = {{64, 16, 1, 1}, {37, 16, 1, 1}, {96, 16, 2, 6},  {140, 4, 1, 1}, {33, 5, 1, 3},
                                               {24, 8, 1, 1},  {72, 64, 1, 1}, {144, 32, 2, 1}, {36, 12, 1, 2}, {10, 64, 5, 10}};
    static const struct rows few[] = {{1, 1, 1, 0, 1}, {1, 1, 1, 5, 3},   {2, 2, 1, 2, 3},    {4, 3, 3, 7, 1},
                                      {8, 8, 2, 0, 3}, {16, 13, 3, 9, 3}, {16, 16, 16, 1, 1}, {16, 5, 1, 3, 4}};
    static const struct rows many[] = {{32, 1, 1, 4, 1},   {32, 2, 1, 0, 3},    {32, 15, 1, 0, 1},   {32, 16, 1, 3, 3},
                                       {32, 17, 1, 6, 1},  {64, 53, 1, 1, 1},   {128, 101, 3, 1, 3}};
    static const struct rows parts[] = {{256, 256, 1, 0, 1}, {256, 197, 3, 5, 1}, {512, 385, 2, 77, 3}, {320, 1, 1, 2, 1}};
    for (size_t s = 0; s < FM_COUNT(shapes); s++) {
        for (size_t r = 0; r < FM_COUNT(few); r++)
            scan(l, &shapes[s], &few[r], FM_DATA_NORMAL, false);
        for (size_t r = 0; r < FM_COUNT(many); r++)
            scan(l, &shapes[s], &many[r], FM_DATA_NORMAL, false);
        for (size_t r = 0; r < FM_COUNT(parts); r++)
            if (s < 2 || (s + r) % 3 == 0)
                scan(l, &shapes[s], &parts[r], FM_DATA_NORMAL, false);
    }
    static const struct scan_shape narrow = {20, 4, 1, 1};
    static const struct rows endless = {66003, 66003, 1, 0, 1};
    scan(l, &narrow, &endless, FM_DATA_NORMAL, false);
    for (int d = FM_DATA_ZERO; d < FM_DATA_COUNT; d++) {
        scan(l, &shapes[0], &few[1], (enum fm_problem_data)d, false);
        scan(l, &shapes[0], &many[5], (enum fm_problem_data)d, false);
        scan(l, &shapes[0], &parts[1], (enum fm_problem_data)d, false);
    }
    static const struct scan_shape large[] = {{5120, 16, 1, 1}, {1536, 16, 1, 1}, {3072, 16, 64, 192}};
    static const struct rows bench[] = {{1, 1, 1, 100, 1},     {8, 8, 8, 100, 1},       {2048, 2048, 1, 0, 1}, {8192, 8192, 1, 0, 1},
                                        {32768, 32768, 1, 0, 1}, {131072, 131072, 1, 0, 1}};
    for (size_t s = 0; s < FM_COUNT(large); s++)
        for (size_t r = 0; r < FM_COUNT(bench); r++)
            if (s == 0 || bench[r].rows == 2048 || bench[r].rows == (s == 1 ? 131072 : 1))
                scan(l, &large[s], &bench[r], FM_DATA_NORMAL, true);
}

void fm_problems_ssm(struct fm_problems *l)
{
    convs(l);
    conv_products(l);
    scans(l);
}
