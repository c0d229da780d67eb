// SPDX-License-Identifier: MIT
#include "base/writer_sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/os.h"
#include "base/writer.h"

static _Atomic uint64_t made;                    // calls since the last fm_writer_fail_at
static _Atomic uint64_t fail_index = UINT64_MAX; // the one that fails
static _Atomic int fail_reason;

uint64_t fm_writer_fail_at(uint64_t n, int reason)
{
    atomic_store(&fail_index, UINT64_MAX);
    uint64_t count = atomic_exchange(&made, 0);
    atomic_store(&fail_reason, reason);
    atomic_store(&fail_index, n);
    return count;
}

// Whether this call is the chosen one; *out_short: it does not fail, but takes less.
static bool chosen(bool *out_short)
{
    uint64_t index = atomic_fetch_add(&made, 1);
    if (index != atomic_load(&fail_index))
        return false;
    int reason = atomic_load(&fail_reason);
    *out_short = reason == 0;
    if (reason != 0)
        errno = reason;
    return true;
}

static bool injected(void)
{
    bool is_short = false;
    return chosen(&is_short) && !is_short;
}

int fm_sys_lstat(int folder, const char *path, struct stat *out_info)
{
    return injected() ? -1 : fstatat(folder, path, out_info, AT_SYMLINK_NOFOLLOW);
}

int fm_sys_stat(const char *path, struct stat *out_info)
{
    return injected() ? -1 : stat(path, out_info);
}

int fm_sys_fstat(int fd, struct stat *out_info)
{
    return injected() ? -1 : fstat(fd, out_info);
}

ssize_t fm_sys_readlink(const char *path, char *out, size_t out_bytes)
{
    return injected() ? -1 : readlink(path, out, out_bytes);
}

int fm_sys_access(const char *path, int how)
{
    // The flag costs a system call that old sandboxes refuse.
    int flags = geteuid() == getuid() && getegid() == getgid() ? 0 : AT_EACCESS;
    return injected() ? -1 : faccessat(AT_FDCWD, path, how, flags);
}

int fm_sys_open(int folder, const char *path, int flags, mode_t mode)
{
    int fd;
    do
        fd = injected() ? -1 : openat(folder, path, flags | O_CLOEXEC, mode);
    while (fd < 0 && errno == EINTR);
    return fd;
}

int fm_sys_dup(int fd)
{
    return injected() ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

int fm_sys_lock(int fd)
{
    int status;
    do
        status = injected() ? -1 : flock(fd, LOCK_EX | LOCK_NB);
    while (status != 0 && errno == EINTR);
    return status;
}

int fm_sys_chmod(int fd, mode_t mode)
{
    return injected() ? -1 : fchmod(fd, mode);
}

ssize_t fm_sys_write(int fd, const void *data, size_t size_bytes)
{
    ssize_t wrote;
    do {
        bool is_short = false, hit = chosen(&is_short);
        wrote = hit && !is_short ? -1 : write(fd, data, hit ? FM_MIN(size_bytes, (size_t)1) : size_bytes);
    } while (wrote < 0 && errno == EINTR);
    return wrote;
}

int fm_sys_fsync(int fd)
{
    int status;
    do
        status = injected() ? -1 : fsync(fd);
    while (status != 0 && errno == EINTR);
    return status;
}

int fm_sys_close(int fd)
{
    bool fails = injected();
    int reason = errno;
    int status = close(fd);
    if (status != 0 && errno == EINTR) // it is closed nevertheless, and was synced before
        status = 0;
    if (!fails)
        return status;
    errno = reason;
    return -1;
}

int fm_sys_rename(int folder, const char *from, const char *to)
{
    return injected() ? -1 : renameat(folder, from, folder, to);
}

int fm_sys_unlink(int folder, const char *name)
{
    int status;
    do
        status = injected() ? -1 : unlinkat(folder, name, 0);
    while (status != 0 && errno == EINTR);
    return status;
}

DIR *fm_sys_opendir(int folder)
{
    int fd = fm_sys_open(folder, ".", O_RDONLY | O_DIRECTORY, 0);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL && fd >= 0)
        close(fd);
    return dir;
}

bool fm_sys_random(void *out, size_t size_bytes)
{
    if (injected())
        return false;
    errno = EIO; // where there is no other reason
    return fm_random_bytes(out, size_bytes);
}
