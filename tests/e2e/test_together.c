// SPDX-License-Identifier: MIT
// Many sequences that decode together, each as if it were alone: numbers of them on both sides of where kernels for a prompt's rows
// begin, on one fixture of every family and on two with quantised weights.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "e2e/oracle.h"

#define MOST 32u
#define N_NEW 4u
#define LONGEST 12u

static struct fm_device *device;

static int open_device(void **state)
{
    (void)state;
    device = e2e_device(NULL);
    return 0;
}

static int close_device(void **state)
{
    (void)state;
    fm_device_close(&device);
    return 0;
}

static struct fm_session *make_session(struct fm_model *model, uint32_t n_slots)
{
    const struct fm_session_params params = {.n_ctx = 32, .n_slots = n_slots, .n_ubatch = 64};
    struct fm_session *session = NULL;
    E2E_OK(fm_session_create(model, &params, &session));
    return session;
}

struct made {
    uint32_t tokens[LONGEST + N_NEW]; // the prompt and what followed
    uint32_t n_prompt, count;
};

static bool collect(void *user, uint32_t token)
{
    struct made *made = user;
    assert_true(made->count < LONGEST + N_NEW);
    made->tokens[made->count++] = token;
    return true;
}

struct sink {
    float *logits;
    size_t vocab;
};

static bool keep(void *user, size_t first, size_t count, const float *logits)
{
    struct sink *sink = user;
    memcpy(sink->logits + first * sink->vocab, logits, count * sink->vocab * sizeof(*logits));
    return true;
}

static void read_logits(struct fm_session *session, uint32_t slot, const uint32_t *tokens, size_t count, size_t vocab, float *out_logits)
{
    struct sink sink = {.logits = out_logits, .vocab = vocab};
    E2E_OK(fm_session_logits(session, slot, tokens, count, true, keep, &sink));
}

static float largest_of(const float *logits, size_t count)
{
    float largest = logits[0];
    for (size_t i = 1; i < count; i++)
        largest = logits[i] > largest ? logits[i] : largest;
    return largest;
}

// A sequence by itself: what was chosen is what it has the largest logits for, and the slot's state goes on as its own does.
static void check_alone(struct fm_session *alone, size_t vocab, struct fm_session *together, uint32_t slot, const struct made *made,
                        double bound)
{
    double largest = 0, worst = 0;
    float *expected = malloc((LONGEST + N_NEW) * vocab * sizeof(*expected)), *got = malloc(vocab * sizeof(*got));
    assert_non_null(expected);
    assert_non_null(got);
    E2E_OK(fm_session_rewind(alone, 0, 0));
    read_logits(alone, 0, made->tokens, made->count, vocab, expected);
    for (size_t i = 0; i < made->count * vocab; i++)
        largest = fmax(largest, fabs((double)expected[i]));
    for (uint32_t t = made->n_prompt; t < made->count; t++) {
        const float *row = expected + (t - 1) * vocab;
        if ((double)(largest_of(row, vocab) - row[made->tokens[t]]) > 2 * bound * largest)
            fail_msg("slot %u, token %u: %u was chosen, whose logit is %g of at most %g", slot, t, made->tokens[t],
                     (double)row[made->tokens[t]], (double)largest_of(row, vocab));
    }
    read_logits(together, slot, &made->tokens[made->count - 1], 1, vocab, got);
    for (size_t i = 0; i < vocab; i++)
        worst = fmax(worst, fabs((double)got[i] - (double)expected[(made->count - 1) * vocab + i]));
    if (!(worst <= bound * largest))
        fail_msg("slot %u: the logits after %u tokens are off by %g, the largest is %g", slot, made->count, worst, largest);
    free(expected);
    free(got);
}

static void check_together(struct fm_model *model, size_t vocab, struct fm_session *alone, uint32_t n_slots, double bound)
{
    struct fm_session *session = make_session(model, n_slots);
    struct fm_request requests[MOST];
    struct made made[MOST] = {{.count = 0}};
    for (uint32_t i = 0; i < n_slots; i++) {
        made[i].n_prompt = made[i].count = 4 + i * 5 % 3 * 4; // 4, 12 or 8
        for (uint32_t t = 0; t < made[i].n_prompt; t++)
            made[i].tokens[t] = (uint32_t)((t * 31 + i * 17 + t * t * i) % vocab);
        requests[i] = (struct fm_request){.slot = i, .tokens = made[i].tokens, .n_tokens = made[i].n_prompt, .n_predict = N_NEW,
                                          .ignore_end = true, .on_token = collect, .user = &made[i]};
    }
    E2E_OK(fm_session_generate(session, requests, n_slots));
    for (uint32_t i = 0; i < n_slots; i++)
        assert_int_equal(made[i].count, made[i].n_prompt + N_NEW);
    for (uint32_t i = 0; i < n_slots; i += (n_slots - 1) / 4)
        check_alone(alone, vocab, session, i, &made[i], bound);
    fm_session_destroy(&session);
}

// Both computations differ in the order of sums, which is all with f32 factors; and in factors rounded to f16, or to integers, on
// matrix units where activations meet one another, and where weights are quantised (oracle.h).
static void check_file(const char *name, const char *arch, bool f32)
{
    const bool exact = f32 && (e2e_rung() < FM_RUNG_CM || !e2e_multiplies_activations(arch));
    const double bound = exact ? 2 * E2E_EXACT : 1e-2;
    static const uint32_t numbers[] = {9, 17, MOST};
    const char *folder = getenv("FULMEN_TEST_DATA");
    struct fm_model *model = NULL;
    struct fm_model_info info;
    char path[1024];
    assert_non_null(folder);
    snprintf(path, sizeof(path), "%s/models/%s.gguf", folder, name);
    E2E_OK(fm_model_open(path, &model));
    E2E_OK(fm_model_load(model, device, NULL));
    fm_model_get_info(model, &info);
    struct fm_session *alone = make_session(model, 1);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        check_together(model, info.vocab, alone, numbers[i], bound);
    fm_session_destroy(&alone);
    fm_model_close(&model);
}

static void test_llama(void **state)
{
    (void)state;
    check_file("llama", "llama", true);
}

static void test_mamba(void **state)
{
    (void)state;
    check_file("mamba", "mamba", true);
}

static void test_mamba2(void **state)
{
    (void)state;
    check_file("mamba2", "mamba2", true);
}

static void test_transnormer(void **state)
{
    (void)state;
    check_file("transnormer", "transnormer", true);
}

static void test_llama_q8_0(void **state)
{
    (void)state;
    check_file("llama-q8_0", "llama", false);
}

static void test_mamba2_q8_0(void **state)
{
    (void)state;
    check_file("mamba2-q8_0", "mamba2", false);
}

// A token's logits are the same whether the keys before it lie in the cache or are rows of the same step: a text in pieces of 1 to 16
// rows, and token by token, in caches of every type. Keys are rounded alike; what is left is in the products' sums, and a key that these
// bring over a rounding's edge.
static void check_pieces(struct fm_model *model, size_t vocab, const char *cache, double bound)
{
    enum { N_TOKENS = 60 };
    static const uint32_t pieces[] = {1, 3, 8, 2, 16, 5, 7, 4, 9, 5};
    const struct fm_session_params params = {.n_ctx = 64, .n_ubatch = 64, .cache_type_k = cache, .cache_type_v = cache};
    struct fm_session *session = NULL;
    uint32_t tokens[N_TOKENS];
    float *one = malloc(N_TOKENS * vocab * sizeof(*one)), *many = malloc(N_TOKENS * vocab * sizeof(*many));
    double largest = 0, worst = 0;
    assert_non_null(one);
    assert_non_null(many);
    for (uint32_t t = 0; t < N_TOKENS; t++)
        tokens[t] = (uint32_t)((t * 37 + t * t * 5) % vocab);
    E2E_OK(fm_session_create(model, &params, &session));
    for (uint32_t t = 0; t < N_TOKENS; t++)
        read_logits(session, 0, tokens + t, 1, vocab, one + t * vocab);
    E2E_OK(fm_session_rewind(session, 0, 0));
    for (uint32_t t = 0, i = 0; t < N_TOKENS; t += pieces[i++])
        read_logits(session, 0, tokens + t, pieces[i], vocab, many + t * vocab);
    for (size_t i = 0; i < N_TOKENS * vocab; i++) {
        largest = fmax(largest, fabs((double)one[i]));
        worst = fmax(worst, fabs((double)many[i] - (double)one[i]));
    }
    print_message("%s caches: pieces are off by %.2e of the largest logit\n", cache, worst / largest);
    if (!(worst <= bound * largest))
        fail_msg("%s caches: pieces are off by %g, the largest logit is %g", cache, worst, largest);
    fm_session_destroy(&session);
    free(one);
    free(many);
}

static void test_pieces(void **state)
{
    (void)state;
    static const char *const names[] = {"llama", "llama-q8_0"};
    static const char *const caches[] = {"f32", "f16", "q8_0"};
    for (size_t n = 0; n < 2; n++)
        for (size_t c = 0; c < 3; c++) {
            struct fm_model *model = NULL;
            struct fm_model_info info;
            char path[1024];
            snprintf(path, sizeof(path), "%s/models/%s.gguf", getenv("FULMEN_TEST_DATA"), names[n]);
            E2E_OK(fm_model_open(path, &model));
            E2E_OK(fm_model_load(model, device, NULL));
            fm_model_get_info(model, &info);
            const bool exact = n == 0 && c == 0 && (e2e_rung() < FM_RUNG_CM || !e2e_multiplies_activations("llama"));
            check_pieces(model, info.vocab, caches[c], exact ? 2 * E2E_EXACT : 1e-2);
            fm_model_close(&model);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_llama),
        cmocka_unit_test(test_mamba),
        cmocka_unit_test(test_mamba2),
        cmocka_unit_test(test_transnormer),
        cmocka_unit_test(test_llama_q8_0),
        cmocka_unit_test(test_mamba2_q8_0),
    };
    return cmocka_run_group_tests_name("together", tests, open_device, close_device);
}
