// SPDX-License-Identifier: MIT
// The agenda algorithm of Sennrich's BPE as SentencePiece runs it: a doubly linked list of symbols and a binary heap of
// candidate pairs. A candidate is not removed when one of its symbols changes; it is recognised as stale when it comes
// up.
#include "text/merge.h"

static bool before(const struct fm_merge_pair *a, const struct fm_merge_pair *b)
{
    return a->priority != b->priority ? a->priority < b->priority : a->left < b->left;
}

static enum fm_result heap_push(struct fm_merge *merge, struct fm_merge_pair pair)
{
    enum fm_result r =
        fm_array_reserve((void **)&merge->heap, &merge->heap_cap, merge->heap_count + 1, sizeof(*merge->heap));
    if (r != FM_OK)
        return r;
    size_t at = merge->heap_count++;
    while (at > 0) {
        size_t parent = (at - 1) / 2;
        if (!before(&pair, &merge->heap[parent]))
            break;
        merge->heap[at] = merge->heap[parent];
        at = parent;
    }
    merge->heap[at] = pair;
    return FM_OK;
}

// The heap is not empty.
static struct fm_merge_pair heap_pop(struct fm_merge *merge)
{
    struct fm_merge_pair top = merge->heap[0];
    struct fm_merge_pair last = merge->heap[--merge->heap_count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= merge->heap_count)
            break;
        if (child + 1 < merge->heap_count && before(&merge->heap[child + 1], &merge->heap[child]))
            child++;
        if (!before(&merge->heap[child], &last))
            break;
        merge->heap[at] = merge->heap[child];
        at = child;
    }
    if (merge->heap_count > 0)
        merge->heap[at] = last;
    return top;
}

void fm_merge_reset(struct fm_merge *merge)
{
    merge->count = 0;
    merge->heap_count = 0;
}

enum fm_result fm_merge_push(struct fm_merge *merge, uint32_t begin, uint32_t bytes, uint32_t id, bool frozen)
{
    enum fm_result r =
        fm_array_reserve((void **)&merge->symbols, &merge->symbols_cap, merge->count + 1, sizeof(*merge->symbols));
    if (r != FM_OK)
        return r;
    uint32_t index = (uint32_t)merge->count++;
    uint32_t prev = index == 0 ? FM_SYMBOL_NONE : index - 1;
    merge->symbols[index] = (struct fm_symbol){
        .begin = begin, .bytes = bytes, .id = id, .prev = prev, .next = FM_SYMBOL_NONE, .frozen = frozen};
    if (index > 0)
        merge->symbols[prev].next = index;
    return FM_OK;
}

static enum fm_result propose(struct fm_merge *merge, const char *text, fm_merge_rule *rule, const void *user,
                              uint32_t left, uint32_t right)
{
    if (left == FM_SYMBOL_NONE || right == FM_SYMBOL_NONE)
        return FM_OK;
    const struct fm_symbol *a = &merge->symbols[left], *b = &merge->symbols[right];
    struct fm_merge_pair pair = {.left = left, .right = right, .bytes = a->bytes + b->bytes};
    if (a->frozen || b->frozen || !rule(user, text, a, b, &pair.priority, &pair.id))
        return FM_OK;
    return heap_push(merge, pair);
}

enum fm_result fm_merge_run(struct fm_merge *merge, const char *text, fm_merge_rule *rule, const void *user)
{
    enum fm_result r = FM_OK;
    merge->heap_count = 0;
    for (uint32_t i = 1; r == FM_OK && i < merge->count; i++)
        r = propose(merge, text, rule, user, i - 1, i);
    while (r == FM_OK && merge->heap_count > 0) {
        struct fm_merge_pair pair = heap_pop(merge);
        struct fm_symbol *left = &merge->symbols[pair.left], *right = &merge->symbols[pair.right];
        // A symbol that was merged away has 0 bytes, one that has grown has more: the sum tells both.
        if (left->bytes == 0 || right->bytes == 0 || left->bytes + right->bytes != pair.bytes)
            continue;
        left->bytes += right->bytes;
        left->id = pair.id;
        left->next = right->next;
        right->bytes = 0;
        if (left->next != FM_SYMBOL_NONE)
            merge->symbols[left->next].prev = pair.left;
        r = propose(merge, text, rule, user, left->prev, pair.left);
        if (r == FM_OK)
            r = propose(merge, text, rule, user, pair.left, left->next);
    }
    return r;
}

void fm_merge_finish(struct fm_merge *merge)
{
    fm_free(merge->symbols);
    fm_free(merge->heap);
    *merge = (struct fm_merge){0};
}
