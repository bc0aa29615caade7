/* bench_kernels.c - how near the CPU kernels come to what the machine allows. CSV on stdout.
 *
 *     bench_kernels [threads] [seconds per case] [rows cols]
 *
 * With one thread the clock is that thread's processor time, so that other work on the machine disturbs less. With rows and
 * cols only linear() on that matrix is measured; with rows 0 only attention.
 *
 * Two yardsticks, each run in turn with the kernel, pair by pair: a read-only sweep of a large buffer by the same threads
 * (memory), and oneDNN's product of the same m and cols on panels converted beforehand and in cache (arithmetic). A ratio is
 * the kernel's rate over the yardstick's, the median of the pairs; the rates themselves are the best seen.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "executor/cpu/kernels.h"
#include "executor/cpu/onednn.h"
#include "model/sparse.h"

static clockid_t clock_id = CLOCK_MONOTONIC;

static double now_s(void)
{
    struct timespec t;

    clock_gettime(clock_id, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *allocate(int64_t bytes)
{
    void *p = aligned_alloc(4096, ((size_t)bytes + 4095) / 4096 * 4096);

    if (!p) {
        fprintf(stderr, "bench_kernels: cannot allocate %lld bytes\n", (long long)bytes);
        exit(STATUS_RUNTIME);
    }
    return p;
}

static uint32_t random_state = 1;

static float random_float(void)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (float)(random_state >> 8) / 8388608.0f - 1.0f;
}

static float *random_floats(int64_t n)
{
    float *x = allocate(n * (int64_t)sizeof *x);

    for (int64_t i = 0; i < n; i++)
        x[i] = random_float();
    return x;
}

/* -- a job, run again and again, keeping the best time ----------------------------------------------------------------- */
struct job {
    void (*run)(void *arg);
    void *arg;
    double best_s;
};

static double time_once(struct job *j)
{
    const double begin = now_s();

    j->run(j->arg);
    const double s = now_s() - begin;
    if (s < j->best_s)
        j->best_s = s;
    return s;
}

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

#define PAIRS_MAX 4096

/* Runs the two in turn; returns the median of time(b) / time(a) over the pairs, which saw the same machine. */
static double race(struct job *a, struct job *b, double seconds)
{
    static double ratio[PAIRS_MAX];
    const double begin = now_s();
    int n = 0;

    a->best_s = b->best_s = 1e30;
    a->run(a->arg); /* warm up */
    b->run(b->arg);
    do {
        const double s = time_once(a);
        ratio[n++] = time_once(b) / s;
    } while (n < PAIRS_MAX && (n < 5 || now_s() - begin < seconds));
    qsort(ratio, (size_t)n, sizeof *ratio, compare_doubles);
    return ratio[n / 2];
}

/* -- yardstick: memory --------------------------------------------------------------------------------------------------- */
#define SWEEP_BYTES ((int64_t)256 << 20)
#define SWEEP_TASKS 256

struct sweep {
    struct pool *pool;
    const char *data;
    volatile uint64_t sink;
};

typedef uint64_t wide __attribute__((vector_size(64), aligned(64), may_alias));

__attribute__((target("avx512f"))) static uint64_t sweep_avx512(const char *p, int64_t n)
{
    wide a = {0}, b = {0}, c = {0}, d = {0};

    for (int64_t i = 0; i < n; i += 256) {
        a ^= *(const wide *)(p + i);
        b ^= *(const wide *)(p + i + 64);
        c ^= *(const wide *)(p + i + 128);
        d ^= *(const wide *)(p + i + 192);
    }
    a ^= b ^ c ^ d;
    return a[0] ^ a[1] ^ a[2] ^ a[3] ^ a[4] ^ a[5] ^ a[6] ^ a[7];
}

static uint64_t sweep_plain(const char *p, int64_t n)
{
    uint64_t s = 0, v;

    for (int64_t i = 0; i < n; i += 8) {
        memcpy(&v, p + i, sizeof v);
        s ^= v;
    }
    return s;
}

static void sweep_task(void *arg, int task, int thread)
{
    struct sweep *s = arg;
    const int64_t n = SWEEP_BYTES / SWEEP_TASKS;

    (void)thread;
    s->sink ^= cpu_isa() == ISA_AVX512 ? sweep_avx512(s->data + task * n, n) : sweep_plain(s->data + task * n, n);
}

static void sweep_run(void *arg)
{
    struct sweep *s = arg;

    pool_run(s->pool, SWEEP_TASKS, sweep_task, s);
}

/* -- linear ---------------------------------------------------------------------------------------------------------------- */
struct linear_job {
    struct pool *pool;
    enum math math;
    struct weight_rows w[64]; /* copies, so that a small matrix does not stay in cache */
    int copies, next;
    const float *x, *bias;
    int64_t m;
    float *y;
    void *scratch;
};

static void linear_run(void *arg)
{
    struct linear_job *j = arg;
    const struct weight_rows *w = &j->w[j->next++ % j->copies];
    struct error err = {0};

    if (linear(j->pool, j->math, w, j->bias, false, j->x, w->cols, j->m, j->y, w->row_end, j->scratch, &err) != STATUS_OK) {
        fprintf(stderr, "bench_kernels: %s\n", err.text);
        exit(err.status);
    }
}

/* oneDNN on ready panels: every thread multiplies the same blocks again and again, so that nothing but its product is timed. */
struct product_job {
    struct pool *pool;
    const struct product *product;
    int64_t m, n, k;
    int tasks;
    const char *a, *b;
    float *c;    /* (threads, m, n) */
    char *extra; /* (threads) library scratch */
};

static void product_task(void *arg, int task, int thread)
{
    struct product_job *j = arg;

    (void)task;
    onednn_run(j->product, j->a, j->b, j->c + thread * j->m * j->n, j->extra + thread * PRODUCT_SCRATCH_BYTES);
}

static void product_run(void *arg)
{
    struct product_job *j = arg;

    pool_run(j->pool, j->tasks, product_task, j);
}

static void product_job_make(struct product_job *j, struct pool *pool, enum math math, int64_t m, int64_t cols)
{
    const int64_t k = cols < PRODUCT_K ? cols : PRODUCT_K, n = PRODUCT_PANELS * PRODUCT_N, bytes = math == MATH_BF16 ? 2 : 4;

    *j = (struct product_job){.pool = pool, .m = m, .n = n, .k = k, .tasks = 16 * pool_threads(pool)};
    onednn_product(&j->product, math, onednn_panel_layout(math), m, n, k, false, NULL);
    j->a = memset(allocate(m * k * bytes), 0x3c, (size_t)(m * k * bytes));
    j->b = memset(allocate(n * k * bytes), 0x3c, (size_t)(n * k * bytes));
    j->c = allocate(pool_threads(pool) * m * n * 4);
    j->extra = allocate(pool_threads(pool) * (int64_t)PRODUCT_SCRATCH_BYTES);
}

static void product_job_free(struct product_job *j)
{
    free((void *)(uintptr_t)j->a);
    free((void *)(uintptr_t)j->b);
    free(j->c);
    free(j->extra);
}

static void make_weights(struct linear_job *j, enum format format, int64_t rows, int64_t cols)
{
    const int64_t bytes = format_matrix_bytes(format, rows, cols);
    float *w = random_floats(rows * cols);

    j->copies = (int)(((int64_t)512 << 20) / bytes + 1);
    j->copies = j->copies > 64 ? 64 : j->copies;
    for (int i = 0; i < j->copies; i++) {
        void *data = allocate(bytes);
        if (i > 0)
            memcpy(data, j->w[0].data, (size_t)bytes);
        else if (format == FORMAT_Q4)
            q4_pack_matrix(w, rows, cols, data);
        else
            from_f32(format, w, rows * cols, data);
        j->w[i] = (struct weight_rows){.format = format, .data = data, .row_end = rows, .cols = cols};
    }
    free(w);
}

static void bench_linear(struct pool *pool, struct sweep *sweep, enum math math, enum format format, int64_t m, int64_t rows,
                         int64_t cols, double seconds)
{
    const int threads = pool_threads(pool);
    struct linear_job j = {.pool = pool, .math = math, .m = m};
    struct product_job yard;
    float *x = random_floats(m * cols);
    struct job kernel = {linear_run, &j, 0}, memory = {sweep_run, sweep, 0}, product = {product_run, &yard, 0};

    make_weights(&j, format, rows, cols);
    j.x = x;
    j.y = allocate(m * rows * 4);
    j.scratch = allocate(linear_scratch_bytes(threads, math, m, cols));
    const double bytes = (double)format_matrix_bytes(format, rows, cols), flops = 2.0 * (double)m * (double)rows * (double)cols;
    const double memory_ratio = race(&kernel, &memory, seconds) * bytes / (double)SWEEP_BYTES;
    const double bytes_per_s = bytes / kernel.best_s;
    double ratio = 0, yard_flops = 0;
    if (m >= 16) {
        product_job_make(&yard, pool, math, m < 256 ? m / 16 * 16 : 256, cols / 32 * 32);
        yard_flops = 2.0 * (double)yard.m * (double)yard.k * (double)yard.n * yard.tasks;
        ratio = race(&kernel, &product, seconds) * flops / yard_flops;
        yard_flops /= product.best_s;
        product_job_free(&yard);
    }
    printf("linear,%s,%s,%lld,%lld,%lld,%d,%.6f,%.1f,%.2f,%.2f,%.1f,%.2f\n", math == MATH_BF16 ? "bf16" : "f32",
           format_name(format), (long long)m, (long long)rows, (long long)cols, threads, kernel.best_s,
           flops / kernel.best_s * 1e-9, bytes_per_s * 1e-9, memory_ratio, yard_flops * 1e-9, ratio);
    fflush(stdout);
    for (int i = 0; i < j.copies; i++)
        free((void *)(uintptr_t)j.w[i].data);
    free(x);
    free(j.y);
    free(j.scratch);
}

/* -- attention --------------------------------------------------------------------------------------------------------------- */
struct attention_job {
    struct pool *pool;
    struct attention_shape shape;
    struct cache_view cache;
    int64_t sequences, first, tokens;
    const int32_t *pad;
    float *q, *out;
    void *scratch;
    int64_t scratch_bytes;
    double sparsity;
};

static void attention_run(void *arg)
{
    struct attention_job *j = arg;

    if (j->sparsity < 1)
        sparse_attention(j->pool, &j->shape, &j->cache, j->sequences, j->first, j->sparsity, j->pad, j->q,
                         j->shape.heads * j->shape.head_dim, j->out, j->scratch, j->scratch_bytes);
    else
        attention(j->pool, &j->shape, &j->cache, j->sequences, j->first, j->tokens, j->pad, j->q,
                  j->shape.heads * j->shape.head_dim, j->out, j->scratch);
}

static void bench_attention(struct pool *pool, struct sweep *sweep, enum format format, int64_t heads, int64_t kv_heads,
                            int64_t head_dim, int64_t sequences, int64_t context, int64_t tokens, double sparsity, double seconds)
{
    const int64_t width = kv_heads * head_dim, q_width = heads * head_dim, vector = format_vector_bytes(format, width);
    const int64_t bytes = context * sequences * 2 * vector;
    int32_t *pad = calloc((size_t)sequences, sizeof *pad);
    float *row = random_floats(width * sequences + context); /* a token's keys and values are the last one's, shifted */
    struct attention_job j = {
        .pool = pool,
        .shape = {heads, kv_heads, head_dim, 0.1},
        .cache = {format, allocate(bytes), sequences * vector, vector, context * sequences * vector},
        .sequences = sequences,
        .first = context - tokens,
        .tokens = tokens,
        .pad = pad,
        .q = random_floats(sequences * tokens * q_width),
        .out = allocate(sequences * tokens * q_width * 4),
        .sparsity = sparsity,
    };
    struct job kernel = {attention_run, &j, 0}, memory = {sweep_run, sweep, 0};

    j.scratch_bytes = sparse_attention_scratch_bytes(pool_threads(pool), &j.shape, context) + (8 << 20);
    j.scratch = allocate(j.scratch_bytes);
    for (int64_t t = 0; t < context; t++)
        cache_store(pool, &j.cache, sequences, t, 1, width, row + t, row + t, width);
    const double part = sparse_read(sparsity, (double)context) / (double)context; /* that is read */
    const double memory_ratio = race(&kernel, &memory, seconds) * part * (double)bytes / (double)SWEEP_BYTES;
    const double pairs = part * (double)(sequences * heads) *
                         ((double)tokens * (double)(context - tokens) + (double)tokens * (double)(tokens + 1) / 2);
    const double bytes_per_s = part * (double)bytes / kernel.best_s;
    printf("%s,f32,%s,%lld,%lld,%lld,%d,%.6f,%.1f,%.2f,%.2f,,\n", sparsity < 1 ? "sparse attention" : "attention",
           format_name(format), (long long)(sequences * tokens), (long long)context, (long long)width, pool_threads(pool),
           kernel.best_s, 4.0 * pairs * (double)head_dim / kernel.best_s * 1e-9, bytes_per_s * 1e-9, memory_ratio);
    fflush(stdout);
    free(pad);
    free(row);
    free(j.cache.base);
    free(j.q);
    free(j.out);
    free(j.scratch);
}

static void bench_matrix(struct sweep *sweep, int64_t rows, int64_t cols, double seconds)
{
    static const int64_t m_list[] = {1, 4, 8, 16, 32, 128, 512, 2048};

    for (size_t i = 0; i < sizeof m_list / sizeof *m_list; i++) {
        bench_linear(sweep->pool, sweep, MATH_BF16, FORMAT_F16, m_list[i], rows, cols, seconds);
        bench_linear(sweep->pool, sweep, MATH_BF16, FORMAT_Q4, m_list[i], rows, cols, seconds);
        bench_linear(sweep->pool, sweep, MATH_F32, FORMAT_F16, m_list[i], rows, cols, seconds);
    }
}

static void bench_all_attention(struct sweep *sweep, double seconds)
{
    static const enum format format[] = {FORMAT_F32, FORMAT_F16, FORMAT_Q4};

    for (int i = 0; i < 3; i++) {
        bench_attention(sweep->pool, sweep, format[i], 40, 40, 128, 1, 4096, 1, 1, seconds);
        bench_attention(sweep->pool, sweep, format[i], 40, 40, 128, 1, 4096, 1, 0.1, seconds);
        bench_attention(sweep->pool, sweep, format[i], 40, 40, 128, 16, 512, 1, 1, seconds);
        bench_attention(sweep->pool, sweep, format[i], 40, 40, 128, 16, 512, 1, 0.1, seconds);
        bench_attention(sweep->pool, sweep, format[i], 32, 8, 128, 16, 1024, 1, 1, seconds);
        bench_attention(sweep->pool, sweep, format[i], 32, 32, 64, 16, 512, 1, 1, seconds);
        bench_attention(sweep->pool, sweep, format[i], 32, 32, 64, 16, 512, 1, 0.1, seconds);
        bench_attention(sweep->pool, sweep, format[i], 32, 32, 64, 4, 512, 512, 1, seconds);
        bench_attention(sweep->pool, sweep, format[i], 40, 40, 128, 2, 1024, 1024, 1, seconds);
    }
}

int main(int argc, char **argv)
{
    static const int64_t matrix[][2] = {{2048, 2048}, {8192, 2048}, {5120, 5120}, {20480, 5120}, {5120, 20480}};
    const int threads = argc > 1 ? atoi(argv[1]) : 1;
    const double seconds = argc > 2 ? atof(argv[2]) : 0.5;
    const int64_t only_rows = argc > 4 ? atoll(argv[3]) : -1, only_cols = argc > 4 ? atoll(argv[4]) : -1;
    struct sweep sweep = {0};
    struct error err = {0};
    char text[256];

    if (threads == 1)
        clock_id = CLOCK_THREAD_CPUTIME_ID;
    if (pool_new(&sweep.pool, threads, &err) != STATUS_OK) {
        fprintf(stderr, "bench_kernels: %s\n", err.text);
        return (int)err.status;
    }
    sweep.data = memset(allocate(SWEEP_BYTES), 1, SWEEP_BYTES);
    printf("# %s\n", cpu_describe(text, sizeof text));
    printf("kernel,math,format,m,rows,cols,threads,seconds,gflop_per_s,gb_per_s,memory_ratio,onednn_gflop_per_s,onednn_ratio\n");
    for (size_t i = 0; only_rows < 0 && i < sizeof matrix / sizeof *matrix; i++)
        bench_matrix(&sweep, matrix[i][0], matrix[i][1], seconds);
    if (only_rows > 0)
        bench_matrix(&sweep, only_rows, only_cols, seconds);
    if (only_rows <= 0)
        bench_all_attention(&sweep, seconds);
    free((void *)(uintptr_t)sweep.data);
    pool_free(sweep.pool);
    return 0;
}
