// SPDX-License-Identifier: MIT
// Where the time of a session's steps goes, by the device's clock.
#ifndef FULMEN_PROFILE_H
#define FULMEN_PROFILE_H

#include "fulmen/session.h"

#ifdef __cplusplus
extern "C" {
#endif

enum fm_profile_mode {
    FM_PROFILE_OFF,
    FM_PROFILE_STEPS,  // the time of each step: two timestamps, which cost next to nothing
    FM_PROFILE_GROUPS, // and of each barrier group (what runs between two barriers): a timestamp at every barrier, which costs time
};

// Time the session's steps from now on, and forget what was measured before. Another mode than before makes the session record its
// programs anew. Not while a call of the session runs. FM_UNSUPPORTED on devices without timestamps, FM_NOMEM, FM_NOSPACE;
// after a failure the mode is FM_PROFILE_OFF.
FM_API enum fm_result fm_session_profile(struct fm_session *session, enum fm_profile_mode mode);

// What one kernel, or all kernels of one op, take of a step.
struct fm_profile_row {
    const char *op, *kernel; // static; kernel is NULL in the row of an op
    uint64_t ns;             // of a step
    uint64_t bytes;          // that it must move, with the keys and values that attention reads
    double flops;            // where they are known, else 0
    uint32_t calls;          // dispatches
    uint32_t groups;         // barrier groups in which it has any; several kernels may share one
};

// The steps of as many tokens that ran the same plan.
struct fm_profile_step {
    uint32_t tokens;  // of a step
    uint64_t steps;   // that were timed
    uint64_t ns;      // of a step, from its first timestamp to its last
    uint32_t calls, groups; // dispatches and barrier groups of a step
    // FM_PROFILE_GROUPS only, by falling time. Where a group holds several dispatches, its time is shared among them by the bytes that
    // they must move and, at 32 flops to the byte, by their arithmetic.
    const struct fm_profile_row *ops, *kernels;
    size_t n_ops, n_kernels;
};

// What was measured since fm_session_profile, in the order in which the steps first ran. Times are means over the middle half of up to
// 256 steps, spread over all of them: a quarter that was fastest and one that was slowest are left out. Release with
// fm_profile_free. FM_NOMEM, and FM_ARG when the mode is FM_PROFILE_OFF.
FM_API enum fm_result fm_session_profile_read(const struct fm_session *session, struct fm_profile_step **out_steps, size_t *out_count);
FM_API void fm_profile_free(struct fm_profile_step *steps);

#ifdef __cplusplus
}
#endif

#endif
