/* sparse.h - how many tokens FlexGen's sparse attention keeps. */
#ifndef BALLAST_EXECUTOR_SPARSE_H
#define BALLAST_EXECUTOR_SPARSE_H

#include <stdint.h>

#include "model/device.h"

/* Of `visible` tokens the newest is always kept, and this many of those before it. */
ALSO_ON_DEVICE static inline int64_t sparse_kept(double fraction, int64_t visible)
{
    return (int64_t)(fraction * (double)(visible - 1));
}

#endif
