// SPDX-License-Identifier: MIT
// Byte-level BPE as GPT-2 introduced it (Radford et al., 2019): the text is cut by regular expressions, every piece is
// merged from single bytes, pairs of lowest rank first. In files, bytes are written as printable characters; here they
// are bytes again as soon as the vocabulary is read. Any bytes can be encoded: those outside well-formed UTF-8 are
// pieces of their own.
#include "text/vocab.h"

#include "base/utf8.h"
#include "text/forms.h"
#include "text/pipeline.h"

#define KEY_MERGES "tokenizer.ggml.merges"

// GPT-2's alphabet: printable Latin-1 stands for itself, the other 68 bytes for U+0100 onwards, in order. point_of[b]
// is the character of byte b.
static void make_alphabet(uint16_t point_of[256])
{
    uint16_t next = 0x100;
    for (unsigned b = 0; b < 256; b++) {
        bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
        point_of[b] = printable ? (uint16_t)b : next++;
    }
}

#define ALPHABET_END 0x144 // the last stand-in is U+0143

// The byte of the one- or two-byte character at text, and its length; -1 when it stands for no byte.
static int alphabet_byte(const int16_t byte_of[ALPHABET_END], const char *text, size_t text_bytes, size_t *out_bytes)
{
    const uint8_t *s = (const uint8_t *)text;
    if (fm_utf8_next(text, text_bytes, out_bytes) != FM_UTF8_CHAR || *out_bytes > 2)
        return -1;
    unsigned point = *out_bytes == 1 ? s[0] : (s[0] & 0x1Fu) << 6 | (s[1] & 0x3Fu);
    return point < ALPHABET_END ? byte_of[point] : -1;
}

// Tokens that are written in the alphabet: of those that a user added, the ones that the model has, too.
static bool is_piece(const struct fm_tokenizer *tok, uint32_t id)
{
    uint8_t type = tok->tokens[id].type;
    return type == FM_TOKEN_NORMAL || type == FM_TOKEN_UNUSED || (tok->pipeline != NULL && fm_pipeline_is_piece(tok, id));
}

// Pieces of normal tokens: characters of the alphabet become bytes, any other character stays as it is.
static enum fm_result make_pieces(struct fm_tokenizer *tok)
{
    uint16_t point_of[256];
    int16_t byte_of[ALPHABET_END];
    size_t total_bytes = 0;
    make_alphabet(point_of);
    for (unsigned i = 0; i < ALPHABET_END; i++)
        byte_of[i] = -1;
    for (unsigned b = 0; b < 256; b++)
        byte_of[point_of[b]] = (int16_t)b;
    for (uint32_t id = 0; id < tok->vocab; id++)
        total_bytes += tok->tokens[id].text_bytes;
    char *blob = fm_arena_alloc(&tok->arena, total_bytes + 1, 1);
    if (blob == NULL)
        return fm_nomem();
    for (uint32_t id = 0; id < tok->vocab; id++) {
        struct fm_token *token = &tok->tokens[id];
        if (!is_piece(tok, id))
            continue;
        token->piece = blob;
        for (size_t i = 0, bytes; i < token->text_bytes; i += bytes) {
            int byte = alphabet_byte(byte_of, token->text + i, token->text_bytes - i, &bytes);
            if (byte >= 0)
                *blob++ = (char)byte;
            for (size_t k = 0; byte < 0 && k < bytes; k++)
                *blob++ = token->text[i + k];
        }
        token->piece_bytes = (uint32_t)(blob - token->piece);
        if (token->piece_bytes == 1 && tok->byte_ids[(uint8_t)token->piece[0]] == FM_TOKEN_NONE)
            tok->byte_ids[(uint8_t)token->piece[0]] = id;
    }
    return FM_OK;
}

static enum fm_result index_tokens(struct fm_tokenizer *tok, bool spans)
{
    enum fm_result r = FM_OK;
    for (uint32_t id = 0; r == FM_OK && id < tok->vocab; id++) {
        const struct fm_token *token = &tok->tokens[id];
        uint32_t other;
        if (token->text_bytes == 0)
            continue;
        if (token->type == FM_TOKEN_CONTROL || token->type == FM_TOKEN_UNKNOWN || token->type == FM_TOKEN_USER)
            r = fm_matcher_add(&tok->special, token->text, token->text_bytes, id);
        if (r == FM_OK && token->type == FM_TOKEN_USER && !token->markup)
            r = fm_matcher_add(&tok->plain, token->text, token->text_bytes, id);
        if (r == FM_OK && spans && token->type != FM_TOKEN_UNUSED && is_piece(tok, id) &&
            !fm_map_get(&tok->spans, token->piece, token->piece_bytes, &other)) {
            r = fm_map_put(&tok->spans, token->piece, token->piece_bytes, id, NULL);
            tok->max_span_bytes = FM_MAX(tok->max_span_bytes, token->piece_bytes);
        }
    }
    if (r == FM_OK)
        r = fm_matcher_seal(&tok->special);
    return r == FM_OK ? fm_matcher_seal(&tok->plain) : r;
}

// Ids of both halves of "left right" and of what they make. false when one of them is no token.
static bool parse_merge(const struct fm_map *texts, const struct fm_text *line, char *joint,
                        struct fm_merge_rule_ids *out_merge)
{
    if (line->bytes < 3 || line->bytes > 2 * (uint64_t)FM_TOKEN_MAX_BYTES)
        return false;
    const char *space = memchr(line->data + 1, ' ', (size_t)line->bytes - 1);
    if (space == NULL)
        return false;
    size_t left_bytes = (size_t)(space - line->data), right_bytes = (size_t)line->bytes - left_bytes - 1;
    memcpy(joint, line->data, left_bytes);
    memcpy(joint + left_bytes, space + 1, right_bytes);
    return fm_map_get(texts, line->data, left_bytes, &out_merge->left) &&
           fm_map_get(texts, space + 1, right_bytes, &out_merge->right) &&
           fm_map_get(texts, joint, left_bytes + right_bytes, &out_merge->id);
}

// Merges that name a piece outside the vocabulary can never lead to a token: they are left out, with a word in the log.
static enum fm_result index_merges(const struct fm_meta *meta, const struct fm_map *texts, char *joint,
                                   struct fm_tokenizer *tok)
{
    uint64_t unknown = 0, first_unknown = 0;
    tok->priorities = (uint32_t)meta->count;
    uint32_t other;
    enum fm_result r = FM_OK;
    tok->merges = fm_arena_alloc(&tok->arena, (size_t)meta->count, sizeof(*tok->merges));
    if (tok->merges == NULL)
        return fm_nomem();
    for (uint64_t i = 0; r == FM_OK && i < meta->count; i++) {
        struct fm_merge_rule_ids *merge = &tok->merges[i];
        if (!parse_merge(texts, &meta->texts[i], joint, merge)) {
            first_unknown = unknown == 0 ? i : first_unknown;
            unknown++;
        } else if (!fm_map_get(&tok->ranks, merge, 2 * sizeof(uint32_t), &other)) {
            r = fm_map_put(&tok->ranks, merge, 2 * sizeof(uint32_t), (uint32_t)i, NULL);
        }
    }
    if (unknown > 0)
        fm_log(FM_LOG_DEBUG, KEY_MERGES ": %llu of %llu merges ignored, the first is [%llu] '%s'",
               (unsigned long long)unknown, (unsigned long long)meta->count, (unsigned long long)first_unknown,
               FM_QUOTE_TEXT(meta->texts[first_unknown]));
    return r;
}

enum fm_result fm_bpe_read_merges(const struct fm_file *file, struct fm_tokenizer *tok)
{
    const struct fm_meta *meta = fm_file_meta_find(file, KEY_MERGES);
    struct fm_map texts = {0};
    enum fm_result r = FM_OK;
    if (meta == NULL)
        return fm_fail(FM_FORMAT, "%s: metadata '" KEY_MERGES "': missing, tokenizer.ggml.model '%s' needs it",
                       fm_file_path(file), tok->kind == FM_TOKENIZER_BPE ? "gpt2" : "gemma4");
    if (meta->kind != FM_META_ARRAY || meta->elem_kind != FM_META_STRING)
        return fm_fail(FM_FORMAT, "%s: metadata '" KEY_MERGES "': expected an array of strings", fm_file_path(file));
    if (meta->count >= UINT32_MAX)
        return fm_fail(FM_FORMAT, "%s: metadata '" KEY_MERGES "': expected fewer than %u merges, found %llu",
                       fm_file_path(file), UINT32_MAX, (unsigned long long)meta->count);
    char *joint = fm_alloc(2 * (size_t)FM_TOKEN_MAX_BYTES);
    if (joint == NULL)
        return fm_nomem();
    for (uint32_t id = 0; r == FM_OK && id < tok->vocab; id++) {
        const struct fm_token *token = &tok->tokens[id];
        uint32_t other;
        if (token->text_bytes > 0 && !fm_map_get(&texts, token->text, token->text_bytes, &other))
            r = fm_map_put(&texts, token->text, token->text_bytes, id, NULL);
    }
    if (r == FM_OK)
        r = index_merges(meta, &texts, joint, tok);
    fm_map_finish(&texts);
    fm_free(joint);
    return r;
}

static void report_missing_bytes(const struct fm_tokenizer *tok)
{
    unsigned missing = 0;
    for (unsigned b = 0; b < 256; b++)
        missing += tok->byte_ids[b] == FM_TOKEN_NONE;
    if (missing > 0)
        fm_log(FM_LOG_DEBUG, "tokenizer.ggml.tokens: %u bytes have no token and encode to %s", missing,
               tok->unk == FM_TOKEN_NONE ? "nothing" : "the unknown token");
}

enum fm_result fm_bpe_create(const struct fm_file *file, struct fm_tokenizer *tok)
{
    struct fm_text pre;
    bool ignore_merges;
    enum fm_result r = fm_meta_string(file, "tokenizer.ggml.pre", false, &pre);
    if (r != FM_OK)
        return r;
    if (pre.data == NULL) {
        fm_log(FM_LOG_WARN,
               "tokenizer.ggml.pre: missing, taking 'default'; the model may do better when converted anew");
        pre = (struct fm_text){.data = "default", .bytes = 7};
    }
    r = fm_pretok_create(pre.data, (size_t)pre.bytes, &tok->pretok);
    if (r != FM_OK)
        return fm_fail_prefix(r, "%s", fm_file_path(file));
    const struct fm_pretok_traits *traits = fm_pretok_traits(tok->pretok);
    r = fm_meta_bool(file, "tokenizer.ggml.add_bos_token", false, traits->add_bos, &tok->add_bos);
    if (r == FM_OK)
        r = make_pieces(tok);
    if (r == FM_OK)
        r = fm_meta_bool(file, "fulmen.tokenizer.ignore_merges", false, traits->ignore_merges, &ignore_merges);
    if (r == FM_OK)
        r = index_tokens(tok, ignore_merges);
    if (r == FM_OK)
        r = fm_bpe_read_merges(file, tok);
    if (r == FM_OK)
        report_missing_bytes(tok);
    return r;
}

// The rule of fm_merge_run.
bool fm_bpe_join(const void *user, const char *text, const struct fm_symbol *left, const struct fm_symbol *right,
                 uint32_t *out_priority, uint32_t *out_id)
{
    const struct fm_encoder *enc = user;
    const struct fm_tokenizer *tok = enc->tok;
    const uint32_t key[2] = {left->id, right->id};
    (void)text;
    if (!fm_map_get(&tok->ranks, key, sizeof(key), out_priority))
        return false;
    *out_id = tok->merges[*out_priority].id;
    return !fm_encoder_is_text(enc, *out_id);
}

static enum fm_result emit_byte(struct fm_encoder *enc, char byte)
{
    uint32_t id = enc->tok->byte_ids[(uint8_t)byte];
    if (id == FM_TOKEN_NONE)
        id = enc->tok->unk;
    return id == FM_TOKEN_NONE ? FM_OK : fm_encoder_emit(enc, id);
}

// One piece of the pre-tokenizer.
static enum fm_result encode_piece(void *user, const char *piece, size_t piece_bytes)
{
    struct fm_encoder *enc = user;
    const struct fm_tokenizer *tok = enc->tok;
    enum fm_result r = fm_encoder_poll(enc, piece_bytes);
    if (r != FM_OK)
        return r;
    if (piece_bytes == 1)
        return emit_byte(enc, piece[0]);
    const uint32_t whole = fm_encoder_span(enc, piece, piece_bytes);
    if (whole != FM_TOKEN_NONE)
        return fm_encoder_emit(enc, whole);
    fm_merge_reset(&enc->merge);
    for (size_t i = 0; r == FM_OK && i < piece_bytes; i++) {
        r = fm_merge_push(&enc->merge, (uint32_t)i, 1, tok->byte_ids[(uint8_t)piece[i]], false);
        if (r == FM_OK)
            r = fm_encoder_poll(enc, 1);
    }
    if (r == FM_OK)
        r = fm_merge_run(&enc->merge, piece, fm_bpe_join, enc);
    for (uint32_t i = 0; r == FM_OK && i != FM_SYMBOL_NONE; i = enc->merge.symbols[i].next) {
        const struct fm_symbol *symbol = &enc->merge.symbols[i];
        r = symbol->id != FM_TOKEN_NONE ? fm_encoder_emit(enc, symbol->id) : emit_byte(enc, piece[symbol->begin]);
        if (r == FM_OK)
            r = fm_encoder_poll(enc, 1);
    }
    return r;
}

enum fm_result fm_bpe_encode(struct fm_encoder *enc, const char *text, size_t text_bytes)
{
    const struct fm_tokenizer *tok = enc->tok;
    enum fm_result r = FM_OK;
    if (enc->scratch == NULL)
        r = fm_pretok_scratch_create(&enc->scratch);
    for (size_t at = 0; r == FM_OK && at < text_bytes;) {
        size_t valid = fm_utf8_valid_prefix(text + at, text_bytes - at);
        if (valid == 0) {
            r = emit_byte(enc, text[at++]);
            if (r == FM_OK)
                r = fm_encoder_poll(enc, 1);
            continue;
        }
        const char *run = text + at;
        size_t run_bytes = valid;
        at += valid;
        if (fm_pretok_traits(tok->pretok)->nfc) {
            enc->normal.bytes = 0;
            r = fm_form(enc, FM_FORM_C, run, valid, NULL, &enc->normal);
            run = enc->normal.data;
            run_bytes = enc->normal.bytes;
        }
        if (r == FM_OK)
            r = fm_pretok_split(tok->pretok, enc->scratch, run, run_bytes, encode_piece, enc);
    }
    return r;
}
