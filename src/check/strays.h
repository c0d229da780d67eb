// SPDX-License-Identifier: MIT
// Finds what a kernel wrote where it must not: before, between and behind its results, in rows that the step does not have, over its
// operands. Internal to check/.
#ifndef FM_CHECK_STRAYS_H
#define FM_CHECK_STRAYS_H

#include "check/check.h"

struct fm_strays {
    uint8_t *before[FM_POOL_COUNT]; // content of the pools
};

// After fm_case_run_reset. Release with fm_strays_finish, also after errors.
enum fm_result fm_strays_remember(struct fm_vk *vk, const struct fm_case_run *run, struct fm_strays *out_strays);
// After the run of a step of `rows` rows: message = what was written where, or "".
enum fm_result fm_strays_find(struct fm_vk *vk, const struct fm_strays *strays, const struct fm_case *c, const struct fm_case_run *run,
                              uint32_t rows, char *message, size_t size);
void fm_strays_finish(struct fm_strays *strays);

// Bytes of a pool, wherever it lies.
enum fm_result fm_check_read(struct fm_vk *vk, const struct fm_case_run *run, int pool, uint64_t offset, void *data, uint64_t bytes);

#endif
