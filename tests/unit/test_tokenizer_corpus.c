// SPDX-License-Identifier: MIT
// Ids of 3,000 awkward strings by thirty kinds of tokenizers against what the `tokenizers` and `sentencepiece` packages gave:
// each tokenizer goes through the converter first. tests/fixtures/README.md describes corpus.zip. Without it the test fails.
//
//     test_tokenizer_corpus [KIND]
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <zip.h>

#include "base/utf8.h"
#include "convert/vocab.h"
#include "format/file.h"
#include "support/temporary.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

#define ROWS 2000 // of the embedding that the tokenizers are for
#define SHOWN_MISMATCHES 5
#define STRINGS 3000

struct bytes {
    uint8_t *data;
    size_t count;
};

static zip_t *archive;
static const char *only; // one kind
static char folder[TEST_PATH_BYTES];

// An entry of the archive with a zero behind it; data NULL when it is not there.
static struct bytes read_entry(const char *name)
{
    zip_stat_t info;
    struct bytes out = {0};
    if (zip_stat(archive, name, 0, &info) != 0)
        return out;
    zip_file_t *file = zip_fopen(archive, name, 0);
    assert_non_null(file);
    out.count = (size_t)info.size;
    out.data = calloc(1, out.count + 1);
    assert_non_null(out.data);
    assert_int_equal(zip_fread(file, out.data, out.count), (zip_int64_t)out.count);
    zip_fclose(file);
    return out;
}

static uint32_t next_number(struct bytes from, size_t *at)
{
    uint32_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
        assert_true(*at < from.count && shift < 32);
        uint8_t byte = from.data[(*at)++];
        value |= (uint32_t)(byte & 127) << shift;
        if (byte < 128)
            return value;
    }
}

// What the converter makes of KIND/tokenizer.json or KIND/tokenizer.model.
static struct fm_tokenizer *convert(const char *kind, bool *out_json)
{
    char name[256], path[TEST_PATH_BYTES + 32];
    struct fm_hf *hf = calloc(1, sizeof(*hf));
    struct fm_conv conv;
    struct fm_vocab_files files = {.model_path = "tokenizer.model"};
    struct fm_tokenizer *tok = NULL;
    struct fm_file *file = NULL;
    const char *temporary;
    assert_non_null(hf);
    assert_int_equal(fm_conv_init(&conv, NULL), FM_OK);
    hf->conv = &conv;
    hf->folder = kind;
    hf->size[FM_S_V] = ROWS;
    snprintf(name, sizeof(name), "%s/tokenizer.json", kind);
    struct bytes json = read_entry(name);
    snprintf(name, sizeof(name), "%s/tokenizer.model", kind);
    struct bytes model = read_entry(name);
    *out_json = json.data != NULL;
    files.model = model.data;
    files.model_bytes = model.count;
    snprintf(path, sizeof(path), "%s/corpus.gguf", folder);
    if ((json.data != NULL && fm_conf_parse((char *)json.data, json.count, "tokenizer.json", &files.tokenizer) != FM_OK) ||
        fm_vocab_put(hf, &files) != FM_OK || fm_gguf_begin(conv.writer, path) != FM_OK ||
        fm_gguf_flush(conv.writer, &temporary) != FM_OK || fm_gguf_finish(conv.writer) != FM_OK ||
        fm_file_open(path, &file) != FM_OK || fm_tokenizer_create(file, &tok) != FM_OK)
        fail_msg("%s: %s", kind, fm_error_message());
    assert_non_null(tok);
    unlink(path);
    fm_file_close(&file);
    fm_conf_finish(&files.tokenizer);
    fm_conv_finish(&conv);
    free(json.data);
    free(model.data);
    free(hf);
    return tok;
}

static void print_ids(const char *what, const uint32_t *ids, size_t count)
{
    print_message("  %s:", what);
    for (size_t i = 0; i < count; i++)
        print_message(" %u", ids[i]);
    print_message("\n");
}

static bool check_string(const struct fm_tokenizer *tok, unsigned flags, const uint8_t *text, size_t text_bytes,
                         const uint32_t *want, size_t want_count, unsigned *shown)
{
    uint32_t *ids = NULL;
    size_t count = 0;
    assert_int_equal(fm_tokenizer_encode(tok, (const char *)text, text_bytes, flags, &ids, &count), FM_OK);
    bool same = count == want_count && memcmp(ids, want, count * sizeof(*ids)) == 0;
    if (!same && (*shown)++ < SHOWN_MISMATCHES) {
        print_message("  text:");
        for (size_t k = 0; k < text_bytes; k++)
            print_message(" %02x", text[k]);
        print_message("\n");
        print_ids("want", want, want_count);
        print_ids("got ", ids, count);
    }
    fm_tokens_free(ids);
    return same;
}

// The one difference that is meant (tests/README.md): punctuation newer than Unicode 8 is none for the package's Falcon.
static bool is_explained(const char *kind, const uint8_t *text, size_t text_bytes)
{
    static const struct {
        uint32_t first, last;
    } newer[] = {{0x61D, 0x61D}, {0x2E43, 0x2E5D}, {0x11F43, 0x11F4F}};
    if (strcmp(kind, "falcon") != 0)
        return false;
    for (size_t at = 0, bytes; at < text_bytes; at += bytes) {
        if (fm_utf8_next((const char *)text + at, text_bytes - at, &bytes) != FM_UTF8_CHAR)
            continue;
        uint32_t point = fm_unicode_point((const char *)text + at, &bytes);
        for (size_t i = 0; i < FM_COUNT(newer); i++)
            if (point >= newer[i].first && point <= newer[i].last)
                return true;
    }
    return false;
}

static void check_kind(void **state)
{
    const char *kind = *state;
    char name[256];
    bool json;
    unsigned shown = 0, differ = 0, total = 0;
    size_t at = 0, ids_at = 0;
    if (only != NULL && strcmp(kind, only) != 0)
        return;
    struct fm_tokenizer *tok = convert(kind, &json);
    struct bytes strings = read_entry("strings");
    snprintf(name, sizeof(name), "%s/ids", kind);
    struct bytes ids = read_entry(name);
    // SentencePiece itself looks for no control tokens in a text.
    const unsigned flags = json ? FM_ENCODE_SPECIAL : 0;
    for (; at < strings.count; total++) {
        uint32_t text_bytes = next_number(strings, &at);
        assert_true(text_bytes <= strings.count - at);
        uint8_t *text = calloc(1, (size_t)text_bytes + 1);
        for (uint32_t i = 0; i < text_bytes; i++)
            text[i] = (uint8_t)next_number(strings, &at);
        uint32_t count = next_number(ids, &ids_at);
        uint32_t *want = calloc((size_t)count + 1, sizeof(*want));
        for (uint32_t i = 0; i < count; i++)
            want[i] = next_number(ids, &ids_at);
        differ += !check_string(tok, flags, text, text_bytes, want, count, &shown) && !is_explained(kind, text, text_bytes);
        free(text);
        free(want);
    }
    free(strings.data);
    free(ids.data);
    fm_tokenizer_destroy(&tok);
    assert_int_equal(total, STRINGS);
    assert_int_equal(ids_at, ids.count);
    if (differ > 0)
        fail_msg("%s: %u of %u strings come out otherwise", kind, differ, total);
}

int main(int argc, char **argv)
{
    const char *data = getenv("FULMEN_TEST_DATA");
    char path[TEST_PATH_BYTES + 32];
    struct CMUnitTest tests[64];
    size_t count = 0;
    int error = 0;
    only = argc > 1 ? argv[1] : NULL;
    snprintf(path, sizeof(path), "%s/corpus/corpus.zip", data != NULL ? data : "tests/fixtures");
    archive = zip_open(path, ZIP_RDONLY, &error);
    if (archive == NULL || !test_temporary_folder("corpus", folder)) {
        fprintf(stderr, "%s cannot be read, or no folder can be made\n", path);
        return 1;
    }
    for (zip_int64_t i = 0; i < zip_get_num_entries(archive, 0); i++) {
        const char *name = zip_get_name(archive, (zip_uint64_t)i, 0), *slash = strstr(name, "/ids");
        if (slash == NULL || count == sizeof(tests) / sizeof(*tests))
            continue;
        char *kind = strndup(name, (size_t)(slash - name));
        tests[count++] = (struct CMUnitTest){.name = kind, .test_func = check_kind, .initial_state = kind};
    }
    int failed = count < 20 ? 1 : _cmocka_run_group_tests("tokenizer_corpus", tests, count, NULL, NULL);
    for (size_t i = 0; i < count; i++)
        free(tests[i].initial_state);
    zip_close(archive);
    rmdir(folder);
    return failed;
}
