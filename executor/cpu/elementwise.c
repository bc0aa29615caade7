/* elementwise.c - norms, sums, activations and conversions, shared out over the pool by runs of elements or rows. */
#include <math.h>
#include <string.h>

#include "executor/cpu/kernels.h"

#define VEC_WIDTH 1
#include "executor/cpu/elementwise_vec.h"
#undef VEC_WIDTH
#define VEC_WIDTH 8
#include "executor/cpu/elementwise_vec.h"
#undef VEC_WIDTH
#define VEC_WIDTH 16
#include "executor/cpu/elementwise_vec.h"
#undef VEC_WIDTH

#define RUN 16384 /* elements in one task: 64 KiB, some microseconds */

struct run {
    float *y;
    const float *x;
    int64_t n;
};

static int run_tasks(int64_t n)
{
    return (int)((n + RUN - 1) / RUN);
}

static int64_t run_end(const struct run *r, int task)
{
    const int64_t end = (int64_t)(task + 1) * RUN;

    return end < r->n ? end : r->n;
}

static void add_task(void *arg, int task, int thread)
{
    const struct run *r = arg;
    const int64_t end = run_end(r, task);
    int64_t i = (int64_t)task * RUN;

    (void)thread;
    if (cpu_isa() == ISA_AVX512)
        i = add_run_w16(r->y, r->x, i, end);
    else if (cpu_isa() == ISA_AVX2)
        i = add_run_w8(r->y, r->x, i, end);
    add_run_w1(r->y, r->x, i, end);
}

void add_rows(struct pool *p, float *y, const float *x, int64_t n)
{
    struct run r = {.y = y, .x = x, .n = n};

    pool_run(p, run_tasks(n), add_task, &r);
}

static void gelu_task(void *arg, int task, int thread)
{
    const struct run *r = arg;
    const int64_t end = run_end(r, task);
    int64_t i = (int64_t)task * RUN;

    (void)thread;
    if (cpu_isa() == ISA_AVX512)
        i = gelu_run_w16(r->y, i, end);
    else if (cpu_isa() == ISA_AVX2)
        i = gelu_run_w8(r->y, i, end);
    gelu_run_w1(r->y, i, end);
}

void gelu_rows(struct pool *p, float *y, int64_t n)
{
    struct run r = {.y = y, .n = n};

    pool_run(p, run_tasks(n), gelu_task, &r);
}

/* -- layer norm ---------------------------------------------------------------------------------------------------------- */
struct norm {
    const float *x, *gain, *bias;
    float *y;
    int64_t m, d, rows_per_task;
    double eps;
};

static void norm_task(void *arg, int task, int thread)
{
    const struct norm *n = arg;
    const int64_t end = (task + 1) * n->rows_per_task < n->m ? (task + 1) * n->rows_per_task : n->m;

    (void)thread;
    for (int64_t i = task * n->rows_per_task; i < end; i++) {
        const float *x = n->x + i * n->d;
        float *y = n->y + i * n->d;
        if (cpu_isa() == ISA_AVX512)
            norm_row_w16(x, n->d, n->gain, n->bias, n->eps, y);
        else if (cpu_isa() == ISA_AVX2)
            norm_row_w8(x, n->d, n->gain, n->bias, n->eps, y);
        else
            norm_row_w1(x, n->d, n->gain, n->bias, n->eps, y);
    }
}

void layer_norm(struct pool *p, const float *x, int64_t m, int64_t d, const float *gain, const float *bias, double eps, float *y)
{
    struct norm n = {.x = x, .gain = gain, .bias = bias, .y = y, .m = m, .d = d, .eps = eps};

    n.rows_per_task = d < RUN ? RUN / (d > 0 ? d : 1) : 1;
    pool_run(p, (int)((m + n.rows_per_task - 1) / n.rows_per_task), norm_task, &n);
}

/* -- conversions ----------------------------------------------------------------------------------------------------------- */
void to_f32(enum format format, const void *src, int64_t n, float *dst)
{
    int64_t i = 0;

    if (format == FORMAT_F32) {
        memmove(dst, src, (size_t)n * sizeof *dst);
        return;
    }
    if (cpu_isa() == ISA_AVX512)
        i = widen_run_w16(format, src, dst, 0, n);
    else if (cpu_isa() == ISA_AVX2)
        i = widen_run_w8(format, src, dst, 0, n);
    widen_run_w1(format, src, dst, i, n);
}

static void to_bf16(const float *src, int64_t n, char *dst)
{
    for (int64_t i = 0; i < n; i++) {
        const uint16_t b = bf16_from_f32(src[i]);
        memcpy(dst + 2 * i, &b, sizeof b);
    }
}

static void to_f16(const float *src, int64_t n, char *dst)
{
    int64_t i = 0;

    if (cpu_isa() == ISA_AVX512)
        i = narrow_run_w16(src, dst, 0, n);
    else if (cpu_isa() == ISA_AVX2)
        i = narrow_run_w8(src, dst, 0, n);
    narrow_run_w1(src, dst, i, n);
}

void from_f32(enum format format, const float *src, int64_t n, void *dst)
{
    if (format == FORMAT_F32)
        memmove(dst, src, (size_t)n * sizeof *src);
    else if (format == FORMAT_F16)
        to_f16(src, n, dst);
    else
        to_bf16(src, n, dst);
}
