// SPDX-License-Identifier: MIT
// The one writer of files (fulmen/writer.h), as the library itself uses it.
#ifndef FM_BASE_WRITER_H
#define FM_BASE_WRITER_H

#include "base/base.h"
#include "fulmen/writer.h"

// Whether the disk has `need_bytes` left for a file that was begun: told now rather than after hours. FM_WRITE.
enum fm_result fm_writer_room(const struct fm_writer *writer, uint64_t need_bytes);
// Everything was written: sync it, leaving it under the temporary's path, which *out_path says (the writer's), so that the
// file can be looked at before fm_writer_finish gives it its name.
enum fm_result fm_writer_flush(struct fm_writer *writer, const char **out_path);

// A whole file from memory.
enum fm_result fm_writer_save(const char *path, unsigned flags, const void *data, uint64_t size_bytes);

// Test hook: the n-th system call of all writers from now (0 = the next) fails with errno `reason`, and only it; UINT64_MAX =
// never. With `reason` 0 nothing fails, but a call that writes takes one byte. Returns how many calls were made since the
// last call of the hook.
uint64_t fm_writer_fail_at(uint64_t n, int reason);

#endif
