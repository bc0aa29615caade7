/* staging.h - plain memory of the host on its way to the device: through a pinned buffer, half by half, so that one half is filled while the
 * other one goes up. */
#ifndef BALLAST_EXECUTOR_CUDA_STAGING_H
#define BALLAST_EXECUTOR_CUDA_STAGING_H

#include "executor/cuda/check.cuh"

struct staging {
    char *buffer; /* (2, half_bytes) */
    int64_t half_bytes;
    cudaEvent_t gone[2]; /* what was in the half has gone up */
    int next;
};

/* `buffer` is pinned and borrowed; 2 bytes at least. */
enum status staging_open(struct staging *s, void *buffer, int64_t bytes, struct error *err);
void staging_close(struct staging *s); /* a zeroed struct is fine; its streams have come to their end */

/* Starts a copy of plain memory at src to the device: when it returns, the last two halves may still be on their way. Always on the same
 * stream. */
enum status staging_copy(struct staging *s, cudaStream_t stream, void *dst, const void *src, int64_t bytes, struct error *err);

#endif
