// SPDX-License-Identifier: MIT
// libFuzzer target: the input is the index of a sharded checkpoint. What is read from it must be names of files beside
// it, each tensor once.
#include "format/checkpoint_index.h"
#include "fuzz_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    struct fm_checkpoint_index index = {0};
    enum fm_result result =
        fm_checkpoint_index_read((struct fm_text){.data = (const char *)data, .bytes = size_bytes}, &index);
    if (result != FM_OK)
        fuzz_message();
    else
        fuzz_require(index.tensor_count > 0);
    for (size_t i = 0; result == FM_OK && i < index.shard_count; i++) {
        size_t bytes = strlen(index.shards[i]);
        fuzz_require(bytes > 0 && bytes < 256 && index.shards[i][0] != '.' && strchr(index.shards[i], '/') == NULL);
    }
    for (size_t i = 0; result == FM_OK && i < index.tensor_count; i++) {
        struct fm_text name = index.tensors[i].name;
        uint32_t shard;
        fuzz_require(fm_map_get(&index.shard_of, name.data, (size_t)name.bytes, &shard));
        fuzz_require(shard == index.tensors[i].shard && shard < index.shard_count && strlen(name.data) == name.bytes);
    }
    fm_checkpoint_index_finish(&index);
    return 0;
}
