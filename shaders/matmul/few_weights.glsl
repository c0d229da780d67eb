// SPDX-License-Identifier: MIT
// Weights of few_cm.comp: what a lane loads of one row in a turn, which is TURN (1 or 4) units of 32 along k, and the
// f16 numbers that become of it. With four units a lane loads all 16 or 32 bytes of quants of one block; the lanes that share a row
// then exchange words, so that each has its places of every block.
//   fm_raw                  what is loaded
//   load_weights            issues the loads
//   fm_turn, arrange        the same after the exchange
//   decode                  the lane's FM_ORDER_ELEMENTS elements of unit u of the turn
//   scales_of               the unit's scales and offset, as fm_q_scales
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

struct fm_raw { // a part of the block of which the lane loads scales, and all its quants if TURN > 1
    uint q0[TURN], q1[TURN];
    uvec2 high;
    fm_q_raw_scales scales;
};

struct fm_turn { // words of the lane's places in each unit; high and scale still of one block
    uint q0[TURN], q1[TURN];
    uvec2 high;
    vec3 scale;
};

// Which block of a turn the lane loads, and which lane loaded block u.
#define own_block(lane) ((lane) % TURN)
#if TURN == 1
#define of_block(v, u, lane) (v)
#else
#define of_block(v, u, lane) subgroupShuffle(v, (lane) / FM_ORDER_LANES * FM_ORDER_LANES + (u))
#endif

fm_raw load_weights(fm_u32s w, uint first, uint lane)
{
    fm_planes planes = fm_w_planes(pc.n, pc.k);
    uint block = first + own_block(lane);
    fm_raw raw;
#if TURN == 1
    uint t = fm_order_k(lane) * PIECE / 4u;
    raw.q0[0] = w.d[block * uint(FM_Q_WORDS) + t];
#if FM_Q_WORDS == 8
    raw.q1[0] = w.d[block * 8u + 4u + t];
#else
    raw.q1[0] = 0u;
#endif
#else
    uvec4 q = FM_CAST(fm_u32x4s, w).d[block * uint(FM_Q_WORDS / 4)];
#if FM_Q_WORDS == 8
    uvec4 r = FM_CAST(fm_u32x4s, w).d[block * 2u + 1u];
#else
    uvec4 r = uvec4(0u);
#endif
    [[unroll]] for (uint i = 0u; i < 4u; i++) {
        raw.q0[i] = q[i];
        raw.q1[i] = r[i];
    }
#endif
    raw.high = fm_q_high(w, planes, block);
    raw.scales = fm_q_load_scales(w, planes, block);
    return raw;
}

#if TURN == 4
// From all words of the lane's own block to the word of its places in each block.
void exchange(inout uint q[4], uint lane)
{
#if FM_ORDER_LANES == 4
    // The transpose of four by four words: first of halves, then inside them.
    [[unroll]] for (uint step = 2u; step > 0u; step /= 2u) {
        bool upper = (lane & step) != 0u;
        [[unroll]] for (uint i = 0u; i < 2u; i++) {
            uint a = step == 2u ? i : 2u * i, b = a + step;
            uint got = subgroupShuffleXor(upper ? q[a] : q[b], step);
            q[a] = upper ? got : q[a];
            q[b] = upper ? q[b] : got;
        }
    }
#else
    uint own[4] = q;
    uint t = fm_order_k(lane) * PIECE / 4u;
    [[unroll]] for (uint u = 0u; u < 4u; u++)
        [[unroll]] for (uint i = 0u; i < 4u; i++) {
            uint got = of_block(own[i], u, lane);
            q[u] = t == i ? got : q[u];
        }
#endif
}
#endif

fm_turn arrange(fm_raw raw, uint first, uint lane)
{
    fm_turn turn;
    turn.q0 = raw.q0;
    turn.q1 = raw.q1;
#if TURN == 4
    exchange(turn.q0, lane);
#if FM_Q_WORDS == 8
    exchange(turn.q1, lane);
#endif
#endif
    turn.high = raw.high;
    turn.scale = fm_q_scales(raw.scales, first + own_block(lane));
    return turn;
}

// Scales of unit u.
vec3 scales_of(fm_turn turn, uint u, uint lane)
{
    vec3 s = vec3(of_block(turn.scale.x, u, lane), 0.0, 0.0);
#if SCALES == 2
    s.y = of_block(turn.scale.y, u, lane);
#endif
#ifdef FM_W_AFFINE
    s.z = of_block(turn.scale.z, u, lane);
#endif
    return s;
}

void decode(fm_turn turn, uint u, uint lane, out float16_t e[FM_ORDER_ELEMENTS])
{
    uint lo, hi;
#if defined(FM_W_Q6_K)
    uvec2 high = of_block(turn.high, u, lane);
#elif defined(FM_W_Q5_0) || defined(FM_W_Q5_1) || defined(FM_W_Q5_K)
    uvec2 high = uvec2(of_block(turn.high.x, u, lane), 0u);
#else
    const uvec2 high = uvec2(0u);
#endif
    fm_q_bytes(turn.q0[u], turn.q1[u], high, fm_order_k(lane) * PIECE / 4u, lo, hi);
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

#define fm_turn fm_raw
#define arrange(raw, first, lane) (raw)

void decode(fm_raw raw, uint u, uint lane, out float16_t e[FM_ORDER_ELEMENTS])
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
