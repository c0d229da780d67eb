// SPDX-License-Identifier: MIT
// Filter, score, best. Every rejection has words.
#include "kernel/kernel.h"

#include <stdio.h>

#include "kernel/quirks.h"

static const char *const param_names[FM_PARAM_COUNT] = {
#define X(id, name) name,
    FM_PARAMS(X)
#undef X
};

const char *fm_param_name(enum fm_param param)
{
    return (unsigned)param < FM_PARAM_COUNT ? param_names[param] : "unknown";
}

uint32_t fm_kernel_tile(uint32_t tile, const struct fm_want *want)
{
    uint32_t param = tile & ~FM_TILE_PARAM;
    return tile & FM_TILE_PARAM && param < FM_PARAM_COUNT ? want->param[param] : tile;
}

struct verdict {
    enum fm_reject reject;
    char *reason; // [FM_REASON_BYTES], or NULL where nobody asks
};

FM_PRINTF(3, 4) static bool refuse(struct verdict *v, enum fm_reject reject, const char *fmt, ...)
{
    v->reject = reject;
    if (v->reason == NULL)
        return false;
    va_list args;
    va_start(args, fmt);
    vsnprintf(v->reason, FM_REASON_BYTES, fmt, args);
    va_end(args);
    return false;
}

static bool check_needs(const struct fm_caps *caps, const struct fm_kernel *kernel, struct verdict *v)
{
    uint64_t missing = kernel->needs & ~caps->bits;
    if (missing == 0)
        return true;
    if (v->reason == NULL)
        return refuse(v, FM_REJECT_NEEDS, "needs more");
    char names[FM_REASON_BYTES - 8] = "";
    size_t used = 0;
    for (unsigned i = 0; i < FM_CAP_COUNT && used < sizeof(names); i++)
        if (missing >> i & 1)
            used += (size_t)snprintf(names + used, sizeof(names) - used, " %s", fm_cap_name((enum fm_cap_index)i));
    return refuse(v, FM_REJECT_NEEDS, "needs%s", names);
}

static const char *type_name(enum fm_type type)
{
    return type < FM_TYPE_COUNT ? fm_type_info(type)->name : "none";
}

static bool check_formats(const struct fm_kernel *kernel, const struct fm_want *want, struct verdict *v)
{
    if (kernel->w != FM_TYPE_NONE && kernel->w != want->w)
        return refuse(v, FM_REJECT_FORMAT, "reads %s, not %s", type_name(kernel->w), type_name(want->w));
    // An f32 activation can be cast to f16 before the kernel; nothing goes the other way.
    bool castable = kernel->x == FM_TYPE_F16 && want->x == FM_TYPE_F32;
    if (kernel->x != FM_TYPE_NONE && want->x != FM_TYPE_NONE && kernel->x != want->x && !castable)
        return refuse(v, FM_REJECT_FORMAT, "takes %s activations, not %s", type_name(kernel->x), type_name(want->x));
    if (kernel->x_bytes != 0 && kernel->x_bytes < want->x_bytes)
        return refuse(v, FM_REJECT_FORMAT, "takes activations of %u bits, which have to be asked for", 8 * kernel->x_bytes);
    return true;
}

static bool check_windows(const struct fm_kernel *kernel, const struct fm_want *want, struct verdict *v)
{
    for (unsigned i = 0; i < kernel->n_windows; i++) {
        const struct fm_window *w = &kernel->window[i];
        uint32_t value = want->param[w->param];
        const char *name = fm_param_name((enum fm_param)w->param);
        if (value < w->min || value > w->max) {
            if (w->max == UINT32_MAX)
                return refuse(v, FM_REJECT_WINDOW, "%s = %u is below %u", name, value, w->min);
            return refuse(v, FM_REJECT_WINDOW, "%s = %u is not in %u..%u", name, value, w->min, w->max);
        }
        if (value % w->multiple != 0)
            return refuse(v, FM_REJECT_WINDOW, "%s = %u is no multiple of %u", name, value, w->multiple);
    }
    return true;
}

static bool check_limits(const struct fm_caps *caps, const struct fm_kernel *kernel, struct verdict *v)
{
    if (kernel->shared_bytes > caps->shared_bytes)
        return refuse(v, FM_REJECT_SHARED, "shared memory: %u bytes > %u", kernel->shared_bytes, caps->shared_bytes);
    uint32_t largest = FM_MIN(caps->max_invocations, caps->max_workgroup_size[0]);
    if (kernel->workgroup > largest)
        return refuse(v, FM_REJECT_WORKGROUP, "workgroup of %u > %u", kernel->workgroup, largest);
    if (!kernel->full_subgroups)
        return true;
    if (!caps->subgroup_size_control && caps->subgroup_min != caps->subgroup_max)
        return refuse(v, FM_REJECT_WORKGROUP, "the subgroup size cannot be fixed (%u..%u)", caps->subgroup_min, caps->subgroup_max);
    if (caps->subgroup_size == 0 || kernel->workgroup % caps->subgroup_size != 0)
        return refuse(v, FM_REJECT_WORKGROUP, "workgroup of %u is no multiple of the subgroup of %u", kernel->workgroup,
                      caps->subgroup_size);
    return true;
}

// Matrices must be listed as they are, and their elements lie as the kernel takes for granted.
static bool check_matrix(const struct fm_caps *caps, const struct fm_kernel *kernel, struct verdict *v)
{
    if (kernel->matrix_m == 0)
        return true;
    if (kernel->matrix_order != FM_MATRIX_ORDER_NONE && kernel->matrix_order != caps->matrix_order)
        return refuse(v, FM_REJECT_MATRIX, "elements of matrices: order %s, not %s", fm_matrix_order_name(caps->matrix_order),
                      fm_matrix_order_name(kernel->matrix_order));
    for (uint32_t i = 0; i < caps->n_matrix && i < FM_COUNT(caps->matrix); i++) {
        const struct fm_matrix_shape *shape = &caps->matrix[i];
        if (shape->m == kernel->matrix_m && shape->n == kernel->matrix_n && shape->k == kernel->matrix_k)
            return true;
    }
    return refuse(v, FM_REJECT_MATRIX, "matrix %ux%ux%u is not listed", kernel->matrix_m, kernel->matrix_n, kernel->matrix_k);
}

static bool fits(const struct fm_caps *caps, const struct fm_kernel *kernel, const struct fm_want *want, struct verdict *v);

// Can activations become what FM_OP_CAST or FM_OP_CAST_INT make of them on this device?
static bool cast_exists(const struct fm_caps *caps, const struct fm_want *want, enum fm_op op)
{
    struct fm_want cast = {.op = op, .x = want->x, .w = FM_TYPE_NONE};
    memcpy(cast.param, want->param, sizeof(cast.param));
    cast.param[FM_PARAM_N] = want->param[FM_PARAM_K];
    struct verdict wordless = {0};
    for (size_t i = 0; i < fm_kernel_count; i++)
        if (fm_kernels[i].op == op && fits(caps, &fm_kernels[i], &cast, &wordless))
            return true;
    return false;
}

static bool fits(const struct fm_caps *caps, const struct fm_kernel *kernel, const struct fm_want *want, struct verdict *v)
{
    v->reject = FM_REJECT_NONE;
    if (v->reason != NULL)
        v->reason[0] = '\0';
    if (kernel->op != want->op)
        return refuse(v, FM_REJECT_FORMAT, "is for %s, not %s", fm_op_info(kernel->op)->name, fm_op_info(want->op)->name);
    if (!check_needs(caps, kernel, v) || !check_formats(kernel, want, v) || !check_windows(kernel, want, v) ||
        !check_limits(caps, kernel, v) || !check_matrix(caps, kernel, v))
        return false;
    if (kernel->x == FM_TYPE_F16 && want->x == FM_TYPE_F32 && !cast_exists(caps, want, FM_OP_CAST))
        return refuse(v, FM_REJECT_FORMAT, "takes f16 activations, and no cast kernel runs here");
    if (kernel->x_bytes != 0 && !cast_exists(caps, want, FM_OP_CAST_INT))
        return refuse(v, FM_REJECT_FORMAT, "takes activations as integers, and no cast_int kernel runs here");
    return true;
}

bool fm_kernel_fits(const struct fm_caps *caps, const struct fm_kernel *kernel, const struct fm_want *want,
                    enum fm_reject *out_reject, char *out_reason)
{
    struct verdict v = {.reason = out_reason};
    bool ok = fits(caps, kernel, want, &v);
    if (out_reject != NULL)
        *out_reject = v.reject;
    return ok;
}

// Priority, plus one for each parameter that the kernel was made for exactly, minus the penalty of slow features.
static int32_t score_of(const struct fm_caps *caps, const struct fm_kernel *kernel)
{
    int32_t score = fm_tuning_priority(caps, (uint32_t)(kernel - fm_kernels));
    for (unsigned i = 0; i < kernel->n_windows; i++)
        score += kernel->window[i].min == kernel->window[i].max;
    if (kernel->needs & fm_quirks_slow_bits(caps->quirks))
        score -= FM_SLOW_PENALTY;
    return score;
}

// Ranks: fitting ones by falling score, then refused ones; among equals the order of the table.
static bool before(const struct fm_candidate *a, const struct fm_candidate *b)
{
    bool a_fits = a->reject == FM_REJECT_NONE, b_fits = b->reject == FM_REJECT_NONE;
    return a_fits != b_fits ? a_fits : a_fits && a->score > b->score;
}

static void insert(struct fm_candidate *list, size_t capacity, size_t *count, const struct fm_candidate *item)
{
    size_t at = *count;
    while (at > 0 && before(item, &list[at - 1]))
        at--;
    if (at >= capacity)
        return;
    size_t last = FM_MIN(*count, capacity - 1);
    memmove(list + at + 1, list + at, (last - at) * sizeof(*list));
    list[at] = *item;
    *count = last + 1;
}

// Only one can be taken: say of every other fitting one why it was not.
static void explain_losers(struct fm_candidate *list, size_t count)
{
    for (size_t i = 1; i < count && list[i].reject == FM_REJECT_NONE; i++) {
        list[i].reject = FM_REJECT_SCORE;
        if (list[i].score < list[i].kernel->priority && list[i].score < list[0].score &&
            list[i].kernel->priority >= list[0].score) {
            list[i].reject = FM_REJECT_QUIRK;
            snprintf(list[i].reason, sizeof(list[i].reason), "slow on this device: score %d < %d", list[i].score, list[0].score);
        } else if (list[i].score == list[0].score) {
            snprintf(list[i].reason, sizeof(list[i].reason), "score %d as the chosen one, but later in the table", list[i].score);
        } else {
            snprintf(list[i].reason, sizeof(list[i].reason), "score %d < %d", list[i].score, list[0].score);
        }
    }
}

const struct fm_kernel *fm_kernel_select(const struct fm_caps *caps, const struct fm_want *want,
                                         struct fm_candidate *candidates, size_t *n_candidates)
{
    const struct fm_kernel *best = NULL;
    int32_t best_score = INT32_MIN;
    size_t capacity = candidates != NULL && n_candidates != NULL ? *n_candidates : 0, count = 0;
    for (size_t i = 0; i < fm_kernel_count; i++) {
        const struct fm_kernel *kernel = &fm_kernels[i];
        if (kernel->op != want->op)
            continue;
        struct fm_candidate item = {.kernel = kernel};
        struct verdict v = {.reason = capacity > 0 ? item.reason : NULL};
        bool ok = fits(caps, kernel, want, &v);
        if (!ok && capacity == 0)
            continue;
        item.reject = v.reject;
        item.score = score_of(caps, kernel);
        if (ok && (best == NULL || item.score > best_score)) {
            best = kernel;
            best_score = item.score;
        }
        if (capacity > 0)
            insert(candidates, capacity, &count, &item);
    }
    if (capacity > 0)
        explain_losers(candidates, count);
    if (n_candidates != NULL)
        *n_candidates = count;
    return best;
}

const struct fm_kernel *fm_selector_get(struct fm_selector *selector, const struct fm_want *want)
{
    uint32_t at;
    if (fm_map_get(&selector->map, want, sizeof(*want), &at))
        return at < fm_kernel_count ? &fm_kernels[at] : NULL;
    const struct fm_kernel *kernel = fm_kernel_select(selector->caps, want, NULL, NULL);
    const struct fm_want *key = fm_arena_copy(&selector->arena, want, sizeof(*want));
    at = kernel != NULL ? (uint32_t)(kernel - fm_kernels) : UINT32_MAX;
    enum fm_result result = key != NULL ? fm_map_put(&selector->map, key, sizeof(*key), at, NULL) : fm_nomem();
    if (result != FM_OK)
        selector->error = result;
    return kernel;
}

void fm_selector_finish(struct fm_selector *selector)
{
    fm_map_finish(&selector->map);
    fm_arena_finish(&selector->arena);
}
