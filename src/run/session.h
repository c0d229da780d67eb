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
    // Recurrent states: the newest and the oldest state version that exist, by the tokens that they have read. The newest may be ahead
    // of count.
    uint32_t newest, oldest;
};

// A bucket's program and what it was made from.
struct fm_step_program {
    struct fm_vk_program *program; // NULL until it is made
    struct fm_planned_step planned;
};

struct fm_session {
    struct fm_model *model;
    struct fm_vk *vk;
    struct fm_blueprint blueprint;
    struct fm_vk_memory *state, *arena, *step, *result, *counter;
    uint64_t arena_bytes, step_stride, result_stride; // as allocated
    struct fm_step_program few[FM_BUCKETS], all[FM_BUCKETS]; // with rows of logits for the slots; for every row of the step
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

// Make the memories that programs work in, of the blueprint's sizes.
enum fm_result fm_step_reserve(struct fm_session *session);
bool fm_step_is_ready(struct fm_session *session, struct fm_step_size step, bool all_rows); // is its program made?
// Make the program of a step unless there is one. Others may run meanwhile, unless all_rows: that may need larger memories, and what
// the device had in them is lost. FM_CANCELLED when the session was cancelled meanwhile.
enum fm_result fm_step_prepare(struct fm_session *session, struct fm_step_size step, bool all_rows);
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

// ahead.c
// --------------------------------------------------------------------------------------------------------------

// Programs for steps to come, made one at a time while the device works.
struct fm_ahead {
    struct fm_step_size step[FM_BUCKETS]; // one of each bucket, in the order in which they will be wanted
    uint32_t count, next;
};
// The steps in which these prompts will be read, and the one after them. A source's `decode`: it goes on after its prompt.
// FM_NOMEM.
enum fm_result fm_ahead_foresee(struct fm_session *session, const struct fm_batch_source *sources, size_t count,
                                struct fm_ahead *out_ahead);
// Make the first of its programs that is missing, if any is.
enum fm_result fm_ahead_prepare(struct fm_session *session, struct fm_ahead *ahead);

// state.c
// --------------------------------------------------------------------------------------------------------------

enum fm_result fm_state_create(struct fm_session *session); // zeroed
enum fm_result fm_state_copy_slot(struct fm_session *session, uint32_t from, uint32_t to);
// Record that a step was submitted which moves the slot's states from position `pos` on by `rows` rows; its plan has at most `run`
// rows of one sequence.
void fm_state_moved(struct fm_session *session, uint32_t slot, uint32_t pos, uint32_t rows, uint32_t run);
// Is there a state of the slot after `count` tokens?
bool fm_state_reaches(const struct fm_session *session, uint32_t slot, uint32_t count);
// fn for every range of bytes in the state pool that a slot of `count` tokens is made of, in a fixed order.
typedef enum fm_result fm_state_fn(void *user, uint64_t offset, uint64_t bytes);
enum fm_result fm_state_each(const struct fm_session *session, uint32_t slot, uint32_t count, fm_state_fn *fn, void *user);

#endif
