// SPDX-License-Identifier: MIT
// The list of architectures; models/meson.build has the names.
#include "models/arch.h"

#include "models/arch_list.h"

#define X(name) extern const struct fm_arch fm_arch_##name;
FM_ARCHS(X)
#undef X

const struct fm_arch *const fm_archs[] = {
#define X(name) &fm_arch_##name,
    FM_ARCHS(X)
#undef X
    NULL,
};
