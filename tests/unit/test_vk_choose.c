// SPDX-License-Identifier: MIT
// fm_vk_choose: from what a user wrote to a device. Needs no device.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "vk/vk.h"

static struct fm_caps devices[5];

static void add(size_t i, const char *name, uint8_t kind, uint64_t gigabytes)
{
    snprintf(devices[i].name, sizeof(devices[i].name), "%s", name);
    devices[i].kind = kind;
    devices[i].device_bytes = gigabytes << 30;
    for (int b = 0; b < 16; b++)
        devices[i].uuid[b] = (uint8_t)(0xa0 + 16 * i + (size_t)b);
}

static int set_up(void **state)
{
    (void)state;
    add(0, "Software Rasterizer", 4, 512);
    add(1, "Little 4090 Card", 2, 24);
    add(2, "Big Card", 2, 80);
    add(3, "Built-in Graphics", 1, 256);
    add(4, "Big Card", 2, 80);
    return 0;
}

static size_t choose(size_t count, const char *selector)
{
    size_t index = SIZE_MAX;
    return fm_vk_choose(devices, count, selector, &index) == FM_OK ? index : SIZE_MAX;
}

static void default_is_discrete_with_most_memory(void **state)
{
    (void)state;
    assert_int_equal(choose(5, NULL), 2);
    assert_int_equal(choose(5, ""), 2);
    assert_int_equal(choose(2, NULL), 1);
    assert_int_equal(choose(1, NULL), 0);
    devices[1].kind = devices[2].kind = devices[4].kind = 4;
    assert_int_equal(choose(5, NULL), 3);
    set_up(NULL);
}

static void by_index(void **state)
{
    (void)state;
    assert_int_equal(choose(5, "0"), 0);
    assert_int_equal(choose(5, "4"), 4);
    assert_int_equal(choose(5, "5"), SIZE_MAX);
    assert_int_equal(choose(5, "-1"), SIZE_MAX);
    assert_int_equal(choose(5, "99999999999999999999999"), SIZE_MAX);
}

static void by_name(void **state)
{
    (void)state;
    assert_int_equal(choose(5, "software"), 0);
    assert_int_equal(choose(5, "LITTLE"), 1);
    assert_int_equal(choose(5, "4090"), 1);
    assert_int_equal(choose(5, "card"), 2);
    assert_int_equal(choose(5, "in graph"), 3);
    assert_int_equal(choose(5, "Big Card II"), SIZE_MAX);
}

static void by_uuid(void **state)
{
    (void)state;
    assert_int_equal(choose(5, "e0e1e2e3-e4e5-e6e7-e8e9-eaebecedeeef"), 4);
    assert_int_equal(choose(5, "B0B1B2B3B4B5B6B7B8B9BABBBCBDBEBF"), 1);
    assert_int_equal(choose(5, "b0b1b2b3b4b5b6b7b8b9babbbcbdbe"), SIZE_MAX);
    assert_int_equal(choose(5, "b0b1b2b3b4b5b6b7b8b9babbbcbdbebfb0"), SIZE_MAX);
}

static void no_match_lists_devices(void **state)
{
    (void)state;
    size_t index = 7;
    assert_int_equal(fm_vk_choose(devices, 5, "nonesuch", &index), FM_DEVICE);
    assert_int_equal(index, 7);
    assert_non_null(strstr(fm_error_message(), "nonesuch"));
    assert_non_null(strstr(fm_error_message(), "3: Built-in Graphics"));
    assert_int_equal(fm_vk_choose(devices, 0, NULL, &index), FM_DEVICE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(default_is_discrete_with_most_memory),
        cmocka_unit_test(by_index),
        cmocka_unit_test(by_name),
        cmocka_unit_test(by_uuid),
        cmocka_unit_test(no_match_lists_devices),
    };
    return cmocka_run_group_tests_name("vk_choose", tests, set_up, NULL);
}
