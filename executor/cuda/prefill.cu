/* prefill.cu - attention of a prompt on the tensor cores: streaming softmax, fp16 operands, f32 sums, no score matrix.
 *
 * A block has ROWS queries of one head and goes through the keys KEYS at a time; a warp has 16 of the queries. Its scores come out of
 * multiply_add just as its weights must go into the next one, so that they never leave the registers. Keys lie in shared memory as pairs of
 * elements of a token, values as pairs of tokens of an element, which is how b wants either; rows are padded so that the lanes of a
 * warp read different banks.
 */
#include "executor/cuda/cache.cuh"

enum { WARPS = 8, ROWS = 16 * WARPS, KEYS = 32, PREFILL_THREADS = 32 * WARPS };
enum { VALUE_WORDS = KEYS / 2 + 4 }; /* of an element */

struct prefill_job {
    struct gpu_heads h;
    struct gpu_cache c;
    int64_t first, tokens, ld;
    const int32_t *pad;
    const float *q;
    float *out;
    bool by_eight; /* elements of the cache can be loaded */
};

static __device__ __forceinline__ unsigned pair_of(unsigned short low, unsigned short high)
{
    return low | (unsigned)high << 16;
}

static __device__ __forceinline__ unsigned short half_of(float x)
{
    return __half_as_ushort(__float2half_rn(x));
}

/* Element j of the cached vector at p, as fp16; 0 behind the head's end or without a token. */
static __device__ __forceinline__ unsigned short cached_half(enum format format, const char *p, int width, int begin, int j,
                                                             int e)
{
    if (!p || j >= e)
        return 0;
    return format == FORMAT_F16 ? reinterpret_cast<const unsigned short *>(p)[begin + j]
                                : half_of(cached(format, p, width, begin + j));
}

/* Keys and values of tokens t0 .. t0 + KEYS - 1 that are before `end`. E is e rounded up. */
template <int E>
static __device__ void load_tile(const struct gpu_cache &c, int64_t sequence, int64_t t0, int64_t end, int width, int begin,
                                 int e, unsigned *keys, unsigned *values)
{
    for (int i = threadIdx.x; i < KEYS * E / 2; i += PREFILL_THREADS) {
        const int t = i / (E / 2), j = i % (E / 2) * 2;
        const char *key = t0 + t < end ? token_at(c, sequence, (int)t0 + t) : nullptr;
        keys[t * (E / 2 + 4) + j / 2] =
            pair_of(cached_half(c.format, key, width, begin, j, e), cached_half(c.format, key, width, begin, j + 1, e));
    }
    for (int i = threadIdx.x; i < KEYS * E / 2; i += PREFILL_THREADS) { /* a warp: 8 elements of 4 pairs of tokens */
        const int j = i % 8 + i / 32 % (E / 8) * 8, t = (i / 8 % 4 + i / (4 * E) * 4) * 2;
        const char *value[2];
        for (int k = 0; k < 2; k++)
            value[k] = t0 + t + k < end ? token_at(c, sequence, (int)t0 + t + k) + c.value_offset : nullptr;
        values[j * VALUE_WORDS + t / 2] =
            pair_of(cached_half(c.format, value[0], width, begin, j, e), cached_half(c.format, value[1], width, begin, j, e));
    }
}

/* As load_tile, of an F16 cache that is laid out for loads of eight elements. Unrolled, the widest would spill. */
template <int E>
static __device__ void load_tile_by_eight(const struct gpu_cache &c, int64_t sequence, int64_t t0, int64_t end, int begin, int e,
                                          unsigned *keys, unsigned *values)
{
#pragma unroll 1
    for (int i = threadIdx.x; i < KEYS * E / 8; i += PREFILL_THREADS) {
        const int t = i / (E / 8), j = i % (E / 8) * 8;
        words<4> eight = {};
        if (t0 + t < end && j < e)
            load_words(&eight, token_at(c, sequence, (int)t0 + t) + (begin + j) * 2);
        *reinterpret_cast<struct words<4> *>(&keys[t * (E / 2 + 4) + j / 2]) = eight;
    }
#pragma unroll 1
    for (int i = threadIdx.x; i < KEYS * E / 16; i += PREFILL_THREADS) { /* a warp: 16 elements of 16 pairs of tokens */
        const int j = i / (KEYS / 2) * 8, pair = i % (KEYS / 2);
        words<4> eight[2] = {};
        for (int k = 0; k < 2; k++)
            if (t0 + 2 * pair + k < end && j < e)
                load_words(&eight[k], token_at(c, sequence, (int)t0 + 2 * pair + k) + c.value_offset + (begin + j) * 2);
#pragma unroll
        for (int k = 0; k < 8; k++)
            values[(j + k) * VALUE_WORDS + pair] =
                pair_of((unsigned short)(eight[0].x[k / 2] >> k % 2 * 16), (unsigned short)(eight[1].x[k / 2] >> k % 2 * 16));
    }
}

/* What a lane holds of its warp's 16 queries: rows g and g + 8 of the fragments (device.cuh). */
template <int E> struct lane_state {
    unsigned q[E / 8][2]; /* times scale / ln 2, so that weights are powers of two */
    float o[E / 8][4], m[2], l[2];
};

/* Takes the tile of tokens from t0 on into a warp's state; row r sees tokens from `from` up to last[r]. */
template <int E>
static __device__ __forceinline__ void take_in_tile(struct lane_state<E> &w, const unsigned *keys, const unsigned *values,
                                                    int64_t t0, const int64_t *last)
{
    const int g = threadIdx.x % 32 / 4, c = threadIdx.x % 4;
    float s[KEYS / 8][4] = {}, keep[2];
    unsigned p[KEYS / 8][2];
#pragma unroll
    for (int k = 0; k < E / 8; k += 2)
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++) {
            const unsigned *key = &keys[(8 * n + g) * (E / 2 + 4) + 4 * k + c];
            multiply_add(s[n], {w.q[k][0], w.q[k][1], w.q[k + 1][0], w.q[k + 1][1]}, {key[0], key[4]});
        }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float most = w.m[r], sum = 0;
        for (int n = 0; n < KEYS / 8; n++)
            for (int i = 2 * r; i < 2 * r + 2; i++) {
                if (t0 + 8 * n + 2 * c + i % 2 > last[r])
                    s[n][i] = -INFINITY;
                most = fmaxf(most, s[n][i]);
            }
        for (int with = 1; with < 4; with *= 2)
            most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, with));
        keep[r] = w.m[r] == most ? 1.0f : exp2f(w.m[r] - most);
        for (int n = 0; n < KEYS / 8; n++) {
            for (int i = 2 * r; i < 2 * r + 2; i++)
                sum += s[n][i] = s[n][i] == -INFINITY ? 0.0f : exp2f(s[n][i] - most);
            p[n][r] = pair_of(half_of(s[n][2 * r]), half_of(s[n][2 * r + 1]));
        }
        w.m[r] = most;
        w.l[r] = w.l[r] * keep[r] + sum;
    }
#pragma unroll
    for (int d = 0; d < E / 8; d++) {
        for (int i = 0; i < 4; i++)
            w.o[d][i] *= keep[i / 2];
#pragma unroll
        for (int n = 0; n < KEYS / 8; n += 2) {
            const unsigned *value = &values[(8 * d + g) * VALUE_WORDS + 4 * n + c];
            multiply_add(w.o[d], {p[n][0], p[n][1], p[n + 1][0], p[n + 1][1]}, {value[0], value[4]});
        }
    }
}

template <int E> __global__ void __launch_bounds__(PREFILL_THREADS) prefill_kernel(struct prefill_job a)
{
    SHARED(struct words<4>, key_words, KEYS * (E / 8 + 1));
    SHARED(unsigned, values, E *VALUE_WORDS);
    unsigned *const keys = key_words[0].x;
    const int e = a.h.head_dim, head = blockIdx.y, g = threadIdx.x % 32 / 4, c = threadIdx.x % 4;
    const int width = a.h.kv_heads * e, begin = head / (a.h.heads / a.h.kv_heads) * e;
    const int64_t sequence = blockIdx.z;
    const int64_t block_query = (int64_t)blockIdx.x * ROWS, query = block_query + threadIdx.x / 32 * 16; /* the warp's first */
    const int64_t block_end = block_query + ROWS < a.tokens ? block_query + ROWS : a.tokens;
    const int64_t warp_end = query + 16 < a.tokens ? query + 16 : a.tokens;
    const int64_t last[2] = {a.first + query + g, a.first + query + g + 8};
    lane_state<E> w = {};
    w.m[0] = w.m[1] = -INFINITY;

#pragma unroll
    for (int k = 0; k < E / 8; k++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const int64_t row = query + g + 8 * r;
            const float *q = a.q + (sequence * a.tokens + row) * a.ld + head * e;
            const int j = 8 * k + 2 * c;
            const float factor = a.h.scale * 1.44269504f;
            if (row < a.tokens)
                w.q[k][r] = pair_of(half_of(j < e ? q[j] * factor : 0.0f), half_of(j + 1 < e ? q[j + 1] * factor : 0.0f));
        }
    for (int64_t t0 = a.pad[sequence]; t0 < a.first + block_end; t0 += KEYS) {
        __syncthreads(); /* the last tile has been read */
        if (a.by_eight)
            load_tile_by_eight<E>(a.c, sequence, t0, a.first + block_end, begin, e, keys, values);
        else
            load_tile<E>(a.c, sequence, t0, a.first + block_end, width, begin, e, keys, values);
        __syncthreads();
        if (query < warp_end && t0 < a.first + warp_end)
            take_in_tile<E>(w, keys, values, t0, last);
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int64_t row = query + g + 8 * r;
        float *out = a.out + (sequence * a.tokens + row) * a.ld + head * e, l = w.l[r];
        for (int with = 1; with < 4; with *= 2)
            l += __shfl_xor_sync(0xffffffffu, l, with);
#pragma unroll
        for (int d = 0; d < E / 8; d++)
#pragma unroll
            for (int i = 0; i < 2; i++)
                if (row < a.tokens && 8 * d + 2 * c + i < e)
                    out[8 * d + 2 * c + i] = l > 0 ? w.o[d][2 * r + i] / l : 0.0f;
    }
}

int gpu_prefill_attention(gpu_stream s, const struct gpu_heads *h, const struct gpu_cache *c, int64_t sequences, int64_t first,
                          int64_t tokens, const int32_t *pad, const float *q, int64_t ld, float *out)
{
    const bool by_eight = c->format == FORMAT_F16 && lane_fits<dense_lane<FORMAT_F16, 8>>(*h, *c);
    const struct prefill_job job = {*h, *c, first, tokens, ld, pad, q, out, by_eight};
    const dim3 grid((unsigned)((tokens + ROWS - 1) / ROWS), (unsigned)h->heads, (unsigned)sequences);
    if (h->head_dim > GPU_HEAD_DIM_MAX)
        return cudaErrorInvalidValue;
    if (sequences * tokens == 0)
        return 0;
    const auto kernel = h->head_dim <= 64 ? prefill_kernel<64> : h->head_dim <= 128 ? prefill_kernel<128> : prefill_kernel<256>;
    return launch(kernel, grid, dim3(PREFILL_THREADS), s, job);
}
