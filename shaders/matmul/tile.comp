// SPDX-License-Identifier: MIT
// Computes: y = x w^T (+ bias) (+ residual), or act(x gate^T) * (x up^T), for any size and every weight format.
// Shapes: x [rows, k] f32 with stride_x elements from row to row; w, gate, up [n, k]; y, residual [rows, n] f32.
// Layouts: weights as src/quant/quant.h says; quantised ones have k a multiple of 32, plain ones any k.
// One workgroup: 64 rows by 64 columns of y (32 columns of gate and of up). Slices of 32 along k are decoded to f32
// into shared
//     memory, stored k-major; an invocation then multiplies 8 rows by 4 columns (gate and up: 2 columns of each). Quad
//     c of line k lies at c ^ (k/4 mod 8), so that neighbouring invocations can load along k and still store to
//     different banks.
// Spec constants: 0 workgroup size, must be 128.
// Needs: Vulkan 1.3 only.
// Accumulation: f32, k ascending, one fused multiply-add per term: error <= k u Σ|x w|, in practice sqrt(k) u.
// Bytes moved: w once per 64 rows, x once per 64 columns, y once.
// Limits: 16 KiB of shared memory.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "spec.glsl"
#include "quant.glsl"
#include "args.glsl"

const uint THREADS = 128u;
const uint BM = 64u, BN = 64u, BK = 32u; // rows, columns of all streams, depth of a slice

shared vec4 xs[BK * BM / 4u]; // [k][row]
shared vec4 ws[BK * BN / 4u]; // [k][column]

// Column v of the tile: with two streams each quad of columns holds two of gate and the same two of up, so that one
// invocation ends with both.
uint stream_of(uint v)
{
    return FM_STREAMS == 2 ? (v >> 1) & 1u : 0u;
}

uint column_of(uint v)
{
    return FM_STREAMS == 2 ? (v >> 2) * 2u + (v & 1u) : v;
}

// k is a multiple of 4
void keep_x(uint k, uint row, vec4 v)
{
    for (uint i = 0u; i < 4u; i++)
        xs[(k + i) * (BM / 4u) + ((row >> 2) ^ (k >> 2))][row & 3u] = v[i];
}

void keep_w(uint k, uint v, vec4 w)
{
    for (uint i = 0u; i < 4u; i++)
        ws[(k + i) * (BN / 4u) + ((v >> 2) ^ (k >> 2))][v & 3u] = w[i];
}

// elements k..k+3 of a row of x that begins at element `at`; zero beyond pc.k
vec4 load_x(uint at, uint k)
{
    if (((pc.stride_x | pc.k) & 3u) == 0u)
        return k < pc.k ? FM_CAST(fm_f32x4s, pc.x).d[(at + k) >> 2] : vec4(0.0);
    vec4 v = vec4(0.0);
    for (uint i = 0u; i < 4u; i++)
        if (k + i < pc.k)
            v[i] = pc.x.d[at + k + i];
    return v;
}

#ifdef FM_W_PLAIN
vec4 load_w(fm_u32s w, uint col, uint k)
{
    if ((pc.k & 3u) == 0u)
        return k < pc.k ? fm_w_quad(w, (col * pc.k + k) >> 2) : vec4(0.0);
    vec4 v = vec4(0.0);
    for (uint i = 0u; i < 4u; i++)
        if (k + i < pc.k)
            v[i] = fm_w_element(w, col * pc.k + k + i);
    return v;
}
#endif

void fill_x(uint row0, uint rows, uint k0)
{
    for (uint task = gl_LocalInvocationID.x; task < BM * BK / 4u; task += THREADS) {
        uint row = task / (BK / 4u), k = task % (BK / 4u) * 4u;
        vec4 v = vec4(0.0);
        if (row0 + row < rows)
            v = load_x((row0 + row) * pc.stride_x, k0 + k);
        keep_x(k, row, v);
    }
}

#ifdef FM_W_PLAIN
void fill_w(uint col0, uint k0)
{
    for (uint task = gl_LocalInvocationID.x; task < BN * BK / 4u; task += THREADS) {
        uint v = task / (BK / 4u), k = task % (BK / 4u) * 4u, col = col0 + column_of(v);
        vec4 w = vec4(0.0);
        if (col < pc.n)
            w = load_w(FM_WEIGHT(stream_of(v)), col, k0 + k);
        keep_w(k, v, w);
    }
}
#else
void fill_w(uint col0, uint k0)
{
    fm_planes planes = fm_w_planes(pc.n, pc.k);
    for (uint task = gl_LocalInvocationID.x; task < BN * 4u; task += THREADS) {
        uint v = task / 4u, t = task % 4u, col = col0 + column_of(v);
        vec4 lo = vec4(0.0), hi = vec4(0.0);
        if (col < pc.n)
            fm_w_unit(FM_WEIGHT(stream_of(v)), planes, col * (pc.k >> 5) + (k0 >> 5), t, lo, hi);
        keep_w(4u * t, v, lo);
        keep_w(16u + 4u * t, v, hi);
    }
}
#endif

void main()
{
    uint rows = pc.step.d[pc.rows_word];
    uint row0 = gl_WorkGroupID.y * BM, col0 = gl_WorkGroupID.x * (BN / uint(FM_STREAMS));
    if (row0 >= rows)
        return;
    uint tx = gl_LocalInvocationID.x & 15u, ty = gl_LocalInvocationID.x >> 4;
    vec4 acc[8];
    for (uint r = 0u; r < 8u; r++)
        acc[r] = vec4(0.0);

    for (uint k0 = 0u; k0 < pc.k; k0 += BK) {
        fill_x(row0, rows, k0);
        fill_w(col0, k0);
        barrier();
        for (uint q = 0u; q < BK / 4u; q++) {
            uint wq = q * BN + (tx ^ q), aq = q * BM + ((2u * ty) ^ q), bq = q * BM + ((2u * ty + 1u) ^ q);
            [[unroll]] for (uint j = 0u; j < 4u; j++) {
                vec4 w = ws[wq + j * (BN / 4u)];
                vec4 a = xs[aq + j * (BM / 4u)], b = xs[bq + j * (BM / 4u)];
                [[unroll]] for (uint i = 0u; i < 4u; i++) {
                    acc[i] = fma(vec4(a[i]), w, acc[i]);
                    acc[4u + i] = fma(vec4(b[i]), w, acc[4u + i]);
                }
            }
        }
        barrier();
    }

    [[unroll]] for (uint r = 0u; r < 8u; r++) {
        uint row = row0 + 8u * ty + r;
        if (row >= rows)
            break;
#if FM_STREAMS == 2
        for (uint i = 0u; i < 2u; i++)
            if (col0 + 2u * tx + i < pc.n)
                fm_store_y(row, col0 + 2u * tx + i, acc[r][i], acc[r][2u + i]);
#else
        for (uint i = 0u; i < 4u; i++)
            if (col0 + 4u * tx + i < pc.n)
                fm_store_y(row, col0 + 4u * tx + i, acc[r][i]);
#endif
    }
}
