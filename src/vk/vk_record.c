// SPDX-License-Identifier: MIT
// A plan as command buffers: recorded once, replayed for every step.
#include "vk/vk_internal.h"

#define SUBMIT_SECONDS 0.5

// Pessimistic rates by kind of device, for cutting long command buffers only. 0: never cut, one submit a step.
static void slow_rates(const struct fm_caps *caps, double *out_bytes_per_s, double *out_flops)
{
    *out_bytes_per_s = *out_flops = 0.0;
    if (caps->kind == 4) { // a processor
        *out_bytes_per_s = 2e9;
        *out_flops = 4e9;
    } else if (caps->kind != 2) {
        *out_bytes_per_s = 10e9;
        *out_flops = 100e9;
    }
}

void fm_vk_record_cut(struct fm_vk_program *program, const struct fm_plan *plan)
{
    double bytes_per_s, flops, seconds = 0.0;
    uint32_t submit = 0;
    slow_rates(&program->vk->caps, &bytes_per_s, &flops);
    for (size_t i = 0; i < plan->n_dispatches; i++) {
        const struct fm_dispatch *d = &plan->dispatches[i];
        if (bytes_per_s > 0.0) {
            double own = FM_MAX((double)d->moved_bytes / bytes_per_s, d->flops / flops);
            if (seconds > 0.0 && seconds + own > SUBMIT_SECONDS) {
                submit++;
                seconds = 0.0;
            }
            seconds += own;
        }
        program->submit[i] = submit;
    }
    program->n_submits = submit + 1;
}

// The push constants of a dispatch for one ring entry: addresses, then words. *out_bytes: how many.
static enum fm_result resolve(const struct fm_vk_program_info *info, const struct fm_dispatch *d, uint32_t entry,
                              uint8_t *out_push, uint32_t *out_bytes)
{
    uint32_t bytes = d->n_bind * 8 + d->n_words * 4;
    if (d->n_bind > FM_MAX_BIND || d->n_words > FM_MAX_WORDS || bytes > FM_VK_PUSH_BYTES)
        return fm_fail(FM_ARG, "%s: %u bytes of push constants, %u at most", d->name, bytes, FM_VK_PUSH_BYTES);
    for (uint32_t b = 0; b < d->n_bind; b++) {
        const struct fm_binding *binding = &d->bind[b];
        VkDeviceAddress address = 0;
        if (binding->pool < FM_POOL_COUNT) {
            const struct fm_vk_alloc *alloc = NULL;
            uint64_t at = 0, offset = binding->offset;
            if (!info->memory[binding->pool])
                return fm_fail(FM_ARG, "%s: binding %u lies in the %s pool, which there is not", d->name, b,
                               fm_pool_name(binding->pool));
            if (binding->pool == FM_POOL_STEP)
                offset += entry * info->step_stride;
            if (binding->pool == FM_POOL_RESULT)
                offset += entry * info->result_stride;
            enum fm_result err = fm_vk_memory_locate(info->memory[binding->pool], offset, binding->bytes, &alloc, &at);
            if (err)
                return fm_fail_prefix(err, "%s, binding %u", d->name, b);
            address = alloc->address + at;
        }
        memcpy(out_push + b * 8, &address, 8);
    }
    memcpy(out_push + d->n_bind * 8, d->word, d->n_words * 4);
    *out_bytes = bytes;
    return FM_OK;
}

static void timestamp(struct fm_vk_program *program, VkCommandBuffer commands, uint32_t entry, uint32_t query)
{
    if (program->queries)
        program->vk->fn.vkCmdWriteTimestamp2(commands, VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT, program->queries[entry],
                                             query);
}

// After the step before and after uploads; before the first dispatch.
static void record_start(struct fm_vk_program *program, VkCommandBuffer commands, uint32_t entry)
{
    struct fm_vk *vk = program->vk;
    if (program->queries)
        vk->fn.vkCmdResetQueryPool(commands, program->queries[entry], 0, program->n_queries);
    fm_vk_barrier(vk, commands, VK_PIPELINE_STAGE_2_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_2_ALL_TRANSFER_BIT,
                  VK_ACCESS_2_SHADER_WRITE_BIT | VK_ACCESS_2_TRANSFER_WRITE_BIT,
                  VK_PIPELINE_STAGE_2_COMPUTE_SHADER_BIT, VK_ACCESS_2_SHADER_READ_BIT | VK_ACCESS_2_SHADER_WRITE_BIT);
    timestamp(program, commands, entry, 0);
}

static enum fm_result record_dispatch(struct fm_vk_program *program, const struct fm_vk_program_info *info,
                                      const struct fm_dispatch *d, VkPipeline pipeline, bool bind,
                                      VkCommandBuffer commands, uint32_t entry)
{
    struct fm_vk *vk = program->vk;
    uint8_t push[FM_VK_PUSH_BYTES];
    uint32_t push_bytes = 0;
    enum fm_result err = resolve(info, d, entry, push, &push_bytes);
    if (err)
        return err;
    for (int i = 0; i < 3; i++) {
        if (d->grid[i] == 0 || d->grid[i] > vk->caps.max_workgroups[i])
            return fm_fail(FM_ARG, "%s: grid[%d] = %u, expected 1 to %u", d->name, i, d->grid[i],
                           vk->caps.max_workgroups[i]);
    }
    if (vk->instance->debug_utils) {
        VkDebugUtilsLabelEXT label = {.sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_LABEL_EXT, .pLabelName = d->name};
        vkCmdBeginDebugUtilsLabelEXT(commands, &label);
    }
    if (bind)
        vk->fn.vkCmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline);
    if (push_bytes > 0)
        vk->fn.vkCmdPushConstants(commands, vk->pipelines.layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, push_bytes, push);
    vk->fn.vkCmdDispatch(commands, d->grid[0], d->grid[1], d->grid[2]);
    if (vk->instance->debug_utils)
        vkCmdEndDebugUtilsLabelEXT(commands);
    return FM_OK;
}

static enum fm_result end_commands(struct fm_vk *vk, VkCommandBuffer commands)
{
    VkResult result = FM_VK_CALL(vk->fn.vkEndCommandBuffer(commands));
    return result ? fm_vk_error(vk, result, "program: vkEndCommandBuffer") : FM_OK;
}

enum fm_result fm_vk_record(struct fm_vk_program *program, const struct fm_vk_program_info *info,
                            const VkPipeline *pipelines, uint32_t entry)
{
    struct fm_vk *vk = program->vk;
    const struct fm_plan *plan = info->plan;
    VkCommandBuffer *buffers = program->commands + (size_t)entry * program->n_submits;
    uint32_t submit = 0;
    enum fm_result err = fm_vk_begin_commands(vk, buffers[0], false);
    if (err)
        return err;
    record_start(program, buffers[0], entry);
    for (size_t i = 0; i < plan->n_dispatches; i++) {
        const struct fm_dispatch *d = &plan->dispatches[i];
        bool bind = i == 0 || pipelines[i] != pipelines[i - 1];
        if (program->submit[i] != submit) {
            if ((err = end_commands(vk, buffers[submit])))
                return err;
            if ((err = fm_vk_begin_commands(vk, buffers[++submit], false)))
                return err;
            bind = true;
        }
        if (d->barrier_before && i > 0) {
            if (info->timing == FM_VK_TIMED_GROUPS)
                timestamp(program, buffers[submit], entry, program->group[i]);
            fm_vk_barrier(vk, buffers[submit], VK_PIPELINE_STAGE_2_COMPUTE_SHADER_BIT, VK_ACCESS_2_SHADER_WRITE_BIT,
                          VK_PIPELINE_STAGE_2_COMPUTE_SHADER_BIT,
                          VK_ACCESS_2_SHADER_READ_BIT | VK_ACCESS_2_SHADER_WRITE_BIT);
        }
        if ((err = record_dispatch(program, info, d, pipelines[i], bind, buffers[submit], entry)))
            return err;
    }
    timestamp(program, buffers[submit], entry, program->n_queries - 1);
    // Results for the host, states for transfers.
    fm_vk_barrier(vk, buffers[submit], VK_PIPELINE_STAGE_2_COMPUTE_SHADER_BIT, VK_ACCESS_2_SHADER_WRITE_BIT,
                  VK_PIPELINE_STAGE_2_HOST_BIT, VK_ACCESS_2_HOST_READ_BIT);
    return end_commands(vk, buffers[submit]);
}
