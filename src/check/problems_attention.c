// SPDX-License-Identifier: MIT
// Problems of rotary positions, the KV cache and attention, plain and dual chunk.
#include "check/problems.h"

#include <stdio.h>

static void rotations(struct fm_problems *l)
{
    static const struct { uint32_t heads, head, rotated, first; } shapes[] = {
        {1, 2, 2, 0}, {4, 16, 16, 5}, {3, 24, 24, 1000}, {5, 24, 16, 70000}, {32, 128, 128, 1000000}, {8, 64, 64, 0}};
    for (uint8_t kind = 0; kind < 2; kind++)
        for (size_t i = 0; i < FM_COUNT(shapes); i++) {
            struct fm_problem p = {.op = FM_OP_ROPE, .w = FM_TYPE_NONE, .bucket = 16, .rows = 13, .heads = shapes[i].heads,
                                   .head = shapes[i].head, .rotated = shapes[i].rotated, .first_pos = shapes[i].first, .variant = kind,
                                   .slots = 1};
            char shape[64];
            snprintf(shape, sizeof shape, "k%u:%ux%ur%u@%u", kind, p.heads, p.head, p.rotated, p.first_pos);
            fm_problems_push(l, &p, shape);
        }
}

// Caches of q8_0 hold multiples of FM_CACHE_POSITIONS positions.
static uint32_t ctx_of(enum fm_type type, uint32_t ctx)
{
    return type == FM_TYPE_Q8_0 ? fm_ceil_div_u32(ctx, FM_CACHE_POSITIONS) * FM_CACHE_POSITIONS : ctx;
}

struct attention_shape {
    uint32_t heads, heads_kv, head, ctx, window, first;
};

// Llama-8B's heads; wide heads, and many heads to a KV head, in decoding.
static void attention_bench(struct fm_problems *l)
{
    static const enum fm_op writes[] = {FM_OP_KV_WRITE, FM_OP_ROPE_KV_WRITE};
    static const struct { uint32_t bucket, first, ctx, heads, heads_kv, head; } large[] = {
        {1, 511, 512, 32, 8, 128},    {1, 8191, 8192, 32, 8, 128},   {1, 32767, 32768, 32, 8, 128}, {512, 0, 512, 32, 8, 128},
        {512, 7680, 8192, 32, 8, 128}, {2048, 0, 2048, 32, 8, 128},  {1, 8191, 8192, 16, 8, 256},   {1, 8191, 8192, 8, 1, 256},
        {1, 8191, 8192, 32, 2, 128}};
    for (size_t i = 0; i < FM_COUNT(large); i++) {
        struct fm_problem p = {.op = FM_OP_ATTEND, .w = FM_TYPE_F16, .bucket = large[i].bucket, .rows = large[i].bucket,
                               .heads = large[i].heads, .heads_kv = large[i].heads_kv, .head = large[i].head,
                               .ctx = large[i].ctx, .first_pos = large[i].first, .slots = 1, .bench = true};
        char shape[64];
        snprintf(shape, sizeof shape, "%u@%u,%u/%ux%u", p.rows, p.first_pos, p.heads, p.heads_kv, p.head);
        fm_problems_push(l, &p, shape);
    }
    for (size_t o = 0; o < FM_COUNT(writes); o++)
        for (uint32_t rows = 1; rows <= 512; rows += 511) {
            struct fm_problem p = {.op = writes[o], .w = FM_TYPE_F16, .bucket = rows, .rows = rows, .heads = 32, .heads_kv = 8,
                                   .head = 128, .rotated = 128, .ctx = 512, .slots = 1, .bench = true};
            char shape[64];
            snprintf(shape, sizeof shape, "%u,32/8x128", rows);
            fm_problems_push(l, &p, shape);
        }
}

static void plain(struct fm_problems *l)
{
    static const struct attention_shape shapes[] = {
        {1, 1, 16, 40, 0, 0},    {4, 2, 16, 300, 0, 0},   {4, 4, 64, 100, 0, 31},   {5, 1, 24, 77, 0, 3},   {8, 2, 64, 513, 0, 256},
        {4, 1, 128, 700, 0, 500}, {4, 2, 64, 300, 16, 200}, {6, 3, 80, 260, 0, 129}, {2, 1, 256, 130, 0, 60}, {4, 2, 15, 64, 0, 20},
        {8, 1, 128, 2100, 0, 2000}, {4, 2, 96, 200, 50, 100}, {8, 1, 160, 140, 0, 100}, {4, 1, 144, 130, 0, 60}};
    static const struct { uint32_t bucket, rows; } rows[] = {{1, 1}, {4, 3}, {8, 8}, {32, 32}, {32, 21}, {128, 100}};
    static const enum fm_type types[] = {FM_TYPE_F32, FM_TYPE_F16, FM_TYPE_Q8_0};
    static const enum fm_op ops[] = {FM_OP_ATTEND, FM_OP_KV_WRITE, FM_OP_ROPE_KV_WRITE};
    for (size_t o = 0; o < FM_COUNT(ops); o++)
        for (size_t t = 0; t < FM_COUNT(types); t++)
            for (size_t s = 0; s < FM_COUNT(shapes); s++)
                for (size_t r = 0; r < FM_COUNT(rows); r++) {
                    const struct attention_shape *a = &shapes[s];
                    if (a->first + rows[r].rows > a->ctx || (ops[o] != FM_OP_ATTEND && r % 2))
                        continue;
                    if (a->first >= 2000 && rows[r].rows > 8) // long caches are for decoding, whose keys are split
                        continue;
                    // Every second one of q8_0, whose kernels differ from those of f16 in how they read and write elements.
                    if (types[t] == FM_TYPE_Q8_0 && (s + r) % 2)
                        continue;
                    // Every second one spreads its rows over two slots.
                    struct fm_problem p = {.op = ops[o], .w = types[t], .bucket = rows[r].bucket, .rows = rows[r].rows, .heads = a->heads,
                                           .heads_kv = a->heads_kv, .head = a->head, .ctx = ctx_of(types[t], a->ctx), .window = a->window,
                                           .first_pos = a->first, .slots = 1 + (uint32_t)(s + r) % 3,
                                           .variant = (uint8_t)(s % 2), .rotated = a->head & ~1u};
                    char shape[64];
                    snprintf(shape, sizeof shape, "%u:%u@%u/%u,%u/%ux%u,s%u%s", p.bucket, p.rows, p.first_pos, p.ctx, p.heads, p.heads_kv,
                             p.head, p.slots, p.window ? ",window" : "");
                    fm_problems_push(l, &p, shape);
                }
}

// Rotation, cache writing and attention of few rows: rows of a step that see each other, at the beginning of a sequence, behind a cache,
// on both sides of a part's and of a window's end.
static void rotating(struct fm_problems *l)
{
    static const struct { struct attention_shape a; uint32_t rotated; } shapes[] = {
        {{4, 2, 16, 64, 0, 0}, 16},      {{5, 1, 24, 96, 0, 60}, 24},    {{6, 3, 24, 300, 0, 127}, 16},   {{8, 2, 64, 513, 0, 126}, 64},
        {{4, 2, 64, 300, 4, 200}, 32},   {{6, 3, 80, 260, 0, 129}, 40},  {{4, 1, 128, 700, 0, 509}, 128}, {{2, 1, 256, 136, 0, 60}, 256},
        {{8, 1, 160, 144, 0, 100}, 160}, {{8, 1, 128, 2100, 0, 2000}, 64}, {{16, 1, 64, 600, 100, 500}, 64}, {{4, 4, 64, 100, 0, 95}, 64},
        {{3, 3, 128, 96, 40, 39}, 128},  {{8, 2, 256, 80, 0, 0}, 64}, {{16, 1, 192, 80, 0, 30}, 192}};
    static const struct { uint32_t bucket, rows, slots; } rows[] = {{1, 1, 1}, {4, 3, 1}, {8, 8, 1}, {8, 7, 3}, {4, 4, 4}};
    static const enum fm_type types[] = {FM_TYPE_F32, FM_TYPE_F16, FM_TYPE_Q8_0};
    for (size_t t = 0; t < FM_COUNT(types); t++)
        for (size_t s = 0; s < FM_COUNT(shapes); s++)
            for (size_t r = 0; r < FM_COUNT(rows); r++) {
                const struct attention_shape *a = &shapes[s].a;
                uint32_t per_slot = fm_ceil_div_u32(rows[r].rows, rows[r].slots);
                if (a->first + per_slot > a->ctx || (types[t] == FM_TYPE_Q8_0 && a->head % 64 != 0))
                    continue;
                struct fm_problem p = {.op = FM_OP_ROPE_ATTEND, .w = types[t], .bucket = rows[r].bucket, .rows = rows[r].rows,
                                       .run = per_slot, .heads = a->heads, .heads_kv = a->heads_kv, .head = a->head,
                                       .rotated = shapes[s].rotated, .ctx = ctx_of(types[t], a->ctx), .window = a->window,
                                       .first_pos = a->first, .slots = rows[r].slots, .variant = (uint8_t)((s + r) % 2)};
                char shape[64];
                snprintf(shape, sizeof shape, "k%u:%u:%u@%u,%u/%ux%ur%u,s%u%s", p.variant, p.bucket, p.rows, p.first_pos, p.heads,
                         p.heads_kv, p.head, p.rotated, p.slots, p.window ? ",window" : "");
                fm_problems_push(l, &p, shape);
            }
}

// Llama-8B's heads, one row and several of one sequence; sixteen sequences.
static void rotating_bench(struct fm_problems *l)
{
    static const struct { uint32_t rows, slots, first; } rows[] = {
        {1, 1, 31},    {1, 1, 63},  {1, 1, 127}, {1, 1, 511},  {1, 1, 8191},
        {1, 1, 32767}, {4, 1, 508}, {8, 1, 504}, {8, 1, 8184}, {16, 16, 511}};
    static const enum fm_type types[] = {FM_TYPE_F16, FM_TYPE_Q8_0};
    for (size_t t = 0; t < FM_COUNT(types); t++)
        for (size_t r = 0; r < FM_COUNT(rows); r++) {
            uint32_t run = rows[r].rows / rows[r].slots;
            struct fm_problem p = {.op = FM_OP_ROPE_ATTEND, .w = types[t], .bucket = rows[r].rows, .rows = rows[r].rows, .run = run,
                                   .heads = 32, .heads_kv = 8, .head = 128, .rotated = 128, .ctx = FM_MAX(512u, rows[r].first + run),
                                   .first_pos = rows[r].first, .slots = rows[r].slots, .bench = true};
            char shape[64];
            snprintf(shape, sizeof shape, "%u@%u,32/8x128,s%u", p.rows, p.first_pos, p.slots);
            fm_problems_push(l, &p, shape);
        }
}

struct chunk_shape {
    uint32_t heads, heads_kv, head, ctx, chunk, cap;
};

static void push_chunked(struct fm_problems *l, enum fm_op op, enum fm_type w, const struct chunk_shape *a, uint32_t bucket,
                         uint32_t rows, uint32_t first, uint32_t slots, uint32_t original, bool bench)
{
    struct fm_problem p = {.op = op, .w = w, .bucket = bucket, .rows = rows, .heads = a->heads, .heads_kv = a->heads_kv,
                           .head = a->head, .rotated = a->head & ~1u, .ctx = ctx_of(w, a->ctx), .first_pos = first, .slots = slots,
                           .chunk = a->chunk, .cap = a->cap, .original = original, .copies = op == FM_OP_ROPE ? 3 : 0,
                           .variant = (uint8_t)(first % 2), .bench = bench};
    char shape[64];
    snprintf(shape, sizeof shape, "%u:%u@%u,%u/%ux%u,s%u,chunk%u%s", bucket, rows, first, a->heads, a->heads_kv, a->head, slots, a->chunk,
             original ? ",scaled" : "");
    fm_problems_push(l, &p, shape);
}

// Rows that begin before, at and behind every boundary of the first four chunks; micro-batches that hold several chunks; parts
// of split keys that hold boundaries.
static void chunked(struct fm_problems *l)
{
    static const struct chunk_shape shapes[] = {
        {4, 2, 16, 140, 20, 24},  {8, 2, 64, 300, 48, 60},  {4, 2, 15, 140, 21, 40},     {4, 1, 128, 400, 64, 64},
        {2, 1, 256, 240, 37, 50}, {6, 3, 80, 400, 100, 101}, {16, 1, 96, 930, 300, 330}, {3, 3, 64, 120, 1, 1}};
    static const struct { uint32_t bucket, rows; } rows[] = {{1, 1}, {8, 7}, {32, 32}, {128, 100}};
    static const enum fm_type types[] = {FM_TYPE_F32, FM_TYPE_F16, FM_TYPE_Q8_0};
    for (size_t t = 0; t < FM_COUNT(types); t++)
        for (size_t s = 0; s < FM_COUNT(shapes); s++)
            for (size_t r = 0; r < FM_COUNT(rows); r++) {
                const struct chunk_shape *a = &shapes[s];
                const uint32_t firsts[] = {0, a->chunk - 1, a->chunk, 2 * a->chunk - 1, 2 * a->chunk, 3 * a->chunk - 2 * (s % 2)};
                for (size_t f = 0; f < FM_COUNT(firsts); f++) {
                    uint32_t slots = 1 + (uint32_t)(s + r + f) % 3;
                    // Half of them in f16, a quarter in each other type.
                    if (firsts[f] + fm_ceil_div_u32(rows[r].rows, slots) > a->ctx ||
                        (t + s + r + f) % (types[t] == FM_TYPE_F16 ? 2 : 4))
                        continue;
                    push_chunked(l, FM_OP_ATTEND, types[t], a, rows[r].bucket, rows[r].rows, firsts[f], slots, 0, false);
                    if (r % 2 == 0 && f < 2)
                        push_chunked(l, FM_OP_ROPE_KV_WRITE, types[t], a, rows[r].bucket, rows[r].rows, firsts[f], slots,
                                     f % 2 ? 30 : 0, false);
                    if (t == 0 && r == 1 && s % 2)
                        push_chunked(l, FM_OP_ROPE, FM_TYPE_NONE, a, rows[r].bucket, rows[r].rows, firsts[f], slots, f % 2 ? 30 : 0,
                                     false);
                }
            }
    // Keys, rotated once; all heads' rows with the whole range of factors.
    struct fm_problem key = {.op = FM_OP_ROPE, .w = FM_TYPE_NONE, .bucket = 16, .rows = 13, .heads = 3, .head = 24, .rotated = 16,
                             .first_pos = 1000000, .slots = 1, .chunk = 700, .cap = 800, .original = 262144, .copies = 1};
    fm_problems_push(l, &key, "key,chunk700");
}

// The heads of Llama-2-7B over a whole context in one step, and one token behind it.
static void chunked_bench(struct fm_problems *l)
{
    static const struct chunk_shape shapes[] = {{32, 32, 128, 32768, 0, 0}, {32, 32, 128, 32768, 8192, 9216}};
    for (size_t i = 0; i < FM_COUNT(shapes); i++) {
        push_chunked(l, FM_OP_ATTEND, FM_TYPE_F16, &shapes[i], 32768, 32768, 0, 1, 0, true);
        push_chunked(l, FM_OP_ATTEND, FM_TYPE_F16, &shapes[i], 1, 1, 32767, 1, 0, true);
    }
}

void fm_problems_attention(struct fm_problems *l)
{
    rotations(l);
    plain(l);
    attention_bench(l);
    rotating(l);
    rotating_bench(l);
    chunked(l);
    chunked_bench(l);
}
