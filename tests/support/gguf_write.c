// SPDX-License-Identifier: MIT
#include "support/gguf_write.h"

#include <stdio.h>
#include <stdlib.h>

// Plain malloc: the library's allocator may be told to fail while a test builds its files.
static void *must(void *ptr)
{
    if (ptr == NULL) {
        fputs("gguf_write: out of memory\n", stderr);
        exit(1);
    }
    return ptr;
}

void gguf_put(struct gguf_bytes *to, const void *data, size_t size_bytes)
{
    if (to->size_bytes + size_bytes > to->cap) {
        to->cap = (to->size_bytes + size_bytes) * 2 + 64;
        to->data = must(realloc(to->data, to->cap));
    }
    if (size_bytes > 0)
        memcpy(to->data + to->size_bytes, data, size_bytes);
    to->size_bytes += size_bytes;
}

void gguf_put_u8(struct gguf_bytes *to, uint8_t value)
{
    gguf_put(to, &value, sizeof(value));
}

void gguf_put_u32(struct gguf_bytes *to, uint32_t value)
{
    gguf_put(to, &value, sizeof(value));
}

void gguf_put_u64(struct gguf_bytes *to, uint64_t value)
{
    gguf_put(to, &value, sizeof(value));
}

void gguf_put_text_n(struct gguf_bytes *to, const char *text, size_t bytes)
{
    gguf_put_u64(to, bytes);
    gguf_put(to, text, bytes);
}

void gguf_put_text(struct gguf_bytes *to, const char *text)
{
    gguf_put_text_n(to, text, strlen(text));
}

void gguf_bytes_finish(struct gguf_bytes *bytes)
{
    free(bytes->data);
    *bytes = (struct gguf_bytes){0};
}

static void pad(struct gguf_bytes *to, size_t alignment)
{
    while (to->size_bytes % alignment != 0)
        gguf_put_u8(to, 0);
}

static size_t value_bytes(enum gguf_value type)
{
    switch (type) {
    case GGUF_U8:
    case GGUF_I8:
    case GGUF_BOOL: return 1;
    case GGUF_U16:
    case GGUF_I16: return 2;
    case GGUF_U32:
    case GGUF_I32:
    case GGUF_F32: return 4;
    case GGUF_U64:
    case GGUF_I64:
    case GGUF_F64: return 8;
    case GGUF_STRING:
    case GGUF_ARRAY: break;
    }
    fputs("gguf_write: this type has no fixed size\n", stderr);
    exit(1);
}

static void begin_meta(struct gguf_writer *w, const char *key, enum gguf_value type)
{
    gguf_put_text(&w->metas, key);
    gguf_put_u32(&w->metas, type);
    w->meta_count++;
}

void gguf_write_scalar(struct gguf_writer *w, const char *key, enum gguf_value type, const void *value)
{
    begin_meta(w, key, type);
    gguf_put(&w->metas, value, value_bytes(type));
}

void gguf_write_u32(struct gguf_writer *w, const char *key, uint32_t value)
{
    gguf_write_scalar(w, key, GGUF_U32, &value);
}

void gguf_write_f32(struct gguf_writer *w, const char *key, float value)
{
    gguf_write_scalar(w, key, GGUF_F32, &value);
}

void gguf_write_bool(struct gguf_writer *w, const char *key, bool value)
{
    uint8_t byte = value;
    gguf_write_scalar(w, key, GGUF_BOOL, &byte);
}

void gguf_write_string(struct gguf_writer *w, const char *key, const char *value)
{
    begin_meta(w, key, GGUF_STRING);
    gguf_put_text(&w->metas, value);
}

static void begin_array(struct gguf_writer *w, const char *key, enum gguf_value type, uint64_t count)
{
    begin_meta(w, key, GGUF_ARRAY);
    gguf_put_u32(&w->metas, type);
    gguf_put_u64(&w->metas, count);
}

void gguf_write_array(struct gguf_writer *w, const char *key, enum gguf_value type, const void *values, uint64_t count)
{
    begin_array(w, key, type, count);
    gguf_put(&w->metas, values, (size_t)count * value_bytes(type));
}

void gguf_write_strings(struct gguf_writer *w, const char *key, const char *const *values, uint64_t count)
{
    begin_array(w, key, GGUF_STRING, count);
    for (uint64_t i = 0; i < count; i++)
        gguf_put_text(&w->metas, values[i]);
}

static uint64_t element_count(uint32_t n_dims, const uint64_t *dims)
{
    uint64_t elems = 1;
    for (uint32_t i = 0; i < n_dims; i++)
        elems *= dims[i];
    return elems;
}

static size_t alignment_of(const struct gguf_writer *w)
{
    return w->alignment != 0 ? w->alignment : 32;
}

void gguf_write_tensor(struct gguf_writer *w, const char *name, enum fm_type type, uint32_t n_dims,
                       const uint64_t *dims, const void *data)
{
    const struct fm_type_info *info = fm_type_info(type);
    uint64_t elems = element_count(n_dims, dims);
    pad(&w->data, alignment_of(w));
    gguf_put_text(&w->tensors, name);
    gguf_put_u32(&w->tensors, n_dims);
    for (uint32_t i = 0; i < n_dims; i++)
        gguf_put_u64(&w->tensors, dims[n_dims - 1 - i]);
    gguf_put_u32(&w->tensors, (uint32_t)info->ggml_id);
    gguf_put_u64(&w->tensors, w->data.size_bytes);
    gguf_put(&w->data, data, (size_t)(elems / info->block_elems * info->block_bytes));
    w->tensor_count++;
}

void gguf_write_tensor_f32(struct gguf_writer *w, const char *name, enum fm_type type, uint32_t n_dims,
                           const uint64_t *dims, const float *values)
{
    const struct fm_type_info *info = fm_type_info(type);
    uint64_t elems = element_count(n_dims, dims);
    void *encoded = must(malloc((size_t)(elems / info->block_elems * info->block_bytes) + 1));
    fm_quant_encode(type, values, elems, encoded);
    gguf_write_tensor(w, name, type, n_dims, dims, encoded);
    free(encoded);
}

struct gguf_bytes gguf_write_make(const struct gguf_writer *w)
{
    struct gguf_bytes file = {0};
    gguf_put(&file, "GGUF", 4);
    gguf_put_u32(&file, w->version != 0 ? w->version : 3);
    gguf_put_u64(&file, w->tensor_count);
    gguf_put_u64(&file, w->meta_count + (w->alignment != 0));
    gguf_put(&file, w->metas.data, w->metas.size_bytes);
    if (w->alignment != 0) {
        gguf_put_text(&file, "general.alignment");
        gguf_put_u32(&file, GGUF_U32);
        gguf_put_u32(&file, w->alignment);
    }
    gguf_put(&file, w->tensors.data, w->tensors.size_bytes);
    if (w->tensor_count > 0)
        pad(&file, alignment_of(w));
    gguf_put(&file, w->data.data, w->data.size_bytes);
    return file;
}

bool gguf_write_file(const struct gguf_writer *w, const char *path)
{
    struct gguf_bytes bytes = gguf_write_make(w);
    FILE *file = fopen(path, "wb");
    bool ok = file != NULL && fwrite(bytes.data, 1, bytes.size_bytes, file) == bytes.size_bytes;
    if (file != NULL && fclose(file) != 0)
        ok = false;
    gguf_bytes_finish(&bytes);
    return ok;
}

void gguf_write_finish(struct gguf_writer *w)
{
    gguf_bytes_finish(&w->metas);
    gguf_bytes_finish(&w->tensors);
    gguf_bytes_finish(&w->data);
    *w = (struct gguf_writer){0};
}
