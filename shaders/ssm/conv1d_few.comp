#version 460
// SPDX-License-Identifier: MIT
// CONV1D for few rows of each sequence: causal depthwise convolution over the tokens, then an activation (graph/ops.def).
//   x [T,Ex], w [E,W] f32, state [S,B,W-1,Ex] (inputs before the step, oldest first), bias [E] or none -> y [T,E]
// One workgroup: all rows of one segment, which the planner has made one part; an invocation takes four neighbouring input channels. It
// reads everything once, 16 bytes a load, and keeps the window of W inputs in registers. When a row is done, the window is the state
// after that row, and is written as a state version. The invocation has read the old state by then, and no other one uses its channels.
// Specialisation: 0 workgroup size, 2 W.
// Needs: base. Sums of W products in order, f32. Moves 4*(Ex + E) bytes a row, and the state versions. Limits: W at most 16;
// Ex, and the pieces that are repeated, multiples of 4.
#extension GL_GOOGLE_include_directive : require
#include "abi.h"
#include "io.glsl"
#include "spec.glsl"
#include "num.glsl"
#include "segment.glsl"

#define REF_STEP fm_u32s
#define REF_SEGMENT fm_u32x4s
#define REF_V fm_f32x4s
#define REF_X fm_f32x4s
#define REF_STATE fm_out_f32x4s
#define REF_Y fm_out_f32x4s

layout(constant_id = 2) const uint W = 4;

#define BATCH 8u // rows whose loads are under way together

layout(push_constant, scalar) uniform Push { FM_PUSH_CONV1D(FM_A, FM_P) } pc;

void main()
{
    uint quad = gl_GlobalInvocationID.x, quads = pc.channels >> 2;
    // A step always has segment 0, so its workgroups do not wait for the step's header.
    if (quad >= quads || (gl_WorkGroupID.y > 0u && gl_WorkGroupID.y >= pc.step.d[FM_STEP_SEGMENTS]))
        return;
    uvec4 segment = pc.segment.d[gl_WorkGroupID.y];
    uint row = segment[FM_SEGMENT_ROW], rows = segment[FM_SEGMENT_ROWS], slot = segment[FM_SEGMENT_SLOT], pos = segment[FM_SEGMENT_POS];
    uint version_quads = (W - 1u) * quads, first_kept = rows - min(pc.kept, rows);
    uint from = fm_state_version(slot, pos, pc.versions) * version_quads + quad;
    vec4 before[W]; // inputs before the step, oldest first; the last element is for the current row's
    [[unroll]] for (uint j = 0u; j < W - 1u; j++)
        before[j] = pos != 0u ? pc.state.d[from + j * quads] : vec4(0.0);

    uint piece = pc.head >> 2;
    for (uint r = 0u; r < pc.repeat; r++) {
        uint to = (quad / piece * pc.repeat + r) * piece + quad % piece;
        vec4 bias = FM_PRESENT(pc.bias) ? pc.bias.d[to] : vec4(0.0);
        vec4 taps[W], window[W]; // taps: W of the first channel, then W of the second, and so on
        [[unroll]] for (uint j = 0u; j < W; j++) {
            taps[j] = pc.w.d[to * W + j];
            window[j] = before[j];
        }
        for (uint t0 = 0u; t0 < rows; t0 += BATCH) {
            vec4 x[BATCH];
            [[unroll]] for (uint i = 0u; i < BATCH; i++)
                if (t0 + i < rows)
                    x[i] = pc.x.d[(row + t0 + i) * quads + quad];
            [[unroll]] for (uint i = 0u; i < BATCH; i++) {
                uint t = t0 + i;
                if (t >= rows)
                    break;
                window[W - 1u] = x[i];
                vec4 y = bias;
                [[unroll]] for (uint j = 0u; j < W; j++)
                    [[unroll]] for (uint c = 0u; c < 4u; c++)
                        y[c] = fma(taps[(c * W + j) / 4u][(c * W + j) % 4u], window[j][c], y[c]);
                [[unroll]] for (uint c = 0u; c < 4u; c++)
                    y[c] = fm_act(pc.act, y[c]);
                pc.y.d[(row + t) * quads * pc.repeat + to] = y;
                [[unroll]] for (uint j = 0u; j < W - 1u; j++)
                    window[j] = window[j + 1u];
                if (r == 0u && t >= first_kept) {
                    uint at = fm_state_version(slot, pos + t + 1u, pc.versions) * version_quads + quad;
                    [[unroll]] for (uint j = 0u; j < W - 1u; j++)
                        pc.state.d[at + j * quads] = window[j];
                }
            }
        }
    }
}
