// SPDX-License-Identifier: MIT
// A small vocabulary with byte fallback and pairs (fulmen.tokenizer.*), whose ids can be worked out by hand, and a map of
// characters. Test code: running out of memory ends the program.
#ifndef FM_TESTS_PIPELINE_MAKE_H
#define FM_TESTS_PIPELINE_MAKE_H

#include "support/vocab_make.h"

// Ids: 0 <unk>, 1 <s>, 2 </s>, 3–258 the bytes, then these.
enum {
    PIPELINE_MARK = 259, // U+2581
    PIPELINE_A,          // "a"
    PIPELINE_B,
    PIPELINE_MARK_A, // U+2581 "a"
    PIPELINE_MARK_B,
    PIPELINE_MARKS, // two of U+2581
    PIPELINE_E,     // "é"
    PIPELINE_AB,
    PIPELINE_USER, // "<u>", added by a user
    PIPELINE_SUN,  // "sun", likewise
    PIPELINE_COUNT
};
#define PIPELINE_BYTE(b) (3 + (b))

// Append tokenizer.ggml.* and, as `pipeline` ("tokenizers", "sentencepiece") wants them, the flags of <s>, </s>, "<u>" and
// "sun", the last two with `flags` more (enum fm_added_flags), and the pairs.
void pipeline_make(struct gguf_writer *w, const char *pipeline, uint32_t flags);
// Bytes of a map of characters with two rules: "A" becomes "b", "AA" becomes two spaces. Release with free.
uint8_t *charsmap_make(size_t *out_bytes);

#endif
