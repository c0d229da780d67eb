// SPDX-License-Identifier: MIT
// What attention kernels share: which keys a query row sees, and how they are cut into parts.
#ifndef FM_ATTEND_GLSL
#define FM_ATTEND_GLSL

// Below every score, and the maximum of a part without keys; exp of a difference to it is 0, never NaN.
#define FM_ATTEND_NONE (-3.0e38)

// Keys [first, end) that the query at `pos` sees (sliding window of `window` positions, 0 = all), then part `part` of
// `split` of them: parts are multiples of 32 keys long; late ones may be empty (first >= end).
uvec2 fm_attend_range(uint pos, uint window, uint part, uint split)
{
    uint end = pos + 1;
    uint first = window != 0 && end > window ? end - window : 0;
    uint share = ((end - first + split - 1) / split + 31) & ~31u;
    uint from = first + part * share;
    return uvec2(from, min(end, from + share));
}

// First word of the record of (token, head, part) in `partial`: head sums, then max and sum of exponentials.
uint fm_attend_record(uint token, uint head_index, uint part, uint heads, uint head, uint split)
{
    return ((token * heads + head_index) * split + part) * (head + 2);
}

#endif
