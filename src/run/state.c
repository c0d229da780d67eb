// SPDX-License-Identifier: MIT
// State: what lives from step to step. Every STATE value of the graph has the slots as its first dimension, so a slot's
// part of it is one range of bytes; copying and clearing a sequence is copying and clearing these ranges. Rewinding
// costs nothing: attention reads no position beyond a token's own, and the next token written there replaces what was.
#include "run/session.h"

// Calls fn for a slot's range of every state.
static enum fm_result each_state(struct fm_session *session, enum fm_result (*fn)(struct fm_session *, uint64_t, uint64_t, const void *),
                                 const void *user)
{
    const struct fm_graph *graph = &session->paper.bucket[0].graph;
    enum fm_result result = FM_OK;
    for (uint32_t id = 0; id < session->paper.layout.n_values && id < graph->n_values && result == FM_OK; id++) {
        const struct fm_value *value = &graph->values[id];
        const struct fm_place *place = &session->paper.layout.place[id];
        if (value->kind != FM_VALUE_STATE || value->alias != FM_NONE || place->pool != FM_POOL_STATE)
            continue;
        result = fn(session, place->offset, place->bytes / session->paper.n_slots, user);
    }
    return result;
}

enum fm_result fm_state_create(struct fm_session *session)
{
    const struct fm_pool_size *size = &session->paper.layout.pool[FM_POOL_STATE];
    enum fm_result result = fm_vk_memory_create(session->vk, "state", FM_VK_DEVICE, size, &session->state);
    for (uint32_t i = 0; i < size->n_chunks && result == FM_OK; i++)
        result = fm_vk_fill(session->vk, session->state, i * size->chunk_bytes, size->chunk_used[i] & ~3ull, 0);
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
