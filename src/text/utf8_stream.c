// SPDX-License-Identifier: MIT
#include "text/utf8_stream.h"

#include "base/utf8.h"

size_t fm_utf8_stream_feed(struct fm_utf8_stream *stream, char byte, char *out)
{
    size_t written = 0;
    stream->held[stream->held_bytes++] = byte;
    while (stream->held_bytes > 0) {
        size_t length;
        enum fm_utf8_state state = fm_utf8_next(stream->held, stream->held_bytes, &length);
        if (state == FM_UTF8_INCOMPLETE)
            break;
        if (state == FM_UTF8_CHAR) {
            memcpy(out + written, stream->held, length);
            written += length;
        } else {
            memcpy(out + written, FM_UTF8_REPLACEMENT, FM_UTF8_REPLACEMENT_BYTES);
            written += FM_UTF8_REPLACEMENT_BYTES;
        }
        stream->held_bytes = (uint8_t)(stream->held_bytes - length);
        memmove(stream->held, stream->held + length, stream->held_bytes);
    }
    return written;
}

size_t fm_utf8_stream_end(struct fm_utf8_stream *stream, char *out)
{
    if (stream->held_bytes == 0)
        return 0;
    stream->held_bytes = 0;
    memcpy(out, FM_UTF8_REPLACEMENT, FM_UTF8_REPLACEMENT_BYTES);
    return FM_UTF8_REPLACEMENT_BYTES;
}
