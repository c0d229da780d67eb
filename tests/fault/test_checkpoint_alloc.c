// SPDX-License-Identifier: MIT
// Opening checkpoints with the n-th allocation failing, for every n: an error each time, and nothing left behind (the
// leak check of the sanitizers or of valgrind sees that).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "format/checkpoint.h"
#include "support/checkpoint_make.h"
#include "support/temporary.h"

#define PATH_BYTES (TEST_PATH_BYTES + 64)
#define TENSORS 40 // enough for every table to grow more than once

static char folder[TEST_PATH_BYTES];
static const char *const files[] = {"one.safetensors", "two.bin", "model.safetensors.index.json"};

static void path_of(size_t file, char path[PATH_BYTES])
{
    snprintf(path, PATH_BYTES, "%s/%s", folder, files[file]);
}

// Takes over the bytes.
static void save(size_t file, struct gguf_bytes bytes)
{
    char path[PATH_BYTES];
    path_of(file, path);
    FILE *to = fopen(path, "wb");
    assert_non_null(to);
    assert_int_equal(fwrite(bytes.data, 1, bytes.size_bytes, to), bytes.size_bytes);
    assert_int_equal(fclose(to), 0);
    gguf_bytes_finish(&bytes);
}

// A shard of each format, an index over both.
static int make_folder(void **state)
{
    (void)state;
    struct safetensors_writer w = {0};
    struct gguf_bytes p = {0}, index = {0};
    const uint64_t dims[] = {4};
    const size_t sizes[] = {16};
    static const float values[4];
    if (!test_temporary_folder("alloc", folder))
        return -1;
    pickle_begin(&p);
    gguf_put(&index, "{\"weight_map\":{", 15);
    for (int i = 0; i < TENSORS; i++) {
        char name[16], entry[128];
        snprintf(name, sizeof(name), "a.%d", i);
        safetensors_put(&w, name, "F32", 1, dims, values, sizeof(values));
        snprintf(name, sizeof(name), "b.%d", i);
        pickle_entry(&p, name, "FloatStorage", "0", 4);
        snprintf(entry, sizeof(entry), "%s\"\\u0061.%d\":\"%s\",\"b.%d\":\"%s\"", i > 0 ? "," : "", i, files[0], i,
                 files[1]);
        gguf_put(&index, entry, strlen(entry));
    }
    pickle_end(&p);
    gguf_put(&index, "}}", 2);
    save(0, safetensors_finish(&w));
    save(1, torch_make(&p, sizes, 1));
    save(2, index);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    for (size_t i = 0; i < FM_COUNT(files); i++) {
        char path[PATH_BYTES];
        path_of(i, path);
        unlink(path);
    }
    return rmdir(folder);
}

static void test_open(void **state)
{
    (void)state;
    for (uint64_t n = 0; n < 10000; n++) {
        struct fm_checkpoint *checkpoint = NULL;
        fm_alloc_fail_at(n);
        enum fm_result result = fm_checkpoint_open(folder, &checkpoint);
        uint64_t made = fm_alloc_fail_at(UINT64_MAX);
        if (result == FM_OK) {
            assert_int_equal(made, n); // it opened because no allocation was left to fail
            assert_true(n > 30);
            assert_int_equal(fm_checkpoint_count(checkpoint), 2 * TENSORS);
            assert_non_null(fm_checkpoint_find(checkpoint, "a.39"));
            assert_non_null(fm_checkpoint_find(checkpoint, "b.39"));
            fm_checkpoint_close(&checkpoint);
            return;
        }
        assert_int_equal(result, FM_NOMEM);
        assert_null(checkpoint);
        assert_non_null(strstr(fm_error_message(), "out of host memory"));
    }
    fail_msg("still failing after 10000 allocations");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_open, make_folder, remove_folder)};
    return cmocka_run_group_tests_name("checkpoint_alloc", tests, NULL, NULL);
}
