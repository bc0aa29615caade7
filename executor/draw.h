/* draw.h - the arithmetic of a draw, the same bits on every processor: CPU and GPU choose the same token.
 *
 * A weight exp((l - max) / temperature) is an integer, a multiple of 2^-43 (the best token has 2^43): sums of integers do not depend on
 * their order, and neither exp() nor the fusing of products into sums comes into it. A token less than 2^-43 times as probable as the
 * best is never drawn. Sums stay below 2^63 for vocabularies below DRAW_VOCAB_MAX.
 */
#ifndef BALLAST_EXECUTOR_DRAW_H
#define BALLAST_EXECUTOR_DRAW_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "model/device.h"
#include "model/mix.h"

#define DRAW_BITS      43
#define DRAW_VOCAB_MAX (1 << 20)

/* Floats as unsigned numbers in the same order, all above 0. Both zeros are one, and NaN is minus infinity. */
ALSO_ON_DEVICE static inline uint32_t float_order(float logit)
{
    uint32_t bits;
    logit = logit != logit ? -INFINITY : logit + 0.0f; /* -0 becomes +0 */
    memcpy(&bits, &logit, sizeof bits);
    const uint32_t negative = 0u - (bits >> 31); /* all bits or none: a branch would be mispredicted half the time */
    return bits ^ (negative | 0x80000000u);
}

/* Its inverse. */
static inline float float_of_order(uint32_t order)
{
    const uint32_t bits = order & 0x80000000u ? order ^ 0x80000000u : ~order;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The weight of a logit, to one part in 2^27; max is finite, temperature above 0. */
ALSO_ON_DEVICE static inline uint64_t draw_weight(float logit, float max, double temperature)
{
    const double halvings = ((double)max - logit) / temperature * 1.4426950408889634; /* 1 / ln 2 */
    if (!(halvings < DRAW_BITS + 1))                                                  /* too small, or a NaN */
        return 0;
    /* In units of 2^-32, 2^-(whole + part) by the series of exp(-t), t = part * ln 2: 1/0! - t (1/1! - t (1/2! - ...)); the first term left out
     * is below 2^-35 */
    const uint64_t one = UINT64_C(1) << 32, fixed = (uint64_t)(halvings * 0x1p32), t = (fixed & (one - 1)) * 0xb17217f7 >> 32;
    uint64_t power = one / 39916800;
#define DRAW_TERM(factorial) power = one / factorial - (t * power >> 32)
    DRAW_TERM(3628800);
    DRAW_TERM(362880);
    DRAW_TERM(40320);
    DRAW_TERM(5040);
    DRAW_TERM(720);
    DRAW_TERM(120);
    DRAW_TERM(24);
    DRAW_TERM(6);
    DRAW_TERM(2);
    DRAW_TERM(1);
    DRAW_TERM(1);
#undef DRAW_TERM
    return power << (DRAW_BITS - 32) >> (fixed >> 32);
}

/* The weight that top-p wants to reach, of `total` > 0: at least 1, at most all. */
ALSO_ON_DEVICE static inline uint64_t draw_enough(double top_p, uint64_t total)
{
    const uint64_t enough = (uint64_t)ceil(top_p * (double)total);
    return enough > total ? total : enough;
}

/* Where in [0, total) the draw falls: a hash of the place, not a stream, so that no order of work can change it. */
ALSO_ON_DEVICE static inline uint64_t draw_target(uint64_t seed, int64_t sequence, int64_t position, uint64_t total)
{
    const uint64_t u = mix_hash(mix_hash(mix_hash(seed) ^ (uint64_t)sequence) ^ (uint64_t)position);
    return (uint64_t)((unsigned __int128)u * total >> 64);
}

#endif
