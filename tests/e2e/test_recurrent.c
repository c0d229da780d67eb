// SPDX-License-Identifier: MIT
// Sessions of models whose states cannot simply be rewound: going back, keeping, forking, several sequences, stopping,
// and files of states. Every case runs on one fixture of every family.
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
#include "support/temporary.h"

#define N_NEW 8u
#define N_READ 30u
#define N_BACK 6u
#define MOST 128u
#define BOUND 4e-4 // share of the largest logit: twice that of test_logits, since two computations are compared

static struct fm_device *device;
static const char *const files[] = {"transnormer", "mamba", "mamba2", "mambainllama-1", "mambainllama-2"};
#define N_FILES (sizeof(files) / sizeof(files[0]))

struct subject {
    struct fm_model *model;
    size_t vocab;
};

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

static void open_subject(const char *name, struct subject *out_subject)
{
    const char *folder = getenv("FULMEN_TEST_DATA");
    char path[1024];
    struct fm_model_info info;
    assert_non_null(folder);
    snprintf(path, sizeof(path), "%s/models/%s.gguf", folder, name);
    E2E_OK(fm_model_open(path, &out_subject->model));
    E2E_OK(fm_model_load(out_subject->model, device, NULL));
    fm_model_get_info(out_subject->model, &info);
    assert_true(info.is_recurrent);
    out_subject->vocab = info.vocab;
}

static struct fm_session *make_session(const struct subject *s, uint32_t n_ctx, uint32_t n_slots, uint32_t n_rollback)
{
    const struct fm_session_params params = {.n_ctx = n_ctx, .n_slots = n_slots, .n_ubatch = 16, .n_rollback = n_rollback};
    struct fm_session *session = NULL;
    E2E_OK(fm_session_create(s->model, &params, &session));
    return session;
}

static void make_tokens(const struct subject *s, uint32_t which, uint32_t *tokens, size_t count)
{
    for (size_t i = 0; i < count; i++)
        tokens[i] = (uint32_t)((i * (31 + 2 * which) + 5 * which + i / 7) % s->vocab);
}

struct made {
    uint32_t tokens[MOST];
    size_t count, stop_at; // stop_at 0: never
};

static bool collect(void *user, uint32_t token)
{
    struct made *made = user;
    assert_true(made->count < MOST);
    made->tokens[made->count++] = token;
    return made->count != made->stop_at;
}

static const struct fm_sampling warm = {.temp = 1.1f, .top_k = 50, .top_p = 0.95f, .repeat_penalty = 1.1f, .seed = 5};

static void generate(struct fm_session *session, uint32_t slot, const uint32_t *tokens, size_t count, uint32_t n_predict,
                     const struct fm_sampling *sampling, struct made *made)
{
    struct fm_request request = {.slot = slot, .tokens = tokens, .n_tokens = count, .n_predict = n_predict, .ignore_end = true,
                                 .on_token = collect, .user = made};
    if (sampling != NULL)
        request.sampling = *sampling;
    E2E_OK(fm_session_generate(session, &request, 1));
}

// Without the token that follows.
static void read_only(struct fm_session *session, uint32_t slot, const uint32_t *tokens, size_t count)
{
    struct made unused = {.count = 0};
    generate(session, slot, tokens, count, 1, NULL, &unused);
}

static size_t held(const struct fm_session *session, uint32_t slot)
{
    size_t count = 0;
    (void)fm_session_tokens(session, slot, &count);
    return count;
}

static void assert_close(const float *got, const float *expected, size_t count, const char *what)
{
    double largest = 0, worst = 0;
    for (size_t i = 0; i < count; i++) {
        double e = (double)expected[i], d = (double)got[i] - e;
        largest = e > largest ? e : -e > largest ? -e : largest;
        worst = d > worst ? d : -d > worst ? -d : worst;
    }
    if (!(worst <= BOUND * largest))
        fail_msg("%s: off by %g, the largest logit is %g", what, worst, largest);
}

// ---- going back --------------------------------------------------------------------------------------------------

static void check_rewinding(const struct subject *s)
{
    struct fm_session *session = make_session(s, 64, 1, N_BACK), *fresh = make_session(s, 64, 1, 0);
    uint32_t a[N_READ], other[N_READ];
    make_tokens(s, 0, a, N_READ);
    float *expected = e2e_logits(fresh, a, N_READ, s->vocab);
    read_only(session, 0, a, N_READ);
    for (uint32_t back = 1; back <= N_BACK; back++) { // and forward again over the same tokens
        E2E_OK(fm_session_rewind(session, 0, N_READ - back));
        float *got = e2e_logits(session, a + N_READ - back, back, s->vocab);
        assert_close(got, expected + (N_READ - back) * s->vocab, back * s->vocab, "over the same tokens");
        free(got);
        assert_int_equal(held(session, 0), N_READ);
    }
    // Too far: nothing changes.
    assert_int_equal(fm_session_rewind(session, 0, N_READ - 20), FM_UNSUPPORTED);
    assert_non_null(strstr(fm_error_message(), "n_rollback"));
    assert_int_equal(held(session, 0), N_READ);
    assert_int_equal(fm_session_rewind(session, 0, N_READ + 1), FM_ARG);
    // Another way from there.
    E2E_OK(fm_session_rewind(session, 0, N_READ - N_BACK));
    memcpy(other, a, sizeof(other));
    make_tokens(s, 1, other + N_READ - N_BACK, N_BACK);
    E2E_OK(fm_session_rewind(fresh, 0, 0));
    float *fresh_other = e2e_logits(fresh, other, N_READ, s->vocab);
    float *got = e2e_logits(session, other + N_READ - N_BACK, N_BACK, s->vocab);
    assert_close(got, fresh_other + (N_READ - N_BACK) * s->vocab, N_BACK * s->vocab, "over other tokens");
    free(got);
    // To the beginning.
    E2E_OK(fm_session_rewind(session, 0, 0));
    got = e2e_logits(session, a, N_READ, s->vocab);
    assert_close(got, expected, N_READ * s->vocab, "from the beginning");
    free(got);
    free(expected);
    free(fresh_other);
    fm_session_destroy(&session);
    fm_session_destroy(&fresh);
}

static void check_keeping(const struct subject *s)
{
    struct fm_session *session = make_session(s, 64, 1, N_BACK);
    uint32_t a[N_READ + 2], other[N_READ];
    size_t kept = 99;
    make_tokens(s, 0, a, N_READ + 2);
    read_only(session, 0, a, N_READ);
    E2E_OK(fm_session_keep(session, 0, a, N_READ + 2, &kept)); // all of it is a beginning
    assert_int_equal(kept, N_READ);
    E2E_OK(fm_session_keep(session, 0, a, N_READ, &kept)); // but one must be left to read
    assert_int_equal(kept, N_READ - 1);
    memcpy(other, a, sizeof(other));
    other[N_READ - 4] = (other[N_READ - 4] + 1) % (uint32_t)s->vocab;
    E2E_OK(fm_session_keep(session, 0, other, N_READ, &kept));
    assert_int_equal(kept, N_READ - 4);
    other[3] = (other[3] + 1) % (uint32_t)s->vocab; // its state is gone
    E2E_OK(fm_session_keep(session, 0, other, N_READ, &kept));
    assert_int_equal(kept, 0);
    assert_int_equal(held(session, 0), 0);
    fm_session_destroy(&session);
}

// ---- several -----------------------------------------------------------------------------------------------------

static void check_forking(const struct subject *s)
{
    struct fm_session *session = make_session(s, 64, 3, 0);
    struct made alone[2] = {{.count = 0}}, forked[2] = {{.count = 0}};
    uint32_t a[N_READ], more[2][3];
    make_tokens(s, 0, a, N_READ);
    for (uint32_t i = 0; i < 2; i++) {
        make_tokens(s, 2 + i, more[i], 3);
        struct fm_session *one = make_session(s, 64, 1, 0);
        read_only(one, 0, a, N_READ);
        generate(one, 0, more[i], 3, N_NEW, &warm, &alone[i]);
        fm_session_destroy(&one);
    }
    read_only(session, 0, a, N_READ);
    E2E_OK(fm_session_fork(session, 0, 2));
    struct fm_request requests[2];
    for (uint32_t i = 0; i < 2; i++)
        requests[i] = (struct fm_request){.slot = i * 2, .tokens = more[i], .n_tokens = 3, .n_predict = N_NEW, .ignore_end = true,
                                          .sampling = warm, .on_token = collect, .user = &forked[i]};
    E2E_OK(fm_session_generate(session, requests, 2));
    for (uint32_t i = 0; i < 2; i++)
        assert_memory_equal(alone[i].tokens, forked[i].tokens, N_NEW * sizeof(uint32_t));
    assert_memory_not_equal(alone[0].tokens, alone[1].tokens, N_NEW * sizeof(uint32_t));
    fm_session_destroy(&session);
}

// Two sequences are decoded while the prompt of a third is read in several steps.
static void check_together(const struct subject *s)
{
    static const size_t lengths[3] = {2, 5, 50};
    struct made alone[3] = {{.count = 0}}, together[3] = {{.count = 0}};
    uint32_t tokens[3][50];
    struct fm_request requests[3];
    for (uint32_t i = 0; i < 3; i++) {
        struct fm_session *one = make_session(s, 80, 1, 0);
        make_tokens(s, i, tokens[i], lengths[i]);
        generate(one, 0, tokens[i], lengths[i], N_NEW + 4, i == 1 ? &warm : NULL, &alone[i]);
        fm_session_destroy(&one);
        requests[i] = (struct fm_request){.slot = 2 - i, .tokens = tokens[i], .n_tokens = lengths[i], .n_predict = N_NEW + 4,
                                          .ignore_end = true, .on_token = collect, .user = &together[i]};
    }
    requests[1].sampling = warm;
    struct fm_session *session = make_session(s, 80, 3, 0);
    E2E_OK(fm_session_generate(session, requests, 3));
    for (uint32_t i = 0; i < 3; i++)
        assert_memory_equal(alone[i].tokens, together[i].tokens, (N_NEW + 4) * sizeof(uint32_t));
    fm_session_destroy(&session);
}

// A step runs ahead of the caller's decision to stop: its state is not the sequence's.
static void check_stopping(const struct subject *s)
{
    struct fm_session *session = make_session(s, 64, 1, 0);
    struct made whole = {.count = 0}, begun = {.stop_at = 3}, rest = {.count = 0};
    uint32_t a[N_READ];
    make_tokens(s, 0, a, N_READ);
    generate(session, 0, a, N_READ, 3 + N_NEW, &warm, &whole);
    E2E_OK(fm_session_rewind(session, 0, 0));
    generate(session, 0, a, N_READ, 0, &warm, &begun);
    assert_int_equal(held(session, 0), N_READ + 2);
    generate(session, 0, begun.tokens + 2, 1, N_NEW, &warm, &rest);
    assert_memory_equal(whole.tokens, begun.tokens, 3 * sizeof(uint32_t));
    assert_memory_equal(whole.tokens + 3, rest.tokens, N_NEW * sizeof(uint32_t));
    fm_session_destroy(&session);
}

// ---- files -------------------------------------------------------------------------------------------------------

#define NOTE "the caller's own"

static void check_loaded(const struct subject *s, const char *path, uint32_t n_ctx, uint32_t n_rollback, const struct made *whole)
{
    struct fm_session *session = make_session(s, n_ctx, 2, n_rollback);
    struct fm_saved saved = {0};
    struct made rest = {.count = 0};
    struct fm_sampling sampling = warm;
    E2E_OK(fm_session_load(session, 1, path, &saved));
    assert_int_equal(held(session, 1), N_READ + 4);
    assert_int_equal(held(session, 0), 0);
    assert_int_equal(saved.token, whole->tokens[4]);
    assert_string_equal(saved.note, NOTE);
    fm_text_free(saved.note);
    sampling.seed = saved.seed;
    generate(session, 1, &saved.token, 1, N_NEW, &sampling, &rest);
    assert_memory_equal(whole->tokens + 5, rest.tokens, N_NEW * sizeof(uint32_t));
    fm_session_destroy(&session);
}

static size_t read_file(const char *path, uint8_t **out_bytes)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    long size = ftell(file);
    assert_true(size > 0);
    rewind(file);
    *out_bytes = malloc((size_t)size);
    assert_non_null(*out_bytes);
    assert_int_equal(fread(*out_bytes, 1, (size_t)size, file), size);
    fclose(file);
    return (size_t)size;
}

static void check_files(const struct subject *s)
{
    char path[TEST_PATH_BYTES], copy[TEST_PATH_BYTES], absent[TEST_PATH_BYTES + 16];
    int fd[2] = {test_temporary_file("state", path), test_temporary_file("state", copy)};
    snprintf(absent, sizeof(absent), "%s/absent", path); // below a file, so it cannot be there
    struct fm_session *session = make_session(s, 64, 2, 0), *small = make_session(s, 16, 1, 0);
    struct made whole = {.count = 0}, begun = {.stop_at = 5};
    uint32_t a[N_READ];
    assert_true(fd[0] >= 0 && fd[1] >= 0);
    make_tokens(s, 0, a, N_READ);
    generate(session, 0, a, N_READ, 5 + N_NEW, &warm, &whole);
    E2E_OK(fm_session_rewind(session, 0, 0));
    generate(session, 0, a, N_READ, 0, &warm, &begun); // stopped by the caller: a step ran ahead
    struct fm_saved saved = {.token = begun.tokens[4], .seed = warm.seed, .note = (char[]){NOTE}};
    E2E_OK(fm_session_save(session, 0, &saved, path));
    E2E_OK(fm_session_fork(session, 0, 1));
    E2E_OK(fm_session_save(session, 1, &saved, copy));
    uint8_t *bytes[2];
    size_t n = read_file(path, &bytes[0]), n_copy = read_file(copy, &bytes[1]);
    assert_int_equal(n, n_copy); // where a slot lies does not matter
    assert_memory_equal(bytes[0], bytes[1], n);
    check_loaded(s, path, 64, 0, &whole);
    check_loaded(s, path, 48, 3, &whole);
    check_loaded(s, path, 100, 0, &whole);
    assert_int_equal(fm_session_load(small, 0, path, &saved), FM_NOSPACE);
    assert_int_equal(held(small, 0), 0);
    // What is wrong is found before the slot is touched.
    generate(small, 0, a, 3, 0, &warm, &(struct made){.stop_at = 5});
    size_t before = held(small, 0);
    assert_int_equal(fm_session_load(small, 0, path, &saved), FM_NOSPACE);
    assert_int_equal(fm_session_load(small, 0, absent, &saved), FM_IO);
    assert_int_equal(held(small, 0), before);
    assert_true(before > 0);
    // A file without a note gives none.
    saved.note = NULL;
    E2E_OK(fm_session_save(session, 0, &saved, copy));
    saved.note = (char[]){NOTE};
    E2E_OK(fm_session_load(session, 0, copy, &saved));
    assert_null(saved.note);
    free(bytes[0]);
    free(bytes[1]);
    fm_session_destroy(&session);
    fm_session_destroy(&small);
    for (int i = 0; i < 2; i++)
        close(fd[i]);
    unlink(path);
    unlink(copy);
}

// ---- the whole ---------------------------------------------------------------------------------------------------

static void (*const checks[])(const struct subject *) = {check_rewinding, check_keeping,  check_forking,
                                                         check_together,  check_stopping, check_files};
static const char *const check_names[] = {"rewinding", "keeping", "forking", "together", "stopping", "files"};
#define N_CHECKS (sizeof(checks) / sizeof(checks[0]))

struct one {
    size_t file, check;
    char name[64];
};

static void run_one(void **state)
{
    const struct one *one = *state;
    struct subject subject = {0};
    open_subject(files[one->file], &subject);
    checks[one->check](&subject);
    fm_model_close(&subject.model);
}

int main(void)
{
    static struct one ones[N_FILES * N_CHECKS];
    static struct CMUnitTest tests[N_FILES * N_CHECKS];
    for (size_t i = 0; i < N_FILES * N_CHECKS; i++) {
        ones[i] = (struct one){.file = i / N_CHECKS, .check = i % N_CHECKS};
        snprintf(ones[i].name, sizeof(ones[i].name), "%s of %s", check_names[ones[i].check], files[ones[i].file]);
        tests[i] = (struct CMUnitTest){.name = ones[i].name, .test_func = run_one, .initial_state = &ones[i]};
    }
    return cmocka_run_group_tests_name("recurrent", tests, open_device, close_device);
}
