// SPDX-License-Identifier: MIT
// The format is described in ggml's docs/gguf.md.
#include "format/gguf_write.h"

#include "base/arena.h"
#include "base/map.h"
#include "base/writer.h"

#define VERSION 3
#define ALIGNMENT 32

enum value_type {
    VALUE_U8 = 0,
    VALUE_U32 = 4,
    VALUE_I32 = 5,
    VALUE_F32 = 6,
    VALUE_BOOL = 7,
    VALUE_STRING = 8,
    VALUE_ARRAY = 9
};

struct bytes {
    uint8_t *data;
    size_t size, cap;
};

struct entry { // of the tensor directory
    uint64_t data_bytes;
};

struct fm_gguf_writer {
    enum fm_result error; // of the puts
    struct bytes metas, directory;
    uint64_t meta_count;
    struct entry *entries;
    size_t entry_count, entry_cap;
    uint64_t data_bytes; // of all tensors so far, with padding
    struct fm_arena arena; // keys and names
    struct fm_map keys, names;

    char *path;              // NULL before fm_gguf_begin
    struct fm_writer *file;  // from then on, until fm_gguf_finish
    size_t current;      // entry that is being written
    uint64_t current_at; // bytes of it that are
};

enum fm_result fm_gguf_writer_create(struct fm_gguf_writer **out_writer)
{
    struct fm_gguf_writer *w = fm_alloc_zero(1, sizeof(*w));
    if (w == NULL)
        return fm_nomem();
    *out_writer = w;
    return FM_OK;
}

void fm_gguf_writer_destroy(struct fm_gguf_writer **writer)
{
    struct fm_gguf_writer *w = *writer;
    if (w == NULL)
        return;
    fm_writer_discard(&w->file);
    fm_free(w->path);
    fm_free(w->metas.data);
    fm_free(w->directory.data);
    fm_free(w->entries);
    fm_map_finish(&w->keys);
    fm_map_finish(&w->names);
    fm_arena_finish(&w->arena);
    fm_free(w);
    *writer = NULL;
}

enum fm_result fm_gguf_error(const struct fm_gguf_writer *writer)
{
    return writer->error;
}

bool fm_gguf_has_key(const struct fm_gguf_writer *writer, const char *key)
{
    uint32_t value;
    return fm_map_get(&writer->keys, key, strlen(key), &value);
}

// ---- collecting -----------------------------------------------------------------------------------------------------

static void add(struct fm_gguf_writer *w, struct bytes *to, const void *data, uint64_t size_bytes)
{
    if (w->error != FM_OK || size_bytes == 0)
        return;
    if (size_bytes > SIZE_MAX - to->size) {
        w->error = fm_nomem();
        return;
    }
    w->error = fm_array_reserve((void **)&to->data, &to->cap, to->size + (size_t)size_bytes, 1);
    if (w->error != FM_OK)
        return;
    memcpy(to->data + to->size, data, (size_t)size_bytes);
    to->size += (size_t)size_bytes;
}

static void add_u32(struct fm_gguf_writer *w, struct bytes *to, uint32_t value)
{
    add(w, to, &value, sizeof(value));
}

static void add_u64(struct fm_gguf_writer *w, struct bytes *to, uint64_t value)
{
    add(w, to, &value, sizeof(value));
}

static void add_text(struct fm_gguf_writer *w, struct bytes *to, struct fm_text text)
{
    add_u64(w, to, text.bytes);
    add(w, to, text.data, text.bytes);
}

static struct fm_text text_of(const char *text)
{
    return (struct fm_text){.data = text, .bytes = strlen(text)};
}

// Note `name` as taken; an error when it is.
static void claim(struct fm_gguf_writer *w, struct fm_map *map, const char *what, const char *name)
{
    bool replaced = false;
    if (w->error != FM_OK)
        return;
    char *copy = fm_arena_strdup(&w->arena, name);
    w->error = copy == NULL ? fm_nomem() : fm_map_put(map, copy, strlen(copy), 0, &replaced);
    if (w->error == FM_OK && replaced)
        w->error = fm_fail(FM_ARG, "%s '%s' is written twice", what, FM_QUOTE_Z(name));
}

static void begin_meta(struct fm_gguf_writer *w, const char *key, uint32_t type)
{
    claim(w, &w->keys, "metadata key", key);
    add_text(w, &w->metas, text_of(key));
    add_u32(w, &w->metas, type);
    w->meta_count++;
}

void fm_gguf_put_u32(struct fm_gguf_writer *writer, const char *key, uint32_t value)
{
    begin_meta(writer, key, VALUE_U32);
    add_u32(writer, &writer->metas, value);
}

void fm_gguf_put_f32(struct fm_gguf_writer *writer, const char *key, float value)
{
    begin_meta(writer, key, VALUE_F32);
    add(writer, &writer->metas, &value, sizeof(value));
}

void fm_gguf_put_bool(struct fm_gguf_writer *writer, const char *key, bool value)
{
    uint8_t byte = value;
    begin_meta(writer, key, VALUE_BOOL);
    add(writer, &writer->metas, &byte, 1);
}

void fm_gguf_put_text(struct fm_gguf_writer *writer, const char *key, struct fm_text value)
{
    begin_meta(writer, key, VALUE_STRING);
    add_text(writer, &writer->metas, value);
}

void fm_gguf_put_string(struct fm_gguf_writer *writer, const char *key, const char *value)
{
    fm_gguf_put_text(writer, key, text_of(value));
}

void fm_gguf_put_array(struct fm_gguf_writer *writer, const char *key, enum fm_gguf_value type, const void *values,
                       uint64_t count)
{
    static const struct {
        uint32_t type, bytes;
    } rows[] = {[FM_GGUF_I32] = {VALUE_I32, 4},
                [FM_GGUF_U32] = {VALUE_U32, 4},
                [FM_GGUF_F32] = {VALUE_F32, 4},
                [FM_GGUF_BOOL] = {VALUE_BOOL, 1},
                [FM_GGUF_U8] = {VALUE_U8, 1}};
    begin_meta(writer, key, VALUE_ARRAY);
    add_u32(writer, &writer->metas, rows[type].type);
    add_u64(writer, &writer->metas, count);
    add(writer, &writer->metas, values, count * rows[type].bytes);
}

void fm_gguf_put_texts(struct fm_gguf_writer *writer, const char *key, const struct fm_text *values, uint64_t count)
{
    begin_meta(writer, key, VALUE_ARRAY);
    add_u32(writer, &writer->metas, VALUE_STRING);
    add_u64(writer, &writer->metas, count);
    for (uint64_t i = 0; i < count; i++)
        add_text(writer, &writer->metas, values[i]);
}

// Number of the value type that a reader stored as kind and width.
static uint32_t type_of(enum fm_meta_kind kind, uint32_t elem_bytes)
{
    switch (kind) {
    case FM_META_UINT: return elem_bytes == 1 ? 0 : elem_bytes == 2 ? 2 : elem_bytes == 4 ? VALUE_U32 : 10;
    case FM_META_INT: return elem_bytes == 1 ? 1 : elem_bytes == 2 ? 3 : elem_bytes == 4 ? VALUE_I32 : 11;
    case FM_META_FLOAT: return elem_bytes == 4 ? VALUE_F32 : 12;
    case FM_META_BOOL: return VALUE_BOOL;
    case FM_META_STRING: return VALUE_STRING;
    case FM_META_ARRAY: break;
    }
    return VALUE_ARRAY;
}

void fm_gguf_put_meta(struct fm_gguf_writer *writer, const char *key, const struct fm_meta *meta)
{
    uint32_t elem = type_of(meta->elem_kind, meta->elem_bytes);
    begin_meta(writer, key, meta->kind == FM_META_ARRAY ? VALUE_ARRAY : elem);
    if (meta->kind == FM_META_ARRAY) {
        add_u32(writer, &writer->metas, elem);
        add_u64(writer, &writer->metas, meta->count);
    }
    if (elem == VALUE_STRING) {
        for (uint64_t i = 0; i < meta->count; i++)
            add_text(writer, &writer->metas, meta->texts[i]);
    } else {
        add(writer, &writer->metas, meta->data, meta->count * meta->elem_bytes);
    }
}

void fm_gguf_put_tensor(struct fm_gguf_writer *writer, const char *name, enum fm_type type, uint32_t n_dims,
                        const uint64_t *dims)
{
    struct fm_gguf_writer *w = writer;
    uint64_t elems = 1, bytes = 0, padded = 0, end = 0;
    bool fits = true;
    for (uint32_t i = 0; i < n_dims; i++)
        fits = fits && fm_mul_u64(elems, dims[i], &elems);
    if (w->error == FM_OK && (!fits || n_dims == 0 || n_dims > FM_TENSOR_DIMS || elems == 0 ||
                              dims[n_dims - 1] % fm_type_info(type)->block_elems != 0 ||
                              !fm_type_bytes(type, elems, &bytes) || !fm_align_u64(bytes, ALIGNMENT, &padded) ||
                              !fm_add_u64(w->data_bytes, padded, &end)))
        w->error = fm_fail(FM_ARG, "tensor '%s' of %llu elements cannot be written as %s", FM_QUOTE_Z(name),
                           (unsigned long long)elems, fm_type_info(type)->name);
    claim(w, &w->names, "tensor", name);
    add_text(w, &w->directory, text_of(name));
    add_u32(w, &w->directory, n_dims);
    for (uint32_t i = 0; i < n_dims; i++)
        add_u64(w, &w->directory, dims[n_dims - 1 - i]); // the contiguous dimension comes first
    add_u32(w, &w->directory, (uint32_t)fm_type_info(type)->ggml_id);
    add_u64(w, &w->directory, w->data_bytes);
    if (w->error == FM_OK)
        w->error = fm_array_reserve((void **)&w->entries, &w->entry_cap, w->entry_count + 1, sizeof(*w->entries));
    if (w->error != FM_OK)
        return;
    w->entries[w->entry_count++].data_bytes = bytes;
    w->data_bytes = end;
}

// ---- writing --------------------------------------------------------------------------------------------------------

static enum fm_result write_padding(const struct fm_gguf_writer *w, uint64_t after_bytes)
{
    static const uint8_t zeros[ALIGNMENT];
    return fm_writer_write(w->file, zeros, (ALIGNMENT - after_bytes % ALIGNMENT) % ALIGNMENT);
}

static enum fm_result write_head(struct fm_gguf_writer *w)
{
    struct bytes head = {0};
    add(w, &head, "GGUF", 4);
    add_u32(w, &head, VERSION);
    add_u64(w, &head, w->entry_count);
    add_u64(w, &head, w->meta_count);
    enum fm_result r = w->error;
    uint64_t head_bytes = (uint64_t)head.size + w->metas.size + w->directory.size;
    if (r == FM_OK)
        r = fm_writer_room(w->file, head_bytes + w->data_bytes + ALIGNMENT);
    if (r == FM_OK)
        r = fm_writer_write(w->file, head.data, head.size);
    if (r == FM_OK)
        r = fm_writer_write(w->file, w->metas.data, w->metas.size);
    if (r == FM_OK)
        r = fm_writer_write(w->file, w->directory.data, w->directory.size);
    if (r == FM_OK && w->entry_count > 0)
        r = write_padding(w, head_bytes);
    fm_free(head.data);
    return r;
}

enum fm_result fm_gguf_begin(struct fm_gguf_writer *writer, const char *path)
{
    struct fm_gguf_writer *w = writer;
    if (w->error != FM_OK)
        return w->error;
    if ((w->path = fm_strdup(path)) == NULL)
        return fm_nomem();
    enum fm_result r = fm_writer_open(path, 0, &w->file);
    return r == FM_OK ? write_head(w) : r;
}

enum fm_result fm_gguf_write(struct fm_gguf_writer *writer, const void *data, uint64_t size_bytes)
{
    struct fm_gguf_writer *w = writer;
    const uint8_t *from = data;
    while (size_bytes > 0) {
        if (w->current == w->entry_count)
            return fm_fail(FM_ARG, "%s: %llu bytes more than its tensors hold", w->path,
                           (unsigned long long)size_bytes);
        uint64_t whole = w->entries[w->current].data_bytes, part = FM_MIN(size_bytes, whole - w->current_at);
        enum fm_result r = fm_writer_write(w->file, from, part);
        if (r != FM_OK)
            return r;
        from += part;
        size_bytes -= part;
        w->current_at += part;
        if (w->current_at < whole)
            continue;
        w->current++;
        w->current_at = 0;
        if ((r = write_padding(w, whole)) != FM_OK)
            return r;
    }
    return FM_OK;
}

enum fm_result fm_gguf_flush(struct fm_gguf_writer *writer, const char **out_path)
{
    struct fm_gguf_writer *w = writer;
    if (w->current != w->entry_count)
        return fm_fail(FM_ARG, "%s: the data of %zu of %zu tensors was written", w->path, w->current, w->entry_count);
    return fm_writer_flush(w->file, out_path);
}

enum fm_result fm_gguf_finish(struct fm_gguf_writer *writer)
{
    return fm_writer_finish(&writer->file);
}
