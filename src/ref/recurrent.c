// SPDX-License-Identifier: MIT
// References: convolution, scans, linear attention. Shapes and the contract of segments and versions are in
// graph/ops.def. Everything runs token by token, whatever the kernels do.
#include "ref/ref_ops.h"

#include "base/os.h"

#include <math.h>

// One sequence's rows of a step.
struct segment {
    uint64_t row, rows, slot, pos;
};

// The step's segments stop at the first without rows: unused ones are zero.
static bool segment_at(const struct fm_ref_tensor *seg, uint64_t i, struct segment *out)
{
    if (i >= seg->dims[0] || seg->v[4 * i + 1] < 1)
        return false;
    *out = (struct segment){(uint64_t)seg->v[4 * i], (uint64_t)seg->v[4 * i + 1], (uint64_t)seg->v[4 * i + 2],
                            (uint64_t)seg->v[4 * i + 3]};
    return true;
}

// Elements of one version of a state [S,B,..].
static uint64_t version_elems(const struct fm_ref_tensor *state)
{
    return state->dims[2] * state->dims[3];
}

static uint64_t version_at(const struct fm_ref_tensor *state, uint64_t slot, uint64_t tokens)
{
    return (slot * state->dims[1] + tokens % state->dims[1]) * version_elems(state);
}

// Is the version after row t (of the segment) kept?
static bool is_kept(const struct fm_ref_call *c, const struct fm_ref_tensor *state, const struct segment *s, uint64_t t)
{
    uint64_t kept = c->plan_rows <= FM_VERSION_ROWS ? state->dims[1] : 1;
    return s->rows - t <= kept;
}

// A working copy of one sequence's state in scratch: values, the sum of the magnitudes of all terms, and how far the
// rounding of the decays' exponents moves them: a term that decayed by exp(-x) is off by u x exp(-x) of what it was.
struct working {
    double *v, *terms, *shift;
    uint64_t elems;
};

static struct working load_state(const struct fm_ref_call *c, const struct fm_ref_tensor *state, const struct segment *s)
{
    struct working w = {.elems = version_elems(state)};
    w.v = c->scratch;
    w.terms = c->scratch + w.elems;
    w.shift = c->scratch + 2 * w.elems;
    const double *from = state->v + version_at(state, s->slot, s->pos);
    for (uint64_t i = 0; i < w.elems; i++) {
        w.v[i] = s->pos == 0 ? 0 : from[i];
        w.terms[i] = fabs(w.v[i]);
        w.shift[i] = 0;
    }
    return w;
}

// Element i decays by exp(-x) and gets `add`, whose magnitude is `add_mag`.
static void advance(struct working *w, uint64_t i, double x, double decay, double add, double add_mag)
{
    w->shift[i] = decay * (w->shift[i] + x * w->terms[i]);
    w->terms[i] = decay * w->terms[i] + add_mag;
    w->v[i] = decay * w->v[i] + add;
}

static void store_state(const struct fm_ref_call *c, struct fm_ref_tensor *state, const struct segment *s, uint64_t t,
                        const struct working *w)
{
    if (!is_kept(c, state, s, t))
        return;
    uint64_t at = version_at(state, s->slot, s->pos + t + 1);
    memcpy(state->v + at, w->v, w->elems * sizeof(double));
    for (uint64_t i = 0; i < w->elems; i++)
        state->mag[at + i] = w->terms[i] + w->shift[i];
}

// log1p(exp x), and x itself beyond 20 as the authors' code has it (state-spaces/mamba).
static double softplus(double x)
{
    return x > 20 ? x : log1p(exp(x));
}

static uint64_t source_channel(const struct fm_attr *a, uint64_t channel)
{
    return a->repeat > 1 ? channel / a->head / a->repeat * a->head + channel % a->head : channel;
}

void fm_ref_conv1d(const struct fm_ref_call *c)
{
    const struct fm_attr *a = &c->node->attr;
    const struct fm_ref_tensor *x = c->src[0], *w = c->src[1];
    uint64_t in = x->dims[1], out = w->dims[0], width = w->dims[1];
    const double *bias = c->node->n_src > 4 ? c->src[4]->v : NULL;
    struct segment s;
    for (uint64_t i = 0; segment_at(c->src[2], i, &s); i++) {
        struct working window = load_state(c, c->dst[1], &s);
        for (uint64_t t = 0; t < s.rows; t++) {
            const double *now = x->v + (s.row + t) * in;
            for (uint64_t ch = 0; ch < out; ch++) {
                uint64_t from = source_channel(a, ch);
                double sum = bias ? bias[ch] : 0, mag = fabs(sum);
                for (uint64_t j = 0; j < width; j++) {
                    double p = w->v[ch * width + j] * (j + 1 < width ? window.v[j * in + from] : now[from]);
                    sum += p;
                    mag += fabs(p);
                }
                uint64_t at = (s.row + t) * out + ch;
                c->dst[0]->v[at] = fm_ref_act(a->act, sum);
                c->dst[0]->mag[at] = fm_ref_act_mag(a->act, sum, mag);
            }
            memmove(window.v, window.v + in, (width - 2) * in * sizeof(double));
            memcpy(window.v + (width - 2) * in, now, in * sizeof(double));
            for (uint64_t k = 0; k < window.elems; k++)
                window.terms[k] = fabs(window.v[k]);
            store_state(c, c->dst[1], &s, t, &window);
        }
    }
}

// Gu and Dao, "Mamba", 2023, algorithm 2 with the simplified (Euler) discretisation of b that the authors' code uses.
void fm_ref_selective_scan(const struct fm_ref_call *c)
{
    const struct fm_attr *a = &c->node->attr;
    const double *u = c->src[0]->v, *dt = c->src[1]->v, *A = c->src[2]->v, *B = c->src[3]->v, *C = c->src[4]->v,
                 *D = c->src[5]->v, *dt_bias = c->src[6]->v, *z = c->src[7]->v;
    uint64_t channels = c->src[0]->dims[1], n_state = a->state;
    struct segment s;
    for (uint64_t i = 0; segment_at(c->src[8], i, &s); i++) {
        struct working w = load_state(c, c->dst[1], &s);
        for (uint64_t t = 0; t < s.rows; t++) {
            for (uint64_t e = 0; e < channels; e++) {
                uint64_t at = (s.row + t) * channels + e;
                const double *b = B + ((s.row + t) * a->heads_kv + e / (channels / a->heads_kv)) * n_state;
                const double *cc = C + ((s.row + t) * a->heads + e / (channels / a->heads)) * n_state;
                double raw = dt[at] + dt_bias[e], v = softplus(raw);
                // Relative error of v from the rounding of its argument.
                double v_mag = v * (1 + (fabs(dt[at]) + fabs(dt_bias[e])));
                double y = D[e] * u[at], y_mag = fabs(y);
                for (uint64_t n = 0; n < n_state; n++) {
                    uint64_t k = e * n_state + n;
                    advance(&w, k, v_mag * fabs(A[k]), exp(v * A[k]), v * b[n] * u[at], v_mag * fabs(b[n] * u[at]));
                    y += w.v[k] * cc[n];
                    y_mag += (w.terms[k] + w.shift[k]) * fabs(cc[n]);
                }
                double g_mag, g = fm_ref_glu(FM_ACT_SILU, z[at], y, &g_mag);
                c->dst[0]->v[at] = g;
                c->dst[0]->mag[at] = g_mag + fabs(fm_ref_act(FM_ACT_SILU, z[at])) * y_mag;
            }
            store_state(c, c->dst[1], &s, t, &w);
        }
    }
}

// Dao and Gu, "Transformers are SSMs", 2024: the recurrence with a scalar decay per head.
void fm_ref_ssd(const struct fm_ref_call *c)
{
    const struct fm_attr *a = &c->node->attr;
    const double *xbc = c->src[0]->v, *dt = c->src[1]->v, *A = c->src[2]->v, *D = c->src[3]->v, *dt_bias = c->src[4]->v;
    uint64_t row_elems = c->src[0]->dims[1], n_state = a->state, head = a->head;
    uint64_t b_at = (uint64_t)a->heads_kv * head, c_at = b_at + (uint64_t)a->groups * n_state;
    struct segment s;
    for (uint64_t i = 0; segment_at(c->src[5], i, &s); i++) {
        struct working w = load_state(c, c->dst[1], &s);
        for (uint64_t t = 0; t < s.rows; t++) {
            const double *row = xbc + (s.row + t) * row_elems;
            for (uint64_t h = 0; h < a->heads; h++) {
                const double *x = row + h / (a->heads / a->heads_kv) * head;
                const double *b = row + b_at + h / (a->heads / a->groups) * n_state;
                const double *cc = row + c_at + h / (a->heads / a->groups_c) * n_state;
                double raw = dt[(s.row + t) * a->heads + h], v = softplus(raw + dt_bias[h]);
                double v_mag = v * (1 + fabs(raw) + fabs(dt_bias[h]));
                double decay = exp(v * A[h]);
                for (uint64_t p = 0; p < head; p++) {
                    double y = D[h] * x[p], y_mag = fabs(y);
                    for (uint64_t n = 0; n < n_state; n++) {
                        uint64_t k = (h * head + p) * n_state + n;
                        advance(&w, k, v_mag * fabs(A[h]), decay, v * x[p] * b[n], v_mag * fabs(x[p] * b[n]));
                        y += w.v[k] * cc[n];
                        y_mag += (w.terms[k] + w.shift[k]) * fabs(cc[n]);
                    }
                    uint64_t at = ((s.row + t) * a->heads + h) * head + p;
                    c->dst[0]->v[at] = y;
                    c->dst[0]->mag[at] = y_mag;
                }
            }
            store_state(c, c->dst[1], &s, t, &w);
        }
    }
}

// Qin et al., "TransNormerLLM", 2024, algorithm 2 (robust inference): only non-negative powers of the decay.
void fm_ref_linear_attend(const struct fm_ref_call *c)
{
    const struct fm_attr *a = &c->node->attr;
    const double *qk = c->src[0]->v, *V = c->src[1]->v, *rate = c->src[2]->v;
    uint64_t key = a->state, head = a->head, keys = (uint64_t)a->heads * key;
    struct segment s;
    for (uint64_t i = 0; segment_at(c->src[3], i, &s); i++) {
        struct working w = load_state(c, c->dst[1], &s);
        for (uint64_t t = 0; t < s.rows; t++) {
            for (uint64_t h = 0; h < a->heads; h++) {
                const double *q = qk + (s.row + t) * 2 * keys + h * key, *k = q + keys;
                const double *v = V + ((s.row + t) * a->heads + h) * head;
                double *y = c->dst[0]->v + ((s.row + t) * a->heads + h) * head,
                       *y_mag = c->dst[0]->mag + ((s.row + t) * a->heads + h) * head;
                double decay = exp(-rate[h]);
                for (uint64_t p = 0; p < head; p++)
                    y[p] = y_mag[p] = 0;
                for (uint64_t n = 0; n < key; n++) {
                    double kn = fm_ref_act(a->act, k[n]), qn = fm_ref_act(a->act, q[n]);
                    double kn_mag = fm_ref_act_mag(a->act, k[n], 0), qn_mag = fm_ref_act_mag(a->act, q[n], 0);
                    for (uint64_t p = 0; p < head; p++) {
                        uint64_t at = (h * key + n) * head + p;
                        advance(&w, at, rate[h], decay, kn * v[p], kn_mag * fabs(v[p]));
                        y[p] += qn * w.v[at];
                        y_mag[p] += qn_mag * (w.terms[at] + w.shift[at]);
                    }
                }
            }
            store_state(c, c->dst[1], &s, t, &w);
        }
    }
}

// Qin et al. 2024, section 3.1 (LRPE-d without its decay, which linear_attend has): the angle is exact modulo one turn.
void fm_ref_lrpe(const struct fm_ref_call *c)
{
    const struct fm_attr *a = &c->node->attr;
    uint64_t head = a->head, freq_heads = c->src[1]->dims[0] / head;
    for (uint64_t t = 0; t < c->src[0]->dims[0]; t++)
        for (uint64_t h = 0; h < a->heads; h++)
            for (uint64_t i = 0; i < head; i++) {
                const double *freq = c->src[1]->v + 2 * (h % freq_heads * head + i);
                double raw = c->src[0]->v[(t * a->heads + h) * head + i], x = fm_ref_act(a->act, raw);
                double mag = fm_ref_act_mag(a->act, raw, 0);
                double angle = fm_ref_angle(freq, (uint32_t)c->src[2]->v[t]);
                uint64_t at = (t * a->heads + h) * 2 * head + i;
                c->dst[0]->v[at] = x * cos(angle);
                c->dst[0]->v[at + head] = x * sin(angle);
                c->dst[0]->mag[at] = c->dst[0]->mag[at + head] = mag;
            }
}

void fm_ref_norm_gate(const struct fm_ref_call *c)
{
    const struct fm_attr *a = &c->node->attr;
    uint64_t width = c->src[0]->dims[1], part = width / a->groups;
    const double *w = c->node->n_src > 2 ? c->src[2]->v : NULL;
    for (uint64_t at = 0; at < c->src[0]->elems; at += part) {
        const double *x = c->src[0]->v + at, *gate = c->src[1]->v + at;
        double square = 0;
        for (uint64_t i = 0; i < part; i++) {
            double v = a->gate == FM_GATE_FIRST ? fm_ref_act(a->act, gate[i]) * x[i] : x[i];
            square += v * v;
        }
        double r = 1 / sqrt(square / (double)part + (double)a->eps);
        for (uint64_t i = 0; i < part; i++) {
            double scale = r * (w ? w[(at + i) % width] : 1), mag;
            c->dst[0]->v[at + i] = fm_ref_glu(a->act, gate[i], x[i], &mag) * scale;
            c->dst[0]->mag[at + i] = (mag + fabs(c->dst[0]->v[at + i] / (scale != 0 ? scale : 1))) * fabs(scale);
        }
    }
}
