// SPDX-License-Identifier: MIT
// Rungs, masking, quirks.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_kernels.h"
#include "kernel/quirks.h"

static void test_rung_names(void **state)
{
    (void)state;
    for (unsigned i = 0; i < FM_RUNG_COUNT; i++)
        assert_int_equal(fm_rung_from_name(fm_rung_name((enum fm_rung)i)), i);
    assert_int_equal(fm_rung_from_name("cm3"), FM_RUNG_COUNT);
    assert_int_equal(fm_rung_from_name(""), FM_RUNG_COUNT);
    assert_string_equal(fm_rung_name(FM_RUNG_COUNT), "unknown");
    assert_string_equal(fm_cap_name(FM_CAP_INDEX_COOPMAT_REG), "coopmat_reg");
}

// A rung holds the bits of all below it, and one missing bit anywhere below ends the climb.
static void test_rung_of_caps(void **state)
{
    (void)state;
    for (unsigned rung = 0; rung < FM_RUNG_COUNT; rung++) {
        struct fm_caps caps = {.bits = fm_rung_bits((enum fm_rung)rung)};
        assert_int_equal(fm_caps_rung(&caps), rung);
        if (rung > 0)
            assert_true((fm_rung_bits((enum fm_rung)(rung - 1)) & ~caps.bits) == 0);
    }
    struct fm_caps caps = {.bits = fm_rung_bits(FM_RUNG_CMR) & ~FM_CAP_STORAGE16};
    assert_int_equal(fm_caps_rung(&caps), FM_RUNG_SG);
    caps.bits = fm_rung_bits(FM_RUNG_CMR) & ~FM_CAP_SUBGROUP;
    assert_int_equal(fm_caps_rung(&caps), FM_RUNG_BASE);
}

static void test_mask(void **state)
{
    (void)state;
    struct fm_caps full = fake_caps("nvidia-cmr");
    for (unsigned rung = 0; rung < FM_RUNG_COUNT; rung++) {
        struct fm_caps masked = fm_caps_mask(&full, (enum fm_rung)rung);
        assert_int_equal(fm_caps_rung(&masked), rung);
        assert_int_equal(masked.n_matrix, rung < FM_RUNG_CM ? 0 : 2);
        assert_int_equal(masked.shared_bytes, full.shared_bytes);
    }
    struct fm_caps small = fake_caps("software-4"), masked = fm_caps_mask(&small, FM_RUNG_CMR);
    assert_int_equal(masked.bits, small.bits); // masking gives nothing
}

static void test_quirks(void **state)
{
    (void)state;
    struct fm_caps none = fake_caps("nvidia-cmr"), caps = none;
    fm_caps_apply_quirks(&caps);
    assert_memory_equal(&caps, &none, sizeof(caps));

    caps = fake_caps("amd-rdna3");
    caps.driver_id = 14;
    fm_caps_apply_quirks(&caps);
    assert_int_equal(fm_caps_rung(&caps), FM_RUNG_BASE);
    assert_true(caps.bits & FM_CAP_FLOAT16);

    caps = fake_caps("intel-8-32");
    fm_caps_apply_quirks(&caps);
    assert_true(caps.bits & FM_CAP_COOPMAT); // can ...
    assert_true(fm_quirks_slow_bits(caps.quirks) & FM_CAP_COOPMAT); // ... but slowly
    caps = fake_caps("intel-8-32");
    caps.driver_id = 5;
    caps.subgroup_min = 16;
    fm_caps_apply_quirks(&caps);
    assert_false(caps.bits & FM_CAP_COOPMAT);
    assert_int_equal(caps.quirks, 0);
    assert_int_equal(fm_quirks_slow_bits(0), 0);
    assert_int_equal(fm_quirks_slow_bits(FM_QUIRK_SLOW_HALF_MATH), FM_CAP_HALF_MATH); // halves are loaded and stored all the same
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rung_names),
        cmocka_unit_test(test_rung_of_caps),
        cmocka_unit_test(test_mask),
        cmocka_unit_test(test_quirks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
