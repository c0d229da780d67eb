// SPDX-License-Identifier: MIT
// SentencePiece's BPE (Kudo and Richardson, 2018) as model "llama" files describe it: spaces are written U+2581, the
// text gets one in front, user-defined pieces are set apart, and the neighbours whose joint piece has the best score
// are joined, leftmost first, until none is left. Characters that are no piece become byte tokens.
#include "text/vocab.h"

#include "base/utf8.h"
#include "text/pipeline.h"
#include "text/unicode.h"

#include <stdlib.h>

#define UNKNOWN_SURFACE " \xE2\x81\x87 " // what SentencePiece decodes an unknown token to

// Scores as integers in which less is better, so that both tokenizers merge by the same rule. NaN is the worst.
static uint32_t score_priority(float score)
{
    float value = score + 0.0f; // -0 and 0 are the same score
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    if (value != value)
        return UINT32_MAX;
    uint32_t ascending = bits >> 31 ? ~bits : bits | 0x80000000u;
    return ~ascending;
}

static enum fm_result read_scores(const struct fm_file *file, struct fm_tokenizer *tok)
{
    const char *key = "tokenizer.ggml.scores";
    const struct fm_meta *meta = fm_file_meta_find(file, key);
    if (meta == NULL)
        return fm_fail(FM_FORMAT, "%s: metadata '%s': missing, tokenizer.ggml.model 'llama' needs it",
                       fm_file_path(file), key);
    if (meta->kind != FM_META_ARRAY || meta->elem_kind != FM_META_FLOAT)
        return fm_fail(FM_FORMAT, "%s: metadata '%s': expected an array of floats", fm_file_path(file), key);
    if (meta->count != tok->vocab)
        return fm_fail(FM_FORMAT, "%s: metadata '%s': expected %u elements as tokenizer.ggml.tokens has, found %llu",
                       fm_file_path(file), key, tok->vocab, (unsigned long long)meta->count);
    for (uint32_t id = 0; id < tok->vocab; id++)
        tok->tokens[id].priority = score_priority((float)fm_meta_float_at(meta, id));
    return FM_OK;
}

// Pieces: the text with U+2581 turned to spaces.
enum fm_result fm_spm_make_pieces(struct fm_tokenizer *tok)
{
    size_t total_bytes = 0;
    for (uint32_t id = 0; id < tok->vocab; id++)
        total_bytes += tok->tokens[id].text_bytes;
    char *blob = fm_arena_alloc(&tok->arena, total_bytes + 1, 1);
    if (blob == NULL)
        return fm_nomem();
    for (uint32_t id = 0; id < tok->vocab; id++) {
        struct fm_token *token = &tok->tokens[id];
        if (token->type == FM_TOKEN_BYTE || token->type == FM_TOKEN_CONTROL)
            continue;
        if (token->type == FM_TOKEN_UNKNOWN) {
            token->piece = UNKNOWN_SURFACE;
            token->piece_bytes = sizeof(UNKNOWN_SURFACE) - 1;
            continue;
        }
        token->piece = blob;
        for (uint32_t i = 0; i < token->text_bytes;) {
            bool mark = fm_begins_with_mark(token->text + i, token->text_bytes - i);
            *blob++ = mark ? ' ' : token->text[i];
            i += mark ? FM_SPACE_MARK_BYTES : 1;
        }
        token->piece_bytes = (uint32_t)(blob - token->piece);
    }
    return FM_OK;
}

// The text with spaces turned to U+2581, as the escaped text has them.
static enum fm_result add_user(struct fm_tokenizer *tok, uint32_t id)
{
    const struct fm_token *token = &tok->tokens[id];
    char *text = fm_arena_alloc(&tok->arena, (size_t)token->text_bytes * FM_SPACE_MARK_BYTES, 1);
    if (text == NULL)
        return fm_nomem();
    uint32_t bytes = 0;
    for (uint32_t i = 0; i < token->text_bytes; i++) {
        if (token->text[i] != ' ') {
            text[bytes++] = token->text[i];
            continue;
        }
        memcpy(text + bytes, FM_SPACE_MARK, FM_SPACE_MARK_BYTES);
        bytes += FM_SPACE_MARK_BYTES;
    }
    enum fm_result r = fm_matcher_add(&tok->user, text, bytes, id);
    return r == FM_OK && !token->markup ? fm_matcher_add(&tok->plain, text, bytes, id) : r;
}

// Control, unknown and byte tokens cannot come out of a merge; everything else can.
static enum fm_result index_tokens(struct fm_tokenizer *tok)
{
    enum fm_result r = FM_OK;
    for (uint32_t id = 0; r == FM_OK && id < tok->vocab; id++) {
        const struct fm_token *token = &tok->tokens[id];
        uint32_t other;
        if (token->text_bytes == 0 || token->type == FM_TOKEN_BYTE || !fm_pipeline_is_piece(tok, id))
            continue;
        if (token->type == FM_TOKEN_CONTROL || token->type == FM_TOKEN_UNKNOWN) {
            r = fm_matcher_add(&tok->special, token->text, token->text_bytes, id);
            continue;
        }
        if (token->type == FM_TOKEN_USER)
            r = add_user(tok, id);
        tok->has_unused = tok->has_unused || token->type == FM_TOKEN_UNUSED;
        if (r == FM_OK && !fm_map_get(&tok->spans, token->text, token->text_bytes, &other))
            r = fm_map_put(&tok->spans, token->text, token->text_bytes, id, NULL);
        tok->max_span_bytes = FM_MAX(tok->max_span_bytes, token->text_bytes);
    }
    if (r == FM_OK)
        r = fm_matcher_seal(&tok->special);
    if (r == FM_OK)
        r = fm_matcher_seal(&tok->user);
    return r == FM_OK ? fm_matcher_seal(&tok->plain) : r;
}

// Texts are cut where no token reaches across. Not with UNUSED tokens: into what such a one is taken apart is decided by the
// last place of the whole text that could have made it.
static enum fm_result index_bigrams(struct fm_tokenizer *tok)
{
    if (tok->has_unused)
        return FM_OK;
    for (size_t i = 0; i < tok->spans.capacity; i++) {
        if (tok->spans.entries[i].key != NULL)
            fm_bigrams_reserve(&tok->bigrams, tok->spans.entries[i].key_bytes);
    }
    enum fm_result r = fm_bigrams_allocate(&tok->bigrams);
    for (size_t i = 0; r == FM_OK && i < tok->spans.capacity; i++) {
        if (tok->spans.entries[i].key != NULL)
            fm_bigrams_add(&tok->bigrams, tok->spans.entries[i].key, tok->spans.entries[i].key_bytes);
    }
    return r;
}

static int compare_priorities(const void *left, const void *right)
{
    const uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

// Number the distinct priorities from 0 on; their order stays.
static enum fm_result number_priorities(struct fm_tokenizer *tok)
{
    uint32_t *sorted = fm_realloc(NULL, tok->vocab, sizeof(*sorted));
    if (sorted == NULL)
        return fm_nomem();
    for (uint32_t id = 0; id < tok->vocab; id++)
        sorted[id] = tok->tokens[id].priority;
    qsort(sorted, tok->vocab, sizeof(*sorted), compare_priorities);
    for (uint32_t i = 0; i < tok->vocab; i++) {
        if (i == 0 || sorted[i] != sorted[tok->priorities - 1])
            sorted[tok->priorities++] = sorted[i];
    }
    for (uint32_t id = 0; id < tok->vocab; id++) {
        uint32_t *priority = &tok->tokens[id].priority;
        const uint32_t *place = bsearch(priority, sorted, tok->priorities, sizeof(*sorted), compare_priorities);
        *priority = (uint32_t)(place - sorted);
    }
    fm_free(sorted);
    return FM_OK;
}

enum fm_result fm_spm_create(const struct fm_file *file, struct fm_tokenizer *tok)
{
    enum fm_result r = fm_meta_bool(file, "tokenizer.ggml.add_space_prefix", false, true, &tok->add_space_prefix);
    if (r == FM_OK)
        r = fm_meta_bool(file, "tokenizer.ggml.add_bos_token", false, true, &tok->add_bos);
    if (r == FM_OK)
        r = read_scores(file, tok);
    if (r == FM_OK)
        r = fm_spm_make_pieces(tok);
    if (r == FM_OK)
        r = number_priorities(tok);
    if (r == FM_OK)
        r = index_tokens(tok);
    if (r == FM_OK)
        r = index_bigrams(tok);
    return r;
}

// The tokens that are set apart in this text.
static const struct fm_matcher *user_tokens(const struct fm_encoder *enc)
{
    return enc->plain ? &enc->tok->plain : &enc->tok->user;
}

// Write the escaped text to enc->buffer: a mark in front if the file says so, a mark for each space, U+FFFD for each
// byte that is no part of a well-formed character (which is what SentencePiece's own reader does).
static enum fm_result escape(struct fm_encoder *enc, const char *text, size_t text_bytes, size_t *out_bytes)
{
    enum fm_result r =
        fm_array_reserve((void **)&enc->buffer, &enc->buffer_cap, (text_bytes + 1) * FM_SPACE_MARK_BYTES, 1);
    if (r != FM_OK)
        return r;
    char *out = enc->buffer;
    // SentencePiece itself puts the mark before a user-defined token too. But those of model files are mostly tokens
    // that a fine-tune added outside SentencePiece ("<|im_start|>"), and the model never saw a mark before them.
    uint32_t id;
    size_t length;
    if (enc->tok->add_space_prefix && !enc->goes_on &&
        (!fm_matcher_at(user_tokens(enc), text, text_bytes, &id, &length) || fm_encoder_is_text(enc, id))) {
        memcpy(out, FM_SPACE_MARK, FM_SPACE_MARK_BYTES);
        out += FM_SPACE_MARK_BYTES;
    }
    for (size_t i = 0; i < text_bytes;) {
        size_t bytes;
        const char *from = text + i;
        if (fm_utf8_next(from, text_bytes - i, &bytes) != FM_UTF8_CHAR) {
            bytes = 1;
            from = FM_UTF8_REPLACEMENT;
        } else if (text[i] == ' ') {
            from = FM_SPACE_MARK;
        }
        size_t written = from == text + i ? bytes : 3;
        memcpy(out, from, written);
        out += written;
        i += bytes;
        r = fm_encoder_poll(enc, bytes);
        if (r != FM_OK)
            return r;
    }
    *out_bytes = (size_t)(out - enc->buffer);
    return FM_OK;
}

// The rule of fm_merge_run. Remembers of what an UNUSED token was made.
static bool join(const void *user, const char *text, const struct fm_symbol *left, const struct fm_symbol *right,
                 uint32_t *out_priority, uint32_t *out_id)
{
    const struct fm_encoder *enc = user;
    uint32_t id = fm_encoder_span(enc, text + left->begin, left->bytes + right->bytes);
    if (id == FM_TOKEN_NONE)
        return false;
    if (enc->splits != NULL && enc->tok->tokens[id].type == FM_TOKEN_UNUSED)
        enc->splits[id] = left->bytes;
    *out_priority = enc->tok->tokens[id].priority;
    *out_id = id;
    return true;
}

enum fm_result fm_spm_emit_unknown(struct fm_encoder *enc, const char *text, uint32_t bytes)
{
    const struct fm_tokenizer *tok = enc->tok;
    enum fm_result r = FM_OK;
    bool have_bytes = true;
    for (uint32_t i = 0; i < bytes; i++)
        have_bytes = have_bytes && tok->byte_ids[(uint8_t)text[i]] != FM_TOKEN_NONE;
    for (uint32_t i = 0; have_bytes && r == FM_OK && i < bytes; i++)
        r = fm_encoder_emit(enc, tok->byte_ids[(uint8_t)text[i]]);
    // Without byte tokens, unknown characters in a row are one unknown token.
    if (!have_bytes && tok->unk != FM_TOKEN_NONE && (enc->count == 0 || enc->ids[enc->count - 1] != tok->unk))
        r = fm_encoder_emit(enc, tok->unk);
    return r;
}

// Emit the token of a span; an UNUSED one is taken apart again into what it was made of.
static enum fm_result emit_span(struct fm_encoder *enc, uint32_t begin, uint32_t bytes)
{
    const char *text = enc->buffer;
    size_t depth = 0;
    for (;;) {
        enum fm_result r;
        uint32_t id = fm_encoder_span(enc, text + begin, bytes);
        bool unused = id != FM_TOKEN_NONE && enc->splits != NULL && enc->tok->tokens[id].type == FM_TOKEN_UNUSED;
        if (unused && enc->splits[id] > 0 && enc->splits[id] < bytes) {
            uint32_t left = enc->splits[id];
            r = fm_array_reserve((void **)&enc->pending, &enc->pending_cap, depth + 2, sizeof(*enc->pending));
            if (r != FM_OK)
                return r;
            enc->pending[depth++] = begin + left;
            enc->pending[depth++] = bytes - left;
            bytes = left;
            continue;
        }
        r = id == FM_TOKEN_NONE ? fm_spm_emit_unknown(enc, text + begin, bytes) : fm_encoder_emit(enc, id);
        if (r != FM_OK || depth == 0)
            return r;
        bytes = enc->pending[--depth];
        begin = enc->pending[--depth];
    }
}

// Emit what the symbols became. *out_known = false when one of them is no token.
static enum fm_result emit_symbols(struct fm_encoder *enc, bool *out_known)
{
    enum fm_result r = FM_OK;
    for (uint32_t i = 0; r == FM_OK && i != FM_SYMBOL_NONE; i = enc->merge.symbols[i].next) {
        const struct fm_symbol *symbol = &enc->merge.symbols[i];
        *out_known = *out_known && fm_encoder_span(enc, enc->buffer + symbol->begin, symbol->bytes) != FM_TOKEN_NONE;
        r = symbol->frozen ? fm_encoder_emit(enc, symbol->id) : emit_span(enc, symbol->begin, symbol->bytes);
        if (r == FM_OK)
            r = fm_encoder_poll(enc, 1);
    }
    return r;
}

static enum fm_result emit_word(struct fm_encoder *enc, const struct fm_word *word)
{
    enum fm_result r = FM_OK;
    for (unsigned i = 0; r == FM_OK && i < word->count; i++)
        r = fm_encoder_emit(enc, word->ids[i]);
    fm_merge_reset(&enc->merge);
    return r;
}

// Merge the symbols that were pushed, and emit what they became. Of a text that is cut, a stretch without user-defined tokens
// always becomes the same; what unknown characters become depends on the one before.
static enum fm_result flush(struct fm_encoder *enc)
{
    const size_t symbols = enc->merge.count, before = enc->count;
    if (symbols == 0)
        return FM_OK;
    const struct fm_symbol *first = &enc->merge.symbols[0], *last = &enc->merge.symbols[symbols - 1];
    const char *text = enc->buffer + first->begin;
    const size_t bytes = last->begin + last->bytes - first->begin;
    bool known = enc->tok->bigrams.bits != NULL && symbols > 1 && !first->frozen;
    const struct fm_word *word = known ? fm_word_cache_get(&enc->words, text, bytes) : NULL;
    if (word != NULL)
        return emit_word(enc, word);
    enum fm_result r = symbols > 1 ? fm_merge_run(&enc->merge, enc->buffer, join, enc) : FM_OK;
    if (r == FM_OK)
        r = emit_symbols(enc, &known);
    fm_merge_reset(&enc->merge);
    if (r == FM_OK && known)
        r = fm_word_cache_put(&enc->words, text, bytes, enc->ids + before, enc->count - before);
    return r;
}

// The symbol at `at`: a user-defined token, or one character. Symbols before a place that no token reaches across are merged
// first. *point is the character before, and becomes this one.
static enum fm_result push_symbol(struct fm_encoder *enc, size_t at, uint32_t *point, size_t *out_bytes)
{
    const struct fm_tokenizer *tok = enc->tok;
    const struct fm_matcher_entry *entry;
    const bool cuts = tok->bigrams.bits != NULL;
    enum fm_result r = fm_match_walk_at(&enc->user, at, &entry);
    if (r != FM_OK)
        return r;
    if (entry != NULL && !fm_encoder_is_text_at(enc, entry->id, enc->typed, at, at + entry->bytes)) {
        *out_bytes = entry->bytes;
        r = cuts ? flush(enc) : FM_OK;
        return r == FM_OK ? fm_merge_push(&enc->merge, (uint32_t)at, entry->bytes, entry->id, true) : r;
    }
    const uint32_t left = *point;
    // A user-defined token may end within a character.
    const bool whole = fm_utf8_next(enc->buffer + at, enc->buffer_bytes - at, out_bytes) == FM_UTF8_CHAR;
    *point = whole ? fm_unicode_point(enc->buffer + at, out_bytes) : UINT32_MAX;
    if (cuts && enc->merge.count > 0 &&
        (enc->merge.symbols[enc->merge.count - 1].frozen || !fm_bigrams_may_join(&tok->bigrams, left, *point)))
        r = flush(enc);
    return r == FM_OK ? fm_merge_push(&enc->merge, (uint32_t)at, (uint32_t)*out_bytes, FM_TOKEN_NONE, false) : r;
}

enum fm_result fm_spm_merge(struct fm_encoder *enc, const struct fm_matcher *user)
{
    const struct fm_tokenizer *tok = enc->tok;
    enum fm_result r = FM_OK;
    size_t length;
    uint32_t point = 0;
    if (tok->has_unused && enc->splits == NULL) {
        enc->splits = fm_alloc_zero(tok->vocab, sizeof(*enc->splits));
        if (enc->splits == NULL)
            return fm_nomem();
    }
    fm_merge_reset(&enc->merge);
    fm_match_walk_start(&enc->user, user, enc->buffer, enc->buffer_bytes);
    for (size_t at = 0; r == FM_OK && at < enc->buffer_bytes; at += length) {
        r = push_symbol(enc, at, &point, &length);
        if (r == FM_OK)
            r = fm_encoder_poll(enc, length);
    }
    return r == FM_OK ? flush(enc) : r;
}

enum fm_result fm_spm_encode(struct fm_encoder *enc, const char *text, size_t text_bytes)
{
    if (text_bytes == 0)
        return FM_OK;
    enum fm_result r = escape(enc, text, text_bytes, &enc->buffer_bytes);
    return r == FM_OK ? fm_spm_merge(enc, user_tokens(enc)) : r;
}
