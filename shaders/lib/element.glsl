// SPDX-License-Identifier: MIT
// FM_PUT_Y(i, v): element i of the result y, for kernels that the manifest has twice: with y = "f16", which needs storage16, and
// without.
#ifndef FM_ELEMENT_GLSL
#define FM_ELEMENT_GLSL

#ifdef FM_Y_F16
#define FM_RESULT_ELEMENTS
#include "result.glsl"
#define FM_PUT_Y(i, v) fm_store_one(pc.y, i, v)
#else
#define FM_PUT_Y(i, v) pc.y.d[i] = v
#endif

#endif
