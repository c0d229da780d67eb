// SPDX-License-Identifier: MIT
// Pre-tokenizers of byte-level BPE: regular expressions that cut a text into pieces, which are merged one by one.
#ifndef FM_TEXT_PRETOK_H
#define FM_TEXT_PRETOK_H

#include "base/base.h"

struct fm_pretok;         // compiled expressions; immutable, so threads may share it
struct fm_pretok_scratch; // what one search needs

// What the tokenizer.ggml.pre of a file says besides the expressions.
struct fm_pretok_traits {
    bool ignore_merges; // a piece that is a token as a whole is that token, whatever the merges say
    bool add_bos;       // unless the file says otherwise
    bool nfc;           // the text is brought into normalisation form C first
};

// FM_UNSUPPORTED on an unknown name (name_bytes long), with the names that are known; FM_NOMEM.
enum fm_result fm_pretok_create(const char *name, size_t name_bytes, struct fm_pretok **out_pretok);
void fm_pretok_destroy(struct fm_pretok **pretok);
const struct fm_pretok_traits *fm_pretok_traits(const struct fm_pretok *pretok);

enum fm_result fm_pretok_scratch_create(struct fm_pretok_scratch **out_scratch);
void fm_pretok_scratch_destroy(struct fm_pretok_scratch **scratch);

// Receives the pieces in order; together they are the text.
typedef enum fm_result fm_pretok_piece_fn(void *user, const char *piece, size_t piece_bytes);

// Cut well-formed UTF-8. FM_NOMEM, or what `fn` returned. Where an expression hits a limit of the matcher, the text
// goes on in pieces of bounded length.
enum fm_result fm_pretok_split(const struct fm_pretok *pretok, struct fm_pretok_scratch *scratch, const char *text,
                               size_t text_bytes, fm_pretok_piece_fn *fn, void *user);

#endif
