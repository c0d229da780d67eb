// SPDX-License-Identifier: MIT
// A text that grows.
#ifndef FM_TEXT_BUFFER_H
#define FM_TEXT_BUFFER_H

#include "base/base.h"

// All-zero is the empty text. Release with fm_free(data).
struct fm_buffer {
    char *data;
    size_t bytes;
    size_t cap;
};

// FM_NOMEM.
static inline enum fm_result fm_buffer_add(struct fm_buffer *buffer, const void *data, size_t bytes)
{
    enum fm_result r = fm_array_reserve((void **)&buffer->data, &buffer->cap, buffer->bytes + bytes, 1);
    if (r == FM_OK && bytes > 0)
        memcpy(buffer->data + buffer->bytes, data, bytes);
    buffer->bytes += r == FM_OK ? bytes : 0;
    return r;
}

#endif
