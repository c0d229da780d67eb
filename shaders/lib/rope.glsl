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

// The two elements of pair m in a head.
uvec2 fm_rope_pair(uint m, uint rotated, uint kind)
{
    return kind == FM_ROPE_NORM ? uvec2(2 * m, 2 * m + 1) : uvec2(m, m + rotated / 2);
}

vec2 fm_rotate(vec2 x, vec2 angle)
{
    return vec2(x.x * angle.x - x.y * angle.y, x.x * angle.y + x.y * angle.x);
}

#endif
