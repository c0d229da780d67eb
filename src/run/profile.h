// SPDX-License-Identifier: MIT
// Times of steps, dispatch by dispatch.
#ifndef FM_RUN_PROFILE_H
#define FM_RUN_PROFILE_H

#include "fulmen/profile.h"
#include "run/batch.h"
#include "vk/vk.h"

struct fm_profile;

enum fm_result fm_profile_create(enum fm_profile_mode mode, struct fm_profile **out_profile); // FM_NOMEM
void fm_profile_destroy(struct fm_profile **profile);                                         // accepts NULL
// How programs are to be recorded; a profile of NULL is none.
enum fm_vk_timing fm_profile_timing(const struct fm_profile *profile);

// The step `batch` will run as ring entry `entry` of `program`, which was made of `plan`. FM_NOMEM.
enum fm_result fm_profile_begin(struct fm_profile *profile, uint32_t entry, struct fm_vk_program *program, const struct fm_plan *plan,
                                const struct fm_batch *batch);
// The entry that was begun last under this number was waited for, and is not submitted again yet. FM_NOMEM, FM_LOST.
enum fm_result fm_profile_end(struct fm_profile *profile, uint32_t entry);

// A dispatch of a step, as measured.
struct fm_profile_part {
    const struct fm_kernel *kernel;
    uint32_t group; // rising from part to part
    uint64_t ns, bytes;
    double flops;
};
// Sum up parts by op or by kernel into out_rows [n_parts], by falling time. Returns the number of rows.
size_t fm_profile_rows(const struct fm_profile_part *parts, size_t n_parts, bool by_op, struct fm_profile_row *out_rows);

// Keys that a step reads, those of a window of `window` positions (0 = all positions): by all sequences together, each of its keys
// counted once, and by all tokens together.
struct fm_profile_keys {
    double of_sequences, of_tokens;
};
struct fm_profile_keys fm_profile_keys(const struct fm_batch *batch, uint32_t window);

#endif
