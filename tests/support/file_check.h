// SPDX-License-Identifier: MIT
// Model files in memory that must be refused, and files broken in every place. For tests with cmocka.
#ifndef FM_TESTS_FILE_CHECK_H
#define FM_TESTS_FILE_CHECK_H

#include "format/file.h"
#include "support/gguf_write.h"

// Open an exact heap copy, so that reading one byte too far is seen, and visit everything that the interface hands out.
// On failure the message must begin with the file's name, be one line, and say something.
enum fm_result file_open_copy(const uint8_t *data, size_t size_bytes);

// The bytes must be refused with `expected`, in a message that holds `text`. Takes over the bytes.
void file_refuse(struct gguf_bytes bytes, enum fm_result expected, const char *text);

// Flip every bit, one at a time, set every place to what makes lengths and counts extreme, and cut the file everywhere:
// nothing may be read beyond the bytes. Returns how many of the bit flips were refused. Takes over the bytes, which
// must be a good file.
size_t file_break_everywhere(struct gguf_bytes bytes);

#endif
