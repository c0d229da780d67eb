// SPDX-License-Identifier: MIT
// Ids of tokens must not depend on the version of Unicode that a system's libraries know. Categories are those of Unicode
// 16.0, normalisation is that of Unicode 9.0, as the tokenizers that models come with have them.
#ifndef FM_TEXT_UNICODE_H
#define FM_TEXT_UNICODE_H

#include "base/base.h"

// The code point of a well-formed character, and its length in bytes.
uint32_t fm_unicode_point(const char *text, size_t *out_bytes);

// Is the code point unassigned in Unicode 9.0? Normalisation leaves such characters alone.
bool fm_unicode_is_newer(uint32_t point);

// Copy well-formed text of text_bytes to `out`, with characters that versions of Unicode classify differently replaced by
// old ones of the same length in bytes that have the category of Unicode 16.0 (and the script Han where they have it).
void fm_unicode_pin(const char *text, size_t text_bytes, char *out);

// Would fm_unicode_pin replace something?
bool fm_unicode_needs_pin(const char *text, size_t text_bytes);

#endif
