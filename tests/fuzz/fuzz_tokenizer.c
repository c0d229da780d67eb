// SPDX-License-Identifier: MIT
// Any text through every kind of tokenizer: encode, decode, stream. The first byte chooses the vocabulary, the second
// the flags, the rest is the text. Pieces of byte-level BPE without normalisation have to be the text again, the stream
// has to be well-formed and the same as the decoded whole, ids have to lie in the vocabulary.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/vocab_make.h"
#include "base/utf8.h"

#define CHECK(condition)                                                 \
    do {                                                                 \
        if (!(condition)) {                                              \
            fprintf(stderr, "fuzz_tokenizer: failed: %s\n", #condition); \
            abort();                                                     \
        }                                                                \
    } while (0)

struct subject {
    const char *pre; // NULL = SentencePiece
    bool bytes;      // SentencePiece with byte tokens
    bool exact;      // any bytes come back
    struct fm_tokenizer *tok;
};

static struct subject subjects[] = {
    {"gpt-2", false, true, NULL},  {"llama-bpe", false, true, NULL}, {"qwen2", false, false, NULL},
    {"smollm", false, true, NULL}, {"tekken", false, true, NULL},    {"default", false, true, NULL},
    {NULL, true, false, NULL},     {NULL, false, false, NULL},
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
    if (subject->pre != NULL)
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
