// SPDX-License-Identifier: MIT
// Rotary position embedding (Su et al., RoFormer, section 3.4) with exact angles: the frequency is a 64-bit fraction of
// a turn per position, so pos * freq modulo one turn is plain integer arithmetic, and stays exact at a million
// positions.
#ifndef FM_ROPE_GLSL
#define FM_ROPE_GLSL

#include "num.glsl"

// enum fm_rope_kind: pairs (2m, 2m+1) | (m, m + rotated/2)
#define FM_ROPE_NORM 0u

// cos and sin of the angle of `pos` under the frequency {low, high}.
vec2 fm_rope_angle(uint pos, uvec2 freq)
{
    uint high, low;
    umulExtended(pos, freq.x, high, low);
    return fm_cos_sin_turn(high + pos * freq.y + (low >> 31));
}

// Position that copy `copy` of a row is rotated by (dual chunk attention, An et al. 2024, section 3.2, with the authors' code's
// cap): 0 as a key and for its own chunk, 1 for the chunk before, 2 for all earlier ones. chunk = 0: its own.
uint fm_rope_position(uint pos, uint chunk, uint cap, uint copy)
{
    if (chunk == 0u)
        return pos;
    uint within = pos % chunk;
    return copy == 0u ? within : min(copy == 1u ? within + chunk : 2u * chunk - 1u, cap);
}

// Length scaling of Qwen2.5-1M: max(1, 0.1 ln(length / original) + 1), error below 2^-23.
float fm_rope_factor(uint length, uint original)
{
    return length > original ? fma(0.1, fm_log(float(length) / float(original)), 1.0) : 1.0;
}

// The two elements of pair m in a head.
uvec2 fm_rope_pair(uint m, uint rotated, uint kind)
{
    return kind == FM_ROPE_NORM ? uvec2(2 * m, 2 * m + 1) : uvec2(m, m + rotated / 2);
}

// Products are rounded, then sums, in every kernel: a key has the same bits whichever of them rotated it.
vec2 fm_rotate(vec2 x, vec2 angle)
{
    precise vec2 y = vec2(x.x * angle.x - x.y * angle.y, x.x * angle.y + x.y * angle.x);
    return y;
}

// The same of a neighbour each in `own` and `partner`: own * cos + partner * sin.
vec4 fm_rotate4(vec4 own, vec4 partner, vec4 cosine, vec4 sine)
{
    precise vec4 y = own * cosine + partner * sine;
    return y;
}

#endif
