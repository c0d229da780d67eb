// SPDX-License-Identifier: MIT
// A zip archive, whose stored entries are read in place. libzip reads the directory (ADR 0014). Internal to format/.
#ifndef FM_FORMAT_ZIP_H
#define FM_FORMAT_ZIP_H

#include "base/os.h"
#include "format/file.h"

struct zip;

// All-zero is a valid closed archive. Stays where it is while open.
struct fm_zip {
    struct zip *archive;
    const struct fm_source *source;
    uint64_t at;                     // libzip's position in the file
    uint64_t read_begin, read_bytes; // its latest read
    enum fm_result read_result;      // of the first read that failed; its message is the thread's
};

// `source` must outlive the archive. FM_FORMAT with libzip's reason, FM_NOMEM, FM_IO.
enum fm_result fm_zip_open(struct fm_zip *zip, const struct fm_source *source);
void fm_zip_close(struct fm_zip *zip);

uint64_t fm_zip_count(const struct fm_zip *zip);
// In UTF-8; NULL when it cannot be had, for want of memory among others. Lives as long as the archive.
const char *fm_zip_name(const struct fm_zip *zip, uint64_t index);
#define FM_ZIP_ABSENT UINT64_MAX
// Where the bytes of the entry called `name`, in UTF-8, lie in the file. An absent entry is at FM_ZIP_ABSENT.
// FM_UNSUPPORTED: compressed or encrypted. FM_FORMAT: broken, or not inside the file. FM_IO, FM_NOMEM.
enum fm_result fm_zip_find(struct fm_zip *zip, const char *name, uint64_t *out_offset, uint64_t *out_bytes);

#endif
