// SPDX-License-Identifier: MIT
// What attention kernels share: which keys a query row sees, and how they are cut into parts.
#ifndef FM_ATTEND_GLSL
#define FM_ATTEND_GLSL

// Below every score, and the maximum of a part without keys; exp of a difference to it is 0, never NaN.
#define FM_ATTEND_NONE (-3.0e38)

// The keys that the query at `pos` sees (sliding window of `window` positions, 0 = all), cut into at most `split` parts of at least
// `least` keys: {first, end} of part `part`, and how many parts there are. Parts are multiples of 32 keys long, the last one excepted.
uvec3 fm_attend_part(uint pos, uint window, uint part, uint split, uint least)
{
    uint end = pos + 1;
    uint first = window != 0 && end > window ? end - window : 0;
    uint share = (max((end - first + split - 1) / split, least) + 31) & ~31u;
    uint from = first + part * share;
    return uvec3(from, min(end, from + share), (end - first + share - 1) / share);
}

// Dual chunk attention (An et al. 2024), where chunk > 0. A row of q has three copies of each query, rotated by different positions. Keys
// of the query's own chunk meet copy 0, keys of the chunk before it copy 1, and all earlier keys copy 2. So the keys fall into up to
// three ranges, one a copy, and one softmax runs over all of them, the earliest range first. Rows that are computed together must be
// of one chunk: that of position `pos`.

// How many copies keys [0, pos] meet. A kernel takes them in the order copies - 1, .., 0.
uint fm_attend_copies(uint pos, uint chunk)
{
    return chunk == 0u ? 1u : min(pos / chunk, 2u) + 1u;
}

// The keys of `range` that meet copy `copy` < fm_attend_copies(pos, chunk): {first, end}, and none where first >= end.
uvec2 fm_attend_copy_keys(uvec2 range, uint pos, uint chunk, uint copy)
{
    if (chunk == 0u)
        return range;
    uint own = pos - pos % chunk; // where the query's chunk begins
    if (copy == 0u)
        return uvec2(max(range.x, own), range.y);
    uint end = copy == 1u ? own : own - chunk;
    return uvec2(copy == 1u ? max(range.x, own - chunk) : range.x, min(range.y, end));
}

// How many rows of a sequence, from the one at `pos` on, are of the chunk of `pos`.
uint fm_attend_chunk_rows(uint pos, uint chunk)
{
    return chunk == 0u ? 0xffffffffu : chunk - pos % chunk;
}

// Words of a part's record in `partial` for a head: its sums, as many as the head is wide, rounded up to a multiple of 4; then its
// maximum and the sum of its exponentials, in 4 words. What one workgroup makes are neighbours: [rows, heads / QH, split, QH * words].
// Places are counted up from a record's beginning: a processor's driver may load a word that all invocations share where none of them
// comes by, and a place counted down from the end was then before the buffer.
uint fm_attend_record_stats(uint head) // where the maximum is, and behind it the sum
{
    return (head + 3) & ~3u;
}

#endif
