// SPDX-License-Identifier: MIT
// BPE over characters: 0 <pad>, 1 <eos>, 2 <bos>, 3 <unk>, byte b is 4 + b, then the pieces of each test from 260 on. And which
// tokens end an answer, which is the same for every kind of tokenizer.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/expect_ids.h"
#include "support/vocab_make.h"

#define M "\xE2\x96\x81" // U+2581
#define BYTE(b) (4 + (b))
#define CONTROL 3
#define USER 4

static struct fm_tokenizer *opened(struct gguf_writer *w)
{
    struct fm_tokenizer *tok = NULL;
    if (vocab_open(w, &tok) != FM_OK)
        fail_msg("%s", fm_error_message());
    gguf_write_finish(w);
    return tok;
}

static const struct vocab_token pieces[] = {
    {M, 0, 0},                   // 260
    {"a", 0, 0},                 // 261
    {"b", 0, 0},                 // 262
    {"\n", 0, 0},                // 263
    {"ab", 0, 0},                // 264
    {M "ab", 0, 0},              // 265
    {"\n\n", 0, 0},              // 266
    {"b" M "a", 0, 0},           // 267
    {"b" M, 0, 0},               // 268
    {"<u>", 0, USER},            // 269
    {"<start_of_turn>", 0, USER} // 270
};
static const char *const merges[] = {"b " M, "a b", M " ab", "b" M " a"};

static struct fm_tokenizer *open_pieces(void)
{
    struct gguf_writer w = {0};
    vocab_make_char_bpe(&w, merges, FM_COUNT(merges), pieces, FM_COUNT(pieces));
    gguf_write_bool(&w, "tokenizer.ggml.add_bos_token", false);
    return opened(&w);
}

static void test_merges(void **state)
{
    (void)state;
    struct fm_tokenizer *tok = open_pieces();
    EXPECT(tok, "ab", 0, 264);
    EXPECT(tok, " ab", 0, 265);
    // Across a space, by rank: "b " is joined before "a b".
    EXPECT(tok, "ab a", 0, 261, 267);
    EXPECT(tok, "ab  ab", 0, 261, 268, 265);
    EXPECT(tok, "ab\n\nab", 0, 264, 266, 264);
    EXPECT(tok, "\n\n\n", 0, 263, 263, 263); // no merge makes it, and it is no token as a whole
    fm_tokenizer_destroy(&tok);
}

static void test_bytes_and_special(void **state)
{
    (void)state;
    struct fm_tokenizer *tok = open_pieces();
    EXPECT(tok, "a\xC3\xA9", 0, 261, BYTE(0xC3), BYTE(0xA9));
    EXPECT(tok, "\xFF" "a", 0, BYTE(0xFF), 261);
    EXPECT(tok, "a", FM_ENCODE_BOS, 2, 261); // though the file says false
    EXPECT(tok, "<bos>a", FM_ENCODE_SPECIAL, 2, 261);
    EXPECT(tok, "<bos>", 0, BYTE('<'), 262, BYTE('o'), BYTE('s'), BYTE('>'));
    EXPECT(tok, "a<u>", 0, 261, 269);
    EXPECT(tok, "<start_of_turn>", FM_ENCODE_SPECIAL, 270);
    uint32_t *ids = NULL;
    size_t count = 0;
    assert_int_equal(fm_tokenizer_encode(tok, "<start_of_turn>", 15, 0, &ids, &count), FM_OK);
    assert_int_equal(count, 15);
    fm_tokens_free(ids);
    char *text = NULL;
    size_t bytes = 0;
    assert_int_equal(fm_tokenizer_decode(tok, (const uint32_t[]){2, 265, 266, BYTE(0xC3), BYTE(0xA9)}, 5, false, &text, &bytes),
                     FM_OK);
    assert_string_equal(text, " ab\n\n\xC3\xA9");
    fm_text_free(text);
    fm_tokenizer_destroy(&tok);
}

static void test_needs_merges(void **state)
{
    (void)state;
    struct gguf_writer w = {0};
    struct fm_tokenizer *tok = NULL;
    gguf_write_string(&w, "general.architecture", "llama");
    gguf_write_string(&w, "tokenizer.ggml.model", "gemma4");
    gguf_write_strings(&w, "tokenizer.ggml.tokens", (const char *const[]){"a"}, 1);
    assert_int_equal(vocab_open(&w, &tok), FM_FORMAT);
    assert_non_null(strstr(fm_error_message(), "'tokenizer.ggml.merges': missing, tokenizer.ggml.model 'gemma4' needs it"));
    gguf_write_finish(&w);
}

// ---- end tokens -------------------------------------------------------------------------------------------------------

static void test_ends_by_text(void **state)
{
    (void)state;
    static const char *const names[] = {"<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>",
                                        "<EOT>", "[EOT]", "<\xEF\xBD\x9C" "end" M "of" M "sentence\xEF\xBD\x9C>",
                                        "<end_of_utterance>", "<|eom_id|>", "<|return|>", "<turn|>"};
    const int32_t types[] = {1, CONTROL, USER};
    for (size_t t = 0; t < FM_COUNT(types); t++) {
        struct vocab_token extra[FM_COUNT(names)];
        struct gguf_writer w = {0};
        for (size_t i = 0; i < FM_COUNT(names); i++)
            extra[i] = (struct vocab_token){names[i], 0, types[t]};
        vocab_make_bpe(&w, "gpt-2", NULL, 0, extra, FM_COUNT(extra));
        struct fm_tokenizer *tok = opened(&w);
        for (uint32_t i = 0; i < FM_COUNT(names); i++) {
            if (!fm_tokenizer_is_end(tok, 256 + i))
                fail_msg("type %d: '%s' ends no answer", types[t], names[i]);
        }
        fm_tokenizer_destroy(&tok);
    }
}

static void test_words_are_no_ends(void **state)
{
    (void)state;
    const struct vocab_token extra[] = {{"</s>", 0, 0}, {"<eos>", 0, 0}, {"</s>x", 0, CONTROL}, {"<|end", 0, CONTROL}};
    struct gguf_writer w = {0};
    vocab_make_bpe(&w, "gpt-2", NULL, 0, extra, FM_COUNT(extra));
    struct fm_tokenizer *tok = opened(&w);
    for (uint32_t id = 0; id < 260; id++)
        assert_false(fm_tokenizer_is_end(tok, id));
    fm_tokenizer_destroy(&tok);
    // In harmony's vocabulary "<|end|>" ends one of several parts of an answer.
    const struct vocab_token harmony[] = {{"<|end|>", 0, CONTROL}, {"<|return|>", 0, CONTROL}, {"<|call|>", 0, CONTROL}};
    w = (struct gguf_writer){0};
    vocab_make_bpe(&w, "gpt-4o", NULL, 0, harmony, FM_COUNT(harmony));
    tok = opened(&w);
    assert_false(fm_tokenizer_is_end(tok, 256));
    assert_true(fm_tokenizer_is_end(tok, 257));
    assert_true(fm_tokenizer_is_end(tok, 258));
    fm_tokenizer_destroy(&tok);
}

// What the file itself names as an end is one, though its text is none in such a vocabulary.
static void test_named_ends(void **state)
{
    (void)state;
    const struct vocab_token extra[] = {{"<|end|>", 0, CONTROL}, {"<|return|>", 0, CONTROL}, {"<|call|>", 0, CONTROL},
                                        {"</s>", 0, CONTROL}, {"<|tool_response>", 0, CONTROL}, {"<turn|>", 0, CONTROL}};
    const int32_t listed[] = {256};
    struct gguf_writer w = {0};
    vocab_make_bpe(&w, "gpt-4o", NULL, 0, extra, FM_COUNT(extra));
    gguf_write_u32(&w, "tokenizer.ggml.eos_token_id", 259);
    gguf_write_array(&w, "tokenizer.ggml.eos_token_ids", GGUF_I32, listed, FM_COUNT(listed));
    struct fm_tokenizer *tok = opened(&w);
    assert_true(fm_tokenizer_is_end(tok, 256));
    assert_true(fm_tokenizer_is_end(tok, 259));
    fm_tokenizer_destroy(&tok);
}

static void test_ends_by_keys(void **state)
{
    (void)state;
    const int32_t listed[] = {'a', 'b', 'a'};
    const int32_t outside[] = {'a', 256};
    struct gguf_writer w = {0};
    vocab_make_bpe(&w, "gpt-2", NULL, 0, NULL, 0);
    gguf_write_u32(&w, "tokenizer.ggml.eos_token_id", 'c');
    gguf_write_u32(&w, "tokenizer.ggml.eot_token_id", 'd');
    gguf_write_u32(&w, "tokenizer.ggml.eom_token_id", 'e');
    gguf_write_array(&w, "tokenizer.ggml.eos_token_ids", GGUF_I32, listed, FM_COUNT(listed));
    struct fm_tokenizer *tok = opened(&w);
    for (uint32_t id = 0; id < 256; id++)
        assert_int_equal(fm_tokenizer_is_end(tok, id), id >= 'a' && id <= 'e');
    fm_tokenizer_destroy(&tok);
    w = (struct gguf_writer){0};
    vocab_make_bpe(&w, "gpt-2", NULL, 0, NULL, 0);
    gguf_write_array(&w, "tokenizer.ggml.eos_token_ids", GGUF_I32, outside, FM_COUNT(outside));
    assert_int_equal(vocab_open(&w, &tok), FM_FORMAT);
    assert_non_null(strstr(fm_error_message(), "'tokenizer.ggml.eos_token_ids'[1]: expected 0 to 255, found 256"));
    gguf_write_finish(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merges),          cmocka_unit_test(test_bytes_and_special), cmocka_unit_test(test_needs_merges),
        cmocka_unit_test(test_ends_by_text),    cmocka_unit_test(test_words_are_no_ends), cmocka_unit_test(test_ends_by_keys),
        cmocka_unit_test(test_named_ends),
    };
    return cmocka_run_group_tests_name("tokenizer_char_bpe", tests, NULL, NULL);
}
