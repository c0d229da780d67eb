// SPDX-License-Identifier: MIT
#include "text/word_cache.h"

#define SLOTS_LOG2 13

// The text filled up with zeros, and its slot. bytes is at most FM_WORD_BYTES.
static size_t slot_of(const char *text, size_t bytes, uint64_t out_text[FM_WORD_BYTES / sizeof(uint64_t)])
{
    uint64_t hash = bytes;
    memset(out_text, 0, FM_WORD_BYTES);
    memcpy(out_text, text, bytes);
    for (size_t i = 0; i < FM_WORD_BYTES / sizeof(uint64_t); i++)
        hash = (hash ^ out_text[i] ^ hash >> 32) * 0x9E3779B97F4A7C15ull;
    return (size_t)(hash >> (64 - SLOTS_LOG2));
}

const struct fm_word *fm_word_cache_get(const struct fm_word_cache *cache, const char *text, size_t bytes)
{
    uint64_t padded[FM_WORD_BYTES / sizeof(uint64_t)];
    if (cache->words == NULL || bytes > FM_WORD_BYTES)
        return NULL;
    const struct fm_word *word = &cache->words[slot_of(text, bytes, padded)];
    return word->bytes == bytes && memcmp(word->text, padded, sizeof(padded)) == 0 ? word : NULL;
}

enum fm_result fm_word_cache_put(struct fm_word_cache *cache, const char *text, size_t bytes, const uint32_t *ids, size_t count)
{
    if (bytes > FM_WORD_BYTES || count > FM_WORD_IDS)
        return FM_OK;
    if (cache->words == NULL)
        cache->words = fm_alloc_zero((size_t)1 << SLOTS_LOG2, sizeof(*cache->words));
    if (cache->words == NULL)
        return fm_nomem();
    uint64_t padded[FM_WORD_BYTES / sizeof(uint64_t)];
    struct fm_word *word = &cache->words[slot_of(text, bytes, padded)];
    memcpy(word->text, padded, sizeof(padded));
    memcpy(word->ids, ids, count * sizeof(*ids));
    word->bytes = (uint8_t)bytes;
    word->count = (uint8_t)count;
    return FM_OK;
}

void fm_word_cache_finish(struct fm_word_cache *cache)
{
    fm_free(cache->words);
    cache->words = NULL;
}
