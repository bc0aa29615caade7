/* elementwise.cu - embeddings, norms, residual additions, activations and conversions: one pass of memory each; and small tables that go up as
 * arguments. */
#include <cstring>

#include "executor/cuda/device.cuh"

/* A block takes a whole row, or where rows are independent of each other's columns RUN of them: decode has few rows. */
enum { ROW_THREADS = 128, RUN = 1024 };

/* One block a row: mean, then the variance about it, then the row again. */
__global__ void norm_kernel(const void *x, enum format x_format, int64_t d, const float *gain, const float *bias, float epsilon,
                            void *y, enum format y_format)
{
    const int64_t row = blockIdx.x * d;
    float sum = 0, squares = 0;
    for (int64_t i = threadIdx.x; i < d; i += ROW_THREADS)
        sum += load(x, row + i, x_format);
    const float mean = block_reduced<ROW_THREADS>(sum, plus()) / (float)d;
    for (int64_t i = threadIdx.x; i < d; i += ROW_THREADS) {
        const float off = load(x, row + i, x_format) - mean;
        squares += off * off;
    }
    const float factor = 1.0f / sqrtf(block_reduced<ROW_THREADS>(squares, plus()) / (float)d + epsilon);
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

/* -- kernels over runs of columns ------------------------------------------------------------------------------------- */

static dim3 runs_of(int64_t m, int64_t d)
{
    return dim3((unsigned)m, (unsigned)((d + RUN - 1) / RUN));
}

static __device__ __forceinline__ int64_t run_begin()
{
    return (int64_t)blockIdx.y * RUN + threadIdx.x;
}

static __device__ __forceinline__ int64_t run_end(int64_t d)
{
    const int64_t end = (int64_t)(blockIdx.y + 1) * RUN;
    return end < d ? end : d;
}

__global__ void add_kernel(void *h, enum format h_format, const void *x, enum format x_format, const float *bias, int64_t d)
{
    const int64_t row = blockIdx.x * d, end = run_end(d);
    for (int64_t i = run_begin(); i < end; i += ROW_THREADS)
        store(h, row + i, h_format, load(h, row + i, h_format) + (load(x, row + i, x_format) + (bias ? bias[i] : 0.0f)));
}

int gpu_add(gpu_stream s, void *h, enum format h_format, const void *x, enum format x_format, const float *bias, int64_t m,
            int64_t d)
{
    if (m * d == 0)
        return 0;
    return launch(add_kernel, runs_of(m, d), dim3(ROW_THREADS), s, h, h_format, x, x_format, bias, d);
}

struct embed_job {
    const char *vectors;
    int64_t stride;
    enum format format;
    int64_t row, tokens, first;
    const int32_t *pad;
    const float *positions;
    int64_t offset, d;
    void *h;
    enum format h_format;
};

__global__ void embed_kernel(struct embed_job e)
{
    const int64_t row = e.row + blockIdx.x, end = run_end(e.d), at = e.first + row % e.tokens - e.pad[row / e.tokens];
    const char *vector = e.vectors + blockIdx.x * e.stride;
    const float *position = e.positions + ((at < 0 ? -1 : at) + e.offset) * e.d;
    for (int64_t i = run_begin(); i < end; i += ROW_THREADS)
        store(e.h, blockIdx.x * e.d + i, e.h_format, load(vector, i, e.format) + position[i]);
}

int gpu_embed(gpu_stream s, const void *vectors, int64_t stride, enum format format, int64_t row, int64_t count, int64_t tokens,
              int64_t first, const int32_t *pad, const float *positions, int64_t offset, int64_t d, void *h, enum format h_format)
{
    const struct embed_job job =
        {static_cast<const char *>(vectors), stride, format, row, tokens, first, pad, positions, offset, d, h, h_format};
    if (count * d == 0)
        return 0;
    return launch(embed_kernel, runs_of(count, d), dim3(ROW_THREADS), s, job);
}

__global__ void bias_kernel(float *x, int64_t ld, const float *bias, int64_t d)
{
    const int64_t end = run_end(d);
    for (int64_t i = run_begin(); i < end; i += ROW_THREADS)
        x[blockIdx.x * ld + i] += bias[i];
}

int gpu_bias(gpu_stream s, float *x, int64_t ld, const float *bias, int64_t m, int64_t d)
{
    if (m * d == 0)
        return 0;
    return launch(bias_kernel, runs_of(m, d), dim3(ROW_THREADS), s, x, ld, bias, d);
}

static __device__ __forceinline__ float activated(enum activation activation, float x)
{
    if (activation == ACTIVATION_RELU)
        return x < 0 ? 0.0f : x;
    return 0.5f * x * erfcf(-0.70710678f * x);
}

__global__ void activate_kernel(void *x, enum format format, const float *bias, enum activation activation, int64_t d)
{
    const int64_t row = blockIdx.x * d, end = run_end(d);
    for (int64_t i = run_begin(); i < end; i += ROW_THREADS)
        store(x, row + i, format, activated(activation, load(x, row + i, format) + (bias ? bias[i] : 0.0f)));
}

int gpu_activate(gpu_stream s, void *x, enum format format, const float *bias, enum activation activation, int64_t m, int64_t d)
{
    if (m * d == 0)
        return 0;
    return launch(activate_kernel, runs_of(m, d), dim3(ROW_THREADS), s, x, format, bias, activation, d);
}

__global__ void convert_kernel(const void *x, enum format x_format, int64_t ldx, int64_t d, void *y, enum format y_format,
                               int64_t ldy)
{
    const int64_t end = run_end(d);
    for (int64_t i = run_begin(); i < end; i += ROW_THREADS)
        store(y, blockIdx.x * ldy + i, y_format, load(x, blockIdx.x * ldx + i, x_format));
}

int gpu_convert(gpu_stream s, const void *x, enum format x_format, int64_t ldx, int64_t m, int64_t d, void *y,
                enum format y_format, int64_t ldy)
{
    if (m * d == 0)
        return 0;
    return launch(convert_kernel, runs_of(m, d), dim3(ROW_THREADS), s, x, x_format, ldx, d, y, y_format, ldy);
}

/* As many values as go as arguments of a kernel, which have 4 KiB at most. */
template <class T> struct arguments {
    static constexpr int64_t MOST = 3840 / sizeof(T);
    T value[MOST];
};

/* start(number of the first, how many, they) for all of x (n), MOST at a time; the first failure. */
template <class T, class F> static int in_arguments(const T *x, int64_t n, F start)
{
    int failed = 0;
    for (int64_t at = 0; at < n && !failed; at += arguments<T>::MOST) {
        const int64_t count = n - at < arguments<T>::MOST ? n - at : arguments<T>::MOST;
        arguments<T> part;
        memcpy(part.value, x + at, (size_t)count * sizeof *x);
        failed = start(at, count, part);
    }
    return failed;
}

__global__ void put_kernel(int32_t *y, struct arguments<int32_t> x, int64_t n)
{
    for (int64_t i = threadIdx.x; i < n; i += ROW_THREADS)
        y[i] = x.value[i];
}

int gpu_put(gpu_stream s, int32_t *y, const int32_t *x, int64_t n)
{
    return in_arguments(x, n, [=](int64_t at, int64_t count, const arguments<int32_t> &part) {
        return launch(put_kernel, dim3(1), dim3(ROW_THREADS), s, y + at, part, count);
    });
}

__global__ void gather_kernel(uint16_t *y, struct arguments<const void *> x, int64_t n)
{
    const uint16_t *row = static_cast<const uint16_t *>(x.value[blockIdx.x]);
    const int64_t end = run_end(n);
    for (int64_t i = run_begin(); i < end; i += ROW_THREADS)
        y[blockIdx.x * n + i] = row[i];
}

int gpu_gather(gpu_stream s, void *y, const void *const *row, int64_t n, int64_t bytes)
{
    return in_arguments(row, n, [=](int64_t at, int64_t count, const arguments<const void *> &part) {
        uint16_t *to = static_cast<uint16_t *>(y) + at * bytes / 2;
        return launch(gather_kernel, runs_of(count, bytes / 2), dim3(ROW_THREADS), s, to, part, bytes / 2);
    });
}
