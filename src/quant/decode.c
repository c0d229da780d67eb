// SPDX-License-Identifier: MIT
// Blocks to f32. The order of the products is part of each format's definition: results agree to the bit with ggml's
// reference, so no multiply-add may be contracted here.
#include "base/half.h"
#include "quant/block.h"
#include "quant/quant.h"

#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#endif

static float load_half(const uint8_t *at)
{
    return fm_half_to_float(fm_load_u16(at));
}

static void decode_f16(const uint8_t *src, uint64_t k, float *dst)
{
    for (uint64_t i = 0; i < k; i++)
        dst[i] = load_half(src + 2 * i);
}

static void decode_bf16(const uint8_t *src, uint64_t k, float *dst)
{
    for (uint64_t i = 0; i < k; i++)
        dst[i] = fm_bf16_to_float(fm_load_u16(src + 2 * i));
}

static void decode_i32(const uint8_t *src, uint64_t k, float *dst)
{
    for (uint64_t i = 0; i < k; i++) {
        int32_t value;
        memcpy(&value, src + 4 * i, sizeof(value));
        dst[i] = (float)value;
    }
}

static void decode_q4_0(const void *src, uint64_t k, float *dst)
{
    const struct fm_block_q4_0 *block = src;
    for (const float *end = dst + k; dst < end; dst += FM_BLOCK_ELEMS, block++) {
        float d = load_half(block->d);
        for (int j = 0; j < 16; j++) {
            dst[j] = (float)((block->qs[j] & 15) - 8) * d;
            dst[j + 16] = (float)((block->qs[j] >> 4) - 8) * d;
        }
    }
}

static void decode_q4_1(const void *src, uint64_t k, float *dst)
{
    const struct fm_block_q4_1 *block = src;
    for (const float *end = dst + k; dst < end; dst += FM_BLOCK_ELEMS, block++) {
        float d = load_half(block->d), m = load_half(block->m);
        for (int j = 0; j < 16; j++) {
            dst[j] = (float)(block->qs[j] & 15) * d + m;
            dst[j + 16] = (float)(block->qs[j] >> 4) * d + m;
        }
    }
}

// The 5-bit value of element j (nibble `low`) of a legacy block.
static int five_bits(uint32_t qh, int low, int j)
{
    return low | (int)((qh >> j) & 1u) << 4;
}

static void decode_q5_0(const void *src, uint64_t k, float *dst)
{
    const struct fm_block_q5_0 *block = src;
    for (const float *end = dst + k; dst < end; dst += FM_BLOCK_ELEMS, block++) {
        float d = load_half(block->d);
        uint32_t qh = fm_load_u32(block->qh);
        for (int j = 0; j < 16; j++) {
            dst[j] = (float)(five_bits(qh, block->qs[j] & 15, j) - 16) * d;
            dst[j + 16] = (float)(five_bits(qh, block->qs[j] >> 4, j + 16) - 16) * d;
        }
    }
}

static void decode_q5_1(const void *src, uint64_t k, float *dst)
{
    const struct fm_block_q5_1 *block = src;
    for (const float *end = dst + k; dst < end; dst += FM_BLOCK_ELEMS, block++) {
        float d = load_half(block->d), m = load_half(block->m);
        uint32_t qh = fm_load_u32(block->qh);
        for (int j = 0; j < 16; j++) {
            dst[j] = (float)five_bits(qh, block->qs[j] & 15, j) * d + m;
            dst[j + 16] = (float)five_bits(qh, block->qs[j] >> 4, j + 16) * d + m;
        }
    }
}

static void decode_q8_0(const void *src, uint64_t k, float *dst)
{
    const struct fm_block_q8_0 *block = src;
    for (const float *end = dst + k; dst < end; dst += FM_BLOCK_ELEMS, block++) {
        float d = load_half(block->d);
        for (int j = 0; j < FM_BLOCK_ELEMS; j++)
            dst[j] = (float)block->qs[j] * d;
    }
}

// Q4_K, and Q5_K when qh is not NULL: one super-block.
static void decode_super(const uint8_t d_dmin[4], const uint8_t packed[12], const uint8_t *qs, const uint8_t *qh,
                         float *dst)
{
    float d = load_half(d_dmin), dmin = load_half(d_dmin + 2);
    uint8_t scales[8], mins[8];
    fm_kscales_get(packed, scales, mins);
    for (int b = 0; b < 8; b++) {
        float scale = d * scales[b], min = dmin * mins[b];
        const uint8_t *low = qs + 32 * (b / 2);
        for (int l = 0; l < FM_BLOCK_ELEMS; l++) {
            int q = b % 2 == 0 ? low[l] & 15 : low[l] >> 4;
            if (qh != NULL)
                q |= ((qh[l] >> b) & 1) << 4;
            dst[FM_BLOCK_ELEMS * b + l] = scale * (float)q - min;
        }
    }
}

static void decode_q4_k(const void *src, uint64_t k, float *dst)
{
    const struct fm_block_q4_k *block = src;
    for (const float *end = dst + k; dst < end; dst += FM_SUPER_ELEMS, block++)
        decode_super(block->d_dmin, block->scales, block->qs, NULL, dst);
}

static void decode_q5_k(const void *src, uint64_t k, float *dst)
{
    const struct fm_block_q5_k *block = src;
    for (const float *end = dst + k; dst < end; dst += FM_SUPER_ELEMS, block++)
        decode_super(block->d_dmin, block->scales, block->qs, block->qh, dst);
}

static void decode_q6_k(const void *src, uint64_t k, float *dst)
{
    const struct fm_block_q6_k *block = src;
    for (const float *end = dst + k; dst < end; dst += FM_SUPER_ELEMS, block++) {
        float d = load_half(block->d);
        for (int e = 0; e < FM_SUPER_ELEMS; e++) {
            int half = e / 128, j = e / 32 % 4, l = e % 32;
            int low = block->ql[64 * half + 32 * (j & 1) + l] >> (j < 2 ? 0 : 4) & 15;
            int high = block->qh[32 * half + l] >> (2 * j) & 3;
            dst[e] = d * block->scales[e / 16] * (float)((low | high << 4) - 32);
        }
    }
}

void fm_quant_decode(enum fm_type type, const void *src, uint64_t k, float *dst)
{
    switch (type) {
    case FM_TYPE_F32: memcpy(dst, src, (size_t)k * sizeof(float)); break;
    case FM_TYPE_F16: decode_f16(src, k, dst); break;
    case FM_TYPE_BF16: decode_bf16(src, k, dst); break;
    case FM_TYPE_I32: decode_i32(src, k, dst); break;
    case FM_TYPE_Q4_0: decode_q4_0(src, k, dst); break;
    case FM_TYPE_Q4_1: decode_q4_1(src, k, dst); break;
    case FM_TYPE_Q5_0: decode_q5_0(src, k, dst); break;
    case FM_TYPE_Q5_1: decode_q5_1(src, k, dst); break;
    case FM_TYPE_Q8_0: decode_q8_0(src, k, dst); break;
    case FM_TYPE_Q4_K: decode_q4_k(src, k, dst); break;
    case FM_TYPE_Q5_K: decode_q5_k(src, k, dst); break;
    case FM_TYPE_Q6_K: decode_q6_k(src, k, dst); break;
    case FM_TYPE_COUNT: break;
    }
}
