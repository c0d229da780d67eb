// SPDX-License-Identifier: MIT
// A plan ready to run: pipelines, and one recorded set of command buffers per entry of the step ring.
#include "vk/vk_internal.h"

static enum fm_result create_queries(struct fm_vk_program *program, enum fm_vk_timing timing)
{
    struct fm_vk *vk = program->vk;
    program->n_queries = timing == FM_VK_TIMED_GROUPS ? program->n_groups + 1 : 2;
    if (vk->timestamp_bits == 0)
        return fm_fail(FM_UNSUPPORTED, "%s has no timestamps", vk->caps.name);
    program->queries = fm_alloc_zero(program->ring, sizeof(*program->queries));
    if (!program->queries)
        return fm_nomem();
    for (uint32_t i = 0; i < program->ring; i++) {
        VkQueryPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
                                      .queryType = VK_QUERY_TYPE_TIMESTAMP,
                                      .queryCount = program->n_queries};
        VkResult result = FM_VK_CALL(vk->fn.vkCreateQueryPool(vk->device, &info, NULL, &program->queries[i]));
        if (result) {
            program->queries[i] = VK_NULL_HANDLE;
            return fm_vk_error(vk, result, "vkCreateQueryPool");
        }
    }
    return FM_OK;
}

static enum fm_result create_commands(struct fm_vk_program *program)
{
    struct fm_vk *vk = program->vk;
    uint32_t count = program->ring * program->n_submits;
    VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                    .queueFamilyIndex = vk->queue_family};
    VkResult result = FM_VK_CALL(vk->fn.vkCreateCommandPool(vk->device, &pool, NULL, &program->pool));
    if (result) {
        program->pool = VK_NULL_HANDLE;
        return fm_vk_error(vk, result, "vkCreateCommandPool");
    }
    program->commands = fm_alloc_zero(count, sizeof(*program->commands));
    if (!program->commands)
        return fm_nomem();
    VkCommandBufferAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                        .commandPool = program->pool,
                                        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                        .commandBufferCount = count};
    result = FM_VK_CALL(vk->fn.vkAllocateCommandBuffers(vk->device, &info, program->commands));
    return result ? fm_vk_error(vk, result, "vkAllocateCommandBuffers") : FM_OK;
}

// What is kept of the plan, which need not outlive the program.
static enum fm_result copy_plan(struct fm_vk_program *program, const struct fm_plan *plan)
{
    size_t n = plan->n_dispatches;
    program->n_dispatches = n;
    program->work = fm_alloc_zero(n, sizeof(*program->work));
    program->group = fm_alloc_zero(n, sizeof(*program->group));
    program->submit = fm_alloc_zero(n, sizeof(*program->submit));
    program->value = fm_alloc_zero(program->ring, sizeof(*program->value));
    if (!program->work || !program->group || !program->submit || !program->value)
        return fm_nomem();
    program->n_groups = 1;
    for (size_t i = 0; i < n; i++) {
        program->n_groups += i > 0 && plan->dispatches[i].barrier_before;
        program->group[i] = program->n_groups - 1;
        program->work[i] = fm_vk_work(plan->dispatches[i].moved_bytes, plan->dispatches[i].flops);
    }
    fm_vk_record_cut(program, plan);
    return FM_OK;
}

enum fm_result fm_vk_program_create(struct fm_vk *vk, const struct fm_vk_program_info *info,
                                    struct fm_vk_program **out_program)
{
    const struct fm_plan *plan = info->plan;
    struct fm_vk_program *program = NULL;
    VkPipeline *pipelines = NULL;
    enum fm_result err = fm_vk_lost(vk);
    if (err)
        return err;
    if (plan->n_dispatches == 0 || info->ring == 0)
        return fm_fail(FM_ARG, "program: %zu dispatches and %u ring entries; expected at least one of each",
                       plan->n_dispatches, info->ring);
    program = fm_alloc_zero(1, sizeof(*program));
    pipelines = fm_alloc_zero(plan->n_dispatches, sizeof(VkPipeline));
    if (!program || !pipelines) {
        fm_free(program);
        program = NULL;
        err = fm_nomem();
        goto fail;
    }
    program->vk = vk;
    program->ring = info->ring;
    if ((err = copy_plan(program, plan)) ||
        (err = fm_vk_pipelines_get(vk, plan, info->cancel, info->cancel_user, pipelines)) ||
        (err = create_commands(program)) || (info->timing != FM_VK_UNTIMED && (err = create_queries(program, info->timing))))
        goto fail;
    for (uint32_t i = 0; i < info->ring; i++) {
        if ((err = fm_vk_record(program, info, pipelines, i)))
            goto fail;
    }
    fm_free(pipelines);
    *out_program = program;
    return FM_OK;
fail:
    fm_free(pipelines);
    fm_vk_program_destroy(&program);
    return err;
}

// Waits for what was submitted of it.
void fm_vk_program_destroy(struct fm_vk_program **handle)
{
    struct fm_vk_program *program = *handle;
    if (!program)
        return;
    *handle = NULL;
    struct fm_vk *vk = program->vk;
    for (uint32_t i = 0; program->value && i < program->ring; i++) {
        if (program->value[i])
            fm_vk_settle(vk, program->value[i]);
    }
    for (uint32_t i = 0; program->queries && i < program->ring; i++)
        vk->fn.vkDestroyQueryPool(vk->device, program->queries[i], NULL);
    vk->fn.vkDestroyCommandPool(vk->device, program->pool, NULL);
    fm_free(program->queries);
    fm_free(program->commands);
    fm_free(program->value);
    fm_free(program->submit);
    fm_free(program->group);
    fm_free(program->work);
    fm_free(program);
}

enum fm_result fm_vk_program_submit(struct fm_vk_program *program, uint32_t ring_entry, uint64_t *out_value)
{
    struct fm_vk *vk = program->vk;
    if (ring_entry >= program->ring)
        return fm_fail(FM_ARG, "ring entry %u of %u", ring_entry, program->ring);
    // Command buffers are not recorded for simultaneous use.
    if (program->value[ring_entry] && !fm_vk_reached(vk, program->value[ring_entry])) {
        enum fm_result err = fm_vk_wait(vk, program->value[ring_entry], UINT64_MAX);
        if (err)
            return err;
    }
    enum fm_result err = fm_vk_submit(vk, program->commands + (size_t)ring_entry * program->n_submits,
                                      program->n_submits, "step", &program->value[ring_entry]);
    if (!err)
        *out_value = program->value[ring_entry];
    return err;
}
