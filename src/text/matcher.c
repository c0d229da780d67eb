// SPDX-License-Identifier: MIT
// A sorted array serves as a trie: each byte of the text narrows the range of entries that still agree with it.
#include "text/matcher.h"

#include <stdlib.h>

enum fm_result fm_matcher_add(struct fm_matcher *matcher, const char *text, uint32_t bytes, uint32_t id)
{
    enum fm_result r =
        fm_array_reserve((void **)&matcher->entries, &matcher->cap, matcher->count + 1, sizeof(*matcher->entries));
    if (r != FM_OK)
        return r;
    matcher->entries[matcher->count++] = (struct fm_matcher_entry){.text = text, .bytes = bytes, .id = id};
    return FM_OK;
}

static int compare(const void *left, const void *right)
{
    const struct fm_matcher_entry *a = left, *b = right;
    int order = memcmp(a->text, b->text, FM_MIN(a->bytes, b->bytes));
    if (order != 0)
        return order;
    if (a->bytes != b->bytes)
        return a->bytes < b->bytes ? -1 : 1;
    return (a->id > b->id) - (a->id < b->id);
}

void fm_matcher_seal(struct fm_matcher *matcher)
{
    if (matcher->count > 0)
        qsort(matcher->entries, matcher->count, sizeof(*matcher->entries), compare);
    uint32_t entry = 0;
    for (unsigned byte = 0; byte < 256; byte++) {
        matcher->first[byte] = entry;
        while (entry < matcher->count && (uint8_t)matcher->entries[entry].text[0] == byte)
            entry++;
    }
    matcher->first[256] = entry;
}

// First entry of [low, high) whose byte `at` is >= byte. All of them are longer than `at`.
static uint32_t lower_bound(const struct fm_matcher *matcher, uint32_t low, uint32_t high, size_t at, unsigned byte)
{
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if ((uint8_t)matcher->entries[middle].text[at] < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool fm_matcher_at(const struct fm_matcher *matcher, const char *text, size_t text_bytes, uint32_t *out_id,
                   size_t *out_bytes)
{
    if (matcher->count == 0 || text_bytes == 0)
        return false;
    uint8_t byte = (uint8_t)text[0];
    uint32_t low = matcher->first[byte], high = matcher->first[byte + 1];
    bool found = false;
    for (size_t at = 1; low < high; at++) {
        // Of entries that agree so far the shortest, if it ends here, comes first; doubles of it go with it.
        if (matcher->entries[low].bytes == at) {
            *out_id = matcher->entries[low].id;
            *out_bytes = at;
            found = true;
            while (low < high && matcher->entries[low].bytes == at)
                low++;
        }
        if (at == text_bytes)
            break;
        byte = (uint8_t)text[at];
        low = lower_bound(matcher, low, high, at, byte);
        high = lower_bound(matcher, low, high, at, (unsigned)byte + 1);
    }
    return found;
}

bool fm_matcher_find(const struct fm_matcher *matcher, const char *text, size_t text_bytes, size_t *out_begin,
                     uint32_t *out_id, size_t *out_bytes)
{
    if (matcher->count == 0)
        return false;
    for (size_t begin = 0; begin < text_bytes; begin++) {
        if (fm_matcher_at(matcher, text + begin, text_bytes - begin, out_id, out_bytes)) {
            *out_begin = begin;
            return true;
        }
    }
    return false;
}

void fm_matcher_finish(struct fm_matcher *matcher)
{
    fm_free(matcher->entries);
    *matcher = (struct fm_matcher){0};
}
