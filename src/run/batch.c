// SPDX-License-Identifier: MIT
#include "run/batch.h"

#include "graph/graph.h"
#include "shaders/lib/abi.h"

#define ARRAYS 10u // of [capacity] words: six, and segments of four words each

enum fm_result fm_batch_init(struct fm_batch *batch, uint32_t capacity)
{
    uint32_t *words = fm_alloc_zero((size_t)capacity, ARRAYS * sizeof(*words));
    if (words == NULL)
        return fm_nomem();
    *batch = (struct fm_batch){.capacity = capacity, .token = words, .pos = words + capacity, .slot = words + (size_t)capacity * 2,
                               .out_row = words + (size_t)capacity * 3, .owner = words + (size_t)capacity * 4,
                               .length = words + (size_t)capacity * 5, .segment = words + (size_t)capacity * 6};
    return FM_OK;
}

void fm_batch_finish(struct fm_batch *batch)
{
    fm_free(batch->token);
    *batch = (struct fm_batch){0};
}

// Adds a row to the step: token `i` of the source from its position on. `output`: the row's logits are wanted.
static void put(struct fm_batch *batch, const struct fm_batch_source *s, uint32_t source, uint32_t i, uint32_t token, bool output)
{
    uint32_t at = batch->n_tokens++;
    batch->token[at] = token;
    batch->pos[at] = s->pos + i;
    batch->slot[at] = s->slot;
    batch->length[at] = s->pos + (uint32_t)FM_MAX(s->left, 1);
    if (output) {
        batch->out_row[batch->n_outputs] = at;
        batch->owner[batch->n_outputs++] = source;
    }
}

// Adds a segment: the `rows` rows that were added last are those of source `s`.
static void put_segment(struct fm_batch *batch, const struct fm_batch_source *s, uint32_t rows)
{
    uint32_t *segment = batch->segment + (size_t)batch->n_segments++ * FM_SEGMENT_WORDS;
    segment[FM_SEGMENT_ROW] = batch->n_tokens - rows;
    segment[FM_SEGMENT_ROWS] = rows;
    segment[FM_SEGMENT_SLOT] = s->slot;
    segment[FM_SEGMENT_POS] = s->pos;
}

// How many tokens the next step may read of each prompt: FM_STATE_VERSION_ROWS if some prompt has only its tail left to read, else as many
// as the step has room for.
static uint32_t prompt_tokens(const struct fm_batch *batch, const struct fm_batch_source *sources, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (sources[i].left > 0 && sources[i].left <= batch->tail)
            return FM_STATE_VERSION_ROWS;
    return batch->capacity;
}

struct fm_step_size fm_batch_take(const struct fm_batch *batch, struct fm_batch_source *sources, size_t count, size_t first)
{
    struct fm_step_size step = {0};
    // First one token of each sequence that decodes.
    for (size_t i = 0; i < count; i++) {
        struct fm_batch_source *s = &sources[i];
        s->taken = s->decode && s->left == 0 && step.rows < batch->capacity;
        step.rows += s->taken;
        step.run = FM_MAX(step.run, s->taken);
    }
    // Then prompts, in turn. No step reads across the beginning of a prompt's tail: what comes before it has been read by then.
    uint32_t most = prompt_tokens(batch, sources, count);
    for (size_t n = 0; n < count; n++) {
        struct fm_batch_source *s = &sources[(first + n) % count];
        if (s->left == 0)
            continue;
        s->taken = (uint32_t)FM_MIN(s->left, FM_MIN(most, batch->capacity - step.rows));
        if (s->left > batch->tail)
            s->taken = (uint32_t)FM_MIN(s->taken, s->left - batch->tail);
        step.rows += s->taken;
        step.run = FM_MAX(step.run, s->taken);
    }
    return step;
}

void fm_batch_form(struct fm_batch *batch, struct fm_batch_source *sources, size_t count, size_t first, bool all_rows)
{
    struct fm_step_size step = fm_batch_take(batch, sources, count, first);
    batch->n_tokens = batch->n_outputs = batch->n_segments = 0;
    batch->run = step.run;
    for (size_t i = 0; i < count; i++)
        if (sources[i].left == 0 && sources[i].taken > 0) {
            put(batch, &sources[i], (uint32_t)i, 0, FM_TOKEN_LAST, true); // the device knows the token that it sampled last
            put_segment(batch, &sources[i], 1);
        }
    for (size_t n = 0; n < count; n++) {
        size_t i = (first + n) % count;
        const struct fm_batch_source *s = &sources[i];
        if (s->left == 0 || s->taken == 0)
            continue;
        for (uint32_t t = 0; t < s->taken; t++)
            put(batch, s, (uint32_t)i, t, s->tokens[t], all_rows || t + 1 == s->left);
        put_segment(batch, s, s->taken);
    }
}
