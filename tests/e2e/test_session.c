// SPDX-License-Identifier: MIT
// Sessions through the public interface: sequences together and alone, seeds, rewinding, forks, limits, cancelling,
// loading.
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "e2e/oracle.h"

#define N_SLOTS 4u
#define N_NEW 12u
#define MOST 64u

static struct fm_device *device;
static struct fm_model *model; // random, vocabulary 96, context 256, no tokenizer

static int open_model(void **state)
{
    (void)state;
    struct fm_config config = model_make_config("llama");
    const char *path = e2e_model_file("llama", &config, FM_TYPE_Q8_0, 17);
    device = e2e_device(NULL);
    E2E_OK(fm_model_open(path, &model));
    E2E_OK(fm_model_load(model, device, NULL));
    unlink(path); // mapped, and on the device
    return 0;
}

static int close_model(void **state)
{
    (void)state;
    fm_model_close(&model);
    fm_device_close(&device);
    return 0;
}

static struct fm_session *make_session(uint32_t n_ctx, uint32_t n_slots, uint32_t n_ubatch)
{
    const struct fm_session_params params = {.n_ctx = n_ctx, .n_slots = n_slots, .n_ubatch = n_ubatch};
    struct fm_session *session = NULL;
    E2E_OK(fm_session_create(model, &params, &session));
    return session;
}

struct made {
    uint32_t tokens[MOST];
    size_t count;
    size_t stop_at; // 0: never
};

static bool collect(void *user, uint32_t token)
{
    struct made *made = user;
    assert_true(made->count < MOST);
    made->tokens[made->count++] = token;
    return made->count != made->stop_at;
}

static const uint32_t *prompt(uint32_t which, size_t n)
{
    static uint32_t tokens[N_SLOTS][300];
    for (size_t i = 0; i < n; i++)
        tokens[which][i] = (uint32_t)(i * (31 + 2 * which) + 5 * which + i / 7) % 96;
    return tokens[which];
}

static const struct fm_sampling greedy = {0};
static const struct fm_sampling warm = {.temp = 1.2f, .top_k = 50, .top_p = 0.95f, .min_p = 0.01f, .repeat_penalty = 1.1f, .seed = 42};

static struct made generate(struct fm_session *session, uint32_t slot, const uint32_t *tokens, size_t n, struct fm_sampling sampling)
{
    struct made made = {.count = 0};
    struct fm_request request = {.slot = slot, .tokens = tokens, .n_tokens = n, .n_predict = N_NEW, .sampling = sampling,
                                 .on_token = collect, .user = &made};
    E2E_OK(fm_session_generate(session, &request, 1));
    assert_int_equal(request.stop, FM_STOP_LENGTH);
    assert_int_equal(request.n_generated, N_NEW);
    assert_int_equal(made.count, N_NEW);
    assert_true(request.prompt_ns > 0 && request.generate_ns > 0);
    return made;
}

static void assert_same(const struct made *a, const struct made *b)
{
    assert_int_equal(a->count, b->count);
    assert_memory_equal(a->tokens, b->tokens, a->count * sizeof(a->tokens[0]));
}

// ---- what is generated -------------------------------------------------------------------------------------------

static void test_twice_the_same(void **state)
{
    struct fm_session *session = make_session(128, 1, 16);
    (void)state;
    struct made first = generate(session, 0, prompt(0, 20), 20, greedy);
    E2E_OK(fm_session_rewind(session, 0, 0));
    struct made second = generate(session, 0, prompt(0, 20), 20, greedy);
    assert_same(&first, &second);
    fm_session_destroy(&session);
    assert_null(session);
}

static void test_seeds(void **state)
{
    struct fm_session *session = make_session(128, 1, 32);
    struct fm_sampling other = warm;
    struct made made[3];
    (void)state;
    other.seed = 43;
    for (int i = 0; i < 3; i++) {
        E2E_OK(fm_session_rewind(session, 0, 0));
        made[i] = generate(session, 0, prompt(1, 9), 9, i < 2 ? warm : other);
    }
    assert_same(&made[0], &made[1]);
    assert_memory_not_equal(made[0].tokens, made[2].tokens, sizeof(made[0].tokens[0]) * N_NEW);
    fm_session_destroy(&session);
}

// Greedy tokens are the largest logits of the same sequence, read at once.
static void test_greedy_follows_the_logits(void **state)
{
    struct fm_session *session = make_session(128, 1, 64);
    uint32_t all[20 + N_NEW];
    (void)state;
    struct made made = generate(session, 0, prompt(2, 20), 20, greedy);
    memcpy(all, prompt(2, 20), 20 * sizeof(all[0]));
    memcpy(all + 20, made.tokens, N_NEW * sizeof(all[0]));
    E2E_OK(fm_session_rewind(session, 0, 0));
    float *logits = e2e_logits(session, all, 20 + N_NEW, 96);
    for (uint32_t i = 0; i < N_NEW; i++) {
        const float *row = logits + (19 + i) * 96;
        for (uint32_t v = 0; v < 96; v++)
            if (row[v] > row[made.tokens[i]] + 1e-2f) // caches in f16, other kernels for other numbers of tokens
                fail_msg("token %u: %u was taken with logit %g, %u has %g", i, made.tokens[i], (double)row[made.tokens[i]],
                         v, (double)row[v]);
    }
    free(logits);
    fm_session_destroy(&session);
}

static void test_together_as_alone(void **state)
{
    static const size_t lengths[N_SLOTS] = {1, 5, 33, 70};
    struct made alone[N_SLOTS], together[N_SLOTS] = {{.count = 0}};
    struct fm_request requests[N_SLOTS];
    (void)state;
    for (uint32_t i = 0; i < N_SLOTS; i++) {
        struct fm_session *session = make_session(128, 1, 16);
        alone[i] = generate(session, 0, prompt(i, lengths[i]), lengths[i], i % 2 ? warm : greedy);
        fm_session_destroy(&session);
    }
    struct fm_session *session = make_session(128, N_SLOTS, 16);
    for (uint32_t i = 0; i < N_SLOTS; i++)
        requests[i] = (struct fm_request){.slot = N_SLOTS - 1 - i, .tokens = prompt(i, lengths[i]), .n_tokens = lengths[i],
                                          .n_predict = N_NEW, .sampling = i % 2 ? warm : greedy, .on_token = collect, .user = &together[i]};
    E2E_OK(fm_session_generate(session, requests, N_SLOTS));
    for (uint32_t i = 0; i < N_SLOTS; i++) {
        size_t held = 0;
        assert_same(&alone[i], &together[i]);
        fm_session_tokens(session, N_SLOTS - 1 - i, &held);
        assert_int_equal(held, lengths[i] + N_NEW - 1);
    }
    fm_session_destroy(&session);
}

// ---- slots -------------------------------------------------------------------------------------------------------

static void test_rewinding(void **state)
{
    struct fm_session *session = make_session(128, 1, 16);
    size_t held = 0, kept = 0;
    (void)state;
    struct made whole = generate(session, 0, prompt(0, 40), 40, greedy);
    const uint32_t *tokens = fm_session_tokens(session, 0, &held);
    assert_int_equal(held, 40 + N_NEW - 1);
    assert_memory_equal(tokens, prompt(0, 40), 40 * sizeof(*tokens));
    assert_memory_equal(tokens + 40, whole.tokens, (N_NEW - 1) * sizeof(*tokens));
    // Into the prompt, and on from there.
    E2E_OK(fm_session_rewind(session, 0, 25));
    struct made again = generate(session, 0, prompt(0, 40) + 25, 15, greedy);
    assert_same(&whole, &again);
    assert_int_equal(fm_session_rewind(session, 0, 500), FM_ARG);
    assert_int_equal(fm_session_rewind(session, 1, 0), FM_ARG);
    // What both have in common stays, but for the last token.
    E2E_OK(fm_session_keep(session, 0, prompt(0, 40), 40, &kept));
    assert_int_equal(kept, 39);
    uint32_t other[10];
    memcpy(other, prompt(0, 10), sizeof(other));
    other[6] = (other[6] + 1) % 96;
    E2E_OK(fm_session_keep(session, 0, other, 10, &kept));
    assert_int_equal(kept, 6);
    fm_session_destroy(&session);
}

static void test_fork(void **state)
{
    struct fm_session *session = make_session(128, 3, 16);
    struct fm_request read = {.tokens = prompt(0, 30), .n_tokens = 30, .n_predict = 1};
    (void)state;
    E2E_OK(fm_session_generate(session, &read, 1));
    E2E_OK(fm_session_fork(session, 0, 2));
    struct made a = generate(session, 0, prompt(1, 3), 3, greedy), b = generate(session, 2, prompt(1, 3), 3, greedy);
    assert_same(&a, &b);
    assert_int_equal(fm_session_fork(session, 0, 3), FM_ARG);
    fm_session_destroy(&session);
}

// ---- limits ------------------------------------------------------------------------------------------------------

static void test_context_ends(void **state)
{
    struct fm_session *session = make_session(24, 1, 8);
    struct made made = {.count = 0};
    struct fm_request request = {.tokens = prompt(0, 20), .n_tokens = 20, .on_token = collect, .user = &made};
    size_t held = 0;
    (void)state;
    E2E_OK(fm_session_generate(session, &request, 1));
    assert_int_equal(request.stop, FM_STOP_CONTEXT);
    assert_int_equal(request.n_generated, 5); // positions 20 to 23 are read, and the last gives one more
    fm_session_tokens(session, 0, &held);
    assert_int_equal(held, 24);
    request.n_tokens = 1;
    assert_int_equal(fm_session_generate(session, &request, 1), FM_NOSPACE);
    E2E_OK(fm_session_rewind(session, 0, 0));
    request.tokens = prompt(0, 25);
    request.n_tokens = 25;
    assert_int_equal(fm_session_generate(session, &request, 1), FM_NOSPACE);
    assert_non_null(strstr(fm_error_message(), "25"));
    fm_session_tokens(session, 0, &held);
    assert_int_equal(held, 0);
    fm_session_destroy(&session);
}

static void test_caller_stops(void **state)
{
    struct fm_session *session = make_session(128, 1, 8);
    struct made made = {.stop_at = 3};
    struct fm_request request = {.tokens = prompt(0, 20), .n_tokens = 20, .on_token = collect, .user = &made};
    size_t held = 0;
    (void)state;
    E2E_OK(fm_session_generate(session, &request, 1));
    assert_int_equal(request.stop, FM_STOP_CALLER);
    assert_int_equal(made.count, 3);
    fm_session_tokens(session, 0, &held);
    assert_int_equal(held, 22);
    fm_session_destroy(&session);
}

static void test_bad_arguments(void **state)
{
    struct fm_session *session = make_session(32, 2, 8);
    const uint32_t bad[] = {3, 96};
    struct fm_request twice[2] = {{.tokens = prompt(0, 2), .n_tokens = 2, .n_predict = 1}, {.tokens = prompt(0, 2), .n_tokens = 2}};
    struct fm_request request = {.tokens = bad, .n_tokens = 2, .n_predict = 1};
    struct fm_session *none = NULL;
    (void)state;
    assert_int_equal(fm_session_generate(session, &request, 1), FM_ARG);
    request = (struct fm_request){.tokens = bad, .n_tokens = 0, .n_predict = 1};
    assert_int_equal(fm_session_generate(session, &request, 1), FM_ARG);
    request = (struct fm_request){.slot = 2, .tokens = bad, .n_tokens = 1, .n_predict = 1};
    assert_int_equal(fm_session_generate(session, &request, 1), FM_ARG);
    assert_int_equal(fm_session_generate(session, twice, 2), FM_ARG);
    assert_int_equal(fm_session_generate(session, twice, 0), FM_ARG);
    const struct fm_sampling no_numbers[] = {{.temp = NAN},
                                              {.temp = 1, .top_p = NAN}, {.temp = 1, .min_p = INFINITY}, {.repeat_penalty = NAN}};
    for (size_t i = 0; i < sizeof(no_numbers) / sizeof(no_numbers[0]); i++) {
        request = (struct fm_request){.tokens = prompt(0, 2), .n_tokens = 2, .n_predict = 1, .sampling = no_numbers[i]};
        assert_int_equal(fm_session_generate(session, &request, 1), FM_ARG);
        assert_non_null(strstr(fm_error_message(), "expected a finite number"));
    }
    fm_session_destroy(&session);
    const struct fm_session_params params[] = {{.n_slots = 9, .n_ubatch = 8}, {.cache_type_k = "q4_0", .cache_type_v = "q4_0"},
                                               {.n_ubatch = 1u << 20}, {.n_ctx = UINT32_MAX}};
    for (size_t i = 0; i < sizeof(params) / sizeof(params[0]); i++) {
        assert_int_equal(fm_session_create(model, &params[i], &none), FM_ARG);
        assert_null(none);
        assert_true(fm_error_message()[0] != '\0');
    }
}

// A step never has more tokens than the slots hold, so no room is kept for more.
static void test_ubatch_within_context(void **state)
{
    struct fm_session *small = make_session(24, 2, 512), *same = make_session(24, 2, 48);
    struct fm_memory_need need, same_need;
    (void)state;
    fm_session_get_need(small, &need);
    fm_session_get_need(same, &same_need);
    assert_int_equal(need.n_ubatch, 48);
    assert_int_equal(need.arena_bytes, same_need.arena_bytes);
    fm_session_destroy(&small);
    fm_session_destroy(&same);
}

// ---- cancelling --------------------------------------------------------------------------------------------------

static bool refuse_at_half(void *user, uint64_t done, uint64_t total)
{
    (void)user;
    return done * 2 < total;
}

static void *cancel_soon(void *session)
{
    usleep(50000);
    fm_session_cancel(session);
    return NULL;
}

struct made_in {
    struct fm_session *session;
    struct made made;
};

static bool refuse_at_end(void *user, uint64_t done, uint64_t total)
{
    (void)user;
    return done < total;
}

// What the slot holds and what was handed out fit together: generating goes on from it as if nothing had been.
static void check_goes_on(struct fm_session *session, const uint32_t *tokens, size_t count, const struct made *made)
{
    size_t held = 0;
    (void)fm_session_tokens(session, 0, &held);
    assert_true(made->count >= 1);
    assert_int_equal(held, count + made->count - 1);
    struct made rest = generate(session, 0, made->tokens + made->count - 1, 1, greedy), whole = {.stop_at = made->count + N_NEW};
    struct fm_request request = {.tokens = tokens, .n_tokens = count, .ignore_end = true, .on_token = collect, .user = &whole};
    E2E_OK(fm_session_rewind(session, 0, 0));
    E2E_OK(fm_session_generate(session, &request, 1));
    assert_memory_equal(whole.tokens, made->tokens, made->count * sizeof(made->tokens[0]));
    assert_memory_equal(whole.tokens + made->count, rest.tokens, N_NEW * sizeof(rest.tokens[0]));
}

static bool cancel_at_third(void *user, uint32_t token)
{
    struct made_in *in = user;
    (void)collect(&in->made, token);
    if (in->made.count == 3)
        fm_session_cancel(in->session);
    return true;
}

// Cancelled when the prompt was read to its end, and while generating: the steps under way bring tokens that belong to it.
static void test_cancel_keeps_what_was_chosen(void **state)
{
    struct fm_session *session = make_session(128, 1, 8);
    struct made_in in = {.session = session};
    (void)state;
    struct fm_request request = {.tokens = prompt(0, 20), .n_tokens = 20, .ignore_end = true, .on_prompt = refuse_at_end,
                                 .on_token = collect, .user = &in.made};
    assert_int_equal(fm_session_generate(session, &request, 1), FM_CANCELLED);
    check_goes_on(session, prompt(0, 20), 20, &in.made);
    in.made.count = 0;
    request.on_prompt = NULL;
    request.on_token = cancel_at_third;
    request.user = &in;
    E2E_OK(fm_session_rewind(session, 0, 0));
    assert_int_equal(fm_session_generate(session, &request, 1), FM_CANCELLED);
    assert_true(in.made.count >= 3);
    check_goes_on(session, prompt(0, 20), 20, &in.made);
    fm_session_destroy(&session);
}

static void test_cancel(void **state)
{
    struct fm_session *session = make_session(250, 1, 8), *endless = make_session(256, 1, 8);
    struct fm_request request = {.tokens = prompt(0, 200), .n_tokens = 200, .n_predict = 1, .on_prompt = refuse_at_half};
    size_t held = 0;
    pthread_t thread;
    (void)state;
    assert_int_equal(fm_session_generate(session, &request, 1), FM_CANCELLED);
    const uint32_t *tokens = fm_session_tokens(session, 0, &held);
    assert_true(held >= 100 && held < 200);
    assert_memory_equal(tokens, prompt(0, 200), held * sizeof(*tokens));
    // On from where it stopped, as if nothing had been.
    struct made rest = generate(session, 0, prompt(0, 200) + held, 200 - held, greedy);
    E2E_OK(fm_session_rewind(session, 0, 0));
    struct made whole = generate(session, 0, prompt(0, 200), 200, greedy);
    assert_same(&rest, &whole);
    // From another thread: again and again until it hits.
    enum fm_result result = FM_OK;
    for (int tries = 0; tries < 200 && result == FM_OK; tries++) {
        struct fm_request long_one = {.tokens = prompt(1, 4), .n_tokens = 4};
        E2E_OK(fm_session_rewind(endless, 0, 0));
        assert_int_equal(pthread_create(&thread, NULL, cancel_soon, endless), 0);
        result = fm_session_generate(endless, &long_one, 1);
        pthread_join(thread, NULL);
    }
    assert_int_equal(result, FM_CANCELLED);
    fm_session_destroy(&session);
    fm_session_destroy(&endless);
}

// ---- loading -----------------------------------------------------------------------------------------------------

static bool refuse(void *user, uint64_t done, uint64_t total)
{
    (void)user;
    (void)done;
    (void)total;
    return false;
}

static void test_cancel_loading(void **state)
{
    struct fm_config config = model_make_config("qwen2");
    const char *path = e2e_model_file("qwen2", &config, FM_TYPE_F16, 4);
    const struct fm_load_params params = {.progress = refuse};
    struct fm_model *other = NULL;
    struct fm_session *session = NULL;
    (void)state;
    E2E_OK(fm_model_open(path, &other));
    assert_int_equal(fm_session_create(other, NULL, &session), FM_ARG); // not loaded
    assert_int_equal(fm_model_load(other, device, &params), FM_CANCELLED);
    E2E_OK(fm_model_load(other, device, NULL)); // nothing is left of the first attempt
    assert_int_equal(fm_model_load(other, device, NULL), FM_ARG);
    E2E_OK(fm_session_create(other, NULL, &session));
    fm_session_destroy(&session);
    fm_model_close(&other);
    unlink(path);
}

static bool fail_if_called(void *user, uint64_t done, uint64_t total)
{
    (void)user;
    fail_msg("%llu of %llu bytes were uploaded", (unsigned long long)done, (unsigned long long)total);
    return false;
}

// Refused with the sizes, before anything is uploaded: by its weights, and by its context alone.
static void test_too_large(void **state)
{
    struct fm_load_params params = {.progress = fail_if_called};
    struct fm_model *large = NULL;
    (void)state;
    E2E_OK(fm_model_open_shape("llama2-70b", "f32", &large));
    assert_int_equal(fm_model_load(large, device, &params), FM_NOSPACE);
    assert_non_null(strstr(fm_error_message(), "MB"));
    fm_model_close(&large);
    const struct fm_session_params session = {.n_ctx = 1u << 20, .n_slots = 64};
    params.session = &session;
    E2E_OK(fm_model_open_shape("gpt2-124m", "q4_0", &large));
    assert_int_equal(fm_model_load(large, device, &params), FM_ARG); // its table of positions ends at 1024
    fm_model_close(&large);
    E2E_OK(fm_model_open_shape("llama-1b", "q4_0", &large));
    assert_int_equal(fm_model_load(large, device, &params), FM_NOSPACE);
    fm_model_close(&large);
    assert_int_equal(fm_model_open_shape("llama-9b", "f16", &large), FM_ARG);
    assert_non_null(strstr(fm_error_message(), "llama-8b"));
    assert_int_equal(fm_model_open_shape("llama-8b", "q9", &large), FM_ARG);
}

static void test_explaining(void **state)
{
    struct fm_memory_need need;
    const struct fm_session_params params = {.n_ctx = 64};
    char *text = NULL;
    (void)state;
    E2E_OK(fm_model_explain(model, device, &params, 1, 0, &text));
    assert_non_null(strstr(text, "blk.1.attn_q"));
    fm_text_free(text);
    assert_int_equal(fm_model_explain(model, device, &params, 2, 3, &text), FM_ARG);
    assert_int_equal(fm_model_explain(model, device, &params, 0, 0, &text), FM_ARG);
    E2E_OK(fm_model_why(model, device, &params, 7, 0, "blk.0.attn_q", &text));
    assert_non_null(strstr(text, "* "));
    fm_text_free(text);
    assert_int_equal(fm_model_why(model, device, &params, 1, 0, "blk.9.attn_q", &text), FM_ARG);
    E2E_OK(fm_model_need(model, device, &params, &need));
    assert_int_equal(need.n_ctx, 64);
    assert_true(need.total_bytes == need.weights_bytes + need.state_bytes + need.arena_bytes + need.step_bytes + need.result_bytes);
}

// ---- profiles ----------------------------------------------------------------------------------------------------

// Fails, or skips where the device has no timestamps.
static void profile(struct fm_session *session, enum fm_profile_mode mode)
{
    enum fm_result result = fm_session_profile(session, mode);
    if (result == FM_UNSUPPORTED && mode != FM_PROFILE_OFF) {
        assert_non_null(strstr(fm_error_message(), "has no timestamps"));
        fm_session_destroy(&session);
        skip();
    }
    E2E_OK(result);
}

static void check_rows(const struct fm_profile_row *rows, size_t count, const struct fm_profile_step *step, bool ops)
{
    uint64_t ns = 0;
    uint32_t calls = 0;
    assert_true(count > 3);
    for (size_t i = 0; i < count; i++) {
        assert_true(i == 0 || rows[i].ns <= rows[i - 1].ns);
        assert_true((rows[i].kernel == NULL) == ops && rows[i].op != NULL);
        assert_true(rows[i].groups >= 1 && rows[i].groups <= rows[i].calls && rows[i].groups <= step->groups);
        assert_true(rows[i].bytes > 0 && rows[i].flops >= 0);
        ns += rows[i].ns;
        calls += rows[i].calls;
    }
    assert_int_equal(calls, step->calls);
    assert_true(ns + step->calls >= step->ns && ns <= step->ns + step->calls); // each was rounded
}

static const struct fm_profile_row *row_of(const struct fm_profile_step *step, const char *op)
{
    for (size_t i = 0; i < step->n_ops; i++)
        if (strcmp(step->ops[i].op, op) == 0)
            return &step->ops[i];
    fail_msg("no row of %s", op);
    return NULL;
}

// Measuring changes no token, and every step is counted: a prompt of 40 tokens in steps of 16, 16 and 8, then single ones.
static void test_profile(void **state)
{
    struct fm_session *session = make_session(128, 1, 16);
    struct fm_profile_step *steps = NULL;
    size_t count = 0;
    (void)state;
    assert_int_equal(fm_session_profile_read(session, &steps, &count), FM_ARG);
    struct made plain = generate(session, 0, prompt(0, 40), 40, greedy);
    for (int mode = FM_PROFILE_STEPS; mode <= FM_PROFILE_GROUPS; mode++) {
        for (int again = 0; again < 2; again++) { // what the first measured is forgotten
            profile(session, (enum fm_profile_mode)mode);
            E2E_OK(fm_session_rewind(session, 0, 0));
            struct made timed = generate(session, 0, prompt(0, 40), 40, greedy);
            assert_same(&plain, &timed);
        }
        E2E_OK(fm_session_profile_read(session, &steps, &count));
        assert_int_equal(count, 3);
        const uint32_t tokens[] = {16, 8, 1}, times[] = {2, 1, N_NEW - 1};
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(steps[i].tokens, tokens[i]);
            assert_int_equal(steps[i].steps, times[i]);
            assert_true(steps[i].ns > 0 && steps[i].groups > 1 && steps[i].calls >= steps[i].groups);
            if (mode == FM_PROFILE_GROUPS) {
                check_rows(steps[i].ops, steps[i].n_ops, &steps[i], true);
                check_rows(steps[i].kernels, steps[i].n_kernels, &steps[i], false);
            } else {
                assert_int_equal(steps[i].n_ops + steps[i].n_kernels, 0);
            }
        }
        fm_profile_free(steps);
    }
    E2E_OK(fm_session_profile(session, FM_PROFILE_OFF));
    assert_int_equal(fm_session_profile_read(session, &steps, &count), FM_ARG);
    E2E_OK(fm_session_rewind(session, 0, 0));
    struct made after = generate(session, 0, prompt(0, 40), 40, greedy);
    assert_same(&plain, &after);
    fm_session_destroy(&session);
}

// More steps than samples are kept of; and attention moves more bytes and does more, the more it looks back at.
static void test_profile_of_many_steps(void **state)
{
    struct fm_session *session = make_session(256, 1, 16);
    struct fm_profile_step *steps = NULL;
    size_t count = 0;
    uint64_t bytes[2];
    double flops[2];
    const char *attention = e2e_rung() >= FM_RUNG_SG ? "rope_attend" : "attend"; // where there are subgroups a token is one dispatch
    (void)state;
    for (int deep = 0; deep < 2; deep++) {
        E2E_OK(fm_session_rewind(session, 0, 0));
        if (deep)
            generate(session, 0, prompt(0, 200), 200, greedy);
        profile(session, FM_PROFILE_GROUPS);
        for (int i = 0; i < 60 && deep; i++) {
            generate(session, 0, prompt(1, 1), 1, greedy);
            E2E_OK(fm_session_rewind(session, 0, 211));
        }
        for (int i = 0; i < 10 && !deep; i++) {
            generate(session, 0, prompt(1, 1), 1, greedy);
            E2E_OK(fm_session_rewind(session, 0, 0));
        }
        E2E_OK(fm_session_profile_read(session, &steps, &count));
        assert_int_equal(count, 1);
        assert_int_equal(steps[0].steps, (deep ? 60 : 10) * N_NEW);
        check_rows(steps[0].kernels, steps[0].n_kernels, &steps[0], false);
        bytes[deep] = row_of(&steps[0], attention)->bytes;
        flops[deep] = row_of(&steps[0], attention)->flops;
        fm_profile_free(steps);
    }
    // Positions 0 to 11 and 211 to 222: 6.5 and 217.5 keys in the mean.
    assert_true(flops[1] / flops[0] > 217.5 / 6.5 * 0.999 && flops[1] / flops[0] < 217.5 / 6.5 * 1.001);
    assert_true(bytes[1] > bytes[0]);
    fm_session_destroy(&session);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_twice_the_same),   cmocka_unit_test(test_seeds),        cmocka_unit_test(test_greedy_follows_the_logits),
        cmocka_unit_test(test_together_as_alone), cmocka_unit_test(test_rewinding),    cmocka_unit_test(test_fork),
        cmocka_unit_test(test_context_ends),     cmocka_unit_test(test_caller_stops), cmocka_unit_test(test_bad_arguments),
        cmocka_unit_test(test_cancel),           cmocka_unit_test(test_cancel_loading), cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_explaining),       cmocka_unit_test(test_ubatch_within_context),
        cmocka_unit_test(test_cancel_keeps_what_was_chosen), cmocka_unit_test(test_profile),
        cmocka_unit_test(test_profile_of_many_steps),
    };
    return cmocka_run_group_tests_name("session", tests, open_model, close_model);
}
