// SPDX-License-Identifier: MIT
// fulmen devices: one line a device.
#include <cjson/cJSON.h>

#include "tool.h"

static const enum tool_option option_list[] = {OPT_JSON, OPT_VERBOSE};

static int print_json(const struct fm_device_info *infos, size_t count)
{
    cJSON *list = cJSON_CreateArray();
    for (size_t i = 0; i < count; i++) {
        cJSON *d = cJSON_CreateObject();
        cJSON_AddNumberToObject(d, "index", (double)i);
        cJSON_AddStringToObject(d, "name", infos[i].name);
        cJSON_AddStringToObject(d, "driver", infos[i].driver);
        cJSON_AddStringToObject(d, "uuid", infos[i].uuid);
        cJSON_AddStringToObject(d, "kind", infos[i].kind);
        cJSON_AddStringToObject(d, "rung", infos[i].rung);
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
        printf("%zu: %s (%s), driver %s, rung %s, %.1f of %.1f GB available%s, %s\n", i, infos[i].name, infos[i].kind, infos[i].driver,
               infos[i].rung, (double)infos[i].available_bytes * 1e-9, (double)infos[i].memory_bytes * 1e-9,
               infos[i].unified ? " (shared with the host)" : "", infos[i].uuid);
    fm_device_list_free(infos);
    return status;
}

const struct tool_command cmd_devices = {
    .name = "devices", .summary = "the devices: name, driver, rung of kernels reached, memory", .options = option_list,
    .n_options = sizeof(option_list) / sizeof(option_list[0]), .run = run,
};
