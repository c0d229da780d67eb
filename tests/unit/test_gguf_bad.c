// SPDX-License-Identifier: MIT
// The GGUF reader on broken files: each class of bug that other readers had, truncation everywhere, every bit flipped.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "format/file.h"
#include "support/file_check.h"

static struct gguf_bytes header(uint32_t version, uint64_t tensors, uint64_t metas)
{
    struct gguf_bytes bytes = {0};
    gguf_put(&bytes, "GGUF", 4);
    gguf_put_u32(&bytes, version);
    gguf_put_u64(&bytes, tensors);
    gguf_put_u64(&bytes, metas);
    return bytes;
}

static void put_zeros(struct gguf_bytes *to, size_t count)
{
    for (size_t i = 0; i < count; i++)
        gguf_put_u8(to, 0);
}

// ---- header ------------------------------------------------------------------------------------------------------

static struct gguf_bytes text_file(const char *text)
{
    struct gguf_bytes bytes = {0};
    gguf_put(&bytes, text, strlen(text));
    return bytes;
}

static void test_not_gguf(void **state)
{
    (void)state;
    file_refuse(text_file(""), FM_FORMAT, "the file is empty");
    file_refuse(text_file("GGU"), FM_FORMAT, "begins with 'GGU', expected GGUF");
    file_refuse(text_file("\x1b[2J!"), FM_FORMAT, "begins with '\\x1b[2J'"); // no escape sequences in messages
    file_refuse(text_file("version https://git-lfs.github.com/spec/v1\n"), FM_FORMAT, "Git LFS pointer");
    file_refuse(text_file("<!DOCTYPE html>"), FM_FORMAT, "web page");
    file_refuse(text_file("PK\003\004...."), FM_FORMAT, "zip archive");
    file_refuse(text_file("GGUF"), FM_FORMAT, "end in the GGUF header");
}

static void test_versions(void **state)
{
    (void)state;
    file_refuse(header(0, 0, 0), FM_FORMAT, "version is 0");
    file_refuse(header(1, 0, 0), FM_UNSUPPORTED, "version 1 is not supported, expected 2 or 3");
    file_refuse(header(4, 0, 0), FM_UNSUPPORTED, "version 4 is not supported");
    file_refuse(header(0x03000000, 0, 0), FM_UNSUPPORTED, "big-endian");
    file_refuse(header(UINT32_MAX, 0, 0), FM_UNSUPPORTED, "not supported");
    struct gguf_bytes empty = header(3, 0, 0); // nothing in it, but nothing wrong
    assert_int_equal(file_open_copy(empty.data, empty.size_bytes), FM_OK);
    gguf_bytes_finish(&empty);
}

// Counts whose product with an entry's size wraps round or asks for terabytes: refused before anything is allocated.
static void test_counts(void **state)
{
    (void)state;
    const uint64_t counts[] = {1, 1000, UINT32_MAX, UINT64_C(1) << 32, UINT64_C(1) << 58, UINT64_C(1) << 63,
                               UINT64_MAX};
    for (size_t i = 0; i < FM_COUNT(counts); i++) {
        fm_alloc_fail_at(UINT64_MAX);
        file_refuse(header(3, 0, counts[i]), FM_FORMAT, "metadata entries cannot fit into the file's 24 bytes");
        file_refuse(header(3, counts[i], 0), FM_FORMAT, "tensors cannot fit into the file's 24 bytes");
        assert_true(fm_alloc_fail_at(UINT64_MAX) <= 6); // the file's struct and name only
    }
}

// ---- metadata ----------------------------------------------------------------------------------------------------

// Header of one metadata entry with its key and type; the caller appends the value.
static struct gguf_bytes meta_file(const char *key, uint32_t type)
{
    struct gguf_bytes bytes = header(3, 0, 1);
    gguf_put_text(&bytes, key);
    gguf_put_u32(&bytes, type);
    return bytes;
}

static struct gguf_bytes array_file(uint32_t elem_type, uint64_t count, size_t room)
{
    struct gguf_bytes bytes = meta_file("k.array", GGUF_ARRAY);
    gguf_put_u32(&bytes, elem_type);
    gguf_put_u64(&bytes, count);
    put_zeros(&bytes, room);
    return bytes;
}

static void test_strings(void **state)
{
    (void)state;
    struct gguf_bytes bytes = header(3, 0, 1); // 2^63 as a key's length in a tiny file
    gguf_put_u64(&bytes, UINT64_C(1) << 63);
    put_zeros(&bytes, 11);
    file_refuse(bytes, FM_FORMAT, "the key of metadata entry 1 of 1 has 9223372036854775808 bytes, expected 1 to ");
    bytes = header(3, 0, 1); // and one that is as long as it says
    gguf_put_u64(&bytes, 100000);
    put_zeros(&bytes, 1 << 20);
    file_refuse(bytes, FM_FORMAT, "the key of metadata entry 1 of 1 has 100000 bytes, expected 1 to ");
    bytes = header(3, 0, 1);
    gguf_put_u64(&bytes, 20);
    put_zeros(&bytes, 11);
    file_refuse(bytes, FM_FORMAT, "the key of metadata entry 1 of 1: length 20 at offset 24 exceeds");

    const uint64_t lengths[] = {9, UINT64_C(1) << 32, UINT64_MAX - 7, UINT64_MAX};
    for (size_t i = 0; i < FM_COUNT(lengths); i++) {
        bytes = meta_file("k.string", GGUF_STRING);
        gguf_put_u64(&bytes, lengths[i]);
        put_zeros(&bytes, 8);
        file_refuse(bytes, FM_FORMAT, "metadata 'k.string', string 1 of 1: length");
    }
    bytes = header(3, 0, 1); // an empty key
    gguf_put_text(&bytes, "");
    put_zeros(&bytes, 20);
    file_refuse(bytes, FM_FORMAT, "has 0 bytes, expected 1 to 65535");
    bytes = header(3, 0, 1);
    gguf_put_u64(&bytes, 65536);
    put_zeros(&bytes, 65536 + 20);
    file_refuse(bytes, FM_FORMAT, "has 65536 bytes, expected 1 to 65535");
    bytes = header(3, 0, 1);
    gguf_put_text_n(&bytes, "a\0b", 3);
    put_zeros(&bytes, 20);
    file_refuse(bytes, FM_FORMAT, "'a\\x00b', holds a NUL byte");
}

static void test_value_types(void **state)
{
    (void)state;
    const uint32_t types[] = {13, 255, 0x80000000u, UINT32_MAX};
    for (size_t i = 0; i < FM_COUNT(types); i++) {
        struct gguf_bytes bytes = meta_file("k.x", types[i]);
        put_zeros(&bytes, 16);
        file_refuse(bytes, FM_FORMAT, "metadata 'k.x': value type is");
        file_refuse(array_file(types[i], 1, 16), FM_FORMAT, "array element type is");
    }
    struct gguf_bytes bytes = meta_file("k.bool", GGUF_BOOL);
    gguf_put_u8(&bytes, 2);
    file_refuse(bytes, FM_FORMAT, "is 2, expected 0 or 1");
    bytes = array_file(GGUF_BOOL, 3, 2);
    gguf_put_u8(&bytes, 255);
    file_refuse(bytes, FM_FORMAT, "bool 3 of 3 is 255");
}

static void test_arrays(void **state)
{
    (void)state;
    file_refuse(array_file(GGUF_ARRAY, 1, 64), FM_UNSUPPORTED, "arrays of arrays");
    const uint64_t counts[] = {5, UINT64_C(1) << 32, UINT64_C(1) << 61, (UINT64_C(1) << 61) + 1, UINT64_C(1) << 62,
                               UINT64_MAX / 4 + 1, UINT64_MAX};
    const uint32_t types[] = {GGUF_U64, GGUF_F64, GGUF_U32, GGUF_STRING};
    for (size_t c = 0; c < FM_COUNT(counts); c++)
        for (size_t t = 0; t < FM_COUNT(types); t++)
            file_refuse(array_file(types[t], counts[c], 15), FM_FORMAT, "metadata 'k.array'");
    // A count that could fit by its shortest strings, and does not by the ones that are there.
    struct gguf_bytes bytes = array_file(GGUF_STRING, 3, 0);
    gguf_put_text(&bytes, "aaaaaaaaaaaaaaaa");
    gguf_put_u64(&bytes, 1);
    file_refuse(bytes, FM_FORMAT, "string 2 of 3: length 1 at offset");
    bytes = array_file(GGUF_STRING, 2, 0);
    gguf_put_text(&bytes, "aaaaaaaaaaaaaaaa");
    file_refuse(bytes, FM_FORMAT, "end in the length of metadata 'k.array', string 2 of 2");
}

static void test_duplicates(void **state)
{
    (void)state;
    const uint64_t one = 1;
    const float value = 1;
    struct gguf_writer w = {0};
    gguf_write_u32(&w, "k.same", 1);
    gguf_write_u32(&w, "k.other", 1);
    gguf_write_u32(&w, "k.same", 1);
    file_refuse(gguf_write_make(&w), FM_FORMAT, "metadata key 'k.same' is there twice");
    gguf_write_finish(&w);
    gguf_write_tensor_f32(&w, "t", FM_TYPE_F32, 1, &one, &value);
    gguf_write_tensor_f32(&w, "t", FM_TYPE_F32, 1, &one, &value);
    file_refuse(gguf_write_make(&w), FM_FORMAT, "tensor 't' is there twice");
    gguf_write_finish(&w);
}

static void refuse_alignment(enum gguf_value type, const void *value, const char *text)
{
    struct gguf_writer w = {0};
    const uint64_t one = 1;
    const float data = 1;
    gguf_write_scalar(&w, "general.alignment", type, value);
    gguf_write_tensor_f32(&w, "t", FM_TYPE_F32, 1, &one, &data);
    file_refuse(gguf_write_make(&w), FM_FORMAT, text);
    gguf_write_finish(&w);
}

static void test_alignment(void **state)
{
    (void)state;
    const uint32_t zero = 0, three = 3, huge = 0x80000000u, not_power = 0xfffffff0u;
    const uint64_t wide = 32;
    refuse_alignment(GGUF_U32, &zero, "expected a power of two, found 0");
    refuse_alignment(GGUF_U32, &three, "expected a power of two, found 3");
    refuse_alignment(GGUF_U32, &not_power, "expected a power of two, found 4294967280");
    refuse_alignment(GGUF_U32, &huge, "exceeds the file's"); // a power of two, but the data would start beyond the end
    refuse_alignment(GGUF_U64, &wide, "expected a u32");     // never read by another type than the declared one
    refuse_alignment(GGUF_I32, &wide, "expected a u32");
    struct gguf_writer w = {0};
    gguf_write_string(&w, "general.alignment", "32");
    file_refuse(gguf_write_make(&w), FM_FORMAT, "expected a u32");
    gguf_write_finish(&w);
}

static void test_split(void **state)
{
    (void)state;
    const uint16_t parts = 3;
    struct gguf_writer w = {0};
    gguf_write_scalar(&w, "split.count", GGUF_U16, &parts);
    file_refuse(gguf_write_make(&w), FM_UNSUPPORTED, "one of 3 parts of a split model");
    gguf_write_finish(&w);
    gguf_write_string(&w, "split.count", "3");
    file_refuse(gguf_write_make(&w), FM_FORMAT, "'split.count': expected an integer");
    gguf_write_finish(&w);
}

// ---- tensors -----------------------------------------------------------------------------------------------------

struct tensor_row {
    const char *name;
    uint32_t n_dims;
    uint64_t dims[5]; // file order
    uint32_t type;
    uint64_t offset;
    enum fm_result result;
    const char *text;
};

static const struct tensor_row tensor_rows[] = {
    {"t", 5, {1, 1, 1, 1, 1}, 0, 0, FM_FORMAT, "tensor 't': 5 dimensions, expected at most 4"},
    {"t", UINT32_MAX, {1}, 0, 0, FM_FORMAT, "4294967295 dimensions"},
    {"t", 2, {32, 0}, 0, 0, FM_FORMAT, "dimension 1 is 0"},
    {"t", 2, {UINT64_C(1) << 32, UINT64_C(1) << 32}, 0, 0, FM_FORMAT, "overflows at dimension 1"},
    {"t", 4, {65536, 65536, 65536, 65536}, 0, 0, FM_FORMAT, "overflows at dimension 3"},
    {"t", 1, {UINT64_C(1) << 63}, 0, 0, FM_FORMAT, "overflows at dimension 0"},
    {"t", 1, {UINT64_MAX}, 0, 0, FM_FORMAT, "overflows at dimension 0"},
    {"t", 1, {UINT64_C(1) << 62}, 0, 0, FM_FORMAT, "overflows"},         // times 4 bytes wraps to 0
    {"t", 1, {(UINT64_C(1) << 62) + 4}, 0, 0, FM_FORMAT, "overflows"},   // and to 16
    {"t", 1, {33}, 2, 0, FM_FORMAT, "rows of 33 elements, expected a multiple of q4_0's 32"},
    {"t", 2, {128, 2}, 12, 0, FM_FORMAT, "rows of 128 elements, expected a multiple of q4_K's 256"},
    {"t", 0, {0}, 8, 0, FM_FORMAT, "rows of 1 elements"},
    {"t", 1, {8}, 0, 1, FM_FORMAT, "offset 1 is no multiple of the file's alignment, 32"},
    {"t", 1, {8}, 0, 32, FM_FORMAT, "+ offset 32 + 32 bytes exceeds the file's"},
    {"t", 1, {9}, 0, 0, FM_FORMAT, "+ offset 0 + 36 bytes exceeds the file's"},
    {"t", 1, {8}, 0, UINT64_MAX - 31, FM_FORMAT, "exceeds the file's"},  // data start + offset wraps
    {"t", 1, {8}, 0, UINT64_C(1) << 63, FM_FORMAT, "exceeds the file's"},
    {"t", 1, {UINT64_C(1) << 40}, 0, 0, FM_FORMAT, "exceeds the file's"},
    {"t", 1, {256}, 10, 0, FM_UNSUPPORTED, "tensor 't': type 10 (q2_K) is not supported; known types: f32 f16 q4_0"},
    {"t", 1, {32}, 39, 0, FM_UNSUPPORTED, "type 39 (mxfp4)"},
    {"t", 1, {32}, 4, 0, FM_UNSUPPORTED, "type 4 (q4_2)"},
    {"t", 1, {32}, 1000, 0, FM_UNSUPPORTED, "type 1000 (unknown)"},
    {"t", 1, {32}, UINT32_MAX, 0, FM_UNSUPPORTED, "type 4294967295 (unknown)"},
    {"", 1, {8}, 0, 0, FM_FORMAT, "the name of tensor 1 of 1 has 0 bytes, expected 1 to 1023"},
};

static struct gguf_bytes tensor_file(const struct tensor_row *row, const char *name, size_t name_bytes)
{
    struct gguf_bytes bytes = header(3, 1, 0);
    gguf_put_text_n(&bytes, name, name_bytes);
    gguf_put_u32(&bytes, row->n_dims);
    for (uint32_t i = 0; i < FM_MIN(row->n_dims, 5u); i++)
        gguf_put_u64(&bytes, row->dims[i]);
    gguf_put_u32(&bytes, row->type);
    gguf_put_u64(&bytes, row->offset);
    while (bytes.size_bytes % 32 != 0)
        gguf_put_u8(&bytes, 0);
    put_zeros(&bytes, 32); // eight f32 fit
    return bytes;
}

static void test_tensors(void **state)
{
    (void)state;
    for (size_t i = 0; i < FM_COUNT(tensor_rows); i++)
        file_refuse(tensor_file(&tensor_rows[i], tensor_rows[i].name, strlen(tensor_rows[i].name)),
                    tensor_rows[i].result, tensor_rows[i].text);
    const struct tensor_row good = {"t", 1, {8}, 0, 0, FM_OK, ""};
    struct gguf_bytes bytes = tensor_file(&good, "t", 1); // the same builder makes a good one
    assert_int_equal(file_open_copy(bytes.data, bytes.size_bytes), FM_OK);
    gguf_bytes_finish(&bytes);

    static char long_name[1024];
    memset(long_name, 'n', sizeof(long_name));
    bytes = tensor_file(&good, long_name, 1023);
    assert_int_equal(file_open_copy(bytes.data, bytes.size_bytes), FM_OK);
    gguf_bytes_finish(&bytes);
    file_refuse(tensor_file(&good, long_name, 1024), FM_FORMAT, "has 1024 bytes, expected 1 to 1023");
    file_refuse(tensor_file(&good, "a\0b", 3), FM_FORMAT, "'a\\x00b', holds a NUL byte");
}

// Two tensors of 8 f32, at these offsets.
static struct gguf_bytes two_tensors(uint64_t first, uint64_t second)
{
    const uint64_t offsets[] = {first, second};
    struct gguf_bytes bytes = header(3, 2, 0);
    for (size_t i = 0; i < 2; i++) {
        gguf_put_text(&bytes, i == 0 ? "one" : "two");
        gguf_put_u32(&bytes, 1);
        gguf_put_u64(&bytes, i == 0 ? 8 : 16); // 32 and 64 bytes
        gguf_put_u32(&bytes, 0);
        gguf_put_u64(&bytes, offsets[i]);
    }
    while (bytes.size_bytes % 32 != 0)
        gguf_put_u8(&bytes, 0);
    put_zeros(&bytes, 160);
    return bytes;
}

static void test_overlap(void **state)
{
    (void)state;
    const uint64_t good[][2] = {{0, 32}, {64, 0}, {128, 0}, {128, 64}};
    const uint64_t bad[][2] = {{0, 0}, {32, 0}, {64, 32}, {96, 64}};
    for (size_t i = 0; i < FM_COUNT(good); i++) {
        struct gguf_bytes bytes = two_tensors(good[i][0], good[i][1]);
        assert_int_equal(file_open_copy(bytes.data, bytes.size_bytes), FM_OK);
        gguf_bytes_finish(&bytes);
    }
    for (size_t i = 0; i < FM_COUNT(bad); i++)
        file_refuse(two_tensors(bad[i][0], bad[i][1]), FM_FORMAT, "' overlap: bytes ");
    file_refuse(two_tensors(32, 0), FM_FORMAT, "tensors 'two' and 'one' overlap: bytes 96 to 160 of the file, and 128 to 160");
}

// More entries than any model has are refused before anything is kept of them.
static void test_too_many(void **state)
{
    (void)state;
    struct gguf_bytes bytes = header(3, 0, FM_FILE_METAS_MAX + 1);
    put_zeros(&bytes, 14u * (FM_FILE_METAS_MAX + 1));
    file_refuse(bytes, FM_FORMAT, "header: 65537 metadata entries and 0 tensors, expected at most 65536 and 131072");
    bytes = header(3, FM_FILE_TENSORS_MAX + 1, 0);
    put_zeros(&bytes, 25u * (FM_FILE_TENSORS_MAX + 1));
    file_refuse(bytes, FM_FORMAT, "header: 0 metadata entries and 131073 tensors");
}

// ---- every prefix, every bit -------------------------------------------------------------------------------------

static struct gguf_bytes valid_file(void)
{
    struct gguf_writer w = {.alignment = 16};
    const char *const strings[] = {"ab", "", "c"};
    const int32_t numbers[] = {-1, 7};
    const uint8_t bools[] = {1, 0};
    const uint64_t vector[] = {5}, matrix[] = {2, 32};
    static const float values[64];
    gguf_write_string(&w, "general.architecture", "llama");
    gguf_write_u32(&w, "llama.block_count", 2);
    gguf_write_strings(&w, "a.s", strings, 3);
    gguf_write_array(&w, "a.i", GGUF_I32, numbers, 2);
    gguf_write_array(&w, "a.b", GGUF_BOOL, bools, 2);
    gguf_write_tensor_f32(&w, "v", FM_TYPE_F32, 1, vector, values);
    gguf_write_tensor_f32(&w, "m", FM_TYPE_Q4_0, 2, matrix, values);
    struct gguf_bytes bytes = gguf_write_make(&w);
    gguf_write_finish(&w);
    return bytes;
}

static void test_truncation(void **state)
{
    (void)state;
    struct gguf_bytes bytes = valid_file();
    assert_int_equal(file_open_copy(bytes.data, bytes.size_bytes), FM_OK);
    for (size_t size_bytes = 0; size_bytes < bytes.size_bytes; size_bytes++)
        assert_int_equal(file_open_copy(bytes.data, size_bytes), FM_FORMAT);
    gguf_bytes_finish(&bytes);
}

static void test_bit_flips(void **state)
{
    (void)state;
    struct gguf_bytes bytes = valid_file();
    size_t refused = 0;
    for (size_t i = 0; i < 8 * bytes.size_bytes; i++) {
        bytes.data[i / 8] ^= (uint8_t)(1u << i % 8);
        refused += file_open_copy(bytes.data, bytes.size_bytes) != FM_OK;
        bytes.data[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    assert_int_equal(file_open_copy(bytes.data, bytes.size_bytes), FM_OK);
    print_message("%zu of %zu bit flips refused\n", refused, 8 * bytes.size_bytes);
    assert_true(refused > bytes.size_bytes); // lengths, types, counts and offsets do not go by unseen
    gguf_bytes_finish(&bytes);
}

// Every byte set to what makes lengths and counts extreme, two and eight bytes wide too.
static void test_extreme_fields(void **state)
{
    (void)state;
    struct gguf_bytes bytes = valid_file();
    uint8_t *kept = malloc(bytes.size_bytes);
    assert_non_null(kept);
    memcpy(kept, bytes.data, bytes.size_bytes);
    const uint8_t fills[] = {0x00, 0x7f, 0x80, 0xff};
    const size_t widths[] = {1, 4, 8};
    for (size_t i = 0; i < bytes.size_bytes; i++)
        for (size_t f = 0; f < FM_COUNT(fills); f++)
            for (size_t w = 0; w < FM_COUNT(widths); w++) {
                memset(bytes.data + i, fills[f], FM_MIN(widths[w], bytes.size_bytes - i));
                file_open_copy(bytes.data, bytes.size_bytes);
                memcpy(bytes.data, kept, bytes.size_bytes);
            }
    assert_int_equal(file_open_copy(bytes.data, bytes.size_bytes), FM_OK);
    free(kept);
    gguf_bytes_finish(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_not_gguf),   cmocka_unit_test(test_versions),    cmocka_unit_test(test_counts),
        cmocka_unit_test(test_strings),    cmocka_unit_test(test_value_types), cmocka_unit_test(test_arrays),
        cmocka_unit_test(test_duplicates), cmocka_unit_test(test_alignment),   cmocka_unit_test(test_split),
        cmocka_unit_test(test_overlap),      cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_tensors),         cmocka_unit_test(test_truncation),  cmocka_unit_test(test_bit_flips),
        cmocka_unit_test(test_extreme_fields),
    };
    return cmocka_run_group_tests_name("gguf_bad", tests, NULL, NULL);
}
