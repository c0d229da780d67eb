// SPDX-License-Identifier: MIT
// libFuzzer target: the first byte says what the rest is. Even: a file as it is. Odd: the pickle of an archive whose
// storages "0" and "1" have 96 and 12 bytes. Seeds: seeds_checkpoint.c.
#include "fuzz_file.h"
#include "support/checkpoint_make.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    static const size_t storages[] = {96, 12};
    if (size_bytes < 1)
        return 0;
    if (data[0] % 2 == 0) {
        fuzz_file(data + 1, size_bytes - 1);
        return 0;
    }
    struct gguf_bytes pickle = {0};
    gguf_put(&pickle, data + 1, size_bytes - 1);
    struct gguf_bytes file = torch_make(&pickle, storages, 2);
    fuzz_file(file.data, file.size_bytes);
    gguf_bytes_finish(&file);
    return 0;
}
