// SPDX-License-Identifier: MIT
// Specialisation constants that every kernel shares. Others take ids from 2 upward, said in the kernel's header.
//   0  workgroup size x (kernels.toml: workgroup)
//   1  subgroup size that the pipeline runs with (kernels.toml: spec = { 1 = "subgroup" }); only kernels that declare
//   it
#ifndef FM_SPEC_GLSL
#define FM_SPEC_GLSL

layout(local_size_x_id = 0, local_size_y = 1, local_size_z = 1) in;

#define FM_WORKGROUP gl_WorkGroupSize.x

#ifdef FM_USE_SUBGROUP_SIZE
layout(constant_id = 1) const uint FM_SUBGROUP = 32;
#endif

// Is `row` beyond the rows of this step? Row 0 of a bucket of tokens always exists: its workgroups need not wait for
// the step block before their first loads, which in decoding is a good part of a kernel's time.
#define FM_ROW_ABSENT(row, rows_word, rows) (((row) != 0u || (rows_word) != FM_STEP_TOKENS) && (row) >= (rows))

#endif
