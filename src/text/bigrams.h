// SPDX-License-Identifier: MIT
// Where a text may be cut before it is merged: between two characters that stand beside each other in no token, no merge can
// ever reach across. The set of such pairs is a table of hash bits, so it may hold pairs that are in no token: then a text
// is cut in fewer places, which changes nothing but time.
#ifndef FM_TEXT_BIGRAMS_H
#define FM_TEXT_BIGRAMS_H

#include "base/base.h"

struct fm_bigrams {
    uint64_t *bits; // 2^(64 - shift) of them
    unsigned shift;
    uint64_t pairs; // promised to fm_bigrams_reserve
};

// An all-zero set is empty, and every place a cut. Call fm_bigrams_reserve for every token, then fm_bigrams_allocate once,
// then fm_bigrams_add for every token.
void fm_bigrams_reserve(struct fm_bigrams *bigrams, uint32_t text_bytes);
enum fm_result fm_bigrams_allocate(struct fm_bigrams *bigrams); // FM_NOMEM
void fm_bigrams_add(struct fm_bigrams *bigrams, const char *text, uint32_t text_bytes);
void fm_bigrams_finish(struct fm_bigrams *bigrams);

static inline uint64_t fm_bigram_hash(const struct fm_bigrams *bigrams, uint32_t left, uint32_t right)
{
    return ((uint64_t)left << 32 | right) * 0x9E3779B97F4A7C15ull >> bigrams->shift;
}

// Can a merge join the two characters (code points)?
static inline bool fm_bigrams_may_join(const struct fm_bigrams *bigrams, uint32_t left, uint32_t right)
{
    if (bigrams->bits == NULL)
        return false;
    uint64_t hash = fm_bigram_hash(bigrams, left, right);
    return bigrams->bits[hash >> 6] >> (hash & 63) & 1;
}

#endif
