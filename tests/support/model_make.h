// SPDX-License-Identifier: MIT
// Small model files with random weights, made from an architecture's own table. Test code: running out of memory ends
// the program.
#ifndef FM_TESTS_MODEL_MAKE_H
#define FM_TESTS_MODEL_MAKE_H

#include "models/arch.h"
#include "support/gguf_write.h"

// Architectures that model_make can write, NULL-terminated; files of the others are fixtures.
extern const char *const model_make_archs[];

// Two layers of width 64, 4 heads over 2 key heads of 16, FFN 96, vocabulary 96, context 256: a start for tests. Not
// for gpt2's heads_kv.
struct fm_config model_make_config(const char *arch);

// Append keys, tensors or both: matrices of `type` (f32 where its blocks do not fit the rows), vectors f32, optional
// tensors left out, the head only when the configuration is not tied. The same seed gives the same weights.
void model_make_keys(struct gguf_writer *w, const char *arch, const struct fm_config *config);
void model_make_tensors(struct gguf_writer *w, const char *arch, const struct fm_config *config, enum fm_type type,
                        uint32_t seed);
void model_make(struct gguf_writer *w, const char *arch, const struct fm_config *config, enum fm_type type,
                uint32_t seed);

// A splitmix64 step and a number in [-1, 1) from it.
uint64_t model_make_next(uint64_t *state);
double model_make_uniform(uint64_t *state);

#endif
