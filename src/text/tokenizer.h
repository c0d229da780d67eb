// SPDX-License-Identifier: MIT
#ifndef FM_TEXT_TOKENIZER_H
#define FM_TEXT_TOKENIZER_H

#include "base/base.h"
#include "fulmen/text.h"

// Build the tokenizer that the file's tokenizer.ggml.* keys describe. *out_tok = NULL with FM_OK when the file has none
// (key absent, "none" or "no_vocab"). FM_FORMAT, FM_UNSUPPORTED (unknown model or pre-tokenizer, naming the known
// ones), FM_NOMEM.
enum fm_result fm_tokenizer_create(const struct fm_file *file, struct fm_tokenizer **out_tok);
void fm_tokenizer_destroy(struct fm_tokenizer **tok);

#endif
