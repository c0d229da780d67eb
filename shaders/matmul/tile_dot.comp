// SPDX-License-Identifier: MIT
// Computes: y = x w^T (+ bias) (+ residual), or act(x gate^T) * (x up^T), with quantised weights, in packed 4x8 integer dot products,
//     for devices without matrix units.
// Shapes: x as CAST_INT makes it (cast_int.comp), stride_x in units of 16 bytes; w, gate, up [n, k]; y, residual [rows, n] f32.
// Layouts: weights as src/quant/quant.h says; k a multiple of BK, a multiple of 32; rows and n any.
// Method: a block of 32 of x is step * i, with i one signed byte or two (XB), i = 256 h + l. The sum of its products with a block of
//     weights is exact in 32-bit integers: the products with h, times 256, and those with l. Zero points of symmetric formats are taken
//     off where that is free: of nibbles with the sum of i, as the number that the sum begins with (they stay packed in shared memory
//     and are unpacked in registers), of bytes as they are written there. The offsets of other formats meet the sum of i as a number.
// One workgroup: BM rows by BN columns of y (BN / 2 of gate and of up), in slices of BK along k, two of which lie in shared memory:
//     one is multiplied while the next one arrives. TEAMS teams of invocations share out the blocks of a slice and add their sums at
//     the end. An invocation makes TM rows by TN columns, GY rows and GX columns apart.
// Spec constants: 0 workgroup size = BM / TM * BN / TN * TEAMS; 2 BM, 3 BN, 4 BK, 5 TM, 6 TN, 7 XB, 8 TEAMS.
// Needs: packed integer dot products.
// Accumulation: within a block exact, blocks in f32, k ascending.
// Error: |x - step * i| <= step / 2: about max |x| of the block * 2^-16 with two bytes, * 2^-8 with one.
// Bytes moved: w once per BM rows, x once per BN columns, y once.
// Limits: TEAMS divides BK / 32. Shared memory of a slice of 32, for each of its two places: BM (16 (2 XB | 1) + 8) + BN (48 + 8) bytes,
//     with nibbles BN (16 + 8) or so; with teams a TM-th of 4 BM BN for all but the first.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_integer_dot_product : require
#include "spec.glsl"
#include "quant.glsl"
#include "args.glsl"
#include "blocks.glsl"

layout(constant_id = 2) const uint BM = 64;
layout(constant_id = 3) const uint BN = 64;
layout(constant_id = 4) const uint BK = 32;
layout(constant_id = 5) const uint TM = 8;
layout(constant_id = 6) const uint TN = 4;
layout(constant_id = 7) const uint XB = 2;
layout(constant_id = 8) const uint TEAMS = 1;
#include "teams.glsl"

const uint BLOCKS = BK / 32u;
const uint TEAM_BLOCKS = BLOCKS / TEAMS;

#if defined(FM_W_Q4_0) || defined(FM_W_Q4_1) || defined(FM_W_Q4_K)
#define NIBBLES 1
#endif

// Of a block of weights: its scale; scale and offset; scales of lo and of hi elements.
#if defined(FM_W_AFFINE)
#define SCALES vec2
#elif defined(FM_W_Q6_K)
#define SCALES vec2
#define HALVES 2u // sums of a block
#else
#define SCALES float
#endif
#ifndef HALVES
#define HALVES 1u
#endif

// Units of 16 bytes of a block, and of a line, odd so that neighbouring lines meet different banks.
const uint X_UNITS = 2u * XB; // h of lo elements, h of hi elements, l of lo, l of hi
#ifdef NIBBLES
const uint W_UNITS = 1u;
#else
const uint W_UNITS = 2u;
#endif
const uint X_PITCH = BLOCKS * X_UNITS | 1u, W_PITCH = BLOCKS * W_UNITS | 1u;
const uint X_SLICE = BM * X_PITCH, W_SLICE = BN * W_PITCH, STEPS = BM * BLOCKS, LINES = BN * BLOCKS;

shared uvec4 xs[2u * X_SLICE];      // [row][block]
shared uvec4 ws[2u * W_SLICE];      // [column][block]; with two streams gate in the first half, up in the second
shared uvec2 steps[2u * STEPS];     // of x: step, and what its zero points take off, or its sum times step
shared SCALES scales[2u * LINES];   // of w

// ---- from memory -------------------------------------------------------------------------------------------------

const uint X_TASKS = (BM * BLOCKS * X_UNITS + FM_WORKGROUP - 1u) / FM_WORKGROUP; // 16 bytes each
const uint S_TASKS = (STEPS + FM_WORKGROUP - 1u) / FM_WORKGROUP;
const uint W_TASKS = (LINES + FM_WORKGROUP - 1u) / FM_WORKGROUP;

uvec4 x_next[X_TASKS];
uvec2 step_next[S_TASKS];
fm_raw_block w_next[W_TASKS];

// Column of y that line v of the weights' tile belongs to; the last one stands in for those beyond.
uint column_of(uint col0, uint v)
{
    return min(col0 + (FM_STREAMS == 2 ? v % (BN / 2u) : v), pc.n - 1u);
}

uint w_block_of(uint col0, uint block0, uint task)
{
    return column_of(col0, task / BLOCKS) * (pc.k >> 5) + block0 + task % BLOCKS;
}

void fetch(uint row0, uint rows, uint col0, uint block0, uint me)
{
    [[unroll]] for (uint i = 0u; i < X_TASKS; i++) {
        uint task = min(i * FM_WORKGROUP + me, BM * BLOCKS * X_UNITS - 1u), row = min(row0 + task / (BLOCKS * X_UNITS), rows - 1u);
        x_next[i] = FM_CAST(fm_u32x4s, pc.x).d[row * pc.stride_x + block0 * X_UNITS + task % (BLOCKS * X_UNITS)];
    }
    [[unroll]] for (uint i = 0u; i < S_TASKS; i++) {
        uint task = min(i * FM_WORKGROUP + me, STEPS - 1u), row = min(row0 + task / BLOCKS, rows - 1u);
        uint first = (row * pc.stride_x + (pc.k >> 5) * X_UNITS) * 2u;
        step_next[i] = FM_CAST(fm_u32x2s, pc.x).d[first + block0 + task % BLOCKS];
    }
    fm_planes planes = fm_w_planes(pc.n, pc.k);
    [[unroll]] for (uint i = 0u; i < W_TASKS; i++) {
        uint task = min(i * FM_WORKGROUP + me, LINES - 1u);
        w_next[i] = fm_load_block(FM_WEIGHT(task / BLOCKS / (BN / 2u)), planes, w_block_of(col0, block0, task));
    }
}

// ---- to shared memory --------------------------------------------------------------------------------------------

uvec2 step_kept(uvec2 raw)
{
#if defined(FM_W_AFFINE)
    return uvec2(raw.x, floatBitsToUint(uintBitsToFloat(raw.x) * float(int(raw.y))));
#elif defined(FM_W_Q4_0)
    return uvec2(raw.x, uint(-8 * int(raw.y)));
#else
    return raw;
#endif
}

// Bytes from 0 to 127, less the format's bias.
uvec4 without_bias(uvec4 q)
{
#if defined(FM_W_Q5_0) || defined(FM_W_Q6_K)
    return ((q | 0x80808080u) - uint(FM_Q_BIAS) * 0x01010101u) ^ 0x80808080u;
#else
    return q;
#endif
}

void keep_w(fm_raw_block raw, uint place, uint task, uint block)
{
    uint at = place * W_SLICE + task / BLOCKS * W_PITCH + task % BLOCKS * W_UNITS;
#ifdef NIBBLES
    ws[at] = raw.q0;
#else
    uvec4 lo, hi;
    fm_unpack_block(raw, lo, hi);
    ws[at] = without_bias(lo);
    ws[at + 1u] = without_bias(hi);
#endif
    vec3 s = fm_q_scales(raw.scales, block);
#if defined(FM_W_AFFINE)
    scales[place * LINES + task] = s.xz;
#elif defined(FM_W_Q6_K)
    scales[place * LINES + task] = s.xy;
#else
    scales[place * LINES + task] = s.x;
#endif
}

// What was fetched goes to place 0 or 1.
void keep(uint place, uint col0, uint block0, uint me)
{
    [[unroll]] for (uint i = 0u; i < X_TASKS; i++) {
        uint task = i * FM_WORKGROUP + me;
        if (task < BM * BLOCKS * X_UNITS)
            xs[place * X_SLICE + task / (BLOCKS * X_UNITS) * X_PITCH + task % (BLOCKS * X_UNITS)] = x_next[i];
    }
    [[unroll]] for (uint i = 0u; i < S_TASKS; i++)
        if (i * FM_WORKGROUP + me < STEPS)
            steps[place * STEPS + i * FM_WORKGROUP + me] = step_kept(step_next[i]);
    [[unroll]] for (uint i = 0u; i < W_TASKS; i++) {
        uint task = i * FM_WORKGROUP + me;
        if (task < LINES)
            keep_w(w_next[i], place, task, w_block_of(col0, block0, task));
    }
}

// ---- products ----------------------------------------------------------------------------------------------------

const uint COLS = TN, HELD = 2u * TN; // of an invocation: columns, and units of a block of them

// Sums of one byte stay below 2^22, so that they become floats where they lie: as the lower bits of 1.5 * 2^23.
const int START = XB == 1u ? 0x4b400000 : 0;

float to_float(int sum)
{
    return XB == 1u ? intBitsToFloat(sum) - 12582912.0 : float(sum);
}

// Block `block` of row i with the same block of all lines.
void add_row(uint place, uint ty, uint i, uint block, uvec4 w[HELD], SCALES scale[COLS])
{
    uint row = ty + GY * i, at = place * X_SLICE + row * X_PITCH + block * X_UNITS;
    uvec2 step = steps[place * STEPS + row * BLOCKS + block];
#if defined(FM_W_Q4_0)
    const int fix = int(step.y);
#else
    const int fix = 0;
#endif
    int sum[HALVES * TN];
    [[unroll]] for (uint j = 0u; j < HALVES * TN; j++)
        sum[j] = XB == 1u ? START + fix : 0;
    [[unroll]] for (uint byte = 0u; byte < XB; byte++) {
        [[unroll]] for (uint side = 0u; side < 2u; side++) {
            uvec4 x = xs[at + 2u * byte + side];
            [[unroll]] for (uint t = 0u; t < 4u; t++)
                [[unroll]] for (uint j = 0u; j < TN; j++)
                    sum[j * HALVES + side % HALVES] += dotPacked4x8EXT(int(x[t]), int(w[2u * j + side][t]));
        }
        if (byte + 1u < XB)
            [[unroll]] for (uint j = 0u; j < HALVES * TN; j++)
                sum[j] = sum[j] * 256 + fix;
    }
    float s = uintBitsToFloat(step.x); // times a scale it might be no normal number
    [[unroll]] for (uint j = 0u; j < TN; j++) {
#if defined(FM_W_AFFINE)
        float value = fma(to_float(sum[j]) * s, scale[j].x, acc[i * TN + j]);
        acc[i * TN + j] = fma(uintBitsToFloat(step.y), scale[j].y, value);
#elif defined(FM_W_Q6_K)
        float value = fma(to_float(sum[2u * j]), scale[j].x, to_float(sum[2u * j + 1u]) * scale[j].y);
        acc[i * TN + j] = fma(value, s, acc[i * TN + j]);
#else
        acc[i * TN + j] = fma(to_float(sum[j]) * s, scale[j], acc[i * TN + j]);
#endif
    }
}

void add_block(uint place, uint tx, uint ty, uint block)
{
    uvec4 w[HELD];
    SCALES scale[COLS];
    [[unroll]] for (uint j = 0u; j < TN; j++) {
        uint line = tx + GX * j, at = place * W_SLICE + line * W_PITCH + block * W_UNITS;
#ifdef NIBBLES
        w[2u * j] = ws[at] & 0x0f0f0f0fu;
        w[2u * j + 1u] = (ws[at] >> 4) & 0x0f0f0f0fu;
#else
        w[2u * j] = ws[at];
        w[2u * j + 1u] = ws[at + 1u];
#endif
        scale[j] = scales[place * LINES + line * BLOCKS + block];
    }
    [[unroll]] for (uint i = 0u; i < TM; i++)
        add_row(place, ty, i, block, w, scale);
}

void main()
{
    uint rows = pc.step.d[pc.rows_word];
    uint row0 = gl_WorkGroupID.y * BM, col0 = gl_WorkGroupID.x * (BN / uint(FM_STREAMS));
    if (row0 >= rows)
        return;
    uint me = gl_LocalInvocationID.x, team = me / PLACES, in_team = me % PLACES, tx = in_team % GX, ty = in_team / GX;
    uint blocks = pc.k >> 5, place = 0u;
    [[unroll]] for (uint i = 0u; i < TM * TN; i++)
        acc[i] = 0.0;
    fetch(row0, rows, col0, 0u, me);
    keep(0u, col0, 0u, me);
    barrier();
    for (uint block0 = 0u; block0 < blocks; block0 += BLOCKS) {
        bool more = block0 + BLOCKS < blocks;
        if (more)
            fetch(row0, rows, col0, block0 + BLOCKS, me);
        [[unroll]] for (uint b = 0u; b < TEAM_BLOCKS; b++)
            add_block(place, tx, ty, team * TEAM_BLOCKS + b);
        place ^= 1u;
        if (more)
            keep(place, col0, block0 + BLOCKS, me);
        barrier();
    }
    if (TEAMS > 1u)
        add_teams(team, in_team);
    if (team == 0u)
        store_tile(row0, rows, col0, tx, ty);
}
