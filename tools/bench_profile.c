// SPDX-License-Identifier: MIT
// Where the time of a step goes, as fulmen bench --profile tells it.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "text.h"

// Of the same step in the run without timestamps between groups: the steps come in the same order in both.
static double plain_ns(const struct bench_test *t, const struct fm_profile_step *step)
{
    size_t i = (size_t)(step - t->profile.steps);
    return i < t->plain.count && t->plain.steps[i].tokens == step->tokens ? (double)t->plain.steps[i].ns : NAN;
}

// Of a step by the host's clock, where the test has steps of one kind only; else NaN.
static double wall_ns(const struct bench_test *t)
{
    double seconds = 0;
    for (size_t i = 0; i < t->n_samples; i++)
        seconds += t->seconds[i];
    return t->plain.count == 1 && t->plain.steps[0].steps > 0 ? seconds * 1e9 / (double)t->plain.steps[0].steps : NAN;
}

static double sum_ns(const struct fm_profile_step *step)
{
    double sum = 0;
    for (size_t i = 0; i < step->n_ops; i++)
        sum += (double)step->ops[i].ns;
    return sum;
}

// NaN where there is nothing to divide by, or nothing is known.
static double per_ns(double what, uint64_t ns)
{
    return ns > 0 && what > 0 ? what / (double)ns : NAN;
}

// ---- text ---------------------------------------------------------------------------------------------------------

static void print_rate(double rate, int width, int digits)
{
    if (isfinite(rate))
        printf(" %*.*f", width, digits, rate);
    else
        printf(" %*s", width, "-");
}

static void print_row(const char *name, int name_width, const struct fm_profile_row *row, double all_ns)
{
    printf("    %-*s %10.1f %5.1f %5u %6u", name_width, name, (double)row->ns * 1e-3, all_ns > 0 ? 100 * (double)row->ns / all_ns : 0,
           row->calls, row->groups);
    print_rate(per_ns((double)row->bytes, row->ns), 6, 1);
    print_rate(per_ns(row->flops * 1e-3, row->ns), 7, 3);
    printf("\n");
}

static void print_rows(const char *head, const struct fm_profile_row *rows, size_t n_rows, int name_width, double all_ns)
{
    printf("\n    %-*s         µs     %% calls groups   GB/s TFLOP/s\n", name_width, head);
    for (size_t i = 0; i < n_rows; i++)
        print_row(rows[i].kernel != NULL ? rows[i].kernel : rows[i].op, name_width, &rows[i], all_ns);
}

static void print_step(const struct bench_test *t, const struct fm_profile_step *step)
{
    char name[BENCH_NAME_BYTES];
    int width = 8;
    double wall = wall_ns(t), all = sum_ns(step);
    struct fm_profile_row total = {.ns = (uint64_t)all, .calls = step->calls, .groups = step->groups};
    for (size_t i = 0; i < step->n_kernels; i++) {
        int bytes = (int)strlen(step->kernels[i].kernel);
        width = bytes > width ? bytes : width;
        total.bytes += step->kernels[i].bytes;
        total.flops += step->kernels[i].flops;
    }
    printf("\n%s: a step of %u token%s, mean over the middle half of %llu\n%12.1f µs on the device\n", bench_test_name(t, name),
           step->tokens, step->tokens > 1 ? "s" : "", (unsigned long long)step->steps, plain_ns(t, step) * 1e-3);
    if (isfinite(wall))
        printf("%12.1f µs by the host's clock\n", wall * 1e-3);
    printf("%12.1f µs on the device, timed group by group: the sum of the rows\n", all * 1e-3);
    print_rows("op", step->ops, step->n_ops, width, all);
    print_row("all", width, &total, all);
    print_rows("kernel", step->kernels, step->n_kernels, width, all);
}

void bench_print_profile(const struct bench_test *t)
{
    for (size_t i = 0; i < t->profile.count; i++)
        print_step(t, &t->profile.steps[i]);
    tool_flush();
}

// ---- JSON and CSV -------------------------------------------------------------------------------------------------

static void add_row(const struct fm_profile_row *row, double all_ns, struct bench_fields *f)
{
    bench_add_text(f, "op", row->op);
    if (row->kernel != NULL)
        bench_add_text(f, "kernel", row->kernel);
    else
        bench_add_number(f, "kernel", NAN);
    bench_add_number(f, "ns", (double)row->ns);
    bench_add_number(f, "share", all_ns > 0 ? (double)row->ns / all_ns : 0);
    bench_add_number(f, "calls", row->calls);
    bench_add_number(f, "groups", row->groups);
    bench_add_number(f, "moved_bytes", (double)row->bytes);
    bench_add_number(f, "flops", row->flops);
    bench_add_number(f, "gb_per_s", per_ns((double)row->bytes, row->ns));
    bench_add_number(f, "tflop_per_s", per_ns(row->flops * 1e-3, row->ns));
}

static void add_step(const struct bench_test *t, const struct fm_profile_step *step, struct bench_fields *f)
{
    bench_add_number(f, "step_tokens", step->tokens);
    bench_add_number(f, "steps", (double)step->steps);
    bench_add_number(f, "wall_ns", wall_ns(t));
    bench_add_number(f, "device_ns", plain_ns(t, step));
    bench_add_number(f, "profiled_ns", (double)step->ns);
    bench_add_number(f, "sum_ns", sum_ns(step));
    bench_add_number(f, "step_calls", step->calls);
    bench_add_number(f, "step_groups", step->groups);
}

static cJSON *json_object(const struct bench_fields *f)
{
    cJSON *o = cJSON_CreateObject();
    for (size_t i = 0; i < f->count; i++) {
        if (f->list[i].text != NULL)
            tool_json_add(o, f->list[i].key, f->list[i].text);
        else
            cJSON_AddNumberToObject(o, f->list[i].key, f->list[i].number);
    }
    return o;
}

static cJSON *json_rows(const struct fm_profile_row *rows, size_t n_rows, double all_ns)
{
    cJSON *list = cJSON_CreateArray();
    for (size_t i = 0; i < n_rows; i++) {
        struct bench_fields f = {0};
        add_row(&rows[i], all_ns, &f);
        cJSON_AddItemToArray(list, json_object(&f));
    }
    return list;
}

cJSON *bench_profile_json(const struct bench_test *t)
{
    cJSON *list = cJSON_CreateArray();
    for (size_t i = 0; i < t->profile.count; i++) {
        const struct fm_profile_step *step = &t->profile.steps[i];
        struct bench_fields f = {0};
        add_step(t, step, &f);
        cJSON *o = json_object(&f);
        cJSON_AddItemToObject(o, "ops", json_rows(step->ops, step->n_ops, sum_ns(step)));
        cJSON_AddItemToObject(o, "kernels", json_rows(step->kernels, step->n_kernels, sum_ns(step)));
        cJSON_AddItemToArray(list, o);
    }
    return list;
}

size_t bench_profile_rows(const struct bench_test *t)
{
    size_t count = 0;
    for (size_t i = 0; i < t->profile.count; i++)
        count += t->profile.steps[i].n_ops + t->profile.steps[i].n_kernels;
    return count;
}

void bench_profile_fields(const struct bench_test *t, size_t row, struct bench_fields *f)
{
    const struct fm_profile_step *step = t->profile.steps;
    for (; row >= step->n_ops + step->n_kernels; step++)
        row -= step->n_ops + step->n_kernels;
    add_step(t, step, f);
    add_row(row < step->n_ops ? &step->ops[row] : &step->kernels[row - step->n_ops], sum_ns(step), f);
}
