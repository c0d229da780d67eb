// SPDX-License-Identifier: MIT
// Slices of BK along k of a product's two operands, from memory into registers and from there, decoded to f16, into shared memory.
// For tiles of BM rows by BN lines of weights: fetch() the next slice while the current one is multiplied, keep() it between two
// barriers. Whoever includes this has BM, BN and BK (a multiple of 32; WORKGROUP divides both BM BK / 8 and BN BK / 8), quant.glsl and
// args.glsl. x is f16, stride_x a multiple of 8, k one of BK; rows and n any: the last row and column stand in for those beyond.
// Weights beyond 65504 saturate, NaN stays.
#ifndef FM_MATMUL_SLICES_GLSL
#define FM_MATMUL_SLICES_GLSL

const uint PITCH = (BK + 8u) / 8u; // of a tile's line, in octets of halves: 8 lines then meet all banks
const uint OCTETS = BK / 8u;
const uint WORKGROUP = gl_WorkGroupSize.x;

shared uvec4 xs[BM * PITCH]; // [row][k]
shared uvec4 ws[BN * PITCH]; // [column][k]; with two streams gate in the first half, up in the second

uvec2 to_halves(vec4 v)
{
    vec4 most = clamp(v, vec4(-65504.0), vec4(65504.0)); // which may make a number of a NaN
#ifdef FM_W_QUANT
    f16vec4 h = f16vec4(isnan(v.x) ? v : most); // four weights have one scale
#else
    f16vec4 h = f16vec4(mix(most, v, isnan(v)));
#endif
    return uvec2(packFloat2x16(h.xy), packFloat2x16(h.zw));
}

#ifdef FM_W_QUANT
struct fm_raw { // a unit of quant.glsl: 8 weights
    uint q0, q1;
    uvec2 high;
    fm_q_raw_scales scales;
};
#else
#define fm_raw uvec4 // 8 weights that follow one another
#endif
#define W_TASKS (BN * OCTETS / WORKGROUP)
#define X_TASKS (BM * OCTETS / WORKGROUP)

uvec4 x_next[X_TASKS];
fm_raw w_next[W_TASKS];

// Column of y that line v of the weights' tile belongs to; the last one stands in for those beyond.
uint column_of(uint col0, uint v)
{
    return min(col0 + (FM_STREAMS == 2 ? v % (BN / 2u) : v), pc.n - 1u);
}

fm_u32s weight_of(uint v)
{
    return FM_WEIGHT(v / (BN / 2u));
}

void fetch_w(uint i, uint col0, uint k0, uint tid)
{
    uint task = i * WORKGROUP + tid, v = task / OCTETS, t = task & 3u;
    uint block = ((column_of(col0, v) * pc.k + k0) >> 5) + task % OCTETS / 4u;
    fm_u32s w = weight_of(v);
#ifdef FM_W_QUANT
    fm_planes planes = fm_w_planes(pc.n, pc.k);
    w_next[i].q0 = w.d[block * uint(FM_Q_WORDS) + t];
#if FM_Q_WORDS == 8
    w_next[i].q1 = w.d[block * 8u + 4u + t];
#else
    w_next[i].q1 = 0u;
#endif
    w_next[i].high = fm_q_high(w, planes, block);
    w_next[i].scales = fm_q_load_scales(w, planes, block);
#else
    w_next[i] = fm_u32x4s(w).d[block * 4u + t];
#endif
}

void keep_w(uint i, uint col0, uint k0, uint tid)
{
    uint task = i * WORKGROUP + tid, v = task / OCTETS, t = task & 3u, at = v * PITCH + (task % OCTETS & ~3u);
#ifdef FM_W_QUANT
    // a unit is a quad of each half of the block
    uint block = ((column_of(col0, v) * pc.k + k0) >> 5) + task % OCTETS / 4u;
    vec3 s = fm_q_scales(w_next[i].scales, block);
    vec4 lo, hi;
    fm_q_unit(w_next[i].q0, w_next[i].q1, w_next[i].high, t, lo, hi);
    uvec2 low = to_halves(fma(lo * FM_QLO, vec4(s.x), vec4(s.z))), high = to_halves(fma(hi * FM_QHI, vec4(s.y), vec4(s.z)));
    if ((t & 1u) == 0u) {
        ws[at + t / 2u].xy = low;
        ws[at + 2u + t / 2u].xy = high;
    } else {
        ws[at + t / 2u].zw = low;
        ws[at + 2u + t / 2u].zw = high;
    }
#else
    uvec4 raw = w_next[i];
#ifdef FM_W_F16
    ws[at + t] = raw;
#else
    ws[at + t] = uvec4(to_halves(vec4(fm_w_pair(raw.x), fm_w_pair(raw.y))), to_halves(vec4(fm_w_pair(raw.z), fm_w_pair(raw.w))));
#endif
#endif
}

void fetch(uint row0, uint rows, uint col0, uint k0, uint tid)
{
    [[unroll]] for (uint i = 0u; i < X_TASKS; i++) {
        uint task = i * WORKGROUP + tid, row = min(row0 + task / OCTETS, rows - 1u);
        x_next[i] = fm_u32x4s(pc.x).d[((row * pc.stride_x + k0) >> 3) + task % OCTETS];
    }
    [[unroll]] for (uint i = 0u; i < W_TASKS; i++)
        fetch_w(i, col0, k0, tid);
}

void keep(uint col0, uint k0, uint tid)
{
    [[unroll]] for (uint i = 0u; i < X_TASKS; i++) {
        uint task = i * WORKGROUP + tid;
        xs[task / OCTETS * PITCH + task % OCTETS] = x_next[i];
    }
    [[unroll]] for (uint i = 0u; i < W_TASKS; i++)
        keep_w(i, col0, k0, tid);
}

#endif
