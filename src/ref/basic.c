// SPDX-License-Identifier: MIT
// References: rows in, rows out. Shapes are in graph/ops.def.
#include "base/half.h"
#include "base/os.h"
#include "ref/ref_ops.h"

#include <math.h>

#define SQRT_2_OVER_PI 0.79788456080286535588
#define F16_MAX 65504.0

void fm_ref_embed(const struct fm_ref_call *c)
{
    const struct fm_ref_tensor *w = c->src[0], *ids = c->src[1];
    struct fm_ref_tensor *y = c->dst[0];
    uint64_t width = w->dims[1];
    for (uint64_t t = 0; t < ids->elems; t++) {
        uint64_t row = (uint64_t)ids->v[t];
        for (uint64_t i = 0; i < width; i++) {
            // An id beyond the table reads as zeros: the host refuses such ids, a reference must not fault on them.
            double v = row < w->dims[0] ? (double)c->node->attr.scale * w->v[row * width + i] : 0;
            y->v[t * width + i] = v;
            y->mag[t * width + i] = fabs(v);
        }
    }
}

// RMS: y = x * rsqrt(mean x^2 + eps) * w (Zhang and Sennrich 2019). LAYER: y = (x - mean) * rsqrt(var + eps) * w + b
// (Ba et al. 2016).
void fm_ref_norm_row(const struct fm_attr *attr, const double *x, const double *x_mag, const double *w,
                     const double *bias, uint64_t width, double *y, double *mag)
{
    double mean = 0, mean_abs = 0, square = 0;
    for (uint64_t i = 0; i < width; i++) {
        mean += x[i];
        mean_abs += fabs(x[i]);
    }
    mean_abs /= (double)width;
    mean = attr->norm == FM_NORM_LAYER ? mean / (double)width : 0;
    for (uint64_t i = 0; i < width; i++)
        square += (x[i] - mean) * (x[i] - mean);
    double r = 1 / sqrt(square / (double)width + (double)attr->eps);
    for (uint64_t i = 0; i < width; i++) {
        double b = bias ? bias[i] : 0;
        y[i] = (x[i] - mean) * r * w[i] + b;
        // The mean's own error is of the size of the elements that it was summed from.
        double x_scale = (x_mag ? x_mag[i] : fabs(x[i])) + (attr->norm == FM_NORM_LAYER ? mean_abs : 0);
        mag[i] = x_scale * r * fabs(w[i]) + fabs(b);
    }
}

void fm_ref_norm(const struct fm_ref_call *c)
{
    uint64_t width = c->src[0]->dims[1];
    const double *bias = c->node->n_src > 2 ? c->src[2]->v : NULL;
    for (uint64_t at = 0; at < c->src[0]->elems; at += width)
        fm_ref_norm_row(&c->node->attr, c->src[0]->v + at, NULL, c->src[1]->v, bias, width, c->dst[0]->v + at,
                        c->dst[0]->mag + at);
}

void fm_ref_add(const struct fm_ref_call *c)
{
    for (uint64_t i = 0; i < c->dst[0]->elems; i++) {
        double a = c->src[0]->v[i], b = c->src[1]->v[i];
        c->dst[0]->v[i] = a + b;
        c->dst[0]->mag[i] = fabs(a) + fabs(b);
    }
}

void fm_ref_add_norm(const struct fm_ref_call *c)
{
    uint64_t width = c->src[0]->dims[1];
    const double *bias = c->node->n_src > 3 ? c->src[3]->v : NULL;
    fm_ref_add(c);
    for (uint64_t at = 0; at < c->src[0]->elems; at += width)
        fm_ref_norm_row(&c->node->attr, c->dst[0]->v + at, c->dst[0]->mag + at, c->src[2]->v, bias, width,
                        c->dst[1]->v + at, c->dst[1]->mag + at);
}

// --- matmul --------------------------------------------------------------------------------------------------------

struct matmul_job {
    const double *x, *w, *bias, *residual;
    double *y, *mag;
    uint64_t t, n, k;
};

#define JOB_COLUMNS 16

// Columns [j*16, j*16+16) of every row. Four sums at a time, so that additions overlap.
static void matmul_columns(void *user, uint32_t job)
{
    const struct matmul_job *m = user;
    uint64_t n0 = (uint64_t)job * JOB_COLUMNS, n1 = FM_MIN(n0 + JOB_COLUMNS, m->n);
    for (uint64_t t = 0; t < m->t; t++) {
        const double *x = m->x + t * m->k;
        for (uint64_t n = n0; n < n1; n += 4) {
            uint64_t count = FM_MIN(n1 - n, 4);
            const double *w[4];
            double sum[4] = {0}, abs_sum[4] = {0};
            for (uint64_t i = 0; i < 4; i++)
                w[i] = m->w + (n + FM_MIN(i, count - 1)) * m->k;
            for (uint64_t k = 0; k < m->k; k++)
                for (unsigned i = 0; i < 4; i++) {
                    double p = x[k] * w[i][k];
                    sum[i] += p;
                    abs_sum[i] += fabs(p);
                }
            for (uint64_t i = 0; i < count; i++) {
                double b = m->bias ? m->bias[n + i] : 0, r = m->residual ? m->residual[t * m->n + n + i] : 0;
                m->y[t * m->n + n + i] = sum[i] + b + r;
                m->mag[t * m->n + n + i] = abs_sum[i] + fabs(b) + fabs(r);
            }
        }
    }
}

void fm_ref_matmul_rows(const double *x, const double *w, const double *bias, const double *residual, uint64_t t,
                        uint64_t n, uint64_t k, double *y, double *mag)
{
    struct matmul_job m = {x, w, bias, residual, y, mag, t, n, k};
    uint32_t jobs = (uint32_t)((n + JOB_COLUMNS - 1) / JOB_COLUMNS);
    // Threads pay from about a million products on.
    fm_thread_for(t * n * k < 1u << 20 ? 1 : 0, jobs, matmul_columns, &m);
}

void fm_ref_matmul(const struct fm_ref_call *c)
{
    fm_ref_matmul_rows(c->src[0]->v, c->src[1]->v, c->node->n_src > 2 ? c->src[2]->v : NULL, NULL, c->src[0]->dims[0],
                       c->src[1]->dims[0], c->src[1]->dims[1], c->dst[0]->v, c->dst[0]->mag);
}

void fm_ref_matmul_add(const struct fm_ref_call *c)
{
    fm_ref_matmul_rows(c->src[0]->v, c->src[1]->v, c->node->n_src > 3 ? c->src[3]->v : NULL, c->src[2]->v,
                       c->src[0]->dims[0], c->src[1]->dims[0], c->src[1]->dims[1], c->dst[0]->v, c->dst[0]->mag);
}

// --- activations ---------------------------------------------------------------------------------------------------

double fm_ref_act(unsigned kind, double x)
{
    if (kind == FM_ACT_NONE)
        return x;
    if (kind == FM_ACT_GELU_TANH)
        return 0.5 * x * (1 + tanh(SQRT_2_OVER_PI * (x + 0.044715 * x * x * x)));
    return x / (1 + exp(-x));
}

// Error scale of act(x). silu: the exponential's relative error grows with its argument. gelu: 1 + tanh cancels for
// negative x, so that the error is of the size of x, not of the result.
static double act_mag(unsigned kind, double x)
{
    return kind == FM_ACT_SILU ? fabs(fm_ref_act(kind, x)) * (1 + fabs(x)) : fabs(x);
}

// |act'| <= 1.13 for all kinds: what an error of the argument becomes.
#define ACT_SLOPE 1.13

double fm_ref_act_mag(unsigned kind, double x, double x_mag)
{
    return act_mag(kind, x) + ACT_SLOPE * x_mag;
}

double fm_ref_glu(unsigned kind, double g, double u, double *out_mag)
{
    *out_mag = act_mag(kind, g) * fabs(u);
    return fm_ref_act(kind, g) * u;
}

void fm_ref_act_op(const struct fm_ref_call *c)
{
    for (uint64_t i = 0; i < c->dst[0]->elems; i++) {
        c->dst[0]->v[i] = fm_ref_act(c->node->attr.act, c->src[0]->v[i]);
        c->dst[0]->mag[i] = act_mag(c->node->attr.act, c->src[0]->v[i]);
    }
}

void fm_ref_glu_op(const struct fm_ref_call *c)
{
    for (uint64_t i = 0; i < c->dst[0]->elems; i++)
        c->dst[0]->v[i] = fm_ref_glu(c->node->attr.act, c->src[0]->v[i], c->src[1]->v[i], &c->dst[0]->mag[i]);
}

static void matmul_glu_rows(const struct fm_ref_call *c, const double *x, uint64_t t, double *y, double *mag)
{
    // The up product is made in place in the result, the gate row by row beside it.
    uint64_t k = c->src[0]->dims[1], n = c->src[1]->dims[0];
    fm_ref_matmul_rows(x, c->src[2]->v, NULL, NULL, t, n, k, y, mag);
    for (uint64_t r = 0; r < t; r++)
        for (uint64_t j = 0; j < n; j++) {
            double gate, gate_mag, own_mag, up = y[r * n + j], up_mag = mag[r * n + j];
            fm_ref_matmul_rows(x + r * k, c->src[1]->v + j * k, NULL, NULL, 1, 1, k, &gate, &gate_mag);
            y[r * n + j] = fm_ref_glu(c->node->attr.act, gate, up, &own_mag);
            mag[r * n + j] =
                own_mag + fabs(fm_ref_act(c->node->attr.act, gate)) * up_mag + ACT_SLOPE * gate_mag * fabs(up);
        }
}

void fm_ref_matmul_glu(const struct fm_ref_call *c)
{
    matmul_glu_rows(c, c->src[0]->v, c->src[0]->dims[0], c->dst[0]->v, c->dst[0]->mag);
}

// --- products of normed rows ---------------------------------------------------------------------------------------

// Row t of x, normed with the weight in operand g, in the scratch. Its own error scale, |x^| of each element, makes the
// terms of a product no larger than they are: they count once, and a kernel's bound holds both.
static const double *normed_row(const struct fm_ref_call *c, unsigned g, uint64_t t)
{
    uint64_t k = c->src[0]->dims[1];
    fm_ref_norm_row(&c->node->attr, c->src[0]->v + t * k, NULL, c->src[g]->v, NULL, k, c->scratch, c->scratch + k);
    return c->scratch;
}

void fm_ref_norm_matmul(const struct fm_ref_call *c)
{
    uint64_t n = c->src[1]->dims[0];
    const double *bias = c->node->n_src > 3 ? c->src[3]->v : NULL;
    for (uint64_t t = 0; t < c->src[0]->dims[0]; t++)
        fm_ref_matmul_rows(normed_row(c, 2, t), c->src[1]->v, bias, NULL, 1, n, c->src[0]->dims[1], c->dst[0]->v + t * n,
                           c->dst[0]->mag + t * n);
}

void fm_ref_norm_matmul_add(const struct fm_ref_call *c)
{
    uint64_t n = c->src[1]->dims[0];
    const double *bias = c->node->n_src > 4 ? c->src[4]->v : NULL;
    for (uint64_t t = 0; t < c->src[0]->dims[0]; t++)
        fm_ref_matmul_rows(normed_row(c, 3, t), c->src[1]->v, bias, c->src[2]->v + t * n, 1, n, c->src[0]->dims[1],
                           c->dst[0]->v + t * n, c->dst[0]->mag + t * n);
}

void fm_ref_norm_matmul_glu(const struct fm_ref_call *c)
{
    uint64_t n = c->src[1]->dims[0];
    for (uint64_t t = 0; t < c->src[0]->dims[0]; t++)
        matmul_glu_rows(c, normed_row(c, 3, t), 1, c->dst[0]->v + t * n, c->dst[0]->mag + t * n);
}

// --- moves ---------------------------------------------------------------------------------------------------------

void fm_ref_gather(const struct fm_ref_call *c)
{
    uint64_t width = c->src[0]->dims[1];
    for (uint64_t o = 0; o < c->src[1]->elems; o++) {
        uint64_t row = (uint64_t)c->src[1]->v[o];
        for (uint64_t i = 0; i < width; i++) {
            double v = row < c->src[0]->dims[0] ? c->src[0]->v[row * width + i] : 0;
            c->dst[0]->v[o * width + i] = v;
            c->dst[0]->mag[o * width + i] = fabs(v);
        }
    }
}

// The result may be larger than the operand: rows and columns beyond it are zero.
void fm_ref_cast(const struct fm_ref_call *c)
{
    const struct fm_ref_tensor *x = c->src[0];
    struct fm_ref_tensor *y = c->dst[0];
    for (uint64_t t = 0; t < y->dims[0]; t++)
        for (uint64_t i = 0; i < y->dims[1]; i++) {
            double v = t < x->dims[0] && i < x->dims[1] ? x->v[t * x->dims[1] + i] : 0;
            v = v > F16_MAX ? F16_MAX : v < -F16_MAX ? -F16_MAX : v;
            y->v[t * y->dims[1] + i] = (double)fm_half_to_float(fm_float_to_half((float)v));
            y->mag[t * y->dims[1] + i] = fabs(v);
        }
}

void fm_ref_round_blocks(double *x, uint64_t elems, uint32_t bytes)
{
    const double largest = bytes == 1 ? 127 : 32512;
    for (uint64_t first = 0; first + 32 <= elems; first += 32) {
        double most = 1e-33;
        bool finite = true;
        for (uint64_t i = first; i < first + 32; i++) {
            most = fmax(most, fabs(x[i]));
            finite = finite && isfinite(x[i]);
        }
        for (uint64_t i = first; i < first + 32; i++)
            x[i] = finite ? nearbyint(x[i] * largest / most) * (most / largest) : (double)NAN;
    }
}

void fm_ref_cast_int(const struct fm_ref_call *c)
{
    struct fm_ref_tensor *y = c->dst[0];
    for (uint64_t i = 0; i < y->elems; i++) {
        y->v[i] = c->src[0]->v[i];
        y->mag[i] = fabs(y->v[i]);
    }
    fm_ref_round_blocks(y->v, y->elems, c->node->attr.x_bytes);
}

// Words as numbers below 2^32; the sum wraps.
void fm_ref_read_sum(const struct fm_ref_call *c)
{
    const struct fm_ref_tensor *x = c->src[0];
    struct fm_ref_tensor *y = c->dst[0];
    for (uint64_t t = 0; t < x->dims[0]; t++) {
        uint32_t sum = 0;
        for (uint64_t i = 0; i < x->dims[1]; i++)
            sum += (uint32_t)x->v[t * x->dims[1] + i];
        y->v[t] = y->mag[t] = sum;
    }
}
