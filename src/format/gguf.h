// SPDX-License-Identifier: MIT
// GGUF v2 and v3, little-endian. Internal to format/.
#ifndef FM_FORMAT_GGUF_H
#define FM_FORMAT_GGUF_H

#include "format/cursor.h"
#include "format/file_impl.h"

// Read a length and that many bytes. `what` names the text in messages ("the key of metadata entry 3 of 7").
enum fm_result fm_gguf_read_text(struct fm_cursor *cursor, const char *what, struct fm_text *out_text);

// Read metadata entry `index` of `count` and add it to the file.
enum fm_result fm_gguf_read_meta(struct fm_file *file, struct fm_cursor *cursor, uint64_t index, uint64_t count);

#endif
