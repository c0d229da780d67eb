// SPDX-License-Identifier: MIT
// Segments of a step (abi.h), and their rows in blocks: recurrent kernels work on blocks of at most `block_rows` rows,
// none of which straddles two segments. A step of T rows and S segments has at most (T + S (block_rows - 1)) /
// block_rows of them (fm_segment_blocks of the emitters).
#ifndef FM_SEGMENT_GLSL
#define FM_SEGMENT_GLSL

#include "abi.h"
#include "io.glsl"

struct fm_segment {
    uint row, rows; // of the step
    uint slot;
    uint pos; // of the first row in its sequence
};

struct fm_block {
    fm_segment seg; // rows = 0: there is no such block
    uint first;     // number of the segment's first block
    uint at;        // first row of the block in its segment
    uint rows;
};

fm_segment fm_segment_at(fm_u32s segments, uint i)
{
    uint w = i * FM_SEGMENT_WORDS;
    return fm_segment(segments.d[w + FM_SEGMENT_ROW], segments.d[w + FM_SEGMENT_ROWS], segments.d[w + FM_SEGMENT_SLOT],
                      segments.d[w + FM_SEGMENT_POS]);
}

// Block `index` of the step.
fm_block fm_block_find(fm_u32s step, fm_u32s segments, uint index, uint block_rows)
{
    uint count = step.d[FM_STEP_SEGMENTS], first = 0;
    for (uint i = 0; i < count; i++) {
        fm_segment s = fm_segment_at(segments, i);
        uint blocks = (s.rows + block_rows - 1) / block_rows;
        if (index - first < blocks) {
            uint at = (index - first) * block_rows;
            return fm_block(s, first, at, min(block_rows, s.rows - at));
        }
        first += blocks;
    }
    return fm_block(fm_segment(0u, 0u, 0u, 0u), 0u, 0u, 0u);
}

// Which version (of `versions`) holds the state after `tokens` tokens of the sequence in `slot`: its number in
// [S,B,..].
uint fm_version(uint slot, uint tokens, uint versions)
{
    return slot * versions + tokens % versions;
}

#endif
