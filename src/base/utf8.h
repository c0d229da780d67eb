// SPDX-License-Identifier: MIT
// UTF-8, one character at a time, for text that may be broken.
#ifndef FM_BASE_UTF8_H
#define FM_BASE_UTF8_H

#include "base/base.h"

#define FM_UTF8_REPLACEMENT "\xEF\xBF\xBD" // U+FFFD
#define FM_UTF8_REPLACEMENT_BYTES 3

enum fm_utf8_state {
    FM_UTF8_CHAR,       // a whole, well-formed character
    FM_UTF8_INVALID,    // bytes that no continuation can make well-formed
    FM_UTF8_INCOMPLETE, // the beginning of a character; the text ends too early
};

// Look at the first character of text (at least one byte). *out_bytes is its length: of a character all its bytes, of
// an invalid sequence its maximal subpart (Unicode 15, section 3.9, so at least 1), of an incomplete one all that is
// left.
enum fm_utf8_state fm_utf8_next(const char *text, size_t text_bytes, size_t *out_bytes);

#endif
