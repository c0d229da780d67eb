// SPDX-License-Identifier: MIT
// Rung by rung, the kernels that the production selector newly chooses, against the reference, element by element.
#include "check/check.h"

#include "base/half.h"
#include "ref/ref.h"

#include <math.h>
#include <stdio.h>

struct done_pair { // (problem, kernel) that was run under a lower rung
    uint32_t problem;
    const struct fm_kernel *kernel;
};

struct checker {
    struct fm_vk *vk;
    const struct fm_check_params *params;
    struct fm_check_totals *totals;
    struct done_pair *done;
    size_t n_done, cap_done;
};

static enum fm_result download(struct fm_vk *vk, const struct fm_case_run *run, const struct fm_place *place, void *data)
{
    void *host = fm_vk_memory_host(run->memory[place->pool]);
    if (host) {
        memcpy(data, (uint8_t *)host + place->offset, place->bytes);
        return FM_OK;
    }
    return fm_vk_download(vk, run->memory[place->pool], place->offset, data, place->bytes);
}

static double element(enum fm_type type, const void *data, uint64_t i)
{
    if (type == FM_TYPE_Q8_0) {
        float block[32];
        fm_quant_decode(type, (const uint8_t *)data + i / 32 * fm_type_info(type)->block_bytes, 32, block);
        return (double)block[i % 32];
    }
    if (type == FM_TYPE_F32)
        return ((const float *)data)[i];
    if (type == FM_TYPE_F16)
        return fm_half_to_float(((const uint16_t *)data)[i]);
    return ((const uint32_t *)data)[i];
}

// The reference under the rows really used; states hold all of theirs.
static enum fm_result reference(const struct fm_problem *p, struct fm_case *c, struct fm_ref **out_ref)
{
    struct fm_dims dims = {.t = p->rows, .o = p->rows, .s = c->dims.s, .l = c->dims.l, .b = c->dims.b,
                           .run = fm_dims_run(&c->dims)};
    enum fm_result r = fm_ref_create(&c->graph, &dims, out_ref);
    if (r)
        return r;
    for (uint32_t id = 0; id < c->graph.n_values; id++) {
        const struct fm_value *v = &c->graph.values[id];
        if (v->kind == FM_VALUE_INPUT) {
            struct fm_ref_tensor *t = fm_ref_tensor(*out_ref, id);
            for (uint64_t i = 0; i < t->elems; i++)
                t->v[i] = c->input[v->of.input][i];
        } else if (c->data[id] && v->type == FM_TYPE_I32) {
            struct fm_ref_tensor *t = fm_ref_tensor(*out_ref, id);
            for (uint64_t i = 0; i < t->elems; i++)
                t->v[i] = ((const uint32_t *)c->data[id])[i];
        } else if (c->data[id]) {
            fm_ref_set_encoded(*out_ref, id, c->data[id]);
        }
    }
    fm_ref_run(*out_ref);
    return FM_OK;
}

// What rounding to q8_0 may move element i of a written row: a step more or less, and the scale by one unit in the last place of
// a half.
static double step_of(const struct fm_ref_tensor *ref, uint64_t i)
{
    double most = 0;
    for (uint64_t j = i / 32 * 32; j < i / 32 * 32 + 32; j++)
        most = fmax(most, fabs(ref->v[j]));
    return most / 127 + FM_MAX(most * 0x1p-10, 127 * 0x1p-24);
}

static void compare(const struct fm_value *v, const struct fm_ref_tensor *ref, const void *got, const struct fm_kernel *kernel,
                    struct fm_check_result *result)
{
    for (uint64_t i = 0; i < ref->elems && result->passed; i++) {
        double g = element(v->type, got, i), want = ref->v[i];
        if (v->type == FM_TYPE_I32) {
            if (g != want) {
                result->passed = false;
                snprintf(result->message, sizeof result->message, "%s[%llu]: got %.0f, expected %.0f", v->name,
                         (unsigned long long)i, g, want);
            }
            continue;
        }
        double mag = ref->mag ? ref->mag[i] : fabs(want);
        // exp() of what is below -87 is 0: times another operand, that much is lost.
        double bound = kernel->bound_c * kernel->bound_unit * mag + 1e-32;
        if (v->type == FM_TYPE_F16) // the stored result is rounded: one unit in the last place more
            bound += FM_MAX(fabs(want) * 0x1p-10, 0x1p-24);
        if (v->type == FM_TYPE_Q8_0 && mag > 0)
            bound += step_of(ref, i);
        double error = fabs(g - want);
        if (isnan(want) ? isnan(g) : error <= bound) {
            if (bound > 0 && error / bound > result->worst)
                result->worst = error / bound;
        } else {
            result->passed = false;
            snprintf(result->message, sizeof result->message, "%s[%llu]: got %.9g, expected %.9g, off by %.3g, bound %.3g", v->name,
                     (unsigned long long)i, g, want, error, bound);
        }
    }
}

// Guard zones before and after a place must still hold the poison.
static enum fm_result check_guards(struct checker *k, const struct fm_case_run *run, const struct fm_place *place, const char *name,
                                   struct fm_check_result *result)
{
    if (place->pool != FM_POOL_ARENA && place->pool != FM_POOL_STATE)
        return FM_OK;
    const uint64_t words = 256;
    uint32_t guard[256];
    uint64_t after = (place->offset + place->bytes + 15) & ~15ull;
    enum fm_result r = fm_vk_download(k->vk, run->memory[place->pool], after, guard, sizeof guard);
    for (uint64_t i = 0; i < words && !r && result->passed; i++)
        if (guard[i] != 0x7fc0beefu) {
            result->passed = false;
            snprintf(result->message, sizeof result->message, "%s: wrote %llu bytes behind its end", name,
                     (unsigned long long)(after + i * 4 - place->offset - place->bytes));
        }
    return r;
}

// `got` is as the device holds it.
static enum fm_result compare_value(const struct fm_case *c, uint32_t root, const struct fm_value *v, const struct fm_ref_tensor *ref,
                                    const void *got, uint64_t bytes, struct fm_check_result *result)
{
    if (v->type != FM_TYPE_Q8_0) {
        compare(v, ref, got, result->kernel, result);
        return FM_OK;
    }
    uint64_t planes, blocks;
    fm_case_planes(c, root, &planes, &blocks);
    void *unpacked = fm_alloc(bytes);
    if (!unpacked)
        return fm_nomem();
    fm_cache_unpack(got, planes, blocks, unpacked);
    compare(v, ref, unpacked, result->kernel, result);
    fm_free(unpacked);
    return FM_OK;
}

static enum fm_result compare_all(struct checker *k, struct fm_case *c, const struct fm_case_run *run, struct fm_ref *ref, void **first,
                                  struct fm_check_result *result)
{
    const struct fm_node *node = &c->graph.nodes[0];
    for (uint32_t d = 0; d < node->n_dst; d++) {
        uint32_t id = node->dst[d];
        const struct fm_value *v = &c->graph.values[id];
        uint32_t root = fm_value_root(&c->graph, id);
        const struct fm_place *place = v->kind == FM_VALUE_STATE ? &run->layout.place[root] : &run->plan.place[id];
        void *got = fm_alloc(place->bytes);
        if (!got)
            return fm_nomem();
        enum fm_result r = download(k->vk, run, place, got);
        if (!r && !first[d]) {
            first[d] = got;
            r = compare_value(c, root, v, fm_ref_tensor(ref, id), got, place->bytes, result);
            if (!r)
                r = check_guards(k, run, place, v->name, result);
        } else if (!r) {
            // The second run: the rows that count must agree bit for bit.
            uint64_t width = fm_ref_tensor(ref, id)->elems, bytes = 0;
            fm_type_bytes(v->type, width, &bytes);
            if (result->passed && memcmp(first[d], got, bytes) != 0) {
                result->passed = false;
                snprintf(result->message, sizeof result->message, "%s: two runs on the same data differ", v->name);
            }
            fm_free(got);
        } else {
            fm_free(got);
        }
        if (r)
            return r;
    }
    return FM_OK;
}

static enum fm_result run_one(struct checker *k, const struct fm_caps *caps, const struct fm_problem *p, struct fm_case *c,
                              struct fm_check_result *result)
{
    struct fm_case_run run = {0};
    struct fm_ref *ref = NULL;
    void *first[FM_MAX_DST] = {0};
    enum fm_result r = reference(p, c, &ref);
    if (!r)
        r = fm_case_run_create(k->vk, caps, c, NULL, p->rows, false, &run);
    for (int pass = 0; pass < 2 && !r; pass++) {
        r = fm_case_run_once(k->vk, c, &run);
        if (!r)
            r = compare_all(k, c, &run, ref, first, result);
    }
    for (int d = 0; d < FM_MAX_DST; d++)
        fm_free(first[d]);
    fm_case_run_finish(&run);
    fm_ref_destroy(&ref);
    return r;
}

static bool was_done(struct checker *k, uint32_t problem, const struct fm_kernel *kernel, bool *out_kernel_seen)
{
    bool same = false;
    *out_kernel_seen = false;
    for (size_t i = 0; i < k->n_done; i++) {
        *out_kernel_seen |= k->done[i].kernel == kernel;
        same |= k->done[i].kernel == kernel && k->done[i].problem == problem;
    }
    return same;
}

// One problem under one mask.
static enum fm_result check_problem(struct checker *k, const struct fm_caps *caps, enum fm_rung rung, const struct fm_problem *p,
                                    uint32_t index)
{
    struct fm_case c;
    enum fm_result r = fm_case_create(p, &c);
    if (r)
        return r;
    struct fm_check_result result = {.problem = p, .rung = rung, .seed = k->params->seed, .passed = true};
    struct fm_want want;
    bool seen = false;
    r = fm_want_from_node(&c.graph, &c.graph.nodes[0], &c.dims, caps, &want);
    if (!r) {
        result.kernel = fm_kernel_select(caps, &want, NULL, NULL);
        if (!result.kernel) {
            k->totals->unsupported++;
            result.passed = false;
            snprintf(result.message, sizeof result.message, "no kernel");
        } else if (was_done(k, index, result.kernel, &seen) ||
                   (k->params->kernel && !strstr(result.kernel->name, k->params->kernel))) {
            fm_case_finish(&c);
            return FM_OK;
        }
    }
    if (!r && result.kernel)
        r = fm_case_fill(p, k->params->seed, &c);
    if (!r && result.kernel)
        r = run_one(k, caps, p, &c, &result);
    fm_case_finish(&c);
    if (r == FM_LOST || r == FM_NOMEM)
        return r;
    if (r) {
        result.passed = false;
        snprintf(result.message, sizeof result.message, "%s", fm_error_message());
    }
    *(result.passed ? &k->totals->passed : &k->totals->failed) += 1;
    k->totals->kernels += result.kernel && !seen;
    if (k->params->report)
        k->params->report(k->params->user, &result);
    r = fm_array_reserve((void **)&k->done, &k->cap_done, k->n_done + 1, sizeof *k->done);
    if (!r)
        k->done[k->n_done++] = (struct done_pair){index, result.kernel};
    return r;
}

static bool wanted(const struct fm_check_params *params, const struct fm_problem *p)
{
    return (!params->problem || strstr(p->name, params->problem)) && (!params->op || strcmp(params->op, fm_op_info(p->op)->name) == 0);
}

enum fm_result fm_check_run(struct fm_vk *vk, const struct fm_check_params *params, struct fm_check_totals *out_totals)
{
    struct fm_problem *problems;
    size_t count;
    enum fm_result r = fm_problems_list(&problems, &count);
    if (r)
        return r;
    *out_totals = (struct fm_check_totals){0};
    struct checker k = {.vk = vk, .params = params, .totals = out_totals};
    enum fm_rung top = FM_MIN(fm_caps_rung(fm_vk_caps(vk)), params->max_rung);
    for (int rung = 0; rung <= (int)top && !r; rung++) {
        struct fm_caps caps = fm_caps_mask(fm_vk_caps(vk), (enum fm_rung)rung);
        caps.quirks = 0; // a kernel that would be slow here must be right all the same
        for (size_t i = 0; i < count && !r; i++) {
            if (problems[i].bench || !wanted(params, &problems[i]))
                continue;
            if (params->cancel && params->cancel(params->user))
                r = fm_fail(FM_CANCELLED, "cancelled");
            else
                r = check_problem(&k, &caps, (enum fm_rung)rung, &problems[i], (uint32_t)i);
        }
    }
    fm_free(k.done);
    fm_free(problems);
    return r;
}
