// SPDX-License-Identifier: MIT
// Files that are read piece by piece, from any place. Nothing is mapped: a file may be cut short by someone else at any time,
// and a page of a mapping that is gone then kills the process, where a read is only short (ADR 0020).
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/os.h"

#define SLICE_BYTES ((uint64_t)2 << 20) // read by one thread at a time

enum fm_result fm_source_open(const char *path, const char *name, struct fm_source *out_source)
{
    enum fm_result result;
    struct stat info;
    // O_NONBLOCK: opening a pipe must not wait for a writer before it is refused.
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return fm_fail(FM_IO, "%s: cannot open: %s", name, strerror(errno));
    if (fstat(fd, &info) != 0) {
        result = fm_fail(FM_IO, "%s: cannot get the size: %s", name, strerror(errno));
        goto fail;
    }
    if (!S_ISREG(info.st_mode)) {
        result = fm_fail(FM_IO, "%s: %s, expected a regular file", name,
                         S_ISDIR(info.st_mode) ? "is a directory" : "is a pipe or device");
        goto fail;
    }
    char *copy = fm_strdup(name);
    if (copy == NULL) {
        result = fm_nomem();
        goto fail;
    }
    *out_source = (struct fm_source){.path = copy,
                                   .fd = fd,
                                   .size_bytes = (uint64_t)info.st_size,
                                   .changed_s = (int64_t)info.st_mtim.tv_sec,
                                   .changed_ns = (int64_t)info.st_mtim.tv_nsec,
                                   .id = {.device = (uint64_t)info.st_dev, .inode = (uint64_t)info.st_ino}};
    return FM_OK;
fail:
    close(fd);
    return result;
}

enum fm_result fm_source_memory(const void *data, uint64_t size_bytes, const char *name, struct fm_source *out_source)
{
    char *copy = fm_strdup(name);
    if (copy == NULL)
        return fm_nomem();
    *out_source = (struct fm_source){.path = copy, .fd = -1, .memory = data, .size_bytes = size_bytes};
    return FM_OK;
}

void fm_source_close(struct fm_source *source)
{
    if (source->path != NULL && source->fd >= 0)
        close(source->fd);
    fm_free(source->path);
    *source = (struct fm_source){0};
}

static enum fm_result fail_short(const struct fm_source *source)
{
    struct stat info;
    uint64_t now = fstat(source->fd, &info) == 0 ? (uint64_t)info.st_size : 0;
    if (now >= source->size_bytes) // and longer again since
        return fm_fail(FM_CHANGED, "%s: changed while it was read", source->path);
    return fm_fail(FM_CHANGED, "%s: became shorter while it was read (%llu bytes, expected %llu)", source->path,
                   (unsigned long long)now, (unsigned long long)source->size_bytes);
}

#define ENDED (-1) // the file ends before the bytes that were wanted

// 0, the system's error number, or ENDED.
static int read_all(int fd, uint8_t *to, uint64_t bytes, uint64_t at)
{
    while (bytes > 0) {
        ssize_t got = pread(fd, to, (size_t)FM_MIN(bytes, (uint64_t)SSIZE_MAX / 2), (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? errno : ENDED;
        to += got;
        at += (uint64_t)got;
        bytes -= (uint64_t)got;
    }
    return 0;
}

struct reading {
    int fd;
    uint8_t *to;
    uint64_t at, bytes;
    atomic_int error; // of any slice
};

static void read_slice(void *user, uint32_t i)
{
    struct reading *r = user;
    uint64_t begin = i * SLICE_BYTES;
    int error = read_all(r->fd, r->to + begin, FM_MIN(SLICE_BYTES, r->bytes - begin), r->at + begin);
    if (error != 0)
        atomic_store(&r->error, error);
}

enum fm_result fm_source_read(const struct fm_source *source, uint64_t offset, uint64_t bytes, void *out)
{
    if (offset > source->size_bytes || bytes > source->size_bytes - offset)
        return fm_fail(FM_ARG, "%s: bytes %llu to %llu are wanted, it has %llu", source->path, (unsigned long long)offset,
                       (unsigned long long)(offset + bytes), (unsigned long long)source->size_bytes);
    if (bytes == 0)
        return FM_OK;
    if (source->fd < 0) {
        memcpy(out, source->memory + offset, (size_t)bytes);
        return FM_OK;
    }
    // Several threads copy: one alone is slower than the page cache by far.
    struct reading r = {.fd = source->fd, .to = out, .at = offset, .bytes = bytes};
    uint64_t slices = (bytes - 1) / SLICE_BYTES + 1;
    if (slices == 1)
        read_slice(&r, 0);
    else if (slices > UINT32_MAX)
        return fm_fail(FM_ARG, "%s: %llu bytes are too many to be read at once", source->path, (unsigned long long)bytes);
    else
        fm_thread_for(0, (uint32_t)slices, read_slice, &r);
    int error = atomic_load(&r.error);
    if (error == ENDED)
        return fail_short(source);
    return error == 0 ? FM_OK : fm_fail(FM_IO, "%s: cannot read: %s", source->path, strerror(error));
}

enum fm_result fm_source_unchanged(const struct fm_source *source)
{
    struct stat info;
    if (source->fd < 0)
        return FM_OK;
    if (fstat(source->fd, &info) != 0)
        return fm_fail(FM_IO, "%s: cannot get the size: %s", source->path, strerror(errno));
    if ((uint64_t)info.st_size < source->size_bytes)
        return fail_short(source);
    if ((uint64_t)info.st_size != source->size_bytes || (int64_t)info.st_mtim.tv_sec != source->changed_s ||
        (int64_t)info.st_mtim.tv_nsec != source->changed_ns)
        return fm_fail(FM_CHANGED, "%s: changed while it was read", source->path);
    return FM_OK;
}

enum fm_result fm_source_read_whole(const char *path, size_t max_bytes, char **out_data, size_t *out_bytes)
{
    struct fm_source source;
    char *data = NULL;
    enum fm_result result = fm_source_open(path, path, &source);
    if (result != FM_OK)
        return result;
    size_t bytes = (size_t)FM_MIN(source.size_bytes, (uint64_t)max_bytes);
    if (source.size_bytes > max_bytes)
        result = fm_fail(FM_FORMAT, "%s: longer than %zu bytes", path, max_bytes);
    else if ((data = fm_alloc(bytes + 1)) == NULL)
        result = fm_nomem();
    if (result == FM_OK)
        result = fm_source_read(&source, 0, bytes, data);
    if (result == FM_OK)
        result = fm_source_unchanged(&source);
    fm_source_close(&source);
    if (result != FM_OK) {
        fm_free(data);
        return result;
    }
    data[bytes] = '\0';
    *out_data = data;
    *out_bytes = bytes;
    return FM_OK;
}
