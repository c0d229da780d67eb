// SPDX-License-Identifier: MIT
// Models end to end on the reference interpreter: against the logits of the official classes (tests/fixtures/models),
// and against themselves, whatever the way in which the tokens are fed.
#include "base/os.h"
#include "models/arch.h"
#include "ref/ref.h"
#include "support/model_make.h"
#include "support/tensor_data.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

// --- running a file ------------------------------------------------------------------------------------------------

// A weight's value: rows [row0, row0 + dims[0]) of its tensor, decoded.
static void set_weight(struct fm_ref *ref, const struct fm_file *file, const struct fm_graph *g, uint32_t id)
{
    const struct fm_value *v = &g->values[id];
    const struct fm_tensor *tensor = fm_file_tensor(file, v->of.tensor);
    struct fm_ref_tensor *to = fm_ref_tensor(ref, id);
    uint64_t elems = 1;
    for (uint32_t i = 0; i < tensor->n_dims; i++)
        elems *= tensor->dims[i];
    float *all = calloc(elems, sizeof(*all));
    assert_non_null(all);
    uint8_t *data = tensor_data(tensor);
    assert_non_null(data);
    fm_quant_decode(tensor->type, data, elems, all);
    free(data);
    uint64_t first = v->row0 * (v->n_dims > 1 ? (uint64_t)v->dims[1] : 1);
    for (uint64_t i = 0; i < to->elems; i++)
        to->v[i] = (double)all[first + i];
    free(all);
}

struct runner {
    struct fm_graph graph;
    struct fm_file *file;
    double *state[2048]; // states by value id, kept from step to step
    uint64_t state_elems[2048];
    uint32_t slots, ctx;
    uint32_t length; // of the prompt that is read; 0 = as many tokens as there are
};

static void runner_open(struct runner *r, struct fm_file *file, uint32_t slots, uint32_t ctx)
{
    static const struct fm_graph_options options = {.kv_type = {FM_TYPE_F32, FM_TYPE_F32}};
    struct fm_arena arena = {0};
    const struct fm_arch *arch;
    struct fm_config config;
    *r = (struct runner){.file = file, .slots = slots, .ctx = ctx};
    if (fm_arch_open(file, &arena, &arch, &config) != FM_OK ||
        fm_arch_build(arch, &config, file, &options, &r->graph) != FM_OK)
        fail_msg("%s", fm_error_message());
    assert_true(r->graph.n_values <= FM_COUNT(r->state));
    fm_arena_finish(&arena);
}

static void runner_close(struct runner *r)
{
    for (size_t i = 0; i < FM_COUNT(r->state); i++)
        free(r->state[i]);
    fm_graph_finish(&r->graph);
}

struct token {
    uint32_t id, pos, slot;
};

// Rows of one slot stand together.
static void set_segments(const struct token *tokens, uint32_t n, double *to)
{
    for (uint32_t i = 0; i < n; i++) {
        if (i == 0 || tokens[i].slot != tokens[i - 1].slot) {
            to += i == 0 ? 0 : 4;
            to[0] = i;
            to[1] = 0;
            to[2] = tokens[i].slot;
            to[3] = tokens[i].pos;
        }
        to[1]++;
    }
}

// Feed tokens; logits of the rows in out_rows go to out_logits [n_out,V].
static void runner_step(struct runner *r, const struct token *tokens, uint32_t n, const uint32_t *out_rows,
                        uint32_t n_out, double *out_logits)
{
    const struct fm_dims dims = {.t = n, .o = n_out, .s = r->slots, .l = r->ctx};
    struct fm_ref *ref = NULL;
    const struct fm_graph *g = &r->graph;
    assert_int_equal(fm_ref_create(g, &dims, &ref), FM_OK);
    for (uint32_t id = 0; id < g->n_values; id++) {
        const struct fm_value *v = &g->values[id];
        double *to = fm_ref_tensor(ref, id)->v;
        if (v->kind == FM_VALUE_WEIGHT)
            set_weight(ref, r->file, g, id);
        if (v->kind == FM_VALUE_STATE && v->alias == FM_NONE && r->state[id])
            memcpy(to, r->state[id], r->state_elems[id] * sizeof(*to));
        for (uint32_t i = 0; v->kind == FM_VALUE_INPUT && i < n; i++) {
            if (v->of.input == FM_INPUT_TOKEN)
                to[i] = tokens[i].id;
            if (v->of.input == FM_INPUT_POS)
                to[i] = tokens[i].pos;
            if (v->of.input == FM_INPUT_SLOT)
                to[i] = tokens[i].slot;
            if (v->of.input == FM_INPUT_OUT_ROW && i < n_out)
                to[i] = out_rows[i];
            if (v->of.input == FM_INPUT_LENGTH)
                to[i] = r->length ? r->length : tokens[i].pos + 1;
        }
        if (v->kind == FM_VALUE_INPUT && v->of.input == FM_INPUT_SEGMENT)
            set_segments(tokens, n, to);
    }
    fm_ref_run(ref);
    const struct fm_ref_tensor *logits = fm_ref_tensor(ref, g->logits);
    memcpy(out_logits, logits->v, logits->elems * sizeof(*out_logits));
    for (uint32_t id = 0; id < g->n_values; id++) {
        const struct fm_ref_tensor *t = fm_ref_tensor(ref, id);
        if (g->values[id].kind != FM_VALUE_STATE || g->values[id].alias != FM_NONE)
            continue;
        r->state[id] = r->state[id] ? r->state[id] : calloc(t->elems, sizeof(double));
        assert_non_null(r->state[id]);
        r->state_elems[id] = t->elems;
        memcpy(r->state[id], t->v, t->elems * sizeof(double));
    }
    fm_ref_destroy(&ref);
}

// --- fixtures ------------------------------------------------------------------------------------------------------

static const char *fixture_path(const char *name, char *out, size_t out_bytes)
{
    const char *root = fm_env_text("FULMEN_TEST_DATA");
    assert_non_null(root);
    snprintf(out, out_bytes, "%s/models/%s", root, name);
    return out;
}

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

// The official classes compute in f32: their own rounding is what the tolerance allows.
#define TOLERANCE 1e-5

// One length of a model. Prints the distance found; fails beyond the tolerance.
static double check_run(struct runner *r, const cJSON *ids, const cJSON *run, const char *logits, size_t logits_bytes,
                        const char *name)
{
    uint32_t n = (uint32_t)number(run, "length"), first = (uint32_t)number(run, "first_row"),
             count = (uint32_t)number(run, "rows");
    size_t at = (size_t)number(run, "offset_bytes");
    uint32_t vocab = r->graph.values[r->graph.logits].dims[1];
    struct token *tokens = calloc(n, sizeof(*tokens));
    uint32_t *out_rows = calloc(n, sizeof(*out_rows));
    double *got = calloc((size_t)count * vocab, sizeof(*got)), worst = 0, greatest = 0;
    assert_true(tokens && out_rows && got && first + count <= n &&
                at + (size_t)count * vocab * sizeof(float) <= logits_bytes);
    for (uint32_t i = 0; i < n; i++)
        tokens[i] = (struct token){(uint32_t)cJSON_GetArrayItem(ids, (int)i)->valuedouble, i, 0};
    for (uint32_t i = 0; i < count; i++)
        out_rows[i] = first + i;
    r->length = n;
    runner_step(r, tokens, n, out_rows, count, got);
    for (size_t i = 0; i < (size_t)count * vocab; i++) {
        float expected;
        memcpy(&expected, logits + at + i * sizeof(expected), sizeof(expected));
        worst = fmax(worst, fabs(got[i] - (double)expected));
        greatest = fmax(greatest, fabs((double)expected));
    }
    free(tokens);
    free(out_rows);
    free(got);
    if (!(worst <= TOLERANCE * greatest))
        fail_msg("%s, %u tokens: off by %.3g of %.3g, %.3g allowed", name, n, worst, greatest, TOLERANCE * greatest);
    return worst / greatest;
}

static void check_model(const cJSON *model)
{
    char path[1024], *logits;
    size_t logits_bytes;
    struct fm_file *file = NULL;
    struct runner r;
    double worst = 0;
    const cJSON *ids = cJSON_GetObjectItemCaseSensitive(model, "ids"), *run;
    if (fm_source_read_whole(fixture_path(string(model, "logits"), path, sizeof(path)), SIZE_MAX / 2, &logits, &logits_bytes) !=
            FM_OK ||
        fm_file_open(fixture_path(string(model, "model"), path, sizeof(path)), &file) != FM_OK)
        fail_msg("%s", fm_error_message());
    runner_open(&r, file, 1, (uint32_t)cJSON_GetArraySize(ids));
    cJSON_ArrayForEach(run, cJSON_GetObjectItemCaseSensitive(model, "runs"))
        worst = fmax(worst, check_run(&r, ids, run, logits, logits_bytes, string(model, "name")));
    print_message("%-20s off by at most %.2e of the greatest logit\n", string(model, "name"), worst);
    runner_close(&r);
    fm_file_close(&file);
    fm_free(logits);
}

static void check_index(const char *name)
{
    char path[1024], *text;
    size_t bytes;
    if (fm_source_read_whole(fixture_path(name, path, sizeof(path)), 1 << 26, &text, &bytes) != FM_OK)
        fail_msg("%s", fm_error_message());
    cJSON *index = cJSON_ParseWithLength(text, bytes);
    const cJSON *models = cJSON_GetObjectItemCaseSensitive(index, "models"), *model;
    assert_true(cJSON_GetArraySize(models) >= 3);
    cJSON_ArrayForEach(model, models)
        check_model(model);
    cJSON_Delete(index);
    fm_free(text);
}

static void test_fixtures(void **state)
{
    static const char *const indexes[] = {"models.json",        "mamba.json",        "mamba2.json",    "transnormer.json",
                                          "mamba2_groups.json", "mambainllama.json", "dual_chunk.json"};
    (void)state;
    for (size_t i = 0; i < FM_COUNT(indexes); i++)
        check_index(indexes[i]);
}

// --- against themselves --------------------------------------------------------------------------------------------

#define FED 24 // tokens of each sequence

// The same sequence in one step, and token by token in another slot among a second sequence: the same logits.
static void check_ways_to_feed(struct fm_file *file, const char *name)
{
    struct runner whole, split;
    struct token tokens[FED], pair[2];
    uint32_t out_rows[FED];
    static double expected[FED * 96], got[2 * 96];
    runner_open(&whole, file, 1, FED);
    runner_open(&split, file, 3, FED + 5);
    for (uint32_t i = 0; i < FED; i++) {
        tokens[i] = (struct token){(i * 37 + 5) % 96, i, 0};
        out_rows[i] = i;
    }
    runner_step(&whole, tokens, FED, out_rows, FED, expected);
    for (uint32_t i = 0; i < FED; i++) {
        pair[0] = (struct token){(i * 11 + 2) % 96, i, 0};
        pair[1] = (struct token){tokens[i].id, i, 2};
        runner_step(&split, pair, 2, (const uint32_t[]){1, 0}, 2, got);
        for (uint32_t v = 0; v < 96; v++)
            if (fabs(got[v] - expected[i * 96 + v]) > 1e-9)
                fail_msg("%s, token %u, logit %u: %.12g and %.12g", name, i, v, got[v], expected[i * 96 + v]);
    }
    runner_close(&whole);
    runner_close(&split);
}

static void test_ways_to_feed(void **state)
{
    (void)state;
    static const char *const files[] = {"transnormer.gguf", "transnormer-h6.gguf", "mamba2-groups.gguf", "mambainllama-1.gguf",
                                        "mambainllama-2.gguf", "llama-chunks.gguf"};
    for (const char *const *name = model_make_archs; *name; name++) {
        struct gguf_writer w = {0};
        struct fm_config config = model_make_config(*name);
        config.window = strcmp(*name, "llama") == 0 ? 7 : 0;
        model_make(&w, *name, &config, FM_TYPE_Q8_0, 11);
        struct gguf_bytes bytes = gguf_write_make(&w);
        struct fm_file *file = NULL;
        assert_int_equal(fm_file_open_memory(bytes.data, bytes.size_bytes, "made.gguf", &file), FM_OK);
        check_ways_to_feed(file, *name);
        fm_file_close(&file);
        gguf_bytes_finish(&bytes);
        gguf_write_finish(&w);
    }
    for (size_t i = 0; i < FM_COUNT(files); i++) {
        char path[1024];
        struct fm_file *file = NULL;
        if (fm_file_open(fixture_path(files[i], path, sizeof(path)), &file) != FM_OK)
            fail_msg("%s", fm_error_message());
        check_ways_to_feed(file, files[i]);
        fm_file_close(&file);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fixtures),
        cmocka_unit_test(test_ways_to_feed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
