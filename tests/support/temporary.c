// SPDX-License-Identifier: MIT
#include "support/temporary.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>

static bool make_template(const char *name, char *path)
{
    const char *folder = getenv("TMPDIR");
    if (folder == NULL || folder[0] == '\0')
        folder = P_tmpdir;
    int length = snprintf(path, TEST_PATH_BYTES, "%s/fulmen-%s-XXXXXX", folder, name);
    return length > 0 && length < TEST_PATH_BYTES;
}

bool test_temporary_folder(const char *name, char *path)
{
    return make_template(name, path) && mkdtemp(path) != NULL;
}

int test_temporary_file(const char *name, char *path)
{
    return make_template(name, path) ? mkstemp(path) : -1;
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *place)
{
    (void)status;
    (void)kind;
    (void)place;
    return remove(path);
}

bool test_remove_folder(const char *path)
{
    return nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0;
}
