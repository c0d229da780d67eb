// SPDX-License-Identifier: MIT
// The logical device, its queue and its timeline.
#include "vk/vk_internal.h"

// The physical device that `caps` describes. Two drivers may give one UUID to one card, hence the version.
static enum fm_result find_physical(struct fm_vk *vk)
{
    VkPhysicalDevice *devices = NULL;
    uint32_t count = 0;
    enum fm_result err = fm_vk_instance_devices(vk->instance, &devices, &count);
    if (err)
        return err;
    for (uint32_t i = 0; i < count && !vk->physical; i++) {
        VkPhysicalDeviceVulkan12Properties v12 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_PROPERTIES};
        VkPhysicalDeviceIDProperties id = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES};
        VkPhysicalDeviceProperties2 p = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &id};
        vkGetPhysicalDeviceProperties2(devices[i], &p);
        if (p.properties.apiVersion < VK_API_VERSION_1_3)
            continue;
        VkPhysicalDeviceVulkan13Properties v13 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_PROPERTIES};
        v12.pNext = &v13;
        p.pNext = &v12;
        vkGetPhysicalDeviceProperties2(devices[i], &p);
        if (memcmp(id.deviceUUID, vk->caps.uuid, sizeof(vk->caps.uuid)) == 0 &&
            p.properties.driverVersion == vk->caps.driver_version && (uint32_t)v12.driverID == vk->caps.driver_id) {
            vk->physical = devices[i];
            vk->max_workgroup_subgroups = v13.maxComputeWorkgroupSubgroups;
            memcpy(vk->cache_uuid, p.properties.pipelineCacheUUID, sizeof(vk->cache_uuid));
        }
    }
    fm_free(devices);
    if (!vk->physical)
        return fm_fail(FM_DEVICE, "%s: no Vulkan device with this UUID (any more)", vk->caps.name);
    return FM_OK;
}

static enum fm_result create_device(struct fm_vk *vk)
{
    struct fm_vk_features have, want;
    const char *names[FM_VK_EXT_COUNT];
    uint32_t n_names = 0, extensions = 0, enabled = 0;
    float priority = 1.0f;

    enum fm_result err = fm_vk_extensions(vk->physical, &extensions);
    if (err)
        return err;
    if (vk->caps.bits & FM_CAP_COOPMAT)
        enabled |= extensions & 1u << FM_VK_EXT_COOPMAT;
    // NV_cooperative_matrix2 builds on the KHR extension, its enabled feature does not.
    if (vk->caps.bits & FM_CAP_COOPMAT_REG)
        enabled |= extensions & (1u << FM_VK_EXT_COOPMAT_NV | 1u << FM_VK_EXT_COOPMAT);
    enabled |= extensions & 1u << FM_VK_EXT_MEMORY_BUDGET;
    for (uint32_t e = 0; e < FM_VK_EXT_COUNT; e++) {
        if (enabled & 1u << e)
            names[n_names++] = fm_vk_extension_name((enum fm_vk_extension)e);
    }
    vk->memory_budget = enabled & 1u << FM_VK_EXT_MEMORY_BUDGET;

    fm_vk_features_chain(&have, extensions);
    vkGetPhysicalDeviceFeatures2(vk->physical, &have.core);
    fm_vk_features_chain(&want, enabled);
    fm_vk_features_enable(&vk->caps, &have, &want);

    VkDeviceQueueCreateInfo queue = {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                     .queueFamilyIndex = vk->queue_family,
                                     .queueCount = 1,
                                     .pQueuePriorities = &priority};
    VkDeviceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                               .pNext = &want.core,
                               .queueCreateInfoCount = 1,
                               .pQueueCreateInfos = &queue,
                               .enabledExtensionCount = n_names,
                               .ppEnabledExtensionNames = names};
    VkResult result = FM_VK_CALL(vkCreateDevice(vk->physical, &info, NULL, &vk->device));
    if (result) {
        vk->device = VK_NULL_HANDLE;
        return fm_vk_error(vk, result, "%s: vkCreateDevice", vk->caps.name);
    }
    volkLoadDeviceTable(&vk->fn, vk->device);
    vk->fn.vkGetDeviceQueue(vk->device, vk->queue_family, 0, &vk->queue);
    return FM_OK;
}

static enum fm_result create_timeline(struct fm_vk *vk)
{
    VkSemaphoreTypeCreateInfo type = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
                                      .semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE};
    VkSemaphoreCreateInfo info = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO, .pNext = &type};
    VkResult result = FM_VK_CALL(vk->fn.vkCreateSemaphore(vk->device, &info, NULL, &vk->timeline));
    if (result) {
        vk->timeline = VK_NULL_HANDLE;
        return fm_vk_error(vk, result, "vkCreateSemaphore");
    }
    fm_vk_name_object(vk, VK_OBJECT_TYPE_SEMAPHORE, (uint64_t)vk->timeline, "timeline");
    return FM_OK;
}

enum fm_result fm_vk_open(const struct fm_caps *caps, struct fm_vk **out_vk)
{
    struct fm_vk *vk = fm_alloc_zero(1, sizeof(*vk));
    if (!vk)
        return fm_nomem();
    vk->caps = *caps;
    pthread_mutex_init(&vk->queue_lock, NULL);
    pthread_mutex_init(&vk->stage.lock, NULL);
    pthread_mutex_init(&vk->pipelines.lock, NULL);

    enum fm_result err = fm_vk_instance_get(&vk->instance);
    if (err)
        goto fail;
    vk->messages_at_open = fm_vk_debug_messages();
    if ((err = find_physical(vk)))
        goto fail;
    vkGetPhysicalDeviceMemoryProperties(vk->physical, &vk->memory);
    vk->queue_family = fm_vk_queue_family(vk->physical, &vk->timestamp_bits);
    if ((err = create_device(vk)) || (err = create_timeline(vk)) || (err = fm_vk_stage_init(vk)) ||
        (err = fm_vk_pipelines_init(vk)) || (err = fm_vk_matrix_order_find(vk)))
        goto fail;
    *out_vk = vk;
    return FM_OK;
fail:
    fm_vk_close(&vk);
    return err;
}

void fm_vk_close(struct fm_vk **handle)
{
    struct fm_vk *vk = *handle;
    if (!vk)
        return;
    *handle = NULL;
    if (vk->device) {
        fm_vk_idle(vk);
        fm_vk_pipelines_finish(vk);
        fm_vk_stage_finish(vk);
        vk->fn.vkDestroySemaphore(vk->device, vk->timeline, NULL);
        vk->fn.vkDestroyDevice(vk->device, NULL);
    }
    pthread_mutex_destroy(&vk->pipelines.lock);
    pthread_mutex_destroy(&vk->stage.lock);
    pthread_mutex_destroy(&vk->queue_lock);
    fm_free(vk);
}

const struct fm_caps *fm_vk_caps(const struct fm_vk *vk)
{
    return &vk->caps;
}

uint64_t fm_vk_used_bytes(const struct fm_vk *vk)
{
    VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT};
    VkPhysicalDeviceMemoryProperties2 memory = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2,
                                                .pNext = &budget};
    uint64_t used = 0;
    if (!vk->memory_budget)
        return 0;
    vkGetPhysicalDeviceMemoryProperties2(vk->physical, &memory);
    for (uint32_t i = 0; i < memory.memoryProperties.memoryHeapCount; i++) {
        if (memory.memoryProperties.memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT)
            used += budget.heapUsage[i];
    }
    return used;
}

// ---- queue -------------------------------------------------------------------------------------------------------

enum fm_result fm_vk_submit(struct fm_vk *vk, const VkCommandBuffer *commands, uint32_t count, const char *what,
                            uint64_t *out_value)
{
    VkSubmitInfo2 *submits;
    VkCommandBufferSubmitInfo *buffers;
    enum fm_result err = fm_vk_lost(vk);
    if (err)
        return err;
    submits = fm_alloc_zero(count, sizeof(*submits));
    buffers = fm_alloc_zero(count, sizeof(*buffers));
    if (!submits || !buffers) {
        err = fm_nomem();
        goto out;
    }
    VkSemaphoreSubmitInfo signal = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_SUBMIT_INFO,
                                    .semaphore = vk->timeline,
                                    .stageMask = VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT};
    for (uint32_t i = 0; i < count; i++) {
        buffers[i] = (VkCommandBufferSubmitInfo){.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_SUBMIT_INFO,
                                                 .commandBuffer = commands[i]};
        submits[i] = (VkSubmitInfo2){.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO_2,
                                     .commandBufferInfoCount = 1,
                                     .pCommandBufferInfos = &buffers[i]};
    }
    submits[count - 1].signalSemaphoreInfoCount = 1;
    submits[count - 1].pSignalSemaphoreInfos = &signal;

    pthread_mutex_lock(&vk->queue_lock);
    signal.value = vk->value + 1;
    VkResult result = FM_VK_QUEUE_CALL(vk->fn.vkQueueSubmit2(vk->queue, count, submits, VK_NULL_HANDLE));
    if (result == VK_SUCCESS)
        vk->value = signal.value;
    pthread_mutex_unlock(&vk->queue_lock);
    if (result)
        err = fm_vk_error(vk, result, "%s: vkQueueSubmit2", what);
    else
        *out_value = signal.value;
out:
    fm_free(submits);
    fm_free(buffers);
    return err;
}

enum fm_result fm_vk_wait(struct fm_vk *vk, uint64_t value, uint64_t timeout_ns)
{
    VkSemaphoreWaitInfo info = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
                                .semaphoreCount = 1,
                                .pSemaphores = &vk->timeline,
                                .pValues = &value};
    enum fm_result err = fm_vk_lost(vk);
    if (err)
        return err;
    VkResult result = FM_VK_QUEUE_CALL(vk->fn.vkWaitSemaphores(vk->device, &info, timeout_ns));
    if (result == VK_TIMEOUT)
        return fm_fail(FM_BUSY, "%s: not done after %.3f s", vk->caps.name, (double)timeout_ns * 1e-9);
    return result ? fm_vk_error(vk, result, "vkWaitSemaphores") : FM_OK;
}

void fm_vk_settle(struct fm_vk *vk, uint64_t value)
{
    VkSemaphoreWaitInfo info = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
                                .semaphoreCount = 1,
                                .pSemaphores = &vk->timeline,
                                .pValues = &value};
    if (atomic_load(&vk->lost) || vk->fn.vkWaitSemaphores(vk->device, &info, UINT64_MAX) != VK_SUCCESS)
        fm_vk_idle(vk);
}

void fm_vk_idle(struct fm_vk *vk)
{
    // Vulkan wants no submit by another thread meanwhile. The result does not matter: a lost device has nothing left in
    // flight.
    pthread_mutex_lock(&vk->queue_lock);
    (void)vk->fn.vkDeviceWaitIdle(vk->device);
    pthread_mutex_unlock(&vk->queue_lock);
}

// True for a lost device too: whoever polls goes on to fm_vk_wait, which says so.
bool fm_vk_reached(struct fm_vk *vk, uint64_t value)
{
    uint64_t reached = 0;
    if (atomic_load(&vk->lost))
        return true;
    VkResult result = FM_VK_QUEUE_CALL(vk->fn.vkGetSemaphoreCounterValue(vk->device, vk->timeline, &reached));
    if (result == VK_SUCCESS)
        return reached >= value;
    (void)fm_vk_error(vk, result, "vkGetSemaphoreCounterValue");
    return atomic_load(&vk->lost);
}

// ---- command buffers ---------------------------------------------------------------------------------------------

enum fm_result fm_vk_begin_commands(struct fm_vk *vk, VkCommandBuffer commands, bool once)
{
    VkCommandBufferBeginInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                     .flags = once ? VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT : 0};
    VkResult result = FM_VK_CALL(vk->fn.vkBeginCommandBuffer(commands, &info));
    return result ? fm_vk_error(vk, result, "vkBeginCommandBuffer") : FM_OK;
}

void fm_vk_barrier(struct fm_vk *vk, VkCommandBuffer commands, VkPipelineStageFlags2 src_stage, VkAccessFlags2 src,
                   VkPipelineStageFlags2 dst_stage, VkAccessFlags2 dst)
{
    VkMemoryBarrier2 barrier = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER_2,
                                .srcStageMask = src_stage,
                                .srcAccessMask = src,
                                .dstStageMask = dst_stage,
                                .dstAccessMask = dst};
    VkDependencyInfo info = {.sType = VK_STRUCTURE_TYPE_DEPENDENCY_INFO,
                             .memoryBarrierCount = 1,
                             .pMemoryBarriers = &barrier};
    vk->fn.vkCmdPipelineBarrier2(commands, &info);
}
