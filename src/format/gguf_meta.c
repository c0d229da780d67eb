// SPDX-License-Identifier: MIT
// GGUF metadata: key, value type, value. Values stay where they are; only arrays of strings get a table.
#include <stdio.h>

#include "format/gguf.h"

static const struct value_info {
    const char *name;
    enum fm_meta_kind kind;
    uint32_t bytes; // 0 = not fixed
} value_infos[FM_GGUF_VALUE_TYPES] = {
    {"u8", FM_META_UINT, 1},      {"i8", FM_META_INT, 1},    {"u16", FM_META_UINT, 2}, {"i16", FM_META_INT, 2},
    {"u32", FM_META_UINT, 4},     {"i32", FM_META_INT, 4},   {"f32", FM_META_FLOAT, 4}, {"bool", FM_META_BOOL, 1},
    {"string", FM_META_STRING, 0}, {"array", FM_META_ARRAY, 0}, {"u64", FM_META_UINT, 8}, {"i64", FM_META_INT, 8},
    {"f64", FM_META_FLOAT, 8},
};

uint32_t fm_gguf_value_bytes(uint32_t type)
{
    return value_infos[type].bytes;
}

enum fm_result fm_gguf_read_text(struct fm_cursor *cursor, const char *what, struct fm_text *out_text)
{
    uint64_t bytes, at = cursor->at;
    const uint8_t *data;
    if (!fm_cursor_u64(cursor, &bytes))
        return fm_fail(FM_FORMAT, "the file's %llu bytes end in the length of %s",
                       (unsigned long long)cursor->file_bytes, what);
    if (!fm_cursor_take(cursor, bytes, &data))
        return fm_fail(FM_FORMAT, "%s: length %llu at offset %llu exceeds the file's %llu bytes", what,
                       (unsigned long long)bytes, (unsigned long long)at, (unsigned long long)cursor->file_bytes);
    *out_text = (struct fm_text){.data = (const char *)data, .bytes = bytes};
    return FM_OK;
}

enum fm_result fm_gguf_read_name(struct fm_cursor *cursor, const char *what, uint64_t max_bytes, struct fm_text *out_name)
{
    struct fm_cursor length = *cursor; // looked at before the bytes are: a damaged one is longer than the cursor's range
    uint64_t bytes;
    if (fm_cursor_u64(&length, &bytes) && (bytes == 0 || bytes > max_bytes))
        return fm_fail(FM_FORMAT, "%s has %llu bytes, expected 1 to %llu", what, (unsigned long long)bytes, (unsigned long long)max_bytes);
    enum fm_result result = fm_gguf_read_text(cursor, what, out_name);
    if (result == FM_OK && memchr(out_name->data, 0, (size_t)out_name->bytes) != NULL)
        return fm_fail(FM_FORMAT, "%s, '%s', holds a NUL byte", what, FM_QUOTE_TEXT(*out_name));
    return result;
}

static enum fm_result read_key(struct fm_cursor *cursor, uint64_t index, uint64_t count, struct fm_text *out_key)
{
    char what[80];
    snprintf(what, sizeof(what), "the key of metadata entry %llu of %llu", (unsigned long long)index + 1,
             (unsigned long long)count);
    return fm_gguf_read_name(cursor, what, FM_GGUF_KEY_BYTES_MAX, out_key);
}

static enum fm_result read_type(struct fm_cursor *cursor, const char *quoted, const char *what, enum fm_gguf_value_type *out_type)
{
    uint32_t type;
    if (!fm_cursor_u32(cursor, &type))
        return fm_fail(FM_FORMAT, "metadata '%s': the file's %llu bytes end in its %s", quoted,
                       (unsigned long long)cursor->file_bytes, what);
    if (type >= FM_GGUF_VALUE_TYPES)
        return fm_fail(FM_FORMAT, "metadata '%s': %s is %u, expected 0 to %d", quoted, what, type, FM_GGUF_VALUE_TYPES - 1);
    *out_type = (enum fm_gguf_value_type)type;
    return FM_OK;
}

// `count` strings: walked once before anything is allocated, so that a false count costs nothing.
static enum fm_result read_strings(struct fm_file *file, struct fm_cursor *cursor, const char *quoted, uint64_t count,
                                   const struct fm_text **out_texts)
{
    struct fm_cursor walk = *cursor;
    struct fm_text text;
    char what[FM_QUOTE_BYTES + 80];
    enum fm_result result;
    if (count > fm_cursor_left(cursor) / sizeof(uint64_t))
        return fm_fail(FM_FORMAT, "metadata '%s': array of %llu strings exceeds the file's %llu bytes", quoted,
                       (unsigned long long)count, (unsigned long long)cursor->file_bytes);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t bytes, at = walk.at;
        const uint8_t *data;
        if (fm_cursor_u64(&walk, &bytes) && fm_cursor_take(&walk, bytes, &data))
            continue;
        walk.at = at; // once more for the message
        snprintf(what, sizeof(what), "metadata '%s', string %llu of %llu", quoted, (unsigned long long)i + 1,
                 (unsigned long long)count);
        return fm_gguf_read_text(&walk, what, &text);
    }
    struct fm_text *texts = fm_arena_alloc(&file->arena, (size_t)count, sizeof(*texts));
    if (texts == NULL)
        return fm_nomem();
    for (uint64_t i = 0; i < count; i++) {
        result = fm_gguf_read_text(cursor, quoted, &texts[i]);
        if (result != FM_OK)
            return result;
    }
    *out_texts = texts;
    return FM_OK;
}

static enum fm_result check_bools(const char *quoted, const uint8_t *data, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        if (data[i] > 1)
            return fm_fail(FM_FORMAT, "metadata '%s': bool %llu of %llu is %u, expected 0 or 1", quoted,
                           (unsigned long long)i + 1, (unsigned long long)count, data[i]);
    return FM_OK;
}

// `count` values of one type, which is not an array.
static enum fm_result read_values(struct fm_file *file, struct fm_cursor *cursor, const char *quoted, enum fm_gguf_value_type type,
                                  uint64_t count, struct fm_meta *meta)
{
    const struct value_info *info = &value_infos[type];
    uint64_t at = cursor->at, bytes;
    meta->elem_kind = info->kind;
    meta->elem_bytes = info->bytes;
    meta->count = count;
    meta->data = cursor->data + at;
    if (type == FM_GGUF_VALUE_STRING)
        return read_strings(file, cursor, quoted, count, &meta->texts);
    if (!fm_mul_u64(count, info->bytes, &bytes) || !fm_cursor_take(cursor, bytes, &meta->data))
        return fm_fail(FM_FORMAT, "metadata '%s': %llu x %s at offset %llu exceeds the file's %llu bytes", quoted,
                       (unsigned long long)count, info->name, (unsigned long long)at,
                       (unsigned long long)cursor->file_bytes);
    return type == FM_GGUF_VALUE_BOOL ? check_bools(quoted, meta->data, count) : FM_OK;
}

enum fm_result fm_gguf_read_meta(struct fm_file *file, struct fm_cursor *cursor, uint64_t index, uint64_t count)
{
    struct fm_meta meta = {0};
    char quoted[FM_QUOTE_BYTES];
    enum fm_gguf_value_type type = FM_GGUF_VALUE_ARRAY;
    uint64_t elems = 1;
    enum fm_result result = read_key(cursor, index, count, &meta.key);
    if (result != FM_OK)
        return result;
    fm_quote(meta.key.data, (size_t)meta.key.bytes, quoted, FM_QUOTE_BYTES);
    result = read_type(cursor, quoted, "value type", &type);
    if (result != FM_OK)
        return result;
    meta.kind = value_infos[type].kind;
    if (type == FM_GGUF_VALUE_ARRAY) {
        result = read_type(cursor, quoted, "array element type", &type);
        if (result != FM_OK)
            return result;
        if (type == FM_GGUF_VALUE_ARRAY)
            return fm_fail(FM_UNSUPPORTED, "metadata '%s': arrays of arrays are not supported", quoted);
        if (!fm_cursor_u64(cursor, &elems))
            return fm_fail(FM_FORMAT, "metadata '%s': the file's %llu bytes end in its array length", quoted,
                           (unsigned long long)cursor->file_bytes);
    }
    result = read_values(file, cursor, quoted, type, elems, &meta);
    return result == FM_OK ? fm_file_add_meta(file, &meta) : result;
}
