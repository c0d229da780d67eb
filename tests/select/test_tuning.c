// SPDX-License-Identifier: MIT
// Tunings: their text form, and what they change.
#include "kernel/kernel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static enum fm_result parse(const char *text, struct fm_tuning *t)
{
    return fm_tuning_parse(text, strlen(text), "tuning.txt", t);
}

static void test_text(void **state)
{
    (void)state;
    struct fm_tuning t;
    assert_int_equal(parse("", &t), FM_OK);
    assert_memory_equal(&t, &fm_tuning_shipped, sizeof(t));
    assert_int_equal(parse("# a comment\r\n\n  ssd_part_rows=7 # and one behind\nscan_part_rows = 9\nscan_part_rows = 11", &t), FM_OK);
    assert_true(t.ssd_part_rows == 7 && t.scan_part_rows == 11 && t.linear_part_rows == fm_tuning_shipped.linear_part_rows);
    fm_tuning_finish(&t);
    static const struct {
        const char *text, *word;
    } bad[] = {
        {"ssd_part_rows = 0", "line 1: expected ssd_part_rows = NUMBER, a number from 1 to"},
        {"\n\nssd_part_rows = 7x", "line 3"},
        {"ssd_part_rows = 99999999999999999999", "line 1"},
        {"ssd_part_rows = 7 8", "line 1"},
        {"ssd_part_rows = 7 = 8", "line 1"},
        {"ssd_part_rows 7", "line 1"},
        {"ssd_part_rows =", "line 1"},
        {"= 7", "line 1: expected NAME = NUMBER"},
        {"ssd_part_row = 7", "'ssd_part_row' is no name of a tuning"},
        {"\x1b[31m = 7", "'\\x1b[31m' is no name"},
        {"priority", "priority KERNEL = NUMBER"},
        {"priority x", "priority KERNEL = NUMBER"},
        {"priority x = 1001", "from -1000 to 1000"},
        {"ssd_least_resident = 512\nssd_most_resident = 256", "ssd_least_resident = 512 is above"},
    };
    for (size_t i = 0; i < FM_COUNT(bad); i++) {
        assert_int_equal(parse(bad[i].text, &t), FM_FORMAT);
        if (strstr(fm_error_message(), bad[i].word) == NULL)
            fail_msg("'%s' does not say '%s'", fm_error_message(), bad[i].word);
    }
}

// A priority of a tuning decides between kernels that fit, and only between them.
static void test_priorities(void **state)
{
    (void)state;
    struct fm_caps caps = {.subgroup_size = 32, .subgroup_min = 32, .subgroup_max = 32, .shared_bytes = 49152, .max_invocations = 1024,
                           .max_workgroup_size = {1024, 1024, 64}, .bits = fm_rung_bits(FM_RUNG_SG)};
    struct fm_want want = {.op = FM_OP_NORM, .x = FM_TYPE_F32, .w = FM_TYPE_NONE};
    want.param[FM_PARAM_ROWS] = 1;
    want.param[FM_PARAM_N] = want.param[FM_PARAM_K] = 64;
    want.param[FM_PARAM_SUBGROUP] = 32;
    const struct fm_kernel *first = fm_kernel_select(&caps, &want, NULL, NULL), *other = NULL;
    assert_non_null(first);
    for (size_t i = 0; i < fm_kernel_count && other == NULL; i++)
        if (fm_kernels[i].op == FM_OP_NORM && &fm_kernels[i] != first && fm_kernel_fits(&caps, &fm_kernels[i], &want, NULL, NULL))
            other = &fm_kernels[i];
    assert_non_null(other);
    char text[256];
    struct fm_tuning t;
    snprintf(text, sizeof(text), "priority %s = 1000\npriority no_such_kernel = 5\npriority %s = 3\npriority %s = 4\n", other->name,
             first->name, first->name);
    assert_int_equal(parse(text, &t), FM_OK);
    assert_int_equal(t.n_priorities, 2);
    caps.tuning = &t;
    assert_ptr_equal(fm_kernel_select(&caps, &want, NULL, NULL), other);
    assert_int_equal(fm_tuning_priority(&caps, (uint32_t)(first - fm_kernels)), 4);
    caps.tuning = NULL;
    assert_ptr_equal(fm_kernel_select(&caps, &want, NULL, NULL), first);
    fm_tuning_finish(&t);
}

static void test_memory(void **state)
{
    (void)state;
    struct fm_tuning t;
    char text[256];
    snprintf(text, sizeof(text), "priority %s = 1\n", fm_kernels[0].name);
    fm_alloc_fail_at(0);
    assert_int_equal(parse(text, &t), FM_NOMEM);
    fm_alloc_fail_at(UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_text), cmocka_unit_test(test_priorities), cmocka_unit_test(test_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
