// SPDX-License-Identifier: MIT
// Problems on their kernels against the reference, element by element.
#include "check/check.h"

#include "base/half.h"
#include "check/choose.h"
#include "check/strays.h"
#include "ref/ref.h"

#include <math.h>
#include <stdio.h>

struct checker {
    struct fm_vk *vk;
    const struct fm_check_params *params;
    struct fm_check_totals *totals;
    bool *seen; // [fm_kernel_count]: was run
};

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

// Activations of one byte are part of what such a kernel is asked for (ADR 0006): the reference has the same.
static void round_activations(const struct fm_case *c, const struct fm_kernel *kernel, struct fm_ref *ref)
{
    struct fm_ref_tensor *x = kernel->x_bytes == 1 ? fm_ref_tensor(ref, c->graph.nodes[0].src[0]) : NULL;
    if (x)
        fm_ref_round_blocks(x->v, x->elems, 1);
}

// The reference under the rows really used; states hold all of theirs.
static enum fm_result reference(const struct fm_problem *p, struct fm_case *c, const struct fm_kernel *kernel, struct fm_ref **out_ref)
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
    round_activations(c, kernel, *out_ref);
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
        if (v->type == FM_TYPE_F16) // what is narrowed saturates
            want = fmin(fmax(want, -65504.0), 65504.0) + (isnan(want) ? want : 0);
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

// Of the first run: every element. Of the second: the same bits.
static enum fm_result compare_all(struct fm_vk *vk, struct fm_case *c, const struct fm_case_run *run, struct fm_ref *ref, void **first,
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
        enum fm_result r = fm_check_read(vk, run, place->pool, place->offset, got, place->bytes);
        if (!r && !first[d]) {
            first[d] = got;
            r = compare_value(c, root, v, fm_ref_tensor(ref, id), got, place->bytes, result);
        } else if (!r) {
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

static enum fm_result run_once(struct fm_vk *vk, const struct fm_problem *p, struct fm_case *c, struct fm_case_run *run,
                               struct fm_check_result *result)
{
    struct fm_strays strays = {0};
    char message[sizeof result->message];
    enum fm_result r = fm_case_run_reset(vk, c, run);
    if (!r)
        r = fm_strays_remember(vk, run, &strays);
    if (!r)
        r = fm_case_run_submit(vk, run);
    if (!r)
        r = fm_strays_find(vk, &strays, c, run, p->rows, message, sizeof message);
    if (!r && message[0] && result->passed) {
        result->passed = false;
        memcpy(result->message, message, sizeof message);
    }
    fm_strays_finish(&strays);
    return r;
}

static enum fm_result run_case(struct fm_vk *vk, const struct fm_caps *caps, const struct fm_problem *p, struct fm_case *c,
                               const struct fm_kernel *force, struct fm_check_result *result)
{
    struct fm_case_run run = {0};
    struct fm_ref *ref = NULL;
    void *first[FM_MAX_DST] = {0};
    enum fm_result r = fm_case_fill(p, result->seed, c);
    if (!r)
        r = reference(p, c, result->kernel, &ref);
    if (!r)
        r = fm_case_run_create(vk, caps, c, force, p->rows, false, &run);
    for (int pass = 0; pass < 2 && !r; pass++) {
        r = run_once(vk, p, c, &run, result);
        if (!r)
            r = compare_all(vk, c, &run, ref, first, result);
    }
    for (int d = 0; d < FM_MAX_DST; d++)
        fm_free(first[d]);
    fm_case_run_finish(&run);
    fm_ref_destroy(&ref);
    return r;
}

// Failures of the kernel or of its plan are in the result; an error is what ends the check.
static enum fm_result check_case(struct fm_vk *vk, const struct fm_caps *caps, const struct fm_problem *p, const struct fm_kernel *force,
                                 struct fm_check_result *result)
{
    struct fm_case c;
    enum fm_result r = fm_case_create(p, &c);
    if (r)
        return r;
    r = run_case(vk, caps, p, &c, force, result);
    fm_case_finish(&c);
    if (r == FM_OK || r == FM_LOST || r == FM_NOMEM)
        return r;
    result->passed = false;
    snprintf(result->message, sizeof result->message, "%s", fm_error_message());
    return FM_OK;
}

enum fm_result fm_check_kernel(struct fm_vk *vk, const struct fm_problem *problem, const struct fm_kernel *kernel, uint32_t seed,
                               struct fm_check_result *out_result)
{
    struct fm_check_result result = {.problem = problem, .kernel = kernel, .rung = kernel->rung, .seed = seed, .passed = true};
    enum fm_result r = check_case(vk, fm_vk_caps(vk), problem, kernel, &result);
    if (!r)
        *out_result = result;
    return r;
}

static enum fm_result check_pair(struct checker *k, const struct fm_check_list *list, const struct fm_check_pair *pair,
                                 const struct fm_problem *p)
{
    const struct fm_check_view *view = &list->view[pair->view];
    struct fm_check_result result = {.problem = p, .kernel = pair->kernel, .rung = view->rung, .seed = k->params->seed, .passed = true};
    enum fm_result r = FM_OK;
    if (pair->kernel) {
        r = check_case(k->vk, &view->caps, p, NULL, &result);
    } else {
        k->totals->unsupported++;
        result.passed = false;
        snprintf(result.message, sizeof result.message, "no kernel");
    }
    if (r)
        return r;
    *(result.passed ? &k->totals->passed : &k->totals->failed) += 1;
    for (uint32_t i = 0; i < pair->n_used; i++) {
        bool *seen = &k->seen[list->used[pair->first_used + i]];
        k->totals->kernels += !*seen;
        *seen = true;
    }
    if (k->params->report)
        k->params->report(k->params->user, &result);
    return FM_OK;
}

static enum fm_result check_view(struct checker *k, const struct fm_check_list *list, uint32_t view, const struct fm_problem *problems)
{
    enum fm_result r = FM_OK;
    for (size_t i = 0; i < list->n_pairs && !r; i++) {
        const struct fm_check_pair *pair = &list->pairs[i];
        if (pair->view != view || !pair->chosen)
            continue;
        if (k->params->cancel && k->params->cancel(k->params->user))
            r = fm_fail(FM_CANCELLED, "cancelled");
        else
            r = check_pair(k, list, pair, &problems[pair->problem]);
    }
    return r;
}

enum fm_result fm_check_run(struct fm_vk *vk, const struct fm_check_params *params, struct fm_check_totals *out_totals)
{
    struct fm_check_list list = {0};
    struct fm_problem *problems;
    size_t count;
    enum fm_result r = fm_problems_list(&problems, &count);
    if (r)
        return r;
    *out_totals = (struct fm_check_totals){0};
    struct checker k = {.vk = vk, .params = params, .totals = out_totals, .seen = fm_alloc_zero(fm_kernel_count, sizeof *k.seen)};
    r = k.seen ? fm_check_list_make(fm_vk_caps(vk), params, problems, count, &list) : fm_nomem();
    for (uint32_t view = 0; view < list.n_views && !r; view++)
        r = check_view(&k, &list, view, problems);
    fm_check_list_finish(&list);
    fm_free(k.seen);
    fm_free(problems);
    return r;
}
