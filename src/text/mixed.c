// SPDX-License-Identifier: MIT
// Encoding a template's text with messages in it. Plain text is encoded as one across the borders between the two, since merges
// reach over them; tokens that are matched as they stand are another matter: special ones must lie wholly in the template.
#include "text/pipeline.h"
#include "text/vocab.h"

// What follows the inputs before `from`: the next range of one kind. *io_input: the first input that ends after `from`.
static size_t range_end(const struct fm_mixed_text *m, size_t from, size_t *io_input, bool *out_is_input)
{
    while (*io_input < m->input_count && m->inputs[*io_input].end <= from)
        ++*io_input;
    const struct fm_text_range *next = *io_input < m->input_count ? &m->inputs[*io_input] : NULL;
    *out_is_input = next != NULL && next->begin <= from;
    return *out_is_input ? next->end : next != NULL ? next->begin : m->bytes;
}

enum fm_result fm_mixed_trace(const struct fm_mixed_text *mixed, struct fm_buffer *out)
{
    out->traced = true;
    out->bytes = 0;
    enum fm_result r = fm_buffer_add(out, mixed->text, mixed->bytes);
    for (size_t i = 0; r == FM_OK && i < mixed->input_count; i++)
        memset(out->typed + mixed->inputs[i].begin, 1, mixed->inputs[i].end - mixed->inputs[i].begin);
    return r;
}

bool fm_encoder_is_text_at(const struct fm_encoder *enc, uint32_t id, const uint8_t *typed, size_t begin, size_t end)
{
    if (enc->mixed == NULL)
        return enc->plain && enc->tok->tokens[id].markup;
    return enc->tok->tokens[id].marker && (typed == NULL || fm_is_typed(typed, begin, end));
}

bool fm_encoder_is_text(const struct fm_encoder *enc, uint32_t id)
{
    return fm_encoder_is_text_at(enc, id, NULL, 0, 0);
}

uint32_t fm_encoder_span(const struct fm_encoder *enc, const char *text, size_t bytes)
{
    uint32_t id;
    bool found = bytes <= enc->tok->max_span_bytes && fm_map_get(&enc->tok->spans, text, bytes, &id);
    return found && !fm_encoder_is_text(enc, id) ? id : FM_TOKEN_NONE;
}

struct match {
    size_t begin, bytes; // 0 bytes: none
    uint32_t id;
};

// The longest token of a matcher at `at` of the template's range that ends at `end`; nothing matches beyond it.
static enum fm_result match_in_range(struct fm_match_walk *walk, const struct fm_matcher *matcher, const struct fm_mixed_text *m, size_t at,
                                     size_t end, struct match *out)
{
    const struct fm_matcher_entry *entry;
    if (walk->text == NULL || walk->text + walk->text_bytes != m->text + end)
        fm_match_walk_start(walk, matcher, m->text + at, end - at);
    enum fm_result r = fm_match_walk_at(walk, (size_t)(m->text + at - walk->text), &entry);
    *out = (struct match){.begin = at};
    if (r == FM_OK && entry != NULL)
        *out = (struct match){.begin = at, .bytes = entry->bytes, .id = entry->id};
    return r;
}

// The longer one of the special token and the user-defined one at `at` of the template's text, which ends at `end`.
static enum fm_result match_in_template(struct fm_encoder *enc, size_t at, size_t end, struct match *out)
{
    const struct fm_tokenizer *tok = enc->tok;
    const struct fm_matcher_entry *entry;
    struct match user = {.begin = at}, special;
    enum fm_result r = fm_match_walk_at(&enc->special, at, &entry);
    if (r != FM_OK)
        return r;
    if (entry != NULL)
        user = (struct match){.begin = at, .bytes = entry->bytes, .id = entry->id};
    r = match_in_range(&enc->template_special, &tok->special, enc->mixed, at, end, &special);
    // On the SentencePiece path they are matched in the escaped text, but for those of templates.
    if (r == FM_OK && special.bytes == 0 && tok->kind == FM_TOKENIZER_SPM) {
        r = match_in_range(&enc->template_user, &tok->user, enc->mixed, at, end, &user);
        if (user.bytes > 0 && !tok->tokens[user.id].marker)
            user.bytes = 0;
    }
    if (r != FM_OK)
        return r;
    *out = special.bytes >= user.bytes ? special : user;
    return FM_OK;
}

// The next token at or after `from` that is matched as it stands; out->begin is the end of the text where none is.
static enum fm_result next_match(struct fm_encoder *enc, size_t from, size_t *io_input, struct match *out)
{
    const struct fm_mixed_text *m = enc->mixed;
    enum fm_result r = FM_OK;
    *out = (struct match){.begin = m->bytes};
    for (size_t at = from, end; r == FM_OK && out->bytes == 0 && at < m->bytes;) {
        const struct fm_matcher_entry *entry = NULL;
        bool is_input;
        end = range_end(m, at, io_input, &is_input);
        if (!is_input) {
            r = match_in_template(enc, at, end, out);
            at++;
        } else {
            r = fm_match_walk_next(&enc->special, at, end, &at, &entry);
            if (r == FM_OK && entry != NULL && !enc->tok->tokens[entry->id].marker)
                *out = (struct match){.begin = at, .bytes = entry->bytes, .id = entry->id};
            at += entry != NULL;
        }
        if (r == FM_OK)
            r = fm_encoder_poll(enc, at - from);
    }
    if (out->bytes == 0)
        out->begin = m->bytes;
    return r;
}

enum fm_result fm_encoder_mixed(struct fm_encoder *enc, const struct fm_matcher *user,
                                enum fm_result (*encode)(struct fm_encoder *enc, const char *text, size_t text_bytes))
{
    const struct fm_mixed_text *m = enc->mixed;
    enum fm_result r = FM_OK;
    size_t input = 0;
    fm_match_walk_start(&enc->special, user, m->text, m->bytes);
    for (size_t at = 0; r == FM_OK && at < m->bytes;) {
        struct match match;
        r = next_match(enc, at, &input, &match);
        if (r == FM_OK && match.begin > at)
            r = encode(enc, m->text + at, match.begin - at);
        if (r == FM_OK && match.bytes > 0)
            r = fm_encoder_emit(enc, match.id);
        if (match.bytes > 0)
            enc->goes_on = enc->tok->tokens[match.id].type == FM_TOKEN_USER;
        at = match.begin + match.bytes;
    }
    return r;
}
