// SPDX-License-Identifier: MIT
// Making a tokenizer from a file, and text to ids. The way back is decode.c.
#include "text/pipeline.h"

#define MAX_TEXT_BYTES ((size_t)1 << 30)
#define POLL_WORK 8192 // steps between two questions whether to go on: well below a millisecond

struct model {
    const char *name; // tokenizer.ggml.model
    enum fm_tokenizer_kind kind;
    enum fm_result (*create)(const struct fm_file *file, struct fm_tokenizer *tok);
    enum fm_result (*encode)(struct fm_encoder *enc, const char *text, size_t text_bytes);
};

static const struct model models[] = {
    [FM_TOKENIZER_SPM] = {"llama", FM_TOKENIZER_SPM, fm_spm_create, fm_spm_encode},
    [FM_TOKENIZER_BPE] = {"gpt2", FM_TOKENIZER_BPE, fm_bpe_create, fm_bpe_encode},
    [FM_TOKENIZER_CHAR_BPE] = {"gemma4", FM_TOKENIZER_CHAR_BPE, fm_char_bpe_create, fm_char_bpe_encode},
};

static enum fm_result create(const struct fm_file *file, const struct model *model, struct fm_tokenizer **out_tok)
{
    struct fm_tokenizer *tok = fm_alloc_zero(1, sizeof(*tok));
    if (tok == NULL)
        return fm_nomem();
    tok->kind = model->kind;
    enum fm_result r = fm_vocab_read(file, tok);
    if (r == FM_OK)
        r = fm_pipeline_read(file, tok);
    if (r == FM_OK)
        r = model->create(file, tok);
    if (r == FM_OK)
        r = fm_pipeline_prepare(file, tok);
    if (r == FM_OK)
        r = fm_chat_detect(file, tok);
    if (r != FM_OK) {
        fm_tokenizer_destroy(&tok);
        return r;
    }
    for (uint32_t id = 0; id < tok->vocab; id++)
        tok->max_piece_bytes =
            FM_MAX(tok->max_piece_bytes, FM_MAX(tok->tokens[id].piece_bytes, tok->tokens[id].text_bytes));
    if (tok->add_bos && tok->bos == FM_TOKEN_NONE)
        fm_log(FM_LOG_WARN,
               "%s: texts of this tokenizer begin with a BOS token, but tokenizer.ggml.bos_token_id is missing",
               fm_file_path(file));
    *out_tok = tok;
    return FM_OK;
}

enum fm_result fm_tokenizer_create(const struct fm_file *file, struct fm_tokenizer **out_tok)
{
    struct fm_text name;
    enum fm_result r = fm_meta_string(file, "tokenizer.ggml.model", false, &name);
    if (r != FM_OK)
        return r;
    if (name.data == NULL || fm_text_equals(name, "none") || fm_text_equals(name, "no_vocab")) {
        *out_tok = NULL;
        return FM_OK;
    }
    for (size_t i = 0; i < FM_COUNT(models); i++) {
        if (fm_text_equals(name, models[i].name))
            return create(file, &models[i], out_tok);
    }
    return fm_fail(
        FM_UNSUPPORTED,
        "%s: metadata 'tokenizer.ggml.model': '%s' is not supported, supported are: llama gpt2 gemma4 none no_vocab",
        fm_file_path(file), FM_QUOTE_TEXT(name));
}

enum fm_result fm_tokenizer_open(const char *path, struct fm_tokenizer **out_tok)
{
    struct fm_file *file = NULL;
    *out_tok = NULL;
    enum fm_result r = fm_file_open(path, &file);
    if (r == FM_OK)
        r = fm_tokenizer_create(file, out_tok);
    if (r == FM_OK && *out_tok == NULL)
        r = fm_fail(FM_UNSUPPORTED, "%s: has no tokenizer", fm_file_path(file));
    fm_file_close(&file);
    return r;
}

void fm_tokenizer_close(struct fm_tokenizer **tok)
{
    fm_tokenizer_destroy(tok);
}

void fm_tokenizer_destroy(struct fm_tokenizer **tok)
{
    if (tok == NULL || *tok == NULL)
        return;
    fm_map_finish(&(*tok)->spans);
    fm_map_finish(&(*tok)->ranks);
    fm_matcher_finish(&(*tok)->special);
    fm_matcher_finish(&(*tok)->user);
    fm_matcher_finish(&(*tok)->plain);
    fm_bigrams_finish(&(*tok)->bigrams);
    fm_pretok_destroy(&(*tok)->pretok);
    fm_pipeline_destroy(&(*tok)->pipeline);
    fm_arena_finish(&(*tok)->arena);
    fm_free(*tok);
    *tok = NULL;
}

enum fm_result fm_encoder_emit(struct fm_encoder *enc, uint32_t id)
{
    enum fm_result r = fm_array_reserve((void **)&enc->ids, &enc->ids_cap, enc->count + 1, sizeof(*enc->ids));
    if (r == FM_OK)
        enc->ids[enc->count++] = id;
    return r;
}

enum fm_result fm_encoder_poll(struct fm_encoder *enc, size_t work)
{
    if (enc == NULL)
        return FM_OK;
    enc->work += (unsigned)FM_MIN(work, (size_t)POLL_WORK);
    if (enc->work < POLL_WORK || enc->cancel == NULL)
        return FM_OK;
    enc->work = 0;
    return enc->cancel(enc->cancel_user) ? fm_fail(FM_CANCELLED, "cancelled while a text was turned into tokens") : FM_OK;
}

static enum fm_result poll_merges(void *user)
{
    return fm_encoder_poll(user, POLL_WORK);
}

static void encoder_finish(struct fm_encoder *enc)
{
    fm_merge_finish(&enc->merge);
    fm_word_cache_finish(&enc->words);
    fm_match_walk_finish(&enc->special);
    fm_match_walk_finish(&enc->template_special);
    fm_match_walk_finish(&enc->template_user);
    fm_match_walk_finish(&enc->user);
    fm_pretok_scratch_destroy(&enc->scratch);
    fm_free(enc->buffer);
    fm_free(enc->typed);
    fm_buffer_finish(&enc->normal);
    fm_free(enc->splits);
    fm_free(enc->pending);
    fm_free(enc->ids);
}

// The next token at or after `from` that is matched as it stands; *out_begin is the end of the text where none is.
static enum fm_result next_match(struct fm_encoder *enc, size_t from, size_t *out_begin,
                                 const struct fm_matcher_entry **out_entry)
{
    struct fm_match_walk *walk = &enc->special;
    enum fm_result r = FM_OK;
    *out_entry = NULL;
    *out_begin = from;
    while (r == FM_OK && *out_entry == NULL && *out_begin < walk->text_bytes) {
        size_t step = FM_MIN(walk->text_bytes - *out_begin, (size_t)POLL_WORK);
        r = fm_match_walk_next(walk, *out_begin, *out_begin + step, out_begin, out_entry);
        if (r == FM_OK && walk->matcher->count > 0)
            r = fm_encoder_poll(enc, step);
    }
    return r;
}

// The text between tokens that are matched as they stand, then those tokens. SPM matches user-defined tokens after its
// escaping.
static enum fm_result encode_all(struct fm_encoder *enc, const char *text, size_t text_bytes)
{
    static const struct fm_matcher nothing;
    const struct fm_tokenizer *tok = enc->tok;
    const struct fm_matcher *plain = tok->kind == FM_TOKENIZER_SPM ? &nothing : &tok->plain;
    const struct fm_matcher *matcher = enc->plain ? plain : &tok->special;
    enum fm_result r = FM_OK;
    fm_match_walk_start(&enc->special, matcher, text, text_bytes);
    for (size_t at = 0; r == FM_OK && at < text_bytes;) {
        const struct fm_matcher_entry *entry = NULL;
        size_t begin = text_bytes;
        r = next_match(enc, at, &begin, &entry);
        if (r == FM_OK && begin > at)
            r = models[tok->kind].encode(enc, text + at, begin - at);
        if (r == FM_OK && entry != NULL)
            r = fm_encoder_emit(enc, entry->id);
        at = begin + (entry != NULL ? entry->bytes : 0);
    }
    return r;
}

enum fm_result fm_tokenizer_encode(const struct fm_tokenizer *tok, const char *text, size_t text_bytes, unsigned flags,
                                   uint32_t **out_ids, size_t *out_count)
{
    return fm_tokenizer_encode_until(tok, text, text_bytes, flags, NULL, NULL, out_ids, out_count);
}

// `mixed` with its text, or NULL.
static enum fm_result encode(const struct fm_tokenizer *tok, const char *text, size_t text_bytes, const struct fm_mixed_text *mixed,
                             unsigned flags, fm_cancel_fn *cancel, void *user, uint32_t **out_ids, size_t *out_count)
{
    static const struct fm_matcher nothing;
    struct fm_encoder enc = {.tok = tok, .mixed = mixed, .cancel = cancel, .cancel_user = user,
                             .plain = mixed == NULL && (flags & FM_ENCODE_SPECIAL) == 0};
    enc.merge.priorities = FM_MAX(tok->priorities, 1u);
    enc.merge.poll = poll_merges;
    enc.merge.poll_user = &enc;
    if (text_bytes > MAX_TEXT_BYTES)
        return fm_fail(FM_ARG, "text of %zu bytes to encode, expected at most %zu", text_bytes, MAX_TEXT_BYTES);
    // Room for one id, so that even an empty result is an array.
    enum fm_result r = fm_array_reserve((void **)&enc.ids, &enc.ids_cap, 1, sizeof(*enc.ids));
    if (r == FM_OK && (flags & FM_ENCODE_BOS) && fm_tokenizer_adds_bos(tok))
        r = fm_encoder_emit(&enc, tok->bos);
    if (r == FM_OK && tok->pipeline != NULL)
        r = fm_pipeline_encode(&enc, text, text_bytes);
    else if (r == FM_OK && mixed != NULL)
        r = fm_encoder_mixed(&enc, tok->kind == FM_TOKENIZER_SPM ? &nothing : &tok->plain, models[tok->kind].encode);
    else if (r == FM_OK)
        r = encode_all(&enc, text, text_bytes);
    if (r == FM_OK) {
        *out_ids = enc.ids;
        *out_count = enc.count;
        enc.ids = NULL;
    }
    encoder_finish(&enc);
    return r;
}

enum fm_result fm_tokenizer_encode_until(const struct fm_tokenizer *tok, const char *text, size_t text_bytes,
                                         unsigned flags, fm_cancel_fn *cancel, void *user, uint32_t **out_ids,
                                         size_t *out_count)
{
    return encode(tok, text, text_bytes, NULL, flags, cancel, user, out_ids, out_count);
}

enum fm_result fm_tokenizer_encode_mixed(const struct fm_tokenizer *tok, const struct fm_mixed_text *mixed, fm_cancel_fn *cancel,
                                         void *user, uint32_t **out_ids, size_t *out_count)
{
    return encode(tok, mixed->text, mixed->bytes, mixed, FM_ENCODE_BOS, cancel, user, out_ids, out_count);
}

void fm_tokens_free(uint32_t *ids)
{
    fm_free(ids);
}
