// SPDX-License-Identifier: MIT
// SentencePiece's own normalisation: its compiled map of characters, and its rules for spaces.
#ifndef FM_TEXT_CHARSMAP_H
#define FM_TEXT_CHARSMAP_H

#include "text/vocab.h"

#define FM_KEY_CHARSMAP "tokenizer.ggml.precompiled_charsmap"

// A double-array trie (Aoe 1989; the layout is that of the Darts-clone library) from sequences of bytes to places in a list
// of texts, each of which a zero ends.
struct fm_charsmap {
    const uint8_t *units; // 32 bits each, little-endian, in the file's alignment
    uint32_t n_units;     // 0 = no map
    const char *texts;
    size_t texts_bytes;
};

// `data` outlives the map. FM_FORMAT with `path` in front when the parts do not fit into size_bytes; whatever the trie says
// is checked at every step of a search.
enum fm_result fm_charsmap_open(const void *data, size_t size_bytes, const char *path, struct fm_charsmap *out_map);
// The longest rule, of at most 256 bytes, that text begins with: its bytes, and what stands for it. false when there is none.
bool fm_charsmap_find(const struct fm_charsmap *map, const char *text, size_t text_bytes, size_t *out_bytes,
                      struct fm_text *out_text);

// How SentencePiece treats a text before it looks for pieces.
struct fm_spm_rules {
    struct fm_charsmap map;
    bool dummy_prefix; // a space in front (or behind, with space_suffix)
    bool space_suffix;
    bool remove_extra; // spaces in front and behind go, runs become one
};

// Append the text, normalised and with U+2581 for each space, to `out`. `user`: pieces that no rule changes. A byte that is
// no part of a well-formed character becomes U+FFFD. `typed` belongs to the text, as for fm_buffer_add_part. enc->user is used on
// the way. FM_NOMEM, FM_CANCELLED.
enum fm_result fm_spm_normalize(struct fm_encoder *enc, const struct fm_spm_rules *rules, const struct fm_matcher *user,
                                const char *text, size_t text_bytes, const uint8_t *typed, struct fm_buffer *out);

#endif
