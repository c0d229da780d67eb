// SPDX-License-Identifier: MIT
// Every kernel that ships is met by a problem of the kernel suite on some made-up device: none is untested, and none is there that
// nothing chooses.
#include "check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "check/choose.h"
#include "kernel/quirks.h"

// Subgroups of each size, with the matrices that kernels for it are made for; much shared memory and little; orders of matrices.
static const struct {
    uint32_t subgroup, matrix, shared_bytes, cores;
    enum fm_matrix_order order;
} devices[] = {
    {4, 8, 49152, 0, FM_MATRIX_ORDER_NONE},     {8, 8, 49152, 0, FM_MATRIX_ORDER_NONE},
    {16, 8, 32768, 0, FM_MATRIX_ORDER_NONE},    {32, 16, 49152, 132, FM_MATRIX_ORDER_NONE},
    {32, 16, 32768, 0, FM_MATRIX_ORDER_NONE},   {64, 16, 65536, 0, FM_MATRIX_ORDER_NONE},
    {128, 16, 32768, 0, FM_MATRIX_ORDER_NONE},  {32, 16, 49152, 132, FM_MATRIX_ORDER_QUADS},
    {8, 8, 49152, 0, FM_MATRIX_ORDER_LANE_K},
};

static struct fm_caps device(size_t i)
{
    struct fm_caps caps = check_caps(FM_RUNG_CMR);
    caps.subgroup_size = caps.subgroup_min = caps.subgroup_max = devices[i].subgroup;
    caps.shared_bytes = devices[i].shared_bytes;
    caps.cores = devices[i].cores;
    caps.matrix[0] = (struct fm_matrix_shape){.m = devices[i].matrix, .n = devices[i].matrix, .k = devices[i].matrix};
    caps.matrix_order = devices[i].order;
    if (caps.matrix_order == FM_MATRIX_ORDER_QUADS)
        caps.matrix[caps.n_matrix++] = (struct fm_matrix_shape){.m = 16, .n = 8, .k = 16};
    return caps;
}

static void test_every_kernel_is_met(void **state)
{
    (void)state;
    struct fm_problem *problems;
    size_t count, missing = 0;
    bool *met = calloc(fm_kernel_count, sizeof *met);
    assert_non_null(met);
    assert_int_equal(fm_problems_list(&problems, &count), FM_OK);
    for (size_t d = 0; d < FM_COUNT(devices); d++) {
        const struct fm_check_params params = {.max_rung = FM_RUNG_CMR, .quick = true};
        struct fm_check_list list;
        struct fm_caps caps = device(d);
        assert_int_equal(fm_check_list_make(&caps, &params, problems, count, &list), FM_OK);
        for (size_t i = 0; i < list.n_pairs; i++) {
            const struct fm_check_pair *pair = &list.pairs[i];
            if (!pair->kernel)
                fail_msg("%s, rung %s, subgroups of %u: no kernel", problems[pair->problem].name,
                         fm_rung_name(list.view[pair->view].rung), caps.subgroup_size);
            for (uint32_t u = 0; pair->chosen && u < pair->n_used; u++)
                met[list.used[pair->first_used + u]] = true;
        }
        fm_check_list_finish(&list);
    }
    for (size_t k = 0; k < fm_kernel_count; k++) {
        // The kernel that measures the bandwidth checks its own sums (fm_check_read_bandwidth).
        if (met[k] || fm_kernels[k].op == FM_OP_READ_SUM)
            continue;
        print_error("%s: no problem of src/check/problems*.c chooses it\n", fm_kernels[k].name);
        missing++;
    }
    fm_free(problems);
    free(met);
    assert_int_equal(missing, 0);
}

// The quick choice is a part of the whole, leaves out no kernel of it, and what any problem of a rung's kernels has of its own.
static void test_quick_choice(void **state)
{
    (void)state;
    static const char *const ops[] = {"attend", "matmul", "selective_scan"};
    struct fm_problem *problems;
    size_t count;
    struct fm_caps caps = device(1);
    bool *met = calloc(fm_kernel_count, sizeof *met);
    assert_non_null(met);
    assert_int_equal(fm_problems_list(&problems, &count), FM_OK);
    for (size_t o = 0; o < FM_COUNT(ops); o++) {
        const struct fm_check_params whole = {.op = ops[o], .max_rung = FM_RUNG_CMR};
        const struct fm_check_params quick = {.op = ops[o], .max_rung = FM_RUNG_CMR, .quick = true};
        struct fm_check_list all, some;
        uint64_t traits[FM_RUNG_COUNT] = {0}, met_traits[FM_RUNG_COUNT] = {0};
        size_t n_chosen = 0;
        memset(met, 0, fm_kernel_count * sizeof *met);
        assert_int_equal(fm_check_list_make(&caps, &whole, problems, count, &all), FM_OK);
        assert_int_equal(fm_check_list_make(&caps, &quick, problems, count, &some), FM_OK);
        assert_int_equal(all.n_pairs, some.n_pairs);
        for (size_t i = 0; i < all.n_pairs; i++) {
            const struct fm_check_pair *pair = &some.pairs[i];
            assert_true(all.pairs[i].chosen);
            assert_non_null(pair->kernel);
            traits[pair->kernel->rung] |= pair->traits;
            if (!pair->chosen)
                continue;
            n_chosen++;
            met_traits[pair->kernel->rung] |= pair->traits;
            for (uint32_t u = 0; u < pair->n_used; u++)
                met[some.used[pair->first_used + u]] = true;
        }
        for (size_t u = 0; u < all.n_used; u++)
            assert_true(met[all.used[u]]);
        assert_memory_equal(traits, met_traits, sizeof traits);
        assert_true(n_chosen > 0 && n_chosen < all.n_pairs / 2);
        fm_check_list_finish(&all);
        fm_check_list_finish(&some);
    }
    fm_free(problems);
    free(met);
}

// ---- devices of the suite ----------------------------------------------------------------------------------------

// What tests/run has: SwiftShader, without 16-bit types, and lavapipe with matrices.
static struct fm_caps software(bool with_matrices)
{
    struct fm_caps caps = check_caps(FM_RUNG_CMR);
    caps.kind = 4;
    caps.cores = 0;
    caps.shared_bytes = 32768;
    caps.quirks = FM_QUIRK_SLOW_INT_DOT | FM_QUIRK_SLOW_HALF_MATH;
    caps.subgroup_size = caps.subgroup_min = caps.subgroup_max = with_matrices ? 8 : 4;
    caps.max_invocations = with_matrices ? 1024 : 256;
    caps.matrix[0] = (struct fm_matrix_shape){.m = 8, .n = 8, .k = 8};
    if (!with_matrices) {
        caps.n_matrix = 0;
        caps.bits = FM_CAP_SUBGROUP | FM_CAP_INT_DOT | FM_CAP_VULKAN_MEMORY_MODEL;
    }
    return caps;
}

// Adds the kernels that run on a device to `met`.
static void mark_run(const struct fm_caps *caps, bool quick, bool as_is, const struct fm_problem *problems, size_t count, bool *met)
{
    const struct fm_check_params params = {.max_rung = FM_RUNG_CMR, .quick = quick, .as_is = as_is};
    struct fm_check_list list;
    assert_int_equal(fm_check_list_make(caps, &params, problems, count, &list), FM_OK);
    for (size_t i = 0; i < list.n_pairs; i++)
        for (uint32_t u = 0; list.pairs[i].chosen && u < list.pairs[i].n_used; u++)
            met[list.used[list.pairs[i].first_used + u]] = true;
    fm_check_list_finish(&list);
}

// Whatever the selector takes on a device for any problem, the quick choice of the device as it is runs.
static void test_as_is(void **state)
{
    (void)state;
    struct fm_problem *problems;
    size_t count, n_kernels = 0;
    assert_int_equal(fm_problems_list(&problems, &count), FM_OK);
    for (int with_matrices = 0; with_matrices < 2; with_matrices++) {
        const struct fm_caps caps = software(with_matrices);
        bool *met = calloc(fm_kernel_count, sizeof *met);
        assert_non_null(met);
        mark_run(&caps, true, true, problems, count, met);
        for (size_t i = 0; i < count; i++) {
            struct fm_case c;
            struct fm_want want;
            if (problems[i].bench)
                continue;
            assert_int_equal(fm_case_create(&problems[i], &c), FM_OK);
            assert_int_equal(fm_want_from_node(&c.graph, &c.graph.nodes[0], &c.dims, &caps, &want), FM_OK);
            const struct fm_kernel *kernel = fm_kernel_select(&caps, &want, NULL, NULL);
            bool others = kernel && problems[i].x_bytes != 0 && kernel->x_bytes != problems[i].x_bytes; // takes no such integers
            if (kernel && !others && !met[kernel - fm_kernels])
                fail_msg("%s is not run, which %s takes", kernel->name, problems[i].name);
            fm_case_finish(&c);
        }
        for (size_t k = 0; k < fm_kernel_count; k++)
            n_kernels += met[k];
        free(met);
    }
    assert_true(n_kernels > 400);
    fm_free(problems);
}

// What a device runs of lower rungs in the whole list, it runs in the quick choice of the device as it is, or the device that has every
// rung does: tests/run leaves these kernels to that one.
static void test_lower_rungs_run_somewhere(void **state)
{
    (void)state;
    struct fm_problem *problems;
    size_t count, n_left = 0;
    const struct fm_caps partial = software(false), complete = software(true);
    bool *whole = calloc(fm_kernel_count, sizeof *whole), *met = calloc(fm_kernel_count, sizeof *met);
    assert_true(whole && met);
    assert_int_equal(fm_problems_list(&problems, &count), FM_OK);
    mark_run(&partial, false, false, problems, count, whole);
    mark_run(&partial, true, true, problems, count, met);
    for (size_t k = 0; k < fm_kernel_count; k++)
        n_left += whole[k] && !met[k];
    assert_true(n_left > 0);
    mark_run(&complete, true, false, problems, count, met);
    for (size_t k = 0; k < fm_kernel_count; k++)
        if (whole[k] && !met[k])
            fail_msg("%s runs on neither device", fm_kernels[k].name);
    fm_free(problems);
    free(whole);
    free(met);
}

// Two parts have every chosen pair once.
static void test_parts(void **state)
{
    (void)state;
    struct fm_problem *problems;
    size_t count, n_first = 0, n_all = 0;
    struct fm_caps caps = device(1);
    struct fm_check_params params = {.op = "matmul", .max_rung = FM_RUNG_CMR, .quick = true};
    struct fm_check_list all, part[2];
    assert_int_equal(fm_problems_list(&problems, &count), FM_OK);
    assert_int_equal(fm_check_list_make(&caps, &params, problems, count, &all), FM_OK);
    params.parts = 2;
    for (; params.part < params.parts; params.part++)
        assert_int_equal(fm_check_list_make(&caps, &params, problems, count, &part[params.part]), FM_OK);
    for (size_t i = 0; i < all.n_pairs; i++) {
        assert_int_equal(all.pairs[i].chosen, part[0].pairs[i].chosen + part[1].pairs[i].chosen);
        n_all += all.pairs[i].chosen;
        n_first += part[0].pairs[i].chosen;
    }
    assert_true(n_first > n_all / 3 && n_first < n_all * 2 / 3);
    fm_check_list_finish(&all);
    fm_check_list_finish(&part[0]);
    fm_check_list_finish(&part[1]);
    fm_free(problems);
}

static struct fm_check_list views_of(struct fm_caps caps, enum fm_rung max_rung)
{
    const struct fm_check_params params = {.max_rung = max_rung};
    struct fm_check_list list;
    assert_int_equal(fm_check_list_make(&caps, &params, NULL, 0, &list), FM_OK);
    return list;
}

// A device that lacks a capability of a low rung still has the kernels above that do not need it; a slow one is seen as it is, too.
static void test_views(void **state)
{
    (void)state;
    struct fm_caps caps = device(1);
    struct fm_check_list list = views_of(caps, FM_RUNG_CMR);
    assert_int_equal(list.n_views, FM_RUNG_COUNT + 1); // one more: integer dot products without sums in f16
    assert_int_equal(list.view[FM_RUNG_COUNT].caps.bits, fm_rung_bits(FM_RUNG_DOT) & ~FM_CAP_HALF_MATH);
    caps.bits &= ~FM_CAP_INT_DOT;
    assert_int_equal(fm_caps_rung(&caps), FM_RUNG_F16);
    list = views_of(caps, FM_RUNG_CMR);
    assert_int_equal(list.n_views, FM_RUNG_COUNT - 1);
    assert_true(list.view[list.n_views - 1].caps.bits & FM_CAP_COOPMAT_REG);
    list = views_of(caps, FM_RUNG_F16);
    assert_int_equal(list.n_views, 3);
    caps.quirks = 1;
    list = views_of(caps, FM_RUNG_CMR);
    assert_int_equal(list.n_views, FM_RUNG_COUNT);
    assert_int_equal(list.view[list.n_views - 2].caps.quirks, 0);
    assert_int_equal(list.view[list.n_views - 1].caps.quirks, 1);
    const struct fm_check_params as_is = {.max_rung = FM_RUNG_CMR, .as_is = true};
    assert_int_equal(fm_check_list_make(&caps, &as_is, NULL, 0, &list), FM_OK);
    assert_int_equal(list.n_views, 1);
    assert_int_equal(list.view[0].caps.quirks, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_kernel_is_met),
        cmocka_unit_test(test_quick_choice),
        cmocka_unit_test(test_as_is),
        cmocka_unit_test(test_lower_rungs_run_somewhere),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_views),
    };
    return cmocka_run_group_tests_name("coverage", tests, NULL, NULL);
}
