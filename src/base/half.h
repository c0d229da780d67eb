// SPDX-License-Identifier: MIT
// IEEE binary16 and bfloat16 in software: exact, round to nearest even, NaN and infinity kept.
#ifndef FM_BASE_HALF_H
#define FM_BASE_HALF_H

#include <stdint.h>

float fm_half_to_float(uint16_t half);
uint16_t fm_float_to_half(float value);
float fm_bf16_to_float(uint16_t bf16);
uint16_t fm_float_to_bf16(float value);

#endif
