// SPDX-License-Identifier: MIT
// Four threads share a device and two loaded models, without a lock of their own: each opens files, tokenizes, generates, saves
// and loads states, and plans, while a fifth cancels sessions of theirs. Every result must be what one thread alone gets. Built
// with ThreadSanitizer it also shows that the library's threads do not race (tests/run --only tsan).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "e2e/oracle.h"
#include "support/temporary.h"

#define THREADS 4
#define ROUNDS 3
#define N_NEW 6u
#define TEXT "Once upon a time there was a fox who read the map of the old mill."

static struct shared {
    struct fm_device *device;
    struct fm_model *model[2];
    char path[2][TEST_PATH_BYTES], folder[TEST_PATH_BYTES];
    uint32_t *text_ids;
    size_t n_text_ids;
    uint32_t made[2][2 * N_NEW]; // greedy continuation of `prompt`, by one thread alone
    pthread_mutex_t lock;        // of `cancelled`: a session that another thread may cancel
    struct fm_session *cancelled[THREADS];
    atomic_int running;
} shared = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const uint32_t prompt[] = {5, 17, 3, 30, 8};
#define N_PROMPT (sizeof(prompt) / sizeof(prompt[0]))

struct worker {
    pthread_t thread;
    int index;
    char failure[512]; // "" while all is well
};

struct output { uint32_t tokens[2 * N_NEW], count; };

static bool collect(void *user, uint32_t token)
{
    struct output *out = user;
    out->tokens[out->count++] = token;
    return out->count < 2 * N_NEW;
}

// Notes the first failure of a thread; false if `ok` is.
static bool expect(struct worker *w, bool ok, const char *what)
{
    if (!ok && w->failure[0] == '\0')
        snprintf(w->failure, sizeof(w->failure), "thread %d, %s: %s", w->index, what, fm_error_message());
    return ok;
}

static enum fm_result generate(struct fm_session *session, const uint32_t *tokens, size_t n, uint32_t n_new, struct output *out)
{
    struct fm_request request = {.tokens = tokens, .n_tokens = n, .n_predict = n_new, .ignore_end = true, .on_token = collect, .user = out};
    return fm_session_generate(session, &request, 1);
}

// ---- what a thread does ------------------------------------------------------------------------------------------

// Opens the file once more, and tokenizes with the shared tokenizer and with the one of its own.
static bool open_and_tokenize(struct worker *w)
{
    struct fm_model *own = NULL;
    bool ok = expect(w, fm_model_open(shared.path[0], &own) == FM_OK, "opening");
    for (int i = 0; ok && i < 2; i++) {
        uint32_t *ids = NULL;
        size_t count = 0;
        const struct fm_tokenizer *tok = fm_model_tokenizer(i == 0 ? shared.model[0] : own);
        ok = expect(w, fm_tokenizer_encode(tok, TEXT, strlen(TEXT), FM_ENCODE_BOS, &ids, &count) == FM_OK, "tokenizing");
        ok = ok && expect(w, count == shared.n_text_ids && memcmp(ids, shared.text_ids, count * sizeof(ids[0])) == 0, "other ids");
        fm_tokens_free(ids);
    }
    struct fm_memory_need need;
    ok = ok && expect(w, fm_model_need(own, shared.device, NULL, &need) == FM_OK, "planning");
    fm_model_close(&own);
    return ok;
}

// A model of the thread's own, on the shared device or on one of its own.
static bool load_own(struct worker *w, bool own_device)
{
    struct fm_device_info *list = NULL;
    struct fm_device *device = NULL;
    struct fm_model *own = NULL;
    size_t count = 0;
    bool ok = expect(w, fm_device_list(&list, &count) == FM_OK && count > 0, "listing devices");
    if (own_device)
        ok = ok && expect(w, fm_device_open(NULL, &device) == FM_OK, "opening a device");
    ok = ok && expect(w, fm_model_open(shared.path[1], &own) == FM_OK, "opening");
    ok = ok && expect(w, fm_model_load(own, own_device ? device : shared.device, NULL) == FM_OK, "loading");
    fm_model_close(&own);
    fm_device_close(&device);
    fm_device_list_free(list);
    return ok;
}

// Generates, saves, loads into another session, and goes on there.
static bool generate_and_save(struct worker *w, int which)
{
    const struct fm_session_params params = {.n_ctx = 64, .n_ubatch = 8};
    struct fm_session *session[2] = {NULL, NULL};
    struct output out = {.count = 0};
    char path[TEST_PATH_BYTES + 32];
    snprintf(path, sizeof(path), "%s/state-%d", shared.folder, w->index);
    struct fm_saved saved = {.token = FM_TOKEN_NONE};
    bool ok = true;
    for (int i = 0; i < 2; i++)
        ok = ok && expect(w, fm_session_create(shared.model[which], &params, &session[i]) == FM_OK, "creating a session");
    ok = ok && expect(w, generate(session[0], prompt, N_PROMPT, N_NEW, &out) == FM_OK, "generating");
    saved.token = out.tokens[N_NEW - 1];
    ok = ok && expect(w, fm_session_save(session[0], 0, &saved, path) == FM_OK, "saving");
    ok = ok && expect(w, fm_session_load(session[1], 0, path, &saved) == FM_OK, "loading a state");
    ok = ok && expect(w, generate(session[1], &saved.token, 1, N_NEW, &out) == FM_OK, "going on");
    ok = ok && expect(w, memcmp(out.tokens, shared.made[which], sizeof(out.tokens)) == 0, "other tokens");
    fm_session_destroy(&session[0]);
    fm_session_destroy(&session[1]);
    return ok;
}

static bool go_on(void *user, uint32_t token)
{
    (void)user;
    (void)token;
    return true;
}

static void set_cancelled(int index, struct fm_session *session)
{
    pthread_mutex_lock(&shared.lock);
    shared.cancelled[index] = session;
    pthread_mutex_unlock(&shared.lock);
}

// Generates until another thread cancels it, or the context is full.
static bool be_cancelled(struct worker *w, int which)
{
    const struct fm_session_params params = {.n_ctx = 256, .n_ubatch = 8};
    struct fm_session *session = NULL;
    struct fm_request request = {.tokens = prompt, .n_tokens = N_PROMPT, .ignore_end = true, .on_token = go_on};
    bool ok = expect(w, fm_session_create(shared.model[which], &params, &session) == FM_OK, "creating a session");
    if (!ok)
        return false;
    set_cancelled(w->index, session);
    enum fm_result r = fm_session_generate(session, &request, 1);
    set_cancelled(w->index, NULL);
    ok = expect(w, r == FM_CANCELLED || r == FM_OK, "being cancelled");
    fm_session_destroy(&session);
    return ok;
}

static void *work(void *argument)
{
    struct worker *w = argument;
    bool ok = true;
    for (int round = 0; ok && round < ROUNDS; round++) {
        int which = (w->index + round) % 2;
        ok = open_and_tokenize(w) && generate_and_save(w, which) && load_own(w, which == 1) && be_cancelled(w, 1 - which);
    }
    atomic_fetch_sub(&shared.running, 1);
    return NULL;
}

static void *cancel(void *argument)
{
    (void)argument;
    while (atomic_load(&shared.running) > 0) {
        pthread_mutex_lock(&shared.lock);
        for (int i = 0; i < THREADS; i++) {
            if (shared.cancelled[i] != NULL)
                fm_session_cancel(shared.cancelled[i]);
        }
        pthread_mutex_unlock(&shared.lock);
        usleep(1000);
    }
    return NULL;
}

// ---- the test ----------------------------------------------------------------------------------------------------

// What one thread alone gets.
static void make_expected(void)
{
    const struct fm_session_params params = {.n_ctx = 64, .n_ubatch = 8};
    E2E_OK(fm_tokenizer_encode(fm_model_tokenizer(shared.model[0]), TEXT, strlen(TEXT), FM_ENCODE_BOS, &shared.text_ids,
                               &shared.n_text_ids));
    for (int i = 0; i < 2; i++) {
        struct fm_session *session = NULL;
        struct output out = {.count = 0};
        E2E_OK(fm_session_create(shared.model[i], &params, &session));
        E2E_OK(generate(session, prompt, N_PROMPT, 2 * N_NEW, &out));
        memcpy(shared.made[i], out.tokens, sizeof(out.tokens));
        fm_session_destroy(&session);
    }
}

static void test_four_threads(void **state)
{
    (void)state;
    struct worker workers[THREADS];
    pthread_t canceller;
    atomic_store(&shared.running, THREADS);
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.index = i};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    assert_int_equal(pthread_create(&canceller, NULL, cancel, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
    assert_int_equal(pthread_join(canceller, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        assert_string_equal(workers[i].failure, "");
}

static int set_up(void **state)
{
    (void)state;
    const char *root = getenv("FULMEN_SOURCE_ROOT"), *data = getenv("FULMEN_TEST_DATA");
    if (root == NULL || data == NULL || !test_temporary_folder("threads", shared.folder))
        return -1;
    snprintf(shared.path[0], sizeof(shared.path[0]), "%s/models/demo/demo-llama.gguf", root);
    snprintf(shared.path[1], sizeof(shared.path[1]), "%s/models/mamba-odd.gguf", data);
    shared.device = e2e_device(NULL);
    for (int i = 0; i < 2; i++) {
        E2E_OK(fm_model_open(shared.path[i], &shared.model[i]));
        E2E_OK(fm_model_load(shared.model[i], shared.device, NULL));
    }
    make_expected();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fm_tokens_free(shared.text_ids);
    for (int i = 0; i < 2; i++)
        fm_model_close(&shared.model[i]);
    fm_device_close(&shared.device);
    return shared.folder[0] == '\0' || test_remove_folder(shared.folder) ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_four_threads)};
    return cmocka_run_group_tests_name("threads", tests, set_up, tear_down);
}
