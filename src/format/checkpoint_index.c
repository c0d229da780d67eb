// SPDX-License-Identifier: MIT
// The index of a sharded checkpoint: {"metadata": {...}, "weight_map": {"tensor": "file", ...}}.
#include "format/checkpoint_index.h"

#include <stdio.h>

#include "format/file_impl.h"
#include "format/json.h"

#define SHARDS_MAX 4096 // each is an open file
#define FILE_NAME_BYTES_MAX 255

// A shard is a file beside its index, and nothing else.
static enum fm_result check_file_name(struct fm_text name)
{
    const char *fault = NULL;
    if (name.bytes == 0 || name.bytes > FILE_NAME_BYTES_MAX)
        fault = "expected 1 to 255 bytes";
    else if (name.data[0] == '.')
        fault = "expected no dot at its beginning";
    else if (memchr(name.data, '/', (size_t)name.bytes) != NULL || memchr(name.data, '\\', (size_t)name.bytes) != NULL)
        fault = "expected no path";
    if (fault != NULL)
        return fm_fail(FM_FORMAT, "weight_map: file name '%s': %s", FM_QUOTE_TEXT(name), fault);
    return FM_OK;
}

static enum fm_result find_shard(struct fm_checkpoint_index *index, struct fm_text name, uint32_t *out_shard)
{
    if (fm_map_get(&index->shard_index, name.data, (size_t)name.bytes, out_shard))
        return FM_OK;
    enum fm_result result = check_file_name(name);
    if (result == FM_OK && index->shard_count >= SHARDS_MAX)
        result = fm_fail(FM_FORMAT, "weight_map: more than %d files", SHARDS_MAX);
    if (result == FM_OK)
        result = fm_array_reserve((void **)&index->shards, &index->shard_cap, index->shard_count + 1,
                                  sizeof(*index->shards));
    if (result == FM_OK)
        result = fm_map_put(&index->shard_index, name.data, (size_t)name.bytes, (uint32_t)index->shard_count, NULL);
    if (result != FM_OK)
        return result;
    *out_shard = (uint32_t)index->shard_count;
    index->shards[index->shard_count++] = name.data; // of the arena, NUL-terminated
    return FM_OK;
}

static enum fm_result read_entry(struct fm_checkpoint_index *index, struct fm_text key, struct fm_text value)
{
    char what[FM_QUOTE_BYTES + 32];
    struct fm_text file;
    uint32_t shard = 0;
    bool replaced = false;
    snprintf(what, sizeof(what), "weight_map, tensor '%s'", FM_QUOTE_TEXT(key));
    enum fm_result result = fm_file_check_name(key);
    if (result == FM_OK)
        result = fm_json_string(value, &index->arena, what, &file);
    if (result == FM_OK)
        result = find_shard(index, file, &shard);
    if (result == FM_OK)
        result = fm_array_reserve((void **)&index->tensors, &index->tensor_cap, index->tensor_count + 1,
                                  sizeof(*index->tensors));
    if (result == FM_OK)
        result = fm_map_put(&index->shard_of, key.data, (size_t)key.bytes, shard, &replaced);
    if (result != FM_OK)
        return result;
    if (replaced)
        return fm_fail(FM_FORMAT, "weight_map: tensor '%s' is there twice", FM_QUOTE_TEXT(key));
    index->tensors[index->tensor_count].name = key;
    index->tensors[index->tensor_count++].shard = shard;
    return FM_OK;
}

static enum fm_result read_map(struct fm_checkpoint_index *index, struct fm_text text)
{
    struct fm_json_object walk = {.text = text, .what = "weight_map"};
    for (;;) {
        struct fm_text key, value;
        bool more;
        enum fm_result result = fm_json_next(&walk, &index->arena, &key, &value, &more);
        if (result == FM_OK && more)
            result = read_entry(index, key, value);
        if (result != FM_OK || !more)
            return result;
    }
}

enum fm_result fm_checkpoint_index_read(struct fm_text text, struct fm_checkpoint_index *index)
{
    struct fm_json_object walk = {.text = text, .what = "index"};
    bool has_map = false;
    if (text.bytes > FM_CHECKPOINT_INDEX_BYTES_MAX)
        return fm_fail(FM_FORMAT, "an index of %llu bytes, expected at most %llu", (unsigned long long)text.bytes,
                       (unsigned long long)FM_CHECKPOINT_INDEX_BYTES_MAX);
    for (;;) {
        struct fm_text key, value;
        bool more;
        enum fm_result result = fm_json_next(&walk, &index->arena, &key, &value, &more);
        if (result != FM_OK)
            return result;
        if (!more)
            break;
        if (strcmp(key.data, "weight_map") != 0)
            continue;
        if (has_map)
            return fm_fail(FM_FORMAT, "index: weight_map is there twice");
        has_map = true;
        result = read_map(index, value);
        if (result != FM_OK)
            return result;
    }
    if (!has_map)
        return fm_fail(FM_FORMAT, "index: weight_map is missing");
    if (index->tensor_count == 0)
        return fm_fail(FM_FORMAT, "index: weight_map names no tensors");
    return FM_OK;
}

void fm_checkpoint_index_finish(struct fm_checkpoint_index *index)
{
    fm_map_finish(&index->shard_of);
    fm_map_finish(&index->shard_index);
    fm_free(index->tensors);
    fm_free(index->shards);
    fm_arena_finish(&index->arena);
    *index = (struct fm_checkpoint_index){0};
}
