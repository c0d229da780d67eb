// SPDX-License-Identifier: MIT
// The GGUF reader on good files: every value type, the getters, alignment, versions, mapping.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "format/file.h"
#include "support/gguf_write.h"
#include "support/temporary.h"
#include "support/tensor_data.h"

static const uint64_t matrix_dims[] = {3, 64}; // 3 rows of 64
static const uint64_t vector_dims[] = {5};
static const uint64_t four_dims[] = {2, 1, 3, 4};
static float ramp[3 * 64];

static void write_metas(struct gguf_writer *w)
{
    const uint8_t u8 = 200;
    const int8_t i8 = -100;
    const uint16_t u16 = 60000;
    const int16_t i16 = -30000;
    const int32_t i32 = -2000000000;
    const uint64_t u64 = UINT64_MAX;
    const int64_t i64 = INT64_MIN;
    const double f64 = 1e300;
    gguf_write_string(w, "general.architecture", "llama");
    gguf_write_scalar(w, "t.u8", GGUF_U8, &u8);
    gguf_write_scalar(w, "t.i8", GGUF_I8, &i8);
    gguf_write_scalar(w, "t.u16", GGUF_U16, &u16);
    gguf_write_scalar(w, "t.i16", GGUF_I16, &i16);
    gguf_write_u32(w, "t.u32", 4000000000u);
    gguf_write_scalar(w, "t.i32", GGUF_I32, &i32);
    gguf_write_f32(w, "t.f32", 0.5f);
    gguf_write_bool(w, "t.true", true);
    gguf_write_bool(w, "t.false", false);
    gguf_write_scalar(w, "t.u64", GGUF_U64, &u64);
    gguf_write_scalar(w, "t.i64", GGUF_I64, &i64);
    gguf_write_scalar(w, "t.f64", GGUF_F64, &f64);
    gguf_write_f32(w, "t.nan", NAN);
    gguf_write_string(w, "t.empty", "");
    const int16_t shorts[] = {-1, 2, -32768};
    const float floats[] = {1.5f, -2.25f, INFINITY};
    const uint8_t bools[] = {1, 0, 1, 1};
    const char *const strings[] = {"one", "", "drei", "\xe2\x96\x81vier"};
    gguf_write_array(w, "a.i16", GGUF_I16, shorts, 3);
    gguf_write_array(w, "a.f32", GGUF_F32, floats, 3);
    gguf_write_array(w, "a.bool", GGUF_BOOL, bools, 4);
    gguf_write_array(w, "a.none", GGUF_U64, NULL, 0);
    gguf_write_strings(w, "a.string", strings, 4);
    gguf_write_strings(w, "a.string.none", NULL, 0);
}

static void write_tensors(struct gguf_writer *w)
{
    for (size_t i = 0; i < FM_COUNT(ramp); i++)
        ramp[i] = (float)i / 64 - 1.5f;
    gguf_write_tensor_f32(w, "vector.bias", FM_TYPE_F32, 1, vector_dims, ramp);
    gguf_write_tensor_f32(w, "matrix.weight", FM_TYPE_Q8_0, 2, matrix_dims, ramp);
    gguf_write_tensor_f32(w, "four", FM_TYPE_F16, 4, four_dims, ramp);
    gguf_write_tensor_f32(w, "scalar", FM_TYPE_F32, 0, NULL, ramp + 7);
}

static void check_tensors(const struct fm_file *file)
{
    assert_int_equal(fm_file_tensor_count(file), 4);
    const struct fm_tensor *t = fm_file_find(file, "matrix.weight");
    assert_non_null(t);
    assert_ptr_equal(t, fm_file_tensor(file, 1));
    assert_int_equal(t->type, FM_TYPE_Q8_0);
    assert_int_equal(t->n_dims, 2);
    assert_true(t->dims[0] == 3 && t->dims[1] == 64 && t->dims[2] == 1 && t->dims[3] == 1);
    assert_int_equal(t->data_bytes, 3 * 2 * 34);
    float back[3 * 64];
    uint8_t *data = tensor_data(t);
    assert_non_null(data);
    fm_quant_decode(t->type, data, 3 * 64, back);
    free(data);
    for (size_t i = 0; i < FM_COUNT(back); i++)
        assert_true(fabsf(back[i] - ramp[i]) < 0.01f);
    t = fm_file_find(file, "four");
    assert_non_null(t);
    assert_true(t->n_dims == 4 && t->dims[0] == 2 && t->dims[1] == 1 && t->dims[2] == 3 && t->dims[3] == 4);
    assert_int_equal(t->data_bytes, 2 * 3 * 4 * 2);
    t = fm_file_find(file, "scalar");
    assert_non_null(t);
    assert_true(t->n_dims == 0 && t->dims[0] == 1 && t->data_bytes == 4);
    assert_true(tensor_holds(t, ramp + 7, 4));
    t = fm_file_find(file, "vector.bias");
    assert_non_null(t);
    assert_true(t->dims[0] == 5 && t->dims[1] == 1);
    assert_true(tensor_holds(t, ramp, 20));
    assert_null(fm_file_find(file, "matrix"));
    assert_null(fm_file_find(file, ""));
}

static struct gguf_bytes make(uint32_t version, uint32_t alignment)
{
    struct gguf_writer w = {.version = version, .alignment = alignment};
    write_metas(&w);
    write_tensors(&w);
    struct gguf_bytes bytes = gguf_write_make(&w);
    gguf_write_finish(&w);
    return bytes;
}

static void test_versions_and_alignments(void **state)
{
    (void)state;
    const uint32_t alignments[] = {0, 1, 8, 32, 64, 4096};
    for (uint32_t version = 2; version <= 3; version++) {
        for (size_t i = 0; i < FM_COUNT(alignments); i++) {
            struct gguf_bytes bytes = make(version, alignments[i]);
            struct fm_file *file = NULL;
            assert_int_equal(fm_file_open_memory(bytes.data, bytes.size_bytes, "m", &file), FM_OK);
            check_tensors(file);
            uint64_t alignment = alignments[i] != 0 ? alignments[i] : 32;
            for (uint32_t t = 0; t < fm_file_tensor_count(file); t++)
                assert_int_equal(fm_file_tensor(file, t)->offset % alignment, 0);
            fm_file_close(&file);
            assert_null(file);
            gguf_bytes_finish(&bytes);
        }
    }
}

static void test_file(void **state)
{
    (void)state;
    char path[TEST_PATH_BYTES];
    int fd = test_temporary_file("gguf", path);
    assert_true(fd >= 0);
    close(fd);
    struct gguf_bytes bytes = make(3, 0);
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(bytes.data, 1, bytes.size_bytes, out), bytes.size_bytes);
    assert_int_equal(fclose(out), 0);

    struct fm_file *file = NULL, *memory = NULL;
    assert_int_equal(fm_file_open(path, &file), FM_OK);
    assert_string_equal(fm_file_path(file), path);
    assert_int_equal(fm_file_bytes(file), bytes.size_bytes);
    check_tensors(file);
    assert_int_equal(fm_file_unchanged(file), FM_OK);

    assert_int_equal(fm_file_open_memory(bytes.data, bytes.size_bytes, "m", &memory), FM_OK);
    assert_true(fm_file_hash(memory) == fm_file_hash(file));
    check_tensors(memory);
    fm_file_close(&memory);
    bytes.data[40]++; // in the first metadata value
    assert_int_equal(fm_file_open_memory(bytes.data, bytes.size_bytes, "m", &memory), FM_OK);
    assert_true(fm_file_hash(memory) != fm_file_hash(file));
    fm_file_close(&memory);
    fm_file_close(&file);
    fm_file_close(&file); // NULL now
    gguf_bytes_finish(&bytes);
    unlink(path);
    assert_int_equal(fm_file_open(path, &file), FM_IO);
    assert_int_equal(strncmp(fm_error_message(), path, strlen(path)), 0);
}

// A file that is cut, or written to, after it was opened; and directories of every length against the windows they are read in.
static void test_changes(void **state)
{
    (void)state;
    char path[] = "/tmp/fulmen-gguf-XXXXXX";
    const char *const before[] = {"a", "b"};
    static char filler[70000];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    for (size_t bytes_more = 65300; bytes_more < 65700; bytes_more += 7) {
        struct gguf_writer w = {0};
        struct fm_file *file = NULL;
        uint8_t data[20];
        memset(filler, 'f', bytes_more);
        filler[bytes_more] = '\0';
        gguf_write_string(&w, "filler", filler);
        gguf_write_strings(&w, "texts", before, 2);
        write_tensors(&w);
        struct gguf_bytes bytes = gguf_write_make(&w);
        gguf_write_finish(&w);
        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(pwrite(fd, bytes.data, bytes.size_bytes, 0), bytes.size_bytes);
        assert_int_equal(fm_file_open(path, &file), FM_OK);
        check_tensors(file);
        const struct fm_tensor *vector = fm_file_find(file, "vector.bias");
        assert_int_equal(ftruncate(fd, (off_t)(vector->offset + 19)), 0);
        assert_int_equal(fm_tensor_read(vector, 0, 19, data), FM_OK);
        assert_int_equal(fm_tensor_read(vector, 0, 20, data), FM_CHANGED);
        assert_non_null(strstr(fm_error_message(), "became shorter while it was read"));
        assert_int_equal(fm_tensor_read(vector, 1, 20, data), FM_ARG);
        assert_int_equal(fm_file_unchanged(file), FM_CHANGED);
        fm_file_close(&file);
        // Cut anywhere: as the same bytes in memory are told.
        for (size_t cut = 0; cut < bytes.size_bytes; cut += cut < 100 ? 1 : 997) {
            struct fm_file *memory = NULL;
            char text[512];
            assert_int_equal(ftruncate(fd, (off_t)cut), 0);
            enum fm_result result = fm_file_open(path, &file);
            snprintf(text, sizeof(text), "%s", fm_error_message());
            assert_int_equal(fm_file_open_memory(bytes.data, cut, path, &memory), result);
            if (result != FM_OK)
                assert_string_equal(text, fm_error_message());
            fm_file_close(&file);
            fm_file_close(&memory);
            assert_int_equal(pwrite(fd, bytes.data, bytes.size_bytes, 0), bytes.size_bytes);
        }
        gguf_bytes_finish(&bytes);
    }
    close(fd);
    unlink(path);
}

// ---- metadata ----------------------------------------------------------------------------------------------------

static struct gguf_bytes opened_bytes;
static struct fm_file *opened;

static int open_file(void **state)
{
    (void)state;
    opened_bytes = make(3, 0);
    return fm_file_open_memory(opened_bytes.data, opened_bytes.size_bytes, "model.gguf", &opened) == FM_OK ? 0 : -1;
}

static int close_file(void **state)
{
    (void)state;
    fm_file_close(&opened);
    gguf_bytes_finish(&opened_bytes);
    return 0;
}

static void test_u32(void **state)
{
    (void)state;
    uint32_t value = 77;
    assert_int_equal(fm_meta_u32(opened, "t.u8", true, 0, UINT32_MAX, 0, &value), FM_OK);
    assert_int_equal(value, 200);
    assert_int_equal(fm_meta_u32(opened, "t.u16", true, 60000, 60000, 0, &value), FM_OK);
    assert_int_equal(value, 60000);
    assert_int_equal(fm_meta_u32(opened, "t.u32", true, 0, UINT32_MAX, 0, &value), FM_OK);
    assert_int_equal(value, 4000000000u);
    assert_int_equal(fm_meta_u32(opened, "t.absent", false, 0, 10, 5, &value), FM_OK);
    assert_int_equal(value, 5);
    const struct {
        const char *key, *message;
    } bad[] = {
        {"t.absent", "model.gguf: metadata 't.absent' is missing"},
        {"t.i8", "model.gguf: metadata 't.i8': expected 1 to 100, found -100"},
        {"t.u8", "model.gguf: metadata 't.u8': expected 1 to 100, found 200"},
        {"t.i32", "model.gguf: metadata 't.i32': expected 1 to 100, found -2000000000"},
        {"t.i64", "model.gguf: metadata 't.i64': expected 1 to 100, found -9223372036854775808"},
        {"t.u64", "model.gguf: metadata 't.u64': expected 1 to 100, found 9223372036854775807"},
        {"t.f32", "model.gguf: metadata 't.f32': expected an integer, found a float"},
        {"t.true", "model.gguf: metadata 't.true': expected an integer, found a bool"},
        {"a.i16", "model.gguf: metadata 'a.i16': expected an integer, found an array"},
        {"t.empty", "model.gguf: metadata 't.empty': expected an integer, found a string"},
    };
    for (size_t i = 0; i < FM_COUNT(bad); i++) {
        assert_int_equal(fm_meta_u32(opened, bad[i].key, true, 1, 100, 0, &value), FM_FORMAT);
        assert_string_equal(fm_error_message(), bad[i].message);
        assert_int_equal(value, 5); // untouched
    }
}

static void test_other_getters(void **state)
{
    (void)state;
    float real = 7;
    bool flag = false;
    struct fm_text text = {0};
    assert_int_equal(fm_meta_f32(opened, "t.f32", true, 0, &real), FM_OK);
    assert_true(real == 0.5f);
    assert_int_equal(fm_meta_f32(opened, "t.absent", false, 9.0f, &real), FM_OK);
    assert_true(real == 9.0f);
    assert_int_equal(fm_meta_f32(opened, "t.absent", true, 0, &real), FM_FORMAT);
    assert_int_equal(fm_meta_f32(opened, "t.f64", true, 0, &real), FM_FORMAT); // beyond f32
    assert_int_equal(fm_meta_f32(opened, "t.nan", true, 0, &real), FM_FORMAT);
    assert_int_equal(fm_meta_f32(opened, "t.u32", true, 0, &real), FM_FORMAT);
    assert_string_equal(fm_error_message(),
                        "model.gguf: metadata 't.u32': expected a float, found an unsigned integer");
    assert_true(real == 9.0f);

    assert_int_equal(fm_meta_bool(opened, "t.true", true, false, &flag), FM_OK);
    assert_true(flag);
    assert_int_equal(fm_meta_bool(opened, "t.false", true, true, &flag), FM_OK);
    assert_false(flag);
    assert_int_equal(fm_meta_bool(opened, "t.absent", false, true, &flag), FM_OK);
    assert_true(flag);
    assert_int_equal(fm_meta_bool(opened, "t.absent", true, true, &flag), FM_FORMAT);
    assert_int_equal(fm_meta_bool(opened, "t.u8", true, true, &flag), FM_FORMAT);

    assert_int_equal(fm_meta_string(opened, "general.architecture", true, &text), FM_OK);
    assert_int_equal(text.bytes, 5);
    assert_memory_equal(text.data, "llama", 5);
    assert_int_equal(fm_meta_string(opened, "t.empty", true, &text), FM_OK);
    assert_int_equal(text.bytes, 0);
    assert_int_equal(fm_meta_string(opened, "t.absent", false, &text), FM_OK);
    assert_null(text.data);
    assert_int_equal(fm_meta_string(opened, "t.absent", true, &text), FM_FORMAT);
    assert_int_equal(fm_meta_string(opened, "a.string", true, &text), FM_FORMAT);
}

static void test_arrays(void **state)
{
    (void)state;
    const struct fm_meta *meta = fm_file_meta_find(opened, "a.i16");
    assert_non_null(meta);
    assert_true(meta->kind == FM_META_ARRAY && meta->elem_kind == FM_META_INT && meta->elem_bytes == 2);
    assert_int_equal(meta->count, 3);
    assert_int_equal(fm_meta_int_at(meta, 0), -1);
    assert_int_equal(fm_meta_int_at(meta, 2), -32768);
    assert_true(fm_meta_float_at(meta, 1) == 2.0);
    meta = fm_file_meta_find(opened, "a.f32");
    assert_non_null(meta);
    assert_true(fm_meta_float_at(meta, 1) == -2.25);
    assert_int_equal(fm_meta_int_at(meta, 2), INT64_MAX); // infinity saturates
    meta = fm_file_meta_find(opened, "a.bool");
    assert_non_null(meta);
    assert_true(meta->elem_kind == FM_META_BOOL && meta->count == 4 && fm_meta_int_at(meta, 3) == 1);
    meta = fm_file_meta_find(opened, "a.string");
    assert_non_null(meta);
    assert_true(meta->elem_kind == FM_META_STRING && meta->count == 4);
    assert_true(meta->texts[1].bytes == 0 && meta->texts[2].bytes == 4);
    assert_memory_equal(meta->texts[3].data, "\xe2\x96\x81vier", 7);
    meta = fm_file_meta_find(opened, "a.none");
    assert_non_null(meta);
    assert_int_equal(meta->count, 0);
    meta = fm_file_meta_find(opened, "a.string.none");
    assert_non_null(meta);
    assert_int_equal(meta->count, 0);
    // Scalars through the same accessors.
    assert_int_equal(fm_meta_int_at(fm_file_meta_find(opened, "t.u64"), 0), INT64_MAX);
    assert_true(fm_meta_int_at(fm_file_meta_find(opened, "t.i64"), 0) == INT64_MIN);
    assert_int_equal(fm_meta_int_at(fm_file_meta_find(opened, "t.i8"), 0), -100);
    assert_int_equal(fm_meta_int_at(fm_file_meta_find(opened, "t.nan"), 0), 0);
    assert_int_equal(fm_meta_int_at(fm_file_meta_find(opened, "t.f64"), 0), INT64_MAX);
    assert_true(fm_meta_float_at(fm_file_meta_find(opened, "t.u64"), 0) == 18446744073709551616.0);
    assert_true(fm_meta_float_at(fm_file_meta_find(opened, "t.i32"), 0) == -2000000000.0);
    assert_true(isnan(fm_meta_float_at(fm_file_meta_find(opened, "t.empty"), 0)));
}

static void test_listing(void **state)
{
    (void)state;
    assert_int_equal(fm_file_meta_count(opened), 21);
    for (uint32_t i = 0; i < fm_file_meta_count(opened); i++) {
        char key[64];
        const struct fm_meta *meta = fm_file_meta(opened, i);
        assert_true(meta->key.bytes < sizeof(key));
        memcpy(key, meta->key.data, (size_t)meta->key.bytes);
        key[meta->key.bytes] = '\0';
        assert_ptr_equal(fm_file_meta_find(opened, key), meta);
    }
    assert_null(fm_file_meta_find(opened, "t."));
}

// Many tensors and long string tables: the directory grows, and nothing moves under the names.
static void test_many(void **state)
{
    (void)state;
    enum { TENSORS = 3000, STRINGS = 70000 };
    static char names[STRINGS][24];
    static const char *pointers[STRINGS];
    struct gguf_writer w = {0};
    for (int i = 0; i < STRINGS; i++) {
        snprintf(names[i], sizeof(names[i]), "token%d", i);
        pointers[i] = names[i];
    }
    gguf_write_strings(&w, "tokenizer.ggml.tokens", pointers, STRINGS);
    for (int i = 0; i < TENSORS; i++) {
        char name[32];
        float value = (float)i;
        const uint64_t one = 1;
        snprintf(name, sizeof(name), "blk.%d.weight", i);
        gguf_write_tensor_f32(&w, name, FM_TYPE_F32, 1, &one, &value);
    }
    struct gguf_bytes bytes = gguf_write_make(&w);
    struct fm_file *file = NULL;
    assert_int_equal(fm_file_open_memory(bytes.data, bytes.size_bytes, "m", &file), FM_OK);
    assert_int_equal(fm_file_tensor_count(file), TENSORS);
    for (int i = 0; i < TENSORS; i += 7) {
        char name[32];
        float value;
        snprintf(name, sizeof(name), "blk.%d.weight", i);
        const struct fm_tensor *tensor = fm_file_find(file, name);
        assert_non_null(tensor);
        assert_string_equal(tensor->name, name);
        assert_int_equal(fm_tensor_read(tensor, 0, sizeof(value), &value), FM_OK);
        assert_true(value == (float)i);
    }
    const struct fm_meta *meta = fm_file_meta_find(file, "tokenizer.ggml.tokens");
    assert_non_null(meta);
    assert_memory_equal(meta->texts[STRINGS - 1].data, names[STRINGS - 1], strlen(names[STRINGS - 1]));
    fm_file_close(&file);
    gguf_bytes_finish(&bytes);
    gguf_write_finish(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_versions_and_alignments),
        cmocka_unit_test(test_file), cmocka_unit_test(test_changes),
        cmocka_unit_test_setup_teardown(test_u32, open_file, close_file),
        cmocka_unit_test_setup_teardown(test_other_getters, open_file, close_file),
        cmocka_unit_test_setup_teardown(test_arrays, open_file, close_file),
        cmocka_unit_test_setup_teardown(test_listing, open_file, close_file),
        cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests_name("gguf", tests, NULL, NULL);
}
