// SPDX-License-Identifier: MIT
// Kernel timings on the bench problems, from GPU timestamps of replayed submissions. On GPUs the caches are swept
// before each
// replay: weights that the layers of a model take turns with are never in a cache when a kernel wants them.
#include "check/timing.h"

#define SWEEP_BYTES (256ull << 20)

struct bench {
    struct fm_vk *vk;
    const struct fm_check_params *params;
    bool all_kernels;
    uint32_t repeat;
    struct fm_vk_program *sweep; // NULL on processors
    void (*report)(void *user, const struct fm_kernel_time *time);
    void *user;
};

static enum fm_result time_kernel(struct bench *b, struct fm_case *c, const struct fm_problem *p,
                                  const struct fm_kernel *kernel)
{
    struct fm_case_run run;
    enum fm_result r = fm_case_run_create(b->vk, fm_vk_caps(b->vk), c, kernel, p->rows, true, &run);
    if (r)
        return r;
    uint64_t *ns = fm_alloc_zero(b->repeat, sizeof *ns);
    if (!ns)
        r = fm_nomem();
    if (!r)
        r = fm_case_run_reset(b->vk, c, &run);
    if (!r)
        r = fm_case_run_submit(b->vk, &run);
    if (!r)
        r = fm_timing_run(b->vk, run.program, b->sweep, b->repeat, b->params->cancel, b->params->user, ns);
    if (!r) {
        struct fm_kernel_time time = {.problem = p, .kernel = kernel, .median_ns = ns[b->repeat / 2], .min_ns = ns[0],
                                      .max_ns = ns[b->repeat - 1]};
        for (size_t i = 0; i < run.plan.n_dispatches; i++) {
            time.moved_bytes += run.plan.dispatches[i].moved_bytes;
            time.flops += run.plan.dispatches[i].flops;
        }
        b->report(b->user, &time);
    }
    fm_free(ns);
    fm_case_run_finish(&run);
    return r;
}

static enum fm_result bench_problem(struct bench *b, const struct fm_problem *p)
{
    struct fm_case cases[2] = {0}; // operands in f32, and in f16
    struct fm_problem problem[2] = {*p, *p};
    problem[1].half_x = true;
    enum fm_result r = fm_case_create(&problem[0], &cases[0]);
    if (!r)
        r = fm_case_create(&problem[1], &cases[1]);
    struct fm_caps caps = fm_caps_mask(fm_vk_caps(b->vk), b->params->max_rung);
    struct fm_want want;
    if (!r)
        r = fm_want_from_node(&cases[0].graph, &cases[0].graph.nodes[0], &cases[0].dims, &caps, &want);
    const struct fm_kernel *chosen = r ? NULL : fm_kernel_select(&caps, &want, NULL, NULL);
    for (size_t i = 0; i < fm_kernel_count && !r; i++) {
        const struct fm_kernel *kernel = &fm_kernels[i];
        if (kernel != chosen && (!b->all_kernels || !fm_kernel_fits(&caps, kernel, &want, NULL, NULL)))
            continue;
        if ((b->params->kernel && !strstr(kernel->name, b->params->kernel)) || (p->x_bytes != 0 && kernel->x_bytes != p->x_bytes))
            continue;
        unsigned halves = kernel->x == FM_TYPE_F16;
        if (b->params->cancel && b->params->cancel(b->params->user))
            r = fm_fail(FM_CANCELLED, "cancelled");
        else if (!cases[halves].data)
            r = fm_case_fill(&problem[halves], b->params->seed, &cases[halves]);
        if (!r)
            r = time_kernel(b, &cases[halves], p, kernel);
    }
    fm_case_finish(&cases[0]);
    fm_case_finish(&cases[1]);
    return r;
}

enum fm_result fm_check_bench(struct fm_vk *vk, const struct fm_check_params *params, bool all_kernels, uint32_t repeat,
                              void (*report)(void *user, const struct fm_kernel_time *time), void *user)
{
    struct bench b = {.vk = vk, .params = params, .all_kernels = all_kernels, .repeat = FM_MAX(repeat, 1),
                      .report = report, .user = user};
    struct fm_reader sweep = {0};
    struct fm_problem *problems = NULL;
    size_t count = 0;
    enum fm_result r = fm_problems_list(&problems, &count);
    if (!r && fm_vk_caps(vk)->kind != 4) {
        r = fm_reader_create(vk, SWEEP_BYTES, &sweep);
        b.sweep = sweep.program;
    }
    for (size_t i = 0; i < count && !r; i++) {
        const struct fm_problem *p = &problems[i];
        if (!p->bench || (params->problem && !strstr(p->name, params->problem)) ||
            (params->op && strcmp(params->op, fm_op_info(p->op)->name) != 0))
            continue;
        r = bench_problem(&b, p);
        if (r == FM_NOSPACE || r == FM_UNSUPPORTED) {
            fm_log(FM_LOG_WARN, "%s: %s", p->name, fm_error_message());
            r = FM_OK;
        }
    }
    fm_reader_finish(&sweep);
    fm_free(problems);
    return r;
}
