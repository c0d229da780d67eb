// SPDX-License-Identifier: MIT
// Which tokenizer a folder has, and the keys that describe it.
#include "convert/vocab_steps.h"

#include <stdio.h>
#include <sys/stat.h>

#include "base/os.h"
#include "text/added.h"

#define MODEL_BYTES_MAX ((size_t)64 << 20)
#define TEMPLATE_BYTES_MAX ((size_t)1 << 20)
#define ADDED_SCORE -1000.0f // of tokens that no training scored
#define ENDS_MAX 64

enum fm_result fm_vocab_set(struct fm_vocab *vocab, const char *path, uint32_t id, struct fm_text text, float score, int32_t type,
                            bool replace)
{
    if (id >= vocab->count) {
        vocab->past_end++;
        return FM_OK;
    }
    struct fm_text *entry = &vocab->texts[id];
    bool same = entry->data != NULL && entry->bytes == text.bytes && memcmp(entry->data, text.data, (size_t)text.bytes) == 0;
    if (entry->data != NULL && !same && !replace)
        return fm_fail(FM_FORMAT, "%s: id %u is both '%s' and '%s'", path, id, FM_QUOTE_TEXT(*entry),
                       FM_QUOTE_TEXT(text));
    *entry = text;
    if (!same)
        vocab->scores[id] = score;
    vocab->types[id] = type;
    return FM_OK;
}

struct fm_text fm_vocab_text(const char *text)
{
    return (struct fm_text){.data = text, .bytes = strlen(text)};
}

// ---- tokens that were added to a SentencePiece model ----------------------------------------------------------------

static enum fm_result add_listed(struct fm_vocab *vocab, const struct fm_conf *added)
{
    enum fm_result r = FM_OK;
    for (const cJSON *item = added->root != NULL ? added->root->child : NULL; r == FM_OK && item != NULL; item = item->next) {
        uint32_t id;
        if (!fm_conf_whole(item, FM_HF_SIZE_MAX, &id))
            return fm_fail(FM_FORMAT, "%s: the id of '%s': expected a whole number up to %u", added->path,
                           FM_QUOTE_Z(item->string), FM_HF_SIZE_MAX);
        bool known = id < vocab->count && vocab->texts[id].data != NULL;
        int32_t type = known ? vocab->types[id] : FM_PIECE_USER;
        r = fm_vocab_set(vocab, added->path, id, fm_vocab_text(item->string), ADDED_SCORE, type, false);
        if (r == FM_OK && id < vocab->count && vocab->flags[id] == 0)
            vocab->flags[id] = FM_ADDED | (id < vocab->n_pieces ? FM_ADDED_PIECE : 0);
    }
    return r;
}

enum fm_result fm_vocab_decoder_entry(const struct fm_conf *config, const cJSON *item, uint32_t *out_id, const char **out_content)
{
    const char *digit = item->string;
    uint32_t id = 0;
    *out_content = fm_vocab_string_of(item, "content");
    while (*digit >= '0' && *digit <= '9' && id <= FM_HF_SIZE_MAX)
        id = 10 * id + (uint32_t)(*digit++ - '0');
    if (digit == item->string || *digit != '\0' || id > FM_HF_SIZE_MAX || *out_content == NULL)
        return fm_fail(FM_FORMAT, "%s: 'added_tokens_decoder': '%s' is no id up to %u with 'content'", config->path,
                       FM_QUOTE_Z(item->string), FM_HF_SIZE_MAX);
    *out_id = id;
    return FM_OK;
}

static enum fm_result add_decoder(struct fm_vocab *vocab, const struct fm_conf *config)
{
    const cJSON *table = NULL, *item;
    enum fm_result r = config->root != NULL ? fm_conf_object(config, "added_tokens_decoder", false, &table) : FM_OK;
    if (r != FM_OK || table == NULL)
        return r;
    cJSON_ArrayForEach(item, table)
    {
        uint32_t id;
        const char *content;
        if ((r = fm_vocab_decoder_entry(config, item, &id, &content)) != FM_OK)
            return r;
        bool special = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(item, "special"));
        int32_t type = special ? FM_PIECE_CONTROL : FM_PIECE_USER;
        if (id < vocab->count && vocab->types[id] == FM_PIECE_UNKNOWN)
            type = FM_PIECE_UNKNOWN;
        if (id < vocab->count && vocab->types[id] == FM_PIECE_BYTE)
            type = FM_PIECE_BYTE;
        bool piece = id < vocab->n_pieces;
        if ((r = fm_vocab_set(vocab, config->path, id, fm_vocab_text(content), ADDED_SCORE, type, true)) != FM_OK)
            return r;
        // "normalized" is of the other library: here tokens are looked for in the text as it stands.
        if (id < vocab->count)
            vocab->flags[id] = (fm_vocab_flags_of(item) & ~(uint32_t)FM_ADDED_NORMALIZED) | (piece ? FM_ADDED_PIECE : 0);
    }
    return FM_OK;
}

// ---- special tokens -------------------------------------------------------------------------------------------------

// The token's text in tokenizer_config.json or special_tokens_map.json: a string, or an object with "content".
static const char *token_text(const struct fm_vocab_files *files, const char *key)
{
    const cJSON *item = files->config.root != NULL ? fm_conf_get(&files->config, NULL, key) : NULL;
    if (item == NULL && files->special.root != NULL)
        item = fm_conf_get(&files->special, NULL, key);
    if (cJSON_IsObject(item))
        item = cJSON_GetObjectItemCaseSensitive(item, "content");
    return cJSON_IsString(item) ? item->valuestring : NULL;
}

static uint32_t id_of(const struct fm_vocab *vocab, const char *text)
{
    size_t bytes = strlen(text);
    for (uint32_t id = 0; id < vocab->count; id++)
        if (vocab->texts[id].data != NULL && vocab->texts[id].bytes == bytes && memcmp(vocab->texts[id].data, text, bytes) == 0)
            return id;
    return FM_NO_ID;
}

// A number, or the first of a list that is the id of a row.
static uint32_t id_in(const struct fm_conf *json, const char *key, uint32_t count)
{
    const cJSON *item = json->root != NULL ? fm_conf_get(json, NULL, key) : NULL, *entry;
    uint32_t id;
    if (count == 0)
        return FM_NO_ID;
    if (cJSON_IsArray(item)) {
        cJSON_ArrayForEach(entry, item)
        {
            if (fm_conf_whole(entry, count - 1, &id))
                return id;
        }
        return FM_NO_ID;
    }
    return fm_conf_whole(item, count - 1, &id) ? id : FM_NO_ID;
}

// All tokens that end an answer, where there are more than the one of eos_token_id: those of the tokenizer, of
// generation_config.json and of config.json.
static enum fm_result put_ends(struct fm_hf *hf, const struct fm_vocab *vocab, uint32_t eos)
{
    const struct fm_conf *const jsons[] = {&hf->generation, &hf->config};
    uint32_t ids[ENDS_MAX], count = 0;
    if (eos != FM_NO_ID)
        ids[count++] = eos;
    for (size_t i = 0; i < FM_COUNT(jsons); i++) {
        const cJSON *item = jsons[i]->root != NULL ? fm_conf_get(jsons[i], NULL, "eos_token_id") : NULL;
        for (item = cJSON_IsArray(item) ? item->child : item; item != NULL; item = item->next) {
            uint32_t id, k = 0;
            if (!fm_conf_whole(item, FM_HF_SIZE_MAX, &id))
                return fm_fail(FM_FORMAT, "%s: 'eos_token_id': expected a whole number or a list of them", jsons[i]->path);
            if (id >= vocab->count)
                fm_log(FM_LOG_WARN, "%s: 'eos_token_id' %u has no row in the embedding of %u and was left out", jsons[i]->path, id,
                       vocab->count);
            while (k < count && ids[k] != id)
                k++;
            if (k == ENDS_MAX)
                return fm_fail(FM_UNSUPPORTED, "%s: 'eos_token_id': more than %d tokens", jsons[i]->path, ENDS_MAX);
            if (k == count && id < vocab->count)
                ids[count++] = id;
            if (!cJSON_IsArray(fm_conf_get(jsons[i], NULL, "eos_token_id")))
                break; // what follows is the next key
        }
    }
    if (count > 1)
        fm_gguf_put_array(hf->conv->writer, "tokenizer.ggml.eos_token_ids", FM_GGUF_U32, ids, count);
    return FM_OK;
}

static enum fm_result put_special(struct fm_hf *hf, struct fm_vocab *vocab, const struct fm_vocab_files *files)
{
    const struct {
        const char *token, *id, *key;
        uint32_t model;
    } rows[] = {{"bos_token", "bos_token_id", "tokenizer.ggml.bos_token_id", vocab->bos},
                {"eos_token", "eos_token_id", "tokenizer.ggml.eos_token_id", vocab->eos},
                {"unk_token", "unk_token_id", "tokenizer.ggml.unknown_token_id", vocab->unk},
                {"pad_token", "pad_token_id", "tokenizer.ggml.padding_token_id", vocab->pad}};
    uint32_t eos = FM_NO_ID;
    for (size_t i = 0; i < FM_COUNT(rows); i++) {
        const char *text = token_text(files, rows[i].token);
        uint32_t id = text != NULL ? id_of(vocab, text) : FM_NO_ID;
        if (id == FM_NO_ID)
            id = id_in(&hf->config, rows[i].id, vocab->count);
        if (id == FM_NO_ID)
            id = id_in(&hf->generation, rows[i].id, vocab->count);
        if (id == FM_NO_ID)
            id = rows[i].model;
        if (id != FM_NO_ID)
            fm_gguf_put_u32(hf->conv->writer, rows[i].key, id);
        if (i == 0)
            vocab->bos = id;
        eos = i == 1 ? id : eos;
    }
    return put_ends(hf, vocab, eos);
}

// The token that a template puts in front of texts has to be BOS, which is what is put there later; where no file names a BOS,
// it becomes that.
static enum fm_result check_front(struct fm_hf *hf, const struct fm_vocab *vocab, const struct fm_conf *tokenizer,
                                  const struct fm_vocab_front *front)
{
    uint32_t id = front->id != FM_NO_ID ? front->id : id_of(vocab, front->token);
    if (id >= vocab->count)
        return fm_fail(FM_FORMAT, "%s: post_processor 'TemplateProcessing' puts '%s' in front of a text, which is no token with a row",
                       tokenizer->path, FM_QUOTE_Z(front->token));
    if (vocab->bos != FM_NO_ID && vocab->bos != id)
        return fm_fail(FM_UNSUPPORTED,
                       "%s: post_processor 'TemplateProcessing' puts '%s' (%u) in front of a text, but the BOS is '%s' (%u): name the "
                       "one that holds as 'bos_token' of tokenizer_config.json",
                       tokenizer->path, FM_QUOTE_TEXT(vocab->texts[id]), id, FM_QUOTE_TEXT(vocab->texts[vocab->bos]), vocab->bos);
    if (vocab->bos == FM_NO_ID)
        fm_gguf_put_u32(hf->conv->writer, "tokenizer.ggml.bos_token_id", id);
    return FM_OK;
}

static enum fm_result put_flags(struct fm_hf *hf, const struct fm_vocab *vocab, const struct fm_vocab_files *files)
{
    static const struct {
        const char *from, *to;
    } rows[] = {{"add_bos_token", "tokenizer.ggml.add_bos_token"}, {"add_eos_token", "tokenizer.ggml.add_eos_token"}};
    for (size_t i = 0; i < FM_COUNT(rows); i++) {
        const cJSON *item = files->config.root != NULL ? fm_conf_get(&files->config, NULL, rows[i].from) : NULL;
        bool known = cJSON_IsBool(item), value = cJSON_IsTrue(item);
        if (item != NULL && !known)
            return fm_fail(FM_FORMAT, "%s: '%s': expected true or false", files->config.path, rows[i].from);
        if (!known && i == 0 && files->tokenizer.root != NULL) {
            struct fm_vocab_front front;
            enum fm_result r = fm_vocab_read_front(&files->tokenizer, &front);
            known = front.known;
            value = front.token != NULL;
            if (r == FM_OK && value)
                r = check_front(hf, vocab, &files->tokenizer, &front);
            if (r != FM_OK)
                return r;
        }
        if (known)
            fm_gguf_put_bool(hf->conv->writer, rows[i].to, value);
    }
    if (vocab->spm)
        fm_gguf_put_bool(hf->conv->writer, "tokenizer.ggml.add_space_prefix", vocab->add_space_prefix);
    return FM_OK;
}

// chat_template of tokenizer_config.json: a text, or a list of named ones, of which "default" is taken.
static void put_template(struct fm_hf *hf, const struct fm_vocab_files *files)
{
    const cJSON *item = files->config.root != NULL ? fm_conf_get(&files->config, NULL, "chat_template") : NULL, *entry;
    const char *text = cJSON_IsString(item) ? item->valuestring : NULL;
    if (cJSON_IsArray(item))
        cJSON_ArrayForEach(entry, item)
        {
            const cJSON *name = cJSON_GetObjectItemCaseSensitive(entry, "name");
            const cJSON *body = cJSON_GetObjectItemCaseSensitive(entry, "template");
            if (cJSON_IsString(name) && cJSON_IsString(body) && strcmp(name->valuestring, "default") == 0)
                text = body->valuestring;
        }
    if (text == NULL)
        text = files->chat_template;
    if (text != NULL)
        fm_gguf_put_string(hf->conv->writer, "tokenizer.chat_template", text);
}

// ---- all of it ------------------------------------------------------------------------------------------------------

// Rows without a token, so that there are as many tokens as rows.
static enum fm_result fill_gaps(struct fm_vocab *vocab)
{
    for (uint32_t id = 0; id < vocab->count; id++) {
        if (vocab->texts[id].data != NULL)
            continue;
        const char *name = fm_arena_printf(vocab->arena, "[PAD%u]", id);
        if (name == NULL)
            return fm_nomem();
        vocab->texts[id] = fm_vocab_text(name);
        vocab->scores[id] = ADDED_SCORE;
        vocab->types[id] = FM_PIECE_UNUSED;
    }
    return FM_OK;
}

static enum fm_result read_model(struct fm_vocab *vocab, const struct fm_vocab_files *files)
{
    enum fm_result r = fm_vocab_read_spm(vocab, files->model, files->model_bytes, files->model_path);
    if (r != FM_OK)
        return r;
    // Control pieces are looked for in texts, as all other tokenizers have it.
    for (uint32_t id = 0; id < vocab->count; id++)
        if (vocab->types[id] == FM_PIECE_CONTROL || vocab->types[id] == FM_PIECE_UNKNOWN)
            vocab->flags[id] = FM_ADDED | FM_ADDED_PIECE;
    r = add_listed(vocab, &files->added);
    return r == FM_OK ? add_decoder(vocab, &files->config) : r;
}

// SentencePiece's own rules, of tokenizer.model.
static enum fm_result put_rules(struct fm_hf *hf, const struct fm_vocab *vocab, const struct fm_vocab_files *files)
{
    struct fm_gguf_writer *w = hf->conv->writer;
    bool legacy = true;
    enum fm_result r = files->config.root != NULL ? fm_conf_bool(&files->config, "legacy", true, &legacy) : FM_OK;
    if (r != FM_OK)
        return r;
    fm_gguf_put_string(w, "fulmen.tokenizer.pipeline", "sentencepiece");
    // Since a correction in the library, which "legacy" takes back, only the whole text has a space in front.
    if (!legacy)
        fm_gguf_put_string(w, "fulmen.tokenizer.metaspace", "first");
    if (vocab->remove_extra)
        fm_gguf_put_bool(w, "tokenizer.ggml.remove_extra_whitespaces", true);
    if (vocab->space_suffix)
        fm_gguf_put_bool(w, "fulmen.tokenizer.space_suffix", true);
    if (vocab->charsmap.bytes > 0)
        fm_gguf_put_array(w, "tokenizer.ggml.precompiled_charsmap", FM_GGUF_U8, vocab->charsmap.data, vocab->charsmap.bytes);
    return FM_OK;
}

static void put_tokens(struct fm_hf *hf, const struct fm_vocab *vocab, bool flags)
{
    struct fm_gguf_writer *w = hf->conv->writer;
    if (vocab->past_end > 0)
        fm_log(FM_LOG_WARN, "%s: %u tokens have no row in the embedding of %u and were left out", hf->folder, vocab->past_end,
               vocab->count);
    fm_gguf_put_texts(w, "tokenizer.ggml.tokens", vocab->texts, vocab->count);
    if (vocab->spm)
        fm_gguf_put_array(w, "tokenizer.ggml.scores", FM_GGUF_F32, vocab->scores, vocab->count);
    fm_gguf_put_array(w, "tokenizer.ggml.token_type", FM_GGUF_I32, vocab->types, vocab->count);
    if (flags)
        fm_gguf_put_array(w, "fulmen.tokenizer.added_flags", FM_GGUF_U32, vocab->flags, vocab->count);
}

// Does a file of byte-level BPE need the flags? Tokens that are simply found in the text are told by their type.
static bool needs_flags(const struct fm_vocab *vocab)
{
    bool needed = false;
    for (uint32_t id = 0; id < vocab->count; id++)
        needed = needed || (vocab->flags[id] & ~(uint32_t)(FM_ADDED | FM_ADDED_PIECE)) != 0;
    return needed;
}

static enum fm_result put_json(struct fm_hf *hf, struct fm_vocab *vocab, const struct fm_conf *tokenizer)
{
    struct fm_gguf_writer *w = hf->conv->writer;
    struct fm_vocab_steps steps;
    const char *pre = "default";
    enum fm_result r = fm_vocab_check_model(tokenizer, !vocab->spm);
    if (r == FM_OK)
        r = fm_vocab_read_normalizers(tokenizer, &steps);
    if (r == FM_OK)
        r = vocab->spm ? fm_vocab_read_metaspace(tokenizer, &steps) : fm_vocab_read_pre(tokenizer, hf->pre, &steps, &pre);
    if (r != FM_OK)
        return r;
    fm_gguf_put_string(w, "tokenizer.ggml.model", vocab->spm ? "llama" : "gpt2");
    fm_gguf_put_string(w, "tokenizer.ggml.pre", pre);
    r = fm_vocab_read_json(hf, vocab, tokenizer);
    if (r == FM_OK)
        r = fill_gaps(vocab);
    if (r != FM_OK)
        return r;
    vocab->add_space_prefix = steps.prepends_space || (steps.metaspace != NULL && strcmp(steps.metaspace, "never") != 0);
    bool flags = vocab->spm || needs_flags(vocab);
    put_tokens(hf, vocab, flags);
    if (flags || !steps.in_name)
        fm_vocab_put_steps(hf, &steps);
    if (!vocab->spm)
        fm_gguf_put_bool(w, "fulmen.tokenizer.ignore_merges",
                         fm_vocab_flag_of(fm_conf_get(tokenizer, NULL, "model"), "ignore_merges", false));
    return FM_OK;
}

static enum fm_result put_model(struct fm_hf *hf, struct fm_vocab *vocab, const struct fm_vocab_files *files)
{
    struct fm_gguf_writer *w = hf->conv->writer;
    fm_gguf_put_string(w, "tokenizer.ggml.model", "llama");
    fm_gguf_put_string(w, "tokenizer.ggml.pre", "default");
    enum fm_result r = read_model(vocab, files);
    if (r == FM_OK)
        r = fill_gaps(vocab);
    if (r != FM_OK)
        return r;
    put_tokens(hf, vocab, true);
    return put_rules(hf, vocab, files);
}

static enum fm_result put_none(struct fm_hf *hf)
{
    fm_log(FM_LOG_WARN, "%s: no tokenizer.json, tokenizer.model or vocab.json: the file will have no tokenizer", hf->folder);
    fm_gguf_put_string(hf->conv->writer, "tokenizer.ggml.model", "none");
    return fm_gguf_error(hf->conv->writer);
}

enum fm_result fm_vocab_put(struct fm_hf *hf, const struct fm_vocab_files *files)
{
    struct fm_vocab vocab = {.arena = &hf->conv->arena, .count = (uint32_t)hf->size[FM_S_V], .bos = FM_NO_ID, .eos = FM_NO_ID,
                             .unk = FM_NO_ID, .pad = FM_NO_ID};
    enum fm_vocab_kind kind = FM_VOCAB_OTHER;
    enum fm_result r = files->tokenizer.root != NULL ? fm_vocab_kind_of(&files->tokenizer, &kind) : FM_OK;
    if (r != FM_OK)
        return r;
    if (hf->pre != NULL && kind != FM_VOCAB_BYTE_LEVEL)
        return fm_fail(FM_ARG, "%s: a pre-tokenizer was named, '%s', but there is no byte-level tokenizer.json", hf->folder,
                       FM_QUOTE_Z(hf->pre));
    if (files->tokenizer.root == NULL && files->model == NULL)
        return put_none(hf);
    if (kind == FM_VOCAB_OTHER && files->model == NULL)
        return fm_vocab_refuse_other(&files->tokenizer);
    vocab.texts = fm_arena_alloc(vocab.arena, vocab.count, sizeof(*vocab.texts));
    vocab.scores = fm_arena_alloc(vocab.arena, vocab.count, sizeof(*vocab.scores));
    vocab.types = fm_arena_alloc(vocab.arena, vocab.count, sizeof(*vocab.types));
    vocab.flags = fm_arena_alloc(vocab.arena, vocab.count, sizeof(*vocab.flags));
    if (vocab.texts == NULL || vocab.scores == NULL || vocab.types == NULL || vocab.flags == NULL)
        return fm_nomem();
    vocab.spm = kind != FM_VOCAB_BYTE_LEVEL;
    r = kind != FM_VOCAB_OTHER ? put_json(hf, &vocab, &files->tokenizer) : put_model(hf, &vocab, files);
    if (r == FM_OK)
        r = put_special(hf, &vocab, files);
    if (r == FM_OK)
        r = put_flags(hf, &vocab, files);
    put_template(hf, files);
    fm_map_finish(&vocab.ids);
    fm_map_finish(&vocab.added_ids);
    return r == FM_OK ? fm_gguf_error(hf->conv->writer) : r;
}

static enum fm_result read_optional(const char *folder, const char *name, size_t max_bytes, char *path, char **out_data,
                                    size_t *out_bytes)
{
    struct stat info;
    if ((size_t)snprintf(path, FM_CONF_PATH_BYTES, "%s/%s", folder, name) >= FM_CONF_PATH_BYTES || stat(path, &info) != 0)
        return FM_OK;
    return fm_source_read_whole(path, max_bytes, out_data, out_bytes);
}

enum fm_result fm_hf_vocab(struct fm_hf *hf)
{
    struct fm_vocab_files files = {0};
    char path[FM_CONF_PATH_BYTES], template_path[FM_CONF_PATH_BYTES], *model = NULL;
    size_t template_bytes;
    enum fm_result r = fm_conf_load(hf->folder, "tokenizer.json", false, &files.tokenizer);
    if (r == FM_OK)
        r = fm_conf_load(hf->folder, "tokenizer_config.json", false, &files.config);
    if (r == FM_OK)
        r = fm_conf_load(hf->folder, "added_tokens.json", false, &files.added);
    if (r == FM_OK)
        r = fm_conf_load(hf->folder, "special_tokens_map.json", false, &files.special);
    if (r == FM_OK)
        r = read_optional(hf->folder, "chat_template.jinja", TEMPLATE_BYTES_MAX, template_path, &files.chat_template,
                          &template_bytes);
    if (r == FM_OK)
        r = read_optional(hf->folder, "tokenizer.model", MODEL_BYTES_MAX, path, &model, &files.model_bytes);
    files.model = (const uint8_t *)model;
    files.model_path = path;
    if (r == FM_OK && files.tokenizer.root == NULL && model == NULL)
        r = fm_vocab_read_slow(hf, &files);
    if (r == FM_OK)
        r = fm_vocab_put(hf, &files);
    fm_conf_finish(&files.special);
    fm_conf_finish(&files.tokenizer);
    fm_conf_finish(&files.config);
    fm_conf_finish(&files.added);
    fm_free(files.chat_template);
    fm_free(model);
    return r;
}
