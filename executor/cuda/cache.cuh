/* cache.cuh - finding and reading what is in a cache. */
#ifndef BALLAST_EXECUTOR_CUDA_CACHE_CUH
#define BALLAST_EXECUTOR_CUDA_CACHE_CUH

#include "executor/cuda/device.cuh"

/* Where the scales of a 4-bit vector begin: behind an even number of packed bytes. */
static __device__ __forceinline__ int64_t group_at(int64_t width)
{
    return ((width + 1) / 2 + 1) / 2 * 2;
}

static __device__ __forceinline__ float cached(enum format format, const char *p, int64_t width, int64_t j)
{
    if (format != FORMAT_Q4)
        return load(p, j, format);
    const char *group = p + group_at(width) + j / Q4_GROUP * 4;
    return nibble(p, j) * load(group, 0, FORMAT_F16) + load(group, 1, FORMAT_F16);
}

/* Token t of a sequence. */
static __device__ __forceinline__ char *token_at(const struct gpu_cache &c, int64_t sequence, int64_t t)
{
    const int64_t row = c.page ? c.page[t / c.page_tokens] * c.page_tokens + t % c.page_tokens : t;
    return c.base + row * c.token_stride + sequence * c.sequence_stride;
}

/* A warp attends with a team of eight lanes a token, four tokens at a time: three shuffles give four scores. Lane `part` of a team holds
 * elements part, part + 8, ... of the head: N of them at most, for which kernels are made with head_dim rounded up. */
enum { TEAM = 8 };

/* q (e) times elements begin.. of the vector at key, in every lane of the team; all lanes of a warp call it, e = 0 without a token. */
static __device__ __forceinline__ float team_score(enum format format, const char *key, int64_t width, int64_t begin,
                                                   const float *q, int e)
{
    float score = 0;
    for (int j = threadIdx.x % TEAM; j < e; j += TEAM)
        score += q[j] * cached(format, key, width, begin + j);
    for (int with = 1; with < TEAM; with *= 2)
        score += __shfl_xor_sync(0xffffffffu, score, with);
    return score;
}

#endif
