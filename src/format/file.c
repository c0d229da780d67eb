// SPDX-License-Identifier: MIT
// Model files whatever their format: opening by magic, the directory, messages.
#include <stdlib.h>

#include "format/file_impl.h"

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
    if (name.bytes == 0 || name.bytes > FM_FILE_NAME_BYTES_MAX)
        return fm_fail(FM_FORMAT, "the name of a tensor, '%s', has %llu bytes, expected 1 to %d",
                       FM_QUOTE_TEXT(name), (unsigned long long)name.bytes, FM_FILE_NAME_BYTES_MAX);
    if (memchr(name.data, 0, (size_t)name.bytes) != NULL)
        return fm_fail(FM_FORMAT, "the name of a tensor, '%s', holds a NUL byte", FM_QUOTE_TEXT(name));
    return FM_OK;
}

enum fm_result fm_file_add_tensor(struct fm_file *file, const struct fm_tensor *tensor)
{
    bool replaced;
    struct fm_text name = {.data = tensor->name, .bytes = strlen(tensor->name)};
    if (file->tensor_count >= FM_FILE_TENSORS_MAX)
        return fm_fail(FM_FORMAT, "more than %u tensors", FM_FILE_TENSORS_MAX);
    enum fm_result result = fm_array_reserve((void **)&file->tensors, &file->tensor_cap, file->tensor_count + 1,
                                             sizeof(*file->tensors));
    if (result == FM_OK)
        result =
            fm_map_put(&file->tensor_index, name.data, (size_t)name.bytes, (uint32_t)file->tensor_count, &replaced);
    if (result != FM_OK)
        return result;
    if (replaced)
        return fm_fail(FM_FORMAT, "tensor '%s' is there twice", FM_QUOTE_TEXT(name));
    file->tensors[file->tensor_count] = *tensor;
    file->tensors[file->tensor_count++].file = file;
    return FM_OK;
}

enum fm_result fm_file_add_meta(struct fm_file *file, const struct fm_meta *meta)
{
    bool replaced;
    if (file->meta_count >= FM_FILE_METAS_MAX)
        return fm_fail(FM_FORMAT, "more than %u metadata entries", FM_FILE_METAS_MAX);
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

enum fm_result fm_file_hold(struct fm_file *file, uint64_t offset, uint64_t bytes, const uint8_t **out_data)
{
    if (file->source.memory != NULL) {
        *out_data = file->source.memory + offset;
        return FM_OK;
    }
    uint8_t *data = bytes < SIZE_MAX ? fm_alloc((size_t)bytes + 1) : NULL;
    if (data == NULL)
        return fm_nomem();
    enum fm_result result = fm_source_read(&file->source, offset, bytes, data);
    if (result != FM_OK) {
        fm_free(data);
        return result;
    }
    fm_file_let_go(file);
    *out_data = file->held = data;
    return FM_OK;
}

void fm_file_let_go(struct fm_file *file)
{
    fm_free(file->held);
    file->held = NULL;
}

static int compare_places(const void *a, const void *b)
{
    const struct fm_tensor *x = *(const struct fm_tensor *const *)a, *y = *(const struct fm_tensor *const *)b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

enum fm_result fm_file_check_overlap(const struct fm_file *file)
{
    const struct fm_tensor **sorted = fm_alloc((file->tensor_count + 1) * sizeof(*sorted));
    enum fm_result result = FM_OK;
    size_t count = 0;
    if (sorted == NULL)
        return fm_nomem();
    for (size_t i = 0; i < file->tensor_count; i++)
        if (file->tensors[i].data_bytes > 0) // nothing shares bytes with a tensor that has none
            sorted[count++] = &file->tensors[i];
    qsort(sorted, count, sizeof(*sorted), compare_places);
    for (size_t i = 1; i < count && result == FM_OK; i++) {
        const struct fm_tensor *a = sorted[i - 1], *b = sorted[i];
        if (b->offset - a->offset < a->data_bytes)
            result = fm_fail(FM_FORMAT, "tensors '%s' and '%s' overlap: bytes %llu to %llu of the file, and %llu to %llu",
                             FM_QUOTE_Z(a->name), FM_QUOTE_Z(b->name), (unsigned long long)a->offset,
                             (unsigned long long)(a->offset + a->data_bytes),
                             (unsigned long long)b->offset, (unsigned long long)(b->offset + b->data_bytes));
    }
    fm_free(sorted);
    return result;
}

// Messages of fm_source begin with the path already.
static enum fm_result with_path(const struct fm_file *file, enum fm_result result)
{
    return result == FM_IO || result == FM_CHANGED ? result : fm_fail_prefix(result, "%s", file->source.path);
}

// Read the directory of `file`, whose source is open. Takes over `file`: closed on failure.
static enum fm_result open_source(struct fm_file *file, struct fm_file **out_file)
{
    uint8_t begin[FM_PROBE_BYTES];
    uint64_t begin_bytes = FM_MIN(file->source.size_bytes, (uint64_t)FM_PROBE_BYTES);
    enum fm_result result = fm_source_read(&file->source, 0, begin_bytes, begin);
    for (size_t i = 0; i < FM_COUNT(formats) && result == FM_OK && file->format == NULL; i++)
        if (formats[i]->probe(begin, begin_bytes))
            file->format = formats[i];
    if (result == FM_OK)
        result = file->format != NULL ? file->format->read(file) : fail_stranger(begin, begin_bytes);
    if (result == FM_OK)
        result = fm_source_unchanged(&file->source);
    if (result != FM_OK) {
        result = with_path(file, result);
        fm_file_close(&file);
        return result;
    }
    *out_file = file;
    return FM_OK;
}

enum fm_result fm_file_open_as(const char *path, const char *name, struct fm_file **out_file)
{
    struct fm_file *file = fm_alloc_zero(1, sizeof(*file));
    if (file == NULL) {
        fm_nomem();
        return fm_fail_prefix(FM_NOMEM, "%s", FM_QUOTE_Z(name));
    }
    enum fm_result result =
        fm_path_kind(path) == FM_PATH_FOLDER ? fm_folder_refuse(path) : fm_source_open(path, name, &file->source);
    if (result != FM_OK) {
        fm_free(file);
        return result == FM_IO ? result : fm_fail_prefix(result, "%s", FM_QUOTE_Z(name));
    }
    return open_source(file, out_file);
}

enum fm_result fm_file_open(const char *path, struct fm_file **out_file)
{
    return fm_file_open_as(path, path, out_file);
}

enum fm_result fm_file_open_memory(const void *data, size_t size_bytes, const char *name, struct fm_file **out_file)
{
    struct fm_file *file = fm_alloc_zero(1, sizeof(*file));
    if (file == NULL || fm_source_memory(data, size_bytes, name, &file->source) != FM_OK) {
        fm_free(file);
        fm_nomem();
        return fm_fail_prefix(FM_NOMEM, "%s", FM_QUOTE_Z(name));
    }
    return open_source(file, out_file);
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
    fm_file_let_go(f);
    fm_source_close(&f->source);
    fm_free(f);
    *file = NULL;
}

const char *fm_file_path(const struct fm_file *file)
{
    return file->source.path;
}

const char *fm_file_format(const struct fm_file *file)
{
    return file->format->name;
}

uint64_t fm_file_bytes(const struct fm_file *file)
{
    return file->source.size_bytes;
}

struct fm_file_id fm_file_identity(const struct fm_file *file)
{
    return file->source.id;
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

enum fm_result fm_tensor_read(const struct fm_tensor *tensor, uint64_t offset, uint64_t bytes, void *out)
{
    const struct fm_source *source = &tensor->file->source;
    if (offset > tensor->data_bytes || bytes > tensor->data_bytes - offset)
        return fm_fail(FM_ARG, "%s: tensor '%s': bytes %llu to %llu are wanted, it has %llu", source->path, FM_QUOTE_Z(tensor->name),
                       (unsigned long long)offset, (unsigned long long)(offset + bytes), (unsigned long long)tensor->data_bytes);
    return fm_source_read(source, tensor->offset + offset, bytes, out);
}

enum fm_result fm_file_unchanged(const struct fm_file *file)
{
    return fm_source_unchanged(&file->source);
}
