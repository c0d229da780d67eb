// SPDX-License-Identifier: MIT
// The random numbers of the sampler: one 32-bit number from (seed, position). Counter-based: nothing is carried from
// step to step, so that a token can be drawn again anywhere. Valid as C17 and as GLSL; u32 arithmetic only, wrapping.
//
// The mixer is the permutation of PCG-RXS-M-XS 32/32 (O'Neill, "PCG: A Family of Simple Fast Space-Efficient
// Statistically Good Algorithms for Random Number Generation", 2014), chained over the three words, as Jarzynski and
// Olano recommend for hashing on GPUs (JCGT 9(3), 2020).
#ifndef FM_RNG_H
#define FM_RNG_H

#ifdef __STDC_VERSION__
#include <stdint.h>
#define FM_RNG_FN static inline
#define FM_RNG_UINT uint32_t
#else
#define FM_RNG_FN
#define FM_RNG_UINT uint
#endif

FM_RNG_FN FM_RNG_UINT fm_rng_mix(FM_RNG_UINT x)
{
    FM_RNG_UINT state = x * 747796405u + 2891336453u;
    FM_RNG_UINT word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
    return (word >> 22u) ^ word;
}

// Uniform in [0, 2^32) for the token drawn after position `pos`.
FM_RNG_FN FM_RNG_UINT fm_rng_draw(FM_RNG_UINT seed_lo, FM_RNG_UINT seed_hi, FM_RNG_UINT pos)
{
    return fm_rng_mix(pos ^ fm_rng_mix(seed_hi ^ fm_rng_mix(seed_lo)));
}

#endif
