// SPDX-License-Identifier: MIT
// A small kernel table in place of the shipped one: a test that compiles fake_kernels.c links it instead. It has every
// op at `base`, and a ladder of products and attention, so that selection and plans can be tested for kernels and
// devices that nobody here has, and stay the same when shipped kernels change.
#ifndef FM_TESTS_FAKE_KERNELS_H
#define FM_TESTS_FAKE_KERNELS_H

#include "kernel/kernel.h"

// Devices by name: "software-4" "software-8" "amd-64" "amd-rdna3" "intel-8-32" "mobile-16k" "nvidia-cmr". All-zero when
// unknown.
struct fm_caps fake_caps(const char *name);

#endif
