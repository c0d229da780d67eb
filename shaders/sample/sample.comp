#version 460
// SPDX-License-Identifier: MIT
// SAMPLE: one id per output row, exactly the algorithm that src/ref/sample.c defines: penalty, top-k, top-p, min-p,
// temperature, draw.
//   logits [O,V] f32 (penalised in place), out_row [O], pos, slot [T], sampler [O,8], history [S,L] u32 -> id [O], last
//   [S] u32
// A workgroup makes one row. Nothing is sorted: thresholds are found by radix selection, eight bits of the logit at a
// time, on counts (top-k) and on masses (top-p). Probabilities are fixed-point numbers, so every sum is exact and
// independent of order. With top_k <= workgroup size the work after the second pass is on a short list: the k-th
// greatest of the invocations' own maxima bounds the k-th greatest logit from below.
// Specialisation: 0 workgroup size (power of two up to 1024). Needs: base.
// Reads 4*V bytes once when greedy, twice with a small top_k, up to 12 times without.
#extension GL_GOOGLE_include_directive : require
#include "abi.h"
#include "io.glsl"
#include "spec.glsl"
#include "num.glsl"
#include "rng.h"
#include "u64.glsl"

#define REF_STEP fm_u32s
#define REF_U32 fm_out_u32s
#define REF_Y fm_out_f32s

layout(push_constant, scalar) uniform Push { FM_PUSH_SAMPLE(FM_A, FM_P) } pc;

#define MINUS_INF uintBitsToFloat(0xff800000u)
#define PLUS_INF uintBitsToFloat(0x7f800000u)

#define LIST_MAX (2 * FM_WORKGROUP)

shared float best_value[FM_WORKGROUP];
shared uint best_id[FM_WORKGROUP];
shared uvec2 part[FM_WORKGROUP];
shared uint bin_low[256];
shared uint bin_high[256];
shared uint chosen_digit;
shared uvec2 chosen_rest;

// The candidates: all ids of the row, or a list of them in shared memory (in no order).
shared float list_logit[LIST_MAX];
shared uint list_id[LIST_MAX];
shared uint list_count;
bool in_list = false;
uint n_candidates;

uint tid, row_at;

// A NaN is infinite: with one the greatest logit is no number.
float logit(uint id)
{
    float l = pc.logits.d[row_at + id];
    return isnan(l) ? PLUS_INF : l;
}

float candidate(uint i)
{
    return in_list ? list_logit[i] : logit(i);
}

// Monotone: greater logits have greater keys.
uint key_of(float l)
{
    uint bits = floatBitsToUint(l + 0.0); // -0 and 0 are the same logit
    return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

// Probability relative to the most likely id, in units of 2^-23.
uint weight_of(float l, float top, float temp)
{
    return l == MINUS_INF ? 0u : uint(fm_exp((l - top) / temp) * 8388608.0);
}

void penalise(uint record, uint slot, uint pos)
{
    float penalty = uintBitsToFloat(pc.settings.d[record + FM_SAMPLER_REPEAT_PENALTY]);
    uint last_n = pc.settings.d[record + FM_SAMPLER_REPEAT_LAST_N];
    if (last_n == 0 || penalty == 1.0)
        return;
    uint end = min(pos, pc.ctx - 1);
    uint first = pos + 1 > last_n ? pos + 1 - last_n : 0;
    for (uint p = first + tid; p <= end; p += FM_WORKGROUP) {
        uint id = pc.history.d[slot * pc.ctx + p];
        bool seen = id >= pc.vocab;
        for (uint before = first; before < p && !seen; before++)
            seen = pc.history.d[slot * pc.ctx + before] == id;
        if (!seen) {
            float l = pc.logits.d[row_at + id];
            pc.logits.d[row_at + id] = l > 0.0 ? l / penalty : l * penalty;
        }
    }
    memoryBarrierBuffer();
    barrier();
}

void keep_greater(inout float value, inout uint id, float other, uint other_id)
{
    if (other > value || (other == value && other_id < id)) {
        value = other;
        id = other_id;
    }
}

// The greatest logit of every invocation, left in list_logit[tid], and of all, in best_value[0]; the lowest id wins
// ties. Eight loads in flight.
void find_best()
{
    const uint LANES = 8;
    float value = MINUS_INF;
    uint id = tid;
    uint full = pc.vocab / (LANES * FM_WORKGROUP) * (LANES * FM_WORKGROUP);
    for (uint i = tid; i < full; i += LANES * FM_WORKGROUP) {
        float l[LANES];
        [[unroll]] for (uint j = 0; j < LANES; j++)
            l[j] = logit(i + j * FM_WORKGROUP);
        [[unroll]] for (uint j = 0; j < LANES; j++)
            keep_greater(value, id, l[j], i + j * FM_WORKGROUP);
    }
    for (uint i = full + tid; i < pc.vocab; i += FM_WORKGROUP)
        keep_greater(value, id, logit(i), i);
    list_logit[tid] = value;
    best_value[tid] = value;
    best_id[tid] = id;
    barrier();
    for (uint s = FM_WORKGROUP / 2; s > 0; s >>= 1) {
        if (tid < s) {
            float other = best_value[tid + s];
            uint other_id = best_id[tid + s];
            if (other > best_value[tid] || (other == best_value[tid] && other_id < best_id[tid])) {
                best_value[tid] = other;
                best_id[tid] = other_id;
            }
        }
        barrier();
    }
}

uvec2 workgroup_sum64(uvec2 x)
{
    barrier();
    part[tid] = x;
    barrier();
    for (uint s = FM_WORKGROUP / 2; s > 0; s >>= 1) {
        if (tid < s)
            part[tid] = fm_add64(part[tid], part[tid + s]);
        barrier();
    }
    return part[0];
}

// The greatest key x such that the keys >= max(x, low) weigh at least `target` (> 0): by count, or by mass.
uint select_key(uvec2 target, uint low, bool by_mass, float top)
{
    uint prefix = 0, mask = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        for (uint i = tid; i < 256; i += FM_WORKGROUP) {
            bin_low[i] = 0;
            bin_high[i] = 0;
        }
        barrier();
        for (uint i = tid; i < n_candidates; i += FM_WORKGROUP) {
            float l = candidate(i);
            uint key = key_of(l);
            if (key < low || (key & mask) != prefix)
                continue;
            uint digit = (key >> shift) & 255u;
            uint w = by_mass ? weight_of(l, top, 1.0) : 1u;
            uint old = atomicAdd(bin_low[digit], w);
            if (old + w < old)
                atomicAdd(bin_high[digit], 1u);
        }
        barrier();
        if (tid == 0) {
            uvec2 rest = target;
            uint digit = 255;
            for (;; digit--) {
                uvec2 bin = uvec2(bin_low[digit], bin_high[digit]);
                if (!fm_less64(bin, rest) || digit == 0)
                    break;
                rest = fm_sub64(rest, bin);
            }
            chosen_digit = digit;
            chosen_rest = rest;
        }
        barrier();
        target = chosen_rest;
        prefix |= chosen_digit << shift;
        mask |= 255u << shift;
        barrier();
    }
    return prefix;
}

uvec2 total_weight(uint low, float top)
{
    uvec2 sum = uvec2(0u);
    for (uint i = tid; i < n_candidates; i += FM_WORKGROUP) {
        float l = candidate(i);
        if (key_of(l) >= low)
            sum = fm_add64(sum, uvec2(weight_of(l, top, 1.0), 0u));
    }
    return workgroup_sum64(sum);
}

// Make the list of the ids that can be among the top_k: those at or above the k-th greatest of the invocations' maxima
// (list_logit, one each), which k ids reach. Leaves all ids as candidates when too many tie.
void make_list(uint top_k, float top)
{
    in_list = true;
    n_candidates = FM_WORKGROUP;
    uint least = select_key(uvec2(top_k, 0u), 0u, false, top);
    if (tid == 0)
        list_count = 0;
    barrier();
    for (uint i = tid; i < pc.vocab; i += FM_WORKGROUP) {
        float l = logit(i);
        if (key_of(l) >= least) {
            uint at = atomicAdd(list_count, 1u);
            if (at < LIST_MAX) {
                list_logit[at] = l;
                list_id[at] = i;
            }
        }
    }
    barrier();
    in_list = list_count <= LIST_MAX;
    n_candidates = in_list ? list_count : pc.vocab;
}

// Weight with temperature of a candidate that may have been filtered out.
uint final_weight(uint i, uint low, float top, float temp, float least)
{
    float l = candidate(i);
    if (key_of(l) < low || float(weight_of(l, top, 1.0)) < least)
        return 0u;
    return weight_of(l, top, temp);
}

// The first id in ascending order whose running weight exceeds W * u / 2^32. On the list: every invocation sums what
// comes before its entries.
void draw_from_list(uint low, float top, float temp, float least, uint u)
{
    uvec2 sum = uvec2(0u);
    for (uint i = tid; i < n_candidates; i += FM_WORKGROUP)
        sum = fm_add64(sum, uvec2(final_weight(i, low, top, temp, least), 0u));
    uvec2 x = fm_scale64(workgroup_sum64(sum), u);
    for (uint i = tid; i < n_candidates; i += FM_WORKGROUP) {
        uvec2 before = uvec2(0u);
        for (uint j = 0; j < n_candidates; j++)
            if (list_id[j] < list_id[i])
                before = fm_add64(before, uvec2(final_weight(j, low, top, temp, least), 0u));
        uvec2 after = fm_add64(before, uvec2(final_weight(i, low, top, temp, least), 0u));
        if (!fm_less64(x, before) && fm_less64(x, after))
            best_id[0] = list_id[i];
    }
    barrier();
}

// The same on all ids: every invocation sums a run of ids, one invocation walks the runs.
void draw(uint low, float top, float temp, float least, uint u)
{
    uint run = (pc.vocab + FM_WORKGROUP - 1) / FM_WORKGROUP;
    uint first = tid * run, end = min(first + run, pc.vocab);
    uvec2 sum = uvec2(0u);
    for (uint i = first; i < end; i++)
        sum = fm_add64(sum, uvec2(final_weight(i, low, top, temp, least), 0u));
    uvec2 total = workgroup_sum64(sum);
    barrier();
    part[tid] = sum;
    barrier();
    if (tid != 0)
        return;
    uvec2 x = fm_scale64(total, u), running = uvec2(0u);
    uint r = 0;
    for (; r + 1 < FM_WORKGROUP; r++) {
        uvec2 with = fm_add64(running, part[r]);
        if (fm_less64(x, with))
            break;
        running = with;
    }
    for (uint i = r * run; i < min((r + 1) * run, pc.vocab); i++) {
        running = fm_add64(running, uvec2(final_weight(i, low, top, temp, least), 0u));
        if (fm_less64(x, running)) {
            best_id[0] = i;
            return;
        }
    }
}

void main()
{
    uint o = gl_WorkGroupID.x;
    tid = gl_LocalInvocationID.x;
    if (o >= pc.step.d[FM_STEP_OUTPUTS])
        return;
    row_at = o * pc.n_vocab;
    n_candidates = pc.vocab;
    uint record = o * FM_SAMPLER_WORDS;
    uint t = pc.out_row.d[o];
    uint slot = pc.slot.d[t], pos = pc.pos.d[t];
    penalise(record, slot, pos);
    find_best();
    float top = best_value[0];
    float temp = uintBitsToFloat(pc.settings.d[record + FM_SAMPLER_TEMP]);
    bool numbers = (floatBitsToUint(top) & 0x7fffffffu) != 0x7f800000u;
    if (temp > 0.0 && numbers) {
        uint top_k = pc.settings.d[record + FM_SAMPLER_TOP_K];
        float top_p = uintBitsToFloat(pc.settings.d[record + FM_SAMPLER_TOP_P]);
        float min_p = uintBitsToFloat(pc.settings.d[record + FM_SAMPLER_MIN_P]);
        uint low = 0;
        if (top_k > 0 && top_k <= FM_WORKGROUP)
            make_list(top_k, top);
        if (top_k > 0 && top_k < pc.vocab)
            low = select_key(uvec2(top_k, 0u), 0u, false, top);
        if (top_p < 1.0) {
            uint share = top_p > 0.0 ? uint(top_p * 65536.0) << 16 | uint(fract(top_p * 65536.0) * 65536.0) : 0u;
            uvec2 target = fm_scale64(total_weight(low, top), share);
            if (target == uvec2(0u))
                target.x = 1u;
            low = max(low, select_key(target, low, true, top));
        }
        float least = min_p > 0.0 ? min_p * 8388608.0 : 0.0;
        uint u = fm_rng_draw(pc.settings.d[record + FM_SAMPLER_SEED_LO], pc.settings.d[record + FM_SAMPLER_SEED_HI], pos);
        if (in_list)
            draw_from_list(low, top, temp, least, u);
        else
            draw(low, top, temp, least, u);
    }
    if (tid == 0) {
        uint id = numbers ? best_id[0] : FM_TOKEN_NAN;
        pc.id.d[o] = id;
        pc.last.d[slot] = id;
    }
}
