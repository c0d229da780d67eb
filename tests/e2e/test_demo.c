// SPDX-License-Identifier: MIT
// The demo models say the same on every device, on its lowest and its highest rung: the greedy continuations of
// models/demo/*expected.json, which were made in f32 by other software. They hold no near-ties, so neither f16 caches nor
// matrix units may change a token.
#include <cjson/cJSON.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/os.h"
#include "e2e/oracle.h"

#define MOST 512
#define N_SLOTS 7u
#define SHORT 20
#define LONG 20u

struct expected {
    uint32_t prompt[MOST], ids[MOST];
    size_t n_prompt, n_ids, at;
};

static size_t numbers(const cJSON *entry, const char *key, uint32_t *out)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(entry, key), *item;
    size_t count = 0;
    assert_true(cJSON_GetArraySize(list) > 0 && cJSON_GetArraySize(list) <= MOST);
    cJSON_ArrayForEach(item, list)
        out[count++] = (uint32_t)item->valuedouble;
    return count;
}

static bool compare(void *user, uint32_t token)
{
    struct expected *e = user;
    return e->at < e->n_ids && token == e->ids[e->at] && ++e->at < e->n_ids;
}

static void read_entry(const struct fm_tokenizer *tokenizer, const cJSON *entry, struct expected *e)
{
    const cJSON *prompt = cJSON_GetObjectItemCaseSensitive(entry, "prompt");
    uint32_t *tokens = NULL;
    size_t count = 0;
    e->at = 0;
    e->n_prompt = numbers(entry, "prompt_ids", e->prompt);
    e->n_ids = numbers(entry, "ids", e->ids);
    assert_true(cJSON_IsString(prompt));
    E2E_OK(fm_tokenizer_encode(tokenizer, prompt->valuestring, strlen(prompt->valuestring), FM_ENCODE_BOS | FM_ENCODE_SPECIAL, &tokens,
                               &count));
    assert_int_equal(count, e->n_prompt);
    assert_memory_equal(tokens, e->prompt, count * sizeof(*tokens));
    fm_tokens_free(tokens);
}

// On processors, one continuation of more than SHORT tokens, and LONG of it; elsewhere all.
static const cJSON *next_entry(const cJSON *entry, bool slow, uint32_t *n_long)
{
    for (; entry != NULL; entry = entry->next)
        if (cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(entry, "ids")) <= SHORT || !slow || (*n_long)++ == 0)
            return entry;
    return NULL;
}

// Up to N_SLOTS entries at a time, each in a slot of its own.
static void check_entries(struct fm_session *session, const struct fm_tokenizer *tokenizer, const cJSON *entries, const char *rung,
                          bool slow)
{
    static struct expected e[N_SLOTS];
    struct fm_request requests[N_SLOTS];
    uint32_t n_long = 0;
    const cJSON *entry = next_entry(entries->child, slow, &n_long);
    while (entry != NULL) {
        uint32_t n = 0;
        for (; entry != NULL && n < N_SLOTS; entry = next_entry(entry->next, slow, &n_long), n++) {
            read_entry(tokenizer, entry, &e[n]);
            if (slow && e[n].n_ids > LONG)
                e[n].n_ids = LONG;
            requests[n] = (struct fm_request){.slot = n, .tokens = e[n].prompt, .n_tokens = e[n].n_prompt, .ignore_end = true,
                                              .on_token = compare, .user = &e[n]};
            E2E_OK(fm_session_rewind(session, n, 0));
        }
        E2E_OK(fm_session_generate(session, requests, n));
        for (uint32_t i = 0; i < n; i++)
            if (e[i].at != e[i].n_ids)
                fail_msg("rung %s, prompt of %zu tokens: token %zu of %zu differs, expected %u", rung, e[i].n_prompt, e[i].at, e[i].n_ids,
                         e[i].ids[e[i].at]);
    }
}

static void check_rung(const char *path, const cJSON *entries, const char *rung)
{
    static const struct fm_session_params params = {.n_ctx = 256, .n_slots = N_SLOTS, .n_ubatch = 128};
    struct fm_device *device = e2e_device(rung);
    struct fm_model *model = NULL;
    struct fm_session *session = NULL;
    struct fm_device_info info;
    E2E_OK(fm_model_open(path, &model));
    E2E_OK(fm_model_load(model, device, NULL));
    E2E_OK(fm_session_create(model, &params, &session));
    fm_device_get_info(device, &info);
    check_entries(session, fm_model_tokenizer(model), entries, rung, strcmp(info.kind, "cpu") == 0);
    fm_session_destroy(&session);
    fm_model_close(&model);
    fm_device_close(&device);
}

static void check_model(const char *file, const char *expected)
{
    char path[1024], *text = NULL;
    size_t bytes = 0;
    enum fm_rung top = e2e_rung();
    const char *root = fm_env_text("FULMEN_SOURCE_ROOT");
    assert_non_null(root);
    snprintf(path, sizeof(path), "%s/models/demo/%s", root, expected);
    E2E_OK(fm_source_read_whole(path, 1 << 24, &text, &bytes));
    cJSON *entries = cJSON_ParseWithLength(text, bytes);
    assert_true(cJSON_GetArraySize(entries) >= 10);
    snprintf(path, sizeof(path), "%s/models/demo/%s", root, file);
    check_rung(path, entries, "base");
    if (top != FM_RUNG_BASE)
        check_rung(path, entries, fm_rung_name(top));
    cJSON_Delete(entries);
    fm_free(text);
}

static void test_llama(void **state)
{
    (void)state;
    check_model("demo-llama.gguf", "expected.json");
}

static void test_transnormer(void **state)
{
    (void)state;
    check_model("demo-transnormer.gguf", "transnormer-expected.json");
}

static void test_hybrid(void **state)
{
    (void)state;
    check_model("demo-hybrid.gguf", "hybrid-expected.json");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_llama), cmocka_unit_test(test_transnormer),
                                       cmocka_unit_test(test_hybrid)};
    return cmocka_run_group_tests_name("demo", tests, NULL, NULL);
}
