// SPDX-License-Identifier: MIT
// Files: read-only mappings, whole reads, cleaning a folder.
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/os.h"

enum fm_result fm_mapping_open(const char *path, struct fm_mapping *out_mapping)
{
    enum fm_result result;
    // O_NONBLOCK: opening a pipe must not wait for a writer before it is refused.
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return fm_fail(FM_IO, "%s: cannot open: %s", path, strerror(errno));
    struct stat info;
    if (fstat(fd, &info) != 0) {
        result = fm_fail(FM_IO, "%s: cannot get the size: %s", path, strerror(errno));
        goto done;
    }
    if (!S_ISREG(info.st_mode)) {
        result = fm_fail(FM_IO, "%s: %s, expected a regular file", path,
                         S_ISDIR(info.st_mode) ? "is a directory" : "is a pipe or device");
        goto done;
    }
    uint64_t size_bytes = (uint64_t)info.st_size;
    if (size_bytes > SIZE_MAX) {
        result = fm_fail(FM_UNSUPPORTED, "%s: %llu bytes do not fit into this system's address space", path,
                         (unsigned long long)size_bytes);
        goto done;
    }
    const uint8_t *data = NULL;
    if (size_bytes > 0) {
        void *mapped = mmap(NULL, (size_t)size_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
        if (mapped == MAP_FAILED) {
            result = fm_fail(FM_IO, "%s: cannot map %llu bytes: %s", path, (unsigned long long)size_bytes,
                             strerror(errno));
            goto done;
        }
        data = mapped;
    }
    *out_mapping = (struct fm_mapping){.data = data, .size_bytes = size_bytes};
    result = FM_OK;
done:
    close(fd);
    return result;
}

// munmap and madvise take a pointer to non-const; the pages themselves stay read-only.
static void *mapped_address(const uint8_t *data)
{
    return (void *)(uintptr_t)data;
}

void fm_mapping_close(struct fm_mapping *mapping)
{
    if (mapping->data != NULL)
        munmap(mapped_address(mapping->data), (size_t)mapping->size_bytes);
    *mapping = (struct fm_mapping){0};
}

void fm_mapping_drop(const struct fm_mapping *mapping, uint64_t offset, uint64_t size_bytes)
{
    long page = sysconf(_SC_PAGESIZE);
    if (mapping->data == NULL || page <= 0 || offset > mapping->size_bytes)
        return;
    uint64_t page_bytes = (uint64_t)page;
    uint64_t end = offset + FM_MIN(size_bytes, mapping->size_bytes - offset);
    // Only whole pages inside the range: neighbours may still be in use.
    uint64_t first = (offset / page_bytes + (offset % page_bytes != 0)) * page_bytes;
    uint64_t last = end / page_bytes * page_bytes;
    if (first < last)
        (void)madvise(mapped_address(mapping->data + first), (size_t)(last - first), MADV_DONTNEED); // only advice
}

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

enum fm_result fm_file_read(const char *path, size_t max_bytes, char **out_data, size_t *out_bytes)
{
    enum fm_result result;
    char *data = NULL;
    size_t capacity = 0, used = 0;
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return fm_fail(FM_IO, "%s: cannot open: %s", path, strerror(errno));
    for (;;) {
        result = fm_array_reserve((void **)&data, &capacity, FM_MAX(used + 1, (size_t)4096), 1);
        if (result != FM_OK)
            goto fail;
        size_t got = fread(data + used, 1, capacity - used, file);
        used += got;
        if (used > max_bytes) {
            result = fm_fail(FM_FORMAT, "%s: longer than %zu bytes", path, max_bytes);
            goto fail;
        }
        if (ferror(file)) {
            result = fm_fail(FM_IO, "%s: cannot read: %s", path, strerror(errno));
            goto fail;
        }
        if (used < capacity) // short read: the end; the NUL fits
            break;
    }
    fclose(file);
    data[used] = '\0';
    *out_data = data;
    *out_bytes = used;
    return FM_OK;
fail:
    fclose(file);
    fm_free(data);
    return result;
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
