// SPDX-License-Identifier: MIT
// Passes: golden files (tests/graph/*.txt: "pass NAME", a graph, "====", the graph that must come out), and random
// graphs, whose reference results must be the same before and after.
#include "base/os.h"
#include "graph/builder.h"
#include "models/arch.h"
#include "pass/pass.h"
#include "pass/rule.h"
#include "ref/ref.h"
#include "support/model_make.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

// --- random graphs -------------------------------------------------------------------------------------------------

#define D 16
#define VOCAB 23

struct maker {
    struct fm_builder b;
    uint64_t random;
    uint32_t n; // names
    uint32_t pool[64], n_pool; // rows [T,D]
    uint32_t freq;
};

static uint32_t pick(struct maker *m, uint32_t n)
{
    return (uint32_t)(model_make_next(&m->random) % n);
}

static uint32_t some(struct maker *m)
{
    return m->pool[pick(m, m->n_pool)];
}

static uint32_t matrix(struct maker *m, uint32_t n)
{
    char name[32];
    snprintf(name, sizeof(name), "w%u", m->n++);
    // Two formats, so that same_format has something to refuse.
    return fm_build_weight(&m->b, name, pick(m, 5) ? FM_TYPE_F32 : FM_TYPE_F16, FM_NONE, 2, (uint32_t[]){n, D});
}

static uint32_t vector(struct maker *m, uint32_t n)
{
    char name[32];
    snprintf(name, sizeof(name), "v%u", m->n++);
    return fm_build_weight(&m->b, name, FM_TYPE_F32, FM_NONE, 1, &n);
}

static uint32_t linear(struct maker *m, uint32_t x)
{
    char name[32];
    snprintf(name, sizeof(name), "mm%u", m->n++);
    return fm_build_matmul(&m->b, name, x, matrix(m, D), pick(m, 5) ? FM_NONE : vector(m, D));
}

static void attention(struct maker *m)
{
    struct fm_attr attr = {.heads = 2,
                           .heads_kv = 1,
                           .head = 8,
                           .rotated = 4,
                           .rope = (uint8_t)pick(m, 2),
                           .scale = 0.3f,
                           .window = pick(m, 2) ? 3 : 0};
    char name[32];
    uint32_t x = some(m), w = matrix(m, 8);
    fm_build_prefix(&m->b, "attn%u.", m->n++);
    uint32_t k = fm_build_matmul(&m->b, "k", x, w, FM_NONE), v = fm_build_matmul(&m->b, "v", x, matrix(m, 8), FM_NONE);
    uint32_t q = linear(m, some(m));
    uint32_t y = fm_build_attention(&m->b, q, k, v, pick(m, 3) ? m->freq : FM_NONE, &attr);
    fm_build_prefix(&m->b, "%s", "");
    snprintf(name, sizeof(name), "attn_add%u", m->n++);
    m->pool[m->n_pool++] = pick(m, 2) ? fm_build_add(&m->b, name, linear(m, y), some(m)) : y;
}

static void feed_forward(struct maker *m)
{
    const struct fm_attr attr = {.act = (uint8_t)pick(m, 2)};
    char name[32];
    snprintf(name, sizeof(name), "ff%u", m->n++);
    uint32_t x = some(m), gate = linear(m, x), up = linear(m, pick(m, 4) ? x : some(m));
    if (pick(m, 4) == 0) // somebody else reads the gate
        m->pool[m->n_pool++] = gate;
    m->pool[m->n_pool++] = pick(m, 3) ? fm_build_node(&m->b, FM_OP_GLU, name, &attr, 2, (uint32_t[]){gate, up})
                                      : fm_build_node(&m->b, FM_OP_ACT, name, &attr, 1, &gate);
}

static void normed_sum(struct maker *m)
{
    char name[32];
    bool layer = pick(m, 2);
    snprintf(name, sizeof(name), "sum%u", m->n++);
    uint32_t sum = fm_build_add(&m->b, name, pick(m, 2) ? linear(m, some(m)) : some(m), some(m));
    if (pick(m, 2))
        m->pool[m->n_pool++] = sum;
    snprintf(name, sizeof(name), "norm%u", m->n++);
    m->pool[m->n_pool++] = fm_build_norm(&m->b, name, layer ? FM_NORM_LAYER : FM_NORM_RMS, sum, vector(m, D),
                                         layer && pick(m, 2) ? vector(m, D) : FM_NONE, 1e-5f);
}

static void make_random(struct maker *m, struct fm_graph *g, uint32_t seed)
{
    *m = (struct maker){.b = {.graph = g, .kv_type = {FM_TYPE_F16, FM_TYPE_F32}}, .random = seed};
    uint32_t ids = fm_build_tokens(&m->b);
    m->pool[m->n_pool++] = fm_build_embed(&m->b, "table", matrix(m, VOCAB), ids, 1);
    m->pool[m->n_pool++] = fm_build_embed(&m->b, "positions", matrix(m, 9), fm_build_input(&m->b, FM_INPUT_POS), 2);
    m->freq = fm_build_rope_table(&m->b, "freq", 2, 100, NULL);
    for (uint32_t i = 0; i < 10; i++)
        switch (pick(m, 4)) {
        case 0: attention(m); break;
        case 1: feed_forward(m); break;
        case 2: normed_sum(m); break;
        default: { // the same node twice, now and then
            uint32_t x = some(m), w = vector(m, D);
            m->pool[m->n_pool++] = fm_build_norm(&m->b, "one", FM_NORM_RMS, x, w, FM_NONE, 1e-5f);
            m->pool[m->n_pool++] = fm_build_norm(&m->b, "two", FM_NORM_RMS, x, w, FM_NONE, 1e-5f);
            break;
        }
        }
    // Most of the pool reaches the head.
    uint32_t x = m->pool[m->n_pool - 1];
    for (uint32_t i = 2; i < m->n_pool; i += 2)
        x = fm_build_add(&m->b, "total", x, m->pool[i]);
    x = fm_build_output_rows(&m->b, "out_rows", x);
    fm_build_head(&m->b, x, vector(m, D), FM_NONE, FM_NORM_RMS, 1e-5f, matrix(m, VOCAB), FM_NONE, VOCAB - 1);
    if (m->b.error != FM_OK)
        fail_msg("seed %u: %s", seed, fm_error_message());
}

#define T 5
static const struct fm_dims dims = {.t = T, .o = 2, .s = 2, .l = 8, .b = 2};

// Fill sources by id (passes keep the ids) and run two steps.
static struct fm_ref *run(const struct fm_graph *g, uint32_t seed)
{
    struct fm_ref *ref = NULL;
    if (fm_ref_create(g, &dims, &ref) != FM_OK)
        fail_msg("%s", fm_error_message());
    for (uint32_t step = 0; step < 2; step++) {
        for (uint32_t id = 0; id < g->n_values; id++) {
            const struct fm_value *v = &g->values[id];
            struct fm_ref_tensor *t = fm_ref_tensor(ref, id);
            uint64_t random = seed * 1000u + id;
            for (uint64_t i = 0; v->kind == FM_VALUE_WEIGHT && i < t->elems; i++)
                t->v[i] = model_make_uniform(&random) * 0.7;
            for (uint64_t i = 0; v->kind == FM_VALUE_INPUT && i < t->elems; i++)
                switch (v->of.input) {
                case FM_INPUT_TOKEN: t->v[i] = (double)((seed + step * 7 + i * 5) % VOCAB); break;
                case FM_INPUT_POS: t->v[i] = (double)(step * 3 + i / 2); break;
                case FM_INPUT_SLOT: t->v[i] = (double)(i % 2); break;
                case FM_INPUT_SEGMENT: t->v[i] = (double[]){0, 3, 1, step * 3, 3, 2, 0, step * 2 + 1}[i]; break;
                case FM_INPUT_LENGTH: break; // of chunked models only
                case FM_INPUT_OUT_ROW: t->v[i] = (double)(T - 1 - i); break;
                case FM_INPUT_SAMPLER:
                case FM_INPUT_COUNT: t->v[i] = 0; break;
                }
        }
        fm_ref_run(ref);
    }
    return ref;
}

static void compare(const struct fm_graph *g, struct fm_ref *before, struct fm_ref *after, uint32_t seed)
{
    for (uint32_t id = 0; id < g->n_values; id++) {
        const struct fm_value *v = &g->values[id];
        const struct fm_ref_tensor *a = fm_ref_tensor(before, id), *b = fm_ref_tensor(after, id);
        if (v->kind != FM_VALUE_OUTPUT && v->kind != FM_VALUE_STATE)
            continue;
        for (uint64_t i = 0; i < a->elems; i++)
            if (!(fabs(a->v[i] - b->v[i]) <= 1e-9 * fmax(1, fabs(a->v[i]))))
                fail_msg("seed %u, %s, element %llu: %.12g before, %.12g after", seed, v->name, (unsigned long long)i,
                         a->v[i], b->v[i]);
    }
}

static const char *const goldens[] = {"fold", "fuse_llama", "fuse_gpt2", "fuse_norm", "fuse_ssd", "fuse_conv", "fuse_not", "dce", "order"};

static void check_golden(const char *name)
{
    char path[1024], pass[32] = "", *text, *got;
    size_t bytes;
    struct fm_graph g = {0}, original = {0};
    const char *root = fm_env_text("FULMEN_SOURCE_ROOT");
    assert_non_null(root);
    snprintf(path, sizeof(path), "%s/tests/graph/%s.txt", root, name);
    if (fm_source_read_whole(path, 1 << 20, &text, &bytes) != FM_OK)
        fail_msg("%s", fm_error_message());
    char *input = strchr(text, '\n'), *expected = strstr(text, "====\n");
    assert_true(sscanf(text, "pass %31s", pass) == 1 && input && expected);
    *expected = '\0';
    expected += 5;
    if (fm_graph_parse(input + 1, &g) != FM_OK || fm_pass_run(&g, pass, NULL) != FM_OK)
        fail_msg("%s: %s", name, fm_error_message());
    assert_int_equal(fm_graph_print(&g, &got), FM_OK);
    if (strcmp(got, expected) != 0)
        fail_msg("%s: expected\n%s\ngot\n%s", name, expected, got);
    assert_int_equal(fm_graph_parse(input + 1, &original), FM_OK);
    struct fm_ref *before = run(&original, 1), *after = run(&g, 1);
    compare(&g, before, after, 1);
    fm_ref_destroy(&before);
    fm_ref_destroy(&after);
    fm_free(got);
    fm_free(text);
    fm_graph_finish(&g);
    fm_graph_finish(&original);
}

static void test_goldens(void **state)
{
    (void)state;
    for (size_t i = 0; i < FM_COUNT(goldens); i++)
        check_golden(goldens[i]);
}

static void test_random(void **state)
{
    (void)state;
    uint32_t seen[FM_OP_COUNT] = {0}, folded = 0;
    for (uint32_t seed = 1; seed <= 150; seed++) {
        struct fm_graph g = {0}, original = {0};
        struct maker m;
        char *text, *once, *twice;
        make_random(&m, &g, seed);
        assert_int_equal(fm_graph_print(&g, &text), FM_OK);
        if (fm_graph_parse(text, &original) != FM_OK)
            fail_msg("seed %u: %s", seed, fm_error_message());
        size_t nodes = g.n_nodes;
        if (fm_passes_run(&g, NULL) != FM_OK)
            fail_msg("seed %u: %s", seed, fm_error_message());
        struct fm_ref *before = run(&original, seed), *after = run(&g, seed);
        compare(&g, before, after, seed);
        for (size_t i = 0; i < g.n_nodes; i++)
            seen[g.nodes[i].op]++;
        folded += g.n_nodes < nodes;
        // What comes out can be printed and read, and passes have nothing more to do on it.
        assert_int_equal(fm_graph_print(&g, &once), FM_OK);
        assert_int_equal(fm_passes_run(&g, NULL), FM_OK);
        assert_int_equal(fm_graph_print(&g, &twice), FM_OK);
        assert_string_equal(once, twice);
        fm_free(text);
        fm_free(once);
        fm_free(twice);
        fm_ref_destroy(&before);
        fm_ref_destroy(&after);
        fm_graph_finish(&g);
        fm_graph_finish(&original);
    }
    assert_true(seen[FM_OP_MATMUL_ADD] > 20 && seen[FM_OP_MATMUL_GLU] > 20 && seen[FM_OP_ROPE_ATTEND] > 20 &&
                seen[FM_OP_ADD_NORM] > 20 && seen[FM_OP_NORM_MATMUL] > 20 && seen[FM_OP_NORM] > 20);
    assert_true(seen[FM_OP_ROPE] + seen[FM_OP_KV_WRITE] > 0 && seen[FM_OP_GLU] > 0 && folded > 100);
}

// A device that cannot run a fused op keeps its parts; every fused op was asked about with its operands.
static bool refuse(void *user, const struct fm_graph *graph, const struct fm_node *node)
{
    uint32_t *asked = user;
    asked[node->op]++;
    assert_true(fm_op_info(node->op)->flags & FM_OP_FUSED);
    for (unsigned i = 0; i < node->n_src; i++)
        assert_true(node->src[i] < graph->n_values);
    return false;
}

static void test_refused(void **state)
{
    (void)state;
    uint32_t asked[FM_OP_COUNT] = {0};
    const struct fm_pass_context context = {.can_run = refuse, .user = asked};
    for (uint32_t seed = 1; seed <= 20; seed++) {
        struct fm_graph g = {0};
        struct maker m;
        make_random(&m, &g, seed);
        assert_int_equal(fm_passes_run(&g, &context), FM_OK);
        for (size_t i = 0; i < g.n_nodes; i++)
            assert_false(fm_op_info(g.nodes[i].op)->flags & FM_OP_FUSED);
        fm_graph_finish(&g);
    }
    assert_true(asked[FM_OP_MATMUL_ADD] && asked[FM_OP_MATMUL_GLU] && asked[FM_OP_ROPE_KV_WRITE] &&
                asked[FM_OP_ADD_NORM] && asked[FM_OP_NORM_MATMUL]);
}

// A norm goes into all of its readers or into none.
static bool refuse_f16(void *user, const struct fm_graph *graph, const struct fm_node *node)
{
    (void)user;
    return graph->values[node->src[1]].type != FM_TYPE_F16;
}

static void test_all_or_none(void **state)
{
    (void)state;
    const struct fm_pass_context context = {.can_run = refuse_f16};
    for (int half = 0; half < 2; half++) {
        struct fm_graph g = {0};
        struct fm_builder b = {.graph = &g};
        uint32_t count[FM_OP_COUNT] = {0};
        uint32_t v = fm_build_weight(&b, "v", FM_TYPE_F32, FM_NONE, 1, (uint32_t[]){D});
        uint32_t w[3];
        for (int i = 0; i < 3; i++)
            w[i] = fm_build_weight(&b, "w", half && i == 1 ? FM_TYPE_F16 : FM_TYPE_F32, FM_NONE, 2, (uint32_t[]){D, D});
        uint32_t x = fm_build_embed(&b, "x", w[0], fm_build_input(&b, FM_INPUT_POS), 1);
        uint32_t n = fm_build_norm(&b, "n", FM_NORM_RMS, x, v, FM_NONE, 1e-5f);
        for (int i = 0; i < 3; i++) {
            uint32_t y = fm_build_matmul(&b, "y", n, w[i], FM_NONE);
            g.values[y].kind = FM_VALUE_OUTPUT;
        }
        assert_int_equal(b.error, FM_OK);
        if (fm_pass_run(&g, "fuse", &context) != FM_OK)
            fail_msg("%s", fm_error_message());
        for (size_t i = 0; i < g.n_nodes; i++)
            count[g.nodes[i].op]++;
        assert_int_equal(count[FM_OP_NORM], half);
        assert_int_equal(count[FM_OP_MATMUL], half ? 3 : 0);
        assert_int_equal(count[FM_OP_NORM_MATMUL], half ? 0 : 3);
        fm_graph_finish(&g);
    }
}

// Every architecture: what a layer becomes; sources keep their ids; q, k and v stand side by side.
static void test_models(void **state)
{
    (void)state;
    static const struct fm_graph_options options = {.kv_type = {FM_TYPE_F16, FM_TYPE_F16}, .random_type = FM_TYPE_Q4_0};
    for (const struct fm_shape *s = fm_shapes; s->name; s++) {
        struct fm_graph g = {0}, original = {0};
        const struct fm_arch *arch = fm_arch_find(s->arch, strlen(s->arch));
        uint32_t count[FM_OP_COUNT] = {0}, layers = s->config.n_layers;
        bool gpt2 = strcmp(s->arch, "gpt2") == 0;
        assert_int_equal(fm_arch_build(arch, &s->config, NULL, &options, &g), FM_OK);
        assert_int_equal(fm_arch_build(arch, &s->config, NULL, &options, &original), FM_OK);
        if (fm_passes_run(&g, NULL) != FM_OK)
            fail_msg("%s: %s", s->name, fm_error_message());
        for (size_t i = 0; i < g.n_nodes; i++)
            count[g.nodes[i].op]++;
        bool decoder = gpt2 || strcmp(s->arch, "llama") == 0 || strcmp(s->arch, "qwen2") == 0;
        bool scaled = s->config.original > 0; // rotation with lengths stays by itself
        // A mixer alone, a mixer and a feed-forward part: one or two products that end in a sum.
        assert_int_equal(count[FM_OP_MATMUL_ADD] + count[FM_OP_NORM_MATMUL_ADD], (s->config.ffn > 0 ? 2 : 1) * layers);
        // Of the last layer only output rows are gated, after the recurrence.
        uint32_t gated = strcmp(s->arch, "mamba2") == 0 && s->config.groups == 1 ? layers - 1 : 0;
        if (s->config.ffn == 0)
            assert_true(count[FM_OP_SSD_GATE] == gated && count[FM_OP_NORM_MATMUL_ADD] == gated);
        // Norms go into products whose rows of weights are short: 6 KiB of q4_0, 10912 elements.
        uint32_t gates = gpt2 || s->config.ffn == 0 ? 0 : layers;
        bool folded = s->config.width <= 10912;
        assert_int_equal(count[FM_OP_NORM_MATMUL_GLU], folded ? gates : 0);
        assert_int_equal(count[FM_OP_MATMUL_GLU], folded ? 0 : gates);
        if (!decoder || scaled) {
            fm_graph_finish(&g);
            fm_graph_finish(&original);
            continue;
        }
        assert_int_equal(count[FM_OP_ROPE_ATTEND], gpt2 ? 0 : layers);
        assert_int_equal(count[FM_OP_ROPE_KV_WRITE] + count[FM_OP_ATTEND], gpt2 ? layers : 0);
        assert_int_equal(count[FM_OP_ADD_NORM], gpt2 ? 1 : 0);
        assert_int_equal(g.n_nodes, gpt2 ? 11 * layers + 8 : 7 * layers + 6);
        for (size_t i = 0; i < original.n_values; i++)
            if (original.values[i].producer == FM_NONE)
                assert_true(g.values[i].kind == original.values[i].kind &&
                            strcmp(g.values[i].name, original.values[i].name) == 0);
        for (size_t i = 0; i + 2 < g.n_nodes; i++)
            if (strcmp(g.nodes[i].name, "blk.3.attn_q") == 0) {
                assert_string_equal(g.nodes[i + 1].name, "blk.3.attn_k");
                assert_string_equal(g.nodes[i + 2].name, "blk.3.attn_v");
            }
        fm_graph_finish(&g);
        fm_graph_finish(&original);
    }
}

// Allocation failures: an error each time, and a graph that can still be released.
static void test_allocation_failures(void **state)
{
    (void)state;
    enum fm_result r = FM_NOMEM;
    for (uint64_t n = 0; r != FM_OK; n++) {
        struct fm_graph g = {0};
        struct maker m;
        char *text;
        assert_true(n < 1000);
        make_random(&m, &g, 3);
        fm_alloc_fail_at(n);
        r = fm_passes_run(&g, NULL);
        if (r == FM_OK && (r = fm_graph_print(&g, &text)) == FM_OK)
            fm_free(text);
        fm_alloc_fail_at(UINT64_MAX);
        assert_true(r == FM_OK || r == FM_NOMEM);
        fm_graph_finish(&g);
    }
}

static void test_rule_texts(void **state)
{
    (void)state;
    struct fm_rule rule;
    static const char *const bad[][2] = {
        {"y = frobnicate x", "y = act x"},
        {"y = add a", "y = act a"},
        {"y = act x", "y = act z"},
        {"y = act x", ""},
        {"y = matmul x? w", "y = matmul x w"},
        {"a b = act x", "a = act x"},
        {"y = act x", "z = act x; y = act z"},
    };
    for (size_t i = 0; i < FM_COUNT(bad); i++)
        assert_int_equal(fm_rule_parse("bad", bad[i][0], bad[i][1], &rule), FM_ARG);
    assert_int_equal(fm_rule_parse("good", "m = matmul x w b?; y = add m r", "y = matmul_add x w r b?", &rule), FM_OK);
    assert_int_equal(rule.n_vars, 6);
    assert_true(rule.pattern.statement[0].last_optional && !rule.pattern.statement[1].last_optional);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_goldens),     cmocka_unit_test(test_random),
        cmocka_unit_test(test_refused),     cmocka_unit_test(test_all_or_none),
        cmocka_unit_test(test_models),      cmocka_unit_test(test_rule_texts),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
