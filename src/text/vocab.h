// SPDX-License-Identifier: MIT
// Inside of struct fm_tokenizer, shared by the files of this folder only.
#ifndef FM_TEXT_VOCAB_H
#define FM_TEXT_VOCAB_H

#include "base/arena.h"
#include "base/map.h"
#include "format/file.h"
#include "text/bigrams.h"
#include "text/buffer.h"
#include "text/matcher.h"
#include "text/merge.h"
#include "text/pretok.h"
#include "text/tokenizer.h"
#include "text/word_cache.h"

#define FM_VOCAB_MAX (1u << 24)
#define FM_TOKEN_MAX_BYTES (1u << 16)

// tokenizer.ggml.token_type; the numbers are the file format's.
enum fm_token_type {
    FM_TOKEN_UNDEFINED,
    FM_TOKEN_NORMAL,
    FM_TOKEN_UNKNOWN,
    FM_TOKEN_CONTROL,
    FM_TOKEN_USER,
    FM_TOKEN_UNUSED,
    FM_TOKEN_BYTE,
    FM_TOKEN_TYPE_COUNT
};

enum fm_tokenizer_kind {
    FM_TOKENIZER_SPM, // tokenizer.ggml.model "llama": SentencePiece BPE
    FM_TOKENIZER_BPE, // "gpt2": byte-level BPE
    FM_TOKENIZER_CHAR_BPE, // "gemma4": BPE over characters
};

static inline bool fm_text_equals(struct fm_text text, const char *word)
{
    return text.bytes == strlen(word) && memcmp(text.data, word, (size_t)text.bytes) == 0;
}

#define FM_SPACE_MARK "\xE2\x96\x81" // U+2581
#define FM_SPACE_MARK_BYTES 3

// Does the text begin with U+2581?
static inline bool fm_begins_with_mark(const char *text, size_t text_bytes)
{
    return text_bytes >= FM_SPACE_MARK_BYTES && memcmp(text, FM_SPACE_MARK, FM_SPACE_MARK_BYTES) == 0;
}

// The place of the first U+2581 at or after `at`, or the end of the text.
static inline size_t fm_next_mark(const char *text, size_t text_bytes, size_t at)
{
    for (const char *hit; at < text_bytes; at++) {
        hit = memchr(text + at, FM_SPACE_MARK[0], text_bytes - at);
        at = hit != NULL ? (size_t)(hit - text) : text_bytes;
        if (hit == NULL || fm_begins_with_mark(hit, text_bytes - at))
            break;
    }
    return at;
}

struct fm_token {
    const char *text;  // as in the file, not NUL-terminated
    const char *piece; // the bytes that it stands for
    uint32_t text_bytes;
    uint32_t piece_bytes;
    uint32_t priority; // SPM: merges with a smaller one go first; equal scores have the same one
    uint8_t type;      // enum fm_token_type
    bool end;          // ends an answer
    bool markup;       // a user-defined token that steers a model: plain text unless special tokens are wanted
    bool marker;       // one that may make turns: a control token, an end, or a user-defined one in <> or []. Text in messages
};

// A merge of byte-level BPE; its rank is its index.
struct fm_merge_rule_ids {
    uint32_t left; // the key of fm_tokenizer.ranks are these two
    uint32_t right;
    uint32_t id; // what they become
};

struct fm_tokenizer {
    enum fm_tokenizer_kind kind;
    struct fm_arena arena; // tokens, texts, merges
    struct fm_token *tokens;
    uint32_t vocab;
    uint32_t max_piece_bytes; // longest fm_token.piece
    uint32_t bos, eos, unk;   // FM_TOKEN_NONE when there is none
    bool add_bos;
    bool add_space_prefix; // SPM
    bool has_unused;       // SPM: some tokens are UNUSED

    uint32_t byte_ids[256];           // the token of one byte, or FM_TOKEN_NONE
    struct fm_map spans;              // text → id of what merges may make; BPE with ignore_merges: piece → id
    uint32_t max_span_bytes;          // longest key of `spans`
    uint32_t priorities;              // merges have priorities less than this
    struct fm_bigrams bigrams;        // of what merges make; without bits when texts must not be cut; not for BPE
    struct fm_matcher special;        // matched in the text with FM_ENCODE_SPECIAL
    struct fm_matcher user;           // user-defined tokens; SPM matches them after its escaping
    struct fm_matcher plain;          // those without markup, for texts without FM_ENCODE_SPECIAL
    struct fm_pretok *pretok;         // BPE
    struct fm_merge_rule_ids *merges; // not for SPM
    struct fm_map ranks;              // (left, right) → index of merges
    struct fm_pipeline *pipeline;     // what comes before, in files that fulmen converted itself; else NULL

    enum fm_chat_template chat;
    bool chat_known;
    const char *chat_system; // NUL-terminated, or NULL
};

struct fm_text_range {
    size_t begin, end; // bytes
};

// A text of which some ranges came from somebody who may not write special tokens; the rest is a template's.
struct fm_mixed_text {
    const char *text;
    size_t bytes;
    const struct fm_text_range *inputs; // rising, not empty
    size_t input_count;
};

// One call of fm_tokenizer_encode.
struct fm_encoder {
    const struct fm_tokenizer *tok;
    const struct fm_mixed_text *mixed; // NULL: of one kind
    bool goes_on;                      // SPM: the text to encode is not the beginning of a stretch of plain text
    fm_cancel_fn *cancel; // may be NULL
    void *cancel_user;
    unsigned work; // since `cancel` was asked
    bool plain;    // without FM_ENCODE_SPECIAL
    uint32_t *ids;
    size_t count;
    size_t ids_cap;
    struct fm_merge merge;
    struct fm_word_cache words;   // SPM, when texts are cut
    struct fm_match_walk special; // of the whole text
    struct fm_match_walk template_special; // mixed: of one range of the template
    struct fm_match_walk template_user;    // likewise; SPM
    struct fm_match_walk user;    // SPM: of the escaped text
    char *buffer;                 // escaped text; not for BPE
    size_t buffer_bytes;
    size_t buffer_cap;
    uint8_t *typed; // of the escaped text that a pipeline made of a mixed one, as in struct fm_buffer
    size_t typed_cap;
    struct fm_buffer normal;           // BPE: normalised text
    struct fm_pretok_scratch *scratch; // BPE
    uint32_t *splits;                  // SPM with UNUSED tokens: bytes of the left half that one was made of
    uint32_t *pending;                 // SPM: stack of spans still to be split: begin, bytes
    size_t pending_cap;
};

// Note `work` bytes or steps done; now and then asks whether to go on. FM_CANCELLED. enc may be NULL: never.
enum fm_result fm_encoder_poll(struct fm_encoder *enc, size_t work);

// mixed.c: whether a token is not meant where its text stands. Without FM_ENCODE_SPECIAL that is markup. In a mixed text it is a
// marker that merges would make, or one that is found where an input has a part of its bytes, from `begin` to `end`; `typed` tells
// which those are, and NULL stands for all.
bool fm_encoder_is_text(const struct fm_encoder *enc, uint32_t id);
bool fm_encoder_is_text_at(const struct fm_encoder *enc, uint32_t id, const uint8_t *typed, size_t begin, size_t end);
// mixed.c: the mixed text as a traced one. FM_NOMEM.
enum fm_result fm_mixed_trace(const struct fm_mixed_text *mixed, struct fm_buffer *out);
// The id of what merges may make that has this text and is meant (fm_encoder_is_text), or FM_TOKEN_NONE.
uint32_t fm_encoder_span(const struct fm_encoder *enc, const char *text, size_t bytes);
// mixed.c: encode enc->mixed. `user`: the tokens that are matched in any text as it stands.
enum fm_result fm_encoder_mixed(struct fm_encoder *enc, const struct fm_matcher *user,
                                enum fm_result (*encode)(struct fm_encoder *enc, const char *text, size_t text_bytes));
// tokenizer.c: from the beginning of the text, special tokens outside the inputs only.
enum fm_result fm_tokenizer_encode_mixed(const struct fm_tokenizer *tok, const struct fm_mixed_text *mixed, fm_cancel_fn *cancel,
                                         void *user, uint32_t **out_ids, size_t *out_count);

enum fm_result fm_encoder_emit(struct fm_encoder *enc, uint32_t id);

// vocab.c: tokens, types, special ids and matchers from tokenizer.ggml.*; tok->kind is set. fm_vocab_read copies all
// texts.
enum fm_result fm_vocab_read(const struct fm_file *file, struct fm_tokenizer *tok);

// spm.c. fm_spm_make_pieces: the texts of the tokens with U+2581 turned to spaces. fm_spm_emit_unknown: byte tokens for a
// character that is no token, or the unknown token.
enum fm_result fm_spm_make_pieces(struct fm_tokenizer *tok);
enum fm_result fm_spm_emit_unknown(struct fm_encoder *enc, const char *text, uint32_t bytes);
enum fm_result fm_spm_create(const struct fm_file *file, struct fm_tokenizer *tok);
enum fm_result fm_spm_encode(struct fm_encoder *enc, const char *text, size_t text_bytes);
// The tokens of the escaped text in enc->buffer; those of `user` are set apart in it.
enum fm_result fm_spm_merge(struct fm_encoder *enc, const struct fm_matcher *user);

// bpe.c. fm_bpe_read_merges: tokenizer.ggml.merges. fm_bpe_join: the rule of fm_merge_run; user is the encoder.
enum fm_result fm_bpe_read_merges(const struct fm_file *file, struct fm_tokenizer *tok);
fm_merge_rule fm_bpe_join;
enum fm_result fm_bpe_create(const struct fm_file *file, struct fm_tokenizer *tok);
enum fm_result fm_bpe_encode(struct fm_encoder *enc, const char *text, size_t text_bytes);

// char_bpe.c
enum fm_result fm_char_bpe_create(const struct fm_file *file, struct fm_tokenizer *tok);
enum fm_result fm_char_bpe_encode(struct fm_encoder *enc, const char *text, size_t text_bytes);

// chat.c: recognise the template of the file.
enum fm_result fm_chat_detect(const struct fm_file *file, struct fm_tokenizer *tok);

#endif
