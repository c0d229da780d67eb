// SPDX-License-Identifier: MIT
// References: convolution, scans, linear attention. Shapes and the contract of segments and state versions are in
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
static uint64_t state_version_elems(const struct fm_ref_tensor *state)
{
    return state->dims[2] * state->dims[3];
}

static uint64_t state_version_at(const struct fm_ref_tensor *state, uint64_t slot, uint64_t tokens)
{
    return (slot * state->dims[1] + tokens % state->dims[1]) * state_version_elems(state);
}

// Is the version after row t (of the segment) kept?
static bool is_kept(const struct fm_ref_call *c, const struct fm_ref_tensor *state, const struct segment *s, uint64_t t)
{
    uint64_t kept = fm_dims_run(&c->dims) <= FM_STATE_VERSION_ROWS ? state->dims[1] : 1;
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
    struct working w = {.elems = state_version_elems(state)};
    w.v = c->scratch;
    w.terms = c->scratch + w.elems;
    w.shift = c->scratch + 2 * w.elems;
    const double *from = state->v + state_version_at(state, s->slot, s->pos);
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
    uint64_t at = state_version_at(state, s->slot, s->pos + t + 1);
    memcpy(state->v + at, w->v, w->elems * sizeof(double));
    for (uint64_t i = 0; i < w->elems; i++)
        state->mag[at + i] = w->terms[i] + w->shift[i];
}

// log1p(exp x), and x itself beyond 20 as the authors' code has it (state-spaces/mamba).
static double softplus(double x)
{
    return x > 20 ? x : log1p(exp(x));
}

// Error scale of v = softplus(dt + bias): the rounding of its argument; and where v is no normal f32 number, it is 0.
static double softplus_mag(double v, double dt, double bias)
{
    return v * (1 + fabs(dt) + fabs(bias)) + 0x1p-126 / 0x1p-24;
}

// What is lost of silu(x) where exp(-x) is beyond f32: less than this many units.
#define SILU_LOST (0x1p-119 / 0x1p-24)

static uint64_t source_channel(const struct fm_attr *a, uint64_t channel)
{
    return a->repeat > 1 ? channel / a->head / a->repeat * a->head + channel % a->head : channel;
}

// A convolution's input: row t [Ex] of the step, and the error scale of its elements (NULL: exact).
typedef const double *conv_input_fn(const struct fm_ref_call *c, uint64_t t, const double **out_mag);

// `taps`: the operand that holds them; those after it are as of conv1d.
static void convolve(const struct fm_ref_call *c, unsigned taps, conv_input_fn *input)
{
    const struct fm_attr *a = &c->node->attr;
    const struct fm_ref_tensor *w = c->src[taps], *state = c->src[taps + 2];
    uint64_t in = state->dims[3], out = w->dims[0], width = w->dims[1], before = (width - 2) * in;
    const double *bias = c->node->n_src > taps + 3 ? c->src[taps + 3]->v : NULL;
    struct segment s;
    for (uint64_t i = 0; segment_at(c->src[taps + 1], i, &s); i++) {
        struct working window = load_state(c, c->dst[1], &s);
        for (uint64_t t = 0; t < s.rows; t++) {
            const double *now_mag, *now = input(c, s.row + t, &now_mag);
            for (uint64_t ch = 0; ch < out; ch++) {
                uint64_t from = source_channel(a, ch);
                double sum = bias ? bias[ch] : 0, mag = fabs(sum);
                for (uint64_t j = 0; j < width; j++) {
                    double tap = w->v[ch * width + j], p = tap * (j + 1 < width ? window.v[j * in + from] : now[from]);
                    sum += p;
                    mag += fabs(p);
                    if (j + 1 == width && now_mag)
                        mag += fabs(tap) * now_mag[from];
                }
                uint64_t at = (s.row + t) * out + ch;
                c->dst[0]->v[at] = fm_ref_act(a->act, sum);
                c->dst[0]->mag[at] = fm_ref_act_mag(a->act, sum, mag);
            }
            memmove(window.v, window.v + in, before * sizeof(double));
            memmove(window.terms, window.terms + in, before * sizeof(double));
            for (uint64_t k = 0; k < in; k++) {
                window.v[before + k] = now[k];
                window.terms[before + k] = now_mag ? now_mag[k] : fabs(now[k]);
            }
            store_state(c, c->dst[1], &s, t, &window);
        }
    }
}

static const double *input_given(const struct fm_ref_call *c, uint64_t t, const double **out_mag)
{
    *out_mag = NULL;
    return c->src[0]->v + t * c->src[0]->dims[1];
}

void fm_ref_conv1d(const struct fm_ref_call *c)
{
    convolve(c, 1, input_given);
}

// A row of x w^T, in the scratch behind the window.
static const double *input_product(const struct fm_ref_call *c, const double *x, unsigned taps, const double **out_mag)
{
    uint64_t n = c->src[1]->dims[0];
    double *y = c->scratch + 3 * state_version_elems(c->src[taps + 2]), *mag = y + n;
    fm_ref_matmul_rows(x, c->src[1]->v, NULL, NULL, 1, n, c->src[1]->dims[1], y, mag);
    *out_mag = mag;
    return y;
}

static const double *input_of_matmul(const struct fm_ref_call *c, uint64_t t, const double **out_mag)
{
    return input_product(c, c->src[0]->v + t * c->src[0]->dims[1], 2, out_mag);
}

void fm_ref_matmul_conv(const struct fm_ref_call *c)
{
    convolve(c, 2, input_of_matmul);
}

static const double *input_of_norm_matmul(const struct fm_ref_call *c, uint64_t t, const double **out_mag)
{
    uint64_t k = c->src[0]->dims[1];
    double *normed = c->scratch + 3 * state_version_elems(c->src[5]) + 2 * c->src[1]->dims[0];
    fm_ref_norm_row(&c->node->attr, c->src[0]->v + t * k, NULL, c->src[2]->v, NULL, k, normed, normed + k);
    return input_product(c, normed, 3, out_mag);
}

void fm_ref_norm_matmul_conv(const struct fm_ref_call *c)
{
    convolve(c, 3, input_of_norm_matmul);
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
                double v_mag = softplus_mag(v, dt[at], dt_bias[e]);
                double y = D[e] * u[at], y_mag = fabs(y);
                for (uint64_t n = 0; n < n_state; n++) {
                    uint64_t k = e * n_state + n;
                    advance(&w, k, v_mag * fabs(A[k]), exp(v * A[k]), v * b[n] * u[at], v_mag * fabs(b[n] * u[at]));
                    y += w.v[k] * cc[n];
                    y_mag += (w.terms[k] + w.shift[k]) * fabs(cc[n]);
                }
                double g_mag, g = fm_ref_glu(FM_ACT_SILU, z[at], y, &g_mag);
                c->dst[0]->v[at] = g;
                c->dst[0]->mag[at] = g_mag + fabs(fm_ref_act(FM_ACT_SILU, z[at])) * y_mag + SILU_LOST * fabs(y);
            }
            store_state(c, c->dst[1], &s, t, &w);
        }
    }
}

// Rows [at, at + part) of each segment that does not end with them, from zero.
void fm_ref_scan_states(const struct fm_ref_call *c)
{
    const struct fm_attr *a = &c->node->attr;
    const double *u = c->src[0]->v, *dt = c->src[1]->v, *A = c->src[2]->v, *B = c->src[3]->v, *dt_bias = c->src[4]->v;
    uint64_t channels = c->src[0]->dims[1], n_state = a->state, part = 0;
    struct segment s;
    for (uint64_t i = 0; segment_at(c->src[5], i, &s); i++)
        for (uint64_t at = 0; at < s.rows; at += a->part, part++)
            for (uint64_t e = 0; e < channels && at + a->part < s.rows; e++) {
                double steps = 0, steps_mag = 0;
                for (uint64_t t = s.row + at; t < s.row + at + a->part; t++) {
                    double bias = dt_bias[e], v = softplus(dt[t * channels + e] + bias);
                    double v_mag = softplus_mag(v, dt[t * channels + e], bias);
                    const double *b = B + (t * a->heads_kv + e / (channels / a->heads_kv)) * n_state;
                    steps += v;
                    steps_mag += v_mag;
                    for (uint64_t n = 0; n < n_state; n++) {
                        uint64_t to = ((part * (n_state / 4) + n / 4) * channels + e) * 4 + n % 4;
                        double *end = c->dst[0]->v + to, *mag = c->dst[0]->mag + to, add = b[n] * u[t * channels + e];
                        bool first = t == s.row + at;
                        double decay = exp(v * A[e * n_state + n]);
                        *mag = (first ? 0 : decay * (*mag + v_mag * fabs(A[e * n_state + n]) * fabs(*end))) + v_mag * fabs(add);
                        *end = (first ? 0 : decay * *end) + v * add;
                    }
                }
                c->dst[1]->v[part * channels + e] = steps;
                c->dst[1]->mag[part * channels + e] = steps_mag;
            }
}

void fm_ref_scan_carry(const struct fm_ref_call *c)
{
    const struct fm_attr *a = &c->node->attr;
    const struct fm_ref_tensor *ends = c->src[1], *state = c->src[4];
    uint64_t n_state = a->state, channels = c->src[0]->dims[0], elems = n_state * channels, part = 0;
    struct segment s;
    for (uint64_t i = 0; segment_at(c->src[3], i, &s); i++) {
        const double *from = state->v + state_version_at(state, s.slot, s.pos);
        for (uint64_t at = 0; at < s.rows; at += a->part, part++)
            for (uint64_t k = 0; k < elems; k++) {
                uint64_t e = k / 4 % channels, n = k / 4 / channels * 4 + k % 4, to = part * elems + k;
                double *v = c->dst[0]->v + to, *mag = c->dst[0]->mag + to;
                if (at == 0) {
                    *v = s.pos == 0 ? 0 : from[e * n_state + n];
                    *mag = fabs(*v);
                } else {
                    double x = -c->src[0]->v[e * n_state + n] * c->src[2]->v[(part - 1) * channels + e];
                    *v = exp(-x) * v[-(ptrdiff_t)elems] + ends->v[to - elems];
                    *mag = exp(-x) * (1 + x) * mag[-(ptrdiff_t)elems] + fabs(ends->v[to - elems]);
                }
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
                double v_mag = softplus_mag(v, raw, dt_bias[h]);
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

// z is the last operand, which ssd does not look at.
void fm_ref_ssd_gate(const struct fm_ref_call *c)
{
    fm_ref_ssd(c);
    for (uint64_t i = 0; i < c->dst[0]->elems; i++) {
        double gate = c->src[7]->v[i], own_mag;
        c->dst[0]->v[i] = fm_ref_glu(FM_ACT_SILU, gate, c->dst[0]->v[i], &own_mag);
        c->dst[0]->mag[i] = own_mag + fabs(fm_ref_act(FM_ACT_SILU, gate)) * c->dst[0]->mag[i];
    }
}

// One part of one head, from zero: its state into v and mag, and the sum of v a.
static double ssd_part(const struct fm_ref_call *c, uint64_t first, uint64_t h, double *v, double *mag)
{
    const struct fm_attr *a = &c->node->attr;
    double rate = c->src[2]->v[h], bias = c->src[3]->v[h], sum = 0;
    uint64_t n_state = a->state, head = a->head, elems = head * n_state;
    memset(v, 0, elems * sizeof *v);
    memset(mag, 0, elems * sizeof *mag);
    for (uint64_t t = first; t < first + a->part; t++) {
        const double *row = c->src[0]->v + t * c->src[0]->dims[1], *x = row + h / (a->heads / a->heads_kv) * head;
        const double *b = row + a->heads_kv * head + h / (a->heads / a->groups) * n_state;
        double raw = c->src[1]->v[t * a->heads + h], step = softplus(raw + bias), decay = exp(step * rate);
        double step_mag = step * (1 + fabs(raw) + fabs(bias));
        sum += step * rate;
        for (uint64_t k = 0; k < elems; k++) {
            double add = x[k / n_state] * b[k % n_state];
            mag[k] = decay * (mag[k] + step_mag * fabs(rate) * mag[k]) + step_mag * fabs(add);
            v[k] = decay * v[k] + step * add;
        }
    }
    return sum;
}

void fm_ref_ssd_states(const struct fm_ref_call *c)
{
    const struct fm_attr *a = &c->node->attr;
    uint64_t elems = (uint64_t)a->head * a->state, part = 0;
    struct segment s;
    for (uint64_t i = 0; segment_at(c->src[4], i, &s); i++)
        for (uint64_t at = 0; at < s.rows; at += a->part, part++)
            for (uint64_t h = 0; h < a->heads && at + a->part < s.rows; h++) {
                uint64_t to = (part * a->heads + h) * elems, sum = part * a->heads + h;
                c->dst[1]->v[sum] = ssd_part(c, s.row + at, h, c->dst[0]->v + to, c->dst[0]->mag + to);
                c->dst[1]->mag[sum] = fabs(c->dst[1]->v[sum]);
            }
}

void fm_ref_ssd_scan(const struct fm_ref_call *c)
{
    const struct fm_attr *a = &c->node->attr;
    const struct fm_ref_tensor *z = c->src[0], *state = c->src[3];
    uint64_t elems = state_version_elems(state), part = 0;
    struct segment s;
    for (uint64_t i = 0; segment_at(c->src[2], i, &s); i++) {
        const double *from = state->v + state_version_at(state, s.slot, s.pos);
        for (uint64_t at = 0; at < s.rows; at += a->part, part++)
            for (uint64_t k = 0; k < elems; k++) {
                double *v = c->dst[0]->v + part * elems + k, *mag = c->dst[0]->mag + part * elems + k;
                if (at == 0) {
                    *v = s.pos == 0 ? 0 : from[k];
                    *mag = fabs(*v);
                    continue;
                }
                double x = -c->src[1]->v[(part - 1) * a->heads + k / (elems / a->heads)], add = z->v[(part - 1) * elems + k];
                *v = exp(-x) * v[-(ptrdiff_t)elems] + add;
                *mag = exp(-x) * (1 + x) * mag[-(ptrdiff_t)elems] + fabs(add);
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

// Rows of part `at` of a segment.
static uint64_t part_rows(const struct fm_attr *a, const struct segment *s, uint64_t at)
{
    return FM_MIN(s->rows - at, a->part);
}

// What each part but the last adds to the state, by the sum itself.
void fm_ref_linear_states(const struct fm_ref_call *c)
{
    const struct fm_attr *a = &c->node->attr;
    const double *qk = c->src[0]->v, *V = c->src[1]->v, *rate = c->src[2]->v;
    uint64_t keys = (uint64_t)a->heads * a->state, elems = keys * a->head, part = 0;
    struct segment s;
    for (uint64_t i = 0; segment_at(c->src[3], i, &s); i++)
        for (uint64_t at = 0; at < s.rows; at += a->part, part++) {
            uint64_t rows = part_rows(a, &s, at);
            for (uint64_t e = 0; e < elems && at + rows < s.rows; e++) {
                uint64_t h = e / a->head / a->state;
                double sum = 0, mag = 0;
                for (uint64_t j = 0; j < rows; j++) {
                    uint64_t row = s.row + at + j;
                    double k = qk[row * 2 * keys + keys + e / a->head], x = rate[h] * (double)(rows - 1 - j);
                    double v = V[row * a->heads * a->head + h * a->head + e % a->head];
                    sum += exp(-x) * fm_ref_act(a->act, k) * v;
                    mag += exp(-x) * (1 + x) * fm_ref_act_mag(a->act, k, 0) * fabs(v);
                }
                c->dst[0]->v[part * elems + e] = sum;
                c->dst[0]->mag[part * elems + e] = mag;
            }
        }
}

void fm_ref_linear_scan(const struct fm_ref_call *c)
{
    const struct fm_attr *a = &c->node->attr;
    const struct fm_ref_tensor *z = c->src[0], *state = c->src[3];
    uint64_t elems = state_version_elems(state), part = 0;
    struct segment s;
    for (uint64_t i = 0; segment_at(c->src[2], i, &s); i++) {
        const double *from = state->v + state_version_at(state, s.slot, s.pos);
        for (uint64_t at = 0; at < s.rows; at += a->part, part++)
            for (uint64_t e = 0; e < elems; e++) {
                uint64_t to = part * elems + e;
                double x = c->src[1]->v[e / a->head / a->state] * a->part;
                if (at == 0) {
                    c->dst[0]->v[to] = s.pos == 0 ? 0 : from[e];
                    c->dst[0]->mag[to] = fabs(c->dst[0]->v[to]);
                } else {
                    c->dst[0]->v[to] = exp(-x) * c->dst[0]->v[to - elems] + z->v[to - elems];
                    c->dst[0]->mag[to] = exp(-x) * (1 + x) * c->dst[0]->mag[to - elems] + fabs(z->v[to - elems]);
                }
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
