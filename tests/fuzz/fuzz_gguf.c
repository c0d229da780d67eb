// SPDX-License-Identifier: MIT
// libFuzzer target: the input is a model file. The seeds are made by seeds_gguf.c.
#include "fuzz_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    fuzz_file(data, size_bytes);
    return 0;
}
