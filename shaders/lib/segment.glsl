// SPDX-License-Identifier: MIT
// Segments of recurrent ops (graph/ops.def), cut into parts: a part is at most `length` rows of one segment, counted from the
// segment's start, so that no part straddles two sequences. Parts are numbered through all segments of the step; of T rows in S
// segments there are at most T / length + S. Include abi.h and io.glsl before.
#ifndef FM_SEGMENT_GLSL
#define FM_SEGMENT_GLSL

struct fm_part {
    uint row, rows; // of the step
    uint slot, pos; // sequence, and position of the first row
    uint at, of;    // the part's first row counted in its segment, and the segment's rows
    bool last;      // the segment ends with this part
};

// Part `number`; false where the step has fewer. Segment 0 always exists: its first part need not wait for the step's header.
bool fm_part_find(fm_u32s step, fm_u32x4s segment, uint number, uint length, out fm_part part)
{
    uvec4 s = segment.d[0];
    uint i = 0u, first = 0u;
    for (;;) {
        uint parts = (s[FM_SEGMENT_ROWS] - 1u) / length + 1u;
        if (number < first + parts)
            break;
        first += parts;
        i++;
        if (i >= step.d[FM_STEP_SEGMENTS])
            return false;
        s = segment.d[i];
    }
    uint at = (number - first) * length;
    part.row = s[FM_SEGMENT_ROW] + at;
    part.rows = min(s[FM_SEGMENT_ROWS] - at, length);
    part.slot = s[FM_SEGMENT_SLOT];
    part.pos = s[FM_SEGMENT_POS] + at;
    part.at = at;
    part.of = s[FM_SEGMENT_ROWS];
    part.last = at + part.rows == s[FM_SEGMENT_ROWS];
    return true;
}

// Which of a state's versions [S,B,..] holds a sequence after `tokens` tokens.
uint fm_state_version(uint slot, uint tokens, uint versions)
{
    return slot * versions + tokens % versions;
}

#endif
