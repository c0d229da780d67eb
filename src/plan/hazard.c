// SPDX-License-Identifier: MIT
// Barrier groups: dispatches between two barriers may run at once, so none may touch bytes that another of them writes.
#include "plan/build.h"

struct access {
    uint64_t begin, end;
    uint8_t pool;
    bool written;
};

struct open_group {
    struct access *list;
    size_t count, cap;
};

static bool device_writes(uint8_t pool)
{
    return pool == FM_POOL_STATE || pool == FM_POOL_ARENA || pool == FM_POOL_RESULT || pool == FM_POOL_COUNTER;
}

static bool conflicts(const struct open_group *group, const struct fm_binding *bind)
{
    if (!device_writes(bind->pool))
        return false;
    for (size_t i = 0; i < group->count; i++) {
        const struct access *a = &group->list[i];
        if (a->pool == bind->pool && (a->written || bind->written) && a->begin < bind->offset + bind->bytes &&
            bind->offset < a->end)
            return true;
    }
    return false;
}

static enum fm_result remember(struct open_group *group, const struct fm_dispatch *d)
{
    void *list = group->list;
    enum fm_result result = fm_array_reserve(&list, &group->cap, group->count + d->n_bind, sizeof(*group->list));
    group->list = list;
    if (result != FM_OK)
        return result;
    for (uint32_t i = 0; i < d->n_bind; i++) {
        const struct fm_binding *bind = &d->bind[i];
        if (device_writes(bind->pool) && bind->bytes > 0)
            group->list[group->count++] = (struct access){.begin = bind->offset, .end = bind->offset + bind->bytes,
                                                          .pool = bind->pool, .written = bind->written};
    }
    return FM_OK;
}

enum fm_result fm_plan_mark_barriers(struct fm_dispatch *dispatches, size_t count, uint32_t *out_groups)
{
    struct open_group group = {0};
    uint32_t groups = count > 0;
    enum fm_result result = FM_OK;
    for (size_t i = 0; i < count && result == FM_OK; i++) {
        struct fm_dispatch *d = &dispatches[i];
        d->barrier_before = false;
        for (uint32_t b = 0; b < d->n_bind && !d->barrier_before; b++)
            d->barrier_before = conflicts(&group, &d->bind[b]);
        if (d->barrier_before) {
            group.count = 0;
            groups++;
        }
        result = remember(&group, d);
    }
    fm_free(group.list);
    if (result == FM_OK)
        *out_groups = groups;
    return result;
}
