// SPDX-License-Identifier: MIT
// Keys and tensors that an architecture does not read: refused by name where they would change what is computed, accepted
// where they do not; optional biases reach the graph.
#include "models/arch.h"
#include "support/model_make.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static unsigned warnings;

static void count_warning(void *user, enum fm_log_level level, const char *line)
{
    (void)user;
    (void)line;
    warnings += level <= FM_LOG_WARN;
}

// Open and build the file. The message of a failure is kept by fm_error_message().
static enum fm_result read_file(const struct gguf_writer *w, struct fm_graph *out_graph)
{
    static const struct fm_graph_options options = {.kv_type = {FM_TYPE_F16, FM_TYPE_F16}};
    struct gguf_bytes bytes = gguf_write_make(w);
    struct fm_file *file = NULL;
    struct fm_arena arena = {0};
    const struct fm_arch *arch;
    struct fm_config config;
    struct fm_graph graph = {0};
    assert_int_equal(fm_file_open_memory(bytes.data, bytes.size_bytes, "test.gguf", &file), FM_OK);
    enum fm_result r = fm_arch_open(file, &arena, &arch, &config);
    if (r == FM_OK)
        r = fm_arch_build(arch, &config, file, &options, &graph);
    if (r == FM_OK && out_graph)
        *out_graph = graph;
    else if (r == FM_OK)
        fm_graph_finish(&graph);
    fm_arena_finish(&arena);
    fm_file_close(&file);
    gguf_bytes_finish(&bytes);
    return r;
}

static void expect_refused(const struct gguf_writer *w, const char *name)
{
    assert_int_equal(read_file(w, NULL), FM_UNSUPPORTED);
    if (!strstr(fm_error_message(), name) || strncmp(fm_error_message(), "test.gguf: ", 11) != 0)
        fail_msg("'%s' does not name %s", fm_error_message(), name);
}

static void put_zeros(struct gguf_writer *w, const char *name, uint64_t count)
{
    float *zeros = calloc(count, sizeof(*zeros));
    assert_non_null(zeros);
    gguf_write_tensor_f32(w, name, FM_TYPE_F32, 1, &count, zeros);
    free(zeros);
}

static void test_unused_tensors(void **state)
{
    static const struct {
        const char *arch, *name;
    } bad[] = {
        {"llama", "output_norm.bias"},         {"llama", "blk.0.attn_q_norm.weight"}, {"llama", "blk.1.attn_k_norm.weight"},
        {"llama", "blk.0.attn_norm.bias"},     {"llama", "blk.0.ffn_norm.bias"},      {"llama", "blk.1.post_ffw_norm.weight"},
        {"llama", "blk.0.ffn_gate_inp.weight"}, {"llama", "blk.0.attn_sinks.weight"},  {"llama", "output.bias"},
        {"llama", "blk.2.attn_norm.weight"},   {"llama", "blk.0.attn_q.scale"},       {"llama", "token_embd_norm.weight"},
        {"llama", "rope_factors_long.weight"}, {"qwen2", "blk.0.attn_q_norm.weight"}, {"qwen2", "output_norm.bias"},
        {"gpt2", "blk.0.attn_q.bias"},         {"gpt2", "blk.0.ffn_gate.weight"},     {"gpt2", "blk.0.attn_post_norm.bias"},
        {"llama", "blk.0.something.new"},      {"llama", "blk.0.nextn.eh_proj.weight"}};
    static const char *const good[] = {"blk.0.attn.masked_bias", "blk.0.attn.bias", "model.layers.0.self_attn.rotary_emb.inv_freq",
                                       "blk.0.attn_rot_embd.weight", "rope.freqs", "v.blk.0.attn_q.weight", "mm.0.weight",
                                       "a.blk.0.ln1.bias", "mtp.0.weight"};
    (void)state;
    for (size_t i = 0; i < FM_COUNT(bad); i++) {
        struct fm_config made = model_make_config(bad[i].arch);
        struct gguf_writer w = {0};
        model_make(&w, bad[i].arch, &made, FM_TYPE_F32, 1);
        assert_int_equal(read_file(&w, NULL), FM_OK);
        put_zeros(&w, bad[i].name, 16);
        expect_refused(&w, bad[i].name);
        gguf_write_finish(&w);
    }
    struct fm_config made = model_make_config("llama");
    struct gguf_writer w = {0};
    model_make(&w, "llama", &made, FM_TYPE_F32, 1);
    for (size_t i = 0; i < FM_COUNT(good); i++)
        put_zeros(&w, good[i], 4);
    assert_int_equal(read_file(&w, NULL), FM_OK);
    put_zeros(&w, "blk.1.attn_k_norm.weight", 16);
    put_zeros(&w, "output_norm.bias", 64);
    expect_refused(&w, "blk.1.attn_k_norm.weight");
    assert_non_null(strstr(fm_error_message(), "1 more"));
    gguf_write_finish(&w);
}

struct key_case {
    const char *arch, *key;
    double bad, neutral; // values
};

static void put_number(struct gguf_writer *w, const char *key, double value)
{
    if (value == (double)(uint32_t)value)
        gguf_write_u32(w, key, (uint32_t)value);
    else
        gguf_write_f32(w, key, (float)value);
}

static void test_keys(void **state)
{
    static const struct key_case cases[] = {
        {"llama", "llama.attention.scale", 0.5, 0.25},         {"llama", "llama.logit_scale", 0.0625, 1},
        {"llama", "llama.residual_scale", 0.22, 1},            {"llama", "llama.embedding_scale", 12, 1},
        {"llama", "llama.attn_logit_softcapping", 50, 0},      {"llama", "llama.final_logit_softcapping", 30, 0},
        {"llama", "llama.attention.clamp_kqv", 8, 0},          {"llama", "llama.attention.max_alibi_bias", 8, 0},
        {"llama", "llama.rope.scaling.attn_factor", 1.5, 1},   {"llama", "llama.rope.scaling.alpha", 1000, 0},
        {"llama", "llama.attention.temperature_scale", 0.1, 0}, {"llama", "llama.attention.temperature_length", 8192, 0},
        {"llama", "llama.nextn_predict_layers", 1, 0},         {"llama", "llama.expert_used_count", 2, 0},
        {"llama", "llama.expert_weights_scale", 2.5, 1},       {"llama", "llama.expert_shared_count", 1, 0},
        {"llama", "llama.leading_dense_block_count", 1, 0},    {"llama", "llama.pooling_type", 3, 0},
        {"llama", "llama.attention.causal", 0, 1},             {"llama", "llama.use_parallel_residual", 1, 0},
        {"llama", "llama.attention.key_length_swa", 8, 0},     {"llama", "llama.rope.freq_base_swa", 1000, 0},
        {"llama", "llama.attention.output_scale", 0.3, 1},     {"llama", "llama.attention.shared_kv_layers", 1, 0},
        {"llama", "llama.attention.some_new_thing", 3, 0},     {"llama", "llama.rope.some_new_thing", 3, 0},
        {"llama", "llama.hidden_multiplier", 3, 1},            {"llama", "rope.scaling.factor_new", 3, 1},
        {"llama", "llama.ssm.state_size", 16, 0},              {"qwen2", "qwen2.attention.scale", 1, 0.25},
        {"qwen2", "qwen2.logit_scale", 2, 0},                  {"qwen2", "qwen2.rope.scaling.attn_factor", 1.19, 1},
        {"gpt2", "gpt2.rope.dimension_count", 8, 0},           {"gpt2", "gpt2.attention.sliding_window", 128, 256},
        {"gpt2", "gpt2.rope.freq_base", 10000, 0},             {"gpt2", "gpt2.attn_logit_softcapping", 20, 0}};
    (void)state;
    for (size_t i = 0; i < FM_COUNT(cases); i++)
        for (int neutral = 0; neutral < 2; neutral++) {
            struct fm_config made = model_make_config(cases[i].arch);
            struct gguf_writer w = {0};
            model_make(&w, cases[i].arch, &made, FM_TYPE_F32, 1);
            put_number(&w, cases[i].key, neutral ? cases[i].neutral : cases[i].bad);
            if (!neutral)
                expect_refused(&w, cases[i].key);
            else if (read_file(&w, NULL) != FM_OK)
                fail_msg("%s %g: %s", cases[i].key, cases[i].neutral, fm_error_message());
            gguf_write_finish(&w);
        }
}

// Arrays, bools and texts.
static void test_other_kinds(void **state)
{
    static const uint32_t sections[] = {2, 3, 3, 0}, none[] = {0, 0, 0, 0};
    static const bool all[] = {true, true}, some[] = {true, false};
    struct fm_config made = model_make_config("llama");
    (void)state;
    for (int i = 0; i < 9; i++) {
        struct gguf_writer w = {0};
        model_make(&w, "llama", &made, FM_TYPE_F32, 1);
        if (i >= 4 && i <= 6)
            gguf_write_u32(&w, "llama.attention.sliding_window", 16);
        const char *refused = NULL;
        switch (i) {
        case 0: gguf_write_array(&w, refused = "llama.rope.dimension_sections", GGUF_U32, sections, 4); break;
        case 1: gguf_write_array(&w, "llama.rope.dimension_sections", GGUF_U32, none, 4); break;
        case 2: gguf_write_bool(&w, refused = "llama.attention.causal", false); break;
        case 3: gguf_write_array(&w, "llama.attention.sliding_window_pattern", GGUF_BOOL, some, 2); break; // without a window
        case 4: gguf_write_array(&w, refused = "llama.attention.sliding_window_pattern", GGUF_BOOL, some, 2); break;
        case 5: gguf_write_array(&w, "llama.attention.sliding_window_pattern", GGUF_BOOL, all, 2); break;
        case 6: gguf_write_u32(&w, refused = "llama.attention.sliding_window_pattern", 6); break;
        case 7: gguf_write_string(&w, refused = "llama.hidden_activation", "relu"); break;
        default: gguf_write_bool(&w, refused = "llama.swin_norm", true); break;
        }
        if (refused != NULL)
            expect_refused(&w, refused);
        else
            assert_int_equal(read_file(&w, NULL), FM_OK);
        gguf_write_finish(&w);
    }
}

// What converters write beside the keys that count: no refusal, and no warning either; a key of no known effect is told.
static void test_usual_keys(void **state)
{
    static const char *const texts[] = {"general.name", "general.type", "general.basename", "general.size_label", "general.license",
                                        "general.license.link", "general.base_model.0.name", "quantize.imatrix.file",
                                        "quantize.imatrix.dataset", "tokenizer.ggml.scaling_of_nothing", "llama.tensor_data_layout"};
    static const char *const numbers[] = {"general.file_type", "general.quantization_version", "general.sampling.top_k",
                                          "split.tensors.count", "quantize.imatrix.entries_count",
                                          "quantize.imatrix.chunks_count", "imatrix.chunk_count", "llama.attention.layer_norm_epsilon"};
    struct fm_config made = model_make_config("llama");
    struct gguf_writer w = {0};
    (void)state;
    model_make(&w, "llama", &made, FM_TYPE_F32, 1);
    for (size_t i = 0; i < FM_COUNT(texts); i++)
        gguf_write_string(&w, texts[i], "Meta AI original pth");
    for (size_t i = 0; i < FM_COUNT(numbers); i++)
        gguf_write_u32(&w, numbers[i], 3);
    gguf_write_u32(&w, "split.no", 0);
    gguf_write_u32(&w, "split.count", 1);
    gguf_write_u32(&w, "llama.vocab_size", 96);
    gguf_write_u32(&w, "llama.attention.value_length", 16);
    gguf_write_string(&w, "llama.rope.scaling.type", "none");
    gguf_write_f32(&w, "llama.rope.scaling.factor", 1);
    gguf_write_f32(&w, "llama.rope.scaling.attn_factor", 1);
    gguf_write_u32(&w, "llama.rope.scaling.original_context_length", 4096);
    gguf_write_bool(&w, "llama.rope.scaling.finetuned", true);
    warnings = 0;
    fm_log_set(count_warning, NULL, FM_LOG_WARN);
    assert_int_equal(read_file(&w, NULL), FM_OK);
    assert_int_equal(warnings, 0);
    gguf_write_u32(&w, "llama.colour_of_the_box", 3);
    assert_int_equal(read_file(&w, NULL), FM_OK);
    assert_int_equal(warnings, 1);
    fm_log_set(NULL, NULL, FM_LOG_WARN);
    gguf_write_finish(&w);
}

// Each optional bias becomes an operand of its product, and only of that.
static void test_biases(void **state)
{
    static const struct {
        const char *node;
        uint64_t elems;
    } biases[] = {{"attn_q", 64}, {"attn_k", 32}, {"attn_v", 32}, {"attn_output", 64}, {"ffn_gate", 96}, {"ffn_up", 96}, {"ffn_down", 64}};
    (void)state;
    for (int a = 0; a < 2; a++) {
        const char *arch = a ? "qwen2" : "llama";
        for (size_t i = a ? 3 : 0; i < FM_COUNT(biases); i++) { // qwen2 always has the first three
            struct fm_config made = model_make_config(arch);
            struct gguf_writer w = {0};
            struct fm_graph g = {0};
            char name[96], node[64];
            unsigned with = 0;
            snprintf(node, sizeof(node), "blk.1.%s", biases[i].node);
            snprintf(name, sizeof(name), "%s.bias", node);
            model_make(&w, arch, &made, FM_TYPE_F32, 1);
            put_zeros(&w, name, biases[i].elems);
            assert_int_equal(read_file(&w, &g), FM_OK);
            for (size_t n = 0; n < g.n_nodes; n++)
                for (uint32_t s = 0; s < g.nodes[n].n_src; s++)
                    if (g.nodes[n].src[s] != FM_NONE && strcmp(g.values[g.nodes[n].src[s]].name, name) == 0) {
                        assert_string_equal(g.nodes[n].name, node);
                        assert_int_equal(g.nodes[n].op, FM_OP_MATMUL);
                        with++;
                    }
            assert_int_equal(with, 1);
            fm_graph_finish(&g);
            gguf_write_finish(&w);
        }
    }
}

struct names {
    unsigned count;
    char last[64];
};

static void on_unused(void *user, const struct fm_tensor *tensor)
{
    struct names *n = user;
    n->count++;
    snprintf(n->last, sizeof(n->last), "%s", tensor->name);
}

static void test_list_of_unused(void **state)
{
    struct fm_config made = model_make_config("llama"), config;
    struct gguf_writer w = {0};
    struct fm_file *file = NULL;
    struct fm_arena arena = {0};
    struct names names = {0};
    const struct fm_arch *arch;
    (void)state;
    model_make(&w, "llama", &made, FM_TYPE_F32, 1);
    put_zeros(&w, "mm.0.weight", 4);
    put_zeros(&w, "blk.0.attn_q_norm.weight", 16);
    struct gguf_bytes bytes = gguf_write_make(&w);
    assert_int_equal(fm_file_open_memory(bytes.data, bytes.size_bytes, "test.gguf", &file), FM_OK);
    assert_int_equal(fm_arch_open(file, &arena, &arch, &config), FM_OK);
    assert_int_equal(fm_arch_unused(arch, &config, file, on_unused, &names), FM_OK);
    assert_int_equal(names.count, 2);
    assert_string_equal(names.last, "blk.0.attn_q_norm.weight");
    fm_arena_finish(&arena);
    fm_file_close(&file);
    gguf_bytes_finish(&bytes);
    gguf_write_finish(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unused_tensors), cmocka_unit_test(test_keys),   cmocka_unit_test(test_other_kinds),
        cmocka_unit_test(test_usual_keys),     cmocka_unit_test(test_biases), cmocka_unit_test(test_list_of_unused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
