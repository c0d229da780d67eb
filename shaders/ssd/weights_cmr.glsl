// SPDX-License-Identifier: MIT
// A part of block_cmr.comp: makes the weights (c_t b_s) exp(u_t - u_s) v_s of a block, a set for each head, and stores them in shared
// memory. Matrices above the diagonal are left out. Every head makes c b^T anew: to share it among heads would take one more barrier.
#ifndef FM_SSD_WEIGHTS_CMR_GLSL
#define FM_SSD_WEIGHTS_CMR_GLSL

// The scale of the weights. It comes from a bound that every subgroup finds by itself, so that all have the same one.
float scale_of_weights()
{
    float b = 0.0, c = 0.0;
    [[unroll]] for (uint i = 0; i < SUBGROUPS; i++) {
        b = max(b, most_b[i]);
        c = max(c, most_c[i]);
    }
    return power_for(float(STATE) * b * c, 14);
}

float weigh(const in uint t, const in uint s, const in float g, const in uint t0, const in uint s0,
            const in float scale)
{
    return s0 + s <= t0 + t ? g * scale * steps[s0 + s] * exp(sums[t0 + t] - sums[s0 + s]) : 0.0;
}

void put_weights(ACC g, uint t, uint s, uint turn, float scale)
{
    uint table = (turn * HEADS + team) * Q;
    coopMatPerElementNV(g, g, weigh, table + t * MS, table + s * MS, scale);
    coopMatStore(HALVES(g), weights, (team * Q + t * MS) * W_PITCH + s * (MS / 8), W_PITCH, ROWS);
}

#define LOAD_C(c, t, n) coopMatLoad(c, cs, (t) * MS * PITCH + (n) * (MS / 8), PITCH, ROWS);
#define LOAD_B(b, s, n) coopMatLoad(b, bs, (turn % TURNS * Q + (s) * MS) * PITCH + (n) * (MS / 8), PITCH, COLUMNS);

// The weights of a head are made in shares. The subgroups of its team take them in turn, one each where there are as many.
#if MATRICES == 2
const uint SHARES = 3;

// A share is one of the three matrices up to the diagonal.
void weigh_share(uint share, uint turn, float scale)
{
    uint t = (share + 1) / 2, s = share / 2;
    ACC g = ACC(0.0);
    UNROLL for (uint n = 0; n < DEEP; n++) {
        MAT_A c;
        MAT_B b;
        LOAD_C(c, t, n)
        LOAD_B(b, s, n)
        g = coopMatMulAdd(c, b, g);
    }
    put_weights(g, t, s, turn, scale);
}
#else
const uint SHARES = 4;

// Shares 0 and 1: the three matrices up to the diagonal of the square in rows and columns 2 * share and 2 * share + 1, in matrices.
void weigh_diagonal(uint share, uint turn, float scale)
{
    uint at = 2 * share;
    ACC g00 = ACC(0.0), g10 = ACC(0.0), g11 = ACC(0.0);
    UNROLL for (uint n = 0; n < DEEP; n++) {
        MAT_A c0, c1;
        MAT_B b0, b1;
        LOAD_C(c0, at, n)
        LOAD_C(c1, at + 1, n)
        LOAD_B(b0, at, n)
        LOAD_B(b1, at + 1, n)
        g00 = coopMatMulAdd(c0, b0, g00);
        g10 = coopMatMulAdd(c1, b0, g10);
        g11 = coopMatMulAdd(c1, b1, g11);
    }
    put_weights(g00, at, at, turn, scale);
    put_weights(g10, at + 1, at, turn, scale);
    put_weights(g11, at + 1, at + 1, turn, scale);
}

// Shares 2 and 3: of row 2 or 3, in matrices, the two matrices in columns 0 and 1.
void weigh_left(uint share, uint turn, float scale)
{
    ACC g0 = ACC(0.0), g1 = ACC(0.0);
    UNROLL for (uint n = 0; n < DEEP; n++) {
        MAT_A c;
        MAT_B b0, b1;
        LOAD_C(c, share, n)
        LOAD_B(b0, 0, n)
        LOAD_B(b1, 1, n)
        g0 = coopMatMulAdd(c, b0, g0);
        g1 = coopMatMulAdd(c, b1, g1);
    }
    put_weights(g0, share, 0, turn, scale);
    put_weights(g1, share, 1, turn, scale);
}

void weigh_share(uint share, uint turn, float scale)
{
    if (share < 2)
        weigh_diagonal(share, turn, scale);
    else
        weigh_left(share, turn, scale);
}
#endif

#endif
