// SPDX-License-Identifier: MIT
// fulmen bench kernels: what each kernel makes of this device.
#include <cjson/cJSON.h>
#include <string.h>
#include <unistd.h>

#include "check/check.h"
#include "text.h"
#include "tool.h"

static const enum tool_option option_list[] = {
    OPT_CHECK_OP, OPT_CHECK_KERNEL, OPT_CHECK_PROBLEM, OPT_ALL_KERNELS, OPT_KERNEL_R,
    OPT_BENCH_O,  OPT_DEVICE,       OPT_RUNG,          OPT_VERBOSE,
};

struct state {
    const char *format;
    double read_gbps; // of the device
    cJSON *rows;      // json only
    uint32_t count;
};

static double gbps(const struct fm_kernel_time *t)
{
    return t->median_ns > 0 ? (double)t->moved_bytes / (double)t->median_ns : 0;
}

static double tflops(const struct fm_kernel_time *t)
{
    return t->median_ns > 0 ? t->flops / (double)t->median_ns * 1e-3 : 0;
}

static cJSON *json_of(const struct state *s, const struct fm_kernel_time *t)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "problem", t->problem->name);
    cJSON_AddStringToObject(o, "kernel", t->kernel->name);
    cJSON_AddNumberToObject(o, "median_ns", (double)t->median_ns);
    cJSON_AddNumberToObject(o, "min_ns", (double)t->min_ns);
    cJSON_AddNumberToObject(o, "max_ns", (double)t->max_ns);
    cJSON_AddNumberToObject(o, "moved_bytes", (double)t->moved_bytes);
    cJSON_AddNumberToObject(o, "flops", t->flops);
    cJSON_AddNumberToObject(o, "gb_per_s", gbps(t));
    cJSON_AddNumberToObject(o, "share_of_read_bandwidth", gbps(t) / s->read_gbps);
    cJSON_AddNumberToObject(o, "tflop_per_s", tflops(t));
    return o;
}

static void report(void *user, const struct fm_kernel_time *t)
{
    struct state *s = user;
    s->count++;
    if (strcmp(s->format, "json") == 0) {
        cJSON_AddItemToArray(s->rows, json_of(s, t));
    } else if (strcmp(s->format, "jsonl") == 0) {
        cJSON *o = json_of(s, t);
        char *text = cJSON_PrintUnformatted(o);
        printf("%s\n", text != NULL ? text : "");
        cJSON_free(text);
        cJSON_Delete(o);
    } else if (strcmp(s->format, "csv") == 0) {
        const double numbers[] = {(double)t->median_ns, (double)t->min_ns, (double)t->max_ns, (double)t->moved_bytes, t->flops, gbps(t),
                                  gbps(t) / s->read_gbps, tflops(t)};
        tool_csv_text(true, t->problem->name);
        tool_csv_text(false, t->kernel->name);
        for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
            tool_csv_number(false, numbers[i]);
        fputs(TOOL_CSV_END, stdout);
    } else {
        printf("| %-34s | %-30s | %10.1f | %10.1f | %8.1f | %5.1f %% | %8.3f |\n", t->problem->name, t->kernel->name,
               (double)t->median_ns * 1e-3, (double)(t->max_ns - t->min_ns) * 1e-3, gbps(t),
               100 * gbps(t) / s->read_gbps, tflops(t));
    }
    tool_flush();
}

static void print_head(const struct state *s)
{
    if (strcmp(s->format, "csv") == 0)
        printf("problem,kernel,median_ns,min_ns,max_ns,moved_bytes,flops,gb_per_s,share_of_read_bandwidth,"
               "tflop_per_s" TOOL_CSV_END);
    if (strcmp(s->format, "md") == 0)
        printf("| problem                            | kernel                         |  median µs |  spread µs "
               "|     GB/s | of read |  TFLOP/s |\n"
               "| ---------------------------------- | ------------------------------ | ---------: | ---------: "
               "| -------: | ------: | -------: |\n");
}

static int print_json(struct state *s, const struct fm_caps *caps, enum fm_rung rung)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "version", fm_version());
    cJSON_AddStringToObject(o, "commit", fm_commit());
    tool_json_add(o, "device", caps->name);
    tool_json_add(o, "driver", caps->driver);
    tool_json_add(o, "driver_info", caps->driver_info);
    cJSON_AddStringToObject(o, "rung", fm_rung_name(rung));
    cJSON_AddNumberToObject(o, "read_gb_per_s", s->read_gbps);
    cJSON_AddItemToObject(o, "kernels", s->rows);
    s->rows = NULL;
    char *text = cJSON_Print(o);
    cJSON_Delete(o);
    if (text == NULL)
        return tool_fail(FM_NOMEM);
    printf("%s\n", text);
    cJSON_free(text);
    return TOOL_DONE;
}

static int bench(const struct tool_options *options, struct state *s, struct fm_vk *vk, struct fm_check_params *params)
{
    const struct fm_caps *caps = fm_vk_caps(vk);
    const enum fm_rung rung = FM_MIN(params->max_rung, fm_caps_rung(caps));
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "measuring the read bandwidth of %s\n", TOOL_QUOTE(caps->name));
    enum fm_result result = fm_check_read_bandwidth(vk, tool_cancel, NULL, &s->read_gbps);
    if (result != FM_OK)
        return tool_fail(result);
    print_head(s);
    tool_flush();
    result = fm_check_bench(vk, params, options->all_kernels, options->kernel_r, report, s);
    int status = TOOL_DONE;
    if (result == FM_OK && s->count == 0)
        return tool_bad("bench kernels: no problem matches --op, --kernel and --problem at rung %s",
                        fm_rung_name(rung));
    if (s->rows != NULL)
        status = print_json(s, caps, rung);
    if (strcmp(s->format, "md") == 0)
        printf("\nfulmen %s (%s); %s, driver %s %s, rung %s; reads %.1f GB/s\n", fm_version(), fm_commit(),
               TOOL_QUOTE(caps->name), TOOL_QUOTE(caps->driver), TOOL_QUOTE(caps->driver_info), fm_rung_name(rung),
               s->read_gbps);
    return result == FM_OK ? status : tool_fail(result);
}

static int run(const struct tool_options *options)
{
    struct state state = {.format = options->bench_o};
    struct fm_check_params params = {.kernel = options->kernel, .problem = options->problem, .op = options->op,
                                     .seed = 1, .cancel = tool_cancel, .user = &state};
    struct fm_vk *vk = NULL;
    const char *f = options->bench_o;
    if (strcmp(f, "md") != 0 && strcmp(f, "json") != 0 && strcmp(f, "jsonl") != 0 && strcmp(f, "csv") != 0)
        return tool_bad("bench kernels: -o '%s', expected md, json, jsonl or csv", f);
    enum fm_result result = fm_check_validate(&params);
    if (result == FM_OK)
        result = fm_check_open(options->device, options->rung, &vk, &params.max_rung);
    if (result != FM_OK)
        return tool_fail(result);
    bool json = strcmp(f, "json") == 0;
    state.rows = json ? cJSON_CreateArray() : NULL;
    int status = json && state.rows == NULL ? tool_fail(FM_NOMEM) : bench(options, &state, vk, &params);
    cJSON_Delete(state.rows);
    fm_vk_close(&vk);
    return status;
}

const struct tool_command cmd_bench_kernels = {
    .name = "bench kernels", .summary = "time of every kernel on large problems, on GPUs with cold caches",
    .options = option_list, .n_options = sizeof(option_list) / sizeof(option_list[0]), .run = run,
};
