// SPDX-License-Identifier: MIT
// State: what lives from step to step. Every STATE value of the graph has the slots as its first dimension, so a slot's
// part of it is one range of bytes; copying a sequence is copying these ranges. Rewinding costs nothing: attention reads no
// position beyond a token's own, and the next token written there replaces what was; recurrent states are kept in
// several state versions (graph/ops.def), and the position says which one is read.
#include "run/session.h"

// Calls fn for a slot's range of every state.
static enum fm_result each_state(struct fm_session *session, enum fm_result (*fn)(struct fm_session *, uint64_t, uint64_t, const void *),
                                 const void *user)
{
    const struct fm_graph *graph = fm_blueprint_graph(&session->blueprint);
    enum fm_result result = FM_OK;
    for (uint32_t id = 0; id < session->blueprint.layout.n_values && id < graph->n_values && result == FM_OK; id++) {
        const struct fm_value *value = &graph->values[id];
        const struct fm_place *place = &session->blueprint.layout.place[id];
        if (value->kind != FM_VALUE_STATE || value->alias != FM_NONE || place->pool != FM_POOL_STATE)
            continue;
        result = fn(session, place->offset, place->bytes / session->blueprint.n_slots, user);
    }
    return result;
}

enum fm_result fm_state_create(struct fm_session *session)
{
    const struct fm_pool_size *size = &session->blueprint.layout.pool[FM_POOL_STATE];
    enum fm_result result = fm_vk_memory_create(session->vk, "state", FM_VK_DEVICE, size, &session->state);
    for (uint32_t i = 0; i < size->n_allocs && result == FM_OK; i++)
        result = fm_vk_fill(session->vk, session->state, i * size->alloc_bytes, size->alloc_used[i] & ~3ull, 0);
    return result;
}

static enum fm_result copy_range(struct fm_session *session, uint64_t offset, uint64_t slot_bytes, const void *user)
{
    const uint32_t *from_to = user;
    return fm_vk_copy(session->vk, session->state, offset + from_to[1] * slot_bytes, session->state, offset + from_to[0] * slot_bytes,
                      slot_bytes);
}

enum fm_result fm_state_copy_slot(struct fm_session *session, uint32_t from, uint32_t to)
{
    const uint32_t from_to[2] = {from, to};
    return each_state(session, copy_range, from_to);
}

void fm_state_moved(struct fm_session *session, uint32_t slot, uint32_t pos, uint32_t rows, uint32_t run)
{
    struct fm_slot *s = &session->slots[slot];
    uint32_t state_versions = session->blueprint.state_versions, newest = pos + rows;
    uint32_t reach = newest >= state_versions ? newest - state_versions + 1 : 0;
    if (pos == 0)
        s->oldest = 0; // begins from nothing, which needs no version
    // Where a sequence may have many rows, only the version after its last one is written.
    s->oldest = run <= FM_STATE_VERSION_ROWS || rows == 1 ? FM_MAX(s->oldest, reach) : newest;
    s->newest = newest;
}

bool fm_state_reaches(const struct fm_session *session, uint32_t slot, uint32_t count)
{
    const struct fm_slot *s = &session->slots[slot];
    return session->blueprint.state_versions == 0 || count == 0 || (count >= s->oldest && count <= s->newest);
}

// What of one state a slot's tokens are made of: rows of caches [S,G,L,Cp], ids of the history [S,L], the version of a
// recurrent state [S,B,..], or all.
static enum fm_result each_range(const struct fm_session *session, const struct fm_value *value, const struct fm_place *place,
                                 uint32_t slot, uint32_t count, fm_state_fn *fn, void *user)
{
    uint64_t slot_bytes = place->bytes / session->blueprint.n_slots, at = place->offset + slot * slot_bytes;
    uint32_t n = value->n_dims;
    if (n == 4 && value->dims[1] == FM_DIM_B) {
        uint64_t version_bytes = slot_bytes / session->blueprint.state_versions;
        return fn(user, at + count % session->blueprint.state_versions * version_bytes, version_bytes);
    }
    if (n == 4 && value->dims[2] == FM_DIM_L) {
        bool blocks = value->type == FM_TYPE_Q8_0; // values of all positions, then scales of all (quant/quant.h)
        uint64_t head = slot_bytes / value->dims[1], n_ctx = session->blueprint.n_ctx;
        uint64_t row = blocks ? value->dims[3] : head / n_ctx, scales = blocks ? row / 16 : 0;
        enum fm_result result = FM_OK;
        for (uint32_t g = 0; g < value->dims[1] && count > 0 && result == FM_OK; g++) {
            result = fn(user, at + g * head, row * count);
            if (result == FM_OK && scales > 0)
                result = fn(user, at + g * head + row * n_ctx, scales * count);
        }
        return result;
    }
    if (n == 2 && value->dims[1] == FM_DIM_L)
        return count > 0 ? fn(user, at, slot_bytes / session->blueprint.n_ctx * count) : FM_OK;
    return fn(user, at, slot_bytes);
}

enum fm_result fm_state_each(const struct fm_session *session, uint32_t slot, uint32_t count, fm_state_fn *fn, void *user)
{
    const struct fm_graph *graph = fm_blueprint_graph(&session->blueprint);
    enum fm_result result = FM_OK;
    for (uint32_t id = 0; id < session->blueprint.layout.n_values && id < graph->n_values && result == FM_OK; id++) {
        const struct fm_value *value = &graph->values[id];
        const struct fm_place *place = &session->blueprint.layout.place[id];
        if (value->kind == FM_VALUE_STATE && value->alias == FM_NONE && place->pool == FM_POOL_STATE)
            result = each_range(session, value, place, slot, count, fn, user);
    }
    return result;
}
