// SPDX-License-Identifier: MIT
// K-quant encoders, k a multiple of 256. Internal to quant/.
#ifndef FM_QUANT_ENCODE_K_H
#define FM_QUANT_ENCODE_K_H

#include <stdint.h>

void fm_encode_q4_k(const float *x, uint64_t k, void *dst);
void fm_encode_q5_k(const float *x, uint64_t k, void *dst);
void fm_encode_q6_k(const float *x, uint64_t k, void *dst);

#endif
