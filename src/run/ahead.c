// SPDX-License-Identifier: MIT
// Programs ahead of time. The steps in which prompts will be read are known when they begin, so the programs that they will want, and
// that of decoding, are made one by one while the device works on the steps before.
#include "run/session.h"

static bool is_listed(const struct fm_ahead *ahead, struct fm_step_size bucket)
{
    for (uint32_t i = 0; i < ahead->count; i++)
        if (ahead->step[i].rows == bucket.rows && ahead->step[i].run == bucket.run)
            return true;
    return false;
}

// The sources after a step. Returns whether some of a prompt is left.
static bool move_on(struct fm_batch_source *sources, size_t count)
{
    bool left = false;
    for (size_t i = 0; i < count; i++) {
        struct fm_batch_source *s = &sources[i];
        s->pos += s->taken;
        s->left -= FM_MIN(s->left, s->taken);
        left = left || s->left > 0;
    }
    return left;
}

enum fm_result fm_ahead_foresee(struct fm_session *session, const struct fm_batch_source *sources, size_t count,
                                struct fm_ahead *out_ahead)
{
    struct fm_ahead ahead = {0};
    struct fm_batch_source *list = fm_alloc_zero(count, sizeof(*list));
    if (list == NULL)
        return fm_nomem();
    memcpy(list, sources, count * sizeof(*list));
    bool left = true;
    for (size_t turn = 0;; turn++) {
        struct fm_step_size step = fm_batch_take(&session->batch[0], list, count, turn);
        if (step.rows == 0)
            break;
        struct fm_step_size bucket = fm_bucket_of(&session->blueprint.buckets, step);
        if (!is_listed(&ahead, bucket))
            ahead.step[ahead.count++] = bucket;
        if (!left) // this was the step after the prompts
            break;
        left = move_on(list, count);
    }
    fm_free(list);
    *out_ahead = ahead;
    return FM_OK;
}

enum fm_result fm_ahead_prepare(struct fm_session *session, struct fm_ahead *ahead)
{
    while (ahead->next < ahead->count && fm_step_is_ready(session, ahead->step[ahead->next], false))
        ahead->next++;
    return ahead->next < ahead->count ? fm_step_prepare(session, ahead->step[ahead->next++], false) : FM_OK;
}
