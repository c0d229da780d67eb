// SPDX-License-Identifier: MIT
// Views of a device, problems with the kernels that they get in each, and what a problem has of its own.
#include "check/pairs.h"

#define EVEN_MULTIPLE 16u
#define LONG_SUM 2048u
#define LONG_ROWS 256u
#define LONG_CONTEXT 512u

static uint64_t bit(unsigned trait)
{
    return 1ull << trait;
}

static bool is_even(const struct fm_problem *p)
{
    return p->rows == p->bucket && (p->n | p->k | p->head | p->state) % EVEN_MULTIPLE == 0;
}

static uint64_t traits_of_problem(const struct fm_problem *p)
{
    bool long_sum = p->k >= LONG_SUM || p->n >= LONG_SUM, long_rows = p->rows >= LONG_ROWS;
    bool has_variants = p->w == FM_TYPE_NONE || p->op == FM_OP_ROPE_KV_WRITE || p->op == FM_OP_ROPE_ATTEND;
    uint64_t traits = 0;
    if (p->data != FM_DATA_NORMAL)
        return bit(p->w == FM_TYPE_NONE ? TRAIT_DATA + p->data - 1u : TRAIT_DATA);
    traits |= bit(is_even(p) ? TRAIT_EVEN : TRAIT_EDGE);
    traits |= long_sum || long_rows || p->first_pos + p->rows >= LONG_CONTEXT ? bit(TRAIT_LONG) : 0;
    traits |= p->slots > 1 ? bit(TRAIT_SLOTS) : 0;
    traits |= p->window > 0 ? bit(TRAIT_WINDOW) : 0;
    traits |= p->chunk > 0 ? bit(TRAIT_CHUNK) : 0;
    traits |= p->original > 0 ? bit(TRAIT_SCALED) : 0;
    traits |= p->bias ? bit(TRAIT_BIAS) : 0;
    traits |= p->versions > 1 ? bit(TRAIT_VERSIONS) : 0;
    traits |= has_variants ? bit(TRAIT_VARIANT + p->variant % 8u) : 0;
    return traits;
}

static uint64_t traits_of_borders(const struct fm_kernel *kernel, const struct fm_want *want)
{
    uint64_t traits = 0;
    for (unsigned i = 0; i < kernel->n_windows; i++) {
        const struct fm_window *w = &kernel->window[i];
        traits |= want->param[w->param] == w->min ? bit(TRAIT_BORDER + 2 * i) : 0;
        traits |= want->param[w->param] == w->max ? bit(TRAIT_BORDER + 2 * i + 1) : 0;
    }
    return traits;
}

// ---- pairs -------------------------------------------------------------------------------------------------------

static void make_views(const struct fm_caps *caps, const struct fm_check_params *params, struct fm_check_list *list)
{
    const enum fm_rung max_rung = params->max_rung;
    const struct fm_check_view as_is = {.caps = fm_caps_mask(caps, max_rung), .rung = max_rung};
    if (params->as_is) {
        list->view[list->n_views++] = as_is;
        return;
    }
    for (int rung = 0; rung <= (int)max_rung; rung++) {
        struct fm_caps masked = fm_caps_mask(caps, (enum fm_rung)rung);
        masked.quirks = 0;
        if (list->n_views > 0 && list->view[list->n_views - 1].caps.bits == masked.bits)
            continue;
        list->view[list->n_views++] = (struct fm_check_view){.caps = masked, .rung = (enum fm_rung)rung};
    }
    // Cards with integer dot products and no sums in f16 have kernels of their own.
    struct fm_caps masked = fm_caps_mask(caps, FM_RUNG_DOT);
    if (max_rung >= FM_RUNG_DOT && masked.bits & FM_CAP_INT_DOT && masked.bits & FM_CAP_HALF_MATH) {
        masked.quirks = 0;
        masked.bits &= ~FM_CAP_HALF_MATH;
        list->view[list->n_views++] = (struct fm_check_view){.caps = masked, .rung = FM_RUNG_DOT};
    }
    if (caps->quirks != 0)
        list->view[list->n_views++] = as_is;
}

static enum fm_result add_used(struct fm_check_list *list, struct fm_check_pair *pair, const struct fm_kernel *kernel)
{
    uint32_t index = (uint32_t)(kernel - fm_kernels);
    for (uint32_t i = 0; i < pair->n_used; i++)
        if (list->used[pair->first_used + i] == index)
            return FM_OK;
    enum fm_result r = fm_array_reserve((void **)&list->used, &list->cap_used, list->n_used + 1, sizeof *list->used);
    if (r)
        return r;
    list->used[list->n_used++] = index;
    pair->n_used++;
    return FM_OK;
}

static enum fm_result add_pipeline(struct fm_check_list *list, struct fm_check_pair *pair, const struct fm_dispatch *dispatch)
{
    uint64_t hash = fm_hash64(&dispatch->kernel, sizeof dispatch->kernel, FM_HASH_SEED);
    hash = fm_hash64(dispatch->spec, dispatch->n_spec * sizeof dispatch->spec[0], hash);
    enum fm_result r = fm_array_reserve((void **)&list->pipelines, &list->cap_pipelines, list->n_pipelines + 1, sizeof *list->pipelines);
    if (r)
        return r;
    list->pipelines[list->n_pipelines++] = hash;
    pair->n_pipelines++;
    return FM_OK;
}

// Kernels and pipelines of the plan. What cannot be planned is left with its op's kernel: running it tells why.
static enum fm_result plan_pair(struct fm_check_list *list, struct fm_case *c, struct fm_check_pair *pair)
{
    const struct fm_caps *caps = &list->view[pair->view].caps;
    const struct fm_plan_options options = {.keep_values = true, .no_fuse = true, .narrow_outputs = c->halves};
    struct fm_layout layout;
    struct fm_plan plan;
    enum fm_result r = add_used(list, pair, pair->kernel);
    if (r || fm_layout_create(&c->graph, caps, &c->dims, 0, &layout))
        return r;
    if (fm_plan_create(&c->graph, &layout, caps, &c->dims, &options, &plan) == FM_OK) {
        for (size_t i = 0; i < plan.n_dispatches && !r; i++) {
            r = add_used(list, pair, plan.dispatches[i].kernel);
            r = r ? r : add_pipeline(list, pair, &plan.dispatches[i]);
        }
        fm_plan_finish(&plan);
    }
    fm_layout_finish(&layout);
    return r;
}

// Is there a pair of the same problem, from `first` on, with the same kernels?
static bool is_known(const struct fm_check_list *list, size_t first, const struct fm_check_pair *pair)
{
    for (size_t i = first; i < list->n_pairs; i++) {
        const struct fm_check_pair *other = &list->pairs[i];
        if (other->n_used == pair->n_used && pair->n_used > 0 &&
            memcmp(&list->used[other->first_used], &list->used[pair->first_used], pair->n_used * sizeof *list->used) == 0)
            return true;
    }
    return false;
}

static bool has_name(const struct fm_check_list *list, const struct fm_check_pair *pair, const char *text)
{
    bool has = text == NULL || pair->n_used == 0;
    for (uint32_t i = 0; i < pair->n_used && !has; i++)
        has = strstr(fm_kernels[list->used[pair->first_used + i]].name, text) != NULL;
    return has;
}

static enum fm_result add_pairs(struct fm_check_list *list, const char *kernel_text, const struct fm_problem *p, uint32_t problem)
{
    struct fm_case c;
    size_t first = list->n_pairs;
    enum fm_result r = fm_case_create(p, &c);
    if (r)
        return r;
    for (uint32_t v = 0; v < list->n_views && !r; v++) {
        struct fm_check_pair pair = {.problem = problem, .view = v, .first_used = (uint32_t)list->n_used,
                                     .first_pipeline = (uint32_t)list->n_pipelines, .chosen = true};
        struct fm_want want;
        r = fm_want_from_node(&c.graph, &c.graph.nodes[0], &c.dims, &list->view[v].caps, &want);
        pair.kernel = r ? NULL : fm_kernel_select(&list->view[v].caps, &want, NULL, NULL);
        if (!r && !pair.kernel && p->optional) // its parts run there
            continue;
        if (pair.kernel)
            pair.traits = traits_of_problem(p) | traits_of_borders(pair.kernel, &want) |
                          (p->halves && pair.kernel->y == FM_TYPE_F16 ? bit(TRAIT_HALVES) : 0);
        if (pair.kernel)
            r = plan_pair(list, &c, &pair);
        bool others = pair.kernel && p->x_bytes != 0 && pair.kernel->x_bytes != p->x_bytes; // these have the problem without it
        if (!r && (others || is_known(list, first, &pair) || !has_name(list, &pair, kernel_text))) {
            list->n_used = pair.first_used;
            list->n_pipelines = pair.first_pipeline;
            continue;
        }
        if (!r)
            r = fm_array_reserve((void **)&list->pairs, &list->cap_pairs, list->n_pairs + 1, sizeof *list->pairs);
        if (!r)
            list->pairs[list->n_pairs++] = pair;
    }
    fm_case_finish(&c);
    return r;
}

static bool wanted(const struct fm_check_params *params, const struct fm_problem *p)
{
    return !p->bench && (!params->problem || strstr(p->name, params->problem)) &&
           (!params->op || strcmp(params->op, fm_op_info(p->op)->name) == 0);
}

enum fm_result fm_check_pairs_make(const struct fm_caps *caps, const struct fm_check_params *params, const struct fm_problem *problems,
                                   size_t n_problems, struct fm_check_list *list)
{
    enum fm_result r = FM_OK;
    make_views(caps, params, list);
    for (size_t i = 0; i < n_problems && !r; i++)
        if (wanted(params, &problems[i]))
            r = add_pairs(list, params->kernel, &problems[i], (uint32_t)i);
    return r;
}
