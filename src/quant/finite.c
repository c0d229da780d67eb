// SPDX-License-Identifier: MIT
// Weights that are no finite numbers. In quantised types an element is a small integer times the scale of its block, some types
// add a minimum. A scale or minimum that is infinite or NaN spoils all elements of the block; with finite ones none overflows.
#include "quant/block.h"
#include "quant/quant.h"

#include <stddef.h>

static bool half_bad(const uint8_t at[2])
{
    return (fm_load_u16(at) & 0x7c00u) == 0x7c00u;
}

static bool bad_f32(const uint8_t *at)
{
    return (fm_load_u32(at) & 0x7f800000u) == 0x7f800000u;
}

static bool bad_f16(const uint8_t *at)
{
    return half_bad(at);
}

static bool bad_bf16(const uint8_t *at)
{
    return (fm_load_u16(at) & 0x7f80u) == 0x7f80u;
}

static bool bad_begin(const uint8_t *at) // types that begin with one scale
{
    return half_bad(at);
}

static bool bad_pair(const uint8_t *at) // with a scale and a minimum
{
    return half_bad(at) || half_bad(at + 2);
}

static bool bad_q6_k(const uint8_t *at)
{
    return half_bad(at + offsetof(struct fm_block_q6_k, d));
}

_Static_assert(offsetof(struct fm_block_q8_0, d) == 0 && offsetof(struct fm_block_q4_0, d) == 0 && offsetof(struct fm_block_q5_0, d) == 0,
               "the scale comes first");
_Static_assert(offsetof(struct fm_block_q4_1, m) == 2 && offsetof(struct fm_block_q5_1, m) == 2 &&
                   offsetof(struct fm_block_q4_k, d_dmin) == 0 && offsetof(struct fm_block_q5_k, d_dmin) == 0,
               "scale and minimum come first");

#define AT_ONCE 256u // blocks that are looked at before one of them is looked for: a loop without branches

// Bad blocks among `count`; with `first` only the index of the first one, or `count`.
#define DEFINE_SCAN(name, is_bad, block_bytes)                                                                                         \
    static uint64_t name(const uint8_t *src, uint64_t count, bool first)                                                               \
    {                                                                                                                                  \
        uint64_t total = 0;                                                                                                            \
        for (uint64_t begin = 0; begin < count; begin += AT_ONCE) {                                                                    \
            uint32_t some = (uint32_t)FM_MIN(count - begin, (uint64_t)AT_ONCE), found = 0, i = 0;                                      \
            const uint8_t *at = src + begin * (block_bytes);                                                                           \
            for (uint32_t b = 0; b < some; b++)                                                                                        \
                found += is_bad(at + (size_t)b * (block_bytes));                                                                       \
            total += found;                                                                                                            \
            if (!first || found == 0)                                                                                                  \
                continue;                                                                                                              \
            while (!is_bad(at + (size_t)i * (block_bytes)))                                                                            \
                i++;                                                                                                                   \
            return begin + i;                                                                                                          \
        }                                                                                                                              \
        return first ? count : total;                                                                                                  \
    }

DEFINE_SCAN(scan_f32, bad_f32, 4)
DEFINE_SCAN(scan_f16, bad_f16, 2)
DEFINE_SCAN(scan_bf16, bad_bf16, 2)
DEFINE_SCAN(scan_q8_0, bad_begin, sizeof(struct fm_block_q8_0))
DEFINE_SCAN(scan_q4_0, bad_begin, sizeof(struct fm_block_q4_0))
DEFINE_SCAN(scan_q4_1, bad_pair, sizeof(struct fm_block_q4_1))
DEFINE_SCAN(scan_q5_0, bad_begin, sizeof(struct fm_block_q5_0))
DEFINE_SCAN(scan_q5_1, bad_pair, sizeof(struct fm_block_q5_1))
DEFINE_SCAN(scan_q4_k, bad_pair, sizeof(struct fm_block_q4_k))
DEFINE_SCAN(scan_q5_k, bad_pair, sizeof(struct fm_block_q5_k))
DEFINE_SCAN(scan_q6_k, bad_q6_k, sizeof(struct fm_block_q6_k))

static uint64_t scan(enum fm_type type, const void *src, uint64_t blocks, bool first)
{
    switch (type) {
    case FM_TYPE_F32: return scan_f32(src, blocks, first);
    case FM_TYPE_F16: return scan_f16(src, blocks, first);
    case FM_TYPE_BF16: return scan_bf16(src, blocks, first);
    case FM_TYPE_Q8_0: return scan_q8_0(src, blocks, first);
    case FM_TYPE_Q4_0: return scan_q4_0(src, blocks, first);
    case FM_TYPE_Q4_1: return scan_q4_1(src, blocks, first);
    case FM_TYPE_Q5_0: return scan_q5_0(src, blocks, first);
    case FM_TYPE_Q5_1: return scan_q5_1(src, blocks, first);
    case FM_TYPE_Q4_K: return scan_q4_k(src, blocks, first);
    case FM_TYPE_Q5_K: return scan_q5_k(src, blocks, first);
    case FM_TYPE_Q6_K: return scan_q6_k(src, blocks, first);
    case FM_TYPE_I32:
    case FM_TYPE_COUNT: break; // all integers are finite
    }
    return first ? blocks : 0;
}

uint64_t fm_quant_find_nonfinite(enum fm_type type, const void *src, uint64_t k)
{
    uint32_t block = fm_type_info(type)->block_elems;
    return scan(type, src, k / block, true) * block;
}

uint64_t fm_quant_count_nonfinite(enum fm_type type, const void *src, uint64_t k)
{
    uint32_t block = fm_type_info(type)->block_elems;
    return scan(type, src, k / block, false) * block;
}
