// SPDX-License-Identifier: MIT
// Opening a model file with the n-th allocation failing, for every n: an error each time, and nothing left behind (the
// leak check of the sanitizers or of valgrind sees that).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "format/file.h"
#include "support/gguf_write.h"
#include "support/temporary.h"

static struct gguf_bytes make_file(void)
{
    struct gguf_writer w = {0};
    const char *const strings[] = {"a", "b", "c"};
    const uint64_t dims[] = {2, 32};
    static const float values[64];
    gguf_write_string(&w, "general.architecture", "llama");
    gguf_write_strings(&w, "tokenizer.ggml.tokens", strings, 3);
    for (uint32_t i = 0; i < 40; i++) { // enough for every table to grow more than once
        char name[32];
        snprintf(name, sizeof(name), "key.%u", i);
        gguf_write_u32(&w, name, i);
        snprintf(name, sizeof(name), "blk.%u.weight", i);
        gguf_write_tensor_f32(&w, name, FM_TYPE_Q8_0, 2, dims, values);
    }
    struct gguf_bytes bytes = gguf_write_make(&w);
    gguf_write_finish(&w);
    return bytes;
}

// Opens with failure n for n = 0, 1, ... until nothing fails any more; returns how many failed.
static uint64_t try_all(enum fm_result (*open_once)(const void *, struct fm_file **), const void *arg)
{
    for (uint64_t n = 0; n < 10000; n++) {
        struct fm_file *file = NULL;
        fm_alloc_fail_at(n);
        enum fm_result result = open_once(arg, &file);
        uint64_t made = fm_alloc_fail_at(UINT64_MAX);
        if (result == FM_OK) {
            assert_int_equal(made, n); // the file opened because no allocation was left to fail
            assert_non_null(fm_file_find(file, "blk.39.weight"));
            fm_file_close(&file);
            return n;
        }
        assert_int_equal(result, FM_NOMEM);
        assert_null(file);
        assert_non_null(strstr(fm_error_message(), "out of host memory"));
    }
    fail_msg("still failing after 10000 allocations");
    return 0;
}

static enum fm_result open_memory(const void *arg, struct fm_file **out_file)
{
    const struct gguf_bytes *bytes = arg;
    return fm_file_open_memory(bytes->data, bytes->size_bytes, "memory", out_file);
}

static enum fm_result open_path(const void *arg, struct fm_file **out_file)
{
    return fm_file_open(arg, out_file);
}

static void test_memory(void **state)
{
    (void)state;
    struct gguf_bytes bytes = make_file();
    assert_true(try_all(open_memory, &bytes) > 12);
    gguf_bytes_finish(&bytes);
}

static void test_mapped(void **state)
{
    (void)state;
    struct gguf_bytes bytes = make_file();
    char path[TEST_PATH_BYTES];
    int fd = test_temporary_file("alloc", path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes.data, bytes.size_bytes), bytes.size_bytes);
    close(fd);
    assert_true(try_all(open_path, path) > 12);
    unlink(path);
    gguf_bytes_finish(&bytes);
}

// A bad file stays a bad file, or becomes a lack of memory: never a success.
static void test_bad_file(void **state)
{
    (void)state;
    struct gguf_bytes bytes = make_file();
    for (uint64_t n = 0; n < 100; n++) {
        struct fm_file *file = NULL;
        fm_alloc_fail_at(n);
        enum fm_result result = fm_file_open_memory(bytes.data, bytes.size_bytes - 1, "cut", &file);
        fm_alloc_fail_at(UINT64_MAX);
        assert_true(result == FM_NOMEM || result == FM_FORMAT);
        assert_null(file);
    }
    gguf_bytes_finish(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_mapped),
        cmocka_unit_test(test_bad_file),
    };
    return cmocka_run_group_tests_name("gguf_alloc", tests, NULL, NULL);
}
