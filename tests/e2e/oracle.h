// SPDX-License-Identifier: MIT
// What the end-to-end tests share: the device under test, made models, and the reference interpreter on a file.
#ifndef FM_TESTS_E2E_ORACLE_H
#define FM_TESTS_E2E_ORACLE_H

#include "fulmen/fulmen.h"
#include "kernel/kernel.h"
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

// All logits [n,V] of tokens appended to slot 0 of a session. Release with free.
float *e2e_logits(struct fm_session *session, const uint32_t *tokens, size_t n, size_t vocab);

// Largest difference as a share of the largest expected magnitude.
double e2e_distance(const float *got, const double *expected, size_t count);

#endif
