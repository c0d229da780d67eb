// SPDX-License-Identifier: MIT
// SentencePiece BPE on vocabularies small enough to work the ids out by hand: 0 <unk>, 1 <s>, 2 </s>, byte b is 3 + b,
// then the pieces of each test from 259 on (from 3 on where there are no bytes).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "support/expect_ids.h"
#include "support/vocab_make.h"

#define M "\xE2\x96\x81" // U+2581
#define BYTE(b) (3 + (b))
#define CONTROL 3
#define USER 4
#define UNUSED 5

static struct fm_tokenizer *open_spm(bool bytes, const struct vocab_token *pieces, size_t piece_count, bool no_prefix)
{
    struct gguf_writer w = {0};
    struct fm_tokenizer *tok = NULL;
    vocab_make_spm(&w, bytes, pieces, piece_count);
    if (no_prefix)
        gguf_write_bool(&w, "tokenizer.ggml.add_space_prefix", false);
    if (vocab_open(&w, &tok) != FM_OK)
        fail_msg("%s", fm_error_message());
    gguf_write_finish(&w);
    return tok;
}

static void expect_decoded(const struct fm_tokenizer *tok, const uint32_t *ids, size_t count, const char *want)
{
    char *text = NULL;
    size_t bytes = 0;
    assert_int_equal(fm_tokenizer_decode(tok, ids, count, false, &text, &bytes), FM_OK);
    assert_string_equal(text, want);
    assert_int_equal(bytes, strlen(want));
    fm_text_free(text);
}

// 259 "▁", 260 "a", 261 "b", 262 "c", 263 "ab", 264 "bc", 265 "abc", 266 "▁a", 267 "▁▁"
static const struct vocab_token letters[] = {{M, -9, 0},    {"a", -9, 0},   {"b", -9, 0},   {"c", -9, 0}, {"ab", -2, 0},
                                             {"bc", -1, 0}, {"abc", -3, 0}, {M "a", -4, 0}, {M M, -5, 0}};

static void test_merges_by_score(void **state)
{
    (void)state;
    struct fm_tokenizer *tok = open_spm(true, letters, FM_COUNT(letters), false);
    EXPECT(tok, "b", 0, 259, 261);
    EXPECT(tok, "abc", 0, 259, 265); // bc, then abc; ▁a would need the a alone
    EXPECT(tok, "ac", 0, 266, 262);
    EXPECT(tok, "abab", 0, 259, 263, 263);
    EXPECT(tok, " a", 0, 259, 266); // ▁▁a: ▁a scores better than ▁▁
    EXPECT(tok, "b  c", 0, 259, 261, 267, 262);
    EXPECT(tok, " ", 0, 267);
    expect_ids(tok, "", 0, FM_ENCODE_SPECIAL, NULL, 0);
    fm_tokenizer_destroy(&tok);
}

static void test_leftmost_of_equals(void **state)
{
    (void)state;
    const struct vocab_token pieces[] = {{"a", -1, 0}, {"aa", -1, 0}, {"aaaa", -2, 0}};
    struct fm_tokenizer *tok = open_spm(true, pieces, FM_COUNT(pieces), true);
    EXPECT(tok, "aaa", 0, 260, 259);
    EXPECT(tok, "aaaa", 0, 261);
    EXPECT(tok, "aaaaa", 0, 261, 259);
    fm_tokenizer_destroy(&tok);
}

static void test_byte_fallback_and_broken_text(void **state)
{
    (void)state;
    struct fm_tokenizer *tok = open_spm(true, letters, FM_COUNT(letters), true);
    EXPECT(tok, "a\xC3\xA9\n", 0, 260, BYTE(0xC3), BYTE(0xA9), BYTE('\n'));
    EXPECT(tok, "a\0b", 0, 260, BYTE(0), 261);
    // As SentencePiece reads it, every byte that is no part of a character is U+FFFD.
    EXPECT(tok, "a\xFF", 0, 260, BYTE(0xEF), BYTE(0xBF), BYTE(0xBD));
    EXPECT(tok, "\xE2\x82", 0, BYTE(0xEF), BYTE(0xBF), BYTE(0xBD), BYTE(0xEF), BYTE(0xBF), BYTE(0xBD));
    fm_tokenizer_destroy(&tok);
}

static void test_unknown_without_bytes(void **state)
{
    (void)state;
    struct fm_tokenizer *tok = open_spm(false, letters, FM_COUNT(letters), true);
    EXPECT(tok, "axyzb", 0, 4, 0, 5); // a row of unknown characters is one unknown token
    expect_decoded(tok, (const uint32_t[]){4, 0, 5}, 3, "a \xE2\x81\x87 b");
    fm_tokenizer_destroy(&tok);
}

static void test_special_and_user_tokens(void **state)
{
    (void)state;
    const struct vocab_token pieces[] = {{M, -9, 0},    {"a", -9, 0},     {"[X]", 0, USER},
                                         {"aa", -1, 0}, {"x y", 0, USER}, {"<c>", 0, CONTROL}};
    struct fm_tokenizer *tok = open_spm(true, pieces, FM_COUNT(pieces), false);
    EXPECT(tok, "a[X]a", 0, 259, 260, 261, 260);
    EXPECT(tok, "[X]a", 0, 261, 260);                                 // no mark in front of a token that stands first
    EXPECT(tok, "ax y", 0, 259, 260, 263);                            // a space inside is escaped like the text's
    EXPECT(tok, "a<c>a", FM_ENCODE_SPECIAL, 259, 260, 264, 259, 260); // the text after a control token is a new one
    EXPECT(tok, "<s>a</s>", FM_ENCODE_SPECIAL, 1, 259, 260, 2);
    EXPECT(tok, "<c>", 0, 259, BYTE('<'), BYTE('c'), BYTE('>'));
    EXPECT(tok, "a", FM_ENCODE_BOS, 1, 259, 260); // SentencePiece models take BOS unless the file says otherwise
    fm_tokenizer_destroy(&tok);
}

static void test_no_special_tokens(void **state)
{
    (void)state;
    // "<|x|>" is not matched without special tokens, nor may merges make it.
    const struct vocab_token pieces[] = {{M, -9, 0},   {"a", -9, 0},   {"<", -9, 0},    {"|", -9, 0},       {"x", -9, 0},
                                         {">", -9, 0}, {"<|", -1, 0}, {"|>", -1, 0}, {"<|x", -2, 0}, {"<|x|>", -3, USER},
                                         {"<u>", -3, USER}};
    struct fm_tokenizer *tok = open_spm(true, pieces, FM_COUNT(pieces), true);
    EXPECT(tok, "a<|x|><u>", FM_ENCODE_SPECIAL, 260, 268, 269);
    EXPECT(tok, "a<|x|><u>", 0, 260, 267, 266, 269);
    fm_tokenizer_destroy(&tok);
}

static void test_unused_pieces_are_taken_apart(void **state)
{
    (void)state;
    const struct vocab_token pieces[] = {
        {"a", -9, 0}, {"b", -9, 0}, {"ab", -1, UNUSED}, {"abab", -2, UNUSED}, {"aba", -3, 0}};
    struct fm_tokenizer *tok = open_spm(true, pieces, FM_COUNT(pieces), true);
    EXPECT(tok, "ab", 0, 259, 260);
    EXPECT(tok, "abab", 0, 259, 260, 259, 260);
    EXPECT(tok, "aba", 0, 263); // through ab, which alone may not come out
    fm_tokenizer_destroy(&tok);
}

static void test_decode(void **state)
{
    (void)state;
    struct fm_tokenizer *tok = open_spm(true, letters, FM_COUNT(letters), false);
    expect_decoded(tok, (const uint32_t[]){266, 261}, 2, "ab");
    expect_decoded(tok, (const uint32_t[]){1, 266, 266, 2}, 4, "a a"); // only the first space goes
    expect_decoded(tok, (const uint32_t[]){267, 260}, 2, " a");
    expect_decoded(tok, (const uint32_t[]){BYTE(' '), 260}, 2, " a"); // written as a byte it was no dummy
    expect_decoded(tok, (const uint32_t[]){260, BYTE(0xE2), BYTE(0x82), BYTE(0xAC)}, 4, "a\xE2\x82\xAC");
    expect_decoded(tok, (const uint32_t[]){BYTE(0xE2), 260}, 2,
                   "\xEF\xBF\xBD"
                   "a");
    struct fm_utf8_stream stream = {.started = true}; // goes on with a text
    char *out = malloc(fm_tokenizer_max_piece(tok) + 4);
    assert_non_null(out);
    assert_int_equal(fm_tokenizer_stream(tok, &stream, 266, false, out), 2);
    assert_memory_equal(out, " a", 2);
    free(out);
    fm_tokenizer_destroy(&tok);
    tok = open_spm(true, letters, FM_COUNT(letters), true);
    expect_decoded(tok, (const uint32_t[]){266}, 1, " a");
    fm_tokenizer_destroy(&tok);
}

static void test_text_survives(void **state)
{
    (void)state;
    struct fm_tokenizer *tok = open_spm(true, letters, FM_COUNT(letters), false);
    const char *const texts[] = {"abc",      "  a  b ",     " ", "\n\n", "caf\xC3\xA9 \xF0\x9F\x98\x80",
                                 "a\tb\r\n", "abcabcab cab"};
    for (size_t i = 0; i < FM_COUNT(texts); i++) {
        uint32_t *ids = NULL;
        size_t count = 0;
        assert_int_equal(fm_tokenizer_encode(tok, texts[i], strlen(texts[i]), 0, &ids, &count), FM_OK);
        expect_decoded(tok, ids, count, texts[i]);
        fm_tokens_free(ids);
    }
    fm_tokenizer_destroy(&tok);
}

static void test_odd_scores(void **state)
{
    (void)state;
    // -0 and 0 are one score (the leftmost wins), NaN loses against everything.
    const struct vocab_token pieces[] = {{"a", 0, 0}, {"b", 0, 0},    {"ab", -0.0f, 0}, {"ba", 0.0f, 0},
                                         {"c", 0, 0}, {"bc", NAN, 0}, {"d", 0, 0},      {"cd", -INFINITY, 0}};
    struct fm_tokenizer *tok = open_spm(true, pieces, FM_COUNT(pieces), true);
    EXPECT(tok, "aba", 0, 261, 259);
    EXPECT(tok, "bab", 0, 262, 260);
    EXPECT(tok, "bcd", 0, 260, 266);
    EXPECT(tok, "bc", 0, 264);
    fm_tokenizer_destroy(&tok);
}

static void test_pathological_text_is_quick(void **state)
{
    (void)state;
    const struct vocab_token pieces[] = {{M, -9, 0},          {"a", -9, 0}, {"aa", -1, 0},    {"aaaa", -2, 0},
                                         {"aaaaaaaa", -3, 0}, {M M, -1, 0}, {M M M M, -2, 0}, {"\n\n", -1, UNUSED}};
    struct fm_tokenizer *tok = open_spm(true, pieces, FM_COUNT(pieces), false);
    const char *const units[] = {"a", " ", "\n", "x", "a ", "\xFF", "<s", "\xE4\xBD\xA0"};
    const size_t text_bytes = (size_t)1 << 20;
    char *text = malloc(text_bytes);
    assert_non_null(text);
    for (size_t u = 0; u < FM_COUNT(units); u++) {
        for (size_t i = 0; i < text_bytes; i++)
            text[i] = units[u][i % strlen(units[u])];
        clock_t start = clock();
        uint32_t *ids = NULL;
        size_t count = 0;
        assert_int_equal(fm_tokenizer_encode(tok, text, text_bytes, FM_ENCODE_SPECIAL, &ids, &count), FM_OK);
        double seconds = (double)(clock() - start) / CLOCKS_PER_SEC; // of the processor
        print_message("%zu: %zu tokens in %.3f s\n", u, count, seconds);
        assert_true(count > 0);
        // Quadratic time would be minutes; the slack is for sanitizers.
        assert_true(seconds < 20);
        fm_tokens_free(ids);
    }
    free(text);
    fm_tokenizer_destroy(&tok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merges_by_score),
        cmocka_unit_test(test_leftmost_of_equals),
        cmocka_unit_test(test_byte_fallback_and_broken_text),
        cmocka_unit_test(test_unknown_without_bytes),
        cmocka_unit_test(test_special_and_user_tokens),
        cmocka_unit_test(test_no_special_tokens),
        cmocka_unit_test(test_unused_pieces_are_taken_apart),
        cmocka_unit_test(test_decode),
        cmocka_unit_test(test_text_survives),
        cmocka_unit_test(test_odd_scores),
        cmocka_unit_test(test_pathological_text_is_quick),
    };
    return cmocka_run_group_tests_name("tokenizer_spm", tests, NULL, NULL);
}
