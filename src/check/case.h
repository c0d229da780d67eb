// SPDX-License-Identifier: MIT
// What the files that make problems concrete share. Internal to check/.
#ifndef FM_CHECK_CASE_H
#define FM_CHECK_CASE_H

#include "check/check.h"
#include "graph/builder.h"

// Operands are states, so that they lie in device memory and can be filled: f32 [rows,width]; a vector is a weight [width].
uint32_t fm_case_operand(struct fm_builder *b, const char *name, uint32_t rows, uint32_t width);
uint32_t fm_case_vector(struct fm_builder *b, const char *name, uint32_t width);

// Operands of the recurrent ops (case_recurrent.c); may set what is missing in attr. Their number.
uint32_t fm_case_recurrent_sources(struct fm_builder *b, const struct fm_problem *p, struct fm_attr *attr, uint32_t *src);
// A random number as operand `name` of a recurrence takes it: decays, rates and steps have signs and sizes of their own.
float fm_case_recurrent_value(enum fm_op op, const char *name, float x);

#endif
