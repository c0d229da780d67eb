// SPDX-License-Identifier: MIT
// GPU times of a program that is replayed, on a device that is awake.
#include "check/timing.h"

#include "base/os.h"

#include <stdlib.h>

#define WARM_MIN_NS 300000000ull
#define WARM_MAX_NS 2000000000ull
#define WARM_ROUND_NS 20000000ull // aim of one round of replays
#define WARM_ROUND_MOST 64u
#define WARM_AGREE 0.03

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

struct timing {
    struct fm_vk *vk;
    struct fm_vk_program *program, *before;
    fm_cancel_fn *cancel;
    void *user;
};

// Wait for the replay in an entry and read its time.
static enum fm_result collect(const struct timing *t, uint32_t entry, uint64_t done, uint64_t *out_ns)
{
    enum fm_result r = fm_vk_wait(t->vk, done, UINT64_MAX);
    return r ? r : fm_vk_program_times(t->program, entry, out_ns, NULL);
}

// `count` replays with FM_TIMING_RING of them under way.
static enum fm_result replay(const struct timing *t, uint32_t count, uint64_t *out_ns)
{
    uint64_t done[FM_TIMING_RING], ahead;
    enum fm_result r = FM_OK;
    for (uint32_t i = 0; i < count && !r; i++) {
        uint32_t entry = i % FM_TIMING_RING;
        if (i >= FM_TIMING_RING)
            r = collect(t, entry, done[entry], &out_ns[i - FM_TIMING_RING]);
        if (!r && t->cancel && t->cancel(t->user))
            r = fm_fail(FM_CANCELLED, "cancelled");
        if (!r && t->before)
            r = fm_vk_program_submit(t->before, entry, &ahead);
        if (!r)
            r = fm_vk_program_submit(t->program, entry, &done[entry]);
    }
    for (uint32_t i = count > FM_TIMING_RING ? count - FM_TIMING_RING : 0; i < count && !r; i++)
        r = collect(t, i % FM_TIMING_RING, done[i % FM_TIMING_RING], &out_ns[i]);
    if (!r)
        qsort(out_ns, count, sizeof *out_ns, by_value);
    return r;
}

enum fm_result fm_timing_run(struct fm_vk *vk, struct fm_vk_program *program, struct fm_vk_program *before,
                             uint32_t repeat, fm_cancel_fn *cancel, void *user, uint64_t *out_ns)
{
    const struct timing t = {.vk = vk, .program = program, .before = before, .cancel = cancel, .user = user};
    uint64_t round[WARM_ROUND_MOST] = {0}, start = fm_clock_ns(), last = 0;
    uint32_t count = 1;
    enum fm_result r = FM_OK;
    while (!r) {
        uint64_t begin = fm_clock_ns();
        r = replay(&t, count, round);
        uint64_t now = fm_clock_ns(), median = round[count / 2];
        double difference = median > last ? (double)(median - last) : (double)(last - median);
        bool agree = difference <= WARM_AGREE * (double)last;
        if (!r && (now - start >= WARM_MAX_NS || (now - start >= WARM_MIN_NS && agree)))
            break;
        last = median;
        count = (uint32_t)FM_MIN(WARM_ROUND_NS * count / FM_MAX(now - begin, 1), WARM_ROUND_MOST);
        count = FM_MAX(count, 1);
    }
    return r ? r : replay(&t, repeat, out_ns);
}
