// SPDX-License-Identifier: MIT
// The selector on devices that nobody here has, with a made-up kernel table.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_kernels.h"
#include "kernel/quirks.h"

static struct fm_want product(const struct fm_caps *caps, enum fm_type w, uint32_t rows, uint32_t n, uint32_t k)
{
    struct fm_want want = {.op = FM_OP_MATMUL, .x = FM_TYPE_F32, .w = w};
    want.param[FM_PARAM_ROWS] = rows;
    want.param[FM_PARAM_N] = n;
    want.param[FM_PARAM_K] = k;
    want.param[FM_PARAM_SUBGROUP] = caps->subgroup_size;
    return want;
}

static void test_table(void **state)
{
    (void)state;
    static const struct {
        const char *device;
        enum fm_type w;
        uint32_t rows, k;
        const char *kernel; // NULL: not supported
    } rows[] = {
        {"software-4", FM_TYPE_Q4_0, 1, 64, "matmul_q4_0_base"}, // subgroups of 4 are below the window of 8
        {"software-4", FM_TYPE_F16, 100, 60, "matmul_f16_base"},
        {"software-8", FM_TYPE_Q4_0, 1, 64, "matmul_one_q4_0_sg"}, // the exact one of two of equal priority
        {"software-8", FM_TYPE_Q4_0, 2, 64, "matmul_vec_q4_0_dot"},
        {"software-8", FM_TYPE_Q4_0, 9, 64, "matmul_q4_0_base"},
        {"mobile-16k", FM_TYPE_Q4_0, 1, 64, "matmul_one_q4_0_sg"}, // 128 invocations fit
        {"mobile-16k", FM_TYPE_Q4_0, 64, 64, "matmul_q4_0_base"},
        {"amd-64", FM_TYPE_Q4_0, 8, 64, "matmul_vec_q4_0_dot"},
        {"amd-64", FM_TYPE_Q4_0, 512, 64, "matmul_q4_0_base"},
        {"amd-rdna3", FM_TYPE_Q4_0, 512, 64, "matmul_tile_q4_0_cm"},
        {"amd-rdna3", FM_TYPE_Q4_0, 15, 64, "matmul_q4_0_base"},
        {"intel-8-32", FM_TYPE_Q4_0, 512, 64, "matmul_q4_0_base"}, // lists 8x16x16 only
        {"nvidia-cmr", FM_TYPE_Q4_0, 512, 64, "matmul_tile_q4_0_cmr"},
        {"nvidia-cmr", FM_TYPE_F32, 512, 64, "matmul_f32_base"},
        {"nvidia-cmr", FM_TYPE_Q6_K, 512, 256, NULL},
    };
    for (size_t i = 0; i < FM_COUNT(rows); i++) {
        struct fm_caps caps = fake_caps(rows[i].device);
        struct fm_want want = product(&caps, rows[i].w, rows[i].rows, 256, rows[i].k);
        const struct fm_kernel *kernel = fm_kernel_select(&caps, &want, NULL, NULL);
        if (rows[i].kernel == NULL ? kernel != NULL : kernel == NULL || strcmp(kernel->name, rows[i].kernel) != 0)
            fail_msg("row %zu (%s): %s, expected %s", i, rows[i].device, kernel ? kernel->name : "none",
                     rows[i].kernel ? rows[i].kernel : "none");
    }
}

// Rung by rung on one device: what the kernel tests walk through.
static void test_ladder(void **state)
{
    (void)state;
    static const char *const expected[FM_RUNG_COUNT] = {
        "matmul_q4_0_base", "matmul_q4_0_base", "matmul_q4_0_base", "matmul_q4_0_base", "matmul_tile_q4_0_cm",
        "matmul_tile_q4_0_cmr",
    };
    struct fm_caps full = fake_caps("nvidia-cmr");
    for (unsigned rung = 0; rung < FM_RUNG_COUNT; rung++) {
        struct fm_caps caps = fm_caps_mask(&full, (enum fm_rung)rung);
        struct fm_want want = product(&caps, FM_TYPE_Q4_0, 512, 4096, 4096);
        assert_string_equal(fm_kernel_select(&caps, &want, NULL, NULL)->name, expected[rung]);
    }
}

static const struct fm_candidate *candidate(const struct fm_candidate *list, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(list[i].kernel->name, name) == 0)
            return &list[i];
    fail_msg("%s is no candidate", name);
    return NULL;
}

static void expect_reason(const struct fm_caps *caps, const struct fm_want *want, const char *name, enum fm_reject reject,
                          const char *words)
{
    struct fm_candidate list[32];
    size_t count = FM_COUNT(list);
    fm_kernel_select(caps, want, list, &count);
    const struct fm_candidate *c = candidate(list, count, name);
    assert_string_equal(c->reason, words);
    assert_int_equal(c->reject, reject);
}

static void test_reasons(void **state)
{
    (void)state;
    struct fm_caps caps = fake_caps("amd-64");
    struct fm_want want = product(&caps, FM_TYPE_Q4_0, 16, 64, 64);
    expect_reason(&caps, &want, "matmul_tile_q4_0_cmr", FM_REJECT_NEEDS, "needs coopmat coopmat_reg");
    expect_reason(&caps, &want, "matmul_f16_base", FM_REJECT_FORMAT, "reads f16, not q4_0");
    expect_reason(&caps, &want, "matmul_vec_q4_0_sg", FM_REJECT_WINDOW, "rows = 16 is not in 1..8");
    expect_reason(&caps, &want, "matmul_q4_0_base", FM_REJECT_NONE, "");
    want = product(&caps, FM_TYPE_Q4_0, 3, 64, 60);
    expect_reason(&caps, &want, "matmul_vec_q4_0_sg", FM_REJECT_WINDOW, "k = 60 is no multiple of 32");
    want = product(&caps, FM_TYPE_Q4_0, 1, 64, 64);
    expect_reason(&caps, &want, "matmul_q4_0_base", FM_REJECT_SCORE, "score 10 < 21");
    expect_reason(&caps, &want, "matmul_vec_q4_0_sg", FM_REJECT_SCORE, "score 20 < 21");
    caps = fake_caps("mobile-16k");
    want = product(&caps, FM_TYPE_Q4_0, 2, 64, 64);
    expect_reason(&caps, &want, "matmul_vec_q4_0_sg", FM_REJECT_WORKGROUP, "workgroup of 256 > 128");
    caps = fake_caps("intel-8-32");
    want = product(&caps, FM_TYPE_Q4_0, 64, 64, 64);
    expect_reason(&caps, &want, "matmul_tile_q4_0_cm", FM_REJECT_MATRIX, "matrix 16x16x16 is not listed");
    caps = fake_caps("nvidia-cmr");
    caps.shared_bytes = 32768;
    expect_reason(&caps, &want, "matmul_tile_q4_0_cmr", FM_REJECT_SHARED, "shared memory: 36864 bytes > 32768");
    caps.shared_bytes = 49152;
    caps.matrix[1].k = 8;
    expect_reason(&caps, &want, "matmul_tile_q4_0_cmr", FM_REJECT_MATRIX, "matrix 16x16x64 is not listed");
}

static void test_subgroup_control(void **state)
{
    (void)state;
    struct fm_caps caps = fake_caps("intel-8-32");
    caps.subgroup_size_control = false;
    struct fm_want want = product(&caps, FM_TYPE_Q4_0, 1, 64, 64);
    expect_reason(&caps, &want, "matmul_one_q4_0_sg", FM_REJECT_WORKGROUP, "the subgroup size cannot be fixed (8..32)");
    caps.subgroup_size = 48; // no such hardware, but then 128 is no multiple of it
    caps.subgroup_size_control = true;
    expect_reason(&caps, &want, "matmul_one_q4_0_sg", FM_REJECT_WORKGROUP, "workgroup of 128 is no multiple of the subgroup of 48");
}

// "Can" and "fast" are two bits: a slow feature loses to anything that fits, and is taken when nothing else does.
static void test_slow(void **state)
{
    (void)state;
    struct fm_caps caps = fake_caps("amd-rdna3");
    struct fm_want want = product(&caps, FM_TYPE_Q4_0, 64, 64, 64);
    caps.quirks = FM_QUIRK_SLOW_COOPMAT;
    assert_string_equal(fm_kernel_select(&caps, &want, NULL, NULL)->name, "matmul_q4_0_base");
    expect_reason(&caps, &want, "matmul_tile_q4_0_cm", FM_REJECT_QUIRK, "slow on this device: score -140 < 10");
    struct fm_caps dot = fake_caps("software-8");
    want = product(&dot, FM_TYPE_Q4_0, 2, 64, 64);
    dot.quirks = FM_QUIRK_SLOW_INT_DOT;
    assert_string_equal(fm_kernel_select(&dot, &want, NULL, NULL)->name, "matmul_vec_q4_0_sg");
}

// An f16 kernel needs something that makes f16.
static void test_needs_cast(void **state)
{
    (void)state;
    struct fm_caps caps = fake_caps("amd-rdna3");
    struct fm_want want = product(&caps, FM_TYPE_Q4_0, 64, 64, 64);
    enum fm_reject reject;
    char reason[FM_REASON_BYTES];
    struct fm_kernel kernel = *fm_kernel_select(&caps, &want, NULL, NULL);
    assert_string_equal(kernel.name, "matmul_tile_q4_0_cm");
    caps.bits &= ~FM_CAP_STORAGE16;
    kernel.needs &= ~FM_CAP_STORAGE16;
    assert_false(fm_kernel_fits(&caps, &kernel, &want, &reject, reason));
    assert_int_equal(reject, FM_REJECT_FORMAT);
    assert_string_equal(reason, "takes f16 activations, and no cast kernel runs here");
    want.x = FM_TYPE_F16; // it is there already
    assert_true(fm_kernel_fits(&caps, &kernel, &want, NULL, NULL));
    kernel.op = FM_OP_NORM;
    assert_false(fm_kernel_fits(&caps, &kernel, &want, &reject, reason));
}

// The list is complete, the chosen one first, then the others by score; a short list keeps the best.
static void test_candidates(void **state)
{
    (void)state;
    struct fm_caps caps = fake_caps("nvidia-cmr");
    struct fm_want want = product(&caps, FM_TYPE_Q4_0, 2, 64, 64);
    struct fm_candidate list[32];
    size_t count = FM_COUNT(list), of_op = 0;
    const struct fm_kernel *best = fm_kernel_select(&caps, &want, list, &count);
    for (size_t i = 0; i < fm_kernel_count; i++)
        of_op += fm_kernels[i].op == FM_OP_MATMUL;
    assert_int_equal(count, of_op);
    assert_ptr_equal(list[0].kernel, best);
    assert_int_equal(list[0].reject, FM_REJECT_NONE);
    for (size_t i = 1; i < count; i++)
        assert_int_not_equal(list[i].reject, FM_REJECT_NONE);
    struct fm_candidate two[2];
    count = 2;
    assert_ptr_equal(fm_kernel_select(&caps, &want, two, &count), best);
    assert_int_equal(count, 2);
    assert_ptr_equal(two[0].kernel, best);
    assert_ptr_equal(two[1].kernel, list[1].kernel);
    want.op = FM_OP_COUNT;
    count = 2;
    assert_null(fm_kernel_select(&caps, &want, two, &count));
    assert_int_equal(count, 0);
}

static void test_tile_param(void **state)
{
    (void)state;
    struct fm_want want = {.op = FM_OP_ATTEND};
    want.param[FM_PARAM_HEADS_PER_KV] = 4;
    assert_int_equal(fm_kernel_tile(FM_TILE_PARAM | FM_PARAM_HEADS_PER_KV, &want), 4);
    assert_int_equal(fm_kernel_tile(64, &want), 64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),          cmocka_unit_test(test_ladder),     cmocka_unit_test(test_reasons),
        cmocka_unit_test(test_subgroup_control), cmocka_unit_test(test_slow),     cmocka_unit_test(test_needs_cast),
        cmocka_unit_test(test_candidates),     cmocka_unit_test(test_tile_param),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
