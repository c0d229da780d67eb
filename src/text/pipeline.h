// SPDX-License-Identifier: MIT
// How a whole text goes through a tokenizer that fulmen converted itself: which tokens are found in it, how the rest is
// normalised and cut. The keys are described in models/README.md. Files of other makers have none of this.
#ifndef FM_TEXT_PIPELINE_H
#define FM_TEXT_PIPELINE_H

#include "text/vocab.h"

#define FM_KEY_PIPELINE "fulmen.tokenizer.pipeline"
#define FM_KEY_METASPACE "fulmen.tokenizer.metaspace"
#define FM_KEY_METASPACE_SPLIT "fulmen.tokenizer.metaspace_split"
#define FM_KEY_PREFIX_SPACE "fulmen.tokenizer.prefix_space"
#define FM_KEY_SPACE_SUFFIX "fulmen.tokenizer.space_suffix"

// Read the key, the flags of tokens, and make tok->pipeline; NULL where the key is absent. fm_vocab_read comes before it,
// fm_spm_create or fm_bpe_create after it. FM_FORMAT, FM_UNSUPPORTED (a pipeline or a step that this version does not
// know), FM_NOMEM.
enum fm_result fm_pipeline_read(const struct fm_file *file, struct fm_tokenizer *tok);
// The rest of it, once the tokenizer of its kind is there.
enum fm_result fm_pipeline_prepare(const struct fm_file *file, struct fm_tokenizer *tok);
void fm_pipeline_destroy(struct fm_pipeline **pipeline);

// May merges make this token? true without a pipeline.
bool fm_pipeline_is_piece(const struct fm_tokenizer *tok, uint32_t id);

// A whole text; enc->tok has a pipeline. With enc->plain only tokens are found that a user added, and that are no markup.
enum fm_result fm_pipeline_encode(struct fm_encoder *enc, const char *text, size_t text_bytes);

#endif
