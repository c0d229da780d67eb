// SPDX-License-Identifier: MIT
// Logits through the public interface: against the official classes (tests/fixtures/models), and of every weight format
// and architecture against the reference interpreter; on the rungs that the device reaches, whatever the size of the
// micro-batches.
// The bounds are explained in oracle.h.
#include <cjson/cJSON.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/os.h"
#include "e2e/oracle.h"

// ---- fixtures ----------------------------------------------------------------------------------------------------

static char folder[512];
static const char *const halves_names[] = {"nothing", "caches", "factors", "caches and factors"};

static double number(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    assert_true(cJSON_IsNumber(item));
    return item->valuedouble;
}

static const char *string(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    assert_true(cJSON_IsString(item));
    return item->valuestring;
}

struct fixture {
    const cJSON *entry;
    uint32_t tokens[512];
    size_t n_tokens;
    char *logits;
    size_t logits_bytes;
    size_t vocab;
    struct e2e_off off[4]; // by e2e_halves: the greatest that these roundings make in any run
    bool measured[4];
};

static void open_fixture(const cJSON *entry, struct fixture *f)
{
    char path[1024];
    const cJSON *ids = cJSON_GetObjectItemCaseSensitive(entry, "ids"), *id;
    *f = (struct fixture){.entry = entry, .vocab = (size_t)number(entry, "vocab_size"), .measured = {true}};
    assert_true(cJSON_GetArraySize(ids) <= (int)FM_COUNT(f->tokens));
    cJSON_ArrayForEach(id, ids)
        f->tokens[f->n_tokens++] = (uint32_t)id->valuedouble;
    snprintf(path, sizeof(path), "%s/%s", folder, string(entry, "logits"));
    E2E_OK(fm_source_read_whole(path, SIZE_MAX / 2, &f->logits, &f->logits_bytes));
}

// One length of the fixture, in a session whose slot was emptied.
static struct e2e_off distance_of_run(const struct fixture *f, const cJSON *run, struct fm_session *session)
{
    size_t n = (size_t)number(run, "length"), first = (size_t)number(run, "first_row"), rows = (size_t)number(run, "rows");
    size_t at = (size_t)number(run, "offset_bytes"), count = rows * f->vocab;
    assert_true(n <= f->n_tokens && first + rows <= n && at + count * sizeof(float) <= f->logits_bytes);
    E2E_OK(fm_session_rewind(session, 0, 0));
    float *got = e2e_logits(session, f->tokens, n, f->vocab);
    double *expected = calloc(count, sizeof(*expected));
    assert_non_null(expected);
    for (size_t i = 0; i < count; i++) {
        float value;
        memcpy(&value, f->logits + at + i * sizeof(value), sizeof(value));
        expected[i] = (double)value;
    }
    struct e2e_off distance = e2e_distance(got + first * f->vocab, expected, count);
    free(expected);
    free(got);
    return distance;
}

static struct e2e_off bound_of_roundings(const struct fixture *f, unsigned halves)
{
    return halves & E2E_HALF_FACTORS ? e2e_bound_of_factors(string(f->entry, "arch"), f->off[halves]) : e2e_bound(f->off[halves]);
}

static struct e2e_off bound_of_fixture(struct fixture *f, unsigned halves)
{
    char path[1024];
    uint32_t vocab;
    const cJSON *run;
    if (f->measured[halves])
        return bound_of_roundings(f, halves);
    snprintf(path, sizeof(path), "%s/%s", folder, string(f->entry, "model"));
    double *exact = e2e_reference(path, f->tokens, (uint32_t)f->n_tokens, E2E_HALF_NONE, &vocab);
    double *rounded = e2e_reference(path, f->tokens, (uint32_t)f->n_tokens, halves, &vocab);
    assert_int_equal(vocab, f->vocab);
    cJSON_ArrayForEach(run, cJSON_GetObjectItemCaseSensitive(f->entry, "runs")) {
        size_t at = (size_t)number(run, "first_row") * f->vocab, count = (size_t)number(run, "rows") * f->vocab;
        f->off[halves] = e2e_greater(f->off[halves], e2e_rounding_distance(exact + at, rounded + at, count));
    }
    free(exact);
    free(rounded);
    f->measured[halves] = true;
    print_message("%s, f16 %s: %.2e of the largest logit by rounding, %.2e in the mean\n", string(f->entry, "name"),
                  halves_names[halves], f->off[halves].most, f->off[halves].rms);
    assert_true(f->off[halves].most < 1e-2); // else the yardstick itself is broken
    return bound_of_roundings(f, halves);
}

static void check_fixture(const struct fixture *f, struct fm_device *device, const char *rung, uint32_t n_ubatch, const char *cache,
                          struct e2e_off bound)
{
    const struct fm_session_params params = {.n_ctx = (uint32_t)f->n_tokens, .n_ubatch = n_ubatch, .cache_type_k = cache,
                                             .cache_type_v = cache};
    const cJSON *run;
    struct fm_model *model = NULL;
    struct fm_session *session = NULL;
    char path[1024];
    snprintf(path, sizeof(path), "%s/%s", folder, string(f->entry, "model"));
    E2E_OK(fm_model_open(path, &model));
    E2E_OK(fm_model_load(model, device, NULL));
    E2E_OK(fm_session_create(model, &params, &session));
    struct e2e_off worst = {0, 0};
    cJSON_ArrayForEach(run, cJSON_GetObjectItemCaseSensitive(f->entry, "runs")) {
        // In smaller micro-batches the lengths from 33 do, and of one those below 128: the rest is the same program again.
        if (number(run, "length") < (n_ubatch < 512 ? 33 : 0) || number(run, "length") > (n_ubatch == 1 ? 128 : 512))
            continue;
        struct e2e_off distance = distance_of_run(f, run, session);
        if (!e2e_within(distance, bound))
            fail_msg("%s, rung %s, -ub %u, %s caches, %.0f tokens: off by %.2e of the largest logit, %.2e in the mean; %.2e and %.2e "
                     "allowed", string(f->entry, "name"), rung, n_ubatch, cache ? cache : "default", number(run, "length"),
                     distance.most, distance.rms, bound.most, bound.rms);
        worst = e2e_greater(worst, distance);
    }
    print_message("%s, rung %s, -ub %u, %s caches: off by %.2e of %.2e, in the mean %.2e of %.2e\n", string(f->entry, "name"), rung,
                  n_ubatch, cache ? cache : "default", worst.most, bound.most, worst.rms, bound.rms);
    fm_session_destroy(&session);
    fm_model_close(&model);
}

// Differs from the case "llama" in constants or weights alone: the same kernels run, whatever the rung.
static bool is_constants_only(const char *name)
{
    static const char *const cases[] = {"llama-theta5e5", "llama-linear", "llama-rope-freqs", "llama-llama3-keys", "llama-tied"};
    for (size_t i = 0; i < FM_COUNT(cases); i++)
        if (strcmp(name, cases[i]) == 0)
            return true;
    return false;
}

// The dot kernels of quantised weights see activations as integers: off by at most 2^-17 of the largest of a block, where
// rounding to f16 is off by 2^-12 of each: an eighth of that yardstick, as blocks of 32 or more have a largest of a few times
// the typical.
static struct e2e_off with_integers(struct fixture *f, struct e2e_off bound)
{
    bound_of_fixture(f, E2E_HALF_FACTORS); // measures it, once
    const struct e2e_off off = f->off[E2E_HALF_FACTORS];
    return (struct e2e_off){bound.most + E2E_SLACK * off.most / 8, bound.rms + E2E_SLACK * off.rms / 8};
}

// Sums in f16 are off by more than what their factors' rounding makes.
static struct e2e_off with_sums(struct fixture *f, struct e2e_off bound)
{
    bound_of_fixture(f, E2E_HALF_FACTORS);
    const struct e2e_off sums = e2e_bound_of_sums(f->off[E2E_HALF_FACTORS]), exact = e2e_exact();
    return (struct e2e_off){bound.most + sums.most - exact.most, bound.rms + sums.rms - exact.rms};
}

// Whole prompts, and on the lowest rung small micro-batches as well: above it the kernels differ, not the steps. The models of an
// index, which share their code, take turns in the sizes.
static void check_rung(struct fixture *f, struct fm_device *device, enum fm_rung rung, size_t turn)
{
    static const uint32_t small[] = {1, 7, 32};
    const uint32_t ubatches[] = {512, small[turn % FM_COUNT(small)]};
    const char *name = fm_rung_name(rung);
    bool f32 = strcmp(string(f->entry, "weights"), "F32") == 0;
    size_t n = rung == FM_RUNG_BASE && !is_constants_only(string(f->entry, "name")) ? 2 : 1;
    // Matrix units round their factors: not f32 weights, but activations that meet one another in linear attention and SSD.
    bool exact = rung < FM_RUNG_CM || (f32 && !e2e_multiplies_activations(string(f->entry, "arch")));
    unsigned factors = exact ? E2E_HALF_NONE : E2E_HALF_FACTORS;
    struct e2e_off bound = bound_of_fixture(f, factors);
    bool sums = !f32 && e2e_adds_halves(rung), integers = !f32 && !sums && rung == FM_RUNG_DOT;
    bound = sums ? with_sums(f, bound) : integers ? with_integers(f, bound) : bound;
    for (size_t i = 0; i < n; i++)
        check_fixture(f, device, name, ubatches[i], "f32", bound);
    if (f32)
        return;
    bound = bound_of_fixture(f, factors | E2E_HALF_CACHE);
    check_fixture(f, device, name, 512, NULL, sums ? with_sums(f, bound) : integers ? with_integers(f, bound) : bound);
}

// Rungs between the lowest and the highest take every second subject, in turn: each of their kernels is run by the kernel suite.
static bool has_turn(enum fm_rung rung, enum fm_rung top, size_t turn)
{
    return rung == FM_RUNG_BASE || rung == top || (turn + rung) % 2 == 0;
}

// The models of one index on one rung.
static void check_index(const char *file, struct fm_device *device, enum fm_rung rung, enum fm_rung top)
{
    size_t turn = 0;
    char path[1024], *text;
    size_t bytes;
    snprintf(path, sizeof(path), "%s/%s", folder, file);
    E2E_OK(fm_source_read_whole(path, 1 << 26, &text, &bytes));
    cJSON *index = cJSON_ParseWithLength(text, bytes);
    const cJSON *models = cJSON_GetObjectItemCaseSensitive(index, "models"), *entry;
    assert_true(cJSON_GetArraySize(models) >= 3);
    cJSON_ArrayForEach(entry, models) {
        struct fixture f;
        if (rung > 0 && is_constants_only(string(entry, "name")))
            continue;
        if (!has_turn(rung, top, ++turn))
            continue;
        open_fixture(entry, &f);
        check_rung(&f, device, rung, turn);
        fm_free(f.logits);
    }
    cJSON_Delete(index);
    fm_free(text);
}

static void test_fixtures(void **state)
{
    static const char *const indexes[] = {"models.json",        "transnormer.json",  "mamba.json", "mamba2.json",
                                             "mamba2_groups.json", "mambainllama.json", "dual_chunk.json"};
    enum fm_rung top = e2e_rung();
    (void)state;
    const char *root = fm_env_text("FULMEN_TEST_DATA");
    assert_non_null(root);
    snprintf(folder, sizeof(folder), "%s/models", root);
    for (int rung = 0; rung <= (int)top; rung++) {
        struct fm_device *device = e2e_device(fm_rung_name((enum fm_rung)rung));
        for (size_t i = 0; i < FM_COUNT(indexes); i++)
            check_index(indexes[i], device, (enum fm_rung)rung, top);
        fm_device_close(&device);
    }
}

// ---- formats and architectures -----------------------------------------------------------------------------------

#define N_TOKENS 21u

static void check_made(struct fm_device *device, enum fm_rung rung, const char *arch, enum fm_type type, uint32_t seed)
{
    const struct fm_session_params params = {.n_ctx = 64, .n_ubatch = 13, .cache_type_k = "f32", .cache_type_v = "f32"};
    struct fm_config config = model_make_config(arch);
    uint32_t tokens[N_TOKENS], vocab = 0;
    struct fm_model *model = NULL;
    struct fm_session *session = NULL;
    config.width = 256; // whole blocks of every format
    config.heads = config.heads_kv = 4;
    config.head = 64;
    config.rotated = config.rotated ? 64 : 0;
    config.ffn = 256;
    config.n_layers = 1;
    const char *path = e2e_model_file(arch, &config, type, seed);
    for (uint32_t i = 0; i < N_TOKENS; i++)
        tokens[i] = (i * 37 + seed) % config.vocab;
    double *expected = e2e_reference(path, tokens, N_TOKENS, E2E_HALF_NONE, &vocab);
    E2E_OK(fm_model_open(path, &model));
    E2E_OK(fm_model_load(model, device, NULL));
    E2E_OK(fm_session_create(model, &params, &session));
    float *got = e2e_logits(session, tokens, N_TOKENS, vocab);
    struct e2e_off distance = e2e_distance(got, expected, (size_t)N_TOKENS * vocab), bound = e2e_exact();
    bool sums = type != FM_TYPE_F32 && e2e_adds_halves(rung);
    if (sums || (type != FM_TYPE_F32 && rung >= FM_RUNG_CM)) {
        double *rounded = e2e_reference(path, tokens, N_TOKENS, E2E_HALF_FACTORS, &vocab);
        const struct e2e_off off = e2e_rounding_distance(expected, rounded, (size_t)N_TOKENS * vocab);
        bound = sums ? e2e_bound_of_sums(off) : e2e_bound(off);
        free(rounded);
    }
    print_message("%s, %s, rung %s: off by %.2e of %.2e, in the mean %.2e of %.2e\n", arch, fm_type_info(type)->name,
                  fm_rung_name(rung), distance.most, bound.most, distance.rms, bound.rms);
    if (!e2e_within(distance, bound))
        fail_msg("%s, %s, rung %s: off by %.2e of the largest logit, %.2e in the mean; %.2e and %.2e allowed", arch,
                 fm_type_info(type)->name, fm_rung_name(rung), distance.most, distance.rms, bound.most, bound.rms);
    free(got);
    free(expected);
    fm_session_destroy(&session);
    fm_model_close(&model);
    unlink(path);
}

static void test_formats_and_architectures(void **state)
{
    enum fm_rung top = e2e_rung();
    (void)state;
    for (int rung = 0; rung <= (int)top; rung++) {
        struct fm_device *device = e2e_device(fm_rung_name((enum fm_rung)rung));
        for (int type = 0; type < FM_TYPE_COUNT; type++)
            if (fm_type_info((enum fm_type)type)->is_weight && has_turn((enum fm_rung)rung, top, (size_t)type))
                check_made(device, (enum fm_rung)rung, "llama", (enum fm_type)type, 3);
        for (const char *const *arch = model_make_archs; *arch != NULL; arch++)
            if (has_turn((enum fm_rung)rung, top, (size_t)(arch - model_make_archs)))
                check_made(device, (enum fm_rung)rung, *arch, FM_TYPE_Q4_0, 5);
        fm_device_close(&device);
    }
}

// ---- dual chunk attention ----------------------------------------------------------------------------------------

// Logits of the first n tokens in a session with these chunks.
static float *chunk_logits(struct fm_model *model, enum fm_dca dca, uint32_t cap, uint32_t local, uint32_t n_ubatch,
                           const uint32_t *tokens, size_t n, size_t vocab)
{
    const struct fm_session_params params = {.n_ctx = 64, .n_ubatch = n_ubatch, .dca = dca, .dca_cap = cap, .dca_local = local};
    struct fm_session *session = NULL;
    E2E_OK(fm_session_create(model, &params, &session));
    float *logits = e2e_logits(session, tokens, n, vocab);
    fm_session_destroy(&session);
    return logits;
}

// The largest difference is small beside the largest logit: what f32 rounding in another order comes to, through f16 caches.
static void assert_close(const float *a, const float *b, size_t n)
{
    double off = 0, largest = 0;
    for (size_t i = 0; i < n; i++) {
        off = fmax(off, fabs((double)a[i] - b[i]));
        largest = fmax(largest, fabs((double)a[i]));
    }
    if (!(off <= 5e-4 * largest))
        fail_msg("off by %.2e of the largest logit", off / largest);
}

// Up to the first boundary of a chunk the same bits as plain attention where a prompt is read at once. Token by token plain attention has
// a kernel of its own (rope_attend), which adds in another order. Behind the boundary others.
static void test_first_chunk_is_plain(void **state)
{
    enum fm_rung top = e2e_rung();
    (void)state;
    for (int rung = 0; rung <= (int)top; rung++)
        for (int type = FM_TYPE_F32; type <= FM_TYPE_F16; type++) {
            struct fm_device *device = e2e_device(fm_rung_name((enum fm_rung)rung));
            struct fm_config config = model_make_config("llama");
            uint32_t tokens[N_TOKENS], ubatches[] = {1, N_TOKENS};
            struct fm_model *model = NULL;
            const char *path = e2e_model_file("llama", &config, (enum fm_type)type, 7);
            for (uint32_t i = 0; i < N_TOKENS; i++)
                tokens[i] = (i * 29 + 5) % config.vocab;
            E2E_OK(fm_model_open(path, &model));
            E2E_OK(fm_model_load(model, device, NULL));
            for (size_t u = 0; u < FM_COUNT(ubatches); u++) {
                size_t n = (size_t)N_TOKENS * config.vocab, first = (size_t)(N_TOKENS - 1) * config.vocab;
                float *plain = chunk_logits(model, FM_DCA_OFF, 0, 0, ubatches[u], tokens, N_TOKENS, config.vocab);
                float *whole = chunk_logits(model, FM_DCA_GIVEN, N_TOKENS + 4, 4, ubatches[u], tokens, N_TOKENS, config.vocab);
                float *split = chunk_logits(model, FM_DCA_GIVEN, N_TOKENS, 1, ubatches[u], tokens, N_TOKENS, config.vocab);
                if (ubatches[u] == 1) {
                    assert_close(plain, whole, n);
                    assert_close(plain, split, first);
                } else {
                    assert_memory_equal(plain, whole, n * sizeof(float));
                    assert_memory_equal(plain, split, first * sizeof(float));
                }
                assert_memory_equal(whole, split, first * sizeof(float));
                assert_memory_not_equal(plain + first, split + first, config.vocab * sizeof(float));
                free(plain);
                free(whole);
                free(split);
            }
            fm_model_close(&model);
            fm_device_close(&device);
            unlink(path);
        }
}

// ---- caches of q8_0 ----------------------------------------------------------------------------------------------

// Against a reference whose cache is rounded likewise. Where a key lies between two steps a device may round to the other one,
// and matrix units round q, k and v to f16 besides, which is less: nearer than the rounded reference is to the exact one.
static void check_q8_cache(struct fm_device *device, const char *rung, const char *arch, uint32_t n_ubatch)
{
    // 61 is no multiple of 8; the session rounds it up.
    const struct fm_session_params params = {.n_ctx = 61, .n_ubatch = n_ubatch, .cache_type_k = "q8_0", .cache_type_v = "q8_0"};
    struct fm_config config = model_make_config(arch);
    uint32_t tokens[N_TOKENS], vocab = 0;
    struct fm_model *model = NULL;
    struct fm_session *session = NULL;
    const char *path = e2e_model_file(arch, &config, FM_TYPE_F32, 11);
    for (uint32_t i = 0; i < N_TOKENS; i++)
        tokens[i] = (i * 31 + 2) % config.vocab;
    double *exact = e2e_reference(path, tokens, N_TOKENS, E2E_HALF_NONE, &vocab);
    double *expected = e2e_reference(path, tokens, N_TOKENS, E2E_Q8_CACHE, &vocab);
    size_t n = (size_t)N_TOKENS * vocab;
    float *rounded = calloc(n, sizeof(*rounded));
    assert_non_null(rounded);
    for (size_t i = 0; i < n; i++)
        rounded[i] = (float)expected[i];
    struct e2e_off off = e2e_distance(rounded, exact, n);
    E2E_OK(fm_model_open(path, &model));
    E2E_OK(fm_model_load(model, device, NULL));
    E2E_OK(fm_session_create(model, &params, &session));
    float *got = e2e_logits(session, tokens, N_TOKENS, vocab);
    struct e2e_off distance = e2e_distance(got, expected, n);
    if (!e2e_within(distance, off) || !(off.most < 0.05))
        fail_msg("%s, rung %s, -ub %u: q8_0 caches are off by %.2e of the largest logit and %.2e in the mean, rounding them by %.2e and "
                 "%.2e", arch, rung, n_ubatch, distance.most, distance.rms, off.most, off.rms);
    free(got);
    free(rounded);
    free(expected);
    free(exact);
    fm_session_destroy(&session);
    fm_model_close(&model);
    unlink(path);
}

static void test_q8_caches(void **state)
{
    static const uint32_t ubatches[] = {1, 7, 32};
    enum fm_rung top = e2e_rung();
    (void)state;
    for (int rung = 0; rung <= (int)top; rung++) {
        struct fm_device *device = e2e_device(fm_rung_name((enum fm_rung)rung));
        for (size_t i = 0; i < FM_COUNT(ubatches); i++) {
            check_q8_cache(device, fm_rung_name((enum fm_rung)rung), "llama", ubatches[i]);
            check_q8_cache(device, fm_rung_name((enum fm_rung)rung), "gpt2", ubatches[i]);
        }
        fm_device_close(&device);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fixtures),
        cmocka_unit_test(test_formats_and_architectures),
        cmocka_unit_test(test_first_chunk_is_plain),
        cmocka_unit_test(test_q8_caches),
    };
    return cmocka_run_group_tests_name("logits", tests, NULL, NULL);
}
