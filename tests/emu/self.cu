/* self.cu - kernels that are right or wrong on purpose, to test the emulation itself. */
#include "executor/cuda/device.cuh"

enum { N = 64 };

/* y reversed through shared memory; without the barrier some thread reads what is not there yet. */
__global__ void reverse_kernel(const float *x, float *y, int barrier)
{
    SHARED(float, tile, N);
    tile[threadIdx.x] = x[threadIdx.x];
    if (barrier)
        __syncthreads();
    y[threadIdx.x] = tile[N - 1 - threadIdx.x];
}

/* y[lane] of a warp: the sum of x, from a shuffle; and which x are positive, from a ballot. */
__global__ void warp_kernel(const float *x, float *sum, unsigned *positive)
{
    const float v = x[threadIdx.x];
    sum[threadIdx.x] = warp_reduced(v, plus());
    positive[threadIdx.x] = __ballot_sync(0xffffffffu, v > 0);
}

extern "C" int self_reverse(gpu_stream s, const float *x, float *y, int barrier)
{
    return launch(reverse_kernel, dim3(1), dim3(N), s, x, y, barrier);
}

extern "C" int self_warp(gpu_stream s, const float *x, float *sum, unsigned *positive)
{
    return launch(warp_kernel, dim3(1), dim3(N), s, x, sum, positive);
}
