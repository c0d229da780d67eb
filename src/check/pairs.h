// SPDX-License-Identifier: MIT
// Problems with the kernels that the planner takes for them: what the choice (choose.c) is made of.
#ifndef FM_CHECK_PAIRS_H
#define FM_CHECK_PAIRS_H

#include "check/choose.h"

// What a problem may have of its own. LONG: sums, rows or contexts beyond what a workgroup holds at once.
enum {
    TRAIT_EVEN,
    TRAIT_EDGE,
    TRAIT_LONG,
    TRAIT_SLOTS,
    TRAIT_WINDOW,
    TRAIT_CHUNK,
    TRAIT_SCALED,
    TRAIT_BIAS,
    TRAIT_VERSIONS,
    TRAIT_HALVES,
    TRAIT_DATA,                              // with formats one of the awkward kinds, without each
    TRAIT_VARIANT = TRAIT_DATA + FM_DATA_UNEVEN, // 8 of them
    TRAIT_BORDER = TRAIT_VARIANT + 8,        // least and greatest of each window of the op's kernel
    TRAIT_COUNT = TRAIT_BORDER + 2 * FM_KERNEL_WINDOWS
};
_Static_assert(TRAIT_COUNT <= 64, "traits are bits of a word");

// The views of a device that `params` ask for, and all pairs of the problems that they want. `list` is empty; finish it also after errors.
enum fm_result fm_check_pairs_make(const struct fm_caps *caps, const struct fm_check_params *params, const struct fm_problem *problems,
                                   size_t n_problems, struct fm_check_list *list);

#endif
