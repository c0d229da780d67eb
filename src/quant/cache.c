// SPDX-License-Identifier: MIT
// KV caches of q8_0: between blocks and the device's planes (quant.h).
#include "quant/block.h"
#include "quant/quant.h"

void fm_cache_pack(const void *blocks, uint64_t planes, uint64_t plane_blocks, void *out_planes)
{
    const struct fm_block_q8_0 *block = blocks;
    uint8_t *plane = out_planes;
    for (uint64_t p = 0; p < planes; p++, plane += plane_blocks * sizeof(*block))
        for (uint64_t i = 0; i < plane_blocks; i++, block++) {
            memcpy(plane + plane_blocks * FM_BLOCK_ELEMS + i * 2, block->d, sizeof(block->d));
            memcpy(plane + i * FM_BLOCK_ELEMS, block->qs, sizeof(block->qs));
        }
}

void fm_cache_unpack(const void *planes_bytes, uint64_t planes, uint64_t plane_blocks, void *out_blocks)
{
    struct fm_block_q8_0 *block = out_blocks;
    const uint8_t *plane = planes_bytes;
    for (uint64_t p = 0; p < planes; p++, plane += plane_blocks * sizeof(*block))
        for (uint64_t i = 0; i < plane_blocks; i++, block++) {
            memcpy(block->d, plane + plane_blocks * FM_BLOCK_ELEMS + i * 2, sizeof(block->d));
            memcpy(block->qs, plane + i * FM_BLOCK_ELEMS, sizeof(block->qs));
        }
}
