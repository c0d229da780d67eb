// SPDX-License-Identifier: MIT
// Byte-pair merging: a text cut into symbols, and the best pair of neighbours joined until no pair is left.
#ifndef FM_TEXT_MERGE_H
#define FM_TEXT_MERGE_H

#include "text/pair_queue.h"

#define FM_SYMBOL_NONE UINT32_MAX

struct fm_symbol {
    uint32_t begin; // offset in the text, in bytes
    uint32_t bytes;
    uint32_t id;   // token, or FM_TOKEN_NONE
    uint32_t prev; // neighbours by index; FM_SYMBOL_NONE at the ends
    uint32_t next;
    bool frozen; // takes part in no merge
};

// May the two neighbours become one, at which priority (the smallest goes first, the leftmost among equals), and as what?
typedef bool fm_merge_rule(const void *user, const char *text, const struct fm_symbol *left,
                           const struct fm_symbol *right, uint32_t *out_priority, uint32_t *out_id);

// Called every few thousand steps; anything but FM_OK ends the work with it.
typedef enum fm_result fm_merge_poll(void *user);

// Working memory, kept from one text to the next. All-zero is the start.
struct fm_merge {
    struct fm_symbol *symbols; // symbol 0 is never merged away, so it always starts the chain of `next`
    size_t count;
    size_t symbols_cap;
    struct fm_pair_queue queue;
    uint32_t priorities; // every priority is less; set before fm_merge_run, always the same
    fm_merge_poll *poll; // may be NULL
    void *poll_user;
    unsigned steps; // since the last poll
};

// Forget all symbols (memory is kept).
void fm_merge_reset(struct fm_merge *merge);
// Append a symbol. FM_NOMEM.
enum fm_result fm_merge_push(struct fm_merge *merge, uint32_t begin, uint32_t bytes, uint32_t id, bool frozen);
// Join pairs of `text` by `rule` until none is left: O(n log n) for n symbols, about O(n) where few pairs compete. FM_NOMEM,
// or what `poll` returned.
enum fm_result fm_merge_run(struct fm_merge *merge, const char *text, fm_merge_rule *rule, const void *user);
void fm_merge_finish(struct fm_merge *merge);

#endif
