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

void fm_ref_rope_kv_write(const struct fm_ref_call *c)
{
    const struct fm_attr *a = &c->node->attr;
    const double *freq = c->src[3]->v, *pos = c->src[4]->v, *slot = c->src[5]->v;
    const struct fm_ref_tensor *length = c->node->n_src > 8 ? c->src[8] : NULL;
    rope_rows(a, a->heads, a->chunk > 0 ? 3 : 1, c->src[0], freq, pos, length, c->dst[0]->v, c->dst[0]->mag);
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

// One query head over positions [first, last] of the caches: two passes (greatest score, then weights), no scratch.
//
// Error scale: with p the softmax weights and s_j = |scale| sum|q k_j| the scale of score j's own error, dy = sum p_j
// ds_j (v_j - y) to first order, so that |dy| <= u * (sum p_j (1 + s_j) |v_j| + |y| sum p_j s_j).
static void attend_head(const struct fm_ref_call *c, uint64_t t, uint32_t h, uint64_t first, uint64_t last, double *y,
                        double *mag)
{
    const struct fm_attr *a = &c->node->attr;
    uint64_t slot = (uint64_t)c->src[4]->v[t];
    uint32_t g = h / (a->heads / a->heads_kv), copies = a->chunk > 0 ? 3 : 1;
    const double *copy[3];
    for (uint32_t i = 0; i < copies; i++)
        copy[i] = c->src[0]->v + ((t * copies + i) * a->heads + h) * a->head;
    double greatest = -INFINITY, total = 0, total_s = 0;
    for (uint32_t i = 0; i < a->head; i++)
        y[i] = mag[i] = 0;
    for (unsigned pass = 0; pass < 2; pass++)
        for (uint64_t p = first; p <= last; p++) {
            const double *k = cache_row(c->src[1], c->src[1]->v, slot, g, p),
                         *v = cache_row(c->src[2], c->src[2]->v, slot, g, p);
            double score = 0, s = 0;
            if (!k || !v)
                continue;
            const double *q = a->chunk > 0 ? copy[FM_MIN(last / a->chunk - p / a->chunk, 2)] : copy[0];
            for (uint32_t i = 0; i < a->head; i++) {
                score += q[i] * k[i];
                s += pass ? fabs(q[i] * k[i]) : 0;
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
                mag[i] += e * (1 + s) * fabs(v[i]);
            }
        }
    for (uint32_t i = 0; i < a->head && total > 0; i++) {
        y[i] /= total;
        mag[i] = mag[i] / total + fabs(y[i]) * total_s / total;
    }
}

// Vaswani et al. 2017, queries grouped as in Ainslie et al. 2023 (head h reads key head h / (H/G)), sliding window as
// in Mistral.
void fm_ref_attend(const struct fm_ref_call *c)
{
    const struct fm_attr *a = &c->node->attr;
    for (uint64_t t = 0; t < c->src[0]->dims[0]; t++) {
        uint64_t pos = (uint64_t)c->src[3]->v[t];
        uint64_t first = a->window && pos + 1 > a->window ? pos + 1 - a->window : 0;
        uint64_t last = FM_MIN(pos, c->src[1]->dims[2] - 1); // a token always lies within the context
        for (uint32_t h = 0; h < a->heads; h++) {
            uint64_t at = (t * a->heads + h) * a->head;
            attend_head(c, t, h, first, last, c->dst[0]->v + at, c->dst[0]->mag + at);
        }
    }
}

// Parts of a softmax sum: [T,H,split,C+2], each C sums, its greatest score and its sum of exponentials.
void fm_ref_attend_merge(const struct fm_ref_call *c)
{
    const struct fm_ref_tensor *part = c->src[0];
    uint64_t split = part->dims[2], width = part->dims[3], head = width - 2;
    for (uint64_t th = 0; th < part->dims[0] * part->dims[1]; th++) {
        const double *row = part->v + th * split * width;
        double *y = c->dst[0]->v + th * head, *mag = c->dst[0]->mag + th * head;
        double greatest = -INFINITY, total = 0;
        for (uint64_t s = 0; s < split; s++)
            if (row[s * width + head + 1] > 0)
                greatest = fmax(greatest, row[s * width + head]);
        for (uint64_t i = 0; i < head; i++)
            y[i] = mag[i] = 0;
        for (uint64_t s = 0; s < split; s++) {
            double sum = row[s * width + head + 1];
            if (!(sum > 0)) // a part without positions
                continue;
            double shift = greatest - row[s * width + head], e = exp(-shift);
            total += e * sum;
            for (uint64_t i = 0; i < head; i++) {
                y[i] += e * row[s * width + i];
                mag[i] += e * fabs(row[s * width + i]) * (1 + shift);
            }
        }
        for (uint64_t i = 0; i < head && total > 0; i++) {
            y[i] /= total;
            mag[i] /= total;
        }
    }
}
