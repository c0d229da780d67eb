// SPDX-License-Identifier: MIT
// f32 to blocks. The legacy formats choose scale and rounding as ggml's reference does, so that files agree byte for
// byte; the K formats are in encode_k.c. Input should be finite: a block with NaN or infinity gets some bits, without
// harm.
#include <math.h>

#include "base/half.h"
#include "quant/block.h"
#include "quant/encode_k.h"
#include "quant/quant.h"

#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#endif

// 1/d, or 0 where that would not be finite: such a block is all zero in binary16 anyway.
static float inverse(float d)
{
    float id = d != 0.0f ? 1.0f / d : 0.0f;
    return isfinite(id) ? id : 0.0f;
}

// The element of largest magnitude (the first of several), with its sign.
static float extreme(const float *x)
{
    float best = 0.0f;
    for (int j = 0; j < FM_BLOCK_ELEMS; j++)
        if (fabsf(x[j]) > fabsf(best))
            best = x[j];
    return best;
}

static void range(const float *x, float *out_min, float *out_max)
{
    float min = x[0], max = x[0];
    for (int j = 1; j < FM_BLOCK_ELEMS; j++) {
        min = x[j] < min ? x[j] : min;
        max = x[j] > max ? x[j] : max;
    }
    *out_min = min;
    *out_max = max;
}

// floor(x * id + shift), held in 0..limit; NaN gives 0.
static uint8_t level(float x, float id, float shift, int limit)
{
    float q = x * id + shift;
    if (!(q > 0.0f))
        return 0;
    return (uint8_t)(q < (float)limit ? (int)q : limit);
}

static uint8_t nibbles(uint8_t low, uint8_t high)
{
    return (uint8_t)((low & 15) | (high & 15) << 4);
}

static void encode_q4_0(const float *x, uint64_t k, void *dst)
{
    struct fm_block_q4_0 *block = dst;
    for (const float *end = x + k; x < end; x += FM_BLOCK_ELEMS, block++) {
        float d = extreme(x) / -8.0f, id = inverse(d);
        fm_store_u16(block->d, fm_float_to_half(d));
        for (int j = 0; j < 16; j++)
            block->qs[j] = nibbles(level(x[j], id, 8.5f, 15), level(x[j + 16], id, 8.5f, 15));
    }
}

static void encode_q4_1(const float *x, uint64_t k, void *dst)
{
    struct fm_block_q4_1 *block = dst;
    for (const float *end = x + k; x < end; x += FM_BLOCK_ELEMS, block++) {
        float min, max;
        range(x, &min, &max);
        float d = (max - min) / 15.0f, id = inverse(d);
        fm_store_u16(block->d, fm_float_to_half(d));
        fm_store_u16(block->m, fm_float_to_half(min));
        for (int j = 0; j < 16; j++)
            block->qs[j] = nibbles(level(x[j] - min, id, 0.5f, 15), level(x[j + 16] - min, id, 0.5f, 15));
    }
}

static void encode_q5_0(const float *x, uint64_t k, void *dst)
{
    struct fm_block_q5_0 *block = dst;
    for (const float *end = x + k; x < end; x += FM_BLOCK_ELEMS, block++) {
        float d = extreme(x) / -16.0f, id = inverse(d);
        uint32_t qh = 0;
        fm_store_u16(block->d, fm_float_to_half(d));
        for (int j = 0; j < 16; j++) {
            uint8_t a = level(x[j], id, 16.5f, 31), b = level(x[j + 16], id, 16.5f, 31);
            block->qs[j] = nibbles(a, b);
            qh |= (uint32_t)(a >> 4) << j | (uint32_t)(b >> 4) << (j + 16);
        }
        fm_store_u32(block->qh, qh);
    }
}

static void encode_q5_1(const float *x, uint64_t k, void *dst)
{
    struct fm_block_q5_1 *block = dst;
    for (const float *end = x + k; x < end; x += FM_BLOCK_ELEMS, block++) {
        float min, max;
        range(x, &min, &max);
        float d = (max - min) / 31.0f, id = inverse(d);
        uint32_t qh = 0;
        fm_store_u16(block->d, fm_float_to_half(d));
        fm_store_u16(block->m, fm_float_to_half(min));
        for (int j = 0; j < 16; j++) {
            uint8_t a = level(x[j] - min, id, 0.5f, 31), b = level(x[j + 16] - min, id, 0.5f, 31);
            block->qs[j] = nibbles(a, b);
            qh |= (uint32_t)(a >> 4) << j | (uint32_t)(b >> 4) << (j + 16);
        }
        fm_store_u32(block->qh, qh);
    }
}

static void encode_q8_0(const float *x, uint64_t k, void *dst)
{
    struct fm_block_q8_0 *block = dst;
    for (const float *end = x + k; x < end; x += FM_BLOCK_ELEMS, block++) {
        float d = fabsf(extreme(x)) / 127.0f, id = inverse(d);
        fm_store_u16(block->d, fm_float_to_half(d));
        for (int j = 0; j < FM_BLOCK_ELEMS; j++) {
            float q = roundf(x[j] * id);
            block->qs[j] = (int8_t)(q > -127.0f ? FM_MIN(q, 127.0f) : -127.0f);
        }
    }
}

static void encode_halves(enum fm_type type, const float *x, uint64_t k, uint8_t *dst)
{
    for (uint64_t i = 0; i < k; i++)
        fm_store_u16(dst + 2 * i, type == FM_TYPE_F16 ? fm_float_to_half(x[i]) : fm_float_to_bf16(x[i]));
}

// Rounds to nearest, ties to even; saturates.
static void encode_i32(const float *x, uint64_t k, uint8_t *dst)
{
    for (uint64_t i = 0; i < k; i++) {
        float rounded = rintf(x[i]);
        int32_t value = rounded >= 0x1p31f ? INT32_MAX : rounded >= -0x1p31f ? (int32_t)rounded : INT32_MIN;
        memcpy(dst + 4 * i, &value, sizeof(value));
    }
}

void fm_quant_encode(enum fm_type type, const float *src, uint64_t k, void *dst)
{
    switch (type) {
    case FM_TYPE_F32: memcpy(dst, src, (size_t)k * sizeof(float)); break;
    case FM_TYPE_F16:
    case FM_TYPE_BF16: encode_halves(type, src, k, dst); break;
    case FM_TYPE_I32: encode_i32(src, k, dst); break;
    case FM_TYPE_Q4_0: encode_q4_0(src, k, dst); break;
    case FM_TYPE_Q4_1: encode_q4_1(src, k, dst); break;
    case FM_TYPE_Q5_0: encode_q5_0(src, k, dst); break;
    case FM_TYPE_Q5_1: encode_q5_1(src, k, dst); break;
    case FM_TYPE_Q8_0: encode_q8_0(src, k, dst); break;
    case FM_TYPE_Q4_K: fm_encode_q4_k(src, k, dst); break;
    case FM_TYPE_Q5_K: fm_encode_q5_k(src, k, dst); break;
    case FM_TYPE_Q6_K: fm_encode_q6_k(src, k, dst); break;
    case FM_TYPE_COUNT: break;
    }
}
