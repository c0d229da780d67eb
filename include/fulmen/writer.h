// SPDX-License-Identifier: MIT
// Writing files that appear under their name only when they are whole: the way on which everything that fulmen writes gets to
// the disk. Written is a temporary beside the target, whose name nobody can guess; it is synced and then takes the target's
// name. Whatever fails or is killed on the way, the name holds the old file or the whole new one.
#ifndef FULMEN_WRITER_H
#define FULMEN_WRITER_H

#include "fulmen/base.h"

#ifdef __cplusplus
extern "C" {
#endif

struct fm_writer;

enum fm_writer_flag {
    FM_WRITER_PRIVATE = 1, // mode 0600: nobody but its owner may read the file, whatever the one that it replaces allowed
    FM_WRITER_NO_LINK = 2, // a link under the target's name is refused, not followed
};

// Whether `path` may be written, so that a command can say so before its work. The target is a new name or a regular file; a
// link is followed, also one to a name that is not there yet, and it is then that file which is written. inputs[n_inputs] are
// paths that the caller reads: the target must be none of these files, under whatever name; NULL entries and names of
// nothing are skipped. FM_ARG where the path is at fault, FM_WRITE where the system would not let it be written. Nothing is
// created.
FM_API enum fm_result fm_writer_check(const char *path, const char *const *inputs, size_t n_inputs);

// Begin to write `path`; `flags` of enum fm_writer_flag. Temporaries of this target whose writers were killed are removed.
// FM_ARG and FM_WRITE as above, FM_NOMEM. Any number of writers may write one path at once: the last to finish stays.
FM_API enum fm_result fm_writer_open(const char *path, unsigned flags, struct fm_writer **out_writer);
// Append bytes. FM_WRITE with the system's reason; every later call then fails with the same message.
FM_API enum fm_result fm_writer_write(struct fm_writer *writer, const void *data, uint64_t size_bytes);
// Sync the file and its folder, and give it its name. Releases *writer and sets it to NULL, also after a failure, which leaves
// the old file and no temporary.
FM_API enum fm_result fm_writer_finish(struct fm_writer **writer);
// Give up: the temporary goes, the old file stays. *writer may be NULL, and becomes NULL.
FM_API void fm_writer_discard(struct fm_writer **writer);

#ifdef __cplusplus
}
#endif

#endif
