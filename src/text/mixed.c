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

bool fm_mixed_is_typed(const struct fm_mixed_text *m, const char *text, size_t begin, size_t end)
{
    // Only where the text is the one that the ranges are of.
    size_t offset = text >= m->text && text <= m->text + m->bytes ? (size_t)(text - m->text) : 0;
    for (size_t i = 0; i < m->input_count; i++)
        if (m->inputs[i].begin < offset + end && offset + begin < m->inputs[i].end)
            return true;
    return false;
}

static bool is_spelled(const struct fm_mixed_text *m, const struct fm_token *token)
{
    for (size_t i = 0; i < m->input_count; i++)
        if (memmem(m->text + m->inputs[i].begin, m->inputs[i].end - m->inputs[i].begin, token->text, token->text_bytes) != NULL)
            return true;
    return false;
}

bool fm_encoder_is_text(const struct fm_encoder *enc, uint32_t id)
{
    const struct fm_token *token = &enc->tok->tokens[id];
    if (enc->mixed == NULL)
        return enc->plain && token->markup;
    // Without a pipeline those of the template have been taken already. In one the text may have changed, and its places with it.
    return token->marker && (enc->tok->pipeline == NULL || fm_pipeline_changes_letters(enc->tok) || is_spelled(enc->mixed, token));
}

struct match {
    size_t begin, bytes; // 0 bytes: none
    uint32_t id;
};

// The longer one of the special token and the user-defined one at `at` of the template's text, which ends at `end`.
static enum fm_result match_in_template(struct fm_encoder *enc, size_t at, size_t end, struct match *out)
{
    const char *text = enc->mixed->text + at;
    const struct fm_matcher_entry *entry;
    struct match user = {.begin = at}, special = user;
    enum fm_result r = fm_match_walk_at(&enc->special, at, &entry);
    if (r != FM_OK)
        return r;
    if (entry != NULL)
        user = (struct match){.begin = at, .bytes = entry->bytes, .id = entry->id};
    (void)fm_matcher_at(&enc->tok->special, text, end - at, &special.id, &special.bytes);
    // On the SentencePiece path they are matched in the escaped text, but for those of templates.
    if (special.bytes == 0 && enc->tok->kind == FM_TOKENIZER_SPM && fm_matcher_at(&enc->tok->user, text, end - at, &user.id, &user.bytes) &&
        !enc->tok->tokens[user.id].marker)
        user.bytes = 0;
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
