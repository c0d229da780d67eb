// SPDX-License-Identifier: MIT
#include "text/normalize.h"

#include "text/chars.h"
#include "text/forms.h"

#define SEARCH_BYTES ((size_t)1 << 16) // between two questions whether to go on

static const struct {
    const char *name;
    enum fm_step_kind kind;
    unsigned arguments;
} known[] = {
    {"nfc", FM_STEP_NFC, 0},
    {"nfd", FM_STEP_NFD, 0},
    {"nfkc", FM_STEP_NFKC, 0},
    {"nfkd", FM_STEP_NFKD, 0},
    {"lowercase", FM_STEP_LOWERCASE, 0},
    {"nmt", FM_STEP_NMT, 0},
    {"strip_accents", FM_STEP_STRIP_ACCENTS, 0},
    {"strip", FM_STEP_STRIP, 1},
    {"prepend", FM_STEP_PREPEND, 1},
    {"replace", FM_STEP_REPLACE, 2},
};

// ---- reading --------------------------------------------------------------------------------------------------------

static enum fm_result check_arguments(const struct fm_file *file, struct fm_step *step)
{
    if (step->kind == FM_STEP_STRIP) {
        step->left = fm_text_equals(step->first, "left") || fm_text_equals(step->first, "both");
        step->right = fm_text_equals(step->first, "right") || fm_text_equals(step->first, "both");
        if (!step->left && !step->right)
            return fm_fail(FM_FORMAT, "%s: metadata '" FM_KEY_NORMALIZERS "': strip of '%s', expected left, right or both",
                           fm_file_path(file), FM_QUOTE(step->first.data, step->first.bytes));
    }
    if (step->kind == FM_STEP_REPLACE && step->first.bytes == 0)
        return fm_fail(FM_FORMAT, "%s: metadata '" FM_KEY_NORMALIZERS "': replace of nothing", fm_file_path(file));
    return FM_OK;
}

// The step that begins at entry *at, which moves behind its arguments.
static enum fm_result read_step(const struct fm_file *file, const struct fm_meta *meta, uint64_t *at, struct fm_arena *arena,
                                struct fm_step *out_step)
{
    size_t i = 0;
    while (i < FM_COUNT(known) && !fm_text_equals(meta->texts[*at], known[i].name))
        i++;
    if (i == FM_COUNT(known))
        return fm_fail(FM_UNSUPPORTED,
                       "%s: metadata '" FM_KEY_NORMALIZERS "': '%s' is not supported, supported are: nfc nfd nfkc nfkd lowercase "
                       "nmt strip_accents strip prepend replace",
                       fm_file_path(file), FM_QUOTE(meta->texts[*at].data, meta->texts[*at].bytes));
    ++*at;
    if (meta->count - *at < known[i].arguments)
        return fm_fail(FM_FORMAT, "%s: metadata '" FM_KEY_NORMALIZERS "': %s lacks an argument", fm_file_path(file),
                       known[i].name);
    *out_step = (struct fm_step){.kind = known[i].kind};
    struct fm_text *const arguments[] = {&out_step->first, &out_step->second};
    for (unsigned k = 0; k < known[i].arguments; k++, ++*at) {
        struct fm_text text = meta->texts[*at];
        char *copy = fm_arena_alloc(arena, (size_t)text.bytes + 1, 1);
        if (copy == NULL)
            return fm_nomem();
        if (text.bytes > 0)
            memcpy(copy, text.data, (size_t)text.bytes);
        *arguments[k] = (struct fm_text){.data = copy, .bytes = text.bytes};
    }
    return check_arguments(file, out_step);
}

enum fm_result fm_steps_read(const struct fm_file *file, struct fm_arena *arena, struct fm_steps *out_steps)
{
    const struct fm_meta *meta = fm_file_meta_find(file, FM_KEY_NORMALIZERS);
    enum fm_result r = FM_OK;
    *out_steps = (struct fm_steps){0};
    if (meta == NULL)
        return FM_OK;
    if (meta->kind != FM_META_ARRAY || (meta->elem_kind != FM_META_STRING && meta->count > 0) || meta->count > 256)
        return fm_fail(FM_FORMAT, "%s: metadata '" FM_KEY_NORMALIZERS "': expected an array of at most 256 strings",
                       fm_file_path(file));
    out_steps->list = fm_arena_alloc(arena, (size_t)meta->count + 1, sizeof(*out_steps->list));
    if (out_steps->list == NULL)
        return fm_nomem();
    for (uint64_t at = 0; r == FM_OK && at < meta->count;)
        r = read_step(file, meta, &at, arena, &out_steps->list[out_steps->count++]);
    return r;
}

// ---- applying -------------------------------------------------------------------------------------------------------

static bool goes(const struct fm_step *step, uint32_t point)
{
    if (step->kind == FM_STEP_STRIP_ACCENTS)
        return point != FM_CHAR_BROKEN && fm_char_is_mark(point);
    return (point >= 1 && point <= 8) || point == 0x0B || (point >= 0x0E && point <= 0x1F) || point == 0x7F || point == 0x8F ||
           point == 0x9F;
}

static bool is_space_to_nmt(uint32_t point)
{
    return point == 9 || point == 10 || point == 12 || point == 13 || point == 0x1680 ||
           (point >= 0x200B && point <= 0x200F) || point == 0x2028 || point == 0x2029 || point == 0x2581 || point == 0xFEFF ||
           point == 0xFFFD;
}

// The steps that look at one character after the other.
static enum fm_result map_chars(struct fm_encoder *enc, const struct fm_step *step, const struct fm_buffer *text, struct fm_buffer *out)
{
    enum fm_result r = FM_OK;
    for (size_t at = 0, bytes; r == FM_OK && at < text->bytes; at += bytes) {
        char lower[FM_CHAR_BYTES_MAX];
        const size_t from = out->bytes;
        uint32_t point = fm_char_at(text->data + at, text->bytes - at, &bytes);
        if (step->kind == FM_STEP_LOWERCASE && point != FM_CHAR_BROKEN)
            r = fm_buffer_add(out, lower, fm_char_lower(point, lower));
        else if (step->kind != FM_STEP_LOWERCASE && goes(step, point))
            continue;
        else if (step->kind == FM_STEP_NMT && is_space_to_nmt(point))
            r = fm_buffer_add(out, " ", 1);
        else
            r = fm_buffer_add(out, text->data + at, bytes);
        fm_buffer_trace(out, from, text->typed, at, at + bytes);
        if (r == FM_OK)
            r = fm_encoder_poll(enc, bytes);
    }
    return r;
}

static enum fm_result strip(struct fm_encoder *enc, const struct fm_step *step, const struct fm_buffer *text, struct fm_buffer *out)
{
    enum fm_result r = FM_OK;
    size_t begin = 0, end = text->bytes, bytes;
    while (r == FM_OK && step->left && begin < end && fm_char_is_white(fm_char_at(text->data + begin, end - begin, &bytes))) {
        begin += bytes;
        r = fm_encoder_poll(enc, bytes);
    }
    while (r == FM_OK && step->right && end > begin) {
        size_t last = end - 1;
        while (last > begin && end - last < FM_CHAR_BYTES_MAX && ((uint8_t)text->data[last] & 0xC0) == 0x80)
            last--;
        if (!fm_char_is_white(fm_char_at(text->data + last, end - last, &bytes)) || last + bytes != end)
            break;
        end = last;
        r = fm_encoder_poll(enc, bytes);
    }
    return r == FM_OK ? fm_buffer_add_part(out, text->data, text->typed, begin, end - begin) : r;
}

// The place at or after `from` where the text has `what`, or the end of the text.
static enum fm_result find(struct fm_encoder *enc, const struct fm_buffer *text, struct fm_text what, size_t from, size_t *out_at)
{
    const size_t what_bytes = (size_t)what.bytes, step = FM_MAX(SEARCH_BYTES, what_bytes);
    enum fm_result r = FM_OK;
    *out_at = text->bytes;
    while (r == FM_OK && text->bytes - from >= what_bytes) {
        const size_t places = FM_MIN(step, text->bytes - from - what_bytes + 1);
        const char *hit = memmem(text->data + from, places + what_bytes - 1, what.data, what_bytes);
        const size_t seen = hit != NULL ? (size_t)(hit - text->data) - from + 1 : places;
        r = fm_encoder_poll(enc, seen);
        if (hit != NULL) {
            *out_at = from + seen - 1;
            break;
        }
        from += places;
    }
    return r;
}

static enum fm_result replace(struct fm_encoder *enc, const struct fm_step *step, const struct fm_buffer *text, struct fm_buffer *out)
{
    const size_t what_bytes = (size_t)step->first.bytes;
    size_t done = 0, at;
    enum fm_result r = find(enc, text, step->first, 0, &at);
    while (r == FM_OK && at < text->bytes) {
        r = fm_buffer_add_part(out, text->data, text->typed, done, at - done);
        const size_t from = out->bytes;
        if (r == FM_OK)
            r = fm_buffer_add(out, step->second.data, (size_t)step->second.bytes);
        fm_buffer_trace(out, from, text->typed, at, at + what_bytes);
        done = at + what_bytes;
        if (r == FM_OK)
            r = find(enc, text, step->first, done, &at);
    }
    return r == FM_OK ? fm_buffer_add_part(out, text->data, text->typed, done, text->bytes - done) : r;
}

static enum fm_result apply(struct fm_encoder *enc, const struct fm_step *step, const struct fm_buffer *text, struct fm_buffer *out)
{
    enum fm_result r;
    switch (step->kind) {
    case FM_STEP_NFC: return fm_form(enc, FM_FORM_C, text->data, text->bytes, text->typed, out);
    case FM_STEP_NFD: return fm_form(enc, FM_FORM_D, text->data, text->bytes, text->typed, out);
    case FM_STEP_NFKC: return fm_form(enc, FM_FORM_KC, text->data, text->bytes, text->typed, out);
    case FM_STEP_NFKD: return fm_form(enc, FM_FORM_KD, text->data, text->bytes, text->typed, out);
    case FM_STEP_STRIP: return strip(enc, step, text, out);
    case FM_STEP_REPLACE: return replace(enc, step, text, out);
    case FM_STEP_PREPEND:
        r = fm_buffer_add(out, step->first.data, (size_t)step->first.bytes);
        return r == FM_OK ? fm_buffer_add_part(out, text->data, text->typed, 0, text->bytes) : r;
    default: return map_chars(enc, step, text, out);
    }
}

enum fm_result fm_steps_apply(struct fm_encoder *enc, const struct fm_steps *steps, struct fm_buffer *text, struct fm_buffer *other,
                              size_t *io_room)
{
    enum fm_result r = FM_OK;
    size_t most = text->bytes;
    text->limit = other->limit = FM_MAX(*io_room, (size_t)1);
    for (uint32_t i = 0; r == FM_OK && i < steps->count && text->bytes > 0; i++) {
        other->bytes = 0;
        r = apply(enc, &steps->list[i], text, other);
        struct fm_buffer swap = *text;
        *text = *other;
        *other = swap;
        most = FM_MAX(most, text->bytes);
    }
    *io_room -= FM_MIN(most, *io_room);
    return r;
}
