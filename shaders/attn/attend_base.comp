#version 460
// SPDX-License-Identifier: MIT
// ATTEND, one query row at a time: softmax(scale q k^T) v over the row's own positions, by online softmax (Milakov and
// Gimelshein 2018; the rescaling of FlashAttention, Dao et al. 2022, algorithm 1) over tiles of one key per invocation.
//   q [T,H*C] f32 (dual chunk attention: [T,3*H*C], lib/attend.glsl), kc, vc [S,G,L,Cp] f32, f16 or q8_0, pos, slot [T]
//   -> y [T,H*C] f32
// A workgroup makes one part of the keys of one head of one token; the last one of a head puts the parts together (lib/arrive.glsl).
// Query head h reads KV head h / (H/G). Head width at most 512.
// Specialisation: 0 workgroup size (power of two, 64..1024). Needs: base; the sg rung reduces within subgroups.
// Accumulates in f32: a key's dot product in order, tiles in order. Moves 2*keys*Cp*cache bytes a head and token.
#extension GL_GOOGLE_include_directive : require
#include "abi.h"
#include "io.glsl"
#include "spec.glsl"
#include "num.glsl"
#include "cache.glsl"
#include "attend.glsl"
#include "arrive.glsl"

#define FM_REDUCE_MAX_WORKGROUP 1024
#if FM_RUNG >= 1
#define FM_REDUCE_SUBGROUP
#endif
#include "reduce.glsl"

#define REF_STEP fm_u32s
#define REF_U32 fm_u32s
#define REF_X fm_f32s
#define REF_Y fm_out_f32s
#define REF_PART fm_parts_f32s

layout(push_constant, scalar) uniform Push { FM_PUSH_ATTEND(FM_A, FM_P) } pc;

#define MAX_HEAD 512
#define PAIRS (MAX_HEAD / 2 / 64) // per invocation at the smallest workgroup

shared vec2 query[3 * MAX_HEAD / 2]; // a line of MAX_HEAD / 2 per copy
shared float weight[gl_WorkGroupSize.x];

// The parts of a head, in order, become y.
void merge(uint record, uint stats, uint parts, uint y)
{
    uint words = stats + 4;
    for (uint c = gl_LocalInvocationID.x; c < pc.head; c += FM_WORKGROUP) {
        float top = FM_ATTEND_NONE, acc = 0.0, sum = 0.0;
        for (uint p = 0; p < parts; p++)
            top = max(top, pc.partial.d[record + p * words + stats]);
        for (uint p = 0; p < parts; p++) {
            uint at = record + p * words;
            float share = fm_exp(pc.partial.d[at + stats] - top);
            sum = fma(share, pc.partial.d[at + stats + 1], sum);
            acc = fma(share, pc.partial.d[at + c], acc);
        }
        pc.y.d[y + c] = acc / sum;
    }
}

void main()
{
    uint h = gl_WorkGroupID.x, t = gl_WorkGroupID.y, tid = gl_LocalInvocationID.x;
    if (t >= pc.step.d[FM_STEP_TOKENS])
        return;
    uint g = h / (pc.heads / pc.heads_kv);
    uvec2 plane = fm_cache_plane(pc.slot.d[t], g, pc.heads_kv, pc.ctx, pc.head_stride);
    uvec3 range = fm_attend_part(pc.pos.d[t], pc.window, gl_WorkGroupID.z, pc.split, pc.part_keys);
    if (gl_WorkGroupID.z >= range.z)
        return;
    uint pairs = (pc.head + 1) / 2, copies = fm_attend_copies(pc.pos.d[t], pc.chunk);
    float scale = uintBitsToFloat(pc.scale_bits);
    for (uint copy = 0; copy < copies; copy++)
        for (uint i = tid; i < pairs; i += FM_WORKGROUP) {
            uint at = t * pc.stride_q + (copy * pc.heads + h) * pc.head + 2 * i;
            query[copy * (MAX_HEAD / 2) + i] = scale * vec2(pc.q.d[at], 2 * i + 1 < pc.head ? pc.q.d[at + 1] : 0.0);
        }
    barrier();

    float top = FM_ATTEND_NONE, sum = 0.0;
    vec2 acc[PAIRS];
    for (uint i = 0; i < PAIRS; i++)
        acc[i] = vec2(0.0);
    for (uint first = range.x; first < range.y; first += FM_WORKGROUP) {
        uint key = first + tid;
        float score = FM_ATTEND_NONE;
        if (key < range.y) {
            vec2 dot2 = vec2(0.0);
            uint copy = pc.chunk == 0 ? 0 : min(pc.pos.d[t] / pc.chunk - key / pc.chunk, 2);
            for (uint i = 0; i < pairs; i++)
                dot2 = fma(query[copy * (MAX_HEAD / 2) + i], fm_cache_load2(pc.kc, plane, plane.x + key * pc.head_stride + 2 * i), dot2);
            score = dot2.x + dot2.y;
        }
        float new_top = max(top, fm_workgroup_max(score));
        float p = key < range.y ? fm_exp(score - new_top) : 0.0;
        float keep = fm_exp(top - new_top);
        weight[tid] = p; // fm_workgroup_sum's barriers order this before the reads below
        sum = sum * keep + fm_workgroup_sum(p);
        barrier();
        uint count = min(FM_WORKGROUP, range.y - first);
        for (uint i = 0; i < PAIRS; i++) {
            uint pair = i * FM_WORKGROUP + tid;
            if (pair >= pairs)
                break;
            vec2 a = acc[i] * keep;
            for (uint j = 0; j < count; j++)
                a = fma(vec2(weight[j]), fm_cache_load2(pc.vc, plane, plane.x + (first + j) * pc.head_stride + 2 * pair), a);
            acc[i] = a;
        }
        top = new_top;
        barrier();
    }

    uint stats = fm_attend_record_stats(pc.head), words = stats + 4, y = (t * pc.heads + h) * pc.head;
    uint record = (t * pc.heads + h) * pc.split * words, mine = record + gl_WorkGroupID.z * words;
    for (uint i = 0; i < PAIRS; i++) {
        uint pair = i * FM_WORKGROUP + tid, c = 2 * pair;
        if (pair >= pairs)
            break;
        if (range.z == 1) {
            pc.y.d[y + c] = acc[i].x / sum;
            if (c + 1 < pc.head)
                pc.y.d[y + c + 1] = acc[i].y / sum;
        } else {
            pc.partial.d[mine + c] = acc[i].x;
            if (c + 1 < pc.head)
                pc.partial.d[mine + c + 1] = acc[i].y;
        }
    }
    if (range.z == 1)
        return;
    if (tid == 0) {
        pc.partial.d[mine + stats] = top;
        pc.partial.d[mine + stats + 1] = sum;
    }
    if (fm_arrive(FM_CAST(fm_counters, pc.counter), t * pc.heads + h, range.z))
        merge(record, stats, range.z, y);
}
