/* exact_model.h - a decoder in double, straight from its definition, for runs in low precision to be compared with; and how far roundings may
 * move its logits.
 *
 * The bound. A run differs from this model by roundings: a stored x becomes x (1 + e) with |e| <= u of its format, and so does every partial
 * sum of a product, with u of f32. Worst cases added up through the layers say nothing here: a product of these models lets an error grow by
 * sum |W| = 8 at worst and by sqrt(sum W^2) = 1.2 on average, and there are eighteen of them. So the e are taken for independent and of mean 0
 * (Higham and Mary, "A new approach to probabilistic rounding error analysis", 2019). To first order a logit is then off by
 * D = sum over roundings of J e x, J its derivative, and Hoeffding's inequality says
 *     P(|D| > t) <= 2 exp(-t^2 / 2 V),   V = sum (J u x)^2,
 * however the e are distributed in [-u, u]. V is the variance of a logit whose e are u or -u with equal chances, so it can be measured:
 * exact_forward runs with such signs, drawn from a seed, wherever the run rounds. V of a position is the mean square over its logits and
 * SAMPLES such runs (a few per cent of it are noise: 16 runs move at least 32 dimensions). What is not linear is in them as it is
 * in the real run: relu's kink, softmax, a packed cache in which a value between two codes takes the other one.
 *     |D| <= LOGIT_MOST sqrt(V): 2 exp(-7^2 / 2) is 5e-11 a logit, and a test program compares some 10^7;
 *     sqrt(mean D^2 / V) <= LOGIT_RMS over a run. E D^2 <= V holds for any e; rounding to nearest has E e^2 = u^2 / 6 (uniform in a binade) to
 * 0.18 u^2 (uniform in its logarithm), so that a run in 16 bits is at 0.41 to 0.43, and one in f32 below, since V counts sums one
 * addition after the other. LOGIT_RMS leaves 40 % to V's and the run's own noise.
 *     A packed cache is different: what moves a logit there is a value between two codes, taking the other one in some runs and not in
 * others. That is rare and large, and goes with E |e| instead of E e^2. So V is the mean over all positions, since one of them may see what no
 * sample saw there; a run has too few such values to be close to its mean: PACKED_RMS; and a logit is compared with the position and sample that
 * moved most. test_cuda_bounds.c shows wrong kernels beyond these limits.
 */
#ifndef BALLAST_TESTS_EXACT_MODEL_H
#define BALLAST_TESTS_EXACT_MODEL_H

#include <criterion/criterion.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "executor/cpu/kernels.h"
#include "executor/safetensors.h"
#include "tests/fixture.h"

#define LOGIT_MOST 7.0
#define LOGIT_RMS  0.6
#define PACKED_RMS 1.5
enum { SAMPLES = 16 };

/* Where a run rounds, and to what. */
struct rounding {
    enum format hidden;  /* hidden states as they are kept */
    enum format operand; /* what products multiply, beside the weights */
    enum format prompt;  /* queries, keys, weights and values of a prompt's attention; decode's are f32 */
    enum format cache;   /* F32, F16 or Q4 */
    int weight_bits;     /* 16: as stored, exact; 4: packed, then unpacked to what products multiply */
};

struct exact_model {
    const struct arch *a;
    double *tensor[64][ROLE_COUNT]; /* (n_layers): owned; NULL: it has none */
};

/* -- rounding ------------------------------------------------------------------------------------------------------------ */

/* A forward pass: exact, or off by a unit of rounding this way or that, as *seed has it. */
struct pass {
    const struct exact_model *m;
    const struct rounding *how;
    uint64_t *seed; /* NULL: exact */
    int64_t tokens, prompt;
    double *h, *k, *v, *x, *y, *inner; /* (tokens, ...); x, y, inner of one token */
};

static inline double either_way(const struct pass *p, double by)
{
    uint64_t z = *p->seed += 0x9e3779b97f4a7c15u; /* splitmix64 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z >> 63 ? by : -by;
}

static inline double rounded_to(const struct pass *p, enum format format, double x)
{
    static const double unit[] = {[FORMAT_F32] = 0x1p-24, [FORMAT_F16] = 0x1p-11, [FORMAT_BF16] = 0x1p-8};
    return p->seed ? x + either_way(p, unit[format] * fabs(x) + (format == FORMAT_F16 ? 0x1p-25 : 0)) : x; /* or subnormal */
}

/* -- the weights --------------------------------------------------------------------------------------------------------- */

/* p: a pass that has no more than its roundings yet. A packed weight's is the same wherever the pass multiplies with it. */
static inline double *exact_tensor(const struct pass *p, const struct st_model *files, const struct tensor *t, bool packed)
{
    const struct st_tensor *stored;
    const int64_t n = t->rows * t->cols;
    struct error err = {0};
    cr_assert_eq(st_resolve(files, t, &stored, &err), STATUS_OK, "%s", err.text);
    char *raw = malloc((size_t)stored->bytes), *q4 = malloc((size_t)format_matrix_bytes(FORMAT_Q4, t->rows, t->cols));
    float *narrow = malloc((size_t)n * sizeof *narrow);
    double *out = malloc((size_t)n * sizeof *out);
    const int fd = open(files->path[stored->file], O_RDONLY);
    cr_assert_eq(pread(fd, raw, (size_t)stored->bytes, stored->offset), (ssize_t)stored->bytes);
    close(fd);
    to_f32(stored->format, raw, n, narrow);
    if (packed) {
        q4_pack_matrix(narrow, t->rows, t->cols, q4);
        q4_unpack_matrix(q4, t->rows, t->cols, narrow);
    }
    for (int64_t i = 0; i < n; i++)
        out[i] = packed ? rounded_to(p, p->how->operand, narrow[i]) : narrow[i];
    free(raw), free(q4), free(narrow);
    return out;
}

static inline void exact_load(struct exact_model *m, const struct arch *a, const char *directory, const struct rounding *how,
                              uint64_t *seed)
{
    const struct pass p = {.how = how, .seed = seed};
    struct st_model files = {0};
    struct error err = {0};
    *m = (struct exact_model){.a = a};
    cr_assert_leq(a->n_layers, 64);
    cr_assert_eq(st_open(&files, directory, &err), STATUS_OK, "%s", err.text);
    for (int i = 0; i < a->n_layers; i++)
        for (int j = 0; j < a->layer[i].n_tensors; j++) {
            const struct tensor *t = &a->layer[i].tensor[j];
            /* vectors of tokens are looked up as they are stored */
            const bool packed = how->weight_bits == 4 && t->placed && a->layer[i].kind != LAYER_EMBED;
            m->tensor[i][t->role] = exact_tensor(&p, &files, t, packed);
        }
    st_free(&files);
}

static inline void exact_free(struct exact_model *m)
{
    for (int i = 0; i < m->a->n_layers; i++)
        for (int r = 0; r < ROLE_COUNT; r++)
            free(m->tensor[i][r]);
}

/* A sum whose partial sums have these squares in total. */
static inline double summed(const struct pass *p, double sum, double squares)
{
    return p->seed ? sum + either_way(p, 0x1p-24 * sqrt(squares)) : sum;
}

/* y (rows) = W x + bias; four rows at a time, which do not wait for each other's sums. */
static inline void exact_product(const struct pass *p, const double *w, const double *bias, int64_t rows, int64_t cols,
                                 const double *x, double *y)
{
    for (int64_t r = 0; r < rows; r += 4) {
        const int n = rows - r < 4 ? (int)(rows - r) : 4;
        const double *row[4];
        double sum[4] = {0}, squares[4] = {0};
        for (int i = 0; i < 4; i++)
            row[i] = w + (r + (i < n ? i : 0)) * cols;
        for (int64_t c = 0; c < cols; c++)
            for (int i = 0; i < 4; i++) {
                sum[i] += row[i][c] * x[c];
                squares[i] += sum[i] * sum[i];
            }
        for (int i = 0; i < n; i++)
            y[r + i] = summed(p, sum[i], squares[i]) + (bias ? bias[r + i] : 0);
    }
}

/* The mean's error is that of a sum of d terms; the deviation's, relative, too. */
static inline void exact_norm(const struct pass *p, int layer, const double *x, double *y)
{
    const double *gain = p->m->tensor[layer][ROLE_NORM_GAIN], *bias = p->m->tensor[layer][ROLE_NORM_BIAS];
    const int64_t d = p->m->a->hidden;
    double mean = 0, variance = 0, most = 0;
    for (int64_t i = 0; i < d; i++) {
        mean += x[i] / (double)d;
        most = fmax(most, fabs(x[i]));
    }
    for (int64_t i = 0; i < d; i++)
        variance += (x[i] - mean) * (x[i] - mean) / (double)d;
    const double factor = 1 / sqrt(variance + p->m->a->norm_epsilon);
    const double off = p->seed ? either_way(p, 0x1p-24 * most) : 0, wider = p->seed ? 1 + either_way(p, 0x1p-23) : 1;
    for (int64_t i = 0; i < d; i++)
        y[i] = rounded_to(p, FORMAT_F32, (x[i] - mean + off) * factor * wider * (gain ? gain[i] : 1)) + (bias ? bias[i] : 0);
}

static inline void as_format(const struct pass *p, enum format format, int64_t n, double *x)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = rounded_to(p, format, x[i]);
}

/* What the cache makes of a vector, and what attention multiplies of that. */
static inline void through_cache(const struct pass *p, int64_t n, double *x)
{
    if (p->how->cache != FORMAT_Q4) {
        as_format(p, p->how->cache, n, x);
    } else {
        float *narrow = malloc((size_t)n * sizeof *narrow);
        void *packed = malloc((size_t)format_vector_bytes(FORMAT_Q4, n));
        for (int64_t i = 0; i < n; i++)
            narrow[i] = (float)x[i];
        q4_pack_vector(narrow, n, packed);
        q4_unpack_vector(packed, n, narrow);
        for (int64_t i = 0; i < n; i++)
            x[i] = narrow[i];
        free(narrow), free(packed);
    }
    if (p->how->prompt != p->how->cache)
        as_format(p, p->how->prompt, n, x);
}

/* -- layers, a token at a time -------------------------------------------------------------------------------------------- */

static inline void exact_embed(const struct pass *p, const int32_t *ids)
{
    const struct arch *a = p->m->a;
    double *const *t = p->m->tensor[0];
    for (int64_t i = 0; i < p->tokens; i++) {
        const double *vector = t[ROLE_EMBED_TOKENS] + ids[i] * a->embed_width;
        double *h = p->h + i * a->hidden;
        if (t[ROLE_PROJECT_IN])
            exact_product(p, t[ROLE_PROJECT_IN], NULL, a->hidden, a->embed_width, vector, h);
        else
            memcpy(h, vector, (size_t)a->hidden * sizeof *h);
        for (int64_t c = 0; c < a->hidden; c++)
            h[c] = rounded_to(p, p->how->hidden, h[c] + t[ROLE_EMBED_POSITIONS][(i + a->position_offset) * a->hidden + c]);
    }
}

/* The layer's input as its products take it, in x. */
static inline void exact_input(const struct pass *p, int layer, int64_t token)
{
    const int64_t d = p->m->a->hidden;
    if (p->m->a->norm_before)
        exact_norm(p, layer, p->h + token * d, p->x);
    else
        memcpy(p->x, p->h + token * d, (size_t)d * sizeof *p->x);
    as_format(p, p->how->operand, d, p->x);
}

/* h += y */
static inline void exact_output(const struct pass *p, int layer, int64_t token)
{
    const int64_t d = p->m->a->hidden;
    double *h = p->h + token * d;
    for (int64_t c = 0; c < d; c++)
        h[c] = rounded_to(p, p->how->hidden, h[c] + p->y[c]);
    if (p->m->a->norm_before)
        return;
    exact_norm(p, layer, h, h);
    as_format(p, p->how->hidden, d, h);
}

/* One head of token t's query q; out (head_dim) may be q. */
static inline void exact_head(const struct pass *p, int64_t head, int64_t t, double *q, double *out)
{
    const struct arch *a = p->m->a;
    const int64_t e = a->head_dim, width = a->kv_heads * e, at = head / (a->heads / a->kv_heads) * e;
    const enum format format = t < p->prompt ? p->how->prompt : FORMAT_F32;
    double score[t + 1], most = -INFINITY, total = 0, sum[e], squares[e];
    as_format(p, format, e, q);
    memset(sum, 0, sizeof sum);
    memset(squares, 0, sizeof squares);
    for (int64_t i = 0; i <= t; i++) {
        exact_product(p, p->k + i * width + at, NULL, 1, e, q, &score[i]);
        score[i] /= sqrt((double)e);
        most = fmax(most, score[i]);
    }
    for (int64_t i = 0; i <= t; i++) {
        const double weight = rounded_to(p, FORMAT_F32, exp(score[i] - most)), half = rounded_to(p, format, weight);
        total = rounded_to(p, FORMAT_F32, total + weight);
        for (int64_t c = 0; c < e; c++) {
            sum[c] += half * p->v[i * width + at + c];
            squares[c] += sum[c] * sum[c];
        }
    }
    for (int64_t c = 0; c < e; c++)
        out[c] = summed(p, sum[c], squares[c]) / total;
}

static inline void exact_attention(const struct pass *p, int layer)
{
    const struct arch *a = p->m->a;
    const int64_t d = a->hidden, e = a->head_dim, width = a->kv_heads * e;
    double *const *t = p->m->tensor[layer];
    for (int64_t i = 0; i < p->tokens; i++) { /* causal: a token's keys and values come before it is attended from */
        exact_input(p, layer, i);
        exact_product(p, t[ROLE_K], t[ROLE_K_BIAS], width, d, p->x, p->k + i * width);
        exact_product(p, t[ROLE_V], t[ROLE_V_BIAS], width, d, p->x, p->v + i * width);
        through_cache(p, width, p->k + i * width);
        through_cache(p, width, p->v + i * width);
        exact_product(p, t[ROLE_Q], t[ROLE_Q_BIAS], a->heads * e, d, p->x, p->inner);
        for (int64_t head = 0; head < a->heads; head++)
            exact_head(p, head, i, p->inner + head * e, p->inner + head * e);
        as_format(p, p->how->operand, a->heads * e, p->inner);
        exact_product(p, t[ROLE_O], t[ROLE_O_BIAS], d, a->heads * e, p->inner, p->y);
        exact_output(p, layer, i);
    }
}

static inline void exact_mlp(const struct pass *p, int layer)
{
    const struct arch *a = p->m->a;
    double *const *t = p->m->tensor[layer];
    for (int64_t i = 0; i < p->tokens; i++) {
        exact_input(p, layer, i);
        exact_product(p, t[ROLE_FC1], NULL, a->ffn, a->hidden, p->x, p->inner);
        as_format(p, p->how->operand, a->ffn, p->inner); /* the device keeps it so */
        for (int64_t c = 0; c < a->ffn; c++) {
            const double z = p->inner[c] + (t[ROLE_FC1_BIAS] ? t[ROLE_FC1_BIAS][c] : 0);
            p->inner[c] = a->activation == ACTIVATION_RELU ? fmax(z, 0) : z / 2 * erfc(-z / sqrt(2));
        }
        as_format(p, p->how->operand, a->ffn, p->inner);
        exact_product(p, t[ROLE_FC2], t[ROLE_FC2_BIAS], a->hidden, a->ffn, p->inner, p->y);
        exact_output(p, layer, i);
    }
}

/* One part of the head into its columns of logits (tokens, vocab). The norm and the projection are the first part's. */
static inline void exact_logits(const struct pass *p, int layer, int first, double *logits)
{
    const struct arch *a = p->m->a;
    const struct tensor *table = layer_tensor(&a->layer[layer], ROLE_EMBED_TOKENS);
    for (int64_t i = 0; i < p->tokens; i++) {
        memcpy(p->x, p->h + i * a->hidden, (size_t)a->hidden * sizeof *p->x);
        if (p->m->tensor[first][ROLE_NORM_GAIN])
            exact_norm(p, first, p->x, p->x);
        const double *project = p->m->tensor[first][ROLE_PROJECT_OUT];
        if (project)
            exact_product(p, project, NULL, a->embed_width, a->hidden, p->x, p->y);
        double *x = project ? p->y : p->x;
        as_format(p, p->how->operand, a->embed_width, x);
        exact_product(p, p->m->tensor[layer][ROLE_EMBED_TOKENS] + table->row_begin * a->embed_width, NULL,
                      table->row_end - table->row_begin, a->embed_width, x, logits + i * a->vocab + table->row_begin);
    }
}

/* Logits (tokens, vocab) of one sequence, of which the first `prompt` tokens came as a prompt. */
static inline void exact_forward(const struct exact_model *m, const struct rounding *how, uint64_t *seed, const int32_t *ids,
                                 int64_t tokens, int64_t prompt, double *logits)
{
    const struct arch *a = m->a;
    const int64_t width = a->hidden + a->ffn + a->heads * a->head_dim + a->embed_width;
    double *memory = calloc((size_t)(tokens * (a->hidden + 2 * a->kv_heads * a->head_dim) + 3 * width), sizeof *memory);
    struct pass p = {m, how, seed, tokens, prompt, memory, NULL, NULL, NULL, NULL, NULL};
    int first = 0;
    p.k = p.h + tokens * a->hidden;
    p.v = p.k + tokens * a->kv_heads * a->head_dim;
    p.x = p.v + tokens * a->kv_heads * a->head_dim;
    p.y = p.x + width;
    p.inner = p.y + width;
    for (int i = 0; i < a->n_layers; i++)
        switch (a->layer[i].kind) {
        case LAYER_EMBED:
            exact_embed(&p, ids);
            break;
        case LAYER_ATTENTION:
            exact_attention(&p, i);
            break;
        case LAYER_MLP:
            exact_mlp(&p, i);
            break;
        case LAYER_HEAD:
            first = first ? first : i;
            exact_logits(&p, i, first, logits);
            break;
        }
    free(memory);
}

/* -- what a run is compared with ------------------------------------------------------------------------------------------ */

struct exact_reference {
    const struct fixture *f;
    double *logits;   /* (rows, vocab) as f->logits; the rows after the last token are not there */
    double *variance; /* (rows): V */
    double most;      /* the largest mean square of a position in a sample */
    bool packed;      /* the cache */
};

/* Logits (rows, vocab) of all prompts with what was generated for each. */
static inline void exact_fixture(const struct exact_model *m, const struct rounding *how, uint64_t *seed, const struct fixture *f,
                                 const int32_t *const *generated, double *logits)
{
    for (int i = 0; i < FIXTURE_PROMPTS; i++) {
        const int64_t n = f->prompt[i].n_ids, tokens = n + f->new_tokens - 1;
        int32_t ids[tokens];
        memcpy(ids, f->prompt[i].ids, (size_t)n * sizeof *ids);
        memcpy(ids + n, generated[i], (size_t)(f->new_tokens - 1) * sizeof *ids);
        exact_forward(m, how, seed, ids, tokens, n, logits + f->first_row[i] * f->arch.vocab);
    }
}

/* Of the prompts and what was generated for each: (new_tokens) ids. */
static inline void exact_reference_new(struct exact_reference *x, const struct fixture *f, const int32_t *const *generated,
                                       const struct rounding *how)
{
    const int64_t vocab = f->arch.vocab, rows = f->rows;
    struct exact_model m;
    uint64_t seed = 1;
    *x = (struct exact_reference){f, calloc((size_t)(rows * vocab), sizeof(double)), calloc((size_t)rows, sizeof(double)), 0,
                                  how->cache == FORMAT_Q4};
    double *off = calloc((size_t)(rows * vocab), sizeof *off);
    exact_load(&m, &f->arch, f->directory, how, NULL);
    exact_fixture(&m, how, NULL, f, generated, x->logits);
    exact_free(&m);
    for (int s = 0; s < SAMPLES; s++) {
        exact_load(&m, &f->arch, f->directory, how, &seed);
        exact_fixture(&m, how, &seed, f, generated, off);
        exact_free(&m);
        for (int64_t row = 0; row < rows; row++) {
            double square = 0;
            for (int64_t j = row * vocab; j < (row + 1) * vocab; j++)
                square += pow(off[j] - x->logits[j], 2) / (double)vocab;
            x->variance[row] += square / SAMPLES;
            x->most = fmax(x->most, square);
        }
    }
    free(off);
    if (!x->packed)
        return;
    double mean = 0;
    for (int64_t row = 0; row < rows; row++) /* less one a prompt, which are 0 */
        mean += x->variance[row] / (double)(rows - FIXTURE_PROMPTS);
    for (int64_t row = 0; row < rows; row++)
        x->variance[row] = mean;
}

static inline void exact_reference_free(struct exact_reference *x)
{
    free(x->logits);
    free(x->variance);
}

/* A run's logits (rows, vocab) in units of sqrt(V): the largest, and the root mean square. */
struct logit_error {
    double most, rms;
};

static inline struct logit_error logit_error(const struct exact_reference *x, const float *logits)
{
    struct logit_error e = {0, 0};
    double n = 0;
    for (int i = 0; i < FIXTURE_PROMPTS; i++)
        for (int64_t t = 0; t < x->f->prompt[i].n_ids + x->f->new_tokens - 1; t++)
            for (int64_t c = 0; c < x->f->arch.vocab; c++, n++) {
                const int64_t row = x->f->first_row[i] + t, at = row * x->f->arch.vocab + c;
                const double off = fabs(logits[at] - x->logits[at]);
                const double most = off / sqrt(x->packed ? x->most : x->variance[row]);
                e.most = isnan(most) ? INFINITY : fmax(e.most, most);
                e.rms += off * off / x->variance[row];
            }
    e.rms = sqrt(e.rms / n);
    return e;
}

static inline bool within_bound(const struct exact_reference *x, const struct logit_error *e)
{
    return e->most <= LOGIT_MOST && e->rms <= (x->packed ? PACKED_RMS : LOGIT_RMS);
}

/* A run in f32 that generated the fixture's own tokens. */
static inline void exact_reference_f32(struct exact_reference *x, const struct fixture *f)
{
    const struct rounding how = {.weight_bits = 16}; /* f32 everywhere */
    exact_reference_new(x, f, (const int32_t *const *)f->generated, &how);
}

#endif
