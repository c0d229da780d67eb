// SPDX-License-Identifier: MIT
#include "text/bigrams.h"

#include "base/utf8.h"
#include "text/unicode.h"

#define BITS_PER_PAIR 16
#define MIN_BITS_LOG2 12
#define MAX_BITS_LOG2 26
#define NO_CHARACTER UINT32_MAX // bytes that are no character are never beside one in a text

void fm_bigrams_reserve(struct fm_bigrams *bigrams, uint32_t text_bytes)
{
    bigrams->pairs += text_bytes;
}

enum fm_result fm_bigrams_allocate(struct fm_bigrams *bigrams)
{
    unsigned log2 = MIN_BITS_LOG2;
    while (log2 < MAX_BITS_LOG2 && (uint64_t)1 << log2 < bigrams->pairs * BITS_PER_PAIR)
        log2++;
    bigrams->shift = 64 - log2;
    bigrams->bits = fm_alloc_zero(((size_t)1 << log2) / 64, sizeof(*bigrams->bits));
    return bigrams->bits == NULL ? fm_nomem() : FM_OK;
}

void fm_bigrams_add(struct fm_bigrams *bigrams, const char *text, uint32_t text_bytes)
{
    uint32_t left = NO_CHARACTER;
    for (size_t at = 0, bytes; at < text_bytes; at += bytes) {
        bool whole = fm_utf8_next(text + at, text_bytes - at, &bytes) == FM_UTF8_CHAR;
        uint32_t right = whole ? fm_unicode_point(text + at, &bytes) : NO_CHARACTER;
        if (at > 0) {
            uint64_t hash = fm_bigram_hash(bigrams, left, right);
            bigrams->bits[hash >> 6] |= (uint64_t)1 << (hash & 63);
        }
        left = right;
    }
}

void fm_bigrams_finish(struct fm_bigrams *bigrams)
{
    fm_free(bigrams->bits);
    *bigrams = (struct fm_bigrams){0};
}
