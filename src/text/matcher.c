// SPDX-License-Identifier: MIT
#include "text/matcher.h"

#include <stdlib.h>

#define WINDOW_BYTES ((size_t)1 << 16)
#define MAX_NODES (1u << 24) // some 25 bytes of memory each while the automaton is built

enum fm_result fm_matcher_add(struct fm_matcher *matcher, const char *text, uint32_t bytes, uint32_t id)
{
    if (matcher->total_bytes + bytes >= MAX_NODES)
        return fm_fail(FM_UNSUPPORTED,
                       "tokenizer.ggml.tokens: tokens that are matched as they stand (control, user-defined): expected less than %u "
                       "bytes in all", MAX_NODES);
    enum fm_result r =
        fm_array_reserve((void **)&matcher->entries, &matcher->cap, matcher->count + 1, sizeof(*matcher->entries));
    if (r != FM_OK)
        return r;
    matcher->entries[matcher->count++] = (struct fm_matcher_entry){.text = text, .bytes = bytes, .id = id};
    matcher->max_bytes = FM_MAX(matcher->max_bytes, bytes);
    matcher->total_bytes += bytes;
    return FM_OK;
}

// By bytes from the end, then by id.
static int compare(const void *left, const void *right)
{
    const struct fm_matcher_entry *a = left, *b = right;
    for (uint32_t i = 1; i <= FM_MIN(a->bytes, b->bytes); i++) {
        int order = (int)(uint8_t)a->text[a->bytes - i] - (int)(uint8_t)b->text[b->bytes - i];
        if (order != 0)
            return order;
    }
    if (a->bytes != b->bytes)
        return a->bytes < b->bytes ? -1 : 1;
    return (a->id > b->id) - (a->id < b->id);
}

// The child of `node` for a byte, or 0.
static uint32_t child_of(const struct fm_matcher *matcher, uint32_t node, uint8_t byte)
{
    uint32_t low = matcher->children[node], end = matcher->children[node + 1], high = end;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (matcher->bytes[middle] < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low < end && matcher->bytes[low] == byte ? low : 0;
}

static uint32_t step(const struct fm_matcher *matcher, uint32_t node, uint8_t byte)
{
    for (;;) {
        uint32_t child = child_of(matcher, node, byte);
        if (child != 0 || node == 0)
            return child;
        node = matcher->fails[node];
    }
}

// Entries that go through one node, first … end - 1, while the automaton is built.
struct span {
    uint32_t first;
    uint32_t end;
    uint32_t depth;
};

// Make the children of `node`, whose entries are `span`. Equal entries end in one node; the first has the smallest id.
static void add_children(struct fm_matcher *matcher, uint32_t node, struct span span, struct span *spans)
{
    matcher->children[node] = (uint32_t)matcher->node_count;
    for (uint32_t i = span.first; i < span.end; i++) {
        const struct fm_matcher_entry *entry = &matcher->entries[i];
        if (entry->bytes == span.depth) {
            if (matcher->longest[node] == 0)
                matcher->longest[node] = i + 1;
            continue;
        }
        const uint8_t byte = (uint8_t)entry->text[entry->bytes - 1 - span.depth];
        const uint32_t last = (uint32_t)matcher->node_count - 1;
        if (matcher->children[node] == matcher->node_count || matcher->bytes[last] != byte) {
            spans[matcher->node_count] = (struct span){.first = i, .end = i + 1, .depth = span.depth + 1};
            matcher->bytes[matcher->node_count++] = byte;
        } else {
            spans[last].end = i + 1;
        }
    }
    matcher->children[node + 1] = (uint32_t)matcher->node_count;
}

// Nodes are made in order of depth, so what a node falls back to is finished before it.
static void build(struct fm_matcher *matcher, struct span *spans)
{
    spans[0] = (struct span){.first = 0, .end = (uint32_t)matcher->count, .depth = 0};
    matcher->node_count = 1;
    for (uint32_t node = 0; node < matcher->node_count; node++) {
        add_children(matcher, node, spans[node], spans);
        if (matcher->longest[node] == 0)
            matcher->longest[node] = matcher->longest[matcher->fails[node]];
        for (uint32_t child = matcher->children[node]; child < matcher->children[node + 1]; child++)
            matcher->fails[child] = node == 0 ? 0 : step(matcher, matcher->fails[node], matcher->bytes[child]);
    }
}

enum fm_result fm_matcher_seal(struct fm_matcher *matcher)
{
    const size_t nodes = matcher->total_bytes + 1;
    if (matcher->count == 0)
        return FM_OK;
    qsort(matcher->entries, matcher->count, sizeof(*matcher->entries), compare);
    matcher->children = fm_alloc_zero(nodes + 1, sizeof(*matcher->children));
    matcher->fails = fm_alloc_zero(nodes, sizeof(*matcher->fails));
    matcher->longest = fm_alloc_zero(nodes, sizeof(*matcher->longest));
    matcher->bytes = fm_alloc_zero(nodes, sizeof(*matcher->bytes));
    struct span *spans = fm_alloc_zero(nodes, sizeof(*spans));
    bool enough = matcher->children != NULL && matcher->fails != NULL && matcher->longest != NULL &&
                  matcher->bytes != NULL && spans != NULL;
    if (enough)
        build(matcher, spans);
    fm_free(spans);
    return enough ? FM_OK : fm_nomem();
}

bool fm_matcher_at(const struct fm_matcher *matcher, const char *text, size_t text_bytes, uint32_t *out_id,
                   size_t *out_bytes)
{
    uint32_t node = 0;
    for (size_t at = FM_MIN(text_bytes, (size_t)matcher->max_bytes); at-- > 0;)
        node = step(matcher, node, (uint8_t)text[at]);
    if (matcher->count == 0 || text_bytes == 0 || matcher->longest[node] == 0)
        return false;
    const struct fm_matcher_entry *entry = &matcher->entries[matcher->longest[node] - 1];
    *out_id = entry->id;
    *out_bytes = entry->bytes;
    return true;
}

void fm_matcher_finish(struct fm_matcher *matcher)
{
    fm_free(matcher->entries);
    fm_free(matcher->children);
    fm_free(matcher->fails);
    fm_free(matcher->longest);
    fm_free(matcher->bytes);
    *matcher = (struct fm_matcher){0};
}

void fm_match_walk_start(struct fm_match_walk *walk, const struct fm_matcher *matcher, const char *text, size_t text_bytes)
{
    walk->matcher = matcher;
    walk->text = text;
    walk->text_bytes = text_bytes;
    walk->begin = walk->end = 0;
}

// Learn what begins at the places from `begin` on. Reading starts as far behind them as an entry is long.
static enum fm_result read_window(struct fm_match_walk *walk, size_t begin)
{
    const struct fm_matcher *matcher = walk->matcher;
    size_t window = FM_MAX(WINDOW_BYTES, 4 * (size_t)matcher->max_bytes);
    size_t end = begin + FM_MIN(walk->text_bytes - begin, window);
    size_t at = end + FM_MIN(walk->text_bytes - end, (size_t)matcher->max_bytes - 1);
    enum fm_result r = fm_array_reserve((void **)&walk->found, &walk->found_cap, end - begin, sizeof(*walk->found));
    if (r != FM_OK)
        return r;
    uint32_t node = 0;
    while (at-- > begin) {
        node = step(matcher, node, (uint8_t)walk->text[at]);
        if (at < end)
            walk->found[at - begin] = matcher->longest[node];
    }
    walk->begin = begin;
    walk->end = end;
    return FM_OK;
}

enum fm_result fm_match_walk_at(struct fm_match_walk *walk, size_t at, const struct fm_matcher_entry **out_entry)
{
    *out_entry = NULL;
    if (walk->matcher->count == 0 || at >= walk->text_bytes)
        return FM_OK;
    if (at >= walk->end) {
        enum fm_result r = read_window(walk, at);
        if (r != FM_OK)
            return r;
    }
    uint32_t found = walk->found[at - walk->begin];
    if (found > 0)
        *out_entry = &walk->matcher->entries[found - 1];
    return FM_OK;
}

enum fm_result fm_match_walk_next(struct fm_match_walk *walk, size_t from, size_t limit, size_t *out_at,
                                  const struct fm_matcher_entry **out_entry)
{
    enum fm_result r = FM_OK;
    *out_entry = NULL;
    *out_at = limit;
    for (size_t at = from; r == FM_OK && walk->matcher->count > 0 && at < limit; at++) {
        r = fm_match_walk_at(walk, at, out_entry);
        if (*out_entry != NULL) {
            *out_at = at;
            break;
        }
    }
    return r;
}

void fm_match_walk_finish(struct fm_match_walk *walk)
{
    fm_free(walk->found);
    *walk = (struct fm_match_walk){0};
}
