// SPDX-License-Identifier: MIT
// Properties and mappings of single characters, the same whatever version of Unicode a system's libraries know.
#ifndef FM_TEXT_CHARS_H
#define FM_TEXT_CHARS_H

#include "base/base.h"

#define FM_CHAR_BYTES_MAX 4

// White space: the property White_Space.
bool fm_char_is_white(uint32_t point);
// A character of words, as regular expressions have it (\w): letters, marks, decimal digits, letter-like numbers, connecting
// punctuation and joiners of Unicode 16.0. `text` begins with a well-formed character.
bool fm_char_is_word(const char *text);
// A mark of Unicode 9.0.
bool fm_char_is_mark(uint32_t point);
// The small letter of one character by itself, as Unicode 17.0 has it, in UTF-8; the character where it has none. Returns
// the bytes written, at most 3 for one of 2 (U+0130) and otherwise at most 4.
size_t fm_char_lower(uint32_t point, char out[FM_CHAR_BYTES_MAX]);

// The first character of text (at least one byte) and its length; a byte that begins none is FM_CHAR_BROKEN of length 1.
#define FM_CHAR_BROKEN UINT32_MAX
uint32_t fm_char_at(const char *text, size_t text_bytes, size_t *out_bytes);

#endif
