// SPDX-License-Identifier: MIT
// Writes GGUF v3: metadata and the tensor directory are collected in memory, then the data goes out in order, piece by
// piece, with the one writer of files. Little-endian, alignment 32.
#ifndef FM_FORMAT_GGUF_WRITE_H
#define FM_FORMAT_GGUF_WRITE_H

#include "format/file.h"

struct fm_gguf_writer;

// Element types of arrays that are put from memory.
enum fm_gguf_value { FM_GGUF_I32, FM_GGUF_U32, FM_GGUF_F32, FM_GGUF_BOOL /* bytes 0 and 1 */, FM_GGUF_U8 };

// Nothing touches the disk before fm_gguf_begin. FM_NOMEM.
enum fm_result fm_gguf_writer_create(struct fm_gguf_writer **out_writer);
// Accepts NULL. A file that was begun and not finished is removed: the final name never holds half a file.
void fm_gguf_writer_destroy(struct fm_gguf_writer **writer);

// Puts keep the first error, which fm_gguf_begin returns. A key or tensor that is there already is FM_ARG. Keys, names
// and values are copied.
void fm_gguf_put_u32(struct fm_gguf_writer *writer, const char *key, uint32_t value);
void fm_gguf_put_f32(struct fm_gguf_writer *writer, const char *key, float value);
void fm_gguf_put_bool(struct fm_gguf_writer *writer, const char *key, bool value);
void fm_gguf_put_string(struct fm_gguf_writer *writer, const char *key, const char *value);
void fm_gguf_put_text(struct fm_gguf_writer *writer, const char *key, struct fm_text value);
void fm_gguf_put_array(struct fm_gguf_writer *writer, const char *key, enum fm_gguf_value type, const void *values,
                       uint64_t count);
void fm_gguf_put_texts(struct fm_gguf_writer *writer, const char *key, const struct fm_text *values, uint64_t count);
// A value of another file under `key`, with its declared type.
void fm_gguf_put_meta(struct fm_gguf_writer *writer, const char *key, const struct fm_meta *meta);
// dims in PyTorch order (the last one contiguous). The elements of the last one must fill whole blocks of `type`.
void fm_gguf_put_tensor(struct fm_gguf_writer *writer, const char *name, enum fm_type type, uint32_t n_dims,
                        const uint64_t *dims);
bool fm_gguf_has_key(const struct fm_gguf_writer *writer, const char *key);
// FM_OK, or the first error of a put.
enum fm_result fm_gguf_error(const struct fm_gguf_writer *writer);

// Create the file (base/writer.h) and write header, metadata and directory. FM_ARG when `path` cannot be a file's name or is no
// regular file's; FM_WRITE with the system's reason, also when the disk lacks the room.
enum fm_result fm_gguf_begin(struct fm_gguf_writer *writer, const char *path);
// The next bytes of the tensors' data, in the order of the puts. Padding between tensors is the writer's.
enum fm_result fm_gguf_write(struct fm_gguf_writer *writer, const void *data, uint64_t size_bytes);
// All data was written: flush it to the disk, leaving it under the temporary name, which *out_path says; so that the
// file can be looked at before it gets its name.
enum fm_result fm_gguf_flush(struct fm_gguf_writer *writer, const char **out_path);
// Give the flushed file its final name.
enum fm_result fm_gguf_finish(struct fm_gguf_writer *writer);

#endif
