// SPDX-License-Identifier: MIT
// What lies in the cache folder reaches drivers, so it must have come from here: a folder or a file that another user owns or
// may write is told and left alone.
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/os.h"

// Once is enough: the folder is looked at several times in a run. false, for the caller to return.
static bool ignored(const char *path, const char *why)
{
    static atomic_flag told = ATOMIC_FLAG_INIT;
    if (!atomic_flag_test_and_set(&told))
        fm_log(FM_LOG_WARN, "%s: %s: the cache is not used", path, why);
    return false;
}

// NULL, or what is wrong.
static const char *distrust(const struct stat *info)
{
    if (info->st_uid != geteuid())
        return "is another user's";
    return (info->st_mode & (S_IWGRP | S_IWOTH)) != 0 ? "others may write it (chmod go-w)" : NULL;
}

bool fm_cache_trusts(const char *folder)
{
    struct stat info;
    if (stat(folder, &info) != 0)
        return ignored(folder, strerror(errno));
    const char *why = distrust(&info);
    return why == NULL || ignored(folder, why);
}

// [bytes] from the beginning of a file. false when it has fewer.
static bool read_bytes(int fd, char *out, size_t bytes)
{
    while (bytes > 0) {
        ssize_t got = read(fd, out, bytes);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        out += got;
        bytes -= (size_t)got;
    }
    return true;
}

bool fm_cache_read(const char *path, size_t max_bytes, char **out_data, size_t *out_bytes)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT ? false : ignored(path, errno == ELOOP ? "is a link" : strerror(errno));
    const char *why = fstat(fd, &info) != 0 ? strerror(errno) : !S_ISREG(info.st_mode) ? "is no regular file" : distrust(&info);
    if (why == NULL && (uint64_t)info.st_size > max_bytes)
        why = "is too long";
    if (why != NULL) {
        close(fd);
        return ignored(path, why);
    }
    size_t bytes = (size_t)info.st_size;
    char *data = fm_alloc(bytes);
    bool whole = data != NULL && read_bytes(fd, data, bytes);
    close(fd);
    if (!whole) {
        fm_free(data);
        return false;
    }
    *out_data = data;
    *out_bytes = bytes;
    return true;
}
