// SPDX-License-Identifier: MIT
// The arithmetic of profiles: how a group's time is shared, how dispatches are summed up, what attention reads. No device.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "run/profile.h"

static void shares(uint64_t ns, const double *work, size_t count, const uint64_t *want)
{
    uint64_t got[16], sum = 0;
    fm_vk_share_time(ns, work, count, got);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(got[i], want[i]);
        sum += got[i];
    }
    assert_int_equal(sum, ns);
}

static void test_shares(void **state)
{
    (void)state;
    shares(1000, (double[]){1, 3}, 2, (uint64_t[]){250, 750});
    shares(1000, (double[]){5}, 1, (uint64_t[]){1000});
    shares(1000, (double[]){0, 2, 0}, 3, (uint64_t[]){0, 1000, 0});
    shares(1000, (double[]){0, 0, 0, 0}, 4, (uint64_t[]){250, 250, 250, 250}); // nothing to go by
    shares(10, (double[]){1, 1, 1}, 3, (uint64_t[]){3, 4, 3});                 // whole, and no more than there is
    shares(0, (double[]){1, 2}, 2, (uint64_t[]){0, 0});
    shares(1, (double[]){1, 1, 1}, 3, (uint64_t[]){0, 1, 0});
}

static void test_shares_add_up(void **state)
{
    (void)state;
    uint32_t seed = 3;
    for (int n = 0; n < 2000; n++) {
        double work[9], all = 0;
        uint64_t got[9], sum = 0, ns = (uint64_t)n * 7919 * (uint64_t)(n % 5 ? 1 : 1000003);
        size_t count = 1 + (size_t)n % 9;
        for (size_t i = 0; i < count; i++) {
            seed = seed * 1664525u + 1013904223u;
            all += work[i] = (double)(seed >> (seed % 31));
        }
        fm_vk_share_time(ns, work, count, got);
        for (size_t i = 0; i < count; i++) {
            double exact = all > 0 ? (double)ns * work[i] / all : (double)ns / (double)count;
            assert_true((double)got[i] >= exact - 1.5 && (double)got[i] <= exact + 1.5);
            sum += got[i];
        }
        assert_int_equal(sum, ns);
    }
}

// Bytes and arithmetic both count; 32 flops are a byte.
static void test_work(void **state)
{
    (void)state;
    assert_true(fm_vk_work(1000, 0) == 1000);
    assert_true(fm_vk_work(0, 3200) == 100);
    assert_true(fm_vk_work(1000, 32) == 1001);
    const double work[] = {fm_vk_work(300, 0), fm_vk_work(100, 6400), fm_vk_work(0, 12800)};
    shares(1000, work, 3, (uint64_t[]){300, 300, 400});
}

static void test_rows(void **state)
{
    (void)state;
    const struct fm_kernel mul = {.name = "mul_a", .op = FM_OP_MATMUL}, other = {.name = "mul_b", .op = FM_OP_MATMUL},
                           norm = {.name = "norm_a", .op = FM_OP_NORM};
    const struct fm_profile_part parts[] = {
        {.kernel = &norm, .group = 0, .ns = 5, .bytes = 50},
        {.kernel = &mul, .group = 1, .ns = 30, .bytes = 300, .flops = 8},
        {.kernel = &other, .group = 1, .ns = 20, .bytes = 100, .flops = 2},
        {.kernel = &mul, .group = 1, .ns = 10, .bytes = 100, .flops = 1},
        {.kernel = &norm, .group = 2, .ns = 50, .bytes = 50},
        {.kernel = &mul, .group = 3, .ns = 40, .bytes = 7, .flops = 4},
    };
    struct fm_profile_row rows[6];
    assert_int_equal(fm_profile_rows(parts, 6, true, rows), 2);
    assert_string_equal(rows[0].op, "matmul"); // by falling time
    assert_null(rows[0].kernel);
    assert_int_equal(rows[0].ns, 100);
    assert_int_equal(rows[0].bytes, 507);
    assert_true(rows[0].flops == 15);
    assert_int_equal(rows[0].calls, 4);
    assert_int_equal(rows[0].groups, 2);
    assert_string_equal(rows[1].op, "norm");
    assert_int_equal(rows[1].ns, 55);
    assert_int_equal(rows[1].calls, 2);
    assert_int_equal(rows[1].groups, 2);
    assert_int_equal(fm_profile_rows(parts, 6, false, rows), 3);
    assert_string_equal(rows[0].kernel, "mul_a");
    assert_string_equal(rows[0].op, "matmul");
    assert_int_equal(rows[0].ns, 80);
    assert_int_equal(rows[0].calls, 3);
    assert_int_equal(rows[0].groups, 2); // one of them twice
    assert_string_equal(rows[1].kernel, "norm_a");
    assert_string_equal(rows[2].kernel, "mul_b");
    assert_int_equal(rows[2].groups, 1);
    assert_int_equal(fm_profile_rows(parts, 0, false, rows), 0);
}

// A prompt's last three tokens of seven, and a decoded one at position 9.
static void test_keys(void **state)
{
    (void)state;
    uint32_t pos[] = {4, 5, 6, 9}, segment[] = {0, 3, 1, 4, /**/ 3, 1, 0, 9};
    const struct fm_batch batch = {.n_tokens = 4, .n_segments = 2, .pos = pos, .segment = segment};
    struct fm_profile_keys keys = fm_profile_keys(&batch, 0);
    assert_true(keys.of_tokens == 5 + 6 + 7 + 10);
    assert_true(keys.of_sequences == 7 + 10);
    keys = fm_profile_keys(&batch, 4); // the first of the three sees 1 to 4, the last 3 to 6
    assert_true(keys.of_tokens == 4 * 4);
    assert_true(keys.of_sequences == 6 + 4);
    keys = fm_profile_keys(&batch, 100);
    assert_true(keys.of_tokens == 28 && keys.of_sequences == 17);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_shares), cmocka_unit_test(test_shares_add_up), cmocka_unit_test(test_work),
                                       cmocka_unit_test(test_rows), cmocka_unit_test(test_keys)};
    return cmocka_run_group_tests_name("profile", tests, NULL, NULL);
}
