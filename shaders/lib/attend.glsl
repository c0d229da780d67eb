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

// Dual chunk attention (An et al. 2024), chunk > 0: keys of the query's own chunk meet copy 0 of the query, those of the chunk
// before copy 1, all earlier ones copy 2. One softmax runs over three segments of keys, the earliest first; the query's rows
// must be of one chunk, that of position `pos`.

// Segments of keys [0, pos]: copies segments-1, .., 0.
uint fm_attend_segments(uint pos, uint chunk)
{
    return chunk == 0u ? 1u : min(pos / chunk, 2u) + 1u;
}

// The part of `range` that meets copy `copy` < fm_attend_segments(pos, chunk); may be empty (first >= end).
uvec2 fm_attend_segment(uvec2 range, uint pos, uint chunk, uint copy)
{
    if (chunk == 0u)
        return range;
    uint own = pos - pos % chunk; // where the query's chunk begins
    if (copy == 0u)
        return uvec2(max(range.x, own), range.y);
    uint end = copy == 1u ? own : own - chunk;
    return uvec2(copy == 1u ? max(range.x, own - chunk) : range.x, min(range.y, end));
}

// Rows from the one at `pos` on that are of its chunk.
uint fm_attend_chunk_rows(uint pos, uint chunk)
{
    return chunk == 0u ? 0xffffffffu : chunk - pos % chunk;
}

// First word of the record of (token, head, part) in `partial`: head sums, then max and sum of exponentials.
uint fm_attend_record(uint token, uint head_index, uint part, uint heads, uint head, uint split)
{
    return ((token * heads + head_index) * split + part) * (head + 2);
}

#endif
