// SPDX-License-Identifier: MIT
// Ids and decoded text against what the `tokenizers` and `sentencepiece` packages gave for the same vocabularies;
// tests/fixtures/README.md describes the files. Without the files the test fails.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include <cjson/cJSON.h>

#include "base/os.h"
#include "format/file.h"
#include "text/tokenizer.h"

#define FOLDER "tokenizers"
#define SHOWN_MISMATCHES 5

struct bytes {
    char *data;
    size_t count;
};

static char folder[512];

static unsigned hex_value(char c)
{
    return (unsigned)(c >= 'a' ? c - 'a' + 10 : c - '0');
}

static struct bytes from_hex(const cJSON *item)
{
    const char *hex = cJSON_GetStringValue(item);
    assert_non_null(hex);
    struct bytes out = {.count = strlen(hex) / 2};
    out.data = malloc(out.count + 1);
    assert_non_null(out.data);
    for (size_t i = 0; i < out.count; i++)
        out.data[i] = (char)(hex_value(hex[2 * i]) << 4 | hex_value(hex[2 * i + 1]));
    return out;
}

static struct fm_tokenizer *open_tokenizer(const char *model)
{
    char path[1024];
    struct fm_file *file = NULL;
    struct fm_tokenizer *tok = NULL;
    snprintf(path, sizeof(path), "%s/%s", folder, model);
    if (fm_file_open(path, &file) != FM_OK || fm_tokenizer_create(file, &tok) != FM_OK)
        fail_msg("%s", fm_error_message());
    assert_non_null(tok);
    fm_file_close(&file);
    return tok;
}

static void print_ids(const char *what, const uint32_t *ids, size_t count)
{
    print_message("  %s:", what);
    for (size_t i = 0; i < count; i++)
        print_message(" %u", ids[i]);
    print_message("\n");
}

// true when the text encodes to `want` (an array of numbers). Shows the first differences.
static bool check_ids(const struct fm_tokenizer *tok, struct bytes text, unsigned flags, const cJSON *want,
                      unsigned *shown)
{
    uint32_t *ids = NULL;
    size_t count = 0, want_count = (size_t)cJSON_GetArraySize(want), i = 0;
    uint32_t *want_ids = calloc(want_count + 1, sizeof(*want_ids));
    const cJSON *item;
    assert_non_null(want_ids);
    cJSON_ArrayForEach(item, want) want_ids[i++] = (uint32_t)item->valuedouble;
    assert_int_equal(fm_tokenizer_encode(tok, text.data, text.count, flags, &ids, &count), FM_OK);
    bool same = count == want_count && memcmp(ids, want_ids, count * sizeof(*ids)) == 0;
    if (!same && (*shown)++ < SHOWN_MISMATCHES) {
        print_message("  text:");
        for (size_t k = 0; k < text.count; k++)
            print_message(" %02x", (unsigned char)text.data[k]);
        print_message("\n");
        print_ids("want", want_ids, want_count);
        print_ids("got ", ids, count);
    }
    free(want_ids);
    fm_tokens_free(ids);
    return same;
}

static bool check_text(const struct fm_tokenizer *tok, const cJSON *ids, bool special, struct bytes want,
                       unsigned *shown)
{
    size_t count = 0, bytes = 0;
    uint32_t *list = calloc((size_t)cJSON_GetArraySize(ids) + 1, sizeof(*list));
    char *text = NULL;
    const cJSON *item;
    assert_non_null(list);
    cJSON_ArrayForEach(item, ids) list[count++] = (uint32_t)item->valuedouble;
    assert_int_equal(fm_tokenizer_decode(tok, list, count, special, &text, &bytes), FM_OK);
    bool same = bytes == want.count && memcmp(text, want.data, bytes) == 0;
    if (!same && (*shown)++ < SHOWN_MISMATCHES) {
        print_ids("decoding", list, count);
        print_message("  want: '%.*s'\n  got:  '%s'\n", (int)want.count, want.data, text);
    }
    free(list);
    fm_text_free(text);
    return same;
}

// 500 strings of one tokenizer. Returns the number of differences.
static unsigned check_strings(const struct fm_tokenizer *tok, const cJSON *strings, const cJSON *entry)
{
    const cJSON *ids = cJSON_GetObjectItem(entry, "ids"), *others = cJSON_GetObjectItem(entry, "decoded_hex");
    bool special = cJSON_IsTrue(cJSON_GetObjectItem(entry, "parse_special"));
    unsigned flags = special ? FM_ENCODE_SPECIAL : 0, bad = 0, shown = 0;
    int count = cJSON_GetArraySize(strings);
    assert_int_equal(cJSON_GetArraySize(ids), count);
    const cJSON *string = strings->child, *want = ids->child;
    for (int i = 0; i < count; i++, string = string->next, want = want->next) {
        char index[16];
        struct bytes text = from_hex(string);
        bad += !check_ids(tok, text, flags, want, &shown);
        snprintf(index, sizeof(index), "%d", i);
        const cJSON *other = cJSON_GetObjectItem(others, index);
        struct bytes decoded = other == NULL ? text : from_hex(other);
        bad += !check_text(tok, want, special, decoded, &shown);
        if (other != NULL)
            free(decoded.data);
        free(text.data);
    }
    return bad;
}

static unsigned check_broken(const struct fm_tokenizer *tok, const cJSON *entry)
{
    const cJSON *broken;
    unsigned bad = 0, shown = 0;
    cJSON_ArrayForEach(broken, cJSON_GetObjectItem(entry, "broken"))
    {
        struct bytes text = from_hex(cJSON_GetObjectItem(broken, "hex"));
        bad += !check_ids(tok, text, 0, cJSON_GetObjectItem(broken, "ids"), &shown);
        free(text.data);
    }
    return bad;
}

static void test_fixtures(void **state)
{
    (void)state;
    const char *data = getenv("FULMEN_TEST_DATA");
    char path[1024], *json = NULL;
    size_t bytes = 0;
    if (data == NULL)
        fail_msg("FULMEN_TEST_DATA is not set, expected the folder tests/fixtures");
    snprintf(folder, sizeof(folder), "%s/" FOLDER, data);
    snprintf(path, sizeof(path), "%s/tokenizers.json", folder);
    if (fm_source_read_whole(path, (size_t)64 << 20, &json, &bytes) != FM_OK)
        fail_msg("%s", fm_error_message());
    cJSON *root = cJSON_ParseWithLength(json, bytes);
    assert_non_null(root);
    const cJSON *strings = cJSON_GetObjectItem(root, "strings_hex"), *entry;
    unsigned bad = 0, kinds = 0;
    assert_true(cJSON_GetArraySize(strings) >= 500);
    cJSON_ArrayForEach(entry, cJSON_GetObjectItem(root, "tokenizers"))
    {
        struct fm_tokenizer *tok = open_tokenizer(cJSON_GetStringValue(cJSON_GetObjectItem(entry, "model")));
        unsigned wrong = check_strings(tok, strings, entry) + check_broken(tok, entry);
        print_message("%s: %d strings, %u differences\n", cJSON_GetStringValue(cJSON_GetObjectItem(entry, "name")),
                      cJSON_GetArraySize(strings), wrong);
        bad += wrong;
        kinds++;
        fm_tokenizer_destroy(&tok);
    }
    cJSON_Delete(root);
    fm_free(json);
    assert_true(kinds >= 4);
    assert_int_equal(bad, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_fixtures)};
    return cmocka_run_group_tests_name("tokenizer_fixtures", tests, NULL, NULL);
}
