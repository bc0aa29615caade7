/* attention.cu - storing keys and values, and attention over a cache of any format, split over the cache with the merge rule. */
#include "executor/cuda/cache.cuh"

enum { CACHE_THREADS = 128 };

/* -- storing ---------------------------------------------------------------------------------------------------------- */

static __device__ float as_finite(float x) /* as q4_pack_vector: NaN is 0, the rest what fp16 can say */
{
    return x != x ? 0.0f : fminf(fmaxf(x, -65504.0f), 65504.0f);
}

/* One warp a group of 64 elements, two neighbours a lane. */
static __device__ void pack_group(const void *x, enum format format, int64_t at, int64_t n, char *packed, char *head)
{
    const int lane = threadIdx.x % 32, i = 2 * lane;
    const float a = as_finite(i < n ? load(x, at + i, format) : load(x, at, format));
    const float b = as_finite(i + 1 < n ? load(x, at + i + 1, format) : load(x, at, format));
    float least = fminf(a, b), most = fmaxf(a, b);
    for (int with = 16; with > 0; with /= 2) {
        least = fminf(least, __shfl_xor_sync(0xffffffffu, least, with));
        most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, with));
    }
    const float scale = fminf((most - least) / 15.0f, 65504.0f);
    const float inverse = __half2float(__float2half_rn(scale)) > 0.0f ? 15.0f / (most - least) : 0.0f;
    if (lane == 0) {
        store(head, 0, FORMAT_F16, scale);
        store(head, 1, FORMAT_F16, least);
    }
    if (i < n) {
        const unsigned low = (unsigned)fminf(fmaf(a - least, inverse, 0.5f), 15.0f);
        const unsigned high = i + 1 < n ? (unsigned)fminf(fmaf(b - least, inverse, 0.5f), 15.0f) : 0;
        packed[lane] = (char)(low | high << 4);
    }
}

/* One block a token; blockIdx.y is 0 for keys and 1 for values. */
__global__ void cache_store_kernel(struct gpu_cache c, int64_t first, int64_t tokens, int64_t width, const void *k, const void *v,
                                   enum format format, int64_t ld)
{
    const int64_t row = blockIdx.x, sequence = row / tokens, token = row % tokens;
    const void *x = blockIdx.y == 0 ? k : v;
    char *to = token_at(c, sequence, (int)(first + token)) + blockIdx.y * c.value_offset;
    if (c.format != FORMAT_Q4) {
        for (int64_t i = threadIdx.x; i < width; i += CACHE_THREADS)
            store(to, i, c.format, load(x, row * ld + i, format));
        return;
    }
    for (int64_t g = threadIdx.x / 32; g * Q4_GROUP < width; g += CACHE_THREADS / 32) {
        const int64_t left = width - g * Q4_GROUP;
        pack_group(x, format, row * ld + g * Q4_GROUP, left < Q4_GROUP ? left : Q4_GROUP, to + g * Q4_GROUP / 2,
                   to + group_at(width) + 4 * g);
    }
    if (threadIdx.x == 0 && (width + 1) / 2 % 2)
        to[(width + 1) / 2] = 0; /* the byte that makes the count even */
}

int gpu_cache_store(gpu_stream s, const struct gpu_cache *c, int64_t sequences, int64_t first, int64_t tokens, int64_t width,
                    const void *k, const void *v, enum format format, int64_t ld)
{
    if (sequences * tokens == 0)
        return 0;
    return launch(cache_store_kernel, dim3((unsigned)(sequences * tokens), 2), dim3(CACHE_THREADS), s, *c, first, tokens, width,
                  k, v, format, ld);
}

/* -- attending -------------------------------------------------------------------------------------------------------- */

enum { ATTEND_THREADS = 128, TEAMS = ATTEND_THREADS / TEAM };

struct attend_job {
    struct gpu_heads h;
    struct gpu_cache c;
    int64_t first, tokens, ld;
    const int32_t *pad;
    const float *q;
    float *out, *scratch; /* (queries, heads, splits, 2 + head_dim): m, l, o not yet divided */
    int splits;
};

/* Takes tokens of such scores and values into a running softmax. Where there is none the score is -infinity, the value any finite one. */
template <class Lane>
static __device__ __forceinline__ void take_in(const float (&score)[Lane::TURN], const Lane (&value)[Lane::TURN], float *m,
                                               float *l, struct lane_sum<Lane> *o)
{
    float most = *m;
#pragma unroll
    for (int i = 0; i < Lane::TURN; i++)
        most = fmaxf(most, score[i]);
    const float keep = *m == most ? 1.0f : expf(*m - most);
    *m = most;
    *l *= keep;
    o->shrink(keep);
#pragma unroll
    for (int i = 0; i < Lane::TURN; i++) {
        const float weight = score[i] == -INFINITY ? 0.0f : expf(score[i] - most);
        *l += weight;
        o->add(weight, value[i]);
    }
}

/* The merge rule over the teams of the block; every thread of element j < head_dim gets its sum. o (TEAMS, head_dim) is in shared
 * memory. */
static __device__ float merged(const float *m, const float *l, const float *o, int n, int64_t stride, float *most, float *total)
{
    float sum = 0;
    *most = -INFINITY;
    *total = 0;
    for (int i = 0; i < n; i++)
        *most = fmaxf(*most, m[i * stride]);
    for (int i = 0; i < n; i++) {
        const float weight = m[i * stride] == -INFINITY ? 0.0f : expf(m[i * stride] - *most);
        *total += weight * l[i * stride];
        sum += weight == 0.0f ? 0.0f : weight * o[i * stride];
    }
    return sum;
}

template <class Lane> __global__ void __launch_bounds__(ATTEND_THREADS, BLOCKS<Lane>) attend_kernel(struct attend_job a)
{
    enum { TURN = Lane::TURN };
    SHARED(float, parts, TEAMS *(2 + Lane::ELEMENTS * TEAM));
    const int e = a.h.head_dim, head = blockIdx.y, split = blockIdx.z, team = threadIdx.x / TEAM;
    const int64_t query = blockIdx.x, sequence = query / a.tokens;
    const int64_t from = a.pad[sequence], visible = a.first + query % a.tokens + 1 - from;
    const int low = visible > 0 ? (int)(from + visible * split / a.splits) : 0;
    const int high = visible > 0 ? (int)(from + visible * (split + 1) / a.splits) : 0;
    const struct head_slice slice = slice_of(a.h, a.c, head);
    struct lane_query<Lane> q;
    struct lane_sum<Lane> o;
    float m = -INFINITY, l = 0;

    q.read(slice, a.q + query * a.ld + head * e);
    for (int t0 = low; t0 < high; t0 += TURN * TEAMS) { /* the same turns for all: shuffles need every lane */
        Lane key[TURN], value[TURN];
        char *at[TURN];
        float score[TURN];
        tokens_at(a.c, sequence, t0 + team, TEAMS, high, at); /* where there is none, one without weight */
#pragma unroll
        for (int i = 0; i < TURN; i++)
            key[i].read(slice, at[i]);
#pragma unroll
        for (int i = 0; i < TURN; i++)
            value[i].read(slice, at[i] + a.c.value_offset);
#pragma unroll
        for (int i = 0; i < TURN; i++) {
            const float mine = q.team_score(key[i]) * a.h.scale;
            score[i] = t0 + i * TEAMS + team < high ? mine : -INFINITY;
        }
        take_in(score, value, &m, &l, &o);
    }
    float *mine = parts + team * (2 + e);
    if (threadIdx.x % TEAM == 0) {
        mine[0] = m;
        mine[1] = l;
    }
    o.write(slice, mine + 2);
    __syncthreads();
    float *to = a.scratch + ((query * a.h.heads + head) * a.splits + split) * (2 + e);
    for (int j = threadIdx.x; j < e; j += ATTEND_THREADS) {
        float most, total;
        const float sum = merged(parts, parts + 1, parts + 2 + j, TEAMS, 2 + e, &most, &total);
        if (a.splits == 1) {
            a.out[query * a.ld + head * e + j] = total > 0 ? sum / total : 0.0f;
            continue;
        }
        to[2 + j] = sum;
        if (j == 0) {
            to[0] = most;
            to[1] = total;
        }
    }
}

/* One block a query and head: the parts of its splits become one. */
__global__ void merge_kernel(struct attend_job a)
{
    const int e = a.h.head_dim, head = blockIdx.y;
    const int64_t query = blockIdx.x;
    const float *from = a.scratch + (query * a.h.heads + head) * a.splits * (2 + e);
    for (int j = threadIdx.x; j < e; j += ATTEND_THREADS) {
        float most, total;
        const float sum = merged(from, from + 1, from + 2 + j, a.splits, 2 + e, &most, &total);
        a.out[query * a.ld + head * e + j] = total > 0 ? sum / total : 0.0f;
    }
}

int64_t gpu_attention_scratch_bytes(const struct gpu_heads *h, int64_t sequences, int64_t tokens, int splits)
{
    return splits == 1 ? 0 : sequences * tokens * h->heads * splits * (2 + h->head_dim) * (int64_t)sizeof(float);
}

int gpu_attention_splits(const struct gpu_heads *h, int processors, int64_t queries, int64_t visible)
{
    const int64_t blocks = queries * h->heads, wanted = (4 * processors + blocks - 1) / blocks;
    const int64_t most = visible / 256 < wanted ? visible / 256 : wanted;
    return most > 1 ? (int)most : 1;
}

int gpu_attention(gpu_stream s, const struct gpu_heads *h, const struct gpu_cache *c, int64_t sequences, int64_t first,
                  int64_t tokens, const int32_t *pad, const float *q, int64_t ld, float *out, int splits, float *scratch)
{
    const struct attend_job job = {*h, *c, first, tokens, ld, pad, q, out, scratch, splits};
    const dim3 queries((unsigned)(sequences * tokens), (unsigned)h->heads), parts(queries.x, queries.y, (unsigned)splits);
    if (h->head_dim > GPU_HEAD_DIM_MAX || splits < 1)
        return cudaErrorInvalidValue;
    if (sequences * tokens == 0)
        return 0;
    const int failure =
        with_lane(*h, *c, [&](auto lane) { return launch(attend_kernel<decltype(lane)>, parts, dim3(ATTEND_THREADS), s, job); });
    return failure || splits == 1 ? failure : launch(merge_kernel, queries, dim3(ATTEND_THREADS), s, job);
}
