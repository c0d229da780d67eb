// SPDX-License-Identifier: MIT
// model.safetensors.index.json and its like: which shard holds which tensor. Internal to format/; apart for the fuzzer.
#ifndef FM_FORMAT_CHECKPOINT_INDEX_H
#define FM_FORMAT_CHECKPOINT_INDEX_H

#include "base/arena.h"
#include "base/map.h"
#include "format/file.h"

#define FM_CHECKPOINT_INDEX_BYTES_MAX 100000000u // as a safetensors header

struct fm_checkpoint_index {
    struct fm_arena arena; // names
    struct {
        struct fm_text name; // NUL-terminated
        uint32_t shard;
    } *tensors; // as the index lists them
    size_t tensor_count, tensor_cap;
    const char **shards; // file names, in the order in which the index first names them
    size_t shard_count, shard_cap;
    struct fm_map shard_of;    // tensor name -> shard
    struct fm_map shard_index; // file name -> shard
};

// Read the weight_map of `text` (copied from) into an all-zero index. FM_FORMAT: no such map, a name twice, a file name
// that is no plain name of a file beside the index. Call finish whatever the result.
enum fm_result fm_checkpoint_index_read(struct fm_text text, struct fm_checkpoint_index *index);
void fm_checkpoint_index_finish(struct fm_checkpoint_index *index);

#endif
