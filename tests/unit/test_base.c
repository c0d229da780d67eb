// SPDX-License-Identifier: MIT
// Layer 0: errors, log, allocation faults, arena, map, halves, files, threads.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/half.h"
#include "base/map.h"
#include "base/os.h"
#include "base/writer.h"
#include "support/temporary.h"

static char folder[TEST_PATH_BYTES]; // of this run, removed at the end

static int make_folder(void **state)
{
    (void)state;
    return test_temporary_folder("test", folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return test_remove_folder(folder) ? 0 : -1;
}

static const char *in_folder(const char *name)
{
    static char path[TEST_PATH_BYTES + 256];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

// ---- errors and log ----------------------------------------------------------------------------------------------

static void test_results(void **state)
{
    (void)state;
    for (int i = 0; i < FM_RESULT_COUNT; i++) {
        const char *text = fm_result_text((enum fm_result)i);
        assert_non_null(text);
        for (int j = 0; j < i; j++)
            assert_string_not_equal(text, fm_result_text((enum fm_result)j));
    }
    assert_non_null(fm_result_text((enum fm_result)9999));
    assert_int_equal(fm_fail(FM_IO, "disk %d", 7), FM_IO);
    assert_string_equal(fm_error_message(), "disk 7");
    assert_int_equal(fm_fail_prefix(FM_FORMAT, "%s", "a.gguf"), FM_FORMAT);
    assert_string_equal(fm_error_message(), "a.gguf: disk 7");
    fm_fail(FM_IO, "again: %s", fm_error_message()); // its own message as an argument
    assert_string_equal(fm_error_message(), "again: a.gguf: disk 7");
}

static void test_long_messages(void **state)
{
    (void)state;
    char text[9000];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    fm_fail(FM_ARG, "%s", text);
    assert_int_equal(strlen(fm_error_message()), 4095);
    assert_string_equal(fm_error_message() + 4092, "...");
    for (size_t length = 4080; length <= 4100; length++) {
        fm_fail(FM_ARG, "inner");
        text[length] = '\0';
        fm_fail_prefix(FM_ARG, "%s", text);
        assert_true(strlen(fm_error_message()) <= 4095);
        assert_memory_equal(fm_error_message(), text, 4080);
        text[length] = 'x';
    }
}

static void test_append(void **state)
{
    char text[16] = "";
    (void)state;
    fm_append(text, sizeof(text), "%s", "known:");
    fm_append(text, sizeof(text), " %s", "12345678");
    assert_string_equal(text, "known: 12345678"); // fills it
    fm_append(text, sizeof(text), " %s", "9");
    assert_string_equal(text, "known: 12345...");
    fm_append(text, sizeof(text), " %s", "9");
    assert_string_equal(text, "known: 12345...");
}

static void check_quoted(const char *text, size_t bytes, const char *expected)
{
    char out[FM_QUOTE_BYTES];
    assert_string_equal(fm_quote(text, bytes, out, sizeof(out)), expected);
}

static void test_quote(void **state)
{
    (void)state;
    check_quoted("plain text", 10, "plain text");
    check_quoted("Gr\xC3\xBC\xC3\x9F\x65", 7, "Gr\xC3\xBC\xC3\x9F\x65");
    check_quoted("\x1b[31m\r\n\t", 8, "\\x1b[31m\\x0d\\x0a\\x09");
    check_quoted("a\0b", 3, "a\\x00b");
    check_quoted("\x7f", 1, "\\x7f");
    check_quoted("\xC2\x9B", 2, "\\xc2\\x9b");             // CSI, a C1 control
    check_quoted("\xC2\xA0", 2, "\xC2\xA0");                 // the first character after C1
    check_quoted("\x9b", 1, "\\x9b");                        // the same control for a terminal of 8 bits: no UTF-8
    check_quoted("\xE2\x80\xAE", 3, "\\xe2\\x80\\xae");    // right-to-left override
    check_quoted("\xD8\x9C\xE2\x80\x8F", 5, "\\xd8\\x9c\\xe2\\x80\\x8f"); // marks of the two directions
    check_quoted("\xC0\xAF\xED\xA0\x80", 5, "\\xc0\\xaf\\xed\\xa0\\x80"); // overlong, surrogate
    check_quoted("\xF0\x9F\x98", 3, "\\xf0\\x9f\\x98");    // cut within a character
    char out[16];
    assert_string_equal(fm_quote_flags("a\n\t\x1b", 4, FM_QUOTE_LINES, out, sizeof(out)), "a\n\t\\x1b");
    assert_string_equal(fm_quote("123456789012345", 15, out, sizeof(out)), "123456789012345");
    assert_string_equal(fm_quote("1234567890123456", 16, out, sizeof(out)), "123456789012...");
    assert_string_equal(fm_quote("12345678901\xC3\xBC\xC3\xBC\xC3\xBC", 17, out, sizeof(out)), "12345678901...");
    assert_string_equal(fm_quote("12345678901\x1b[31m", 16, out, sizeof(out)), "12345678901...");
    for (size_t size = 0; size < 5; size++)
        assert_true(strlen(fm_quote("\x1b\x1b\x1b", 3, out, size)) < FM_MAX(size, (size_t)1));
    fm_fail(FM_FORMAT, "tensor '%s'", "\x1b]0;title\a"); // whoever forgets to quote is still safe
    assert_string_equal(fm_error_message(), "tensor '\\x1b]0;title\\x07'");
}

static void fail_in_thread(void *user, uint32_t i)
{
    (void)user;
    char expected[32];
    snprintf(expected, sizeof(expected), "thread %u", i);
    for (int n = 0; n < 1000; n++) {
        fm_fail(FM_ARG, "thread %u", i);
        if (strcmp(fm_error_message(), expected) != 0)
            abort();
    }
}

static void test_messages_are_per_thread(void **state)
{
    (void)state;
    fm_thread_for(4, 4, fail_in_thread, NULL);
}

struct log_capture {
    char line[256];
    int lines;
    enum fm_log_level level;
};

static void capture_log(void *user, enum fm_log_level level, const char *line)
{
    struct log_capture *capture = user;
    snprintf(capture->line, sizeof(capture->line), "%s", line);
    capture->level = level;
    capture->lines++;
}

static void test_log(void **state)
{
    (void)state;
    struct log_capture capture = {0};
    fm_log_set(capture_log, &capture, FM_LOG_INFO);
    fm_log(FM_LOG_DEBUG, "hidden");
    assert_int_equal(capture.lines, 0);
    fm_log(FM_LOG_INFO, "%d devices", 3);
    assert_string_equal(capture.line, "3 devices");
    assert_int_equal(capture.level, FM_LOG_INFO);
    fm_log(FM_LOG_ERROR, "bad");
    assert_int_equal(capture.lines, 2);
    fm_log_set(NULL, NULL, FM_LOG_WARN);
}

static void test_version(void **state)
{
    (void)state;
    assert_string_equal(fm_version(), FM_VERSION_STRING);
    assert_true(strlen(fm_commit()) > 0);
}

// ---- memory ------------------------------------------------------------------------------------------------------

static void test_alloc_faults(void **state)
{
    (void)state;
    fm_alloc_fail_at(2);
    void *first = fm_alloc(1), *second = fm_alloc_zero(2, 2), *third = fm_alloc(1), *fourth = fm_alloc(1);
    assert_int_equal(fm_alloc_fail_at(UINT64_MAX), 4);
    assert_non_null(first);
    assert_non_null(second);
    assert_null(third);
    assert_non_null(fourth);
    fm_free(first);
    fm_free(second);
    fm_free(third);
    fm_free(fourth);
    assert_null(fm_alloc_zero(SIZE_MAX / 2, 3));
    assert_null(fm_realloc(NULL, SIZE_MAX / 4 + 1, 4));
    void *empty = fm_alloc(0);
    assert_non_null(empty); // NULL always means failure
    fm_free(empty);
}

static void test_array_reserve(void **state)
{
    (void)state;
    uint32_t *items = NULL;
    size_t cap = 0;
    for (uint32_t i = 0; i < 1000; i++) {
        assert_int_equal(fm_array_reserve((void **)&items, &cap, i + 1, sizeof(*items)), FM_OK);
        assert_true(cap > i);
        items[i] = i * 3;
    }
    for (uint32_t i = 0; i < 1000; i++)
        assert_int_equal(items[i], i * 3);
    uint32_t *before = items;
    size_t cap_before = cap;
    assert_int_equal(fm_array_reserve((void **)&items, &cap, SIZE_MAX / 2, sizeof(*items)), FM_NOMEM);
    assert_ptr_equal(items, before);
    assert_int_equal(cap, cap_before);
    fm_free(items);
}

static void test_checked_arithmetic(void **state)
{
    (void)state;
    uint64_t out = 5;
    assert_false(fm_add_u64(UINT64_MAX, 1, &out));
    assert_false(fm_mul_u64(UINT64_C(1) << 32, UINT64_C(1) << 32, &out));
    assert_false(fm_align_u64(UINT64_MAX - 3, 32, &out));
    assert_int_equal(out, 5); // untouched
    assert_true(fm_add_u64(UINT64_MAX - 1, 1, &out) && out == UINT64_MAX);
    assert_true(fm_mul_u64(UINT64_MAX, 1, &out) && out == UINT64_MAX);
    assert_true(fm_mul_u64(0, UINT64_MAX, &out) && out == 0);
    assert_true(fm_align_u64(33, 32, &out) && out == 64);
    assert_true(fm_align_u64(64, 32, &out) && out == 64);
    assert_int_equal(fm_ceil_div_u32(UINT32_MAX, 2), 0x80000000u);
    assert_int_equal(fm_ceil_div_u32(6, 3), 2);
}

static void test_arena(void **state)
{
    (void)state;
    struct fm_arena arena = {0};
    uint8_t *objects[500];
    size_t sizes[500];
    for (size_t i = 0; i < 500; i++) { // small ones, and every 50th larger than a block
        sizes[i] = i % 50 == 49 ? 3000000 : 1 + i * 7 % 900;
        objects[i] = fm_arena_alloc(&arena, sizes[i], 1);
        assert_non_null(objects[i]);
        assert_int_equal((uintptr_t)objects[i] % 16, 0);
        for (size_t j = 0; j < sizes[i]; j++)
            assert_int_equal(objects[i][j], 0);
        memset(objects[i], (int)(i % 255 + 1), sizes[i]);
    }
    for (size_t i = 0; i < 500; i++) // nothing overlaps
        for (size_t j = 0; j < sizes[i]; j += 13)
            assert_int_equal(objects[i][j], i % 255 + 1);
    assert_string_equal(fm_arena_printf(&arena, "blk.%d.%s", 12, "attn"), "blk.12.attn");
    assert_string_equal(fm_arena_strdup(&arena, "text"), "text");
    assert_memory_equal(fm_arena_copy(&arena, "ab\0cd", 5), "ab\0cd", 5);
    assert_null(fm_arena_alloc(&arena, SIZE_MAX / 2, 3));
    assert_null(fm_arena_alloc(&arena, SIZE_MAX - 8, 1));
    assert_true(arena.total_bytes > 10 * 3000000u);
    fm_arena_finish(&arena);
    assert_int_equal(arena.total_bytes, 0);
    assert_non_null(fm_arena_alloc(&arena, 1, 1)); // usable again
    fm_arena_finish(&arena);
}

// ---- map ---------------------------------------------------------------------------------------------------------

static void test_map(void **state)
{
    (void)state;
    enum { KEYS = 20000 };
    static char keys[KEYS][16];
    struct fm_map map = {0};
    uint32_t value = 0;
    bool replaced;
    assert_false(fm_map_get(&map, "x", 1, &value));
    for (uint32_t i = 0; i < KEYS; i++) {
        snprintf(keys[i], sizeof(keys[i]), "key %u", i);
        assert_int_equal(fm_map_put(&map, keys[i], strlen(keys[i]), i, &replaced), FM_OK);
        assert_false(replaced);
    }
    assert_int_equal(map.count, KEYS);
    for (uint32_t i = 0; i < KEYS; i++) {
        assert_true(fm_map_get(&map, keys[i], strlen(keys[i]), &value));
        assert_int_equal(value, i);
        assert_false(fm_map_get(&map, keys[i], strlen(keys[i]) + 1, &value)); // the NUL makes another key
    }
    assert_int_equal(fm_map_put(&map, "key 7", 5, 99, &replaced), FM_OK);
    assert_true(replaced);
    assert_true(fm_map_get(&map, "key 7", 5, &value) && value == 99);
    assert_int_equal(map.count, KEYS);
    assert_int_equal(fm_map_put(&map, NULL, 0, 5, &replaced), FM_OK); // the empty key
    assert_false(replaced);
    assert_true(fm_map_get(&map, "", 0, &value) && value == 5);
    assert_int_equal(fm_map_put(&map, "a\0b", 3, 1, NULL), FM_OK);
    assert_false(fm_map_get(&map, "a\0c", 3, &value));
    fm_map_finish(&map);
}

static void test_map_out_of_memory(void **state)
{
    (void)state;
    struct fm_map map = {0};
    uint32_t value;
    static const char letters[] = "abcdefghijklmnop";
    uint32_t held = 0;
    fm_alloc_fail_at(1); // the first growth works, the second fails
    while (held < 16 && fm_map_put(&map, letters + held, 1, held, NULL) == FM_OK)
        held++;
    fm_alloc_fail_at(UINT64_MAX);
    assert_true(held > 0 && held < 16);
    for (uint32_t i = 0; i < held; i++) // nothing lost
        assert_true(fm_map_get(&map, letters + i, 1, &value) && value == i);
    fm_map_finish(&map);
}

static void test_hash(void **state)
{
    (void)state;
    uint8_t data[40] = {0};
    uint64_t base = fm_hash64(data, sizeof(data), FM_HASH_SEED);
    assert_true(base == fm_hash64(data, sizeof(data), FM_HASH_SEED));
    assert_true(base != fm_hash64(data, sizeof(data), 1));
    assert_true(base != fm_hash64(data, sizeof(data) - 1, FM_HASH_SEED));
    for (size_t bit = 0; bit < 8 * sizeof(data); bit++) { // every bit matters, and moves about half of the hash
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        int moved = __builtin_popcountll(base ^ fm_hash64(data, sizeof(data), FM_HASH_SEED));
        assert_in_range(moved, 10, 54);
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

// A known value of SipHash-1-3, and keys that collide in the hash of identities: the map must spread them.
static void test_keyed_hash(void **state)
{
    (void)state;
    const uint64_t zero[2] = {0, 0}, key[2] = {1, 2};
    assert_true(fm_siphash13(zero, "", 0) == 0xd1fba762150c532cull);
    assert_true(fm_siphash13(zero, "abc", 3) != fm_siphash13(key, "abc", 3));
    assert_true(fm_siphash13(zero, "abc", 3) != fm_siphash13(zero, "abc\0", 4));
    enum { KEYS = 1 << 15 };
    uint64_t(*keys)[2] = calloc(KEYS, sizeof(*keys));
    struct fm_map map = {0};
    assert_non_null(keys);
    for (uint32_t i = 0; i < KEYS; i++) { // keys whose high bits would cancel in a hash that multiplies words
        keys[i][0] = (uint64_t)i << 49;
        keys[i][1] = (uint64_t)i << 49;
        assert_int_equal(fm_map_put(&map, keys[i], sizeof(keys[i]), i, NULL), FM_OK);
    }
    size_t longest = 0, run = 0;
    for (size_t i = 0; i < map.capacity; i++) {
        run = map.entries[i].key != NULL ? run + 1 : 0;
        longest = FM_MAX(longest, run);
    }
    assert_true(longest < 200); // of random hashes about 50 at two thirds full
    fm_map_finish(&map);
    free(keys);
}

// ---- halves ------------------------------------------------------------------------------------------------------

// A half's value by its definition, in double.
static double half_value(uint16_t half)
{
    int exponent = half >> 10 & 31, mantissa = half & 1023;
    double value = exponent == 0 ? ldexp(mantissa, -24) : ldexp(1024 + mantissa, exponent - 25);
    return half & 0x8000 ? -value : value;
}

static void test_half_decode(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float value = fm_half_to_float((uint16_t)h);
        if ((h & 0x7c00) != 0x7c00) {
            assert_true((double)value == half_value((uint16_t)h));
            assert_int_equal(signbit(value) != 0, h >> 15);
        } else if ((h & 0x3ff) == 0) {
            assert_true(isinf(value) && (signbit(value) != 0) == (h >> 15 != 0));
        } else {
            assert_true(isnan(value));
        }
        if (!isnan(value))
            assert_int_equal(fm_float_to_half(value), h);
        else
            assert_true(isnan(fm_half_to_float(fm_float_to_half(value))));
    }
}

static void test_half_rounding(void **state)
{
    (void)state;
    for (uint16_t h = 0; h < 0x7bff; h++) { // between each two neighbours, denormals included
        double low = half_value(h), high = half_value((uint16_t)(h + 1));
        float middle = (float)((low + high) / 2); // exact in f32
        uint16_t even = (h & 1) == 0 ? h : (uint16_t)(h + 1);
        assert_int_equal(fm_float_to_half(middle), even);
        assert_int_equal(fm_float_to_half(-middle), even | 0x8000);
        assert_int_equal(fm_float_to_half(nextafterf(middle, 0.0f)), h);
        assert_int_equal(fm_float_to_half(nextafterf(middle, 1e9f)), h + 1);
    }
    assert_int_equal(fm_float_to_half(65519.996f), 0x7bff);
    assert_int_equal(fm_float_to_half(65520.0f), 0x7c00); // a tie goes to the even one: infinity
    assert_int_equal(fm_float_to_half(1e30f), 0x7c00);
    assert_int_equal(fm_float_to_half(-INFINITY), 0xfc00);
    assert_int_equal(fm_float_to_half(1e-30f), 0);
    assert_true(isnan(fm_half_to_float(fm_float_to_half(NAN))));
}

static void test_bf16(void **state)
{
    (void)state;
    for (uint32_t b = 0; b < 65536; b++) {
        float value = fm_bf16_to_float((uint16_t)b);
        if (isnan(value))
            assert_true(isnan(fm_bf16_to_float(fm_float_to_bf16(value))));
        else
            assert_int_equal(fm_float_to_bf16(value), b);
    }
    assert_int_equal(fm_float_to_bf16(1.00390625f), 0x3f80);                  // tie: even below
    assert_int_equal(fm_float_to_bf16(1.01171875f), 0x3f82);                  // tie: even above
    assert_int_equal(fm_float_to_bf16(nextafterf(1.00390625f, 2.0f)), 0x3f81);
    assert_int_equal(fm_float_to_bf16(3.4e38f), 0x7f80);                      // rounds up to infinity
    uint32_t quiet_bits_low = 0x7f800001u; // a NaN whose payload lies in the cut half
    float nan_value;
    memcpy(&nan_value, &quiet_bits_low, sizeof(nan_value));
    assert_true(isnan(fm_bf16_to_float(fm_float_to_bf16(nan_value))));
}

// ---- files -------------------------------------------------------------------------------------------------------

// A file of 5 MB, which more than one thread reads.
static uint8_t *write_source(size_t size_bytes)
{
    uint8_t *data = malloc(size_bytes);
    assert_non_null(data);
    for (size_t i = 0; i < size_bytes; i++)
        data[i] = (uint8_t)(i * 31 >> 3);
    assert_int_equal(fm_writer_save(in_folder("data"), 0, data, size_bytes), FM_OK);
    return data;
}

static void test_source(void **state)
{
    (void)state;
    struct fm_source source = {0};
    size_t size_bytes = 5000001;
    uint8_t *data = write_source(size_bytes), *read = malloc(size_bytes);
    assert_non_null(read);
    assert_int_equal(fm_source_open(in_folder("data"), "its name", &source), FM_OK);
    assert_int_equal(source.size_bytes, size_bytes);
    assert_string_equal(source.path, "its name");
    assert_int_equal(fm_source_read(&source, 0, size_bytes, read), FM_OK);
    assert_memory_equal(read, data, size_bytes);
    assert_int_equal(fm_source_read(&source, 12345, 3, read), FM_OK);
    assert_memory_equal(read, data + 12345, 3);
    assert_int_equal(fm_source_read(&source, size_bytes, 0, read), FM_OK);
    assert_int_equal(fm_source_read(&source, size_bytes - 1, 2, read), FM_ARG);
    assert_int_equal(fm_source_read(&source, UINT64_MAX, 2, read), FM_ARG);
    assert_int_equal(fm_source_unchanged(&source), FM_OK);
    assert_int_equal(fm_writer_save(in_folder("data"), 0, "another", 7), FM_OK); // the name goes to another file
    assert_int_equal(fm_source_read(&source, 0, size_bytes, read), FM_OK);
    assert_memory_equal(read, data, size_bytes);
    assert_int_equal(fm_source_unchanged(&source), FM_OK);
    fm_source_close(&source);
    fm_source_close(&source);

    assert_int_equal(fm_source_memory(data, 100, "memory", &source), FM_OK);
    assert_int_equal(fm_source_read(&source, 50, 50, read), FM_OK);
    assert_memory_equal(read, data + 50, 50);
    assert_int_equal(fm_source_read(&source, 50, 51, read), FM_ARG);
    assert_int_equal(fm_source_unchanged(&source), FM_OK);
    fm_source_close(&source);
    free(data);
    free(read);

    assert_int_equal(fm_source_open(in_folder("absent"), "absent", &source), FM_IO);
    assert_non_null(strstr(fm_error_message(), "absent"));
    assert_int_equal(fm_source_open(folder, folder, &source), FM_IO);
    assert_non_null(strstr(fm_error_message(), "directory"));
    assert_int_equal(mkfifo(in_folder("pipe"), 0600), 0);
    assert_int_equal(fm_source_open(in_folder("pipe"), "pipe", &source), FM_IO); // and does not wait for a writer
    assert_int_equal(fm_writer_save(in_folder("empty"), 0, "", 0), FM_OK);
    assert_int_equal(fm_source_open(in_folder("empty"), "empty", &source), FM_OK);
    assert_int_equal(source.size_bytes, 0);
    fm_source_close(&source);
}

// Made shorter, longer, or written to while it is open: a message each time, in whatever slice the end lies.
static void test_source_changes(void **state)
{
    (void)state;
    struct fm_source source = {0};
    size_t size_bytes = 5000001;
    const long ends[] = {0, 1, 2000000, 2097152, 4999999, 5000000};
    uint8_t *read = malloc(size_bytes);
    assert_non_null(read);
    for (size_t i = 0; i < FM_COUNT(ends); i++) {
        char expected[128];
        free(write_source(size_bytes));
        assert_int_equal(fm_source_open(in_folder("data"), "f", &source), FM_OK);
        assert_int_equal(truncate(in_folder("data"), ends[i]), 0);
        assert_int_equal(fm_source_read(&source, 0, size_bytes, read), FM_CHANGED);
        snprintf(expected, sizeof(expected), "f: became shorter while it was read (%ld bytes, expected 5000001)", ends[i]);
        assert_string_equal(fm_error_message(), expected);
        assert_int_equal(fm_source_read(&source, size_bytes - 1, 1, read), FM_CHANGED);
        assert_int_equal(fm_source_unchanged(&source), FM_CHANGED);
        assert_string_equal(fm_error_message(), expected);
        assert_int_equal(truncate(in_folder("data"), (off_t)size_bytes), 0); // long enough again, with zeros
        struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
        assert_int_equal(utimensat(AT_FDCWD, in_folder("data"), times, 0), 0);
        assert_int_equal(fm_source_unchanged(&source), FM_CHANGED);
        assert_string_equal(fm_error_message(), "f: changed while it was read");
        fm_source_close(&source);
    }
    free(write_source(1000));
    assert_int_equal(fm_source_open(in_folder("data"), "f", &source), FM_OK);
    assert_int_equal(truncate(in_folder("data"), 1001), 0);
    assert_int_equal(fm_source_read(&source, 0, 1000, read), FM_OK);
    assert_int_equal(fm_source_unchanged(&source), FM_CHANGED);
    fm_source_close(&source);
    free(read);
}

static void test_source_whole(void **state)
{
    (void)state;
    char *data = NULL;
    size_t bytes = 0;
    assert_int_equal(fm_writer_save(in_folder("text"), 0, "words", 5), FM_OK);
    assert_int_equal(fm_source_read_whole(in_folder("text"), 5, &data, &bytes), FM_OK);
    assert_int_equal(bytes, 5);
    assert_string_equal(data, "words");
    fm_free(data);
    assert_int_equal(fm_source_read_whole(in_folder("text"), 4, &data, &bytes), FM_FORMAT);
    assert_int_equal(fm_source_read_whole(in_folder("absent"), 4, &data, &bytes), FM_IO);
    assert_int_equal(mkfifo(in_folder("pipe2"), 0600), 0);
    assert_int_equal(fm_source_read_whole(in_folder("pipe2"), 4, &data, &bytes), FM_IO); // and does not wait for a writer
}

static void test_cache_dir(void **state)
{
    (void)state;
    char path[TEST_PATH_BYTES + 256], expected[TEST_PATH_BYTES + 256];
    struct stat info;
    snprintf(expected, sizeof(expected), "%s/deep/er", folder);
    setenv("FULMEN_CACHE_DIR", expected, 1);
    assert_int_equal(fm_env_cache_dir(path, sizeof(path)), FM_OK);
    assert_string_equal(path, expected);
    assert_true(stat(path, &info) == 0 && S_ISDIR(info.st_mode));
    assert_int_equal(fm_env_cache_dir(path, sizeof(path)), FM_OK); // there already
    assert_int_equal(fm_env_cache_dir(path, 5), FM_IO);            // no room for the path

    unsetenv("FULMEN_CACHE_DIR");
    setenv("XDG_CACHE_HOME", folder, 1);
    snprintf(expected, sizeof(expected), "%s/fulmen", folder);
    assert_int_equal(fm_env_cache_dir(path, sizeof(path)), FM_OK);
    assert_string_equal(path, expected);
    assert_int_equal(fm_writer_save(in_folder("file"), 0, "x", 1), FM_OK);
    setenv("XDG_CACHE_HOME", in_folder("file"), 1); // a file where a folder is wanted
    assert_int_equal(fm_env_cache_dir(path, sizeof(path)), FM_IO);

    unsetenv("XDG_CACHE_HOME");
    setenv("HOME", folder, 1);
    snprintf(expected, sizeof(expected), "%s/.cache/fulmen", folder);
    assert_int_equal(fm_env_cache_dir(path, sizeof(path)), FM_OK);
    assert_string_equal(path, expected);
    unsetenv("HOME");
    assert_int_equal(fm_env_cache_dir(path, sizeof(path)), FM_IO);

    setenv("FULMEN_TEST_FLAG", "0", 1);
    assert_false(fm_env_flag("FULMEN_TEST_FLAG"));
    setenv("FULMEN_TEST_FLAG", "yes", 1);
    assert_true(fm_env_flag("FULMEN_TEST_FLAG"));
    assert_string_equal(fm_env_text("FULMEN_TEST_FLAG"), "yes");
    unsetenv("FULMEN_TEST_FLAG");
    assert_false(fm_env_flag("FULMEN_TEST_FLAG"));
    assert_null(fm_env_text("FULMEN_TEST_FLAG"));
}

// ---- threads and time --------------------------------------------------------------------------------------------

static void count_call(void *user, uint32_t i)
{
    _Atomic int *calls = user;
    atomic_fetch_add(&calls[i], 1);
}

static void test_thread_for(void **state)
{
    (void)state;
    enum { COUNT = 3000 };
    static _Atomic int calls[COUNT];
    const unsigned threads[] = {0, 1, 2, 7, 1000};
    for (size_t t = 0; t < FM_COUNT(threads); t++) {
        for (size_t i = 0; i < COUNT; i++)
            atomic_store(&calls[i], 0);
        fm_thread_for(threads[t], COUNT, count_call, calls);
        for (size_t i = 0; i < COUNT; i++)
            assert_int_equal(atomic_load(&calls[i]), 1);
    }
    atomic_store(&calls[0], 0);
    fm_thread_for(4, 0, count_call, calls);
    assert_int_equal(atomic_load(&calls[0]), 0);
    assert_true(fm_thread_cpus() >= 1);
}

static void test_clock(void **state)
{
    (void)state;
    // Between two readings of the clock that it promises to be.
    for (int i = 0; i < 1000; i++) {
        struct timespec before, after;
        assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &before), 0);
        uint64_t ns = fm_clock_ns();
        assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &after), 0);
        assert_true(ns >= (uint64_t)before.tv_sec * 1000000000u + (uint64_t)before.tv_nsec);
        assert_true(ns <= (uint64_t)after.tv_sec * 1000000000u + (uint64_t)after.tv_nsec);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_results),
        cmocka_unit_test(test_long_messages),
        cmocka_unit_test(test_quote),
        cmocka_unit_test(test_append),
        cmocka_unit_test(test_messages_are_per_thread),
        cmocka_unit_test(test_log),
        cmocka_unit_test(test_version),
        cmocka_unit_test(test_alloc_faults),
        cmocka_unit_test(test_array_reserve),
        cmocka_unit_test(test_checked_arithmetic),
        cmocka_unit_test(test_arena),
        cmocka_unit_test(test_map),
        cmocka_unit_test(test_map_out_of_memory),
        cmocka_unit_test(test_hash),
        cmocka_unit_test(test_keyed_hash),
        cmocka_unit_test(test_half_decode),
        cmocka_unit_test(test_half_rounding),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_source), cmocka_unit_test(test_source_changes), cmocka_unit_test(test_source_whole),
        cmocka_unit_test(test_cache_dir),
        cmocka_unit_test(test_thread_for),
        cmocka_unit_test(test_clock),
    };
    return cmocka_run_group_tests_name("base", tests, make_folder, remove_folder);
}
