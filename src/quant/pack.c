// SPDX-License-Identifier: MIT
// From file order to the device layout of quant.h. Units (blocks of the legacy formats, super-blocks of the K formats)
// are rearranged in parallel into one staging buffer a piece at a time; `put` is called from the calling thread only.
#include "base/os.h"
#include "quant/block.h"
#include "quant/quant.h"

#define PIECE_BYTES ((uint64_t)8 << 20)   // file bytes that are rearranged before they are put
#define SLICE_BYTES ((uint64_t)256 << 10) // file bytes that one thread takes at a time

enum { PLANE_QS, PLANE_QH, PLANE_SC, PLANE_SD, PLANES };

struct planes {
    uint8_t *at[PLANES];
};

// Bytes that one unit has in each plane. Plain types have one unit per element.
struct unit_info {
    uint32_t plane_bytes[PLANES];
};

static const struct unit_info unit_infos[FM_TYPE_COUNT] = {
    [FM_TYPE_F32] = {{4, 0, 0, 0}},     [FM_TYPE_F16] = {{2, 0, 0, 0}},      [FM_TYPE_BF16] = {{2, 0, 0, 0}},
    [FM_TYPE_I32] = {{4, 0, 0, 0}},     [FM_TYPE_Q8_0] = {{32, 0, 2, 0}},    [FM_TYPE_Q4_0] = {{16, 0, 2, 0}},
    [FM_TYPE_Q4_1] = {{16, 0, 4, 0}},   [FM_TYPE_Q5_0] = {{16, 4, 2, 0}},    [FM_TYPE_Q5_1] = {{16, 4, 4, 0}},
    [FM_TYPE_Q4_K] = {{128, 0, 16, 0}}, [FM_TYPE_Q5_K] = {{128, 32, 16, 0}}, [FM_TYPE_Q6_K] = {{128, 64, 16, 2}},
};

static uint64_t load_u64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

static void store_u64(uint8_t *at, uint64_t value)
{
    memcpy(at, &value, sizeof(value));
}

#define LOW_NIBBLES 0x0f0f0f0f0f0f0f0full

// 32 file bytes that hold elements 0..31 low and 32..63 high become two blocks of 16 bytes.
static void split_nibbles(const uint8_t src[32], uint8_t dst[32])
{
    for (int j = 0; j < 16; j += 8) {
        uint64_t a = load_u64(src + j), b = load_u64(src + 16 + j);
        store_u64(dst + j, (a & LOW_NIBBLES) | (b & LOW_NIBBLES) << 4);
        store_u64(dst + 16 + j, (a >> 4 & LOW_NIBBLES) | (b & ~LOW_NIBBLES));
    }
}

// Bit 4t+c of qh goes to bit t of byte c (second half of the block: bit 4+t). The product spreads four bits over four
// bytes.
static uint32_t spread_high_bits(uint32_t qh)
{
    uint32_t out = 0;
    for (int t = 0; t < 8; t++)
        out |= ((qh >> (4 * t) & 15) * 0x00204081u & 0x01010101u) << t;
    return out;
}

static void pack_q8_0(const uint8_t *src, size_t units, struct planes to)
{
    const struct fm_block_q8_0 *block = (const void *)src;
    for (size_t i = 0; i < units; i++) {
        memcpy(to.at[PLANE_QS] + 32 * i, block[i].qs, 32);
        memcpy(to.at[PLANE_SC] + 2 * i, block[i].d, 2);
    }
}

static void pack_q4_0(const uint8_t *src, size_t units, struct planes to)
{
    const struct fm_block_q4_0 *block = (const void *)src;
    for (size_t i = 0; i < units; i++) {
        memcpy(to.at[PLANE_QS] + 16 * i, block[i].qs, 16);
        memcpy(to.at[PLANE_SC] + 2 * i, block[i].d, 2);
    }
}

static void pack_q4_1(const uint8_t *src, size_t units, struct planes to)
{
    const struct fm_block_q4_1 *block = (const void *)src;
    for (size_t i = 0; i < units; i++) {
        memcpy(to.at[PLANE_QS] + 16 * i, block[i].qs, 16);
        memcpy(to.at[PLANE_SC] + 4 * i, block[i].d, 2);
        memcpy(to.at[PLANE_SC] + 4 * i + 2, block[i].m, 2);
    }
}

static void pack_q5_0(const uint8_t *src, size_t units, struct planes to)
{
    const struct fm_block_q5_0 *block = (const void *)src;
    for (size_t i = 0; i < units; i++) {
        memcpy(to.at[PLANE_QS] + 16 * i, block[i].qs, 16);
        memcpy(to.at[PLANE_SC] + 2 * i, block[i].d, 2);
        fm_store_u32(to.at[PLANE_QH] + 4 * i, spread_high_bits(fm_load_u32(block[i].qh)));
    }
}

static void pack_q5_1(const uint8_t *src, size_t units, struct planes to)
{
    const struct fm_block_q5_1 *block = (const void *)src;
    for (size_t i = 0; i < units; i++) {
        memcpy(to.at[PLANE_QS] + 16 * i, block[i].qs, 16);
        memcpy(to.at[PLANE_SC] + 4 * i, block[i].d, 2);
        memcpy(to.at[PLANE_SC] + 4 * i + 2, block[i].m, 2);
        fm_store_u32(to.at[PLANE_QH] + 4 * i, spread_high_bits(fm_load_u32(block[i].qh)));
    }
}

static void pack_kscales(const uint8_t d_dmin[4], const uint8_t packed[12], uint8_t dst[16])
{
    uint8_t scales[8], mins[8];
    uint32_t low_scales = 0, low_mins = 0, high = 0;
    fm_kscales_get(packed, scales, mins);
    for (int i = 0; i < 8; i++) {
        low_scales |= (uint32_t)(scales[i] & 15) << (4 * i);
        low_mins |= (uint32_t)(mins[i] & 15) << (4 * i);
        high |= (uint32_t)(scales[i] >> 4) << (2 * i) | (uint32_t)(mins[i] >> 4) << (16 + 2 * i);
    }
    fm_store_u32(dst, low_scales);
    fm_store_u32(dst + 4, low_mins);
    fm_store_u32(dst + 8, high);
    memcpy(dst + 12, d_dmin, 4);
}

static void pack_q4_k(const uint8_t *src, size_t units, struct planes to)
{
    const struct fm_block_q4_k *block = (const void *)src;
    for (size_t i = 0; i < units; i++) {
        for (int c = 0; c < 4; c++)
            split_nibbles(block[i].qs + 32 * c, to.at[PLANE_QS] + 128 * i + 32 * c);
        pack_kscales(block[i].d_dmin, block[i].scales, to.at[PLANE_SC] + 16 * i);
    }
}

static void pack_q5_k(const uint8_t *src, size_t units, struct planes to)
{
    const struct fm_block_q5_k *block = (const void *)src;
    for (size_t i = 0; i < units; i++) {
        for (int c = 0; c < 4; c++)
            split_nibbles(block[i].qs + 32 * c, to.at[PLANE_QS] + 128 * i + 32 * c);
        pack_kscales(block[i].d_dmin, block[i].scales, to.at[PLANE_SC] + 16 * i);
        for (int b = 0; b < 8; b++) {
            uint32_t out = 0;
            for (int t = 0; t < 8; t++)
                out |= (fm_load_u32(block[i].qh + 4 * t) >> b & 0x01010101u) << t;
            fm_store_u32(to.at[PLANE_QH] + 32 * i + 4 * b, out);
        }
    }
}

static void pack_q6_k(const uint8_t *src, size_t units, struct planes to)
{
    const struct fm_block_q6_k *block = (const void *)src;
    for (size_t i = 0; i < units; i++) {
        for (int b = 0; b < 8; b++) { // block b of the super-block: half b/4, row j = b%4 of it
            int half = b / 4, j = b % 4, shift = j < 2 ? 0 : 4;
            const uint8_t *ql = block[i].ql + 64 * half + 32 * (j & 1);
            uint8_t *qs = to.at[PLANE_QS] + 128 * i + 16 * b;
            for (int l = 0; l < 16; l += 8) {
                uint64_t low = load_u64(ql + l) >> shift & LOW_NIBBLES;
                uint64_t high = load_u64(ql + 16 + l) >> shift & LOW_NIBBLES;
                store_u64(qs + l, low | high << 4);
            }
            for (int h = 0; h < 2; h++) {
                uint32_t out = 0;
                for (int t = 0; t < 4; t++)
                    out |= (fm_load_u32(block[i].qh + 32 * half + 16 * h + 4 * t) >> (2 * j) & 0x03030303u) << (2 * t);
                fm_store_u32(to.at[PLANE_QH] + 64 * i + 8 * b + 4 * h, out);
            }
        }
        memcpy(to.at[PLANE_SC] + 16 * i, block[i].scales, 16);
        memcpy(to.at[PLANE_SD] + 2 * i, block[i].d, 2);
    }
}

static void pack_units(enum fm_type type, const uint8_t *src, size_t units, struct planes to)
{
    switch (type) {
    case FM_TYPE_Q4_0: pack_q4_0(src, units, to); break;
    case FM_TYPE_Q4_1: pack_q4_1(src, units, to); break;
    case FM_TYPE_Q5_0: pack_q5_0(src, units, to); break;
    case FM_TYPE_Q5_1: pack_q5_1(src, units, to); break;
    case FM_TYPE_Q8_0: pack_q8_0(src, units, to); break;
    case FM_TYPE_Q4_K: pack_q4_k(src, units, to); break;
    case FM_TYPE_Q5_K: pack_q5_k(src, units, to); break;
    case FM_TYPE_Q6_K: pack_q6_k(src, units, to); break;
    case FM_TYPE_F32:
    case FM_TYPE_F16:
    case FM_TYPE_BF16:
    case FM_TYPE_I32:
    case FM_TYPE_COUNT: break; // plain types are put as they are, and never come here
    }
}

static bool is_plain(enum fm_type type)
{
    return fm_type_info(type)->block_elems == 1;
}

bool fm_pack_layout(enum fm_type type, uint64_t n, uint64_t k, struct fm_pack *out_pack)
{
    uint32_t block_elems = fm_type_info(type)->block_elems;
    uint64_t units, at[PLANES + 1] = {0};
    if (k % block_elems != 0 || !fm_mul_u64(n, k / block_elems, &units))
        return false;
    for (int p = 0; p < PLANES; p++) {
        uint64_t plane_bytes, end;
        if (!fm_mul_u64(units, unit_infos[type].plane_bytes[p], &plane_bytes) ||
            !fm_add_u64(at[p], plane_bytes, &end) || !fm_align_u64(end, 16, &at[p + 1]))
            return false;
    }
    *out_pack = (struct fm_pack){.qs = at[PLANE_QS],
                                 .qh = at[PLANE_QH],
                                 .sc = at[PLANE_SC],
                                 .sd = at[PLANE_SD],
                                 .bytes = at[PLANES]};
    return true;
}

struct piece {
    enum fm_type type;
    const uint8_t *src;
    uint64_t units, slice_units;
    uint32_t unit_bytes; // in the file
    struct planes to;
};

static void pack_slice(void *user, uint32_t index)
{
    const struct piece *piece = user;
    uint64_t first = index * piece->slice_units;
    uint64_t units = FM_MIN(piece->slice_units, piece->units - first);
    struct planes to;
    for (int p = 0; p < PLANES; p++)
        to.at[p] = piece->to.at[p] + first * unit_infos[piece->type].plane_bytes[p];
    pack_units(piece->type, piece->src + first * piece->unit_bytes, (size_t)units, to);
}

// Rearrange `units` units from `src` and put them; `first` is the first unit's index in the weight.
static enum fm_result pack_piece(struct piece *piece, const struct fm_pack *layout, uint64_t first,
                                 fm_pack_put_fn *put, void *user)
{
    const uint64_t planes_at[PLANES] = {layout->qs, layout->qh, layout->sc, layout->sd};
    uint64_t slices = (piece->units + piece->slice_units - 1) / piece->slice_units;
    fm_thread_for(0, (uint32_t)slices, pack_slice, piece);
    for (int p = 0; p < PLANES; p++) {
        uint64_t plane_bytes = unit_infos[piece->type].plane_bytes[p];
        if (plane_bytes == 0)
            continue;
        enum fm_result result =
            put(user, planes_at[p] + first * plane_bytes, piece->to.at[p], (size_t)(piece->units * plane_bytes));
        if (result != FM_OK)
            return result;
    }
    return FM_OK;
}

enum fm_result fm_pack_rows(enum fm_type type, uint64_t n, uint64_t k, uint64_t row0, uint64_t rows, const void *src,
                            fm_pack_put_fn *put, void *user)
{
    const struct fm_type_info *info = fm_type_info(type);
    struct fm_pack layout;
    if (!fm_pack_layout(type, n, k, &layout) || row0 > n || rows > n - row0)
        return fm_fail(FM_ARG, "cannot pack rows %llu..%llu of a %s weight [%llu,%llu]", (unsigned long long)row0,
                       (unsigned long long)(row0 + rows), info->name, (unsigned long long)n, (unsigned long long)k);
    // The planes hold exactly the file's bytes, and the layout's size fitted: no product below can overflow.
    uint64_t row_units = k / info->block_elems;
    uint64_t first = row0 * row_units, units = rows * row_units;
    if (units == 0)
        return FM_OK;
    if (is_plain(type))
        return put(user, layout.qs + first * info->block_bytes, src, (size_t)(units * info->block_bytes));

    uint64_t piece_units = FM_MIN(units, PIECE_BYTES / info->block_bytes);
    uint8_t *buffer = fm_alloc((size_t)(piece_units * info->block_bytes));
    if (buffer == NULL)
        return fm_nomem();
    struct piece piece = {.type = type,
                          .src = src,
                          .slice_units = SLICE_BYTES / info->block_bytes,
                          .unit_bytes = info->block_bytes};
    uint8_t *at = buffer;
    for (int p = 0; p < PLANES; p++) {
        piece.to.at[p] = at;
        at += piece_units * unit_infos[type].plane_bytes[p];
    }
    enum fm_result result = FM_OK;
    for (uint64_t done = 0; done < units && result == FM_OK; done += piece.units) {
        piece.units = FM_MIN(piece_units, units - done);
        result = pack_piece(&piece, &layout, first + done, put, user);
        piece.src += piece.units * piece.unit_bytes;
    }
    fm_free(buffer);
    return result;
}
