// SPDX-License-Identifier: MIT
// The kernel suite notices stores outside results: kernels with one planted (stray.comp) fail, and the message says where.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "check/check.h"
#include "stray_add_spirv.h"
#include "stray_sample_spirv.h"

enum stray { NOWHERE, BEFORE, BEHIND, ABSENT_ROW, OPERAND, STEP };

static const struct {
    enum stray stray;
    const char *words; // of the message, after the pool
} cases[] = {
    {BEFORE, "4 bytes before a result"},
    {BEHIND, "bytes behind the end of a result"},
    {ABSENT_ROW, "0 bytes behind the end of a result"},
    {OPERAND, "the state pool"},
    {STEP, "the step pool"},
};

static struct fm_vk *vk;

static int open_device(void **state)
{
    (void)state;
    enum fm_rung limit;
    enum fm_result r = fm_check_open(NULL, NULL, &vk, &limit);
    if (r)
        print_error("%s: %s\n", fm_result_text(r), fm_error_message());
    return r != FM_OK;
}

static int close_device(void **state)
{
    (void)state;
    fm_vk_close(&vk);
    return 0;
}

#define KERNEL(op_id, module)                                                                                                       \
    {.name = "stray", .op = op_id, .x = FM_TYPE_NONE, .w = FM_TYPE_NONE, .spec = {{.id = 2, .param = FM_PARAM_COUNT}}, .n_specs = 1, \
     .workgroup = 64, .tile_rows = 1, .tile_cols = 64, .split = 1, .bound_c = 1, .bound_unit = 0x1p-24, .spirv = module,            \
     .spirv_bytes = sizeof module}

// They live as long as the device, which knows pipelines by their kernel's address.
static struct fm_kernel add = KERNEL(FM_OP_ADD, stray_add_spirv), sample = KERNEL(FM_OP_SAMPLE, stray_sample_spirv);

static struct fm_check_result check(const struct fm_problem *p, enum stray stray)
{
    struct fm_kernel *kernel = p->op == FM_OP_ADD ? &add : &sample;
    struct fm_check_result result;
    kernel->spec[0].value = stray;
    enum fm_result r = fm_check_kernel(vk, p, kernel, 1, &result);
    if (r)
        fail_msg("%s: %s", fm_result_text(r), fm_error_message());
    return result;
}

// `pool`: where the results lie.
static void check_all(const struct fm_problem *p, const char *pool)
{
    struct fm_check_result result = check(p, NOWHERE);
    if (!result.passed)
        fail_msg("%s without a stray store: %s", p->name, result.message);
    for (size_t i = 0; i < FM_COUNT(cases); i++) {
        result = check(p, cases[i].stray);
        if (result.passed || !strstr(result.message, cases[i].words) || (cases[i].stray < OPERAND && !strstr(result.message, pool)))
            fail_msg("%s, stray store %d: '%s', expected '%s'", p->name, cases[i].stray, result.passed ? "passed" : result.message,
                     cases[i].words);
    }
}

static void test_rows(void **state)
{
    (void)state;
    const struct fm_problem p = {.name = "add", .op = FM_OP_ADD, .w = FM_TYPE_NONE, .bucket = 32, .rows = 9, .k = 61};
    check_all(&p, "the arena pool");
}

static void test_ids(void **state)
{
    (void)state;
    const struct fm_problem p = {.name = "sample", .op = FM_OP_SAMPLE, .w = FM_TYPE_NONE, .bucket = 4, .rows = 3, .n = 1, .ctx = 90,
                                 .slots = 3, .first_pos = 70};
    check_all(&p, "the result pool");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_ids),
    };
    return cmocka_run_group_tests_name("strays", tests, open_device, close_device);
}
