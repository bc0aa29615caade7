/* linear.c - y = x W^T + b for weights in any format, a panel of 64 rows of W at a time.
 *
 * Few rows of x: each weight is read once from memory, converted in registers and multiplied at once, so that the time is that
 * of reading W: on AMX tiles for bf16 where there are any (up to TILE_M_MAX rows), else with dot products (up to DOT_MAX_*).
 * More rows: a few panels side by side, PRODUCT_K columns of them at a time, are converted into the thread's scratch, where they
 * stay in cache, and oneDNN multiplies blocks of x with them. x is read again for every group of panels: two of them halve that
 * traffic between the cache levels, and leave the second level room for a block of x.
 *
 * What a result depends on. One y[i, r] is computed by one thread, from x[i] and W[r] alone, over the columns in a fixed
 * order; so it does not depend on the number of threads, nor on how W is cut into pieces. All ways round the operands alike,
 * but add in their own order, so the last bits may change where m passes from few to many. Within each way the result does
 * not depend on m, provided that oneDNN's block product treats all rows of A alike; tests check it. (Where oneDNN uses AMX,
 * its sums and those of the tiles here are the same bits too, but that is not promised.)
 */
#include <stdatomic.h>
#include <string.h>

#include "executor/cpu/kernels.h"
#include "executor/cpu/linear_kernels.h"
#include "executor/cpu/onednn.h"
#include "model/integers.h"

#define DOT_MAX_F32  8 /* above these, a panel converted for oneDNN costs less than more dot products (bench_kernels) */
#define DOT_MAX_BF16 6
#define M_BLOCK      256  /* rows of x in one product */
#define M_CHUNK      1024 /* rows of x between two conversions of a panel: bounds the scratch */
#define TILE_PANELS  8    /* one after the other by one thread */
#define M_STEP       4    /* rows of x are padded to this, so that oneDNN sees few shapes and never its kernels for tiny m */

static enum math effective_math(enum math math)
{
    return math == MATH_BF16 && cpu_has_bf16() ? MATH_BF16 : MATH_F32;
}

static int64_t element_bytes(enum math math)
{
    return math == MATH_BF16 ? 2 : 4;
}

/* -- scratch ----------------------------------------------------------------------------------------------------------- */
/* Laid out as: x copy, then for every thread: panel, results, Q4 scales and minima, library. Each part a multiple of 64 bytes. */
struct layout {
    int64_t x_bytes, panel_bytes, result_bytes, group_bytes, thread_bytes;
};

static struct layout scratch_layout(enum math math, int64_t m, int64_t cols)
{
    const int64_t padded = round_up(cols, COLUMN_STEP);
    const int64_t bytes = element_bytes(math);
    struct layout s = {
        .x_bytes = round_up(min64(m, M_CHUNK), M_STEP) * padded * bytes,
        .panel_bytes = PRODUCT_PANELS * PANEL_N * min64(padded, PRODUCT_K) * bytes,
        .result_bytes = M_CHUNK * PRODUCT_PANELS * PANEL_N * (int64_t)sizeof(float),
        .group_bytes = 2 * padded * (int64_t)sizeof(float),
    };

    s.thread_bytes = s.panel_bytes + s.result_bytes + s.group_bytes + PRODUCT_SCRATCH_BYTES;
    return s;
}

int64_t linear_scratch_bytes(int threads, enum math math, int64_t m, int64_t cols)
{
    const struct layout s = scratch_layout(effective_math(math), m, cols);

    return 64 + s.x_bytes + threads * s.thread_bytes; /* 64: to align the caller's pointer */
}

/* -- one call ---------------------------------------------------------------------------------------------------------- */
struct call {
    const struct linear_kernels *kernel;
    enum math math;
    enum panel_layout layout;
    const struct weight_rows *w;
    int64_t rows, cols, padded;
    const float *bias;
    bool relu;
    const float *x; /* the current chunk of at most M_CHUNK rows */
    int64_t ldx, m;
    float *y; /* ditto */
    int64_t ldy;
    struct layout size;
    char *scratch;
    int64_t panels;         /* of 64 rows */
    int64_t group, m_parts; /* many rows of x: a task is a group of panels x a part of the chunk's blocks */
    /* compiled products for [full block, last block][full group, last group][full depth, last depth][first depth, further ones] */
    const struct product *product[2][2][2][2];
    atomic_int library_error;
};

struct thread_scratch {
    char *panel;
    float *result, *scale, *min;
    char *library;
};

static struct thread_scratch thread_scratch(const struct call *c, int thread)
{
    char *p = c->scratch + c->size.x_bytes + thread * c->size.thread_bytes;
    struct thread_scratch t = {.panel = p};

    p += c->size.panel_bytes;
    t.result = (float *)(void *)p;
    p += c->size.result_bytes;
    t.scale = (float *)(void *)p;
    t.min = t.scale + c->padded;
    t.library = p + c->size.group_bytes;
    return t;
}

/* Rows 64*index.. of the piece, for columns [begin, begin + k); for Q4 that is one block, whose scales and minima there are
 * widened into the scratch. */
static struct weight_panel panel_view(const struct call *c, int64_t index, int64_t begin, int64_t k,
                                      const struct thread_scratch *t)
{
    const char *data = c->w->data;
    struct weight_panel p = {.format = c->w->format, .rows = min64(PANEL_N, c->rows - index * PANEL_N), .cols = c->cols};

    if (p.format == FORMAT_Q4) {
        const char *block = data + index * format_matrix_bytes(FORMAT_Q4, Q4_GROUP, c->cols);
        p.row_stride = (c->cols + 1) / 2;
        p.data = block + 4 * c->cols;
        const int64_t n = min64(k, c->cols - begin);
        c->kernel->widen_f16(block + 2 * begin, n, k, t->scale + begin);
        c->kernel->widen_f16(block + 2 * (c->cols + begin), n, k, t->min + begin);
        p.scale = t->scale;
        p.min = t->min;
    } else {
        p.row_stride = format_matrix_bytes(p.format, 1, c->cols);
        p.data = data + index * PANEL_N * p.row_stride;
    }
    return p;
}

/* -- few rows of x ----------------------------------------------------------------------------------------------------- */
static void store_dots(const struct call *c, int64_t row, int64_t rows, int64_t i0, int64_t m, const float *dot)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t r = 0; r < rows; r++) {
            const int64_t column = c->w->row_begin + row + r;
            const float v = dot[r * DOT_M + i] + (c->bias ? c->bias[column] : 0.0f);
            c->y[(i0 + i) * c->ldy + column] = c->relu && v < 0.0f ? 0.0f : v;
        }
}

static void dot_rows(const struct call *c, const struct weight_panel *p, const char *const *row, int64_t i0, int m, float *dot)
{
    if (c->math == MATH_BF16)
        c->kernel->dot_bf16(p, row, (const uint16_t *)(const void *)c->scratch + i0 * c->padded, c->padded, m, dot);
    else
        c->kernel->dot(p, row, (const float *)(const void *)c->scratch + i0 * c->padded, c->padded, m, dot);
}

static void dot_task(void *arg, int task, int thread)
{
    const struct call *c = arg;
    const struct thread_scratch t = thread_scratch(c, thread);
    const struct weight_panel p = panel_view(c, task, 0, c->padded, &t);
    float dot[DOT_ROWS * DOT_M];
    const char *row[DOT_ROWS];

    for (int64_t r0 = 0; r0 < p.rows; r0 += DOT_ROWS) {
        for (int64_t r = 0; r < DOT_ROWS; r++) /* beyond the end the last row again, not stored */
            row[r] = p.data + min64(r0 + r, p.rows - 1) * p.row_stride;
        for (int64_t i0 = 0; i0 < c->m; i0 += DOT_M) {
            const int64_t m = min64(DOT_M, c->m - i0);
            dot_rows(c, &p, row, i0, m == 3 ? 4 : (int)m, dot); /* x is padded to M_STEP rows */
            store_dots(c, task * PANEL_N + r0, min64(DOT_ROWS, p.rows - r0), i0, m, dot);
        }
    }
}

/* -- few rows of x, on tiles --------------------------------------------------------------------------------------------- */
#define PACK_STEPS 32 /* of 32 columns, by one task */

static void pack_task(void *arg, int task, int thread)
{
    const struct call *c = arg;
    const int64_t tasks_per_block = (c->padded + PACK_STEPS * COLUMN_STEP - 1) / (PACK_STEPS * COLUMN_STEP);
    const int64_t begin = task % tasks_per_block * PACK_STEPS * COLUMN_STEP;
    const struct weight_panel x = {FORMAT_F32, c->m, c->cols, (const char *)c->x, c->ldx * (int64_t)sizeof(float), NULL, NULL};

    (void)thread;
    c->kernel->pack_tiles(&x, task / tasks_per_block, begin, min64(PACK_STEPS, (c->padded - begin) / COLUMN_STEP), c->padded,
                          (uint16_t *)(void *)c->scratch);
}

/* y's columns of `rows` weight rows from `column` on = m results, `stride` apart, finished */
static void store_results(const struct call *c, int64_t column, int64_t rows, int64_t i0, int64_t m, const float *result,
                          int64_t stride)
{
    const int64_t to = c->w->row_begin + column;

    for (int64_t i = 0; i < m; i++)
        c->kernel->finish(result + i * stride, c->bias ? c->bias + to : NULL, c->relu, rows, c->y + (i0 + i) * c->ldy + to);
}

static void tile_task(void *arg, int task, int thread)
{
    const struct call *c = arg;
    const struct thread_scratch t = thread_scratch(c, thread);

    for (int64_t panel = task * c->group; panel < min64((task + 1) * c->group, c->panels); panel++) {
        const struct weight_panel p = panel_view(c, panel, 0, c->padded, &t);
        c->kernel->tiles(&p, (const uint16_t *)(const void *)c->scratch, c->padded, (int)((c->m + 15) / 16), t.result);
        store_results(c, panel * PANEL_N, p.rows, 0, c->m, t.result, PANEL_N);
    }
}

/* -- many rows of x: panels and products --------------------------------------------------------------------------------- */
static int64_t depth(const struct call *c, int64_t begin)
{
    return min64(PRODUCT_K, c->padded - begin);
}

/* Columns [begin, ..) of the panels first .. first + n - 1, one after the other. */
static void fill_panels(const struct call *c, int64_t first, int64_t n, int64_t begin, const struct thread_scratch *t)
{
    const int64_t k = depth(c, begin);

    for (int64_t i = 0; i < n; i++) {
        const struct weight_panel p = panel_view(c, first + i, begin, k, t);
        char *out = t->panel + i * PANEL_N * k * element_bytes(c->math);
        if (c->math == MATH_BF16)
            c->kernel->fill_bf16(&p, begin, k, c->layout, (uint16_t *)(void *)out);
        else
            c->kernel->fill_f32(&p, begin, k, c->layout, (float *)(void *)out);
    }
}

/* Where x's columns [begin, ..) of row i lie: the copy is cut into depths, each dense. */
static char *x_copy(const struct call *c, int64_t begin, int64_t i)
{
    return c->scratch + (begin * round_up(c->m, M_STEP) + i * depth(c, begin)) * element_bytes(c->math);
}

static void panel_task(void *arg, int task, int thread)
{
    struct call *c = arg;
    const struct thread_scratch t = thread_scratch(c, thread);
    const int64_t first = task / c->m_parts * c->group, part = task % c->m_parts;
    const int64_t n = min64(c->group, c->panels - first), width = n * PANEL_N;

    for (int64_t begin = 0; begin < c->padded; begin += PRODUCT_K) {
        fill_panels(c, first, n, begin, &t);
        for (int64_t i0 = part * M_BLOCK; i0 < c->m; i0 += c->m_parts * M_BLOCK) {
            const struct product *product = c->product[c->m - i0 < M_BLOCK][n < c->group][depth(c, begin) < PRODUCT_K][begin > 0];
            const int rc = onednn_run(product, x_copy(c, begin, i0), t.panel, t.result + i0 * width, t.library);
            if (rc != 0)
                atomic_store(&c->library_error, rc);
        }
    }
    for (int64_t i0 = part * M_BLOCK; i0 < c->m; i0 += c->m_parts * M_BLOCK)
        store_results(c, first * PANEL_N, min64(width, c->rows - first * PANEL_N), i0, min64(M_BLOCK, c->m - i0),
                      t.result + i0 * width, width);
}

static enum status get_products(struct call *c, struct error *err)
{
    const int64_t m[2] = {c->m < M_BLOCK ? 0 : M_BLOCK, round_up(c->m % M_BLOCK, M_STEP)};
    const int64_t n[2] = {c->panels < c->group ? 0 : c->group * PANEL_N, c->panels % c->group * PANEL_N};
    const int64_t k[2] = {c->padded < PRODUCT_K ? 0 : PRODUCT_K, c->padded % PRODUCT_K};
    enum status status = STATUS_OK;

    for (int i = 0; i < 16 && status == STATUS_OK; i++) {
        const int im = i >> 3, in = i >> 2 & 1, ik = i >> 1 & 1, add = i & 1;
        if (m[im] && n[in] && k[ik] && (!add || c->padded > PRODUCT_K))
            status = onednn_product(&c->product[im][in][ik][add], c->math, c->layout, m[im], n[in], k[ik], add, err);
    }
    return status;
}

/* -- the copy of x --------------------------------------------------------------------------------------------------------- */
static void copy_row(const struct call *c, int64_t i, int64_t begin, int64_t width, char *out)
{
    const float *x = c->x + i * c->ldx + begin;
    const int64_t n = i < c->m ? min64(width, c->cols - begin) : 0;

    if (c->math == MATH_BF16)
        c->kernel->copy_bf16(x, n, width, (uint16_t *)(void *)out);
    else
        c->kernel->copy_f32(x, n, width, (float *)(void *)out);
}

static void copy_for_dots(void *arg, int task, int thread)
{
    const struct call *c = arg;

    (void)thread;
    copy_row(c, task, 0, c->padded, c->scratch + task * c->padded * element_bytes(c->math));
}

static void copy_for_products(void *arg, int task, int thread)
{
    const struct call *c = arg;

    (void)thread;
    for (int64_t begin = 0; begin < c->padded; begin += PRODUCT_K)
        copy_row(c, task, begin, depth(c, begin), x_copy(c, begin, task));
}

/* -- the whole ------------------------------------------------------------------------------------------------------------- */
static enum status multiply_few(struct pool *p, struct call *c)
{
    const int rows = (int)round_up(c->m, DOT_M);

    pool_run(rows * c->padded < 65536 ? NULL : p, rows, copy_for_dots, c);
    pool_run(p, (int)c->panels, dot_task, c);
    return STATUS_OK;
}

static enum status multiply_tiles(struct pool *p, struct call *c)
{
    const int64_t tasks = (c->m + 15) / 16 * ((c->padded + PACK_STEPS * COLUMN_STEP - 1) / (PACK_STEPS * COLUMN_STEP));

    c->group = max64(1, min64(TILE_PANELS, c->panels / (4 * pool_threads(p)))); /* a thread goes on where it has prefetched */
    pool_run(tasks > 4 ? p : NULL, (int)tasks, pack_task, c);
    pool_run(p, (int)((c->panels + c->group - 1) / c->group), tile_task, c);
    return STATUS_OK;
}

/* Wide groups of panels read x least often; but there must be enough tasks to keep the threads evenly busy. With fewer panels
 * than that, the blocks of x are shared out too, and panels converted more than once. */
static void share_out(struct call *c, int threads)
{
    const int64_t tasks = threads > 1 ? 4 * (int64_t)threads : 1, blocks = (c->m + M_BLOCK - 1) / M_BLOCK;

    c->group = PRODUCT_PANELS;
    while (c->group > 1 && (c->panels + c->group - 1) / c->group < tasks)
        c->group /= 2;
    c->m_parts = min64(blocks, (tasks + c->panels - 1) / c->panels);
}

static enum status multiply_many(struct pool *p, struct call *c, struct error *err)
{
    share_out(c, pool_threads(p));
    const enum status status = get_products(c, err);

    if (status != STATUS_OK)
        return status;
    pool_run(p, (int)round_up(c->m, M_STEP), copy_for_products, c);
    pool_run(p, (int)((c->panels + c->group - 1) / c->group * c->m_parts), panel_task, c);
    if (c->library_error)
        return error_set(err, STATUS_RUNTIME, "oneDNN: a product failed with status %d", c->library_error);
    return STATUS_OK;
}

enum status linear(struct pool *p, enum math math, const struct weight_rows *w, const float *bias, bool relu, const float *x,
                   int64_t ldx, int64_t m, float *y, int64_t ldy, void *scratch, struct error *err)
{
    struct call c = {.kernel = linear_kernels(),
                     .math = effective_math(math),
                     .w = w,
                     .rows = w->row_end - w->row_begin,
                     .cols = w->cols,
                     .padded = round_up(w->cols, COLUMN_STEP),
                     .bias = bias,
                     .relu = relu,
                     .ldx = ldx,
                     .ldy = ldy};
    const int64_t dot_max = c.math == MATH_BF16 ? DOT_MAX_BF16 : DOT_MAX_F32;
    enum status status = STATUS_OK;

    c.size = scratch_layout(c.math, m, w->cols);
    c.scratch = (char *)(((uintptr_t)scratch + 63) & ~(uintptr_t)63);
    c.panels = (c.rows + PANEL_N - 1) / PANEL_N;
    c.layout = c.kernel->blocked && m > dot_max ? onednn_panel_layout(c.math) : PANEL_ROWS;
    for (int64_t done = 0; done < m && c.rows > 0 && status == STATUS_OK; done += M_CHUNK) {
        c.x = x + done * ldx;
        c.y = y + done * ldy;
        c.m = min64(M_CHUNK, m - done);
        if (c.math == MATH_BF16 && c.kernel->tiles && m <= TILE_M_MAX)
            status = multiply_tiles(p, &c);
        else
            status = m <= dot_max ? multiply_few(p, &c) : multiply_many(p, &c, err);
    }
    return status;
}
