#version 460
// SPDX-License-Identifier: MIT
// READ_SUM: x [T,W] u32 -> y [T] u32, the sum of each row modulo 2^32. It exists to read memory as fast as the device
// can and to prove that it did: the read bandwidth that timings are compared with. W is a multiple of 4; rows begin at
// multiples of 16 bytes. One workgroup sums one row: 16-byte loads, neighbours side by side, four in flight per
// invocation, then a tree in shared memory. Specialisation: 0 workgroup size (power of two, at most 256). Needs: base.
// Integer sums: exact in any order. Moves 4*W bytes a row.
#extension GL_GOOGLE_include_directive : require
#include "abi.h"
#include "io.glsl"
#include "spec.glsl"

#define REF_STEP fm_u32s
#define REF_X fm_u32x4s
#define REF_Y fm_out_u32s

layout(push_constant, scalar) uniform Push { FM_PUSH_READ_SUM(FM_A, FM_P) } pc;

shared uint part[256];

void main()
{
    uint row = gl_WorkGroupID.x, me = gl_LocalInvocationID.x;
    if (row >= pc.step.d[FM_STEP_TOKENS])
        return;
    uint n = pc.width / 4, base = row * n, i = me;
    uvec4 sum = uvec4(0u);
    for (; i + 3 * FM_WORKGROUP < n; i += 4 * FM_WORKGROUP) {
        uvec4 a = pc.x.d[base + i];
        uvec4 b = pc.x.d[base + i + FM_WORKGROUP];
        uvec4 c = pc.x.d[base + i + 2 * FM_WORKGROUP];
        uvec4 d = pc.x.d[base + i + 3 * FM_WORKGROUP];
        sum += (a + b) + (c + d);
    }
    for (; i < n; i += FM_WORKGROUP)
        sum += pc.x.d[base + i];
    part[me] = (sum.x + sum.y) + (sum.z + sum.w);
    barrier();
    for (uint stride = FM_WORKGROUP >> 1; stride > 0u; stride >>= 1) {
        if (me < stride)
            part[me] += part[me + stride];
        barrier();
    }
    if (me == 0)
        pc.y.d[row] = part[0];
}
