// SPDX-License-Identifier: MIT
// The table of tensor types.
#include "quant/quant.h"

#include <strings.h>

#include "quant/block.h"

static const struct fm_type_info infos[FM_TYPE_COUNT] = {
#define X(id, type_name, type_ggml_id, type_block_elems, type_block_bytes, weight)                                     \
    [FM_TYPE_##id] = {.name = type_name,                                                                               \
                      .ggml_id = type_ggml_id,                                                                         \
                      .block_elems = type_block_elems,                                                                 \
                      .block_bytes = type_block_bytes,                                                                 \
                      .is_weight = weight},
#include "quant/quant.def"
#undef X
};

_Static_assert(sizeof(struct fm_block_q4_0) == 18 && sizeof(struct fm_block_q4_1) == 20, "no padding in blocks");
_Static_assert(sizeof(struct fm_block_q5_0) == 22 && sizeof(struct fm_block_q5_1) == 24, "no padding in blocks");
_Static_assert(sizeof(struct fm_block_q8_0) == 34 && sizeof(struct fm_block_q4_k) == 144, "no padding in blocks");
_Static_assert(sizeof(struct fm_block_q5_k) == 176 && sizeof(struct fm_block_q6_k) == 210, "no padding in blocks");

const struct fm_type_info *fm_type_info(enum fm_type type)
{
    return &infos[type];
}

enum fm_type fm_type_from_ggml(uint32_t ggml_id)
{
    for (int i = 0; i < FM_TYPE_COUNT; i++)
        if ((uint32_t)infos[i].ggml_id == ggml_id)
            return (enum fm_type)i;
    return FM_TYPE_NONE;
}

enum fm_type fm_type_from_name(const char *name)
{
    for (int i = 0; i < FM_TYPE_COUNT; i++)
        if (strcasecmp(infos[i].name, name) == 0)
            return (enum fm_type)i;
    return FM_TYPE_NONE;
}

bool fm_type_bytes(enum fm_type type, uint64_t elems, uint64_t *out_bytes)
{
    const struct fm_type_info *info = &infos[type];
    if (elems % info->block_elems != 0)
        return false;
    return fm_mul_u64(elems / info->block_elems, info->block_bytes, out_bytes);
}
