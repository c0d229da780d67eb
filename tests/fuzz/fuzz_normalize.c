// SPDX-License-Identifier: MIT
// libFuzzer target: texts and settings of fulmen.tokenizer.*. The first byte chooses what the second part of the input is:
// 0 normalisers (words, each ended by a zero), 1 a map of characters, 2 nothing; the other bits choose Metaspace and flags of
// tokens. Two bytes say how long that part is; the rest is the text. Whatever tokenizer comes of it has to encode the text,
// twice alike, with ids of the vocabulary. Seeds: seeds_normalize.py.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/pipeline_make.h"
#include "text/added.h"
#include "text/charsmap.h"
#include "text/normalize.h"
#include "text/pipeline.h"

#define WORDS_MAX 32

#define CHECK(condition)                                                 \
    do {                                                                 \
        if (!(condition)) {                                              \
            fprintf(stderr, "fuzz_normalize: failed: %s\n", #condition); \
            abort();                                                     \
        }                                                                \
    } while (0)

static void put_words(struct gguf_writer *w, const uint8_t *data, size_t bytes)
{
    const char *words[WORDS_MAX];
    size_t count = 0;
    char *text = calloc(1, bytes + 1);
    CHECK(text != NULL);
    if (bytes > 0)
        memcpy(text, data, bytes);
    for (size_t at = 0; at < bytes && count < WORDS_MAX; at += strlen(text + at) + 1)
        words[count++] = text + at;
    gguf_write_strings(w, FM_KEY_NORMALIZERS, words, count);
    free(text);
}

static enum fm_result open_tokenizer(const uint8_t *data, size_t bytes, unsigned mode, unsigned flags, struct fm_tokenizer **out_tok)
{
    static const char *const schemes[] = {NULL, "always", "first", "never"};
    struct gguf_writer w = {0};
    pipeline_make(&w, mode == 1 ? "sentencepiece" : "tokenizers", flags & (FM_ADDED_FLAGS_END - 2) & ~(unsigned)FM_ADDED_PIECE);
    if (mode == 0)
        put_words(&w, data, bytes);
    if (mode == 1) {
        gguf_write_array(&w, FM_KEY_CHARSMAP, GGUF_U8, data, bytes);
        gguf_write_bool(&w, "tokenizer.ggml.remove_extra_whitespaces", (flags & 1) != 0);
        gguf_write_bool(&w, FM_KEY_SPACE_SUFFIX, (flags & 128) != 0);
    } else if (schemes[flags & 3] != NULL) {
        gguf_write_string(&w, FM_KEY_METASPACE, schemes[flags & 3]);
        gguf_write_bool(&w, FM_KEY_METASPACE_SPLIT, (flags & 64) != 0);
    }
    enum fm_result r = vocab_open(&w, out_tok);
    gguf_write_finish(&w);
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    struct fm_tokenizer *tok = NULL;
    if (size_bytes < 4)
        return 0;
    size_t bytes = (size_t)data[2] | (size_t)data[3] << 8, left = size_bytes - 4;
    bytes = bytes < left ? bytes : left;
    enum fm_result r = open_tokenizer(data + 4, bytes, data[0] % 3, data[1], &tok);
    CHECK(r == FM_OK || fm_error_message()[0] != '\0');
    // No longer than this: a step may make a text much longer, and there may be many.
    const char *text = (const char *)data + 4 + bytes;
    size_t text_bytes = left - bytes < 256 ? left - bytes : 256;
    for (unsigned special = 0; r == FM_OK && special < 2; special++) {
        uint32_t *ids[2] = {NULL, NULL};
        size_t counts[2] = {0, 0};
        for (unsigned i = 0; i < 2 && r == FM_OK; i++)
            r = fm_tokenizer_encode(tok, text, text_bytes, special != 0 ? FM_ENCODE_SPECIAL : 0, &ids[i], &counts[i]);
        if (r == FM_OK)
            CHECK(counts[0] == counts[1] && memcmp(ids[0], ids[1], counts[0] * sizeof(*ids[0])) == 0);
        for (size_t i = 0; r == FM_OK && i < counts[0]; i++)
            CHECK(ids[0][i] < fm_tokenizer_vocab(tok));
        fm_tokens_free(ids[0]);
        fm_tokens_free(ids[1]);
    }
    fm_tokenizer_destroy(&tok);
    return 0;
}
