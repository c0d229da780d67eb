// SPDX-License-Identifier: MIT
// Running the tests of fulmen bench.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#define WARM_UP_SECONDS 0.5
#define FIRST_WARM_UP_SECONDS 2.0 // of the first test, on a GPU that idled until now
#define WARM_UP_TOKENS 4u         // to generate

// A test that is being run.
struct running {
    struct bench *b;
    struct bench_test *t;
    struct fm_session *session;
    uint32_t *tokens; // [n_seqs, n_tokens]
    uint32_t n_tokens, n_seqs;
    struct fm_request *requests; // [n_seqs]
};

// A recurrent model's state does not go back to the depth of the test: a second slot keeps it.
static bool keeps_state(const struct bench *b, const struct bench_test *t)
{
    return b->model_info.is_recurrent && t->n_depth > 0;
}

struct fm_session_params bench_session_params(const struct bench *b, const struct bench_test *t)
{
    const struct tool_options *o = b->options;
    uint64_t n_ctx = (uint64_t)t->n_depth + t->n_prompt + t->n_gen + 1; // too much is refused when the model is loaded
    return (struct fm_session_params){.n_ctx = n_ctx < UINT32_MAX ? (uint32_t)n_ctx : UINT32_MAX, .n_ubatch = o->ubatch,
                                      .n_slots = t->n_seqs > 0 ? t->n_seqs : keeps_state(b, t) ? 2 : 1,
                                      .cache_type_k = o->cache_type_k, .cache_type_v = o->cache_type_v,
                                      .activations = o->activations, .dca = o->dca.kind,
                                      .dca_cap = o->dca.cap, .dca_local = o->dca.local, .cancel = tool_cancel};
}

// Each sequence reads `count` tokens of its own and generates `predict`.
static enum fm_result feed(struct running *r, size_t count, uint32_t predict)
{
    for (uint32_t i = 0; i < r->n_seqs; i++)
        r->requests[i] = (struct fm_request){.slot = i, .tokens = r->tokens + (size_t)i * r->n_tokens, .n_tokens = count,
                                             .n_predict = predict, .ignore_end = true};
    return fm_session_generate(r->session, r->requests, r->n_seqs);
}

// Back to the depth of the test.
static enum fm_result go_back(struct running *r)
{
    enum fm_result result = FM_OK;
    if (keeps_state(r->b, r->t))
        return fm_session_fork(r->session, 1, 0);
    for (uint32_t i = 0; i < r->n_seqs && result == FM_OK; i++)
        result = fm_session_rewind(r->session, i, r->t->n_depth);
    return result;
}

// Once what the test is about, but at most `most` tokens generated, and back.
static enum fm_result pass(struct running *r, uint32_t most, double *out_prompt_seconds, double *out_seconds)
{
    const struct bench_test *t = r->t;
    enum fm_result result = FM_OK;
    double start = tool_seconds();
    if (t->n_prompt > 0)
        result = feed(r, t->n_prompt, 1);
    *out_prompt_seconds = t->n_prompt > 0 ? tool_seconds() - start : 0;
    if (result == FM_OK && t->n_gen > 0)
        result = feed(r, 1, t->n_gen < most ? t->n_gen : most);
    *out_seconds = tool_seconds() - start;
    return result == FM_OK ? go_back(r) : result;
}

// Pipelines are made, and a GPU that idled needs a while to raise its clocks.
static enum fm_result warm_up(struct running *r)
{
    bool first = r->t == r->b->tests && strcmp(r->b->device_info.kind, "cpu") != 0;
    double start = tool_seconds(), prompt_seconds, seconds;
    enum fm_result result;
    do {
        result = pass(r, WARM_UP_TOKENS, &prompt_seconds, &seconds);
    } while (result == FM_OK && tool_seconds() - start < (first ? FIRST_WARM_UP_SECONDS : WARM_UP_SECONDS));
    return result;
}

static enum fm_result go_to_depth(struct running *r)
{
    if (r->t->n_depth == 0)
        return FM_OK;
    enum fm_result result = feed(r, r->t->n_depth, 1);
    return result == FM_OK && keeps_state(r->b, r->t) ? fm_session_fork(r->session, 0, 1) : result;
}

static enum fm_result take_samples(struct running *r)
{
    struct bench_test *t = r->t;
    bool profile = r->b->options->profile;
    enum fm_result result = go_to_depth(r);
    if (result == FM_OK && profile)
        result = fm_session_profile(r->session, FM_PROFILE_STEPS);
    if (result == FM_OK)
        result = warm_up(r);
    if (result == FM_OK && profile)
        result = fm_session_profile(r->session, FM_PROFILE_STEPS); // without what the warm-up took
    for (uint32_t i = 0; i < r->b->options->bench_r && result == FM_OK; i++) {
        result = pass(r, UINT32_MAX, &t->prompt_seconds[i], &t->seconds[i]);
        t->n_samples++;
    }
    return result == FM_OK && profile ? fm_session_profile_read(r->session, &t->plain.steps, &t->plain.count) : result;
}

// The same again with timestamps between the groups, which the samples above must not pay for.
static enum fm_result take_profile(struct running *r)
{
    double prompt_seconds, seconds;
    enum fm_result result = fm_session_profile(r->session, FM_PROFILE_GROUPS);
    if (result == FM_OK)
        result = pass(r, WARM_UP_TOKENS, &prompt_seconds, &seconds);
    if (result == FM_OK)
        result = fm_session_profile(r->session, FM_PROFILE_GROUPS);
    for (uint32_t i = 0; i < r->b->options->bench_r && result == FM_OK; i++)
        result = pass(r, UINT32_MAX, &prompt_seconds, &seconds);
    return result == FM_OK ? fm_session_profile_read(r->session, &r->t->profile.steps, &r->t->profile.count) : result;
}

// Of `tokens` tokens in seconds[i] - without[i] (NULL = 0) each time.
static struct bench_speed speed_of(double tokens, const double *seconds, const double *without, size_t count)
{
    double sum = 0, squares = 0, n = (double)count;
    if (tokens == 0)
        return (struct bench_speed){0};
    for (size_t i = 0; i < count; i++) {
        double ts = tokens / (seconds[i] - (without != NULL ? without[i] : 0));
        sum += ts;
        squares += ts * ts;
    }
    double mean = sum / n;
    return (struct bench_speed){.mean = mean, .sd = n > 1 ? sqrt(fmax(0, (squares - n * mean * mean) / (n - 1))) : 0};
}

static void summarise(struct running *r)
{
    struct bench_test *t = r->t;
    struct fm_memory_need need;
    double n_seqs = r->n_seqs;
    t->speed = speed_of(n_seqs * ((double)t->n_prompt + t->n_gen), t->seconds, NULL, t->n_samples);
    t->prompt_speed = speed_of(n_seqs * t->n_prompt, t->prompt_seconds, NULL, t->n_samples);
    t->gen_speed = speed_of(n_seqs * t->n_gen, t->seconds, t->prompt_seconds, t->n_samples);
    fm_session_get_need(r->session, &need);
    if (t->n_gen > 0 && t->n_seqs == 0) // weights, and on average this much of the cache
        t->gb_per_s = tool_token_bytes(&r->b->model_info, &need, t->n_depth + t->n_gen * 0.5) * t->speed.mean * 1e-9;
}

static enum fm_result make_tokens(struct running *r)
{
    const struct bench_test *t = r->t;
    uint64_t random = 1;
    r->n_seqs = t->n_seqs > 0 ? t->n_seqs : 1;
    r->n_tokens = t->n_prompt > t->n_depth ? t->n_prompt : t->n_depth;
    r->n_tokens += r->n_tokens == 0;
    r->tokens = calloc(r->n_seqs, r->n_tokens * sizeof(*r->tokens));
    r->requests = calloc(r->n_seqs, sizeof(*r->requests));
    if (r->tokens == NULL || r->requests == NULL)
        return FM_NOMEM;
    for (size_t i = 0; i < (size_t)r->n_seqs * r->n_tokens; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        r->tokens[i] = (uint32_t)(random >> 33) % r->b->model_info.vocab;
    }
    return FM_OK;
}

enum fm_result bench_run(struct bench *b, struct bench_test *t)
{
    struct running r = {.b = b, .t = t};
    struct fm_session_params params = bench_session_params(b, t);
    t->seconds = calloc(b->options->bench_r, sizeof(*t->seconds));
    t->prompt_seconds = calloc(b->options->bench_r, sizeof(*t->prompt_seconds));
    enum fm_result result = t->seconds != NULL && t->prompt_seconds != NULL ? make_tokens(&r) : FM_NOMEM;
    if (result == FM_OK)
        result = fm_session_create(b->model, &params, &r.session);
    if (result == FM_OK) {
        tool_cancel_target(r.session);
        result = take_samples(&r);
    }
    if (result == FM_OK) {
        summarise(&r);
        result = b->options->profile ? take_profile(&r) : FM_OK;
    }
    tool_cancel_target(NULL);
    fm_session_destroy(&r.session);
    free(r.tokens);
    free(r.requests);
    return result;
}

void bench_test_finish(struct bench_test *t)
{
    free(t->seconds);
    free(t->prompt_seconds);
    fm_profile_free(t->plain.steps);
    fm_profile_free(t->profile.steps);
}
