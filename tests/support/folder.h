// SPDX-License-Identifier: MIT
// A folder of a test's own, made where temporary.h says.
#ifndef FM_TESTS_SUPPORT_FOLDER_H
#define FM_TESTS_SUPPORT_FOLDER_H

#include <stdbool.h>
#include <stddef.h>

#include "support/temporary.h"

extern char test_folder[TEST_PATH_BYTES];

bool test_folder_make(void);
void test_folder_remove(void); // with all that is in it
void test_folder_empty(void);
// Path of a name in it. The text lives until the sixteenth call after this one.
const char *in_folder(const char *name);
// How many names it holds.
size_t test_folder_count(void);

// Write a file as any program would; read one (malloc, NULL when it cannot be read, NUL added).
bool test_file_put(const char *path, const void *data, size_t size_bytes);
char *test_file_get(const char *path, size_t *out_bytes);

#endif
