// SPDX-License-Identifier: MIT
// Files whose tokenizer is broken, absent or unknown, and memory that runs out: a clear line each, and nothing leaks.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "support/vocab_make.h"

static void expect_error(struct gguf_writer *w, enum fm_result want, const char *want_message)
{
    struct fm_tokenizer *tok = NULL;
    assert_int_equal(vocab_open(w, &tok), want);
    assert_null(tok);
    assert_string_equal(fm_error_message(), want_message);
    gguf_write_finish(w);
    *w = (struct gguf_writer){0};
}

static void start(struct gguf_writer *w, const char *model)
{
    gguf_write_string(w, "general.architecture", "llama");
    gguf_write_string(w, "tokenizer.ggml.model", model);
}

static void test_no_tokenizer(void **state)
{
    (void)state;
    const char *const models[] = {NULL, "none", "no_vocab"};
    for (size_t i = 0; i < FM_COUNT(models); i++) {
        struct gguf_writer w = {0};
        struct fm_tokenizer *tok = (struct fm_tokenizer *)&w;
        gguf_write_string(&w, "general.architecture", "llama");
        if (models[i] != NULL)
            gguf_write_string(&w, "tokenizer.ggml.model", models[i]);
        assert_int_equal(vocab_open(&w, &tok), FM_OK);
        assert_null(tok);
        gguf_write_finish(&w);
    }
}

static void test_unknown_kinds(void **state)
{
    (void)state;
    struct gguf_writer w = {0};
    start(&w, "t5");
    expect_error(
        &w, FM_UNSUPPORTED,
        "test.gguf: metadata 'tokenizer.ggml.model': 't5' is not supported, supported are: llama gpt2 gemma4 none no_vocab");
    struct fm_tokenizer *tok = NULL;
    vocab_make_bpe(&w, "gpt-3", NULL, 0, NULL, 0);
    assert_int_equal(vocab_open(&w, &tok), FM_UNSUPPORTED);
    assert_non_null(
        strstr(fm_error_message(), "test.gguf: metadata 'tokenizer.ggml.pre': unknown pre-tokenizer 'gpt-3', known"));
    assert_non_null(strstr(fm_error_message(), " llama-bpe "));
    assert_non_null(strstr(fm_error_message(), "tiny_aya")); // the last of the list: nothing was cut off
    gguf_write_finish(&w);
}

static void test_missing_and_mistyped_keys(void **state)
{
    (void)state;
    struct gguf_writer w = {0};
    const char *const tokens[] = {"a", "b"};
    const float scores[] = {0, 0};
    const uint32_t numbers[] = {1, 2};
    start(&w, "llama");
    expect_error(&w, FM_FORMAT,
                 "test.gguf: metadata 'tokenizer.ggml.tokens': missing, though tokenizer.ggml.model is there");
    start(&w, "llama");
    gguf_write_array(&w, "tokenizer.ggml.tokens", GGUF_U32, numbers, 2);
    expect_error(&w, FM_FORMAT, "test.gguf: metadata 'tokenizer.ggml.tokens': expected an array of strings");
    start(&w, "llama");
    gguf_write_strings(&w, "tokenizer.ggml.tokens", tokens, 0);
    expect_error(&w, FM_FORMAT, "test.gguf: metadata 'tokenizer.ggml.tokens': expected 1 to 16777216 tokens, found 0");
    start(&w, "llama");
    gguf_write_strings(&w, "tokenizer.ggml.tokens", tokens, 2);
    expect_error(&w, FM_FORMAT,
                 "test.gguf: metadata 'tokenizer.ggml.scores': missing, tokenizer.ggml.model 'llama' needs it");
    start(&w, "llama");
    gguf_write_strings(&w, "tokenizer.ggml.tokens", tokens, 2);
    gguf_write_array(&w, "tokenizer.ggml.scores", GGUF_U32, numbers, 2);
    expect_error(&w, FM_FORMAT, "test.gguf: metadata 'tokenizer.ggml.scores': expected an array of floats");
    start(&w, "llama");
    gguf_write_strings(&w, "tokenizer.ggml.tokens", tokens, 2);
    gguf_write_array(&w, "tokenizer.ggml.token_type", GGUF_F32, scores, 2);
    expect_error(&w, FM_FORMAT, "test.gguf: metadata 'tokenizer.ggml.token_type': expected an array of integers");
    start(&w, "gpt2");
    gguf_write_string(&w, "tokenizer.ggml.pre", "gpt-2");
    gguf_write_strings(&w, "tokenizer.ggml.tokens", tokens, 2);
    expect_error(&w, FM_FORMAT,
                 "test.gguf: metadata 'tokenizer.ggml.merges': missing, tokenizer.ggml.model 'gpt2' needs it");
    start(&w, "gpt2");
    gguf_write_string(&w, "tokenizer.ggml.pre", "gpt-2");
    gguf_write_strings(&w, "tokenizer.ggml.tokens", tokens, 2);
    gguf_write_array(&w, "tokenizer.ggml.merges", GGUF_U32, numbers, 2);
    expect_error(&w, FM_FORMAT, "test.gguf: metadata 'tokenizer.ggml.merges': expected an array of strings");
}

static void test_unequal_arrays(void **state)
{
    (void)state;
    struct gguf_writer w = {0};
    const char *const tokens[] = {"a", "b"};
    const float scores[] = {0, 0, 0};
    const int32_t types[] = {1, 1, 1};
    start(&w, "llama");
    gguf_write_strings(&w, "tokenizer.ggml.tokens", tokens, 2);
    gguf_write_array(&w, "tokenizer.ggml.scores", GGUF_F32, scores, 3);
    expect_error(
        &w, FM_FORMAT,
        "test.gguf: metadata 'tokenizer.ggml.scores': expected 2 elements as tokenizer.ggml.tokens has, found 3");
    start(&w, "llama");
    gguf_write_strings(&w, "tokenizer.ggml.tokens", tokens, 2);
    gguf_write_array(&w, "tokenizer.ggml.token_type", GGUF_I32, types, 1);
    expect_error(
        &w, FM_FORMAT,
        "test.gguf: metadata 'tokenizer.ggml.token_type': expected 2 elements as tokenizer.ggml.tokens has, found 1");
}

static void test_bad_values(void **state)
{
    (void)state;
    struct gguf_writer w = {0};
    const char *const tokens[] = {"a", "<0x-1>", "<0x0g>"};
    const int32_t bad_type[] = {1, 7, 1}, bytes[] = {1, 6, 6}, negative[] = {-1, 1, 1};
    start(&w, "llama");
    gguf_write_strings(&w, "tokenizer.ggml.tokens", tokens, 3);
    gguf_write_array(&w, "tokenizer.ggml.token_type", GGUF_I32, bad_type, 3);
    expect_error(&w, FM_FORMAT, "test.gguf: metadata 'tokenizer.ggml.token_type'[1]: expected 0 to 6, found 7");
    start(&w, "llama");
    gguf_write_strings(&w, "tokenizer.ggml.tokens", tokens, 3);
    gguf_write_array(&w, "tokenizer.ggml.token_type", GGUF_I32, negative, 3);
    expect_error(&w, FM_FORMAT, "test.gguf: metadata 'tokenizer.ggml.token_type'[0]: expected 0 to 6, found -1");
    start(&w, "llama");
    gguf_write_strings(&w, "tokenizer.ggml.tokens", tokens, 3);
    gguf_write_array(&w, "tokenizer.ggml.token_type", GGUF_I32, bytes, 3);
    expect_error(&w, FM_FORMAT,
                 "test.gguf: metadata 'tokenizer.ggml.tokens'[1]: byte token '<0x-1>', expected <0x00> to <0xFF>");
    vocab_make_bpe(&w, "gpt-2", NULL, 0, NULL, 0);
    gguf_write_u32(&w, "tokenizer.ggml.eos_token_id", 256);
    expect_error(&w, FM_FORMAT, "test.gguf: metadata 'tokenizer.ggml.eos_token_id': expected 0 to 255, found 256");
    char *long_text = calloc(65538, 1);
    assert_non_null(long_text);
    memset(long_text, 'x', 65537);
    const struct vocab_token extra = {.text = long_text};
    vocab_make_bpe(&w, "gpt-2", NULL, 0, &extra, 1);
    expect_error(&w, FM_FORMAT,
                 "test.gguf: metadata 'tokenizer.ggml.tokens'[256]: expected at most 65536 bytes, found 65537");
    free(long_text);
}

// Merges that lead nowhere are left out; the rest works.
static void test_useless_merges(void **state)
{
    (void)state;
    struct gguf_writer w = {0};
    struct fm_tokenizer *tok = NULL;
    const char *const tokens[] = {"a", "b", "c", "ab", "", "ab"};
    const char *const merges[] = {"b c", "a", "", " ", "  ", "x y", "a b", "a b c", "a b"};
    start(&w, "gpt2");
    gguf_write_string(&w, "tokenizer.ggml.pre", "gpt-2");
    gguf_write_strings(&w, "tokenizer.ggml.tokens", tokens, FM_COUNT(tokens));
    gguf_write_strings(&w, "tokenizer.ggml.merges", merges, FM_COUNT(merges));
    assert_int_equal(vocab_open(&w, &tok), FM_OK);
    uint32_t *ids = NULL;
    size_t count = 0;
    assert_int_equal(fm_tokenizer_encode(tok, "abc\xFFz", 5, FM_ENCODE_SPECIAL, &ids, &count), FM_OK);
    assert_int_equal(count, 2); // bytes without a token are left out: this vocabulary has no unknown token
    assert_int_equal(ids[0], 3);
    assert_int_equal(ids[1], 2);
    fm_tokens_free(ids);
    fm_tokenizer_destroy(&tok);
    gguf_write_finish(&w);
}

// A file without types (made by old converters): the byte tokens are known by their text.
static void test_untyped_spm(void **state)
{
    (void)state;
    struct gguf_writer w = {0};
    struct fm_tokenizer *tok = NULL;
    const char *const tokens[] = {"<unk>", "<s>", "</s>", "<0x0A>", "a", "<0xZZ>"};
    const float scores[6] = {0};
    start(&w, "llama");
    gguf_write_strings(&w, "tokenizer.ggml.tokens", tokens, 6);
    gguf_write_array(&w, "tokenizer.ggml.scores", GGUF_F32, scores, 6);
    gguf_write_bool(&w, "tokenizer.ggml.add_space_prefix", false);
    assert_int_equal(vocab_open(&w, &tok), FM_OK);
    assert_int_equal(fm_tokenizer_bos(tok), 1);
    assert_int_equal(fm_tokenizer_eos(tok), 2);
    assert_true(fm_tokenizer_is_end(tok, 2));
    uint32_t *ids = NULL;
    size_t count = 0;
    assert_int_equal(fm_tokenizer_encode(tok, "a\nq", 3, FM_ENCODE_BOS, &ids, &count), FM_OK);
    const uint32_t want[] = {1, 4, 3, 0};
    assert_int_equal(count, 4);
    assert_memory_equal(ids, want, sizeof(want));
    fm_tokens_free(ids);
    fm_tokenizer_destroy(&tok);
    gguf_write_finish(&w);
}

static void use(const struct fm_tokenizer *tok, bool *out_failed)
{
    const char text[] = "a<c>ba  e\xCC\x81 \xFF abc 123";
    uint32_t *ids = NULL;
    size_t count = 0, bytes = 0;
    uint32_t *turns = NULL;
    char *back = NULL, *chat = NULL;
    const struct fm_chat_message message = {"user", text};
    enum fm_result r =
        fm_tokenizer_encode(tok, text, sizeof(text) - 1, FM_ENCODE_SPECIAL | FM_ENCODE_BOS, &ids, &count);
    if (r == FM_OK)
        r = fm_tokenizer_decode(tok, ids, count, true, &back, &bytes);
    if (r == FM_OK)
        r = fm_chat_render(FM_CHAT_CHATML, &message, 1, true, &chat);
    if (r == FM_OK)
        r = fm_chat_encode(tok, FM_CHAT_LLAMA2, &message, 1, true, NULL, NULL, &turns, &count);
    *out_failed = r != FM_OK;
    if (r != FM_OK)
        assert_int_equal(r, FM_NOMEM);
    fm_tokens_free(turns);
    fm_tokens_free(ids);
    fm_text_free(back);
    fm_text_free(chat);
}

// Every allocation fails once. Whatever fails says so, and AddressSanitizer finds no leak.
static void test_out_of_memory(void **state)
{
    (void)state;
    const char *const merges[] = {"a b", "ab c"};
    const struct vocab_token extra[] = {{"a", -1, 0}, {"b", -1, 0},  {"ab", -1, 5},
                                        {"c", 0, 0},  {"<c>", 0, 3}, {"<u>", 0, 4}};
    for (int kind = 0; kind < 3; kind++) {
        struct gguf_writer w = {0};
        if (kind == 0)
            vocab_make_spm(&w, true, extra, FM_COUNT(extra));
        else if (kind == 1)
            vocab_make_char_bpe(&w, merges, FM_COUNT(merges), extra, FM_COUNT(extra));
        else
            vocab_make_bpe(&w, "qwen2", merges, FM_COUNT(merges), extra, FM_COUNT(extra));
        gguf_write_string(&w, "tokenizer.chat_template", "<|im_start|>system\\nHi<|im_end|>");
        uint64_t failures = 0;
        for (uint64_t n = 0;; n++) {
            struct fm_tokenizer *tok = NULL;
            bool failed = true;
            fm_alloc_fail_at(n);
            enum fm_result r = vocab_open(&w, &tok);
            if (r == FM_OK)
                use(tok, &failed);
            else
                assert_int_equal(r, FM_NOMEM);
            uint64_t made = fm_alloc_fail_at(UINT64_MAX);
            fm_tokenizer_destroy(&tok);
            if (made <= n) {
                assert_false(failed);
                break;
            }
            failures += failed; // just-in-time compilation may fail without harm
        }
        print_message("%d: %d allocations\n", kind, (int)failures);
        assert_true(failures >= 30);
        gguf_write_finish(&w);
    }
}

static void test_text_too_long(void **state)
{
    (void)state;
    struct gguf_writer w = {0};
    struct fm_tokenizer *tok = NULL;
    uint32_t *ids = NULL;
    size_t count = 0;
    vocab_make_bpe(&w, "gpt-2", NULL, 0, NULL, 0);
    assert_int_equal(vocab_open(&w, &tok), FM_OK);
    assert_int_equal(fm_tokenizer_encode(tok, "", ((size_t)1 << 30) + 1, 0, &ids, &count), FM_ARG);
    assert_string_equal(fm_error_message(), "text of 1073741825 bytes to encode, expected at most 1073741824");
    assert_null(ids);
    fm_tokenizer_destroy(&tok);
    gguf_write_finish(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_tokenizer),
        cmocka_unit_test(test_unknown_kinds),
        cmocka_unit_test(test_missing_and_mistyped_keys),
        cmocka_unit_test(test_unequal_arrays),
        cmocka_unit_test(test_bad_values),
        cmocka_unit_test(test_useless_merges),
        cmocka_unit_test(test_untyped_spm),
        cmocka_unit_test(test_text_too_long),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests_name("tokenizer_bad", tests, NULL, NULL);
}
