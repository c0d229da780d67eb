// SPDX-License-Identifier: MIT
// What short stretches of a text were merged to. Prose repeats its words, and looking one up is much cheaper than merging it.
#ifndef FM_TEXT_WORD_CACHE_H
#define FM_TEXT_WORD_CACHE_H

#include "base/base.h"

#define FM_WORD_BYTES 24
#define FM_WORD_IDS 7

struct fm_word {
    uint64_t text[FM_WORD_BYTES / sizeof(uint64_t)]; // filled up with zeros
    uint32_t ids[FM_WORD_IDS];
    uint8_t bytes; // 0 = free
    uint8_t count;
};

// All-zero is empty. One word for each value of a hash: the last one stays.
struct fm_word_cache {
    struct fm_word *words;
};

// The word, or NULL.
const struct fm_word *fm_word_cache_get(const struct fm_word_cache *cache, const char *text, size_t bytes);
// Keep a word; does nothing for one that is too long or has too many ids. FM_NOMEM.
enum fm_result fm_word_cache_put(struct fm_word_cache *cache, const char *text, size_t bytes, const uint32_t *ids, size_t count);
void fm_word_cache_finish(struct fm_word_cache *cache);

#endif
