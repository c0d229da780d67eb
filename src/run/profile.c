// SPDX-License-Identifier: MIT
// Profiles of sessions. A kind is all steps of one plan and so many tokens; of each the times of up to SAMPLES steps are kept, and
// when there are more, of every second, fourth, ... step.
#include "run/profile.h"

#include <stdlib.h>

#include "run/session.h"
#include "shaders/lib/abi.h"

#define SAMPLES 256u // even, so that every second sample of a full list goes on in step with what follows

// Of a dispatch that attends: what a key costs.
struct keys {
    bool attends;
    uint32_t window;
    double key_bytes; // of a position of the cache: keys and values of all heads
    double key_flops; // of a token and a position
};

struct kind {
    uint64_t hash; // of the plan
    uint32_t tokens;
    struct fm_profile_part *parts; // [n_parts]; ns is not set, and of attention bytes and flops are without the keys
    struct keys *keys;             // [n_parts]
    struct fm_profile_keys *read;  // [n_parts] sums over all steps
    size_t n_parts;
    uint64_t *ns; // [n_samples, 1 + n_parts]: of the step, and of its parts if those are timed
    size_t cap_ns, n_samples;
    uint64_t steps, stride; // steps that were timed; every stride-th is a sample
};

struct fm_profile {
    enum fm_profile_mode mode;
    struct kind *kinds;
    size_t n_kinds, cap_kinds;
    struct {
        struct fm_vk_program *program; // NULL = not under way
        size_t kind;
    } entry[FM_RUN_RING];
};

// ---- life --------------------------------------------------------------------------------------------------------

enum fm_result fm_profile_create(enum fm_profile_mode mode, struct fm_profile **out_profile)
{
    struct fm_profile *profile = fm_alloc_zero(1, sizeof(*profile));
    if (profile == NULL)
        return fm_nomem();
    profile->mode = mode;
    *out_profile = profile;
    return FM_OK;
}

static void finish_kind(struct kind *kind)
{
    fm_free(kind->parts);
    fm_free(kind->keys);
    fm_free(kind->read);
    fm_free(kind->ns);
}

static void forget(struct fm_profile *profile)
{
    for (size_t i = 0; i < profile->n_kinds; i++)
        finish_kind(&profile->kinds[i]);
    profile->n_kinds = 0;
}

void fm_profile_destroy(struct fm_profile **handle)
{
    struct fm_profile *profile = *handle;
    if (profile == NULL)
        return;
    *handle = NULL;
    forget(profile);
    fm_free(profile->kinds);
    fm_free(profile);
}

enum fm_vk_timing fm_profile_timing(const struct fm_profile *profile)
{
    if (profile == NULL)
        return FM_VK_UNTIMED;
    return profile->mode == FM_PROFILE_GROUPS ? FM_VK_TIMED_GROUPS : FM_VK_TIMED_WHOLE;
}

// ---- measuring ---------------------------------------------------------------------------------------------------

struct fm_profile_keys fm_profile_keys(const struct fm_batch *batch, uint32_t window)
{
    struct fm_profile_keys keys = {0};
    for (uint32_t i = 0; i < batch->n_segments; i++) {
        const uint32_t *segment = batch->segment + (size_t)i * FM_SEGMENT_WORDS;
        uint64_t rows = segment[FM_SEGMENT_ROWS], end = segment[FM_SEGMENT_POS] + rows;
        keys.of_sequences += (double)(window > 0 ? FM_MIN(end, window + rows - 1) : end);
    }
    for (uint32_t t = 0; t < batch->n_tokens; t++)
        keys.of_tokens += window > 0 ? FM_MIN(batch->pos[t] + 1, window) : batch->pos[t] + 1;
    return keys;
}

// Where a dispatch that attends has its window, and its keys' cache, which the values' one follows.
static bool find_cache(const struct fm_dispatch *d, uint32_t *out_window, const struct fm_binding **out_caches)
{
    if (d->kernel->op == FM_OP_ATTEND) {
        FM_DISPATCH_LAYOUT(FM_PUSH_ATTEND);
        _Static_assert((int)bind_vc == (int)bind_kc + 1 && (int)n_bind > 0 && (int)n_words > 0, "caches side by side");
        *out_window = d->word[word_window];
        *out_caches = &d->bind[bind_kc];
    } else if (d->kernel->op == FM_OP_ROPE_ATTEND) {
        FM_DISPATCH_LAYOUT(FM_PUSH_ROPE_ATTEND);
        _Static_assert((int)bind_vc == (int)bind_kc + 1 && (int)n_bind > 0 && (int)n_words > 0, "caches side by side");
        *out_window = d->word[word_window];
        *out_caches = &d->bind[bind_kc];
    } else {
        return false;
    }
    return true;
}

// The plan counts of a cache what a step writes, and the arithmetic over a full one.
static struct keys split_attention(const struct fm_plan *plan, const struct fm_dispatch *d, struct fm_profile_part *part)
{
    struct keys keys = {.attends = false};
    const struct fm_binding *caches = NULL;
    keys.attends = find_cache(d, &keys.window, &caches);
    if (!keys.attends)
        return keys;
    keys.key_bytes = (double)(caches[0].bytes + caches[1].bytes) / plan->dims.s / plan->dims.l;
    keys.key_flops = d->flops / plan->dims.t / plan->dims.l;
    part->bytes -= FM_MIN((uint64_t)(keys.key_bytes * plan->dims.t + 0.5), part->bytes);
    part->flops = 0;
    return keys;
}

static enum fm_result make_kind(const struct fm_plan *plan, uint32_t tokens, struct kind *out_kind)
{
    size_t n = plan->n_dispatches;
    struct kind kind = {.hash = plan->hash, .tokens = tokens, .n_parts = n, .stride = 1};
    kind.parts = fm_alloc_zero(n, sizeof(*kind.parts));
    kind.keys = fm_alloc_zero(n, sizeof(*kind.keys));
    kind.read = fm_alloc_zero(n, sizeof(*kind.read));
    if (kind.parts == NULL || kind.keys == NULL || kind.read == NULL) {
        finish_kind(&kind);
        return fm_nomem();
    }
    uint32_t group = 0;
    for (size_t i = 0; i < n; i++) {
        const struct fm_dispatch *d = &plan->dispatches[i];
        group += i > 0 && d->barrier_before;
        kind.parts[i] = (struct fm_profile_part){.kernel = d->kernel, .group = group, .bytes = d->moved_bytes, .flops = d->flops};
        kind.keys[i] = split_attention(plan, d, &kind.parts[i]);
    }
    *out_kind = kind;
    return FM_OK;
}

static enum fm_result find_kind(struct fm_profile *profile, const struct fm_plan *plan, uint32_t tokens, size_t *out_index)
{
    size_t i = 0;
    while (i < profile->n_kinds && (profile->kinds[i].hash != plan->hash || profile->kinds[i].tokens != tokens))
        i++;
    if (i == profile->n_kinds) {
        void *kinds = profile->kinds;
        enum fm_result result = fm_array_reserve(&kinds, &profile->cap_kinds, i + 1, sizeof(*profile->kinds));
        profile->kinds = kinds;
        if (result == FM_OK)
            result = make_kind(plan, tokens, &profile->kinds[i]);
        if (result != FM_OK)
            return result;
        profile->n_kinds++;
    }
    *out_index = i;
    return FM_OK;
}

enum fm_result fm_profile_begin(struct fm_profile *profile, uint32_t entry, struct fm_vk_program *program, const struct fm_plan *plan,
                                const struct fm_batch *batch)
{
    size_t index;
    enum fm_result result = find_kind(profile, plan, batch->n_tokens, &index);
    if (result != FM_OK)
        return result;
    struct kind *kind = &profile->kinds[index];
    struct fm_profile_keys read = {0};
    bool known = false;
    uint32_t window = 0;
    for (size_t i = 0; i < kind->n_parts; i++) {
        if (!kind->keys[i].attends)
            continue;
        if (!known || window != kind->keys[i].window)
            read = fm_profile_keys(batch, window = kind->keys[i].window);
        known = true;
        kind->read[i].of_sequences += read.of_sequences;
        kind->read[i].of_tokens += read.of_tokens;
    }
    profile->entry[entry].program = program;
    profile->entry[entry].kind = index;
    return FM_OK;
}

// Room for another sample: when there are as many as are kept, every second goes.
static enum fm_result next_sample(struct kind *kind, uint64_t **out_ns)
{
    size_t width = 1 + kind->n_parts;
    if (kind->n_samples == SAMPLES) {
        for (size_t i = 0; i < SAMPLES / 2; i++)
            memcpy(kind->ns + i * width, kind->ns + 2 * i * width, width * sizeof(*kind->ns));
        kind->n_samples = SAMPLES / 2;
        kind->stride *= 2;
    }
    void *ns = kind->ns;
    enum fm_result result = fm_array_reserve(&ns, &kind->cap_ns, (kind->n_samples + 1) * width, sizeof(*kind->ns));
    kind->ns = ns;
    if (result == FM_OK)
        *out_ns = kind->ns + kind->n_samples * width;
    return result;
}

enum fm_result fm_profile_end(struct fm_profile *profile, uint32_t entry)
{
    struct fm_vk_program *program = profile->entry[entry].program;
    if (program == NULL)
        return FM_OK;
    profile->entry[entry].program = NULL;
    struct kind *kind = &profile->kinds[profile->entry[entry].kind];
    uint64_t *ns;
    enum fm_result result = FM_OK;
    if (kind->steps % kind->stride == 0 && (result = next_sample(kind, &ns)) == FM_OK &&
        (result = fm_vk_program_times(program, entry, ns, profile->mode == FM_PROFILE_GROUPS ? ns + 1 : NULL)) == FM_OK)
        kind->n_samples++;
    kind->steps += result == FM_OK;
    return result;
}

// ---- reading -----------------------------------------------------------------------------------------------------

static int by_first(const void *a, const void *b)
{
    uint64_t x = **(const uint64_t *const *)a, y = **(const uint64_t *const *)b;
    return (x > y) - (x < y);
}

// The samples of the middle half by the time of their steps, into out_samples [SAMPLES]. One and the same half for a step and its parts
// makes these add up, which medians of each would not. Returns how many.
static size_t middle_half(const struct kind *kind, const uint64_t **out_samples)
{
    size_t n = kind->n_samples, cut = n / 4;
    for (size_t i = 0; i < n; i++)
        out_samples[i] = kind->ns + i * (1 + kind->n_parts);
    qsort(out_samples, n, sizeof(*out_samples), by_first);
    memmove(out_samples, out_samples + cut, (n - 2 * cut) * sizeof(*out_samples));
    return n - 2 * cut;
}

// Of column `at` of samples.
static uint64_t mean_ns(const uint64_t *const *samples, size_t count, size_t at)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)samples[i][at];
    return count > 0 ? (uint64_t)(sum / (double)count + 0.5) : 0;
}

static int by_falling_time(const void *a, const void *b)
{
    uint64_t x = ((const struct fm_profile_row *)a)->ns, y = ((const struct fm_profile_row *)b)->ns;
    return (x < y) - (x > y);
}

size_t fm_profile_rows(const struct fm_profile_part *parts, size_t n_parts, bool by_op, struct fm_profile_row *out_rows)
{
    size_t n_rows = 0;
    for (size_t i = 0; i < n_parts; i++) {
        const char *op = fm_op_info(parts[i].kernel->op)->name, *kernel = by_op ? NULL : parts[i].kernel->name;
        struct fm_profile_row *row = out_rows;
        while (row < out_rows + n_rows && (row->op != op || row->kernel != kernel))
            row++;
        if (row == out_rows + n_rows)
            out_rows[n_rows++] = (struct fm_profile_row){.op = op, .kernel = kernel};
        bool counted = false; // as another dispatch of its group
        for (size_t j = i; j > 0 && parts[j - 1].group == parts[i].group && !counted; j--)
            counted = by_op ? parts[j - 1].kernel->op == parts[i].kernel->op : parts[j - 1].kernel == parts[i].kernel;
        row->ns += parts[i].ns;
        row->bytes += parts[i].bytes;
        row->flops += parts[i].flops;
        row->calls++;
        row->groups += !counted;
    }
    qsort(out_rows, n_rows, sizeof(*out_rows), by_falling_time);
    return n_rows;
}

// The parts of a kind as measured, with what attention read in the mean of all steps.
static void measured_parts(const struct kind *kind, const uint64_t *const *samples, size_t count, struct fm_profile_part *out_parts)
{
    for (size_t i = 0; i < kind->n_parts; i++) {
        out_parts[i] = kind->parts[i];
        out_parts[i].ns = mean_ns(samples, count, 1 + i);
        if (kind->keys[i].attends && kind->steps > 0) {
            out_parts[i].bytes += (uint64_t)(kind->keys[i].key_bytes * kind->read[i].of_sequences / (double)kind->steps);
            out_parts[i].flops += kind->keys[i].key_flops * kind->read[i].of_tokens / (double)kind->steps;
        }
    }
}

// *io_rows: room for twice as many rows as the kind has parts, which is moved past.
static struct fm_profile_step read_kind(const struct kind *kind, bool groups, struct fm_profile_part *parts,
                                        struct fm_profile_row **io_rows)
{
    const uint64_t *samples[SAMPLES];
    size_t count = middle_half(kind, samples);
    struct fm_profile_row *ops = *io_rows, *kernels = ops + kind->n_parts;
    struct fm_profile_step step = {.tokens = kind->tokens, .steps = kind->steps, .ns = mean_ns(samples, count, 0),
                                   .calls = (uint32_t)kind->n_parts, .groups = kind->parts[kind->n_parts - 1].group + 1,
                                   .ops = ops, .kernels = kernels};
    if (groups) {
        measured_parts(kind, samples, count, parts);
        step.n_ops = fm_profile_rows(parts, kind->n_parts, true, ops);
        step.n_kernels = fm_profile_rows(parts, kind->n_parts, false, kernels);
    }
    *io_rows = kernels + kind->n_parts;
    return step;
}

enum fm_result fm_session_profile_read(const struct fm_session *session, struct fm_profile_step **out_steps, size_t *out_count)
{
    const struct fm_profile *profile = session->profile;
    if (profile == NULL)
        return fm_fail(FM_ARG, "no profile: the session's steps are not timed (fm_session_profile)");
    size_t most = 0, all = 0;
    for (size_t i = 0; i < profile->n_kinds; i++) {
        most = FM_MAX(most, profile->kinds[i].n_parts);
        all += profile->kinds[i].n_parts;
    }
    // One block: the steps, then room for their rows.
    size_t bytes = profile->n_kinds * sizeof(struct fm_profile_step) + 2 * all * sizeof(struct fm_profile_row);
    struct fm_profile_step *steps = fm_alloc_zero(1, FM_MAX(bytes, 1));
    struct fm_profile_part *parts = fm_alloc_zero(FM_MAX(most, 1), sizeof(*parts));
    if (steps == NULL || parts == NULL) {
        fm_free(steps);
        fm_free(parts);
        return fm_nomem();
    }
    struct fm_profile_row *rows = (struct fm_profile_row *)(steps + profile->n_kinds);
    for (size_t i = 0; i < profile->n_kinds; i++)
        steps[i] = read_kind(&profile->kinds[i], profile->mode == FM_PROFILE_GROUPS, parts, &rows);
    fm_free(parts);
    *out_steps = steps;
    *out_count = profile->n_kinds;
    return FM_OK;
}

void fm_profile_free(struct fm_profile_step *steps)
{
    fm_free(steps);
}

// ---- sessions ----------------------------------------------------------------------------------------------------

enum fm_result fm_session_profile(struct fm_session *session, enum fm_profile_mode mode)
{
    struct fm_profile *profile = NULL;
    if (mode == (session->profile != NULL ? session->profile->mode : FM_PROFILE_OFF)) {
        if (session->profile != NULL)
            forget(session->profile);
        return FM_OK;
    }
    const struct fm_caps *caps = fm_vk_caps(session->vk);
    if (mode != FM_PROFILE_OFF && caps->timestamp_ns <= 0)
        return fm_fail(FM_UNSUPPORTED, "%s has no timestamps: the steps of a session cannot be timed on it", FM_QUOTE_Z(caps->name));
    fm_step_finish(session); // programs are recorded with timestamps or without them
    fm_profile_destroy(&session->profile);
    enum fm_result result = mode != FM_PROFILE_OFF ? fm_profile_create(mode, &profile) : FM_OK;
    session->profile = profile;
    if (result == FM_OK)
        result = fm_step_reserve(session);
    if (result != FM_OK)
        fm_profile_destroy(&session->profile);
    return result;
}
