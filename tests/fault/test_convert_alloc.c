// SPDX-License-Identifier: MIT
// Converting with the n-th allocation failing, for every n, and onto a disk that is full: an error each time, and
// neither half a file nor a temporary one left behind.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "fulmen/convert.h"
#include "support/checkpoint_make.h"
#include "support/temporary.h"

struct paths {
    char folder[TEST_PATH_BYTES], checkpoint[TEST_PATH_BYTES + 16], source[TEST_PATH_BYTES + 64], out[TEST_PATH_BYTES + 16];
};

static void write_file(const char *path, const void *data, size_t size_bytes)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size_bytes, file), size_bytes);
    assert_int_equal(fclose(file), 0);
}

static void write_text(const struct paths *p, const char *name, const char *text)
{
    char path[TEST_PATH_BYTES + 512];
    snprintf(path, sizeof(path), "%s/%s", p->checkpoint, name);
    write_file(path, text, strlen(text));
}

// A Mamba of the authors' form with one layer, and a tokenizer.
static void write_checkpoint(const struct paths *p)
{
    static const struct {
        const char *name;
        uint32_t n_dims;
        uint64_t dims[3];
    } rows[] = {{"backbone.embedding.weight", 2, {8, 8}},
                {"backbone.norm_f.weight", 1, {8}},
                {"backbone.layers.0.norm.weight", 1, {8}},
                {"backbone.layers.0.mixer.in_proj.weight", 2, {32, 8}},
                {"backbone.layers.0.mixer.conv1d.weight", 3, {16, 1, 4}},
                {"backbone.layers.0.mixer.conv1d.bias", 1, {16}},
                {"backbone.layers.0.mixer.x_proj.weight", 2, {33, 16}},
                {"backbone.layers.0.mixer.dt_proj.weight", 2, {16, 1}},
                {"backbone.layers.0.mixer.dt_proj.bias", 1, {16}},
                {"backbone.layers.0.mixer.A_log", 2, {16, 16}},
                {"backbone.layers.0.mixer.D", 1, {16}},
                {"backbone.layers.0.mixer.out_proj.weight", 2, {8, 16}}};
    static const float values[1024];
    struct safetensors_writer w = {0};
    char path[TEST_PATH_BYTES + 512];
    for (size_t i = 0; i < FM_COUNT(rows); i++) {
        uint64_t elems = 1;
        for (uint32_t d = 0; d < rows[i].n_dims; d++)
            elems *= rows[i].dims[d];
        assert_true(elems <= FM_COUNT(values));
        safetensors_put(&w, rows[i].name, "F32", rows[i].n_dims, rows[i].dims, values, (size_t)elems * sizeof(float));
    }
    struct gguf_bytes bytes = safetensors_finish(&w);
    snprintf(path, sizeof(path), "%s/model.safetensors", p->checkpoint);
    write_file(path, bytes.data, bytes.size_bytes);
    gguf_bytes_finish(&bytes);
    write_text(p, "config.json", "{\"d_model\": 8, \"n_layer\": 1, \"vocab_size\": 6, \"ssm_cfg\": {}}");
    write_text(p, "tokenizer.json",
               "{\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false}, \"added_tokens\": [{\"id\": 3, "
               "\"content\": \"<e>\", \"special\": true}], \"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, "
               "\"ab\": 2}, \"merges\": [\"a b\"]}}");
    write_text(p, "tokenizer_config.json", "{\"eos_token\": \"<e>\", \"add_bos_token\": false}");
}

static void ignore(void *user, enum fm_log_level level, const char *line)
{
    (void)user;
    (void)level;
    (void)line;
}

static int set_up(void **state)
{
    struct paths *p = calloc(1, sizeof(*p));
    assert_non_null(p);
    assert_true(test_temporary_folder("convert", p->folder));
    snprintf(p->checkpoint, sizeof(p->checkpoint), "%s/checkpoint", p->folder);
    snprintf(p->out, sizeof(p->out), "%s/out", p->folder);
    const char *data = getenv("FULMEN_TEST_DATA");
    assert_non_null(data);
    snprintf(p->source, sizeof(p->source), "%s/models/llama.gguf", data);
    assert_int_equal(mkdir(p->checkpoint, 0777), 0);
    assert_int_equal(mkdir(p->out, 0777), 0);
    write_checkpoint(p);
    fm_log_set(ignore, NULL, FM_LOG_ERROR); // the same warnings in every round
    *state = p;
    return 0;
}

static int tear_down(void **state)
{
    struct paths *p = *state;
    assert_true(test_remove_folder(p->folder));
    free(p);
    return 0;
}

// Removes what is there; returns how many files.
static unsigned empty_out(const struct paths *p)
{
    DIR *dir = opendir(p->out);
    unsigned count = 0;
    assert_non_null(dir);
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        char path[TEST_PATH_BYTES + 512];
        snprintf(path, sizeof(path), "%s/%s", p->out, e->d_name);
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && unlink(path) == 0)
            count++;
    }
    closedir(dir);
    return count;
}

typedef enum fm_result convert_fn(const struct paths *p, const char *out);

static enum fm_result convert_checkpoint(const struct paths *p, const char *out)
{
    const struct fm_convert_params params = {.type = "q4_0"};
    return fm_convert(p->checkpoint, out, &params);
}

static enum fm_result quantize(const struct paths *p, const char *out)
{
    const struct fm_convert_params params = {.type = "q8_0"};
    return fm_quantize(p->source, out, &params);
}

static enum fm_result make_hybrid(const struct paths *p, const char *out)
{
    const uint32_t layers[] = {1};
    const struct fm_hybrid_params hybrid = {.attention_layers = layers, .n_attention_layers = 1};
    return fm_convert_mambainllama(p->source, out, &hybrid, NULL);
}

static void fail_each(const struct paths *p, convert_fn *fn)
{
    char out[TEST_PATH_BYTES + 192];
    uint64_t n = 0, failed = 0;
    bool left = true; // allocations that have not failed yet
    snprintf(out, sizeof(out), "%s/model.gguf", p->out);
    for (; left; n++) {
        fm_alloc_fail_at(n);
        enum fm_result r = fn(p, out);
        left = fm_alloc_fail_at(UINT64_MAX) > n;
        // Compiling regular expressions to machine code may fail without harm.
        assert_true(r == FM_NOMEM || r == FM_OK);
        assert_true(left || r == FM_OK);
        assert_int_equal(empty_out(p), r == FM_OK ? 1 : 0);
        failed += r == FM_NOMEM;
        assert_true(n < 100000);
    }
    assert_true(failed > 50 && n - failed < 20);
}

static void checkpoint_allocations(void **state)
{
    fail_each(*state, convert_checkpoint);
}

static void quantize_allocations(void **state)
{
    fail_each(*state, quantize);
}

static void hybrid_allocations(void **state)
{
    fail_each(*state, make_hybrid);
}

// A limit on the size of files stands for a full disk: writes beyond it fail.
static void full_disk(void **state)
{
    convert_fn *const fns[] = {convert_checkpoint, quantize, make_hybrid};
    const struct paths *p = *state;
    struct rlimit before, small;
    char out[TEST_PATH_BYTES + 192];
    snprintf(out, sizeof(out), "%s/model.gguf", p->out);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    for (size_t i = 0; i < FM_COUNT(fns); i++)
        for (rlim_t bytes = 0; bytes < 4000; bytes += 500) {
            small = (struct rlimit){.rlim_cur = bytes, .rlim_max = before.rlim_max};
            assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
            enum fm_result r = fns[i](p, out);
            assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
            assert_int_equal(r, FM_WRITE);
            assert_non_null(strstr(fm_error_message(), "cannot write"));
            assert_int_equal(empty_out(p), 0);
        }
    signal(SIGXFSZ, SIG_DFL);
}

static bool stop_at(void *user, uint64_t done, uint64_t total)
{
    uint64_t *calls = user;
    assert_true(done <= total);
    return (*calls)-- > 0;
}

static void cancelled(void **state)
{
    const struct paths *p = *state;
    char out[TEST_PATH_BYTES + 192];
    enum fm_result r = FM_CANCELLED;
    uint64_t n = 0;
    snprintf(out, sizeof(out), "%s/model.gguf", p->out);
    for (; r != FM_OK; n++) {
        uint64_t calls = n;
        const struct fm_convert_params params = {.type = "q8_0", .progress = stop_at, .user = &calls};
        r = fm_quantize(p->source, out, &params);
        assert_true(r == FM_OK || r == FM_CANCELLED);
        assert_int_equal(empty_out(p), r == FM_OK ? 1 : 0);
    }
    assert_true(n > 20); // once for every tensor at least
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checkpoint_allocations), cmocka_unit_test(quantize_allocations),
        cmocka_unit_test(hybrid_allocations),     cmocka_unit_test(full_disk),
        cmocka_unit_test(cancelled),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
