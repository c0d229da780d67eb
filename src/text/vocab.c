// SPDX-License-Identifier: MIT
// The vocabulary of a file, checked: what the two kinds of tokenizer have in common.
#include "text/vocab.h"

// Messages begin as those of fm_meta_*: "file: metadata 'key'".
#define KEY_TOKENS "tokenizer.ggml.tokens"
#define KEY_TYPES "tokenizer.ggml.token_type"

// Tokens that end an answer, whatever the file names as EOS. Those with `markup` are so by their text alone: their type is set
// right where a file has them as normal tokens. The others may be words of a vocabulary made from web pages, and count as
// control tokens only.
static const struct {
    const char *text;
    bool markup;
} end_names[] = {
    {"<|im_end|>", true},
    {"<|eot_id|>", true},
    {"<|eom_id|>", true},
    {"<|end_of_text|>", true},
    {"<|endoftext|>", true},
    {"<|end|>", true},
    {"<|return|>", true},
    {"<|call|>", true},
    {"<|calls|>", true},
    {"<|flush|>", true},
    {"<end_of_turn>", true},
    {"<end_of_utterance>", true},
    {"<turn|>", true},
    {"<|tool_response>", true},
    {"<EOT>", true},
    {"\xE2\x96\x81<EOT>", true},
    {"[EOT]", true},
    {"<\xEF\xBD\x9C"
     "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>",
     true},
    {"[e~[", true},
    {"</s>", false},
    {"<eos>", false},
    {"[EOS]", false},
};

// Where a vocabulary has all of `with`, `text` is no end by its text: there it ends a part of an answer only.
static const struct {
    const char *text;
    const char *with[2];
} end_exceptions[] = {
    {"<|end|>", {"<|return|>", "<|call|>"}}, // harmony
    {"<|end|>", {"<|calls|>", "<|flush|>"}},
    {"</s>", {"<|tool_response>", "<turn|>"}}, // a tag of HTML in Gemma 4
};

static bool text_is(const struct fm_token *token, const char *name)
{
    return strlen(name) == token->text_bytes && memcmp(token->text, name, token->text_bytes) == 0;
}

// First token with this text, or FM_TOKEN_NONE.
static uint32_t find_text(const struct fm_tokenizer *tok, const char *name)
{
    for (uint32_t id = 0; id < tok->vocab; id++) {
        if (text_is(&tok->tokens[id], name))
            return id;
    }
    return FM_TOKEN_NONE;
}

static enum fm_result read_texts(const struct fm_file *file, struct fm_tokenizer *tok)
{
    const struct fm_meta *meta = fm_file_meta_find(file, KEY_TOKENS);
    if (meta == NULL)
        return fm_fail(FM_FORMAT, "%s: metadata '" KEY_TOKENS "': missing, though tokenizer.ggml.model is there",
                       fm_file_path(file));
    if (meta->kind != FM_META_ARRAY || meta->elem_kind != FM_META_STRING)
        return fm_fail(FM_FORMAT, "%s: metadata '" KEY_TOKENS "': expected an array of strings", fm_file_path(file));
    if (meta->count == 0 || meta->count > FM_VOCAB_MAX)
        return fm_fail(FM_FORMAT, "%s: metadata '" KEY_TOKENS "': expected 1 to %u tokens, found %llu",
                       fm_file_path(file), FM_VOCAB_MAX, (unsigned long long)meta->count);
    uint64_t total_bytes = 0;
    for (uint64_t i = 0; i < meta->count; i++) {
        if (meta->texts[i].bytes > FM_TOKEN_MAX_BYTES)
            return fm_fail(FM_FORMAT, "%s: metadata '" KEY_TOKENS "'[%llu]: expected at most %u bytes, found %llu",
                           fm_file_path(file), (unsigned long long)i, FM_TOKEN_MAX_BYTES,
                           (unsigned long long)meta->texts[i].bytes);
        total_bytes += meta->texts[i].bytes;
    }
    tok->vocab = (uint32_t)meta->count;
    tok->tokens = fm_arena_alloc(&tok->arena, tok->vocab, sizeof(*tok->tokens));
    char *blob = fm_arena_alloc(&tok->arena, (size_t)total_bytes + 1, 1);
    if (tok->tokens == NULL || blob == NULL)
        return fm_nomem();
    for (uint32_t id = 0; id < tok->vocab; id++) {
        uint32_t bytes = (uint32_t)meta->texts[id].bytes;
        if (bytes > 0)
            memcpy(blob, meta->texts[id].data, bytes);
        tok->tokens[id] = (struct fm_token){.text = blob, .piece = blob, .text_bytes = bytes, .piece_bytes = bytes};
        blob += bytes;
    }
    return FM_OK;
}

static enum fm_result read_types(const struct fm_file *file, struct fm_tokenizer *tok, bool *out_typed)
{
    const struct fm_meta *meta = fm_file_meta_find(file, KEY_TYPES);
    *out_typed = meta != NULL;
    for (uint32_t id = 0; meta == NULL && id < tok->vocab; id++)
        tok->tokens[id].type = FM_TOKEN_NORMAL;
    if (meta == NULL)
        return FM_OK;
    if (meta->kind != FM_META_ARRAY || (meta->elem_kind != FM_META_INT && meta->elem_kind != FM_META_UINT))
        return fm_fail(FM_FORMAT, "%s: metadata '" KEY_TYPES "': expected an array of integers", fm_file_path(file));
    if (meta->count != tok->vocab)
        return fm_fail(FM_FORMAT,
                       "%s: metadata '" KEY_TYPES "': expected %u elements as " KEY_TOKENS " has, found %llu",
                       fm_file_path(file), tok->vocab, (unsigned long long)meta->count);
    for (uint32_t id = 0; id < tok->vocab; id++) {
        int64_t type = fm_meta_int_at(meta, id);
        if (type < 0 || type >= FM_TOKEN_TYPE_COUNT)
            return fm_fail(FM_FORMAT, "%s: metadata '" KEY_TYPES "'[%u]: expected 0 to %d, found %lld",
                           fm_file_path(file), id, FM_TOKEN_TYPE_COUNT - 1, (long long)type);
        tok->tokens[id].type = type == FM_TOKEN_UNDEFINED ? FM_TOKEN_NORMAL : (uint8_t)type;
    }
    return FM_OK;
}

// Id from `key`; absent gives FM_TOKEN_NONE.
static enum fm_result read_id(const struct fm_file *file, const struct fm_tokenizer *tok, const char *key,
                              uint32_t *out_id)
{
    if (fm_file_meta_find(file, key) == NULL) {
        *out_id = FM_TOKEN_NONE;
        return FM_OK;
    }
    return fm_meta_u32(file, key, true, 0, tok->vocab - 1, 0, out_id);
}

// A token that the file names as special, or that every model uses so, is a control token even when its type does not
// say it (files of older converters); only one that also looks like it, so that a plain word named as EOS stays a word.
static void make_control(struct fm_tokenizer *tok, uint32_t id)
{
    struct fm_token *token = &tok->tokens[id];
    if (token->type == FM_TOKEN_NORMAL && token->text_bytes > 2 && token->text[0] == '<' &&
        token->text[token->text_bytes - 1] == '>')
        token->type = FM_TOKEN_CONTROL;
}

static void mark_end(struct fm_tokenizer *tok, uint32_t id)
{
    if (id == FM_TOKEN_NONE)
        return;
    make_control(tok, id);
    tok->tokens[id].end = true;
}

static void mark_end_by_text(struct fm_token *token)
{
    for (size_t i = 0; i < FM_COUNT(end_names); i++) {
        if (!text_is(token, end_names[i].text))
            continue;
        if (end_names[i].markup && token->type == FM_TOKEN_NORMAL)
            token->type = FM_TOKEN_CONTROL;
        token->end = token->end || token->type == FM_TOKEN_CONTROL || (end_names[i].markup && token->type == FM_TOKEN_USER);
    }
}

static void mark_ends_by_text(struct fm_tokenizer *tok)
{
    for (uint32_t id = 0; id < tok->vocab; id++) {
        struct fm_token *token = &tok->tokens[id];
        if (token->text_bytes > 0 && (token->text[0] == '<' || token->text[0] == '[' || token->text[0] == '\xE2'))
            mark_end_by_text(token);
    }
    for (size_t i = 0; i < FM_COUNT(end_exceptions); i++) {
        uint32_t id = find_text(tok, end_exceptions[i].text);
        if (id != FM_TOKEN_NONE && find_text(tok, end_exceptions[i].with[0]) != FM_TOKEN_NONE &&
            find_text(tok, end_exceptions[i].with[1]) != FM_TOKEN_NONE)
            tok->tokens[id].end = false;
    }
}

// tokenizer.ggml.eos_token_ids, an array that some converters write.
static enum fm_result mark_listed_ends(const struct fm_file *file, struct fm_tokenizer *tok)
{
    const char *key = "tokenizer.ggml.eos_token_ids";
    const struct fm_meta *meta = fm_file_meta_find(file, key);
    if (meta == NULL)
        return FM_OK;
    if (meta->kind != FM_META_ARRAY || (meta->elem_kind != FM_META_INT && meta->elem_kind != FM_META_UINT))
        return fm_fail(FM_FORMAT, "%s: metadata '%s': expected an array of integers", fm_file_path(file), key);
    for (uint64_t i = 0; i < meta->count; i++) {
        int64_t id = fm_meta_int_at(meta, i);
        if (id < 0 || id >= tok->vocab)
            return fm_fail(FM_FORMAT, "%s: metadata '%s'[%llu]: expected 0 to %u, found %lld", fm_file_path(file), key,
                           (unsigned long long)i, tok->vocab - 1, (long long)id);
        mark_end(tok, (uint32_t)id);
    }
    return FM_OK;
}

// User-defined tokens are matched in any text, as the models' own tokenizers do. Not so what steers a model, when special
// tokens are not wanted: ends, and what looks like "<|im_start|>", "<start_of_turn>", "[INST]".
static bool is_markup(const struct fm_token *token)
{
    static const char *const names[] = {"<start_of_turn>", "[INST]", "[/INST]", "<s>", "</s>", "<bos>", "<eos>", "<pad>", "<unk>"};
    const char *text = token->text, *end = token->text + token->text_bytes;
    if (token->end)
        return true;
    if (token->text_bytes > 4 && memcmp(text, "<|", 2) == 0 && memcmp(end - 2, "|>", 2) == 0)
        return true;
    if (token->text_bytes > 8 && memcmp(text, "<\xEF\xBD\x9C", 4) == 0 && memcmp(end - 4, "\xEF\xBD\x9C>", 4) == 0)
        return true;
    for (size_t i = 0; i < FM_COUNT(names); i++) {
        if (text_is(token, names[i]))
            return true;
    }
    return false;
}

// "<tool_call>", "[INST]". A line feed or a word may be a user-defined token, too, and is the same thing everywhere.
static bool is_bracketed(const struct fm_token *token)
{
    const char first = token->text_bytes > 2 ? token->text[0] : 0, last = first != 0 ? token->text[token->text_bytes - 1] : 0;
    return (first == '<' && last == '>') || (first == '[' && last == ']');
}

static enum fm_result read_special(const struct fm_file *file, struct fm_tokenizer *tok)
{
    uint32_t eot = FM_TOKEN_NONE, eom = FM_TOKEN_NONE;
    const struct {
        const char *key;
        uint32_t *id;
        const char *spm_text; // what SentencePiece calls it; stands in for an absent key
    } rows[] = {
        {"tokenizer.ggml.bos_token_id", &tok->bos, "<s>"},
        {"tokenizer.ggml.eos_token_id", &tok->eos, "</s>"},
        {"tokenizer.ggml.unknown_token_id", &tok->unk, "<unk>"},
        {"tokenizer.ggml.eot_token_id", &eot, NULL},
        {"tokenizer.ggml.eom_token_id", &eom, NULL},
    };
    for (size_t i = 0; i < FM_COUNT(rows); i++) {
        enum fm_result r = read_id(file, tok, rows[i].key, rows[i].id);
        if (r != FM_OK)
            return r;
        if (*rows[i].id == FM_TOKEN_NONE && tok->kind == FM_TOKENIZER_SPM && rows[i].spm_text != NULL)
            *rows[i].id = find_text(tok, rows[i].spm_text);
    }
    if (tok->bos != FM_TOKEN_NONE)
        make_control(tok, tok->bos);
    if (tok->unk != FM_TOKEN_NONE && tok->kind == FM_TOKENIZER_SPM && tok->tokens[tok->unk].type == FM_TOKEN_NORMAL)
        tok->tokens[tok->unk].type = FM_TOKEN_UNKNOWN;
    mark_ends_by_text(tok);
    mark_end(tok, tok->eos);
    mark_end(tok, eot);
    mark_end(tok, eom);
    enum fm_result r = mark_listed_ends(file, tok);
    for (uint32_t id = 0; id < tok->vocab; id++) {
        struct fm_token *token = &tok->tokens[id];
        token->markup = token->type == FM_TOKEN_USER && is_markup(token);
        token->marker = token->type == FM_TOKEN_CONTROL || token->end || (token->type == FM_TOKEN_USER && is_bracketed(token));
    }
    return r;
}

// Value of an upper-case or lower-case hexadecimal digit, or -1.
static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// "<0x0A>" → 10; -1 for any other text.
static int byte_value(const struct fm_token *token)
{
    const char *t = token->text;
    if (token->text_bytes != 6 || memcmp(t, "<0x", 3) != 0 || t[5] != '>')
        return -1;
    int high = hex_digit(t[3]), low = hex_digit(t[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

// Byte tokens: their piece is the byte, and byte_ids finds them. In a file without types the text alone tells them.
static enum fm_result read_bytes(const struct fm_file *file, struct fm_tokenizer *tok, bool typed)
{
    char *bytes = fm_arena_alloc(&tok->arena, 256, 1);
    if (bytes == NULL)
        return fm_nomem();
    for (int b = 0; b < 256; b++) {
        bytes[b] = (char)b;
        tok->byte_ids[b] = FM_TOKEN_NONE;
    }
    for (uint32_t id = 0; id < tok->vocab; id++) {
        struct fm_token *token = &tok->tokens[id];
        int value = byte_value(token);
        if (!typed && tok->kind != FM_TOKENIZER_BPE && value >= 0)
            token->type = FM_TOKEN_BYTE;
        if (token->type != FM_TOKEN_BYTE)
            continue;
        if (value < 0)
            return fm_fail(FM_FORMAT, "%s: metadata '" KEY_TOKENS "'[%u]: byte token '%s', expected <0x00> to <0xFF>",
                           fm_file_path(file), id, FM_QUOTE(token->text, token->text_bytes));
        token->piece = bytes + value;
        token->piece_bytes = 1;
        if (tok->byte_ids[value] == FM_TOKEN_NONE)
            tok->byte_ids[value] = id;
    }
    return FM_OK;
}

enum fm_result fm_vocab_read(const struct fm_file *file, struct fm_tokenizer *tok)
{
    bool typed;
    enum fm_result r = read_texts(file, tok);
    if (r == FM_OK)
        r = read_types(file, tok, &typed);
    if (r == FM_OK)
        r = read_bytes(file, tok, typed);
    if (r == FM_OK)
        r = read_special(file, tok);
    return r;
}
