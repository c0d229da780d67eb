// SPDX-License-Identifier: MIT
// Rungs of the capability ladder.
#include "kernel/kernel.h"

#include <stdio.h>

static const char *const rung_names[FM_RUNG_COUNT] = {
    [FM_RUNG_BASE] = "base", [FM_RUNG_SG] = "sg",   [FM_RUNG_F16] = "f16", [FM_RUNG_DOT] = "dot",
    [FM_RUNG_CM] = "cm",     [FM_RUNG_CMR] = "cmr",
};

static const struct {
    const char *name;
    enum fm_rung rung;
    uint64_t bit;
} cap_infos[FM_CAP_COUNT] = {
#define X(id, name, rung, what) {name, FM_RUNG_##rung, 1ull << FM_CAP_INDEX_##id},
#include "kernel/rungs.def"
#undef X
};

const char *fm_rung_name(enum fm_rung rung)
{
    return (unsigned)rung < FM_RUNG_COUNT ? rung_names[rung] : "unknown";
}

enum fm_rung fm_rung_from_name(const char *name)
{
    for (unsigned i = 0; i < FM_RUNG_COUNT; i++)
        if (strcmp(rung_names[i], name) == 0)
            return (enum fm_rung)i;
    return FM_RUNG_COUNT;
}

enum fm_result fm_rung_limit(const char *name, enum fm_rung *out_rung)
{
    enum fm_rung rung = name == NULL || name[0] == '\0' ? (enum fm_rung)(FM_RUNG_COUNT - 1) : fm_rung_from_name(name);
    char list[80] = "";
    if (rung != FM_RUNG_COUNT) {
        *out_rung = rung;
        return FM_OK;
    }
    for (unsigned i = 0; i < FM_RUNG_COUNT; i++) {
        size_t used = strlen(list);
        snprintf(list + used, sizeof(list) - used, " %s", rung_names[i]);
    }
    return fm_fail(FM_ARG, "no rung '%.32s', there are%s", name, list);
}

const char *fm_cap_name(enum fm_cap_index index)
{
    return (unsigned)index < FM_CAP_COUNT ? cap_infos[index].name : "unknown";
}

const char *fm_matrix_order_name(enum fm_matrix_order order)
{
    static const char *const names[FM_MATRIX_ORDER_COUNT] = {"none", "quads", "lane_k"};
    return order < FM_MATRIX_ORDER_COUNT ? names[order] : names[0];
}

uint64_t fm_rung_bits(enum fm_rung rung)
{
    uint64_t bits = 0;
    for (unsigned i = 0; i < FM_CAP_COUNT; i++)
        if (cap_infos[i].rung <= rung)
            bits |= cap_infos[i].bit;
    return bits;
}

enum fm_rung fm_caps_rung(const struct fm_caps *caps)
{
    unsigned rung = FM_RUNG_BASE;
    while (rung + 1 < FM_RUNG_COUNT) {
        uint64_t wanted = fm_rung_bits((enum fm_rung)(rung + 1));
        if ((caps->bits & wanted) != wanted)
            break;
        rung++;
    }
    return (enum fm_rung)rung;
}

struct fm_caps fm_caps_mask(const struct fm_caps *caps, enum fm_rung rung)
{
    struct fm_caps masked = *caps;
    masked.bits &= fm_rung_bits(rung);
    if (rung < FM_RUNG_CM) {
        masked.n_matrix = 0;
        masked.matrix_order = FM_MATRIX_ORDER_NONE;
    }
    return masked;
}
