// SPDX-License-Identifier: MIT
// How few_cm.comp scales x, so that f16 holds it, and norms it on the way.
//   choose_scales           before the products
//   keep_norm               what was loaded of the norm's weight is that of the present unit
//   scale_x                 loaded piece i of x as products take it
//   see_high                what the high parts of the piece became
//   any_overflow            did f16 not hold some x, so that the subgroup has to start anew?
//   keep_rows               what the subgroup saw of the rows, for the workgroup
//   sum_scale, row_factor   of the sums of subgroup s, and of their sum
//
// A lane multiplies what it takes of x with the norm's weight, and sums the squares of x beside its products. When the subgroups'
// sums come together each row has been seen whole, and the factor 1 / sqrt(mean x^2 + eps) is left for the end.
//
// Such an x has no size that is known before. A subgroup chooses a power of two for each row, so that the largest |x norm| becomes 64
// to 128: elements 2^9 times as large fit, and f16 and a low part together hold places down to 2^-24. The first unit that the
// subgroup meets stands for the row. Where f16 does not hold another element, the subgroup looks at all its units and starts anew,
// with other powers for the rows where that is so: what is beside a row changes nothing of it. Where a unit is all zeros the
// power is the largest, and almost any other element starts anew.
#ifndef FM_FEW_X_GLSL
#define FM_FEW_X_GLSL

#ifdef FM_NORMED

#if TURN != 1
#error products of normed rows go along k a unit at a time
#endif
#define X_ROWS (BLOCKS * FM_ORDER_COLS) // of which a lane has pieces
fm_raw_x norm[2];                       // of the present unit
float x_scale[X_ROWS], squares[X_ROWS];
f16vec2 largest[X_ROWS];                // |high|: 65504 and more stand for what f16 does not hold, however the device rounds
shared vec2 rows_seen[SUBGROUPS * XROWS]; // [subgroup][row of x]: 1 / scale, sum of squares

#define keep_norm() norm = next_norm
#define sum_scale(s, row) rows_seen[(s) * XROWS + (row)].x

// Its elements are squared, too.
fm_raw_x scale_x(fm_raw_x x, uint i)
{
    squares[i / 2u] += dot(x, x);
    return x * norm[i % 2u] * x_scale[i / 2u];
}

void see_high(uint i, float16_t high[PIECE])
{
    [[unroll]] for (uint e = 0u; e < PIECE; e += 2u)
        largest[i / 2u] = max(largest[i / 2u], abs(f16vec2(high[e], high[e + 1u])));
}

float largest_over_lanes(float value)
{
    [[unroll]] for (uint step = 1u; step < FM_ORDER_LANES; step *= 2u)
        value = max(value, subgroupShuffleXor(value, step));
    return value;
}

bool overflows(uint i)
{
    return max(float(largest[i].x), float(largest[i].y)) >= 65504.0;
}

// The largest |x norm| of the unit that was fetched last, where it is more than peak.
void see_peaks(inout float peak[X_ROWS])
{
    [[unroll]] for (uint i = 0u; i < X_LOADS; i++) {
        fm_raw_x x = abs(next_x[i] * next_norm[i % 2u]);
        [[unroll]] for (uint e = 0u; e < PIECE; e++)
            peak[i / 2u] = max(peak[i / 2u], x[e]);
    }
}

// From the first unit, which was fetched; `again`: from all units of the subgroup, for rows that f16 did not hold, and the first unit is
// fetched again.
void choose_scales(bool again, uint row0, uint rows, uint first, uint units, uint lane)
{
    float peak[X_ROWS];
    [[unroll]] for (uint i = 0u; i < X_ROWS; i++)
        peak[i] = squares[i] = 0.0;
    see_peaks(peak);
    if (again) {
        for (uint unit = first + SUBGROUPS; unit < units; unit += SUBGROUPS) {
            fetch_x(row0, rows, unit, lane);
            see_peaks(peak);
        }
        fetch_x(row0, rows, first, lane);
    }
    [[unroll]] for (uint i = 0u; i < X_ROWS; i++) {
        uint power = clamp(floatBitsToUint(largest_over_lanes(peak[i])) & 0x7f800000u, 7u << 23, 253u << 23);
        bool renew = !again || largest_over_lanes(overflows(i) ? 1.0 : 0.0) > 0.0;
        x_scale[i] = renew ? uintBitsToFloat((260u << 23) - power) : x_scale[i]; // 64 / that power
        largest[i] = f16vec2(0.0);
    }
}

bool any_overflow()
{
    bool over = false;
    [[unroll]] for (uint i = 0u; i < X_ROWS; i++)
        over = over || overflows(i);
    return subgroupAny(over);
}

void keep_rows(uint subgroup, uint lane)
{
    [[unroll]] for (uint i = 0u; i < X_ROWS; i++) {
        float total = squares[i];
        [[unroll]] for (uint step = 1u; step < FM_ORDER_LANES; step *= 2u)
            total += subgroupShuffleXor(total, step);
        uint row = i / FM_ORDER_COLS * MN + fm_order_col(lane, i % FM_ORDER_COLS);
        if (fm_order_k(lane) == 0u)
            rows_seen[subgroup * XROWS + row] = vec2(1.0 / x_scale[i], total);
    }
}

float row_factor(uint row)
{
    float total = 0.0;
    [[unroll]] for (uint s = 0u; s < SUBGROUPS; s++)
        total += rows_seen[s * XROWS + row].y;
    return 1.0 / sqrt(total / float(pc.k) + uintBitsToFloat(pc.eps_bits));
}

#else

#ifdef FM_X_F16
#define scale_x(x, i) (x)
#define row_factor(row) 1.0
#else
const float X_SCALE = 1.0 / 64.0; // x up to 4e6
#define scale_x(x, i) ((x) * X_SCALE)
#define row_factor(row) (1.0 / X_SCALE)
#endif
#define see_high(i, high)
#define choose_scales(again, row0, rows, first, units, lane)
#define keep_norm()
#define any_overflow() false
#define keep_rows(subgroup, lane)
#define sum_scale(s, row) 1.0

#endif
#endif
