// SPDX-License-Identifier: MIT
// A text that grows. Where it is traced it knows of every byte whether it came from an input (struct fm_text_range).
#ifndef FM_TEXT_BUFFER_H
#define FM_TEXT_BUFFER_H

#include "base/base.h"

// All-zero is the empty text.
struct fm_buffer {
    char *data;
    size_t bytes;
    size_t cap;
    size_t limit; // bytes; 0: none
    bool traced;
    uint8_t *typed; // where it is traced, by byte: 1 for those of an input
    size_t typed_cap;
};

static inline void fm_buffer_finish(struct fm_buffer *buffer)
{
    fm_free(buffer->data);
    fm_free(buffer->typed);
    *buffer = (struct fm_buffer){0};
}

// Append the part of `text` that begins at `at`; `typed` belongs to the text, and is NULL where no byte is of an input. FM_NOMEM,
// FM_UNSUPPORTED beyond the limit.
static inline enum fm_result fm_buffer_add_part(struct fm_buffer *buffer, const char *text, const uint8_t *typed, size_t at,
                                                size_t bytes)
{
    if (buffer->limit > 0 && bytes > buffer->limit - FM_MIN(buffer->bytes, buffer->limit))
        return fm_fail(FM_UNSUPPORTED, "a text grows to more than %zu bytes as the file's rules change its characters", buffer->limit);
    enum fm_result r = fm_array_reserve((void **)&buffer->data, &buffer->cap, buffer->bytes + bytes, 1);
    if (r == FM_OK && buffer->traced)
        r = fm_array_reserve((void **)&buffer->typed, &buffer->typed_cap, buffer->bytes + bytes, 1);
    if (r != FM_OK || bytes == 0)
        return r;
    memcpy(buffer->data + buffer->bytes, text + at, bytes);
    if (buffer->traced && typed != NULL)
        memcpy(buffer->typed + buffer->bytes, typed + at, bytes);
    else if (buffer->traced)
        memset(buffer->typed + buffer->bytes, 0, bytes);
    buffer->bytes += bytes;
    return FM_OK;
}

// FM_NOMEM, FM_UNSUPPORTED.
static inline enum fm_result fm_buffer_add(struct fm_buffer *buffer, const void *data, size_t bytes)
{
    return fm_buffer_add_part(buffer, data, NULL, 0, bytes);
}

// Is one of the bytes from `begin` to `end` of an input? `typed` may be NULL.
static inline bool fm_is_typed(const uint8_t *typed, size_t begin, size_t end)
{
    return typed != NULL && end > begin && memchr(typed + begin, 1, end - begin) != NULL;
}

// What was appended from place `from` on stands for the bytes from `begin` to `end` of another text: it is of an input where one of
// them is.
static inline void fm_buffer_trace(struct fm_buffer *buffer, size_t from, const uint8_t *typed, size_t begin, size_t end)
{
    if (buffer->traced && buffer->bytes > from && fm_is_typed(typed, begin, end))
        memset(buffer->typed + from, 1, buffer->bytes - from);
}

#endif
