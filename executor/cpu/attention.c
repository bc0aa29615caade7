/* attention.c - streaming-softmax attention over the cache, in the cache's own format.
 *
 * Decode goes through the tokens of a sequence in chunks of CHUNK, counted from its first real token; each chunk makes a partial
 * state (maximum, sum, weighted values) and the states are merged in order: m = max(m1, m2), l = l1 e^(m1-m) + l2 e^(m2-m), the
 * values alike. The chunks are the same however many threads there are, so the result is, too.
 *
 * Prefill takes a block of query rows of one key head (all query heads that share it) against blocks of keys, with both
 * products as small f32 matrix products in cache. Scores lie transposed, (keys, rows), so that the softmax runs over lanes
 * without sums across them.
 *
 * Sparse decode needs all scores of a head before it adds the first value, so it keeps them: first the chunks of some sequences
 * are scored, then every head of theirs makes its choice and adds the values it has chosen.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "executor/cpu/half.h"
#include "executor/cpu/kernels.h"
#include "executor/draw.h"
#include "model/integers.h"
#include "model/sparse.h"

#define CHUNK       128 /* tokens of a partial state: merging costs about 1 % of the work */
#define DECODE_TILE 32  /* tokens scored before their values are added */
#define TOGETHER    4   /* tokens read at a time: as many streams from memory */
#define BLOCK       64  /* rows and keys of a prefill block: 3 x 64 x head_dim floats stay in the second-level cache */
#define SLOTS       4   /* partial states per thread, when chunks of one sequence are shared out */

/* One call of attention(). */
struct job {
    const struct attention_shape *shape;
    const struct cache_view *cache;
    int64_t sequences, first, tokens, width, padded; /* width = G*e; padded = e rounded up to 16 */
    const int32_t *pad;
    const float *q;
    int64_t ld;
    float *out;
    char *scratch;
    int threads;
    /* prefill: a block has `block_heads` of the heads of one key head x `block_queries` queries */
    int64_t block_heads, head_blocks, block_queries, query_blocks;
    /* decode with shared chunks: the sequence and first chunk of the current wave */
    int64_t wave_sequence, wave_chunk;
    /* sparse decode: the sequences from wave_sequence on that are worked on; their rows of scores, (wave, heads, 2, row) floats */
    int64_t wave, row;
    double fraction;
    float *scores;
    const struct vector_kernels *kernel;
};

struct state { /* of one sequence: (heads), (heads), (heads, padded) */
    float *max, *sum, *acc;
};

/* a thread's: (heads, padded) scaled queries, (heads, DECODE_TILE), (TOGETHER, padded), (TOGETHER, group_floats) */
struct decode {
    float *q, *score, *slice, *group;
};

struct source { /* a cached vector; for Q4 with its groups' scales and minima in f32, taking turns */
    const char *vector;
    const float *group;
};

static int64_t group_floats(const struct attention_shape *s)
{
    return (2 * ((s->kv_heads * s->head_dim + Q4_GROUP - 1) / Q4_GROUP) + 15) / 16 * 16;
}

static void prefetch_slice(enum format format, const char *vector, int64_t begin, int64_t n)
{
    const int64_t from = format == FORMAT_F32 ? 4 * begin : format == FORMAT_F16 ? 2 * begin : begin / 2;
    const int64_t to = format == FORMAT_F32 ? 4 * (begin + n) : format == FORMAT_F16 ? 2 * (begin + n) : (begin + n) / 2;

    for (int64_t i = from; i < to; i += 64)
        __builtin_prefetch((const void *)((uintptr_t)vector + (uintptr_t)i), 0, 2); /* may lie behind the cache: harmless */
}

#define VEC_WIDTH 1
#include "executor/cpu/attention_vec.h"
#undef VEC_WIDTH
#define VEC_WIDTH 8
#include "executor/cpu/attention_vec.h"
#undef VEC_WIDTH
#define VEC_WIDTH 16
#include "executor/cpu/attention_vec.h"
#undef VEC_WIDTH

struct vector_kernels {
    void (*decode_chunk)(const struct job *a, const char *base, int64_t from, int64_t to, const struct decode *d,
                         const struct state *s);
    void (*merge)(const struct job *a, const struct state *s, const struct state *b);
    void (*score_chunk)(const struct job *a, const char *base, int64_t from, int64_t to, const struct decode *d, float *score,
                        int64_t ld);
    float (*sum_of_exp)(const float *score, int64_t n, float *max);
    int64_t (*choose_values)(const struct job *a, float *score, int64_t n, float max, int32_t *place);
    void (*add_values)(const struct job *a, const char *base, const int32_t *token, const float *weight, int64_t kv_head,
                       const struct decode *d, float *acc);
    void (*product)(const float *a, int64_t ai, int64_t ak, const float *b, int64_t ldb, int64_t depth, const float *factor,
                    float *c, int64_t ldc, int64_t rows, int64_t width);
    void (*soften_block)(float *score, int64_t keys, float *max, float *sum, float *shrink);
    void (*expand_block)(const struct job *a, const char *base, int64_t key, int64_t head, int64_t n, float *out);
};

#define TABLE(w)                                                                                                                 \
    {                                                                                                                            \
        decode_chunk_##w, merge_##w, score_chunk_##w, sum_of_exp_##w, choose_values_##w, add_values_##w, product_##w,            \
            soften_block_##w, expand_block_##w                                                                                   \
    }
static const struct vector_kernels kernels_by_isa[] =
    {[ISA_SCALAR] = TABLE(w1), [ISA_AVX2] = TABLE(w8), [ISA_AVX512] = TABLE(w16)};

/* -- scratch: per thread decode or prefill buffers and one state; then SLOTS partial states per thread and a running one
 * ------- */
static int64_t padded_dim(const struct attention_shape *s)
{
    return (s->head_dim + 15) / 16 * 16;
}

static int64_t state_floats(const struct attention_shape *s)
{
    return (s->heads * (padded_dim(s) + 2) + 15) / 16 * 16;
}

static int64_t decode_floats(const struct attention_shape *s)
{
    return s->heads * (padded_dim(s) + DECODE_TILE) + TOGETHER * (padded_dim(s) + group_floats(s));
}

static int64_t prefill_floats(const struct attention_shape *s)
{
    return 4 * BLOCK * padded_dim(s) + BLOCK * BLOCK + 3 * BLOCK;
}

static int64_t thread_floats(const struct attention_shape *s)
{
    return max64((decode_floats(s) + 15) / 16 * 16, prefill_floats(s)) + 2 * state_floats(s);
}

int64_t attention_scratch_bytes(int threads, const struct attention_shape *s)
{
    return 64 + 4 * (threads * thread_floats(s) + (threads * SLOTS + 1) * state_floats(s));
}

static float *thread_scratch(const struct job *a, int thread)
{
    return (float *)(void *)a->scratch + thread * thread_floats(a->shape);
}

static struct state state_at(const struct job *a, float *p)
{
    return (struct state){.max = p, .sum = p + a->shape->heads, .acc = p + 2 * a->shape->heads};
}

/* index 0 or 1: the thread's own */
static struct state thread_state(const struct job *a, int thread, int index)
{
    return state_at(a, thread_scratch(a, thread + 1) - (index + 1) * state_floats(a->shape));
}

/* index 0: the running state of the shared sequence; 1..: the slots */
static struct state shared_state(const struct job *a, int64_t index)
{
    return state_at(a, thread_scratch(a, a->threads) + index * state_floats(a->shape));
}

/* -- decode -------------------------------------------------------------------------------------------------------------------
 * */
static void clear_state(const struct job *a, const struct state *s)
{
    for (int64_t h = 0; h < a->shape->heads; h++) {
        s->max[h] = -INFINITY;
        s->sum[h] = 0.0f;
    }
    memset(s->acc, 0, (size_t)(a->shape->heads * a->padded) * sizeof *s->acc);
}

static struct decode decode_scratch(const struct job *a, int thread)
{
    const int64_t heads = a->shape->heads;
    struct decode d = {.q = thread_scratch(a, thread)};

    d.score = d.q + heads * a->padded;
    d.slice = d.score + heads * DECODE_TILE;
    d.group = d.slice + TOGETHER * a->padded;
    return d;
}

static void scale_query(const struct job *a, const float *q, float *out, int64_t stride)
{
    for (int64_t j = 0; j < a->padded; j++)
        out[j * stride] = j < a->shape->head_dim ? q[j] * (float)a->shape->scale : 0.0f;
}

static int64_t chunks_of(const struct job *a, int64_t sequence)
{
    const int64_t visible = a->first + 1 - a->pad[sequence];

    return visible > 0 ? (visible + CHUNK - 1) / CHUNK : 0;
}

static struct decode scaled_queries(const struct job *a, int64_t sequence, int thread)
{
    const struct decode d = decode_scratch(a, thread);

    for (int64_t h = 0; h < a->shape->heads; h++)
        scale_query(a, a->q + sequence * a->ld + h * a->shape->head_dim, d.q + h * a->padded, 1);
    return d;
}

static void run_chunk(const struct job *a, int64_t sequence, int64_t chunk, int thread, const struct state *s)
{
    const struct decode d = scaled_queries(a, sequence, thread);
    const int64_t from = a->pad[sequence] + chunk * CHUNK;

    clear_state(a, s);
    a->kernel->decode_chunk(a, a->cache->base + sequence * a->cache->sequence_stride, from, min64(from + CHUNK, a->first + 1), &d,
                            s);
}

static void finish_sequence(const struct job *a, int64_t sequence, const struct state *s)
{
    const int64_t e = a->shape->head_dim;

    for (int64_t h = 0; h < a->shape->heads; h++) {
        float *out = a->out + sequence * a->ld + h * e;
        const float factor = s->sum[h] > 0.0f ? 1.0f / s->sum[h] : 0.0f; /* no visible token: zeros */
        for (int64_t j = 0; j < e; j++)
            out[j] = s->acc[h * a->padded + j] * factor;
    }
}

static void sequence_task(void *arg, int task, int thread)
{
    const struct job *a = arg;
    const struct state running = thread_state(a, thread, 0), part = thread_state(a, thread, 1);

    clear_state(a, &running);
    for (int64_t chunk = 0; chunk < chunks_of(a, task); chunk++) {
        run_chunk(a, task, chunk, thread, &part);
        a->kernel->merge(a, &running, &part);
    }
    finish_sequence(a, task, &running);
}

/* The chunk `n` places after (sequence, chunk) in the order of sequences; false behind the last. */
static bool advance(const struct job *a, int64_t *sequence, int64_t *chunk, int64_t n)
{
    *chunk += n;
    while (*sequence < a->sequences && *chunk >= chunks_of(a, *sequence))
        *chunk -= chunks_of(a, (*sequence)++);
    return *sequence < a->sequences;
}

static void chunk_task(void *arg, int task, int thread)
{
    const struct job *a = arg;
    const struct state slot = shared_state(a, 1 + task);
    int64_t sequence = a->wave_sequence, chunk = a->wave_chunk;

    if (advance(a, &sequence, &chunk, task))
        run_chunk(a, sequence, chunk, thread, &slot);
}

/* Too few sequences to keep the threads busy: waves of chunks, merged in order by the caller. */
static void decode_shared(struct pool *p, struct job *a)
{
    const struct state running = shared_state(a, 0);
    const int64_t slots = SLOTS * a->threads;
    int64_t sequence = 0, chunk = 0;
    bool more = true;

    clear_state(a, &running);
    for (int64_t i = 0; i < a->sequences; i++) /* those with nothing to see never come up below */
        if (chunks_of(a, i) == 0)
            finish_sequence(a, i, &running);
    while (more) {
        a->wave_sequence = sequence;
        a->wave_chunk = chunk;
        pool_run(p, (int)slots, chunk_task, a);
        more = advance(a, &sequence, &chunk, 0);
        for (int64_t i = 0; i < slots && more; i++) {
            const struct state slot = shared_state(a, 1 + i);
            a->kernel->merge(a, &running, &slot);
            if (chunk + 1 == chunks_of(a, sequence)) {
                finish_sequence(a, sequence, &running);
                clear_state(a, &running);
            }
            more = advance(a, &sequence, &chunk, 1);
        }
    }
}

static void decode(struct pool *p, struct job *a)
{
    if (a->threads == 1 || a->sequences >= 4 * a->threads)
        pool_run(p, (int)a->sequences, sequence_task, a);
    else
        decode_shared(p, a);
}

/* -- sparse decode -------------------------------------------------------------------------------------------------------- */
static int64_t score_row(int64_t tokens)
{
    return (tokens + 15) / 16 * 16;
}

static float *scores_of(const struct job *a, int64_t sequence, int64_t head)
{
    return a->scores + ((sequence - a->wave_sequence) * a->shape->heads + head) * 2 * a->row;
}

static void score_task(void *arg, int task, int thread)
{
    const struct job *a = arg;
    const int64_t sequence = a->wave_sequence + task % a->wave, chunk = task / a->wave, from = a->pad[sequence] + chunk * CHUNK;

    if (chunk >= chunks_of(a, sequence))
        return;
    const struct decode d = scaled_queries(a, sequence, thread);
    a->kernel->score_chunk(a, a->cache->base + sequence * a->cache->sequence_stride, from, min64(from + CHUNK, a->first + 1), &d,
                           scores_of(a, sequence, 0) + chunk * CHUNK, 2 * a->row);
}

/* acc = the values of `kept` tokens times their weights. Rows of both have room for a multiple of TOGETHER. */
static void add_kept(const struct job *a, const char *values, int32_t *token, float *weight, int64_t kept, int64_t kv_head,
                     const struct decode *d, float *acc)
{
    const int64_t e = a->shape->head_dim;

    for (; kept % TOGETHER != 0; kept++) {
        token[kept] = token[kept - 1];
        weight[kept] = 0.0f;
    }
    for (int64_t i = 0; i < kept; i += TOGETHER) {
        for (int64_t t = i + TOGETHER; t < min64(kept, i + 2 * TOGETHER); t++)
            prefetch_slice(a->cache->format, values + cache_row(a->cache, token[t]) * a->cache->token_stride, kv_head * e, e);
        a->kernel->add_values(a, values, token + i, weight + i, kv_head, d, acc);
    }
}

static void choice_task(void *arg, int task, int thread)
{
    const struct job *a = arg;
    const int64_t heads = a->shape->heads, e = a->shape->head_dim, head = task % heads,
                  sequence = a->wave_sequence + task / heads;
    const int64_t pad = a->pad[sequence], n = a->first + 1 - pad;
    const char *values = a->cache->base + sequence * a->cache->sequence_stride + a->cache->value_offset;
    const struct decode d = decode_scratch(a, thread);
    float *score = scores_of(a, sequence, head), *acc = thread_state(a, thread, 0).acc,
          *out = a->out + sequence * a->ld + head * e;
    int32_t *token = (int32_t *)(void *)(score + a->row);
    float max, sum = 1.0f; /* no visible token: zeros */

    memset(acc, 0, (size_t)a->padded * sizeof *acc);
    if (n > 0) {
        for (int64_t i = n; i < score_row(n); i++)
            score[i] = -INFINITY;
        sum = a->kernel->sum_of_exp(score, n, &max);
        const int64_t kept = a->kernel->choose_values(a, score, n, max, token);
        for (int64_t i = 0; i < kept; i++)
            token[i] += (int32_t)pad;
        add_kept(a, values, token, score, kept, head / (heads / a->shape->kv_heads), &d, acc);
    }
    for (int64_t j = 0; j < e; j++)
        out[j] = acc[j] / sum;
}

static int64_t sequence_scores_bytes(const struct attention_shape *s, int64_t tokens)
{
    return s->heads * 2 * score_row(tokens) * (int64_t)sizeof(float);
}

int64_t sparse_attention_scratch_bytes(int threads, const struct attention_shape *s, int64_t tokens)
{
    return attention_scratch_bytes(threads, s) + sequence_scores_bytes(s, tokens);
}

/* -- prefill
 * -------------------------------------------------------------------------------------------------------------------- */
struct block { /* the rows of a task: query q_begin + r / heads, head head_begin + r % heads */
    int64_t sequence, kv_head, head_begin, heads, q_begin, queries, rows;
    /* (padded, BLOCK), 3 x (BLOCK, padded), (BLOCK, BLOCK), 3 x (BLOCK) */
    float *q, *key, *value, *out, *score, *max, *sum, *shrink;
};

static void block_scratch(const struct job *a, int thread, struct block *b)
{
    float *p = thread_scratch(a, thread);
    const int64_t part = BLOCK * a->padded;

    b->q = p;
    b->key = p + part;
    b->value = p + 2 * part;
    b->out = p + 3 * part;
    b->score = p + 4 * part;
    b->max = b->score + BLOCK * BLOCK;
    b->sum = b->max + BLOCK;
    b->shrink = b->sum + BLOCK;
}

/* The task's rows; its queries inside the padding are left out. The later, longer ones come first. */
static void block_rows(const struct job *a, int64_t task, struct block *b)
{
    const int64_t group = a->shape->heads / a->shape->kv_heads;
    const int64_t per_sequence = a->shape->kv_heads * a->head_blocks;
    const int64_t q_index = a->query_blocks - 1 - task / (a->sequences * per_sequence);
    const int64_t rest = task % (a->sequences * per_sequence), head_index = rest % per_sequence;

    b->sequence = rest / per_sequence;
    b->kv_head = head_index / a->head_blocks;
    b->head_begin = b->kv_head * group + head_index % a->head_blocks * a->block_heads;
    b->heads = min64(a->block_heads, (b->kv_head + 1) * group - b->head_begin);
    b->q_begin = max64(q_index * a->block_queries, a->pad[b->sequence] - a->first);
    b->queries = max64(0, min64((q_index + 1) * a->block_queries, a->tokens) - b->q_begin);
    b->rows = b->heads * b->queries;
}

static int64_t row_offset(const struct job *a, const struct block *b, int64_t r)
{
    const int64_t query = b->q_begin + r / b->heads, head = b->head_begin + r % b->heads;

    return (b->sequence * a->tokens + query) * a->ld + head * a->shape->head_dim;
}

static void start_block(const struct job *a, const struct block *b)
{
    memset(b->q, 0, (size_t)(4 * BLOCK * a->padded) * sizeof *b->q);
    for (int64_t r = 0; r < BLOCK; r++) {
        b->max[r] = -INFINITY;
        b->sum[r] = 0.0f;
    }
    for (int64_t r = 0; r < b->rows; r++)
        scale_query(a, a->q + row_offset(a, b, r), b->q + r, BLOCK);
}

/* Keys after a row's own position get no weight. `key` is the first one's position. */
static void mask_block(const struct job *a, const struct block *b, int64_t key, int64_t n)
{
    if (key + n - 1 <= a->first + b->q_begin)
        return;
    for (int64_t j = 0; j < n; j++)
        for (int64_t r = 0; r < b->rows && a->first + b->q_begin + r / b->heads < key + j; r++)
            b->score[j * BLOCK + r] = -INFINITY;
}

static void add_keys(const struct job *a, const struct block *b, int64_t key, int64_t n)
{
    const struct vector_kernels *k = a->kernel;
    const char *base = a->cache->base + b->sequence * a->cache->sequence_stride;

    k->expand_block(a, base, key, b->kv_head, n, b->key);
    k->expand_block(a, base + a->cache->value_offset, key, b->kv_head, n, b->value);
    k->product(b->key, a->padded, 1, b->q, BLOCK, a->padded, NULL, b->score, BLOCK, (n + 3) / 4 * 4, BLOCK);
    mask_block(a, b, key, n);
    k->soften_block(b->score, n, b->max, b->sum, b->shrink);
    k->product(b->score, 1, BLOCK, b->value, a->padded, n, b->shrink, b->out, a->padded, (b->rows + 3) / 4 * 4, a->padded);
}

static void store_block(const struct job *a, const struct block *b)
{
    for (int64_t r = 0; r < b->rows; r++) {
        float *out = a->out + row_offset(a, b, r);
        for (int64_t j = 0; j < a->shape->head_dim; j++)
            out[j] = b->out[r * a->padded + j] / b->sum[r];
    }
}

static void block_task(void *arg, int task, int thread)
{
    const struct job *a = arg;
    struct block b;

    block_rows(a, task, &b);
    if (b.rows == 0)
        return;
    block_scratch(a, thread, &b);
    start_block(a, &b);
    const int64_t end = a->first + b.q_begin + b.queries;
    for (int64_t key = a->pad[b.sequence]; key < end; key += BLOCK)
        add_keys(a, &b, key, min64(BLOCK, end - key));
    store_block(a, &b);
}

static void clear_padding(const struct job *a)
{
    for (int64_t i = 0; i < a->sequences; i++)
        for (int64_t t = 0; t < min64(a->tokens, a->pad[i] - a->first); t++)
            memset(a->out + (i * a->tokens + t) * a->ld, 0, (size_t)(a->shape->heads * a->shape->head_dim) * sizeof *a->out);
}

static void prefill(struct pool *p, struct job *a)
{
    const int64_t group = a->shape->heads / a->shape->kv_heads;

    a->block_heads = min64(group, BLOCK);
    a->head_blocks = (group + a->block_heads - 1) / a->block_heads;
    a->block_queries = BLOCK / a->block_heads;
    a->query_blocks = (a->tokens + a->block_queries - 1) / a->block_queries;
    pool_run(p, (int)(a->sequences * a->shape->kv_heads * a->head_blocks * a->query_blocks), block_task, a);
    clear_padding(a);
}

static struct job job_of(struct pool *p, const struct attention_shape *s, const struct cache_view *c, int64_t sequences,
                         int64_t first, int64_t tokens, const int32_t *pad, const float *q, int64_t ld, float *out, void *scratch)
{
    return (struct job){.shape = s,
                        .cache = c,
                        .sequences = sequences,
                        .first = first,
                        .tokens = tokens,
                        .width = s->kv_heads * s->head_dim,
                        .padded = padded_dim(s),
                        .pad = pad,
                        .q = q,
                        .ld = ld,
                        .out = out,
                        .scratch = (char *)(((uintptr_t)scratch + 63) & ~(uintptr_t)63),
                        .threads = pool_threads(p),
                        .kernel = &kernels_by_isa[cpu_isa()]};
}

void attention(struct pool *p, const struct attention_shape *s, const struct cache_view *c, int64_t sequences, int64_t first,
               int64_t tokens, const int32_t *pad, const float *q, int64_t ld, float *out, void *scratch)
{
    struct job a = job_of(p, s, c, sequences, first, tokens, pad, q, ld, out, scratch);

    if (tokens == 1)
        decode(p, &a);
    else
        prefill(p, &a);
}

void sparse_attention(struct pool *p, const struct attention_shape *s, const struct cache_view *c, int64_t sequences,
                      int64_t first, double fraction, const int32_t *pad, const float *q, int64_t ld, float *out, void *scratch,
                      int64_t scratch_bytes)
{
    struct job a = job_of(p, s, c, sequences, first, 1, pad, q, ld, out, scratch);
    const int64_t used = attention_scratch_bytes(a.threads, s), chunks = (first + CHUNK) / CHUNK;
    const int64_t at_once = max64(1, (scratch_bytes - used) / sequence_scores_bytes(s, first + 1));

    a.fraction = fraction;
    a.row = score_row(first + 1);
    a.scores = thread_scratch(&a, a.threads) + (a.threads * SLOTS + 1) * state_floats(s);
    for (a.wave_sequence = 0; a.wave_sequence < sequences; a.wave_sequence += a.wave) {
        a.wave = min64(at_once, sequences - a.wave_sequence);
        pool_run(p, (int)(a.wave * chunks), score_task, &a);
        pool_run(p, (int)(a.wave * s->heads), choice_task, &a);
    }
}

/* -- storing
 * ---------------------------------------------------------------------------------------------------------------------- */
struct store {
    const struct cache_view *cache;
    int64_t first, tokens, width, ld, rows, rows_per_task;
    const float *k, *v;
};

static void store_vector(enum format format, const float *x, int64_t n, char *dst)
{
    if (format == FORMAT_Q4)
        q4_pack_vector(x, n, dst);
    else
        from_f32(format, x, n, dst);
}

static void store_task(void *arg, int task, int thread)
{
    const struct store *s = arg;
    const struct cache_view *c = s->cache;

    (void)thread;
    for (int64_t r = task * s->rows_per_task; r < min64((task + 1) * s->rows_per_task, s->rows); r++) {
        char *key = c->base + r / s->tokens * c->sequence_stride + cache_row(c, s->first + r % s->tokens) * c->token_stride;
        store_vector(c->format, s->k + r * s->ld, s->width, key);
        store_vector(c->format, s->v + r * s->ld, s->width, key + c->value_offset);
    }
}

void cache_store(struct pool *p, const struct cache_view *c, int64_t sequences, int64_t first, int64_t tokens, int64_t width,
                 const float *k, const float *v, int64_t ld)
{
    struct store s =
        {.cache = c, .first = first, .tokens = tokens, .width = width, .ld = ld, .rows = sequences * tokens, .k = k, .v = v};

    s.rows_per_task = max64(1, 8192 / max64(width, 1)); /* some microseconds */
    pool_run(p, (int)((s.rows + s.rows_per_task - 1) / s.rows_per_task), store_task, &s);
}
