// SPDX-License-Identifier: MIT
// Sessions and their slots.
#include "run/session.h"

static enum fm_result create_slots(struct fm_session *session)
{
    uint32_t n_ctx = session->blueprint.n_ctx, n_slots = session->blueprint.n_slots;
    session->slots = fm_alloc_zero(n_slots, sizeof(*session->slots));
    if (session->slots == NULL)
        return fm_nomem();
    for (uint32_t i = 0; i < n_slots; i++) {
        session->slots[i].tokens = fm_alloc_zero(n_ctx, sizeof(uint32_t));
        if (session->slots[i].tokens == NULL)
            return fm_nomem();
    }
    for (uint32_t i = 0; i < FM_RUN_RING; i++) {
        enum fm_result result = fm_batch_init(&session->batch[i], session->blueprint.n_ubatch);
        if (result != FM_OK)
            return result;
        session->batch[i].tail = session->blueprint.state_versions > 0 ? session->blueprint.n_rollback : 0;
    }
    return FM_OK;
}

enum fm_result fm_session_create(struct fm_model *model, const struct fm_session_params *params, struct fm_session **out_session)
{
    if (model->weights == NULL)
        return fm_fail(FM_ARG, "%s is not loaded", model->path);
    struct fm_session *session = fm_alloc_zero(1, sizeof(*session));
    if (session == NULL)
        return fm_nomem();
    session->model = model;
    session->vk = model->device->vk;
    atomic_init(&session->cancelled, false);
    session->cancel = params != NULL ? params->cancel : NULL;
    session->cancel_user = params != NULL ? params->cancel_user : NULL;
    enum fm_result result = fm_blueprint_make(model, fm_vk_caps(session->vk), params, &session->blueprint);
    if (result == FM_OK && session->blueprint.n_ctx > model->config.context)
        fm_log(FM_LOG_WARN, "context %u is more than the %u positions that the model was made for", session->blueprint.n_ctx,
               model->config.context);
    if (result == FM_OK)
        result = create_slots(session);
    if (result == FM_OK)
        result = fm_state_create(session);
    if (result == FM_OK)
        result = fm_step_reserve(session); // no room is told now, not at the first token
    if (result != FM_OK) {
        fm_session_destroy(&session);
        return result;
    }
    *out_session = session;
    return FM_OK;
}

void fm_session_destroy(struct fm_session **handle)
{
    struct fm_session *session = *handle;
    if (session == NULL)
        return;
    *handle = NULL;
    fm_step_finish(session);
    fm_profile_destroy(&session->profile);
    fm_vk_memory_destroy(&session->state);
    for (uint32_t i = 0; i < FM_RUN_RING; i++)
        fm_batch_finish(&session->batch[i]);
    for (uint32_t i = 0; session->slots != NULL && i < session->blueprint.n_slots; i++)
        fm_free(session->slots[i].tokens);
    fm_free(session->slots);
    fm_blueprint_finish(&session->blueprint);
    fm_free(session);
}

void fm_session_get_need(const struct fm_session *session, struct fm_memory_need *out_need)
{
    fm_blueprint_need(&session->blueprint, out_need);
    out_need->arena_bytes = session->arena_bytes + FM_COUNTER_BYTES;
    out_need->step_bytes = session->step_stride * FM_RUN_RING;
    out_need->result_bytes = session->result_stride * FM_RUN_RING;
    out_need->total_bytes = out_need->weights_bytes + out_need->state_bytes + out_need->arena_bytes + out_need->step_bytes +
                            out_need->result_bytes;
}

void fm_session_cancel(struct fm_session *session)
{
    atomic_store(&session->cancelled, true);
}

// ---- slots -------------------------------------------------------------------------------------------------------

static enum fm_result check_slot(const struct fm_session *session, uint32_t slot)
{
    return slot < session->blueprint.n_slots ? FM_OK : fm_fail(FM_ARG, "slot %u of %u", slot, session->blueprint.n_slots);
}

const uint32_t *fm_session_tokens(const struct fm_session *session, uint32_t slot, size_t *out_count)
{
    bool there = slot < session->blueprint.n_slots;
    *out_count = there ? session->slots[slot].count : 0;
    return there ? session->slots[slot].tokens : NULL;
}

enum fm_result fm_session_rewind(struct fm_session *session, uint32_t slot, size_t count)
{
    enum fm_result result = check_slot(session, slot);
    if (result != FM_OK)
        return result;
    if (count > session->slots[slot].count)
        return fm_fail(FM_ARG, "slot %u: cannot rewind to token %zu of %u", slot, count, session->slots[slot].count);
    if (!fm_state_reaches(session, slot, (uint32_t)count))
        return fm_fail(FM_UNSUPPORTED, "slot %u: cannot rewind to token %zu: the states of this recurrent model begin after token %u "
                       "(n_rollback keeps more)", slot, count, session->slots[slot].oldest);
    session->slots[slot].count = (uint32_t)count;
    return FM_OK;
}

enum fm_result fm_session_keep(struct fm_session *session, uint32_t slot, const uint32_t *tokens, size_t count, size_t *out_kept)
{
    enum fm_result result = check_slot(session, slot);
    if (result != FM_OK)
        return result;
    struct fm_slot *s = &session->slots[slot];
    uint32_t kept = 0;
    while (kept < s->count && (size_t)kept + 1 < count && s->tokens[kept] == tokens[kept])
        kept++;
    s->count = fm_state_reaches(session, slot, kept) ? kept : 0;
    kept = s->count;
    *out_kept = kept;
    return FM_OK;
}

enum fm_result fm_session_fork(struct fm_session *session, uint32_t from, uint32_t to)
{
    enum fm_result result = check_slot(session, from);
    if (result == FM_OK)
        result = check_slot(session, to);
    if (result != FM_OK || from == to)
        return result;
    result = fm_state_copy_slot(session, from, to);
    if (result != FM_OK) {
        session->slots[to].count = 0; // half a copy is none
        return result;
    }
    session->slots[to].count = session->slots[from].count;
    session->slots[to].newest = session->slots[from].newest;
    session->slots[to].oldest = session->slots[from].oldest;
    memcpy(session->slots[to].tokens, session->slots[from].tokens, session->slots[from].count * sizeof(uint32_t));
    return FM_OK;
}
