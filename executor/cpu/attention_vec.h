/* attention_vec.h - template: attention for one VEC_WIDTH. Included by attention.c alone, which defines the structures.
 *
 * Head vectors in scratch are padded with zeros to `padded` floats, a multiple of every VEC_WIDTH, so no loop has a rest.
 */
#include "executor/cpu/vec.h"

/* -- reading the cache --------------------------------------------------------------------------------------------------- */
VEC_INLINE void V(expand_q4)(const char *vector, int64_t width, int64_t begin, int64_t n, float *out)
{
    const char *groups = vector + ((width + 1) / 2 + 1) / 2 * 2;

    for (int64_t j = begin; j < begin + n;) {
        const int64_t next = (j / Q4_GROUP + 1) * Q4_GROUP, end = next < begin + n ? next : begin + n;
        const VEC scale = V(set1_f16)(groups + j / Q4_GROUP * 4), min = V(set1_f16)(groups + j / Q4_GROUP * 4 + 2);
        for (; j % 2 == 0 && j + VEC_WIDTH <= end; j += VEC_WIDTH)
            V(store)(out + j - begin, V(fma)(V(load_nibbles)(vector, j), scale, min));
        for (; j < end; j++)
            out[j - begin] =
                load_nibbles_w1(vector, j) * f16_load(groups, j / Q4_GROUP * 2) + f16_load(groups, j / Q4_GROUP * 2 + 1);
    }
}

/* Elements [begin, begin + n) of a cached vector of `width`, then zeros up to `padded`. */
VEC_INLINE void V(expand)(enum format format, const char *vector, int64_t width, int64_t begin, int64_t n, int64_t padded,
                          float *out)
{
    int64_t j = 0;

    if (format == FORMAT_Q4) {
        V(expand_q4)(vector, width, begin, n, out);
        j = n;
    } else if (format == FORMAT_F16) {
        for (; j + VEC_WIDTH <= n; j += VEC_WIDTH)
            V(store)(out + j, V(load_f16)(vector + 2 * (begin + j)));
        for (; j < n; j++)
            out[j] = f16_load(vector, begin + j);
    } else {
        memcpy(out, vector + 4 * begin, (size_t)n * sizeof *out);
        j = n;
    }
    for (; j < padded; j++)
        out[j] = 0.0f;
}

/* y = y * f + x * g */
VEC_INLINE void V(blend)(float *y, float f, const float *x, float g, int64_t padded)
{
    for (int64_t j = 0; j < padded; j += VEC_WIDTH)
        V(store)(y + j, V(fma)(V(load)(x + j), V(set1)(g), V(mul)(V(load)(y + j), V(set1)(f))));
}

VEC_INLINE void V(scale_by)(float *y, float f, int64_t padded)
{
    for (int64_t j = 0; j < padded; j += VEC_WIDTH)
        V(store)(y + j, V(mul)(V(load)(y + j), V(set1)(f)));
}

/* -- decode: one query per sequence; all heads of TOGETHER tokens while their vectors stream by ------------------------------ */
/* Elements from j (a multiple of VEC_WIDTH, and of the head's padding) on, straight from the cache. */
VEC_INLINE VEC V(cached)(enum format format, const struct source *s, int64_t j)
{
    if (format == FORMAT_F16)
        return V(load_f16)(s->vector + 2 * j);
    if (format == FORMAT_Q4)
        return V(fma)(V(load_nibbles)(s->vector, j), V(set1)(s->group[j / Q4_GROUP * 2]),
                      V(set1)(s->group[j / Q4_GROUP * 2 + 1]));
    return V(load)((const float *)(const void *)(s->vector + 4 * j));
}

/* score[t] = q . element begin.. of token t */
VEC_INLINE void V(score_head)(enum format format, const struct source *token, int64_t begin, const float *q, int64_t padded,
                              float *score)
{
    VEC sum[TOGETHER];

    UNROLL
    for (int t = 0; t < TOGETHER; t++)
        sum[t] = V(set1)(0.0f);
    for (int64_t j = 0; j < padded; j += VEC_WIDTH) {
        const VEC x = V(load)(q + j);
        UNROLL
        for (int t = 0; t < TOGETHER; t++)
            sum[t] = V(fma)(V(cached)(format, token + t, begin + j), x, sum[t]);
    }
    UNROLL
    for (int t = 0; t < TOGETHER; t++)
        score[t] = V(sum)(sum[t]);
}

/* acc += sum_t weight[t] * element begin.. of token t */
VEC_INLINE void V(add_head)(enum format format, const struct source *token, int64_t begin, const float *weight, int64_t padded,
                            float *acc)
{
    VEC w[TOGETHER];

    UNROLL
    for (int t = 0; t < TOGETHER; t++)
        w[t] = V(set1)(weight[t]);
    for (int64_t j = 0; j < padded; j += VEC_WIDTH) {
        VEC sum = V(load)(acc + j);
        UNROLL
        for (int t = 0; t < TOGETHER; t++)
            sum = V(fma)(V(cached)(format, token + t, begin + j), w[t], sum);
        V(store)(acc + j, sum);
    }
}

/* Widens the scales and minima of a Q4 vector. */
VEC_INLINE void V(widen_groups)(const char *vector, int64_t width, float *out)
{
    const char *groups = vector + ((width + 1) / 2 + 1) / 2 * 2;
    const int64_t n = 2 * ((width + Q4_GROUP - 1) / Q4_GROUP);
    int64_t i = 0;

    for (; i + VEC_WIDTH <= n; i += VEC_WIDTH)
        V(store)(out + i, V(load_f16)(groups + 2 * i));
    for (; i < n; i++)
        out[i] = f16_load(groups, i);
}

/* The vectors of tokens at, at + 1, ...; behind the n-th the n-th again, whose results nobody uses. */
VEC_INLINE void V(open_tokens)(const struct job *a, enum format format, const char *base, int64_t at, int64_t n,
                               const struct decode *d, struct source *token)
{
    for (int64_t t = 0; t < TOGETHER; t++) {
        const int64_t row = cache_row(a->cache, at + (t < n ? t : n - 1));
        token[t] = (struct source){base + row * a->cache->token_stride, d->group + t * group_floats(a->shape)};
        if (format == FORMAT_Q4)
            V(widen_groups)(token[t].vector, a->width, d->group + t * group_floats(a->shape));
    }
}

/* The part of one key head widened into the scratch, for when several heads share it or its length is not a multiple of 16. */
VEC_INLINE void V(widen_tokens)(const struct job *a, enum format format, const struct source *token, int64_t kv_head,
                                const struct decode *d, struct source *wide)
{
    const int64_t e = a->shape->head_dim;

    for (int64_t t = 0; t < TOGETHER; t++) {
        float *slice = d->slice + t * a->padded;
        V(expand)(format, token[t].vector, a->width, kv_head * e, e, a->padded, slice);
        wide[t] = (struct source){(const char *)slice, NULL};
    }
}

VEC_INLINE void V(prefetch_next)(const struct job *a, enum format format, const struct source *token, int64_t kv_head)
{
    const int64_t e = a->shape->head_dim;

    for (int64_t t = 0; t < TOGETHER; t++)
        prefetch_slice(format, token[t].vector + TOGETHER * a->cache->token_stride, kv_head * e, e);
}

/* Tokens t..t+TOGETHER-1 of the tile, the cache's tokens from `at` on with keys (or, to add, values) from `base` on; n of them exist. */
VEC_INLINE void V(visit_tokens)(const struct job *a, enum format format, const char *base, int64_t at, int64_t n, int64_t t,
                                bool add, const struct decode *d, const struct state *s)
{
    const int64_t group = a->shape->heads / a->shape->kv_heads, e = a->shape->head_dim, padded = a->padded;
    struct source token[TOGETHER], wide[TOGETHER];

    V(open_tokens)(a, format, base, at, n, d, token);
    for (int64_t g = 0; g < a->shape->kv_heads; g++) {
        const bool direct = group == 1 && e == padded;
        V(prefetch_next)(a, format, token, g);
        if (!direct)
            V(widen_tokens)(a, format, token, g, d, wide);
        for (int64_t h = g * group; h < (g + 1) * group; h++) {
            float *score = d->score + h * DECODE_TILE + t;
            if (add && direct)
                V(add_head)(format, token, g * e, score, padded, s->acc + h * padded);
            else if (add)
                V(add_head)(FORMAT_F32, wide, 0, score, padded, s->acc + h * padded);
            else if (direct)
                V(score_head)(format, token, g * e, d->q + h * padded, padded, score);
            else
                V(score_head)(FORMAT_F32, wide, 0, d->q + h * padded, padded, score);
        }
    }
}

/* Scores of one head over a tile become weights; the state moves to the new maximum. DECODE_TILE is a multiple of VEC_WIDTH and
 * the tile is filled up with -infinity. */
VEC_INLINE void V(soften_tile)(float *score, float *max, float *sum, float *acc, int64_t padded)
{
    VEC most = V(set1)(*max), total = V(set1)(0.0f);

    for (int64_t t = 0; t < DECODE_TILE; t += VEC_WIDTH)
        most = V(max)(most, V(load)(score + t));
    const float new_max = V(largest)(most);
    for (int64_t t = 0; t < DECODE_TILE; t += VEC_WIDTH) {
        const VEC p = V(exp)(V(sub)(V(load)(score + t), V(set1)(new_max)));
        V(store)(score + t, p);
        total = V(add)(total, p);
    }
    const float shrink = expf(*max - new_max);
    *sum = *sum * shrink + V(sum)(total);
    *max = new_max;
    if (shrink != 1.0f)
        V(scale_by)(acc, shrink, padded);
}

VEC_INLINE void V(decode_chunk_of)(const struct job *a, enum format format, const char *base, int64_t from, int64_t to,
                                   const struct decode *d, const struct state *s)
{
    const int64_t heads = a->shape->heads;

    for (int64_t t0 = from; t0 < to; t0 += DECODE_TILE) {
        const int64_t n = to - t0 < DECODE_TILE ? to - t0 : DECODE_TILE;
        for (int64_t t = 0; t < n; t += TOGETHER)
            V(visit_tokens)(a, format, base, t0 + t, n - t, t, false, d, s);
        for (int64_t h = 0; h < heads; h++) {
            for (int64_t t = n; t < DECODE_TILE; t++)
                d->score[h * DECODE_TILE + t] = -INFINITY;
            V(soften_tile)(d->score + h * DECODE_TILE, s->max + h, s->sum + h, s->acc + h * a->padded, a->padded);
        }
        for (int64_t t = 0; t < n; t += TOGETHER)
            V(visit_tokens)(a, format, base + a->cache->value_offset, t0 + t, n - t, t, true, d, s);
    }
}

/* Tokens [from, to) of the sequence at `base` into an empty state. */
VEC_FN static void V(decode_chunk)(const struct job *a, const char *base, int64_t from, int64_t to, const struct decode *d,
                                   const struct state *s)
{
    if (a->cache->format == FORMAT_F16)
        V(decode_chunk_of)(a, FORMAT_F16, base, from, to, d, s);
    else if (a->cache->format == FORMAT_Q4)
        V(decode_chunk_of)(a, FORMAT_Q4, base, from, to, d, s);
    else
        V(decode_chunk_of)(a, FORMAT_F32, base, from, to, d, s);
}

VEC_INLINE void V(score_chunk_of)(const struct job *a, enum format format, const char *base, int64_t from, int64_t to,
                                  const struct decode *d, float *score, int64_t ld)
{
    for (int64_t t0 = from; t0 < to; t0 += DECODE_TILE) {
        const int64_t n = to - t0 < DECODE_TILE ? to - t0 : DECODE_TILE;
        for (int64_t t = 0; t < n; t += TOGETHER)
            V(visit_tokens)(a, format, base, t0 + t, n - t, t, false, d, NULL);
        for (int64_t h = 0; h < a->shape->heads; h++)
            memcpy(score + h * ld + t0 - from, d->score + h * DECODE_TILE, (size_t)n * sizeof *score);
    }
}

/* Scores of tokens [from, to) of the sequence at `base`, without a softmax: score (heads, ld). */
VEC_FN static void V(score_chunk)(const struct job *a, const char *base, int64_t from, int64_t to, const struct decode *d,
                                  float *score, int64_t ld)
{
    if (a->cache->format == FORMAT_F16)
        V(score_chunk_of)(a, FORMAT_F16, base, from, to, d, score, ld);
    else if (a->cache->format == FORMAT_Q4)
        V(score_chunk_of)(a, FORMAT_Q4, base, from, to, d, score, ld);
    else
        V(score_chunk_of)(a, FORMAT_F32, base, from, to, d, score, ld);
}

/* sum of exp(score - max) over n scores, which -infinity fills up to a multiple of 16. */
VEC_FN static float V(sum_of_exp)(const float *score, int64_t n, float *max)
{
    VEC most = V(set1)(-INFINITY), total = V(set1)(0.0f);

    for (int64_t t = 0; t < n; t += VEC_WIDTH)
        most = V(max)(most, V(load)(score + t));
    *max = V(largest)(most);
    for (int64_t t = 0; t < n; t += VEC_WIDTH)
        total = V(add)(total, V(exp)(V(sub)(V(load)(score + t), V(set1)(*max))));
    return V(sum)(total);
}

VEC_INLINE int64_t V(count_from)(const float *score, int64_t n, float least)
{
    int64_t count = 0;

    for (int64_t i = 0; i < n; i += VEC_WIDTH)
        count += __builtin_popcount(V(at_least)(score + i, least));
    return count;
}

/* The largest number that at least `keep` > 0 of n scores reach, or a smaller one that exactly keep do; *ties: how many of those equal to it are
 * to be kept. Bisection over all floats in their order. */
VEC_INLINE float V(least_kept)(const float *score, int64_t n, int64_t keep, float max, int64_t *ties)
{
    uint32_t low = float_order(-FLT_MAX), high = float_order(max) + 1; /* reached by keep at least, by fewer */
    int64_t above = 0;

    while (high - low > 1) {
        const uint32_t middle = low + (high - low) / 2;
        const int64_t count = V(count_from)(score, n, float_of_order(middle));
        if (count >= keep)
            low = middle;
        else
            high = middle, above = count;
        if (count == keep)
            break;
    }
    *ties = keep - above;
    return float_of_order(low);
}

/* Of n scores, a row that can be written up to a multiple of 16, those that sparse attention keeps, in the order of tokens: their places, and in
 * place of the scores their weights, not yet divided by the sum of all. Returns how many. */
VEC_FN static int64_t V(choose_values)(const struct job *a, float *score, int64_t n, float max, int32_t *place)
{
    const int64_t keep = sparse_kept(a->fraction, n), filled = (n + 15) / 16 * 16;
    const float newest = score[n - 1];
    int64_t kept = 0, ties;

    score[n - 1] = -INFINITY; /* is kept in any case */
    if (keep > 0) {
        const float least = V(least_kept)(score, filled, keep, max, &ties);
        for (int64_t i = 0; i < n; i += VEC_WIDTH)
            for (uint32_t lanes = V(at_least)(score + i, least); lanes != 0; lanes &= lanes - 1) {
                const int64_t at = i + __builtin_ctz(lanes);
                if (score[at] > least || ties-- > 0) {
                    place[kept] = (int32_t)at;
                    score[kept++] = score[at];
                }
            }
    }
    place[kept] = (int32_t)(n - 1);
    score[kept++] = newest;
    for (int64_t i = kept; i < (kept + 15) / 16 * 16; i++)
        score[i] = -INFINITY;
    for (int64_t i = 0; i < kept; i += VEC_WIDTH)
        V(store)(score + i, V(exp)(V(sub)(V(load)(score + i), V(set1)(max))));
    return kept;
}

/* acc += sum_t weight[t] * the key head's part of the value of token[t], for TOGETHER of them; values from `base` on. */
VEC_INLINE void V(add_values_of)(const struct job *a, enum format format, const char *base, const int32_t *token,
                                 const float *weight, int64_t kv_head, const struct decode *d, float *acc)
{
    struct source value[TOGETHER], wide[TOGETHER];

    for (int64_t t = 0; t < TOGETHER; t++)
        value[t] = (struct source){base + cache_row(a->cache, token[t]) * a->cache->token_stride, NULL};
    if (format != FORMAT_Q4 && a->shape->head_dim == a->padded) {
        V(add_head)(format, value, kv_head * a->padded, weight, a->padded, acc);
    } else {
        V(widen_tokens)(a, format, value, kv_head, d, wide);
        V(add_head)(FORMAT_F32, wide, 0, weight, a->padded, acc);
    }
}

VEC_FN static void V(add_values)(const struct job *a, const char *base, const int32_t *token, const float *weight,
                                 int64_t kv_head, const struct decode *d, float *acc)
{
    if (a->cache->format == FORMAT_F16)
        V(add_values_of)(a, FORMAT_F16, base, token, weight, kv_head, d, acc);
    else if (a->cache->format == FORMAT_Q4)
        V(add_values_of)(a, FORMAT_Q4, base, token, weight, kv_head, d, acc);
    else
        V(add_values_of)(a, FORMAT_F32, base, token, weight, kv_head, d, acc);
}

/* s takes in the later state b. */
VEC_FN static void V(merge)(const struct job *a, const struct state *s, const struct state *b)
{
    for (int64_t h = 0; h < a->shape->heads; h++) {
        const float most = s->max[h] > b->max[h] ? s->max[h] : b->max[h];
        const float f = expf(s->max[h] - most), g = expf(b->max[h] - most);
        V(blend)(s->acc + h * a->padded, f, b->acc + h * a->padded, g, a->padded);
        s->sum[h] = s->sum[h] * f + b->sum[h] * g;
        s->max[h] = most;
    }
}

/* -- prefill: blocks of BLOCK rows (queries x the heads that share a key head) against blocks of BLOCK keys ----------------- */
#undef COLUMNS
#define COLUMNS (VEC_WIDTH == 16 ? 4 : 2) /* vectors of the product's register block, 4 rows high */

/* c[i][n] = c[i][n] * factor[i] + sum_k a[i*ai + k*ak] * b[k*ldb + n] for 4 rows and COLUMNS vectors; no factor: c starts from
 * 0. */
VEC_INLINE void V(product_block)(const float *a, int64_t ai, int64_t ak, const float *b, int64_t ldb, int64_t depth,
                                 const float *factor, float *c, int64_t ldc, int columns)
{
    VEC acc[4][4];

    UNROLL
    for (int i = 0; i < 4; i++) {
        UNROLL
        for (int n = 0; n < columns; n++)
            acc[i][n] = factor ? V(mul)(V(load)(c + i * ldc + n * VEC_WIDTH), V(set1)(factor[i])) : V(set1)(0.0f);
    }
    for (int64_t k = 0; k < depth; k++) {
        VEC row[4];
        UNROLL
        for (int n = 0; n < columns; n++)
            row[n] = V(load)(b + k * ldb + n * VEC_WIDTH);
        UNROLL
        for (int i = 0; i < 4; i++) {
            const VEC x = V(set1)(a[i * ai + k * ak]);
            UNROLL
            for (int n = 0; n < columns; n++)
                acc[i][n] = V(fma)(x, row[n], acc[i][n]);
        }
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        UNROLL
        for (int n = 0; n < columns; n++)
            V(store)(c + i * ldc + n * VEC_WIDTH, acc[i][n]);
    }
}

/* The same for `rows` (a multiple of 4) x `width` (a multiple of 16). */
VEC_FN static void V(product)(const float *a, int64_t ai, int64_t ak, const float *b, int64_t ldb, int64_t depth,
                              const float *factor, float *c, int64_t ldc, int64_t rows, int64_t width)
{
    for (int64_t i = 0; i < rows; i += 4) {
        const float *f = factor ? factor + i : NULL;
        int64_t n = 0;
        for (; n + COLUMNS * VEC_WIDTH <= width; n += COLUMNS * VEC_WIDTH)
            V(product_block)(a + i * ai, ai, ak, b + n, ldb, depth, f, c + i * ldc + n, ldc, COLUMNS);
        for (; n < width; n += VEC_WIDTH)
            V(product_block)(a + i * ai, ai, ak, b + n, ldb, depth, f, c + i * ldc + n, ldc, 1);
    }
}

/* Scores (keys, BLOCK rows) become weights, column by column; max and sum move on, `shrink` is what the past must be multiplied
 * by. */
VEC_FN static void V(soften_block)(float *score, int64_t keys, float *max, float *sum, float *shrink)
{
    for (int64_t r = 0; r < BLOCK; r += VEC_WIDTH) {
        const VEC old = V(load)(max + r);
        VEC most = old, total = V(set1)(0.0f);
        for (int64_t j = 0; j < keys; j++)
            most = V(max)(most, V(load)(score + j * BLOCK + r));
        for (int64_t j = 0; j < keys; j++) {
            const VEC p = V(exp)(V(sub)(V(load)(score + j * BLOCK + r), most));
            V(store)(score + j * BLOCK + r, p);
            total = V(add)(total, p);
        }
        const VEC f = V(exp)(V(sub)(old, most));
        V(store)(shrink + r, f);
        V(store)(sum + r, V(fma)(V(load)(sum + r), f, total));
        V(store)(max + r, most);
    }
}

VEC_FN static void V(expand_block)(const struct job *a, const char *base, int64_t key, int64_t head, int64_t n, float *out)
{
    const int64_t e = a->shape->head_dim;

    for (int64_t j = 0; j < n; j++, out += a->padded)
        V(expand)
    (a->cache->format, base + cache_row(a->cache, key + j) * a->cache->token_stride, a->width, head * e, e, a->padded, out);
}
