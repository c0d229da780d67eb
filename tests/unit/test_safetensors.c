// SPDX-License-Identifier: MIT
// The safetensors reader: what it gives for good files, what it says to each kind of broken one.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "convert/conf.h"
#include "format/file.h"
#include "models/arch.h"
#include "support/checkpoint_make.h"
#include "support/file_check.h"
#include "support/tensor_data.h"

static const uint8_t data64[64] = {1, 2, 3, 4};

// ---- good files --------------------------------------------------------------------------------------------------

static void test_good(void **state)
{
    (void)state;
    struct safetensors_writer w = {0};
    const uint64_t dims[] = {2, 3};
    safetensors_put(&w, "model.a", "F32", 2, dims, data64, 24);
    safetensors_put(&w, "b", "BF16", 1, dims, data64 + 4, 4);
    safetensors_put(&w, "scalar", "I64", 0, NULL, data64, 8);
    safetensors_put(&w, "f8", "F8_E4M3", 2, dims, data64, 6);
    struct gguf_bytes bytes = safetensors_finish(&w);
    struct fm_file *file = NULL;
    assert_int_equal(fm_file_open_memory(bytes.data, bytes.size_bytes, "good", &file), FM_OK);
    assert_string_equal(fm_file_format(file), "safetensors");
    assert_int_equal(fm_file_tensor_count(file), 4);
    const struct fm_tensor *a = fm_file_find(file, "model.a"), *b = fm_file_find(file, "b"),
                           *scalar = fm_file_find(file, "scalar"), *f8 = fm_file_find(file, "f8");
    assert_true(a != NULL && b != NULL && scalar != NULL && f8 != NULL);
    assert_true(a->type == FM_TYPE_F32 && a->n_dims == 2 && a->dims[0] == 2 && a->dims[1] == 3 && a->data_bytes == 24);
    assert_true(tensor_holds(a, data64, 24));
    assert_true(b->type == FM_TYPE_BF16 && b->n_dims == 1 && b->dims[0] == 2 && b->dims[1] == 1);
    assert_int_equal(b->offset, a->offset + 24);
    assert_true(scalar->type == FM_TYPE_NONE && scalar->n_dims == 0 && scalar->dims[0] == 1);
    assert_string_equal(scalar->type_name, "I64");
    assert_true(f8->type == FM_TYPE_NONE && f8->data_bytes == 6);
    assert_string_equal(f8->type_name, "F8_E4M3");
    fm_file_close(&file);
    gguf_bytes_finish(&bytes);
}

// A checkpoint is no model to run.
static void test_not_a_model(void **state)
{
    (void)state;
    struct gguf_bytes bytes = safetensors_make("{\"__metadata__\":{\"general.architecture\":\"llama\"}}", NULL, 0);
    struct fm_file *file = NULL;
    struct fm_arena arena = {0};
    const struct fm_arch *arch = NULL;
    struct fm_config config;
    assert_int_equal(fm_file_open_memory(bytes.data, bytes.size_bytes, "a.safetensors", &file), FM_OK);
    assert_int_equal(fm_arch_open(file, &arena, &arch, &config), FM_UNSUPPORTED);
    assert_string_equal(fm_error_message(),
                        "a.safetensors: a safetensors checkpoint, expected a GGUF file; fulmen convert makes one");
    fm_file_close(&file);
    fm_arena_finish(&arena);
    gguf_bytes_finish(&bytes);
}

// Order of the header is no order of the data; spaces anywhere; escapes in names; members that nobody knows.
static void test_header_text(void **state)
{
    (void)state;
    static const char header[] =
        "{ \"b\" : {\"shape\":[ 2 ],\"x\":[{}, \"}\\\"]\"],\"data_offsets\":[8,10], \"dtype\":\"U8\" } ,\n"
        "\"__metadata__\":{\"format\":\"pt\",\"\\u00e9\\\"\":\"a\\nb\", \"empty\" : \"\"},"
        "\"a\\u0041\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]}}  ";
    struct gguf_bytes bytes = safetensors_make(header, data64, 10);
    struct fm_file *file = NULL;
    struct fm_text text;
    assert_int_equal(fm_file_open_memory(bytes.data, bytes.size_bytes, "good", &file), FM_OK);
    assert_int_equal(fm_file_tensor_count(file), 2);
    assert_non_null(fm_file_find(file, "aA"));
    assert_int_equal(fm_file_find(file, "b")->offset - fm_file_find(file, "aA")->offset, 8);
    assert_int_equal(fm_file_meta_count(file), 3);
    assert_int_equal(fm_meta_string(file, "format", true, &text), FM_OK);
    assert_true(text.bytes == 2 && memcmp(text.data, "pt", 2) == 0);
    assert_int_equal(fm_meta_string(file, "\xc3\xa9\"", true, &text), FM_OK);
    assert_true(text.bytes == 3 && memcmp(text.data, "a\nb", 3) == 0);
    assert_int_equal(fm_meta_string(file, "empty", true, &text), FM_OK);
    assert_int_equal(text.bytes, 0);
    fm_file_close(&file);
    gguf_bytes_finish(&bytes);
}

static void test_no_tensors(void **state)
{
    (void)state;
    struct gguf_bytes bytes = safetensors_make("{}", NULL, 0);
    assert_int_equal(file_open_copy(bytes.data, bytes.size_bytes), FM_OK);
    gguf_bytes_finish(&bytes);
}

// ---- bad files ---------------------------------------------------------------------------------------------------

static void refuse_header(const char *header, size_t data_bytes, enum fm_result expected, const char *text)
{
    file_refuse(safetensors_make(header, data64, data_bytes), expected, text);
}

// One tensor 'a' of 8 bytes, described by these.
static void refuse_entry(const char *dtype, const char *shape, const char *offsets, enum fm_result expected,
                         const char *text)
{
    char header[512];
    snprintf(header, sizeof(header), "{\"a\":{\"dtype\":%s,\"shape\":%s,\"data_offsets\":%s}}", dtype, shape, offsets);
    refuse_header(header, 8, expected, text);
}

static struct gguf_bytes with_length(uint64_t length, size_t rest_bytes)
{
    struct gguf_bytes bytes = {0};
    gguf_put_u64(&bytes, length);
    gguf_put_u8(&bytes, '{');
    for (size_t i = 1; i < rest_bytes; i++)
        gguf_put_u8(&bytes, ' ');
    return bytes;
}

static void test_length(void **state)
{
    (void)state;
    file_refuse(with_length(0, 20), FM_FORMAT, "header of 0 bytes, expected 1 to 20");
    file_refuse(with_length(21, 20), FM_FORMAT, "header of 21 bytes, expected 1 to 20, all that the file has");
    file_refuse(with_length(UINT64_MAX, 20), FM_FORMAT, "header of 18446744073709551615 bytes");
    file_refuse(with_length((uint64_t)1 << 63, 20), FM_FORMAT, "header of 9223372036854775808 bytes");
    file_refuse(with_length(1, 1), FM_FORMAT, "header: ends at byte 1");
    file_refuse(with_length(2, 0), FM_FORMAT, "header of 2 bytes, expected 1 to 1");
}

// The limit of the format's own reader, in a file that is large enough.
static void test_length_limit(void **state)
{
    (void)state;
    size_t size_bytes = 100000100;
    uint8_t *data = calloc(1, size_bytes);
    uint64_t length = 100000001;
    struct fm_file *file = NULL;
    assert_non_null(data);
    memcpy(data, &length, sizeof(length));
    data[8] = '{';
    assert_int_equal(fm_file_open_memory(data, size_bytes, "large", &file), FM_FORMAT);
    assert_string_equal(fm_error_message(), "large: safetensors header of 100000001 bytes, expected 1 to 100000000");
    free(data);
}

static void test_json(void **state)
{
    (void)state;
    refuse_header("{", 0, FM_FORMAT, "header: ends at byte 1, expected a string");
    refuse_header("{\"a", 0, FM_FORMAT, "expected '\"' at the end of a string");
    refuse_header("{\"a\\", 0, FM_FORMAT, "expected '\"' at the end of a string");
    refuse_header("{\"a\"}", 0, FM_FORMAT, "byte 4: expected ':', found '}'");
    refuse_header("{\"a\":}", 0, FM_FORMAT, "byte 5: expected a value, found '}'");
    refuse_header("{\"a\":{}", 0, FM_FORMAT, "tensor 'a': dtype is missing");
    refuse_header("{\"__metadata__\":{}", 0, FM_FORMAT, "expected ',' or '}'");
    refuse_header("{\"__metadata__\":{},}", 0, FM_FORMAT, "expected a string, found '}'");
    refuse_header("{,}", 0, FM_FORMAT, "expected a string, found ',}'");
    refuse_header("{}}", 0, FM_FORMAT, "expected nothing after the object, found '}'");
    refuse_header("{} x", 0, FM_FORMAT, "expected nothing after the object, found 'x'");
    refuse_header("{\"a\":{\"dtype\":nul}}", 0, FM_FORMAT, "tensor 'a': shape is missing");
    refuse_header("{\"a\":[}}", 0, FM_FORMAT, "tensor 'a': byte 0: expected '{', found '[}'");
    refuse_header("{\"a\":tru}", 0, FM_FORMAT, "tensor 'a': byte 0: expected '{', found 'tru'");
    refuse_header("{\"a\":1e999}", 0, FM_FORMAT, "tensor 'a': byte 0: expected '{', found '1e999'");
    refuse_header("{\"a\\u0000b\":{}}", 0, FM_FORMAT, "expected no NUL in a string");
    refuse_header("{\"a\nb\":{}}", 0, FM_FORMAT, "expected no control character in a string");
    refuse_header("{\"a\\q\":{}}", 0, FM_FORMAT, "not JSON");
    refuse_header("{\"\":{}}", 0, FM_FORMAT, "the name of a tensor, '', has 0 bytes, expected 1 to 1023");
    refuse_header("{\"a\":[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]}", 0, FM_FORMAT, "expected at most 16 levels of nesting");
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[", 0, FM_FORMAT, "expected a closing bracket");
}

// A hundred thousand brackets end in a message, not in the stack; a long value is not read at all.
static void test_large_values(void **state)
{
    (void)state;
    const size_t count = 100000;
    char *header = malloc(count + 16);
    assert_non_null(header);
    memcpy(header, "{\"a\":", 5);
    memset(header + 5, '[', count);
    header[5 + count] = '\0';
    refuse_header(header, 0, FM_FORMAT, "16 levels of nesting");
    for (size_t i = 0; i < count; i++)
        header[5 + i] = i == 0 ? '[' : i + 1 == count ? ']' : i % 2 == 1 ? '1' : ',';
    header[5 + count - 2] = '1';
    memcpy(header + 5 + count, "}", 2);
    refuse_header(header, 0, FM_FORMAT, "tensor 'a': a value of 100000 bytes, expected at most 4096");
    memset(header + 2, 'n', 1024);
    memcpy(header + 2 + 1024, "\":{}}", 6);
    refuse_header(header, 0, FM_FORMAT, "has 1024 bytes, expected 1 to 1023");
    free(header);
}

static void test_entries(void **state)
{
    (void)state;
    refuse_entry("\"F33\"", "[2]", "[0,8]", FM_UNSUPPORTED, "tensor 'a': dtype 'F33' is not known");
    refuse_entry("\"F32\\u001b[2J\"", "[2]", "[0,8]", FM_UNSUPPORTED, "dtype 'F32\\x1b[2J' is not known");
    refuse_entry("7", "[2]", "[0,8]", FM_FORMAT, "tensor 'a', dtype: expected a string, found '7'");
    refuse_entry("\"F32\"", "2", "[0,8]", FM_FORMAT, "tensor 'a', shape: byte 0: expected an array of integers, found '2'");
    // A shape and a place are integers, and written as such.
    static const char *const numbers[] = {"-2", "2.5", "2.0", "2e0", "2E0", "0.2e1", "20e-1", "1e300", "1e400", "\"2\"",
                                          "02", "+2", "2u", "-0",
                                          "true", "null", "NaN", "Infinity", "[2]", "{}", "0x2", "2 2"};
    for (size_t i = 0; i < FM_COUNT(numbers); i++) {
        char text[64], expected[64];
        snprintf(text, sizeof(text), "[1, %s]", numbers[i]);
        snprintf(expected, sizeof(expected), "byte 4: expected an integer of 0 or more, found '%.6s", numbers[i]);
        if (strcmp(numbers[i], "2 2") == 0)
            snprintf(expected, sizeof(expected), "byte 6: expected ',' or ']'");
        refuse_entry("\"F32\"", text, "[0,8]", FM_FORMAT, expected);
        text[1] = '0';
        refuse_entry("\"U8\"", "[2]", text, FM_FORMAT, expected);
    }
    refuse_entry("\"F32\"", "[18446744073709551616]", "[0,8]", FM_FORMAT, "byte 1: expected an integer below 2^64");
    refuse_entry("\"F32\"", "[18446744073709551615]", "[0,8]", FM_FORMAT, "the product of its dimensions overflows");
    refuse_entry("\"F32\"", "[2,]", "[0,8]", FM_FORMAT, "expected an integer of 0 or more, found ']'");
    refuse_entry("\"F32\"", "[,2]", "[0,8]", FM_FORMAT, "expected ");
    refuse_entry("\"F32\"", "[1,0]", "[0,8]", FM_FORMAT, "data_offsets are 0 and 8, expected 0 bytes of F32");
    refuse_entry("\"F32\"", "[0]", "[1,0]", FM_FORMAT, "data_offsets are 1 and 0, expected 0 bytes of F32");
    refuse_entry("\"F32\"", "[1,1,1,1,2]", "[0,8]", FM_FORMAT, "tensor 'a': 5 dimensions, expected at most 4");
    refuse_entry("\"F32\"", "[4294967296,4294967296]", "[0,8]", FM_FORMAT,
                 "the product of its dimensions overflows at dimension 1, 4294967296");
    refuse_entry("\"F64\"", "[2147483648,2147483648]", "[0,8]", FM_FORMAT, "the size of 4611686018427387904 elements");
    refuse_entry("\"F4\"", "[3]", "[0,8]", FM_FORMAT, "3 elements of F4 are no whole number of bytes");
    refuse_entry("\"F32\"", "[2]", "[0]", FM_FORMAT, "tensor 'a': 1 data_offsets, expected 2");
    refuse_entry("\"F32\"", "[2]", "[0,8,8]", FM_FORMAT, "tensor 'a': 3 data_offsets, expected 2");
    refuse_entry("\"F32\"", "[2]", "[8,0]", FM_FORMAT, "data_offsets are 8 and 0, expected 8 bytes of F32");
    refuse_entry("\"F32\"", "[2]", "[0,9]", FM_FORMAT, "data_offsets are 0 and 9, expected 8 bytes of F32");
    refuse_entry("\"F32\"", "[1]", "[0,8]", FM_FORMAT, "data_offsets are 0 and 8, expected 4 bytes of F32");
    refuse_entry("\"F32\"", "[4]", "[0,16]", FM_FORMAT, "its data ends at byte 16, behind the file's 8 bytes of data");
    refuse_entry("\"F32\"", "[2]", "[9007199254740984,9007199254740992]", FM_FORMAT, "behind the file's 8 bytes");
    refuse_header("{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\"}}", 0, FM_FORMAT, "tensor 'a': dtype is there twice");
    refuse_header("{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 0, FM_FORMAT, "tensor 'a': data_offsets is missing");
    refuse_header("{\"a\":[]}", 0, FM_FORMAT, "tensor 'a': byte 0: expected '{', found '[]'");
    refuse_header("{\"a\":{\"x\":nul,\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, FM_FORMAT, "tensor 'a': not JSON: 'nul'");
    refuse_header("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"shape\":[1],\"data_offsets\":[0,1]}}", 1, FM_FORMAT,
                  "tensor 'a': shape is there twice");
}

#define ENTRY(name, shape, begin, end) \
    "\"" name "\":{\"dtype\":\"U8\",\"shape\":[" shape "],\"data_offsets\":[" begin "," end "]}"

static void test_ranges(void **state)
{
    (void)state;
    refuse_header("{" ENTRY("a", "4", "0", "4") "," ENTRY("b", "4", "3", "7") "}", 7, FM_FORMAT,
                  "tensor 'b': its data begins at byte 3, where 'a' overlaps it until byte 4");
    refuse_header("{" ENTRY("a", "4", "5", "9") "," ENTRY("b", "4", "0", "4") "}", 9, FM_FORMAT,
                  "tensor 'a': its data begins at byte 5, expected 4 (a hole before it)");
    refuse_header("{" ENTRY("a", "4", "0", "4") "}", 5, FM_FORMAT,
                  "the tensors' data ends at byte 4, expected 5 as the file has");
    refuse_header("{" ENTRY("a", "4", "0", "4") "," ENTRY("a", "4", "4", "8") "}", 8, FM_FORMAT,
                  "tensor 'a' is there twice");
    refuse_header("{" ENTRY("a", "4", "0", "4") "," ENTRY("\\u0061", "4", "4", "8") "}", 8, FM_FORMAT,
                  "tensor 'a' is there twice");
    refuse_header("{}", 1, FM_FORMAT, "the tensors' data ends at byte 0, expected 1");
    refuse_header("{" ENTRY("a", "8", "0", "8") "," ENTRY("b", "0", "4", "4") "}", 8, FM_FORMAT,
                  "tensor 'b': its data begins at byte 4, where 'a' overlaps it until byte 8");
    refuse_header("{" ENTRY("a", "4", "0", "4") "," ENTRY("b", "4", "0", "4") "}", 4, FM_FORMAT,
                  "tensor 'b': its data begins at byte 0, where 'a'");
}

// Tensors without elements are valid, wherever one tensor ends and the next begins.
static void test_no_elements(void **state)
{
    (void)state;
    static const char header[] = "{" ENTRY("z", "0", "0", "0") "," ENTRY("a", "2,2", "0", "4") "," ENTRY("y", "3,0", "4", "4") ","
                                 ENTRY("x", "0,7", "4", "4") "," ENTRY("b", "4", "4", "8") "," ENTRY("w", "0", "8", "8") "}";
    struct gguf_bytes bytes = safetensors_make(header, data64, 8);
    struct fm_file *file = NULL;
    assert_int_equal(fm_file_open_memory(bytes.data, bytes.size_bytes, "good", &file), FM_OK);
    const struct fm_tensor *x = fm_file_find(file, "x");
    assert_true(x != NULL && x->n_dims == 2 && x->dims[0] == 0 && x->dims[1] == 7 && x->data_bytes == 0);
    assert_int_equal(fm_tensor_read(x, 0, 0, NULL), FM_OK);
    assert_true(tensor_holds(fm_file_find(file, "b"), (const uint8_t *)data64 + 4, 4));
    fm_file_close(&file);
    assert_int_equal(file_open_copy(bytes.data, bytes.size_bytes), FM_OK);
    gguf_bytes_finish(&bytes);
}

// The format allows space before the header's brace as well as behind it.
static void test_padded(void **state)
{
    (void)state;
    const size_t pads[] = {1, 3, 8, 55, 56, 57, 1000};
    for (size_t i = 0; i < FM_COUNT(pads); i++) {
        char header[1200];
        for (size_t c = 0; c < pads[i]; c++)
            header[c] = " \t\r\n"[c % 4];
        snprintf(header + pads[i], sizeof(header) - pads[i], "{" ENTRY("a", "8", "0", "8") "}  ");
        struct gguf_bytes bytes = safetensors_make(header, data64, 8);
        struct fm_file *file = NULL;
        assert_int_equal(fm_file_open_memory(bytes.data, bytes.size_bytes, "good", &file), FM_OK);
        assert_string_equal(fm_file_format(file), "safetensors");
        assert_true(tensor_holds(fm_file_find(file, "a"), data64, 8));
        fm_file_close(&file);
        gguf_bytes_finish(&bytes);
    }
    refuse_header("  ", 0, FM_FORMAT, "header: ends at byte 2, expected '{'");
    refuse_header("  x{}", 0, FM_FORMAT, "not a model file");
}

static void test_metadata(void **state)
{
    (void)state;
    refuse_header("{\"__metadata__\":{\"a\":1}}", 0, FM_FORMAT, "__metadata__, key 'a': expected a string, found '1'");
    refuse_header("{\"__metadata__\":[]}", 0, FM_FORMAT, "__metadata__: byte 0: expected '{', found '[]'");
    refuse_header("{\"__metadata__\":{\"a\":\"1\",\"a\":\"1\"}}", 0, FM_FORMAT, "metadata key 'a' is there twice");
    refuse_header("{\"__metadata__\":{},\"__metadata__\":{}}", 0, FM_FORMAT, "__metadata__ is there twice");
}

static void *no_memory(size_t size_bytes)
{
    (void)size_bytes;
    errno = ENOMEM;
    return NULL;
}

// Memory that cJSON does not get is no fault of the file.
static void test_memory_of_cjson(void **state)
{
    (void)state;
    static const char header[] = "{\"a\":{\"x\":1,\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]}}";
    struct gguf_bytes bytes = safetensors_make(header, data64, 8);
    struct fm_conf conf;
    char text[] = "{\"a\": 1}";
    cJSON_Hooks hooks = {.malloc_fn = no_memory, .free_fn = free};
    cJSON_InitHooks(&hooks);
    enum fm_result result = file_open_copy(bytes.data, bytes.size_bytes);
    enum fm_result conf_result = fm_conf_parse(text, sizeof(text) - 1, "config.json", &conf);
    cJSON_InitHooks(NULL);
    assert_int_equal(result, FM_NOMEM);
    assert_int_equal(conf_result, FM_NOMEM);
    assert_int_equal(file_open_copy(bytes.data, bytes.size_bytes), FM_OK);
    gguf_bytes_finish(&bytes);
}

static void test_broken_everywhere(void **state)
{
    (void)state;
    static const char header[] =
        "{\"__metadata__\":{\"f\":\"p\\n\"}," ENTRY("a", "1,2", "0", "2") "," ENTRY("b\\\"", "", "2", "3") "}";
    struct gguf_bytes bytes = safetensors_make(header, data64, 3);
    size_t size_bytes = bytes.size_bytes;
    assert_true(file_break_everywhere(bytes) > 3 * size_bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),         cmocka_unit_test(test_not_a_model), cmocka_unit_test(test_header_text),
        cmocka_unit_test(test_no_tensors),   cmocka_unit_test(test_length),      cmocka_unit_test(test_length_limit),
        cmocka_unit_test(test_json),         cmocka_unit_test(test_large_values), cmocka_unit_test(test_entries),
        cmocka_unit_test(test_no_elements),  cmocka_unit_test(test_padded),
        cmocka_unit_test(test_memory_of_cjson),
        cmocka_unit_test(test_ranges),      cmocka_unit_test(test_metadata),    cmocka_unit_test(test_broken_everywhere),
    };
    return cmocka_run_group_tests_name("safetensors", tests, NULL, NULL);
}
