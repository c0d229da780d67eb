// SPDX-License-Identifier: MIT
// Problems of linear attention and its position encoding.
#include "check/problems.h"

#include <stdio.h>

struct shape {
    uint32_t heads, key, head;
};

struct rows {
    uint32_t bucket, rows, slots, first, versions;
};

static void attend(struct fm_problems *l, const struct shape *s, const struct rows *r, uint8_t variant, enum fm_problem_data data,
                   bool bench)
{
    struct fm_problem p = {.op = FM_OP_LINEAR_ATTEND, .w = FM_TYPE_NONE, .bucket = r->bucket, .rows = r->rows, .heads = s->heads,
                           .state = s->key, .head = s->head, .slots = r->slots, .first_pos = r->first, .versions = r->versions,
                           .variant = variant, .data = data, .bench = bench};
    char text[64];
    snprintf(text, sizeof text, "%u:%u@%u,%ux%ux%u,s%u,b%u,v%u", r->bucket, r->rows, r->first, s->heads, s->key, s->head, r->slots,
             r->versions, variant);
    fm_problems_push(l, &p, text);
}

// Lengths around the blocks of the kernels for prompts (16, 32, 64), and those that are cut into parts (from 512 rows).
static void attends(struct fm_problems *l)
{
    static const struct shape shapes[] = {{2, 128, 128}, {3, 64, 64}, {1, 256, 128}, {3, 7, 5}, {2, 96, 96}, {1, 64, 256}};
    static const struct rows few[] = {{1, 1, 1, 0, 1}, {1, 1, 1, 5, 3}, {2, 2, 1, 2, 3},  {4, 3, 3, 7, 1},
                                      {8, 8, 2, 0, 3}, {16, 13, 3, 9, 3}, {16, 16, 1, 1, 1}};
    static const struct rows many[] = {{32, 31, 1, 0, 1}, {32, 32, 2, 3, 3}, {64, 33, 1, 6, 1}, {128, 63, 1, 0, 1}, {128, 65, 1, 40, 3},
                                       {128, 101, 3, 1, 1}, {256, 197, 1, 7, 1}, {256, 1, 1, 4, 1}, {256, 2, 1, 0, 3}};
    for (size_t s = 0; s < FM_COUNT(shapes); s++) {
        for (size_t r = 0; r < FM_COUNT(few); r++)
            attend(l, &shapes[s], &few[r], (uint8_t)((s + r) % 2), FM_DATA_NORMAL, false);
        for (size_t r = 0; r < FM_COUNT(many); r++)
            if (s < 2 || (s + r) % 2)
                attend(l, &shapes[s], &many[r], (uint8_t)(s % 2), FM_DATA_NORMAL, false);
    }
    static const struct shape small = {2, 64, 64};
    static const struct rows parts[] = {{1024, 1024, 1, 0, 1}, {1024, 1000, 3, 5, 1}, {768, 530, 1, 77, 3}};
    for (size_t r = 0; r < FM_COUNT(parts); r++)
        attend(l, &small, &parts[r], 0, FM_DATA_NORMAL, false);
    // Kernels for wide values, and for wide keys.
    static const struct shape wide[] = {{1, 32, 128}, {1, 144, 16}};
    for (size_t s = 0; s < FM_COUNT(wide); s++)
        attend(l, &wide[s], &parts[2], 1, FM_DATA_NORMAL, false);
    static const struct shape thin = {1, 16, 16};
    static const struct rows short_rows = {256, 131, 1, 5, 1};
    attend(l, &thin, &short_rows, 0, FM_DATA_NORMAL, false);
    static const struct rows long_rows = {66560, 66003, 1, 0, 1};
    attend(l, &thin, &long_rows, 0, FM_DATA_NORMAL, false);
    for (int d = FM_DATA_ZERO; d < FM_DATA_COUNT; d++) {
        static const struct rows rows[] = {{1, 1, 1, 3, 1}, {128, 100, 1, 3, 1}};
        for (size_t r = 0; r < FM_COUNT(rows); r++)
            attend(l, &small, &rows[r], 0, (enum fm_problem_data)d, false);
    }
    static const struct shape large[] = {{32, 128, 128}, {32, 256, 128}};
    // qk of 131,072 tokens would be 4 GiB, more than one allocation holds.
    static const struct rows bench[] = {{1, 1, 1, 100, 1},     {8, 8, 8, 100, 1},        {512, 512, 1, 0, 1},     {2048, 2048, 1, 0, 1},
                                        {8192, 8192, 1, 0, 1}, {32768, 32768, 1, 0, 1}, {130048, 130048, 1, 0, 1}};
    for (size_t s = 0; s < FM_COUNT(large); s++)
        for (size_t r = 0; r < FM_COUNT(bench); r++)
            if (s == 0 || bench[r].rows <= 2048)
                attend(l, &large[s], &bench[r], 0, FM_DATA_NORMAL, true);
}

static void lrpes(struct fm_problems *l)
{
    static const struct {
        uint32_t heads, head, first;
    } shapes[] = {{1, 1, 0}, {4, 16, 5}, {3, 24, 1000}, {6, 5, 70000}, {8, 128, 1000000}};
    for (uint8_t v = 0; v < 2; v++)
        for (size_t i = 0; i < FM_COUNT(shapes); i++) {
            struct fm_problem p = {.op = FM_OP_LRPE, .w = FM_TYPE_NONE, .bucket = 16, .rows = 13, .heads = shapes[i].heads,
                                   .head = shapes[i].head, .first_pos = shapes[i].first, .slots = 1, .variant = v};
            char text[64];
            snprintf(text, sizeof text, "v%u:%ux%u@%u", v, p.heads, p.head, p.first_pos);
            fm_problems_push(l, &p, text);
        }
    struct fm_problem bench = {.op = FM_OP_LRPE, .w = FM_TYPE_NONE, .bucket = 2048, .rows = 2048, .heads = 64, .head = 128, .slots = 1,
                               .bench = true};
    fm_problems_push(l, &bench, "2048x64x128");
}

void fm_problems_lightning(struct fm_problems *l)
{
    attends(l);
    lrpes(l);
}
