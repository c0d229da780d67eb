// SPDX-License-Identifier: MIT
// Temporary files and folders of tests: under TMPDIR if that is set, else where the system has them.
#ifndef FM_TESTS_SUPPORT_TEMPORARY_H
#define FM_TESTS_SUPPORT_TEMPORARY_H

#include <stdbool.h>

#define TEST_PATH_BYTES 1024

// A new folder of this user's alone. `path` has TEST_PATH_BYTES; false when it cannot be made.
bool test_temporary_folder(const char *name, char *path);
// A new empty file; a descriptor to write to it, or -1.
int test_temporary_file(const char *name, char *path);
// Removes a folder with all that is in it; a link in it is not followed.
bool test_remove_folder(const char *path);

#endif
