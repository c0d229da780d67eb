// SPDX-License-Identifier: MIT
// Architectures: keys, binding, graphs of built-in shapes, messages on bad files.
#include "models/arch.h"
#include "support/model_make.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct fm_graph_options options = {.kv_type = {FM_TYPE_F16, FM_TYPE_F16}, .random_type = FM_TYPE_Q8_0};

static size_t count_ops(const struct fm_graph *g, enum fm_op op)
{
    size_t n = 0;
    for (size_t i = 0; i < g->n_nodes; i++)
        n += g->nodes[i].op == op;
    return n;
}

// Open the writer's file, read its configuration and build; the message of a failure is kept by fm_error_message().
static enum fm_result open_and_build(const struct gguf_writer *w, struct fm_config *out_config,
                                     struct fm_graph *out_graph)
{
    struct gguf_bytes bytes = gguf_write_make(w);
    struct fm_file *file = NULL;
    struct fm_arena arena = {0};
    const struct fm_arch *arch;
    struct fm_config config;
    enum fm_result r = fm_file_open_memory(bytes.data, bytes.size_bytes, "test.gguf", &file);
    assert_int_equal(r, FM_OK);
    r = fm_arch_open(file, &arena, &arch, &config);
    if (r == FM_OK)
        r = fm_arch_build(arch, &config, file, &options, out_graph);
    if (r == FM_OK && out_config)
        *out_config = config;
    fm_arena_finish(&arena);
    fm_file_close(&file);
    gguf_bytes_finish(&bytes);
    return r;
}

static void test_shapes(void **state)
{
    (void)state;
    size_t n = 0;
    for (const struct fm_shape *s = fm_shapes; s->name; s++, n++) {
        struct fm_graph g = {0};
        const struct fm_arch *arch = fm_arch_find(s->arch, strlen(s->arch));
        assert_non_null(arch);
        assert_ptr_equal(fm_shape_find(s->name), s);
        assert_int_equal(fm_arch_build(arch, &s->config, NULL, &options, &g), FM_OK);
        uint32_t mixers = count_ops(&g, FM_OP_ATTEND) + count_ops(&g, FM_OP_LINEAR_ATTEND) + count_ops(&g, FM_OP_SELECTIVE_SCAN) +
                          count_ops(&g, FM_OP_SSD);
        assert_int_equal(mixers, s->config.n_layers);
        assert_int_equal(g.values[g.logits].dims[1], s->config.vocab);
        fm_graph_finish(&g);
    }
    assert_int_equal(n, 37);
    assert_null(fm_shape_find("llama"));
}

// Parameters of a graph's weights: what the names of the shapes promise.
static void test_parameter_counts(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        double millions;
    } known[] = {{"llama-8b", 8030.3},    {"llama-1b", 1235.8},    {"llama-3b", 3212.7},   {"llama2-7b", 6738.4},
                 {"llama2-13b", 13015.9}, {"llama2-70b", 68976.6}, {"mistral-7b", 7241.7}, {"qwen2-0.5b", 494.0},
                 {"qwen2-1.5b", 1543.7},  {"qwen2-7b", 7615.6},    {"gpt2-124m", 124.4},   {"gpt2-355m", 354.8},
                 {"gpt2-774m", 774.0},    {"gpt2-1.5b", 1557.6},
                 {"qwen2.5-7b-1m", 7615.6},     {"transnormer-1b", 1020.3}, {"mamba-130m", 129.1}, {"mamba-2.8b", 2768.3},
                 {"falcon-mamba-7b", 7272.7},   {"mamba2-130m", 129.0},     {"mamba2-2.7b", 2702.6}};
    for (size_t i = 0; i < FM_COUNT(known); i++) {
        const struct fm_shape *s = fm_shape_find(known[i].name);
        struct fm_graph g = {0};
        double sum = 0;
        assert_int_equal(fm_arch_build(fm_arch_find(s->arch, strlen(s->arch)), &s->config, NULL, &options, &g), FM_OK);
        for (size_t v = 0; v < g.n_values; v++)
            if (g.values[v].kind == FM_VALUE_WEIGHT)
                sum += (double)g.values[v].dims[0] * (g.values[v].n_dims > 1 ? g.values[v].dims[1] : 1);
        if (sum / 1e6 < known[i].millions - 0.11 || sum / 1e6 > known[i].millions + 0.11)
            fail_msg("%s has %.1f million parameters, expected %.1f", known[i].name, sum / 1e6, known[i].millions);
        fm_graph_finish(&g);
    }
}

// Blocks that do not fit a row are replaced, and every format builds.
static void test_random_types(void **state)
{
    (void)state;
    const struct fm_shape *s = fm_shape_find("gpt2-1.5b");
    for (int type = 0; type < FM_TYPE_COUNT; type++) {
        struct fm_graph g = {0};
        struct fm_graph_options o = options;
        if (!fm_type_info((enum fm_type)type)->is_weight)
            continue;
        o.random_type = (enum fm_type)type;
        assert_int_equal(fm_arch_build(fm_arch_find("gpt2", 4), &s->config, NULL, &o, &g), FM_OK);
        for (size_t v = 0; v < g.n_values; v++)
            if (g.values[v].kind == FM_VALUE_WEIGHT && g.values[v].n_dims == 2)
                assert_true(g.values[v].type ==
                                (fm_type_info(o.random_type)->block_elems == 256 ? FM_TYPE_Q8_0 : o.random_type) ||
                            g.values[v].dims[1] % 256 == 0);
        fm_graph_finish(&g);
    }
}

static void test_files(void **state)
{
    (void)state;
    for (const char *const *a = model_make_archs; *a; a++)
        for (int tied = 0; tied < 2; tied++) {
            struct gguf_writer w = {0};
            struct fm_config made = model_make_config(*a), read;
            struct fm_graph g = {0};
            made.tied = tied;
            model_make(&w, *a, &made, FM_TYPE_Q8_0, 1);
            if (open_and_build(&w, &read, &g) != FM_OK)
                fail_msg("%s", fm_error_message());
            assert_int_equal(read.tied, tied);
            assert_int_equal(read.heads_kv, made.heads_kv);
            assert_int_equal(read.rope, made.rope);
            assert_int_equal(read.rotated, made.rotated);
            assert_int_equal(read.vocab_real, made.vocab);
            fm_graph_finish(&g);
            gguf_write_finish(&w);
        }
}

// 128 layers like 12.
static void test_many_layers(void **state)
{
    (void)state;
    for (const char *const *a = model_make_archs; *a; a++) {
        struct gguf_writer w = {0};
        struct fm_config made = model_make_config(*a);
        struct fm_graph g = {0};
        made.n_layers = 128;
        model_make(&w, *a, &made, FM_TYPE_Q4_0, 2);
        assert_int_equal(open_and_build(&w, NULL, &g), FM_OK);
        assert_int_equal(count_ops(&g, FM_OP_KV_WRITE), 128);
        fm_graph_finish(&g);
        gguf_write_finish(&w);
    }
}

// A fused tensor is bound as three row ranges.
static void test_slices(void **state)
{
    (void)state;
    struct gguf_writer w = {0};
    struct fm_config made = model_make_config("gpt2");
    struct fm_graph g = {0};
    uint32_t rows[3] = {0}, n = 0;
    model_make(&w, "gpt2", &made, FM_TYPE_F16, 3);
    assert_int_equal(open_and_build(&w, NULL, &g), FM_OK);
    for (size_t v = 0; v < g.n_values; v++)
        if (g.values[v].kind == FM_VALUE_WEIGHT && strncmp(g.values[v].name, "blk.1.attn_qkv.weight", 21) == 0 &&
            n < 3) {
            assert_int_equal(g.values[v].dims[0], 64);
            rows[n++] = g.values[v].row0;
        }
    assert_int_equal(n, 3);
    assert_true(rows[0] == 0 && rows[1] == 64 && rows[2] == 128);
    fm_graph_finish(&g);
    gguf_write_finish(&w);
}

// --- bad files: each gives one line that says what, where, expected and found --------------------------------------

static void expect_message(const struct gguf_writer *w, enum fm_result expected, const char *const parts[4])
{
    struct fm_graph g = {0};
    assert_int_equal(open_and_build(w, NULL, &g), expected);
    for (int i = 0; i < 4 && parts[i]; i++)
        if (!strstr(fm_error_message(), parts[i]))
            fail_msg("'%s' does not say '%s'", fm_error_message(), parts[i]);
    assert_null(strchr(fm_error_message(), '\n'));
}

static void test_bad_config(void **state)
{
    (void)state;
    const struct {
        size_t field;
        uint32_t value;
        const char *parts[4];
    } cases[] = {
        {offsetof(struct fm_config, n_layers), 0, {"llama.block_count", "0", "1024"}},
        {offsetof(struct fm_config, n_layers), 1025, {"llama.block_count", "1025", "1024"}},
        {offsetof(struct fm_config, width), 1u << 25, {"llama.embedding_length", "33554432"}},
        {offsetof(struct fm_config, heads_kv), 3, {"llama.attention.head_count", "4", "3"}},
        {offsetof(struct fm_config, heads), 8, {"blk.0.attn_q.weight", "[64,64]", "[128,64]"}},
        {offsetof(struct fm_config, ffn), 97, {"blk.0.ffn_gate.weight", "[96,64]", "[97,64]"}},
        {offsetof(struct fm_config, rotated), 18, {"llama.rope.dimension_count", "18", "16"}},
        {offsetof(struct fm_config, rotated), 7, {"llama.rope.dimension_count", "7"}},
        {offsetof(struct fm_config, context), 0, {"llama.context_length", "0"}},
    };
    for (size_t i = 0; i < FM_COUNT(cases); i++) {
        struct gguf_writer w = {0};
        struct fm_config made = model_make_config("llama"), wrong = made;
        memcpy((char *)&wrong + cases[i].field, &cases[i].value, sizeof(cases[i].value));
        model_make_keys(&w, "llama", &wrong);
        model_make_tensors(&w, "llama", &made, FM_TYPE_F32, 4);
        expect_message(&w, FM_FORMAT, cases[i].parts);
        gguf_write_finish(&w);
    }
}

// The first word of the RoPE table of a llama file with these scaling keys: `type` NULL and factor 0 = none.
static uint32_t rope_word(const char *type, float factor)
{
    struct fm_config made = model_make_config("llama");
    struct gguf_writer w = {0};
    struct fm_graph g = {0};
    uint32_t word = 0;
    model_make(&w, "llama", &made, FM_TYPE_F32, 6);
    if (type)
        gguf_write_string(&w, "llama.rope.scaling.type", type);
    if (factor > 0)
        gguf_write_f32(&w, "llama.rope.scaling.factor", factor);
    assert_int_equal(open_and_build(&w, NULL, &g), FM_OK);
    for (size_t v = 0; v < g.n_values && word == 0; v++)
        if (g.values[v].kind == FM_VALUE_CONST)
            memcpy(&word, (const uint8_t *)g.values[v].of.data + sizeof(word), sizeof(word));
    fm_graph_finish(&g);
    gguf_write_finish(&w);
    return word;
}

// A factor without a type is linear.
static void test_rope_factor_alone(void **state)
{
    (void)state;
    assert_int_not_equal(rope_word(NULL, 0), 0);
    assert_int_not_equal(rope_word(NULL, 4), rope_word(NULL, 0));
    assert_int_equal(rope_word(NULL, 4), rope_word("linear", 4));
    assert_int_equal(rope_word("none", 4), rope_word(NULL, 0));
}

// Keys of a good llama file with one more that spoils it.
static void test_bad_keys(void **state)
{
    (void)state;
    struct fm_config made = model_make_config("llama");
    for (int i = 0; i < 6; i++) {
        struct gguf_writer w = {0};
        enum fm_result expected = FM_UNSUPPORTED;
        const char *parts[4] = {0};
        model_make(&w, "llama", &made, FM_TYPE_F32, 5);
        switch (i) {
        case 0:
            gguf_write_string(&w, "llama.rope.scaling.type", "yarn");
            parts[0] = "yarn", parts[1] = "linear, llama3";
            break;
        case 1:
            gguf_write_string(&w, "llama.rope.scaling.type", "linear");
            parts[0] = "llama.rope.scaling.factor", expected = FM_FORMAT;
            break;
        case 2:
            gguf_write_string(&w, "llama.rope.scaling.type", "linear");
            gguf_write_f32(&w, "llama.rope.scaling.factor", -2);
            parts[0] = "llama.rope.scaling.factor", parts[1] = "-2", expected = FM_FORMAT;
            break;
        case 3:
            gguf_write_u32(&w, "llama.expert_count", 8);
            parts[0] = "llama.expert_count", parts[1] = "experts";
            break;
        case 4:
            gguf_write_u32(&w, "llama.attention.value_length", 8);
            parts[0] = "value_length", parts[1] = "8", parts[2] = "16";
            break;
        default:
            gguf_write_strings(&w, "tokenizer.ggml.tokens", (const char *const[]){"a"}, 0);
            gguf_write_u32(&w, "llama.attention.sliding_window", 16);
            expected = FM_OK;
            break;
        }
        if (expected != FM_OK) {
            expect_message(&w, expected, parts);
        } else {
            struct fm_config read;
            struct fm_graph g = {0};
            assert_int_equal(open_and_build(&w, &read, &g), FM_OK);
            assert_int_equal(read.window, 16);
            fm_graph_finish(&g);
        }
        gguf_write_finish(&w);
    }
}

static void test_unknown_architecture(void **state)
{
    (void)state;
    struct gguf_writer w = {0};
    gguf_write_string(&w, "general.architecture", "perceptron");
    expect_message(&w, FM_UNSUPPORTED, (const char *const[4]){"perceptron", "llama, qwen2, gpt2"});
    gguf_write_finish(&w);
}

// One tensor missing, of the wrong type, of the wrong shape; too many tokens; a bad divisor.
static void test_bad_tensors(void **state)
{
    (void)state;
    struct fm_config made = model_make_config("llama"), fewer = made;
    const uint64_t dims[] = {96, 64}, three[] = {3};
    struct gguf_writer w = {0};
    fewer.n_layers = 1;
    model_make_keys(&w, "llama", &made);
    model_make_tensors(&w, "llama", &fewer, FM_TYPE_F32, 6);
    expect_message(&w, FM_FORMAT, (const char *const[4]){"test.gguf", "blk.1.attn_norm.weight", "missing", "[64]"});
    gguf_write_finish(&w);

    made.tied = true;
    int32_t *words = calloc(96 * 64, sizeof(*words));
    float divisors[8] = {1, 1, 1, 0, 1, 1, 1, 1};
    assert_non_null(words);
    w = (struct gguf_writer){0};
    model_make(&w, "llama", &made, FM_TYPE_F32, 6);
    gguf_write_tensor(&w, "output.weight", FM_TYPE_I32, 2, dims, words);
    expect_message(&w, FM_FORMAT, (const char *const[4]){"output.weight", "i32", "weight type"});
    gguf_write_finish(&w);
    free(words);

    w = (struct gguf_writer){0};
    model_make(&w, "llama", &made, FM_TYPE_F32, 6);
    gguf_write_tensor_f32(&w, "rope_freqs.weight", FM_TYPE_F32, 1, three, divisors);
    expect_message(&w, FM_FORMAT, (const char *const[4]){"rope_freqs.weight", "3 elements", "[8]"});
    gguf_write_finish(&w);

    w = (struct gguf_writer){0};
    model_make(&w, "llama", &made, FM_TYPE_F32, 6);
    gguf_write_tensor_f32(&w, "rope_freqs.weight", FM_TYPE_F32, 1, (const uint64_t[]){8}, divisors);
    expect_message(&w, FM_FORMAT, (const char *const[4]){"rope_freqs.weight", "element 3", "0"});
    gguf_write_finish(&w);

    const char *tokens[97];
    for (int i = 0; i < 97; i++)
        tokens[i] = "t";
    w = (struct gguf_writer){0};
    model_make(&w, "llama", &made, FM_TYPE_F32, 6);
    gguf_write_strings(&w, "tokenizer.ggml.tokens", tokens, 97);
    expect_message(&w, FM_FORMAT, (const char *const[4]){"tokenizer.ggml.tokens", "97", "96"});
    gguf_write_finish(&w);
}

// Padding of the vocabulary is never sampled.
static void test_padded_vocabulary(void **state)
{
    (void)state;
    struct fm_config made = model_make_config("qwen2"), read;
    struct gguf_writer w = {0};
    struct fm_graph g = {0};
    const char *tokens[96];
    int32_t types[96];
    for (int i = 0; i < 96; i++) {
        tokens[i] = "t";
        types[i] = i < 90 ? 1 : 5;
    }
    types[40] = 5; // unused, but not padding at the end
    model_make(&w, "qwen2", &made, FM_TYPE_F32, 7);
    gguf_write_strings(&w, "tokenizer.ggml.tokens", tokens, 96);
    gguf_write_array(&w, "tokenizer.ggml.token_type", GGUF_I32, types, 96);
    assert_int_equal(open_and_build(&w, &read, &g), FM_OK);
    assert_int_equal(read.vocab, 96);
    assert_int_equal(read.vocab_real, 90);
    assert_int_equal(g.nodes[g.n_nodes - 1].attr.vocab, 90);
    fm_graph_finish(&g);
    gguf_write_finish(&w);
}

// The window of the file reaches every layer's attention; without the key there is none.
static void test_qwen2_window(void **state)
{
    (void)state;
    for (uint32_t window = 0; window <= 16; window += 16) {
        struct fm_config made = model_make_config("qwen2"), read;
        struct gguf_writer w = {0};
        struct fm_graph g = {0};
        uint32_t found = 0;
        made.window = window;
        model_make(&w, "qwen2", &made, FM_TYPE_F32, 9);
        assert_int_equal(open_and_build(&w, &read, &g), FM_OK);
        assert_int_equal(read.window, window);
        for (size_t i = 0; i < g.n_nodes; i++) {
            if (g.nodes[i].op != FM_OP_ATTEND)
                continue;
            assert_int_equal(g.nodes[i].attr.window, window);
            found++;
        }
        assert_int_equal(found, made.n_layers);
        fm_graph_finish(&g);
        gguf_write_finish(&w);
    }
}

// Failure of each allocation in turn: an error, no leak (under the sanitizers), and success in the end.
static void test_allocation_failures(void **state)
{
    (void)state;
    struct fm_config made = model_make_config("llama");
    struct gguf_writer w = {0};
    model_make(&w, "llama", &made, FM_TYPE_F32, 8);
    struct gguf_bytes bytes = gguf_write_make(&w);
    struct fm_file *file = NULL;
    assert_int_equal(fm_file_open_memory(bytes.data, bytes.size_bytes, "test.gguf", &file), FM_OK);
    enum fm_result r = FM_NOMEM;
    for (uint64_t n = 0; r != FM_OK; n++) {
        struct fm_arena arena = {0};
        struct fm_graph g = {0};
        const struct fm_arch *arch;
        struct fm_config config;
        assert_true(n < 10000);
        fm_alloc_fail_at(n);
        r = fm_arch_open(file, &arena, &arch, &config);
        if (r == FM_OK)
            r = fm_arch_build(arch, &config, file, &options, &g);
        fm_alloc_fail_at(UINT64_MAX);
        assert_true(r == FM_OK || r == FM_NOMEM);
        if (r == FM_OK)
            fm_graph_finish(&g);
        fm_arena_finish(&arena);
    }
    fm_file_close(&file);
    gguf_bytes_finish(&bytes);
    gguf_write_finish(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_parameter_counts),
        cmocka_unit_test(test_random_types),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_many_layers),
        cmocka_unit_test(test_slices),
        cmocka_unit_test(test_bad_config),
        cmocka_unit_test(test_bad_keys),
        cmocka_unit_test(test_rope_factor_alone),
        cmocka_unit_test(test_unknown_architecture),
        cmocka_unit_test(test_bad_tensors),
        cmocka_unit_test(test_padded_vocabulary),
        cmocka_unit_test(test_qwen2_window),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
