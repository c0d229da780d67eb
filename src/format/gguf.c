// SPDX-License-Identifier: MIT
// GGUF: header, metadata, tensor directory, data. All counts, lengths and offsets are hostile until checked.
// The format is described in ggml's docs/gguf.md.
#include "format/gguf.h"

#include <stdio.h>

#define HEADER_BYTES 24          // magic, version, tensor count, metadata count
#define META_BYTES_MIN 14        // key length, one byte of key, type, one byte of value
#define TENSOR_BYTES_MIN 25      // name length, one byte of name, dimension count, type, offset
#define DEFAULT_ALIGNMENT 32

struct reader {
    struct fm_file *file;
    struct fm_cursor cursor;
    uint64_t tensor_count, meta_count; // as the header says
    uint64_t alignment;
    uint64_t *offsets; // of each tensor, from the start of the data
    size_t offset_cap;
};

static bool gguf_probe(const uint8_t *data, uint64_t size_bytes)
{
    return size_bytes >= 4 && memcmp(data, "GGUF", 4) == 0;
}

// Types of ggml that fulmen does not read, for the message only.
static const char *foreign_type_name(uint32_t id)
{
    static const char *const names[] = {
        [4] = "q4_2",      [5] = "q4_3",      [9] = "q8_1",      [10] = "q2_K",      [11] = "q3_K",
        [15] = "q8_K",     [16] = "iq2_xxs",  [17] = "iq2_xs",   [18] = "iq3_xxs",   [19] = "iq1_s",
        [20] = "iq4_nl",   [21] = "iq3_s",    [22] = "iq2_s",    [23] = "iq4_xs",    [24] = "i8",
        [25] = "i16",      [27] = "i64",      [28] = "f64",      [29] = "iq1_m",     [31] = "q4_0_4_4",
        [32] = "q4_0_4_8", [33] = "q4_0_8_8", [34] = "tq1_0",    [35] = "tq2_0",     [36] = "iq4_nl_4_4",
        [37] = "iq4_nl_4_8", [38] = "iq4_nl_8_8", [39] = "mxfp4",
    };
    if (id < FM_COUNT(names) && names[id] != NULL)
        return names[id];
    return "unknown";
}

static enum fm_result fail_type(const char *quoted, uint32_t id)
{
    char known[256];
    size_t used = 0;
    for (int i = 0; i < FM_TYPE_COUNT && used < sizeof(known); i++)
        used += (size_t)snprintf(known + used, sizeof(known) - used, " %s", fm_type_info((enum fm_type)i)->name);
    return fm_fail(FM_UNSUPPORTED, "tensor '%s': type %u (%s) is not supported; known types:%s", quoted, id,
                   foreign_type_name(id), known);
}

static enum fm_result read_header(struct reader *reader)
{
    struct fm_cursor *cursor = &reader->cursor;
    const uint8_t *magic;
    uint32_t version;
    bool whole = fm_cursor_take(cursor, 4, &magic);
    if (whole && fm_cursor_u32(cursor, &version)) {
        if (version >= 0x01000000u && (version & 0xffffu) == 0)
            return fm_fail(FM_UNSUPPORTED, "a big-endian GGUF file: fulmen reads little-endian ones; convert it again");
        if (version == 0)
            return fm_fail(FM_FORMAT, "GGUF version is 0, expected 2 or 3");
        if (version != 2 && version != 3)
            return fm_fail(FM_UNSUPPORTED, "GGUF version %u is not supported, expected 2 or 3%s", version,
                           version == 1 ? "; convert the model again" : "");
        whole = fm_cursor_u64(cursor, &reader->tensor_count) && fm_cursor_u64(cursor, &reader->meta_count);
    } else {
        whole = false;
    }
    if (!whole)
        return fm_fail(FM_FORMAT, "the file's %llu bytes end in the GGUF header of %d bytes",
                       (unsigned long long)cursor->file_bytes, HEADER_BYTES);
    // No count is believed that the rest of the file could not hold.
    uint64_t left = cursor->file_bytes - cursor->at;
    if (reader->meta_count > left / META_BYTES_MIN)
        return fm_fail(FM_FORMAT, "header: %llu metadata entries cannot fit into the file's %llu bytes",
                       (unsigned long long)reader->meta_count, (unsigned long long)cursor->file_bytes);
    if (reader->tensor_count > left / TENSOR_BYTES_MIN)
        return fm_fail(FM_FORMAT, "header: %llu tensors cannot fit into the file's %llu bytes",
                       (unsigned long long)reader->tensor_count, (unsigned long long)cursor->file_bytes);
    if (reader->meta_count > FM_FILE_METAS_MAX || reader->tensor_count > FM_FILE_TENSORS_MAX)
        return fm_fail(FM_FORMAT, "header: %llu metadata entries and %llu tensors, expected at most %u and %u",
                       (unsigned long long)reader->meta_count, (unsigned long long)reader->tensor_count, FM_FILE_METAS_MAX,
                       FM_FILE_TENSORS_MAX);
    return FM_OK;
}

// Keys that change how the rest is read.
static enum fm_result read_settings(struct reader *reader)
{
    uint32_t alignment;
    reader->alignment = DEFAULT_ALIGNMENT;
    const struct fm_meta *meta = fm_file_meta_find(reader->file, "general.alignment");
    if (meta != NULL) {
        if (meta->kind != FM_META_UINT || meta->elem_bytes != 4)
            return fm_fail(FM_FORMAT, "metadata 'general.alignment': expected a u32, found another type");
        memcpy(&alignment, meta->data, sizeof(alignment));
        if (alignment == 0 || (alignment & (alignment - 1)) != 0)
            return fm_fail(FM_FORMAT, "metadata 'general.alignment': expected a power of two, found %u", alignment);
        reader->alignment = alignment;
    }
    meta = fm_file_meta_find(reader->file, "split.count");
    if (meta == NULL)
        return FM_OK;
    if (meta->kind != FM_META_UINT && meta->kind != FM_META_INT)
        return fm_fail(FM_FORMAT, "metadata 'split.count': expected an integer, found another type");
    int64_t parts = fm_meta_int_at(meta, 0);
    if (parts > 1)
        return fm_fail(FM_UNSUPPORTED,
                       "one of %lld parts of a split model; merge them first (llama-gguf-split --merge)",
                       (long long)parts);
    return FM_OK;
}

static enum fm_result read_name(struct reader *reader, uint64_t index, const char **out_name,
                                char quoted[FM_QUOTE_BYTES])
{
    char what[80];
    struct fm_text text;
    snprintf(what, sizeof(what), "the name of tensor %llu of %llu", (unsigned long long)index + 1,
             (unsigned long long)reader->tensor_count);
    enum fm_result result = fm_gguf_read_name(&reader->cursor, what, FM_FILE_NAME_BYTES_MAX, &text);
    if (result != FM_OK)
        return result;
    fm_quote(text.data, (size_t)text.bytes, quoted, FM_QUOTE_BYTES);
    char *name = fm_arena_alloc(&reader->file->arena, (size_t)text.bytes + 1, 1); // zeroed: ends in NUL
    if (name == NULL)
        return fm_nomem();
    memcpy(name, text.data, (size_t)text.bytes);
    *out_name = name;
    return FM_OK;
}

static enum fm_result read_dims(struct fm_cursor *cursor, const char *quoted, struct fm_tensor *tensor,
                                uint64_t *out_elems)
{
    uint64_t elems = 1;
    if (!fm_cursor_u32(cursor, &tensor->n_dims))
        goto truncated;
    if (tensor->n_dims > FM_TENSOR_DIMS)
        return fm_fail(FM_FORMAT, "tensor '%s': %u dimensions, expected at most %d", quoted, tensor->n_dims,
                       FM_TENSOR_DIMS);
    for (int i = 0; i < FM_TENSOR_DIMS; i++)
        tensor->dims[i] = 1;
    for (uint32_t i = 0; i < tensor->n_dims; i++) {
        uint64_t dim;
        if (!fm_cursor_u64(cursor, &dim))
            goto truncated;
        if (dim == 0)
            return fm_fail(FM_FORMAT, "tensor '%s': dimension %u is 0", quoted, i);
        if (!fm_mul_u64(elems, dim, &elems) || elems > INT64_MAX)
            return fm_fail(FM_FORMAT, "tensor '%s': the product of its dimensions overflows at dimension %u, %llu",
                           quoted, i, (unsigned long long)dim);
        tensor->dims[tensor->n_dims - 1 - i] = dim; // the file lists the contiguous dimension first
    }
    *out_elems = elems;
    return FM_OK;
truncated:
    return fm_fail(FM_FORMAT, "tensor '%s': the file's %llu bytes end in its dimensions", quoted,
                   (unsigned long long)cursor->file_bytes);
}

// One entry of the directory; its place in the file follows when the start of the data is known.
static enum fm_result read_tensor(struct reader *reader, uint64_t index)
{
    struct fm_cursor *cursor = &reader->cursor;
    struct fm_tensor tensor = {0};
    char quoted[FM_QUOTE_BYTES];
    uint64_t elems = 0, offset;
    uint32_t type_id;
    enum fm_result result = read_name(reader, index, &tensor.name, quoted);
    if (result == FM_OK)
        result = read_dims(cursor, quoted, &tensor, &elems);
    if (result != FM_OK)
        return result;
    if (!fm_cursor_u32(cursor, &type_id) || !fm_cursor_u64(cursor, &offset))
        return fm_fail(FM_FORMAT, "tensor '%s': the file's %llu bytes end in its type and offset", quoted,
                       (unsigned long long)cursor->file_bytes);
    tensor.type = fm_type_from_ggml(type_id);
    if (tensor.type == FM_TYPE_NONE)
        return fail_type(quoted, type_id);
    const struct fm_type_info *info = fm_type_info(tensor.type);
    tensor.type_name = info->name;
    uint64_t row_elems = tensor.n_dims == 0 ? 1 : tensor.dims[tensor.n_dims - 1];
    if (row_elems % info->block_elems != 0)
        return fm_fail(FM_FORMAT, "tensor '%s': rows of %llu elements, expected a multiple of %s's %u", quoted,
                       (unsigned long long)row_elems, info->name, info->block_elems);
    if (!fm_type_bytes(tensor.type, elems, &tensor.data_bytes))
        return fm_fail(FM_FORMAT, "tensor '%s': the size of %llu elements of %s overflows", quoted,
                       (unsigned long long)elems, info->name);
    if (offset % reader->alignment != 0)
        return fm_fail(FM_FORMAT, "tensor '%s': offset %llu is no multiple of the file's alignment, %llu", quoted,
                       (unsigned long long)offset, (unsigned long long)reader->alignment);
    result = fm_file_add_tensor(reader->file, &tensor);
    if (result != FM_OK)
        return result;
    result = fm_array_reserve((void **)&reader->offsets, &reader->offset_cap, (size_t)index + 1,
                              sizeof(*reader->offsets));
    if (result == FM_OK)
        reader->offsets[index] = offset;
    return result;
}

static enum fm_result place_tensors(struct reader *reader)
{
    struct fm_file *file = reader->file;
    uint64_t size_bytes = file->source.size_bytes, data_start;
    if (!fm_align_u64(reader->cursor.at, reader->alignment, &data_start))
        data_start = UINT64_MAX;
    for (size_t i = 0; i < file->tensor_count; i++) {
        struct fm_tensor *tensor = &file->tensors[i];
        uint64_t begin, end;
        if (!fm_add_u64(data_start, reader->offsets[i], &begin) || !fm_add_u64(begin, tensor->data_bytes, &end) ||
            end > size_bytes) {
            return fm_fail(FM_FORMAT,
                           "tensor '%s': data start %llu + offset %llu + %llu bytes exceeds the file's %llu bytes",
                           FM_QUOTE_Z(tensor->name), (unsigned long long)data_start,
                           (unsigned long long)reader->offsets[i], (unsigned long long)tensor->data_bytes,
                           (unsigned long long)size_bytes);
        }
        tensor->offset = begin;
    }
    return fm_file_check_overlap(file);
}

// All before the tensors' data, in memory.
static enum fm_result hold_directory(struct reader *reader)
{
    struct fm_file *file = reader->file;
    uint64_t bytes = file->source.size_bytes;
    const uint8_t *data = NULL;
    enum fm_result result = FM_OK;
    if (file->source.fd >= 0)
        result = fm_gguf_measure(&file->source, &bytes);
    if (result == FM_OK && file->source.fd >= 0 && bytes > FM_GGUF_DIRECTORY_BYTES_MAX)
        result = fm_fail(FM_FORMAT, "metadata and directory of %llu bytes or more, expected at most %llu: is the file damaged?",
                         (unsigned long long)bytes, (unsigned long long)FM_GGUF_DIRECTORY_BYTES_MAX);
    if (result == FM_OK)
        result = fm_file_hold(file, 0, bytes, &data);
    reader->cursor = (struct fm_cursor){.data = data, .size_bytes = bytes, .file_bytes = file->source.size_bytes};
    return result;
}

static enum fm_result gguf_read(struct fm_file *file)
{
    struct reader reader = {.file = file};
    enum fm_result result = hold_directory(&reader);
    if (result == FM_OK)
        result = read_header(&reader);
    for (uint64_t i = 0; result == FM_OK && i < reader.meta_count; i++)
        result = fm_gguf_read_meta(file, &reader.cursor, i, reader.meta_count);
    if (result == FM_OK)
        result = read_settings(&reader);
    for (uint64_t i = 0; result == FM_OK && i < reader.tensor_count; i++)
        result = read_tensor(&reader, i);
    if (result == FM_OK)
        result = place_tensors(&reader);
    if (result == FM_OK)
        file->hash = fm_hash64(reader.cursor.data, (size_t)reader.cursor.at, FM_HASH_SEED ^ file->source.size_bytes);
    fm_free(reader.offsets);
    return result;
}

const struct fm_format fm_format_gguf = {.name = "GGUF", .probe = gguf_probe, .read = gguf_read};
