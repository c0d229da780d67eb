// SPDX-License-Identifier: MIT
// What a fuzz target does with a model file that opened: use everything that the interface hands out.
#ifndef FM_TESTS_FUZZ_FILE_H
#define FM_TESTS_FUZZ_FILE_H

#include "format/file.h"

// Ends the program when false.
void fuzz_require(bool condition);
// What may be shown: well-formed UTF-8 without control characters, line feeds and tabs apart where `lines` are kept.
void fuzz_shown(const char *text, bool lines);
// The message of a call that failed: there is one, and it may be shown on one line.
void fuzz_message(void);
// Open the bytes, look at all of it, close it.
void fuzz_file(const uint8_t *data, size_t size_bytes);

#endif
