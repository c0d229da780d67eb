// SPDX-License-Identifier: MIT
// Lists and ranges of numbers as the tool reads them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <string.h>

#include "tools/tool.h"

static char said[512];

// In place of the tool's, which print.
int tool_bad(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(said, sizeof(said), fmt, args);
    va_end(args);
    return TOOL_BAD_INPUT;
}

int tool_fail(enum fm_result result)
{
    fail_msg("%s", fm_result_text(result));
    return TOOL_FAILED;
}

static void gives(const char *text, bool ranges, const uint32_t *want, size_t n_want)
{
    uint32_t *list = NULL;
    size_t count = 0;
    assert_int_equal((ranges ? tool_parse_ranges : tool_parse_list)(text, "-p", &list, &count), 0);
    assert_int_equal(count, n_want);
    assert_memory_equal(list, want, n_want * sizeof(*want));
    free(list);
}

#define GIVES(text, ranges, ...) \
    gives(text, ranges, (const uint32_t[]){__VA_ARGS__}, sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t))

static void is_refused(const char *text, bool ranges, const char *says)
{
    uint32_t untouched = 7, *list = &untouched;
    size_t count = 9;
    said[0] = '\0';
    assert_int_equal((ranges ? tool_parse_ranges : tool_parse_list)(text, "-p", &list, &count), TOOL_BAD_INPUT);
    assert_ptr_equal(list, &untouched);
    assert_int_equal(count, 9);
    if (strncmp(said, "-p: ", 4) != 0 || strstr(said, says) == NULL)
        fail_msg("'%s' gives '%s', expected '%s' in it", text, said, says);
}

static void test_lists(void **state)
{
    (void)state;
    for (int ranges = 0; ranges < 2; ranges++) {
        GIVES("5,17,3", ranges, 5, 17, 3);
        GIVES("0", ranges, 0);
        GIVES("4294967295", ranges, 4294967295u);
        GIVES("1, 2,  3", ranges, 1, 2, 3);
        GIVES("1,2,3,4,5,6,7,8,9,10,11", ranges, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11);
        for (size_t i = 0; i < 11; i++) {
            static const char *const bad[] = {"", ",", "1,", ",1", "1,,2", "x", "1x", "-1", "4294967296", "99999999999999999999", "1 ,2"};
            is_refused(bad[i], ranges, "is no list of whole numbers, as 5,17,3");
        }
    }
    is_refused("1-4", false, "'1-4' is no list");
}

static void test_ranges(void **state)
{
    (void)state;
    GIVES("1-4", true, 1, 2, 3, 4);
    GIVES("3-3", true, 3);
    GIVES("0-2", true, 0, 1, 2);
    GIVES("0-10+4", true, 0, 4, 8);
    GIVES("128-512+128", true, 128, 256, 384, 512);
    GIVES("1-128*2", true, 1, 2, 4, 8, 16, 32, 64, 128);
    GIVES("3-100*3", true, 3, 9, 27, 81);
    GIVES("7,1-4*2,9,2-3", true, 7, 1, 2, 4, 9, 2, 3);
    GIVES("4294967290-4294967295+5", true, 4294967290u, 4294967295u);
    GIVES("2-4294967295*65536", true, 2, 131072);
    GIVES("4294967295-4294967295*4294967295", true, 4294967295u);
}

static void test_bad_ranges(void **state)
{
    (void)state;
    static const char *const no_range[] = {"1-", "1-,2", "1-x", "1-8x2", "1-8*", "1-8+", "1-8*x", "1-8-2", "1-8*2*2", "1-8+1+1", "1--8",
                                           "1-8 ", "1-4294967296", "1-8*4294967296", "1-8+,2"};
    for (size_t i = 0; i < sizeof(no_range) / sizeof(no_range[0]); i++)
        is_refused(no_range[i], true, "is no range, expected A-B, A-B+N or A-B*F");
    is_refused("2,8-4,5", true, "the range '8-4' has nothing in it");
    is_refused("1-8+0", true, "the range '1-8+0' has no end");
    is_refused("1-8*1", true, "the range '1-8*1' has no end");
    is_refused("1-8*0", true, "the range '1-8*0' has no end");
    is_refused("0-8*2", true, "a first number of at least 1");
    is_refused("1-4294967295", true, "has more than 10000 numbers");
    is_refused("1-9999,1-2", true, "has more than 10000 numbers");
    is_refused("-8", true, "is no list of whole numbers, as 5,17,3 or 1-128*2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_lists), cmocka_unit_test(test_ranges), cmocka_unit_test(test_bad_ranges)};
    return cmocka_run_group_tests_name("lists", tests, NULL, NULL);
}
