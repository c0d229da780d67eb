// SPDX-License-Identifier: MIT
// Random weights for built-in shapes: one packed block of each type, repeated on the device.
#include <math.h>

#include "run/run.h"

#define PATTERN_ELEMS (1ull << 24)  // of one type on the device
#define DISTINCT_ELEMS (1ull << 15) // different ones among them
#define ROW_ELEMS 4096u
#define DEVIATION 0.02f // what trained models start from; keeps 100 layers finite

// splitmix64; the sum of four uniform numbers is near enough to a bell.
static float random_weight(uint64_t *state)
{
    float sum = 0;
    for (int i = 0; i < 4; i++) {
        uint64_t z = *state += 0x9e3779b97f4a7c15ull;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
        z = (z ^ z >> 27) * 0x94d049bb133111ebull;
        sum += ldexpf((float)((z ^ z >> 31) >> 40), -24) - 0.5f;
    }
    return sum * 1.7320508f * DEVIATION;
}

struct target {
    struct fm_vk *vk;
    struct fm_vk_memory *memory;
    uint64_t base;
};

static enum fm_result put(void *user, uint64_t offset, const void *data, size_t size_bytes)
{
    struct target *t = user;
    return fm_vk_upload(t->vk, t->memory, t->base + offset, data, size_bytes);
}

// A weight [PATTERN_ELEMS / ROW_ELEMS, ROW_ELEMS] of random values in a memory of its own.
static enum fm_result make_pattern(struct fm_vk *vk, enum fm_type type, struct fm_pack *out_pack, struct fm_vk_memory **out_memory)
{
    const uint64_t rows = PATTERN_ELEMS / ROW_ELEMS, distinct_rows = DISTINCT_ELEMS / ROW_ELEMS;
    struct target t = {.vk = vk};
    uint64_t bytes, seed = 1;
    if (!fm_type_bytes(type, DISTINCT_ELEMS, &bytes) || !fm_pack_layout(type, rows, ROW_ELEMS, out_pack))
        return fm_fail(FM_ARG, "no random weights of %s", fm_type_info(type)->name);
    float *values = fm_alloc(DISTINCT_ELEMS * sizeof(*values));
    uint8_t *encoded = fm_alloc((size_t)bytes);
    enum fm_result result = values != NULL && encoded != NULL ? FM_OK : fm_nomem();
    if (result == FM_OK)
        result = fm_vk_memory_create_single(vk, "random", FM_VK_DEVICE, out_pack->bytes, &t.memory);
    if (result == FM_OK) {
        for (uint64_t i = 0; i < DISTINCT_ELEMS; i++)
            values[i] = random_weight(&seed);
        fm_quant_encode(type, values, DISTINCT_ELEMS, encoded);
    }
    for (uint64_t row = 0; row < rows && result == FM_OK; row += distinct_rows)
        result = fm_pack_rows(type, rows, ROW_ELEMS, row, distinct_rows, encoded, put, &t);
    fm_free(values);
    fm_free(encoded);
    if (result != FM_OK) {
        fm_vk_memory_destroy(&t.memory);
        return result;
    }
    *out_memory = t.memory;
    return FM_OK;
}

static enum fm_result repeat(struct fm_vk *vk, struct fm_vk_memory *to, uint64_t to_offset, uint64_t bytes, struct fm_vk_memory *from,
                             uint64_t from_offset, uint64_t from_bytes)
{
    enum fm_result result = FM_OK;
    for (uint64_t done = 0; done < bytes && result == FM_OK; done += from_bytes)
        result = fm_vk_copy(vk, to, to_offset + done, from, from_offset, FM_MIN(from_bytes, bytes - done));
    return result;
}

// A matrix: each plane from the pattern's plane. Blocks stand in the same order in all planes, so any part of them is
// valid.
static enum fm_result fill_matrix(struct fm_vk *vk, struct fm_vk_memory *memory, uint64_t offset, const struct fm_value *value,
                                  struct fm_vk_memory *pattern, const struct fm_pack *pp)
{
    struct fm_pack pack;
    if (!fm_pack_layout(value->type, value->dims[0], value->dims[1], &pack))
        return fm_fail(FM_ARG, "weight '%s': no layout", FM_QUOTE_Z(value->name));
    const uint64_t to[5] = {pack.qs, pack.qh, pack.sc, pack.sd, pack.bytes}, from[5] = {pp->qs, pp->qh, pp->sc, pp->sd, pp->bytes};
    enum fm_result result = FM_OK;
    for (int i = 0; i < 4 && result == FM_OK; i++)
        if (to[i + 1] > to[i])
            result = repeat(vk, memory, offset + to[i], to[i + 1] - to[i], pattern, from[i], from[i + 1] - from[i]);
    return result;
}

// f32 values near `mean`: 1 for vectors, of which norms and biases are not told apart; -1 for the decays of Mamba, whose states
// would grow without end with any above 0.
static enum fm_result fill_near(struct fm_vk *vk, struct fm_vk_memory *memory, uint64_t offset, uint64_t count, float mean)
{
    uint64_t seed = 2;
    float *values = fm_alloc((size_t)count * sizeof(*values));
    if (values == NULL)
        return fm_nomem();
    for (uint64_t i = 0; i < count; i++)
        values[i] = mean + random_weight(&seed);
    enum fm_result result = fm_vk_upload(vk, memory, offset, values, count * sizeof(*values));
    fm_free(values);
    return result;
}

static bool is_decay(const struct fm_graph *graph, uint32_t value)
{
    for (size_t i = 0; i < graph->n_nodes; i++)
        if ((graph->nodes[i].op == FM_OP_SELECTIVE_SCAN || graph->nodes[i].op == FM_OP_SSD) && graph->nodes[i].src[2] == value)
            return true;
    return false;
}

enum fm_result fm_random_load(const struct fm_model *model, struct fm_vk *vk, struct fm_vk_memory *memory,
                              const struct fm_layout *layout, const struct fm_load_params *params)
{
    struct fm_vk_memory *pattern[FM_TYPE_COUNT] = {NULL};
    struct fm_pack pack[FM_TYPE_COUNT];
    uint64_t done = 0;
    enum fm_result result = FM_OK;
    for (uint32_t id = 0; id < model->graph.n_values && result == FM_OK; id++) {
        const struct fm_value *value = &model->graph.values[id];
        if (value->kind != FM_VALUE_WEIGHT)
            continue;
        const bool decay = is_decay(&model->graph, id);
        if (value->n_dims == 1 || (decay && value->type == FM_TYPE_F32)) {
            uint64_t count = value->dims[0] * (value->n_dims > 1 ? (uint64_t)value->dims[1] : 1);
            result = fill_near(vk, memory, layout->place[id].offset, count, decay ? -1.0f : 1.0f);
        } else {
            if (pattern[value->type] == NULL)
                result = make_pattern(vk, value->type, &pack[value->type], &pattern[value->type]);
            if (result == FM_OK)
                result = fill_matrix(vk, memory, layout->place[id].offset, value, pattern[value->type], &pack[value->type]);
        }
        done += layout->place[id].bytes;
        if (result == FM_OK && params->progress != NULL && !params->progress(params->user, done, model->weight_bytes))
            result = fm_fail(FM_CANCELLED, "loading cancelled");
    }
    enum fm_result drained = fm_vk_upload_finish(vk);
    for (int i = 0; i < FM_TYPE_COUNT; i++)
        fm_vk_memory_destroy(&pattern[i]);
    return result != FM_OK ? result : drained;
}
