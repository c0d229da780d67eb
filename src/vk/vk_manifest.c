// SPDX-License-Identifier: MIT
// Why there is no driver. The Vulkan loader does not say: a damaged manifest is "out of host memory" to it, and a library
// that is missing is no driver at all. So the manifests that the user named are looked at.
#include <cjson/cJSON.h>
#include <stdio.h>

#include "base/os.h"
#include "vk/vk_internal.h"

#define MANIFEST_BYTES ((size_t)1 << 20)
#define PATH_BYTES 4096

// What is wrong with the manifest at `path`, in `out`; "" when nothing can be seen from here. `guess`: the manifest was refused, so where
// nothing can be seen its library does not load.
static void examine(const char *path, bool guess, char *out, size_t out_bytes)
{
    char *text = NULL;
    size_t bytes = 0;
    out[0] = '\0';
    if (fm_path_kind(path) == FM_PATH_FOLDER) // of manifests
        return;
    if (fm_source_read_whole(path, MANIFEST_BYTES, &text, &bytes) != FM_OK) {
        snprintf(out, out_bytes, "%s", fm_error_message()); // begins with the path
        return;
    }
    cJSON *json = cJSON_ParseWithLength(text, bytes);
    const cJSON *icd = cJSON_GetObjectItemCaseSensitive(json, "ICD");
    const cJSON *library = cJSON_GetObjectItemCaseSensitive(icd, "library_path");
    const char *name = cJSON_IsString(library) ? library->valuestring : NULL;
    if (json == NULL)
        snprintf(out, out_bytes, "%s: no driver manifest: it is not JSON", FM_QUOTE_Z(path));
    else if (name == NULL)
        snprintf(out, out_bytes, "%s: no driver manifest: ICD.library_path is missing", FM_QUOTE_Z(path));
    else if (name[0] == '/' && fm_path_kind(name) == FM_PATH_NONE)
        snprintf(out, out_bytes, "%s: its library %s is missing", FM_QUOTE_Z(path), FM_QUOTE_Z(name));
    else if (guess)
        snprintf(out, out_bytes, "%s: its library %s does not load (VK_LOADER_DEBUG=error,driver says why)", FM_QUOTE_Z(path),
                 FM_QUOTE_Z(name));
    cJSON_Delete(json);
    fm_free(text);
}

// The first manifest with something wrong in a list of paths.
static bool find_culprit(const char *list, bool guess, char *out, size_t out_bytes)
{
    char path[PATH_BYTES];
    out[0] = '\0';
    while (list != NULL && list[0] != '\0' && out[0] == '\0') {
        size_t bytes = strcspn(list, ":");
        snprintf(path, sizeof(path), "%.*s", (int)FM_MIN(bytes, sizeof(path) - 1), list);
        if (bytes > 0)
            examine(path, guess, out, out_bytes);
        list += bytes + (list[bytes] == ':');
    }
    return out[0] != '\0';
}

enum fm_result fm_vk_no_driver(VkResult result)
{
    static const char *const variables[] = {"VK_DRIVER_FILES", "VK_ICD_FILENAMES", "VK_ADD_DRIVER_FILES"};
    char what[1024];
    for (size_t i = 0; i < 2 * FM_COUNT(variables); i++) {
        const char *variable = variables[i % FM_COUNT(variables)];
        if (find_culprit(fm_env_text(variable), i >= FM_COUNT(variables), what, sizeof(what)))
            return fm_fail(FM_DEVICE, "no Vulkan driver could be loaded: %s: %s", variable, what);
    }
    if (result == VK_ERROR_INCOMPATIBLE_DRIVER)
        return fm_fail(FM_DEVICE, "no Vulkan driver could be loaded: the loader found none; " FM_VK_ADVICE);
    return fm_fail(FM_DEVICE, "no Vulkan driver could be loaded: the loader says %s, as it does when a driver's manifest (*.json in "
                   "/usr/share/vulkan/icd.d, /etc/vulkan/icd.d or a variable VK_...) is damaged; VK_LOADER_DEBUG=error,driver says more",
                   fm_vk_result_name(result));
}
