// SPDX-License-Identifier: MIT
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "text.h"

#define REPLACEMENT "\xEF\xBF\xBD" // U+FFFD
#define LEAST_UTF16_BYTES 8        // of a text that is taken for UTF-16 without a mark

// ---- in -----------------------------------------------------------------------------------------------------------

static uint32_t unit_at(const char *text, bool big)
{
    const uint8_t *b = (const uint8_t *)text;
    return big ? (uint32_t)b[0] << 8 | b[1] : (uint32_t)b[1] << 8 | b[0];
}

// A character as UTF-8; returns how many bytes it has.
static size_t put_utf8(uint32_t point, char *out)
{
    if (point < 0x80) {
        out[0] = (char)point;
        return 1;
    }
    size_t bytes = point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    static const uint8_t leads[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = bytes - 1; i > 0; i--, point >>= 6)
        out[i] = (char)(0x80 | (point & 0x3F));
    out[0] = (char)(leads[bytes] | point);
    return bytes;
}

// UTF-16 after a mark of two bytes.
static int from_utf16(const char *name, bool big, char **io_text, size_t *io_bytes)
{
    const char *text = *io_text;
    size_t bytes = *io_bytes, used = 0;
    if (bytes % 2 != 0)
        return tool_bad("%s: UTF-16 in an odd number of bytes, %zu", name, bytes);
    char *out = malloc(bytes / 2 * 3 + 1); // a unit takes three bytes, a pair of them four
    if (out == NULL)
        return tool_fail(FM_NOMEM);
    for (size_t at = 2; at < bytes; at += 2) {
        uint32_t unit = unit_at(text + at, big), low;
        if (unit >= 0xD800 && unit < 0xE000) {
            low = unit < 0xDC00 && at + 2 < bytes ? unit_at(text + at + 2, big) : 0;
            if (low < 0xDC00 || low > 0xDFFF) {
                free(out);
                return tool_bad("%s: broken UTF-16 at byte %zu: half a pair, 0x%04x", name, at, (unsigned)unit);
            }
            unit = 0x10000 + ((unit & 0x3FF) << 10 | (low & 0x3FF));
            at += 2;
        }
        used += put_utf8(unit, out + used);
    }
    out[used] = '\0';
    free(*io_text);
    *io_text = out;
    *io_bytes = used;
    return 0;
}

// Latin text in UTF-16 has a NUL in most of its units, nearly always on the same side: the name of the encoding, or NULL.
static const char *plain_utf16(const char *text, size_t bytes)
{
    size_t zeros[2] = {0, 0};
    if (bytes < LEAST_UTF16_BYTES || bytes % 2 != 0)
        return NULL;
    for (size_t i = 0; i < bytes; i++)
        zeros[i % 2] += text[i] == '\0';
    if (zeros[1] >= bytes / 4 && zeros[0] <= zeros[1] / 8)
        return "UTF-16LE";
    return zeros[0] >= bytes / 4 && zeros[1] <= zeros[0] / 8 ? "UTF-16BE" : NULL;
}

static bool begins(const char *text, size_t bytes, const char *mark, size_t mark_bytes)
{
    return bytes >= mark_bytes && memcmp(text, mark, mark_bytes) == 0;
}

int tool_text_in(const char *name, char **io_text, size_t *io_bytes)
{
    char *text = *io_text;
    size_t bytes = *io_bytes;
    int status = 0;
    if (bytes % 4 == 0 && (begins(text, bytes, "\xFF\xFE\0\0", 4) || begins(text, bytes, "\0\0\xFE\xFF", 4)))
        return tool_bad("%s: UTF-32, expected UTF-8 (iconv -f UTF-32 -t UTF-8 converts it)", name);
    bool big = begins(text, bytes, "\xFE\xFF", 2);
    if (big || begins(text, bytes, "\xFF\xFE", 2)) {
        status = from_utf16(name, big, io_text, io_bytes);
    } else if (begins(text, bytes, "\xEF\xBB\xBF", 3)) {
        *io_bytes = bytes - 3;
        memmove(text, text + 3, *io_bytes + 1);
    } else {
        const char *encoding = plain_utf16(text, bytes);
        if (encoding != NULL)
            return tool_bad("%s: UTF-16 without a byte order mark, expected UTF-8 (iconv -f %s -t UTF-8 converts it)", name, encoding);
    }
    if (status == 0)
        tool_tell_invalid(name, *io_text, *io_bytes);
    return status;
}

void tool_tell_invalid(const char *name, const char *text, size_t bytes)
{
    size_t first = fm_utf8_valid_prefix(text, bytes), wrong = 0;
    for (size_t at = first; at < bytes; at += fm_utf8_valid_prefix(text + at, bytes - at)) {
        at++;
        wrong++;
    }
    if (first < bytes)
        tool_say("%s: byte %zu, 0x%02x, is no UTF-8 (%zu such bytes in all): they are taken as they are", name, first,
                 (unsigned)(unsigned char)text[first], wrong);
}

int tool_refuse_nul(const char *name, const char *text, size_t bytes)
{
    const char *nul = memchr(text, '\0', bytes);
    return nul != NULL ? tool_bad("%s: byte %zu is NUL, which a message cannot hold", name, (size_t)(nul - text)) : 0;
}

// ---- out ----------------------------------------------------------------------------------------------------------

// \xNN takes four bytes for one.
static char *quoted_lines(const char *text, size_t bytes)
{
    size_t out_bytes = bytes * 4 + 1;
    char *out = malloc(out_bytes);
    if (out != NULL)
        fm_quote_flags(text, bytes, FM_QUOTE_LINES, out, out_bytes);
    return out;
}

bool tool_write(const char *text, size_t bytes)
{
    if (!isatty(STDOUT_FILENO))
        return fwrite(text, 1, bytes, stdout) == bytes && fflush(stdout) == 0;
    char *shown = quoted_lines(text, bytes);
    bool done = shown != NULL && fputs(shown, stdout) != EOF && fflush(stdout) == 0;
    int reason = shown != NULL ? errno : ENOMEM;
    free(shown);
    errno = reason;
    return done;
}

// DEL and C1 go as \u00NN too: JSON would allow them, a terminal obeys them.
static size_t escape(const char *text, size_t bytes, char *out)
{
    const uint8_t *s = (const uint8_t *)text;
    if (s[0] == '"' || s[0] == '\\') {
        out[0] = '\\';
        out[1] = text[0];
        return 2;
    }
    bool c1 = bytes > 1 && s[0] == 0xC2 && s[1] < 0xA0;
    if (s[0] >= 0x20 && s[0] != 0x7F && !c1) {
        out[0] = text[0];
        return 1;
    }
    return (size_t)snprintf(out, 7, "\\u%04x", c1 ? s[1] : s[0]);
}

cJSON *tool_json_text(const char *text, size_t bytes)
{
    if (bytes > (SIZE_MAX - 3) / 6)
        return NULL;
    char *out = malloc(bytes * 6 + 3);
    size_t used = 0, at = 0;
    if (out == NULL)
        return NULL;
    out[used++] = '"';
    while (at < bytes) {
        size_t valid = at + fm_utf8_valid_prefix(text + at, bytes - at);
        while (at < valid) {
            size_t put = escape(text + at, valid - at, out + used);
            at += put == 6 && (uint8_t)text[at] == 0xC2 ? 2 : 1;
            used += put;
        }
        if (at < bytes) {
            memcpy(out + used, REPLACEMENT, strlen(REPLACEMENT));
            used += strlen(REPLACEMENT);
            at++;
        }
    }
    memcpy(out + used, "\"", 2);
    cJSON *json = cJSON_CreateRaw(out);
    free(out);
    return json;
}

void tool_json_add(cJSON *object, const char *key, const char *text)
{
    cJSON *json = tool_json_text(text, strlen(text));
    if (!cJSON_AddItemToObject(object, key, json))
        cJSON_Delete(json);
}

void tool_csv_text(bool first, const char *text)
{
    if (!first)
        putchar(',');
    char *shown = isatty(STDOUT_FILENO) ? quoted_lines(text, strlen(text)) : NULL;
    putchar('"');
    for (const char *c = shown != NULL ? shown : text; *c != '\0'; c++) {
        if (*c == '"')
            putchar('"');
        putchar(*c);
    }
    putchar('"');
    free(shown);
}

void tool_csv_number(bool first, double value)
{
    if (!first)
        putchar(',');
    if (isfinite(value))
        printf("%.17g", value);
}
