// SPDX-License-Identifier: MIT
// BPE over characters, by the ranks of pairs, as the BPE model of the `tokenizers` library has it with byte_fallback:
// characters that are no token become byte tokens.
#ifndef FM_TEXT_PAIRS_H
#define FM_TEXT_PAIRS_H

#include "text/vocab.h"

// Three numbers for each merge, best first: left token, right token, what they become.
#define FM_KEY_PAIRS "fulmen.tokenizer.merges"

struct fm_pairs {
    struct fm_map chars; // text of one character → id
    bool words;          // no merge reaches over U+2581 that stands behind another character
};

// From FM_KEY_PAIRS into *out_pairs, tok->merges and tok->ranks. FM_FORMAT, also when one of the 256 byte tokens is missing.
enum fm_result fm_pairs_create(const struct fm_file *file, struct fm_tokenizer *tok, struct fm_pairs *out_pairs);
void fm_pairs_finish(struct fm_pairs *pairs);
// The tokens of one piece of well-formed text.
enum fm_result fm_pairs_encode(struct fm_encoder *enc, const struct fm_pairs *pairs, const char *text, size_t text_bytes);

#endif
