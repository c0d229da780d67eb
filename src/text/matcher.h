// SPDX-License-Identifier: MIT
// Finds tokens that are matched in the text as they stand: special tokens, and those that a user defined. The automaton of
// Aho and Corasick ("Efficient string matching", 1975) over the reversed tokens reads the text from its end, and so knows at
// every place the longest token that begins there. Time is linear in the text, however long the tokens are.
#ifndef FM_TEXT_MATCHER_H
#define FM_TEXT_MATCHER_H

#include "base/base.h"

struct fm_matcher_entry {
    const char *text; // not copied: must outlive the matcher; not empty
    uint32_t bytes;
    uint32_t id;
};

struct fm_matcher {
    struct fm_matcher_entry *entries; // sorted by their reversed bytes once fm_matcher_seal was called
    size_t count;
    size_t cap;
    uint32_t max_bytes; // of the longest entry
    size_t total_bytes; // of all entries

    // Nodes in order of depth, 0 is the root. Children of node n are children[n] … children[n + 1] - 1, by their bytes.
    size_t node_count;
    uint32_t *children;
    uint32_t *fails;   // the node of the longest proper suffix
    uint32_t *longest; // index + 1 of the longest entry that ends here; 0 = none
    uint8_t *bytes;    // that leads from the parent to this node
};

// An all-zero matcher is valid, empty and sealed. FM_UNSUPPORTED for more than 16 MiB of tokens, FM_NOMEM.
enum fm_result fm_matcher_add(struct fm_matcher *matcher, const char *text, uint32_t bytes, uint32_t id);
// Build the automaton; call once, before the first search. FM_NOMEM.
enum fm_result fm_matcher_seal(struct fm_matcher *matcher);
// The longest entry that text begins with; of equal ones that with the smallest id. false when there is none. Time grows with
// the longest entry: not for a walk through a text.
bool fm_matcher_at(const struct fm_matcher *matcher, const char *text, size_t text_bytes, uint32_t *out_id,
                   size_t *out_bytes);
void fm_matcher_finish(struct fm_matcher *matcher);

// A walk through a text from its beginning. All-zero, then fm_match_walk_start; memory is kept from one text to the next.
struct fm_match_walk {
    const struct fm_matcher *matcher;
    const char *text;
    size_t text_bytes;
    size_t begin; // what begins at `begin` … `end` - 1 is known
    size_t end;
    uint32_t *found; // index + 1 of the entry for each of these places; 0 = none
    size_t found_cap;
};

void fm_match_walk_start(struct fm_match_walk *walk, const struct fm_matcher *matcher, const char *text, size_t text_bytes);
// The longest entry that begins at `at`, or NULL. `at` must not decrease from call to call. FM_NOMEM.
enum fm_result fm_match_walk_at(struct fm_match_walk *walk, size_t at, const struct fm_matcher_entry **out_entry);
// The first place at or after `from`, but before `limit`, where an entry begins; *out_entry is NULL and *out_at is `limit`
// where there is none. Neither `from` nor `limit` may decrease. FM_NOMEM.
enum fm_result fm_match_walk_next(struct fm_match_walk *walk, size_t from, size_t limit, size_t *out_at,
                                  const struct fm_matcher_entry **out_entry);
void fm_match_walk_finish(struct fm_match_walk *walk);

#endif
