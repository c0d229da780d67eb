// SPDX-License-Identifier: MIT
// The one writer of files. A temporary is called NAME.RANDOM.part after its target, NAME cut where the file system's names end.
// Its writer holds a lock on it from beginning to end; one that nobody holds was left by a writer that was killed, and goes
// when the next writer of that name begins.
#include "base/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/writer_sys.h"
#include "base/writer_target.h"

#define BUFFER_BYTES ((size_t)64 << 10)
#define PIECE_BYTES ((uint64_t)1 << 30) // systems cut single writes near 2^31
#define RANDOM_BYTES 16u
#define SUFFIX ".part"
#define TAIL_CHARS (1 + 2 * RANDOM_BYTES + sizeof(SUFFIX) - 1) // ".RANDOM.part"
#define TRIES 16

struct fm_writer {
    char *path; // as it was given, for messages
    struct fm_target target;
    char *temp, *temp_path; // name in the folder; path. NULL when there is none to remove
    size_t stem_chars;      // of the target's name, in the temporary's
    unsigned flags;
    int folder;
    bool folder_syncs; // the folder could be opened for reading
    int fd;            // -1 once all is written
    int lock;          // another descriptor of the same file: the lock lasts until it has its name
    const char *failed; // what could not be done, or NULL
    int reason;         // and why: errno
    size_t used;
    uint8_t buffer[BUFFER_BYTES];
};

// The first failure, also when another call fails after it: the thread's message may be about something else by then.
static enum fm_result fail_again(const struct fm_writer *w)
{
    return fm_fail(FM_WRITE, "%s: cannot %s: %s", w->path, w->failed, strerror(w->reason));
}

static enum fm_result fail_write(struct fm_writer *w, const char *what)
{
    w->failed = what;
    w->reason = errno;
    return fail_again(w);
}

// ---- temporaries ----------------------------------------------------------------------------------------------------

// How much of the target's name its temporaries bear, whole characters.
static size_t stem_chars(const struct fm_writer *w)
{
    long most = fpathconf(w->folder, _PC_NAME_MAX);
    size_t name_max = most > (long)TAIL_CHARS ? (size_t)most : 255, chars = strlen(w->target.name);
    if (chars <= name_max - TAIL_CHARS)
        return chars;
    chars = name_max - TAIL_CHARS;
    while (chars > 0 && ((unsigned char)w->target.name[chars] & 0xC0) == 0x80)
        chars--;
    return chars;
}

static bool is_temporary(const struct fm_writer *w, const char *name)
{
    if (strlen(name) != w->stem_chars + TAIL_CHARS || memcmp(name, w->target.name, w->stem_chars) != 0 || name[w->stem_chars] != '.')
        return false;
    const char *digits = name + w->stem_chars + 1;
    return strspn(digits, "0123456789abcdef") == 2 * RANDOM_BYTES && strcmp(digits + 2 * RANDOM_BYTES, SUFFIX) == 0;
}

// Remove a temporary that nobody writes: its lock can be had. What cannot be removed stays.
static void remove_if_stale(const struct fm_writer *w, const char *name)
{
    struct stat opened, named;
    int fd = fm_sys_open(w->folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    if (fd < 0)
        return;
    if (fm_sys_fstat(fd, &opened) == 0 && S_ISREG(opened.st_mode) && fm_sys_lock(fd) == 0 && fm_sys_lstat(w->folder, name, &named) == 0 &&
        named.st_dev == opened.st_dev && named.st_ino == opened.st_ino &&
        fm_sys_unlink(w->folder, name) == 0)
        fm_log(FM_LOG_INFO, "%s: removed %s, which a writer that was killed had left", w->path, FM_QUOTE_Z(name));
    (void)fm_sys_close(fd);
}

static void remove_stale(const struct fm_writer *w)
{
    DIR *dir = w->folder_syncs ? fm_sys_opendir(w->folder) : NULL;
    if (dir == NULL)
        return;
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;)
        if (is_temporary(w, entry->d_name))
            remove_if_stale(w, entry->d_name);
    closedir(dir);
}

static bool make_name(struct fm_writer *w)
{
    uint8_t bytes[RANDOM_BYTES];
    if (!fm_sys_random(bytes, sizeof(bytes)))
        return false;
    size_t name_bytes = w->stem_chars + TAIL_CHARS + 1, at = w->stem_chars;
    memcpy(w->temp, w->target.name, at);
    w->temp[at++] = '.';
    for (size_t i = 0; i < RANDOM_BYTES; i++)
        at += (size_t)snprintf(w->temp + at, name_bytes - at, "%02x", bytes[i]);
    snprintf(w->temp + at, name_bytes - at, SUFFIX);
    return true;
}

// Lock the temporary that was just created. false where another writer took it for one that was left, and has removed it or
// is about to. A file system that has no locks cannot tell either, and nothing is removed there.
static bool hold(const struct fm_writer *w)
{
    struct stat info;
    if (fm_sys_lock(w->fd) != 0)
        return errno != EWOULDBLOCK;
    return fm_sys_fstat(w->fd, &info) != 0 || info.st_nlink > 0;
}

static enum fm_result create_temporary(struct fm_writer *w)
{
    mode_t mode = w->target.exists || (w->flags & FM_WRITER_PRIVATE) != 0 ? 0600 : 0666;
    char *temp = fm_alloc(w->stem_chars + TAIL_CHARS + 1);
    if ((w->temp = temp) == NULL)
        return fm_nomem();
    errno = EEXIST;
    for (int tries = 0; tries < TRIES; tries++) {
        if (!make_name(w))
            break;
        w->fd = fm_sys_open(w->folder, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode);
        if (w->fd < 0 && errno == EEXIST)
            continue;
        if (w->fd < 0)
            break;
        if (hold(w) && (w->lock = fm_sys_dup(w->fd)) >= 0)
            return FM_OK;
        int reason = errno;
        (void)fm_sys_unlink(w->folder, temp);
        (void)fm_sys_close(w->fd);
        w->fd = -1;
        errno = reason;
    }
    w->temp = NULL;
    enum fm_result r = fail_write(w, "create a temporary file");
    fm_free(temp);
    return r;
}

static void remove_temporary(struct fm_writer *w)
{
    if (w->temp != NULL && fm_sys_unlink(w->folder, w->temp) != 0 && errno != ENOENT)
        fm_log(FM_LOG_WARN, "%s: cannot remove the temporary file %s: %s", w->path, FM_QUOTE_Z(w->temp), strerror(errno));
    fm_free(w->temp);
    w->temp = NULL;
}

// ---- writing --------------------------------------------------------------------------------------------------------

static enum fm_result open_folder(struct fm_writer *w)
{
    w->folder = fm_sys_open(AT_FDCWD, w->target.folder, O_RDONLY | O_DIRECTORY, 0);
    w->folder_syncs = w->folder >= 0;
#ifdef O_PATH
    if (w->folder < 0 && errno == EACCES) // one that may be written but not listed
        w->folder = fm_sys_open(AT_FDCWD, w->target.folder, O_PATH | O_DIRECTORY, 0);
#endif
    return w->folder >= 0 ? FM_OK : fm_target_fail(w->path, "open its folder");
}

static enum fm_result make_temp_path(struct fm_writer *w)
{
    size_t bytes = strlen(w->target.folder) + 1 + w->stem_chars + TAIL_CHARS + 1;
    if ((w->temp_path = fm_alloc(bytes)) == NULL)
        return fm_nomem();
    snprintf(w->temp_path, bytes, "%s/%s", w->target.folder, w->temp);
    return FM_OK;
}

enum fm_result fm_writer_open(const char *path, unsigned flags, struct fm_writer **out_writer)
{
    struct fm_writer *w = fm_alloc(sizeof(*w));
    if (w == NULL)
        return fm_nomem();
    memset(w, 0, offsetof(struct fm_writer, buffer));
    w->flags = flags;
    w->folder = w->fd = w->lock = -1;
    w->path = fm_strdup(path);
    enum fm_result r = w->path != NULL ? fm_target_find(path, flags, &w->target) : fm_nomem();
    if (r == FM_OK)
        r = open_folder(w);
    if (r == FM_OK)
        r = fm_target_look(&w->target, w->folder, path);
    if (r == FM_OK) {
        w->stem_chars = stem_chars(w);
        remove_stale(w);
        r = create_temporary(w);
    }
    if (r == FM_OK)
        r = make_temp_path(w);
    if (r != FM_OK) {
        fm_writer_discard(&w);
        return r;
    }
    *out_writer = w;
    return FM_OK;
}

enum fm_result fm_writer_room(const struct fm_writer *writer, uint64_t need_bytes)
{
    struct statvfs disk;
    uint64_t free_bytes;
    if (fstatvfs(writer->lock, &disk) != 0 || !fm_mul_u64(disk.f_bavail, disk.f_frsize, &free_bytes) || free_bytes >= need_bytes)
        return FM_OK; // also where it does not say
    return fm_fail(FM_WRITE, "%s: needs %llu bytes, the disk has %llu left", writer->path, (unsigned long long)need_bytes,
                   (unsigned long long)free_bytes);
}

static enum fm_result put(struct fm_writer *w, const uint8_t *data, uint64_t size_bytes)
{
    while (size_bytes > 0) {
        ssize_t wrote = fm_sys_write(w->fd, data, (size_t)FM_MIN(size_bytes, PIECE_BYTES));
        if (wrote == 0)
            errno = EIO; // a file that takes nothing and gives no reason
        if (wrote <= 0)
            return fail_write(w, "write");
        data += wrote;
        size_bytes -= (uint64_t)wrote;
    }
    return FM_OK;
}

static enum fm_result put_buffer(struct fm_writer *w)
{
    size_t used = w->used;
    w->used = 0;
    return put(w, w->buffer, used);
}

enum fm_result fm_writer_write(struct fm_writer *writer, const void *data, uint64_t size_bytes)
{
    struct fm_writer *w = writer;
    if (w->failed != NULL)
        return fail_again(w);
    if (w->fd < 0)
        return fm_fail(FM_ARG, "%s: all of it was written", w->path);
    if (size_bytes == 0)
        return FM_OK;
    if (size_bytes <= BUFFER_BYTES - w->used) {
        memcpy(w->buffer + w->used, data, (size_t)size_bytes);
        w->used += (size_t)size_bytes;
        return FM_OK;
    }
    enum fm_result r = put_buffer(w);
    if (r != FM_OK || size_bytes > BUFFER_BYTES)
        return r == FM_OK ? put(w, data, size_bytes) : r;
    return fm_writer_write(w, data, size_bytes);
}

// ---- finishing ------------------------------------------------------------------------------------------------------

// 0 also where what is synced has no disk below it.
static int sync_descriptor(int fd)
{
    return fm_sys_fsync(fd) == 0 || errno == EINVAL || errno == ENOTSUP || errno == EOPNOTSUPP ? 0 : -1;
}

static int sync_folder(const struct fm_writer *w)
{
    return w->folder_syncs ? sync_descriptor(w->folder) : 0;
}

enum fm_result fm_writer_flush(struct fm_writer *writer, const char **out_path)
{
    struct fm_writer *w = writer;
    enum fm_result r = w->failed == NULL ? put_buffer(w) : fail_again(w);
    if (r != FM_OK)
        return r;
    // The mode of the file that is replaced stays. A file system that has none refuses, and the file stays its owner's alone.
    if (w->target.exists && (w->flags & FM_WRITER_PRIVATE) == 0)
        (void)fm_sys_chmod(w->fd, w->target.info.st_mode & 0777);
    if (sync_descriptor(w->fd) != 0)
        return fail_write(w, "sync the file");
    int fd = w->fd;
    w->fd = -1;
    if (fm_sys_close(fd) != 0) // a full disk may show only here
        return fail_write(w, "write");
    if (sync_folder(w) != 0)
        return fail_write(w, "sync the folder");
    *out_path = w->temp_path;
    return FM_OK;
}

// What is there under the name may have changed since it was looked at.
static enum fm_result give_name(struct fm_writer *w)
{
    enum fm_result r = fm_target_look(&w->target, w->folder, w->path);
    if (r != FM_OK)
        return r == FM_ARG ? FM_WRITE : r;
    if (fm_sys_rename(w->folder, w->temp, w->target.name) != 0)
        return fail_write(w, "name the finished file");
    fm_free(w->temp);
    w->temp = NULL;
    if (sync_folder(w) != 0)
        return fm_fail(FM_WRITE, "%s: is written, but its folder cannot be synced: %s; a power failure may bring the old file back",
                       w->path, strerror(errno));
    return FM_OK;
}

enum fm_result fm_writer_finish(struct fm_writer **writer)
{
    struct fm_writer *w = *writer;
    const char *path;
    enum fm_result r = w->failed != NULL ? fail_again(w) : w->fd >= 0 ? fm_writer_flush(w, &path) : FM_OK;
    if (r == FM_OK)
        r = give_name(w);
    fm_writer_discard(writer);
    return r;
}

void fm_writer_discard(struct fm_writer **writer)
{
    struct fm_writer *w = *writer;
    if (w == NULL)
        return;
    remove_temporary(w); // before the lock goes
    if (w->fd >= 0)
        (void)fm_sys_close(w->fd);
    if (w->lock >= 0)
        (void)fm_sys_close(w->lock);
    if (w->folder >= 0)
        (void)fm_sys_close(w->folder);
    fm_target_finish(&w->target);
    fm_free(w->temp_path);
    fm_free(w->path);
    fm_free(w);
    *writer = NULL;
}

enum fm_result fm_writer_save(const char *path, unsigned flags, const void *data, uint64_t size_bytes)
{
    struct fm_writer *w = NULL;
    enum fm_result r = fm_writer_open(path, flags, &w);
    if (r == FM_OK)
        r = fm_writer_write(w, data, size_bytes);
    if (r == FM_OK)
        return fm_writer_finish(&w);
    fm_writer_discard(&w);
    return r;
}
