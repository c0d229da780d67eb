// SPDX-License-Identifier: MIT
// Saving through the public interface: two sessions of one process that save to one path at once, and a model's own file.
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
#include "tests/support/folder.h"

#define N_SAVERS 2u
#define ROUNDS 30

static struct fm_device *device;
static struct fm_model *model;
static char model_path[1024];

static int set_up(void **state)
{
    (void)state;
    struct fm_config config = model_make_config("llama");
    assert_true(test_folder_make());
    device = e2e_device(NULL);
    snprintf(model_path, sizeof(model_path), "%s", e2e_model_file("llama", &config, FM_TYPE_Q8_0, 17));
    E2E_OK(fm_model_open(model_path, &model));
    E2E_OK(fm_model_load(model, device, NULL));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(model_path);
    fm_model_close(&model);
    fm_device_close(&device);
    test_folder_remove();
    return 0;
}

struct saver {
    struct fm_session *session;
    const char *path;
    uint32_t tokens;
    unsigned failed;
};

static struct fm_session *make_session(uint32_t tokens)
{
    const struct fm_session_params params = {.n_ctx = 256, .n_slots = 1};
    struct fm_session *session = NULL;
    uint32_t ids[200];
    for (uint32_t i = 0; i < tokens; i++)
        ids[i] = i * 31 % 96;
    struct fm_request request = {.tokens = ids, .n_tokens = tokens, .n_predict = 1};
    E2E_OK(fm_session_create(model, &params, &session));
    E2E_OK(fm_session_generate(session, &request, 1));
    return session;
}

static void *save_often(void *user)
{
    struct saver *s = user;
    for (int i = 0; i < ROUNDS; i++) {
        struct fm_saved saved = {.token = 1, .seed = s->tokens};
        s->failed += fm_session_save(s->session, 0, &saved, s->path) != FM_OK;
    }
    return NULL;
}

static void sessions_that_save_to_one_path_leave_a_whole_file(void **state)
{
    (void)state;
    const char *path = in_folder("state");
    struct saver savers[N_SAVERS] = {{.path = path, .tokens = 3}, {.path = path, .tokens = 200}};
    struct fm_session *reader = make_session(1);
    pthread_t threads[N_SAVERS];
    for (uint32_t i = 0; i < N_SAVERS; i++)
        savers[i].session = make_session(savers[i].tokens);
    struct fm_saved saved = {.token = 1, .seed = 3};
    E2E_OK(fm_session_save(savers[0].session, 0, &saved, path));
    for (uint32_t i = 0; i < N_SAVERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, save_often, &savers[i]), 0);
    for (int i = 0; i < ROUNDS; i++) { // whatever it is, it is whole
        size_t held = 0;
        E2E_OK(fm_session_load(reader, 0, path, &saved));
        (void)fm_session_tokens(reader, 0, &held);
        assert_true(saved.seed == held && (held == 3 || held == 200));
    }
    for (uint32_t i = 0; i < N_SAVERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(savers[i].failed, 0);
        fm_session_destroy(&savers[i].session);
    }
    assert_int_equal(test_folder_count(), 1);
    fm_session_destroy(&reader);
}

static void the_models_file_is_not_written(void **state)
{
    (void)state;
    struct fm_session *session = make_session(3);
    struct fm_saved saved = {.token = 1};
    size_t before = 0, after = 0;
    char *old = test_file_get(model_path, &before), other[1100];
    assert_non_null(old);
    assert_int_equal(fm_session_save(session, 0, &saved, model_path), FM_ARG);
    assert_int_equal(fm_model_check_output(model, model_path), FM_ARG);
    snprintf(other, sizeof(other), "%s-moved", model_path);
    assert_int_equal(rename(model_path, other), 0);
    assert_int_equal(fm_session_save(session, 0, &saved, other), FM_ARG); // the same file, under another name
    E2E_OK(fm_session_save(session, 0, &saved, in_folder("state")));
    assert_int_equal(rename(other, model_path), 0);
    char *now = test_file_get(model_path, &after);
    assert_non_null(now);
    assert_int_equal(after, before);
    assert_memory_equal(now, old, before);
    free(old);
    free(now);
    fm_session_destroy(&session);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sessions_that_save_to_one_path_leave_a_whole_file),
        cmocka_unit_test(the_models_file_is_not_written),
    };
    return cmocka_run_group_tests_name("saving", tests, set_up, tear_down);
}
