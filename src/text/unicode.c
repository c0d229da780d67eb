// SPDX-License-Identifier: MIT
#include "text/unicode.h"

// What expressions of pre-tokenizers tell apart: letters by category, everything else by its class,
// which is the first letter of the category. With _HAN: of the script Han as well.
enum class {
    CLASS_C, // control, format, private use, unassigned
    CLASS_Lu,
    CLASS_Ll,
    CLASS_Lm,
    CLASS_Lo,
    CLASS_M,
    CLASS_Nd,
    CLASS_N, // other numbers
    CLASS_P,
    CLASS_S,
    CLASS_Lo_HAN,
    CLASS_Lm_HAN,
    CLASS_M_HAN,
    CLASS_P_HAN,
};

struct unsettled {
    uint32_t first;
    uint32_t last;
    uint8_t class;
    bool newer; // than Unicode 9.0
};

#include "text/unicode_data.inc"

// A character of each class for each length in bytes (2, 3, 4) that the table has. All are older than Unicode 10, those of
// Han's marks than Unicode 14.
static const char *const stand_ins[][3] = {
    [CLASS_C] = {"\xC2\xAD", "\xE2\x81\xA0", "\xF3\xA0\x80\x81"},      // U+00AD, U+2060, U+E0001
    [CLASS_Lu] = {"\xC3\x80", "\xE1\xB8\x80", "\xF0\x90\x90\x80"},     // U+00C0, U+1E00, U+10400
    [CLASS_Ll] = {"\xC3\xA0", "\xE1\xB8\x81", "\xF0\x90\x90\xA8"},     // U+00E0, U+1E01, U+10428
    [CLASS_Lm] = {"\xCA\xB0", "\xE1\xB4\xAC", "\xF0\x96\xAD\x80"},     // U+02B0, U+1D2C, U+16B40
    [CLASS_Lo] = {"\xC6\xBB", "\xE0\xA4\x84", "\xF0\x90\x80\x80"},     // U+01BB, U+0904, U+10000
    [CLASS_M] = {"\xCC\x80", "\xE2\x83\x90", "\xF0\x9D\x85\xA5"},      // U+0300, U+20D0, U+1D165
    [CLASS_Nd] = {"\xD9\xA0", "\xE0\xA5\xA6", "\xF0\x90\x92\xA0"},     // U+0660, U+0966, U+104A0
    [CLASS_N] = {"\xC2\xB2", "\xE2\x85\x93", "\xF0\x90\x84\x87"},      // U+00B2, U+2153, U+10107
    [CLASS_P] = {"\xC2\xA1", "\xE3\x80\x81", "\xF0\x90\x84\x80"},      // U+00A1, U+3001, U+10100
    [CLASS_S] = {"\xC2\xA9", "\xE2\x84\x80", "\xF0\x9D\x84\x80"},      // U+00A9, U+2100, U+1D100
    [CLASS_Lo_HAN] = {NULL, "\xE4\xB8\x80", "\xF0\xA0\x80\x80"},       // U+4E00, U+20000
    [CLASS_Lm_HAN] = {NULL, NULL, "\xF0\x96\xBF\xA3"},                 // U+16FE3
    [CLASS_M_HAN] = {NULL, NULL, "\xF0\x96\xBF\xB0"},                  // U+16FF0
    [CLASS_P_HAN] = {NULL, NULL, "\xF0\x96\xBF\xA2"},                  // U+16FE2
};

uint32_t fm_unicode_point(const char *text, size_t *out_bytes)
{
    const uint8_t *s = (const uint8_t *)text;
    *out_bytes = s[0] < 0x80 ? 1 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
    switch (*out_bytes) {
    case 1:
        return s[0];
    case 2:
        return (s[0] & 0x1Fu) << 6 | (s[1] & 0x3Fu);
    case 3:
        return (s[0] & 0x0Fu) << 12 | (s[1] & 0x3Fu) << 6 | (s[2] & 0x3Fu);
    default:
        return (s[0] & 0x07u) << 18 | (s[1] & 0x3Fu) << 12 | (s[2] & 0x3Fu) << 6 | (s[3] & 0x3Fu);
    }
}

static const struct unsettled *find(uint32_t point)
{
    size_t low = 0, high = FM_COUNT(unsettled);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (unsettled[middle].last < point)
            low = middle + 1;
        else
            high = middle;
    }
    return low < FM_COUNT(unsettled) && unsettled[low].first <= point ? &unsettled[low] : NULL;
}

bool fm_unicode_is_newer(uint32_t point)
{
    const struct unsettled *row = find(point);
    return row != NULL && row->newer;
}

// The next character at or after *at that is unsettled, or NULL; *at moves to it or to the end.
static const struct unsettled *next_unsettled(const char *text, size_t text_bytes, size_t *at, size_t *out_bytes)
{
    while (*at < text_bytes) {
        if ((uint8_t)text[*at] < 0x80) {
            ++*at;
            continue;
        }
        const struct unsettled *row = find(fm_unicode_point(text + *at, out_bytes));
        if (row != NULL)
            return row;
        *at += *out_bytes;
    }
    return NULL;
}

bool fm_unicode_needs_pin(const char *text, size_t text_bytes)
{
    size_t at = 0, bytes;
    return next_unsettled(text, text_bytes, &at, &bytes) != NULL;
}

void fm_unicode_pin(const char *text, size_t text_bytes, char *out)
{
    const struct unsettled *row;
    size_t at = 0, bytes;
    memcpy(out, text, text_bytes);
    while ((row = next_unsettled(text, text_bytes, &at, &bytes)) != NULL) {
        memcpy(out + at, stand_ins[row->class][bytes - 2], bytes);
        at += bytes;
    }
}
