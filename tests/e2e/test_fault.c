// SPDX-License-Identifier: MIT
// The whole life of a model and its session with one allocation, or one Vulkan call, that fails: it ends with an error and a
// message, or does without; nothing crashes, nothing is left behind (the leak checker looks).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "e2e/oracle.h"
#include "support/temporary.h"
#include "vk/vk.h"

#define MOST_CALLS 100000u
#define EVERY 40u // of the first calls, each is tried; further on they come in runs of the same kind

static const char *path;

static bool take_rows(void *user, size_t first_token, size_t n_rows, const float *logits)
{
    (void)user;
    (void)first_token;
    (void)n_rows;
    (void)logits;
    return true;
}

static const uint32_t tokens[] = {5, 17, 3, 40, 41};

static enum fm_result use_profile(struct fm_session *session)
{
    struct fm_request request = {.tokens = tokens, .n_tokens = 5, .n_predict = 2};
    struct fm_profile_step *steps = NULL;
    size_t count;
    enum fm_result result = fm_session_profile(session, FM_PROFILE_GROUPS);
    if (result == FM_UNSUPPORTED) // no timestamps
        return FM_OK;
    if (result == FM_OK)
        result = fm_session_generate(session, &request, 1);
    if (result == FM_OK)
        result = fm_session_profile_read(session, &steps, &count);
    fm_profile_free(steps);
    return result;
}

static enum fm_result use_session(struct fm_session *session)
{
    struct fm_request request = {.tokens = tokens, .n_tokens = 5, .n_predict = 3};
    enum fm_result result = fm_session_generate(session, &request, 1);
    if (result == FM_OK)
        result = fm_session_fork(session, 0, 1);
    if (result == FM_OK)
        result = fm_session_logits(session, 1, tokens, 3, true, take_rows, NULL);
    return result == FM_OK ? use_profile(session) : result;
}

static enum fm_result whole_life(void)
{
    static const struct fm_device_params lowest = {.max_rung = "base"};
    const struct fm_session_params params = {.n_ctx = 32, .n_slots = 2, .n_ubatch = 4};
    const struct fm_load_params load = {.session = &params};
    struct fm_device *device = NULL;
    struct fm_model *model = NULL;
    struct fm_session *session = NULL;
    enum fm_result result = fm_device_open(&lowest, &device);
    if (result == FM_OK)
        result = fm_model_open(path, &model);
    if (result == FM_OK)
        result = fm_model_load(model, device, &load);
    if (result == FM_OK)
        result = fm_session_create(model, &params, &session);
    if (result == FM_OK)
        result = use_session(session);
    fm_session_destroy(&session);
    fm_model_close(&model);
    fm_device_close(&device);
    return result;
}

// Every one of the first calls, then ever fewer: the last are tried about one in twenty.
static uint64_t after(uint64_t n)
{
    return n < EVERY ? n + 1 : n + n / 12;
}

static void each_fails_once(uint64_t (*fail_at)(uint64_t n), uint64_t least)
{
    uint32_t failures = 0, runs = 0;
    for (uint64_t n = 0; n < MOST_CALLS; n = after(n), runs++) {
        (void)fail_at(n);
        enum fm_result result = whole_life();
        uint64_t calls = fail_at(UINT64_MAX);
        if (calls <= n) { // it came to its end before the fault
            assert_int_equal(result, FM_OK);
            print_message("%llu calls; %u of %u runs ended with an error\n", (unsigned long long)calls, failures, runs);
            assert_true(calls > least && failures > runs / 2);
            return;
        }
        failures += result != FM_OK;
        if (result != FM_OK && result != FM_NOMEM && result != FM_NOSPACE && result != FM_LOST && result != FM_DEVICE)
            fail_msg("call %llu: %s: %s", (unsigned long long)n, fm_result_text(result), fm_error_message());
        assert_true(result == FM_OK || fm_error_message()[0] != '\0');
    }
    fail_msg("still failing after %u calls", MOST_CALLS);
}

static void test_allocations(void **state)
{
    (void)state;
    each_fails_once(fm_alloc_fail_at, 200);
}

static void test_vulkan_calls(void **state)
{
    (void)state;
    each_fails_once(fm_vk_fail_at, 100);
}

int main(void)
{
    char cache[TEST_PATH_BYTES];
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_vulkan_calls), cmocka_unit_test(test_allocations)};
    struct fm_config config = model_make_config("llama");
    if (!test_temporary_folder("e2e-cache", cache) || setenv("FULMEN_CACHE_DIR", cache, 1) != 0)
        return 1;
    config.n_layers = 1;
    path = e2e_model_file("llama", &config, FM_TYPE_Q8_0, 1);
    int failed = cmocka_run_group_tests_name("e2e-fault", tests, NULL, NULL);
    unlink(path);
    return test_remove_folder(cache) ? failed : 1;
}
