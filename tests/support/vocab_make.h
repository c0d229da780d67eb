// SPDX-License-Identifier: MIT
// Small vocabularies for tests, whose ids can be worked out by hand. Test code: running out of memory ends the program.
#ifndef FM_TESTS_VOCAB_MAKE_H
#define FM_TESTS_VOCAB_MAKE_H

#include "support/gguf_write.h"
#include "text/tokenizer.h"

// A token beyond the basic ones.
struct vocab_token {
    const char *text;
    float score;  // SentencePiece only
    int32_t type; // tokenizer.ggml.token_type; 0 = normal (1)
};

// Append tokenizer.ggml.* of a byte-level BPE: ids 0–255 are the bytes, 256 + i is what merges[i] ("left right", in
// GPT-2's alphabet) makes, after them the extra tokens.
void vocab_make_bpe(struct gguf_writer *w, const char *pre, const char *const *merges, size_t merge_count,
                    const struct vocab_token *extra, size_t extra_count);

// Append tokenizer.ggml.* of a SentencePiece BPE: 0 <unk>, 1 <s>, 2 </s>, then with `bytes` 3–258 <0x00>–<0xFF>, then
// the extra tokens.
void vocab_make_spm(struct gguf_writer *w, bool bytes, const struct vocab_token *extra, size_t extra_count);

// Append tokenizer.ggml.* of BPE over characters (model "gemma4"): 0 <pad>, 1 <eos>, 2 <bos>, 3 <unk>, 4–259 <0x00>–<0xFF>, then
// the extra tokens. Merges are "left right" with U+2581 for spaces.
void vocab_make_char_bpe(struct gguf_writer *w, const char *const *merges, size_t merge_count, const struct vocab_token *extra,
                         size_t extra_count);

// The character of GPT-2's alphabet for a byte, as NUL-terminated UTF-8 (at most 2 bytes).
void vocab_byte_text(uint8_t byte, char out_text[3]);

// Make the file in memory and a tokenizer from it; the file is gone when this returns.
enum fm_result vocab_open(const struct gguf_writer *w, struct fm_tokenizer **out_tok);

#endif
