// SPDX-License-Identifier: MIT
#include "convert/conf.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/map.h"
#include "base/os.h"

#define MAX_BYTES ((size_t)128 << 20)  // tokenizers of large vocabularies have 30 MB
#define MAX_VALUES ((size_t)4 << 20)   // and two million values; each takes 64 bytes

// Python's json writes infinities as words that JSON does not know. Outside of strings they are replaced by numbers
// of the same length that overflow to them.
// Returns how many values the text can hold at most.
static size_t replace_words(char *text, size_t text_bytes)
{
    static const struct {
        const char *word, *number;
        size_t bytes;
    } words[] = {{"-Infinity", "-1e9999  ", 9}, {"Infinity", "1e9999  ", 8}};
    bool inside = false;
    size_t values = 1;
    for (size_t i = 0; i < text_bytes; i++) {
        values += !inside && (text[i] == ',' || text[i] == '[' || text[i] == '{');
        if (inside && text[i] == '\\') {
            i++;
        } else if (text[i] == '"') {
            inside = !inside;
        } else if (!inside && (text[i] == 'I' || text[i] == '-')) {
            for (size_t w = 0; w < FM_COUNT(words); w++)
                if (text_bytes - i >= words[w].bytes &&
                    memcmp(text + i, words[w].word, words[w].bytes) == 0) {
                    memcpy(text + i, words[w].number, words[w].bytes);
                    break;
                }
        }
    }
    return values;
}

static size_t line_of(const char *text, const char *at)
{
    size_t line = 1;
    for (const char *c = text; c < at; c++)
        line += *c == '\n';
    return line;
}

// Where a string holds the character zero, escaped or as it is; text_bytes = nowhere. Strings end there for what reads them
// later.
static size_t find_zero(const char *text, size_t text_bytes)
{
    bool inside = false;
    for (size_t i = 0; i < text_bytes; i++) {
        if (inside && text[i] == '\\') {
            if (text_bytes - i >= 6 && memcmp(text + i, "\\u0000", 6) == 0)
                return i;
            i++;
        } else if (text[i] == '"') {
            inside = !inside;
        } else if (inside && text[i] == '\0') {
            return i;
        }
    }
    return text_bytes;
}

// Readers disagree about which of two equal keys counts.
static enum fm_result check_keys(const struct fm_conf *json)
{
    struct fm_map seen = {0};
    enum fm_result r = FM_OK;
    for (const cJSON *item = json->root->child; r == FM_OK && item != NULL; item = item->next) {
        bool twice;
        r = fm_map_put(&seen, item->string, strlen(item->string), 0, &twice);
        if (r == FM_OK && twice)
            r = fm_fail(FM_FORMAT, "%s: '%s' is there twice", json->path, FM_QUOTE_Z(item->string));
    }
    fm_map_finish(&seen);
    return r;
}

static enum fm_result check_document(const struct fm_conf *json, const char *text, size_t text_bytes)
{
    size_t zero = find_zero(text, text_bytes);
    if (!cJSON_IsObject(json->root))
        return fm_fail(FM_FORMAT, "%s: expected a JSON object", json->path);
    if (zero < text_bytes)
        return fm_fail(FM_UNSUPPORTED,
                       "%s: the string at byte %zu (line %zu) holds the character U+0000, which is not supported: remove it",
                       json->path, zero, line_of(text, text + zero));
    return check_keys(json);
}

enum fm_result fm_conf_parse(char *text, size_t text_bytes, const char *path, struct fm_conf *out_json)
{
    struct fm_conf json = {0};
    const char *end = NULL;
    enum fm_result r;
    snprintf(json.path, sizeof(json.path), "%s", path);
    size_t values = replace_words(text, text_bytes);
    if (values > MAX_VALUES)
        return fm_fail(FM_FORMAT, "%s: %zu values, expected at most %zu", path, values, MAX_VALUES);
    errno = 0;
    json.root = cJSON_ParseWithLengthOpts(text, text_bytes + 1, &end, 1); // with the NUL, so that nothing may follow
    if (json.root == NULL && errno == ENOMEM) // all that cJSON says of memory that it did not get
        return fm_nomem();
    if (json.root == NULL)
        return fm_fail(FM_FORMAT, "%s: no valid JSON at line %zu", path,
                       end != NULL && end >= text && end <= text + text_bytes ? line_of(text, end) : (size_t)1);
    r = check_document(&json, text, text_bytes);
    if (r != FM_OK) {
        cJSON_Delete(json.root);
        return r;
    }
    *out_json = json;
    return FM_OK;
}

enum fm_result fm_conf_load(const char *dir, const char *name, bool required, struct fm_conf *out_json)
{
    struct fm_conf none = {0};
    struct stat info;
    char *text;
    size_t text_bytes;
    if ((size_t)snprintf(none.path, sizeof(none.path), "%s/%s", dir, name) >= sizeof(none.path))
        return fm_fail(FM_ARG, "%s: the path has more than %zu bytes", dir, sizeof(none.path) - 1);
    if (!required && stat(none.path, &info) != 0) {
        *out_json = none;
        return FM_OK;
    }
    enum fm_result r = fm_source_read_whole(none.path, MAX_BYTES, &text, &text_bytes);
    if (r != FM_OK)
        return r;
    r = fm_conf_parse(text, text_bytes, none.path, out_json);
    fm_free(text);
    return r;
}

void fm_conf_finish(struct fm_conf *json)
{
    cJSON_Delete(json->root);
    json->root = NULL;
}

const cJSON *fm_conf_get(const struct fm_conf *json, const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object != NULL ? object : json->root, key);
    return item != NULL && !cJSON_IsNull(item) ? item : NULL;
}

static const char *kind_of(const cJSON *item)
{
    return cJSON_IsNumber(item)   ? "a number"
           : cJSON_IsString(item) ? "a string"
           : cJSON_IsBool(item)   ? "true or false"
           : cJSON_IsArray(item)  ? "a list"
                                  : "an object";
}

static enum fm_result fail_kind(const struct fm_conf *json, const char *key, const char *expected, const cJSON *item)
{
    return fm_fail(FM_FORMAT, "%s: '%s': expected %s, found %s", json->path, key, expected, kind_of(item));
}

// The member, or NULL with the result to return.
static enum fm_result find(const struct fm_conf *json, const char *key, bool required, const cJSON **out_item)
{
    *out_item = fm_conf_get(json, NULL, key);
    if (*out_item == NULL && required)
        return fm_fail(FM_FORMAT, "%s: '%s' is missing", json->path, key);
    return FM_OK;
}

bool fm_conf_whole(const cJSON *item, uint32_t max, uint32_t *out_value)
{
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble <= (double)max) ||
        floor(item->valuedouble) != item->valuedouble)
        return false;
    *out_value = (uint32_t)item->valuedouble;
    return true;
}

enum fm_result fm_conf_u32(const struct fm_conf *json, const char *key, bool required, uint32_t min, uint32_t max, uint32_t fallback,
                           uint32_t *out_value)
{
    const cJSON *item;
    uint32_t value;
    enum fm_result r = find(json, key, required, &item);
    if (r != FM_OK)
        return r;
    if (item == NULL) {
        *out_value = fallback;
        return FM_OK;
    }
    if (!cJSON_IsNumber(item))
        return fail_kind(json, key, "a whole number", item);
    if (!fm_conf_whole(item, max, &value) || value < min)
        return fm_fail(FM_FORMAT, "%s: '%s': expected a whole number from %u to %u, found %g", json->path, key, min, max,
                       item->valuedouble);
    *out_value = value;
    return FM_OK;
}

enum fm_result fm_conf_f64_of(const struct fm_conf *json, const cJSON *object, const char *name, const char *key, bool required,
                              double fallback, double *out_value)
{
    const cJSON *item = fm_conf_get(json, object, key);
    if (item == NULL) {
        if (required)
            return fm_fail(FM_FORMAT, "%s: '%s%s' is missing", json->path, name, key);
        *out_value = fallback;
        return FM_OK;
    }
    if (!cJSON_IsNumber(item) || !isfinite(item->valuedouble))
        return fm_fail(FM_FORMAT, "%s: '%s%s': expected a finite number, found %s", json->path, name, key,
                       cJSON_IsNumber(item) ? "another" : kind_of(item));
    *out_value = item->valuedouble;
    return FM_OK;
}

enum fm_result fm_conf_f64(const struct fm_conf *json, const char *key, bool required, double fallback, double *out_value)
{
    return fm_conf_f64_of(json, NULL, "", key, required, fallback, out_value);
}

enum fm_result fm_conf_bool(const struct fm_conf *json, const char *key, bool fallback, bool *out_value)
{
    const cJSON *item = fm_conf_get(json, NULL, key);
    if (item != NULL && !cJSON_IsBool(item))
        return fail_kind(json, key, "true or false", item);
    *out_value = item != NULL ? cJSON_IsTrue(item) : fallback;
    return FM_OK;
}

enum fm_result fm_conf_string(const struct fm_conf *json, const char *key, bool required, const char **out_text)
{
    const cJSON *item;
    enum fm_result r = find(json, key, required, &item);
    if (r != FM_OK)
        return r;
    if (item != NULL && !cJSON_IsString(item))
        return fail_kind(json, key, "a string", item);
    *out_text = item != NULL ? item->valuestring : NULL;
    return FM_OK;
}

enum fm_result fm_conf_array(const struct fm_conf *json, const char *key, bool required, const cJSON **out_list)
{
    enum fm_result r = find(json, key, required, out_list);
    if (r == FM_OK && *out_list != NULL && !cJSON_IsArray(*out_list))
        r = fail_kind(json, key, "a list", *out_list);
    return r;
}

enum fm_result fm_conf_object(const struct fm_conf *json, const char *key, bool required, const cJSON **out_object)
{
    enum fm_result r = find(json, key, required, out_object);
    if (r == FM_OK && *out_object != NULL && !cJSON_IsObject(*out_object))
        r = fail_kind(json, key, "an object", *out_object);
    return r;
}
