// SPDX-License-Identifier: MIT
// The list of problems while it grows: one function per family. Internal to check/.
#ifndef FM_CHECK_PROBLEMS_H
#define FM_CHECK_PROBLEMS_H

#include "check/check.h"

struct fm_problems {
    struct fm_problem *items;
    size_t count, cap;
    enum fm_result error; // first failure; everything after it does nothing
};

// Append a copy of *p; its name is made of op, format, `shape` (what tells it from the others of its op) and data.
void fm_problems_push(struct fm_problems *l, const struct fm_problem *p, const char *shape);

void fm_problems_attention(struct fm_problems *l);
void fm_problems_lightning(struct fm_problems *l);
void fm_problems_ssd(struct fm_problems *l);
void fm_problems_ssm(struct fm_problems *l);
void fm_problems_together(struct fm_problems *l);

#endif
