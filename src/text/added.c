// SPDX-License-Identifier: MIT
#include "text/added.h"

#include "text/chars.h"

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

bool fm_added_next(const struct fm_added *added, struct fm_added_search *search, size_t *out_begin, uint32_t *out_id)
{
    size_t offset, bytes;
    uint32_t id;
    while (fm_matcher_find(&added->matcher, search->text + search->scan, search->text_bytes - search->scan, &offset, &id, &bytes)) {
        size_t begin = search->scan + offset, end = begin + bytes;
        search->scan = end;
        if ((added->hidden[id] && !search->special) ||
            ((added->flags[id] & FM_ADDED_SINGLE_WORD) && touches_word(search, begin, end)))
            continue;
        // What the token before took is not there any more.
        if (added->flags[id] & FM_ADDED_LSTRIP)
            begin = white_before(search->text, search->done, begin);
        if (added->flags[id] & FM_ADDED_RSTRIP)
            end = white_behind(search, end);
        *out_begin = FM_MAX(begin, search->done);
        *out_id = id;
        search->done = end;
        return true;
    }
    return false;
}
