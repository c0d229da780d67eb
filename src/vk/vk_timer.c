// SPDX-License-Identifier: MIT
// GPU time of a step and of its dispatches, from the timestamps between barrier groups.
#include "vk/vk_internal.h"

#define FLOPS_PER_BYTE 32.0

// Timestamps have fewer than 64 valid bits on some devices, and wrap round.
static uint64_t ticks_to_ns(const struct fm_vk *vk, uint64_t from, uint64_t to)
{
    uint64_t mask = vk->timestamp_bits >= 64 ? UINT64_MAX : (1ull << vk->timestamp_bits) - 1;
    return (uint64_t)((double)((to - from) & mask) * (double)vk->caps.timestamp_ns);
}

double fm_vk_work(uint64_t moved_bytes, double flops)
{
    return (double)moved_bytes + flops / FLOPS_PER_BYTE;
}

void fm_vk_share_time(uint64_t ns, const double *work, size_t count, uint64_t *out_ns)
{
    double all = 0, sum = 0;
    uint64_t given = 0;
    for (size_t i = 0; i < count; i++)
        all += work[i];
    for (size_t i = 0; i < count; i++) { // each up to where the sum so far ends
        sum += all > 0 ? work[i] / all : 1.0 / (double)count;
        uint64_t end = i + 1 == count ? ns : FM_MIN((uint64_t)((double)ns * sum + 0.5), ns);
        out_ns[i] = end - given;
        given = end;
    }
}

static void share_groups(const struct fm_vk_program *program, const uint64_t *ticks, uint64_t *out_ns)
{
    for (size_t first = 0, end = 0; first < program->n_dispatches; first = end) {
        uint32_t group = program->group[first];
        while (end < program->n_dispatches && program->group[end] == group)
            end++;
        fm_vk_share_time(ticks_to_ns(program->vk, ticks[group], ticks[group + 1]), program->work + first, end - first, out_ns + first);
    }
}

enum fm_result fm_vk_program_times(struct fm_vk_program *program, uint32_t ring_entry, uint64_t *out_total_ns,
                                   uint64_t *out_dispatch_ns)
{
    struct fm_vk *vk = program->vk;
    uint32_t count = program->n_queries;
    if (!program->queries || ring_entry >= program->ring || !program->value[ring_entry])
        return fm_fail(FM_ARG, "no times: the program was not created with timestamps, or ring entry %u never ran",
                       ring_entry);
    if (out_dispatch_ns && count != program->n_groups + 1)
        return fm_fail(FM_ARG, "no times of dispatches: the program was created with timestamps at its ends only");
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
            share_groups(program, ticks, out_dispatch_ns);
    }
    fm_free(ticks);
    return err;
}
