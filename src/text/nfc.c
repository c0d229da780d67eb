// SPDX-License-Identifier: MIT
// Normalisation form C (Unicode Standard Annex 15) through utf8proc, in stretches so that plain ASCII costs a copy.
// Characters newer than Unicode 9.0 stay as they are and nothing combines across them, whatever utf8proc knows of them. The
// others normalise alike in every version since.
#include "text/unicode.h"
#include "text/vocab.h"

#include <utf8proc.h>

// After so many combining marks in a row the stretch is cut. Sorting marks takes quadratic time in utf8proc; no
// language comes near (the stream-safe format of the annex allows 30).
#define MAX_MARKS 256

// After so many bytes a stretch ends before the next ideograph, which does not combine either: Chinese has no spaces.
#define LONG_STRETCH_BYTES 4096

static bool is_ascii(char c)
{
    return (uint8_t)c < 0x80;
}

static bool is_ideograph(uint32_t point)
{
    return point >= 0x4E00 && point <= 0x9FA5;
}

// End of the stretch that begins at `begin` and has to be normalised as one: up to the next ASCII character after a
// character that is not, since ASCII never combines with what stands before it, or up to a newer character. The character at
// `begin` is none.
static size_t stretch_end(const char *text, size_t text_bytes, size_t begin)
{
    size_t at = begin + (is_ascii(text[begin]) ? 1 : 0);
    unsigned marks = 0;
    while (at < text_bytes && !is_ascii(text[at])) {
        size_t bytes;
        uint32_t point = fm_unicode_point(text + at, &bytes);
        if (fm_unicode_is_newer(point) || (at - begin >= LONG_STRETCH_BYTES && is_ideograph(point)))
            break;
        marks = utf8proc_get_property((utf8proc_int32_t)point)->combining_class != 0 ? marks + 1 : 0;
        if (marks > MAX_MARKS)
            break;
        at += bytes;
    }
    return at;
}

static enum fm_result append(struct fm_encoder *enc, size_t *used, const void *data, size_t bytes)
{
    enum fm_result r = fm_array_reserve((void **)&enc->buffer, &enc->buffer_cap, *used + bytes, 1);
    if (r != FM_OK)
        return r;
    memcpy(enc->buffer + *used, data, bytes);
    *used += bytes;
    return FM_OK;
}

static enum fm_result normalise(struct fm_encoder *enc, const char *text, size_t text_bytes, size_t *used)
{
    const utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    const utf8proc_uint8_t *str = (const utf8proc_uint8_t *)text;
    utf8proc_ssize_t count = utf8proc_decompose(str, (utf8proc_ssize_t)text_bytes, NULL, 0, options);
    if (count >= 0) {
        // One more: the library ends its result with a zero.
        enum fm_result r =
            fm_array_reserve((void **)&enc->points, &enc->points_cap, (size_t)count + 1, sizeof(*enc->points));
        if (r != FM_OK)
            return r;
        count = utf8proc_decompose(str, (utf8proc_ssize_t)text_bytes, enc->points, count, options);
    }
    utf8proc_ssize_t bytes = count < 0 ? count : utf8proc_reencode(enc->points, count, options);
    // The text is well-formed, so only its length can be refused: it then stays as it is.
    return bytes < 0 ? append(enc, used, text, text_bytes) : append(enc, used, enc->points, (size_t)bytes);
}

enum fm_result fm_nfc(struct fm_encoder *enc, const char *text, size_t text_bytes, size_t *out_bytes)
{
    enum fm_result r = FM_OK;
    size_t used = 0;
    for (size_t at = 0; r == FM_OK && at < text_bytes;) {
        size_t ascii = at;
        while (ascii < text_bytes && is_ascii(text[ascii]))
            ascii++;
        // The last of them may combine with what follows.
        if (ascii < text_bytes && ascii > at)
            ascii--;
        if (ascii > at)
            r = append(enc, &used, text + at, ascii - at);
        size_t bytes;
        at = ascii;
        if (r == FM_OK && at < text_bytes && fm_unicode_is_newer(fm_unicode_point(text + at, &bytes))) {
            r = append(enc, &used, text + at, bytes);
            at += bytes;
        } else if (r == FM_OK && at < text_bytes) {
            size_t end = stretch_end(text, text_bytes, at);
            r = normalise(enc, text + at, end - at, &used);
            at = end;
        }
    }
    *out_bytes = used;
    return r;
}
