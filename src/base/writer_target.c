// SPDX-License-Identifier: MIT
#include "base/writer_target.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/writer.h"
#include "base/writer_sys.h"

#define LINKS_MAX 40 // as the system follows
#define LINK_BYTES_MAX 4096

enum fm_result fm_target_fail(const char *path, const char *what)
{
    int reason = errno;
    bool by_path = reason == ENOENT || reason == ENOTDIR || reason == ELOOP || reason == ENAMETOOLONG || reason == EISDIR;
    return fm_fail(by_path ? FM_ARG : FM_WRITE, "%s: cannot %s: %s", path, what, strerror(reason));
}

static enum fm_result check_kind(const char *path, const struct stat *info)
{
    mode_t mode = info->st_mode;
    if (S_ISREG(mode))
        return FM_OK;
    const char *kind = S_ISDIR(mode) ? "directory" : S_ISFIFO(mode) ? "pipe" : S_ISSOCK(mode) ? "socket" : "device";
    return fm_fail(FM_ARG, "%s: is a %s, expected a regular file or a new name", path, S_ISLNK(mode) ? "link" : kind);
}

// "dir/name" -> "dir/", "name" -> "": the bytes of a path before its last part.
static size_t folder_bytes(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? (size_t)(slash - path) + 1 : 0;
}

// The folder of a path as a path of its own.
static char *folder_of(const char *path)
{
    size_t bytes = folder_bytes(path);
    if (bytes == 0)
        return fm_strdup(".");
    bytes -= bytes > 1; // the slash goes, unless it is all
    char *folder = fm_alloc(bytes + 1);
    if (folder != NULL) {
        memcpy(folder, path, bytes);
        folder[bytes] = '\0';
    }
    return folder;
}

// In a folder where everybody may make files, as /tmp, a link of somebody else is a trap. The system itself does not follow
// those where it is set up so.
static enum fm_result check_link(const char *path, const char *at, const struct stat *link)
{
    struct stat info;
    char *folder = folder_of(at);
    if (folder == NULL)
        return fm_nomem();
    int status = fm_sys_stat(folder, &info);
    fm_free(folder);
    if (status != 0)
        return fm_target_fail(path, "look at the link's folder");
    bool shared = (info.st_mode & S_ISVTX) != 0 && (info.st_mode & S_IWOTH) != 0;
    if (shared && link->st_uid != geteuid() && link->st_uid != info.st_uid)
        return fm_fail(FM_ARG, "%s: a link of another user in a folder that everybody may write is not followed", path);
    return FM_OK;
}

// *io_at, a link, becomes the path that it leads to.
static enum fm_result follow(const char *path, char **io_at)
{
    size_t before = folder_bytes(*io_at);
    char *next = fm_alloc(before + LINK_BYTES_MAX + 1);
    if (next == NULL)
        return fm_nomem();
    ssize_t got = fm_sys_readlink(*io_at, next + before, LINK_BYTES_MAX);
    if (got <= 0 || got == LINK_BYTES_MAX) {
        errno = got < 0 ? errno : ENAMETOOLONG;
        fm_free(next);
        return fm_target_fail(path, "follow the link");
    }
    next[before + (size_t)got] = '\0';
    if (next[before] == '/')
        memmove(next, next + before, (size_t)got + 1);
    else
        memcpy(next, *io_at, before);
    fm_free(*io_at);
    *io_at = next;
    return FM_OK;
}

// *io_at becomes a path that is no link. It may lead to nothing.
static enum fm_result resolve(const char *path, unsigned flags, char **io_at, bool *out_is_link, struct fm_target *t)
{
    for (int links = 0; links <= LINKS_MAX; links++) {
        if (fm_sys_lstat(AT_FDCWD, *io_at, &t->info) != 0)
            return errno == ENOENT ? FM_OK : fm_target_fail(path, "write");
        if (!S_ISLNK(t->info.st_mode)) {
            t->exists = true;
            return FM_OK;
        }
        enum fm_result r = (flags & FM_WRITER_NO_LINK) != 0 ? check_kind(path, &t->info) : check_link(path, *io_at, &t->info);
        if (r == FM_OK)
            r = follow(path, io_at);
        *out_is_link = true;
        if (r != FM_OK)
            return r;
    }
    errno = ELOOP;
    return fm_target_fail(path, "write");
}

static enum fm_result split(const char *path, const char *at, struct fm_target *t)
{
    size_t before = folder_bytes(at);
    if (at[before] == '\0')
        return fm_fail(FM_ARG, "%s: ends in a slash, expected the name of a file", path);
    t->folder = folder_of(at);
    t->name = fm_strdup(at + before);
    return t->folder != NULL && t->name != NULL ? FM_OK : fm_nomem();
}

static enum fm_result check_rights(const char *path, const struct fm_target *t)
{
    if (t->exists && fm_sys_access(path, W_OK) != 0)
        return fm_target_fail(path, "write");
    if (fm_sys_access(t->folder, W_OK | X_OK) != 0)
        return fm_target_fail(path, "write into its folder");
    return FM_OK;
}

enum fm_result fm_target_find(const char *path, unsigned flags, struct fm_target *out_target)
{
    struct fm_target *t = out_target;
    struct stat through; // all links, also those of /proc to open files, whose texts need not lead anywhere
    bool is_link = false;
    *t = (struct fm_target){0};
    if (path[0] == '\0')
        return fm_fail(FM_ARG, "the name of the file to write is empty");
    char *at = fm_strdup(path);
    if (at == NULL)
        return fm_nomem();
    bool is_there = fm_sys_stat(path, &through) == 0;
    enum fm_result r = is_there ? check_kind(path, &through) : FM_OK;
    if (r == FM_OK)
        r = resolve(path, flags, &at, &is_link, t);
    if (r == FM_OK && t->exists)
        r = check_kind(path, &t->info);
    if (r == FM_OK && is_there && is_link && !t->exists)
        r = fm_fail(FM_ARG, "%s: leads to an open file, expected the name of a file", path);
    if (r == FM_OK)
        r = split(path, at, t);
    if (r == FM_OK)
        r = check_rights(path, t);
    fm_free(at);
    return r;
}

void fm_target_finish(struct fm_target *target)
{
    fm_free(target->folder);
    fm_free(target->name);
    *target = (struct fm_target){0};
}

enum fm_result fm_target_look(struct fm_target *target, int folder, const char *path)
{
    target->exists = fm_sys_lstat(folder, target->name, &target->info) == 0;
    if (target->exists)
        return check_kind(path, &target->info);
    return errno == ENOENT ? FM_OK : fm_target_fail(path, "write");
}

enum fm_result fm_writer_check(const char *path, const char *const *inputs, size_t n_inputs)
{
    struct fm_target t;
    struct stat info;
    enum fm_result r = fm_target_find(path, 0, &t);
    for (size_t i = 0; r == FM_OK && t.exists && i < n_inputs; i++)
        if (inputs[i] != NULL && fm_sys_stat(inputs[i], &info) == 0 && info.st_dev == t.info.st_dev && info.st_ino == t.info.st_ino)
            r = fm_fail(FM_ARG, "%s: would replace a file that is read, %s; name another", path, inputs[i]);
    fm_target_finish(&t);
    return r;
}
