/* select.cuh - finding elements by the mass above them or before them: for a whole block of threads, which all get the answer. Masses are
 * integers, so that no order of summing changes anything. */
#ifndef BALLAST_EXECUTOR_CUDA_SELECT_CUH
#define BALLAST_EXECUTOR_CUDA_SELECT_CUH

#include "executor/cuda/device.cuh"

enum { SELECT_THREADS = 256 };

typedef unsigned long long mass_t; /* uint64_t by the name that shuffles and atomics know */

/* The mass of all n elements, mass_of(i) each. */
template <class Mass> static __device__ mass_t mass_of_all(int64_t n, Mass mass_of)
{
    mass_t sum = 0;
    for (int64_t i = threadIdx.x; i < n; i += SELECT_THREADS)
        sum += mass_of(i);
    return block_reduced<SELECT_THREADS>(sum, plus());
}

/* The largest order for which the elements from it on up have a mass of at least `enough`, byte by byte from the top; *left is what the
 * elements above it leave of enough. As order_reaching in executor/sample.c. */
template <class Order, class Mass>
static __device__ uint32_t order_reaching(int64_t n, Order order_of, Mass mass_of, mass_t enough, mass_t *left)
{
    SHARED(mass_t, sum, 256);
    uint32_t prefix = 0, mask = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        __syncthreads(); /* the last sums have been read */
        for (int i = threadIdx.x; i < 256; i += SELECT_THREADS)
            sum[i] = 0;
        __syncthreads();
        for (int64_t i = threadIdx.x; i < n; i += SELECT_THREADS) {
            const uint32_t order = order_of(i);
            if ((order & mask) == prefix)
                atomicAdd(&sum[order >> shift & 0xff], static_cast<mass_t>(mass_of(i)));
        }
        __syncthreads();
        uint32_t byte = 255;
        while (enough > sum[byte])
            enough -= sum[byte--];
        prefix |= byte << shift;
        mask |= 0xffu << shift;
    }
    *left = enough;
    return prefix;
}

/* The first element at which the running mass exceeds `target`, which is below the mass of all. Each warp has a stretch of elements; the one
 * where the target falls goes through its own again, 32 at a time. */
template <class Mass> static __device__ int64_t element_exceeding(int64_t n, Mass mass_of, mass_t target)
{
    enum { WARPS = SELECT_THREADS / 32 };
    SHARED(mass_t, part, WARPS);
    SHARED(int64_t, found, 1);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int64_t stretch = (n + WARPS - 1) / WARPS, begin = warp * stretch, end = begin + stretch < n ? begin + stretch : n;
    mass_t sum = 0;
    for (int64_t i = begin + lane; i < end; i += 32)
        sum += mass_of(i);
    sum = warp_reduced(sum, plus());
    if (lane == 0)
        part[warp] = sum; /* the last call's have been read before its last barrier, and its answer will be before the next one */
    __syncthreads();
    int owner = 0;
    while (target >= part[owner])
        target -= part[owner++];
    if (warp == owner) {
        int64_t i = begin + lane;
        mass_t mine = i < end ? mass_of(i) : 0, all;
        while ((all = warp_reduced(mine, plus())) <= target) {
            target -= all;
            i += 32;
            mine = i < end ? mass_of(i) : 0;
        }
        int k = 0;
        for (mass_t one; (one = __shfl_sync(0xffffffffu, mine, k)) <= target; k++)
            target -= one;
        if (lane == 0)
            found[0] = i + k;
    }
    __syncthreads();
    return found[0];
}

#endif
