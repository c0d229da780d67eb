// SPDX-License-Identifier: MIT
// What the end-to-end tests share: the device under test, made models, and the reference interpreter on a file.
#ifndef FM_TESTS_E2E_ORACLE_H
#define FM_TESTS_E2E_ORACLE_H

#include "fulmen/fulmen.h"
#include "kernel/kernel.h"
#include "ref/ref.h"
#include "support/model_make.h"

// Fail the test with the library's message unless `result` is FM_OK.
#define E2E_OK(result) e2e_ok((result), #result, __FILE__, __LINE__)
void e2e_ok(enum fm_result result, const char *what, const char *file, int line);

// The device under test, with kernels up to `rung` (NULL = all that it reaches).
struct fm_device *e2e_device(const char *rung);
// Rungs that the device reaches.
enum fm_rung e2e_rung(void);

// Write a made model (model_make) to a temporary file; the path is static. Delete it with unlink.
const char *e2e_model_file(const char *arch, const struct fm_config *config, enum fm_type type, uint32_t seed);

// Where a computation rounds to f16: the caches of keys and values; what matrix units multiply, which is activations
// and weights of products, and queries of attention over f16 caches.
enum e2e_halves { E2E_HALF_NONE = 0, E2E_HALF_CACHE = 1, E2E_HALF_FACTORS = 2, E2E_Q8_CACHE = 4 };

// Logits [n,V] of a file's model after each of n tokens, on the reference interpreter in double precision, rounded to
// f16 at `halves` (enum e2e_halves, or-ed). Release with free.
double *e2e_reference(const char *path, const uint32_t *tokens, uint32_t n, unsigned halves, uint32_t *out_vocab);

// The same, read step by step: everything that lives from step to step is in double (caches of keys and values apart).
struct e2e_reader {
    struct fm_file *file;
    struct fm_arena arena;
    struct fm_config config;
    struct fm_graph graph;
    struct fm_dims dims;
    struct fm_ref *ref;
    uint32_t pos; // tokens read
};
// Up to `rows` tokens a step, logits of the last `outputs` of them. Models with attention hold `rows` tokens, recurrent ones any
// number.
void e2e_reader_open(const char *path, uint32_t rows, uint32_t outputs, unsigned halves, struct e2e_reader *out_reader);
// Read n more tokens, 1 <= n <= rows, without rounding: logits [min(n, outputs),V] after the last ones, until the next step.
// Does not fail the test: may be called in any thread.
const double *e2e_reader_read(struct e2e_reader *reader, const uint32_t *tokens, uint32_t n);
void e2e_reader_close(struct e2e_reader *reader);

// All logits [n,V] of tokens appended to slot 0 of a session. Release with free.
float *e2e_logits(struct fm_session *session, const uint32_t *tokens, size_t n, size_t vocab);

// How far logits are off, as shares of the largest expected magnitude: the largest difference, which one wrong element shows in, and
// the root of the mean square, which an error of many does.
struct e2e_off {
    double most, rms;
};
struct e2e_off e2e_distance(const float *got, const double *expected, size_t count);
// The same of logits of the reference that were rounded from those that were not.
struct e2e_off e2e_rounding_distance(const double *exact, const double *rounded, size_t count);
struct e2e_off e2e_greater(struct e2e_off a, struct e2e_off b); // each of the two
bool e2e_within(struct e2e_off off, struct e2e_off bound);      // NaN is not

// Bounds. EXACT: f32 arithmetic and caches throughout, where weights are decoded exactly and sums differ in order only. Else what
// rounding to f16 does to this model's logits (`off`), as the reference shows when it rounds where the kernels do, SLACK times, and
// EXACT for the rest (ADR 0006). The slack is for what the reference does not round: the weights of attention, about as much as the
// values that they multiply; and numbers so near a tie that the device rounds them the other way.
#define E2E_EXACT 2e-4
#define E2E_EXACT_RMS 1e-5
#define E2E_SLACK 2
struct e2e_off e2e_exact(void);
struct e2e_off e2e_bound(struct e2e_off off);
// Linear attention and SSD, where activations meet one another.
bool e2e_multiplies_activations(const char *arch);
// Where matrix units round factors. The reference rounds a factor once; in linear attention and SSD kernels round it up to three
// times, itself, with its decay and in the state, which is sqrt(3) as much; at most 1e-2.
struct e2e_off e2e_bound_of_factors(const char *arch, struct e2e_off off);
// Below rung `cm`, where products of many rows are added in f16: not of F32 weights, and not on processors. Chains of 16
// roundings of what there is so far are off by sqrt((16 + 1) / 2) = 2.9 times what rounding one factor is: with it 3.1 times the
// yardstick of one rounded factor (F16 weights), 2.3 times that of two. Three times is counted; at most 2e-2.
bool e2e_adds_halves(enum fm_rung rung);
struct e2e_off e2e_bound_of_sums(struct e2e_off off);

#endif
