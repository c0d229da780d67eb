// SPDX-License-Identifier: MIT
// What a folder is that was given where a model file is wanted.
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/os.h"
#include "format/file_impl.h"

#define NAMED 4    // GGUF files that are named
#define NAMES_MAX 10000 // of the folder, that are looked at

static bool holds(const char *folder, const char *name)
{
    size_t bytes = strlen(folder) + strlen(name) + 2;
    char *path = fm_alloc(bytes);
    if (path == NULL)
        return false;
    snprintf(path, bytes, "%s/%s", folder, name);
    bool is_there = fm_path_kind(path) == FM_PATH_FILE;
    fm_free(path);
    return is_there;
}

static bool is_gguf(const char *name)
{
    static const char end[] = ".gguf";
    size_t bytes = strlen(name), end_bytes = sizeof(end) - 1;
    return bytes > end_bytes && strcmp(name + bytes - end_bytes, end) == 0;
}

static int compare(const void *a, const void *b)
{
    return strcmp(a, b);
}

// The first GGUF files of the folder by name, as " 'a.gguf' 'b.gguf'"; how many there are.
static size_t list_ggufs(const char *folder, char *text, size_t text_bytes)
{
    char names[NAMED + 1][256];
    size_t count = 0, kept = 0, used = 0;
    DIR *dir = opendir(folder);
    text[0] = '\0';
    for (unsigned seen = 0; dir != NULL && seen < NAMES_MAX; seen++) {
        const struct dirent *entry = readdir(dir);
        if (entry == NULL)
            break;
        if (!is_gguf(entry->d_name))
            continue;
        count++;
        snprintf(names[kept], sizeof(names[kept]), "%s", entry->d_name);
        qsort(names, kept + 1, sizeof(names[0]), compare);
        kept = FM_MIN(kept + 1, (size_t)NAMED);
    }
    if (dir != NULL)
        closedir(dir);
    for (size_t i = 0; i < kept && used < text_bytes; i++)
        used += (size_t)snprintf(text + used, text_bytes - used, " '%s'", FM_QUOTE_Z(names[i]));
    return count;
}

enum fm_result fm_folder_refuse(const char *path)
{
    char names[NAMED * (FM_QUOTE_BYTES + 4)];
    if (holds(path, "adapter_config.json"))
        return fm_fail(FM_UNSUPPORTED, "is a folder with an adapter (LoRA), not a model: merge it into its base model and save that "
                                       "(PEFT's merge_and_unload), then fulmen convert FOLDER -o FILE.gguf");
    size_t count = list_ggufs(path, names, sizeof(names));
    if (count > 0)
        return fm_fail(FM_UNSUPPORTED, "is a folder, expected a file; in it %s%s%s", count > 1 ? "are" : "is", names,
                       count > NAMED ? " and more" : "");
    if (holds(path, "config.json"))
        return fm_fail(FM_UNSUPPORTED, "is a checkpoint folder: fulmen convert FOLDER -o FILE.gguf makes a model file of it first");
    return fm_fail(FM_UNSUPPORTED, "is a folder without a GGUF file or a config.json in it, expected a model file");
}
