// SPDX-License-Identifier: MIT
// A saved slot as a file: what of it can be checked without a model or a device. Little-endian: a header of 64 bytes, the
// tokens, the bytes of every state in the graph's order (fm_state_each), the caller's note, and a checksum of all before it:
// fm_hash64 over pieces of FM_STATE_PIECE_BYTES, each going on from the one before.
#ifndef FM_RUN_STATE_CHECK_H
#define FM_RUN_STATE_CHECK_H

#include "base/base.h"

#define FM_STATE_MAGIC "FMSTATE1"
#define FM_STATE_PIECE_BYTES (8u << 20)

struct fm_state_header {
    char magic[8];
    uint64_t model;  // of its tensors and metadata
    uint64_t layout; // of the states: names, types, widths
    uint64_t state_bytes;
    uint64_t seed;
    uint32_t tokens, next; // how many; the one to read first, or FM_TOKEN_NONE
    uint64_t note_bytes;
    uint32_t reserved[2]; // 0; a file where they are not is refused
};
_Static_assert(sizeof(struct fm_state_header) == 64, "the header is written as it is");

struct fm_state_file {
    struct fm_state_header header;
    const uint8_t *data, *state; // the whole file; where its states begin
    const uint8_t *note;         // [header.note_bytes]
    const uint32_t *tokens;      // [header.tokens]
    uint64_t size_bytes;
};

// The header, and that the file is as long as it says. `data` is aligned to 4 bytes and outlives *out_file; `path` is for
// messages. FM_FORMAT.
enum fm_result fm_state_file_read(const void *data, uint64_t size_bytes, const char *path, struct fm_state_file *out_file);
// The checksum, and that every token is below `vocab`. FM_FORMAT.
enum fm_result fm_state_file_check(const struct fm_state_file *file, const char *path, uint32_t vocab);
// Checksum of a file of `size_bytes`, the last 8 of which are its place.
uint64_t fm_state_file_sum(const void *data, uint64_t size_bytes);

#endif
