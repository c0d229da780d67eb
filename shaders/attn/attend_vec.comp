#version 460
// SPDX-License-Identifier: MIT
// ATTEND for few rows (decoding): softmax(scale q k^T) v, keys and values read once for a whole group of query heads.
//   q [T,H*C] f32, kc, vc [S,G,L,Cp] f32, f16 or q8_0, pos, slot [T] -> y [T,H*C] f32, or with split > 1 partial
//   [T,H,split,C+2] f32. Dual chunk attention: q [T,3*H*C]; the copy for the segment of keys is loaded before its loop
// One workgroup: one part of the keys (Flash-Decoding, Dao et al. 2023) of QH query heads that share a KV head, of
//     one token. A row of the cache is read by LANES neighbouring invocations, 8 elements each; a subgroup holds KEYS
//     rows at once and has UNROLL of them in flight, keys and values. Every LANES invocations keep an online softmax
//     of their own (Milakov and Gimelshein 2018); in the end they are put together, within the subgroup by shuffles,
//     then through shared memory.
// Spec constants: 0 workgroup size, 1 subgroup size, 2 head width C (a multiple of 8, at most 256), 3 QH (divides H/G).
// Needs: subgroup; full subgroups.
// Accumulates in f32: a dot product as C/8 chains of 8 and a tree, keys in steps of the workgroup, parts in order.
// Moves: 2*keys*C*cache bytes a group of QH heads and token.
// Limits: shared memory of group/subgroup * QH * (C + 2) floats. An empty part writes its maximum and sum only.
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#define FM_USE_SUBGROUP_SIZE
#include "abi.h"
#include "io.glsl"
#include "spec.glsl"
#include "attend.glsl"
#include "half.glsl"

#define REF_STEP fm_u32s
#define REF_U32 fm_u32s
#define REF_X fm_f32x4s
#ifdef FM_W_F32
#define REF_KV fm_f32x4s
#elif defined(FM_W_Q8_0)
#define REF_KV fm_u32x2s
#else
#define REF_KV fm_u32x4s
#endif
#define REF_Y fm_out_f32s
#define REF_PART fm_out_f32s

layout(push_constant, scalar) uniform Push { FM_PUSH_ATTEND(FM_A, FM_P) } pc;

layout(constant_id = 2) const uint HEAD = 128;
layout(constant_id = 3) const uint QH = 4;

const uint CHUNKS = HEAD / 8; // of 8 elements
#ifdef FM_W_Q8_0
const uint PITCH = (HEAD + 31) / 32 * 4; // chunks from row to row of a cache
#else
const uint PITCH = CHUNKS;
#endif
const uint WIDE = CHUNKS <= 1 ? 1 : CHUNKS <= 2 ? 2 : CHUNKS <= 4 ? 4 : CHUNKS <= 8 ? 8 : CHUNKS <= 16 ? 16 : 32;
const uint LANES = WIDE < FM_SUBGROUP ? WIDE : FM_SUBGROUP;
const uint PER = (CHUNKS + LANES - 1) / LANES; // chunks of a row that one invocation holds
const bool RAGGED = CHUNKS % LANES != 0;
const uint KEYS = FM_SUBGROUP / LANES;
const uint UNROLL = QH * PER > 4 ? 2 : 4; // more would not stay in registers
const uint SUBGROUPS = gl_WorkGroupSize.x / FM_SUBGROUP;

shared vec4 part_acc[SUBGROUPS * QH * CHUNKS * 2];
shared float part_top[SUBGROUPS * QH];
shared float part_sum[SUBGROUPS * QH];

// 8 elements as they lie in the cache
#ifdef FM_W_F32
#define RAW mat2x4
RAW load8(REF_KV cache, uvec2 plane, uint i)
{
    i += plane.x;
    return mat2x4(cache.d[2 * i], cache.d[2 * i + 1]);
}

mat2x4 floats(RAW r)
{
    return r;
}
#elif defined(FM_W_Q8_0)
#define RAW uvec3 // 8 int8, their scale
RAW load8(REF_KV cache, uvec2 plane, uint i)
{
    uint block = i / 4;
    uint scale = FM_CAST(fm_u32s, cache).d[(plane.x + plane.y) * 2 + block / 2];
    return uvec3(cache.d[plane.x + i], scale >> (16 * (block & 1)));
}

vec4 signed_bytes(uint word)
{
    int w = int(word);
    return vec4(bitfieldExtract(w, 0, 8), bitfieldExtract(w, 8, 8), bitfieldExtract(w, 16, 8), bitfieldExtract(w, 24, 8));
}

mat2x4 floats(RAW r)
{
    float d = unpackHalf2x16(r.z).x;
    return mat2x4(d * signed_bytes(r.x), d * signed_bytes(r.y));
}
#else
#define RAW uvec4
RAW load8(REF_KV cache, uvec2 plane, uint i)
{
    return cache.d[plane.x + i];
}

mat2x4 floats(RAW r)
{
    return mat2x4(vec4(fm_unpack_half2(r.x), fm_unpack_half2(r.y)), vec4(fm_unpack_half2(r.z), fm_unpack_half2(r.w)));
}
#endif

float dot8(mat2x4 a, mat2x4 b, float sum)
{
    [[unroll]] for (uint i = 0; i < 4; i++)
        sum = fma(a[0][i], b[0][i], sum);
    [[unroll]] for (uint i = 0; i < 4; i++)
        sum = fma(a[1][i], b[1][i], sum);
    return sum;
}

// What an invocation knows of its keys. Everything is indexed by constants once the loops are unrolled.
mat2x4 query[QH * PER], acc[QH * PER];
float top[QH], sum[QH];

void load_queries(uint t, uint copy, uint head0, uint lane)
{
    float scale = uintBitsToFloat(pc.scale_bits);
    [[unroll]] for (uint h = 0; h < QH; h++) {
        uint at = (t * pc.stride_q + (copy * pc.heads + head0 + h) * HEAD) / 4;
        [[unroll]] for (uint c = 0; c < PER; c++) {
            uint chunk = c * LANES + lane;
            mat2x4 q = mat2x4(vec4(0.0), vec4(0.0));
            if (!RAGGED || chunk < CHUNKS)
                q = mat2x4(scale * pc.q.d[at + 2 * chunk], scale * pc.q.d[at + 2 * chunk + 1]);
            query[h * PER + c] = q;
        }
    }
}

void clear_sums()
{
    [[unroll]] for (uint h = 0; h < QH; h++) {
        top[h] = FM_ATTEND_NONE;
        sum[h] = 0.0;
        [[unroll]] for (uint c = 0; c < PER; c++)
            acc[h * PER + c] = mat2x4(vec4(0.0), vec4(0.0));
    }
}

// UNROLL * KEYS keys from `first`; `plane`: first chunk of the cache's head, its number of chunks.
void step_keys(uvec2 plane, uint first, uint end, uint cluster, uint lane)
{
    RAW k[UNROLL * PER], v[UNROLL * PER];
    [[unroll]] for (uint u = 0; u < UNROLL; u++) {
        uint at = min(first + u * KEYS + cluster, end - 1) * PITCH;
        [[unroll]] for (uint c = 0; c < PER; c++) {
            uint chunk = c * LANES + lane;
            if (RAGGED) // what lies behind the row is read as its last chunk; it meets zeros of q and is not stored
                chunk = min(chunk, CHUNKS - 1);
            k[u * PER + c] = load8(pc.kc, plane, at + chunk);
            v[u * PER + c] = load8(pc.vc, plane, at + chunk);
        }
    }
    float p[UNROLL * QH];
    [[unroll]] for (uint u = 0; u < UNROLL; u++) {
        [[unroll]] for (uint h = 0; h < QH; h++)
            p[u * QH + h] = 0.0;
        [[unroll]] for (uint c = 0; c < PER; c++) {
            mat2x4 f = floats(k[u * PER + c]);
            [[unroll]] for (uint h = 0; h < QH; h++)
                p[u * QH + h] = dot8(query[h * PER + c], f, p[u * QH + h]);
        }
    }
    [[unroll]] for (uint d = 1; d < LANES; d <<= 1)
        [[unroll]] for (uint i = 0; i < UNROLL * QH; i++)
            p[i] += subgroupShuffleXor(p[i], d);
    [[unroll]] for (uint h = 0; h < QH; h++) {
        float new_top = top[h];
        [[unroll]] for (uint u = 0; u < UNROLL; u++) {
            if (first + u * KEYS + cluster >= end)
                p[u * QH + h] = FM_ATTEND_NONE;
            new_top = max(new_top, p[u * QH + h]);
        }
        float keep = exp(top[h] - new_top);
        top[h] = new_top;
        sum[h] *= keep;
        [[unroll]] for (uint c = 0; c < PER; c++)
            acc[h * PER + c] *= keep;
        [[unroll]] for (uint u = 0; u < UNROLL; u++) {
            bool seen = first + u * KEYS + cluster < end; // where no key was seen yet, exp would give 1
            p[u * QH + h] = seen ? exp(p[u * QH + h] - new_top) : 0.0;
            sum[h] += p[u * QH + h];
        }
    }
    [[unroll]] for (uint u = 0; u < UNROLL; u++)
        [[unroll]] for (uint c = 0; c < PER; c++) {
            mat2x4 f = floats(v[u * PER + c]);
            [[unroll]] for (uint h = 0; h < QH; h++) {
                vec4 weight = vec4(p[u * QH + h]);
                acc[h * PER + c][0] = fma(weight, f[0], acc[h * PER + c][0]);
                acc[h * PER + c][1] = fma(weight, f[1], acc[h * PER + c][1]);
            }
        }
}

// The clusters of a subgroup become one; the first holds the result.
void join_clusters()
{
    [[unroll]] for (uint d = LANES; d < FM_SUBGROUP; d <<= 1)
        [[unroll]] for (uint h = 0; h < QH; h++) {
            float other = subgroupShuffleXor(top[h], d), new_top = max(top[h], other);
            float mine = exp(top[h] - new_top), theirs = exp(other - new_top);
            top[h] = new_top;
            sum[h] = sum[h] * mine + subgroupShuffleXor(sum[h], d) * theirs;
            [[unroll]] for (uint c = 0; c < PER; c++)
                [[unroll]] for (uint i = 0; i < 2; i++)
                    acc[h * PER + c][i] =
                        acc[h * PER + c][i] * mine + subgroupShuffleXor(acc[h * PER + c][i], d) * theirs;
        }
}

void keep_cluster(uint subgroup, uint lane)
{
    [[unroll]] for (uint h = 0; h < QH; h++) {
        uint at = subgroup * QH + h;
        [[unroll]] for (uint c = 0; c < PER; c++) {
            uint chunk = c * LANES + lane;
            if (RAGGED && chunk >= CHUNKS)
                break;
            part_acc[(at * CHUNKS + chunk) * 2] = acc[h * PER + c][0];
            part_acc[(at * CHUNKS + chunk) * 2 + 1] = acc[h * PER + c][1];
        }
        if (lane == 0) {
            part_top[at] = top[h];
            part_sum[at] = sum[h];
        }
    }
}

// The subgroups' sums become y or this part's record, one element of QH * HEAD after another.
void write_result(uint t, uint head0, uint tid)
{
    for (uint i = tid; i < QH * HEAD; i += gl_WorkGroupSize.x) {
        uint h = i / HEAD, c = i % HEAD;
        float most = part_top[h];
        [[unroll]] for (uint s = 1; s < SUBGROUPS; s++)
            most = max(most, part_top[s * QH + h]);
        float y = 0.0, total = 0.0;
        [[unroll]] for (uint s = 0; s < SUBGROUPS; s++) {
            float share = exp(part_top[s * QH + h] - most);
            total = fma(share, part_sum[s * QH + h], total);
            y = fma(share, part_acc[((s * QH + h) * CHUNKS) * 2 + (c >> 2)][c & 3], y);
        }
        if (pc.split == 1) {
            pc.y.d[(t * pc.heads + head0 + h) * HEAD + c] = y / total;
            continue;
        }
        uint at = fm_attend_record(t, head0 + h, gl_WorkGroupID.z, pc.heads, HEAD, pc.split);
        pc.partial.d[at + c] = y;
        if (c < 2)
            pc.partial.d[at + HEAD + c] = c == 0 ? most : total;
    }
}

void main()
{
    uint head0 = gl_WorkGroupID.x * QH, t = gl_WorkGroupID.y;
    if (FM_ROW_ABSENT(t, FM_STEP_TOKENS, pc.step.d[FM_STEP_TOKENS]))
        return;
    uint subgroup = gl_SubgroupID, me = gl_SubgroupInvocationID, lane = me % LANES, cluster = me / LANES;
    uint tid = subgroup * FM_SUBGROUP + me;
    uvec2 range = fm_attend_range(pc.pos.d[t], pc.window, gl_WorkGroupID.z, pc.split);
    if (range.x >= range.y) {
        if (tid < QH) {
            uint at = fm_attend_record(t, head0 + tid, gl_WorkGroupID.z, pc.heads, HEAD, pc.split) + HEAD;
            pc.partial.d[at] = FM_ATTEND_NONE;
            pc.partial.d[at + 1] = 0.0;
        }
        return;
    }
    uvec2 plane = uvec2(pc.slot.d[t] * pc.heads_kv + head0 / (pc.heads / pc.heads_kv), pc.ctx * PITCH);
#ifdef FM_W_Q8_0
    plane.x *= plane.y + plane.y / 16; // lib/cache.glsl
#else
    plane.x *= plane.y;
#endif
    clear_sums();
    [[dont_unroll]] for (uint copy = fm_attend_segments(pc.pos.d[t], pc.chunk); copy-- > 0;) {
        uvec2 keys = fm_attend_segment(range, pc.pos.d[t], pc.chunk, copy);
        load_queries(t, copy, head0, lane);
        for (uint first = keys.x + subgroup * (UNROLL * KEYS); first < keys.y; first += SUBGROUPS * UNROLL * KEYS)
            step_keys(plane, first, keys.y, cluster, lane);
    }
    join_clusters();
    if (cluster == 0)
        keep_cluster(subgroup, lane);
    barrier();
    write_result(t, head0, tid);
}
