// SPDX-License-Identifier: MIT
// Checkpoints for tests.
#include "support/checkpoint_make.h"

#include <stdio.h>
#include <stdlib.h>

static void put_u16(struct gguf_bytes *to, uint16_t value)
{
    gguf_put(to, &value, sizeof(value));
}

static void put_chars(struct gguf_bytes *to, const char *text)
{
    gguf_put(to, text, strlen(text));
}

struct gguf_bytes safetensors_make(const char *header, const void *data, size_t data_bytes)
{
    struct gguf_bytes bytes = {0};
    gguf_put_u64(&bytes, strlen(header));
    put_chars(&bytes, header);
    gguf_put(&bytes, data, data_bytes);
    return bytes;
}

void safetensors_put(struct safetensors_writer *w, const char *name, const char *dtype, uint32_t n_dims,
                     const uint64_t *dims, const void *data, size_t data_bytes)
{
    char text[512];
    snprintf(text, sizeof(text), "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", w->header.size_bytes == 0 ? "{" : ",", name,
             dtype);
    put_chars(&w->header, text);
    for (uint32_t i = 0; i < n_dims; i++) {
        snprintf(text, sizeof(text), "%s%llu", i > 0 ? "," : "", (unsigned long long)dims[i]);
        put_chars(&w->header, text);
    }
    snprintf(text, sizeof(text), "],\"data_offsets\":[%zu,%zu]}", w->data.size_bytes, w->data.size_bytes + data_bytes);
    put_chars(&w->header, text);
    gguf_put(&w->data, data, data_bytes);
}

struct gguf_bytes safetensors_finish(struct safetensors_writer *w)
{
    put_chars(&w->header, w->header.size_bytes == 0 ? "{}" : "}");
    while (w->header.size_bytes % 8 != 0)
        put_chars(&w->header, " "); // as the format's own writer does, for alignment
    gguf_put_u8(&w->header, 0);
    struct gguf_bytes bytes = safetensors_make((const char *)w->header.data, w->data.data, w->data.size_bytes);
    gguf_bytes_finish(&w->header);
    gguf_bytes_finish(&w->data);
    return bytes;
}

// The fields that local headers and directory entries share: version to name length, without the extra length.
static void put_zip_fields(struct gguf_bytes *to, const struct zip_writer *w, const char *name, uint64_t size)
{
    put_u16(to, w->is_zip64 ? 45 : 20);
    put_u16(to, w->flags);
    put_u16(to, w->method);
    gguf_put_u32(to, 0x21 << 16); // time and date
    gguf_put_u32(to, 0);          // CRC: left out, as writers may
    gguf_put_u32(to, w->is_zip64 ? UINT32_MAX : (uint32_t)size);
    gguf_put_u32(to, w->is_zip64 ? UINT32_MAX : (uint32_t)size);
    put_u16(to, (uint16_t)strlen(name));
}

static void put_zip64_sizes(struct gguf_bytes *to, uint16_t count, uint64_t size)
{
    put_u16(to, 1);
    put_u16(to, (uint16_t)(8 * count));
    gguf_put_u64(to, size);
    gguf_put_u64(to, size);
}

void zip_put(struct zip_writer *w, const char *name, const void *data, size_t data_bytes)
{
    uint64_t at = w->entries.size_bytes;
    put_chars(&w->entries, "PK\003\004");
    put_zip_fields(&w->entries, w, name, data_bytes);
    put_u16(&w->entries, w->is_zip64 ? 20 : 0);
    put_chars(&w->entries, name);
    if (w->is_zip64)
        put_zip64_sizes(&w->entries, 2, data_bytes);
    gguf_put(&w->entries, data, data_bytes);

    put_chars(&w->directory, "PK\001\002");
    put_u16(&w->directory, 45);
    put_zip_fields(&w->directory, w, name, data_bytes);
    put_u16(&w->directory, w->is_zip64 ? 28 : 0);
    put_u16(&w->directory, 0); // comment
    put_u16(&w->directory, 0); // disk
    put_u16(&w->directory, 0); // attributes
    gguf_put_u32(&w->directory, 0);
    gguf_put_u32(&w->directory, w->is_zip64 ? UINT32_MAX : (uint32_t)at);
    put_chars(&w->directory, name);
    if (w->is_zip64) {
        put_zip64_sizes(&w->directory, 3, data_bytes);
        gguf_put_u64(&w->directory, at);
    }
    w->count++;
}

struct gguf_bytes zip_finish(struct zip_writer *w)
{
    struct gguf_bytes bytes = w->entries;
    uint64_t at = bytes.size_bytes, size = w->directory.size_bytes;
    gguf_put(&bytes, w->directory.data, w->directory.size_bytes);
    if (w->is_zip64) {
        uint64_t end_at = bytes.size_bytes;
        put_chars(&bytes, "PK\006\006");
        gguf_put_u64(&bytes, 44);
        put_u16(&bytes, 45);
        put_u16(&bytes, 45);
        gguf_put_u64(&bytes, 0); // disks
        gguf_put_u64(&bytes, w->count);
        gguf_put_u64(&bytes, w->count);
        gguf_put_u64(&bytes, size);
        gguf_put_u64(&bytes, at);
        put_chars(&bytes, "PK\006\007");
        gguf_put_u32(&bytes, 0);
        gguf_put_u64(&bytes, end_at);
        gguf_put_u32(&bytes, 1);
    }
    put_chars(&bytes, "PK\005\006");
    gguf_put_u32(&bytes, 0); // disks
    put_u16(&bytes, w->is_zip64 ? UINT16_MAX : w->count);
    put_u16(&bytes, w->is_zip64 ? UINT16_MAX : w->count);
    gguf_put_u32(&bytes, w->is_zip64 ? UINT32_MAX : (uint32_t)size);
    gguf_put_u32(&bytes, w->is_zip64 ? UINT32_MAX : (uint32_t)at);
    put_u16(&bytes, 0); // comment
    gguf_bytes_finish(&w->directory);
    *w = (struct zip_writer){0};
    return bytes;
}

void pickle_text(struct gguf_bytes *p, const char *text)
{
    put_chars(p, "X");
    gguf_put_u32(p, (uint32_t)strlen(text));
    put_chars(p, text);
}

void pickle_int(struct gguf_bytes *p, int64_t value)
{
    gguf_put(p, "\x8a\x08", 2);
    gguf_put(p, &value, sizeof(value));
}

void pickle_global(struct gguf_bytes *p, const char *module, const char *name)
{
    put_chars(p, "c");
    put_chars(p, module);
    put_chars(p, "\n");
    put_chars(p, name);
    put_chars(p, "\n");
}

void pickle_begin(struct gguf_bytes *p)
{
    gguf_put(p, "\x80\x02", 2);
    pickle_global(p, "collections", "OrderedDict");
    put_chars(p, ")R(");
}

static void put_tuple(struct gguf_bytes *p, const int64_t *values, uint32_t count)
{
    put_chars(p, "(");
    for (uint32_t i = 0; i < count; i++)
        pickle_int(p, values[i]);
    put_chars(p, "t");
}

void pickle_tensor(struct gguf_bytes *p, const struct pickle_tensor *tensor)
{
    int64_t strides[8];
    uint64_t stride = 1; // unsigned: dimensions may be absurd
    for (uint32_t i = tensor->n_dims; i-- > 0; stride *= (uint64_t)tensor->dims[i])
        strides[i] = (int64_t)stride;
    for (uint32_t i = 0; i < tensor->n_dims; i++)
        if (tensor->strides[i] != 0)
            memcpy(strides, tensor->strides, sizeof(strides));
    pickle_global(p, "torch._utils", "_rebuild_tensor_v2");
    put_chars(p, "((");
    pickle_text(p, "storage");
    pickle_global(p, "torch", tensor->storage);
    pickle_text(p, tensor->key);
    pickle_text(p, "cpu");
    pickle_int(p, tensor->storage_elems);
    put_chars(p, "tQ");
    pickle_int(p, tensor->offset);
    put_tuple(p, tensor->dims, tensor->n_dims);
    put_tuple(p, strides, tensor->n_dims);
    gguf_put(p, "\x89", 1);
    pickle_global(p, "collections", "OrderedDict");
    put_chars(p, ")RtR");
}

void pickle_entry(struct gguf_bytes *p, const char *name, const char *storage, const char *key, int64_t elems)
{
    const struct pickle_tensor tensor = {
        .storage = storage, .key = key, .storage_elems = elems, .n_dims = 1, .dims = {elems}};
    pickle_text(p, name);
    pickle_tensor(p, &tensor);
}

void pickle_end(struct gguf_bytes *p)
{
    put_chars(p, "u.");
}

struct gguf_bytes torch_make(struct gguf_bytes *pickle, const size_t *storage_bytes, size_t count)
{
    struct zip_writer w = {0};
    zip_put(&w, "archive/data.pkl", pickle->data, pickle->size_bytes);
    zip_put(&w, "archive/byteorder", "little", 6);
    for (size_t i = 0; i < count; i++) {
        char name[64];
        struct gguf_bytes data = {0};
        snprintf(name, sizeof(name), "archive/data/%zu", i);
        for (size_t b = 0; b < storage_bytes[i]; b++)
            gguf_put_u8(&data, (uint8_t)(b + 16 * i));
        zip_put(&w, name, data.data, data.size_bytes);
        gguf_bytes_finish(&data);
    }
    zip_put(&w, "archive/version", "3\n", 2);
    gguf_bytes_finish(pickle);
    return zip_finish(&w);
}
