// SPDX-License-Identifier: MIT
// What a session will need, without a device: every bucket's plan fits the memory that is asked for, and sequences that decode
// together meet no kernel that is made for a prompt.
#include "check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "run/run.h"

static const char *const shapes[] = {"llama-1b", "transnormer-1b", "mamba-130m", "mamba2-130m"};

static struct fm_model *open_shape(const char *name, const char *type)
{
    struct fm_model *model = NULL;
    if (fm_model_open_shape(name, type, &model) != FM_OK)
        fail_msg("%s: %s", name, fm_error_message());
    return model;
}

static void make(const struct fm_model *model, const struct fm_caps *caps, uint32_t n_slots, struct fm_blueprint *out)
{
    const struct fm_session_params params = {.n_ctx = 256, .n_slots = n_slots, .n_ubatch = 256, .n_rollback = 3};
    if (fm_blueprint_make(model, caps, &params, out) != FM_OK)
        fail_msg("%s: %s", model->arch->name, fm_error_message());
}

static struct fm_caps caps_of(enum fm_rung rung)
{
    struct fm_caps caps = check_caps(rung);
    caps.max_alloc_bytes = 1ull << 40;
    return caps;
}

static void test_memory_of_every_bucket(void **state)
{
    (void)state;
    for (unsigned s = 0; s < FM_COUNT(shapes); s++) {
        struct fm_model *model = open_shape(shapes[s], "q8_0");
        struct fm_caps caps = caps_of(s % 2 ? FM_RUNG_SG : FM_RUNG_CM);
        struct fm_blueprint b;
        make(model, &caps, 20, &b);
        uint64_t largest = 0;
        for (uint32_t rows = 1; rows <= 256; rows += 1 + rows / 8)
            for (uint32_t run = (rows + 19) / 20; run <= rows; run = run * 2 + 1) {
                struct fm_planned_step planned;
                struct fm_step_size bucket = fm_bucket_of(&b.buckets, (struct fm_step_size){.rows = rows, .run = run});
                assert_int_equal(fm_blueprint_plan(&b, &caps, bucket, false, &planned), FM_OK);
                assert_true(planned.plan.arena_bytes <= b.arena_bytes && planned.plan.step.bytes <= b.step_stride &&
                            planned.plan.result_bytes <= b.result_stride);
                largest = FM_MAX(largest, planned.plan.arena_bytes);
                fm_planned_step_finish(&planned);
            }
        assert_true(largest > 0 && b.arena_bytes < 2 * largest); // no more than is needed, nearly
        fm_blueprint_finish(&b);
        fm_model_close(&model);
    }
}

// Ops whose kernels look at how many rows one sequence has.
static bool has_run(enum fm_op op)
{
    switch (op) {
    case FM_OP_ATTEND: case FM_OP_ROPE_ATTEND: case FM_OP_LINEAR_ATTEND: case FM_OP_LINEAR_STATES: case FM_OP_SELECTIVE_SCAN:
    case FM_OP_SCAN_STATES: case FM_OP_SSD: case FM_OP_SSD_GATE: case FM_OP_SSD_STATES:
        return true;
    default:
        return false;
    }
}

// The first dispatch of such an op; its kernel is for few rows of a sequence.
static const struct fm_kernel *mixer(const struct fm_plan *plan, uint32_t run)
{
    const struct fm_kernel *first = NULL;
    for (size_t i = 0; i < plan->n_dispatches; i++) {
        const struct fm_kernel *kernel = plan->dispatches[i].kernel;
        if (!has_run(kernel->op))
            continue;
        first = first != NULL ? first : kernel;
        for (unsigned w = 0; w < kernel->n_windows; w++)
            if (kernel->window[w].param == FM_PARAM_RUN && kernel->window[w].min > run)
                fail_msg("%s: %s is for prompts", plan->dispatches[i].name, kernel->name);
        if (strstr(plan->dispatches[i].name, "/states") != NULL)
            fail_msg("%s: a part of few rows is cut", plan->dispatches[i].name);
    }
    assert_non_null(first);
    return first;
}

static void test_decoding_together(void **state)
{
    (void)state;
    for (unsigned s = 0; s < FM_COUNT(shapes); s++)
        for (unsigned rung = 0; rung < FM_RUNG_COUNT; rung++) {
            struct fm_model *model = open_shape(shapes[s], "f16");
            struct fm_caps caps = caps_of((enum fm_rung)rung);
            struct fm_blueprint b;
            make(model, &caps, 32, &b);
            const struct fm_kernel *kernel[4];
            static const struct fm_step_size steps[4] = {{8, 1}, {9, 1}, {32, 1}, {32, 32}};
            for (unsigned i = 0; i < 4; i++) {
                struct fm_planned_step planned;
                assert_int_equal(fm_blueprint_plan(&b, &caps, fm_bucket_of(&b.buckets, steps[i]), false, &planned), FM_OK);
                kernel[i] = mixer(&planned.plan, steps[i].run);
                const char *fault = check_plan(&planned.graph, &planned.plan, &b.layout);
                if (fault != NULL)
                    fail_msg("%s: %s", shapes[s], fault);
                fm_planned_step_finish(&planned);
            }
            assert_ptr_equal(kernel[0], kernel[1]);
            assert_ptr_equal(kernel[0], kernel[2]);
            if (rung >= FM_RUNG_CM) // where there is one for prompts of every family
                assert_ptr_not_equal(kernel[2], kernel[3]);
            fm_blueprint_finish(&b);
            fm_model_close(&model);
        }
}

// What the products of a step of `rows` rows of layer 0 of llama-1b see; dispatches that make integers of activations.
static uint32_t bytes_of_products(const struct fm_model *model, const struct fm_caps *caps, const char *activations, uint32_t rows,
                                  uint32_t *out_casts)
{
    const struct fm_session_params params = {.n_ctx = 256, .n_ubatch = 256, .activations = activations};
    struct fm_blueprint b;
    struct fm_planned_step planned;
    uint32_t bytes = FM_NONE, casts = 0;
    assert_int_equal(fm_blueprint_make(model, caps, &params, &b), FM_OK);
    const struct fm_step_size bucket = fm_bucket_of(&b.buckets, (struct fm_step_size){.rows = rows, .run = rows});
    assert_int_equal(fm_blueprint_plan(&b, caps, bucket, false, &planned), FM_OK);
    for (size_t i = 0; i < planned.plan.n_dispatches; i++) {
        const struct fm_dispatch *d = &planned.plan.dispatches[i];
        if (strncmp(d->name, "blk.0.", 6) != 0)
            continue;
        casts += d->kernel->op == FM_OP_CAST_INT;
        if (d->kernel->op != FM_OP_MATMUL && d->kernel->op != FM_OP_MATMUL_ADD && d->kernel->op != FM_OP_MATMUL_GLU)
            continue;
        assert_true(bytes == FM_NONE || bytes == d->kernel->x_bytes);
        bytes = d->kernel->x_bytes;
    }
    const char *fault = check_plan(&planned.graph, &planned.plan, &b.layout);
    if (fault != NULL)
        fail_msg("%s: %s", activations ? activations : "auto", fault);
    fm_planned_step_finish(&planned);
    fm_blueprint_finish(&b);
    *out_casts = casts;
    return bytes;
}

// Integers of 16 bits where there are no sums in f16, of 8 bits only for who asks, neither where there are matrix units. The products of
// one input share them.
static void test_activations(void **state)
{
    (void)state;
    struct fm_model *model = open_shape("llama-1b", "q4_0");
    struct fm_caps dot = caps_of(FM_RUNG_DOT), no_half = dot, matrices = caps_of(FM_RUNG_CM);
    no_half.bits &= ~FM_CAP_HALF_MATH;
    uint32_t casts;
    for (uint32_t rows = 32; rows <= 256; rows *= 2) {
        assert_int_equal(bytes_of_products(model, &no_half, NULL, rows, &casts), 2);
        assert_int_equal(casts, 4); // before q, k and v, the output, gate and up, down
        assert_int_equal(bytes_of_products(model, &no_half, "auto", rows, &casts), 2);
        assert_int_equal(bytes_of_products(model, &no_half, "q8", rows, &casts), 1);
        assert_int_equal(casts, 4);
        assert_int_equal(bytes_of_products(model, &dot, "auto", rows, &casts), 0);
        assert_int_equal(bytes_of_products(model, &dot, "q8", rows, &casts), 1);
        assert_int_equal(bytes_of_products(model, &matrices, "q8", rows, &casts), 0);
        assert_int_equal(casts, 0);
    }
    const struct fm_session_params wrong = {.activations = "q4"};
    struct fm_blueprint b;
    assert_int_equal(fm_blueprint_make(model, &dot, &wrong, &b), FM_ARG);
    assert_non_null(strstr(fm_error_message(), "activations 'q4', expected auto or q8"));
    fm_model_close(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_of_every_bucket),
        cmocka_unit_test(test_decoding_together),
        cmocka_unit_test(test_activations),
    };
    return cmocka_run_group_tests_name("blueprint", tests, NULL, NULL);
}
