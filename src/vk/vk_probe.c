// SPDX-License-Identifier: MIT
// Capabilities of every device: the immutable snapshot that everything above decides on.
#include <stdio.h>

#include "kernel/quirks.h"
#include "vk/vk_internal.h"

struct properties {
    VkPhysicalDeviceProperties2 core;
    VkPhysicalDeviceVulkan11Properties v11;
    VkPhysicalDeviceVulkan12Properties v12;
    VkPhysicalDeviceVulkan13Properties v13;
    VkPhysicalDeviceCooperativeMatrixPropertiesKHR coopmat;
    VkPhysicalDeviceShaderSMBuiltinsPropertiesNV sm;
    VkPhysicalDeviceShaderCorePropertiesAMD cu;
};

static void query_properties(VkPhysicalDevice device, uint32_t extensions, struct properties *p)
{
    *p = (struct properties){
        .core = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &p->v11},
        .v11 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES, .pNext = &p->v12},
        .v12 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_PROPERTIES, .pNext = &p->v13},
        .v13 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_PROPERTIES},
        .coopmat = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_PROPERTIES_KHR},
        .sm = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_SM_BUILTINS_PROPERTIES_NV},
        .cu = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_CORE_PROPERTIES_AMD},
    };
    struct {
        enum fm_vk_extension extension;
        void *properties;
        void **next;
    } optional[] = {
        {FM_VK_EXT_COOPMAT, &p->coopmat, &p->coopmat.pNext},
        {FM_VK_EXT_SM_BUILTINS, &p->sm, &p->sm.pNext},
        {FM_VK_EXT_CORE_PROPERTIES, &p->cu, &p->cu.pNext},
    };
    void **tail = &p->v13.pNext;
    for (size_t i = 0; i < FM_COUNT(optional); i++) {
        if (extensions & 1u << optional[i].extension) {
            *tail = optional[i].properties;
            tail = optional[i].next;
        }
    }
    vkGetPhysicalDeviceProperties2(device, &p->core);
}

static uint8_t device_kind(VkPhysicalDeviceType type)
{
    switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
        return 1;
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
        return 2;
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:
        return 3;
    case VK_PHYSICAL_DEVICE_TYPE_CPU:
        return 4;
    default:
        return 0;
    }
}

static void fill_identity(const struct properties *p, struct fm_caps *caps)
{
    const VkPhysicalDeviceProperties *core = &p->core.properties;
    snprintf(caps->name, sizeof(caps->name), "%s", core->deviceName);
    snprintf(caps->driver, sizeof(caps->driver), "%s", p->v12.driverName);
    snprintf(caps->driver_info, sizeof(caps->driver_info), "%s", p->v12.driverInfo);
    memcpy(caps->uuid, p->v11.deviceUUID, sizeof(caps->uuid));
    caps->vendor_id = core->vendorID;
    caps->device_id = core->deviceID;
    caps->driver_id = (uint32_t)p->v12.driverID;
    caps->driver_version = core->driverVersion;
    caps->api_version = core->apiVersion;
    caps->kind = device_kind(core->deviceType);
    caps->unified = caps->kind == 1 || caps->kind == 4;
}

static void fill_limits(const struct properties *p, uint32_t timestamp_bits, struct fm_caps *caps)
{
    const VkPhysicalDeviceLimits *limits = &p->core.properties.limits;
    caps->subgroup_size = p->v11.subgroupSize;
    caps->subgroup_min = p->v13.minSubgroupSize;
    caps->subgroup_max = p->v13.maxSubgroupSize;
    caps->shared_bytes = limits->maxComputeSharedMemorySize;
    caps->max_invocations = limits->maxComputeWorkGroupInvocations;
    caps->max_push_bytes = limits->maxPushConstantsSize;
    for (int i = 0; i < 3; i++) {
        caps->max_workgroup_size[i] = limits->maxComputeWorkGroupSize[i];
        caps->max_workgroups[i] = limits->maxComputeWorkGroupCount[i];
    }
    caps->max_buffer_bytes = p->v13.maxBufferSize;
    caps->max_alloc_bytes = FM_MIN(p->v11.maxMemoryAllocationSize, p->v13.maxBufferSize);
    caps->timestamp_ns = timestamp_bits > 0 ? limits->timestampPeriod : 0.0f;
    caps->cores = p->sm.shaderSMCount;
    if (caps->cores == 0)
        caps->cores = p->cu.shaderEngineCount * p->cu.shaderArraysPerEngineCount * p->cu.computeUnitsPerShaderArray;
}

static void fill_memory(VkPhysicalDevice device, uint32_t extensions, struct fm_caps *caps)
{
    bool budget_known = extensions & 1u << FM_VK_EXT_MEMORY_BUDGET;
    VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT};
    VkPhysicalDeviceMemoryProperties2 memory = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2,
                                                .pNext = budget_known ? &budget : NULL};
    vkGetPhysicalDeviceMemoryProperties2(device, &memory);
    for (uint32_t i = 0; i < memory.memoryProperties.memoryHeapCount; i++) {
        const VkMemoryHeap *heap = &memory.memoryProperties.memoryHeaps[i];
        if (!(heap->flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT) || heap->size <= caps->device_bytes)
            continue;
        caps->device_bytes = heap->size;
        caps->available_bytes = heap->size;
        if (budget_known) // heapBudget counts what this process already uses
            caps->available_bytes = budget.heapBudget[i] - FM_MIN(budget.heapUsage[i], budget.heapBudget[i]);
    }
}

static uint64_t subgroup_bits(const struct properties *p)
{
    const VkSubgroupFeatureFlags needed = VK_SUBGROUP_FEATURE_BASIC_BIT | VK_SUBGROUP_FEATURE_VOTE_BIT |
                                          VK_SUBGROUP_FEATURE_ARITHMETIC_BIT | VK_SUBGROUP_FEATURE_BALLOT_BIT |
                                          VK_SUBGROUP_FEATURE_SHUFFLE_BIT;
    bool there = (p->v11.subgroupSupportedOperations & needed) == needed &&
                 (p->v11.subgroupSupportedStages & VK_SHADER_STAGE_COMPUTE_BIT) && p->v11.subgroupSize >= 4 &&
                 p->v11.subgroupSize <= 128;
    return there ? FM_CAP_SUBGROUP : 0;
}

uint32_t fm_vk_queue_family(VkPhysicalDevice device, uint32_t *out_timestamp_bits)
{
    VkQueueFamilyProperties families[32];
    uint32_t count = FM_COUNT(families), best = UINT32_MAX;
    vkGetPhysicalDeviceQueueFamilyProperties(device, &count, families);
    for (uint32_t i = 0; i < count; i++) {
        if (!(families[i].queueFlags & VK_QUEUE_COMPUTE_BIT))
            continue;
        bool alone = !(families[i].queueFlags & VK_QUEUE_GRAPHICS_BIT);
        if (best == UINT32_MAX || (alone && (families[best].queueFlags & VK_QUEUE_GRAPHICS_BIT)))
            best = i;
    }
    *out_timestamp_bits = best == UINT32_MAX ? 0 : families[best].timestampValidBits;
    return best;
}

// What even the `base` rung needs; NULL when all is there.
static const char *what_is_missing(const struct properties *p, const struct fm_vk_features *f, uint32_t queue_family)
{
    if (!f->v12.bufferDeviceAddress)
        return "no buffer device addresses";
    if (!f->v12.scalarBlockLayout)
        return "no scalar block layout";
    if (!f->v12.timelineSemaphore || !f->v13.synchronization2 || !f->v13.maintenance4)
        return "features missing that Vulkan 1.3 demands";
    if (queue_family == UINT32_MAX)
        return "no compute queue";
    if (p->core.properties.limits.maxPushConstantsSize < FM_VK_PUSH_BYTES)
        return "less than 128 bytes of push constants";
    return NULL;
}

enum fm_result fm_vk_probe_device(VkPhysicalDevice device, struct fm_caps *out_caps, bool *out_usable,
                                  const char **out_why)
{
    struct fm_caps *caps = out_caps;
    struct properties properties;
    struct fm_vk_features features;
    VkPhysicalDeviceProperties plain;
    uint32_t extensions = 0, timestamp_bits = 0;

    memset(caps, 0, sizeof(*caps));
    *out_usable = false;
    vkGetPhysicalDeviceProperties(device, &plain);
    snprintf(caps->name, sizeof(caps->name), "%s", plain.deviceName);
    if (plain.apiVersion < VK_API_VERSION_1_3) {
        *out_why = "below Vulkan 1.3";
        return FM_OK;
    }
    enum fm_result err = fm_vk_extensions(device, &extensions);
    if (err)
        return err;
    fm_vk_features_chain(&features, extensions);
    vkGetPhysicalDeviceFeatures2(device, &features.core);
    query_properties(device, extensions, &properties);
    uint32_t family = fm_vk_queue_family(device, &timestamp_bits);
    *out_why = what_is_missing(&properties, &features, family);
    if (*out_why)
        return FM_OK;

    fill_identity(&properties, caps);
    fill_limits(&properties, timestamp_bits, caps);
    fill_memory(device, extensions, caps);
    caps->subgroup_size_control = features.v13.subgroupSizeControl && features.v13.computeFullSubgroups &&
                                  (properties.v13.requiredSubgroupSizeStages & VK_SHADER_STAGE_COMPUTE_BIT);
    caps->bits = fm_vk_features_bits(&features) | subgroup_bits(&properties);
    // Can, but not fast.
    if (!properties.v13.integerDotProduct4x8BitPackedSignedAccelerated)
        caps->quirks |= FM_QUIRK_SLOW_INT_DOT;
    if (properties.core.properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU) // which widens halves for each operation
        caps->quirks |= FM_QUIRK_SLOW_HALF_MATH;
    if (!(properties.coopmat.cooperativeMatrixSupportedStages & VK_SHADER_STAGE_COMPUTE_BIT))
        caps->bits &= ~(FM_CAP_COOPMAT | FM_CAP_COOPMAT_REG);
    if ((err = fm_vk_matrix_shapes(device, extensions, caps)))
        return err;
    if (caps->n_matrix == 0)
        caps->bits &= ~(FM_CAP_COOPMAT | FM_CAP_COOPMAT_REG);
    *out_usable = true;
    return FM_OK;
}

enum fm_result fm_vk_probe(struct fm_caps **out_caps, size_t *out_count)
{
    const struct fm_vk_instance *instance;
    VkPhysicalDevice *devices = NULL;
    struct fm_caps *caps = NULL;
    uint32_t count = 0;
    size_t kept = 0;
    char first[384] = ""; // the first device that was left out, and why

    enum fm_result err = fm_vk_instance_get(&instance);
    if (!err)
        err = fm_vk_instance_devices(instance, &devices, &count);
    if (err)
        return err;
    caps = fm_alloc_zero(count, sizeof(*caps));
    if (!caps) {
        err = fm_nomem();
        goto fail;
    }
    for (uint32_t i = 0; i < count; i++) {
        bool usable = false;
        const char *why = NULL;
        err = fm_vk_probe_device(devices[i], &caps[kept], &usable, &why);
        if (err == FM_NOMEM)
            goto fail;
        if (err) // a driver that fails must not hide the devices of the others
            why = fm_error_message();
        if (!err && usable) {
            fm_caps_apply_quirks(&caps[kept++]);
            continue;
        }
        fm_log(err ? FM_LOG_WARN : FM_LOG_INFO, "device %s left out: %s", caps[kept].name, why);
        if (first[0] == '\0')
            snprintf(first, sizeof(first), "%s: %s", caps[kept].name, why);
    }
    if (kept == 0) {
        err = fm_fail(FM_DEVICE, "none of the %u Vulkan devices can be used: %s", count, first);
        goto fail;
    }
    fm_free(devices);
    *out_caps = caps;
    *out_count = kept;
    return FM_OK;
fail:
    fm_free(devices);
    fm_free(caps);
    return err;
}
