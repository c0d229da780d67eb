// SPDX-License-Identifier: MIT
// Buckets: the sizes of step that plans are made for. Pure functions.
#ifndef FM_RUN_BUCKET_H
#define FM_RUN_BUCKET_H

#include "base/base.h"

// Of a step: its rows, and the most that one sequence has of them (its longest segment). Of a bucket: the most of both.
struct fm_step_size {
    uint32_t rows, run;
};

#define FM_BUCKET_ROWS 40u // sizes by rows, at most: up to 8192
#define FM_BUCKET_RUNS 6u  // sizes by run, at most
#define FM_BUCKETS (FM_BUCKET_ROWS * FM_BUCKET_RUNS)

struct fm_buckets {
    uint32_t n_ubatch, n_slots; // most rows and most sequences of a step; at least 1
    uint32_t run[FM_BUCKET_RUNS - 1]; // rising: where kernels change; any run makes the last size
    uint32_t n_runs;
};

// Let sizes by run end at `run`, too. Nothing happens when it is there, or n_ubatch or more, or when there are too many.
void fm_buckets_add_run(struct fm_buckets *buckets, uint32_t run);
// The smallest bucket that holds a step of 1 <= run <= rows <= n_ubatch. Its rows are at most 4/3 of the step's.
struct fm_step_size fm_bucket_of(const struct fm_buckets *buckets, struct fm_step_size step);
// Its place among all buckets, less than FM_BUCKETS.
uint32_t fm_bucket_index(const struct fm_buckets *buckets, struct fm_step_size bucket);
// The bucket at a place. false where there is none, or no step of at most n_slots sequences wants it.
bool fm_bucket_at(const struct fm_buckets *buckets, uint32_t index, struct fm_step_size *out_bucket);

#endif
