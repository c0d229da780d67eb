// SPDX-License-Identifier: MIT
// Which problems are run with which kernels. Plans only: no device is needed, so that tests can ask for made-up ones.
#ifndef FM_CHECK_CHOOSE_H
#define FM_CHECK_CHOOSE_H

#include "check/check.h"

// A device as the selector may see it.
struct fm_check_view {
    struct fm_caps caps;
    enum fm_rung rung; // the limit that was set
};

// One problem with the kernels that the production planner takes for it in one view.
struct fm_check_pair {
    uint32_t problem, view;
    const struct fm_kernel *kernel;   // of the problem's op; NULL = there is none
    uint32_t first_used, n_used;      // in `used`: all kernels of the plan (the op's, and those of lowered ops), each once
    uint32_t first_pipeline, n_pipelines; // in `pipelines`: one of each dispatch of the plan
    uint64_t traits;                  // what the problem has of its own (pairs.h)
    bool chosen;
};

struct fm_check_list {
    struct fm_check_view view[FM_RUNG_COUNT + 2];
    uint32_t n_views;
    struct fm_check_pair *pairs;
    size_t n_pairs, cap_pairs;
    uint32_t *used;                   // indices into fm_kernels
    size_t n_used, cap_used;
    uint64_t *pipelines;              // hashes of kernels with their specialisation constants
    size_t n_pipelines, cap_pipelines;
};

// Every problem of `params` in every view of the device: limited to each rung up to params->max_rung, quirks aside (a kernel that
// would be slow must be right all the same), to `dot` without sums in f16, and as it is; with params->as_is in this last view alone.
// No two pairs of a problem have the same kernels. Chosen are all, or, with params->quick, so many that
//   - every kernel is run;
//   - every family of kernels, which have one name but for the format, meets each trait that any problem of its kernels has;
//   - every kernel meets each trait that a problem has which needs no further pipeline: making these is what takes processors the time.
// Of these, the part of params->parts.
// Release with fm_check_list_finish, also after errors.
enum fm_result fm_check_list_make(const struct fm_caps *caps, const struct fm_check_params *params, const struct fm_problem *problems,
                                  size_t n_problems, struct fm_check_list *out_list);
void fm_check_list_finish(struct fm_check_list *list);

#endif
