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
    static const struct rows bench[] = {{1, 1, 1, 100, 1}, {8, 8, 8, 100, 1}, {2048, 2048, 1, 0, 1}};
    for (size_t r = 0; r < FM_COUNT(bench); r++)
        conv(l, &large, &bench[r], 0, true, FM_DATA_NORMAL, true);
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
    scans(l);
}
