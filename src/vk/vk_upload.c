// SPDX-License-Identifier: MIT
// The staging ring: a few host buffers, filled one after the other and copied to the device while the next is filled.
#include "vk/vk_internal.h"

#define SLOT_ALIGN 64u

enum fm_result fm_vk_stage_init(struct fm_vk *vk)
{
    struct fm_vk_stage *stage = &vk->stage;
    VkCommandBuffer commands[FM_VK_STAGE_SLOTS + 1];
    stage->epoch = 1;
    VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                    .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
                                    .queueFamilyIndex = vk->queue_family};
    VkResult result = FM_VK_CALL(vk->fn.vkCreateCommandPool(vk->device, &pool, NULL, &stage->pool));
    if (result) {
        stage->pool = VK_NULL_HANDLE;
        return fm_vk_error(vk, result, "vkCreateCommandPool");
    }
    VkCommandBufferAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                        .commandPool = stage->pool,
                                        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                        .commandBufferCount = FM_COUNT(commands)};
    result = FM_VK_CALL(vk->fn.vkAllocateCommandBuffers(vk->device, &info, commands));
    if (result)
        return fm_vk_error(vk, result, "vkAllocateCommandBuffers");
    for (uint32_t i = 0; i < FM_VK_STAGE_SLOTS; i++) {
        stage->slot[i].commands = commands[i];
        fm_vk_name_object(vk, VK_OBJECT_TYPE_COMMAND_BUFFER, (uint64_t)(uintptr_t)commands[i], "upload");
    }
    stage->single = commands[FM_VK_STAGE_SLOTS];
    fm_vk_name_object(vk, VK_OBJECT_TYPE_COMMAND_BUFFER, (uint64_t)(uintptr_t)stage->single, "transfer");
    return FM_OK;
}

void fm_vk_stage_finish(struct fm_vk *vk)
{
    for (uint32_t i = 0; i < FM_VK_STAGE_SLOTS; i++)
        fm_vk_memory_destroy(&vk->stage.slot[i].memory);
    fm_vk_memory_destroy(&vk->stage.down);
    vk->fn.vkDestroyCommandPool(vk->device, vk->stage.pool, NULL);
}

// After a failure: nothing recorded may be submitted later, and nothing submitted may still run.
static void empty_ring(struct fm_vk *vk)
{
    struct fm_vk_stage *stage = &vk->stage;
    fm_vk_idle(vk);
    for (uint32_t i = 0; i < FM_VK_STAGE_SLOTS; i++) {
        struct fm_vk_stage_slot *slot = &stage->slot[i];
        if (slot->recording)
            (void)vk->fn.vkResetCommandBuffer(slot->commands, 0);
        slot->recording = false;
        slot->used_bytes = 0;
        slot->value = 0;
    }
    stage->last = NULL;
    stage->reserved_bytes = 0;
    stage->epoch++;
}

// Make the current slot ready to be recorded to, waiting for its last submit.
static enum fm_result open_slot(struct fm_vk *vk, struct fm_vk_stage_slot *slot)
{
    enum fm_result err = FM_OK;
    if (slot->recording)
        return FM_OK;
    if (!slot->memory)
        err = fm_vk_memory_create_single(vk, "staging", FM_VK_UPLOAD, FM_VK_STAGE_SLOT_BYTES, &slot->memory);
    if (!err && slot->value)
        err = fm_vk_wait(vk, slot->value, UINT64_MAX);
    if (!err)
        err = fm_vk_begin_commands(vk, slot->commands, true);
    if (err)
        return err;
    slot->value = 0;
    slot->used_bytes = 0;
    slot->recording = true;
    vk->stage.last = NULL;
    // What ran before may read or write what the copies overwrite.
    fm_vk_barrier(vk, slot->commands, VK_PIPELINE_STAGE_2_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_2_ALL_TRANSFER_BIT,
                  VK_ACCESS_2_MEMORY_WRITE_BIT, VK_PIPELINE_STAGE_2_ALL_TRANSFER_BIT,
                  VK_ACCESS_2_TRANSFER_READ_BIT | VK_ACCESS_2_TRANSFER_WRITE_BIT);
    return FM_OK;
}

enum fm_result fm_vk_stage_flush(struct fm_vk *vk)
{
    struct fm_vk_stage *stage = &vk->stage;
    struct fm_vk_stage_slot *slot = &stage->slot[stage->current];
    enum fm_result err = FM_OK;
    if (!slot->recording)
        return FM_OK;
    VkResult result = FM_VK_CALL(vk->fn.vkEndCommandBuffer(slot->commands));
    if (result)
        err = fm_vk_error(vk, result, "upload: vkEndCommandBuffer");
    else
        err = fm_vk_submit(vk, &slot->commands, 1, "upload", &slot->value);
    if (err) {
        empty_ring(vk);
        return err;
    }
    slot->recording = false;
    stage->current = (stage->current + 1) % FM_VK_STAGE_SLOTS;
    return FM_OK;
}

enum fm_result fm_vk_stage_drain(struct fm_vk *vk)
{
    struct fm_vk_stage *stage = &vk->stage;
    uint64_t last = 0;
    enum fm_result err = fm_vk_stage_flush(vk);
    if (err)
        return err;
    for (uint32_t i = 0; i < FM_VK_STAGE_SLOTS; i++)
        last = FM_MAX(last, stage->slot[i].value);
    if (last > 0 && (err = fm_vk_wait(vk, last, UINT64_MAX))) {
        empty_ring(vk);
        return err;
    }
    for (uint32_t i = 0; i < FM_VK_STAGE_SLOTS; i++)
        stage->slot[i].value = 0;
    stage->epoch++;
    return FM_OK;
}

static enum fm_result reserve(struct fm_vk *vk, uint64_t *inout_bytes, void **out_ptr)
{
    struct fm_vk_stage *stage = &vk->stage;
    struct fm_vk_stage_slot *slot = &stage->slot[stage->current];
    enum fm_result err = fm_vk_lost(vk);
    if (err)
        return err;
    if (*inout_bytes == 0)
        return fm_fail(FM_ARG, "staging: 0 bytes asked for");
    // What is asked for, or at least half a slot, in one piece.
    if (slot->recording &&
        FM_VK_STAGE_SLOT_BYTES - slot->used_bytes < FM_MIN(*inout_bytes, FM_VK_STAGE_SLOT_BYTES / 2)) {
        if ((err = fm_vk_stage_flush(vk)))
            return err;
        slot = &stage->slot[stage->current];
    }
    if ((err = open_slot(vk, slot)))
        return err;
    *inout_bytes = FM_MIN(*inout_bytes, FM_VK_STAGE_SLOT_BYTES - slot->used_bytes);
    stage->reserved_bytes = *inout_bytes;
    *out_ptr = (uint8_t *)slot->memory->allocs[0].host + slot->used_bytes;
    return FM_OK;
}

enum fm_result fm_vk_stage_reserve(struct fm_vk *vk, uint64_t *inout_bytes, void **out_ptr)
{
    pthread_mutex_lock(&vk->stage.lock);
    enum fm_result err = reserve(vk, inout_bytes, out_ptr);
    if (err) // else the lock is kept until the commit
        pthread_mutex_unlock(&vk->stage.lock);
    return err;
}

static enum fm_result commit(struct fm_vk *vk, struct fm_vk_memory *memory, uint64_t offset, uint64_t bytes)
{
    struct fm_vk_stage *stage = &vk->stage;
    struct fm_vk_stage_slot *slot = &stage->slot[stage->current];
    uint64_t from = slot->used_bytes, end = offset + bytes;
    if (bytes > stage->reserved_bytes)
        return fm_fail(FM_ARG, "staging: %llu bytes committed, %llu reserved", (unsigned long long)bytes,
                       (unsigned long long)stage->reserved_bytes);
    stage->reserved_bytes = 0;
    if (stage->last && !(stage->last == memory && offset >= stage->last_end))
        fm_vk_barrier(vk, slot->commands, VK_PIPELINE_STAGE_2_ALL_TRANSFER_BIT, VK_ACCESS_2_TRANSFER_WRITE_BIT,
                      VK_PIPELINE_STAGE_2_ALL_TRANSFER_BIT, VK_ACCESS_2_TRANSFER_WRITE_BIT);
    while (offset < end) {
        const struct fm_vk_alloc *alloc = NULL;
        uint64_t at = 0, part = 0;
        enum fm_result err = fm_vk_memory_part(memory, offset, end - offset, &alloc, &at, &part);
        if (err)
            return err;
        VkBufferCopy region = {.srcOffset = from, .dstOffset = at, .size = part};
        vk->fn.vkCmdCopyBuffer(slot->commands, slot->memory->allocs[0].buffer, alloc->buffer, 1, &region);
        memory->ring_epoch = stage->epoch;
        stage->last = memory;
        stage->last_end = offset + part;
        from += part;
        offset += part;
        slot->used_bytes = FM_MIN((from + SLOT_ALIGN - 1) & ~(uint64_t)(SLOT_ALIGN - 1), FM_VK_STAGE_SLOT_BYTES);
    }
    return slot->used_bytes >= FM_VK_STAGE_SLOT_BYTES ? fm_vk_stage_flush(vk) : FM_OK;
}

enum fm_result fm_vk_stage_commit(struct fm_vk *vk, struct fm_vk_memory *memory, uint64_t offset, uint64_t bytes)
{
    enum fm_result err = commit(vk, memory, offset, bytes); // under the lock of the reservation
    vk->stage.reserved_bytes = 0;
    pthread_mutex_unlock(&vk->stage.lock);
    return err;
}

enum fm_result fm_vk_upload(struct fm_vk *vk, struct fm_vk_memory *memory, uint64_t offset, const void *data,
                            uint64_t bytes)
{
    const uint8_t *from = data;
    enum fm_result err = FM_OK;
    pthread_mutex_lock(&vk->stage.lock);
    while (!err && bytes > 0) {
        uint64_t part = bytes;
        void *room = NULL;
        err = reserve(vk, &part, &room);
        if (err)
            break;
        memcpy(room, from, part);
        err = commit(vk, memory, offset, part);
        from += part;
        offset += part;
        bytes -= part;
    }
    pthread_mutex_unlock(&vk->stage.lock);
    return err;
}

enum fm_result fm_vk_upload_finish(struct fm_vk *vk)
{
    pthread_mutex_lock(&vk->stage.lock);
    enum fm_result err = fm_vk_lost(vk);
    if (!err)
        err = fm_vk_stage_drain(vk);
    pthread_mutex_unlock(&vk->stage.lock);
    return err;
}
