// SPDX-License-Identifier: MIT
// Text of unknown origin, made fit for a terminal and a log.
#include "base/base.h"
#include "base/utf8.h"

#include <stdio.h>

#define ELLIPSIS "..."
#define ELLIPSIS_BYTES 3

// The code point of a well-formed character of `bytes` bytes.
static uint32_t code_point(const uint8_t *s, size_t bytes)
{
    static const uint8_t lead_bits[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    uint32_t point = s[0] & lead_bits[bytes];
    for (size_t i = 1; i < bytes; i++)
        point = point << 6 | (s[i] & 0x3F);
    return point;
}

// Characters that a terminal obeys, or that change the order or the lines of the text around them: C0, DEL, C1, the
// separators of lines and paragraphs, and the controls of bidirectional text.
static bool is_control(uint32_t point)
{
    return point < 0x20 || (point >= 0x7F && point < 0xA0) || (point >= 0x2028 && point <= 0x202E) ||
           (point >= 0x2066 && point <= 0x2069) || point == 0x061C || point == 0x200E || point == 0x200F;
}

// The first piece of `text` as it may be shown: itself, or \xNN for each of its bytes. Returns the bytes written to out
// (at most 16).
static size_t show_next(const char *text, size_t text_bytes, unsigned flags, size_t *out_taken, char *out)
{
    static const char hex[] = "0123456789abcdef";
    const uint8_t *s = (const uint8_t *)text;
    enum fm_utf8_state state = fm_utf8_next(text, text_bytes, out_taken);
    bool kept = (flags & FM_QUOTE_LINES) != 0 && (s[0] == '\n' || s[0] == '\t');
    if (kept || (state == FM_UTF8_CHAR && !is_control(code_point(s, *out_taken)))) {
        memcpy(out, text, *out_taken);
        return *out_taken;
    }
    size_t used = 0;
    for (size_t i = 0; i < *out_taken; i++) {
        out[used++] = '\\';
        out[used++] = 'x';
        out[used++] = hex[s[i] >> 4];
        out[used++] = hex[s[i] & 15];
    }
    return used;
}

const char *fm_quote_flags(const char *text, size_t text_bytes, unsigned flags, char *out, size_t out_bytes)
{
    size_t used = 0, before_ellipsis = 0, at = 0;
    if (out_bytes == 0)
        return "";
    while (at < text_bytes) {
        char piece[16];
        size_t taken, bytes = show_next(text + at, text_bytes - at, flags, &taken, piece);
        if (used + bytes >= out_bytes) {
            size_t dots = FM_MIN((size_t)ELLIPSIS_BYTES, out_bytes - 1 - before_ellipsis);
            memcpy(out + before_ellipsis, ELLIPSIS, dots);
            used = before_ellipsis + dots;
            break;
        }
        memcpy(out + used, piece, bytes);
        used += bytes;
        at += taken;
        if (used + ELLIPSIS_BYTES < out_bytes)
            before_ellipsis = used;
    }
    out[used] = '\0';
    return out;
}

const char *fm_quote(const char *text, size_t text_bytes, char *out, size_t out_bytes)
{
    return fm_quote_flags(text, text_bytes, 0, out, out_bytes);
}

void fm_append(char *text, size_t text_bytes, const char *fmt, ...)
{
    size_t used = strlen(text), left = text_bytes - used;
    va_list args;
    va_start(args, fmt);
    int added = vsnprintf(text + used, left, fmt, args);
    va_end(args);
    if (added < 0)
        text[used] = '\0';
    else if ((size_t)added >= left && text_bytes > ELLIPSIS_BYTES)
        memcpy(text + text_bytes - 1 - ELLIPSIS_BYTES, ELLIPSIS, ELLIPSIS_BYTES);
}
