// SPDX-License-Identifier: MIT
// Texts on their way through fulmen.tokenizer.*: what each setting does, worked out by hand; keys that are nonsense; maps of
// characters that are broken; memory that runs out.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "support/pipeline_make.h"
#include "text/added.h"
#include "text/chars.h"
#include "text/charsmap.h"
#include "text/forms.h"
#include "text/normalize.h"
#include "text/pipeline.h"

#define END UINT32_MAX

static void expect_ids(const struct fm_tokenizer *tok, const char *text, const uint32_t *want)
{
    uint32_t *ids = NULL;
    size_t count = 0;
    assert_int_equal(fm_tokenizer_encode(tok, text, strlen(text), FM_ENCODE_SPECIAL, &ids, &count), FM_OK);
    for (size_t i = 0; i <= count; i++) {
        uint32_t id = i < count ? ids[i] : END;
        if (id != want[i])
            fail_msg("'%s': id %zu is %d, expected %d", text, i, (int)id, (int)want[i]);
        if (id == END)
            break;
    }
    fm_tokens_free(ids);
}

struct row {
    const char *text;
    uint32_t ids[12];
};

// A file made by `fill` from pipeline_make's.
static void check(const char *pipeline, uint32_t flags, void (*fill)(struct gguf_writer *w), const struct row *rows, size_t count)
{
    struct gguf_writer w = {0};
    struct fm_tokenizer *tok = NULL;
    pipeline_make(&w, pipeline, flags);
    if (fill != NULL)
        fill(&w);
    if (vocab_open(&w, &tok) != FM_OK)
        fail_msg("%s", fm_error_message());
    for (size_t i = 0; i < count; i++)
        expect_ids(tok, rows[i].text, rows[i].ids);
    fm_tokenizer_destroy(&tok);
    gguf_write_finish(&w);
}

static void put_words(struct gguf_writer *w, const char *const *words, size_t count)
{
    gguf_write_strings(w, FM_KEY_NORMALIZERS, words, count);
}

#define STEPS(name, ...)                                            \
    static void name(struct gguf_writer *w)                         \
    {                                                               \
        static const char *const words[] = {__VA_ARGS__};           \
        put_words(w, words, sizeof(words) / sizeof(*words));        \
    }

#define MARK "\xE2\x96\x81"
STEPS(legacy, "prepend", MARK, "replace", " ", MARK)
STEPS(strip_both, "strip", "both", "prepend", MARK, "replace", " ", MARK)
STEPS(lower, "lowercase")
STEPS(compat, "nfkc", "replace", " ", MARK)
STEPS(accents, "nfd", "strip_accents", "nmt")

static void always_split(struct gguf_writer *w)
{
    gguf_write_string(w, FM_KEY_METASPACE, "always");
    gguf_write_bool(w, FM_KEY_METASPACE_SPLIT, true);
}

static void first(struct gguf_writer *w)
{
    gguf_write_string(w, FM_KEY_METASPACE, "first");
}

static void test_metaspace(void **state)
{
    (void)state;
    static const struct row split[] = {
        {"", {END}},
        {"a", {PIPELINE_MARK_A, END}},
        {" a", {PIPELINE_MARK_A, END}},
        {"a  b", {PIPELINE_MARK_A, PIPELINE_MARK, PIPELINE_MARK_B, END}},
        {"a</s>a", {PIPELINE_MARK_A, 2, PIPELINE_MARK_A, END}},
        {"ab", {PIPELINE_MARK_A, PIPELINE_B, END}},
    };
    static const struct row from_first[] = {
        {"a  b", {PIPELINE_MARK_A, PIPELINE_MARKS, PIPELINE_B, END}},
        {"a</s>a", {PIPELINE_MARK_A, 2, PIPELINE_A, END}},
        {"</s>a", {2, PIPELINE_A, END}},
        {MARK "a", {PIPELINE_MARK_A, END}},
        {"ab", {PIPELINE_MARK_A, PIPELINE_B, END}},
    };
    check("tokenizers", 0, always_split, split, FM_COUNT(split));
    check("tokenizers", 0, first, from_first, FM_COUNT(from_first));
}

static void test_normalizers(void **state)
{
    (void)state;
    static const struct row legacy_rows[] = {
        {"a b", {PIPELINE_MARK_A, PIPELINE_MARK_B, END}},
        {" a", {PIPELINE_MARKS, PIPELINE_A, END}},
        {"a<u>b", {PIPELINE_MARK_A, PIPELINE_USER, PIPELINE_MARK_B, END}},
        {"\xC3\xA9", {PIPELINE_MARK, PIPELINE_E, END}},
        {"\xC2\xBD", {PIPELINE_MARK, PIPELINE_BYTE(0xC2), PIPELINE_BYTE(0xBD), END}},
    };
    static const struct row strip_rows[] = {{" \t a\xC2\xA0\n", {PIPELINE_MARK_A, END}}, {" \n ", {END}}};
    static const struct row lower_rows[] = {{"AB", {PIPELINE_AB, END}},
                                            {"\xC3\x89", {PIPELINE_E, END}},
                                            {"\xC4\xB0", {PIPELINE_BYTE('i'), PIPELINE_BYTE(0xCC), PIPELINE_BYTE(0x87), END}}};
    static const struct row compat_rows[] = {{"\xEF\xBD\x81\xC2\xA0\xEF\xBD\x82", {PIPELINE_A, PIPELINE_MARK_B, END}},
                                             {"e\xCC\x81", {PIPELINE_E, END}}};
    static const struct row accent_rows[] = {{"\xC3\xA1\x01", {PIPELINE_A, END}}, {"a\t", {PIPELINE_A, PIPELINE_BYTE(' '), END}}};
    check("tokenizers", 0, legacy, legacy_rows, FM_COUNT(legacy_rows));
    check("tokenizers", 0, strip_both, strip_rows, FM_COUNT(strip_rows));
    check("tokenizers", 0, lower, lower_rows, FM_COUNT(lower_rows));
    check("tokenizers", 0, compat, compat_rows, FM_COUNT(compat_rows));
    check("tokenizers", 0, accents, accent_rows, FM_COUNT(accent_rows));
}

static void test_flags(void **state)
{
    (void)state;
    static const struct row strips[] = {
        {"a \n<u>\t b", {PIPELINE_MARK_A, PIPELINE_USER, PIPELINE_MARK_B, END}},
        {"<u> <u>", {PIPELINE_USER, PIPELINE_USER, END}},
        {" <u> ", {PIPELINE_USER, END}},
    };
    static const struct row words[] = {
        {"sun", {PIPELINE_SUN, END}},
        {"(sun)", {PIPELINE_MARK, PIPELINE_BYTE('('), PIPELINE_SUN, PIPELINE_MARK, PIPELINE_BYTE(')'), END}},
        {"asun", {PIPELINE_MARK_A, PIPELINE_BYTE('s'), PIPELINE_BYTE('u'), PIPELINE_BYTE('n'), END}},
        {"sun\xC3\xA9", {PIPELINE_MARK, PIPELINE_BYTE('s'), PIPELINE_BYTE('u'), PIPELINE_BYTE('n'), PIPELINE_E, END}},
        {"sun_", {PIPELINE_MARK, PIPELINE_BYTE('s'), PIPELINE_BYTE('u'), PIPELINE_BYTE('n'), PIPELINE_BYTE('_'), END}},
    };
    // After normalisation the token has a mark in front: it is found at the beginning of a text and behind spaces only.
    static const struct row normal[] = {
        {"sun", {PIPELINE_SUN, END}},
        {"a sun", {PIPELINE_MARK_A, PIPELINE_SUN, END}},
        {"asun", {PIPELINE_MARK_A, PIPELINE_BYTE('s'), PIPELINE_BYTE('u'), PIPELINE_BYTE('n'), END}},
    };
    check("tokenizers", FM_ADDED_LSTRIP | FM_ADDED_RSTRIP, legacy, strips, FM_COUNT(strips));
    check("tokenizers", FM_ADDED_SINGLE_WORD, legacy, words, FM_COUNT(words));
    check("tokenizers", FM_ADDED_NORMALIZED, legacy, normal, FM_COUNT(normal));
}

static void put_map(struct gguf_writer *w)
{
    size_t bytes;
    uint8_t *map = charsmap_make(&bytes);
    gguf_write_array(w, FM_KEY_CHARSMAP, GGUF_U8, map, bytes);
    gguf_write_bool(w, "tokenizer.ggml.remove_extra_whitespaces", true);
    free(map);
}

static void put_suffix(struct gguf_writer *w)
{
    gguf_write_bool(w, FM_KEY_SPACE_SUFFIX, true);
}

static void test_sentencepiece(void **state)
{
    (void)state;
    static const struct row mapped[] = {
        {"A", {PIPELINE_MARK_B, END}},
        {"  a AA  b AA", {PIPELINE_MARK_A, PIPELINE_MARK_B, END}},
        {"   ", {END}},
        {"a<u>b", {PIPELINE_MARK_A, PIPELINE_USER, PIPELINE_MARK_B, END}},
        {"\xFF", {PIPELINE_MARK, PIPELINE_BYTE(0xEF), PIPELINE_BYTE(0xBF), PIPELINE_BYTE(0xBD), END}},
    };
    static const struct row suffix[] = {{"a", {PIPELINE_A, PIPELINE_MARK, END}}, {" a", {PIPELINE_MARK_A, PIPELINE_MARK, END}}};
    check("sentencepiece", 0, put_map, mapped, FM_COUNT(mapped));
    check("sentencepiece", 0, put_suffix, suffix, FM_COUNT(suffix));
}

// ---- nonsense -------------------------------------------------------------------------------------------------------

STEPS(unknown_step, "rot13")
STEPS(no_argument, "replace", " ")
STEPS(bad_strip, "strip", "middle")
STEPS(of_nothing, "replace", "", "x")

static void bad_scheme(struct gguf_writer *w)
{
    gguf_write_string(w, FM_KEY_METASPACE, "sometimes");
}

static void bad_split(struct gguf_writer *w)
{
    gguf_write_string(w, FM_KEY_METASPACE_SPLIT, "yes");
}

static void expect_bad(const char *pipeline, uint32_t flags, void (*fill)(struct gguf_writer *w), enum fm_result want,
                       const char *says)
{
    struct gguf_writer w = {0};
    struct fm_tokenizer *tok = NULL;
    pipeline_make(&w, pipeline, flags);
    if (fill != NULL)
        fill(&w);
    assert_int_equal(vocab_open(&w, &tok), want);
    assert_null(tok);
    if (strstr(fm_error_message(), says) == NULL)
        fail_msg("'%s' does not say '%s'", fm_error_message(), says);
    gguf_write_finish(&w);
}

static void test_nonsense(void **state)
{
    (void)state;
    expect_bad("tokenizers", 0, unknown_step, FM_UNSUPPORTED, "'rot13' is not supported, supported are: nfc");
    expect_bad("tokenizers", 0, no_argument, FM_FORMAT, "replace lacks an argument");
    expect_bad("tokenizers", 0, bad_strip, FM_FORMAT, "strip of 'middle'");
    expect_bad("tokenizers", 0, of_nothing, FM_FORMAT, "replace of nothing");
    expect_bad("tokenizers", 0, bad_scheme, FM_UNSUPPORTED, "'sometimes' is not supported");
    expect_bad("tokenizers", 0, bad_split, FM_FORMAT, FM_KEY_METASPACE_SPLIT);
    expect_bad("tokenizers", 64, NULL, FM_FORMAT, "are no flags of an added token");
    expect_bad("wordpiece", 0, NULL, FM_UNSUPPORTED, "'wordpiece' is not supported");
}

static void test_pairs_that_do_not_fit(void **state)
{
    (void)state;
    static const struct vocab_token extra[] = {{"a", 0, 0}, {"b", 0, 0}, {"ab", 0, 0}};
    static const struct {
        uint32_t pairs[4];
        size_t count;
        const char *says;
    } rows[] = {{{259, 260, 261, 0}, 4, "three for each merge"},
                {{259, 260, 4000}, 3, "token 4000, expected 0 to 261"},
                {{260, 259, 261}, 3, "makes 'ab' of 'b' and 'a'"}};
    for (size_t i = 0; i < FM_COUNT(rows); i++) {
        struct gguf_writer w = {0};
        struct fm_tokenizer *tok = NULL;
        vocab_make_spm(&w, true, extra, FM_COUNT(extra));
        gguf_write_string(&w, FM_KEY_PIPELINE, "tokenizers");
        gguf_write_array(&w, "fulmen.tokenizer.merges", GGUF_U32, rows[i].pairs, rows[i].count);
        assert_int_equal(vocab_open(&w, &tok), FM_FORMAT);
        if (strstr(fm_error_message(), rows[i].says) == NULL)
            fail_msg("'%s' does not say '%s'", fm_error_message(), rows[i].says);
        gguf_write_finish(&w);
    }
}

// Every byte of the map changed to some other one: searches end, inside of it.
static void test_broken_maps(void **state)
{
    (void)state;
    static const char text[] = "AAA aA\xC3\xA9 AA";
    size_t bytes, found;
    struct fm_charsmap map;
    struct fm_text made;
    uint8_t *good = charsmap_make(&bytes);
    for (size_t cut = 0; cut < 16; cut++)
        assert_int_equal(fm_charsmap_open(good, cut, "m", &map), cut == 0 ? FM_OK : FM_FORMAT);
    assert_int_equal(fm_charsmap_open(good, bytes - 1, "m", &map), FM_FORMAT); // the last text has no end
    for (size_t i = 0; i < bytes; i++) {
        for (unsigned change = 1; change < 256; change = change * 5 + 2) {
            uint8_t *bad = malloc(bytes); // of exactly this size, so that the sanitizer sees what lies behind
            assert_non_null(bad);
            memcpy(bad, good, bytes);
            bad[i] = (uint8_t)(bad[i] ^ change);
            if (fm_charsmap_open(bad, bytes, "m", &map) == FM_OK)
                for (size_t at = 0; at < sizeof(text); at++)
                    if (fm_charsmap_find(&map, text + at, sizeof(text) - at, &found, &made))
                        assert_true(found <= sizeof(text) - at && made.bytes < bytes);
            free(bad);
        }
    }
    free(good);
}

// A node that leads to itself: rules of any length.
static void test_circular_map(void **state)
{
    (void)state;
    size_t bytes, found = 0;
    struct fm_charsmap map;
    struct fm_text made;
    char text[4096];
    uint8_t *data = charsmap_make(&bytes);
    const uint32_t node = 256 ^ 'A', units[] = {(uint32_t)'A' << 10 | 1u << 8 | 'A', 1u << 31};
    memcpy(data + 4 + 4 * (size_t)node, &units[0], 4);
    memcpy(data + 4 + 4 * 256, &units[1], 4);
    memset(text, 'A', sizeof(text));
    assert_int_equal(fm_charsmap_open(data, bytes, "m", &map), FM_OK);
    assert_true(fm_charsmap_find(&map, text, sizeof(text), &found, &made));
    assert_int_equal(found, 256);
    free(data);
}

// ---- long texts -----------------------------------------------------------------------------------------------------

#define TIMES_8(c) "replace", c, c c c c c c c c
#define TIMES_512(c) TIMES_8(c), TIMES_8(c), TIMES_8(c)
STEPS(grow, TIMES_512("a"), TIMES_512("a"), TIMES_512("a"))
STEPS(grow_pattern, TIMES_512("s"), TIMES_512("s"), TIMES_512("s"))
STEPS(shorten, "replace", "ab", "\xC3\xA9")
#define NOTHING "replace", "ac", "b"
STEPS(find_nothing, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, "strip", "both")

static struct fm_tokenizer *open_with(const char *pipeline, void (*fill)(struct gguf_writer *w))
{
    struct gguf_writer w = {0};
    struct fm_tokenizer *tok = NULL;
    pipeline_make(&w, pipeline, 0);
    fill(&w);
    if (vocab_open(&w, &tok) != FM_OK)
        fail_msg("%s", fm_error_message());
    gguf_write_finish(&w);
    return tok;
}

static void test_growth(void **state)
{
    (void)state;
    uint32_t *ids = NULL;
    size_t count = 0;
    char text[3000];
    expect_bad("tokenizers", FM_ADDED_NORMALIZED, grow_pattern, FM_UNSUPPORTED, "a text grows to more than");
    struct fm_tokenizer *tok = open_with("tokenizers", grow);
    assert_int_equal(fm_tokenizer_encode(tok, "ba", 2, 0, &ids, &count), FM_UNSUPPORTED);
    assert_non_null(strstr(fm_error_message(), "a text grows to more than 65572 bytes"));
    assert_null(ids);
    fm_tokenizer_destroy(&tok);
    // No character of Unicode grows more than U+FDFA.
    tok = open_with("tokenizers", compat);
    for (size_t i = 0; i < sizeof(text); i += 3)
        memcpy(text + i, "\xEF\xB7\xBA", 3);
    assert_int_equal(fm_tokenizer_encode(tok, text, sizeof(text), 0, &ids, &count), FM_OK);
    fm_tokens_free(ids);
    fm_tokenizer_destroy(&tok);
}

// A place that lies across the border of two parts of a search.
static void test_long_replace(void **state)
{
    (void)state;
    char text[70000];
    uint32_t *ids = NULL;
    size_t count = 0;
    struct fm_tokenizer *tok = open_with("tokenizers", shorten);
    memset(text, 'b', sizeof(text));
    text[65535] = 'a';
    assert_int_equal(fm_tokenizer_encode(tok, text, sizeof(text), 0, &ids, &count), FM_OK);
    assert_int_equal(count, sizeof(text) - 1);
    assert_int_equal(ids[65535], PIPELINE_E);
    fm_tokens_free(ids);
    fm_tokenizer_destroy(&tok);
}

static bool count_calls(void *user)
{
    ++*(unsigned *)user;
    return false;
}

// Every pass over a text asks whether to go on.
static void test_calls(void **state)
{
    (void)state;
    const size_t bytes = (size_t)1 << 20;
    static const struct {
        void (*fill)(struct gguf_writer *w);
        unsigned calls;
    } rows[] = {{always_split, 500}, {find_nothing, 620}};
    char *text = malloc(bytes);
    assert_non_null(text);
    memset(text, 'b', bytes);
    for (size_t i = 0; i < FM_COUNT(rows); i++) {
        uint32_t *ids = NULL;
        size_t count = 0;
        unsigned calls = 0;
        struct fm_tokenizer *tok = open_with("tokenizers", rows[i].fill);
        assert_int_equal(fm_tokenizer_encode_until(tok, text, bytes, 0, count_calls, &calls, &ids, &count), FM_OK);
        print_message("%u calls\n", calls);
        assert_true(calls >= rows[i].calls);
        fm_tokens_free(ids);
        fm_tokenizer_destroy(&tok);
    }
    free(text);
}

// Texts without ASCII are normalised in stretches, and nothing is torn apart.
static void test_long_forms(void **state)
{
    (void)state;
    static const struct {
        enum fm_form form;
        const char *from, *to;
    } rows[] = {{FM_FORM_C, "\xD0\xB8\xCC\x86", "\xD0\xB9"},
                {FM_FORM_C, "\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB", "\xED\x95\x9C"},
                {FM_FORM_C, "\xE0\xB6\x9A\xE0\xB7\x99\xE0\xB7\x8F", "\xE0\xB6\x9A\xE0\xB7\x9C"},
                {FM_FORM_KC, "\xEF\xBE\x8A\xEF\xBE\x9E", "\xE3\x83\x90"},
                {FM_FORM_KC, "\xE1\x84\x92\xE3\x85\x8F", "\xED\x95\x98"}};
    for (size_t i = 0; i < FM_COUNT(rows); i++) {
        const size_t from_bytes = strlen(rows[i].from), to_bytes = strlen(rows[i].to), n = 400000 / from_bytes;
        struct fm_buffer text = {0}, out = {0};
        unsigned calls = 0;
        struct fm_encoder enc = {.cancel = count_calls, .cancel_user = &calls};
        for (size_t k = 0; k < n; k++)
            assert_int_equal(fm_buffer_add(&text, rows[i].from, from_bytes), FM_OK);
        assert_int_equal(fm_form(&enc, rows[i].form, text.data, text.bytes, NULL, &out), FM_OK);
        assert_int_equal(out.bytes, n * to_bytes);
        for (size_t k = 0; k < n; k++)
            assert_memory_equal(out.data + k * to_bytes, rows[i].to, to_bytes);
        assert_true(calls >= 5);
        fm_buffer_finish(&text);
        fm_buffer_finish(&out);
    }
}

static void test_no_memory(void **state)
{
    (void)state;
    static const char text[] = "a \xC3\x81 <u> sun b \xEF\xBD\x81";
    for (unsigned kind = 0; kind < 2; kind++) {
        struct gguf_writer w = {0};
        bool done = false;
        pipeline_make(&w, kind == 0 ? "tokenizers" : "sentencepiece", FM_ADDED_NORMALIZED);
        (kind == 0 ? compat : put_map)(&w);
        for (uint64_t n = 1; !done; n++) {
            struct fm_tokenizer *tok = NULL;
            uint32_t *ids = NULL;
            size_t count;
            fm_alloc_fail_at(n);
            enum fm_result r = vocab_open(&w, &tok);
            if (r == FM_OK)
                r = fm_tokenizer_encode(tok, text, sizeof(text) - 1, FM_ENCODE_SPECIAL, &ids, &count);
            done = r == FM_OK;
            fm_alloc_fail_at(0);
            if (!done)
                assert_int_equal(r, FM_NOMEM);
            else
                fm_tokens_free(ids);
            fm_tokenizer_destroy(&tok);
            assert_true(n < 100000);
        }
        gguf_write_finish(&w);
    }
}

static void test_characters(void **state)
{
    (void)state;
    char lower[FM_CHAR_BYTES_MAX];
    assert_true(fm_char_is_word("a") && fm_char_is_word("\xE1\xA4\x80") && fm_char_is_word("_") && fm_char_is_word("\xE2\x92\xB6"));
    assert_false(fm_char_is_word(" ") || fm_char_is_word("-") || fm_char_is_word("\xC2\xBD") || fm_char_is_word("\xE2\x82\xAC"));
    assert_true(fm_char_is_white(0x3000) && fm_char_is_white(0x85) && !fm_char_is_white(0x200B) && !fm_char_is_white(0x180E));
    // Capitals that utf8proc may know or not.
    assert_int_equal(fm_char_lower(0x1C90, lower), 3);
    assert_memory_equal(lower, "\xE1\x83\x90", 3);
    assert_int_equal(fm_char_lower(0x16EA0, lower), 4);
    assert_memory_equal(lower, "\xF0\x96\xBA\xBB", 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_metaspace), cmocka_unit_test(test_normalizers),           cmocka_unit_test(test_flags),
        cmocka_unit_test(test_sentencepiece), cmocka_unit_test(test_nonsense), cmocka_unit_test(test_pairs_that_do_not_fit),
        cmocka_unit_test(test_broken_maps), cmocka_unit_test(test_circular_map), cmocka_unit_test(test_growth),
        cmocka_unit_test(test_long_replace), cmocka_unit_test(test_calls), cmocka_unit_test(test_long_forms),
        cmocka_unit_test(test_no_memory), cmocka_unit_test(test_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
