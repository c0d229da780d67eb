// SPDX-License-Identifier: MIT
// The references against numbers worked out by hand or by another way of computing.
#include "graph/builder.h"
#include "ref/ref.h"
#include "shaders/lib/abi.h"
#include "shaders/lib/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

// A graph of one node whose operands are weights, constants or states that the test fills.
struct bench {
    struct fm_graph graph;
    struct fm_ref *ref;
    uint32_t src[FM_MAX_SRC], dst[FM_MAX_DST], n_src;
};

static void operand(struct bench *b, enum fm_value_kind kind, enum fm_type type, uint32_t n_dims, uint32_t d0,
                    uint32_t d1, uint32_t d2, uint32_t d3)
{
    struct fm_value v = {
        .name = "operand", .kind = kind, .type = type, .n_dims = (uint8_t)n_dims, .dims = {d0, d1, d2, d3}};
    v.of.tensor = FM_NONE;
    assert_int_equal(fm_graph_add_value(&b->graph, &v, &b->src[b->n_src++]), FM_OK);
}

static void rows(struct bench *b, uint32_t d0, uint32_t d1)
{
    operand(b, FM_VALUE_WEIGHT, FM_TYPE_F32, d1 ? 2 : 1, d0, d1, 0, 0);
}

static void words(struct bench *b, uint32_t d0, uint32_t d1)
{
    operand(b, FM_VALUE_WEIGHT, FM_TYPE_I32, d1 ? 2 : 1, d0, d1, 0, 0);
}

static void node(struct bench *b, enum fm_op op, const struct fm_attr *attr)
{
    static const struct fm_dims dims = {.t = 1, .o = 1, .s = 1, .l = 1};
    if (fm_graph_add(&b->graph, op, "node", b->src, b->n_src, attr, b->dst) != FM_OK ||
        fm_ref_create(&b->graph, &dims, &b->ref) != FM_OK)
        fail_msg("%s", fm_error_message());
}

static void fill(struct bench *b, uint32_t src, const double *values)
{
    struct fm_ref_tensor *t = fm_ref_tensor(b->ref, b->src[src]);
    memcpy(t->v, values, t->elems * sizeof(*values));
}

static void expect(struct bench *b, uint32_t dst, const double *values, double tolerance)
{
    const struct fm_ref_tensor *t = fm_ref_tensor(b->ref, b->dst[dst]);
    for (uint64_t i = 0; i < t->elems; i++)
        if (!(fabs(t->v[i] - values[i]) <= tolerance))
            fail_msg("result %u, element %llu is %.12g, expected %.12g", dst, (unsigned long long)i, t->v[i],
                     values[i]);
}

static void finish(struct bench *b)
{
    fm_ref_destroy(&b->ref);
    fm_graph_finish(&b->graph);
}

#define V(...) ((const double[]){__VA_ARGS__})

static double bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof(u));
    return u;
}

static void test_norm(void **state)
{
    (void)state;
    struct bench b = {0};
    rows(&b, 1, 4);
    rows(&b, 4, 0);
    node(&b, FM_OP_NORM, &(struct fm_attr){.norm = FM_NORM_RMS, .eps = 0});
    fill(&b, 0, V(1, 1, 1, 7)); // mean square 13
    fill(&b, 1, V(1, 2, -1, 1));
    fm_ref_run(b.ref);
    expect(&b, 0, V(1 / sqrt(13), 2 / sqrt(13), -1 / sqrt(13), 7 / sqrt(13)), 1e-12);
    finish(&b);
    b = (struct bench){0};
    rows(&b, 1, 4);
    rows(&b, 4, 0);
    rows(&b, 4, 0);
    node(&b, FM_OP_NORM, &(struct fm_attr){.norm = FM_NORM_LAYER, .eps = 0});
    fill(&b, 0, V(1, 3, 5, 7)); // mean 4, variance 5
    fill(&b, 1, V(1, 1, 2, 1));
    fill(&b, 2, V(0, 10, 0, 0));
    fm_ref_run(b.ref);
    expect(&b, 0, V(-3 / sqrt(5), 10 - 1 / sqrt(5), 2 / sqrt(5), 3 / sqrt(5)), 1e-12);
    finish(&b);
}

static void test_matmul(void **state)
{
    (void)state;
    struct bench b = {0};
    rows(&b, 2, 3);
    rows(&b, 2, 3);
    rows(&b, 2, 2);
    rows(&b, 2, 0);
    node(&b, FM_OP_MATMUL_ADD, NULL);
    fill(&b, 0, V(1, 2, 3, -1, 0, 1));
    fill(&b, 1, V(1, 1, 1, 0, -1, 2));
    fill(&b, 2, V(100, 200, 300, 400));
    fill(&b, 3, V(0.5, -0.5));
    fm_ref_run(b.ref);
    expect(&b, 0, V(106.5, 203.5, 300.5, 401.5), 1e-12);
    const double *mag = fm_ref_tensor(b.ref, b.dst[0])->mag;
    assert_true(mag[0] == 106.5 && mag[1] == 208.5 && mag[2] == 302.5 && mag[3] == 402.5);
    finish(&b);
}

// Multiples of a step for each block, off by half of it at most, which is 2^-8 of the largest with one byte; NaN stays in its block.
static void test_round_blocks(void **state)
{
    (void)state;
    for (uint32_t bytes = 1; bytes <= 2; bytes++) {
        double x[96], y[96], largest = bytes == 1 ? 127 : 32512;
        for (int i = 0; i < 96; i++)
            x[i] = y[i] = sin(i * 0.7) * (i < 32 ? 1 : 1000) * (i < 64 ? 1 : 0);
        y[40] = x[40] = NAN;
        fm_ref_round_blocks(y, 96, bytes);
        double most = 0, steps = 0;
        for (int i = 0; i < 32; i++)
            most = fmax(most, fabs(x[i]));
        for (int i = 0; i < 32; i++) {
            double n = y[i] * largest / most;
            assert_true(fabs(n - nearbyint(n)) < 1e-9 && fabs(x[i] - y[i]) <= most / largest / 2 * (1 + 1e-12));
            steps = fmax(steps, fabs(n));
        }
        assert_true(fabs(steps - largest) < 1e-6);
        for (int i = 32; i < 64; i++)
            assert_true(isnan(y[i]));
        for (int i = 64; i < 96; i++)
            assert_true(y[i] == 0);
    }
}

// Products of normed rows: of each row by itself, and with the error scale of the product alone.
static void test_norm_matmul(void **state)
{
    (void)state;
    struct bench b = {0}, glu = {0};
    const double r = 1 / sqrt(12.5), s = 1 / sqrt(0.5);
    rows(&b, 2, 2);
    rows(&b, 2, 2);
    rows(&b, 2, 2);
    rows(&b, 2, 0);
    rows(&b, 2, 0);
    node(&b, FM_OP_NORM_MATMUL_ADD, NULL);
    fill(&b, 0, V(3, 4, -1, 0));
    fill(&b, 1, V(1, 1, 0, -1));
    fill(&b, 2, V(100, 200, 300, 400));
    fill(&b, 3, V(2, 1));
    fill(&b, 4, V(0.5, -0.5));
    fm_ref_run(b.ref);
    expect(&b, 0, V(10 * r + 100.5, -4 * r + 199.5, -2 * s + 300.5, 399.5), 1e-12);
    const double *mag = fm_ref_tensor(b.ref, b.dst[0])->mag;
    assert_true(fabs(mag[0] - 10 * r - 100.5) < 1e-9 && fabs(mag[1] - 4 * r - 200.5) < 1e-9);
    finish(&b);
    rows(&glu, 1, 2);
    rows(&glu, 2, 2);
    rows(&glu, 2, 2);
    rows(&glu, 2, 0);
    node(&glu, FM_OP_NORM_MATMUL_GLU, &(struct fm_attr){.act = FM_ACT_NONE});
    fill(&glu, 0, V(3, 4));
    fill(&glu, 1, V(1, 1, 0, -1));
    fill(&glu, 2, V(1, 0, 1, -1));
    fill(&glu, 3, V(2, 1));
    fm_ref_run(glu.ref);
    expect(&glu, 0, V(60 * r * r, -8 * r * r), 1e-12);
    finish(&glu);
}

static void test_glu(void **state)
{
    (void)state;
    for (unsigned act = 0; act < FM_ACT_COUNT; act++) {
        struct bench b = {0};
        rows(&b, 1, 3);
        rows(&b, 1, 3);
        node(&b, FM_OP_GLU, &(struct fm_attr){.act = (uint8_t)act});
        fill(&b, 0, V(0, 1, -2));
        fill(&b, 1, V(5, 2, 1));
        fm_ref_run(b.ref);
        if (act == FM_ACT_SILU)
            expect(&b, 0, V(0, 2 * 0.731058578630005, -2 * 0.119202922022118), 1e-12);
        else if (act == FM_ACT_NONE)
            expect(&b, 0, V(0, 2, -2), 0);
        else // 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), by another program
            expect(&b, 0, V(0, 1.6823839812165535, -0.04540230591222494), 1e-12);
        finish(&b);
    }
}

// Rotation by a quarter turn and by nothing, both pairings; elements beyond the rotated part stay.
static void test_rope(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < 2; kind++) {
        struct bench b = {0};
        rows(&b, 2, 6);
        words(&b, 2, 2);
        words(&b, 2, 0);
        node(&b, FM_OP_ROPE, &(struct fm_attr){.heads = 1, .head = 6, .rotated = 4, .rope = (uint8_t)kind});
        fill(&b, 0, V(1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6));
        fill(&b, 1, V(0, 0x40000000, 0, 0)); // a quarter turn per position; nothing
        fill(&b, 2, V(1, 4294967294.0));     // 4294967294 = 2 modulo 4
        fm_ref_run(b.ref);
        if (kind == FM_ROPE_NORM)
            expect(&b, 0, V(-2, 1, 3, 4, 5, 6, -1, -2, 3, 4, 5, 6), 1e-12);
        else
            expect(&b, 0, V(-3, 2, 1, 4, 5, 6, -1, 2, -3, 4, 5, 6), 1e-12);
        finish(&b);
    }
}

// The table against long double arithmetic at far positions, and its divisors.
static void test_rope_table(void **state)
{
    (void)state;
    struct fm_graph g = {0};
    struct fm_builder b = {.graph = &g};
    double divisors[32];
    for (int i = 0; i < 32; i++)
        divisors[i] = i < 10 ? 1 : 8;
    uint32_t id = fm_build_rope_table(&b, "table", 32, 500000, divisors);
    assert_int_equal(b.error, FM_OK);
    const uint32_t *w = g.values[id].of.data;
    // 2^64 / (2 pi) = 0x28be60db9391054a.7f..., to the last bits of a long double
    assert_int_equal(w[1], 0x28be60db);
    assert_in_range(w[0], 0x9391054a - 8, 0x9391054a + 8);
    for (unsigned m = 0; m < 32; m++) {
        uint64_t step = (uint64_t)w[2 * m + 1] << 32 | w[2 * m];
        for (uint32_t pos = 1; pos < 1u << 20; pos = pos * 3 + 1) {
            long double angle = powl(500000, -(long double)m / 32) / (long double)divisors[m] * pos;
            double got = (double)(step * pos) * 0x1p-64 * 6.283185307179586476925;
            assert_true(fabs(cos(got) - (double)cosl(angle)) < 1e-9 && fabs(sin(got) - (double)sinl(angle)) < 1e-9);
        }
    }
    fm_graph_finish(&g);
}

static void test_attend(void **state)
{
    (void)state;
    // Two query heads share one key head of width 1 (padded to 8), window of 2, slot 1 of 2.
    struct bench b = {0};
    rows(&b, 1, 2);
    operand(&b, FM_VALUE_STATE, FM_TYPE_F16, 4, 2, 1, 4, 8);
    operand(&b, FM_VALUE_STATE, FM_TYPE_F16, 4, 2, 1, 4, 8);
    words(&b, 1, 0);
    words(&b, 1, 0);
    node(&b, FM_OP_ATTEND, &(struct fm_attr){.heads = 2, .heads_kv = 1, .head = 1, .scale = 0.5f, .window = 2});
    double k[64] = {0}, v[64] = {0};
    for (int p = 0; p < 4; p++) {
        k[(4 + p) * 8] = p;      // slot 1
        v[(4 + p) * 8] = 10 * p;
        k[p * 8] = v[p * 8] = 1000; // slot 0 must not be seen
    }
    fill(&b, 0, V(2, 0));
    fill(&b, 1, k);
    fill(&b, 2, v);
    fill(&b, 3, V(2)); // sees positions 1 and 2
    fill(&b, 4, V(1));
    fm_ref_run(b.ref);
    double e = exp(1);
    expect(&b, 0, V((10 + 20 * e) / (1 + e), 15), 1e-12);
    finish(&b);
}

// Keys and values are rounded to the cache's type, other elements stay; the fused op stores the same.
static void test_kv_write(void **state)
{
    (void)state;
    struct bench b = {0};
    rows(&b, 2, 2);
    rows(&b, 2, 2);
    words(&b, 2, 0);
    words(&b, 2, 0);
    operand(&b, FM_VALUE_STATE, FM_TYPE_F16, 4, 2, 1, 3, 8);
    operand(&b, FM_VALUE_STATE, FM_TYPE_F32, 4, 2, 1, 3, 8);
    node(&b, FM_OP_KV_WRITE, &(struct fm_attr){.heads_kv = 1, .head = 2});
    fill(&b, 0, V(1.0001, 2, 3, 4));
    fill(&b, 1, V(1.0001, 6, 7, 8));
    fill(&b, 2, V(2, 0));
    fill(&b, 3, V(1, 0));
    fm_ref_run(b.ref);
    double k[48] = {0}, v[48] = {0};
    k[(3 + 2) * 8] = 1, k[(3 + 2) * 8 + 1] = 2, k[0] = 3, k[1] = 4;
    v[(3 + 2) * 8] = 1.0001, v[(3 + 2) * 8 + 1] = 6, v[0] = 7, v[1] = 8;
    expect(&b, 0, k, 0);
    expect(&b, 1, v, 0);
    finish(&b);
}

static void test_tokens(void **state)
{
    (void)state;
    struct bench b = {0};
    words(&b, 3, 0);
    words(&b, 3, 0);
    words(&b, 3, 0);
    operand(&b, FM_VALUE_STATE, FM_TYPE_I32, 2, 2, 4, 0, 0);
    operand(&b, FM_VALUE_STATE, FM_TYPE_I32, 1, 2, 0, 0, 0);
    node(&b, FM_OP_TOKEN_FEED, NULL);
    fill(&b, 0, V(11, (double)FM_TOKEN_LAST, 13));
    fill(&b, 1, V(0, 3, 1));
    fill(&b, 2, V(0, 1, 0));
    fill(&b, 3, V(0, 0, 0, 0, 0, 0, 0, 0));
    fill(&b, 4, V(90, 91));
    fm_ref_run(b.ref);
    expect(&b, 0, V(11, 91, 13), 0);
    expect(&b, 1, V(11, 13, 0, 0, 0, 0, 0, 91), 0);
    expect(&b, 2, V(90, 91), 0);
    finish(&b);
}

// --- sampling ------------------------------------------------------------------------------------------------------

struct sampler {
    float temp;
    uint32_t top_k;
    float top_p, min_p, penalty;
    uint32_t last_n, seed;
};

// One row of logits through the sampler, at position 3 with history {1, 1, 2, 0}.
static uint32_t sample(const double *logits, uint32_t n, uint32_t vocab, const struct sampler *s)
{
    struct bench b = {0};
    rows(&b, 1, n);
    words(&b, 1, 0);
    words(&b, 1, 0);
    words(&b, 1, 0);
    words(&b, 1, 8);
    operand(&b, FM_VALUE_STATE, FM_TYPE_I32, 2, 1, 8, 0, 0);
    operand(&b, FM_VALUE_STATE, FM_TYPE_I32, 1, 1, 0, 0, 0);
    node(&b, FM_OP_SAMPLE, &(struct fm_attr){.vocab = vocab});
    fill(&b, 0, logits);
    fill(&b, 2, V(3));
    fill(&b, 4, V(bits(s->temp), s->top_k, bits(s->top_p), bits(s->min_p), bits(s->penalty), s->last_n, s->seed, 77));
    fill(&b, 5, V(1, 1, 2, 0, 4, 4, 4, 4));
    fm_ref_run(b.ref);
    double id = fm_ref_tensor(b.ref, b.dst[0])->v[0];
    assert_true(fm_ref_tensor(b.ref, b.dst[1])->v[0] == id);
    finish(&b);
    return (uint32_t)id;
}

static void test_greedy(void **state)
{
    (void)state;
    struct sampler s = {.penalty = 1, .top_p = 1};
    assert_int_equal(sample(V(1, 5, 5, 2), 4, 4, &s), 1);        // lowest id wins ties
    assert_int_equal(sample(V(1, 5, 5, 9), 4, 3, &s), 1);        // padding is never chosen
    // Rows that are no numbers have no token, greedy or drawn; -inf beside numbers is never chosen, padding is not looked at.
    for (int drawn = 0; drawn < 2; drawn++) {
        struct sampler bad = {.temp = (float)drawn, .penalty = 1, .top_p = 1};
        assert_int_equal(sample(V(NAN, -3, -2, -4), 4, 4, &bad), FM_TOKEN_NAN);
        assert_int_equal(sample(V(1, 2, 3, NAN), 4, 4, &bad), FM_TOKEN_NAN);
        assert_int_equal(sample(V(-INFINITY, NAN, -INFINITY), 3, 3, &bad), FM_TOKEN_NAN);
        assert_int_equal(sample(V(-INFINITY, -INFINITY, -INFINITY), 3, 3, &bad), FM_TOKEN_NAN);
        assert_int_equal(sample(V(0, INFINITY, 1), 3, 3, &bad), FM_TOKEN_NAN);
        assert_int_equal(sample(V(-INFINITY, -5, -INFINITY, NAN), 4, 3, &bad), 1);
    }
    s.penalty = 2, s.last_n = 2; // positions 2 and 3: ids 2 and 0
    assert_int_equal(sample(V(4, 3, 4, 2.5), 4, 4, &s), 1);
    assert_int_equal(sample(V(-1, -1.5, -9, -8), 4, 4, &s), 1); // negative logits grow more negative
    s.last_n = 4; // id 1 twice in the history: penalised once
    assert_int_equal(sample(V(0, 5, 0, 2), 4, 4, &s), 1);
}

// Frequencies of each id over many seeds.
static void draw(const double *logits, uint32_t n, struct sampler s, uint32_t draws, uint32_t *out_counts)
{
    memset(out_counts, 0, n * sizeof(*out_counts));
    for (s.seed = 0; s.seed < draws; s.seed++)
        out_counts[sample(logits, n, n, &s)]++;
}

static void test_distribution(void **state)
{
    (void)state;
    const double logits[] = {log(0.1), log(0.4), log(0.2), log(0.3)};
    uint32_t c[4];
    draw(logits, 4, (struct sampler){.temp = 1, .top_p = 1, .penalty = 1}, 4000, c);
    // 4000 draws: five standard deviations are at most 155.
    assert_in_range(c[0], 305, 495);
    assert_in_range(c[1], 1445, 1755);
    assert_in_range(c[2], 674, 926);
    assert_in_range(c[3], 1055, 1345);
    draw(logits, 4, (struct sampler){.temp = 0.5f, .top_p = 1, .penalty = 1}, 4000, c); // squares: 1 16 4 9 of 30
    assert_in_range(c[1], 1975, 2291);
    assert_in_range(c[0], 76, 190);
}

static void test_filters(void **state)
{
    (void)state;
    const double logits[] = {log(0.1), log(0.4), log(0.2), log(0.3)};
    const double ties[] = {1, 3, 2, 2, 0};
    uint32_t c[5];
    draw(logits, 4, (struct sampler){.temp = 1, .top_k = 2, .top_p = 1, .penalty = 1}, 200, c);
    assert_true(c[0] == 0 && c[2] == 0 && c[1] > 60 && c[3] > 40);
    draw(logits, 4, (struct sampler){.temp = 1, .top_p = 0.65f, .penalty = 1}, 200, c); // 0.4 + 0.3
    assert_true(c[0] == 0 && c[2] == 0 && c[3] > 40);
    draw(logits, 4, (struct sampler){.temp = 1, .top_p = 0.75f, .penalty = 1}, 200, c); // and 0.2
    assert_true(c[0] == 0 && c[2] > 10);
    draw(logits, 4, (struct sampler){.temp = 1, .top_p = 0, .penalty = 1}, 50, c);
    assert_true(c[1] == 50);
    draw(logits, 4, (struct sampler){.temp = 1, .top_p = 1, .min_p = 0.6f, .penalty = 1}, 200, c); // 0.24 and more
    assert_true(c[0] == 0 && c[2] == 0 && c[3] > 40);
    draw(logits, 4, (struct sampler){.temp = 1, .top_k = 2, .top_p = 0.5f, .penalty = 1}, 100,
         c); // 0.4 of 0.7 is over half
    assert_true(c[1] == 100);
    draw(ties, 5, (struct sampler){.temp = 1, .top_k = 2, .top_p = 1, .penalty = 1}, 200, c); // both 2s stay
    assert_true(c[0] == 0 && c[4] == 0 && c[2] > 10 && c[3] > 10);
    draw(ties, 5, (struct sampler){.temp = 1, .top_p = 0.6f, .penalty = 1}, 200, c);
    assert_true(c[0] == 0 && c[4] == 0 && c[2] > 10 && c[3] > 10);
}

// The hash behind the draws: known values (any change would change users' texts), and no obvious bias.
static void test_rng(void **state)
{
    (void)state;
    uint32_t ones[32] = {0};
    assert_int_equal(fm_rng_mix(0), 129708002);
    for (uint32_t i = 0; i < 4096; i++)
        for (unsigned bit = 0; bit < 32; bit++)
            ones[bit] += fm_rng_draw(1, 0, i) >> bit & 1;
    for (unsigned bit = 0; bit < 32; bit++)
        assert_in_range(ones[bit], 1888, 2208); // five standard deviations
    assert_int_not_equal(fm_rng_draw(1, 0, 5), fm_rng_draw(0, 1, 5));
}

// Failure of each allocation in turn: an error, no leak (under the sanitizers), and success in the end.
static void test_allocation_failures(void **state)
{
    (void)state;
    static const struct fm_dims dims = {.t = 3, .o = 1, .s = 1, .l = 4};
    struct fm_graph g = {0};
    struct fm_builder b = {.graph = &g};
    uint32_t table = fm_build_weight(&b, "table", FM_TYPE_F32, FM_NONE, 2, (uint32_t[]){8, 4});
    uint32_t x = fm_build_output_rows(&b, "rows", fm_build_embed(&b, "x", table, fm_build_tokens(&b), 1));
    fm_build_head(&b, x, fm_build_weight(&b, "norm", FM_TYPE_F32, FM_NONE, 1, (uint32_t[]){4}), FM_NONE, FM_NORM_RMS, 1,
                  table, FM_NONE, 8);
    assert_int_equal(b.error, FM_OK);
    enum fm_result r = FM_NOMEM;
    uint64_t n = 0;
    for (; r != FM_OK; n++) {
        struct fm_ref *ref = NULL;
        assert_true(n < 1000);
        fm_alloc_fail_at(n);
        r = fm_ref_create(&g, &dims, &ref);
        fm_alloc_fail_at(UINT64_MAX);
        assert_true(r == FM_OK || (r == FM_NOMEM && !ref));
        fm_ref_destroy(&ref);
    }
    assert_true(n > 10);
    fm_graph_finish(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_norm),   cmocka_unit_test(test_matmul),     cmocka_unit_test(test_glu),
        cmocka_unit_test(test_norm_matmul), cmocka_unit_test(test_round_blocks),
        cmocka_unit_test(test_rope),   cmocka_unit_test(test_rope_table), cmocka_unit_test(test_attend),
        cmocka_unit_test(test_kv_write), cmocka_unit_test(test_tokens),   cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_distribution), cmocka_unit_test(test_filters), cmocka_unit_test(test_rng),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
