// SPDX-License-Identifier: MIT
// All bytes of a tensor, for tests.
#ifndef FM_TESTS_SUPPORT_TENSOR_DATA_H
#define FM_TESTS_SUPPORT_TENSOR_DATA_H

#include <stdlib.h>

#include "format/file.h"

// Release with free. NULL when they cannot be read.
static inline uint8_t *tensor_data(const struct fm_tensor *tensor)
{
    uint8_t *data = malloc((size_t)tensor->data_bytes + 1);
    if (data != NULL && fm_tensor_read(tensor, 0, tensor->data_bytes, data) != FM_OK) {
        free(data);
        return NULL;
    }
    return data;
}

// Does the tensor hold these bytes?
static inline bool tensor_holds(const struct fm_tensor *tensor, const void *expected, size_t bytes)
{
    uint8_t *data = tensor_data(tensor);
    bool same = data != NULL && tensor->data_bytes >= bytes && memcmp(data, expected, bytes) == 0;
    free(data);
    return same;
}

#endif
