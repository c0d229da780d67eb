// SPDX-License-Identifier: MIT
// BPE over characters as model "gemma4" files describe it: spaces are written U+2581, lines and the line breaks between them
// are merged apart from one another, and pairs of neighbours are joined by the rank of their merge as in byte-level BPE.
// Characters that are no token become byte tokens; so do bytes outside well-formed UTF-8.
#include "text/vocab.h"

#include "base/utf8.h"
#include "text/unicode.h"

static enum fm_result index_tokens(struct fm_tokenizer *tok)
{
    enum fm_result r = FM_OK;
    for (uint32_t id = 0; r == FM_OK && id < tok->vocab; id++) {
        const struct fm_token *token = &tok->tokens[id];
        const bool control = token->type == FM_TOKEN_CONTROL || token->type == FM_TOKEN_UNKNOWN;
        uint32_t other;
        if (token->text_bytes == 0 || token->type == FM_TOKEN_BYTE)
            continue;
        if (control || token->type == FM_TOKEN_USER)
            r = fm_matcher_add(&tok->special, token->text, token->text_bytes, id);
        if (r == FM_OK && token->type == FM_TOKEN_USER && !token->markup)
            r = fm_matcher_add(&tok->plain, token->text, token->text_bytes, id);
        if (r == FM_OK && !control && !token->markup &&
            !fm_map_get(&tok->spans, token->text, token->text_bytes, &other)) {
            r = fm_map_put(&tok->spans, token->text, token->text_bytes, id, NULL);
            tok->max_span_bytes = FM_MAX(tok->max_span_bytes, token->text_bytes);
        }
    }
    if (r == FM_OK)
        r = fm_matcher_seal(&tok->special);
    return r == FM_OK ? fm_matcher_seal(&tok->plain) : r;
}

// Of what merges make.
static enum fm_result index_bigrams(struct fm_tokenizer *tok)
{
    const struct fm_map *ranks = &tok->ranks;
    for (size_t i = 0; i < ranks->capacity; i++) {
        if (ranks->entries[i].key != NULL)
            fm_bigrams_reserve(&tok->bigrams, tok->tokens[tok->merges[ranks->entries[i].value].id].text_bytes);
    }
    enum fm_result r = fm_bigrams_allocate(&tok->bigrams);
    for (size_t i = 0; r == FM_OK && i < ranks->capacity; i++) {
        if (ranks->entries[i].key == NULL)
            continue;
        const struct fm_token *token = &tok->tokens[tok->merges[ranks->entries[i].value].id];
        fm_bigrams_add(&tok->bigrams, token->text, token->text_bytes);
    }
    return r;
}

enum fm_result fm_char_bpe_create(const struct fm_file *file, struct fm_tokenizer *tok)
{
    bool add_bos;
    enum fm_result r = fm_meta_bool(file, "tokenizer.ggml.add_space_prefix", false, false, &tok->add_space_prefix);
    if (r == FM_OK)
        r = fm_meta_bool(file, "tokenizer.ggml.add_bos_token", false, true, &add_bos);
    if (r != FM_OK)
        return r;
    // The models never saw a text without it; early converters wrote false nevertheless.
    if (!add_bos)
        fm_log(FM_LOG_INFO, "tokenizer.ggml.add_bos_token: false, taken for true as tokenizer.ggml.model is gemma4");
    tok->add_bos = true;
    r = fm_spm_make_pieces(tok);
    if (r == FM_OK)
        r = index_tokens(tok);
    if (r == FM_OK)
        r = fm_bpe_read_merges(file, tok);
    return r == FM_OK ? index_bigrams(tok) : r;
}

// Write the text with U+2581 for spaces to enc->buffer.
static enum fm_result escape(struct fm_encoder *enc, const char *text, size_t text_bytes)
{
    enum fm_result r =
        fm_array_reserve((void **)&enc->buffer, &enc->buffer_cap, (text_bytes + 1) * FM_SPACE_MARK_BYTES, 1);
    if (r != FM_OK)
        return r;
    char *out = enc->buffer;
    if (enc->tok->add_space_prefix) {
        memcpy(out, FM_SPACE_MARK, FM_SPACE_MARK_BYTES);
        out += FM_SPACE_MARK_BYTES;
    }
    for (size_t i = 0; i < text_bytes; i++) {
        if (text[i] != ' ') {
            *out++ = text[i];
            continue;
        }
        memcpy(out, FM_SPACE_MARK, FM_SPACE_MARK_BYTES);
        out += FM_SPACE_MARK_BYTES;
    }
    enc->buffer_bytes = (size_t)(out - enc->buffer);
    return FM_OK;
}

// Merge the symbols that were pushed, and emit what they became.
static enum fm_result flush(struct fm_encoder *enc)
{
    if (enc->merge.count == 0)
        return FM_OK;
    enum fm_result r = enc->merge.count > 1 ? fm_merge_run(&enc->merge, enc->buffer, fm_bpe_join, enc) : FM_OK;
    for (uint32_t i = 0; r == FM_OK && i != FM_SYMBOL_NONE; i = enc->merge.symbols[i].next) {
        const struct fm_symbol *symbol = &enc->merge.symbols[i];
        r = symbol->id != FM_TOKEN_NONE ? fm_encoder_emit(enc, symbol->id)
                                        : fm_spm_emit_unknown(enc, enc->buffer + symbol->begin, symbol->bytes);
        if (r == FM_OK)
            r = fm_encoder_poll(enc, 1);
    }
    fm_merge_reset(&enc->merge);
    return r;
}

// Line breaks from `begin` on: together one token, if there is one.
static enum fm_result encode_breaks(struct fm_encoder *enc, size_t begin, size_t end)
{
    uint32_t id = fm_encoder_span(enc, enc->buffer + begin, end - begin);
    uint32_t single = fm_encoder_span(enc, "\n", 1);
    if (id != FM_TOKEN_NONE)
        return fm_encoder_emit(enc, id);
    enum fm_result r = FM_OK;
    for (size_t at = begin; r == FM_OK && at < end; at++) {
        r = fm_merge_push(&enc->merge, (uint32_t)at, 1, single, false);
        if (r == FM_OK)
            r = fm_encoder_poll(enc, 1);
    }
    return r == FM_OK ? flush(enc) : r;
}

// Text from `begin` to `end` without a line break.
static enum fm_result encode_line(struct fm_encoder *enc, size_t begin, size_t end)
{
    const struct fm_tokenizer *tok = enc->tok;
    enum fm_result r = FM_OK;
    uint32_t left = 0;
    for (size_t at = begin, bytes; r == FM_OK && at < end; at += bytes) {
        const char *text = enc->buffer + at;
        const bool whole = fm_utf8_next(text, end - at, &bytes) == FM_UTF8_CHAR;
        const uint32_t point = whole ? fm_unicode_point(text, &bytes) : UINT32_MAX;
        if (enc->merge.count > 0 && !fm_bigrams_may_join(&tok->bigrams, left, point))
            r = flush(enc);
        if (r == FM_OK)
            r = fm_merge_push(&enc->merge, (uint32_t)at, (uint32_t)bytes,
                              whole ? fm_encoder_span(enc, text, bytes) : FM_TOKEN_NONE, false);
        if (r == FM_OK)
            r = fm_encoder_poll(enc, bytes);
        left = point;
    }
    return r == FM_OK ? flush(enc) : r;
}

enum fm_result fm_char_bpe_encode(struct fm_encoder *enc, const char *text, size_t text_bytes)
{
    enum fm_result r = escape(enc, text, text_bytes);
    fm_merge_reset(&enc->merge);
    for (size_t at = 0; r == FM_OK && at < enc->buffer_bytes;) {
        const bool is_break = enc->buffer[at] == '\n';
        size_t end = at + 1;
        while (end < enc->buffer_bytes && (enc->buffer[end] == '\n') == is_break)
            end++;
        r = is_break ? encode_breaks(enc, at, end) : encode_line(enc, at, end);
        at = end;
    }
    return r;
}
