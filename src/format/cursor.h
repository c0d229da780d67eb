// SPDX-License-Identifier: MIT
// A reader that carries its bounds: every read is checked against what is left. Internal to format/.
#ifndef FM_FORMAT_CURSOR_H
#define FM_FORMAT_CURSOR_H

#include "base/base.h"

struct fm_cursor {
    const uint8_t *data;
    uint64_t at; // next byte; never beyond size_bytes
    uint64_t size_bytes;
    uint64_t file_bytes; // size of the file that the data is the beginning of, for messages
};

static inline uint64_t fm_cursor_left(const struct fm_cursor *cursor)
{
    return cursor->size_bytes - cursor->at;
}

// Step over `bytes` and hand out where they begin; false (and no step) when fewer are left.
static inline bool fm_cursor_take(struct fm_cursor *cursor, uint64_t bytes, const uint8_t **out_data)
{
    if (bytes > fm_cursor_left(cursor))
        return false;
    *out_data = cursor->data + cursor->at;
    cursor->at += bytes;
    return true;
}

static inline bool fm_cursor_u32(struct fm_cursor *cursor, uint32_t *out_value)
{
    const uint8_t *data;
    if (!fm_cursor_take(cursor, sizeof(*out_value), &data))
        return false;
    memcpy(out_value, data, sizeof(*out_value));
    return true;
}

static inline bool fm_cursor_u64(struct fm_cursor *cursor, uint64_t *out_value)
{
    const uint8_t *data;
    if (!fm_cursor_take(cursor, sizeof(*out_value), &data))
        return false;
    memcpy(out_value, data, sizeof(*out_value));
    return true;
}

#endif
