// SPDX-License-Identifier: MIT
// Normalisation forms (Unicode Standard Annex 15) through utf8proc, in stretches so that plain ASCII costs a copy. Characters
// newer than Unicode 9.0, whatever utf8proc knows of them, end a stretch: the others normalise alike in every version since.
#include "text/forms.h"

#include <utf8proc.h>

#include "text/chars.h"
#include "text/unicode.h"

// After so many combining marks in a row the stretch is cut. Sorting marks takes quadratic time in utf8proc; no language comes
// near (the stream-safe format of the annex allows 30).
#define MARKS_MAX 256

// After so many bytes a stretch ends before the next ideograph, which does not combine either: Chinese has no spaces.
#define LONG_STRETCH_BYTES 4096

// After so many bytes a stretch ends before the next character that combines with nothing before it, and after so many before any.
// No text is the worse for the latter: it is of nothing but marks and parts of Hangul syllables then.
#define STRETCH_BYTES_ENOUGH ((size_t)1 << 16)
#define STRETCH_BYTES_MAX ((size_t)1 << 20)

#define POINTS_MAX 18 // of a decomposition

static bool is_ascii(char c)
{
    return (uint8_t)c < 0x80;
}

static bool is_left_alone(uint32_t point)
{
    return point == FM_CHAR_BROKEN || fm_unicode_is_newer(point);
}

static utf8proc_option_t options_of(enum fm_form form)
{
    bool compose = form == FM_FORM_C || form == FM_FORM_KC, compat = form == FM_FORM_KC || form == FM_FORM_KD;
    return UTF8PROC_STABLE | (compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) | (compat ? UTF8PROC_COMPAT : 0);
}

// May a stretch end before this character? What it begins with in its decomposition is then neither a mark nor a part of a Hangul
// syllable that follows another, and nothing else combines with what is before it.
static bool begins_anew(enum fm_form form, uint32_t point)
{
    utf8proc_int32_t list[POINTS_MAX];
    int boundary = 0;
    utf8proc_ssize_t count =
        utf8proc_decompose_char((utf8proc_int32_t)point, list, POINTS_MAX, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE |
                                (options_of(form) & UTF8PROC_COMPAT), &boundary);
    if (count < 1 || count > POINTS_MAX || (list[0] >= 0x1160 && list[0] <= 0x11FF))
        return false;
    return utf8proc_get_property(list[0])->combining_class == 0 && !fm_char_is_mark((uint32_t)list[0]);
}

// End of the stretch that begins at `begin` and has to be normalised as one: up to the next ASCII character after one that is
// not, since ASCII never combines with what stands before it, or up to a character that is left alone.
static size_t stretch_end(enum fm_form form, const char *text, size_t text_bytes, size_t begin)
{
    size_t at = begin + (is_ascii(text[begin]) ? 1 : 0);
    unsigned marks = 0;
    while (at < text_bytes && !is_ascii(text[at])) {
        size_t bytes;
        uint32_t point = fm_char_at(text + at, text_bytes - at, &bytes);
        bool ideograph = point >= 0x4E00 && point <= 0x9FA5;
        if (is_left_alone(point) || (ideograph && at - begin >= LONG_STRETCH_BYTES) || at - begin >= STRETCH_BYTES_MAX)
            break;
        if (at - begin >= STRETCH_BYTES_ENOUGH && begins_anew(form, point))
            break;
        marks = utf8proc_get_property((utf8proc_int32_t)point)->combining_class != 0 ? marks + 1 : 0;
        if (marks > MARKS_MAX)
            break;
        at += bytes;
    }
    return at;
}

static enum fm_result normalise(enum fm_form form, const char *text, size_t text_bytes, struct fm_buffer *out,
                                struct fm_buffer *points)
{
    const utf8proc_option_t options = options_of(form);
    const utf8proc_uint8_t *str = (const utf8proc_uint8_t *)text;
    utf8proc_ssize_t count = utf8proc_decompose(str, (utf8proc_ssize_t)text_bytes, NULL, 0, options);
    if (count < 0)
        return fm_fail(FM_ARG, "a text of %zu bytes cannot be normalised: %s", text_bytes, utf8proc_errmsg(count));
    // One more: the library ends its result with a zero.
    enum fm_result r =
        fm_array_reserve((void **)&points->data, &points->cap, ((size_t)count + 1) * sizeof(utf8proc_int32_t), 1);
    if (r != FM_OK)
        return r;
    utf8proc_int32_t *list = (void *)points->data;
    count = utf8proc_decompose(str, (utf8proc_ssize_t)text_bytes, list, count, options);
    utf8proc_ssize_t bytes = count < 0 ? count : utf8proc_reencode(list, count, options);
    if (bytes < 0)
        return fm_fail(FM_ARG, "a text of %zu bytes cannot be normalised: %s", text_bytes, utf8proc_errmsg(bytes));
    return fm_buffer_add(out, list, (size_t)bytes);
}

// Who wrote what the stretch from `begin` to `end` became, which `out` has from `from` on. An ASCII character in front that has not
// combined stays its writer's.
static void trace(const char *text, const uint8_t *typed, size_t begin, size_t end, size_t from, struct fm_buffer *out)
{
    if (is_ascii(text[begin]) && out->bytes > from && out->data[from] == text[begin]) {
        fm_buffer_trace(out, from + 1, typed, begin + 1, end);
        if (out->traced)
            out->typed[from] = fm_is_typed(typed, begin, begin + 1);
    } else {
        fm_buffer_trace(out, from, typed, begin, end);
    }
}

enum fm_result fm_form(struct fm_encoder *enc, enum fm_form form, const char *text, size_t text_bytes, const uint8_t *typed,
                       struct fm_buffer *out)
{
    struct fm_buffer points = {0};
    enum fm_result r = FM_OK;
    for (size_t at = 0; r == FM_OK && at < text_bytes;) {
        size_t ascii = at, bytes;
        while (ascii < text_bytes && is_ascii(text[ascii]))
            ascii++;
        // The last of them may combine with what follows.
        if (ascii < text_bytes && ascii > at)
            ascii--;
        r = fm_buffer_add_part(out, text, typed, at, ascii - at);
        at = ascii;
        if (r != FM_OK || at == text_bytes)
            break;
        if (is_left_alone(fm_char_at(text + at, text_bytes - at, &bytes))) {
            r = fm_buffer_add_part(out, text, typed, at, bytes);
            at += bytes;
        } else {
            const size_t end = stretch_end(form, text, text_bytes, at), from = out->bytes;
            r = normalise(form, text + at, end - at, out, &points);
            trace(text, typed, at, end, from, out);
            if (r == FM_OK)
                r = fm_encoder_poll(enc, end - at);
            at = end;
        }
    }
    fm_free(points.data);
    return r;
}
