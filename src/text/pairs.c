// SPDX-License-Identifier: MIT
#include "text/pairs.h"

#include "text/chars.h"
#include "text/pipeline.h"

// The place of the first U+2581 in text that stands behind another character, or text_bytes.
static size_t next_word(const char *text, size_t text_bytes)
{
    size_t at = fm_next_mark(text, text_bytes, 0);
    while (at < text_bytes && (at == 0 || (at >= FM_SPACE_MARK_BYTES && fm_begins_with_mark(text + at - FM_SPACE_MARK_BYTES,
                                                                                            FM_SPACE_MARK_BYTES))))
        at = fm_next_mark(text, text_bytes, at + FM_SPACE_MARK_BYTES);
    return at;
}

static enum fm_result read_merge(const struct fm_file *file, const struct fm_meta *meta, uint32_t index, struct fm_tokenizer *tok,
                                 struct fm_pairs *pairs)
{
    uint32_t ids[3], other;
    for (unsigned k = 0; k < 3; k++) {
        int64_t id = fm_meta_int_at(meta, 3 * (uint64_t)index + k);
        if (id < 0 || id >= tok->vocab)
            return fm_fail(FM_FORMAT, "%s: metadata '" FM_KEY_PAIRS "'[%llu]: token %lld, expected 0 to %u", fm_file_path(file),
                           3 * (unsigned long long)index + k, (long long)id, tok->vocab - 1);
        ids[k] = (uint32_t)id;
    }
    const struct fm_token *left = &tok->tokens[ids[0]], *right = &tok->tokens[ids[1]], *both = &tok->tokens[ids[2]];
    if (both->text_bytes != (uint64_t)left->text_bytes + right->text_bytes ||
        memcmp(both->text, left->text, left->text_bytes) != 0 ||
        memcmp(both->text + left->text_bytes, right->text, right->text_bytes) != 0)
        return fm_fail(FM_FORMAT, "%s: metadata '" FM_KEY_PAIRS "': merge %u makes '%s' of '%s' and '%s'", fm_file_path(file), index,
                       FM_QUOTE(both->text, both->text_bytes), FM_QUOTE(left->text, left->text_bytes),
                       FM_QUOTE(right->text, right->text_bytes));
    pairs->words = pairs->words && next_word(both->text, both->text_bytes) == both->text_bytes;
    struct fm_merge_rule_ids *merge = &tok->merges[index];
    *merge = (struct fm_merge_rule_ids){.left = ids[0], .right = ids[1], .id = ids[2]};
    if (fm_map_get(&tok->ranks, merge, 2 * sizeof(uint32_t), &other))
        return FM_OK;
    return fm_map_put(&tok->ranks, merge, 2 * sizeof(uint32_t), index, NULL);
}

enum fm_result fm_pairs_create(const struct fm_file *file, struct fm_tokenizer *tok, struct fm_pairs *out_pairs)
{
    const struct fm_meta *meta = fm_file_meta_find(file, FM_KEY_PAIRS);
    enum fm_result r = FM_OK;
    *out_pairs = (struct fm_pairs){.words = true};
    if (meta == NULL || meta->kind != FM_META_ARRAY ||
        (meta->count > 0 && meta->elem_kind != FM_META_UINT && meta->elem_kind != FM_META_INT) || meta->count % 3 != 0 ||
        meta->count / 3 >= UINT32_MAX)
        return fm_fail(FM_FORMAT, "%s: metadata '" FM_KEY_PAIRS "': expected an array of integers, three for each merge",
                       fm_file_path(file));
    for (unsigned b = 0; b < 256; b++)
        if (tok->byte_ids[b] == FM_TOKEN_NONE)
            return fm_fail(FM_FORMAT, "%s: metadata 'tokenizer.ggml.tokens': the byte token <0x%02X> is missing", fm_file_path(file), b);
    for (uint32_t id = 0; r == FM_OK && id < tok->vocab; id++) {
        const struct fm_token *token = &tok->tokens[id];
        size_t bytes;
        uint32_t other;
        if (token->text_bytes > 0 && token->text_bytes <= FM_CHAR_BYTES_MAX && fm_pipeline_is_piece(tok, id) &&
            fm_char_at(token->text, token->text_bytes, &bytes) != FM_CHAR_BROKEN && bytes == token->text_bytes &&
            !fm_map_get(&out_pairs->chars, token->text, bytes, &other))
            r = fm_map_put(&out_pairs->chars, token->text, bytes, id, NULL);
    }
    const uint32_t count = (uint32_t)(meta->count / 3);
    tok->priorities = count;
    tok->merges = fm_arena_alloc(&tok->arena, (size_t)count + 1, sizeof(*tok->merges));
    if (r == FM_OK && tok->merges == NULL)
        r = fm_nomem();
    for (uint32_t i = 0; r == FM_OK && i < count; i++)
        r = read_merge(file, meta, i, tok, out_pairs);
    return r;
}

void fm_pairs_finish(struct fm_pairs *pairs)
{
    fm_map_finish(&pairs->chars);
}

static enum fm_result encode_word(struct fm_encoder *enc, const struct fm_pairs *pairs, const char *text, size_t text_bytes)
{
    const struct fm_tokenizer *tok = enc->tok;
    enum fm_result r = FM_OK;
    fm_merge_reset(&enc->merge);
    for (size_t at = 0, bytes = 0; r == FM_OK && at < text_bytes; at += bytes) {
        uint32_t id;
        r = fm_encoder_poll(enc, bytes);
        if (r != FM_OK)
            break;
        fm_char_at(text + at, text_bytes - at, &bytes);
        if (fm_map_get(&pairs->chars, text + at, bytes, &id) && !fm_encoder_is_text(enc, id)) {
            r = fm_merge_push(&enc->merge, (uint32_t)at, (uint32_t)bytes, id, false);
            continue;
        }
        for (size_t k = 0; r == FM_OK && k < bytes; k++)
            r = fm_merge_push(&enc->merge, (uint32_t)(at + k), 1, tok->byte_ids[(uint8_t)text[at + k]], false);
    }
    if (r == FM_OK)
        r = fm_merge_run(&enc->merge, text, fm_bpe_join, enc);
    for (uint32_t i = 0; r == FM_OK && i != FM_SYMBOL_NONE; i = enc->merge.symbols[i].next) {
        r = fm_encoder_emit(enc, enc->merge.symbols[i].id);
        if (r == FM_OK)
            r = fm_encoder_poll(enc, 1);
    }
    return r;
}

enum fm_result fm_pairs_encode(struct fm_encoder *enc, const struct fm_pairs *pairs, const char *text, size_t text_bytes)
{
    enum fm_result r = FM_OK;
    for (size_t at = 0; r == FM_OK && at < text_bytes;) {
        size_t bytes = pairs->words ? next_word(text + at, text_bytes - at) : text_bytes - at;
        r = encode_word(enc, pairs, text + at, bytes);
        at += bytes;
    }
    return r;
}
