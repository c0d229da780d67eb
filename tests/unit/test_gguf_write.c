// SPDX-License-Identifier: MIT
// The GGUF writer: what it writes is what the reader reads, and what it refuses.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "format/gguf_write.h"
#include "support/temporary.h"
#include "support/tensor_data.h"

static char folder[TEST_PATH_BYTES];
static char path[TEST_PATH_BYTES + 16], other[TEST_PATH_BYTES + 16];

static int set_up(void **state)
{
    (void)state;
    assert_true(test_temporary_folder("write", folder));
    snprintf(path, sizeof(path), "%s/a.gguf", folder);
    snprintf(other, sizeof(other), "%s/b.gguf", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(path);
    unlink(other);
    assert_int_equal(rmdir(folder), 0); // nothing else was left
    return 0;
}

static const uint64_t matrix_dims[] = {3, 32}, vector_dims[] = {5};
static const float vector[] = {1, 2, 3, 4, 5};

static struct fm_gguf_writer *begun(const char *to)
{
    static const struct fm_text texts[] = {{"one", 3}, {"", 0}, {"t\0o", 3}};
    static const uint32_t numbers[] = {7, 1u << 31};
    static const uint8_t flags[] = {1, 0, 1};
    struct fm_gguf_writer *w;
    assert_int_equal(fm_gguf_writer_create(&w), FM_OK);
    fm_gguf_put_string(w, "general.architecture", "test");
    fm_gguf_put_u32(w, "u", 17);
    fm_gguf_put_f32(w, "f", 0.25f);
    fm_gguf_put_bool(w, "b", true);
    fm_gguf_put_texts(w, "texts", texts, 3);
    fm_gguf_put_array(w, "numbers", FM_GGUF_U32, numbers, 2);
    fm_gguf_put_array(w, "none", FM_GGUF_I32, NULL, 0);
    fm_gguf_put_array(w, "flags", FM_GGUF_BOOL, flags, 3);
    fm_gguf_put_tensor(w, "v", FM_TYPE_F32, 1, vector_dims);
    fm_gguf_put_tensor(w, "m", FM_TYPE_Q8_0, 2, matrix_dims);
    assert_int_equal(fm_gguf_begin(w, to), FM_OK);
    return w;
}

static void finish(struct fm_gguf_writer *w)
{
    const char *temp;
    assert_int_equal(fm_gguf_flush(w, &temp), FM_OK);
    assert_int_equal(access(path, F_OK), -1); // it has no name yet
    assert_int_equal(access(temp, F_OK), 0);
    assert_int_equal(fm_gguf_finish(w), FM_OK);
    assert_int_equal(access(path, F_OK), 0);
}

static void check_file(const char *name)
{
    struct fm_file *file;
    struct fm_text text;
    uint32_t u;
    float f;
    bool b;
    assert_int_equal(fm_file_open(name, &file), FM_OK);
    assert_int_equal(fm_meta_u32(file, "u", true, 0, 100, 0, &u), FM_OK);
    assert_int_equal(fm_meta_f32(file, "f", true, 0, &f), FM_OK);
    assert_int_equal(fm_meta_bool(file, "b", true, false, &b), FM_OK);
    assert_int_equal(fm_meta_string(file, "general.architecture", true, &text), FM_OK);
    assert_true(u == 17 && f == 0.25f && b && text.bytes == 4 && memcmp(text.data, "test", 4) == 0);
    const struct fm_meta *texts = fm_file_meta_find(file, "texts"), *numbers = fm_file_meta_find(file, "numbers");
    assert_true(texts->count == 3 && texts->texts[2].bytes == 3 && memcmp(texts->texts[2].data, "t\0o", 3) == 0);
    assert_true(numbers->count == 2 && fm_meta_int_at(numbers, 1) == INT64_C(1) << 31);
    assert_int_equal(fm_file_meta_find(file, "none")->count, 0);
    assert_int_equal(fm_meta_int_at(fm_file_meta_find(file, "flags"), 1), 0);
    const struct fm_tensor *v = fm_file_find(file, "v"), *m = fm_file_find(file, "m");
    assert_true(v->n_dims == 1 && v->dims[0] == 5 && tensor_holds(v, vector, sizeof(vector)));
    assert_true(m->type == FM_TYPE_Q8_0 && m->n_dims == 2 && m->dims[0] == 3 && m->dims[1] == 32 && m->data_bytes == 102);
    uint8_t ramp[102];
    for (uint8_t i = 0; i < 102; i++)
        ramp[i] = i;
    assert_true(tensor_holds(m, ramp, sizeof(ramp)));
    fm_file_close(&file);
}

// In pieces of any size, across the border of two tensors.
static void round_trip(void **state)
{
    uint8_t data[sizeof(vector) + 102];
    (void)state;
    memcpy(data, vector, sizeof(vector));
    for (uint8_t i = 0; i < 102; i++)
        data[sizeof(vector) + i] = i;
    for (size_t piece = 1; piece <= sizeof(data); piece = piece * 3 + 1) {
        struct fm_gguf_writer *w = begun(path);
        for (size_t at = 0; at < sizeof(data); at += piece)
            assert_int_equal(fm_gguf_write(w, data + at, FM_MIN(piece, sizeof(data) - at)), FM_OK);
        finish(w);
        fm_gguf_writer_destroy(&w);
        assert_null(w);
        check_file(path);
        unlink(path);
    }
}

// Metadata of another file keeps its declared types.
static void copied(void **state)
{
    struct fm_gguf_writer *w = begun(path);
    struct fm_file *file;
    uint8_t data[102];
    const char *temp;
    (void)state;
    for (uint8_t i = 0; i < 102; i++)
        data[i] = i;
    assert_int_equal(fm_gguf_write(w, vector, sizeof(vector)), FM_OK);
    assert_int_equal(fm_gguf_write(w, data, 102), FM_OK);
    finish(w);
    fm_gguf_writer_destroy(&w);
    assert_int_equal(fm_file_open(path, &file), FM_OK);
    assert_int_equal(fm_gguf_writer_create(&w), FM_OK);
    for (uint32_t i = 0; i < fm_file_meta_count(file); i++) {
        char key[64];
        const struct fm_meta *meta = fm_file_meta(file, i);
        snprintf(key, sizeof(key), "%.*s", (int)meta->key.bytes, meta->key.data);
        fm_gguf_put_meta(w, key, meta);
        assert_true(fm_gguf_has_key(w, key));
    }
    for (uint32_t i = 0; i < fm_file_tensor_count(file); i++) {
        const struct fm_tensor *t = fm_file_tensor(file, i);
        fm_gguf_put_tensor(w, t->name, t->type, t->n_dims, t->dims);
    }
    assert_int_equal(fm_gguf_begin(w, other), FM_OK);
    for (uint32_t i = 0; i < fm_file_tensor_count(file); i++) {
        uint8_t *bytes = tensor_data(fm_file_tensor(file, i));
        assert_non_null(bytes);
        assert_int_equal(fm_gguf_write(w, bytes, fm_file_tensor(file, i)->data_bytes), FM_OK);
        free(bytes);
    }
    assert_int_equal(fm_gguf_flush(w, &temp), FM_OK);
    assert_int_equal(fm_gguf_finish(w), FM_OK);
    fm_gguf_writer_destroy(&w);
    fm_file_close(&file);
    check_file(other);
}

static void refusals(void **state)
{
    struct fm_gguf_writer *w;
    const uint64_t odd[] = {2, 33}, zero[] = {0}, huge[] = {UINT64_MAX, 3}, five[] = {1, 1, 1, 1, 32};
    const struct {
        const uint64_t *dims;
        uint32_t n_dims;
    } bad[] = {{odd, 2}, {zero, 1}, {huge, 2}, {odd, 0}, {five, 5}};
    (void)state;
    unlink(path);
    for (size_t i = 0; i < FM_COUNT(bad); i++) {
        assert_int_equal(fm_gguf_writer_create(&w), FM_OK);
        fm_gguf_put_tensor(w, "t", FM_TYPE_Q8_0, bad[i].n_dims, bad[i].dims);
        assert_int_equal(fm_gguf_begin(w, path), FM_ARG);
        fm_gguf_writer_destroy(&w);
    }
    assert_int_equal(fm_gguf_writer_create(&w), FM_OK);
    fm_gguf_put_u32(w, "a", 1);
    fm_gguf_put_f32(w, "a", 1);
    fm_gguf_put_u32(w, "b", 1); // the first error stays
    assert_int_equal(fm_gguf_begin(w, path), FM_ARG);
    assert_non_null(strstr(fm_error_message(), "'a' is written twice"));
    fm_gguf_writer_destroy(&w);

    w = begun(path);
    const char *temp;
    uint8_t data[200] = {0};
    assert_int_equal(fm_gguf_write(w, vector, sizeof(vector)), FM_OK);
    assert_int_equal(fm_gguf_flush(w, &temp), FM_ARG); // the matrix is missing
    assert_int_equal(fm_gguf_write(w, data, 103), FM_ARG); // one byte too many
    fm_gguf_writer_destroy(&w);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(fm_gguf_writer_create(&w), FM_OK);
    assert_int_equal(fm_gguf_begin(w, folder), FM_ARG);
    fm_gguf_writer_destroy(&w);
    assert_int_equal(fm_gguf_writer_create(&w), FM_OK);
    char absent[TEST_PATH_BYTES + 32];
    snprintf(absent, sizeof(absent), "%s/no-such-folder/x.gguf", folder);
    assert_int_equal(fm_gguf_begin(w, absent), FM_ARG);
    fm_gguf_writer_destroy(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(round_trip), cmocka_unit_test(copied), cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
