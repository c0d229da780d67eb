// SPDX-License-Identifier: MIT
// The activation arena: buffers live from the first to the last barrier group that touches them; largest first, each at
// the lowest offset where nothing that lives at the same time lies. (Greedy by size: Pisarchyk and Lee, "Efficient
// Memory Management for Deep Neural Net Inference", 2020.)
#include "plan/build.h"

#include <stdlib.h>

#define BUFFER_ALIGN_BYTES 256u
#define OVERRUN_BYTES 16u // 16-byte loads may run over the end

struct life {
    uint64_t bytes; // with what must lie round it
    uint64_t begin;
    uint32_t first_group, last_group;
    uint32_t buffer;
};

struct gap_search {
    const struct life **placed; // in rising order of begin
    size_t count;
};

static int by_size(const void *a, const void *b)
{
    const struct life *x = a, *y = b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return x->buffer < y->buffer ? -1 : x->buffer > y->buffer;
}

static bool alive_together(const struct life *a, const struct life *b)
{
    return a->first_group <= b->last_group && b->first_group <= a->last_group;
}

// Lowest offset that is free during the life.
static enum fm_result find_place(const struct gap_search *search, struct life *life)
{
    uint64_t at = 0;
    for (size_t i = 0; i < search->count; i++) {
        const struct life *other = search->placed[i];
        if (!alive_together(life, other))
            continue;
        if (at <= other->begin && other->begin - at >= life->bytes)
            break;
        uint64_t end = other->begin + other->bytes;
        at = FM_MAX(at, end);
    }
    uint64_t end;
    if (!fm_add_u64(at, life->bytes, &end))
        return fm_fail(FM_NOSPACE, "the activations need more than 2^64 bytes");
    life->begin = at;
    return FM_OK;
}

static void insert_placed(struct gap_search *search, const struct life *life)
{
    size_t at = search->count++;
    for (; at > 0 && search->placed[at - 1]->begin > life->begin; at--)
        search->placed[at] = search->placed[at - 1];
    search->placed[at] = life;
}

static enum fm_result make_lives(const struct fm_build *b, uint64_t guard_bytes, const uint32_t *group, struct life *lives)
{
    uint32_t last_group = b->n_dispatches > 0 ? group[b->n_dispatches - 1] : 0;
    uint64_t tail_bytes = FM_MAX(guard_bytes, OVERRUN_BYTES);
    for (uint32_t i = 0; i < b->n_buffers; i++) {
        const struct fm_plan_buffer *buffer = &b->buffers[i];
        struct life *life = &lives[i];
        *life = (struct life){.buffer = i, .last_group = last_group};
        if (!b->options.keep_values && buffer->first != FM_NONE) {
            life->first_group = group[buffer->first];
            life->last_group = buffer->to_end ? last_group : group[buffer->last];
        }
        if (!fm_add_u64(buffer->bytes, guard_bytes + tail_bytes, &life->bytes) ||
            !fm_align_u64(life->bytes, BUFFER_ALIGN_BYTES, &life->bytes))
            return fm_fail(FM_NOSPACE, "the activations need more than 2^64 bytes");
    }
    return FM_OK;
}

// Barrier group of every dispatch.
static uint32_t *group_numbers(const struct fm_build *b)
{
    uint32_t *group = fm_alloc_zero(b->n_dispatches + 1, sizeof(*group));
    for (size_t i = 1; group != NULL && i < b->n_dispatches; i++)
        group[i] = group[i - 1] + b->dispatches[i].barrier_before;
    return group;
}

enum fm_result fm_plan_place_buffers(struct fm_build *b, uint64_t *out_arena_bytes)
{
    uint64_t guard_bytes, arena_bytes = 0;
    if (!fm_align_u64(b->options.guard_bytes, BUFFER_ALIGN_BYTES, &guard_bytes) || guard_bytes > UINT32_MAX)
        return fm_fail(FM_ARG, "guard zones of %llu bytes are too large", (unsigned long long)b->options.guard_bytes);
    uint32_t *group = group_numbers(b);
    struct life *lives = fm_alloc_zero(b->n_buffers + 1, sizeof(*lives));
    struct gap_search search = {.placed = fm_alloc_zero(b->n_buffers + 1, sizeof(*search.placed))};
    enum fm_result result = FM_NOMEM;
    if (group == NULL || lives == NULL || search.placed == NULL) {
        result = fm_nomem();
        goto done;
    }
    result = make_lives(b, guard_bytes, group, lives);
    qsort(lives, b->n_buffers, sizeof(*lives), by_size);
    for (size_t i = 0; i < b->n_buffers && result == FM_OK; i++) {
        result = find_place(&search, &lives[i]);
        if (result != FM_OK)
            break;
        insert_placed(&search, &lives[i]);
        b->buffers[lives[i].buffer].offset = lives[i].begin + guard_bytes;
        arena_bytes = FM_MAX(arena_bytes, lives[i].begin + lives[i].bytes);
    }
    if (result == FM_OK)
        *out_arena_bytes = arena_bytes;
done:
    fm_free(group);
    fm_free(lives);
    fm_free(search.placed);
    return result;
}
