// SPDX-License-Identifier: MIT
#include "text/chars.h"

#include <utf8proc.h>

#include "base/utf8.h"
#include "text/unicode.h"

uint32_t fm_char_at(const char *text, size_t text_bytes, size_t *out_bytes)
{
    if (fm_utf8_next(text, text_bytes, out_bytes) == FM_UTF8_CHAR)
        return fm_unicode_point(text, out_bytes);
    *out_bytes = 1;
    return FM_CHAR_BROKEN;
}

bool fm_char_is_white(uint32_t point)
{
    return (point >= 9 && point <= 13) || point == ' ' || point == 0x85 || point == 0xA0 || point == 0x1680 ||
           (point >= 0x2000 && point <= 0x200A) || point == 0x2028 || point == 0x2029 || point == 0x202F || point == 0x205F ||
           point == 0x3000;
}

bool fm_char_is_word(const char *text)
{
    size_t bytes;
    char pinned[FM_CHAR_BYTES_MAX];
    uint32_t point = fm_unicode_point(text, &bytes);
    // Letters in circles and squares are symbols by category, but alphabetic.
    if ((point >= 0x24B6 && point <= 0x24E9) || (point >= 0x1F130 && point <= 0x1F149) ||
        (point >= 0x1F150 && point <= 0x1F169) || (point >= 0x1F170 && point <= 0x1F189) || point == 0x200C || point == 0x200D)
        return true;
    fm_unicode_pin(text, bytes, pinned);
    switch (utf8proc_category((utf8proc_int32_t)fm_unicode_point(pinned, &bytes))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        return false;
    }
}

bool fm_char_is_mark(uint32_t point)
{
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)point);
    return (category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_MC || category == UTF8PROC_CATEGORY_ME) &&
           !fm_unicode_is_newer(point);
}

// Capitals of Unicode 10.0 to 17.0: first, last, every second one (capital and small letter alternate) or all, and how far
// away the small letter is.
static const struct {
    uint32_t first, last;
    int32_t step, away;
} capitals[] = {
    {0x1C89, 0x1C89, 1, 1},       {0x1C90, 0x1CBA, 1, -0xBC0},   {0x1CBD, 0x1CBF, 1, -0xBC0},  {0x2C2F, 0x2C2F, 1, 0x30},
    {0xA7B8, 0xA7BE, 2, 1},       {0xA7C0, 0xA7C2, 2, 1},        {0xA7C4, 0xA7C4, 1, -0x30},   {0xA7C5, 0xA7C5, 1, -0xA543},
    {0xA7C6, 0xA7C6, 1, -0x8A38}, {0xA7C7, 0xA7C9, 2, 1},        {0xA7CB, 0xA7CB, 1, -0xA567}, {0xA7CC, 0xA7CE, 2, 1},
    {0xA7D0, 0xA7DA, 2, 1},        {0xA7DC, 0xA7DC, 1, -0xA641}, {0xA7F5, 0xA7F5, 1, 1},
    {0x10570, 0x1057A, 1, 0x27},  {0x1057C, 0x1058A, 1, 0x27},   {0x1058C, 0x10592, 1, 0x27},  {0x10594, 0x10595, 1, 0x27},
    {0x10D50, 0x10D65, 1, 0x20},  {0x16E40, 0x16E5F, 1, 0x20},   {0x16EA0, 0x16EB8, 1, 0x1B},
};

size_t fm_char_lower(uint32_t point, char out[FM_CHAR_BYTES_MAX])
{
    int32_t small = (int32_t)point;
    if (point == 0x130) { // i with a dot of its own: the one letter whose small form is two characters
        memcpy(out, "i\xCC\x87", 3);
        return 3;
    }
    if (!fm_unicode_is_newer(point))
        small = utf8proc_tolower((utf8proc_int32_t)point);
    for (size_t i = 0; i < FM_COUNT(capitals); i++)
        if (point >= capitals[i].first && point <= capitals[i].last && (point - capitals[i].first) % (uint32_t)capitals[i].step == 0)
            small = (int32_t)point + capitals[i].away;
    return (size_t)utf8proc_encode_char(small, (utf8proc_uint8_t *)out);
}
