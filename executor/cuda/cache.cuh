/* cache.cuh - finding and reading what is in a cache. */
#ifndef BALLAST_EXECUTOR_CUDA_CACHE_CUH
#define BALLAST_EXECUTOR_CUDA_CACHE_CUH

#include "executor/cuda/device.cuh"

/* Where the scales of a 4-bit vector begin: behind an even number of packed bytes. */
static __device__ __forceinline__ unsigned group_at(unsigned width)
{
    return ((width + 1) / 2 + 1) / 2 * 2;
}

/* Element j of the vector of `width` at p: F32, F16 or Q4. */
static __device__ __forceinline__ float cached(enum format format, const char *p, unsigned width, unsigned j)
{
    if (format == FORMAT_F32)
        return load(p, j, FORMAT_F32);
    if (format == FORMAT_F16)
        return load(p, j, FORMAT_F16);
    const char *group = p + group_at(width) + j / Q4_GROUP * 4;
    return nibble(p, j) * load(group, 0, FORMAT_F16) + load(group, 1, FORMAT_F16);
}

/* Tokens t, t + step, ... of a sequence, COUNT of them; from `end` on the last one before it instead. Their pages are all asked for before one
 * is needed, and divided in 32 bits, which is quicker. */
template <int COUNT>
static __device__ __forceinline__ void tokens_at(const struct gpu_cache &c, int64_t sequence, int t, int step, int end,
                                                 char *(&at)[COUNT])
{
    const unsigned size = (unsigned)c.page_tokens;
    int64_t row[COUNT];
#pragma unroll
    for (int i = 0; i < COUNT; i++)
        row[i] = t + i * step < end ? t + i * step : end - 1;
    if (c.page) {
        int page[COUNT];
#pragma unroll
        for (int i = 0; i < COUNT; i++)
            page[i] = c.page[(unsigned)row[i] / size];
#pragma unroll
        for (int i = 0; i < COUNT; i++)
            row[i] = (int64_t)page[i] * size + (unsigned)row[i] % size;
    }
#pragma unroll
    for (int i = 0; i < COUNT; i++)
        at[i] = c.base + row[i] * c.token_stride + sequence * c.sequence_stride;
}

/* Token t of a sequence. */
static __device__ __forceinline__ char *token_at(const struct gpu_cache &c, int64_t sequence, int t)
{
    char *at[1];
    tokens_at(c, sequence, t, 0, t + 1, at);
    return at[0];
}

/* What of a vector a head has: elements begin .. begin + e of `width`. */
struct head_slice {
    enum format format;
    unsigned width, begin, e;
};

static __device__ __forceinline__ struct head_slice slice_of(const struct gpu_heads &h, const struct gpu_cache &c, int head)
{
    const unsigned e = h.head_dim;
    return {c.format, h.kv_heads * e, head / (h.heads / h.kv_heads) * e, e};
}

/* -- a lane's part of a head ------------------------------------------------------------------------------------------ *
 *
 * Decode attends with a team of eight lanes a token, four tokens a warp at a time: three shuffles give four scores. A lane holds N elements of
 * the head, for which kernels are made with head_dim rounded up to 64, 128 or 256, in runs of RUN neighbours: runs part, part + 8, ...
 * of lane `part`, so that what a team loads at a time is contiguous. A run is one load: 16 bytes of F32 and F16, and 4, 8 or 16 of 4-bit
 * codes. Where cache or heads are not laid out for that it is one element; the host decides, in lane_fits. Lanes behind the head's end read
 * its first run again, so that no load waits for a branch: their query is 0, and nobody writes their sum.
 *
 * A lane type is what one lane has read of one vector, as it was read, so that TURN tokens are on their way at a time. Element k is
 * scale() * unit(k) * raw(k) + offset(). Only 4-bit codes need more than raw(k): what does not depend on k is multiplied and added once a
 * token, what does not depend on the token once a query and once a result. */
enum { TEAM = 8 };

/* Where in the head the lane's element k is. */
template <int RUN> static __device__ __forceinline__ unsigned place_of(int k)
{
    return (k / RUN * TEAM + threadIdx.x % TEAM) * RUN + k % RUN;
}

/* Tokens a turn, where a lane reads so many bytes of each: 64 bytes of keys, from 1 to 4 tokens. */
static constexpr int turn_of(int bytes)
{
    return bytes <= 16 ? 4 : bytes <= 32 ? 2 : 1;
}

/* Blocks of 128 threads a multiprocessor has at least, which leaves 102 registers a thread or all 255: left alone nvcc aims at more blocks and
 * spills a register or two. */
template <class Lane> constexpr int BLOCKS = Lane::ELEMENTS == 8 ? 5 : 2;

template <int N> static __device__ __forceinline__ void load_words(struct words<N> *to, const char *from)
{
    *to = *reinterpret_cast<const struct words<N> *>(from);
}

static __device__ __forceinline__ float half_in(unsigned word, int i) /* 0 is the low one */
{
    return __half2float(__ushort_as_half((unsigned short)(word >> 16 * i)));
}

/* The raw elements are the elements. */
struct plain_elements {
    static __device__ __forceinline__ float unit(int)
    {
        return 1.0f;
    }
    static __device__ __forceinline__ float scale()
    {
        return 1.0f;
    }
    static __device__ __forceinline__ float offset()
    {
        return 0.0f;
    }
};

/* Of an F32 or F16 cache. */
template <enum format F, int N> struct dense_lane : plain_elements {
    static constexpr int BYTES = F == FORMAT_F32 ? 4 : 2, LOAD_BYTES = 16;
    static constexpr int ELEMENTS = N, RUN = LOAD_BYTES / BYTES, TURN = turn_of(N * BYTES);
    struct words<4> run[N / RUN];

    __device__ __forceinline__ void read(const struct head_slice &s, const char *vector)
    {
#pragma unroll
        for (int i = 0; i < N / RUN; i++) {
            const unsigned at = place_of<RUN>(i * RUN);
            load_words(&run[i], vector + (s.begin + (at < s.e ? at : 0)) * BYTES);
        }
    }
    __device__ __forceinline__ float raw(int k) const
    {
        const unsigned word = run[k / RUN].x[k % RUN * BYTES / 4];
        return F == FORMAT_F32 ? __uint_as_float(word) : half_in(word, k % 2);
    }
};

/* Of any cache: elements are loaded one by one, where they are used. */
template <int N> struct single_lane : plain_elements {
    static constexpr int ELEMENTS = N, RUN = 1, TURN = 1, LOAD_BYTES = 1;
    struct head_slice slice;
    const char *vector;

    __device__ __forceinline__ void read(const struct head_slice &s, const char *v)
    {
        slice = s;
        vector = v;
    }
    __device__ __forceinline__ float raw(int k) const
    {
        const unsigned at = place_of<1>(k);
        return at < slice.e ? cached(slice.format, vector, slice.width, slice.begin + at) : 0.0f;
    }
};

/* Of a 4-bit cache. A run never crosses a group: it divides 64, and begins at a multiple of itself. A code is taken where it is in its
 * word: masked and or-ed to 2^23, whose last bits as a float are ones, it is the float 2^23 + 16^i * code, i its digit; the first five of a
 * word and, shifted by 20 bits, the last three. Codes are counted from their middle, 8, so that sums of them do not grow beyond those
 * of the elements. */
template <int N> struct packed_lane {
    static constexpr int ELEMENTS = N, RUN = N, TURN = turn_of(N / 2 + 4), LOAD_BYTES = N / 2;
    struct words<N / 8> codes;
    struct words<1> group; /* scale, minimum */

    __device__ __forceinline__ void read(const struct head_slice &s, const char *vector)
    {
        const unsigned place = place_of<RUN>(0), at = s.begin + (place < s.e ? place : 0);
        load_words(&codes, vector + at / 2);
        load_words(&group, vector + group_at(s.width) + at / Q4_GROUP * 4);
    }
    static __device__ __forceinline__ int digit(int k)
    {
        return k % 8 < 5 ? k % 8 : k % 8 - 5;
    }
    static __device__ __forceinline__ float unit(int k)
    {
        return 1.0f / (float)(1 << 4 * digit(k));
    }
    __device__ __forceinline__ float raw(int k) const
    {
        const unsigned word = k % 8 < 5 ? codes.x[k / 8] : codes.x[k / 8] >> 20;
        const float two_23 = __uint_as_float(masked_or(word, 15u << 4 * digit(k), 0x4b000000)); /* and the code */
        return two_23 - (float)((1 << 23) + (8 << 4 * digit(k)));
    }
    __device__ __forceinline__ float scale() const
    {
        return half_in(group.x[0], 0);
    }
    __device__ __forceinline__ float offset() const
    {
        return half_in(group.x[0], 1) + 8 * scale();
    }
};

/* The lane's part of a query. */
template <class Lane> struct lane_query {
    float raw[Lane::ELEMENTS], sum; /* times their units; of the elements */

    /* Of the one at q (e). */
    __device__ __forceinline__ void read(const struct head_slice &s, const float *q)
    {
        sum = 0;
#pragma unroll
        for (int k = 0; k < Lane::ELEMENTS; k++) {
            const unsigned at = place_of<Lane::RUN>(k);
            const float x = at < s.e ? q[at] : 0.0f;
            raw[k] = x * Lane::unit(k);
            sum += x;
        }
    }
    /* The query times a key, in every lane of the team; all lanes of a warp call it. */
    __device__ __forceinline__ float team_score(const Lane &key) const
    {
        float score = 0;
#pragma unroll
        for (int k = 0; k < Lane::ELEMENTS; k++)
            score += raw[k] * key.raw(k);
        score = score * key.scale() + sum * key.offset();
        for (int with = 1; with < TEAM; with *= 2)
            score += __shfl_xor_sync(0xffffffffu, score, with);
        return score;
    }
};

/* The lane's part of a weighted sum of vectors. */
template <class Lane> struct lane_sum {
    float raw[Lane::ELEMENTS] = {}, offset = 0;

    __device__ __forceinline__ void shrink(float by)
    {
        offset *= by;
#pragma unroll
        for (int k = 0; k < Lane::ELEMENTS; k++)
            raw[k] *= by;
    }
    __device__ __forceinline__ void add(float weight, const Lane &vector)
    {
        const float scaled = weight * vector.scale();
        offset += weight * vector.offset();
#pragma unroll
        for (int k = 0; k < Lane::ELEMENTS; k++)
            raw[k] += scaled * vector.raw(k);
    }
    /* to (e), written by the lanes of a team together */
    __device__ __forceinline__ void write(const struct head_slice &s, float *to) const
    {
#pragma unroll
        for (int k = 0; k < Lane::ELEMENTS; k++)
            if (place_of<Lane::RUN>(k) < s.e)
                to[place_of<Lane::RUN>(k)] = raw[k] * Lane::unit(k) + offset;
    }
};

/* Whether heads and cache are laid out for the loads of Lane. */
template <class Lane> static bool lane_fits(const struct gpu_heads &h, const struct gpu_cache &c)
{
    const int64_t places = (int64_t) reinterpret_cast<uintptr_t>(c.base) | c.token_stride | c.sequence_stride | c.value_offset;
    return h.head_dim % Lane::RUN == 0 && places % Lane::LOAD_BYTES == 0;
}

template <int N, class F> static int with_lane_of(const struct gpu_heads &h, const struct gpu_cache &c, F f)
{
    if (c.format == FORMAT_F32 && lane_fits<dense_lane<FORMAT_F32, N>>(h, c))
        return f(dense_lane<FORMAT_F32, N>());
    if (c.format == FORMAT_F16 && lane_fits<dense_lane<FORMAT_F16, N>>(h, c))
        return f(dense_lane<FORMAT_F16, N>());
    if (c.format == FORMAT_Q4 && lane_fits<packed_lane<N>>(h, c))
        return f(packed_lane<N>());
    return f(single_lane<N>());
}

/* f(a lane of the type for such heads in such a cache); what it returns. */
template <class F> static int with_lane(const struct gpu_heads &h, const struct gpu_cache &c, F f)
{
    return h.head_dim <= 8 * TEAM    ? with_lane_of<8>(h, c, f)
           : h.head_dim <= 16 * TEAM ? with_lane_of<16>(h, c, f)
                                     : with_lane_of<GPU_HEAD_DIM_MAX / TEAM>(h, c, f);
}

#endif
