// SPDX-License-Identifier: MIT
// safetensors: 8 bytes of header length, a JSON header, tensor data. What is refused is what the format's own reader
// refuses (huggingface/safetensors, safetensors/src/tensor.rs): a header of more than 100 MB, data that overlaps, has
// holes or does not fill the file, a size that is not the shape's.
#include <stdio.h>
#include <stdlib.h>

#include "format/dtype.h"
#include "format/json.h"

#define LENGTH_BYTES 8
#define HEADER_BYTES_MAX 100000000u
#define ENTRY_BYTES_MAX 4096 // of one tensor's description; 100 to 200 are usual

struct span {
    uint64_t begin, end; // in the data
    size_t tensor;
};

struct reader {
    struct fm_file *file;
    const uint8_t *data; // behind the header
    uint64_t data_bytes;
    struct span *spans;
    size_t span_cap;
};

// No magic number, but no other file that is likely to meet us has a brace there.
static bool safetensors_probe(const uint8_t *data, uint64_t size_bytes)
{
    return size_bytes > LENGTH_BYTES && data[LENGTH_BYTES] == '{';
}

static enum fm_result read_dtype(const cJSON *json, const char *quoted, const struct fm_dtype **out_dtype)
{
    const char *word = cJSON_GetStringValue(json);
    if (word == NULL)
        return fm_fail(FM_FORMAT, "tensor '%s': expected a string as dtype", quoted);
    struct fm_text text = {.data = word, .bytes = strlen(word)};
    *out_dtype = fm_dtype_by_name(text);
    if (*out_dtype == NULL)
        return fm_fail(FM_UNSUPPORTED, "tensor '%s': dtype '%s' is not known", quoted, FM_QUOTE_TEXT(text));
    return FM_OK;
}

// An array of integers: `limit` of them are kept, all are counted.
static enum fm_result read_integers(const cJSON *json, const char *quoted, const char *what, uint64_t limit,
                                    uint64_t *out_values, uint64_t *out_count)
{
    uint64_t count = 0, value;
    const cJSON *item;
    if (!cJSON_IsArray(json))
        return fm_fail(FM_FORMAT, "tensor '%s': expected an array as %s", quoted, what);
    cJSON_ArrayForEach(item, json)
    {
        if (!fm_json_u64(item, &value))
            return fm_fail(FM_FORMAT, "tensor '%s': element %llu of %s is no integer from 0 to 2^53", quoted,
                           (unsigned long long)count, what);
        if (count < limit)
            out_values[count] = value;
        count++;
    }
    *out_count = count;
    return FM_OK;
}

struct entry {
    const cJSON *dtype, *shape, *offsets;
};

// The members of a tensor's object; others are let pass, as the format's own reader does.
static enum fm_result find_members(const cJSON *json, const char *quoted, struct entry *out_entry)
{
    static const char *const keys[] = {"dtype", "shape", "data_offsets"};
    const cJSON *found[FM_COUNT(keys)] = {NULL}, *item;
    if (!cJSON_IsObject(json))
        return fm_fail(FM_FORMAT, "tensor '%s': expected an object with dtype, shape and data_offsets", quoted);
    cJSON_ArrayForEach(item, json)
    {
        for (size_t i = 0; i < FM_COUNT(keys); i++) {
            if (strcmp(item->string, keys[i]) != 0)
                continue;
            if (found[i] != NULL)
                return fm_fail(FM_FORMAT, "tensor '%s': %s is there twice", quoted, keys[i]);
            found[i] = item;
        }
    }
    for (size_t i = 0; i < FM_COUNT(keys); i++)
        if (found[i] == NULL)
            return fm_fail(FM_FORMAT, "tensor '%s': %s is missing", quoted, keys[i]);
    *out_entry = (struct entry){.dtype = found[0], .shape = found[1], .offsets = found[2]};
    return FM_OK;
}

static enum fm_result read_entry(struct reader *reader, const cJSON *json, const char *quoted, struct fm_tensor *tensor,
                                 struct span *out_span)
{
    struct entry entry = {0};
    const struct fm_dtype *dtype = NULL;
    uint64_t dims[FM_TENSOR_DIMS], offsets[2], n_dims = 0, n_offsets = 0, elems;
    enum fm_result result = find_members(json, quoted, &entry);
    if (result == FM_OK)
        result = read_dtype(entry.dtype, quoted, &dtype);
    if (result == FM_OK)
        result = read_integers(entry.shape, quoted, "shape", FM_COUNT(dims), dims, &n_dims);
    if (result == FM_OK)
        result = read_integers(entry.offsets, quoted, "data_offsets", FM_COUNT(offsets), offsets, &n_offsets);
    if (result == FM_OK)
        result = fm_dtype_shape(dtype, quoted, n_dims, dims, tensor, &elems);
    if (result != FM_OK)
        return result;
    if (n_offsets != 2)
        return fm_fail(FM_FORMAT, "tensor '%s': %llu data_offsets, expected 2", quoted, (unsigned long long)n_offsets);
    if (offsets[1] < offsets[0] || offsets[1] - offsets[0] != tensor->data_bytes)
        return fm_fail(FM_FORMAT, "tensor '%s': data_offsets are %llu and %llu, expected %llu bytes of %s between them",
                       quoted, (unsigned long long)offsets[0], (unsigned long long)offsets[1],
                       (unsigned long long)tensor->data_bytes, dtype->name);
    if (offsets[1] > reader->data_bytes)
        return fm_fail(FM_FORMAT, "tensor '%s': its data ends at byte %llu, behind the file's %llu bytes of data", quoted,
                       (unsigned long long)offsets[1], (unsigned long long)reader->data_bytes);
    tensor->data = reader->data + offsets[0];
    *out_span = (struct span){.begin = offsets[0], .end = offsets[1]};
    return FM_OK;
}

static enum fm_result read_tensor(struct reader *reader, struct fm_text key, struct fm_text value)
{
    struct fm_file *file = reader->file;
    struct fm_tensor tensor = {0};
    struct span span = {0};
    cJSON *json = NULL;
    char quoted[FM_QUOTE_BYTES], what[FM_QUOTE_BYTES + 16];
    fm_quote(key.data, (size_t)key.bytes, quoted, FM_QUOTE_BYTES);
    enum fm_result result = fm_file_check_name(key);
    if (result != FM_OK)
        return result;
    tensor.name = key.data; // of the arena, NUL-terminated
    snprintf(what, sizeof(what), "tensor '%s'", quoted);
    result = fm_json_parse(value, ENTRY_BYTES_MAX, what, &json);
    if (result == FM_OK)
        result = read_entry(reader, json, quoted, &tensor, &span);
    cJSON_Delete(json);
    if (result == FM_OK)
        result = fm_array_reserve((void **)&reader->spans, &reader->span_cap, file->tensor_count + 1,
                                  sizeof(*reader->spans));
    if (result != FM_OK)
        return result;
    span.tensor = file->tensor_count;
    reader->spans[file->tensor_count] = span;
    return fm_file_add_tensor(file, &tensor);
}

static enum fm_result read_metadata(struct fm_file *file, struct fm_text value)
{
    struct fm_json_object walk = {.text = value, .what = "__metadata__"};
    for (;;) {
        struct fm_text key, text;
        char what[FM_QUOTE_BYTES + 32];
        bool more;
        enum fm_result result = fm_json_next(&walk, &file->arena, &key, &value, &more);
        if (result != FM_OK || !more)
            return result;
        snprintf(what, sizeof(what), "__metadata__, key '%s'", FM_QUOTE_TEXT(key));
        result = fm_json_string(value, &file->arena, what, &text);
        if (result != FM_OK)
            return result;
        struct fm_text *texts = fm_arena_copy(&file->arena, &text, sizeof(text));
        if (texts == NULL)
            return fm_nomem();
        struct fm_meta meta = {.key = key,
                               .kind = FM_META_STRING,
                               .elem_kind = FM_META_STRING,
                               .count = 1,
                               .data = (const uint8_t *)text.data,
                               .texts = texts};
        result = fm_file_add_meta(file, &meta);
        if (result != FM_OK)
            return result;
    }
}

static int compare_spans(const void *a, const void *b)
{
    const struct span *x = a, *y = b;
    return (x->begin > y->begin) - (x->begin < y->begin);
}

// Every byte of the data belongs to one tensor.
static enum fm_result check_spans(struct reader *reader)
{
    const struct fm_file *file = reader->file;
    uint64_t end = 0;
    if (file->tensor_count > 0)
        qsort(reader->spans, file->tensor_count, sizeof(*reader->spans), compare_spans);
    for (size_t i = 0; i < file->tensor_count; i++) {
        const struct span *span = &reader->spans[i];
        if (span->begin != end)
            return fm_fail(FM_FORMAT, "tensor '%s': its data begins at byte %llu, expected %llu (%s)",
                           FM_QUOTE_Z(file->tensors[span->tensor].name), (unsigned long long)span->begin, (unsigned long long)end,
                           span->begin < end ? "it overlaps another tensor's" : "a hole before it");
        end = span->end;
    }
    if (end != reader->data_bytes)
        return fm_fail(FM_FORMAT, "the tensors' data ends at byte %llu, expected %llu as the file has",
                       (unsigned long long)end, (unsigned long long)reader->data_bytes);
    return FM_OK;
}

static enum fm_result read_members(struct reader *reader, struct fm_text header)
{
    struct fm_json_object walk = {.text = header, .what = "header"};
    bool has_metadata = false;
    for (;;) {
        struct fm_text key, value;
        bool more;
        enum fm_result result = fm_json_next(&walk, &reader->file->arena, &key, &value, &more);
        if (result != FM_OK || !more)
            return result;
        if (strcmp(key.data, "__metadata__") != 0) {
            result = read_tensor(reader, key, value);
        } else if (has_metadata) {
            result = fm_fail(FM_FORMAT, "header: __metadata__ is there twice");
        } else {
            has_metadata = true;
            result = read_metadata(reader->file, value);
        }
        if (result != FM_OK)
            return result;
    }
}

static enum fm_result safetensors_read(struct fm_file *file)
{
    const struct fm_mapping *bytes = &file->bytes;
    uint64_t header_bytes = 0, limit = FM_MIN(bytes->size_bytes - LENGTH_BYTES, (uint64_t)HEADER_BYTES_MAX);
    for (int i = LENGTH_BYTES - 1; i >= 0; i--)
        header_bytes = header_bytes << 8 | bytes->data[i];
    if (header_bytes == 0 || header_bytes > limit)
        return fm_fail(FM_FORMAT, "safetensors header of %llu bytes, expected 1 to %llu%s",
                       (unsigned long long)header_bytes, (unsigned long long)limit,
                       limit < HEADER_BYTES_MAX ? ", all that the file has" : "");
    struct reader reader = {.file = file,
                            .data = bytes->data + LENGTH_BYTES + header_bytes,
                            .data_bytes = bytes->size_bytes - LENGTH_BYTES - header_bytes};
    struct fm_text header = {.data = (const char *)bytes->data + LENGTH_BYTES, .bytes = header_bytes};
    enum fm_result result = read_members(&reader, header);
    if (result == FM_OK)
        result = check_spans(&reader);
    if (result == FM_OK)
        file->hash = fm_hash64(header.data, (size_t)header.bytes, FM_HASH_SEED ^ bytes->size_bytes);
    fm_free(reader.spans);
    return result;
}

const struct fm_format fm_format_safetensors = {
    .name = "safetensors", .probe = safetensors_probe, .read = safetensors_read};
