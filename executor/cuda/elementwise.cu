/* elementwise.cu - norms and residual additions: one pass of memory each. */
#include "executor/cuda/device.cuh"

enum { ROW_THREADS = 128 };

/* The sum over a block of ROW_THREADS, in every thread. */
static __device__ float block_sum(float x)
{
    SHARED(float, part, ROW_THREADS / 32);
    x = warp_sum(x);
    __syncthreads(); /* the last sum has been read */
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = x;
    __syncthreads();
    float sum = 0;
    for (int i = 0; i < ROW_THREADS / 32; i++)
        sum += part[i];
    return sum;
}

/* One block a row: mean, then the variance about it, then the row again. */
__global__ void norm_kernel(const void *x, enum format x_format, int64_t d, const float *gain, const float *bias, float epsilon,
                            void *y, enum format y_format)
{
    const int64_t row = blockIdx.x * d;
    float sum = 0, squares = 0;
    for (int64_t i = threadIdx.x; i < d; i += ROW_THREADS)
        sum += load(x, row + i, x_format);
    const float mean = block_sum(sum) / (float)d;
    for (int64_t i = threadIdx.x; i < d; i += ROW_THREADS) {
        const float off = load(x, row + i, x_format) - mean;
        squares += off * off;
    }
    const float factor = 1.0f / sqrtf(block_sum(squares) / (float)d + epsilon);
    for (int64_t i = threadIdx.x; i < d; i += ROW_THREADS)
        store(y, row + i, y_format,
              (load(x, row + i, x_format) - mean) * factor * (gain ? gain[i] : 1.0f) + (bias ? bias[i] : 0.0f));
}

int gpu_norm(gpu_stream s, const void *x, enum format x_format, int64_t m, int64_t d, const float *gain, const float *bias,
             float epsilon, void *y, enum format y_format)
{
    if (m == 0)
        return 0;
    return launch(norm_kernel, dim3((unsigned)m), dim3(ROW_THREADS), s, x, x_format, d, gain, bias, epsilon, y, y_format);
}

__global__ void add_kernel(void *h, enum format h_format, const void *x, enum format x_format, const float *bias, int64_t d)
{
    const int64_t row = blockIdx.x * d;
    for (int64_t i = threadIdx.x; i < d; i += ROW_THREADS)
        store(h, row + i, h_format, load(h, row + i, h_format) + (load(x, row + i, x_format) + (bias ? bias[i] : 0.0f)));
}

int gpu_add(gpu_stream s, void *h, enum format h_format, const void *x, enum format x_format, const float *bias, int64_t m,
            int64_t d)
{
    if (m == 0)
        return 0;
    return launch(add_kernel, dim3((unsigned)m), dim3(ROW_THREADS), s, h, h_format, x, x_format, bias, d);
}
