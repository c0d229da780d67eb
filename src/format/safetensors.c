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
    uint64_t data_begin, data_bytes; // behind the header
    struct span *spans;
    size_t span_cap;
};

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static uint64_t load_length(const uint8_t *data)
{
    uint64_t length = 0;
    for (int i = LENGTH_BYTES - 1; i >= 0; i--)
        length = length << 8 | data[i];
    return length;
}

// No magic number, but no other file that is likely to meet us has a brace there, or a length in reason and then only space.
static bool safetensors_probe(const uint8_t *data, uint64_t size_bytes)
{
    uint64_t at = LENGTH_BYTES;
    while (at < size_bytes && is_space(data[at]))
        at++;
    if (size_bytes <= LENGTH_BYTES || (at > LENGTH_BYTES && load_length(data) > HEADER_BYTES_MAX))
        return false;
    return at < size_bytes ? data[at] == '{' : at > LENGTH_BYTES;
}

static enum fm_result read_dtype(struct fm_text value, struct fm_arena *scratch, const char *quoted, const struct fm_dtype **out_dtype)
{
    char what[FM_QUOTE_BYTES + 24];
    struct fm_text word;
    snprintf(what, sizeof(what), "tensor '%s', dtype", quoted);
    enum fm_result result = fm_json_string(value, scratch, what, &word);
    if (result != FM_OK)
        return result;
    *out_dtype = fm_dtype_by_name(word);
    if (*out_dtype == NULL)
        return fm_fail(FM_UNSUPPORTED, "tensor '%s': dtype '%s' is not known", quoted, FM_QUOTE(word.data, word.bytes));
    return FM_OK;
}

static enum fm_result read_integers(struct fm_text value, const char *quoted, const char *key, uint64_t limit, uint64_t *out_values,
                                    uint64_t *out_count)
{
    char what[FM_QUOTE_BYTES + 40];
    snprintf(what, sizeof(what), "tensor '%s', %s", quoted, key);
    return fm_json_integers(value, what, limit, out_values, out_count);
}

// The values of a tensor's object as they stand.
struct entry {
    struct fm_text dtype, shape, offsets;
};

// Members that are not known are let pass, as the format's own reader does.
static enum fm_result check_unknown(struct fm_text value, const char *what)
{
    cJSON *json = NULL;
    enum fm_result result = fm_json_parse(value, ENTRY_BYTES_MAX, what, &json);
    cJSON_Delete(json);
    return result;
}

static enum fm_result find_members(struct fm_text object, struct fm_arena *scratch, const char *quoted, struct entry *out_entry)
{
    static const char *const keys[] = {"dtype", "shape", "data_offsets"};
    struct fm_text *const values[] = {&out_entry->dtype, &out_entry->shape, &out_entry->offsets};
    char what[FM_QUOTE_BYTES + 16];
    snprintf(what, sizeof(what), "tensor '%s'", quoted);
    struct fm_json_object walk = {.text = object, .what = what};
    if (object.bytes > ENTRY_BYTES_MAX)
        return fm_fail(FM_FORMAT, "%s: a value of %llu bytes, expected at most %d", what, (unsigned long long)object.bytes, ENTRY_BYTES_MAX);
    *out_entry = (struct entry){0};
    for (;;) {
        struct fm_text key, value;
        bool more;
        size_t i = 0;
        enum fm_result result = fm_json_next(&walk, scratch, &key, &value, &more);
        if (result != FM_OK)
            return result;
        if (!more)
            break;
        while (i < FM_COUNT(keys) && strcmp(key.data, keys[i]) != 0)
            i++;
        if (i == FM_COUNT(keys))
            result = check_unknown(value, what);
        else if (values[i]->data != NULL)
            result = fm_fail(FM_FORMAT, "%s: %s is there twice", what, keys[i]);
        else
            *values[i] = value;
        if (result != FM_OK)
            return result;
    }
    for (size_t i = 0; i < FM_COUNT(keys); i++)
        if (values[i]->data == NULL)
            return fm_fail(FM_FORMAT, "%s: %s is missing", what, keys[i]);
    return FM_OK;
}

static enum fm_result read_entry(struct reader *reader, struct fm_text object, struct fm_arena *scratch, const char *quoted,
                                 struct fm_tensor *tensor, struct span *out_span)
{
    struct entry entry = {0};
    const struct fm_dtype *dtype = NULL;
    uint64_t dims[FM_TENSOR_DIMS], offsets[2], n_dims = 0, n_offsets = 0, elems;
    enum fm_result result = find_members(object, scratch, quoted, &entry);
    if (result == FM_OK)
        result = read_dtype(entry.dtype, scratch, quoted, &dtype);
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
    tensor->offset = reader->data_begin + offsets[0];
    *out_span = (struct span){.begin = offsets[0], .end = offsets[1]};
    return FM_OK;
}

static enum fm_result read_tensor(struct reader *reader, struct fm_text key, struct fm_text value)
{
    struct fm_file *file = reader->file;
    struct fm_tensor tensor = {0};
    struct span span = {0};
    struct fm_arena scratch = {0};
    char quoted[FM_QUOTE_BYTES];
    fm_quote(key.data, (size_t)key.bytes, quoted, FM_QUOTE_BYTES);
    enum fm_result result = fm_file_check_name(key);
    if (result != FM_OK)
        return result;
    tensor.name = key.data; // of the arena, NUL-terminated
    result = read_entry(reader, value, &scratch, quoted, &tensor, &span);
    fm_arena_finish(&scratch);
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
    const struct span *x = a, *y = b; // one without elements comes before the one that begins there
    if (x->begin != y->begin)
        return x->begin > y->begin ? 1 : -1;
    return (x->end > y->end) - (x->end < y->end);
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
        if (span->begin > end)
            return fm_fail(FM_FORMAT, "tensor '%s': its data begins at byte %llu, expected %llu (a hole before it)",
                           FM_QUOTE_Z(file->tensors[span->tensor].name), (unsigned long long)span->begin, (unsigned long long)end);
        if (span->begin < end) // then there is one before it
            return fm_fail(FM_FORMAT, "tensor '%s': its data begins at byte %llu, where '%s' overlaps it until byte %llu",
                           FM_QUOTE_Z(file->tensors[span->tensor].name), (unsigned long long)span->begin,
                           FM_QUOTE_Z(file->tensors[reader->spans[i - 1].tensor].name), (unsigned long long)end);
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
    uint64_t size_bytes = file->source.size_bytes, limit = FM_MIN(size_bytes - LENGTH_BYTES, (uint64_t)HEADER_BYTES_MAX);
    uint8_t length[LENGTH_BYTES];
    const uint8_t *data = NULL;
    enum fm_result result = fm_source_read(&file->source, 0, LENGTH_BYTES, length);
    if (result != FM_OK)
        return result;
    uint64_t header_bytes = load_length(length);
    if (header_bytes == 0 || header_bytes > limit)
        return fm_fail(FM_FORMAT, "safetensors header of %llu bytes, expected 1 to %llu%s",
                       (unsigned long long)header_bytes, (unsigned long long)limit,
                       limit < HEADER_BYTES_MAX ? ", all that the file has" : "");
    result = fm_file_hold(file, LENGTH_BYTES, header_bytes, &data);
    if (result != FM_OK)
        return result;
    struct reader reader = {.file = file, .data_begin = LENGTH_BYTES + header_bytes, .data_bytes = size_bytes - LENGTH_BYTES - header_bytes};
    struct fm_text header = {.data = (const char *)data, .bytes = header_bytes};
    result = read_members(&reader, header);
    if (result == FM_OK)
        result = check_spans(&reader);
    if (result == FM_OK)
        file->hash = fm_hash64(header.data, (size_t)header.bytes, FM_HASH_SEED ^ size_bytes);
    fm_free(reader.spans);
    fm_file_let_go(file); // names and texts were copied
    return result;
}

const struct fm_format fm_format_safetensors = {
    .name = "safetensors", .probe = safetensors_probe, .read = safetensors_read};
