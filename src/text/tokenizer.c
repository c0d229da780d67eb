// SPDX-License-Identifier: MIT
// Making a tokenizer from a file, and text to ids. The way back is decode.c.
#include "text/pipeline.h"

#define MAX_TEXT_BYTES ((size_t)1 << 30)

struct model {
    const char *name; // tokenizer.ggml.model
    enum fm_tokenizer_kind kind;
    enum fm_result (*create)(const struct fm_file *file, struct fm_tokenizer *tok);
    enum fm_result (*encode)(struct fm_encoder *enc, const char *text, size_t text_bytes);
};

static const struct model models[] = {
    [FM_TOKENIZER_SPM] = {"llama", FM_TOKENIZER_SPM, fm_spm_create, fm_spm_encode},
    [FM_TOKENIZER_BPE] = {"gpt2", FM_TOKENIZER_BPE, fm_bpe_create, fm_bpe_encode},
};

static bool equals(struct fm_text text, const char *name)
{
    return text.bytes == strlen(name) && memcmp(text.data, name, (size_t)text.bytes) == 0;
}

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
    if (name.data == NULL || equals(name, "none") || equals(name, "no_vocab")) {
        *out_tok = NULL;
        return FM_OK;
    }
    for (size_t i = 0; i < FM_COUNT(models); i++) {
        if (equals(name, models[i].name))
            return create(file, &models[i], out_tok);
    }
    return fm_fail(
        FM_UNSUPPORTED,
        "%s: metadata 'tokenizer.ggml.model': '%.*s' is not supported, supported are: llama gpt2 none no_vocab",
        fm_file_path(file), (int)FM_MIN(name.bytes, (uint64_t)64), name.data);
}

void fm_tokenizer_destroy(struct fm_tokenizer **tok)
{
    if (tok == NULL || *tok == NULL)
        return;
    fm_map_finish(&(*tok)->spans);
    fm_map_finish(&(*tok)->ranks);
    fm_matcher_finish(&(*tok)->special);
    fm_matcher_finish(&(*tok)->user);
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

static void encoder_finish(struct fm_encoder *enc)
{
    fm_merge_finish(&enc->merge);
    fm_pretok_scratch_destroy(&enc->scratch);
    fm_free(enc->buffer);
    fm_free(enc->normal.data);
    fm_free(enc->splits);
    fm_free(enc->pending);
    fm_free(enc->ids);
}

// The text between tokens that are matched as they stand, then those tokens. SPM matches user-defined tokens after its
// escaping.
static enum fm_result encode_all(struct fm_encoder *enc, const char *text, size_t text_bytes, bool special)
{
    static const struct fm_matcher nothing;
    const struct fm_tokenizer *tok = enc->tok;
    const struct fm_matcher *plain = tok->kind == FM_TOKENIZER_SPM ? &nothing : &tok->user;
    const struct fm_matcher *matcher = special ? &tok->special : plain;
    enum fm_result r = FM_OK;
    size_t at = 0;
    while (r == FM_OK && at < text_bytes) {
        size_t begin = text_bytes - at, bytes = 0;
        uint32_t id = FM_TOKEN_NONE;
        bool found = fm_matcher_find(matcher, text + at, text_bytes - at, &begin, &id, &bytes);
        if (begin > 0)
            r = models[tok->kind].encode(enc, text + at, begin);
        if (r == FM_OK && found)
            r = fm_encoder_emit(enc, id);
        at += begin + bytes;
    }
    return r;
}

enum fm_result fm_tokenizer_encode(const struct fm_tokenizer *tok, const char *text, size_t text_bytes, unsigned flags,
                                   uint32_t **out_ids, size_t *out_count)
{
    struct fm_encoder enc = {.tok = tok};
    if (text_bytes > MAX_TEXT_BYTES)
        return fm_fail(FM_ARG, "text of %zu bytes to encode, expected at most %zu", text_bytes, MAX_TEXT_BYTES);
    // Room for one id, so that even an empty result is an array.
    enum fm_result r = fm_array_reserve((void **)&enc.ids, &enc.ids_cap, 1, sizeof(*enc.ids));
    if (r == FM_OK && (flags & FM_ENCODE_BOS) && tok->add_bos && tok->bos != FM_TOKEN_NONE)
        r = fm_encoder_emit(&enc, tok->bos);
    if (r == FM_OK)
        r = (tok->pipeline != NULL ? fm_pipeline_encode : encode_all)(&enc, text, text_bytes, (flags & FM_ENCODE_SPECIAL) != 0);
    if (r == FM_OK) {
        *out_ids = enc.ids;
        *out_count = enc.count;
        enc.ids = NULL;
    }
    encoder_finish(&enc);
    return r;
}

void fm_tokens_free(uint32_t *ids)
{
    fm_free(ids);
}
