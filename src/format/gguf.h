// SPDX-License-Identifier: MIT
// GGUF v2 and v3, little-endian. Internal to format/.
#ifndef FM_FORMAT_GGUF_H
#define FM_FORMAT_GGUF_H

#include "format/cursor.h"
#include "format/file_impl.h"

#define FM_GGUF_KEY_BYTES_MAX 65535 // the format's own limit
#define FM_GGUF_DIRECTORY_BYTES_MAX ((uint64_t)1 << 30)

// Value types of metadata.
enum fm_gguf_value_type { FM_GGUF_VALUE_BOOL = 7, FM_GGUF_VALUE_STRING = 8, FM_GGUF_VALUE_ARRAY = 9, FM_GGUF_VALUE_TYPES = 13 };
// Bytes of one value, 0 where it is not fixed. type < FM_GGUF_VALUE_TYPES.
uint32_t fm_gguf_value_bytes(uint32_t type);

// Where the metadata and the tensor directory end, found by their lengths alone; where they are damaged, an end behind the damage;
// where they are longer than FM_GGUF_DIRECTORY_BYTES_MAX, more than that.
// FM_IO, FM_NOMEM.
enum fm_result fm_gguf_measure(const struct fm_source *source, uint64_t *out_bytes);

// Read a length and that many bytes. `what` names the text in messages ("the key of metadata entry 3 of 7").
enum fm_result fm_gguf_read_text(struct fm_cursor *cursor, const char *what, struct fm_text *out_text);
// The same for a name of 1 to max_bytes bytes, none of them NUL.
enum fm_result fm_gguf_read_name(struct fm_cursor *cursor, const char *what, uint64_t max_bytes, struct fm_text *out_name);

// Read metadata entry `index` of `count` and add it to the file.
enum fm_result fm_gguf_read_meta(struct fm_file *file, struct fm_cursor *cursor, uint64_t index, uint64_t count);

#endif
