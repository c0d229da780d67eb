// SPDX-License-Identifier: MIT
// Where pre-tokenizers cut, and that every code point counts as what Unicode 16.0 says, whatever the system's libraries know.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "support/gguf_write.h"
#include "text/pretok.h"
#include "text/unicode.h"

// What a pre-tokenizer makes of a text, pieces parted by '|'.
static enum fm_result collect(void *user, const char *piece, size_t piece_bytes)
{
    struct gguf_bytes *log = user;
    gguf_put(log, piece, piece_bytes);
    gguf_put_u8(log, '|');
    return FM_OK;
}

static void expect_split(const char *name, const char *text, const char *want)
{
    struct fm_pretok *pretok = NULL;
    struct fm_pretok_scratch *scratch = NULL;
    struct gguf_bytes log = {0};
    assert_int_equal(fm_pretok_create(name, strlen(name), &pretok), FM_OK);
    assert_int_equal(fm_pretok_scratch_create(&scratch), FM_OK);
    assert_int_equal(fm_pretok_split(pretok, scratch, text, strlen(text), collect, &log), FM_OK);
    gguf_put_u8(&log, 0);
    assert_string_equal((const char *)log.data, want);
    gguf_bytes_finish(&log);
    fm_pretok_scratch_destroy(&scratch);
    fm_pretok_destroy(&pretok);
}

static void test_split_gpt2(void **state)
{
    (void)state;
    expect_split("gpt-2", "Hello world", "Hello| world|");
    expect_split("gpt-2", "it's IT'S we'll", "it|'s| IT|'|S| we|'ll|");
    expect_split("gpt-2", "a   b", "a|  | b|");
    expect_split("gpt-2", "a\n\nb  ", "a|\n|\n|b|  |");
    expect_split("gpt-2", "x12345 67", "x|12345| 67|");
    expect_split("gpt-2", "(a)!? ...", "(|a|)!?| ...|");
    expect_split("gpt-2", "\xC3\xA9t\xC3\xA9 \xE4\xBD\xA0\xE5\xA5\xBD", "\xC3\xA9t\xC3\xA9| \xE4\xBD\xA0\xE5\xA5\xBD|");
}

static void test_split_llama3(void **state)
{
    (void)state;
    expect_split("llama-bpe", "Hello, world!", "Hello|,| world|!|");
    expect_split("llama-bpe", "IT'S we'Ll", "IT|'S| we|'Ll|");
    expect_split("llama-bpe", "1234567", "123|456|7|");
    expect_split("llama-bpe", "a\r\n\n b", "a|\r\n\n| b|");
    expect_split("llama-bpe", "x;\n\ny", "x|;\n\n|y|");
    expect_split("llama-bpe", "a  \n b", "a|  \n| b|");
    expect_split("llama-bpe", "(word", "(word|");
    expect_split("llama-bpe", " 12", " |12|");
}

static void test_split_others(void **state)
{
    (void)state;
    expect_split("qwen2", "a1234", "a|1|2|3|4|");
    expect_split("smollm", "in 1999 we", "in| |1|9|9|9| we|");
    expect_split("tekken", "HelloWorld abc/\n1", "Hello|World| abc|/\n|1|");
    expect_split("deepseek-coder", "ab 12\ncd", "ab| |1|2|\n|cd|");
    expect_split("default", "a1234,b", "a|123|4|,|b|");
    // U+180E is no white space since Unicode 6.3.
    expect_split("gpt-2", "a \xE1\xA0\x8E", "a| \xE1\xA0\x8E|");
}

static void test_split_marks_and_cases(void **state)
{
    (void)state;
    // U+0915 U+093F: a letter with a vowel sign, which is a mark.
    expect_split("qwen2", "\xE0\xA4\x95\xE0\xA4\xBF" "a", "\xE0\xA4\x95|\xE0\xA4\xBF" "a|");
    expect_split("qwen35", "\xE0\xA4\x95\xE0\xA4\xBF" "a12", "\xE0\xA4\x95\xE0\xA4\xBF" "a|1|2|");
    expect_split("gpt-4o", "HelloWorld's it'S 12345 a/\n/b", "Hello|World's| it'S| |123|45| a|/\n/|b|");
    expect_split("llama4", "IT's", "IT's|");
    expect_split("pixtral", "1234 it's", "123|4| it|'s|");
    expect_split("glm4", "1234 it's", "123|4| it|'s|");
    expect_split("exaone4", "a1234", "a|1234|");
    expect_split("mellum2", "a1234", "a|1|2|3|4|");
    expect_split("minicpm5", "a12345 b", "a|123|45| b|");
    expect_split("solar-open", "a12", "a|1|2|");
}

static void test_split_lines(void **state)
{
    (void)state;
    expect_split("bailingmoe2", "I'Ll go\n\n\nx 12", "I|'Ll| go|\n\n\n|x| |1|2|");
    expect_split("seed-coder", "a;\n\nb 12", "a|;|\n\n|b| |1|2|");
    expect_split("llama-bpe", "a;\n\nb", "a|;\n\n|b|");
}

static void test_split_scripts(void **state)
{
    (void)state;
    // Han, kana and Latin: U+4F60 U+597D, U+3042.
    expect_split("deepseek-v3", "a\xE4\xBD\xA0\xE3\x81\x82" "b1234.x", "a|\xE4\xBD\xA0\xE3\x81\x82|b|123|4|.x|");
    expect_split("deepseek-v3", "x !? .\n\n y", "x| !?| .\n\n| y|");
    expect_split("kimi-k2", "a\xE4\xBD\xA0\xE5\xA5\xBD" "b's1234\xE3\x81\x82\xE4\xBD\xA0",
                 "a|\xE4\xBD\xA0\xE5\xA5\xBD|b's|123|4|\xE3\x81\x82|\xE4\xBD\xA0|");
    expect_split("kimi-k2", "HelloWorld", "Hello|World|");
    expect_split("tekken", "a\xE4\xBD\xA0" "b", "a\xE4\xBD\xA0" "b|");
    // Thai (U+0E01 lies before the range that the expression names, U+0E40 in it), Hangul (U+AC00).
    expect_split("afmoe", "a\xE0\xB9\x80\xEA\xB0\x80" "b", "a|\xE0\xB9\x80\xEA\xB0\x80|b|");
    expect_split("deepseek-coder", "\xE0\xB8\xBF\xE2\x82\xAC\xC2\xA2", "\xE0\xB8\xBF\xE2\x82\xAC|\xC2\xA2|");
}

static void test_split_numbers(void **state)
{
    (void)state;
    expect_split("afmoe", "1234567 12 1234a", "1|234|567| |12| |1|234|a|");
    expect_split("tiny_aya", "1234567 12", "1|234|567| |12|");
    expect_split("tiny_aya", "x1234,56789", "x|1|234|,|56|789|");
    // No word ends behind these digits: they are left to the second expression, which counts from the front.
    expect_split("tiny_aya", "1234a", "123|4|a|");
    // Falcon looks for numbers in the bytes of words. U+00BD ends in a byte whose stand-in is a number, U+0E51 has one in
    // the middle, U+0967 none.
    expect_split("falcon", " \xC2\xBD", " \xC2|\xBD|");
    expect_split("falcon", " \xE0\xB9\x91", " \xE0|\xB9|\x91|");
    expect_split("falcon", " \xE0\xA5\xA7", " \xE0\xA5\xA7|");
    expect_split("falcon", "a 1234567\xC2\xBD" "12345", "a| |123|456|7|\xC2|\xBD|123|45|");
    expect_split("falcon", "12\xC2\xBC\xEF\xBC\xBD", "12|\xC2|\xBC|\xEF|\xBC\xBD|");
    expect_split("default", " \xC2\xBD", " |\xC2\xBD|");
}

static void test_unknown_name_lists_all(void **state)
{
    (void)state;
    struct fm_pretok *pretok = NULL;
    assert_int_equal(fm_pretok_create("no\x1b", 3, &pretok), FM_UNSUPPORTED);
    assert_non_null(strstr(fm_error_message(), "gpt-2 "));
    assert_non_null(strstr(fm_error_message(), " tiny_aya"));
    assert_null(strchr(fm_error_message(), '\x1b'));
}

// ---- every code point ---------------------------------------------------------------------------------------------

struct splitter {
    struct fm_pretok *pretok;
    struct fm_pretok_scratch *scratch;
    const char *begin;
    unsigned ends; // bit n: a piece ends at byte n
};

static struct splitter splitter_open(const char *name)
{
    struct splitter s = {0};
    assert_int_equal(fm_pretok_create(name, strlen(name), &s.pretok), FM_OK);
    assert_int_equal(fm_pretok_scratch_create(&s.scratch), FM_OK);
    return s;
}

static void splitter_close(struct splitter *s)
{
    fm_pretok_scratch_destroy(&s->scratch);
    fm_pretok_destroy(&s->pretok);
}

static enum fm_result note_end(void *user, const char *piece, size_t piece_bytes)
{
    struct splitter *s = user;
    s->ends |= 1u << (size_t)(piece + piece_bytes - s->begin);
    return FM_OK;
}

// Does a piece end between `before` and the character, and between the character and `after`?
static void cuts(struct splitter *s, const char *before, const char *character, const char *after, bool *out_before,
                 bool *out_after)
{
    char text[16];
    size_t first = strlen(before), second = first + strlen(character);
    int bytes = snprintf(text, sizeof(text), "%s%s%s", before, character, after);
    s->begin = text;
    s->ends = 0;
    if (fm_pretok_split(s->pretok, s->scratch, text, (size_t)bytes, note_end, s) != FM_OK)
        fail();
    *out_before = s->ends >> first & 1;
    *out_after = s->ends >> second & 1;
}

struct all {
    struct splitter gpt2, tekken, v3, standard, aya, qwen35;
};

// The category as far as the cuts show it: "Lu" stands for Lt too, "Lo" for Lm, "P" for all punctuation.
static const char *shown_category(struct all *all, const char *character)
{
    bool before, after;
    cuts(&all->gpt2, "a", character, "1", &before, &after);
    if (!before) {
        cuts(&all->tekken, "a", character, "", &before, &after);
        if (before)
            return "Lu";
        cuts(&all->tekken, "", character, "Aa", &before, &after);
        return after ? "Ll" : "Lo";
    }
    if (!after) {
        cuts(&all->aya, "11", character, "1", &before, &after);
        return !after ? "Nd" : "N";
    }
    cuts(&all->standard, "!", character, "", &before, &after);
    if (!before)
        return "P";
    cuts(&all->v3, "!", character, "", &before, &after);
    if (!before)
        return "S";
    cuts(&all->qwen35, "a", character, "", &before, &after);
    return before ? "C" : "M";
}

static const char *wanted_category(const char *category)
{
    static const char *const same[][2] = {{"Lt", "Lu"}, {"Lm", "Lo"}, {"Nl", "N"}, {"No", "N"}};
    static const char *const kept[] = {"Lu", "Ll", "Lo", "Nd"};
    static const char *const classes[] = {"M", "P", "S", "C"};
    for (size_t i = 0; i < FM_COUNT(same); i++) {
        if (strcmp(same[i][0], category) == 0)
            return same[i][1];
    }
    for (size_t i = 0; i < FM_COUNT(kept); i++) {
        if (strcmp(kept[i], category) == 0)
            return kept[i];
    }
    for (size_t i = 0; i < FM_COUNT(classes); i++) {
        if (classes[i][0] == category[0])
            return classes[i];
    }
    return "C"; // white space is no part of words either
}

// UTF-8 of a code point that is not ASCII's.
static void write_character(uint32_t point, char out[5])
{
    size_t n = 0;
    if (point < 0x800) {
        out[n++] = (char)(0xC0 | point >> 6);
    } else if (point < 0x10000) {
        out[n++] = (char)(0xE0 | point >> 12);
        out[n++] = (char)(0x80 | (point >> 6 & 0x3F));
    } else {
        out[n++] = (char)(0xF0 | point >> 18);
        out[n++] = (char)(0x80 | (point >> 12 & 0x3F));
        out[n++] = (char)(0x80 | (point >> 6 & 0x3F));
    }
    out[n++] = (char)(0x80 | (point & 0x3F));
    out[n] = '\0';
}

static void check_run(struct all *all, uint32_t first, uint32_t last, const char *category, unsigned *wrong)
{
    const char *want = wanted_category(category);
    for (uint32_t point = first; point <= last && *wrong < 20; point++) {
        char character[5];
        // ASCII is as it ever was, and means something in the expressions themselves.
        if (point < 0x80 || (point >= 0xD800 && point <= 0xDFFF))
            continue;
        // Symbols in the range of kana, which deepseek-v3 names.
        if (point == 0x309B || point == 0x309C)
            continue;
        write_character(point, character);
        const char *found = shown_category(all, character);
        if (strcmp(found, want) != 0) {
            print_error("U+%04X: category %s, shown as %s\n", point, category, found);
            ++*wrong;
        }
    }
}

static void test_every_code_point(void **state)
{
    (void)state;
    char path[4096], line[256], category[3] = "", next_category[3];
    snprintf(path, sizeof(path), "%s/unicode-16.0.0-categories.txt", getenv("FULMEN_TEST_DATA"));
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    struct all all = {splitter_open("gpt-2"),          splitter_open("tekken"),   splitter_open("deepseek-v3"),
                      splitter_open("default"),  splitter_open("tiny_aya"), splitter_open("qwen35")};
    unsigned wrong = 0, runs = 0;
    uint32_t first = 0, next;
    while (fgets(line, sizeof(line), file) != NULL) {
        if (line[0] == '#')
            continue;
        assert_int_equal(sscanf(line, "%x %2s", &next, next_category), 2);
        if (runs++ > 0)
            check_run(&all, first, next - 1, category, &wrong);
        first = next;
        memcpy(category, next_category, sizeof(category));
    }
    check_run(&all, first, 0x10FFFF, category, &wrong);
    fclose(file);
    assert_true(runs > 3000);
    assert_int_equal(wrong, 0);
    splitter_close(&all.gpt2);
    splitter_close(&all.tekken);
    splitter_close(&all.v3);
    splitter_close(&all.standard);
    splitter_close(&all.aya);
    splitter_close(&all.qwen35);
}

static void test_newer_letters_in_words(void **state)
{
    (void)state;
    // U+31EA8 (Unicode 15), U+1E4E1 (15), U+105D0 (16): letters, so that the apostrophe begins a piece of its own.
    expect_split("gpt-2", "\xF0\xB1\xBA\xA8's", "\xF0\xB1\xBA\xA8|'s|");
    expect_split("gpt-2", "\xF0\x9E\x93\xA1's", "\xF0\x9E\x93\xA1|'s|");
    expect_split("gpt-2", "\xF0\x90\x97\x90's", "\xF0\x90\x97\x90|'s|");
    // Han of Unicode 15 stays Han.
    expect_split("kimi-k2", "\xE4\xBD\xA0\xF0\xB1\xBA\xA8" "a", "\xE4\xBD\xA0\xF0\xB1\xBA\xA8|a|");
    // U+088F is a letter since Unicode 17 only.
    expect_split("gpt-2", "a\xE0\xA2\x8F", "a|\xE0\xA2\x8F|");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_split_gpt2),
        cmocka_unit_test(test_split_llama3),
        cmocka_unit_test(test_split_others),
        cmocka_unit_test(test_split_marks_and_cases),
        cmocka_unit_test(test_split_lines),
        cmocka_unit_test(test_split_scripts),
        cmocka_unit_test(test_split_numbers),
        cmocka_unit_test(test_unknown_name_lists_all),
        cmocka_unit_test(test_newer_letters_in_words),
        cmocka_unit_test(test_every_code_point),
    };
    return cmocka_run_group_tests_name("pretok", tests, NULL, NULL);
}
