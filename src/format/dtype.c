// SPDX-License-Identifier: MIT
// Element types of checkpoint files.
#include "format/dtype.h"

static const struct fm_dtype dtypes[] = {
    {"F32", FM_TYPE_F32, 32, "FloatStorage"},
    {"F16", FM_TYPE_F16, 16, "HalfStorage"},
    {"BF16", FM_TYPE_BF16, 16, "BFloat16Storage"},
    {"I32", FM_TYPE_I32, 32, "IntStorage"},
    {"F64", FM_TYPE_NONE, 64, "DoubleStorage"},
    {"I64", FM_TYPE_NONE, 64, "LongStorage"},
    {"I16", FM_TYPE_NONE, 16, "ShortStorage"},
    {"I8", FM_TYPE_NONE, 8, "CharStorage"},
    {"U8", FM_TYPE_NONE, 8, "ByteStorage"},
    {"BOOL", FM_TYPE_NONE, 8, "BoolStorage"},
    {"U64", FM_TYPE_NONE, 64, NULL},
    {"U32", FM_TYPE_NONE, 32, NULL},
    {"U16", FM_TYPE_NONE, 16, NULL},
    {"C64", FM_TYPE_NONE, 64, NULL},
    {"F8_E4M3", FM_TYPE_NONE, 8, NULL},
    {"F8_E5M2", FM_TYPE_NONE, 8, NULL},
    {"F8_E8M0", FM_TYPE_NONE, 8, NULL},
    {"F6_E3M2", FM_TYPE_NONE, 6, NULL},
    {"F6_E2M3", FM_TYPE_NONE, 6, NULL},
    {"F4", FM_TYPE_NONE, 4, NULL},
};

static bool equal(struct fm_text text, const char *word)
{
    return word != NULL && strlen(word) == text.bytes && memcmp(word, text.data, (size_t)text.bytes) == 0;
}

const struct fm_dtype *fm_dtype_by_name(struct fm_text name)
{
    for (size_t i = 0; i < FM_COUNT(dtypes); i++)
        if (equal(name, dtypes[i].name))
            return &dtypes[i];
    return NULL;
}

const struct fm_dtype *fm_dtype_by_storage(struct fm_text storage)
{
    for (size_t i = 0; i < FM_COUNT(dtypes); i++)
        if (equal(storage, dtypes[i].storage))
            return &dtypes[i];
    return NULL;
}

enum fm_result fm_dtype_shape(const struct fm_dtype *dtype, const char *quoted, uint64_t n_dims, const uint64_t *dims,
                              struct fm_tensor *tensor, uint64_t *out_elems)
{
    uint64_t elems = 1, bits;
    if (n_dims > FM_TENSOR_DIMS)
        return fm_fail(FM_FORMAT, "tensor '%s': %llu dimensions, expected at most %d", quoted,
                       (unsigned long long)n_dims, FM_TENSOR_DIMS);
    for (uint32_t i = 0; i < FM_TENSOR_DIMS; i++) {
        uint64_t dim = i < n_dims ? dims[i] : 1;
        if (!fm_mul_u64(elems, dim, &elems) || elems > INT64_MAX)
            return fm_fail(FM_FORMAT, "tensor '%s': the product of its dimensions overflows at dimension %u, %llu",
                           quoted, i, (unsigned long long)dim);
        tensor->dims[i] = dim;
    }
    if (!fm_mul_u64(elems, dtype->bits, &bits))
        return fm_fail(FM_FORMAT, "tensor '%s': the size of %llu elements of %s overflows", quoted,
                       (unsigned long long)elems, dtype->name);
    if (bits % 8 != 0)
        return fm_fail(FM_FORMAT, "tensor '%s': %llu elements of %s are no whole number of bytes", quoted,
                       (unsigned long long)elems, dtype->name);
    tensor->type = dtype->type;
    tensor->type_name = dtype->name;
    tensor->n_dims = (uint32_t)n_dims;
    tensor->data_bytes = bits / 8;
    *out_elems = elems;
    return FM_OK;
}
