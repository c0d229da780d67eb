// SPDX-License-Identifier: MIT
// Long texts: they become the same ids as by the plain algorithm, in time that grows like the text, and can be stopped.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "support/vocab_make.h"

#define M "\xE2\x96\x81" // U+2581
#define FIRST_PIECE 3    // ids of a SentencePiece vocabulary without bytes
#define MAX_PIECES 40

static uint32_t seed = 99;

static uint32_t next_random(uint32_t below)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % below;
}

static struct fm_tokenizer *open_written(struct gguf_writer *w)
{
    struct fm_tokenizer *tok = NULL;
    if (vocab_open(w, &tok) != FM_OK)
        fail_msg("%s", fm_error_message());
    gguf_write_finish(w);
    return tok;
}

// ---- the plain algorithm: join the best pair, look at everything again -----------------------------------------------

struct span {
    size_t begin;
    size_t bytes;
};

static int piece_of(const struct vocab_token *pieces, size_t count, const char *text, struct span span)
{
    for (size_t i = 0; i < count; i++) {
        if (strlen(pieces[i].text) == span.bytes && memcmp(pieces[i].text, text + span.begin, span.bytes) == 0)
            return (int)i;
    }
    return -1;
}

// Ids of a text of known single characters. `spans` has room for one of each.
static size_t merge_plainly(const struct vocab_token *pieces, size_t piece_count, const char *text, struct span *spans,
                            uint32_t *out_ids)
{
    size_t count = 0;
    for (size_t at = 0; text[at] != '\0'; at += spans[count++].bytes)
        spans[count] = (struct span){at, (uint8_t)text[at] < 0x80 ? 1 : 3};
    for (;;) {
        size_t best = count;
        float best_score = 0;
        for (size_t i = 0; i + 1 < count; i++) {
            struct span both = {spans[i].begin, spans[i].bytes + spans[i + 1].bytes};
            int piece = piece_of(pieces, piece_count, text, both);
            if (piece >= 0 && (best == count || pieces[piece].score > best_score)) {
                best = i;
                best_score = pieces[piece].score;
            }
        }
        if (best == count)
            break;
        spans[best].bytes += spans[best + 1].bytes;
        memmove(spans + best + 1, spans + best + 2, (count - best - 2) * sizeof(*spans));
        count--;
    }
    for (size_t i = 0; i < count; i++)
        out_ids[i] = FIRST_PIECE + (uint32_t)piece_of(pieces, piece_count, text, spans[i]);
    return count;
}

// Random pieces of a, b, c and spaces, some scores equal. texts holds what is not constant.
static size_t make_pieces(struct vocab_token pieces[MAX_PIECES], char texts[MAX_PIECES][32])
{
    static const char *const letters[] = {M, "a", "b", "c"};
    size_t count = 0;
    for (; count < 4; count++)
        pieces[count] = (struct vocab_token){.text = letters[count], .score = -100};
    while (count < MAX_PIECES) {
        texts[count][0] = '\0';
        for (uint32_t n = 2 + next_random(5); n > 0; n--)
            strcat(texts[count], letters[next_random(4)]);
        pieces[count] = (struct vocab_token){.text = texts[count], .score = -(float)next_random(20)};
        bool twice = false;
        for (size_t i = 0; i < count; i++)
            twice = twice || strcmp(pieces[i].text, pieces[count].text) == 0;
        count += !twice;
    }
    return count;
}

static void compare_once(size_t length)
{
    struct vocab_token pieces[MAX_PIECES];
    char texts[MAX_PIECES][32];
    size_t piece_count = make_pieces(pieces, texts), escaped_bytes = 0, count = 0;
    struct gguf_writer w = {0};
    vocab_make_spm(&w, false, pieces, piece_count);
    gguf_write_bool(&w, "tokenizer.ggml.add_space_prefix", false);
    struct fm_tokenizer *tok = open_written(&w);
    char *text = malloc(length + 1), *escaped = malloc(3 * length + 1);
    struct span *spans = malloc(length * sizeof(*spans));
    uint32_t *want = malloc(length * sizeof(*want)), *ids = NULL;
    assert_true(text != NULL && escaped != NULL && spans != NULL && want != NULL);
    for (size_t i = 0; i < length; i++) {
        // Stretches of one letter, as they are what makes long queues.
        text[i] = i > 0 && next_random(3) > 0 ? text[i - 1] : " abc"[next_random(4)];
        memcpy(escaped + escaped_bytes, text[i] == ' ' ? M : &text[i], text[i] == ' ' ? 3 : 1);
        escaped_bytes += text[i] == ' ' ? 3 : 1;
    }
    escaped[escaped_bytes] = '\0';
    size_t want_count = merge_plainly(pieces, piece_count, escaped, spans, want);
    assert_int_equal(fm_tokenizer_encode(tok, text, length, 0, &ids, &count), FM_OK);
    assert_int_equal(count, want_count);
    assert_memory_equal(ids, want, count * sizeof(*ids));
    fm_tokens_free(ids);
    free(text);
    free(escaped);
    free(spans);
    free(want);
    fm_tokenizer_destroy(&tok);
}

static void test_same_ids_as_the_plain_algorithm(void **state)
{
    (void)state;
    for (int round = 0; round < 300; round++)
        compare_once(1 + next_random(60));
    // Long enough for the queue of long texts.
    for (int round = 0; round < 3; round++)
        compare_once(3000);
}

// ---- time -----------------------------------------------------------------------------------------------------------

static void put_repeated(struct gguf_writer *w, const char *letter, bool spm)
{
    static char text[8][600];
    struct vocab_token pieces[10] = {{letter, -9, 0}};
    size_t count = 1;
    for (size_t n = 2; n <= 128; n *= 2, count++) {
        text[count - 1][0] = '\0';
        for (size_t i = 0; i < n; i++)
            strcat(text[count - 1], letter);
        pieces[count] = (struct vocab_token){text[count - 1], -(float)count, 0};
    }
    if (spm)
        vocab_make_spm(w, true, pieces, count);
    else
        vocab_make_bpe(w, "gpt-2", (const char *const[]){"a a", "aa aa", "aaaa aaaa", "\xC4\xA0 \xC4\xA0", "\xC4\x8A \xC4\x8A"}, 5,
                       NULL, 0);
}

// Processor time to encode a megabyte of one letter. Quadratic time would be an hour, so the time limit of the test is the check; the
// number is for the reader.
static void encode_letters(const char *letter, char byte, bool spm)
{
    const size_t text_bytes = 1000000;
    struct gguf_writer w = {0};
    put_repeated(&w, letter, spm);
    struct fm_tokenizer *tok = open_written(&w);
    char *text = malloc(text_bytes);
    assert_non_null(text);
    memset(text, byte, text_bytes);
    uint32_t *ids = NULL;
    size_t count = 0;
    clock_t start = clock();
    assert_int_equal(fm_tokenizer_encode(tok, text, text_bytes, 0, &ids, &count), FM_OK);
    print_message("%s, 1 MB of 0x%02x: %zu tokens, %.2f s of processor time\n", spm ? "llama" : "gpt2", (unsigned)byte, count,
                  (double)(clock() - start) / CLOCKS_PER_SEC);
    assert_true(count > 0);
    fm_tokens_free(ids);
    free(text);
    fm_tokenizer_destroy(&tok);
}

static void test_megabytes_of_one_letter(void **state)
{
    (void)state;
    encode_letters("a", 'a', true);
    encode_letters(M, ' ', true);
    encode_letters("a", 'a', false);
    encode_letters("a", ' ', false);
    encode_letters("a", '\n', false);
}

// ---- stopping -------------------------------------------------------------------------------------------------------

struct stop {
    unsigned after; // calls
    unsigned calls;
};

static bool stop(void *user)
{
    struct stop *s = user;
    return ++s->calls > s->after;
}

static void expect_stops(struct fm_tokenizer *tok, const char *unit)
{
    const size_t text_bytes = (size_t)1 << 20;
    char *text = malloc(text_bytes);
    assert_non_null(text);
    for (size_t i = 0; i < text_bytes; i++)
        text[i] = unit[i % strlen(unit)];
    uint32_t *ids = NULL;
    size_t count = 0;
    struct stop never = {.after = UINT32_MAX}, soon = {.after = 3};
    assert_int_equal(fm_tokenizer_encode_until(tok, text, text_bytes, FM_ENCODE_SPECIAL, stop, &never, &ids, &count), FM_OK);
    assert_true(never.calls > 60); // at least every 16 KiB
    fm_tokens_free(ids);
    ids = NULL;
    assert_int_equal(fm_tokenizer_encode_until(tok, text, text_bytes, FM_ENCODE_SPECIAL, stop, &soon, &ids, &count),
                     FM_CANCELLED);
    assert_null(ids);
    assert_int_equal(soon.calls, 4);
    fm_tokenizer_destroy(&tok);
    free(text);
}

static void test_stopping(void **state)
{
    (void)state;
    static const char *const units[] = {"a", "ab cd. ", "\xE4\xBD\xA0\xE5\xA5\xBD", "\n", "<u>", "\xFF"};
    const struct vocab_token user[] = {{"<u>", 0, 4}};
    for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++) {
        struct gguf_writer w = {0};
        put_repeated(&w, "a", true);
        expect_stops(open_written(&w), units[i]);
        w = (struct gguf_writer){0};
        vocab_make_bpe(&w, "qwen2", (const char *const[]){"a a", "aa aa"}, 2, user, 1);
        expect_stops(open_written(&w), units[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_ids_as_the_plain_algorithm),
        cmocka_unit_test(test_megabytes_of_one_letter),
        cmocka_unit_test(test_stopping),
    };
    return cmocka_run_group_tests_name("tokenizer_long", tests, NULL, NULL);
}
