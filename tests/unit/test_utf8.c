// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/utf8.h"
#include "text/utf8_stream.h"

static void expect(const char *text, size_t text_bytes, enum fm_utf8_state state, size_t length)
{
    size_t bytes = 99;
    assert_int_equal(fm_utf8_next(text, text_bytes, &bytes), state);
    assert_int_equal(bytes, length);
}

static void test_next_takes_whole_characters(void **state)
{
    (void)state;
    expect("a", 1, FM_UTF8_CHAR, 1);
    expect("\0", 1, FM_UTF8_CHAR, 1);
    expect("\xC2\x80", 2, FM_UTF8_CHAR, 2);
    expect("\xDF\xBFx", 3, FM_UTF8_CHAR, 2);
    expect("\xE0\xA0\x80", 3, FM_UTF8_CHAR, 3);
    expect("\xED\x9F\xBF", 3, FM_UTF8_CHAR, 3);
    expect("\xEE\x80\x80", 3, FM_UTF8_CHAR, 3);
    expect("\xF0\x90\x80\x80", 4, FM_UTF8_CHAR, 4);
    expect("\xF4\x8F\xBF\xBF", 4, FM_UTF8_CHAR, 4);
}

static void test_next_refuses_broken_ones(void **state)
{
    (void)state;
    expect("\x80", 1, FM_UTF8_INVALID, 1);
    expect("\xC0\x80", 2, FM_UTF8_INVALID, 1);         // overlong
    expect("\xC1\xBF", 2, FM_UTF8_INVALID, 1);         // overlong
    expect("\xE0\x9F\xBF", 3, FM_UTF8_INVALID, 1);     // overlong
    expect("\xF0\x8F\xBF\xBF", 4, FM_UTF8_INVALID, 1); // overlong
    expect("\xED\xA0\x80", 3, FM_UTF8_INVALID, 1);     // surrogate
    expect("\xF4\x90\x80\x80", 4, FM_UTF8_INVALID, 1); // past U+10FFFF
    expect("\xF5\x80\x80\x80", 4, FM_UTF8_INVALID, 1);
    expect("\xFF", 1, FM_UTF8_INVALID, 1);
    expect("\xE2\x82x", 3, FM_UTF8_INVALID, 2); // maximal subpart
    expect("\xF0\x9F\x98x", 4, FM_UTF8_INVALID, 3);
}

static void test_next_tells_incomplete(void **state)
{
    (void)state;
    expect("\xE2", 1, FM_UTF8_INCOMPLETE, 1);
    expect("\xE2\x82", 2, FM_UTF8_INCOMPLETE, 2);
    expect("\xF0\x9F\x98", 3, FM_UTF8_INCOMPLETE, 3);
}

static void test_valid_prefix(void **state)
{
    (void)state;
    assert_int_equal(fm_utf8_valid_prefix("", 0), 0);
    assert_int_equal(fm_utf8_valid_prefix("a\xC3\xA9z", 4), 4);
    assert_int_equal(fm_utf8_valid_prefix("a\xC3\xA9\xFFz", 5), 3);
    assert_int_equal(fm_utf8_valid_prefix("ab\xE2\x82", 4), 2);
}

// Feeds the bytes one by one, writes what comes out after each as "out|", and the end.
static void stream(const char *bytes, size_t count, char *out_log)
{
    struct fm_utf8_stream s = {0};
    for (size_t i = 0; i < count; i++) {
        char out[FM_UTF8_FEED_BYTES];
        size_t n = fm_utf8_stream_feed(&s, bytes[i], out);
        memcpy(out_log, out, n);
        out_log += n;
        *out_log++ = '|';
    }
    char out[4];
    size_t n = fm_utf8_stream_end(&s, out);
    memcpy(out_log, out, n);
    out_log[n] = '\0';
    assert_int_equal(fm_utf8_stream_end(&s, out), 0);
}

static void test_stream_holds_back_parts(void **state)
{
    (void)state;
    char log[128];
    stream("a\xE2\x82\xAC\xF0\x9F\x98\x80", 8, log);
    assert_string_equal(log, "a|||\xE2\x82\xAC||||\xF0\x9F\x98\x80|");
}

static void test_stream_replaces_broken_bytes(void **state)
{
    (void)state;
    char log[128];
    stream("\xFF\xE2\x82zq", 5, log);
    assert_string_equal(log, "\xEF\xBF\xBD|||\xEF\xBF\xBDz|q|");
    stream("x\xF0\x9F\x98", 4, log); // cut off at the end: one replacement for the whole subpart
    assert_string_equal(log, "x||||\xEF\xBF\xBD");
    stream("\xE2\xE2\x82\xAC", 4, log); // a new character breaks into an open one
    assert_string_equal(log, "|\xEF\xBF\xBD||\xE2\x82\xAC|");
    stream("\xF0\x90\xFF", 3, log);
    assert_string_equal(log, "||\xEF\xBF\xBD\xEF\xBF\xBD|");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_next_takes_whole_characters), cmocka_unit_test(test_next_refuses_broken_ones),
        cmocka_unit_test(test_next_tells_incomplete),       cmocka_unit_test(test_valid_prefix),
        cmocka_unit_test(test_stream_holds_back_parts),     cmocka_unit_test(test_stream_replaces_broken_bytes),
    };
    return cmocka_run_group_tests_name("utf8", tests, NULL, NULL);
}
