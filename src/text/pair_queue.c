// SPDX-License-Identifier: MIT
#include "text/pair_queue.h"

// From so many symbols on lanes pay.
#define LANE_SYMBOLS 2048

static bool before(const struct fm_merge_pair *a, const struct fm_merge_pair *b)
{
    return a->priority != b->priority ? a->priority < b->priority : a->left < b->left;
}

static enum fm_result heap_push(struct fm_pair_queue *queue, struct fm_merge_pair pair)
{
    enum fm_result r =
        fm_array_reserve((void **)&queue->heap, &queue->heap_cap, queue->heap_count + 1, sizeof(*queue->heap));
    if (r != FM_OK)
        return r;
    size_t at = queue->heap_count++;
    while (at > 0) {
        size_t parent = (at - 1) / 2;
        if (!before(&pair, &queue->heap[parent]))
            break;
        queue->heap[at] = queue->heap[parent];
        at = parent;
    }
    queue->heap[at] = pair;
    return FM_OK;
}

// The heap is not empty.
static struct fm_merge_pair heap_pop(struct fm_pair_queue *queue)
{
    struct fm_merge_pair top = queue->heap[0];
    struct fm_merge_pair last = queue->heap[--queue->heap_count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= queue->heap_count)
            break;
        if (child + 1 < queue->heap_count && before(&queue->heap[child + 1], &queue->heap[child]))
            child++;
        if (!before(&queue->heap[child], &last))
            break;
        queue->heap[at] = queue->heap[child];
        at = child;
    }
    if (queue->heap_count > 0)
        queue->heap[at] = last;
    return top;
}

static enum fm_result active_push(struct fm_pair_queue *queue, uint32_t priority)
{
    enum fm_result r =
        fm_array_reserve((void **)&queue->active, &queue->active_cap, queue->active_count + 1, sizeof(*queue->active));
    if (r != FM_OK)
        return r;
    size_t at = queue->active_count++;
    while (at > 0 && priority < queue->active[(at - 1) / 2]) {
        queue->active[at] = queue->active[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    queue->active[at] = priority;
    return FM_OK;
}

// Take out the smallest priority; there is one.
static void active_pop(struct fm_pair_queue *queue)
{
    uint32_t last = queue->active[--queue->active_count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= queue->active_count)
            break;
        if (child + 1 < queue->active_count && queue->active[child + 1] < queue->active[child])
            child++;
        if (queue->active[child] >= last)
            break;
        queue->active[at] = queue->active[child];
        at = child;
    }
    if (queue->active_count > 0)
        queue->active[at] = last;
}

enum fm_result fm_pair_queue_start(struct fm_pair_queue *queue, size_t symbols, uint32_t priorities)
{
    queue->heap_count = queue->active_count = queue->pool_count = 0;
    queue->free_pair = FM_PAIR_NONE;
    queue->use_lanes = symbols >= LANE_SYMBOLS;
    if (!queue->use_lanes || queue->lanes != NULL)
        return FM_OK;
    queue->lanes = fm_realloc(NULL, priorities, sizeof(*queue->lanes));
    if (queue->lanes == NULL)
        return fm_nomem();
    queue->lane_count = priorities;
    for (uint32_t i = 0; i < priorities; i++)
        queue->lanes[i] = (struct fm_pair_lane){FM_PAIR_NONE, FM_PAIR_NONE};
    return FM_OK;
}

// An entry of the pool that is free. FM_NOMEM.
static enum fm_result pool_take(struct fm_pair_queue *queue, uint32_t *out_index)
{
    if (queue->free_pair != FM_PAIR_NONE) {
        *out_index = queue->free_pair;
        queue->free_pair = queue->pool[*out_index].next;
        return FM_OK;
    }
    enum fm_result r =
        fm_array_reserve((void **)&queue->pool, &queue->pool_cap, queue->pool_count + 1, sizeof(*queue->pool));
    if (r == FM_OK)
        *out_index = (uint32_t)queue->pool_count++;
    return r;
}

enum fm_result fm_pair_queue_push(struct fm_pair_queue *queue, struct fm_merge_pair pair)
{
    if (!queue->use_lanes)
        return heap_push(queue, pair);
    struct fm_pair_lane *lane = &queue->lanes[pair.priority];
    if (lane->last != FM_PAIR_NONE && queue->pool[lane->last].left > pair.left)
        return heap_push(queue, pair);
    uint32_t index;
    enum fm_result r = pool_take(queue, &index);
    if (r != FM_OK)
        return r;
    queue->pool[index] =
        (struct fm_pool_pair){.left = pair.left, .bytes = pair.bytes, .id = pair.id, .next = FM_PAIR_NONE};
    if (lane->last == FM_PAIR_NONE) {
        r = active_push(queue, pair.priority);
        lane->first = index;
    } else {
        queue->pool[lane->last].next = index;
    }
    lane->last = index;
    return r;
}

bool fm_pair_queue_pop(struct fm_pair_queue *queue, struct fm_merge_pair *out_pair)
{
    if (queue->active_count == 0) {
        if (queue->heap_count == 0)
            return false;
        *out_pair = heap_pop(queue);
        return true;
    }
    const uint32_t priority = queue->active[0];
    struct fm_pair_lane *lane = &queue->lanes[priority];
    const uint32_t index = lane->first;
    struct fm_pool_pair *entry = &queue->pool[index];
    const struct fm_merge_pair pair = {priority, entry->left, entry->bytes, entry->id};
    if (queue->heap_count > 0 && before(&queue->heap[0], &pair)) {
        *out_pair = heap_pop(queue);
        return true;
    }
    lane->first = entry->next;
    if (lane->first == FM_PAIR_NONE) {
        lane->last = FM_PAIR_NONE;
        active_pop(queue);
    }
    entry->next = queue->free_pair;
    queue->free_pair = index;
    *out_pair = pair;
    return true;
}

void fm_pair_queue_finish(struct fm_pair_queue *queue)
{
    fm_free(queue->heap);
    fm_free(queue->lanes);
    fm_free(queue->active);
    fm_free(queue->pool);
    *queue = (struct fm_pair_queue){0};
}
