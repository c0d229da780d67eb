// SPDX-License-Identifier: MIT
// Stores outside the results: all memory of a case before a run and after it.
#include "check/strays.h"

#include <stdio.h>

struct range { // of a pool
    uint64_t begin, end;
};

#define MAX_RANGES 64

static uint64_t pool_bytes(const struct fm_case_run *run, int pool)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < run->layout.pool[pool].n_allocs; i++)
        bytes = i * run->layout.pool[pool].alloc_bytes + run->layout.pool[pool].alloc_used[i];
    return pool == FM_POOL_ARENA     ? run->plan.arena_bytes
           : pool == FM_POOL_RESULT  ? run->plan.result_bytes
           : pool == FM_POOL_STEP    ? run->plan.step.bytes
           : pool == FM_POOL_COUNTER ? FM_COUNTER_BYTES
                                     : bytes;
}

enum fm_result fm_check_read(struct fm_vk *vk, const struct fm_case_run *run, int pool, uint64_t offset, void *data, uint64_t bytes)
{
    void *host = fm_vk_memory_host(run->memory[pool]);
    if (!host)
        return fm_vk_download(vk, run->memory[pool], offset, data, bytes);
    memcpy(data, (uint8_t *)host + offset, bytes);
    return FM_OK;
}

static enum fm_result read_pool(struct fm_vk *vk, const struct fm_case_run *run, int pool, uint8_t **out_data)
{
    uint64_t bytes = pool_bytes(run, pool);
    *out_data = NULL;
    if (bytes == 0)
        return FM_OK;
    *out_data = fm_alloc(bytes);
    return *out_data ? fm_check_read(vk, run, pool, 0, *out_data, bytes) : fm_nomem();
}

enum fm_result fm_strays_remember(struct fm_vk *vk, const struct fm_case_run *run, struct fm_strays *out_strays)
{
    enum fm_result r = FM_OK;
    *out_strays = (struct fm_strays){0};
    for (int pool = 0; pool < FM_POOL_COUNT && !r; pool++)
        r = read_pool(vk, run, pool, &out_strays->before[pool]);
    return r;
}

void fm_strays_finish(struct fm_strays *strays)
{
    for (int pool = 0; pool < FM_POOL_COUNT; pool++)
        fm_free(strays->before[pool]);
    *strays = (struct fm_strays){0};
}

// Of a result [rows of the bucket, width] only the rows that the step has may be written.
static uint64_t written_bytes(const struct fm_case *c, const struct fm_case_run *run, const struct fm_binding *bind, uint32_t rows)
{
    const struct fm_node *node = &c->graph.nodes[0];
    for (uint32_t d = 0; d < node->n_dst; d++) {
        const struct fm_value *v = &c->graph.values[node->dst[d]];
        const struct fm_place *place = &run->plan.place[node->dst[d]];
        if (v->kind == FM_VALUE_OUTPUT && (uint8_t)place->pool == bind->pool && place->offset == bind->offset &&
            (v->dims[0] == FM_DIM_T || v->dims[0] == FM_DIM_O))
            return place->bytes / fm_dim_resolve(v->dims[0], &c->dims) * rows;
    }
    return bind->bytes;
}

// What the plan writes of a pool, in rising order. Counters are at zero again, so they count as not written.
static uint32_t written_ranges(const struct fm_case *c, const struct fm_case_run *run, int pool, uint32_t rows, struct range *ranges)
{
    uint32_t n = 0;
    for (size_t i = 0; i < run->plan.n_dispatches; i++)
        for (uint32_t b = 0; b < run->plan.dispatches[i].n_bind && n < MAX_RANGES; b++) {
            const struct fm_binding *bind = &run->plan.dispatches[i].bind[b];
            if (!bind->written || bind->pool != pool || pool == FM_POOL_COUNTER)
                continue;
            uint32_t at = n++;
            for (; at > 0 && ranges[at - 1].begin > bind->offset; at--)
                ranges[at] = ranges[at - 1];
            ranges[at] = (struct range){bind->offset, bind->offset + written_bytes(c, run, bind, rows)};
        }
    return n;
}

// First byte of [begin, end) that changed, or `end`.
static uint64_t first_change(const uint8_t *before, const uint8_t *after, uint64_t begin, uint64_t end)
{
    if (begin >= end || memcmp(before + begin, after + begin, end - begin) == 0)
        return end;
    while (before[begin] == after[begin])
        begin++;
    return begin;
}

static void tell(const struct range *ranges, uint32_t n, int pool, uint64_t at, char *message, size_t size)
{
    const char *name = fm_pool_name((enum fm_pool)pool);
    for (uint32_t i = n; i-- > 0;)
        if (ranges[i].end <= at && (i + 1 == n || at - ranges[i].end <= ranges[i + 1].begin - at)) {
            snprintf(message, size, "wrote into the %s pool, %llu bytes behind the end of a result", name,
                     (unsigned long long)(at - ranges[i].end));
            return;
        }
    if (n > 0)
        snprintf(message, size, "wrote into the %s pool, %llu bytes before a result", name, (unsigned long long)(ranges[0].begin - at));
    else
        snprintf(message, size, "wrote into the %s pool, at byte %llu, where nothing is to be written", name, (unsigned long long)at);
}

enum fm_result fm_strays_find(struct fm_vk *vk, const struct fm_strays *strays, const struct fm_case *c, const struct fm_case_run *run,
                              uint32_t rows, char *message, size_t size)
{
    enum fm_result r = FM_OK;
    message[0] = 0;
    for (int pool = 0; pool < FM_POOL_COUNT && !r && !message[0]; pool++) {
        uint64_t bytes = pool_bytes(run, pool), at = 0;
        struct range ranges[MAX_RANGES];
        uint8_t *after;
        uint32_t n = written_ranges(c, run, pool, rows, ranges);
        r = read_pool(vk, run, pool, &after);
        for (uint32_t i = 0; i <= n && !r && bytes > 0 && !message[0]; i++) {
            uint64_t end = i < n ? ranges[i].begin : bytes;
            uint64_t change = first_change(strays->before[pool], after, at, end);
            if (change < end)
                tell(ranges, n, pool, change, message, size);
            at = i < n ? FM_MAX(at, ranges[i].end) : at;
        }
        fm_free(after);
    }
    return r;
}
