// SPDX-License-Identifier: MIT
// Problems of the mixer of Mamba-2 and of gated norms.
#include "check/problems.h"

#include <stdio.h>

struct shape {
    uint32_t heads, head, state, heads_x, groups, groups_c;
};

struct rows {
    uint32_t bucket, rows, slots, first, versions;
};

static void ssd(struct fm_problems *l, enum fm_op op, const struct shape *s, const struct rows *r, enum fm_problem_data data, bool bench)
{
    struct fm_problem p = {.op = op, .w = FM_TYPE_NONE, .bucket = r->bucket, .rows = r->rows, .heads = s->heads,
                           .head = s->head, .state = s->state, .heads_kv = s->heads_x, .groups = s->groups, .groups_c = s->groups_c,
                           .slots = r->slots, .first_pos = r->first, .versions = r->versions, .data = data, .bench = bench};
    char text[64];
    snprintf(text, sizeof text, "%u:%u@%u,%ux%ux%u,g%u.%u.%u,s%u,b%u", r->bucket, r->rows, r->first, s->heads, s->head, s->state,
             s->heads_x, s->groups, s->groups_c, r->slots, r->versions);
    fm_problems_push(l, &p, text);
}

// ssd_gate is made for few rows. Lengths around the blocks of the kernels on matrix units (64), and those that are cut into parts (from
// 256 rows).
// The last shapes are for kernels that work on four heads at a time, which share b and c.
static void ssds(struct fm_problems *l)
{
    static const struct shape shapes[] = {{2, 64, 128, 2, 1, 1}, {4, 16, 16, 2, 2, 4}, {3, 5, 7, 3, 1, 3}, {2, 80, 48, 1, 2, 1},
                                          {2, 64, 64, 1, 1, 2},  {1, 128, 256, 1, 1, 1}, {8, 16, 16, 4, 2, 1},
                                          {8, 64, 32, 8, 1, 2}};
    static const struct rows few[] = {{1, 1, 1, 0, 1},  {1, 1, 1, 5, 3},   {2, 2, 1, 2, 3},  {4, 3, 3, 7, 1},
                                      {8, 8, 2, 0, 3},  {16, 13, 3, 9, 3}, {16, 16, 1, 1, 1}};
    static const struct rows many[] = {{32, 31, 1, 0, 1}, {64, 63, 1, 3, 3},   {64, 64, 1, 6, 1},   {128, 65, 1, 0, 3},
                                       {256, 1, 1, 4, 1}, {256, 2, 1, 0, 3},   {128, 101, 3, 1, 1}, {256, 197, 1, 7, 1}};
    for (size_t s = 0; s < FM_COUNT(shapes); s++) {
        for (size_t r = 0; r < FM_COUNT(few); r++) {
            ssd(l, FM_OP_SSD, &shapes[s], &few[r], FM_DATA_NORMAL, false);
            if (shapes[s].state < 256) // whose pipelines take drivers of processors half a minute, and ssd has them too
                ssd(l, FM_OP_SSD_GATE, &shapes[s], &few[r], FM_DATA_NORMAL, false);
        }
        for (size_t r = 0; r < FM_COUNT(many); r++)
            if (s < 2 || (s + r) % 2)
                ssd(l, FM_OP_SSD, &shapes[s], &many[r], FM_DATA_NORMAL, false);
    }
    static const struct shape small = {2, 32, 64, 2, 1, 1}, several = {4, 16, 64, 4, 1, 1};
    static const struct rows parts[] = {{512, 512, 1, 0, 1}, {512, 500, 3, 5, 1}, {448, 397, 1, 77, 3}};
    for (size_t r = 0; r < FM_COUNT(parts); r++) {
        ssd(l, FM_OP_SSD, &small, &parts[r], FM_DATA_NORMAL, false);
        ssd(l, FM_OP_SSD, &several, &parts[r], FM_DATA_NORMAL, false);
    }
    static const struct shape narrow = {1, 16, 16, 1, 1, 1};
    static const struct rows long_part = {32768, 30011, 1, 9, 1};
    ssd(l, FM_OP_SSD, &narrow, &long_part, FM_DATA_NORMAL, false);
    static const struct shape wide = {1, 64, 16, 1, 1, 1}; // of heads that are made one by one, where there are more than 4,096 rows
    static const struct rows many_rows = {4352, 4100, 2, 3, 1};
    ssd(l, FM_OP_SSD, &wide, &many_rows, FM_DATA_NORMAL, false);
    for (int d = FM_DATA_ZERO; d < FM_DATA_COUNT; d++) {
        static const struct rows rows[] = {{1, 1, 1, 3, 1}, {128, 100, 1, 3, 1}};
        for (size_t r = 0; r < FM_COUNT(rows); r++) {
            ssd(l, FM_OP_SSD, &small, &rows[r], (enum fm_problem_data)d, false);
            ssd(l, FM_OP_SSD, &several, &rows[r], (enum fm_problem_data)d, false);
        }
        ssd(l, FM_OP_SSD_GATE, &small, &rows[0], (enum fm_problem_data)d, false);
    }
    // Mamba-2 2.7B
    static const struct shape large = {80, 64, 128, 80, 1, 1};
    static const struct rows bench[] = {{1, 1, 1, 100, 1},      {8, 8, 8, 100, 1},      {512, 512, 1, 0, 1},       {2048, 2048, 1, 0, 1},
                                        {8192, 8192, 1, 0, 1}, {32768, 32768, 1, 0, 1}, {131072, 131072, 1, 0, 1}};
    for (size_t r = 0; r < FM_COUNT(bench); r++)
        ssd(l, FM_OP_SSD, &large, &bench[r], FM_DATA_NORMAL, true);
    ssd(l, FM_OP_SSD_GATE, &large, &bench[0], FM_DATA_NORMAL, true);
}

static void norm_gate(struct fm_problems *l, uint32_t bucket, uint32_t rows, uint32_t groups, uint32_t part, uint8_t variant, bool weight,
                      enum fm_problem_data data, bool bench)
{
    struct fm_problem p = {.op = FM_OP_NORM_GATE, .w = FM_TYPE_NONE, .bucket = bucket, .rows = rows, .k = groups * part, .groups = groups,
                           .variant = variant, .bias = weight, .data = data, .bench = bench};
    char text[64];
    snprintf(text, sizeof text, "v%u:%ux%ux%u", variant, rows, groups, part);
    fm_problems_push(l, &p, text);
}

// Variants: bit 0 the order of norm and gate, bit 1 no activation.
static void norm_gates(struct fm_problems *l)
{
    static const struct {
        uint32_t groups, part;
    } shapes[] = {{1, 1}, {3, 7}, {5, 128}, {8, 64}, {1, 257}, {2, 512}, {1, 5120}, {3, 4100}, {1, 8196}};
    for (uint8_t v = 0; v < 4; v++)
        for (size_t s = 0; s < FM_COUNT(shapes); s++)
            norm_gate(l, 16, s % 2 ? 16 : 5, shapes[s].groups, shapes[s].part, v, (s + v) % 3 != 0, FM_DATA_NORMAL, false);
    for (uint8_t v = 0; v < 2; v++)
        for (int d = FM_DATA_ZERO; d < FM_DATA_COUNT; d++)
            norm_gate(l, 4, 4, 2, 128, v, true, (enum fm_problem_data)d, false);
    norm_gate(l, 1, 1, 1, 5120, 0, true, FM_DATA_NORMAL, true);
    norm_gate(l, 2048, 2048, 1, 5120, 0, true, FM_DATA_NORMAL, true);
    norm_gate(l, 2048, 2048, 32, 128, 0, true, FM_DATA_NORMAL, true);
}

void fm_problems_ssd(struct fm_problems *l)
{
    ssds(l);
    norm_gates(l);
}
