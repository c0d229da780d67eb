// SPDX-License-Identifier: MIT
// Single transfers, each submitted and waited for: download, fill, copy inside the device.
#include "vk/vk_internal.h"

// Begin the command buffer of single transfers, after everything in the ring and everything submitted so far.
static enum fm_result begin_single(struct fm_vk *vk)
{
    enum fm_result err = fm_vk_lost(vk);
    if (!err)
        err = fm_vk_stage_flush(vk);
    if (!err)
        err = fm_vk_begin_commands(vk, vk->stage.single, true);
    if (!err)
        fm_vk_barrier(vk, vk->stage.single,
                      VK_PIPELINE_STAGE_2_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_2_ALL_TRANSFER_BIT,
                      VK_ACCESS_2_MEMORY_WRITE_BIT, VK_PIPELINE_STAGE_2_ALL_TRANSFER_BIT,
                      VK_ACCESS_2_TRANSFER_READ_BIT | VK_ACCESS_2_TRANSFER_WRITE_BIT);
    return err;
}

// Submit it and wait. With err != FM_OK (recording failed) it is thrown away instead, and err is returned.
static enum fm_result end_single(struct fm_vk *vk, enum fm_result err, const char *what)
{
    uint64_t value = 0;
    if (err) {
        (void)vk->fn.vkResetCommandBuffer(vk->stage.single, 0);
        return err;
    }
    VkResult result = FM_VK_CALL(vk->fn.vkEndCommandBuffer(vk->stage.single));
    if (result) {
        (void)vk->fn.vkResetCommandBuffer(vk->stage.single, 0);
        return fm_vk_error(vk, result, "%s: vkEndCommandBuffer", what);
    }
    err = fm_vk_submit(vk, &vk->stage.single, 1, what, &value);
    if (!err && (err = fm_vk_wait(vk, value, UINT64_MAX)))
        fm_vk_idle(vk);
    return err;
}

static enum fm_result download_part(struct fm_vk *vk, const struct fm_vk_alloc *alloc, uint64_t at, void *data,
                                    uint64_t bytes)
{
    struct fm_vk_stage *stage = &vk->stage;
    VkBufferCopy region = {.srcOffset = at, .size = bytes};
    enum fm_result err = FM_OK;
    if (!stage->down)
        err = fm_vk_memory_create_single(vk, "readback", FM_VK_READBACK, FM_VK_DOWN_BYTES, &stage->down);
    if (err || (err = begin_single(vk)))
        return err;
    vk->fn.vkCmdCopyBuffer(stage->single, alloc->buffer, stage->down->allocs[0].buffer, 1, &region);
    fm_vk_barrier(vk, stage->single, VK_PIPELINE_STAGE_2_ALL_TRANSFER_BIT, VK_ACCESS_2_TRANSFER_WRITE_BIT,
                  VK_PIPELINE_STAGE_2_HOST_BIT, VK_ACCESS_2_HOST_READ_BIT);
    if ((err = end_single(vk, FM_OK, "download")))
        return err;
    memcpy(data, stage->down->allocs[0].host, bytes);
    return FM_OK;
}

enum fm_result fm_vk_download(struct fm_vk *vk, struct fm_vk_memory *memory, uint64_t offset, void *data,
                              uint64_t bytes)
{
    enum fm_result err = FM_OK;
    uint8_t *to = data;
    pthread_mutex_lock(&vk->stage.lock);
    while (!err && bytes > 0) {
        const struct fm_vk_alloc *alloc = NULL;
        uint64_t at = 0, part = 0;
        err = fm_vk_memory_part(memory, offset, FM_MIN(bytes, FM_VK_DOWN_BYTES), &alloc, &at, &part);
        if (!err)
            err = download_part(vk, alloc, at, to, part);
        to += part;
        offset += part;
        bytes -= part;
    }
    pthread_mutex_unlock(&vk->stage.lock);
    return err;
}

enum fm_result fm_vk_fill(struct fm_vk *vk, struct fm_vk_memory *memory, uint64_t offset, uint64_t bytes, uint32_t word)
{
    if (offset % 4 != 0 || bytes % 4 != 0)
        return fm_fail(FM_ARG, "%s pool: fill of %llu bytes at %llu: both must be multiples of 4", memory->name,
                       (unsigned long long)bytes, (unsigned long long)offset);
    pthread_mutex_lock(&vk->stage.lock);
    enum fm_result err = begin_single(vk);
    if (!err) {
        while (!err && bytes > 0) {
            const struct fm_vk_alloc *alloc = NULL;
            uint64_t at = 0, part = 0;
            err = fm_vk_memory_part(memory, offset, bytes, &alloc, &at, &part);
            if (!err)
                vk->fn.vkCmdFillBuffer(vk->stage.single, alloc->buffer, at, part, word);
            offset += part;
            bytes -= part;
        }
        err = end_single(vk, err, "fill");
    }
    pthread_mutex_unlock(&vk->stage.lock);
    return err;
}

enum fm_result fm_vk_copy(struct fm_vk *vk, struct fm_vk_memory *dst, uint64_t dst_offset, struct fm_vk_memory *src,
                          uint64_t src_offset, uint64_t bytes)
{
    if (dst == src && dst_offset < src_offset + bytes && src_offset < dst_offset + bytes)
        return fm_fail(FM_ARG, "%s pool: copy of %llu bytes from %llu to %llu overlaps itself", dst->name,
                       (unsigned long long)bytes, (unsigned long long)src_offset, (unsigned long long)dst_offset);
    pthread_mutex_lock(&vk->stage.lock);
    enum fm_result err = begin_single(vk);
    if (!err) {
        while (!err && bytes > 0) {
            const struct fm_vk_alloc *from = NULL, *to = NULL;
            VkBufferCopy region = {.size = 0};
            uint64_t part = 0;
            err = fm_vk_memory_part(src, src_offset, bytes, &from, &region.srcOffset, &part);
            if (!err)
                err = fm_vk_memory_part(dst, dst_offset, part, &to, &region.dstOffset, &region.size);
            if (!err)
                vk->fn.vkCmdCopyBuffer(vk->stage.single, from->buffer, to->buffer, 1, &region);
            src_offset += region.size;
            dst_offset += region.size;
            bytes -= region.size;
        }
        err = end_single(vk, err, "copy");
    }
    pthread_mutex_unlock(&vk->stage.lock);
    return err;
}
