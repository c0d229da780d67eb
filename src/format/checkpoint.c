// SPDX-License-Identifier: MIT
// Checkpoint folders: which file to open, shards under one index.
#include "format/checkpoint.h"

#include <stdio.h>

#include "base/arena.h"
#include "base/map.h"
#include "base/os.h"
#include "format/checkpoint_index.h"

struct place {
    uint32_t shard, tensor; // index of the file and of the tensor in it
};

struct fm_checkpoint {
    char *path;
    struct fm_file **shards;
    size_t shard_count, shard_cap;
    struct place *places;
    size_t place_count, place_cap;
    struct fm_map by_name; // name -> index into places
};

// In order of preference.
static const char *const names[] = {"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
                                    "pytorch_model.bin.index.json"};

static const struct fm_tensor *tensor_at(const struct fm_checkpoint *c, struct place place)
{
    return fm_file_tensor(c->shards[place.shard], place.tensor);
}

static enum fm_result add_shard(struct fm_checkpoint *c, const char *path)
{
    struct fm_file *file = NULL;
    enum fm_result result =
        fm_array_reserve((void **)&c->shards, &c->shard_cap, c->shard_count + 1, sizeof(*c->shards));
    if (result == FM_OK)
        result = fm_file_open(path, &file);
    if (result != FM_OK)
        return result;
    c->shards[c->shard_count++] = file;
    if (strcmp(fm_file_format(file), "GGUF") == 0)
        return fm_fail(FM_UNSUPPORTED, "%s: is a GGUF file already, expected safetensors or PyTorch", path);
    return FM_OK;
}

// List the tensors of the latest shard. `index` (may be NULL) decides between shards that both have a name.
static enum fm_result add_tensors(struct fm_checkpoint *c, const struct fm_checkpoint_index *index)
{
    uint32_t shard = (uint32_t)c->shard_count - 1;
    const struct fm_file *file = c->shards[shard];
    for (uint32_t i = 0; i < fm_file_tensor_count(file); i++) {
        const struct fm_tensor *tensor = fm_file_tensor(file, i);
        size_t name_bytes = strlen(tensor->name);
        uint32_t wanted_shard, other;
        if (index != NULL && fm_map_get(&index->shard_of, tensor->name, name_bytes, &wanted_shard) &&
            wanted_shard != shard)
            continue;
        if (fm_map_get(&c->by_name, tensor->name, name_bytes, &other)) {
            return fm_fail(FM_FORMAT, "%s: tensor '%s' is in %s too, and the index does not say which counts",
                           fm_file_path(file), FM_QUOTE(tensor->name, name_bytes),
                           fm_file_path(c->shards[c->places[other].shard]));
        }
        if (c->place_count >= UINT32_MAX)
            return fm_fail(FM_FORMAT, "%s: more than 2^32 tensors", fm_file_path(file));
        enum fm_result result =
            fm_array_reserve((void **)&c->places, &c->place_cap, c->place_count + 1, sizeof(*c->places));
        if (result == FM_OK)
            result = fm_map_put(&c->by_name, tensor->name, name_bytes, (uint32_t)c->place_count, NULL);
        if (result != FM_OK)
            return result;
        c->places[c->place_count++] = (struct place){.shard = shard, .tensor = i};
    }
    return FM_OK;
}

// Every tensor that the index names was found in the shard that it names.
static enum fm_result check_index(const struct fm_checkpoint *c, const struct fm_checkpoint_index *index)
{
    for (size_t i = 0; i < index->tensor_count; i++) {
        struct fm_text name = index->tensors[i].name;
        uint32_t found;
        if (!fm_map_get(&c->by_name, name.data, (size_t)name.bytes, &found))
            return fm_fail(FM_FORMAT, "%s: tensor '%s' is not there, but %s says that it is",
                           fm_file_path(c->shards[index->tensors[i].shard]), FM_QUOTE_TEXT(name), c->path);
    }
    return FM_OK;
}

static enum fm_result open_shards(struct fm_checkpoint *c, const struct fm_checkpoint_index *index)
{
    const char *slash = strrchr(c->path, '/');
    int folder_bytes = slash != NULL ? (int)(slash - c->path) + 1 : 0;
    for (size_t i = 0; i < index->shard_count; i++) {
        size_t path_bytes = (size_t)folder_bytes + strlen(index->shards[i]) + 1;
        char *path = fm_alloc(path_bytes);
        if (path == NULL)
            return fm_nomem();
        snprintf(path, path_bytes, "%.*s%s", folder_bytes, c->path, index->shards[i]);
        enum fm_result result = add_shard(c, path);
        fm_free(path);
        if (result == FM_OK)
            result = add_tensors(c, index);
        if (result != FM_OK)
            return result;
    }
    return check_index(c, index);
}

static enum fm_result open_index(struct fm_checkpoint *c)
{
    char *data = NULL;
    size_t bytes = 0;
    struct fm_checkpoint_index index = {0};
    enum fm_result result = fm_source_read_whole(c->path, FM_CHECKPOINT_INDEX_BYTES_MAX, &data, &bytes);
    if (result != FM_OK)
        return result;
    result = fm_checkpoint_index_read((struct fm_text){.data = data, .bytes = bytes}, &index);
    fm_free(data); // names were copied
    if (result != FM_OK)
        result = fm_fail_prefix(result, "%s", c->path);
    else
        result = open_shards(c, &index);
    fm_checkpoint_index_finish(&index);
    return result;
}

bool fm_checkpoint_is_index(const char *path)
{
    static const char end[] = ".index.json";
    size_t bytes = strlen(path), end_bytes = sizeof(end) - 1;
    return bytes > end_bytes && strcmp(path + bytes - end_bytes, end) == 0;
}

// The first of `names` in the folder.
static enum fm_result find_in_folder(const char *folder, char **out_path)
{
    size_t bytes = strlen(folder) + 64;
    char *path = fm_alloc(bytes);
    if (path == NULL)
        return fm_nomem();
    for (size_t i = 0; i < FM_COUNT(names); i++) {
        snprintf(path, bytes, "%s%s%s", folder, folder[strlen(folder) - 1] == '/' ? "" : "/", names[i]);
        if (fm_path_kind(path) != FM_PATH_NONE) {
            *out_path = path;
            return FM_OK;
        }
    }
    fm_free(path);
    return fm_fail(FM_IO, "%s: no checkpoint in this folder (expected %s, %s, %s or %s)", folder, names[0], names[1],
                   names[2], names[3]);
}

enum fm_result fm_checkpoint_open(const char *path, struct fm_checkpoint **out_checkpoint)
{
    enum fm_result result = FM_OK;
    struct fm_checkpoint *c = fm_alloc_zero(1, sizeof(*c));
    if (c == NULL)
        return fm_nomem();
    if (fm_path_kind(path) == FM_PATH_FOLDER) {
        result = find_in_folder(path, &c->path);
    } else {
        c->path = fm_strdup(path);
        if (c->path == NULL)
            result = fm_nomem();
    }
    if (result != FM_OK)
        goto fail;
    if (fm_checkpoint_is_index(c->path)) {
        result = open_index(c);
    } else {
        result = add_shard(c, c->path);
        if (result == FM_OK)
            result = add_tensors(c, NULL);
    }
    if (result != FM_OK)
        goto fail;
    *out_checkpoint = c;
    return FM_OK;
fail:
    fm_checkpoint_close(&c);
    return result;
}

void fm_checkpoint_close(struct fm_checkpoint **checkpoint)
{
    struct fm_checkpoint *c = *checkpoint;
    if (c == NULL)
        return;
    fm_map_finish(&c->by_name); // its keys are the files' names
    for (size_t i = 0; i < c->shard_count; i++)
        fm_file_close(&c->shards[i]);
    fm_free(c->shards);
    fm_free(c->places);
    fm_free(c->path);
    fm_free(c);
    *checkpoint = NULL;
}

const char *fm_checkpoint_path(const struct fm_checkpoint *checkpoint)
{
    return checkpoint->path;
}

uint32_t fm_checkpoint_count(const struct fm_checkpoint *checkpoint)
{
    return (uint32_t)checkpoint->place_count;
}

const struct fm_tensor *fm_checkpoint_at(const struct fm_checkpoint *checkpoint, uint32_t index)
{
    return tensor_at(checkpoint, checkpoint->places[index]);
}

const struct fm_tensor *fm_checkpoint_find(const struct fm_checkpoint *checkpoint, const char *name)
{
    uint32_t index;
    return fm_map_get(&checkpoint->by_name, name, strlen(name), &index) ? fm_checkpoint_at(checkpoint, index) : NULL;
}

const struct fm_file *fm_checkpoint_file_of(const struct fm_checkpoint *checkpoint, uint32_t index)
{
    return checkpoint->shards[checkpoint->places[index].shard];
}

enum fm_result fm_checkpoint_unchanged(const struct fm_checkpoint *checkpoint)
{
    enum fm_result result = FM_OK;
    for (size_t i = 0; i < checkpoint->shard_count && result == FM_OK; i++)
        result = fm_file_unchanged(checkpoint->shards[i]);
    return result;
}

uint64_t fm_checkpoint_data_bytes(const struct fm_checkpoint *checkpoint)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < checkpoint->place_count; i++)
        bytes += tensor_at(checkpoint, checkpoint->places[i])->data_bytes;
    return bytes;
}
