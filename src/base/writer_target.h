// SPDX-License-Identifier: MIT
// What a path that is to be written leads to. Internal to base/writer*.c.
#ifndef FM_BASE_WRITER_TARGET_H
#define FM_BASE_WRITER_TARGET_H

#include <sys/stat.h>

#include "base/base.h"

struct fm_target {
    char *folder, *name; // after all links; the folder as a path, "." for none
    bool exists;
    struct stat info; // when it does
};

// Follow the links of `path` (or refuse them: FM_WRITER_NO_LINK) and see that a file may be written there: a regular file that
// the user may write, or a new name in a folder where the user may make one. FM_ARG, FM_WRITE, FM_NOMEM. Release with
// fm_target_finish, also after a failure.
enum fm_result fm_target_find(const char *path, unsigned flags, struct fm_target *out_target);
void fm_target_finish(struct fm_target *target);

// Look again, now at the name in its opened folder, and see that there is still a regular file or nothing.
enum fm_result fm_target_look(struct fm_target *target, int folder, const char *path);

// After a failed system call on the way to a target, errno as it left it: FM_ARG where the path is at fault, else FM_WRITE.
enum fm_result fm_target_fail(const char *path, const char *what);

#endif
