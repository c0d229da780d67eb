// SPDX-License-Identifier: MIT
// fulmen devices: one line a device.
#include "kernel/kernel.h"
#include "text.h"
#include "tool.h"

static const enum tool_option option_list[] = {OPT_JSON, OPT_VERBOSE};

static bool reaches(const struct fm_device_info *info, int rung)
{
    return rung <= (int)fm_rung_from_name(info->rung);
}

static int print_json(const struct fm_device_info *infos, size_t count)
{
    cJSON *list = cJSON_CreateArray();
    for (size_t i = 0; i < count; i++) {
        cJSON *d = cJSON_CreateObject();
        cJSON_AddNumberToObject(d, "index", (double)i);
        tool_json_add(d, "name", infos[i].name);
        tool_json_add(d, "driver", infos[i].driver);
        cJSON_AddStringToObject(d, "uuid", infos[i].uuid);
        cJSON_AddStringToObject(d, "kind", infos[i].kind);
        cJSON_AddStringToObject(d, "rung", infos[i].rung);
        cJSON *rungs = cJSON_AddArrayToObject(d, "rungs");
        for (int rung = 0; rung < FM_RUNG_COUNT && reaches(&infos[i], rung); rung++)
            cJSON_AddItemToArray(rungs, cJSON_CreateString(fm_rung_name((enum fm_rung)rung)));
        cJSON_AddNumberToObject(d, "memory_bytes", (double)infos[i].memory_bytes);
        cJSON_AddNumberToObject(d, "available_bytes", (double)infos[i].available_bytes);
        cJSON_AddBoolToObject(d, "unified", infos[i].unified);
        cJSON_AddItemToArray(list, d);
    }
    char *text = cJSON_Print(list);
    cJSON_Delete(list);
    if (text == NULL)
        return tool_fail(FM_NOMEM);
    printf("%s\n", text);
    cJSON_free(text);
    return TOOL_DONE;
}

// The line that people paste into reports.
static void print_line(size_t index, const struct fm_device_info *info)
{
    printf("%zu: %s (%s), driver %s, rungs", index, TOOL_QUOTE(info->name), info->kind, TOOL_QUOTE(info->driver));
    for (int rung = 0; rung < FM_RUNG_COUNT && reaches(info, rung); rung++)
        printf(" %s", fm_rung_name((enum fm_rung)rung));
    printf(", %.1f of %.1f GB available%s, %s\n", (double)info->available_bytes * 1e-9,
           (double)info->memory_bytes * 1e-9, info->unified ? " (shared with the host)" : "", info->uuid);
}

static int run(const struct tool_options *options)
{
    struct fm_device_info *infos = NULL;
    size_t count = 0;
    int status = TOOL_DONE;
    enum fm_result result = fm_device_list(&infos, &count);
    if (result != FM_OK)
        return tool_fail(result);
    if (options->json)
        status = print_json(infos, count);
    for (size_t i = 0; i < count && !options->json; i++)
        print_line(i, &infos[i]);
    fm_device_list_free(infos);
    return status;
}

const struct tool_command cmd_devices = {
    .name = "devices", .summary = "the devices: name, driver, rung of kernels reached, memory", .options = option_list,
    .n_options = sizeof(option_list) / sizeof(option_list[0]), .run = run,
};
