/* sparse.h - FlexGen's sparse attention (facts/architectures.md, section 3): every key is read and scored, and of the values those of the newest
 * token and of a fraction of the tokens before it, the best scored. */
#ifndef BALLAST_MODEL_SPARSE_H
#define BALLAST_MODEL_SPARSE_H

#include <stdint.h>

#include "model/device.h"

/* Of `visible` tokens the newest is always kept, and this many of those before it. */
ALSO_ON_DEVICE static inline int64_t sparse_kept(double fraction, int64_t visible)
{
    return (int64_t)(fraction * (double)(visible - 1));
}

/* How many tokens' keys and values are as much as what is read: sparse_kept before it is rounded down, less than half a token more, so that
 * of several steps the mean is that of the mean. All of them at fraction 1. */
ALSO_ON_DEVICE static inline double sparse_read(double fraction, double visible)
{
    return (visible + 1 + fraction * (visible - 1)) / 2;
}

#endif
