// SPDX-License-Identifier: MIT
// Finds tokens that are matched in the text as they stand: special tokens, and those that a user defined.
#ifndef FM_TEXT_MATCHER_H
#define FM_TEXT_MATCHER_H

#include "base/base.h"

struct fm_matcher_entry {
    const char *text; // not copied: must outlive the matcher; not empty
    uint32_t bytes;
    uint32_t id;
};

struct fm_matcher {
    struct fm_matcher_entry *entries; // sorted by their bytes once fm_matcher_seal was called
    size_t count;
    size_t cap;
    uint32_t first[257]; // entries that begin with byte b are first[b] … first[b + 1] - 1
};

// An all-zero matcher is valid, empty and sealed. FM_NOMEM.
enum fm_result fm_matcher_add(struct fm_matcher *matcher, const char *text, uint32_t bytes, uint32_t id);
// Sort what was added; call once, before the first search.
void fm_matcher_seal(struct fm_matcher *matcher);
// The longest entry that text begins with. false when there is none.
bool fm_matcher_at(const struct fm_matcher *matcher, const char *text, size_t text_bytes, uint32_t *out_id,
                   size_t *out_bytes);
// The leftmost place where an entry matches, and the longest entry there. false when there is none.
bool fm_matcher_find(const struct fm_matcher *matcher, const char *text, size_t text_bytes, size_t *out_begin,
                     uint32_t *out_id, size_t *out_bytes);
void fm_matcher_finish(struct fm_matcher *matcher);

#endif
