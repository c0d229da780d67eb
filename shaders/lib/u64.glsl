// SPDX-License-Identifier: MIT
// 64-bit unsigned arithmetic on uvec2 {low, high}, for devices without shaderInt64.
#ifndef FM_U64_GLSL
#define FM_U64_GLSL

uvec2 fm_add64(uvec2 a, uvec2 b)
{
    uint carry;
    uint low = uaddCarry(a.x, b.x, carry);
    return uvec2(low, a.y + b.y + carry);
}

uvec2 fm_sub64(uvec2 a, uvec2 b)
{
    uint borrow;
    uint low = usubBorrow(a.x, b.x, borrow);
    return uvec2(low, a.y - b.y - borrow);
}

bool fm_less64(uvec2 a, uvec2 b)
{
    return a.y < b.y || (a.y == b.y && a.x < b.x);
}

// (a * f) >> 32
uvec2 fm_scale64(uvec2 a, uint f)
{
    uvec2 product;
    umulExtended(a.y, f, product.y, product.x);
    uint high, low;
    umulExtended(a.x, f, high, low);
    return fm_add64(product, uvec2(high, 0u));
}

#endif
