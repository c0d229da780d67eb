// SPDX-License-Identifier: MIT
// Weight formats: what one block holds, scalar encode and decode, and the layout that the GPU reads.
#ifndef FM_QUANT_QUANT_H
#define FM_QUANT_QUANT_H

#include "base/base.h"

enum fm_type {
#define X(id, name, ggml_id, block_elems, block_bytes, is_weight) FM_TYPE_##id,
#include "quant/quant.def"
#undef X
    FM_TYPE_COUNT,
    FM_TYPE_NONE = FM_TYPE_COUNT // "no such operand" in kernel rows
};

struct fm_type_info {
    const char *name; // as llama.cpp prints it: "q4_K"
    int32_t ggml_id;  // type number in GGUF files
    uint32_t block_elems;
    uint32_t block_bytes; // in files
    bool is_weight;       // some kernel can read it as a weight
};

const struct fm_type_info *fm_type_info(enum fm_type type); // static; type < FM_TYPE_COUNT
// FM_TYPE_NONE when unknown. Names compare without case.
enum fm_type fm_type_from_ggml(uint32_t ggml_id);
enum fm_type fm_type_from_name(const char *name);

// File bytes of `elems` elements; false on overflow or when elems is no multiple of the block.
bool fm_type_bytes(enum fm_type type, uint64_t elems, uint64_t *out_bytes);

// Decode k elements (a multiple of the block) of a row as stored in files to f32. Defined as ggml defines the format.
void fm_quant_decode(enum fm_type type, const void *src, uint64_t k, float *dst);
// Encode k elements. Every format is implemented (K-quants by weighted least-squares search of scale and minimum).
void fm_quant_encode(enum fm_type type, const float *src, uint64_t k, void *dst);

// Elements of k (a multiple of the block) that are infinite or NaN, as those of a block with such a scale all are: the index of
// the first, k when there is none; how many.
uint64_t fm_quant_find_nonfinite(enum fm_type type, const void *src, uint64_t k);
uint64_t fm_quant_count_nonfinite(enum fm_type type, const void *src, uint64_t k);

// ---- GPU layout ----------------------------------------------------------------------------------------------------
//
// A weight [N,K] lies on the device as up to four planes, one after another, each starting at a multiple of 16 bytes.
// F32, F16 and BF16 have one plane: the elements, row-major, as in the file. Quantised types are cut into blocks of 32
// elements of one row, block b = row * (K/32) + k/32, and super-blocks of 256, s = row * (K/256) + k/256:
//
//   qs   per block: 32 bytes (Q8_0: int8, in order) or 16 bytes (all others): byte j holds the low 4 bits of element j
//        in its low and of element j+16 in its high nibble.
//   qh   5-bit types, per block one u32: byte lane c (0..3), bit t (0..3) is bit 4 of element 4t+c, bit 4+t that of
//        element 16+4t+c. Q6_K, per block two u32: word h (0..1), byte lane c, bits 2t..2t+1 are bits 4..5 of
//        element 16h+4t+c.   (So `(qh >> t) & 0x01010101` pairs with word t of the low nibbles.)
//   sc   Q8_0 Q4_0 Q5_0: f16 d per block. Q4_1 Q5_1: u32 per block, f16 d in the low, f16 m in the high half.
//        Q4_K Q5_K, per super-block four u32: word 0 = low 4 bits of the 8 sub-block scales, scale i at bit 4i; word 1
//        = the same of the 8 minimums; word 2 = upper 2 bits of scale i at bit 2i, of minimum i at bit 16+2i; word 3 =
//        f16 d (low half), f16 dmin (high half).
//        Q6_K: per block two int8 (elements 0..15, 16..31).
//   sd   Q6_K: f16 d per super-block.
//
// Values: Q8_0 d*q; Q4_0 d*(q-8); Q4_1 d*q+m; Q5_0 d*(q-16); Q5_1 d*q+m; Q4_K, Q5_K d*scale*q - dmin*min;
// Q6_K d*scale*(q-32).

struct fm_pack {
    uint64_t qs, qh, sc, sd; // byte offsets of the planes (equal to the next when absent)
    uint64_t bytes;          // size of the whole, a multiple of 16
};

// Plane offsets of a weight [n,k]. false on overflow or when k is no multiple of the block.
bool fm_pack_layout(enum fm_type type, uint64_t n, uint64_t k, struct fm_pack *out_pack);

// Pack `rows` rows starting at row0 of a weight [n,k] from file order `src` (pointing at row row0) to the device
// layout. Each plane's part is written through `put(user, offset in the packed weight, data, bytes)` in pieces of any
// size; a failing put ends the packing with its result. Rows of plain types go out without a copy.
typedef enum fm_result fm_pack_put_fn(void *user, uint64_t offset_bytes, const void *data, size_t size_bytes);
enum fm_result fm_pack_rows(enum fm_type type, uint64_t n, uint64_t k, uint64_t row0, uint64_t rows, const void *src, fm_pack_put_fn *put,
                            void *user);

// KV caches of q8_0, states [S,G,L,Cp]: S*G planes of L*Cp elements one after another, each all its int8 in order, then its
// scales, f16 per 32 neighbours; as many bytes as blocks have. Cp is a multiple of 32, L of FM_CACHE_POSITIONS, so that planes
// begin at multiples of 16 bytes.
#define FM_CACHE_POSITIONS 8u
// Blocks in the order of files to planes of `plane_blocks` blocks, and back.
void fm_cache_pack(const void *blocks, uint64_t planes, uint64_t plane_blocks, void *out_planes);
void fm_cache_unpack(const void *planes_bytes, uint64_t planes, uint64_t plane_blocks, void *out_blocks);

#endif
