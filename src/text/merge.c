// SPDX-License-Identifier: MIT
// The agenda algorithm of Sennrich's BPE as SentencePiece runs it: a doubly linked list of symbols and a queue of
// candidate pairs. A candidate is not removed when one of its symbols changes; it is recognised as stale when it comes
// up.
#include "text/merge.h"

#define POLL_STEPS 8192

void fm_merge_reset(struct fm_merge *merge)
{
    merge->count = 0;
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
    struct fm_merge_pair pair = {.left = left, .bytes = a->bytes + b->bytes};
    if (a->frozen || b->frozen || !rule(user, text, a, b, &pair.priority, &pair.id))
        return FM_OK;
    return fm_pair_queue_push(&merge->queue, pair);
}

static enum fm_result poll(struct fm_merge *merge)
{
    if (merge->poll == NULL || ++merge->steps < POLL_STEPS)
        return FM_OK;
    merge->steps = 0;
    return merge->poll(merge->poll_user);
}

// Join the symbol `left` with its right neighbour, and propose the pairs that arise.
static enum fm_result join(struct fm_merge *merge, const char *text, fm_merge_rule *rule, const void *user, uint32_t left,
                           uint32_t id)
{
    struct fm_symbol *symbol = &merge->symbols[left], *right = &merge->symbols[symbol->next];
    symbol->bytes += right->bytes;
    symbol->id = id;
    symbol->next = right->next;
    right->bytes = 0;
    if (symbol->next != FM_SYMBOL_NONE)
        merge->symbols[symbol->next].prev = left;
    enum fm_result r = propose(merge, text, rule, user, symbol->prev, left);
    return r == FM_OK ? propose(merge, text, rule, user, left, symbol->next) : r;
}

enum fm_result fm_merge_run(struct fm_merge *merge, const char *text, fm_merge_rule *rule, const void *user)
{
    struct fm_merge_pair pair;
    enum fm_result r = fm_pair_queue_start(&merge->queue, merge->count, merge->priorities);
    for (uint32_t i = 1; r == FM_OK && i < merge->count; i++) {
        r = poll(merge);
        if (r == FM_OK)
            r = propose(merge, text, rule, user, i - 1, i);
    }
    while (r == FM_OK && fm_pair_queue_pop(&merge->queue, &pair)) {
        const struct fm_symbol *left = &merge->symbols[pair.left];
        r = poll(merge);
        // Stale where the left symbol was merged away (it has 0 bytes) or one of the two has grown. The pair still stands
        // exactly where the left one and its neighbour have as many bytes as then.
        if (r == FM_OK && left->bytes > 0 && left->next != FM_SYMBOL_NONE &&
            left->bytes + merge->symbols[left->next].bytes == pair.bytes)
            r = join(merge, text, rule, user, pair.left, pair.id);
    }
    return r;
}

void fm_merge_finish(struct fm_merge *merge)
{
    fm_free(merge->symbols);
    fm_pair_queue_finish(&merge->queue);
    *merge = (struct fm_merge){0};
}
