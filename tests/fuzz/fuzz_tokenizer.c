// SPDX-License-Identifier: MIT
// Any text through every kind of tokenizer: encode, decode, stream. The first byte chooses the vocabulary, the second
// the flags, the rest is the text. Pieces of byte-level BPE without normalisation have to be the text again, the stream
// has to be well-formed and the same as the decoded whole, ids have to lie in the vocabulary. Stopped anywhere, encoding
// leaves nothing behind. What is matched as it stands is compared with a plain search, the text being cut into tokens.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/vocab_make.h"
#include "base/utf8.h"
#include "text/matcher.h"

#define CHECK(condition)                                                 \
    do {                                                                 \
        if (!(condition)) {                                              \
            fprintf(stderr, "fuzz_tokenizer: failed: %s\n", #condition); \
            abort();                                                     \
        }                                                                \
    } while (0)

struct subject {
    const char *pre; // NULL = SentencePiece; "" = BPE over characters
    bool bytes;      // SentencePiece with byte tokens
    bool exact;      // any bytes come back
    struct fm_tokenizer *tok;
};

static struct subject subjects[] = {
    {"gpt-2", false, true, NULL},  {"llama-bpe", false, true, NULL}, {"qwen2", false, false, NULL},
    {"smollm", false, true, NULL}, {"tekken", false, true, NULL},    {"default", false, true, NULL},
    {NULL, true, false, NULL},     {NULL, false, false, NULL},      {"", false, false, NULL},
    {"falcon", false, true, NULL}, {"gpt-4o", false, true, NULL},   {"kimi-k2", false, true, NULL},
    {"afmoe", false, true, NULL},  {"tiny_aya", false, true, NULL}, {"deepseek-v3", false, true, NULL},
    {"qwen35", false, false, NULL}, {"bailingmoe", false, true, NULL}, {"deepseek-coder", false, true, NULL},
};

static void open_subject(struct subject *subject)
{
    const char *const merges[] = {
        "a a", "aa aa", "\xC4\xA0 a",       "\xC4\xA0 \xC4\xA0", "h e", "l l", "he ll", "hell o", "\xC3\x83 \xC2\xA9",
        "1 2", "' s",   "\xC4\x8A \xC4\x8A"};
    const struct vocab_token bpe[] = {{"<c>", 0, 3}, {"<c>d", 0, 3}, {"<u>", 0, 4}, {"xyz", 0, 1}, {"", 0, 1}};
    const struct vocab_token spm[] = {{"\xE2\x96\x81", -9, 0},
                                      {"a", -9, 0},
                                      {"b", -9, 0},
                                      {"aa", -1, 0},
                                      {"\xE2\x96\x81"
                                       "a",
                                       -2, 0},
                                      {"aaaa", -3, 0},
                                      {"ab", -1, 5},
                                      {"aba", -2, 0},
                                      {"<c>", 0, 3},
                                      {"<u>", 0, 4},
                                      {"a b", 0, 4},
                                      {"\xC3", -1, 0},
                                      {"\xC3\xA9", -1, 0},
                                      {"", -1, 0}};
    struct gguf_writer w = {0};
    const char *const char_merges[] = {"a a", "aa aa", "\xE2\x96\x81 a", "a b"};
    const struct vocab_token characters[] = {{"\xE2\x96\x81", 0, 0}, {"a", 0, 0}, {"b", 0, 0}, {"aa", 0, 0}, {"aaaa", 0, 0},
                                             {"\xE2\x96\x81"
                                              "a",
                                              0, 0},
                                             {"ab", 0, 0}, {"\n\n", 0, 0}, {"<u>", 0, 4}, {"<|u|>", 0, 4}, {"\xC3", 0, 4}};
    if (subject->pre != NULL && subject->pre[0] == '\0')
        vocab_make_char_bpe(&w, char_merges, sizeof(char_merges) / sizeof(*char_merges), characters,
                            sizeof(characters) / sizeof(*characters));
    else if (subject->pre != NULL)
        vocab_make_bpe(&w, subject->pre, merges, sizeof(merges) / sizeof(*merges), bpe, sizeof(bpe) / sizeof(*bpe));
    else
        vocab_make_spm(&w, subject->bytes, spm, sizeof(spm) / sizeof(*spm));
    CHECK(vocab_open(&w, &subject->tok) == FM_OK);
    gguf_write_finish(&w);
}

static void check_stream(const struct fm_tokenizer *tok, const uint32_t *ids, size_t count, bool special)
{
    char *whole = NULL, *out = malloc(fm_tokenizer_max_piece(tok) + 4);
    size_t whole_bytes = 0, at = 0;
    struct fm_utf8_stream stream = {0};
    CHECK(out != NULL);
    CHECK(fm_tokenizer_decode(tok, ids, count, special, &whole, &whole_bytes) == FM_OK);
    for (size_t i = 0; i <= count; i++) {
        size_t n =
            i < count ? fm_tokenizer_stream(tok, &stream, ids[i], special, out) : fm_utf8_stream_end(&stream, out);
        CHECK(n <= fm_tokenizer_max_piece(tok));
        CHECK(n <= whole_bytes - at && memcmp(out, whole + at, n) == 0);
        CHECK(fm_utf8_valid_prefix(out, n) == n);
        at += n;
    }
    CHECK(at == whole_bytes);
    fm_text_free(whole);
    free(out);
}

static void check_pieces(const struct fm_tokenizer *tok, const uint32_t *ids, size_t count, const char *text,
                         size_t bytes)
{
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        size_t n;
        const char *piece = fm_tokenizer_piece(tok, ids[i], true, &n);
        CHECK(n <= bytes - at && memcmp(piece, text + at, n) == 0);
        at += n;
    }
    CHECK(at == bytes);
}

static bool stop_at(void *user)
{
    unsigned *left = user;
    return (*left)-- == 0;
}

// Repeated so often that it is asked now and then whether to go on; stopped after `calls` of these questions.
static void check_stop(const struct fm_tokenizer *tok, const char *text, size_t bytes, unsigned flags, unsigned calls)
{
    const size_t repeated_bytes = 40000;
    char *repeated = malloc(repeated_bytes);
    uint32_t *ids = NULL;
    size_t count = 0;
    unsigned left = calls;
    CHECK(repeated != NULL);
    for (size_t i = 0; i < repeated_bytes; i++)
        repeated[i] = text[i % bytes];
    enum fm_result r = fm_tokenizer_encode_until(tok, repeated, repeated_bytes, flags, stop_at, &left, &ids, &count);
    CHECK(r == FM_OK || (r == FM_CANCELLED && ids == NULL));
    fm_tokens_free(ids);
    free(repeated);
}

// The first bytes, cut at every '|', are tokens that are looked for in the rest.
static void check_matcher(const char *text, size_t bytes)
{
    struct fm_matcher matcher = {0};
    struct fm_match_walk walk = {0};
    size_t first = bytes / 4, begin = 0;
    for (size_t at = 0; at <= first; at++) {
        if (at < first && text[at] != '|')
            continue;
        if (at > begin)
            CHECK(fm_matcher_add(&matcher, text + begin, (uint32_t)(at - begin), (uint32_t)begin) == FM_OK);
        begin = at + 1;
    }
    CHECK(fm_matcher_seal(&matcher) == FM_OK);
    fm_match_walk_start(&walk, &matcher, text + first, bytes - first);
    for (size_t at = 0; at < bytes - first; at++) {
        const struct fm_matcher_entry *entry, *want = NULL;
        CHECK(fm_match_walk_at(&walk, at, &entry) == FM_OK);
        for (size_t i = 0; i < matcher.count; i++) {
            const struct fm_matcher_entry *e = &matcher.entries[i];
            if (e->bytes <= bytes - first - at && memcmp(e->text, text + first + at, e->bytes) == 0 &&
                (want == NULL || e->bytes > want->bytes))
                want = e;
        }
        CHECK((entry == NULL) == (want == NULL) && (entry == NULL || entry->bytes == want->bytes));
    }
    fm_match_walk_finish(&walk);
    fm_matcher_finish(&matcher);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    if (size_bytes < 2)
        return 0;
    struct subject *subject = &subjects[data[0] % (sizeof(subjects) / sizeof(*subjects))];
    if (subject->tok == NULL)
        open_subject(subject);
    const char *text = (const char *)data + 2;
    size_t bytes = size_bytes - 2, count = 0;
    unsigned flags = data[1] & FM_ENCODE_SPECIAL;
    uint32_t *ids = NULL;
    CHECK(fm_tokenizer_encode(subject->tok, text, bytes, flags, &ids, &count) == FM_OK);
    for (size_t i = 0; i < count; i++)
        CHECK(ids[i] < fm_tokenizer_vocab(subject->tok));
    if (subject->exact)
        check_pieces(subject->tok, ids, count, text, bytes);
    check_stream(subject->tok, ids, count, true);
    check_stream(subject->tok, ids, count, false);
    fm_tokens_free(ids);
    if (bytes > 0 && (data[1] & 0x18) == 0x18)
        check_stop(subject->tok, text, bytes, flags, data[1] >> 5);
    if (bytes <= 512)
        check_matcher(text, bytes);
    // Any ids at all decode to well-formed text.
    if (bytes <= 4096) {
        uint32_t strange[4096 / sizeof(uint32_t)];
        size_t strange_count = bytes / sizeof(uint32_t);
        memcpy(strange, text, strange_count * sizeof(uint32_t));
        for (size_t i = 0; i < strange_count; i++)
            strange[i] %= fm_tokenizer_vocab(subject->tok) + 2;
        check_stream(subject->tok, strange, strange_count, (data[1] & 4) != 0);
    }
    return 0;
}
