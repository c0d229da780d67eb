// SPDX-License-Identifier: MIT
// What a format's reader fills in. Internal to format/.
#ifndef FM_FORMAT_FILE_IMPL_H
#define FM_FORMAT_FILE_IMPL_H

#include "base/arena.h"
#include "base/map.h"
#include "base/os.h"
#include "format/file.h"

struct fm_format;

struct fm_file {
    struct fm_source source;
    const struct fm_format *format;
    uint8_t *held;         // what fm_file_hold read; NULL where it is the caller's memory
    struct fm_arena arena; // names and text arrays
    struct fm_tensor *tensors;
    size_t tensor_count, tensor_cap;
    struct fm_meta *metas;
    size_t meta_count, meta_cap;
    struct fm_map tensor_index, meta_index; // name or key -> index
    uint64_t hash;
};

#define FM_PROBE_BYTES 64u

// One row per format.
struct fm_format {
    const char *name;
    // Do these first bytes look like the format? size_bytes: at most FM_PROBE_BYTES, and 0 for an empty file.
    bool (*probe)(const uint8_t *data, uint64_t size_bytes);
    // Fill in tensors, metas and hash. On failure the caller frees what was added.
    enum fm_result (*read)(struct fm_file *file);
};

extern const struct fm_format fm_format_gguf, fm_format_safetensors, fm_format_torch;

#define FM_FILE_NAME_BYTES_MAX 1023

// A tensor's name has 1 to FM_FILE_NAME_BYTES_MAX bytes, none of them NUL: FM_FORMAT otherwise.
enum fm_result fm_file_check_name(struct fm_text name);

// FM_UNSUPPORTED with what a folder is, and what to do with it (folder.c). The path is not in the message.
enum fm_result fm_folder_refuse(const char *path);

// Bytes [offset, offset + bytes) of the file in memory, until fm_file_let_go or the end of the file; one range at a time.
enum fm_result fm_file_hold(struct fm_file *file, uint64_t offset, uint64_t bytes, const uint8_t **out_data);
void fm_file_let_go(struct fm_file *file);

// No two tensors share a byte of the file. FM_FORMAT names two that do.
enum fm_result fm_file_check_overlap(const struct fm_file *file);

// Append a copy (`file` of a tensor is set). FM_NOMEM; FM_FORMAT when the name or key is there already, or there are too many.
enum fm_result fm_file_add_tensor(struct fm_file *file, const struct fm_tensor *tensor);
enum fm_result fm_file_add_meta(struct fm_file *file, const struct fm_meta *meta);

#endif
