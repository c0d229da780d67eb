// SPDX-License-Identifier: MIT
// CAST_INT: activations as integers for products that multiply bytes: x [T,K] f32 in blocks of 32, each with one step
//     (matmul/blocks.glsl).
// Layout: a row of y is a piece for each block, in units of 16 bytes: with two bytes h of elements 0..15, h of 16..31, l of 0..15, l of
//     16..31; with one i of 0..15, i of 16..31. Then for each block two words: step (f32), and the sum of its i. stride_y units
//     from row to row.
// One workgroup: WORKGROUP / 8 blocks of one row; an invocation makes four elements of one.
// Specialisation: 0 workgroup size. Needs: nothing.
// Bytes moved: a row 4 K + K bytes + K / 4. Limits: K a multiple of 32. Shared memory 8 bytes an invocation.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "abi.h"
#include "io.glsl"
#include "spec.glsl"
#include "matmul/blocks.glsl"

#define REF_STEP fm_u32s
#define REF_X fm_f32s
#define REF_Y fm_out_u32s

layout(push_constant, scalar) uniform Push { FM_PUSH_CAST_INT(FM_A, FM_P) } pc;

shared uint block_bits[FM_WORKGROUP];
shared int block_sums[FM_WORKGROUP];

void main()
{
    uint row = gl_WorkGroupID.y;
    if (row >= pc.step.d[pc.rows_word])
        return;
    uint me = gl_LocalInvocationID.x, first = me & ~7u, blocks = pc.width >> 5;
    uint quad = gl_WorkGroupID.x * FM_WORKGROUP + me, block = quad >> 3, part = quad & 7u;
    bool there = block < blocks;
    vec4 x = there ? FM_CAST(fm_f32x4s, pc.x).d[row * (pc.width >> 2) + quad] : vec4(0.0);
    block_bits[me] = fm_block_bits(x);
    barrier();
    uint bits = 0u;
    [[unroll]] for (uint i = 0u; i < 8u; i++)
        bits = max(bits, block_bits[first + i]);
    float most = fm_block_most(bits), largest = pc.bytes == 1u ? FM_MOST_ONE : FM_MOST_TWO;
    uvec4 v = fm_block_ints(x, largest / most);
    block_sums[me] = fm_sum_ints(v);
    barrier();
    if (!there)
        return;
    uint at = 4u * row * pc.stride_y;
    if (pc.bytes == 1u) {
        pc.y.d[at + 8u * block + part] = fm_pack_low(v);
    } else {
        pc.y.d[at + 16u * block + part] = fm_pack_high(v);
        pc.y.d[at + 16u * block + 8u + part] = fm_pack_low(v);
    }
    if (part == 0u) {
        int sum = 0;
        [[unroll]] for (uint i = 0u; i < 8u; i++)
            sum += block_sums[first + i];
        at += 8u * pc.bytes * blocks + 2u * block;
        pc.y.d[at] = floatBitsToUint(most * (1.0 / largest));
        pc.y.d[at + 1u] = uint(sum);
    }
}
