// SPDX-License-Identifier: MIT
// A zip archive in memory, whose stored entries are read in place. libzip reads the directory (ADR 0014). Internal to
// format/.
#ifndef FM_FORMAT_ZIP_H
#define FM_FORMAT_ZIP_H

#include "format/file.h"

struct zip;

// All-zero is a valid closed archive. Stays where it is while open.
struct fm_zip {
    struct zip *archive;
    const uint8_t *data;
    uint64_t size_bytes;
    uint64_t at;                       // libzip's position in the data
    uint64_t read_begin, read_bytes;   // its latest read
};

// `data` must outlive the archive. FM_FORMAT with libzip's reason, FM_NOMEM.
enum fm_result fm_zip_open(struct fm_zip *zip, const uint8_t *data, uint64_t size_bytes);
void fm_zip_close(struct fm_zip *zip);

uint64_t fm_zip_count(const struct fm_zip *zip);
// As stored; NULL when it cannot be had. Lives as long as the archive.
const char *fm_zip_name(const struct fm_zip *zip, uint64_t index);
// Where an entry's bytes lie in the data. An absent entry leaves *out_data NULL. FM_UNSUPPORTED: compressed or
// encrypted. FM_FORMAT: broken, or not inside the data.
enum fm_result fm_zip_find(struct fm_zip *zip, const char *name, const uint8_t **out_data, uint64_t *out_bytes);

#endif
