#version 460
// SPDX-License-Identifier: MIT
// CONV1D: causal depthwise convolution over the tokens of each sequence, then an activation (graph/ops.def).
//   x [T,Ex], w [E,W] f32, state [S,B,W-1,Ex] (inputs before the step, oldest first), bias [E] or none -> y [T,E] f32, on rung f16
//   f16 or both (copy)
// One workgroup: one part (lib/segment.glsl); an invocation takes one input channel. It keeps the window of W inputs in registers and
// moves it on row by row. Only the first part of a segment needs inputs from before the step, which the state holds. The same invocation
// then writes the new state versions of its channel, so that nobody overwrites what another one has still to read. A part has at least
// W - 1 rows.
// Specialisation: 0 workgroup size, 2 W.
// Needs: base; rung f16 float16, storage16. Sums of W products in order, f32. Moves 4*(Ex + E) bytes a row. Limits: W at most 16.
#extension GL_GOOGLE_include_directive : require
#include "abi.h"
#include "io.glsl"
#include "spec.glsl"
#include "num.glsl"
#include "segment.glsl"
#include "element.glsl"

#define REF_STEP fm_u32s
#define REF_SEGMENT fm_u32x4s
#define REF_V fm_f32s
#define REF_X fm_f32s
#define REF_STATE fm_out_f32s
#define REF_Y fm_out_f32s

layout(constant_id = 2) const uint W = 4;

#define BATCH 4 // rows whose loads are under way together

layout(push_constant, scalar) uniform Push { FM_PUSH_CONV1D(FM_A, FM_P) } pc;

// before[j]: input j - (W - 1), counted from the part's first row. The last element is for the current row's input.
float before[W];

// Input i of the segment: of its row i, or for i < 0 of a row before the segment, which the state held.
float input_at(fm_part part, int i, uint c, uint width)
{
    float value = 0.0;
    if (i >= 0)
        return pc.x.d[(part.row - part.at + uint(i)) * width + c];
    [[unroll]] for (uint j = 0; j < W - 1; j++)
        if (int(j) == i + int(W) - 1)
            value = before[j];
    return value;
}

void put_y(uint at, float y)
{
    FM_PUT_Y(at, y);
#ifdef FM_Y_F16
    if (FM_PRESENT(pc.copy))
        fm_store_half(pc.copy, at, y);
#endif
}

// The state after each of the segment's last `kept` rows: the W - 1 inputs up to that row.
void write_state_versions(fm_part part, uint c, uint width)
{
    uint pos = part.pos - part.at;
    for (uint kept = min(pc.kept, part.of); kept > 0; kept--) {
        uint tokens = part.of - kept + 1; // rows of the segment that this version has seen
        uint to = fm_state_version(part.slot, pos + tokens, pc.versions) * (W - 1) * width + c;
        [[unroll]] for (uint j = 0; j < W - 1; j++)
            pc.state.d[to + j * width] = input_at(part, int(tokens + j) - int(W) + 1, c, width);
    }
}

void main()
{
    uint c = gl_GlobalInvocationID.x, width = pc.channels;
    fm_part part;
    if (c >= width || !fm_part_find(pc.step, pc.segment, gl_WorkGroupID.y, pc.part, part))
        return;
    uint from = fm_state_version(part.slot, part.pos, pc.versions) * (W - 1) * width + c;
    [[unroll]] for (uint j = 0; j < W - 1; j++) {
        before[j] = 0.0;
        if (part.at != 0)
            before[j] = pc.x.d[(part.row + j + 1 - W) * width + c];
        else if (part.pos != 0)
            before[j] = pc.state.d[from + j * width];
    }
    before[W - 1] = 0.0;

    uint piece = pc.head, out_width = width * pc.repeat;
    for (uint r = 0; r < pc.repeat; r++) {
        uint to = (c / piece * pc.repeat + r) * piece + c % piece;
        float bias = FM_PRESENT(pc.bias) ? pc.bias.d[to] : 0.0;
        float tap[W], window[W];
        [[unroll]] for (uint j = 0; j < W; j++) {
            tap[j] = pc.w.d[to * W + j];
            window[j] = before[j];
        }
        for (uint t = 0; t < part.rows; t += BATCH) {
            float x[BATCH];
            [[unroll]] for (uint i = 0; i < BATCH; i++)
                x[i] = pc.x.d[(part.row + min(t + i, part.rows - 1)) * width + c];
            [[unroll]] for (uint i = 0; i < BATCH; i++) {
                window[W - 1] = x[i];
                float sum = bias;
                [[unroll]] for (uint j = 0; j < W; j++)
                    sum = fma(tap[j], window[j], sum);
                if (t + i < part.rows)
                    put_y((part.row + t + i) * out_width + to, fm_act(pc.act, sum));
                [[unroll]] for (uint j = 0; j < W - 1; j++)
                    window[j] = window[j + 1];
            }
        }
    }
    if (part.at == 0)
        write_state_versions(part, c, width);
}
