// SPDX-License-Identifier: MIT
// Paths and folders.
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/os.h"

enum fm_path_kind fm_path_kind(const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0)
        return FM_PATH_NONE;
    return S_ISDIR(info.st_mode) ? FM_PATH_FOLDER : FM_PATH_FILE;
}

bool fm_path_id(const char *path, struct fm_file_id *out_id)
{
    struct stat info;
    if (stat(path, &info) != 0)
        return false;
    *out_id = (struct fm_file_id){.device = (uint64_t)info.st_dev, .inode = (uint64_t)info.st_ino};
    return true;
}

uint32_t fm_folder_clean(const char *folder, bool (*is_ours)(const void *user, const char *name), const void *user,
                         uint64_t age_s)
{
    DIR *dir = opendir(folder);
    uint32_t removed = 0;
    time_t now = time(NULL);
    if (dir == NULL)
        return 0;
    for (uint32_t seen = 0; seen < 10000; seen++) {
        const struct dirent *entry = readdir(dir);
        struct stat info;
        if (entry == NULL)
            break;
        if (!is_ours(user, entry->d_name) || fstatat(dirfd(dir), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        if (!S_ISREG(info.st_mode) || info.st_mtime > now || (uint64_t)(now - info.st_mtime) <= age_s)
            continue;
        removed += unlinkat(dirfd(dir), entry->d_name, 0) == 0;
    }
    closedir(dir);
    return removed;
}
