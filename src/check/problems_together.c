// SPDX-License-Identifier: MIT
// Problems of many sequences that have few rows each, as when they decode together: kernels for few rows of a sequence, in steps of
// many rows.
#include "check/problems.h"

#include <stdio.h>

static const struct rows {
    uint32_t bucket, rows, slots, run;
} rows[] = {{12, 9, 9, 1}, {40, 37, 37, 1}, {48, 45, 9, 8}, {64, 47, 3, 16}};

static void push(struct fm_problems *l, struct fm_problem p, const struct rows *r, uint32_t first, const char *shape)
{
    p.bucket = r->bucket;
    p.rows = r->rows;
    p.slots = r->slots;
    p.run = r->run;
    p.first_pos = first;
    char text[64];
    snprintf(text, sizeof text, "%u:%u@%u,%s,s%u,run%u", r->bucket, r->rows, first, shape, r->slots, r->run);
    fm_problems_push(l, &p, text);
}

void fm_problems_together(struct fm_problems *l)
{
    static const enum fm_type caches[] = {FM_TYPE_F32, FM_TYPE_F16, FM_TYPE_Q8_0};
    for (size_t i = 0; i < FM_COUNT(rows); i++) {
        const struct rows *r = &rows[i];
        for (size_t t = 0; t < FM_COUNT(caches); t++) {
            struct fm_problem attend = {.op = FM_OP_ATTEND, .w = caches[t], .heads = 4, .heads_kv = 2, .head = 64, .ctx = 96};
            push(l, attend, r, 71, "4/2x64");
            attend.op = FM_OP_ROPE_ATTEND;
            attend.rotated = 64;
            if (r->run <= 8)
                push(l, attend, r, 71, "4/2x64");
        }
        struct fm_problem conv = {.op = FM_OP_CONV1D, .w = FM_TYPE_NONE, .k = 37, .state = 4, .repeat = 1, .versions = 3};
        push(l, conv, r, 2, "37x4");
        conv.k = 76;
        conv.state = 5;
        push(l, conv, r, 2, "76x5");
        struct fm_problem scan = {.op = FM_OP_SELECTIVE_SCAN, .w = FM_TYPE_NONE, .k = 140, .state = 16, .heads = 1, .heads_kv = 1,
                                  .versions = 3};
        push(l, scan, r, 5, "140x16");
        struct fm_problem ssd = {.op = FM_OP_SSD, .w = FM_TYPE_NONE, .heads = 2, .head = 64, .state = 64, .heads_kv = 2, .groups = 1,
                                 .groups_c = 1, .versions = 3};
        push(l, ssd, r, 5, "2x64x64");
        ssd.op = FM_OP_SSD_GATE;
        push(l, ssd, r, 0, "2x64x64");
        struct fm_problem linear = {.op = FM_OP_LINEAR_ATTEND, .w = FM_TYPE_NONE, .heads = 2, .state = 64, .head = 64, .versions = 3};
        push(l, linear, r, 5, "2x64x64");
    }
}
