// SPDX-License-Identifier: MIT
// Byte-level BPE on vocabularies small enough to work the ids out by hand: a byte is its own id, merge i makes 256 + i.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <time.h>

#include "support/expect_ids.h"
#include "support/vocab_make.h"

#define CONTROL 3
#define USER 4

static struct fm_tokenizer *open_bpe(const char *pre, const char *const *merges, size_t merge_count,
                                     const struct vocab_token *extra, size_t extra_count)
{
    struct gguf_writer w = {0};
    struct fm_tokenizer *tok = NULL;
    vocab_make_bpe(&w, pre, merges, merge_count, extra, extra_count);
    if (vocab_open(&w, &tok) != FM_OK)
        fail_msg("%s", fm_error_message());
    gguf_write_finish(&w);
    return tok;
}

// Joins tokens by merging one piece whole: "he" "ll" → the test sees where the pre-tokenizer cut.
static const char *const hello[] = {"l l", "h e", "he ll", "hell o", "\xC4\xA0 hello"};

static void test_merges_by_rank(void **state)
{
    (void)state;
    struct fm_tokenizer *tok = open_bpe("gpt-2", hello, FM_COUNT(hello), NULL, 0);
    EXPECT(tok, "hello", 0, 259);
    EXPECT(tok, " hello", 0, 260);
    EXPECT(tok, "hell", 0, 258);
    EXPECT(tok, "ell", 0, 'e', 256);
    EXPECT(tok, "lll", 0, 256, 'l'); // the leftmost pair of equals
    EXPECT(tok, "llll", 0, 256, 256);
    expect_ids(tok, "", 0, FM_ENCODE_BOS | FM_ENCODE_SPECIAL, NULL, 0);
    fm_tokenizer_destroy(&tok);
    assert_null(tok);
}

static void test_rank_beats_position(void **state)
{
    (void)state;
    const char *const merges[] = {"b c", "a b", "a bc", "ab c"};
    struct fm_tokenizer *tok = open_bpe("gpt-2", merges, FM_COUNT(merges), NULL, 0);
    EXPECT(tok, "abc", 0, 258); // b c first although a b stands further left
    EXPECT(tok, "ab", 0, 257);
    fm_tokenizer_destroy(&tok);
}

static void test_stale_pairs_are_dropped(void **state)
{
    (void)state;
    // "a b" is queued for both a's; after "b a" took the b, the first pair must not merge any more.
    const char *const merges[] = {"b a", "a b"};
    struct fm_tokenizer *tok = open_bpe("gpt-2", merges, FM_COUNT(merges), NULL, 0);
    EXPECT(tok, "aba", 0, 'a', 256);
    EXPECT(tok, "abab", 0, 'a', 256, 'b');
    fm_tokenizer_destroy(&tok);
}

static void test_ignore_merges(void **state)
{
    (void)state;
    const struct vocab_token whole[] = {{.text = "xyz"}};
    struct fm_tokenizer *tok = open_bpe("llama-bpe", hello, FM_COUNT(hello), whole, 1);
    EXPECT(tok, "xyz", 0, 261);
    EXPECT(tok, "xyzz", 0, 'x', 'y', 'z', 'z');
    fm_tokenizer_destroy(&tok);
    tok = open_bpe("gpt-2", hello, FM_COUNT(hello), whole, 1);
    EXPECT(tok, "xyz", 0, 'x', 'y', 'z');
    fm_tokenizer_destroy(&tok);
}

static void test_special_tokens(void **state)
{
    (void)state;
    const struct vocab_token extra[] = {
        {.text = "<|a|>", .type = CONTROL}, {.text = "<|a|>b", .type = CONTROL}, {.text = "<u>", .type = USER}};
    struct fm_tokenizer *tok = open_bpe("gpt-2", NULL, 0, extra, FM_COUNT(extra));
    EXPECT(tok, "x<|a|>y", FM_ENCODE_SPECIAL, 'x', 256, 'y');
    EXPECT(tok, "<|a|>b", FM_ENCODE_SPECIAL, 257); // the longest
    EXPECT(tok, "<|a|", FM_ENCODE_SPECIAL, '<', '|', 'a', '|');
    EXPECT(tok, "<<|a|><u>", FM_ENCODE_SPECIAL, '<', 256, 258);
    EXPECT(tok, "<|a|>", 0, '<', '|', 'a', '|', '>');
    EXPECT(tok, "1<u>2", 0, '1', 258, '2');
    size_t bytes;
    fm_tokenizer_piece(tok, 256, false, &bytes);
    assert_int_equal(bytes, 0);
    assert_memory_equal(fm_tokenizer_piece(tok, 256, true, &bytes), "<|a|>", 5);
    assert_int_equal(bytes, 5);
    fm_tokenizer_piece(tok, 259, true, &bytes);
    assert_int_equal(bytes, 0);
    fm_tokenizer_destroy(&tok);
}

static void test_no_special_tokens(void **state)
{
    (void)state;
    // User-defined tokens are part of any text, but for those that steer a model.
    const struct vocab_token extra[] = {{.text = "  ", .type = USER}, {.text = "<|x|>", .type = USER}, {.text = "[INST]", .type = USER}};
    struct fm_tokenizer *tok = open_bpe("gpt-2", NULL, 0, extra, FM_COUNT(extra));
    EXPECT(tok, "a  <|x|>[INST]", FM_ENCODE_SPECIAL, 'a', 256, 257, 258);
    EXPECT(tok, "a  <|x|>[INST]", 0, 'a', 256, '<', '|', 'x', '|', '>', '[', 'I', 'N', 'S', 'T', ']');
    fm_tokenizer_destroy(&tok);
}

static void test_bos_and_ends(void **state)
{
    (void)state;
    const struct vocab_token extra[] = {{.text = "<s>", .type = CONTROL},
                                        {.text = "<|im_end|>", .type = CONTROL},
                                        {.text = "<|endoftext|>"}, // old converters leave it normal
                                        {.text = "<|eot_id|>", .type = USER}};
    struct gguf_writer w = {0};
    struct fm_tokenizer *tok = NULL;
    vocab_make_bpe(&w, "gpt-2", NULL, 0, extra, FM_COUNT(extra));
    gguf_write_u32(&w, "tokenizer.ggml.bos_token_id", 256);
    gguf_write_u32(&w, "tokenizer.ggml.eos_token_id", 'q');
    gguf_write_bool(&w, "tokenizer.ggml.add_bos_token", true);
    assert_int_equal(vocab_open(&w, &tok), FM_OK);
    assert_int_equal(fm_tokenizer_bos(tok), 256);
    assert_int_equal(fm_tokenizer_eos(tok), 'q');
    assert_int_equal(fm_tokenizer_vocab(tok), 260);
    EXPECT(tok, "a", FM_ENCODE_BOS, 256, 'a');
    EXPECT(tok, "a", 0, 'a');
    EXPECT(tok, "<|endoftext|>", FM_ENCODE_SPECIAL, 258);
    EXPECT(tok, "q", FM_ENCODE_SPECIAL, 'q'); // a plain word as EOS stays a word
    assert_true(fm_tokenizer_is_end(tok, 'q'));
    assert_true(fm_tokenizer_is_end(tok, 257));
    assert_true(fm_tokenizer_is_end(tok, 258));
    assert_false(fm_tokenizer_is_end(tok, 256));
    assert_true(fm_tokenizer_is_end(tok, 259));
    assert_false(fm_tokenizer_is_end(tok, 100000));
    fm_tokenizer_destroy(&tok);
    gguf_write_finish(&w);
}

// Any bytes survive encoding and putting the pieces together again.
static void expect_round_trip(const struct fm_tokenizer *tok, const char *text, size_t text_bytes)
{
    uint32_t *ids = NULL;
    size_t count = 0, at = 0;
    assert_int_equal(fm_tokenizer_encode(tok, text, text_bytes, 0, &ids, &count), FM_OK);
    for (size_t i = 0; i < count; i++) {
        size_t bytes;
        const char *piece = fm_tokenizer_piece(tok, ids[i], false, &bytes);
        assert_true(bytes > 0 && bytes <= text_bytes - at);
        assert_memory_equal(piece, text + at, bytes);
        at += bytes;
    }
    assert_int_equal(at, text_bytes);
    fm_tokens_free(ids);
}

static void test_any_bytes_round_trip(void **state)
{
    (void)state;
    const char *const names[] = {"gpt-2", "llama-bpe", "stablelm2", "smollm", "tekken",
                                 "default", "deepseek-coder", "falcon", "kimi-k2", "afmoe", "tiny_aya"};
    for (size_t n = 0; n < FM_COUNT(names); n++) {
        struct fm_tokenizer *tok = open_bpe(names[n], hello, FM_COUNT(hello), NULL, 0);
        uint32_t seed = 12345;
        for (int round = 0; round < 200; round++) {
            char text[257];
            for (size_t i = 0; i < sizeof(text); i++) {
                seed = seed * 1664525u + 1013904223u;
                // Half the rounds ASCII and spaces, half any byte.
                text[i] = round % 2 ? (char)(seed >> 24) : "hello  \n\t'sS1"[(seed >> 24) % 13];
            }
            expect_round_trip(tok, text, sizeof(text));
        }
        expect_round_trip(tok, "\xE2\x82\xAC\xFF\xE2\x82 \0hello\xF0\x9F\x98\x80\xED\xA0\x80", 21);
        fm_tokenizer_destroy(&tok);
    }
}

static void test_nfc(void **state)
{
    (void)state;
    struct fm_tokenizer *tok = open_bpe("qwen2", NULL, 0, NULL, 0);
    EXPECT(tok, "e\xCC\x81", 0, 0xC3, 0xA9); // e + acute becomes one character
    EXPECT(tok, "xe\xCC\x81y", 0, 'x', 0xC3, 0xA9, 'y');
    EXPECT(tok, "\xE1\x84\x80\xE1\x85\xA1", 0, 0xEA, 0xB0, 0x80);     // Hangul jamo
    EXPECT(tok, "q\xCC\x87\xCC\xA3", 0, 'q', 0xCC, 0xA3, 0xCC, 0x87); // marks in canonical order
    EXPECT(tok, "e\xCC\xFF", 0, 'e', 0xCC, 0xFF);
    EXPECT(tok, "\xF0\x9D\x85\x9E", 0, 0xF0, 0x9D, 0x85, 0x97, 0xF0, 0x9D, 0x85, 0xA5); // excluded from composition
    // Characters newer than Unicode 9.0 neither compose (U+11935 U+11930) nor change places (U+1E08F U+0323).
    EXPECT(tok, "\xF0\x91\xA4\xB5\xF0\x91\xA4\xB0", 0, 0xF0, 0x91, 0xA4, 0xB5, 0xF0, 0x91, 0xA4, 0xB0);
    EXPECT(tok, "q\xF0\x9E\x82\x8F\xCC\xA3", 0, 'q', 0xF0, 0x9E, 0x82, 0x8F, 0xCC, 0xA3);
    EXPECT(tok, "\xF0\x9E\x82\x8F" "e\xCC\x81", 0, 0xF0, 0x9E, 0x82, 0x8F, 0xC3, 0xA9);
    fm_tokenizer_destroy(&tok);
    tok = open_bpe("gpt-2", NULL, 0, NULL, 0);
    EXPECT(tok, "e\xCC\x81", 0, 'e', 0xCC, 0x81);
    fm_tokenizer_destroy(&tok);
}

static void expect_decoded(const struct fm_tokenizer *tok, const uint32_t *ids, size_t count, bool special,
                           const char *want)
{
    char *text = NULL;
    size_t bytes = 0;
    assert_int_equal(fm_tokenizer_decode(tok, ids, count, special, &text, &bytes), FM_OK);
    assert_string_equal(text, want);
    assert_int_equal(bytes, strlen(want));
    fm_text_free(text);
}

static void test_decode(void **state)
{
    (void)state;
    const struct vocab_token extra[] = {{.text = "<c>", .type = CONTROL}, {.text = "\xC4\xA0\xE4\xBD\xA0"}};
    struct fm_tokenizer *tok = open_bpe("gpt-2", hello, FM_COUNT(hello), extra, FM_COUNT(extra));
    const uint32_t ids[] = {261, 260, 0xE2, 0x82, 0xAC, 9999, 0xFF, 'z', 0xF0, 0x9F};
    expect_decoded(tok, ids, FM_COUNT(ids), false, " hello\xE2\x82\xAC\xEF\xBF\xBDz\xEF\xBF\xBD");
    expect_decoded(tok, ids, FM_COUNT(ids), true, "<c> hello\xE2\x82\xAC\xEF\xBF\xBDz\xEF\xBF\xBD");
    expect_decoded(tok, ids, 0, true, "");
    // A character that is in no byte alphabet stands for itself.
    expect_decoded(tok, (const uint32_t[]){262}, 1, false, " \xE4\xBD\xA0");
    // The stream gives the same, and keeps back what is no whole character yet.
    struct fm_utf8_stream stream = {0};
    char *out = malloc(fm_tokenizer_max_piece(tok) + 4);
    assert_non_null(out);
    assert_int_equal(fm_tokenizer_stream(tok, &stream, 0xE2, false, out), 0);
    assert_int_equal(fm_tokenizer_stream(tok, &stream, 0x82, false, out), 0);
    assert_int_equal(fm_tokenizer_stream(tok, &stream, 261, false, out), 0); // a control token does not disturb it
    assert_int_equal(fm_tokenizer_stream(tok, &stream, 0xAC, false, out), 3);
    assert_memory_equal(out, "\xE2\x82\xAC", 3);
    free(out);
    fm_tokenizer_destroy(&tok);
}

// A long run of one character is a single piece for most expressions; it has to stay near-linear.
static void test_pathological_text_is_quick(void **state)
{
    (void)state;
    const char *const merges[] = {"a a", "aa aa", "aaaa aaaa", "\xC4\xA0 \xC4\xA0", "\xC4\x8A \xC4\x8A"};
    const char *const names[] = {"gpt-2", "llama-bpe", "qwen2", "tekken", "default", "gpt-4o", "kimi-k2", "afmoe",
                                 "tiny_aya", "deepseek-v3", "qwen35", "bailingmoe", "falcon", "minicpm5"};
    const char *const units[] = {"a",    " ",    "\n", "A", "1", "'", " a", "\xCC\x81\xCC\x96", "\xE4\xBD\xA0",
                                 "\xFF", "\r\n ", "Aa",
                                 "11a", "\xF0\xB1\xBA\xA8"};
    const size_t text_bytes = (size_t)1 << 16;
    char *text = malloc(text_bytes);
    assert_non_null(text);
    for (size_t n = 0; n < FM_COUNT(names); n++) {
        struct fm_tokenizer *tok = open_bpe(names[n], merges, FM_COUNT(merges), NULL, 0);
        for (size_t u = 0; u < FM_COUNT(units); u++) {
            for (size_t i = 0; i < text_bytes; i++)
                text[i] = units[u][i % strlen(units[u])];
            clock_t start = clock();
            uint32_t *ids = NULL;
            size_t count = 0;
            assert_int_equal(fm_tokenizer_encode(tok, text, text_bytes, FM_ENCODE_SPECIAL, &ids, &count), FM_OK);
            double seconds = (double)(clock() - start) / CLOCKS_PER_SEC; // of the processor
            print_message("%s %zu: %zu tokens in %.3f s\n", names[n], u, count, seconds);
            assert_true(count > 0);
            // Quadratic time would be ten seconds and more; the slack is for sanitizers.
            assert_true(seconds < 5);
            fm_tokens_free(ids);
        }
        fm_tokenizer_destroy(&tok);
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merges_by_rank),
        cmocka_unit_test(test_rank_beats_position),
        cmocka_unit_test(test_stale_pairs_are_dropped),
        cmocka_unit_test(test_ignore_merges),
        cmocka_unit_test(test_special_tokens),
        cmocka_unit_test(test_no_special_tokens),
        cmocka_unit_test(test_bos_and_ends),
        cmocka_unit_test(test_any_bytes_round_trip),
        cmocka_unit_test(test_nfc),
        cmocka_unit_test(test_decode),
        cmocka_unit_test(test_pathological_text_is_quick),
    };
    return cmocka_run_group_tests_name("tokenizer_bpe", tests, NULL, NULL);
}
