// SPDX-License-Identifier: MIT
// The scheduler: which tokens make up the next step. A pure function of where the sequences are.
#ifndef FM_RUN_BATCH_H
#define FM_RUN_BATCH_H

#include "run/bucket.h"

// A sequence as the scheduler sees it.
struct fm_batch_source {
    uint32_t slot;
    uint32_t pos;           // of its next token
    const uint32_t *tokens; // of the prompt that are left to read
    size_t left;
    bool decode;            // the prompt is read, and the token that was sampled last is wanted as input
    uint32_t taken;         // out: tokens of this step
};

struct fm_batch {
    uint32_t capacity; // tokens that the arrays have room for
    // The tail of a prompt: its last tokens, that many, by which the sequence can be rolled back right after the prompt. At most
    // FM_STATE_VERSION_ROWS; 0 = off. Steps that read of it keep state versions after each token.
    uint32_t tail;
    uint32_t n_tokens, n_outputs, n_segments;
    uint32_t run;                 // most tokens that the step has of one sequence
    uint32_t *token, *pos, *slot; // [n_tokens]
    uint32_t *length;             // [n_tokens]: tokens of the sequence, with all of its prompt, also those that are not read yet
    uint32_t *segment;            // [n_segments,4]: first row, rows, slot, position of the first row (abi.h)
    uint32_t *out_row, *owner;    // [n_outputs]: row of the step, index of its source
};

enum fm_result fm_batch_init(struct fm_batch *batch, uint32_t capacity); // FM_NOMEM
void fm_batch_finish(struct fm_batch *batch);

// Decide how many tokens of each source the next step reads (`taken`), at most batch->capacity in all: one of each sequence that
// decodes, then prompts, from source `first` on and round, until the step is full. A step that reads of the tail of a prompt has at
// most FM_STATE_VERSION_ROWS tokens of any sequence, so that a state version is kept after each. Returns the step's size; rows = 0: nothing
// to do.
struct fm_step_size fm_batch_take(const struct fm_batch *batch, struct fm_batch_source *sources, size_t count, size_t first);
// Form that step. The tokens of one slot stand together, in rising positions. An output row for the last token of a prompt and for
// every decoded one; with `all_rows` for every token.
void fm_batch_form(struct fm_batch *batch, struct fm_batch_source *sources, size_t count, size_t first, bool all_rows);

#endif
