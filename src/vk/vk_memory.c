// SPDX-License-Identifier: MIT
// Pools of device memory: allocations of one VkBuffer and one VkDeviceMemory each, used through device addresses.
#include <stdio.h>

#include "vk/vk_internal.h"

#define SMALL_UPLOAD_BYTES (16ull << 20) // upload pools up to this size may lie in host-visible device memory

// Index of the first allowed memory type with all of `wanted` and none of `unwanted`; UINT32_MAX when there is none.
static uint32_t find_type(const struct fm_vk *vk, uint32_t allowed, VkMemoryPropertyFlags wanted,
                          VkMemoryPropertyFlags unwanted)
{
    for (uint32_t i = 0; i < vk->memory.memoryTypeCount; i++) {
        VkMemoryPropertyFlags flags = vk->memory.memoryTypes[i].propertyFlags;
        if ((allowed & 1u << i) && (flags & wanted) == wanted && !(flags & unwanted))
            return i;
    }
    return UINT32_MAX;
}

static uint32_t choose_type(const struct fm_vk *vk, uint32_t allowed, enum fm_vk_place place, uint64_t bytes)
{
    const VkMemoryPropertyFlags local = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT;
    const VkMemoryPropertyFlags host = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    const VkMemoryPropertyFlags cached = VK_MEMORY_PROPERTY_HOST_CACHED_BIT;
    // A ring that is packed into is read as well as written: cached. Small pools are written once: device memory does.
    // never: needs an extension to be enabled, or is for something else.
    const VkMemoryPropertyFlags never = VK_MEMORY_PROPERTY_DEVICE_COHERENT_BIT_AMD |
                                        VK_MEMORY_PROPERTY_LAZILY_ALLOCATED_BIT | VK_MEMORY_PROPERTY_PROTECTED_BIT;
    const struct {
        VkMemoryPropertyFlags wanted, unwanted;
    } device[] = {{local, host}, {local, 0}, {0, 0}}, small[] = {{local | host, 0}, {host, 0}, {host, 0}},
      large[] = {{host | cached, local}, {host, local}, {host, 0}},
      readback[] = {{host | cached, local}, {host | cached, 0}, {host, 0}};
    uint32_t type = UINT32_MAX;
    for (size_t i = 0; i < 3 && type == UINT32_MAX; i++) {
        if (place == FM_VK_DEVICE)
            type = find_type(vk, allowed, device[i].wanted, device[i].unwanted | never);
        else if (place == FM_VK_READBACK)
            type = find_type(vk, allowed, readback[i].wanted, readback[i].unwanted | never);
        else if (bytes <= SMALL_UPLOAD_BYTES)
            type = find_type(vk, allowed, small[i].wanted, small[i].unwanted | never);
        else
            type = find_type(vk, allowed, large[i].wanted, large[i].unwanted | never);
    }
    return type;
}

static enum fm_result no_space(struct fm_vk_memory *memory, VkResult result, uint64_t bytes)
{
    struct fm_vk *vk = memory->vk;
    if (result != VK_ERROR_OUT_OF_DEVICE_MEMORY)
        return fm_vk_error(vk, result, "%s pool: vkAllocateMemory of %.1f MB", memory->name, (double)bytes * 1e-6);
    return fm_fail(FM_NOSPACE, "%s pool: no room on %s for an allocation of %.1f MB (%.1f MB of the pool made, %.1f MB used on "
                   "the device, %.1f MB in all)", memory->name, vk->caps.name, (double)bytes * 1e-6,
                   (double)fm_vk_memory_bytes(memory) * 1e-6, (double)fm_vk_used_bytes(vk) * 1e-6,
                   (double)vk->caps.device_bytes * 1e-6);
}

// Create, allocate, bind, map, name. What was made is in *alloc even on failure.
static enum fm_result create_alloc(struct fm_vk_memory *memory, uint64_t bytes, struct fm_vk_alloc *alloc)
{
    struct fm_vk *vk = memory->vk;
    VkBufferCreateInfo buffer = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                                 .size = bytes,
                                 .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
                                          VK_BUFFER_USAGE_TRANSFER_DST_BIT |
                                          VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT};
    VkResult result = FM_VK_CALL(vk->fn.vkCreateBuffer(vk->device, &buffer, NULL, &alloc->buffer));
    if (result) {
        alloc->buffer = VK_NULL_HANDLE;
        return fm_vk_error(vk, result, "%s pool: vkCreateBuffer of %.1f MB", memory->name, (double)bytes * 1e-6);
    }
    VkMemoryRequirements needs;
    vk->fn.vkGetBufferMemoryRequirements(vk->device, alloc->buffer, &needs);
    uint32_t type = choose_type(vk, needs.memoryTypeBits, memory->place, bytes);
    if (type == UINT32_MAX)
        return fm_fail(FM_DEVICE, "%s pool: %s has no memory type for it", memory->name, vk->caps.name);
    VkMemoryAllocateFlagsInfo flags = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO,
                                       .flags = VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT};
    VkMemoryAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                 .pNext = &flags,
                                 .allocationSize = needs.size,
                                 .memoryTypeIndex = type};
    result = FM_VK_CALL(vk->fn.vkAllocateMemory(vk->device, &info, NULL, &alloc->memory));
    if (result) {
        alloc->memory = VK_NULL_HANDLE;
        return no_space(memory, result, needs.size);
    }
    alloc->bytes = bytes;
    result = FM_VK_CALL(vk->fn.vkBindBufferMemory(vk->device, alloc->buffer, alloc->memory, 0));
    if (result)
        return fm_vk_error(vk, result, "%s pool: vkBindBufferMemory", memory->name);
    if (memory->place != FM_VK_DEVICE) {
        result = FM_VK_CALL(vk->fn.vkMapMemory(vk->device, alloc->memory, 0, VK_WHOLE_SIZE, 0, &alloc->host));
        if (result)
            return fm_vk_error(vk, result, "%s pool: vkMapMemory", memory->name);
    }
    VkBufferDeviceAddressInfo address = {.sType = VK_STRUCTURE_TYPE_BUFFER_DEVICE_ADDRESS_INFO,
                                         .buffer = alloc->buffer};
    alloc->address = vk->fn.vkGetBufferDeviceAddress(vk->device, &address);
    fm_vk_name_object(vk, VK_OBJECT_TYPE_BUFFER, (uint64_t)alloc->buffer, memory->name);
    fm_vk_name_object(vk, VK_OBJECT_TYPE_DEVICE_MEMORY, (uint64_t)alloc->memory, memory->name);
    return FM_OK;
}

enum fm_result fm_vk_memory_create(struct fm_vk *vk, const char *name, enum fm_vk_place place,
                                   const struct fm_pool_size *size, struct fm_vk_memory **out_memory)
{
    struct fm_vk_memory *memory = NULL;
    enum fm_result err = fm_vk_lost(vk);
    if (err)
        return err;
    memory = fm_alloc_zero(1, sizeof(*memory));
    if (!memory)
        return fm_nomem();
    memory->vk = vk;
    memory->place = place;
    memory->alloc_bytes = size->alloc_bytes;
    memory->name = fm_strdup(name);
    memory->allocs = fm_alloc_zero(FM_MAX(size->n_allocs, 1u), sizeof(*memory->allocs));
    if (!memory->name || !memory->allocs) {
        err = fm_nomem();
        goto fail;
    }
    for (uint32_t i = 0; i < size->n_allocs; i++) {
        uint64_t bytes;
        // A whole number of 16-byte loads, and never a buffer of nothing.
        if (!fm_align_u64(FM_MAX(size->alloc_used[i], 16u), 16, &bytes) || bytes > vk->caps.max_alloc_bytes) {
            err = fm_fail(FM_NOSPACE, "%s pool: an allocation of %.1f MB, but %s allows %.1f MB at most", name,
                          (double)size->alloc_used[i] * 1e-6, vk->caps.name, (double)vk->caps.max_alloc_bytes * 1e-6);
            goto fail;
        }
        memory->n_allocs = i + 1;
        if ((err = create_alloc(memory, bytes, &memory->allocs[i])))
            goto fail;
    }
    *out_memory = memory;
    return FM_OK;
fail:
    fm_vk_memory_destroy(&memory);
    return err;
}

enum fm_result fm_vk_memory_create_single(struct fm_vk *vk, const char *name, enum fm_vk_place place, uint64_t bytes,
                                          struct fm_vk_memory **out_memory)
{
    struct fm_pool_size size = {.alloc_bytes = FM_MAX(bytes, 16u), .n_allocs = 1, .alloc_used = &bytes,
                                .total_bytes = bytes};
    return fm_vk_memory_create(vk, name, place, &size, out_memory);
}

void fm_vk_memory_destroy(struct fm_vk_memory **handle)
{
    struct fm_vk_memory *memory = *handle;
    if (!memory)
        return;
    *handle = NULL;
    struct fm_vk *vk = memory->vk;
    if (memory->ring_epoch != 0) { // never so for the ring's own memory, which goes with the lock held
        pthread_mutex_lock(&vk->stage.lock);
        if (memory->ring_epoch == vk->stage.epoch) // an upload that was given up: no copy may outlive its destination
            (void)fm_vk_stage_drain(vk);
        pthread_mutex_unlock(&vk->stage.lock);
    }
    if (atomic_load(&vk->lost))
        fm_vk_idle(vk);
    for (uint32_t i = 0; i < memory->n_allocs; i++) {
        vk->fn.vkDestroyBuffer(vk->device, memory->allocs[i].buffer, NULL);
        vk->fn.vkFreeMemory(vk->device, memory->allocs[i].memory, NULL);
    }
    fm_free(memory->allocs);
    fm_free(memory->name);
    fm_free(memory);
}

void *fm_vk_memory_host(struct fm_vk_memory *memory)
{
    return memory->n_allocs == 1 ? memory->allocs[0].host : NULL;
}

uint64_t fm_vk_memory_bytes(const struct fm_vk_memory *memory)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < memory->n_allocs; i++)
        bytes += memory->allocs[i].bytes;
    return bytes;
}

enum fm_result fm_vk_memory_part(const struct fm_vk_memory *memory, uint64_t offset, uint64_t bytes,
                                 const struct fm_vk_alloc **out_alloc, uint64_t *out_offset, uint64_t *out_bytes)
{
    uint64_t index = memory->alloc_bytes ? offset / memory->alloc_bytes : UINT64_MAX;
    if (index < memory->n_allocs) {
        const struct fm_vk_alloc *alloc = &memory->allocs[index];
        uint64_t at = offset - index * memory->alloc_bytes;
        uint64_t room = memory->alloc_bytes - at;
        uint64_t part = FM_MIN(bytes, room);
        if (at <= alloc->bytes && part <= alloc->bytes - at) {
            *out_alloc = alloc;
            *out_offset = at;
            *out_bytes = part;
            return FM_OK;
        }
    }
    return fm_fail(FM_ARG, "%s pool: no %llu bytes at %llu (%u allocations of %llu bytes, %llu bytes in all)", memory->name,
                   (unsigned long long)bytes, (unsigned long long)offset, memory->n_allocs,
                   (unsigned long long)memory->alloc_bytes, (unsigned long long)fm_vk_memory_bytes(memory));
}

enum fm_result fm_vk_memory_locate(const struct fm_vk_memory *memory, uint64_t offset, uint64_t bytes,
                                   const struct fm_vk_alloc **out_alloc, uint64_t *out_offset)
{
    uint64_t part = 0;
    enum fm_result err = fm_vk_memory_part(memory, offset, bytes, out_alloc, out_offset, &part);
    if (!err && part != bytes)
        err = fm_fail(FM_ARG, "%s pool: the %llu bytes at %llu straddle two allocations", memory->name,
                      (unsigned long long)bytes, (unsigned long long)offset);
    return err;
}
