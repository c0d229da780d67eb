// SPDX-License-Identifier: MIT
#include "text/added.h"

#include "text/chars.h"

#define SCAN_BYTES 8192 // between two questions whether to go on

// Where the character that ends at `end` begins; end > 0. A broken one is its last byte.
static size_t char_before(const char *text, size_t end)
{
    size_t bytes;
    for (size_t back = 1; back <= FM_CHAR_BYTES_MAX && back <= end; back++) {
        if (((uint8_t)text[end - back] & 0xC0) == 0x80)
            continue;
        fm_char_at(text + end - back, back, &bytes);
        return bytes == back ? end - back : end - 1;
    }
    return end - 1;
}

static bool is_word_at(const char *text, size_t text_bytes)
{
    size_t bytes;
    return text_bytes > 0 && fm_char_at(text, text_bytes, &bytes) != FM_CHAR_BROKEN && fm_char_is_word(text);
}

static bool touches_word(const struct fm_added_search *search, size_t begin, size_t end)
{
    size_t before = begin > 0 ? char_before(search->text, begin) : 0;
    return is_word_at(search->text + before, begin - before) || is_word_at(search->text + end, search->text_bytes - end);
}

// Where the white space that ends at `end` begins, at `floor` at the earliest.
static size_t white_before(const char *text, size_t floor, size_t end)
{
    while (end > floor) {
        size_t bytes, begin = char_before(text, end);
        if (!fm_char_is_white(fm_char_at(text + begin, end - begin, &bytes)))
            break;
        end = begin;
    }
    return end;
}

// Where the white space that begins at `at` ends. What was looked at once is not looked at again.
static size_t white_behind(struct fm_added_search *search, size_t at)
{
    size_t bytes;
    if (at < search->white_end)
        return search->white_end;
    while (at < search->text_bytes && fm_char_is_white(fm_char_at(search->text + at, search->text_bytes - at, &bytes)))
        at += bytes;
    search->white_end = at;
    return at;
}

void fm_added_start(struct fm_added_search *search, const struct fm_added *added, const char *text, size_t text_bytes,
                    const uint8_t *typed, bool special)
{
    search->added = added;
    search->text = text;
    search->text_bytes = text_bytes;
    search->typed = typed;
    search->done = search->scan = search->white_end = 0;
    search->special = special;
    fm_match_walk_start(&search->walk, &added->matcher, text, text_bytes);
}

void fm_added_finish(struct fm_added_search *search)
{
    fm_match_walk_finish(&search->walk);
}

// The next place where a token stands, whatever its flags say. *out_entry = NULL at the end of the text.
static enum fm_result next_place(struct fm_encoder *enc, struct fm_added_search *search, size_t *out_begin,
                                 const struct fm_matcher_entry **out_entry)
{
    enum fm_result r = FM_OK;
    *out_entry = NULL;
    while (r == FM_OK && *out_entry == NULL && search->scan < search->text_bytes && search->added->matcher.count > 0) {
        size_t step = FM_MIN(search->text_bytes - search->scan, (size_t)SCAN_BYTES);
        r = fm_match_walk_next(&search->walk, search->scan, search->scan + step, out_begin, out_entry);
        search->scan = *out_begin;
        if (r == FM_OK)
            r = fm_encoder_poll(enc, step);
    }
    return r;
}

// A marker that somebody wrote who may not.
static bool is_typed(const struct fm_encoder *enc, const struct fm_added_search *search, uint32_t id, size_t begin, size_t end)
{
    return enc->mixed != NULL && fm_encoder_is_text_at(enc, id, search->typed, begin, end);
}

enum fm_result fm_added_next(struct fm_encoder *enc, struct fm_added_search *search, size_t *out_begin, uint32_t *out_id)
{
    const struct fm_matcher_entry *entry;
    for (;;) {
        size_t begin;
        enum fm_result r = next_place(enc, search, &begin, &entry);
        *out_id = FM_TOKEN_NONE;
        if (r != FM_OK || entry == NULL)
            return r;
        size_t end = begin + entry->bytes;
        uint8_t flags = search->added->flags[entry->id];
        search->scan = end;
        if ((search->added->hidden[entry->id] && !search->special) || is_typed(enc, search, entry->id, begin, end) ||
            ((flags & FM_ADDED_SINGLE_WORD) && touches_word(search, begin, end)))
            continue;
        // What the token before took is not there any more.
        if (flags & FM_ADDED_LSTRIP)
            begin = white_before(search->text, search->done, begin);
        if (flags & FM_ADDED_RSTRIP)
            end = white_behind(search, end);
        *out_begin = FM_MAX(begin, search->done);
        *out_id = entry->id;
        search->done = end;
        return FM_OK;
    }
}
