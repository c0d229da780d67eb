// SPDX-License-Identifier: MIT
// Sessions: sequences that are being read and written.
#ifndef FULMEN_SESSION_H
#define FULMEN_SESSION_H

#include "fulmen/model.h"

#ifdef __cplusplus
extern "C" {
#endif

// One or more sequences ("slots") with their state on the device. Not thread-safe: one thread at a time, except
// fm_session_cancel. Different sessions may be used by different threads at once.
struct fm_session;

// The model must be loaded. params NULL = defaults. FM_ARG for parameters out of range, FM_NOSPACE with sizes.
FM_API enum fm_result fm_session_create(struct fm_model *model, const struct fm_session_params *params,
                                        struct fm_session **out_session);
// Accepts NULL. Waits for the device.
FM_API void fm_session_destroy(struct fm_session **session);

// What it holds on the device.
FM_API void fm_session_get_need(const struct fm_session *session, struct fm_memory_need *out_need);

// ---- slots ----------------------------------------------------------------------------------------------------------

// The tokens that slot `slot` holds, in order; *out_count of them. The pointer holds until the slot changes. NULL and 0
// for a slot out of range.
FM_API const uint32_t *fm_session_tokens(const struct fm_session *session, uint32_t slot, size_t *out_count);
// Forget everything after the first `count` tokens. FM_ARG when there are fewer. A recurrent model's state goes back as far
// as its session keeps states (fm_session_params.n_rollback), and to 0: else FM_UNSUPPORTED, and nothing changed.
FM_API enum fm_result fm_session_rewind(struct fm_session *session, uint32_t slot, size_t count);
// Keep the longest common beginning of what the slot holds and `tokens`, but at most count - 1 tokens, so that there is
// something left to read; nothing where a recurrent model's state does not go back so far. *out_kept: how many stayed; the
// rest of `tokens` is what to give to fm_session_generate.
FM_API enum fm_result fm_session_keep(struct fm_session *session, uint32_t slot, const uint32_t *tokens, size_t count,
                                      size_t *out_kept);
// Make slot `to` a copy of slot `from`.
FM_API enum fm_result fm_session_fork(struct fm_session *session, uint32_t from, uint32_t to);

// What goes with a saved slot: the caller's, to continue as if nothing had happened.
struct fm_saved {
    uint32_t token; // sampled last and not read yet: the first of the next call's tokens; FM_TOKEN_NONE = none
    uint64_t seed;  // of the sampling
    char *note;     // text of the caller's own, or NULL; one that was loaded is released with fm_text_free
};

// Write the slot's tokens and state to a file that only its owner may read (fulmen/writer.h): `path` never holds half of one. The
// file is for this model (its tensors' names, shapes, types and a sample of their bytes) and cache type, with a checksum.
// FM_ARG where `path` is at fault (fm_model_check_output says so before), FM_WRITE, FM_NOMEM, FM_LOST.
FM_API enum fm_result fm_session_save(struct fm_session *session, uint32_t slot, const struct fm_saved *saved, const char *path);
// Read it into a slot, whatever that held. FM_FORMAT for a damaged file, FM_UNSUPPORTED for one of another model or cache
// type, FM_NOSPACE when it holds more tokens than the context, FM_IO, FM_NOMEM, FM_CANCELLED: found before the slot is touched, in a
// first reading of the whole file. What fails in the second reading leaves an empty slot: FM_CHANGED when the file is another by then,
// FM_IO, FM_CANCELLED, the failure of a device.
FM_API enum fm_result fm_session_load(struct fm_session *session, uint32_t slot, const char *path, struct fm_saved *out_saved);

// ---- generating -----------------------------------------------------------------------------------------------------

// How a token is chosen. All-zero is greedy. The filters work in the order penalty, top_k, top_p, min_p, temperature.
struct fm_sampling {
    float temp;             // <= 0: greedy
    uint32_t top_k;         // 0 = off
    float top_p;            // 0 or >= 1 = off
    float min_p;            // <= 0 = off
    float repeat_penalty;   // 0 or 1 = off
    uint32_t repeat_last_n; // tokens looked back by the penalty; 0 = 64
    uint64_t seed;          // the same seed, prompt and settings give the same text
};

enum fm_stop {
    FM_STOP_END,     // a token that ends an answer (it is the last one generated)
    FM_STOP_LENGTH,  // n_predict
    FM_STOP_CONTEXT, // the slot is full
    FM_STOP_CALLER,  // on_token said so
};

// A token was chosen. false stops this request. Called from the thread in fm_session_generate.
typedef bool fm_token_fn(void *user, uint32_t token);

// One sequence to continue. The fields after the blank line are results.
struct fm_request {
    uint32_t slot;
    const uint32_t *tokens; // appended to what the slot holds
    size_t n_tokens;        // at least 1
    uint32_t n_predict;     // most tokens to generate; 0 = until an end token or the context is full
    bool ignore_end;        // end tokens are tokens like others
    struct fm_sampling sampling;
    fm_token_fn *on_token;        // may be NULL
    fm_progress_fn *on_prompt;    // prompt tokens read; may be NULL; false stops all with FM_CANCELLED
    void *user;                   // of both

    enum fm_stop stop;
    uint32_t n_generated;
    uint64_t prompt_ns;   // from the call to the first token
    uint64_t generate_ns; // from the first token to the last
};

// Read the prompts in micro-batches and generate until every request has stopped. Requests of different slots advance
// together; each gives what it would give alone. Afterwards a slot holds its prompt and all generated tokens but the
// last. FM_NOSPACE before anything is read when a prompt does not fit its slot. After FM_CANCELLED slots hold what had
// been read until then, and on_token has had every token that was chosen: what follows a prompt that was read to its end
// is never lost. FM_NAN when logits hold a NaN, or none of a row is finite (or one is +infinity): a damaged file, or a driver
// that computes wrongly. The message names slot and token; tokens that were chosen before it, of this and of other requests,
// were handed out, and the slot holds what was read.
FM_API enum fm_result fm_session_generate(struct fm_session *session, struct fm_request *requests, size_t count);

// Stop the call that is running (or, if none is, the next one) with FM_CANCELLED, between two steps. From any thread,
// or from a signal handler.
FM_API void fm_session_cancel(struct fm_session *session);

// Rows of logits, [n_rows, vocab] f32, of the tokens first_token ... of the call. false stops with FM_CANCELLED.
typedef bool fm_logits_fn(void *user, size_t first_token, size_t n_rows, const float *logits);

// Append tokens to the slot and hand out the logits after the last one (all = false) or after each. They are handed out as
// they are, also where they are no numbers.
FM_API enum fm_result fm_session_logits(struct fm_session *session, uint32_t slot, const uint32_t *tokens, size_t count,
                                        bool all, fm_logits_fn *fn, void *user);

#ifdef __cplusplus
}
#endif

#endif
