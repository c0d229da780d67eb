// SPDX-License-Identifier: MIT
// References: rotary positions, the KV cache, attention. Shapes are in graph/ops.def.
#include "base/half.h"
#include "quant/quant.h"
#include "ref/ref_ops.h"

#include <math.h>

#define TWO_PI 6.283185307179586476925

double fm_ref_angle(const double freq[2], uint32_t pos)
{
    uint64_t step = (uint64_t)freq[1] << 32 | (uint64_t)freq[0]; // 2^64 steps to a turn
    return ldexp((double)(step * pos), -64) * TWO_PI;
}

// Su et al., "RoFormer", 2021. Pairs (2m, 2m+1) (NORM) or (m, m+R) (NEOX); the angle is pos * freq turns, exact modulo
// one turn.
void fm_ref_rope_head(const struct fm_attr *attr, const double *x, const double *freq, uint32_t pos, double *y,
                      double *mag)
{
    uint32_t pairs = attr->rotated / 2;
    for (uint32_t i = attr->rotated; i < attr->head; i++) {
        y[i] = x[i];
        mag[i] = fabs(x[i]);
    }
    for (uint32_t m = 0; m < pairs; m++) {
        uint32_t i = attr->rope == FM_ROPE_NEOX ? m : 2 * m, j = attr->rope == FM_ROPE_NEOX ? m + pairs : 2 * m + 1;
        double angle = fm_ref_angle(freq + 2 * m, pos);
        double a = x[i], b = x[j], co = cos(angle), si = sin(angle);
        y[i] = a * co - b * si;
        y[j] = b * co + a * si;
        // The angle's own rounding moves each result by a share of either element.
        mag[i] = mag[j] = fabs(a) + fabs(b);
    }
}

// Position that copy `copy` of a row is rotated by (An et al., "Training-free long-context scaling", 2024, section 3.2, with
// the authors' code's cap): as a key and for its own chunk, for the chunk before, for all earlier ones.
static uint32_t chunk_position(const struct fm_attr *attr, uint32_t pos, unsigned copy)
{
    if (attr->chunk == 0)
        return pos;
    uint32_t within = pos % attr->chunk;
    return copy == 0 ? within : FM_MIN(copy == 1 ? within + attr->chunk : 2 * attr->chunk - 1, attr->cap);
}

// Length scaling of Qwen2.5-1M: of queries and of keys as they are cached.
static double length_factor(const struct fm_attr *attr, const struct fm_ref_tensor *length, uint64_t t)
{
    return attr->original == 0 ? 1 : fmax(1, 0.1 * log(length->v[t] / (double)attr->original) + 1);
}

static void rope_scaled(const struct fm_attr *attr, const double *x, const double *freq, uint32_t pos, double factor,
                        double *y, double *mag)
{
    fm_ref_rope_head(attr, x, freq, pos, y, mag);
    for (uint32_t i = 0; i < attr->head && factor != 1; i++) {
        y[i] *= factor;
        mag[i] *= factor;
    }
}

static void rope_rows(const struct fm_attr *attr, uint32_t heads, unsigned copies, const struct fm_ref_tensor *x,
                      const double *freq, const double *pos, const struct fm_ref_tensor *length, double *y, double *mag)
{
    for (uint64_t t = 0; t < x->dims[0]; t++)
        for (unsigned copy = 0; copy < copies; copy++)
            for (uint32_t h = 0; h < heads; h++) {
                uint64_t from = (t * heads + h) * attr->head, to = ((t * copies + copy) * heads + h) * attr->head;
                rope_scaled(attr, x->v + from, freq, chunk_position(attr, (uint32_t)pos[t], copy),
                            length_factor(attr, length, t), y + to, mag + to);
            }
}

void fm_ref_rope(const struct fm_ref_call *c)
{
    const struct fm_attr *a = &c->node->attr;
    rope_rows(a, a->heads, FM_MAX(a->copies, 1u), c->src[0], c->src[1]->v, c->src[2]->v,
              c->node->n_src > 3 ? c->src[3] : NULL, c->dst[0]->v, c->dst[0]->mag);
}

// Row of a cache [S,G,L,Cp] for a slot, head and position; NULL where it lies outside.
static double *cache_row(const struct fm_ref_tensor *cache, double *base, uint64_t slot, uint64_t head, uint64_t pos)
{
    if (slot >= cache->dims[0] || pos >= cache->dims[2])
        return NULL;
    return base + ((slot * cache->dims[1] + head) * cache->dims[2] + pos) * cache->dims[3];
}

// x [width], filled up with zeros, rounded to blocks of q8_0.
static void round_q8_0(double *x, uint32_t width)
{
    uint8_t block[34];
    float piece[32];
    for (uint32_t at = 0; at < width; at += 32) {
        for (uint32_t i = 0; i < 32; i++)
            piece[i] = at + i < width ? (float)x[at + i] : 0;
        fm_quant_encode(FM_TYPE_Q8_0, piece, 32, block);
        fm_quant_decode(FM_TYPE_Q8_0, block, 32, piece);
        for (uint32_t i = 0; i < 32 && at + i < width; i++)
            x[at + i] = (double)piece[i];
    }
}

// Store one head's row as the cache's type holds it.
static void cache_store(struct fm_ref_tensor *cache, enum fm_type type, uint64_t slot, uint64_t head, uint64_t pos,
                        const double *x, const double *mag, uint32_t width)
{
    double *v = cache_row(cache, cache->v, slot, head, pos);
    if (!v)
        return;
    double *m = cache_row(cache, cache->mag, slot, head, pos);
    for (uint32_t i = 0; i < width; i++) {
        v[i] = type == FM_TYPE_F16 ? (double)fm_half_to_float(fm_float_to_half((float)x[i])) : x[i];
        m[i] = mag ? mag[i] : fabs(x[i]);
    }
    if (type == FM_TYPE_Q8_0)
        round_q8_0(v, width);
}

void fm_ref_kv_write(const struct fm_ref_call *c)
{
    const struct fm_attr *a = &c->node->attr;
    for (unsigned which = 0; which < 2; which++) {
        enum fm_type type = c->graph->values[c->node->src[4 + which]].type;
        for (uint64_t t = 0; t < c->src[0]->dims[0]; t++)
            for (uint32_t g = 0; g < a->heads_kv; g++)
                cache_store(c->dst[which], type, (uint64_t)c->src[3]->v[t], g, (uint64_t)c->src[2]->v[t],
                            c->src[which]->v + (t * a->heads_kv + g) * a->head, NULL, a->head);
    }
}

// Rotates keys, and writes keys and values: what ROPE_KV_WRITE and ROPE_ATTEND do alike, with the same operands and caches.
static void rotate_and_write(const struct fm_ref_call *c)
{
    const struct fm_attr *a = &c->node->attr;
    const double *freq = c->src[3]->v, *pos = c->src[4]->v, *slot = c->src[5]->v;
    const struct fm_ref_tensor *length = c->node->n_src > 8 ? c->src[8] : NULL;
    enum fm_type k_type = c->graph->values[c->node->src[6]].type, v_type = c->graph->values[c->node->src[7]].type;
    for (uint64_t t = 0; t < c->src[0]->dims[0]; t++)
        for (uint32_t g = 0; g < a->heads_kv; g++) {
            uint64_t at = (t * a->heads_kv + g) * a->head;
            // The cache row itself holds the rotated key until it is rounded.
            double *row = cache_row(c->dst[1], c->dst[1]->v, (uint64_t)slot[t], g, (uint64_t)pos[t]);
            double *mag = cache_row(c->dst[1], c->dst[1]->mag, (uint64_t)slot[t], g, (uint64_t)pos[t]);
            if (row) {
                rope_scaled(a, c->src[1]->v + at, freq, chunk_position(a, (uint32_t)pos[t], 0), length_factor(a, length, t), row,
                            mag);
                cache_store(c->dst[1], k_type, (uint64_t)slot[t], g, (uint64_t)pos[t], row, mag, a->head);
            }
            cache_store(c->dst[2], v_type, (uint64_t)slot[t], g, (uint64_t)pos[t], c->src[2]->v + at, NULL, a->head);
        }
}

void fm_ref_rope_kv_write(const struct fm_ref_call *c)
{
    const struct fm_attr *a = &c->node->attr;
    const struct fm_ref_tensor *length = c->node->n_src > 8 ? c->src[8] : NULL;
    rope_rows(a, a->heads, a->chunk > 0 ? 3 : 1, c->src[0], c->src[3]->v, c->src[4]->v, length, c->dst[0]->v, c->dst[0]->mag);
    rotate_and_write(c);
}

// Rows of a cache that this node wrote: how far an implementation may be off that rounds x to the other neighbour, as an error scale,
// for implementations of c * u = 2^-17 or more.
static double rounding_mag(enum fm_type type, const double *row, const double *row_mag, uint32_t i)
{
    double most = 0;
    if (type == FM_TYPE_F32 || row_mag[i] == 0)
        return 0;
    if (type == FM_TYPE_F16)
        return FM_MAX(fabs(row[i]) * 0x1p-10, 0x1p-24) * 0x1p17;
    for (uint32_t j = i / 32 * 32; j < i / 32 * 32 + 32; j++)
        most = fmax(most, fabs(row[j]));
    return most / 127 * 0x1p17;
}

// A query row: of each copy its heads, and their error scales (NULL: exact, and no key was written by this node).
struct query {
    const double *copy[3], *mag;
    uint64_t slot, first, last; // of its keys
    enum fm_type type;          // of the caches
};

// One query head over positions [first, last] of the caches: two passes (greatest score, then weights), no scratch.
//
// Error scale: with p the softmax weights and s_j = |scale| sum|q k_j| the scale of score j's own error, dy = sum p_j
// ds_j (v_j - y) to first order, so that |dy| <= u * (sum p_j (1 + s_j) |v_j| + |y| sum p_j s_j). Where q and keys were rotated, their
// own error scales are in s_j.
static void attend_head(const struct fm_attr *a, const struct fm_ref_tensor *kc, const struct fm_ref_tensor *vc, const struct query *query,
                        uint32_t h, double *y, double *mag)
{
    uint32_t g = h / (a->heads / a->heads_kv);
    double greatest = -INFINITY, total = 0, total_s = 0;
    for (uint32_t i = 0; i < a->head; i++)
        y[i] = mag[i] = 0;
    for (unsigned pass = 0; pass < 2; pass++)
        for (uint64_t p = query->first; p <= query->last; p++) {
            const double *k = cache_row(kc, kc->v, query->slot, g, p), *v = cache_row(vc, vc->v, query->slot, g, p);
            const double *k_mag = query->mag && pass ? cache_row(kc, kc->mag, query->slot, g, p) : NULL;
            const double *v_mag = query->mag && pass ? cache_row(vc, vc->mag, query->slot, g, p) : NULL;
            double score = 0, s = 0;
            if (!k || !v)
                continue;
            const double *q = query->copy[a->chunk > 0 ? FM_MIN(query->last / a->chunk - p / a->chunk, 2) : 0] + h * a->head;
            for (uint32_t i = 0; i < a->head; i++) {
                score += q[i] * k[i];
                s += pass ? fabs(q[i] * k[i]) : 0;
                if (k_mag)
                    s += query->mag[h * a->head + i] * fabs(k[i]) + fabs(q[i]) * (k_mag[i] + rounding_mag(query->type, k, k_mag, i));
            }
            score *= (double)a->scale;
            if (pass == 0) {
                greatest = fmax(greatest, score);
                continue;
            }
            double e = exp(score - greatest);
            s *= fabs((double)a->scale);
            total += e;
            total_s += e * s;
            for (uint32_t i = 0; i < a->head; i++) {
                y[i] += e * v[i];
                mag[i] += e * ((1 + s) * fabs(v[i]) + (v_mag ? rounding_mag(query->type, v, v_mag, i) : 0));
            }
        }
    for (uint32_t i = 0; i < a->head && total > 0; i++) {
        y[i] /= total;
        mag[i] = mag[i] / total + fabs(y[i]) * total_s / total;
    }
}

// The keys that a row at `pos` sees; a token always lies within the context.
static void set_keys(const struct fm_attr *a, const struct fm_ref_tensor *kc, uint64_t slot, uint64_t pos, struct query *query)
{
    query->slot = slot;
    query->first = a->window && pos + 1 > a->window ? pos + 1 - a->window : 0;
    query->last = FM_MIN(pos, kc->dims[2] - 1);
}

// Vaswani et al. 2017, queries grouped as in Ainslie et al. 2023 (head h reads key head h / (H/G)), sliding window as
// in Mistral.
void fm_ref_attend(const struct fm_ref_call *c)
{
    const struct fm_attr *a = &c->node->attr;
    uint64_t copies = a->chunk > 0 ? 3 : 1, width = (uint64_t)a->heads * a->head;
    for (uint64_t t = 0; t < c->src[0]->dims[0]; t++) {
        struct query query = {.mag = NULL};
        set_keys(a, c->src[1], (uint64_t)c->src[4]->v[t], (uint64_t)c->src[3]->v[t], &query);
        for (uint64_t i = 0; i < copies; i++)
            query.copy[i] = c->src[0]->v + (t * copies + i) * width;
        for (uint32_t h = 0; h < a->heads; h++) {
            uint64_t at = t * width + (uint64_t)h * a->head;
            attend_head(a, c->src[1], c->src[2], &query, h, c->dst[0]->v + at, c->dst[0]->mag + at);
        }
    }
}

// ROPE_KV_WRITE, then ATTEND. scratch: a rotated row, and its error scales.
void fm_ref_rope_attend(const struct fm_ref_call *c)
{
    const struct fm_attr *a = &c->node->attr;
    uint64_t width = (uint64_t)a->heads * a->head;
    rotate_and_write(c);
    for (uint64_t t = 0; t < c->src[0]->dims[0]; t++) {
        struct query query = {.copy = {c->scratch}, .mag = c->scratch + width, .type = c->graph->values[c->node->src[6]].type};
        set_keys(a, c->dst[1], (uint64_t)c->src[5]->v[t], (uint64_t)c->src[4]->v[t], &query);
        for (uint32_t h = 0; h < a->heads; h++) {
            uint64_t at = (uint64_t)h * a->head;
            fm_ref_rope_head(a, c->src[0]->v + t * width + at, c->src[3]->v, (uint32_t)c->src[4]->v[t], c->scratch + at,
                             c->scratch + width + at);
        }
        for (uint32_t h = 0; h < a->heads; h++) {
            uint64_t at = t * width + (uint64_t)h * a->head;
            attend_head(a, c->dst[1], c->dst[2], &query, h, c->dst[0]->v + at, c->dst[0]->mag + at);
        }
    }
}
