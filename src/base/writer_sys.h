// SPDX-License-Identifier: MIT
// The system calls of the writer, each of which a test can make fail (fm_writer_fail_at). Internal to base/writer*.c.
#ifndef FM_BASE_WRITER_SYS_H
#define FM_BASE_WRITER_SYS_H

#include <dirent.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/base.h"

// As the calls that they are named after: errno says why. Calls that a signal cut off are made again.
int fm_sys_lstat(int folder, const char *path, struct stat *out_info);
int fm_sys_stat(const char *path, struct stat *out_info);
int fm_sys_fstat(int fd, struct stat *out_info);
ssize_t fm_sys_readlink(const char *path, char *out, size_t out_bytes);
int fm_sys_access(const char *path, int how); // with the effective user's rights
int fm_sys_open(int folder, const char *path, int flags, mode_t mode);
int fm_sys_dup(int fd);
int fm_sys_lock(int fd); // exclusively, without waiting
int fm_sys_chmod(int fd, mode_t mode);
ssize_t fm_sys_write(int fd, const void *data, size_t size_bytes);
int fm_sys_fsync(int fd);
int fm_sys_close(int fd); // the descriptor is gone in any case
int fm_sys_rename(int folder, const char *from, const char *to);
int fm_sys_unlink(int folder, const char *name);
DIR *fm_sys_opendir(int folder); // a view of its own of the folder
bool fm_sys_random(void *out, size_t size_bytes);

#endif
