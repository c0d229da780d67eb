// SPDX-License-Identifier: MIT
// Tokenizer files of a checkpoint folder to tokenizer.ggml.* keys. Internal to convert/.
#ifndef FM_CONVERT_VOCAB_H
#define FM_CONVERT_VOCAB_H

#include "base/map.h"
#include "convert/hf.h"

// tokenizer.ggml.token_type; the numbers are the file format's, and SentencePiece's.
enum fm_piece_type { FM_PIECE_NONE, FM_PIECE_NORMAL, FM_PIECE_UNKNOWN, FM_PIECE_CONTROL, FM_PIECE_USER, FM_PIECE_UNUSED, FM_PIECE_BYTE };

#define FM_NO_ID UINT32_MAX

// What the folder holds; each may be absent (root NULL, model NULL).
struct fm_vocab_files {
    struct fm_conf tokenizer; // tokenizer.json
    struct fm_conf config;    // tokenizer_config.json
    struct fm_conf added;     // added_tokens.json
    struct fm_conf special;   // special_tokens_map.json
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
    uint32_t *flags;   // enum fm_added_flags
    struct fm_map ids, added_ids; // of tokenizer.json: text → id in the model's vocabulary, and of tokens beside it
    uint32_t n_pieces;            // of the model's vocabulary
    uint32_t count;    // rows
    uint32_t past_end; // tokens without a row, left out
    bool spm;          // scores count
    bool add_space_prefix;
    bool remove_extra, space_suffix; // of SentencePiece's normaliser
    struct fm_text charsmap;         // likewise; in the file's bytes
    uint32_t bos, eos, unk, pad; // as the model file itself names them; FM_NO_ID = not
};

// Set an entry; a second text for the same id is FM_FORMAT unless `replace`. `text` is not copied.
enum fm_result fm_vocab_set(struct fm_vocab *vocab, const char *path, uint32_t id, struct fm_text text, float score, int32_t type,
                            bool replace);
struct fm_text fm_vocab_text(const char *text);
// An entry of added_tokens_decoder in tokenizer_config.json: "32000": {"content": "<pad>", "special": true}. FM_FORMAT when it
// is none.
enum fm_result fm_vocab_decoder_entry(const struct fm_conf *config, const cJSON *item, uint32_t *out_id, const char **out_content);
// All rows of the vocabulary and the keys from `files`.
enum fm_result fm_vocab_put(struct fm_hf *hf, const struct fm_vocab_files *files);

// vocab_spm.c: a SentencePiece model, copied.
enum fm_result fm_vocab_read_spm(struct fm_vocab *vocab, const uint8_t *data, size_t size_bytes, const char *path);

// vocab_pre.c
enum fm_vocab_kind { FM_VOCAB_BYTE_LEVEL, FM_VOCAB_BYTE_FALLBACK, FM_VOCAB_OTHER };
// What kind of tokenizer the file describes. FM_FORMAT when its parts are in no known form.
enum fm_result fm_vocab_kind_of(const struct fm_conf *tokenizer, enum fm_vocab_kind *out_kind);
// FM_UNSUPPORTED for FM_VOCAB_OTHER, naming the model.
enum fm_result fm_vocab_refuse_other(const struct fm_conf *tokenizer);
// The token that the post-processor puts in front of a text.
struct fm_vocab_front {
    bool known;        // there is a post-processor that says so, or says that there is none
    const char *token; // NULL = none
    uint32_t id;       // as the post-processor has it; FM_NO_ID = it does not say
};
// FM_UNSUPPORTED for a post-processor that does something else.
enum fm_result fm_vocab_read_front(const struct fm_conf *tokenizer, struct fm_vocab_front *out_front);

// vocab_bpe.c: model.vocab, its merges and added_tokens; puts tokenizer.ggml.merges for byte-level BPE, fulmen.tokenizer.merges
// for the other, of which it makes scores, too.
enum fm_result fm_vocab_read_json(struct fm_hf *hf, struct fm_vocab *vocab, const struct fm_conf *tokenizer);
// enum fm_added_flags of an object with lstrip, rstrip, single_word and normalized.
uint32_t fm_vocab_flags_of(const cJSON *token);

// vocab_slow.c: make the tokenizer.json that vocab.json and merges.txt of the folder stand for, by the class that the other
// files name. Nothing happens when they are not there.
enum fm_result fm_vocab_read_slow(struct fm_hf *hf, struct fm_vocab_files *files);

#endif
