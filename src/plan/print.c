// SPDX-License-Identifier: MIT
// EXPLAIN.
#include "plan/plan.h"

#include <stdio.h>

struct text {
    char *data;
    size_t count, cap;
    enum fm_result error;
};

FM_PRINTF(2, 3) static void put(struct text *t, const char *fmt, ...)
{
    char line[512];
    va_list args;
    va_start(args, fmt);
    int length = vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    if (length < 0 || t->error != FM_OK)
        return;
    size_t add = FM_MIN((size_t)length, sizeof(line) - 1);
    void *data = t->data;
    t->error = fm_array_reserve(&data, &t->cap, t->count + add + 1, 1);
    t->data = data;
    if (t->error != FM_OK)
        return;
    memcpy(t->data + t->count, line, add + 1);
    t->count += add;
}

// "1.50 MB"; powers of 1000, as bandwidths are told.
static const char *bytes_text(uint64_t bytes, char out[24])
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1000 && unit + 1 < FM_COUNT(units)) {
        value /= 1000;
        unit++;
    }
    snprintf(out, 24, unit == 0 ? "%.0f %s" : "%.2f %s", value, units[unit]);
    return out;
}

static const char *spec_text(const struct fm_dispatch *d, char *out, size_t out_bytes)
{
    size_t used = 0;
    out[0] = '\0';
    for (uint32_t i = 0; i < d->n_spec && used + 1 < out_bytes; i++) {
        int n = snprintf(out + used, out_bytes - used, "%s%u:%u", i ? " " : "", d->spec[i].id, d->spec[i].value);
        used += n > 0 ? (size_t)n : 0;
    }
    return out;
}

// Pools that bindings of the plan reach, with what they reach there.
static void print_pools(struct text *t, const struct fm_plan *plan)
{
    uint64_t reach[FM_POOL_COUNT] = {[FM_POOL_ARENA] = plan->arena_bytes, [FM_POOL_STEP] = plan->step.bytes,
                                     [FM_POOL_RESULT] = plan->result_bytes, [FM_POOL_COUNTER] = FM_COUNTER_BYTES};
    for (size_t v = 0; v < plan->n_values; v++) {
        const struct fm_place *p = &plan->place[v];
        if (p->pool == FM_POOL_WEIGHTS || p->pool == FM_POOL_STATE)
            reach[p->pool] = FM_MAX(reach[p->pool], p->offset + p->bytes);
    }
    for (unsigned i = 0; i < FM_POOL_COUNT; i++) {
        char text[24];
        put(t, "pool %-8s %20llu bytes  %s\n", fm_pool_name((enum fm_pool)i), (unsigned long long)reach[i],
            bytes_text(reach[i], text));
    }
}

enum fm_result fm_plan_print(const struct fm_graph *graph, const struct fm_plan *plan, char **out_text)
{
    struct text t = {0};
    uint64_t moved = 0;
    double flops = 0;
    int name_width = 4, op_width = 13, kernel_width = 6;
    for (size_t i = 0; i < plan->n_dispatches; i++) {
        name_width = FM_MAX(name_width, (int)FM_MIN(strlen(plan->dispatches[i].name), 48));
        op_width = FM_MAX(op_width, (int)strlen(fm_op_info(plan->dispatches[i].kernel->op)->name));
        kernel_width = FM_MAX(kernel_width, (int)FM_MIN(strlen(plan->dispatches[i].kernel->name), 48));
    }
    put(&t, "plan for %u tokens, at most %u of one sequence, %u outputs, %u slots, context %u; %zu nodes\n", plan->dims.t,
        fm_dims_run(&plan->dims), plan->dims.o, plan->dims.s, plan->dims.l, graph->n_nodes);
    print_pools(&t, plan);
    put(&t, "\n%5s   %-*s  %-*s  %-*s  %-17s  %10s  %10s  spec\n", "#", name_width, "node", op_width, "op", kernel_width, "kernel", "grid",
        "moves", "flops");
    for (size_t i = 0; i < plan->n_dispatches; i++) {
        const struct fm_dispatch *d = &plan->dispatches[i];
        char grid[40], bytes[24], work[24], spec[160];
        snprintf(grid, sizeof(grid), "%u x %u x %u", d->grid[0], d->grid[1], d->grid[2]);
        snprintf(work, sizeof(work), d->flops > 0 ? "%.3g" : "-", d->flops);
        put(&t, "%5zu %c %-*s  %-*s  %-*s  %-17s  %10s  %10s  %s\n", i, d->barrier_before ? '|' : ' ', name_width, d->name, op_width,
            fm_op_info(d->kernel->op)->name, kernel_width, d->kernel->name, grid, bytes_text(d->moved_bytes, bytes), work,
            spec_text(d, spec, sizeof(spec)));
        moved += d->moved_bytes;
        flops += d->flops;
    }
    char total[24], token[24];
    put(&t, "\n%zu dispatches in %u barrier groups ('|' = barrier before); moves %s, %s per token; %.3g flops; hash %016llx\n",
        plan->n_dispatches, plan->n_groups, bytes_text(moved, total), bytes_text(moved / plan->dims.t, token), flops,
        (unsigned long long)plan->hash);
    if (t.error != FM_OK) {
        fm_free(t.data);
        return t.error;
    }
    *out_text = t.data;
    return FM_OK;
}
