// SPDX-License-Identifier: MIT
// Every Vulkan call that can fail fails once: the run ends with an error and a message, nothing is left behind (the
// leak checker looks), and the next attempt is none the worse for it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/os.h"
#include "support/temporary.h"
#include "support/vk_plan.h"

#define MINUTE_NS 60000000000ull
#define MOST_CALLS 400u

static struct vk_plan plan; // large for a stack
static uint32_t d[VK_PLAN_ELEMS];
static _Atomic uint32_t messages;

// Counts what the validation layer says, also while a device is destroyed, which fm_vk_validation_messages cannot.
static void on_log(void *user, enum fm_log_level level, const char *line)
{
    (void)user;
    (void)level;
    if (strncmp(line, "validation ", 11) == 0) {
        messages++;
        print_error("%s\n", line);
    }
}

static enum fm_result use_program(struct fm_vk *vk, struct fm_vk_program *program)
{
    uint64_t value = 0, ns = 0;
    enum fm_result err = FM_OK;
    for (uint32_t step = 0; !err && step < VK_PLAN_RING + 1; step++) {
        uint32_t entry = step % VK_PLAN_RING;
        vk_plan_step(&plan, entry, step);
        err = fm_vk_program_submit(program, entry, &value);
        if (!err)
            err = fm_vk_wait(vk, value, MINUTE_NS);
        if (!err && vk_plan_wrong_result(&plan, entry, step) != VK_PLAN_ELEMS)
            err = fm_fail(FM_ARG, "step %u: wrong result", step);
    }
    if (!err && fm_vk_caps(vk)->timestamp_ns > 0.0f)
        err = fm_vk_program_times(program, 0, &ns, NULL);
    return err;
}

static enum fm_result use_device(struct fm_vk *vk)
{
    struct fm_vk_program *program = NULL;
    enum fm_result err = vk_plan_memory(&plan, vk);
    if (err)
        return err;
    struct fm_vk_program_info info = vk_plan_info(&plan, fm_vk_caps(vk)->timestamp_ns > 0.0f);
    err = fm_vk_fill(vk, plan.memory[FM_POOL_ARENA], 0, 4096, 0);
    if (!err)
        err = fm_vk_program_create(vk, &info, &program);
    if (!err)
        err = use_program(vk, program);
    if (!err)
        err = fm_vk_download(vk, plan.memory[FM_POOL_ARENA], plan.d_offset, d, sizeof(d));
    if (!err)
        err = fm_vk_copy(vk, plan.memory[FM_POOL_ARENA], 0, plan.memory[FM_POOL_WEIGHTS], 0, 64);
    fm_vk_program_destroy(&program);
    vk_plan_memory_finish(&plan);
    return err;
}

// All there is to do with a device, once.
static enum fm_result whole_life(void)
{
    struct fm_caps caps;
    struct fm_vk *vk = NULL;
    enum fm_result err = vk_test_caps(&caps);
    if (!err)
        err = fm_vk_open(&caps, &vk);
    if (err)
        return err;
    err = use_device(vk);
    fm_vk_cache_save(vk);
    fm_vk_close(&vk);
    return err;
}

// FM_DEVICE: the device could not be described, and there is no other.
static bool expected_error(enum fm_result err)
{
    return err == FM_NOSPACE || err == FM_LOST || err == FM_NOMEM || err == FM_DEVICE;
}

static void every_vulkan_call_fails_once(void **state)
{
    (void)state;
    bool seen[FM_RESULT_COUNT] = {false};
    uint32_t failures = 0;
    for (uint32_t n = 0; n < MOST_CALLS; n++) {
        fm_vk_fail_at(n);
        enum fm_result err = whole_life();
        uint64_t calls = fm_vk_fail_at(UINT64_MAX);
        if (calls <= n) { // it came to its end before the fault
            assert_int_equal(err, FM_OK);
            print_message("%u calls, of which %u ended the run with an error\n", n, failures);
            assert_true(n > 50 && failures > 40);
            assert_true(seen[FM_NOSPACE] && seen[FM_LOST]);
            assert_int_equal(messages, 0);
            return;
        }
        failures += err != FM_OK; // the pipeline cache may fail and nobody need know
        seen[err] = true;
        if (err && (!expected_error(err) || fm_error_message()[0] == '\0'))
            fail_msg("call %u: %s: %s", n, fm_result_text(err), fm_error_message());
        for (int i = 0; i < FM_POOL_COUNT; i++)
            assert_null(plan.memory[i]);
    }
    fail_msg("still failing after %u calls", MOST_CALLS);
}

// A device whose driver fails is left out of the list, and the others stay. Only when none is left the list fails.
static void failing_device_is_left_out(void **state)
{
    (void)state;
    struct fm_caps *list = NULL;
    size_t all = 0, count;
    uint32_t left_out = 0;
    assert_int_equal(fm_vk_probe(&list, &all), FM_OK);
    fm_free(list);
    for (uint32_t n = 0; n < MOST_CALLS; n++) {
        fm_vk_fail_at(n);
        enum fm_result err = fm_vk_probe(&list, &count);
        if (fm_vk_fail_at(UINT64_MAX) <= n) {
            assert_int_equal(err, FM_OK);
            assert_int_equal(count, all);
            fm_free(list);
            assert_true(left_out >= all);
            return;
        }
        if (n < 2) { // the list of the devices itself, asked for twice
            assert_int_equal(err, FM_NOSPACE);
            continue;
        }
        assert_int_equal(err, all > 1 ? FM_OK : FM_DEVICE);
        assert_true(err != FM_OK || count == all - 1);
        if (err == FM_OK)
            fm_free(list);
        left_out++;
    }
    fail_msg("still failing after %u calls", MOST_CALLS);
}

// Every allocation of the library's own fails once.
static void every_allocation_fails_once(void **state)
{
    (void)state;
    for (uint32_t n = 0; n < MOST_CALLS; n++) {
        fm_alloc_fail_at(n);
        enum fm_result err = whole_life();
        uint64_t calls = fm_alloc_fail_at(UINT64_MAX);
        if (calls <= n) {
            assert_int_equal(err, FM_OK);
            print_message("%u allocations\n", n);
            assert_true(n > 20);
            assert_int_equal(messages, 0);
            return;
        }
        if (err && err != FM_NOMEM)
            fail_msg("allocation %u: %s: %s", n, fm_result_text(err), fm_error_message());
    }
    fail_msg("still failing after %u allocations", MOST_CALLS);
}

static void lost_stays_lost(void **state)
{
    (void)state;
    struct fm_caps caps;
    struct fm_vk *vk = NULL;
    struct fm_vk_program *program = NULL;
    struct fm_vk_memory *memory = NULL;
    uint64_t value = 0, bytes = 16;
    void *room = NULL;
    assert_int_equal(vk_test_caps(&caps), FM_OK);
    assert_int_equal(fm_vk_open(&caps, &vk), FM_OK);
    assert_int_equal(vk_plan_memory(&plan, vk), FM_OK);
    struct fm_vk_program_info info = vk_plan_info(&plan, false);
    assert_int_equal(fm_vk_program_create(vk, &info, &program), FM_OK);
    assert_int_equal(fm_vk_program_submit(program, 0, &value), FM_OK);
    fm_vk_fail_at(0);
    assert_int_equal(fm_vk_wait(vk, value, MINUTE_NS), FM_LOST);
    fm_vk_fail_at(UINT64_MAX);

    assert_int_equal(fm_vk_wait(vk, value, MINUTE_NS), FM_LOST);
    assert_true(fm_vk_reached(vk, value + 100));
    assert_int_equal(fm_vk_program_submit(program, 1, &value), FM_LOST);
    assert_int_equal(fm_vk_memory_create_single(vk, "late", FM_VK_DEVICE, 64, &memory), FM_LOST);
    assert_int_equal(fm_vk_upload(vk, plan.memory[FM_POOL_ARENA], 0, d, 16), FM_LOST);
    assert_int_equal(fm_vk_upload_finish(vk), FM_LOST);
    assert_int_equal(fm_vk_stage_reserve(vk, &bytes, &room), FM_LOST);
    assert_int_equal(fm_vk_download(vk, plan.memory[FM_POOL_ARENA], 0, d, 16), FM_LOST);
    assert_int_equal(fm_vk_fill(vk, plan.memory[FM_POOL_ARENA], 0, 16, 0), FM_LOST);
    struct fm_vk_program *other = NULL;
    assert_int_equal(fm_vk_program_create(vk, &info, &other), FM_LOST);
    assert_null(other);
    fm_vk_program_destroy(&program);
    vk_plan_memory_finish(&plan);
    fm_vk_close(&vk);
    assert_null(vk);
}

int main(void)
{
    char cache_dir[TEST_PATH_BYTES];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_vulkan_call_fails_once), // first: it is the one that makes the instance
        cmocka_unit_test(failing_device_is_left_out),
        cmocka_unit_test(every_allocation_fails_once),
        cmocka_unit_test(lost_stays_lost),
    };
    if (!test_temporary_folder("fault-vk", cache_dir) || setenv("FULMEN_CACHE_DIR", cache_dir, 1) != 0)
        return 1;
    vk_plan_init(&plan);
    fm_log_set(on_log, NULL, FM_LOG_WARN);
    int failed = cmocka_run_group_tests_name("fault_vk", tests, NULL, NULL);
    return test_remove_folder(cache_dir) ? failed : 1;
}
