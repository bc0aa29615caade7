/* reference.c - what the kernels compute, said as plainly as possible: one thread, one element at a time, sums in double. */
#include <math.h>
#include <stdlib.h>

#include "executor/cpu/half.h"
#include "executor/cpu/kernels.h"
#include "model/sparse.h"

static double nibble(const char *packed, int64_t i)
{
    return ((unsigned char)packed[i / 2] >> (i % 2 * 4)) & 15;
}

/* Row r (0 = the first of the piece), column c. A Q4 piece is blocks of Q4_GROUP rows, each: scales, minima, packed rows. */
static double weight(const struct weight_rows *w, int64_t r, int64_t c)
{
    const char *data = w->data;

    switch (w->format) {
    case FORMAT_F16:
        return f16_load(data, r * w->cols + c);
    case FORMAT_BF16:
        return bf16_load(data, r * w->cols + c);
    case FORMAT_Q4: {
        const char *block = data + r / Q4_GROUP * format_matrix_bytes(FORMAT_Q4, Q4_GROUP, w->cols);
        const char *row = block + 4 * w->cols + r % Q4_GROUP * ((w->cols + 1) / 2);
        return nibble(row, c) * f16_load(block, c) + f16_load(block, w->cols + c);
    }
    default:
        return f32_load(data, r * w->cols + c);
    }
}

void ref_linear(const struct weight_rows *w, const float *bias, bool relu, const float *x, int64_t ldx, int64_t m, float *y,
                int64_t ldy)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t r = w->row_begin; r < w->row_end; r++) {
            double sum = bias ? bias[r] : 0.0;
            for (int64_t c = 0; c < w->cols; c++)
                sum += x[i * ldx + c] * weight(w, r - w->row_begin, c);
            y[i * ldy + r] = (float)(relu && sum < 0.0 ? 0.0 : sum);
        }
}

static double mean_of(const float *x, int64_t d)
{
    double sum = 0.0;

    for (int64_t i = 0; i < d; i++)
        sum += x[i];
    return sum / (double)d;
}

static double variance_of(const float *x, int64_t d, double mean)
{
    double sum = 0.0;

    for (int64_t i = 0; i < d; i++)
        sum += (x[i] - mean) * (x[i] - mean);
    return sum / (double)d;
}

void ref_layer_norm(const float *x, int64_t m, int64_t d, const float *gain, const float *bias, double eps, float *y)
{
    for (; m > 0; m--, x += d, y += d) {
        const double mean = mean_of(x, d);
        const double factor = 1.0 / sqrt(variance_of(x, d, mean) + eps);
        for (int64_t i = 0; i < d; i++)
            y[i] = (float)((x[i] - mean) * factor * (gain ? gain[i] : 1.0) + (bias ? bias[i] : 0.0));
    }
}

/* Element j of the vector at p, which has `width` elements: for Q4 packed nibbles (an even number of bytes), then per group
 * scale, minimum. */
static double cached(enum format format, const char *p, int64_t width, int64_t j)
{
    if (format == FORMAT_F16)
        return f16_load(p, j);
    if (format == FORMAT_F32)
        return f32_load(p, j);
    const char *group = p + ((width + 1) / 2 + 1) / 2 * 2 + j / Q4_GROUP * 4;
    return nibble(p, j) * f16_load(group, 0) + f16_load(group, 1);
}

/* scale * q . the head's key at `key` */
static double score_of(const struct attention_shape *s, const struct cache_view *c, const char *key, int64_t head, const float *q)
{
    const int64_t width = s->kv_heads * s->head_dim, begin = head / (s->heads / s->kv_heads) * s->head_dim;
    double score = 0.0;

    for (int64_t j = 0; j < s->head_dim; j++)
        score += q[j] * cached(c->format, key, width, begin + j);
    return score * s->scale;
}

/* One query head over tokens [from, to]: softmax(scale * q.k) weighted sum of v. The scores are computed twice instead of kept.
 * */
static void ref_head(const struct attention_shape *s, const struct cache_view *c, const char *base, int64_t head, int64_t from,
                     int64_t to, const float *q, float *out)
{
    const int64_t width = s->kv_heads * s->head_dim;
    const int64_t begin = head / (s->heads / s->kv_heads) * s->head_dim;
    double sum[s->head_dim], largest = -INFINITY, total = 0.0;

    for (int64_t j = 0; j < s->head_dim; j++)
        sum[j] = 0.0;
    for (int pass = 0; pass < 2; pass++)
        for (int64_t t = from; t <= to; t++) {
            const char *key = base + cache_row(c, t) * c->token_stride;
            const double score = score_of(s, c, key, head, q);
            if (pass == 0) {
                largest = score > largest ? score : largest;
                continue;
            }
            const double p = exp(score - largest);
            total += p;
            for (int64_t j = 0; j < s->head_dim; j++)
                sum[j] += p * cached(c->format, key + c->value_offset, width, begin + j);
        }
    for (int64_t j = 0; j < s->head_dim; j++)
        out[j] = to < from ? 0.0f : (float)(sum[j] / total);
}

void ref_attention(const struct attention_shape *s, const struct cache_view *c, int64_t sequences, int64_t first, int64_t tokens,
                   const int32_t *pad, const float *q, int64_t ld, float *out)
{
    for (int64_t i = 0; i < sequences; i++)
        for (int64_t t = 0; t < tokens; t++)
            for (int64_t h = 0; h < s->heads; h++) {
                const int64_t at = (i * tokens + t) * ld + h * s->head_dim;
                ref_head(s, c, c->base + i * c->sequence_stride, h, pad[i], first + t, q + at, out + at);
            }
}

/* Whether fewer than `keep` of the n scores come before number i: larger ones, and equal ones of earlier tokens. */
static bool among_largest(const double *score, int64_t n, int64_t i, int64_t keep)
{
    for (int64_t k = 0; k < n; k++)
        keep -= score[k] > score[i] || (k < i && score[k] == score[i]);
    return keep > 0;
}

static void ref_sparse_head(const struct attention_shape *s, const struct cache_view *c, const char *base, int64_t head,
                            int64_t from, int64_t n, int64_t keep, const float *q, float *out)
{
    const int64_t width = s->kv_heads * s->head_dim, begin = head / (s->heads / s->kv_heads) * s->head_dim;
    double score[n > 0 ? n : 1], sum[s->head_dim], largest = -INFINITY, total = 0.0;

    for (int64_t i = 0; i < n; i++) {
        score[i] = score_of(s, c, base + cache_row(c, from + i) * c->token_stride, head, q);
        largest = score[i] > largest ? score[i] : largest;
    }
    for (int64_t i = 0; i < n; i++)
        total += exp(score[i] - largest);
    for (int64_t j = 0; j < s->head_dim; j++)
        sum[j] = 0.0;
    for (int64_t i = 0; i < n; i++) {
        if (i < n - 1 && !among_largest(score, n - 1, i, keep))
            continue;
        const char *value = base + cache_row(c, from + i) * c->token_stride + c->value_offset;
        for (int64_t j = 0; j < s->head_dim; j++)
            sum[j] += exp(score[i] - largest) / total * cached(c->format, value, width, begin + j);
    }
    for (int64_t j = 0; j < s->head_dim; j++)
        out[j] = (float)sum[j];
}

void ref_sparse_attention(const struct attention_shape *s, const struct cache_view *c, int64_t sequences, int64_t first,
                          double fraction, const int32_t *pad, const float *q, int64_t ld, float *out)
{
    for (int64_t i = 0; i < sequences; i++)
        for (int64_t h = 0; h < s->heads; h++) {
            const int64_t at = i * ld + h * s->head_dim, visible = first + 1 - pad[i];
            ref_sparse_head(s, c, c->base + i * c->sequence_stride, h, pad[i], visible,
                            visible > 0 ? sparse_kept(fraction, visible) : 0, q + at, out + at);
        }
}
