// SPDX-License-Identifier: MIT
// Bytes in, whole UTF-8 characters out.
#ifndef FM_TEXT_UTF8_STREAM_H
#define FM_TEXT_UTF8_STREAM_H

#include "base/base.h"
#include "fulmen/text.h"

// Append one byte to the stream; writes at most FM_UTF8_FEED_BYTES that are complete now to out, returns how many.
#define FM_UTF8_FEED_BYTES 12
size_t fm_utf8_stream_feed(struct fm_utf8_stream *stream, char byte, char *out);

#endif
