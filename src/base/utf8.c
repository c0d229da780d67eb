// SPDX-License-Identifier: MIT
#include "base/utf8.h"

// Length that a lead byte promises (0 = no lead byte), and the range of the second byte: it alone rules out overlong
// forms, surrogates and values past U+10FFFF (Unicode 15, table 3-7).
static size_t lead_length(uint8_t lead, uint8_t *out_min, uint8_t *out_max)
{
    *out_min = 0x80;
    *out_max = 0xBF;
    if (lead < 0x80)
        return 1;
    if (lead < 0xC2)
        return 0;
    if (lead < 0xE0)
        return 2;
    if (lead < 0xF0) {
        if (lead == 0xE0)
            *out_min = 0xA0;
        if (lead == 0xED)
            *out_max = 0x9F;
        return 3;
    }
    if (lead > 0xF4)
        return 0;
    if (lead == 0xF0)
        *out_min = 0x90;
    if (lead == 0xF4)
        *out_max = 0x8F;
    return 4;
}

enum fm_utf8_state fm_utf8_next(const char *text, size_t text_bytes, size_t *out_bytes)
{
    const uint8_t *s = (const uint8_t *)text;
    uint8_t min, max;
    size_t length = lead_length(s[0], &min, &max);
    if (length == 0) {
        *out_bytes = 1;
        return FM_UTF8_INVALID;
    }
    for (size_t i = 1; i < length; i++) {
        if (i == text_bytes) {
            *out_bytes = i;
            return FM_UTF8_INCOMPLETE;
        }
        if (s[i] < min || s[i] > max) {
            *out_bytes = i;
            return FM_UTF8_INVALID;
        }
        min = 0x80;
        max = 0xBF;
    }
    *out_bytes = length;
    return FM_UTF8_CHAR;
}

size_t fm_utf8_valid_prefix(const char *text, size_t text_bytes)
{
    size_t at = 0;
    while (at < text_bytes) {
        size_t length;
        if (fm_utf8_next(text + at, text_bytes - at, &length) != FM_UTF8_CHAR)
            break;
        at += length;
    }
    return at;
}
