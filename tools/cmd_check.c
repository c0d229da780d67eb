// SPDX-License-Identifier: MIT
// fulmen check: every kernel that this device can run, against the reference.
#include <cjson/cJSON.h>
#include <unistd.h>

#include "check/check.h"
#include "text.h"
#include "tool.h"

static const enum tool_option option_list[] = {
    OPT_DEVICE, OPT_RUNG, OPT_CHECK_OP, OPT_CHECK_KERNEL, OPT_CHECK_PROBLEM, OPT_CHECK_SEED, OPT_JSON, OPT_VERBOSE,
};

struct state {
    const struct tool_options *options;
    const char *device;
    double worst;
    uint32_t count;
    bool shown;      // a line of progress stands on the terminal
    cJSON *failures; // NULL unless --json
};

static void clear_progress(struct state *s)
{
    if (s->shown)
        fputs("\r\033[K", stderr);
    s->shown = false;
}

static void show_progress(struct state *s, const struct fm_check_result *result)
{
    if (!isatty(STDERR_FILENO) || s->count % 16 != 0)
        return;
    fprintf(stderr, "\r\033[K%s: %u checked, %s", fm_rung_name(result->rung), s->count, result->problem->name);
    fflush(stderr);
    s->shown = true;
}

static void add_failure(cJSON *list, const struct fm_check_result *result)
{
    cJSON *f = cJSON_CreateObject();
    cJSON_AddStringToObject(f, "kernel", result->kernel != NULL ? result->kernel->name : "");
    cJSON_AddStringToObject(f, "rung", fm_rung_name(result->rung));
    cJSON_AddStringToObject(f, "problem", result->problem->name);
    cJSON_AddNumberToObject(f, "seed", result->seed);
    tool_json_add(f, "message", result->message);
    cJSON_AddItemToArray(list, f);
}

static void report(void *user, const struct fm_check_result *result)
{
    struct state *s = user;
    const char *kernel = result->kernel != NULL ? result->kernel->name : "-", *rung = fm_rung_name(result->rung);
    s->count++;
    if (result->worst > s->worst)
        s->worst = result->worst;
    if (!result->passed && s->failures != NULL) {
        add_failure(s->failures, result);
    } else if (!result->passed) {
        clear_progress(s);
        printf("FAIL %s, rung %s, problem %s, seed %u: %s\n"
               "     again: fulmen check --device '%s' --rung %s --problem '%s' --seed %u\n",
               kernel, rung, result->problem->name, result->seed, TOOL_QUOTE(result->message), TOOL_QUOTE(s->device), rung,
               result->problem->name, result->seed);
    } else if (s->options->verbose && s->failures == NULL) {
        clear_progress(s);
        printf("ok   %s, rung %s, problem %s: worst error %.3f of its bound\n", kernel, rung, result->problem->name,
               result->worst);
    }
    tool_flush();
    show_progress(s, result);
}

static int print_json(struct state *s, const struct fm_caps *caps, enum fm_rung rung,
                      const struct fm_check_totals *totals, double seconds)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "version", fm_version());
    cJSON_AddStringToObject(o, "commit", fm_commit());
    tool_json_add(o, "device", caps->name);
    tool_json_add(o, "driver", caps->driver);
    tool_json_add(o, "driver_info", caps->driver_info);
    cJSON_AddStringToObject(o, "rung", fm_rung_name(rung));
    cJSON_AddNumberToObject(o, "kernels", totals->kernels);
    cJSON_AddNumberToObject(o, "passed", totals->passed);
    cJSON_AddNumberToObject(o, "failed", totals->failed);
    cJSON_AddNumberToObject(o, "unsupported", totals->unsupported);
    cJSON_AddNumberToObject(o, "worst_share_of_bound", s->worst);
    cJSON_AddNumberToObject(o, "seconds", seconds);
    cJSON_AddItemToObject(o, "failures", s->failures);
    s->failures = NULL;
    char *text = cJSON_Print(o);
    cJSON_Delete(o);
    if (text == NULL)
        return tool_fail(FM_NOMEM);
    printf("%s\n", text);
    cJSON_free(text);
    return TOOL_DONE;
}

static int check(struct state *s, struct fm_vk *vk, struct fm_check_params *params)
{
    const struct fm_caps *caps = fm_vk_caps(vk);
    const enum fm_rung rung = FM_MIN(params->max_rung, fm_caps_rung(caps));
    struct fm_check_totals totals = {0};
    double start = tool_seconds();
    s->device = caps->name;
    if (!s->options->json)
        printf("fulmen %s (%s); %s, driver %s %s, rung %s\n", fm_version(), fm_commit(), TOOL_QUOTE(caps->name), TOOL_QUOTE(caps->driver),
               TOOL_QUOTE(caps->driver_info), fm_rung_name(rung));
    enum fm_result result = fm_check_run(vk, params, &totals);
    clear_progress(s);
    if (result == FM_OK && totals.passed + totals.failed == 0)
        return tool_bad("check: no problem matches --op, --kernel and --problem at rung %s",
                        fm_rung_name(rung));
    int status = TOOL_DONE;
    double seconds = tool_seconds() - start;
    if (s->failures != NULL)
        status = print_json(s, caps, rung, &totals, seconds);
    else
        printf("%u kernels, worst error %.3f of its bound, %.1f s\n%u passed, %u failed\n", totals.kernels, s->worst,
               seconds, totals.passed, totals.failed);
    if (result != FM_OK)
        return tool_fail(result);
    return status == TOOL_DONE && totals.failed > 0 ? TOOL_FAILED : status;
}

static int run(const struct tool_options *options)
{
    struct state state = {.options = options};
    struct fm_check_params params = {.kernel = options->kernel, .problem = options->problem, .op = options->op,
                                     .seed = options->check_seed, .report = report, .cancel = tool_cancel, .user = &state};
    struct fm_vk *vk = NULL;
    enum fm_result result = fm_check_validate(&params);
    if (result == FM_OK)
        result = fm_check_open(options->device, options->rung, &vk, &params.max_rung);
    if (result != FM_OK)
        return tool_fail(result);
    if (options->json)
        state.failures = cJSON_CreateArray();
    bool no_list = options->json && state.failures == NULL;
    int status = no_list ? tool_fail(FM_NOMEM) : check(&state, vk, &params);
    cJSON_Delete(state.failures);
    fm_vk_close(&vk);
    return status;
}

const struct tool_command cmd_check = {
    .name = "check", .summary = "test every kernel that the device can run against the reference",
    .options = option_list, .n_options = sizeof(option_list) / sizeof(option_list[0]), .run = run,
};
