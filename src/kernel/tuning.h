// SPDX-License-Identifier: MIT
// What was measured on devices (tuning.def), and a text form of it. Plain C: no Vulkan here.
#ifndef FM_KERNEL_TUNING_H
#define FM_KERNEL_TUNING_H

#include "base/base.h"

struct fm_caps;

struct fm_tuning_priority { // takes the place of a kernel's own
    uint32_t kernel;        // index in fm_kernels
    int32_t priority;
};

struct fm_tuning {
#define X(name, value, least, most) uint32_t name;
#include "kernel/tuning.def"
#undef X
    struct fm_tuning_priority *priorities; // n_priorities, by rising index; owned
    size_t n_priorities, cap_priorities;
};

extern const struct fm_tuning fm_tuning_shipped;

// The tuning of a device: its own (caps->tuning), or the shipped one.
const struct fm_tuning *fm_tuning_of(const struct fm_caps *caps);
// A kernel's priority on the device.
int32_t fm_tuning_priority(const struct fm_caps *caps, uint32_t kernel);

// Read a tuning from text: the shipped values, changed by lines `NAME = NUMBER` (a row of tuning.def) and
// `priority KERNEL = NUMBER`; `#` begins a comment. A kernel that this build does not have is passed over. `source` names the
// text in messages. FM_FORMAT with the line, FM_NOMEM. Release with fm_tuning_finish.
enum fm_result fm_tuning_parse(const char *text, size_t text_bytes, const char *source, struct fm_tuning *out_tuning);
void fm_tuning_finish(struct fm_tuning *tuning);

#endif
