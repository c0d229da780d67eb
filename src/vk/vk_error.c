// SPDX-License-Identifier: MIT
// Vulkan results as fm_results, and the test hook that makes the n-th call fail.
#include <stdio.h>

#include "vk/vk_internal.h"

// Calls still to succeed before one fails; UINT64_MAX = none fails. Counted down by every fallible call.
static _Atomic uint64_t fault_left = UINT64_MAX;
static _Atomic uint64_t fault_calls;

uint64_t fm_vk_fail_at(uint64_t n)
{
    atomic_store(&fault_left, n);
    return atomic_exchange(&fault_calls, 0);
}

bool fm_vk_fault(void)
{
    atomic_fetch_add_explicit(&fault_calls, 1, memory_order_relaxed);
    uint64_t left = atomic_load_explicit(&fault_left, memory_order_relaxed);
    while (left != UINT64_MAX) {
        // 0 becomes UINT64_MAX: the fault strikes once.
        if (atomic_compare_exchange_weak(&fault_left, &left, left - 1))
            return left == 0;
    }
    return false;
}

const char *fm_vk_result_name(VkResult result)
{
    switch (result) {
#define NAME(x) \
    case x: \
        return #x;
        NAME(VK_SUCCESS)
        NAME(VK_NOT_READY)
        NAME(VK_TIMEOUT)
        NAME(VK_INCOMPLETE)
        NAME(VK_ERROR_OUT_OF_HOST_MEMORY)
        NAME(VK_ERROR_OUT_OF_DEVICE_MEMORY)
        NAME(VK_ERROR_INITIALIZATION_FAILED)
        NAME(VK_ERROR_DEVICE_LOST)
        NAME(VK_ERROR_MEMORY_MAP_FAILED)
        NAME(VK_ERROR_LAYER_NOT_PRESENT)
        NAME(VK_ERROR_EXTENSION_NOT_PRESENT)
        NAME(VK_ERROR_FEATURE_NOT_PRESENT)
        NAME(VK_ERROR_INCOMPATIBLE_DRIVER)
        NAME(VK_ERROR_TOO_MANY_OBJECTS)
        NAME(VK_ERROR_FRAGMENTED_POOL)
        NAME(VK_ERROR_UNKNOWN)
        NAME(VK_ERROR_OUT_OF_POOL_MEMORY)
        NAME(VK_ERROR_INVALID_EXTERNAL_HANDLE)
        NAME(VK_ERROR_FRAGMENTATION)
        NAME(VK_ERROR_INVALID_OPAQUE_CAPTURE_ADDRESS)
        NAME(VK_PIPELINE_COMPILE_REQUIRED)
        NAME(VK_ERROR_INVALID_SHADER_NV)
        NAME(VK_ERROR_NOT_PERMITTED_KHR)
#undef NAME
    default:
        return "an unknown VkResult";
    }
}

enum fm_result fm_vk_error(struct fm_vk *vk, VkResult result, const char *fmt, ...)
{
    char what[384];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);

    switch (result) {
    case VK_ERROR_OUT_OF_HOST_MEMORY:
        return fm_fail(FM_NOMEM, "%s: out of host memory", what);
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:
        return fm_fail(FM_NOSPACE, "%s: out of device memory", what);
    case VK_ERROR_DEVICE_LOST:
        if (vk)
            atomic_store(&vk->lost, true);
        return fm_fail(FM_LOST, "%s: the device was lost", what);
    default:
        return fm_fail(FM_DEVICE, "%s: %s (%d)", what, fm_vk_result_name(result), (int)result);
    }
}

enum fm_result fm_vk_lost(const struct fm_vk *vk)
{
    return atomic_load(&vk->lost) ? fm_fail(FM_LOST, "%s: the device was lost earlier", vk->caps.name) : FM_OK;
}
