// SPDX-License-Identifier: MIT
// K-quant encoders. Each sub-block of elements is fitted by weighted least squares: for a series of trial scales round the
// elements to levels, solve for the best scale (and minimum) of those levels, keep the trial with the smallest error.
// Large elements weigh more: they move a dot product most.
#include "quant/encode_k.h"

#include <math.h>

#include "base/base.h"
#include "base/half.h"
#include "quant/block.h"

#define SUB_BLOCK_MAX FM_BLOCK_ELEMS
#define TRIALS 15

// x ~ scale * q - min, q in 0..levels, scale and min not negative.
struct affine {
    float scale, min;
};

// Nearest integer in low..high; NaN gives low. Without a call, so that loops over a sub-block vectorise.
static inline int clamp_round(float value, int low, int high)
{
    float step = value - (float)low + 0.5f;
    step = step > 0.0f ? step : 0.0f;
    step = step < (float)(high - low) ? step : (float)(high - low);
    return (int)step + low;
}

static double affine_error(const float *x, const float *w, struct affine fit, int levels)
{
    float inverse = fit.scale > 0.0f ? 1.0f / fit.scale : 0.0f;
    float e[FM_BLOCK_ELEMS];
    double error = 0.0;
    for (int i = 0; i < FM_BLOCK_ELEMS; i++)
        e[i] = fit.scale * (float)clamp_round((x[i] + fit.min) * inverse, 0, levels) - fit.min - x[i];
    for (int i = 0; i < FM_BLOCK_ELEMS; i++)
        error += (double)(w[i] * e[i]) * e[i];
    return error;
}

// Weighted least squares for scale and minimum, given the levels that `guess` rounds to.
static struct affine affine_solve(const float *x, const float *w, struct affine guess, int levels)
{
    double sw = 0, sq = 0, sqq = 0, sx = 0, sqx = 0;
    float q[FM_BLOCK_ELEMS], inverse = 1.0f / guess.scale;
    for (int i = 0; i < FM_BLOCK_ELEMS; i++)
        q[i] = (float)clamp_round((x[i] + guess.min) * inverse, 0, levels);
    for (int i = 0; i < FM_BLOCK_ELEMS; i++) {
        double wi = w[i];
        sw += wi;
        sq += wi * q[i];
        sqq += wi * q[i] * q[i];
        sx += wi * x[i];
        sqx += wi * q[i] * x[i];
    }
    double det = sw * sqq - sq * sq;
    if (det <= 0.0)
        return guess;
    double scale = (sw * sqx - sq * sx) / det;
    double min = (sq * sqx - sqq * sx) / det;
    if (min < 0.0) { // the format has no positive offset
        min = 0.0;
        scale = sqq > 0.0 ? sqx / sqq : 0.0;
    }
    if (!(scale > 0.0))
        return guess;
    return (struct affine){(float)scale, (float)min};
}

static struct affine affine_fit(const float *x, const float *w, int levels)
{
    float low = 0.0f, high = x[0]; // low at most 0: min is not negative
    for (int i = 0; i < FM_BLOCK_ELEMS; i++) {
        low = fminf(low, x[i]);
        high = fmaxf(high, x[i]);
    }
    struct affine best = {0.0f, -low};
    float widest = (high - low) / (float)levels;
    if (!(widest > 0.0f) || !isfinite(1.0f / widest))
        return best;
    best.scale = widest;
    double best_error = affine_error(x, w, best, levels);
    for (int t = 0; t < TRIALS; t++) {
        // From a slightly wider grid to one that clips the extremes.
        float shrink = 1.04f - 0.02f * (float)t;
        struct affine trial = affine_solve(x, w, (struct affine){widest * shrink, -low}, levels);
        trial = affine_solve(x, w, trial, levels);
        double error = affine_error(x, w, trial, levels);
        if (error < best_error) {
            best_error = error;
            best = trial;
        }
    }
    return best;
}

static void sub_block_weights(const float *x, int n, float *out_w)
{
    double sum = 0.0;
    for (int i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    float mean = (float)sqrt(sum / n);
    for (int i = 0; i < n; i++)
        out_w[i] = mean + fabsf(x[i]);
}

// One super-block: the 6-bit scales (packed), d and dmin (d_dmin), and the levels of all elements.
static void encode_affine_super(const float *x, int levels, uint8_t d_dmin[4], uint8_t packed[12],
                                uint8_t out_q[FM_SUPER_ELEMS])
{
    struct affine fits[8];
    float largest_scale = 0.0f, largest_min = 0.0f;
    for (int b = 0; b < 8; b++) {
        float w[SUB_BLOCK_MAX];
        sub_block_weights(x + FM_BLOCK_ELEMS * b, FM_BLOCK_ELEMS, w);
        fits[b] = affine_fit(x + FM_BLOCK_ELEMS * b, w, levels);
        largest_scale = fmaxf(largest_scale, fits[b].scale);
        largest_min = fmaxf(largest_min, fits[b].min);
    }
    uint16_t d_half = fm_float_to_half(largest_scale / 63.0f), dmin_half = fm_float_to_half(largest_min / 63.0f);
    float d = fm_half_to_float(d_half), dmin = fm_half_to_float(dmin_half);
    uint8_t scales[8], mins[8];
    for (int b = 0; b < 8; b++) {
        scales[b] = (uint8_t)(d > 0.0f ? clamp_round(fits[b].scale / d, 0, 63) : 0);
        mins[b] = (uint8_t)(dmin > 0.0f ? clamp_round(fits[b].min / dmin, 0, 63) : 0);
        // Levels for the scale and minimum that a reader will see.
        float scale = d * scales[b], min = dmin * mins[b];
        for (int i = FM_BLOCK_ELEMS * b; i < FM_BLOCK_ELEMS * (b + 1); i++)
            out_q[i] = (uint8_t)(scale > 0.0f ? clamp_round((x[i] + min) / scale, 0, levels) : 0);
    }
    fm_store_u16(d_dmin, d_half);
    fm_store_u16(d_dmin + 2, dmin_half);
    fm_kscales_put(scales, mins, packed);
}

// Low nibbles of 256 levels in the order of Q4_K and Q5_K.
static void put_low_nibbles(const uint8_t q[FM_SUPER_ELEMS], uint8_t qs[128])
{
    for (int c = 0; c < 4; c++)
        for (int l = 0; l < 32; l++)
            qs[32 * c + l] = (uint8_t)((q[64 * c + l] & 15) | (q[64 * c + 32 + l] & 15) << 4);
}

void fm_encode_q4_k(const float *x, uint64_t k, void *dst)
{
    struct fm_block_q4_k *block = dst;
    for (const float *end = x + k; x < end; x += FM_SUPER_ELEMS, block++) {
        uint8_t q[FM_SUPER_ELEMS];
        encode_affine_super(x, 15, block->d_dmin, block->scales, q);
        put_low_nibbles(q, block->qs);
    }
}

void fm_encode_q5_k(const float *x, uint64_t k, void *dst)
{
    struct fm_block_q5_k *block = dst;
    for (const float *end = x + k; x < end; x += FM_SUPER_ELEMS, block++) {
        uint8_t q[FM_SUPER_ELEMS];
        encode_affine_super(x, 31, block->d_dmin, block->scales, q);
        put_low_nibbles(q, block->qs);
        for (int l = 0; l < 32; l++) {
            unsigned bits = 0;
            for (int b = 0; b < 8; b++)
                bits |= (unsigned)(q[32 * b + l] >> 4) << b;
            block->qh[l] = (uint8_t)bits;
        }
    }
}

// The scale s of x[16] ~ s * q, q in -32..31, with the smallest weighted error. Either sign: 32 levels lie on one side.
static float symmetric_fit(const float *x)
{
    float w[SUB_BLOCK_MAX], extreme = 0.0f, best = 0.0f;
    for (int i = 0; i < 16; i++)
        if (fabsf(x[i]) > fabsf(extreme))
            extreme = x[i];
    if (extreme == 0.0f || !isfinite(32.0f / extreme))
        return 0.0f;
    sub_block_weights(x, 16, w);
    double best_gain = -1.0; // error = sum(w x^2) - gain, for the least-squares scale
    for (int t = 0; t < TRIALS; t++) {
        float inverse = -(29.5f + 0.5f * (float)t) / extreme;
        double sqx = 0.0, sqq = 0.0;
        for (int i = 0; i < 16; i++) {
            double q = clamp_round(x[i] * inverse, -32, 31);
            sqx += w[i] * q * x[i];
            sqq += w[i] * q * q;
        }
        if (sqq > 0.0 && sqx * sqx / sqq > best_gain) {
            best_gain = sqx * sqx / sqq;
            best = (float)(sqx / sqq);
        }
    }
    return best;
}

void fm_encode_q6_k(const float *x, uint64_t k, void *dst)
{
    struct fm_block_q6_k *block = dst;
    for (const float *end = x + k; x < end; x += FM_SUPER_ELEMS, block++) {
        float fits[16], largest = 0.0f;
        for (int g = 0; g < 16; g++) {
            fits[g] = symmetric_fit(x + 16 * g);
            if (fabsf(fits[g]) > fabsf(largest))
                largest = fits[g];
        }
        // The largest scale becomes -128: one step more than the positive side has.
        uint16_t d_half = fm_float_to_half(largest / -128.0f);
        float d = fm_half_to_float(d_half);
        memset(block, 0, sizeof(*block));
        fm_store_u16(block->d, d_half);
        for (int g = 0; g < 16; g++)
            block->scales[g] = (int8_t)(d != 0.0f ? clamp_round(fits[g] / d, -128, 127) : 0);
        for (int e = 0; e < FM_SUPER_ELEMS; e++) {
            float scale = d * block->scales[e / 16];
            unsigned q = (unsigned)(scale != 0.0f ? clamp_round(x[e] / scale, -32, 31) + 32 : 32);
            int half = e / 128, j = e / 32 % 4, l = e % 32;
            block->ql[64 * half + 32 * (j & 1) + l] |= (uint8_t)((q & 15) << (j < 2 ? 0 : 4));
            block->qh[32 * half + l] |= (uint8_t)((q >> 4) << (2 * j));
        }
    }
}
