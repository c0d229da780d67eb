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
    char *path;
    const struct fm_format *format;
    struct fm_mapping bytes; // the whole file
    bool is_mapped;          // `bytes` is ours to unmap, not the caller's memory
    struct fm_arena arena;   // names and text arrays
    struct fm_tensor *tensors;
    size_t tensor_count, tensor_cap;
    struct fm_meta *metas;
    size_t meta_count, meta_cap;
    struct fm_map tensor_index, meta_index; // name or key -> index
    uint64_t hash;
};

// One row per format.
struct fm_format {
    const char *name;
    // Do these first bytes look like the format? size_bytes may be anything, 0 included.
    bool (*probe)(const uint8_t *data, uint64_t size_bytes);
    // Fill in tensors, metas and hash. On failure the caller frees what was added.
    enum fm_result (*read)(struct fm_file *file);
};

extern const struct fm_format fm_format_gguf, fm_format_safetensors, fm_format_torch;

// A tensor's name has 1 to 1023 bytes, none of them NUL: FM_FORMAT otherwise.
enum fm_result fm_file_check_name(struct fm_text name);

// Append a copy. FM_NOMEM; FM_FORMAT when the name or key is there already, or at 2^32 entries.
enum fm_result fm_file_add_tensor(struct fm_file *file, const struct fm_tensor *tensor);
enum fm_result fm_file_add_meta(struct fm_file *file, const struct fm_meta *meta);

#endif
