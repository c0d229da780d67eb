#version 460
// SPDX-License-Identifier: MIT
// ATTEND for few rows (decoding): softmax(scale q k^T) v. Keys and values are read once for all query heads of a workgroup.
//   q [T,H*C] f32, kc, vc [S,G,L,Cp] f32, f16 or q8_0, pos, slot [T] -> y [T,H*C] f32
//   Dual chunk attention (lib/attend.glsl): q [T,3*H*C]. For each range of keys, the copy of q that these keys meet is loaded first.
// One workgroup: one row, QH query heads that share a KV head, and one part of the keys (Flash-Decoding, Dao et al. 2023).
//     A row of the cache, which is one key or one value, is read in octets of 8 elements by a cluster of LANES neighbouring
//     invocations. A subgroup has KEYS clusters, and a turn of it is UNROLL keys for each cluster: their loads are issued together.
//     With PAIRS (from the manifest, q8_0 only) an invocation has two octets side by side, so that it loads both at once: half as many
//     shuffles and exponentials a key, for twice the registers.
//     Each cluster keeps an online softmax of its own (Milakov and Gimelshein 2018). At the end the clusters of a subgroup are joined
//     by shuffles, and the subgroups through shared memory. Where the keys have several parts, the last workgroup of a row and its
//     heads to finish joins the parts (lib/arrive.glsl), its subgroups taking turns. Few keys are one part; then nothing is joined.
// ROPE_ATTEND computes the same from q [T,H*C], k, v [T,G*C] before their rotation, and writes keys and values into the caches
//     (step_rows.glsl). Keys and values of the step's own rows come from k and v: the dispatch reads no row of a cache that it writes.
// Spec constants: 0 workgroup size, 1 subgroup size, 2 head width C (a multiple of 8, at most 256), 3 QH (divides H/G), 4 rotated
//     elements of a head (ROPE_ATTEND; a multiple of 8).
// Needs: subgroup; full subgroups.
// Accumulates in f32: a dot product as C/8 chains of 8 and a tree, keys in steps of the workgroup, parts in order: those of a
//     subgroup, then subgroups.
// Moves: for each row and QH heads 2*C elements of the caches a key; parts are written and read once.
// Limits: shared memory of workgroup/subgroup * QH * (C + 2) floats. q8_0 in ROPE_ATTEND or with PAIRS: heads of whole pairs of blocks.
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

const uint OCTETS = HEAD / 8; // of a head: 8 elements each
#ifdef FM_W_Q8_0
const uint PITCH = (HEAD + 31) / 32 * 4; // octets from row to row of a cache
#else
const uint PITCH = OCTETS;
#endif
#ifdef PAIRS
const uint SPAN = (OCTETS + 1) / 2;
#else
const uint SPAN = OCTETS;
#endif
const uint WIDE = SPAN <= 1 ? 1 : SPAN <= 2 ? 2 : SPAN <= 4 ? 4 : SPAN <= 8 ? 8 : SPAN <= 16 ? 16 : 32;
const uint LANES = WIDE < FM_SUBGROUP ? WIDE : FM_SUBGROUP;
const uint PER = (OCTETS + LANES - 1) / LANES; // octets of a row that one invocation holds
const bool RAGGED = OCTETS % LANES != 0;
const uint KEYS = FM_SUBGROUP / LANES;
const uint UNROLL = QH * PER > 4 ? 2 : 4; // more would not stay in registers
const uint SUBGROUPS = gl_WorkGroupSize.x / FM_SUBGROUP;

const uint COLS = QH * OCTETS * 2; // the workgroup's columns of y, in quads

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
// Loads two octets side by side, which have one scale: 16 elements of a block of 32.
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

// Which octet of a row is number `c` of those that a lane holds. With RAGGED it may lie beyond the row.
uint octet_of(uint c, uint lane)
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

// An invocation's octets of the queries, and the softmax of its cluster: weighted sums of values, greatest score, sum of exponentials.
// These arrays stay in registers: once the loops are unrolled, all their indices are constants.
mat2x4 query[QH * PER], acc[QH * PER];
float top[QH], sum[QH];
RAW raw_k[UNROLL * PER], raw_v[UNROLL * PER]; // a turn's keys and values, as loaded

#ifdef FM_OP_ROPE_ATTEND
#include "step_rows.glsl"
#else
void load_queries(uint t, uint copy, uint head0, uint lane)
{
    float scale = uintBitsToFloat(pc.scale_bits);
    [[unroll]] for (uint h = 0; h < QH; h++) {
        uint at = (t * pc.stride_q + (copy * pc.heads + head0 + h) * HEAD) / 4;
        [[unroll]] for (uint c = 0; c < PER; c++) {
            uint octet = octet_of(c, lane);
            mat2x4 q = mat2x4(vec4(0.0), vec4(0.0));
            if (!RAGGED || octet < OCTETS)
                q = mat2x4(scale * pc.q.d[at + 2 * octet], scale * pc.q.d[at + 2 * octet + 1]);
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

// Which octet is loaded in its place: beyond the row that is the row's last one. It is multiplied by a q of zero, and not stored.
uint octet_read(uint c, uint lane)
{
    return RAGGED ? min(octet_of(c, lane), OCTETS - 1) : octet_of(c, lane);
}

// Takes a turn's keys and values (raw_k, raw_v) into the softmax: UNROLL * KEYS of them from key `first` on, without those from `end` on.
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

// Loads a turn's keys and values from the caches, and takes them. plane.x: the first octet of the slot's KV head in a cache; plane.y: how
// many octets it has.
void add_cached_keys(uvec2 plane, uint first, uint end, uint cluster, uint lane)
{
    [[unroll]] for (uint u = 0; u < UNROLL; u++) {
        uint at = min(first + u * KEYS + cluster, end - 1) * PITCH;
#ifdef PAIRS
        [[unroll]] for (uint c = 0; c < PER; c += 2) {
            uint octet = RAGGED ? min(octet_of(c, lane), OCTETS - 2) : octet_of(c, lane);
            load16(pc.kc, plane, at + octet, raw_k[u * PER + c], raw_k[u * PER + c + 1]);
            load16(pc.vc, plane, at + octet, raw_v[u * PER + c], raw_v[u * PER + c + 1]);
        }
#else
        [[unroll]] for (uint c = 0; c < PER; c++) {
            raw_k[u * PER + c] = load8(pc.kc, plane, at + octet_read(c, lane));
            raw_v[u * PER + c] = load8(pc.vc, plane, at + octet_read(c, lane));
        }
#endif
    }
    add_keys(first, end, cluster);
}

// Takes keys [keys.x, keys.y) from the caches. The subgroups share them turn by turn.
void add_cache(uvec2 plane, uvec2 keys, uint subgroup, uint cluster, uint lane)
{
    for (uint first = keys.x + subgroup * (UNROLL * KEYS); first < keys.y; first += SUBGROUPS * UNROLL * KEYS)
        add_cached_keys(plane, first, keys.y, cluster, lane);
}

#ifdef FM_OP_ROPE_ATTEND
// Takes keys [keys.x, keys.y), which are rows of this step; `row` is the row of the first of them. The subgroups share them, KEYS at a
// time, beginning with subgroup `turn` mod SUBGROUPS, which is the next one in turn after add_cache. The key at position `written`, if
// there is one, is stored into the cache.
void add_step(uvec2 plane, uvec2 keys, uint row, uint g, uint written, uint turn, uint subgroup, uint cluster, uint lane)
{
    uint before = (subgroup + SUBGROUPS - turn % SUBGROUPS) % SUBGROUPS;
    for (uint first = keys.x + before * KEYS; first < keys.y; first += SUBGROUPS * KEYS) {
        mat2x4 key[PER], value[PER];
        uint pos = min(first + cluster, keys.y - 1), from = (row + pos - keys.x) * pc.heads_kv + g;
        [[unroll]] for (uint i = 0; i < UNROLL * PER; i++)
            raw_k[i] = raw_v[i] = RAW(0);
        [[unroll]] for (uint c = 0; c < PER; c++) {
            key[c] = step_key(from, pos, octet_read(c, lane));
            value[c] = step_value(from, octet_read(c, lane));
        }
        [[unroll]] for (uint c = 0; c < PER; c++) {
#ifdef FM_W_Q8_0
            const uint other = OF_BLOCK == 2 ? c ^ 1 : c; // this lane's other octet of the block
            raw_k[c] = narrow(key[c], largest(key[c], key[other]));
            raw_v[c] = narrow(value[c], largest(value[c], value[other]));
#else
            raw_k[c] = narrow(key[c]);
            raw_v[c] = narrow(value[c]);
#endif
        }
        [[unroll]] for (uint c = 0; c < PER; c++)
            store_octet(plane, pos * PITCH, c, lane, first + cluster == written);
        add_keys(first, min(first + KEYS, keys.y), cluster);
    }
}
#endif

// Joins the clusters of a subgroup. All of them then have the result.
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

// Stores the subgroup's softmax in shared memory; its first cluster calls it.
void keep_cluster(uint subgroup, uint lane)
{
    [[unroll]] for (uint h = 0; h < QH; h++) {
        uint at = subgroup * QH + h;
        [[unroll]] for (uint c = 0; c < PER; c++) {
            uint octet = octet_of(c, lane);
            if (RAGGED && octet >= OCTETS)
                break;
            part_acc[(at * OCTETS + octet) * 2] = acc[h * PER + c][0];
            part_acc[(at * OCTETS + octet) * 2 + 1] = acc[h * PER + c][1];
        }
        if (lane == 0) {
            part_top[at] = top[h];
            part_sum[at] = sum[h];
        }
    }
}

// Joins what the subgroups have stored, for quad `col` of the workgroup's columns. out_top_sum: greatest score and sum of exponentials of
// its head.
vec4 join_subgroups(uint col, out vec2 out_top_sum)
{
    uint h = col / (OCTETS * 2);
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

// A part's record in `partial`, in quads: the weighted sums of all QH heads, then a quad with greatest score and sum for each
// (lib/attend.glsl).
const uint RECORD = COLS + QH;

void write_part(uint record, uint tid)
{
    for (uint col = tid; col < COLS; col += gl_WorkGroupSize.x) {
        vec2 top_sum;
        pc.partial.d[record + col] = join_subgroups(col, top_sum);
        if (col % (OCTETS * 2) == 0)
            pc.partial.d[record + COLS + col / (OCTETS * 2)] = vec4(top_sum, 0.0, 0.0);
    }
}

// Subgroup s joins parts s, s + SUBGROUPS, ... and stores the result in shared memory, as if it had taken their keys itself.
void gather_parts(uint record, uint parts, uint subgroup, uint me)
{
    for (uint col = me; col < COLS; col += FM_SUBGROUP) {
        uint h = col / (OCTETS * 2);
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
        if (col % (OCTETS * 2) == 0) {
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
    uint heads_per_kv = gl_NumWorkGroups.x * QH / pc.heads_kv;
    uvec2 plane = uvec2(pc.slot.d[t] * pc.heads_kv + head0 / heads_per_kv, pc.ctx * PITCH);
#ifdef FM_W_Q8_0
    plane.x *= plane.y + plane.y / 16; // lib/cache.glsl
#else
    plane.x *= plane.y;
#endif
    clear_sums();
#ifdef FM_OP_ROPE_ATTEND
    uint pos = pc.pos.d[t], row0 = first_row(t), own = pos - (t - row0); // row0: the sequence's first row of this step; own: its position
    uvec2 cached = uvec2(range.x, clamp(own, range.x, range.y)), fresh = uvec2(cached.y, range.y);
    load_queries(t, head0, lane);
    add_cache(plane, cached, subgroup, cluster, lane);
    uint written = head0 % heads_per_kv == 0 ? pos : 0xffffffffu; // only one of a KV head's workgroups stores
    // the fraction: how many turns add_cache has taken
    add_step(plane, fresh, row0 + (fresh.x - own), head0 / heads_per_kv, written,
             (cached.y - cached.x + UNROLL * KEYS - 1) / (UNROLL * KEYS), subgroup, cluster, lane);
#else
    [[dont_unroll]] for (uint copy = fm_attend_copies(pc.pos.d[t], pc.chunk); copy-- > 0;) {
        load_queries(t, copy, head0, lane);
        add_cache(plane, fm_attend_copy_keys(range.xy, pc.pos.d[t], pc.chunk, copy), subgroup, cluster, lane);
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
