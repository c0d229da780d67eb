// SPDX-License-Identifier: MIT
// The graph: building, rules, validation, text form.
#include "graph/attr.h"
#include "graph/builder.h"
#include "models/arch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct fm_graph_options options = {.kv_type = {FM_TYPE_F16, FM_TYPE_F16}, .random_type = FM_TYPE_Q4_K};

static void expect_words(const char *const words[4])
{
    for (int i = 0; i < 4 && words[i]; i++)
        if (!strstr(fm_error_message(), words[i]))
            fail_msg("'%s' does not say '%s'", fm_error_message(), words[i]);
}

// Printing, parsing and printing again gives the same text, for every built-in shape.
static void test_print_parse(void **state)
{
    (void)state;
    for (const struct fm_shape *s = fm_shapes; s->name; s++) {
        struct fm_graph g = {0}, back = {0};
        char *text = NULL, *again = NULL;
        assert_int_equal(fm_arch_build(fm_arch_find(s->arch, strlen(s->arch)), &s->config, NULL, &options, &g), FM_OK);
        assert_int_equal(fm_graph_print(&g, &text), FM_OK);
        if (fm_graph_parse(text, &back) != FM_OK)
            fail_msg("%s: %s", s->name, fm_error_message());
        assert_int_equal(fm_graph_print(&back, &again), FM_OK);
        assert_string_equal(text, again);
        assert_true(back.logits == g.logits && back.ids == g.ids && back.n_values == g.n_values &&
                    back.n_nodes == g.n_nodes);
        for (size_t i = 0; i < g.n_values; i++) {
            assert_string_equal(g.values[i].name, back.values[i].name);
            assert_true(g.values[i].kind == back.values[i].kind && g.values[i].alias == back.values[i].alias &&
                        g.values[i].producer == back.values[i].producer);
        }
        for (size_t i = 0; i < g.n_nodes; i++)
            for (enum fm_attr_id id = 0; id < FM_ATTR_COUNT; id++) {
                char said[FM_ATTR_TEXT_BYTES], read[FM_ATTR_TEXT_BYTES];
                assert_string_equal(fm_attr_text(&g.nodes[i].attr, id, said), fm_attr_text(&back.nodes[i].attr, id, read));
            }
        fm_free(text);
        fm_free(again);
        fm_graph_finish(&g);
        fm_graph_finish(&back);
    }
}

// Texts that are no graphs: one line saying where, and nothing leaks.
static void test_bad_text(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *words[4];
    } cases[] = {
        {"", {"line 1", "values"}},
        {"values 99999999\n", {"line 1", "values"}},
        {"values 1\n%1 = state : f32[2]  # a\n", {"line 2", "a new value"}},
        {"values 1\n%0 = state : f32[2]  # a\n%0 = state : f32[2]  # a\n", {"line 3", "a new value"}},
        {"values 1\n%0 = state : q9_9[2]  # a\n", {"line 2", "type"}},
        {"values 1\n%0 = state : f32[1,2,3,4,5]  # a\n", {"line 2", "type"}},
        {"values 1\n%0 = const 00 : f32[1]  # a\n", {"line 2", "bytes"}},
        {"values 1\n%0 = const 0000000 : f32[1]  # a\n", {"line 2", "hex"}},
        {"values 1\n%0 = input nothing : i32[T]  # a\n", {"line 2", "input"}},
        {"values 1\n%0 = frobnicate : i32[T]  # a\n", {"line 2", "an op"}},
        {"values 2\n%1 = act %0 {act=silu} : f32[T,4]  # a\n", {"line 2", "defined before"}},
        {"values 2\n%0 = weight 0 : f32[4,4]  # w\n%1 = act %0 {act=silu} : f32[T,4]  # a\n",
         {"line 3", "the op gives"}},
        {"values 2\n%0 = weight 0 : f32[4,4]  # w\n%1 = act %0 {act=silu : f32[4,4]  # a\n", {"line 3", "attribute"}},
        {"values 2\n%0 = weight 0 : f32[4,4]  # w\n%1 = act %0 {act=relu} : f32[4,4]  # a\n", {"line 3", "attribute"}},
        {"values 2\n%0 = weight 0 : f32[4]  # w\n%1 = act %0 {act=silu} : f32[4,4]  # a\n",
         {"act 'a'", "operand 0", "'w'", "f32[4]"}},
        {"values 2\n%0 = weight 0 : f32[4,4]  # w\n%1 = cast %0 : f16[4,4]  # a\n", {"cast 'a'", "planner"}},
        {"values 1\n%0 = weight 0 : f32[4,4]  # w\nlogits %0\n", {"logits"}},
        {"values 1\n%0 = state : f32[2]", {"line 2", "name"}},
    };
    for (size_t i = 0; i < FM_COUNT(cases); i++) {
        struct fm_graph g;
        if (fm_graph_parse(cases[i].text, &g) != FM_ARG)
            fail_msg("case %zu was taken", i);
        expect_words(cases[i].words);
    }
}

// Every prefix of a good text is refused or a graph, never a crash.
static void test_cut_text(void **state)
{
    (void)state;
    struct fm_config c = fm_shape_find("llama-1b")->config;
    struct fm_graph g = {0};
    char *text;
    c.n_layers = 1;
    c.rotated = 4;
    assert_int_equal(fm_arch_build(fm_arch_find("llama", 5), &c, NULL, &options, &g), FM_OK);
    assert_int_equal(fm_graph_print(&g, &text), FM_OK);
    for (size_t n = strlen(text); n-- > 0;) {
        struct fm_graph cut = {0};
        text[n] = '\0';
        if (fm_graph_parse(text, &cut) == FM_OK)
            fm_graph_finish(&cut);
    }
    fm_free(text);
    fm_graph_finish(&g);
}

// Operands that do not fit: the node, the operand and both shapes are named.
static void test_rules(void **state)
{
    (void)state;
    struct fm_graph g = {0};
    struct fm_builder b = {.graph = &g};
    uint32_t x = fm_build_embed(&b, "x", fm_build_weight(&b, "table", FM_TYPE_Q8_0, FM_NONE, 2, (uint32_t[]){50, 64}),
                                fm_build_tokens(&b), 1);
    uint32_t w = fm_build_weight(&b, "w", FM_TYPE_Q8_0, FM_NONE, 2, (uint32_t[]){8, 32});
    uint32_t odd = fm_build_weight(&b, "odd", FM_TYPE_Q4_K, FM_NONE, 2, (uint32_t[]){8, 64});
    uint32_t pos = fm_build_input(&b, FM_INPUT_POS), row = fm_build_input(&b, FM_INPUT_OUT_ROW);
    uint32_t state_f = fm_build_state(&b, "cache", FM_TYPE_F16, 4, (uint32_t[]){FM_DIM_S, 2, FM_DIM_L, 32});
    uint32_t state_b = fm_build_state(&b, "other", FM_TYPE_F16, 4, (uint32_t[]){FM_DIM_S, 2, FM_DIM_L, 40});
    assert_int_equal(b.error, FM_OK);
    assert_int_equal(fm_build_input(&b, FM_INPUT_POS), pos); // one value per field
    const struct fm_attr heads = {.heads = 2, .heads_kv = 2, .head = 32, .rotated = 32, .vocab = 50};
    const struct {
        enum fm_op op;
        uint32_t n, src[8];
        const char *words[4];
    } cases[] = {
        {FM_OP_MATMUL, 2, {x, w}, {"matmul 'bad'", "'w'", "q8_0[8,32]", "q8_0[8,64]"}},
        {FM_OP_MATMUL, 2, {x, odd}, {"'odd'", "whole blocks"}},
        {FM_OP_MATMUL, 2, {w, w}, {"operand 0", "f32 rows"}},
        {FM_OP_MATMUL, 1, {x}, {"1 operands", "2 to 3"}},
        {FM_OP_EMBED, 2, {w, x}, {"operand 1", "f32[T,64]", "i32[T]"}},
        {FM_OP_ADD, 2, {x, pos}, {"operand 1", "i32[T]", "f32[T,64]"}},
        {FM_OP_GATHER, 2, {x, x}, {"operand 1"}},
        {FM_OP_NORM, 2, {x, w}, {"operand 1", "f32[64]"}},
        {FM_OP_ROPE, 3, {x, w, pos}, {"operand 1", "i32[16,2]"}},
        {FM_OP_KV_WRITE, 6, {x, x, pos, pos, x, state_f}, {"operand 4", "a state"}},
        {FM_OP_KV_WRITE, 6, {x, x, pos, pos, state_f, state_b}, {"operand 5", "f16[S,2,L,40]", "f16[S,2,L,32]"}},
        {FM_OP_KV_WRITE, 6, {x, x, row, pos, state_f, state_f}, {"operand 2", "i32[O]", "i32[T]"}},
        {FM_OP_SAMPLE, 7, {x, pos, pos, pos, pos, pos, pos}, {"operand 4"}},
        {FM_OP_COUNT, 1, {x}, {"unknown op"}},
        {FM_OP_ACT, 1, {FM_NONE}, {"operand 0", "no value"}},
    };
    size_t nodes = g.n_nodes, values = g.n_values;
    for (size_t i = 0; i < FM_COUNT(cases); i++) {
        uint32_t dst[FM_MAX_DST];
        assert_int_equal(fm_graph_add(&g, cases[i].op, "bad", cases[i].src, cases[i].n, &heads, dst), FM_ARG);
        expect_words(cases[i].words);
    }
    assert_true(g.n_nodes == nodes && g.n_values == values);
    // The builder's first error stays.
    assert_int_equal(fm_build_matmul(&b, "bad", x, w, FM_NONE), FM_NONE);
    assert_int_equal(b.error, FM_ARG);
    assert_int_equal(fm_build_tokens(&b), FM_NONE);
    assert_int_equal(g.n_nodes, nodes);
    fm_graph_finish(&g);
}

// What validate() must see, broken on purpose in a good graph.
static void test_validate(void **state)
{
    (void)state;
    struct fm_config c = fm_shape_find("gpt2-124m")->config;
    c.n_layers = 1;
    for (int i = 0; i < 9; i++) {
        struct fm_graph g = {0};
        const char *word = "";
        assert_int_equal(fm_arch_build(fm_arch_find("gpt2", 4), &c, NULL, &options, &g), FM_OK);
        struct fm_node *last = &g.nodes[g.n_nodes - 1], saved = *last;
        switch (i) {
        case 0: // order
            *last = g.nodes[g.n_nodes - 2];
            g.nodes[g.n_nodes - 2] = saved;
            break;
        case 1: g.values[g.logits].dims[1]++; break;
        case 2: g.values[g.logits].kind = FM_VALUE_TEMP, word = "logits"; break;
        case 3:
            last->src[6] = fm_value_root(&g, last->src[6]), word = "overwritten";
            break; // reads the version before token_feed
        case 4: last->op = FM_OP_COUNT; break;
        case 5: last->dst[1] = last->dst[0], word = "one value"; break;
        case 6: g.values[last->dst[1]].alias = last->dst[1], word = "alias"; break;
        case 7: g.n_nodes--, word = "no node"; break;
        default: g.values[0].producer = 1; break;
        }
        assert_int_equal(fm_graph_validate(&g), FM_ARG);
        if (!strstr(fm_error_message(), word))
            fail_msg("case %d: '%s' does not say '%s'", i, fm_error_message(), word);
        fm_graph_finish(&g);
    }
    struct fm_graph empty = {0};
    assert_int_equal(fm_graph_validate(&empty), FM_OK);
    fm_graph_finish(&empty);
}

// Every attribute: its text reads back as the same value, it can be kept, cleared and merged, and it tells nodes apart.
static void test_attributes(void **state)
{
    (void)state;
    for (enum fm_attr_id id = 0; id < FM_ATTR_COUNT; id++) {
        struct fm_attr a = {0}, b = {0}, zero = {0};
        uint32_t words[2][FM_ATTR_COUNT];
        char text[FM_ATTR_TEXT_BYTES], again[FM_ATTR_TEXT_BYTES];
        // The second word of a list, or a number: one of them is a value of it.
        bool set = fm_attr_set(&a, id, "0.3125") || fm_attr_set(&a, id, "4294967295") || fm_attr_set(&a, id, "layer") ||
                   fm_attr_set(&a, id, "gelu_tanh") || fm_attr_set(&a, id, "last") || fm_attr_set(&a, id, "neox");
        assert_true(set && fm_attr_is_printed(&a, id));
        assert_true(fm_attr_set(&b, id, fm_attr_text(&a, id, text)));
        assert_string_equal(text, fm_attr_text(&b, id, again));
        assert_false(fm_attr_set(&b, id, "") || fm_attr_set(&b, id, "no such word") || fm_attr_set(&b, id, "7x"));
        fm_attr_words(&a, words[0]);
        fm_attr_words(&zero, words[1]);
        for (enum fm_attr_id other = 0; other < FM_ATTR_COUNT; other++)
            assert_int_equal(words[0][other] != words[1][other], other == id);
        fm_attr_merge(&zero, &a);
        fm_attr_words(&zero, words[1]);
        assert_memory_equal(words[0], words[1], sizeof(words[0]));
        fm_attr_keep(&zero, 1u << id);
        fm_attr_words(&zero, words[1]);
        assert_memory_equal(words[0], words[1], sizeof(words[0]));
        fm_attr_keep(&zero, ~(1u << id));
        fm_attr_words(&zero, words[1]);
        assert_int_equal(words[1][id], 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_print_parse), cmocka_unit_test(test_bad_text), cmocka_unit_test(test_cut_text),
        cmocka_unit_test(test_rules),       cmocka_unit_test(test_validate),   cmocka_unit_test(test_attributes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
