// SPDX-License-Identifier: MIT
// Environment variables and the cache folder.
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE
#endif
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/os.h"

const char *fm_env_text(const char *name)
{
    return getenv(name);
}

bool fm_env_flag(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' && strcmp(value, "0") != 0;
}

// Create every missing folder of `path`, which is changed and restored on the way.
static enum fm_result make_folders(char *path)
{
    for (char *at = path + 1;; at++) {
        if (*at != '/' && *at != '\0')
            continue;
        char kept = *at;
        *at = '\0';
        int made = mkdir(path, 0700);
        int reason = errno;
        struct stat info;
        bool usable = made == 0 || (reason == EEXIST && stat(path, &info) == 0 && S_ISDIR(info.st_mode));
        // A parent that may not be written (EROFS, EACCES) is fine as long as it is there.
        if (!usable && stat(path, &info) == 0 && S_ISDIR(info.st_mode))
            usable = true;
        if (!usable) {
            enum fm_result result = fm_fail(FM_IO, "%s: cannot create the cache folder: %s", path, strerror(reason));
            *at = kept;
            return result;
        }
        *at = kept;
        if (kept == '\0')
            return FM_OK;
    }
}

enum fm_result fm_env_cache_dir(char *out_path, size_t path_bytes)
{
    static const struct {
        const char *variable, *below;
    } places[] = {{"FULMEN_CACHE_DIR", ""}, {"XDG_CACHE_HOME", "/fulmen"}, {"HOME", "/.cache/fulmen"}};

    for (size_t i = 0; i < FM_COUNT(places); i++) {
        const char *base = getenv(places[i].variable);
        if (base == NULL || base[0] == '\0')
            continue;
        int length = snprintf(out_path, path_bytes, "%s%s", base, places[i].below);
        if (length < 0 || (size_t)length >= path_bytes)
            return fm_fail(FM_IO, "$%s: the cache folder's path is longer than %zu bytes", places[i].variable,
                           path_bytes - 1);
        enum fm_result result = make_folders(out_path);
        if (result == FM_OK && !fm_cache_trusts(out_path))
            result = fm_fail(FM_IO, "%s: a cache folder that is not to be trusted", out_path);
        return result;
    }
    return fm_fail(FM_IO, "no cache folder: none of FULMEN_CACHE_DIR, XDG_CACHE_HOME and HOME is set");
}
