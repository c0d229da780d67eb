// SPDX-License-Identifier: MIT
// Blocks as they lie in files, little-endian, no padding. Internal to quant/. The formats are those of ggml.
#ifndef FM_QUANT_BLOCK_H
#define FM_QUANT_BLOCK_H

#include <stdint.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "fulmen reads model files in place and needs a little-endian machine"
#endif

#define FM_BLOCK_ELEMS 32  // elements of a legacy block, and of a sub-block of Q4_K and Q5_K
#define FM_SUPER_ELEMS 256 // elements of a super-block

// d, m, dmin are binary16 (d_dmin: d, then dmin). In the legacy formats byte j of qs
// holds element j low and element j+16 high; qh, a little-endian u32 kept as bytes, has bit j = bit 4 of element j.
struct fm_block_q4_0 {
    uint8_t d[2], qs[16];
};
struct fm_block_q4_1 {
    uint8_t d[2], m[2], qs[16];
};
struct fm_block_q5_0 {
    uint8_t d[2], qh[4], qs[16];
};
struct fm_block_q5_1 {
    uint8_t d[2], m[2], qh[4], qs[16];
};
struct fm_block_q8_0 {
    uint8_t d[2];
    int8_t qs[32];
};
// Byte 32c+l of qs holds element 64c+l low and 64c+32+l high; bit b of qh[l] is bit 4 of element 32b+l.
struct fm_block_q4_k {
    uint8_t d_dmin[4], scales[12], qs[128];
};
struct fm_block_q5_k {
    uint8_t d_dmin[4], scales[12], qh[32], qs[128];
};
// Per half of 128 elements h: element 32j+l (j < 4) has its low nibble in ql[64h + 32(j&1) + l], low half of the byte
// for j < 2, and bits 4..5 at bit 2j of qh[32h+l]. scales[i] belongs to elements 16i..16i+15.
struct fm_block_q6_k {
    uint8_t ql[128], qh[64];
    int8_t scales[16];
    uint8_t d[2];
};

static inline uint16_t fm_load_u16(const uint8_t *at)
{
    uint16_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

static inline uint32_t fm_load_u32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

static inline void fm_store_u16(uint8_t *at, uint16_t value)
{
    memcpy(at, &value, sizeof(value));
}

static inline void fm_store_u32(uint8_t *at, uint32_t value)
{
    memcpy(at, &value, sizeof(value));
}

// The 6-bit scales and minimums of Q4_K and Q5_K: the first four of each have their six bits in bytes i and 4+i; of the
// others the low nibbles share byte 8+(i-4), and the upper two bits sit above those of their partner i-4.
static inline void fm_kscales_get(const uint8_t packed[12], uint8_t out_scales[8], uint8_t out_mins[8])
{
    for (int i = 0; i < 4; i++) {
        out_scales[i] = packed[i] & 63;
        out_mins[i] = packed[4 + i] & 63;
        out_scales[4 + i] = (uint8_t)((packed[8 + i] & 15) | (packed[i] >> 6 << 4));
        out_mins[4 + i] = (uint8_t)((packed[8 + i] >> 4) | (packed[4 + i] >> 6 << 4));
    }
}

static inline void fm_kscales_put(const uint8_t scales[8], const uint8_t mins[8], uint8_t out_packed[12])
{
    for (int i = 0; i < 4; i++) {
        out_packed[i] = (uint8_t)(scales[i] | (scales[4 + i] >> 4 << 6));
        out_packed[4 + i] = (uint8_t)(mins[i] | (mins[4 + i] >> 4 << 6));
        out_packed[8 + i] = (uint8_t)((scales[4 + i] & 15) | ((mins[4 + i] & 15) << 4));
    }
}

#endif
