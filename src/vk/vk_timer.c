// SPDX-License-Identifier: MIT
// GPU time of a step and of its dispatches, from the timestamps between barrier groups.
#include "vk/vk_internal.h"

// Timestamps have fewer than 64 valid bits on some devices, and wrap round.
static uint64_t ticks_to_ns(const struct fm_vk *vk, uint64_t from, uint64_t to)
{
    uint64_t mask = vk->timestamp_bits >= 64 ? UINT64_MAX : (1ull << vk->timestamp_bits) - 1;
    return (uint64_t)((double)((to - from) & mask) * (double)vk->caps.timestamp_ns);
}

// Share the time of every group among its dispatches by the bytes that they move; evenly when they move none.
static void share_out(const struct fm_vk_program *program, const uint64_t *ticks, uint64_t *out_ns)
{
    size_t first = 0;
    while (first < program->n_dispatches) {
        uint32_t group = program->group[first];
        uint64_t bytes = 0, ns = ticks_to_ns(program->vk, ticks[group], ticks[group + 1]);
        size_t end = first;
        for (; end < program->n_dispatches && program->group[end] == group; end++)
            bytes += program->moved_bytes[end];
        for (size_t i = first; i < end; i++) {
            double share = bytes ? (double)program->moved_bytes[i] / (double)bytes : 1.0 / (double)(end - first);
            out_ns[i] = (uint64_t)((double)ns * share + 0.5);
        }
        first = end;
    }
}

enum fm_result fm_vk_program_times(struct fm_vk_program *program, uint32_t ring_entry, uint64_t *out_total_ns,
                                   uint64_t *out_dispatch_ns)
{
    struct fm_vk *vk = program->vk;
    uint32_t count = program->n_groups + 1;
    if (!program->queries || ring_entry >= program->ring || !program->value[ring_entry])
        return fm_fail(FM_ARG, "no times: the program was not created with timestamps, or ring entry %u never ran",
                       ring_entry);
    enum fm_result err = fm_vk_lost(vk);
    if (err)
        return err;
    uint64_t *ticks = fm_alloc_zero(count, sizeof(*ticks));
    if (!ticks)
        return fm_nomem();
    VkResult result = FM_VK_CALL(vk->fn.vkGetQueryPoolResults(vk->device, program->queries[ring_entry], 0, count,
                                                              count * sizeof(*ticks), ticks, sizeof(*ticks),
                                                              VK_QUERY_RESULT_64_BIT));
    if (result == VK_NOT_READY)
        err = fm_fail(FM_BUSY, "no times yet: the step of ring entry %u is not done", ring_entry);
    else if (result)
        err = fm_vk_error(vk, result, "vkGetQueryPoolResults");
    if (!err) {
        *out_total_ns = ticks_to_ns(vk, ticks[0], ticks[count - 1]);
        if (out_dispatch_ns)
            share_out(program, ticks, out_dispatch_ns);
    }
    fm_free(ticks);
    return err;
}
