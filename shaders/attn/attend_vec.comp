#version 460
// SPDX-License-Identifier: MIT
// ATTEND for few rows (decoding): softmax(scale q k^T) v, keys and values read once for a whole group of query heads.
//   q [T,H*C] f32, kc, vc [S,G,L,Cp] f32, f16 or q8_0, pos, slot [T] -> y [T,H*C] f32. Dual chunk attention: q [T,3*H*C]; the copy
//   for the segment of keys is loaded before its loop
// One workgroup: one part of the keys (Flash-Decoding, Dao et al. 2023) of QH query heads that share a KV head, of
//     one token. A row of the cache is read by LANES neighbouring invocations, 8 elements (a chunk) each; a subgroup holds KEYS
//     rows at once and has UNROLL of them in flight, keys and values. With PAIRS (from the manifest, q8_0 only) an invocation has two
//     chunks side by side, so that they are one load: half as many shuffles and exponentials a key, for twice the registers. Every
//     LANES invocations keep an online softmax of their own (Milakov and Gimelshein 2018); in the end they are put together, within
//     the subgroup by shuffles, then through shared memory. Where there are several parts, the last workgroup that is done puts
//     them together (lib/arrive.glsl), its subgroups taking turns; few keys are one part, and nobody arrives.
// ROPE_ATTEND does the same from q [T,H*C], k, v [T,G*C] that are not rotated yet, and writes keys and values into the caches
//     (step_rows.glsl): no row of the caches is read that the dispatch writes.
// Spec constants: 0 workgroup size, 1 subgroup size, 2 head width C (a multiple of 8, at most 256), 3 QH (divides H/G), 4 rotated
//     elements of a head (ROPE_ATTEND; a multiple of 8).
// Needs: subgroup; full subgroups.
// Accumulates in f32: a dot product as C/8 chains of 8 and a tree, keys in steps of the workgroup, parts in order: those of a
//     subgroup, then subgroups.
// Moves: 2*keys*C*cache bytes a group of QH heads and token; parts are written and read once.
// Limits: shared memory of group/subgroup * QH * (C + 2) floats. q8_0 in ROPE_ATTEND or with PAIRS: heads of whole pairs of blocks.
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#define FM_USE_SUBGROUP_SIZE
#include "abi.h"
#include "io.glsl"
#include "spec.glsl"
#include "attend.glsl"
#include "arrive.glsl"
#include "half.glsl"

#define REF_STEP fm_u32s
#define REF_U32 fm_u32s
#define REF_X fm_f32x4s
// How caches are read: ROPE_ATTEND writes them, too.
#ifdef FM_OP_ROPE_ATTEND
#define REF_FREQ fm_u32x2s
layout(buffer_reference, scalar, buffer_reference_align = 8) buffer fm_out_u32x2s { uvec2 d[]; };
#define CACHE_F32X4 fm_out_f32x4s
#define CACHE_U32 fm_out_u32s
#define CACHE_U32X2 fm_out_u32x2s
#define CACHE_U32X4 fm_out_u32x4s
#else
#define CACHE_F32X4 fm_f32x4s
#define CACHE_U32 fm_u32s
#define CACHE_U32X2 fm_u32x2s
#define CACHE_U32X4 fm_u32x4s
#endif
#ifdef FM_W_F32
#define REF_KV CACHE_F32X4
#elif defined(FM_W_Q8_0)
#define REF_KV CACHE_U32X2
#else
#define REF_KV CACHE_U32X4
#endif
#define REF_Y fm_out_f32x4s
#define REF_PART fm_parts_f32x4s

#ifdef FM_OP_ROPE_ATTEND
layout(push_constant, scalar) uniform Push { FM_PUSH_ROPE_ATTEND(FM_A, FM_P) } pc;
#else
layout(push_constant, scalar) uniform Push { FM_PUSH_ATTEND(FM_A, FM_P) } pc;
#endif

layout(constant_id = 2) const uint HEAD = 128;
layout(constant_id = 3) const uint QH = 4;

const uint CHUNKS = HEAD / 8; // of 8 elements
#ifdef FM_W_Q8_0
const uint PITCH = (HEAD + 31) / 32 * 4; // chunks from row to row of a cache
#else
const uint PITCH = CHUNKS;
#endif
#ifdef PAIRS
const uint SPAN = (CHUNKS + 1) / 2;
#else
const uint SPAN = CHUNKS;
#endif
const uint WIDE = SPAN <= 1 ? 1 : SPAN <= 2 ? 2 : SPAN <= 4 ? 4 : SPAN <= 8 ? 8 : SPAN <= 16 ? 16 : 32;
const uint LANES = WIDE < FM_SUBGROUP ? WIDE : FM_SUBGROUP;
const uint PER = (CHUNKS + LANES - 1) / LANES; // chunks of a row that one invocation holds
const bool RAGGED = CHUNKS % LANES != 0;
const uint KEYS = FM_SUBGROUP / LANES;
const uint UNROLL = QH * PER > 4 ? 2 : 4; // more would not stay in registers
const uint SUBGROUPS = gl_WorkGroupSize.x / FM_SUBGROUP;

const uint COLS = QH * CHUNKS * 2; // of 4 sums, that a workgroup makes

shared vec4 part_acc[SUBGROUPS * COLS];
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
    uint scale = FM_CAST(CACHE_U32, cache).d[(plane.x + plane.y) * 2 + block / 2];
    return uvec3(cache.d[plane.x + i], scale >> (16 * (block & 1)));
}

#ifdef PAIRS
// Two chunks side by side: 16 elements and the scale of their block.
void load16(REF_KV cache, uvec2 plane, uint i, out RAW first, out RAW second)
{
    uint block = i / 4;
    uint scale = FM_CAST(CACHE_U32, cache).d[(plane.x + plane.y) * 2 + block / 2] >> (16 * (block & 1));
    uvec4 words = FM_CAST(CACHE_U32X4, cache).d[(plane.x + i) / 2];
    first = RAW(words.xy, scale);
    second = RAW(words.zw, scale);
}

// Through the bits of 2^23 + byte: devices turn integers into floats at an eighth of the rate of additions, or less.
vec4 signed_bytes(uint word)
{
    word ^= 0x80808080u;
    uvec4 bits = uvec4(word, word >> 8, word >> 16, word >> 24) & 0xffu | 0x4b000000u;
    return uintBitsToFloat(bits) - 8388736.0; // 2^23 + 128
}
#else
vec4 signed_bytes(uint word)
{
    int w = int(word);
    return vec4(bitfieldExtract(w, 0, 8), bitfieldExtract(w, 8, 8), bitfieldExtract(w, 16, 8), bitfieldExtract(w, 24, 8));
}
#endif

mat2x4 floats(RAW r) // times scale_of(r)
{
    return mat2x4(signed_bytes(r.x), signed_bytes(r.y));
}

float scale_of(RAW r)
{
    return unpackHalf2x16(r.z).x;
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

// The chunk `c` of a row that a lane holds, if the row has it.
uint chunk_of(uint c, uint lane)
{
#ifdef PAIRS
    return (c / 2 * LANES + lane) * 2 + c % 2;
#else
    return c * LANES + lane;
#endif
}

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
RAW raw_k[UNROLL * PER], raw_v[UNROLL * PER]; // the keys of a turn and their values

#ifdef FM_OP_ROPE_ATTEND
#include "step_rows.glsl"
#else
void load_queries(uint t, uint copy, uint head0, uint lane)
{
    float scale = uintBitsToFloat(pc.scale_bits);
    [[unroll]] for (uint h = 0; h < QH; h++) {
        uint at = (t * pc.stride_q + (copy * pc.heads + head0 + h) * HEAD) / 4;
        [[unroll]] for (uint c = 0; c < PER; c++) {
            uint chunk = chunk_of(c, lane);
            mat2x4 q = mat2x4(vec4(0.0), vec4(0.0));
            if (!RAGGED || chunk < CHUNKS)
                q = mat2x4(scale * pc.q.d[at + 2 * chunk], scale * pc.q.d[at + 2 * chunk + 1]);
            query[h * PER + c] = q;
        }
    }
}
#endif

void clear_sums()
{
    [[unroll]] for (uint h = 0; h < QH; h++) {
        top[h] = FM_ATTEND_NONE;
        sum[h] = 0.0;
        [[unroll]] for (uint c = 0; c < PER; c++)
            acc[h * PER + c] = mat2x4(vec4(0.0), vec4(0.0));
    }
}

// The same of what is read: behind the row its last chunk once more, which meets zeros of q and is not stored.
uint chunk_read(uint c, uint lane)
{
    return RAGGED ? min(chunk_of(c, lane), CHUNKS - 1) : chunk_of(c, lane);
}

// Adds a turn's UNROLL * KEYS keys, from `first` on, and their values: those before `end`.
void add_keys(uint first, uint end, uint cluster)
{
    float p[UNROLL * QH];
    [[unroll]] for (uint u = 0; u < UNROLL; u++) {
        [[unroll]] for (uint h = 0; h < QH; h++)
            p[u * QH + h] = 0.0;
        [[unroll]] for (uint c = 0; c < PER; c++) {
            mat2x4 f = floats(raw_k[u * PER + c]);
            [[unroll]] for (uint h = 0; h < QH; h++)
#ifdef FM_W_Q8_0
                p[u * QH + h] = fma(scale_of(raw_k[u * PER + c]), dot8(query[h * PER + c], f, 0.0), p[u * QH + h]);
#else
                p[u * QH + h] = dot8(query[h * PER + c], f, p[u * QH + h]);
#endif
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
            mat2x4 f = floats(raw_v[u * PER + c]);
            [[unroll]] for (uint h = 0; h < QH; h++) {
#ifdef FM_W_Q8_0
                vec4 weight = vec4(p[u * QH + h] * scale_of(raw_v[u * PER + c]));
#else
                vec4 weight = vec4(p[u * QH + h]);
#endif
                acc[h * PER + c][0] = fma(weight, f[0], acc[h * PER + c][0]);
                acc[h * PER + c][1] = fma(weight, f[1], acc[h * PER + c][1]);
            }
        }
}

// The same of keys in the cache; `plane`: first chunk of the cache's head, its number of chunks.
void add_cached_keys(uvec2 plane, uint first, uint end, uint cluster, uint lane)
{
    [[unroll]] for (uint u = 0; u < UNROLL; u++) {
        uint at = min(first + u * KEYS + cluster, end - 1) * PITCH;
#ifdef PAIRS
        [[unroll]] for (uint c = 0; c < PER; c += 2) {
            uint chunk = RAGGED ? min(chunk_of(c, lane), CHUNKS - 2) : chunk_of(c, lane);
            load16(pc.kc, plane, at + chunk, raw_k[u * PER + c], raw_k[u * PER + c + 1]);
            load16(pc.vc, plane, at + chunk, raw_v[u * PER + c], raw_v[u * PER + c + 1]);
        }
#else
        [[unroll]] for (uint c = 0; c < PER; c++) {
            raw_k[u * PER + c] = load8(pc.kc, plane, at + chunk_read(c, lane));
            raw_v[u * PER + c] = load8(pc.vc, plane, at + chunk_read(c, lane));
        }
#endif
    }
    add_keys(first, end, cluster);
}

// Subgroups take turns, UNROLL * KEYS keys of [keys.x, keys.y) at a time.
void add_cache(uvec2 plane, uvec2 keys, uint subgroup, uint cluster, uint lane)
{
    for (uint first = keys.x + subgroup * (UNROLL * KEYS); first < keys.y; first += SUBGROUPS * UNROLL * KEYS)
        add_cached_keys(plane, first, keys.y, cluster, lane);
}

#ifdef FM_OP_ROPE_ATTEND
// The keys of [keys.x, keys.y) that rows of this step have, the first of them row `row`, KEYS at a time, beginning with subgroup `turn`.
// The row at position `written` goes into the cache.
void add_step(uvec2 plane, uvec2 keys, uint row, uint g, uint written, uint turn, uint subgroup, uint cluster, uint lane)
{
    uint before = (subgroup + SUBGROUPS - turn % SUBGROUPS) % SUBGROUPS;
    for (uint first = keys.x + before * KEYS; first < keys.y; first += SUBGROUPS * KEYS) {
        mat2x4 key[PER], value[PER];
        uint pos = min(first + cluster, keys.y - 1), from = (row + pos - keys.x) * pc.heads_kv + g;
        [[unroll]] for (uint i = 0; i < UNROLL * PER; i++)
            raw_k[i] = raw_v[i] = RAW(0);
        [[unroll]] for (uint c = 0; c < PER; c++) {
            key[c] = step_key(from, pos, chunk_read(c, lane));
            value[c] = step_value(from, chunk_read(c, lane));
        }
        [[unroll]] for (uint c = 0; c < PER; c++) {
#ifdef FM_W_Q8_0
            const uint other = OF_BLOCK == 2 ? c ^ 1 : c; // of the same block, in this lane
            raw_k[c] = narrow(key[c], largest(key[c], key[other]));
            raw_v[c] = narrow(value[c], largest(value[c], value[other]));
#else
            raw_k[c] = narrow(key[c]);
            raw_v[c] = narrow(value[c]);
#endif
        }
        [[unroll]] for (uint c = 0; c < PER; c++)
            store_chunk(plane, pos * PITCH, c, lane, first + cluster == written);
        add_keys(first, min(first + KEYS, keys.y), cluster);
    }
}
#endif

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
            uint chunk = chunk_of(c, lane);
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

// The subgroups' sums of four neighbours become one; out_top_sum: of their head.
vec4 join_subgroups(uint col, out vec2 out_top_sum)
{
    uint h = col / (CHUNKS * 2);
    float most = part_top[h], total = 0.0;
    [[unroll]] for (uint s = 1; s < SUBGROUPS; s++)
        most = max(most, part_top[s * QH + h]);
    vec4 acc = vec4(0.0);
    [[unroll]] for (uint s = 0; s < SUBGROUPS; s++) {
        float share = exp(part_top[s * QH + h] - most);
        total = fma(share, part_sum[s * QH + h], total);
        acc = fma(vec4(share), part_acc[s * COLS + col], acc);
    }
    out_top_sum = vec2(most, total);
    return acc;
}

// A record is the sums of all QH heads, then maximum and sum of each (lib/attend.glsl), in units of 4 words.
const uint RECORD = COLS + QH;

void write_part(uint record, uint tid)
{
    for (uint col = tid; col < COLS; col += gl_WorkGroupSize.x) {
        vec2 top_sum;
        pc.partial.d[record + col] = join_subgroups(col, top_sum);
        if (col % (CHUNKS * 2) == 0)
            pc.partial.d[record + COLS + col / (CHUNKS * 2)] = vec4(top_sum, 0.0, 0.0);
    }
}

// Subgroup s puts the parts s, s + SUBGROUPS, .. together, as if it had met their keys itself.
void gather_parts(uint record, uint parts, uint subgroup, uint me)
{
    for (uint col = me; col < COLS; col += FM_SUBGROUP) {
        uint h = col / (CHUNKS * 2);
        float most = FM_ATTEND_NONE, total = 0.0;
        for (uint p = subgroup; p < parts; p += SUBGROUPS)
            most = max(most, pc.partial.d[record + p * RECORD + COLS + h].x);
        vec4 acc = vec4(0.0);
        for (uint p = subgroup; p < parts; p += SUBGROUPS) {
            vec4 top_sum = pc.partial.d[record + p * RECORD + COLS + h];
            float share = exp(top_sum.x - most);
            total = fma(share, top_sum.y, total);
            acc = fma(vec4(share), pc.partial.d[record + p * RECORD + col], acc);
        }
        part_acc[subgroup * COLS + col] = acc;
        if (col % (CHUNKS * 2) == 0) {
            part_top[subgroup * QH + h] = most;
            part_sum[subgroup * QH + h] = total;
        }
    }
}

void write_result(uint y, uint tid)
{
    for (uint col = tid; col < COLS; col += gl_WorkGroupSize.x) {
        vec2 top_sum;
        vec4 acc = join_subgroups(col, top_sum);
        pc.y.d[y + col] = acc / top_sum.y;
    }
}

void main()
{
    uint head0 = gl_WorkGroupID.x * QH, t = gl_WorkGroupID.y, part = gl_WorkGroupID.z;
    if (FM_ROW_ABSENT(t, FM_STEP_TOKENS, pc.step.d[FM_STEP_TOKENS]))
        return;
    uint subgroup = gl_SubgroupID, me = gl_SubgroupInvocationID, lane = me % LANES, cluster = me / LANES;
    uint tid = subgroup * FM_SUBGROUP + me;
    uvec3 range = fm_attend_part(pc.pos.d[t], pc.window, part, pc.split, pc.part_keys);
    if (part >= range.z)
        return;
    uint group = gl_NumWorkGroups.x * QH / pc.heads_kv; // query heads of a KV head
    uvec2 plane = uvec2(pc.slot.d[t] * pc.heads_kv + head0 / group, pc.ctx * PITCH);
#ifdef FM_W_Q8_0
    plane.x *= plane.y + plane.y / 16; // lib/cache.glsl
#else
    plane.x *= plane.y;
#endif
    clear_sums();
#ifdef FM_OP_ROPE_ATTEND
    uint pos = pc.pos.d[t], row0 = first_row(t), own = pos - (t - row0); // position of the sequence's first row of this step
    uvec2 cached = uvec2(range.x, clamp(own, range.x, range.y)), fresh = uvec2(cached.y, range.y);
    load_queries(t, head0, lane);
    add_cache(plane, cached, subgroup, cluster, lane);
    uint written = head0 % group == 0 ? pos : 0xffffffffu; // once for a KV head
    add_step(plane, fresh, row0 + (fresh.x - own), head0 / group, written, (cached.y - cached.x + UNROLL * KEYS - 1) / (UNROLL * KEYS),
             subgroup, cluster, lane);
#else
    [[dont_unroll]] for (uint copy = fm_attend_segments(pc.pos.d[t], pc.chunk); copy-- > 0;) {
        load_queries(t, copy, head0, lane);
        add_cache(plane, fm_attend_segment(range.xy, pc.pos.d[t], pc.chunk, copy), subgroup, cluster, lane);
    }
#endif
    join_clusters();
    if (cluster == 0)
        keep_cluster(subgroup, lane);
    barrier();
    uint counter = t * gl_NumWorkGroups.x + gl_WorkGroupID.x;
    if (range.z > 1) {
        uint record = counter * pc.split * RECORD;
        write_part(record + part * RECORD, tid);
        if (!fm_arrive(FM_CAST(fm_counters, pc.counter), counter, range.z))
            return;
        gather_parts(record, range.z, subgroup, me);
        barrier();
    }
    write_result(counter * COLS, tid);
}
