// SPDX-License-Identifier: MIT
// Kernel timings on the bench problems, from GPU timestamps of replayed submissions.
#include "check/check.h"

#include "base/os.h"

#include <stdlib.h>

#define WARM_UP_NS 150000000ull

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static enum fm_result time_kernel(struct fm_vk *vk, struct fm_case *c, const struct fm_problem *p, const struct fm_kernel *kernel,
                                  uint32_t repeat, struct fm_kernel_time *out_time)
{
    struct fm_case_run run;
    enum fm_result r = fm_case_run_create(vk, fm_vk_caps(vk), c, kernel, p->rows, true, &run);
    if (r)
        return r;
    uint64_t *samples = fm_alloc_zero(repeat, sizeof *samples);
    if (!samples)
        r = fm_nomem();
    if (!r)
        r = fm_case_run_once(vk, c, &run);
    // Until the clocks are up: a device that idled while the case was made runs the first replays several times slower.
    for (uint64_t end = fm_clock_ns() + WARM_UP_NS; !r && fm_clock_ns() < end;) {
        uint64_t done = 0;
        r = fm_vk_program_submit(run.program, 0, &done);
        if (!r)
            r = fm_vk_wait(vk, done, UINT64_MAX);
    }
    for (uint32_t i = 0; i < repeat && !r; i++) {
        uint64_t done = 0;
        r = fm_vk_program_submit(run.program, 0, &done);
        if (!r)
            r = fm_vk_wait(vk, done, UINT64_MAX);
        if (!r)
            r = fm_vk_program_times(run.program, 0, &samples[i], NULL);
    }
    if (!r) {
        qsort(samples, repeat, sizeof *samples, by_value);
        *out_time = (struct fm_kernel_time){.problem = p, .kernel = kernel, .median_ns = samples[repeat / 2], .min_ns = samples[0],
                                            .max_ns = samples[repeat - 1]};
        for (size_t i = 0; i < run.plan.n_dispatches; i++) {
            out_time->moved_bytes += run.plan.dispatches[i].moved_bytes;
            out_time->flops += run.plan.dispatches[i].flops;
        }
    }
    fm_free(samples);
    fm_case_run_finish(&run);
    return r;
}

static enum fm_result bench_problem(struct fm_vk *vk, const struct fm_check_params *params, const struct fm_problem *p, bool all,
                                    uint32_t repeat, void (*report)(void *user, const struct fm_kernel_time *time), void *user)
{
    struct fm_case c;
    enum fm_result r = fm_case_create(p, params->seed, &c);
    if (r)
        return r;
    struct fm_caps caps = fm_caps_mask(fm_vk_caps(vk), params->max_rung);
    struct fm_want want;
    r = fm_want_from_node(&c.graph, &c.graph.nodes[0], &c.dims, &caps, &want);
    const struct fm_kernel *chosen = r ? NULL : fm_kernel_select(&caps, &want, NULL, NULL);
    for (size_t i = 0; i < fm_kernel_count && !r; i++) {
        const struct fm_kernel *kernel = &fm_kernels[i];
        if (kernel != chosen && (!all || !fm_kernel_fits(&caps, kernel, &want, NULL, NULL)))
            continue;
        if (params->kernel && !strstr(kernel->name, params->kernel))
            continue;
        struct fm_kernel_time time;
        r = time_kernel(vk, &c, p, kernel, repeat, &time);
        if (!r)
            report(user, &time);
    }
    fm_case_finish(&c);
    return r;
}

enum fm_result fm_check_bench(struct fm_vk *vk, const struct fm_check_params *params, bool all_kernels, uint32_t repeat,
                              void (*report)(void *user, const struct fm_kernel_time *time), void *user)
{
    struct fm_problem *problems;
    size_t count;
    enum fm_result r = fm_problems_list(&problems, &count);
    if (r)
        return r;
    for (size_t i = 0; i < count && !r; i++) {
        const struct fm_problem *p = &problems[i];
        if (!p->bench || (params->problem && !strstr(p->name, params->problem)) ||
            (params->op && strcmp(params->op, fm_op_info(p->op)->name) != 0))
            continue;
        if (params->cancel && params->cancel(params->user))
            r = fm_fail(FM_CANCELLED, "cancelled");
        else
            r = bench_problem(vk, params, p, all_kernels, FM_MAX(repeat, 1), report, user);
        if (r == FM_NOSPACE || r == FM_UNSUPPORTED) {
            fm_log(FM_LOG_WARN, "%s: %s", p->name, fm_error_message());
            r = FM_OK;
        }
    }
    fm_free(problems);
    return r;
}
