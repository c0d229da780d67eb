// SPDX-License-Identifier: MIT
// Element types of checkpoint files, those that fulmen reads and those that it only names. Internal to format/.
#ifndef FM_FORMAT_DTYPE_H
#define FM_FORMAT_DTYPE_H

#include "format/file_impl.h"

struct fm_dtype {
    const char *name;    // as safetensors writes it
    enum fm_type type;   // FM_TYPE_NONE: not one that fulmen reads
    uint32_t bits;       // of one element
    const char *storage; // PyTorch's class in module torch; NULL: none
};

// NULL when unknown.
const struct fm_dtype *fm_dtype_by_name(struct fm_text name);
const struct fm_dtype *fm_dtype_by_storage(struct fm_text storage);

// Fill in type, dimensions and data_bytes, and count the elements. `quoted` is its name, for messages. FM_FORMAT:
// more than FM_TENSOR_DIMS dimensions, or a size that overflows or is no whole number of bytes.
enum fm_result fm_dtype_shape(const struct fm_dtype *dtype, const char *quoted, uint64_t n_dims, const uint64_t *dims,
                              struct fm_tensor *tensor, uint64_t *out_elems);

#endif
