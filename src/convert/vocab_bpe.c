// SPDX-License-Identifier: MIT
// tokenizer.json of Hugging Face's tokenizers: byte-level BPE (GPT-2, Llama 3, Qwen2), and BPE with byte fallback, which
// stands for a SentencePiece model. Tokens and merges; vocab_pre.c and vocab_steps.c have the rest.
#include "base/map.h"
#include "convert/vocab_steps.h"
#include "text/added.h"

#include <stdio.h>

// ---- tokens ---------------------------------------------------------------------------------------------------------

// "<0x0A>" of a model with byte fallback.
static bool is_byte(const char *text)
{
    return strlen(text) == 6 && memcmp(text, "<0x", 3) == 0 && text[5] == '>';
}

static enum fm_result read_tokens(struct fm_vocab *vocab, const struct fm_conf *tokenizer, const cJSON *model)
{
    const cJSON *table = cJSON_GetObjectItemCaseSensitive(model, "vocab"), *item;
    const cJSON *unk = cJSON_GetObjectItemCaseSensitive(model, "unk_token");
    enum fm_result r = FM_OK;
    if (!cJSON_IsObject(table))
        return fm_fail(FM_FORMAT, "%s: 'model.vocab': expected an object", tokenizer->path);
    cJSON_ArrayForEach(item, table)
    {
        uint32_t id;
        int32_t type = vocab->spm && is_byte(item->string) ? FM_PIECE_BYTE : FM_PIECE_NORMAL;
        if (!fm_conf_whole(item, FM_HF_SIZE_MAX, &id))
            return fm_fail(FM_FORMAT, "%s: 'model.vocab': the id of '%s': expected a whole number up to %u", tokenizer->path,
                           FM_QUOTE_Z(item->string), FM_HF_SIZE_MAX);
        if (vocab->spm && cJSON_IsString(unk) && strcmp(unk->valuestring, item->string) == 0)
            type = FM_PIECE_UNKNOWN;
        if ((r = fm_vocab_set(vocab, tokenizer->path, id, fm_vocab_text(item->string), 0, type, false)) != FM_OK ||
            (r = fm_map_put(&vocab->ids, item->string, strlen(item->string), id, NULL)) != FM_OK)
            return r;
        vocab->n_pieces++;
    }
    return FM_OK;
}

// Every byte has to have a token, for what has none would be dropped or become an unknown token by rules of its own.
static enum fm_result check_bytes(const struct fm_vocab *vocab, const struct fm_conf *tokenizer)
{
    char name[8];
    uint32_t id;
    for (unsigned b = 0; b < 256; b++) {
        snprintf(name, sizeof(name), "<0x%02X>", b);
        if (!fm_map_get(&vocab->ids, name, 6, &id))
            return fm_fail(FM_UNSUPPORTED, "%s: 'model.byte_fallback' without the token %s in 'model.vocab' is not supported",
                           tokenizer->path, name);
    }
    return FM_OK;
}

// ---- added tokens ---------------------------------------------------------------------------------------------------

uint32_t fm_vocab_flags_of(const cJSON *token)
{
    static const struct {
        const char *key;
        uint32_t flag;
    } rows[] = {{"lstrip", FM_ADDED_LSTRIP},
                {"rstrip", FM_ADDED_RSTRIP},
                {"single_word", FM_ADDED_SINGLE_WORD},
                {"normalized", FM_ADDED_NORMALIZED}};
    uint32_t flags = FM_ADDED;
    for (size_t i = 0; i < FM_COUNT(rows); i++)
        flags |= fm_vocab_flag_of(token, rows[i].key, false) ? rows[i].flag : 0;
    return flags;
}

// The id of an added token, as the library gives them out: that of the same text, else the next one. What the file says is
// that in all files that it wrote itself.
static enum fm_result id_of_added(struct fm_vocab *vocab, const struct fm_conf *tokenizer, const cJSON *item, const char *content,
                                  uint32_t *next, uint32_t *out_id, bool *out_piece)
{
    const cJSON *told = cJSON_GetObjectItemCaseSensitive(item, "id");
    uint32_t said;
    bool says = told != NULL;
    if (says && !fm_conf_whole(told, FM_HF_SIZE_MAX, &said))
        return fm_fail(FM_FORMAT, "%s: 'added_tokens': the id of '%s': expected a whole number up to %u", tokenizer->path,
                       FM_QUOTE_Z(content), FM_HF_SIZE_MAX);
    *out_piece = fm_map_get(&vocab->ids, content, strlen(content), out_id);
    bool known = *out_piece || fm_map_get(&vocab->added_ids, content, strlen(content), out_id);
    if (!known)
        *out_id = (*next)++;
    if (!says || said == *out_id)
        return FM_OK;
    if (!known && *out_id < vocab->count && vocab->texts[*out_id].data != NULL)
        return fm_fail(FM_FORMAT, "%s: 'added_tokens': '%s' has id %u, but 'model.vocab' has only %u tokens, and %u is one of them",
                       tokenizer->path, FM_QUOTE_Z(content), said, vocab->n_pieces, *out_id);
    fm_log(FM_LOG_WARN, "%s: the added token '%s' has id %u there, but as tokenizers numbers them it is %u, which is taken",
           tokenizer->path, FM_QUOTE_Z(content), said, *out_id);
    return FM_OK;
}

static enum fm_result read_added(struct fm_vocab *vocab, const struct fm_conf *tokenizer)
{
    const cJSON *list, *item;
    uint32_t next = vocab->n_pieces;
    enum fm_result r = fm_conf_array(tokenizer, "added_tokens", false, &list);
    if (r != FM_OK || list == NULL)
        return r;
    cJSON_ArrayForEach(item, list)
    {
        const cJSON *content = cJSON_GetObjectItemCaseSensitive(item, "content");
        uint32_t id;
        bool piece;
        if (!cJSON_IsString(content))
            return fm_fail(FM_FORMAT, "%s: 'added_tokens': expected objects with 'id' and 'content'", tokenizer->path);
        if (content->valuestring[0] == '\0')
            continue; // the library passes over it
        if ((r = id_of_added(vocab, tokenizer, item, content->valuestring, &next, &id, &piece)) != FM_OK)
            return r;
        int32_t type = fm_vocab_flag_of(item, "special", false) ? FM_PIECE_CONTROL : FM_PIECE_USER;
        if (id < vocab->count && (vocab->types[id] == FM_PIECE_UNKNOWN || vocab->types[id] == FM_PIECE_BYTE))
            type = vocab->types[id];
        if ((r = fm_vocab_set(vocab, tokenizer->path, id, fm_vocab_text(content->valuestring), 0, type, true)) != FM_OK)
            return r;
        if (!piece && (r = fm_map_put(&vocab->added_ids, content->valuestring, strlen(content->valuestring), id, NULL)) != FM_OK)
            return r;
        if (id < vocab->count)
            vocab->flags[id] = fm_vocab_flags_of(item) | (piece ? FM_ADDED_PIECE : 0);
    }
    return FM_OK;
}

// ---- merges ---------------------------------------------------------------------------------------------------------

// Both halves of a merge: "a b", or in newer files ["a", "b"].
static bool halves_of(const cJSON *item, struct fm_text *out_left, struct fm_text *out_right)
{
    if (cJSON_IsString(item)) {
        const char *space = item->valuestring[0] != '\0' ? strchr(item->valuestring + 1, ' ') : NULL;
        if (space == NULL)
            return false;
        *out_left = (struct fm_text){.data = item->valuestring, .bytes = (uint64_t)(space - item->valuestring)};
        *out_right = fm_vocab_text(space + 1);
        return true;
    }
    const cJSON *left = cJSON_IsArray(item) ? item->child : NULL, *right = left != NULL ? left->next : NULL;
    if (!cJSON_IsString(left) || !cJSON_IsString(right) || right->next != NULL)
        return false;
    *out_left = fm_vocab_text(left->valuestring);
    *out_right = fm_vocab_text(right->valuestring);
    return true;
}

// The file separates the halves of a byte-level merge by a space.
static bool has_space(struct fm_text text)
{
    return memchr(text.data, ' ', (size_t)text.bytes) != NULL;
}

// "left right" in the arena.
static enum fm_result join(struct fm_arena *arena, struct fm_text left, struct fm_text right, const char *between,
                           struct fm_text *out_text)
{
    size_t gap = strlen(between);
    char *text = fm_arena_alloc(arena, (size_t)(left.bytes + right.bytes) + gap + 1, 1);
    if (text == NULL)
        return fm_nomem();
    memcpy(text, left.data, (size_t)left.bytes);
    memcpy(text + left.bytes, between, gap);
    memcpy(text + left.bytes + gap, right.data, (size_t)right.bytes);
    *out_text = (struct fm_text){.data = text, .bytes = left.bytes + right.bytes + gap};
    return FM_OK;
}

// A merge of a tokenizer with byte fallback: its three ids, and the score that stands for its rank in programs that know
// scores only. *out_kept = false where one of the tokens has no row.
static enum fm_result put_pair(struct fm_vocab *vocab, const struct fm_conf *tokenizer, const struct fm_text texts[3],
                               uint32_t rank, uint32_t out_ids[3], bool *out_kept)
{
    *out_kept = true;
    for (unsigned i = 0; i < 3; i++) {
        if (!fm_map_get(&vocab->ids, texts[i].data, (size_t)texts[i].bytes, &out_ids[i]))
            return fm_fail(FM_FORMAT, "%s: 'model.merges[%u]': '%s' is no token of 'model.vocab'", tokenizer->path, rank,
                           FM_QUOTE(texts[i].data, texts[i].bytes));
        *out_kept = *out_kept && out_ids[i] < vocab->count;
    }
    if (*out_kept && vocab->scores[out_ids[2]] == 0)
        vocab->scores[out_ids[2]] = -1.0f - (float)rank;
    return FM_OK;
}

static enum fm_result read_merges(struct fm_hf *hf, struct fm_vocab *vocab, const struct fm_conf *tokenizer, const cJSON *model)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(model, "merges"), *item;
    struct fm_arena scratch = {0};
    struct fm_text *lines = NULL, parts[3] = {{0}};
    uint32_t count = 0, pairs = 0, *ids = NULL;
    bool kept;
    enum fm_result r = FM_OK;
    if (!cJSON_IsArray(list))
        return fm_fail(FM_FORMAT, "%s: 'model.merges': expected a list", tokenizer->path);
    lines = fm_arena_alloc(&scratch, (size_t)cJSON_GetArraySize(list) + 1, sizeof(*lines));
    ids = fm_arena_alloc(&scratch, (size_t)cJSON_GetArraySize(list) + 1, 3 * sizeof(*ids));
    if (lines == NULL || ids == NULL)
        r = fm_nomem();
    cJSON_ArrayForEach(item, list)
    {
        if (r == FM_OK && !halves_of(item, &parts[0], &parts[1]))
            r = fm_fail(FM_FORMAT, "%s: 'model.merges[%u]': expected two pieces", tokenizer->path, count);
        if (r == FM_OK && !vocab->spm && (has_space(parts[0]) || has_space(parts[1])))
            r = fm_fail(FM_UNSUPPORTED, "%s: 'model.merges[%u]': '%s' and '%s': a piece with a space is not supported in byte-level BPE",
                        tokenizer->path, count, FM_QUOTE_TEXT(parts[0]), FM_QUOTE_TEXT(parts[1]));
        if (r == FM_OK)
            r = join(&scratch, parts[0], parts[1], vocab->spm ? "" : " ", &lines[count]);
        if (r == FM_OK && vocab->spm) {
            parts[2] = lines[count];
            r = put_pair(vocab, tokenizer, parts, count, &ids[3 * (size_t)pairs], &kept);
            pairs += r == FM_OK && kept;
        }
        if (r != FM_OK)
            break;
        count++;
    }
    // Pieces that no merge makes must not look like the best ones to programs that go by scores.
    for (uint32_t id = 0; vocab->spm && id < vocab->count; id++)
        if (vocab->types[id] == FM_PIECE_NORMAL && vocab->scores[id] == 0)
            vocab->scores[id] = -1.0f - (float)count;
    if (r == FM_OK && !vocab->spm)
        fm_gguf_put_texts(hf->conv->writer, "tokenizer.ggml.merges", lines, count);
    else if (r == FM_OK)
        fm_gguf_put_array(hf->conv->writer, "fulmen.tokenizer.merges", FM_GGUF_U32, ids, 3 * (uint64_t)pairs);
    fm_arena_finish(&scratch);
    return r;
}

enum fm_result fm_vocab_read_json(struct fm_hf *hf, struct fm_vocab *vocab, const struct fm_conf *tokenizer)
{
    const cJSON *model = fm_conf_get(tokenizer, NULL, "model");
    enum fm_result r = read_tokens(vocab, tokenizer, model);
    if (r == FM_OK && vocab->spm)
        r = check_bytes(vocab, tokenizer);
    if (r == FM_OK)
        r = read_merges(hf, vocab, tokenizer, model);
    return r == FM_OK ? read_added(vocab, tokenizer) : r;
}
