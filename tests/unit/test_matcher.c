// SPDX-License-Identifier: MIT
// Tokens that are matched as they stand: the automaton against a plain search, on texts and tokens of two letters.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "text/matcher.h"

#define MAX_TOKENS 12
#define MAX_TOKEN_BYTES 9

struct tokens {
    char texts[MAX_TOKENS][MAX_TOKEN_BYTES];
    uint32_t bytes[MAX_TOKENS];
    uint32_t count;
};

static uint32_t seed = 7;

static uint32_t next_random(uint32_t below)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % below;
}

static void make_tokens(struct tokens *tokens, struct fm_matcher *matcher)
{
    tokens->count = next_random(MAX_TOKENS + 1);
    for (uint32_t i = 0; i < tokens->count; i++) {
        tokens->bytes[i] = 1 + next_random(MAX_TOKEN_BYTES);
        for (uint32_t b = 0; b < tokens->bytes[i]; b++)
            tokens->texts[i][b] = (char)('a' + next_random(2));
        assert_int_equal(fm_matcher_add(matcher, tokens->texts[i], tokens->bytes[i], 100 + i), FM_OK);
    }
    assert_int_equal(fm_matcher_seal(matcher), FM_OK);
}

// Index of the longest token that text begins with, the first of equal ones; -1 = none.
static int plain_search(const struct tokens *tokens, const char *text, size_t text_bytes)
{
    int best = -1;
    for (uint32_t i = 0; i < tokens->count; i++) {
        if (tokens->bytes[i] <= text_bytes && memcmp(tokens->texts[i], text, tokens->bytes[i]) == 0 &&
            (best < 0 || tokens->bytes[i] > tokens->bytes[best]))
            best = (int)i;
    }
    return best;
}

static void check_place(const struct tokens *tokens, struct fm_match_walk *walk, size_t at)
{
    const struct fm_matcher_entry *entry = NULL;
    uint32_t id = 0;
    size_t bytes = 0;
    int want = plain_search(tokens, walk->text + at, walk->text_bytes - at);
    assert_int_equal(fm_match_walk_at(walk, at, &entry), FM_OK);
    assert_int_equal(fm_matcher_at(walk->matcher, walk->text + at, walk->text_bytes - at, &id, &bytes), want >= 0);
    assert_int_equal(entry != NULL, want >= 0);
    if (want < 0)
        return;
    assert_int_equal(entry->id, 100 + want);
    assert_int_equal(entry->bytes, tokens->bytes[want]);
    assert_int_equal(id, entry->id);
    assert_int_equal(bytes, entry->bytes);
}

static void test_against_plain_search(void **state)
{
    (void)state;
    char text[200];
    struct fm_match_walk walk = {0};
    for (int round = 0; round < 3000; round++) {
        struct tokens tokens;
        struct fm_matcher matcher = {0};
        make_tokens(&tokens, &matcher);
        size_t text_bytes = next_random(sizeof(text) + 1);
        for (size_t i = 0; i < text_bytes; i++)
            text[i] = (char)('a' + (next_random(30) == 0 ? 2 : next_random(2)));
        fm_match_walk_start(&walk, &matcher, text, text_bytes);
        for (size_t at = 0; at < text_bytes; at++)
            check_place(&tokens, &walk, at);
        fm_matcher_finish(&matcher);
    }
    fm_match_walk_finish(&walk);
}

// Texts longer than what is looked at in one go, with a token that lies across the border.
static void test_long_text(void **state)
{
    (void)state;
    const size_t text_bytes = 300000, every = 65533;
    struct fm_matcher matcher = {0};
    struct fm_match_walk walk = {0};
    char *text = malloc(text_bytes);
    assert_non_null(text);
    memset(text, 'x', text_bytes);
    for (size_t at = 0; at + 6 <= text_bytes; at += every)
        memcpy(text + at, "<abcd>", 6);
    assert_int_equal(fm_matcher_add(&matcher, "<abcd>", 6, 1), FM_OK);
    assert_int_equal(fm_matcher_add(&matcher, "abc", 3, 2), FM_OK);
    assert_int_equal(fm_matcher_seal(&matcher), FM_OK);
    fm_match_walk_start(&walk, &matcher, text, text_bytes);
    size_t found = 0;
    for (size_t at = 0; at < text_bytes; found++) {
        const struct fm_matcher_entry *entry;
        assert_int_equal(fm_match_walk_next(&walk, at, text_bytes, &at, &entry), FM_OK);
        if (entry == NULL)
            break;
        assert_int_equal(entry->id, 1);
        assert_int_equal(at, found * every);
        at += entry->bytes;
    }
    assert_int_equal(found, (text_bytes - 6) / every + 1);
    fm_match_walk_finish(&walk);
    fm_matcher_finish(&matcher);
    free(text);
}

// A token of 64 KiB costs nothing per place of the text; comparing it at each would be 500 billion steps here.
static void test_long_token(void **state)
{
    (void)state;
    const size_t text_bytes = (size_t)8 << 20, token_bytes = 65536;
    struct fm_matcher matcher = {0};
    struct fm_match_walk walk = {0};
    char *text = malloc(text_bytes), *token = malloc(token_bytes);
    assert_non_null(text);
    assert_non_null(token);
    memset(text, 'a', text_bytes);
    memset(token, 'a', token_bytes);
    token[token_bytes - 1] = 'b';
    text[text_bytes - 1] = 'b';
    assert_int_equal(fm_matcher_add(&matcher, token, (uint32_t)token_bytes, 1), FM_OK);
    assert_int_equal(fm_matcher_seal(&matcher), FM_OK);
    fm_match_walk_start(&walk, &matcher, text, text_bytes);
    const struct fm_matcher_entry *entry;
    size_t at;
    assert_int_equal(fm_match_walk_next(&walk, 0, text_bytes, &at, &entry), FM_OK);
    assert_non_null(entry);
    assert_int_equal(at, text_bytes - token_bytes);
    fm_match_walk_finish(&walk);
    fm_matcher_finish(&matcher);
    free(text);
    free(token);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_plain_search),
        cmocka_unit_test(test_long_text),
        cmocka_unit_test(test_long_token),
    };
    return cmocka_run_group_tests_name("matcher", tests, NULL, NULL);
}
