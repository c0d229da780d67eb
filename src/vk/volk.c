// SPDX-License-Identifier: MIT
// The one copy of volk, which loads Vulkan at run time. Its names carry our prefix (volk_names.h), because the program that
// links this library may have a volk of its own, or call Vulkan itself.
#include "vk/vk_internal.h"

#define VOLK_IMPLEMENTATION
#include <volk.h>
