// SPDX-License-Identifier: MIT
// Tokens that stand beside the model's vocabulary and are found in the text, as the `tokenizers` library does it.
#ifndef FM_TEXT_ADDED_H
#define FM_TEXT_ADDED_H

#include "text/vocab.h"

// What the file says of a token, as bits of an array with one number for each.
#define FM_KEY_ADDED_FLAGS "fulmen.tokenizer.added_flags"
enum fm_added_flags {
    FM_ADDED = 1,             // found in the text; the others only with it
    FM_ADDED_LSTRIP = 2,      // takes the white space on its left along
    FM_ADDED_RSTRIP = 4,      // and on its right
    FM_ADDED_SINGLE_WORD = 8, // only where no character of words touches it
    FM_ADDED_NORMALIZED = 16, // found in the text after its normalisation, else before
    FM_ADDED_PIECE = 32,      // is in the model's vocabulary too
    FM_ADDED_FLAGS_END = 64,
};

struct fm_added {
    struct fm_matcher matcher;
    const uint8_t *flags; // by id
    const bool *hidden;   // by id: passed over where special tokens are not looked for
};

// A search through one text. All-zero, then fm_added_start; its memory is kept from one text to the next.
struct fm_added_search {
    const struct fm_added *added;
    struct fm_match_walk walk;
    const char *text;
    size_t text_bytes;
    const uint8_t *typed; // of the text, as in struct fm_buffer
    size_t done; // where what was not yet handed out begins
    size_t scan;
    size_t white_end; // of the white space that was taken last
    bool special;
};

// `special`: hidden tokens are found, too. `typed` may be NULL.
void fm_added_start(struct fm_added_search *search, const struct fm_added *added, const char *text, size_t text_bytes,
                    const uint8_t *typed, bool special);
// The next token: *out_begin is where the text before it ends, which began at search->done before the call; afterwards done
// lies behind the token. *out_id = FM_TOKEN_NONE when there is none: the rest of the text is plain. Of tokens that begin
// leftmost the longest is taken; one that is refused (hidden, or no single word) hides what lies inside it. A token inside of
// white space that the one before took counts all the same, and *out_begin is then where done was. FM_NOMEM, FM_CANCELLED.
enum fm_result fm_added_next(struct fm_encoder *enc, struct fm_added_search *search, size_t *out_begin, uint32_t *out_id);
void fm_added_finish(struct fm_added_search *search);

#endif
