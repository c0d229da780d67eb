// SPDX-License-Identifier: MIT
// Model files whatever their format: opening by magic, the directory, messages.

#include "format/file_impl.h"

#define TENSOR_NAME_BYTES_MAX 1023

static const struct fm_format *const formats[] = {&fm_format_gguf, &fm_format_safetensors, &fm_format_torch};

// Files that users take for models, and what they are.
static const struct {
    const char *begin, *what;
} strangers[] = {
    {"version https://git-lfs", "a Git LFS pointer, not the model itself (git lfs pull fetches it)"},
    {"<!DOCTYPE", "a web page, not a model"},
    {"<html", "a web page, not a model"},
    {"lmgg", "an old ggml file; convert the model again"},
    {"fmgg", "an old ggml file; convert the model again"},
    {"tjgg", "an old ggml file; convert the model again"},
};

enum fm_result fm_file_check_name(struct fm_text name)
{
    if (name.bytes == 0 || name.bytes > TENSOR_NAME_BYTES_MAX)
        return fm_fail(FM_FORMAT, "the name of a tensor, '%s', has %llu bytes, expected 1 to %d",
                       FM_QUOTE_TEXT(name), (unsigned long long)name.bytes, TENSOR_NAME_BYTES_MAX);
    if (memchr(name.data, 0, (size_t)name.bytes) != NULL)
        return fm_fail(FM_FORMAT, "the name of a tensor, '%s', holds a NUL byte", FM_QUOTE_TEXT(name));
    return FM_OK;
}

enum fm_result fm_file_add_tensor(struct fm_file *file, const struct fm_tensor *tensor)
{
    bool replaced;
    struct fm_text name = {.data = tensor->name, .bytes = strlen(tensor->name)};
    if (file->tensor_count >= UINT32_MAX)
        return fm_fail(FM_FORMAT, "more than 2^32 tensors");
    enum fm_result result = fm_array_reserve((void **)&file->tensors, &file->tensor_cap, file->tensor_count + 1,
                                             sizeof(*file->tensors));
    if (result == FM_OK)
        result =
            fm_map_put(&file->tensor_index, name.data, (size_t)name.bytes, (uint32_t)file->tensor_count, &replaced);
    if (result != FM_OK)
        return result;
    if (replaced)
        return fm_fail(FM_FORMAT, "tensor '%s' is there twice", FM_QUOTE_TEXT(name));
    file->tensors[file->tensor_count++] = *tensor;
    return FM_OK;
}

enum fm_result fm_file_add_meta(struct fm_file *file, const struct fm_meta *meta)
{
    bool replaced;
    if (file->meta_count >= UINT32_MAX)
        return fm_fail(FM_FORMAT, "more than 2^32 metadata entries");
    enum fm_result result =
        fm_array_reserve((void **)&file->metas, &file->meta_cap, file->meta_count + 1, sizeof(*file->metas));
    if (result == FM_OK)
        result = fm_map_put(&file->meta_index, meta->key.data, (size_t)meta->key.bytes, (uint32_t)file->meta_count,
                            &replaced);
    if (result != FM_OK)
        return result;
    if (replaced)
        return fm_fail(FM_FORMAT, "metadata key '%s' is there twice", FM_QUOTE_TEXT(meta->key));
    file->metas[file->meta_count++] = *meta;
    return FM_OK;
}

static enum fm_result fail_stranger(const uint8_t *data, uint64_t size_bytes)
{
    if (size_bytes == 0)
        return fm_fail(FM_FORMAT, "the file is empty, expected a model file (GGUF, safetensors or PyTorch)");
    for (size_t i = 0; i < FM_COUNT(strangers); i++) {
        size_t length = strlen(strangers[i].begin);
        if (size_bytes >= length && memcmp(data, strangers[i].begin, length) == 0)
            return fm_fail(FM_FORMAT, "this is %s", strangers[i].what);
    }
    struct fm_text begin = {.data = (const char *)data, .bytes = FM_MIN(size_bytes, (uint64_t)4)};
    return fm_fail(FM_FORMAT, "not a model file: begins with '%s', expected GGUF, safetensors or a PyTorch archive",
                   FM_QUOTE_TEXT(begin));
}

// Read the directory of `file`, whose bytes are set. Takes over `file`: closed on failure.
static enum fm_result open_bytes(struct fm_file *file, const char *path, struct fm_file **out_file)
{
    enum fm_result result = FM_OK;
    file->path = fm_strdup(path);
    if (file->path == NULL) {
        result = fm_nomem();
        goto fail;
    }
    const struct fm_format *format = NULL;
    for (size_t i = 0; i < FM_COUNT(formats) && format == NULL; i++)
        if (formats[i]->probe(file->bytes.data, file->bytes.size_bytes))
            format = formats[i];
    file->format = format;
    result = format != NULL ? format->read(file) : fail_stranger(file->bytes.data, file->bytes.size_bytes);
    if (result != FM_OK)
        goto fail;
    *out_file = file;
    return FM_OK;
fail:
    fm_file_close(&file);
    return fm_fail_prefix(result, "%s", path);
}

enum fm_result fm_file_open(const char *path, struct fm_file **out_file)
{
    struct fm_mapping mapping;
    enum fm_result result = fm_mapping_open(path, &mapping);
    if (result != FM_OK)
        return result;
    struct fm_file *file = fm_alloc_zero(1, sizeof(*file));
    if (file == NULL) {
        fm_mapping_close(&mapping);
        fm_nomem();
        return fm_fail_prefix(FM_NOMEM, "%s", path);
    }
    file->bytes = mapping;
    file->is_mapped = true;
    return open_bytes(file, path, out_file);
}

enum fm_result fm_file_open_memory(const void *data, size_t size_bytes, const char *name, struct fm_file **out_file)
{
    struct fm_file *file = fm_alloc_zero(1, sizeof(*file));
    if (file == NULL) {
        fm_nomem();
        return fm_fail_prefix(FM_NOMEM, "%s", FM_QUOTE_Z(name));
    }
    file->bytes = (struct fm_mapping){.data = data, .size_bytes = size_bytes};
    return open_bytes(file, name, out_file);
}

void fm_file_close(struct fm_file **file)
{
    struct fm_file *f = *file;
    if (f == NULL)
        return;
    fm_map_finish(&f->tensor_index);
    fm_map_finish(&f->meta_index);
    fm_free(f->tensors);
    fm_free(f->metas);
    fm_arena_finish(&f->arena);
    if (f->is_mapped)
        fm_mapping_close(&f->bytes);
    fm_free(f->path);
    fm_free(f);
    *file = NULL;
}

const char *fm_file_path(const struct fm_file *file)
{
    return file->path;
}

const char *fm_file_format(const struct fm_file *file)
{
    return file->format->name;
}

uint64_t fm_file_bytes(const struct fm_file *file)
{
    return file->bytes.size_bytes;
}

uint64_t fm_file_hash(const struct fm_file *file)
{
    return file->hash;
}

uint32_t fm_file_tensor_count(const struct fm_file *file)
{
    return (uint32_t)file->tensor_count;
}

const struct fm_tensor *fm_file_tensor(const struct fm_file *file, uint32_t index)
{
    return &file->tensors[index];
}

const struct fm_tensor *fm_file_find(const struct fm_file *file, const char *name)
{
    uint32_t index;
    return fm_map_get(&file->tensor_index, name, strlen(name), &index) ? &file->tensors[index] : NULL;
}

uint32_t fm_file_meta_count(const struct fm_file *file)
{
    return (uint32_t)file->meta_count;
}

const struct fm_meta *fm_file_meta(const struct fm_file *file, uint32_t index)
{
    return &file->metas[index];
}

const struct fm_meta *fm_file_meta_find(const struct fm_file *file, const char *key)
{
    uint32_t index;
    return fm_map_get(&file->meta_index, key, strlen(key), &index) ? &file->metas[index] : NULL;
}

void fm_file_drop_tensor(const struct fm_file *file, const struct fm_tensor *tensor)
{
    if (file->is_mapped)
        fm_mapping_drop(&file->bytes, (uint64_t)(tensor->data - file->bytes.data), tensor->data_bytes);
}
