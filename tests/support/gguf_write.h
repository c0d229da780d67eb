// SPDX-License-Identifier: MIT
// Builds GGUF files in memory: valid ones from metadata and tensors, and, through the raw puts, broken ones. Test code:
// running out of memory ends the program.
#ifndef FM_TESTS_GGUF_WRITE_H
#define FM_TESTS_GGUF_WRITE_H

#include "quant/quant.h"

// Value types of GGUF metadata.
enum gguf_value {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64
};

// A growing byte string; all-zero is empty.
struct gguf_bytes {
    uint8_t *data;
    size_t size_bytes, cap;
};

void gguf_put(struct gguf_bytes *to, const void *data, size_t size_bytes);
void gguf_put_u8(struct gguf_bytes *to, uint8_t value);
void gguf_put_u32(struct gguf_bytes *to, uint32_t value);
void gguf_put_u64(struct gguf_bytes *to, uint64_t value);
void gguf_put_text(struct gguf_bytes *to, const char *text);                 // u64 length, bytes
void gguf_put_text_n(struct gguf_bytes *to, const char *text, size_t bytes); // the same, NULs allowed
void gguf_bytes_finish(struct gguf_bytes *bytes);

// A file being written. All-zero is a valid start: version 3, alignment 32.
struct gguf_writer {
    uint32_t version;   // 0 = 3
    uint32_t alignment; // 0 = 32 and no key; else written as general.alignment when the file is made
    uint64_t meta_count, tensor_count;
    struct gguf_bytes metas, tensors, data;
};

void gguf_write_u32(struct gguf_writer *w, const char *key, uint32_t value);
void gguf_write_f32(struct gguf_writer *w, const char *key, float value);
void gguf_write_bool(struct gguf_writer *w, const char *key, bool value);
void gguf_write_string(struct gguf_writer *w, const char *key, const char *value);
// One scalar of any type but string and array; `value` points at its bytes.
void gguf_write_scalar(struct gguf_writer *w, const char *key, enum gguf_value type, const void *value);
// `count` numbers or bools as they lie in memory.
void gguf_write_array(struct gguf_writer *w, const char *key, enum gguf_value type, const void *values, uint64_t count);
void gguf_write_strings(struct gguf_writer *w, const char *key, const char *const *values, uint64_t count);

// A tensor of n_dims dims in PyTorch order (the last one contiguous); `data` in file order, as fm_quant_encode makes
// it.
void gguf_write_tensor(struct gguf_writer *w, const char *name, enum fm_type type, uint32_t n_dims,
                       const uint64_t *dims, const void *data);
// The same from f32 values, encoded to `type`.
void gguf_write_tensor_f32(struct gguf_writer *w, const char *name, enum fm_type type, uint32_t n_dims,
                           const uint64_t *dims, const float *values);

// The whole file. The writer can go on and make a longer one. Release with gguf_bytes_finish.
struct gguf_bytes gguf_write_make(const struct gguf_writer *w);
// Make the file at `path`; false when it cannot be written.
bool gguf_write_file(const struct gguf_writer *w, const char *path);
void gguf_write_finish(struct gguf_writer *w);

#endif
