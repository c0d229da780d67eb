// SPDX-License-Identifier: MIT
// What the kernel benchmark and the bandwidth measurement share.
#ifndef FM_CHECK_TIMING_H
#define FM_CHECK_TIMING_H

#include "check/check.h"

// Entries that a timed program is recorded for: so many replays are under way at once, so that the device never idles.
#define FM_TIMING_RING 4u

// GPU times of `repeat` replays of `program` (created timed, with FM_TIMING_RING entries), rising. First the device is
// warmed up, because one that idled runs several times slower for up to a second: replays until the medians of two
// rounds in a row differ by 3 % or less, for at least 300 ms and at most 2 s. `before` (NULL = nothing) is submitted
// ahead of each replay and not timed. FM_CANCELLED when `cancel` (may be NULL) says so between two replays.
enum fm_result fm_timing_run(struct fm_vk *vk, struct fm_vk_program *program, struct fm_vk_program *before,
                             uint32_t repeat, fm_cancel_fn *cancel, void *user, uint64_t *out_ns);

// A program that reads a block of device memory from one end to the other.
struct fm_reader {
    struct fm_vk_memory *data, *step, *sums;
    struct fm_vk_program *program;
    uint32_t rows;
    uint64_t bytes;
    uint32_t expected[64]; // sum of row r: expected[r % 64]
};
// At most `bytes`, as much as the device gives and at least 4 MiB. FM_NOSPACE, FM_UNSUPPORTED without timestamps.
enum fm_result fm_reader_create(struct fm_vk *vk, uint64_t bytes, struct fm_reader *out_reader);
void fm_reader_finish(struct fm_reader *reader);
// FM_DEVICE when the last replay did not read what lies there.
enum fm_result fm_reader_verify(const struct fm_reader *reader);

#endif
