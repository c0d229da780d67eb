// SPDX-License-Identifier: MIT
// Plans of whole models with the kernels that ship: every built-in shape, every rung, buckets from 1 to 512.
#include "check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "models/arch.h"

static void build_shape(const struct fm_shape *shape, enum fm_type type, struct fm_graph *out)
{
    const struct fm_arch *arch = fm_arch_find(shape->arch, strlen(shape->arch));
    assert_non_null(arch);
    struct fm_graph_options options = {.kv_type = {FM_TYPE_F16, FM_TYPE_F16}, .random_type = type};
    if (fm_arch_build(arch, &shape->config, NULL, &options, out) != FM_OK)
        fail_msg("%s: %s", shape->name, fm_error_message());
}

struct made {
    struct fm_graph graph;
    struct fm_layout layout;
    struct fm_plan plan;
};

static struct made make(const struct fm_shape *shape, enum fm_type type, const struct fm_caps *caps, uint32_t tokens)
{
    enum fm_rung rung = fm_caps_rung(caps);
    struct fm_dims dims = {.t = tokens, .o = 1, .s = 1, .l = 4096};
    struct made m = {0};
    build_shape(shape, type, &m.graph);
    if (fm_layout_create(&m.graph, caps, &dims, 0, &m.layout) != FM_OK)
        fail_msg("%s: layout: %s", shape->name, fm_error_message());
    if (fm_plan_create(&m.graph, &m.layout, caps, &dims, NULL, &m.plan) != FM_OK)
        fail_msg("%s %s at %s, %u tokens: %s", shape->name, fm_type_info(type)->name, fm_rung_name(rung), tokens,
                 fm_error_message());
    const char *fault = check_plan(&m.graph, &m.plan, &m.layout);
    if (fault)
        fail_msg("%s %s at %s, %u tokens: %s", shape->name, fm_type_info(type)->name, fm_rung_name(rung), tokens, fault);
    return m;
}

static void unmake(struct made *m)
{
    fm_plan_finish(&m->plan);
    fm_layout_finish(&m->layout);
    fm_graph_finish(&m->graph);
}

static void plan_on(const struct fm_shape *shape, enum fm_type type, struct fm_caps caps, uint32_t tokens)
{
    struct made m = make(shape, type, &caps, tokens);
    assert_int_equal(m.plan.logits.pool, FM_POOL_ARENA);
    assert_int_equal(m.plan.ids.pool, FM_POOL_RESULT);
    const char *show = getenv("FM_SHOW_PLAN");
    if (show && strcmp(show, shape->name) == 0) {
        char *text;
        assert_int_equal(fm_plan_print(&m.graph, &m.plan, &text), FM_OK);
        printf("%s %s\n%s", shape->name, fm_rung_name(fm_caps_rung(&caps)), text);
        fm_free(text);
    }
    unmake(&m);
}

static void plan_one(const struct fm_shape *shape, enum fm_type type, enum fm_rung rung, uint32_t tokens)
{
    plan_on(shape, type, check_caps(rung), tokens);
}

static void test_every_shape(void **state)
{
    (void)state;
    for (const struct fm_shape *shape = fm_shapes; shape->name; shape++)
        for (unsigned rung = 0; rung < FM_RUNG_COUNT; rung++)
            plan_one(shape, FM_TYPE_F16, (enum fm_rung)rung, 1);
}

static void test_every_bucket(void **state)
{
    (void)state;
    static const uint32_t buckets[] = {1, 2, 4, 8, 32, 128, 512};
    for (unsigned i = 0; i < FM_COUNT(buckets); i++)
        for (unsigned rung = 0; rung < FM_RUNG_COUNT; rung++)
            plan_one(fm_shape_find("llama-1b"), FM_TYPE_Q8_0, (enum fm_rung)rung, buckets[i]);
}

static void test_every_format(void **state)
{
    (void)state;
    for (unsigned type = 0; type < FM_TYPE_COUNT; type++)
        if (fm_type_info((enum fm_type)type)->is_weight)
            for (unsigned rung = 0; rung < FM_RUNG_COUNT; rung++)
                for (uint32_t tokens = 1; tokens <= 32; tokens += 31)
                    plan_one(fm_shape_find("llama-1b"), (enum fm_type)type, (enum fm_rung)rung, tokens);
}

// The least that Vulkan 1.3 asks of a device: workgroups of 128, 16 KiB of shared memory.
static void test_smallest_device(void **state)
{
    (void)state;
    struct fm_caps caps = check_caps(FM_RUNG_BASE);
    caps.shared_bytes = 16384;
    caps.max_invocations = caps.max_workgroup_size[0] = caps.max_workgroup_size[1] = 128;
    caps.cores = 0;
    for (unsigned type = 0; type < FM_TYPE_COUNT; type++)
        if (fm_type_info((enum fm_type)type)->is_weight)
            for (uint32_t tokens = 1; tokens <= 512; tokens *= 2)
                plan_on(fm_shape_find("llama-1b"), (enum fm_type)type, caps, tokens);
    plan_on(fm_shape_find("gpt2-124m"), FM_TYPE_F16, caps, 1);
    plan_on(fm_shape_find("qwen2-0.5b"), FM_TYPE_Q8_0, caps, 7);
}

// 80 heads on 132 cores: whole waves of workgroups where there are rows enough, parts of 128 where there are few, none where the
// device is full without.
static void test_parts_of_ssd(void **state)
{
    (void)state;
    static const struct {
        uint32_t tokens, cores, parts;
    } rows[] = {{128, 132, 1}, {512, 132, 4}, {2048, 132, 4}, {8192, 132, 13}, {32768, 132, 19}, {8192, 4, 1}, {512, 0, 1}};
    for (unsigned i = 0; i < FM_COUNT(rows); i++) {
        struct fm_caps caps = check_caps(FM_RUNG_CM);
        caps.cores = rows[i].cores;
        caps.max_alloc_bytes = 1ull << 40;
        struct made m = make(fm_shape_find("mamba2-2.7b"), FM_TYPE_F16, &caps, rows[i].tokens);
        uint32_t parts = 1;
        for (uint32_t d = 0; d < m.plan.n_dispatches; d++)
            if (strcmp(m.plan.dispatches[d].name, "blk.0.ssm_ssd/states") == 0)
                parts = m.plan.dispatches[d].grid[1];
        assert_int_equal(parts, rows[i].parts);
        unmake(&m);
    }
}

static uint32_t count_op(const struct fm_plan *plan, enum fm_op op)
{
    uint32_t n = 0;
    for (uint32_t d = 0; d < plan->n_dispatches; d++)
        n += plan->dispatches[d].kernel->op == op;
    return n;
}

// Norms of few rows go into the products behind them where kernels of matrix units do that and rows of weights are short enough
// (norm_fold_few_row_bytes). Where a single row's do so too (norm_fold_row_bytes), that takes the last layer's two, which have one row.
static void test_norms_of_few_rows(void **state)
{
    (void)state;
    static const struct {
        const char *shape;
        enum fm_type type;
        uint32_t tokens, apart, quads; // norms that stay: without such kernels, with them
    } rows[] = {{"llama-1b", FM_TYPE_F16, 2, 31, 0},   {"llama-1b", FM_TYPE_F16, 16, 31, 0},  {"llama-1b", FM_TYPE_F16, 17, 31, 31},
                {"llama-8b", FM_TYPE_F16, 5, 65, 65},  {"llama-8b", FM_TYPE_F32, 8, 65, 65},  {"llama-8b", FM_TYPE_Q4_0, 2, 63, 63},
                {"llama-8b", FM_TYPE_Q4_0, 5, 63, 63}, {"llama-8b", FM_TYPE_Q4_0, 9, 63, 0}};
    for (unsigned i = 0; i < FM_COUNT(rows); i++)
        for (int quads = 0; quads < 2; quads++) {
            struct fm_caps caps = check_caps(FM_RUNG_CM);
            if (quads) {
                caps.matrix[caps.n_matrix++] = (struct fm_matrix_shape){.m = 16, .n = 8, .k = 16};
                caps.matrix_order = FM_MATRIX_ORDER_QUADS;
            }
            struct made m = make(fm_shape_find(rows[i].shape), rows[i].type, &caps, rows[i].tokens);
            assert_int_equal(count_op(&m.plan, FM_OP_NORM), quads ? rows[i].quads : rows[i].apart);
            unmake(&m);
        }
}

// Prompts on matrix units, and in packed f16: whatever products, attention and recurrences take as f16 comes as f16 from its producer.
// But for what products with one weight make on matrix units, which is f32 (shaders/matmul/cm.comp says why): keys and values of
// TransNormer (v of the last layer has few rows), and what Mamba makes its steps of.
static void test_prompts_without_casts(void **state)
{
    (void)state;
    static const struct { const char *name; uint32_t casts; } shapes[] = {
        {"llama-8b", 0}, {"qwen2-0.5b", 0}, {"gpt2-124m", 0}, {"transnormer-7b", 59}, {"mamba-2.8b", 64}, {"mamba2-2.7b", 0}};
    static const enum fm_rung rungs[] = {FM_RUNG_F16, FM_RUNG_CM, FM_RUNG_CMR};
    for (size_t s = 0; s < FM_COUNT(shapes); s++)
        for (size_t r = 0; r < FM_COUNT(rungs); r++)
            for (uint32_t tokens = 64; tokens <= 512; tokens *= 8) {
                struct fm_caps caps = check_caps(rungs[r]);
                struct made m = make(fm_shape_find(shapes[s].name), FM_TYPE_Q8_0, &caps, tokens);
                uint32_t casts = rungs[r] == FM_RUNG_F16 ? 0 : shapes[s].casts;
                if (count_op(&m.plan, FM_OP_CAST) != casts)
                    fail_msg("%s, rung %s, %u tokens: %u casts", shapes[s].name, fm_rung_name(rungs[r]), tokens,
                             count_op(&m.plan, FM_OP_CAST));
                unmake(&m);
            }
}

static void test_weights_of_8b(void **state)
{
    (void)state;
    struct fm_caps caps = check_caps(FM_RUNG_SG);
    struct fm_dims dims = {.t = 1, .o = 1, .s = 2, .l = 1024};
    struct fm_graph graph = {0};
    struct fm_layout layout;
    build_shape(fm_shape_find("llama-8b"), FM_TYPE_F16, &graph);
    assert_int_equal(fm_layout_create(&graph, &caps, &dims, 0, &layout), FM_OK);
    // 8.03e9 parameters of 2 bytes; a state of 2 slots, 1024 positions, 32 layers, 8 heads of 128, keys and values of 2
    // bytes
    assert_true(layout.pool[FM_POOL_WEIGHTS].total_bytes > 16.05e9 && layout.pool[FM_POOL_WEIGHTS].total_bytes < 16.08e9);
    uint64_t cache = 2ull * 1024 * 32 * 8 * 128 * 2 * 2;
    assert_true(layout.pool[FM_POOL_STATE].total_bytes >= cache && layout.pool[FM_POOL_STATE].total_bytes < cache + 65536);
    assert_true(layout.pool[FM_POOL_WEIGHTS].n_allocs >= 4 && layout.pool[FM_POOL_WEIGHTS].n_allocs <= 5);
    fm_layout_finish(&layout);
    caps.max_alloc_bytes = 128 << 20; // smaller than the embedding table
    assert_int_equal(fm_layout_create(&graph, &caps, &dims, 0, &layout), FM_NOSPACE);
    assert_non_null(strstr(fm_error_message(), "token_embd"));
    caps.max_alloc_bytes = 1ull << 40; // allows what kernels cannot index: 64 x 8 x 131072 x 128 elements
    dims.s = 64;
    dims.l = 131072;
    assert_int_equal(fm_layout_create(&graph, &caps, &dims, 0, &layout), FM_NOSPACE);
    assert_non_null(strstr(fm_error_message(), "kernels reach"));
    fm_graph_finish(&graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_shape),
        cmocka_unit_test(test_every_bucket),
        cmocka_unit_test(test_every_format),
        cmocka_unit_test(test_smallest_device),
        cmocka_unit_test(test_parts_of_ssd),
        cmocka_unit_test(test_norms_of_few_rows),
        cmocka_unit_test(test_prompts_without_casts),
        cmocka_unit_test(test_weights_of_8b),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
