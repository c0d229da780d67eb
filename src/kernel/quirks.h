// SPDX-License-Identifier: MIT
// Flags that the quirk table sets in fm_caps.quirks, and what they mean to the selector.
#ifndef FM_KERNEL_QUIRKS_H
#define FM_KERNEL_QUIRKS_H

#include "kernel/kernel.h"

// Can and fast are two things: a slow feature stays usable (its kernels are chosen when nothing else fits).
enum fm_quirk {
    FM_QUIRK_SLOW_COOPMAT = 1u << 0,   // kernels that need coopmat or coopmat_reg lose FM_SLOW_PENALTY
    FM_QUIRK_SLOW_INT_DOT = 1u << 1,   // the same for int_dot
    FM_QUIRK_SLOW_HALF_MATH = 1u << 2, // the same for half_math
};

#define FM_SLOW_PENALTY 200

// Capability bits whose kernels are penalised under the device's flags.
uint64_t fm_quirks_slow_bits(uint32_t quirks);

#endif
