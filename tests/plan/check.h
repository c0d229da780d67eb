// SPDX-License-Identifier: MIT
// An independent judge of plans: it knows nothing of how they are made, only what they must not do.
#ifndef FM_TESTS_PLAN_CHECK_H
#define FM_TESTS_PLAN_CHECK_H

#include "plan/plan.h"

// NULL when the plan is sound, else a sentence (static buffer) that says what is wrong:
// - no two dispatches of one barrier group touch the same bytes, one of them writing;
// - every read of the arena finds the bytes as the producer of that value, cast or partial sum left them, all of them;
// - nothing lies outside its pool; grids are within limits; every binding of the step's header is in place;
// - values that are read by the host are whole at the end.
const char *check_plan(const struct fm_graph *graph, const struct fm_plan *plan, const struct fm_layout *layout);

// Capabilities of a made-up device that reaches `rung` and no more.
struct fm_caps check_caps(enum fm_rung rung);

#endif
