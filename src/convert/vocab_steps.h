// SPDX-License-Identifier: MIT
// What a tokenizer.json does with a text before the model sees it. Internal to convert/.
#ifndef FM_CONVERT_VOCAB_STEPS_H
#define FM_CONVERT_VOCAB_STEPS_H

#include "convert/vocab.h"

#define FM_STEP_WORDS_MAX 128
#define FM_PARTS_OF_MAX 64

struct fm_vocab_steps {
    struct fm_text words[FM_STEP_WORDS_MAX]; // fulmen.tokenizer.normalizers
    uint32_t n_words;
    bool only_nfc;         // or nothing at all
    bool nfc;              // some step is NFC
    bool has_space;        // a text may hold spaces after all steps
    bool prepends_space;   // a step puts a space or U+2581 in front
    bool keeps_head;       // the first character stays where it is
    const char *metaspace; // "always", "first", "never"; NULL = no Metaspace
    bool metaspace_split;
    bool prefix_space;     // byte level: a space in front
    bool in_name;          // byte level: tokenizer.ggml.pre says all of it
};

// The parts of a node that may be a sequence of others (`list_key`), also of nested ones. FM_FORMAT when it is neither null
// nor an object of a known form, or has more than FM_PARTS_OF_MAX.
enum fm_result fm_vocab_parts(const struct fm_conf *tokenizer, const char *key, const char *list_key,
                              const cJSON *out_parts[FM_PARTS_OF_MAX], size_t *out_count);
bool fm_vocab_type_is(const cJSON *node, const char *type);
// The member's text, or NULL when it is no string.
const char *fm_vocab_string_of(const cJSON *node, const char *key);
bool fm_vocab_flag_of(const cJSON *node, const char *key, bool fallback);

// The normalisers. Texts live as long as the document. FM_UNSUPPORTED names the one that is not known, with its setting.
enum fm_result fm_vocab_read_normalizers(const struct fm_conf *tokenizer, struct fm_vocab_steps *out_steps);
// The pre-tokenizer of BPE with byte fallback: none, Metaspace, or a Split at spaces where there are none left.
enum fm_result fm_vocab_read_metaspace(const struct fm_conf *tokenizer, struct fm_vocab_steps *steps);
// The pre-tokenizer of byte-level BPE: what of it is a step, and the name that stands for the rest, `given` where that is not
// NULL. FM_UNSUPPORTED says what the file has.
enum fm_result fm_vocab_read_pre(const struct fm_conf *tokenizer, const char *given, struct fm_vocab_steps *steps,
                                 const char **out_pre);
// Settings of the model that would make other tokens, and of the whole: FM_UNSUPPORTED by name.
enum fm_result fm_vocab_check_model(const struct fm_conf *tokenizer, bool byte_level);
// Put the keys fulmen.tokenizer.* of the steps.
void fm_vocab_put_steps(struct fm_hf *hf, const struct fm_vocab_steps *steps);

#endif
