/* sparse.cu - FlexGen's sparse attention: all keys are read and scored, of the values only those that weigh most. */
#include "executor/cuda/cache.cuh"
#include "executor/cuda/select.cuh"
#include "executor/draw.h"
#include "model/sparse.h"

enum { SCORE_THREADS = 128, SCORE_TEAMS = SCORE_THREADS / TEAM, SUM_TEAMS = SELECT_THREADS / TEAM };

struct sparse_job {
    struct gpu_heads h;
    struct gpu_cache c;
    int64_t first, ld;
    double fraction;
    const int32_t *pad;
    const float *q;
    float *out, *scores; /* (sequences, heads, first + 1) */
    int splits;
};

/* How many tokens a sequence sees: those from its padding on. */
static __device__ __forceinline__ int visible_tokens(const struct sparse_job &a, int64_t sequence)
{
    const int64_t n = a.first + 1 - a.pad[sequence];
    return n > 0 ? (int)n : 0;
}

static __device__ __forceinline__ float *scores_of(const struct sparse_job &a, int64_t sequence, int head)
{
    return a.scores + (sequence * a.h.heads + head) * (a.first + 1);
}

/* The scores of a range of the visible tokens; one block a sequence, head and range. */
template <class Lane> __global__ void __launch_bounds__(SCORE_THREADS, BLOCKS<Lane>) score_kernel(struct sparse_job a)
{
    enum { TURN = Lane::TURN };
    const int head = blockIdx.y, team = threadIdx.x / TEAM;
    const int64_t sequence = blockIdx.x, n = visible_tokens(a, sequence);
    const int from = a.pad[sequence], low = (int)(n * blockIdx.z / a.splits), high = (int)(n * (blockIdx.z + 1) / a.splits);
    const struct head_slice slice = slice_of(a.h, a.c, head);
    float *score = scores_of(a, sequence, head);
    struct lane_query<Lane> q;

    q.read(slice, a.q + sequence * a.ld + head * a.h.head_dim);
    for (int i0 = low; i0 < high; i0 += TURN * SCORE_TEAMS) { /* the same turns for all: shuffles need every lane */
        Lane key[TURN];
        char *at[TURN];
        tokens_at(a.c, sequence, from + i0 + team, SCORE_TEAMS, from + high, at);
#pragma unroll
        for (int k = 0; k < TURN; k++)
            key[k].read(slice, at[k]);
#pragma unroll
        for (int k = 0; k < TURN; k++) {
            const int i = i0 + k * SCORE_TEAMS + team;
            const float mine = q.team_score(key[k]) * a.h.scale;
            if (threadIdx.x % TEAM == 0 && i < high)
                score[i] = mine;
        }
    }
}

/* Which of n tokens are kept: the newest, and of the others those above an edge, with the ones at it up to number `last`. */
struct kept_tokens {
    const float *score;
    uint32_t edge;
    int64_t last;
    int n;

    __device__ __forceinline__ uint32_t order_of(int64_t i) const
    {
        return float_order(score[i]);
    }
    __device__ __forceinline__ bool has(int i) const
    {
        return order_of(i) > edge || (order_of(i) == edge && i <= last) || i == n - 1;
    }
};

static __device__ struct kept_tokens choose_tokens(const float *score, int n, int64_t keep)
{
    struct kept_tokens kept = {score, 0xffffffffu, -1, n};
    if (keep > 0) {
        mass_t left;
        kept.edge = order_reaching(
            n - 1, [&](int64_t i) { return kept.order_of(i); }, [](int64_t) { return 1; }, (mass_t)keep, &left);
        kept.last = element_exceeding(
            n - 1, [&](int64_t i) -> mass_t { return kept.order_of(i) == kept.edge; }, left - 1);
    }
    return kept;
}

/* Adds the warp's share of the kept tokens' values. It looks at 32 tokens at a time, one a lane; its four teams then take the kept ones, the
 * next four at a time. */
template <class Lane>
static __device__ __forceinline__ void add_kept(const struct sparse_job &a, const struct head_slice &slice, int64_t sequence,
                                                const struct kept_tokens &kept, float most, float all, struct lane_sum<Lane> *o)
{
    const int from = a.pad[sequence], lane = threadIdx.x % 32;
    for (int i0 = threadIdx.x - lane; i0 < kept.n; i0 += SELECT_THREADS) {
        const bool mine = i0 + lane < kept.n && kept.has(i0 + lane);
        const float weight = mine ? expf(kept.score[i0 + lane] - most) / all : 0.0f;
        for (unsigned left = __ballot_sync(0xffffffffu, mine); left;) {
            int next = -1;
            for (int team = 0; team < 32 / TEAM; team++) {
                next = lane / TEAM == team ? __ffs((int)left) - 1 : next; /* -1: no token is left for the team */
                left &= left - 1;
            }
            const float its = __shfl_sync(0xffffffffu, weight, next & 31);
            Lane value;
            if (next < 0)
                continue;
            value.read(slice, token_at(a.c, sequence, from + i0 + next) + a.c.value_offset);
            o->add(its, value);
        }
    }
}

/* One block a sequence and head, once all scores are there. */
template <class Lane> __global__ void __launch_bounds__(SELECT_THREADS, 2) sum_kernel(struct sparse_job a)
{
    SHARED(float, part, SUM_TEAMS *Lane::ELEMENTS *TEAM);
    const int e = a.h.head_dim, head = blockIdx.y;
    const int64_t sequence = blockIdx.x;
    const int n = visible_tokens(a, sequence);
    const struct head_slice slice = slice_of(a.h, a.c, head);
    const float *score = scores_of(a, sequence, head);
    float most = -INFINITY, all = 0, *out = a.out + sequence * a.ld + head * e;
    struct lane_sum<Lane> o;

    for (int i = threadIdx.x; i < n; i += SELECT_THREADS)
        most = fmaxf(most, score[i]);
    most = block_reduced<SELECT_THREADS>(most, larger());
    for (int i = threadIdx.x; i < n; i += SELECT_THREADS)
        all += expf(score[i] - most);
    all = block_reduced<SELECT_THREADS>(all, plus());
    add_kept(a, slice, sequence, choose_tokens(score, n, n > 0 ? sparse_kept(a.fraction, n) : 0), most, all, &o);
    o.write(slice, part + threadIdx.x / TEAM * e);
    __syncthreads();
    for (int j = threadIdx.x; j < e; j += SELECT_THREADS) {
        float sum = 0;
        for (int t = 0; t < SUM_TEAMS; t++)
            sum += part[t * e + j];
        out[j] = sum;
    }
}

int64_t gpu_sparse_attention_scratch_bytes(const struct gpu_heads *h, int64_t sequences, int64_t first)
{
    return sequences * h->heads * (first + 1) * (int64_t)sizeof(float);
}

int gpu_sparse_attention(gpu_stream s, const struct gpu_heads *h, const struct gpu_cache *c, int64_t sequences, int64_t first,
                         double fraction, const int32_t *pad, const float *q, int64_t ld, float *out, int splits, float *scratch)
{
    const struct sparse_job job = {*h, *c, first, ld, fraction, pad, q, out, scratch, splits};
    const dim3 rows((unsigned)sequences, (unsigned)h->heads), parts(rows.x, rows.y, (unsigned)splits);
    if (h->head_dim > GPU_HEAD_DIM_MAX || splits < 1 || !(fraction >= 0 && fraction <= 1))
        return cudaErrorInvalidValue;
    if (sequences == 0)
        return 0;
    return with_lane(*h, *c, [&](auto lane) {
        const int failure = launch(score_kernel<decltype(lane)>, parts, dim3(SCORE_THREADS), s, job);
        return failure ? failure : launch(sum_kernel<decltype(lane)>, rows, dim3(SELECT_THREADS), s, job);
    });
}
