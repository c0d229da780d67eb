// SPDX-License-Identifier: MIT
// A saved slot as a file: what of it can be checked without a model or a device. Little-endian: a header of 64 bytes, the
// tokens, the bytes of every state in the graph's order (fm_state_each), the caller's note, and a checksum of all before it:
// fm_hash64 over pieces of FM_STATE_PIECE_BYTES, each going on from the one before.
#ifndef FM_RUN_STATE_CHECK_H
#define FM_RUN_STATE_CHECK_H

#include "base/os.h"

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
    const struct fm_source *source; // must outlive it
    struct fm_state_header header;
    uint64_t state_offset; // where its states begin
    uint32_t *tokens;      // [header.tokens]; this and the note are there after fm_state_file_check
    char *note;            // [header.note_bytes] and a NUL; NULL when there is none
};

// Read the header, and see that the file is as long as it says. FM_FORMAT, FM_IO, FM_CHANGED.
enum fm_result fm_state_file_read(const struct fm_source *source, struct fm_state_file *out_file);
// The checksum, and that every token is below `vocab`. FM_FORMAT, FM_IO, FM_NOMEM; FM_CANCELLED when `cancel` (NULL = none), which is
// asked again and again, returns true. Call finish whatever the result.
enum fm_result fm_state_file_check(struct fm_state_file *file, uint32_t vocab, fm_cancel_fn *cancel, void *user);
void fm_state_file_finish(struct fm_state_file *file);
// Checksum of a file, the last 8 bytes of which are its place. FM_IO, FM_NOMEM, FM_CANCELLED.
enum fm_result fm_state_file_sum(const struct fm_source *source, fm_cancel_fn *cancel, void *user, uint64_t *out_sum);

#endif
