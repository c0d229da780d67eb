// SPDX-License-Identifier: MIT
// Tokenizer files of a checkpoint folder to tokenizer.ggml.* keys. Internal to convert/.
#ifndef FM_CONVERT_VOCAB_H
#define FM_CONVERT_VOCAB_H

#include "convert/hf.h"

// tokenizer.ggml.token_type; the numbers are the file format's, and SentencePiece's.
enum fm_piece_type { FM_PIECE_NONE, FM_PIECE_NORMAL, FM_PIECE_UNKNOWN, FM_PIECE_CONTROL, FM_PIECE_USER, FM_PIECE_UNUSED, FM_PIECE_BYTE };

#define FM_NO_ID UINT32_MAX

// What the folder holds; each may be absent (root NULL, model NULL).
struct fm_vocab_files {
    struct fm_conf tokenizer; // tokenizer.json
    struct fm_conf config;    // tokenizer_config.json
    struct fm_conf added;     // added_tokens.json
    const uint8_t *model;     // tokenizer.model
    size_t model_bytes;
    const char *model_path;   // for messages
    char *chat_template;      // chat_template.jinja, or NULL
};

// A vocabulary being collected: one entry per row of the embedding.
struct fm_vocab {
    struct fm_arena *arena;
    struct fm_text *texts; // data NULL = no token yet
    float *scores;
    int32_t *types;
    uint32_t count;    // rows
    uint32_t past_end; // tokens without a row, left out
    bool spm;          // scores count
    bool add_space_prefix;
    uint32_t bos, eos, unk, pad; // as the model file itself names them; FM_NO_ID = not
};

// Set an entry; a second text for the same id is FM_FORMAT unless `replace`. `text` is not copied.
enum fm_result fm_vocab_set(struct fm_vocab *vocab, const char *path, uint32_t id, struct fm_text text, float score, int32_t type,
                            bool replace);
// All rows of the vocabulary and the keys from `files`.
enum fm_result fm_vocab_put(struct fm_hf *hf, const struct fm_vocab_files *files);

// vocab_spm.c: a SentencePiece model, copied.
enum fm_result fm_vocab_read_spm(struct fm_vocab *vocab, const uint8_t *data, size_t size_bytes, const char *path);

// vocab_bpe.c
enum fm_vocab_kind { FM_VOCAB_BYTE_LEVEL, FM_VOCAB_BYTE_FALLBACK, FM_VOCAB_OTHER };
// What kind of tokenizer the file describes.
enum fm_vocab_kind fm_vocab_kind_of(const struct fm_conf *tokenizer);
// model.vocab, its merges and added_tokens; puts tokenizer.ggml.merges for byte-level BPE, makes scores of the merges for the
// other.
enum fm_result fm_vocab_read_json(struct fm_hf *hf, struct fm_vocab *vocab, const struct fm_conf *tokenizer);
// added_tokens alone.
enum fm_result fm_vocab_read_added(struct fm_vocab *vocab, const struct fm_conf *tokenizer);
// tokenizer.ggml.pre by the expressions of the file, or FM_UNSUPPORTED saying what they are.
enum fm_result fm_vocab_pre(const struct fm_conf *tokenizer, const char **out_pre);
// Does the post-processor put a token first? *out_known = false when there is none that says so.
bool fm_vocab_adds_bos(const struct fm_conf *tokenizer, bool *out_known);

#endif
