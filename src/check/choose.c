// SPDX-License-Identifier: MIT
// A choice among pairs of problems and kernels.
#include "check/pairs.h"

#include <stdio.h>
#include <strings.h>

// How many problems with a trait are run, if there are so many: of a family, whatever they cost; of a kernel, those that need no further
// pipelines. Kernels of formats have others of their shader beside them.
static const struct times {
    uint32_t of_family, of_kernel;
} with_formats = {1, 1}, without = {2, 4};

// Pairs by kernel: those of kernel k are at[first[k]] to at[first[k + 1] - 1].
struct by_kernel {
    uint32_t *first, *at;
};

static enum fm_result sort_by_kernel(const struct fm_check_list *list, struct by_kernel *out)
{
    out->first = fm_alloc_zero(fm_kernel_count + 2, sizeof *out->first);
    out->at = fm_alloc_zero(list->n_used + 1, sizeof *out->at);
    if (!out->first || !out->at)
        return fm_nomem();
    for (size_t i = 0; i < list->n_used; i++)
        out->first[list->used[i] + 2]++;
    for (size_t k = 2; k < fm_kernel_count + 2; k++)
        out->first[k] += out->first[k - 1];
    for (size_t i = 0; i < list->n_pairs; i++)
        for (uint32_t u = 0; u < list->pairs[i].n_used; u++)
            out->at[out->first[list->used[list->pairs[i].first_used + u] + 1]++] = (uint32_t)i;
    return FM_OK;
}

// The borders are those of the op's kernel.
static uint64_t traits_for(const struct fm_check_pair *pair, uint32_t kernel)
{
    return pair->kernel == &fm_kernels[kernel] ? pair->traits : pair->traits & ((1ull << TRAIT_BORDER) - 1);
}

struct met {
    uint32_t times[TRAIT_COUNT];
};

static void count_traits(uint64_t traits, struct met *met)
{
    for (unsigned t = 0; t < TRAIT_COUNT; t++)
        met->times[t] += traits >> t & 1;
}

static uint32_t count_missing(uint64_t traits, const struct met *met, uint32_t times)
{
    uint32_t n = 0;
    for (unsigned t = 0; t < TRAIT_COUNT; t++)
        n += (traits >> t & 1) && met->times[t] < times;
    return n;
}

// ---- families ----------------------------------------------------------------------------------------------------

#define NAME_BYTES 96

struct choice {
    struct fm_check_list *list;
    uint32_t *family; // [fm_kernel_count]: first kernel of the family
    struct met *met;  // [fm_kernel_count]: of families
    struct fm_map made; // the pipelines of chosen pairs
};

// The name without the format. Formats of other blocks are decoded by other code.
static void family_name(const struct fm_kernel *kernel, char out_name[NAME_BYTES])
{
    const struct fm_type_info *info = kernel->w == FM_TYPE_NONE ? NULL : fm_type_info(kernel->w);
    size_t length = info ? strlen(info->name) : 0;
    const char *at = kernel->name;
    while (info && *at && !(at[0] == '_' && strncasecmp(at + 1, info->name, length) == 0 && (at[length + 1] == '_' || !at[length + 1])))
        at++;
    if (info && *at)
        snprintf(out_name, NAME_BYTES, "%u %.*s%s", info->block_elems, (int)(at - kernel->name), kernel->name, at + 1 + length);
    else
        snprintf(out_name, NAME_BYTES, "%s", kernel->name);
}

static enum fm_result find_families(uint32_t *family)
{
    struct fm_map map = {0};
    char (*names)[NAME_BYTES] = fm_alloc_zero(fm_kernel_count, sizeof *names);
    enum fm_result r = names ? FM_OK : fm_nomem();
    for (uint32_t k = 0; k < fm_kernel_count && !r; k++) {
        family_name(&fm_kernels[k], names[k]);
        if (fm_map_get(&map, names[k], strlen(names[k]), &family[k]))
            continue;
        family[k] = k;
        r = fm_map_put(&map, names[k], strlen(names[k]), k, NULL);
    }
    fm_map_finish(&map);
    fm_free(names);
    return r;
}

// ---- choice ------------------------------------------------------------------------------------------------------

static bool needs_pipelines(const struct choice *c, const struct fm_check_pair *pair)
{
    uint32_t value;
    for (uint32_t i = 0; i < pair->n_pipelines; i++)
        if (!fm_map_get(&c->made, &c->list->pipelines[pair->first_pipeline + i], sizeof(uint64_t), &value))
            return true;
    return false;
}

static enum fm_result take(struct choice *c, struct fm_check_pair *pair)
{
    enum fm_result r = FM_OK;
    pair->chosen = true;
    for (uint32_t i = 0; i < pair->n_pipelines && !r; i++)
        r = fm_map_put(&c->made, &c->list->pipelines[pair->first_pipeline + i], sizeof(uint64_t), 0, NULL);
    for (uint32_t i = 0; i < pair->n_used; i++) {
        uint32_t kernel = c->list->used[pair->first_used + i];
        count_traits(traits_for(pair, kernel), &c->met[c->family[kernel]]);
    }
    return r;
}

// Until nothing is missing, the pair that has most of what is; among equals another one for each kernel.
static enum fm_result choose_for(struct choice *c, uint32_t kernel, const uint32_t *pairs, uint32_t n)
{
    const struct times *times = fm_kernels[kernel].w == FM_TYPE_NONE ? &without : &with_formats;
    struct met met = {0}, *const of_family = &c->met[c->family[kernel]];
    bool is_run = false;
    for (uint32_t i = 0; i < n; i++)
        if (c->list->pairs[pairs[i]].chosen) {
            is_run = true;
            count_traits(traits_for(&c->list->pairs[pairs[i]], kernel), &met);
        }
    for (;;) {
        struct fm_check_pair *best = NULL;
        uint32_t most = 0;
        for (uint32_t i = 0; i < n; i++) {
            struct fm_check_pair *pair = &c->list->pairs[pairs[(kernel + i) % n]];
            if (pair->chosen)
                continue;
            uint64_t traits = traits_for(pair, kernel);
            uint32_t gain = TRAIT_COUNT * count_missing(traits, of_family, times->of_family);
            if (!is_run || !needs_pipelines(c, pair))
                gain += !is_run + count_missing(traits, &met, times->of_kernel);
            if (gain > most) {
                most = gain;
                best = pair;
            }
        }
        if (!best)
            return FM_OK;
        enum fm_result r = take(c, best);
        if (r)
            return r;
        is_run = true;
        count_traits(traits_for(best, kernel), &met);
    }
}

static enum fm_result choose(struct fm_check_list *list)
{
    struct by_kernel by = {0};
    struct choice c = {.list = list, .family = fm_alloc_zero(fm_kernel_count, sizeof *c.family),
                       .met = fm_alloc_zero(fm_kernel_count, sizeof *c.met)};
    enum fm_result r = c.family && c.met ? find_families(c.family) : fm_nomem();
    if (!r)
        r = sort_by_kernel(list, &by);
    for (size_t i = 0; i < list->n_pairs && !r; i++)
        list->pairs[i].chosen = list->pairs[i].kernel == NULL;
    for (uint32_t k = 0; k < fm_kernel_count && !r; k++)
        r = choose_for(&c, k, by.at + by.first[k], by.first[k + 1] - by.first[k]);
    fm_map_finish(&c.made);
    fm_free(c.family);
    fm_free(c.met);
    fm_free(by.first);
    fm_free(by.at);
    return r;
}

// All problems of a kernel are in one part, which makes its pipelines; neighbours in the table, which differ in cost, in any.
static void keep_part(struct fm_check_list *list, const struct fm_check_params *params)
{
    for (size_t i = 0; i < list->n_pairs && params->parts > 1; i++) {
        const struct fm_kernel *kernel = list->pairs[i].kernel;
        uint32_t index = kernel ? (uint32_t)(kernel - fm_kernels) : 0;
        list->pairs[i].chosen &= (index * 2654435761u >> 16) % params->parts == params->part;
    }
}

enum fm_result fm_check_list_make(const struct fm_caps *caps, const struct fm_check_params *params, const struct fm_problem *problems,
                                  size_t n_problems, struct fm_check_list *out_list)
{
    enum fm_result r = FM_OK;
    *out_list = (struct fm_check_list){0};
    r = fm_check_pairs_make(caps, params, problems, n_problems, out_list);
    if (!r && params->quick)
        r = choose(out_list);
    if (!r)
        keep_part(out_list, params);
    return r;
}

void fm_check_list_finish(struct fm_check_list *list)
{
    fm_free(list->pairs);
    fm_free(list->used);
    fm_free(list->pipelines);
    *list = (struct fm_check_list){0};
}
