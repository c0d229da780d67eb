// SPDX-License-Identifier: MIT
// A session's insides: state, steps in flight, the ring.
#ifndef FM_RUN_SESSION_H
#define FM_RUN_SESSION_H

#include "run/batch.h"
#include "run/profile.h"
#include "run/run.h"

struct fm_slot {
    uint32_t *tokens; // [n_ctx]: what its state was computed from
    uint32_t count;
    // Recurrent states: tokens that the newest and the oldest version have read. The newest may be ahead of count.
    uint32_t newest, oldest;
};

// Programs of one kind: rows of logits for the slots, or for every token.
struct fm_programs {
    struct fm_vk_program *program[FM_RUN_BUCKETS]; // by bucket; NULL until needed
};

struct fm_session {
    struct fm_model *model;
    struct fm_vk *vk;
    struct fm_blueprint paper;
    struct fm_bucket all[FM_RUN_BUCKETS]; // with as many outputs as tokens; planned when needed
    struct fm_vk_memory *state, *arena, *step, *result;
    uint64_t arena_bytes, step_stride, result_stride; // as allocated
    struct fm_programs few_programs, all_programs;
    struct fm_slot *slots;
    struct fm_batch batch[FM_RUN_RING]; // what ring entry i is about
    uint64_t value[FM_RUN_RING];        // timeline value of ring entry i
    uint32_t next_entry;
    struct fm_profile *profile; // NULL = steps are not timed
    atomic_bool cancelled;
    fm_cancel_fn *cancel; // the caller's, or NULL
    void *cancel_user;
};

// step.c
// ---------------------------------------------------------------------------------------------------------------

// Make the program for steps of `tokens` tokens. FM_CANCELLED when the session was cancelled meanwhile.
enum fm_result fm_step_prepare(struct fm_session *session, uint32_t tokens, bool all_rows);
// Write batch[entry] to the step block and submit it; sampling[i] is of output i. The entry must not be in flight.
enum fm_result fm_step_submit(struct fm_session *session, uint32_t entry, bool all_rows,
                              const struct fm_sampling *const *sampling);
// Wait for an entry; *out_ids (may be NULL): the ids that it sampled, [n_outputs], until the entry is submitted again.
enum fm_result fm_step_wait(struct fm_session *session, uint32_t entry, const uint32_t **out_ids);
// Logits [rows, vocab] of the last step, which was waited for, before the next is submitted.
enum fm_result fm_step_logits(struct fm_session *session, uint32_t entry, bool all_rows, uint32_t first, uint32_t rows,
                              float *out_logits);
void fm_step_finish(struct fm_session *session); // destroys programs and memories
// FM_CANCELLED if somebody asked for it; the request is then used up.
enum fm_result fm_step_cancelled(struct fm_session *session);

// state.c
// --------------------------------------------------------------------------------------------------------------

enum fm_result fm_state_create(struct fm_session *session); // zeroed
enum fm_result fm_state_copy_slot(struct fm_session *session, uint32_t from, uint32_t to);
// A step of `planned` rows was submitted that reads `rows` tokens of the slot from position `pos` on.
void fm_state_read(struct fm_session *session, uint32_t slot, uint32_t pos, uint32_t rows, uint32_t planned);
// Is there a state of the slot after `count` tokens?
bool fm_state_reaches(const struct fm_session *session, uint32_t slot, uint32_t count);
// fn for every range of bytes in the state pool that a slot of `count` tokens is made of, in a fixed order.
typedef enum fm_result fm_state_fn(void *user, uint64_t offset, uint64_t bytes);
enum fm_result fm_state_each(const struct fm_session *session, uint32_t slot, uint32_t count, fm_state_fn *fn, void *user);

#endif
