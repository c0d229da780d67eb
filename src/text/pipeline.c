// SPDX-License-Identifier: MIT
#include "text/pipeline.h"

#include "base/utf8.h"
#include "text/added.h"
#include "text/chars.h"
#include "text/charsmap.h"
#include "text/normalize.h"
#include "text/pairs.h"

#define COPY_BYTES ((size_t)1 << 16) // between two questions whether to go on

enum pipeline_kind { TOKENIZERS, SENTENCEPIECE };
enum metaspace { METASPACE_NONE, METASPACE_NEVER, METASPACE_FIRST, METASPACE_ALWAYS };

struct fm_pipeline {
    enum pipeline_kind kind;
    uint8_t *flags;          // enum fm_added_flags by id
    bool *hidden;            // by id
    struct fm_added raw;     // tokens found before normalisation
    struct fm_added normal;  // and after it
    struct fm_steps steps;   // TOKENIZERS
    enum metaspace metaspace;
    bool split;              // at every U+2581
    bool prefix_space;       // TOKENIZERS with BPE: a space in front of every part of the text
    struct fm_pairs pairs;   // TOKENIZERS with SPM
    struct fm_spm_rules rules; // SENTENCEPIECE
    struct fm_matcher pieces[2]; // SENTENCEPIECE: user-defined pieces of the model itself; [1]: those without markup
};

// Texts on their way; all-zero is the beginning.
struct work {
    struct fm_buffer source; // of a mixed text
    struct fm_buffer text, other, marked;
    size_t room; // bytes to which what is left of the text may grow
    struct fm_added_search raw, normal;
};

// ---- reading --------------------------------------------------------------------------------------------------------

// The word that `key` holds, by its index; `absent` without the key. `names` ends with NULL.
static enum fm_result read_word(const struct fm_file *file, const char *key, const char *const *names, unsigned absent,
                                unsigned *out_index)
{
    struct fm_text text;
    enum fm_result r = fm_meta_string(file, key, false, &text);
    *out_index = absent;
    if (r != FM_OK || text.data == NULL)
        return r;
    for (unsigned i = 0; names[i] != NULL; i++) {
        *out_index = i;
        if (fm_text_equals(text, names[i]))
            return FM_OK;
    }
    return fm_fail(FM_UNSUPPORTED, "%s: metadata '%s': '%s' is not supported; a newer version may know it", fm_file_path(file), key,
                   FM_QUOTE(text.data, text.bytes));
}

static enum fm_result read_flags(const struct fm_file *file, const struct fm_tokenizer *tok, struct fm_pipeline *pipeline)
{
    const struct fm_meta *meta = fm_file_meta_find(file, FM_KEY_ADDED_FLAGS);
    if (meta == NULL)
        return FM_OK;
    if (meta->kind != FM_META_ARRAY || (meta->elem_kind != FM_META_UINT && meta->elem_kind != FM_META_INT) ||
        meta->count != tok->vocab)
        return fm_fail(FM_FORMAT, "%s: metadata '" FM_KEY_ADDED_FLAGS "': expected %u integers, one for each token",
                       fm_file_path(file), tok->vocab);
    for (uint32_t id = 0; id < tok->vocab; id++) {
        int64_t flags = fm_meta_int_at(meta, id);
        if (flags < 0 || flags >= FM_ADDED_FLAGS_END || (flags > 0 && !(flags & FM_ADDED)))
            return fm_fail(FM_FORMAT, "%s: metadata '" FM_KEY_ADDED_FLAGS "'[%u]: %lld are no flags of an added token",
                           fm_file_path(file), id, (long long)flags);
        pipeline->flags[id] = (uint8_t)flags;
        pipeline->hidden[id] = tok->tokens[id].type != FM_TOKEN_USER || tok->tokens[id].markup;
    }
    return FM_OK;
}

enum fm_result fm_pipeline_read(const struct fm_file *file, struct fm_tokenizer *tok)
{
    static const char *const names[] = {"tokenizers", "sentencepiece", NULL};
    unsigned kind;
    enum fm_result r = read_word(file, FM_KEY_PIPELINE, names, UINT32_MAX, &kind);
    if (r != FM_OK || kind == UINT32_MAX)
        return r;
    if (tok->kind != FM_TOKENIZER_SPM && (kind == SENTENCEPIECE || tok->kind != FM_TOKENIZER_BPE))
        return fm_fail(FM_FORMAT, "%s: metadata '" FM_KEY_PIPELINE "': '%s' does not go with this tokenizer.ggml.model",
                       fm_file_path(file), names[kind]);
    tok->pipeline = fm_alloc_zero(1, sizeof(*tok->pipeline));
    if (tok->pipeline == NULL)
        return fm_nomem();
    tok->pipeline->kind = (enum pipeline_kind)kind;
    tok->pipeline->flags = fm_arena_alloc(&tok->arena, tok->vocab, 1);
    tok->pipeline->hidden = fm_arena_alloc(&tok->arena, tok->vocab, sizeof(bool));
    if (tok->pipeline->flags == NULL || tok->pipeline->hidden == NULL)
        return fm_nomem();
    return read_flags(file, tok, tok->pipeline);
}

bool fm_pipeline_is_piece(const struct fm_tokenizer *tok, uint32_t id)
{
    return tok->pipeline == NULL || (tok->pipeline->flags[id] & (FM_ADDED | FM_ADDED_PIECE)) != FM_ADDED;
}

// What a token that is found after normalisation looks like then: work->text.
static enum fm_result make_pattern(const struct fm_tokenizer *tok, uint32_t id, struct work *work)
{
    const struct fm_token *token = &tok->tokens[id];
    work->text.bytes = 0;
    work->text.limit = 0;
    enum fm_result r = fm_buffer_add(&work->text, token->text, token->text_bytes);
    return r == FM_OK ? fm_steps_apply(NULL, &tok->pipeline->steps, &work->text, &work->other, &work->room) : r;
}

// Add the tokens for which `hidden` is as wanted. The first of several with the same pattern counts.
static enum fm_result add_tokens(struct fm_tokenizer *tok, bool hidden, struct fm_map *seen, struct work *work)
{
    struct fm_pipeline *p = tok->pipeline;
    enum fm_result r = FM_OK;
    for (uint32_t id = 0; r == FM_OK && id < tok->vocab; id++) {
        struct fm_text pattern = {.data = tok->tokens[id].text, .bytes = tok->tokens[id].text_bytes};
        bool normal = (p->flags[id] & FM_ADDED_NORMALIZED) != 0;
        uint32_t other;
        if (!(p->flags[id] & FM_ADDED) || p->hidden[id] != hidden)
            continue;
        if (normal) {
            r = make_pattern(tok, id, work);
            pattern = (struct fm_text){.data = work->text.data, .bytes = work->text.bytes};
        }
        if (r != FM_OK || pattern.bytes == 0 || fm_map_get(&seen[normal], pattern.data, (size_t)pattern.bytes, &other))
            continue;
        if (normal) {
            pattern.data = fm_arena_copy(&tok->arena, pattern.data, (size_t)pattern.bytes);
            if (pattern.data == NULL)
                return fm_nomem();
        }
        r = fm_map_put(&seen[normal], pattern.data, (size_t)pattern.bytes, id, NULL);
        if (r == FM_OK)
            r = fm_matcher_add(normal ? &p->normal.matcher : &p->raw.matcher, pattern.data, (uint32_t)pattern.bytes, id);
    }
    return r;
}

static enum fm_result make_matchers(struct fm_tokenizer *tok)
{
    struct fm_pipeline *p = tok->pipeline;
    struct fm_map seen[2] = {{0}};
    struct work work = {0};
    size_t added_bytes = 0;
    for (uint32_t id = 0; id < tok->vocab; id++)
        added_bytes += p->flags[id] & FM_ADDED ? tok->tokens[id].text_bytes : 0;
    work.room = fm_growth_limit(added_bytes);
    enum fm_result r = add_tokens(tok, true, seen, &work);
    if (r == FM_OK)
        r = add_tokens(tok, false, seen, &work);
    fm_buffer_finish(&work.text);
    fm_buffer_finish(&work.other);
    for (uint32_t id = 0; r == FM_OK && p->kind == SENTENCEPIECE && id < tok->vocab; id++) {
        const struct fm_token *token = &tok->tokens[id];
        if (token->type != FM_TOKEN_USER || (p->flags[id] & FM_ADDED) || token->text_bytes == 0)
            continue;
        r = fm_matcher_add(&p->pieces[0], token->text, token->text_bytes, id);
        if (r == FM_OK && !token->markup)
            r = fm_matcher_add(&p->pieces[1], token->text, token->text_bytes, id);
    }
    if (r == FM_OK)
        r = fm_matcher_seal(&p->raw.matcher);
    if (r == FM_OK)
        r = fm_matcher_seal(&p->normal.matcher);
    for (unsigned i = 0; i < 2; i++)
        if (r == FM_OK)
            r = fm_matcher_seal(&p->pieces[i]);
    p->raw.flags = p->normal.flags = p->flags;
    p->raw.hidden = p->normal.hidden = p->hidden;
    fm_map_finish(&seen[0]);
    fm_map_finish(&seen[1]);
    return r;
}

static enum fm_result read_metaspace(const struct fm_file *file, struct fm_pipeline *p)
{
    static const char *const schemes[] = {[METASPACE_NONE] = "none", [METASPACE_NEVER] = "never", [METASPACE_FIRST] = "first",
                                          [METASPACE_ALWAYS] = "always", NULL};
    unsigned scheme;
    enum fm_result r = read_word(file, FM_KEY_METASPACE, schemes, METASPACE_NONE, &scheme);
    p->metaspace = r == FM_OK ? (enum metaspace)scheme : METASPACE_NONE;
    return r;
}

// SentencePiece's own rules. The map of characters is copied.
static enum fm_result read_rules(const struct fm_file *file, struct fm_tokenizer *tok)
{
    struct fm_spm_rules *rules = &tok->pipeline->rules;
    const struct fm_meta *meta = fm_file_meta_find(file, FM_KEY_CHARSMAP);
    rules->dummy_prefix = tok->add_space_prefix;
    enum fm_result r = read_metaspace(file, tok->pipeline);
    if (r == FM_OK)
        r = fm_meta_bool(file, "tokenizer.ggml.remove_extra_whitespaces", false, false, &rules->remove_extra);
    if (r == FM_OK)
        r = fm_meta_bool(file, FM_KEY_SPACE_SUFFIX, false, false, &rules->space_suffix);
    if (r != FM_OK || meta == NULL)
        return r;
    if (meta->kind != FM_META_ARRAY || meta->elem_bytes != 1 || meta->elem_kind == FM_META_BOOL)
        return fm_fail(FM_FORMAT, "%s: metadata '" FM_KEY_CHARSMAP "': expected an array of bytes", fm_file_path(file));
    void *copy = fm_arena_copy(&tok->arena, meta->data, (size_t)meta->count);
    return copy == NULL ? fm_nomem() : fm_charsmap_open(copy, (size_t)meta->count, fm_file_path(file), &rules->map);
}

static enum fm_result read_steps(const struct fm_file *file, struct fm_tokenizer *tok)
{
    struct fm_pipeline *p = tok->pipeline;
    enum fm_result r = fm_steps_read(file, &tok->arena, &p->steps);
    if (r == FM_OK)
        r = read_metaspace(file, p);
    if (r == FM_OK)
        r = fm_meta_bool(file, FM_KEY_METASPACE_SPLIT, false, false, &p->split);
    if (r == FM_OK)
        r = fm_meta_bool(file, FM_KEY_PREFIX_SPACE, false, false, &p->prefix_space);
    if (r != FM_OK)
        return r;
    return tok->kind == FM_TOKENIZER_SPM ? fm_pairs_create(file, tok, &p->pairs) : FM_OK;
}

enum fm_result fm_pipeline_prepare(const struct fm_file *file, struct fm_tokenizer *tok)
{
    if (tok->pipeline == NULL)
        return FM_OK;
    enum fm_result r = tok->pipeline->kind == SENTENCEPIECE ? read_rules(file, tok) : read_steps(file, tok);
    return r == FM_OK ? make_matchers(tok) : r;
}

void fm_pipeline_destroy(struct fm_pipeline **pipeline)
{
    if (*pipeline == NULL)
        return;
    fm_matcher_finish(&(*pipeline)->raw.matcher);
    fm_matcher_finish(&(*pipeline)->normal.matcher);
    fm_matcher_finish(&(*pipeline)->pieces[0]);
    fm_matcher_finish(&(*pipeline)->pieces[1]);
    fm_pairs_finish(&(*pipeline)->pairs);
    fm_free(*pipeline);
    *pipeline = NULL;
}

// ---- encoding -------------------------------------------------------------------------------------------------------

// Spaces to marks, and one in front where the scheme wants it.
static enum fm_result mark_spaces(struct fm_encoder *enc, const char *text, size_t text_bytes, bool first, struct fm_buffer *out)
{
    const enum metaspace scheme = enc->tok->pipeline->metaspace;
    bool wanted = scheme == METASPACE_ALWAYS || (scheme == METASPACE_FIRST && first);
    enum fm_result r = FM_OK;
    out->bytes = 0;
    out->limit = UINT32_MAX;
    if (wanted && text[0] != ' ' && !fm_begins_with_mark(text, text_bytes))
        r = fm_buffer_add(out, FM_SPACE_MARK, FM_SPACE_MARK_BYTES);
    for (size_t at = 0; r == FM_OK && at < text_bytes;) {
        const size_t part = FM_MIN(text_bytes - at, COPY_BYTES);
        const char *space = memchr(text + at, ' ', part);
        const size_t bytes = space != NULL ? (size_t)(space - text) - at : part;
        r = fm_buffer_add(out, text + at, bytes);
        if (r == FM_OK && space != NULL)
            r = fm_buffer_add(out, FM_SPACE_MARK, FM_SPACE_MARK_BYTES);
        at += bytes + (space != NULL ? 1 : 0);
        if (r == FM_OK)
            r = fm_encoder_poll(enc, bytes + 1);
    }
    return r;
}

// Normalised text without added tokens; `first`: it begins where the whole text does.
static enum fm_result encode_plain(struct fm_encoder *enc, struct work *work, const char *text, size_t text_bytes, bool first)
{
    const struct fm_pipeline *p = enc->tok->pipeline;
    enum fm_result r = FM_OK;
    if (text_bytes == 0)
        return FM_OK;
    if (enc->tok->kind == FM_TOKENIZER_BPE && p->prefix_space && text[0] != ' ') {
        work->marked.bytes = 0;
        r = fm_buffer_add(&work->marked, " ", 1);
        if (r == FM_OK)
            r = fm_buffer_add(&work->marked, text, text_bytes);
        return r == FM_OK ? fm_bpe_encode(enc, work->marked.data, work->marked.bytes) : r;
    }
    if (enc->tok->kind == FM_TOKENIZER_BPE)
        return fm_bpe_encode(enc, text, text_bytes);
    if (p->metaspace != METASPACE_NONE) {
        r = mark_spaces(enc, text, text_bytes, first, &work->marked);
        text = work->marked.data;
        text_bytes = work->marked.bytes;
    }
    for (size_t at = 0; r == FM_OK && at < text_bytes;) {
        size_t end = p->split ? fm_next_mark(text, text_bytes, at + 1) : text_bytes;
        r = fm_pairs_encode(enc, &p->pairs, text + at, end - at);
        at = end;
    }
    return r;
}

// Copy the text; of a SentencePiece vocabulary with U+FFFD for each byte that is no part of a well-formed character.
static enum fm_result copy_text(struct fm_encoder *enc, const char *text, size_t text_bytes, const uint8_t *typed,
                                struct fm_buffer *out)
{
    enum fm_result r = FM_OK;
    out->bytes = 0;
    out->limit = 0;
    if (enc->tok->kind == FM_TOKENIZER_BPE)
        return fm_buffer_add_part(out, text, typed, 0, text_bytes);
    for (size_t at = 0; r == FM_OK && at < text_bytes;) {
        const size_t part = FM_MIN(text_bytes - at, COPY_BYTES), valid = fm_utf8_valid_prefix(text + at, part);
        // A character may reach over the end of the part.
        const bool broken = valid < part && (part == text_bytes - at || part - valid >= FM_CHAR_BYTES_MAX);
        r = fm_buffer_add_part(out, text, typed, at, valid);
        at += valid;
        const size_t from = out->bytes;
        if (r == FM_OK && broken) {
            r = fm_buffer_add(out, FM_UTF8_REPLACEMENT, FM_UTF8_REPLACEMENT_BYTES);
            fm_buffer_trace(out, from, typed, at, at + 1);
        }
        at += broken ? 1 : 0;
        if (r == FM_OK)
            r = fm_encoder_poll(enc, valid + 1);
    }
    return r;
}

// Text between tokens that were found before normalisation.
static enum fm_result encode_section(struct fm_encoder *enc, struct work *work, const char *text, size_t text_bytes, bool first)
{
    const struct fm_pipeline *p = enc->tok->pipeline;
    const uint8_t *typed = enc->mixed != NULL ? work->source.typed + (text - enc->mixed->text) : NULL;
    enum fm_result r;
    if (text_bytes == 0)
        return FM_OK;
    if (p->kind == SENTENCEPIECE) {
        const struct fm_matcher *pieces = &p->pieces[enc->plain ? 1 : 0];
        struct fm_spm_rules rules = p->rules;
        rules.dummy_prefix = rules.dummy_prefix && (first || p->metaspace != METASPACE_FIRST);
        struct fm_buffer escaped = {.data = enc->buffer, .cap = enc->buffer_cap, .limit = FM_MAX(work->room, (size_t)1),
                                    .traced = enc->mixed != NULL, .typed = enc->typed, .typed_cap = enc->typed_cap};
        r = fm_spm_normalize(enc, &rules, pieces, text, text_bytes, typed, &escaped);
        work->room -= escaped.bytes;
        enc->typed = escaped.typed;
        enc->typed_cap = escaped.typed_cap;
        enc->buffer = escaped.data;
        enc->buffer_bytes = escaped.bytes;
        enc->buffer_cap = escaped.cap;
        return r == FM_OK && escaped.bytes > 0 ? fm_spm_merge(enc, pieces) : r;
    }
    work->text.traced = work->other.traced = enc->mixed != NULL;
    r = copy_text(enc, text, text_bytes, typed, &work->text);
    if (r == FM_OK)
        r = fm_steps_apply(enc, &p->steps, &work->text, &work->other, &work->room);
    if (r != FM_OK || work->text.bytes == 0)
        return r;
    struct fm_added_search *search = &work->normal;
    fm_added_start(search, &p->normal, work->text.data, work->text.bytes, work->text.typed, !enc->plain);
    for (uint32_t id = 0; r == FM_OK && id != FM_TOKEN_NONE;) {
        size_t from = search->done, begin = search->text_bytes;
        r = fm_added_next(enc, search, &begin, &id);
        begin = id == FM_TOKEN_NONE ? search->text_bytes : begin;
        if (r == FM_OK)
            r = encode_plain(enc, work, search->text + from, begin - from, first && from == 0);
        if (r == FM_OK && id != FM_TOKEN_NONE)
            r = fm_encoder_emit(enc, id);
    }
    return r;
}

enum fm_result fm_pipeline_encode(struct fm_encoder *enc, const char *text, size_t text_bytes)
{
    struct work work = {.room = fm_growth_limit(text_bytes)};
    struct fm_added_search *search = &work.raw;
    enum fm_result r = enc->mixed != NULL ? fm_mixed_trace(enc->mixed, &work.source) : FM_OK;
    fm_added_start(search, &enc->tok->pipeline->raw, text, text_bytes, work.source.typed, !enc->plain);
    for (uint32_t id = text_bytes > 0 ? 0 : FM_TOKEN_NONE; r == FM_OK && id != FM_TOKEN_NONE;) {
        size_t from = search->done, begin = text_bytes;
        r = fm_added_next(enc, search, &begin, &id);
        begin = id == FM_TOKEN_NONE ? text_bytes : begin;
        if (r == FM_OK)
            r = encode_section(enc, &work, text + from, begin - from, from == 0);
        if (r == FM_OK && id != FM_TOKEN_NONE)
            r = fm_encoder_emit(enc, id);
    }
    fm_added_finish(&work.raw);
    fm_added_finish(&work.normal);
    fm_buffer_finish(&work.source);
    fm_buffer_finish(&work.text);
    fm_buffer_finish(&work.other);
    fm_buffer_finish(&work.marked);
    return r;
}
