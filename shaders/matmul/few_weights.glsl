// SPDX-License-Identifier: MIT
// Weights of few_cm.comp: what a lane loads of one row in a unit of 32 along k, and the f16 numbers that become of it.
//   fm_raw                  what is loaded
//   load_weights            issues the loads
//   decode                  the lane's FM_ORDER_ELEMENTS elements of one unit
#ifndef FM_FEW_WEIGHTS_GLSL
#define FM_FEW_WEIGHTS_GLSL

#ifdef FM_W_QUANT

// Bytes 0 and 2, and 1 and 3, less their bias.
f16vec4 halves_of(uint bytes)
{
    const f16vec2 zero = f16vec2(1024.0 + FM_Q_BIAS); // 0x6400 is 1024, whose last place is 1
    return f16vec4(unpackFloat2x16((bytes & 0x00ff00ffu) | 0x64006400u) - zero,
                   unpackFloat2x16(((bytes >> 8) & 0x00ff00ffu) | 0x64006400u) - zero);
}
#define X_ORDER(v) (v).xzyw // of a quad, to go with halves_of

struct fm_raw {
    uint q0, q1;
    uvec2 high;
    fm_q_raw_scales scales;
};

fm_raw load_weights(fm_u32s w, uint block, uint lane)
{
    fm_planes planes = fm_w_planes(pc.n, pc.k);
    uint t = fm_order_k(lane) * PIECE / 4u;
    fm_raw raw;
    raw.q0 = w.d[block * uint(FM_Q_WORDS) + t];
#if FM_Q_WORDS == 8
    raw.q1 = w.d[block * 8u + 4u + t];
#else
    raw.q1 = 0u;
#endif
    raw.high = fm_q_high(w, planes, block);
    raw.scales = fm_q_load_scales(w, planes, block);
    return raw;
}

void decode(fm_raw raw, uint lane, out float16_t e[FM_ORDER_ELEMENTS])
{
    uint lo, hi;
    fm_q_bytes(raw.q0, raw.q1, raw.high, fm_order_k(lane) * PIECE / 4u, lo, hi);
    f16vec4 a = halves_of(lo), b = halves_of(hi);
#if FM_ORDER_ELEMENTS == 8
    [[unroll]] for (uint i = 0u; i < 4u; i++) {
        e[i] = a[i];
        e[4u + i] = b[i];
    }
#else
    bool second = (fm_order_k(lane) & 1u) != 0u; // elements 2 and 3 of the quads, which are their components y and w
    e[0] = second ? a.y : a.x;
    e[1] = second ? a.w : a.z;
    e[2] = second ? b.y : b.x;
    e[3] = second ? b.w : b.z;
#endif
}

#else

#define X_ORDER(v) (v)

#if FM_ORDER_ELEMENTS == 8
#define fm_raw uvec4
#else
#define fm_raw uvec2
#endif

fm_raw load_weights(fm_u32s w, uint block, uint lane)
{
#if FM_ORDER_ELEMENTS == 8
    return FM_CAST(fm_u32x4s, w).d[block * 4u + fm_order_k(lane)];
#else
    return FM_CAST(fm_u32x2s, w).d[block * 8u + fm_order_k(lane)];
#endif
}

void decode(fm_raw raw, uint lane, out float16_t e[FM_ORDER_ELEMENTS])
{
    [[unroll]] for (uint i = 0u; i < FM_ORDER_ELEMENTS / 2u; i++) {
#ifdef FM_W_F16
        f16vec2 pair = unpackFloat2x16(raw[i]);
#else
        vec2 wide = fm_w_pair(raw[i]); // beyond f16 it saturates; a NaN stays
        f16vec2 pair = f16vec2(mix(clamp(wide, vec2(-65504.0), vec2(65504.0)), wide, isnan(wide)));
#endif
        e[2u * i] = pair.x;
        e[2u * i + 1u] = pair.y;
    }
}

#endif
#endif
