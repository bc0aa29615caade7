/* sample.cu - greedy sampling: the first of equal maxima, as executor/sample.c has it. */
#include "executor/cuda/device.cuh"

enum { SAMPLE_THREADS = 128 };

struct best {
    float value;
    int32_t at; /* -1: nothing is larger than minus infinity */
};

static __device__ struct best better(struct best a, struct best b)
{
    const bool second = b.at >= 0 && (a.at < 0 || b.value > a.value || (b.value == a.value && b.at < a.at));
    return second ? b : a;
}

/* One block a row. Threads walk upwards, so that each keeps its first maximum; no comparison with NaN is true. */
__global__ void greedy_kernel(const float *logits, int64_t vocab, int32_t *token)
{
    SHARED(struct best, found, SAMPLE_THREADS);
    const float *row = logits + blockIdx.x * vocab;
    struct best mine = {-INFINITY, -1};
    for (int64_t i = threadIdx.x; i < vocab; i += SAMPLE_THREADS)
        if (row[i] > mine.value)
            mine = {row[i], (int32_t)i};
    found[threadIdx.x] = mine;
    for (int by = SAMPLE_THREADS / 2; by > 0; by /= 2) {
        __syncthreads();
        if ((int)threadIdx.x < by)
            found[threadIdx.x] = better(found[threadIdx.x], found[threadIdx.x + by]);
    }
    if (threadIdx.x == 0)
        token[blockIdx.x] = found[0].at < 0 ? 0 : found[0].at;
}

int gpu_greedy(gpu_stream s, const float *logits, int64_t rows, int64_t vocab, int32_t *token)
{
    if (rows == 0)
        return 0;
    return launch(greedy_kernel, dim3((unsigned)rows), dim3(SAMPLE_THREADS), s, logits, vocab, token);
}
