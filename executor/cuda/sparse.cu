/* sparse.cu - FlexGen's sparse attention: all keys are read and scored, of the values only those that weigh most. */
#include "executor/cuda/cache.cuh"
#include "executor/cuda/select.cuh"
#include "executor/draw.h"
#include "model/sparse.h"

enum { SPARSE_TEAMS = SELECT_THREADS / TEAM };

struct sparse_job {
    struct gpu_heads h;
    struct gpu_cache c;
    int64_t first, ld;
    double fraction;
    const int32_t *pad;
    const float *q;
    float *out, *scores; /* (sequences, heads, first + 1) */
};

/* Scores of n tokens from `from` on, and the largest of them. When it returns all threads have come through a barrier: the scores are there
 * and q, which may be out, has been read. */
static __device__ float score_all(const struct sparse_job &a, int64_t sequence, int head, int64_t from, int64_t n, float *score)
{
    const int e = a.h.head_dim, team = threadIdx.x / TEAM;
    const int64_t width = (int64_t)a.h.kv_heads * e, begin = (int64_t)(head / (a.h.heads / a.h.kv_heads)) * e;
    const float *q = a.q + sequence * a.ld + head * e;
    float most = -INFINITY;
    for (int64_t i0 = 0; i0 < n; i0 += SPARSE_TEAMS) { /* the same turns for all: shuffles need every lane */
        const int64_t i = i0 + team;
        const char *key = i < n ? token_at(a.c, sequence, from + i) : a.c.base;
        const float mine = team_score(a.c.format, key, width, begin, q, i < n ? e : 0) * a.h.scale;
        if (i < n) {
            most = fmaxf(most, mine);
            if (threadIdx.x % TEAM == 0)
                score[i] = mine;
        }
    }
    return block_reduced<SELECT_THREADS>(most, larger());
}

/* One block a sequence and head. */
template <int N> __global__ void sparse_kernel(struct sparse_job a)
{
    SHARED(float, part, SPARSE_TEAMS *N *TEAM);
    const int e = a.h.head_dim, head = blockIdx.y, team = threadIdx.x / TEAM, first = threadIdx.x % TEAM;
    const int64_t sequence = blockIdx.x, from = a.pad[sequence], n = a.first + 1 - from, width = (int64_t)a.h.kv_heads * e;
    const int64_t begin = (int64_t)(head / (a.h.heads / a.h.kv_heads)) * e, keep = n > 0 ? sparse_kept(a.fraction, n) : 0;
    float *score = a.scores + (sequence * a.h.heads + head) * (a.first + 1), *out = a.out + sequence * a.ld + head * e;
    const float most = score_all(a, sequence, head, from, n, score);
    float all = 0, o[N] = {0};

    for (int64_t i = threadIdx.x; i < n; i += SELECT_THREADS)
        all += expf(score[i] - most);
    all = block_reduced<SELECT_THREADS>(all, plus());

    const auto order_of = [=](int64_t i) { return float_order(score[i]); };
    uint32_t edge = 0xffffffffu; /* kept is what is above it, and of those at it the ones up to `last` */
    int64_t last = -1;
    if (keep > 0) {
        mass_t left;
        edge = order_reaching(
            n - 1, order_of, [](int64_t) { return 1; }, (mass_t)keep, &left);
        last = element_exceeding(
            n - 1, [=](int64_t i) -> mass_t { return order_of(i) == edge; }, left - 1);
    }
    for (int64_t i = team; i < n; i += SPARSE_TEAMS) {
        const uint32_t order = order_of(i);
        if (!(order > edge || (order == edge && i <= last) || i == n - 1))
            continue;
        const float weight = expf(score[i] - most) / all;
        const char *value = token_at(a.c, sequence, from + i) + a.c.value_offset;
        for (int k = 0; k < N; k++)
            if (first + k * TEAM < e)
                o[k] += weight * cached(a.c.format, value, width, begin + first + k * TEAM);
    }
    for (int k = 0; k < N; k++)
        if (first + k * TEAM < e)
            part[team * e + first + k * TEAM] = o[k];
    __syncthreads();
    for (int j = threadIdx.x; j < e; j += SELECT_THREADS) {
        float sum = 0;
        for (int t = 0; t < SPARSE_TEAMS; t++)
            sum += part[t * e + j];
        out[j] = sum;
    }
}

int64_t gpu_sparse_attention_scratch_bytes(const struct gpu_heads *h, int64_t sequences, int64_t first)
{
    return sequences * h->heads * (first + 1) * (int64_t)sizeof(float);
}

int gpu_sparse_attention(gpu_stream s, const struct gpu_heads *h, const struct gpu_cache *c, int64_t sequences, int64_t first,
                         double fraction, const int32_t *pad, const float *q, int64_t ld, float *out, float *scratch)
{
    const struct sparse_job job = {*h, *c, first, ld, fraction, pad, q, out, scratch};
    if (h->head_dim > GPU_HEAD_DIM_MAX || !(fraction >= 0 && fraction <= 1))
        return cudaErrorInvalidValue;
    if (sequences == 0)
        return 0;
    const auto kernel = h->head_dim <= 64    ? sparse_kernel<64 / TEAM>
                        : h->head_dim <= 128 ? sparse_kernel<128 / TEAM>
                                             : sparse_kernel<GPU_HEAD_DIM_MAX / TEAM>;
    return launch(kernel, dim3((unsigned)sequences, (unsigned)h->heads), dim3(SELECT_THREADS), s, job);
}
