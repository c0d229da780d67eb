// SPDX-License-Identifier: MIT
// A model file: tensor directory and metadata, read-only, whatever the format. Untrusted input ends here: everything
// that this interface returns was checked against the file's size and declared types.
#ifndef FM_FORMAT_FILE_H
#define FM_FORMAT_FILE_H

#include "base/base.h"
#include "base/os.h"
#include "quant/quant.h"

#define FM_TENSOR_DIMS 4

struct fm_tensor {
    const char *name;
    enum fm_type type;             // FM_TYPE_NONE: a type that fulmen does not read (never from GGUF)
    const char *type_name;         // as the file's format calls it: "q4_0", "BF16", "F8_E4M3"; never NULL
    uint32_t n_dims;
    uint64_t dims[FM_TENSOR_DIMS]; // PyTorch order: the last dimension is contiguous (GGUF's `ne` reversed); 0 where a
                                   // safetensors or PyTorch file holds a tensor without elements
    const struct fm_file *file;    // that it lies in
    uint64_t offset, data_bytes;   // in the file
};

enum fm_meta_kind { FM_META_UINT, FM_META_INT, FM_META_FLOAT, FM_META_BOOL, FM_META_STRING, FM_META_ARRAY };

struct fm_text {
    const char *data; // not NUL-terminated; lives as long as the file
    uint64_t bytes;
};

// FM_QUOTE of a struct fm_text, which is evaluated twice.
#define FM_QUOTE_TEXT(text) FM_QUOTE((text).data, (text).bytes)

struct fm_meta {
    struct fm_text key;
    enum fm_meta_kind kind;      // of the value, or FM_META_ARRAY
    enum fm_meta_kind elem_kind; // of an array's elements (never ARRAY: nested arrays are refused)
    uint32_t elem_bytes;         // stored width of one number or bool: 1, 2, 4, 8 (0 for strings)
    uint64_t count;              // elements of an array, else 1
    const uint8_t *data;         // first element as stored
    const struct fm_text *texts; // count strings (string or array of strings), else NULL
};

struct fm_file; // opaque; owns the open file and, in memory, its directory. Read-only: any thread may use it

// At most so many of each: what the directory takes in memory is then at most three times its bytes in the file, and 32 MB.
#define FM_FILE_METAS_MAX 65536u
#define FM_FILE_TENSORS_MAX 131072u

// Open any supported format (by magic). FM_IO, FM_CHANGED, FM_FORMAT, FM_UNSUPPORTED, FM_NOMEM; the message starts with the path.
// Every tensor's range lies inside the file; names and keys are unique; tensor data is aligned as the file says. No two tensors
// of GGUF and safetensors share bytes; those of PyTorch may share all of them (tied weights), or be parts of one storage.
enum fm_result fm_file_open(const char *path, struct fm_file **out_file);
// The same; messages call it `name`.
enum fm_result fm_file_open_as(const char *path, const char *name, struct fm_file **out_file);
// The same on bytes in memory (not copied; must outlive the file). For tests and fuzzers.
enum fm_result fm_file_open_memory(const void *data, size_t size_bytes, const char *name, struct fm_file **out_file);
void fm_file_close(struct fm_file **file);

const char *fm_file_path(const struct fm_file *file);
const char *fm_file_format(const struct fm_file *file); // "GGUF", "safetensors", "PyTorch"
uint64_t fm_file_bytes(const struct fm_file *file); // when it was opened
struct fm_file_id fm_file_identity(const struct fm_file *file); // all zero for bytes in memory
uint64_t fm_file_hash(const struct fm_file *file); // of the header and directory
uint32_t fm_file_tensor_count(const struct fm_file *file);
const struct fm_tensor *fm_file_tensor(const struct fm_file *file, uint32_t index);
const struct fm_tensor *fm_file_find(const struct fm_file *file, const char *name); // NULL when absent
uint32_t fm_file_meta_count(const struct fm_file *file);
const struct fm_meta *fm_file_meta(const struct fm_file *file, uint32_t index);
const struct fm_meta *fm_file_meta_find(const struct fm_file *file, const char *key); // NULL when absent
// Read bytes [offset, offset + bytes) of a tensor's data into `out`. FM_IO when the file cannot be read, FM_CHANGED when it has
// become shorter.
enum fm_result fm_tensor_read(const struct fm_tensor *tensor, uint64_t offset, uint64_t bytes, void *out);
// After the last read: FM_CHANGED when the file was changed since it was opened, so that what was read may not belong together.
enum fm_result fm_file_unchanged(const struct fm_file *file);

// Typed getters by declared type. Absent key: FM_OK with the fallback when `required` is false, else FM_FORMAT naming
// the key. A value of another kind or out of [min, max] is FM_FORMAT naming key, expected and found. Integers accept
// any signed or unsigned width.
enum fm_result fm_meta_u32(const struct fm_file *file, const char *key, bool required, uint32_t min, uint32_t max, uint32_t fallback,
                           uint32_t *out_value);
enum fm_result fm_meta_f32(const struct fm_file *file, const char *key, bool required, float fallback, float *out_value);
enum fm_result fm_meta_bool(const struct fm_file *file, const char *key, bool required, bool fallback, bool *out_value);
// *out_text = {NULL,0} when absent and not required.
enum fm_result fm_meta_string(const struct fm_file *file, const char *key, bool required, struct fm_text *out_text);
// Element i of a numeric array (any width) as double or int64; the caller checked kind and count.
double fm_meta_float_at(const struct fm_meta *meta, uint64_t i);
int64_t fm_meta_int_at(const struct fm_meta *meta, uint64_t i);

#endif
