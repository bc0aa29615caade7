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
        const VEC scale = V(set1)(f16_at(groups + j / Q4_GROUP * 4)), min = V(set1)(f16_at(groups + j / Q4_GROUP * 4 + 2));
        for (; j % 2 == 0 && j + VEC_WIDTH <= end; j += VEC_WIDTH)
            V(store)(out + j - begin, V(fma)(V(load_nibbles)(vector, j), scale, min));
        for (; j < end; j++)
            out[j - begin] = load_nibbles_w1(vector, j) * f16_at(groups + j / Q4_GROUP * 4) + f16_at(groups + j / Q4_GROUP * 4 + 2);
    }
}

/* Elements [begin, begin + n) of a cached vector of `width`, then zeros up to `padded`. */
VEC_INLINE void V(expand)(enum format format, const char *vector, int64_t width, int64_t begin, int64_t n, int64_t padded, float *out)
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

VEC_INLINE float V(dot_padded)(const float *a, const float *b, int64_t padded)
{
    VEC even = V(set1)(0.0f), odd = even;
    int64_t j = 0;

    for (; j + 2 * VEC_WIDTH <= padded; j += 2 * VEC_WIDTH) {
        even = V(fma)(V(load)(a + j), V(load)(b + j), even);
        odd = V(fma)(V(load)(a + j + VEC_WIDTH), V(load)(b + j + VEC_WIDTH), odd);
    }
    if (j < padded)
        even = V(fma)(V(load)(a + j), V(load)(b + j), even);
    return V(sum)(V(add)(even, odd));
}

/* y = y * f + x * g */
VEC_INLINE void V(blend)(float *y, float f, const float *x, float g, int64_t padded)
{
    for (int64_t j = 0; j < padded; j += VEC_WIDTH)
        V(store)(y + j, V(fma)(V(load)(x + j), V(set1)(g), V(mul)(V(load)(y + j), V(set1)(f))));
}

VEC_INLINE void V(add_scaled)(float *y, const float *x, float g, int64_t padded)
{
    for (int64_t j = 0; j < padded; j += VEC_WIDTH)
        V(store)(y + j, V(fma)(V(load)(x + j), V(set1)(g), V(load)(y + j)));
}

VEC_INLINE void V(scale_by)(float *y, float f, int64_t padded)
{
    for (int64_t j = 0; j < padded; j += VEC_WIDTH)
        V(store)(y + j, V(mul)(V(load)(y + j), V(set1)(f)));
}

/* -- decode: one query per sequence; all heads of a token while its vector streams by -------------------------------------- */
VEC_INLINE void V(score_token)(const struct job *a, enum format format, const char *key, int64_t t, const struct decode *d)
{
    const int64_t group = a->shape->heads / a->shape->kv_heads, e = a->shape->head_dim, padded = a->padded;

    for (int64_t g = 0; g < a->shape->kv_heads; g++) {
        prefetch_slice(format, key + a->cache->token_stride, g * e, e);
        V(expand)(format, key, a->width, g * e, e, padded, d->slice);
        for (int64_t h = g * group; h < (g + 1) * group; h++)
            d->score[h * DECODE_TILE + t] = V(dot_padded)(d->q + h * padded, d->slice, padded);
    }
}

VEC_INLINE void V(add_token)(const struct job *a, enum format format, const char *value, int64_t t, const struct decode *d,
                             const struct state *s)
{
    const int64_t group = a->shape->heads / a->shape->kv_heads, e = a->shape->head_dim, padded = a->padded;

    for (int64_t g = 0; g < a->shape->kv_heads; g++) {
        prefetch_slice(format, value + a->cache->token_stride, g * e, e);
        V(expand)(format, value, a->width, g * e, e, padded, d->slice);
        for (int64_t h = g * group; h < (g + 1) * group; h++)
            V(add_scaled)(s->acc + h * padded, d->slice, d->score[h * DECODE_TILE + t], padded);
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
    const int64_t heads = a->shape->heads, stride = a->cache->token_stride;

    for (int64_t t0 = from; t0 < to; t0 += DECODE_TILE) {
        const int64_t n = to - t0 < DECODE_TILE ? to - t0 : DECODE_TILE;
        const char *key = base + t0 * stride;
        for (int64_t t = 0; t < n; t++)
            V(score_token)(a, format, key + t * stride, t, d);
        for (int64_t h = 0; h < heads; h++) {
            for (int64_t t = n; t < DECODE_TILE; t++)
                d->score[h * DECODE_TILE + t] = -INFINITY;
            V(soften_tile)(d->score + h * DECODE_TILE, s->max + h, s->sum + h, s->acc + h * a->padded, a->padded);
        }
        for (int64_t t = 0; t < n; t++)
            V(add_token)(a, format, key + t * stride + a->cache->value_offset, t, d, s);
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

/* c[i][n] = c[i][n] * factor[i] + sum_k a[i*ai + k*ak] * b[k*ldb + n] for 4 rows and COLUMNS vectors; no factor: c starts from 0. */
VEC_INLINE void V(product_block)(const float *a, int64_t ai, int64_t ak, const float *b, int64_t ldb, int64_t depth, const float *factor,
                                 float *c, int64_t ldc, int columns)
{
    VEC acc[4][4];

    UNROLL for (int i = 0; i < 4; i++)
        UNROLL for (int n = 0; n < columns; n++)
            acc[i][n] = factor ? V(mul)(V(load)(c + i * ldc + n * VEC_WIDTH), V(set1)(factor[i])) : V(set1)(0.0f);
    for (int64_t k = 0; k < depth; k++) {
        VEC row[4];
        UNROLL for (int n = 0; n < columns; n++)
            row[n] = V(load)(b + k * ldb + n * VEC_WIDTH);
        UNROLL for (int i = 0; i < 4; i++) {
            const VEC x = V(set1)(a[i * ai + k * ak]);
            UNROLL for (int n = 0; n < columns; n++)
                acc[i][n] = V(fma)(x, row[n], acc[i][n]);
        }
    }
    UNROLL for (int i = 0; i < 4; i++)
        UNROLL for (int n = 0; n < columns; n++)
            V(store)(c + i * ldc + n * VEC_WIDTH, acc[i][n]);
}

/* The same for `rows` (a multiple of 4) x `width` (a multiple of 16). */
VEC_FN static void V(product)(const float *a, int64_t ai, int64_t ak, const float *b, int64_t ldb, int64_t depth, const float *factor,
                              float *c, int64_t ldc, int64_t rows, int64_t width)
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

/* Scores (keys, BLOCK rows) become weights, column by column; max and sum move on, `shrink` is what the past must be multiplied by. */
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

VEC_FN static void V(expand_block)(const struct job *a, const char *first, int64_t head, int64_t n, float *out)
{
    const int64_t e = a->shape->head_dim;

    for (int64_t j = 0; j < n; j++, first += a->cache->token_stride, out += a->padded)
        V(expand)(a->cache->format, first, a->width, head * e, e, a->padded, out);
}
