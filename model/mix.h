/* mix.h - SplitMix64 (Steele, Lea and Flood 2014): the one source of seeded numbers, as a hash of a place or as a stream.
 *
 *     mix_hash(seed ^ place)             the same whatever was drawn before
 *     mix64(state += MIX_STEP)           the next of a stream whose state is its seed
 */
#ifndef BALLAST_MODEL_MIX_H
#define BALLAST_MODEL_MIX_H

#include <stdint.h>

#include "model/device.h"

#define MIX_STEP UINT64_C(0x9e3779b97f4a7c15)

/* The finaliser: a permutation that mixes every bit into every other. Inline, since random weights take one for four elements. */
ALSO_ON_DEVICE static inline uint64_t mix64(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

ALSO_ON_DEVICE static inline uint64_t mix_hash(uint64_t x)
{
    return mix64(x + MIX_STEP);
}

#endif
