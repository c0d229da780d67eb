// SPDX-License-Identifier: MIT
// libFuzzer target: the first byte says what the rest is. Even: a file as it is. Odd: the header alone, with as many
// bytes of data behind it as the second byte says, so that its length need not be guessed. Seeds: seeds_checkpoint.c.
#include <stdlib.h>

#include "fuzz_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    if (size_bytes < 2)
        return 0;
    if (data[0] % 2 == 0) {
        fuzz_file(data + 1, size_bytes - 1);
        return 0;
    }
    uint64_t header_bytes = size_bytes - 2;
    size_t file_bytes = sizeof(header_bytes) + size_bytes - 2 + data[1];
    uint8_t *file = calloc(1, file_bytes);
    fuzz_require(file != NULL);
    memcpy(file, &header_bytes, sizeof(header_bytes));
    memcpy(file + sizeof(header_bytes), data + 2, size_bytes - 2);
    fuzz_file(file, file_bytes);
    free(file);
    return 0;
}
