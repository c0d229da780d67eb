// SPDX-License-Identifier: MIT
// JSON from files: a walk over the members of an object, and values through cJSON.
#include "format/json.h"

#include <errno.h>
#include <stdio.h>

#define DEPTH_MAX 16

static void skip_space(struct fm_json_object *o)
{
    while (o->at < o->text.bytes && strchr(" \t\r\n", o->text.data[o->at]) != NULL && o->text.data[o->at] != '\0')
        o->at++;
}

static enum fm_result fail_found(const struct fm_json_object *o, const char *expected)
{
    if (o->at >= o->text.bytes)
        return fm_fail(FM_FORMAT, "%s: ends at byte %llu, expected %s", o->what, (unsigned long long)o->at, expected);
    struct fm_text rest = {.data = o->text.data + o->at, .bytes = FM_MIN(o->text.bytes - o->at, (uint64_t)16)};
    return fm_fail(FM_FORMAT, "%s: byte %llu: expected %s, found '%s'", o->what, (unsigned long long)o->at, expected,
                   FM_QUOTE_TEXT(rest));
}

static bool take(struct fm_json_object *o, char c)
{
    if (o->at >= o->text.bytes || o->text.data[o->at] != c)
        return false;
    o->at++;
    return true;
}

// Step over a string; the opening quote is next.
static enum fm_result skip_string(struct fm_json_object *o)
{
    if (!take(o, '"'))
        return fail_found(o, "a string");
    for (; o->at < o->text.bytes; o->at++) {
        const char *c = o->text.data + o->at;
        if (*c == '"') {
            o->at++;
            return FM_OK;
        }
        if ((unsigned char)*c < 0x20)
            return fail_found(o, "no control character in a string");
        if (*c == '\\') {
            if (o->text.bytes - o->at >= 6 && memcmp(c, "\\u0000", 6) == 0)
                return fail_found(o, "no NUL in a string");
            o->at++; // whatever is escaped, a quote among them
        }
    }
    return fail_found(o, "'\"' at the end of a string");
}

// Step over a value. Only strings and the depth of brackets are looked at: cJSON sees the rest.
static enum fm_result skip_value(struct fm_json_object *o)
{
    unsigned depth = 0;
    uint64_t begin = o->at;
    while (o->at < o->text.bytes) {
        char c = o->text.data[o->at];
        if (c == '"') {
            enum fm_result result = skip_string(o);
            if (result != FM_OK)
                return result;
        } else if (c == '{' || c == '[') {
            if (++depth > DEPTH_MAX)
                return fail_found(o, "at most 16 levels of nesting");
            o->at++;
        } else if (c == '}' || c == ']') {
            if (depth == 0)
                break; // of the object around it
            depth--;
            o->at++;
        } else if (depth == 0 && (c == ',' || c == ' ' || c == '\t' || c == '\r' || c == '\n')) {
            break;
        } else {
            o->at++;
            continue; // a letter or digit: the value may go on
        }
        if (depth == 0)
            break;
    }
    return depth > 0 || o->at == begin ? fail_found(o, depth > 0 ? "a closing bracket" : "a value") : FM_OK;
}

enum fm_result fm_json_next(struct fm_json_object *object, struct fm_arena *arena, struct fm_text *out_key,
                            struct fm_text *out_value, bool *out_more)
{
    struct fm_json_object *o = object;
    struct fm_text key, value;
    bool first = !o->started;
    skip_space(o);
    if (first && !take(o, '{'))
        return fail_found(o, "'{'");
    o->started = true;
    skip_space(o);
    if (take(o, '}')) {
        skip_space(o);
        if (o->at < o->text.bytes)
            return fail_found(o, "nothing after the object");
        *out_more = false;
        return FM_OK;
    }
    if (!first && !take(o, ','))
        return fail_found(o, "',' or '}'");
    skip_space(o);
    key = (struct fm_text){.data = o->text.data + o->at, .bytes = o->at};
    enum fm_result result = skip_string(o);
    if (result != FM_OK)
        return result;
    key.bytes = o->at - key.bytes;
    skip_space(o);
    if (!take(o, ':'))
        return fail_found(o, "':'");
    skip_space(o);
    value = (struct fm_text){.data = o->text.data + o->at, .bytes = o->at};
    result = skip_value(o);
    if (result != FM_OK)
        return result;
    value.bytes = o->at - value.bytes;
    result = fm_json_string(key, arena, o->what, out_key);
    if (result != FM_OK)
        return result;
    *out_value = value;
    *out_more = true;
    return FM_OK;
}

enum fm_result fm_json_parse(struct fm_text value, uint64_t max_bytes, const char *what, cJSON **out_json)
{
    const char *end = NULL;
    if (value.bytes > max_bytes)
        return fm_fail(FM_FORMAT, "%s: a value of %llu bytes, expected at most %llu", what,
                       (unsigned long long)value.bytes, (unsigned long long)max_bytes);
    errno = 0;
    cJSON *json = cJSON_ParseWithLengthOpts(value.data, (size_t)value.bytes, &end, false);
    if (json == NULL && errno == ENOMEM) // all that cJSON says of memory that it did not get
        return fm_nomem();
    if (json == NULL || end != value.data + value.bytes) {
        cJSON_Delete(json);
        return fm_fail(FM_FORMAT, "%s: not JSON: '%s'", what, FM_QUOTE_TEXT(value));
    }
    *out_json = json;
    return FM_OK;
}

enum fm_result fm_json_string(struct fm_text value, struct fm_arena *arena, const char *what, struct fm_text *out_text)
{
    char *copy;
    bool is_string = value.bytes >= 2 && value.data[0] == '"' && value.data[value.bytes - 1] == '"';
    if (!is_string)
        return fm_fail(FM_FORMAT, "%s: expected a string, found '%s'", what, FM_QUOTE_TEXT(value));
    if (memchr(value.data, '\\', (size_t)value.bytes) == NULL) {
        size_t bytes = (size_t)value.bytes - 2;
        copy = fm_arena_alloc(arena, bytes + 1, 1); // zeroed: ends in NUL
        if (copy == NULL)
            return fm_nomem();
        memcpy(copy, value.data + 1, bytes);
        *out_text = (struct fm_text){.data = copy, .bytes = bytes};
        return FM_OK;
    }
    cJSON *json = NULL;
    enum fm_result result = fm_json_parse(value, UINT64_MAX, what, &json);
    if (result != FM_OK)
        return result;
    copy = fm_arena_strdup(arena, cJSON_GetStringValue(json));
    cJSON_Delete(json);
    if (copy == NULL)
        return fm_nomem();
    *out_text = (struct fm_text){.data = copy, .bytes = strlen(copy)};
    return FM_OK;
}

// A run of digits at the walk's place: 0, or no zero first.
static enum fm_result take_integer(struct fm_json_object *o, uint64_t *out_value)
{
    uint64_t value = 0, begin = o->at;
    for (; o->at < o->text.bytes && o->text.data[o->at] >= '0' && o->text.data[o->at] <= '9'; o->at++) {
        if (!fm_mul_u64(value, 10, &value) || !fm_add_u64(value, (uint64_t)(o->text.data[o->at] - '0'), &value)) {
            o->at = begin;
            return fail_found(o, "an integer below 2^64");
        }
    }
    uint64_t digits = o->at - begin;
    bool ends = o->at >= o->text.bytes || strchr(" \t\r\n,]", o->text.data[o->at]) != NULL; // a NUL is found too, and refused next
    if (digits == 0 || (digits > 1 && o->text.data[begin] == '0') || !ends) {
        o->at = begin;
        return fail_found(o, "an integer of 0 or more");
    }
    *out_value = value;
    return FM_OK;
}

enum fm_result fm_json_integers(struct fm_text value, const char *what, uint64_t limit, uint64_t *out_values, uint64_t *out_count)
{
    struct fm_json_object walk = {.text = value, .what = what};
    uint64_t count = 0;
    skip_space(&walk);
    if (!take(&walk, '['))
        return fail_found(&walk, "an array of integers");
    skip_space(&walk);
    while (!take(&walk, ']')) {
        uint64_t number = 0;
        if (count > 0 && !take(&walk, ','))
            return fail_found(&walk, "',' or ']'");
        skip_space(&walk);
        enum fm_result result = take_integer(&walk, &number);
        if (result != FM_OK)
            return result;
        if (count < limit)
            out_values[count] = number;
        count++;
        skip_space(&walk);
    }
    skip_space(&walk);
    if (walk.at < walk.text.bytes)
        return fail_found(&walk, "nothing after the array");
    *out_count = count;
    return FM_OK;
}
