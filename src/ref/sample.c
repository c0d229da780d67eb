// SPDX-License-Identifier: MIT
// References: token feed and sampling. This file defines the sampling algorithm; the kernel follows it step by step.
//
// For output row o: token row t = out_row[o], slot s = slot[t], position p = pos[t], record r = sampler[o] (abi.h,
// FM_SAMPLER_*).
//   0. Ids >= attr.vocab are -inf. A row that holds a NaN, or whose greatest logit (after 1) is infinite, has no
//      probabilities: its id is FM_TOKEN_NAN. -inf beside numbers is an id that is never chosen.
//   1. Repetition penalty, where repeat_penalty != 1 and repeat_last_n > 0: every id that occurs in history[s] at a
//      position in
//      (p - last_n, p] has its logit divided by the penalty when positive, else multiplied, once (Keskar et al. 2019).
//   2. temp <= 0: the greatest logit; the lowest id wins ties. Done.
//   3. top_k > 0: keep the ids whose logit is at least the k-th greatest (ties at the threshold all stay).
//   4. Weights w = floor(exp(l - max) * 2^23), u32; W = sum over the kept, u64.
//      top_p < 1: keep the ids with l >= x for the greatest x at which the mass of {l >= x} reaches (W * f) >> 32, f =
//      floor(top_p * 2^32)
//      (0 when negative). min_p > 0: keep the ids with w >= min_p * 2^23.
//   5. Weights again with temperature: w = floor(exp((l - max) / temp) * 2^23), W their sum over the kept. The draw is
//      x = (W * u) >> 32 with u = fm_rng_draw(seed_lo, seed_hi, p); the answer is the first id in ascending order whose
//      running sum exceeds x.
// All is integer after exp(), so that a device and this file differ only where exp() rounds differently. Filters in
// llama.cpp's order: penalties, top-k, top-p, min-p, temperature.
#include "ref/ref_ops.h"

#include "shaders/lib/abi.h"
#include "shaders/lib/rng.h"

#include <math.h>
#include <stdlib.h>

#define ONE 8388608.0 // weight of the most likely token: 2^23

void fm_ref_token_feed(const struct fm_ref_call *c)
{
    const double *token = c->src[0]->v, *pos = c->src[1]->v, *slot = c->src[2]->v;
    struct fm_ref_tensor *history = c->dst[1];
    const struct fm_ref_tensor *last = c->src[4];
    for (uint64_t t = 0; t < c->src[0]->elems; t++) {
        uint64_t s = (uint64_t)slot[t], p = (uint64_t)pos[t];
        double id = token[t];
        if (id == (double)FM_TOKEN_LAST)
            id = s < last->elems ? last->v[s] : 0;
        c->dst[0]->v[t] = id;
        if (s < history->dims[0] && p < history->dims[1])
            history->v[s * history->dims[1] + p] = id;
    }
}

static float bits_to_float(double word)
{
    uint32_t u = (uint32_t)word;
    float f;
    memcpy(&f, &u, sizeof(f));
    return f;
}

// (w * f) >> 32 for w < 2^63.
static uint64_t scale_u64(uint64_t w, uint32_t f)
{
    return (w >> 32) * f + (((w & UINT32_MAX) * f) >> 32);
}

struct draw {
    const struct fm_ref_call *call;
    double *logits; // penalised, masked; -inf = not kept
    uint64_t vocab;
    double max;
};

static void penalise(const struct draw *d, const double *record, uint64_t slot, uint64_t pos)
{
    const struct fm_ref_tensor *history = d->call->src[5];
    double penalty = (double)bits_to_float(record[FM_SAMPLER_REPEAT_PENALTY]);
    uint64_t last_n = (uint64_t)record[FM_SAMPLER_REPEAT_LAST_N], ctx = history->dims[1];
    if (last_n == 0 || penalty == 1 || slot >= history->dims[0] || ctx == 0)
        return;
    const double *row = history->v + slot * ctx;
    uint64_t end = FM_MIN(pos, ctx - 1), first = pos + 1 > last_n ? pos + 1 - last_n : 0;
    for (uint64_t p = first; p <= end; p++) {
        bool seen = false;
        for (uint64_t before = first; before < p && !seen; before++)
            seen = row[before] == row[p];
        uint64_t id = (uint64_t)row[p];
        if (!seen && id < d->vocab)
            d->logits[id] = d->logits[id] > 0 ? d->logits[id] / penalty : d->logits[id] * penalty;
    }
}

static uint64_t weight(const struct draw *d, uint64_t id, double temp)
{
    return d->logits[id] == -INFINITY ? 0 : (uint64_t)floor(exp((d->logits[id] - d->max) / temp) * ONE);
}

static int descending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

// Drop ids below `threshold`.
static void keep_from(const struct draw *d, double threshold)
{
    for (uint64_t i = 0; i < d->vocab; i++)
        if (d->logits[i] < threshold)
            d->logits[i] = -INFINITY;
}

// Steps 3 and 4. `sorted` has room for the vocabulary.
static void filter(const struct draw *d, const double *record, double *sorted)
{
    uint64_t top_k = (uint64_t)record[FM_SAMPLER_TOP_K];
    double top_p = (double)bits_to_float(record[FM_SAMPLER_TOP_P]),
           min_p = (double)bits_to_float(record[FM_SAMPLER_MIN_P]);
    memcpy(sorted, d->logits, d->vocab * sizeof(*sorted));
    qsort(sorted, d->vocab, sizeof(*sorted), descending);
    if (top_k > 0 && top_k < d->vocab)
        keep_from(d, sorted[top_k - 1]);
    uint64_t total = 0, mass = 0;
    for (uint64_t i = 0; i < d->vocab; i++)
        total += weight(d, i, 1);
    if (top_p < 1) {
        uint64_t target = scale_u64(total, top_p > 0 ? (uint32_t)(top_p * 0x1p32) : 0);
        // All logits that are equal, greatest first, until the mass is there.
        for (uint64_t i = 0; i < d->vocab;) {
            double x = sorted[i];
            for (; i < d->vocab && sorted[i] == x; i++)
                mass += x == -INFINITY ? 0 : (uint64_t)floor(exp(x - d->max) * ONE);
            if (mass >= target) {
                keep_from(d, x);
                break;
            }
        }
    }
    for (uint64_t i = 0; i < d->vocab && min_p > 0; i++)
        if ((double)weight(d, i, 1) < min_p * ONE)
            d->logits[i] = -INFINITY;
}

static uint64_t sample_row(const struct draw *d, const double *record, uint64_t pos, double *scratch)
{
    double temp = (double)bits_to_float(record[FM_SAMPLER_TEMP]);
    uint64_t best = 0, total = 0, sum = 0;
    for (uint64_t i = 0; i < d->vocab; i++) {
        if (isnan(d->logits[i]))
            return FM_TOKEN_NAN;
        if (d->logits[i] > d->logits[best])
            best = i;
    }
    if (isinf(d->logits[best]))
        return FM_TOKEN_NAN;
    if (!(temp > 0))
        return best;
    struct draw e = *d;
    e.max = d->logits[best];
    filter(&e, record, scratch);
    for (uint64_t i = 0; i < e.vocab; i++)
        total += weight(&e, i, temp);
    uint64_t x = scale_u64(
        total, fm_rng_draw((uint32_t)record[FM_SAMPLER_SEED_LO], (uint32_t)record[FM_SAMPLER_SEED_HI], (uint32_t)pos));
    for (uint64_t i = 0; i < e.vocab; i++) {
        sum += weight(&e, i, temp);
        if (sum > x)
            return i;
    }
    return best;
}

void fm_ref_sample(const struct fm_ref_call *c)
{
    uint64_t width = c->src[0]->dims[1], vocab = c->node->attr.vocab;
    struct fm_ref_tensor *last = c->dst[1];
    for (uint64_t o = 0; o < c->dst[0]->elems; o++) {
        const double *record = c->src[4]->v + o * FM_SAMPLER_WORDS;
        uint64_t row = (uint64_t)c->src[1]->v[o];
        uint64_t slot = row < c->src[3]->elems ? (uint64_t)c->src[3]->v[row] : 0,
                 pos = row < c->src[2]->elems ? (uint64_t)c->src[2]->v[row] : 0;
        // The first half of the scratch holds the logits, the second the sorted ones.
        double *logits = c->scratch, *sorted = c->scratch + vocab;
        for (uint64_t i = 0; i < vocab; i++)
            logits[i] = c->src[0]->v[o * width + i];
        struct draw d = {.call = c, .logits = logits, .vocab = vocab};
        penalise(&d, record, slot, pos);
        uint64_t id = sample_row(&d, record, pos, sorted);
        c->dst[0]->v[o] = (double)id;
        if (slot < last->elems)
            last->v[slot] = (double)id;
    }
}
