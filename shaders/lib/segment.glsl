// SPDX-License-Identifier: MIT
// Segments and parts, for recurrent ops (graph/ops.def). A segment is the rows that one sequence has in the step. It is cut into parts
// of `length` rows, counted from its first row; its last part may be shorter. So no part has rows of two sequences. Parts are
// numbered from 0 through all segments of the step. A step of T rows in S segments has at most T / length + S parts.
// Include abi.h and io.glsl before.
#ifndef FM_SEGMENT_GLSL
#define FM_SEGMENT_GLSL

struct fm_part {
    uint row, rows; // the part's first row in the step, and its number of rows
    uint slot, pos; // the sequence's slot, and the position of the part's first row
    uint at, of;    // the part's first row counted from the segment's first, and the segment's number of rows
    bool last;      // this part is the last of its segment
};

// Finds part `number`; false where the step has no such part. A step always has segment 0, so the workgroups of its parts do not wait for
// the step's header.
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

// Which element of the first two dimensions of a state [S,B,..] is the version that belongs to the sequence in `slot` after `tokens`
// tokens. versions: B, how many state versions a slot has.
uint fm_state_version(uint slot, uint tokens, uint versions)
{
    return slot * versions + tokens % versions;
}

#endif
