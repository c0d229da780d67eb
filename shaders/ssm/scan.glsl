// SPDX-License-Identifier: MIT
// What the fast scans share. Their exponentials are the device's: Vulkan allows exp2 an error of 3 + 2|x| ULP, which the
// error scale of a decay e^-x has room for (it counts x besides 1).
#ifndef FM_SCAN_GLSL
#define FM_SCAN_GLSL

#include "num.glsl"

#define FM_LOG2_E 1.44269504089

float fm_scan_step(float x)
{
    return max(x, 0.0) + fm_log1p_unit(exp2(-FM_LOG2_E * abs(x)));
}

float fm_scan_gate(float z)
{
    // below -87 the quotient would be z / inf
    return z < -87.0 ? 0.0 : z / (1.0 + exp2(-FM_LOG2_E * z));
}

#endif
