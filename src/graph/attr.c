// SPDX-License-Identifier: MIT
#include "graph/attr.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

enum kind { KIND_U32, KIND_FLOAT, KIND_NAME };
enum printed { PRINTED_ALWAYS, PRINTED_SET };

static const struct row {
    const char *name;
    enum kind kind;
    enum printed printed;
    size_t offset;
    const char *words;
} rows[FM_ATTR_COUNT] = {
#define X(id, field, kind, printed, words) {#field, KIND_##kind, PRINTED_##printed, offsetof(struct fm_attr, field), words},
#include "graph/attrs.def"
#undef X
};

// The field as a word: a float's bits, a number as it is.
static uint32_t get(const struct fm_attr *attr, enum fm_attr_id id)
{
    const uint8_t *field = (const uint8_t *)attr + rows[id].offset;
    uint32_t word;
    if (rows[id].kind == KIND_NAME)
        return *field;
    memcpy(&word, field, sizeof(word));
    return word;
}

static void put(struct fm_attr *attr, enum fm_attr_id id, uint32_t word)
{
    uint8_t *field = (uint8_t *)attr + rows[id].offset;
    if (rows[id].kind == KIND_NAME)
        *field = (uint8_t)word;
    else
        memcpy(field, &word, sizeof(word));
}

void fm_attr_keep(struct fm_attr *attr, uint32_t mask)
{
    struct fm_attr kept = {0};
    for (enum fm_attr_id id = 0; id < FM_ATTR_COUNT; id++)
        if (mask & 1u << id)
            put(&kept, id, get(attr, id));
    *attr = kept;
}

void fm_attr_merge(struct fm_attr *to, const struct fm_attr *from)
{
    for (enum fm_attr_id id = 0; id < FM_ATTR_COUNT; id++)
        if (get(to, id) == 0)
            put(to, id, get(from, id));
}

void fm_attr_words(const struct fm_attr *attr, uint32_t out_words[FM_ATTR_COUNT])
{
    for (enum fm_attr_id id = 0; id < FM_ATTR_COUNT; id++)
        out_words[id] = get(attr, id);
}

const char *fm_attr_name(enum fm_attr_id id)
{
    return rows[id].name;
}

bool fm_attr_is_printed(const struct fm_attr *attr, enum fm_attr_id id)
{
    return rows[id].printed == PRINTED_ALWAYS || get(attr, id) != 0;
}

// The shortest decimal that reads back as the same float.
static void float_text(float value, char out[FM_ATTR_TEXT_BYTES])
{
    int precision = 5;
    do
        snprintf(out, FM_ATTR_TEXT_BYTES, "%.*g", ++precision, (double)value);
    while (precision < 9 && strtof(out, NULL) != value);
}

// Word `index` of a list with blanks between; *out_bytes = 0 when there are fewer.
static const char *word_at(const char *words, uint32_t index, size_t *out_bytes)
{
    for (; index > 0 && *words != '\0'; index--) {
        words += strcspn(words, " ");
        words += *words == ' ';
    }
    *out_bytes = strcspn(words, " ");
    return words;
}

const char *fm_attr_text(const struct fm_attr *attr, enum fm_attr_id id, char out[FM_ATTR_TEXT_BYTES])
{
    uint32_t word = get(attr, id);
    float value;
    size_t bytes;
    switch (rows[id].kind) {
    case KIND_U32: snprintf(out, FM_ATTR_TEXT_BYTES, "%u", word); break;
    case KIND_FLOAT:
        memcpy(&value, &word, sizeof(value));
        float_text(value, out);
        break;
    case KIND_NAME: {
        const char *text = word_at(rows[id].words, word, &bytes);
        snprintf(out, FM_ATTR_TEXT_BYTES, "%.*s", (int)bytes, text);
        break;
    }
    }
    return out;
}

bool fm_attr_set(struct fm_attr *attr, enum fm_attr_id id, const char *text)
{
    char *end = NULL;
    uint32_t word = 0;
    errno = 0;
    if (rows[id].kind == KIND_U32) {
        unsigned long long number = strtoull(text, &end, 10);
        if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || number > UINT32_MAX)
            return false;
        word = (uint32_t)number;
    } else if (rows[id].kind == KIND_FLOAT) {
        float value = strtof(text, &end);
        if (end == text || *end != '\0')
            return false;
        memcpy(&word, &value, sizeof(word));
    } else {
        size_t bytes;
        for (;; word++) {
            const char *name = word_at(rows[id].words, word, &bytes);
            if (bytes == 0)
                return false;
            if (strlen(text) == bytes && memcmp(text, name, bytes) == 0)
                break;
        }
    }
    put(attr, id, word);
    return true;
}
