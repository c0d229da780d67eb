// SPDX-License-Identifier: MIT
// What the operating system gives: files, clocks, environment, cache folder, threads.
#ifndef FM_BASE_OS_H
#define FM_BASE_OS_H

#include "base/base.h"

// --- files that are read piece by piece (source.c) -------------------------------------------------------------------

struct fm_file_id { // which file it is, whatever its names
    uint64_t device, inode;
};

// Any number of threads may read. An all-zero source is closed.
struct fm_source {
    char *path; // its name for messages; NULL: closed
    int fd;     // -1: the bytes lie in `memory`
    const uint8_t *memory;
    uint64_t size_bytes;   // when it was opened, as are:
    int64_t changed_s, changed_ns; // when it was last written
    struct fm_file_id id;
};

// Open a regular file; it stays the same file when another takes its name. FM_IO with the system's reason (messages begin with
// `name`, which is copied); directories and pipes are refused.
enum fm_result fm_source_open(const char *path, const char *name, struct fm_source *out_source);
// Bytes in memory (not copied; they outlive the source) as a file of this name. `data` may be NULL when there are none.
enum fm_result fm_source_memory(const void *data, uint64_t size_bytes, const char *name, struct fm_source *out_source);
void fm_source_close(struct fm_source *source); // accepts a closed one
// Read all of [offset, offset + bytes), which lies inside size_bytes, into `out`. FM_IO: the system's reason. FM_CHANGED: the file
// has become shorter. Reads of many MB are shared among threads.
enum fm_result fm_source_read(const struct fm_source *source, uint64_t offset, uint64_t bytes, void *out);
// After the last read: FM_CHANGED when the file was written to, grew or shrank since it was opened.
enum fm_result fm_source_unchanged(const struct fm_source *source);
// Open a regular file, read all of it (a NUL is added after the end; release with fm_free) and close it. FM_FORMAT when it is longer
// than max_bytes, FM_CHANGED when it was changed meanwhile.
enum fm_result fm_source_read_whole(const char *path, size_t max_bytes, char **out_data, size_t *out_bytes);

// --- paths and folders (files.c) --------------------------------------------------------------------------------------

enum fm_path_kind { FM_PATH_NONE, FM_PATH_FILE, FM_PATH_FOLDER }; // FILE: anything that is there and no folder
enum fm_path_kind fm_path_kind(const char *path);

bool fm_path_id(const char *path, struct fm_file_id *out_id); // false when nothing is there

// Remove the regular files directly in `folder` that were last written more than `age_s` seconds ago and whose names
// is_ours(user, name) accepts. Looks at 10,000 names at most; what cannot be removed stays. Returns how many went.
uint32_t fm_folder_clean(const char *folder, bool (*is_ours)(const void *user, const char *name), const void *user,
                         uint64_t age_s);

// --- random bytes (random.c) ---------------------------------------------------------------------------------------

// Bytes that nobody can guess. false where the system has none.
bool fm_random_bytes(void *out, size_t size_bytes);

// --- clock (clock.c) -----------------------------------------------------------------------------------------------

uint64_t fm_clock_ns(void); // monotonic

// --- environment (env.c): the only getenv in the library ------------------------------------------------------------

// Folder for the pipeline cache, created if needed (mode 0700): $FULMEN_CACHE_DIR, else $XDG_CACHE_HOME/fulmen, else
// ~/.cache/fulmen. FM_IO when none can be had, or it is not to be trusted (callers then go without a cache).
enum fm_result fm_env_cache_dir(char *out_path, size_t path_bytes);
// true when the variable is set to something other than "" and "0".
bool fm_env_flag(const char *name);
const char *fm_env_text(const char *name); // NULL when unset

// --- cache folder (cache.c) ----------------------------------------------------------------------------------------

// Whether what lies in `folder` can be trusted: it is the user's, and nobody else may write it. Else one warning a process.
bool fm_cache_trusts(const char *folder);
// Read a whole file of the cache folder, where the name may be anything: links are not followed, nothing waits, and only a
// regular file is read that is the user's and that nobody else may write. false when nothing is there; also, after one warning
// a process, for anything else. Release with fm_free; no NUL is added.
bool fm_cache_read(const char *path, size_t max_bytes, char **out_data, size_t *out_bytes);

// --- threads (thread.c) --------------------------------------------------------------------------------------------

unsigned fm_thread_cpus(void); // at least 1
// Call fn(user, i) for every i in [0, count) on up to `threads` threads (0 = cpus) and wait. Runs inline when threads
// cannot be started.
void fm_thread_for(unsigned threads, uint32_t count, void (*fn)(void *user, uint32_t i), void *user);

#endif
