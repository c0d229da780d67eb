// SPDX-License-Identifier: MIT
#include "folder.h"

#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

char test_folder[TEST_PATH_BYTES];

bool test_folder_make(void)
{
    return test_temporary_folder("test", test_folder);
}

static int remove_inner(const char *path, const struct stat *info, int kind, struct FTW *walk)
{
    (void)info;
    (void)kind;
    return walk->level > 0 ? remove(path) : 0;
}

void test_folder_remove(void)
{
    test_remove_folder(test_folder);
}

void test_folder_empty(void)
{
    nftw(test_folder, remove_inner, 8, FTW_DEPTH | FTW_PHYS);
}

const char *in_folder(const char *name)
{
    static char paths[16][TEST_PATH_BYTES + 256];
    static unsigned next;
    char *path = paths[next++ % 16];
    snprintf(path, sizeof(paths[0]), "%s/%s", test_folder, name);
    return path;
}

size_t test_folder_count(void)
{
    size_t count = 0;
    DIR *dir = opendir(test_folder);
    for (const struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    if (dir != NULL)
        closedir(dir);
    return count;
}

bool test_file_put(const char *path, const void *data, size_t size_bytes)
{
    FILE *file = fopen(path, "wb");
    bool ok = file != NULL && fwrite(data, 1, size_bytes, file) == size_bytes;
    return file != NULL && fclose(file) == 0 && ok;
}

char *test_file_get(const char *path, size_t *out_bytes)
{
    FILE *file = fopen(path, "rb");
    struct stat info;
    char *data = NULL;
    if (file != NULL && fstat(fileno(file), &info) == 0 && (data = malloc((size_t)info.st_size + 1)) != NULL) {
        *out_bytes = fread(data, 1, (size_t)info.st_size, file);
        data[*out_bytes] = '\0';
    }
    if (file != NULL)
        fclose(file);
    return data;
}
