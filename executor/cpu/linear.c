/* linear.c - y = x W^T + b for weights in any format, a panel of 64 rows of W at a time.
 *
 * Few rows of x: each weight is read once from memory, converted in registers and multiplied at once, so that the time is that
 * of reading W: on AMX tiles for bf16 where there are any (up to TILE_M_MAX rows), else with dot products (up to DOT_MAX_*).
 * More rows: a panel is converted into the thread's scratch, where it stays in cache, and oneDNN multiplies blocks of x with
 * it; the products are 64 columns wide and at most PRODUCT_K deep, whatever the matrix.
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

#define DOT_MAX_F32  8 /* above these, a panel converted for oneDNN costs less than more dot products (bench_kernels) */
#define DOT_MAX_BF16 4
#define M_BLOCK      256  /* rows of x in one product: 64 KiB of results stay in cache */
#define M_CHUNK      2048 /* rows of x converted at a time: bounds the scratch; the panel's conversion is then about 2 % */
#define M_STEP       16   /* rows of x are padded to this, so that oneDNN sees few shapes and never its kernels for tiny m */

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t round_up(int64_t n, int64_t step)
{
    return (n + step - 1) / step * step;
}

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
        .panel_bytes = PANEL_N * padded * bytes,
        .result_bytes = M_BLOCK * PANEL_N * (int64_t)sizeof(float),
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
    int64_t panels, m_parts; /* tasks: panels x parts of the chunk's blocks */
    /* compiled products for [full block, last block][full depth, last depth][first depth or further ones] */
    const struct product *product[2][2][2];
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

/* Rows 64*index.. of the piece; for Q4 that is one block, whose scales and minima are widened into the scratch. */
static struct weight_panel panel_view(const struct call *c, int64_t index, const struct thread_scratch *t)
{
    const char *data = c->w->data;
    struct weight_panel p = {.format = c->w->format, .rows = min64(PANEL_N, c->rows - index * PANEL_N), .cols = c->cols};

    if (p.format == FORMAT_Q4) {
        const char *block = data + index * format_matrix_bytes(FORMAT_Q4, Q4_GROUP, c->cols);
        p.row_stride = (c->cols + 1) / 2;
        p.data = block + 4 * c->cols;
        c->kernel->widen_f16(block, c->cols, c->padded, t->scale);
        c->kernel->widen_f16(block + 2 * c->cols, c->cols, c->padded, t->min);
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
    const struct weight_panel p = panel_view(c, task, &t);
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

static void store_block(const struct call *c, int64_t panel, int64_t rows, int64_t i0, const float *result)
{
    const int64_t column = c->w->row_begin + panel * PANEL_N;
    const float *bias = c->bias ? c->bias + column : NULL;

    for (int64_t i = 0; i < min64(M_BLOCK, c->m - i0); i++)
        c->kernel->finish(result + i * PANEL_N, bias, c->relu, rows, c->y + (i0 + i) * c->ldy + column);
}

static void tile_task(void *arg, int task, int thread)
{
    const struct call *c = arg;
    const struct thread_scratch t = thread_scratch(c, thread);
    const struct weight_panel p = panel_view(c, task, &t);

    c->kernel->tiles(&p, (const uint16_t *)(const void *)c->scratch, c->padded, (int)((c->m + 15) / 16), t.result);
    store_block(c, task, p.rows, 0, t.result);
}

/* -- many rows of x: panels and products --------------------------------------------------------------------------------- */
static int64_t depth(const struct call *c, int64_t begin)
{
    return min64(PRODUCT_K, c->padded - begin);
}

static void fill_panel(const struct call *c, const struct weight_panel *p, char *panel)
{
    for (int64_t begin = 0; begin < c->padded; begin += PRODUCT_K) {
        char *out = panel + begin * PANEL_N * element_bytes(c->math);
        if (c->math == MATH_BF16)
            c->kernel->fill_bf16(p, begin, depth(c, begin), c->layout, (uint16_t *)(void *)out);
        else
            c->kernel->fill_f32(p, begin, depth(c, begin), c->layout, (float *)(void *)out);
    }
}

/* Where x's columns [begin, ..) of row i lie: the copy is cut into depths, each dense. */
static char *x_copy(const struct call *c, int64_t begin, int64_t i)
{
    return c->scratch + (begin * round_up(c->m, M_STEP) + i * depth(c, begin)) * element_bytes(c->math);
}

static void block_product(struct call *c, int64_t i0, const struct thread_scratch *t)
{
    const int last_block = c->m - i0 < M_BLOCK;

    for (int64_t begin = 0; begin < c->padded; begin += PRODUCT_K) {
        const struct product *product = c->product[last_block][depth(c, begin) < PRODUCT_K][begin > 0];
        const char *b = t->panel + begin * PANEL_N * element_bytes(c->math);
        const int rc = onednn_run(product, x_copy(c, begin, i0), b, t->result, t->library);
        if (rc != 0)
            atomic_store(&c->library_error, rc);
    }
}

static void panel_task(void *arg, int task, int thread)
{
    struct call *c = arg;
    const struct thread_scratch t = thread_scratch(c, thread);
    const int64_t panel = task / c->m_parts, part = task % c->m_parts;
    const struct weight_panel p = panel_view(c, panel, &t);

    fill_panel(c, &p, t.panel);
    for (int64_t i0 = part * M_BLOCK; i0 < c->m; i0 += c->m_parts * M_BLOCK) {
        block_product(c, i0, &t);
        store_block(c, panel, p.rows, i0, t.result);
    }
}

static enum status get_products(struct call *c, struct error *err)
{
    const int64_t m[2] = {M_BLOCK, round_up(c->m % M_BLOCK, M_STEP)};
    const int64_t k[2] = {PRODUCT_K, c->padded % PRODUCT_K};
    enum status status = STATUS_OK;

    for (int i = 0; i < 8 && status == STATUS_OK; i++) {
        const int a = i >> 2, b = i >> 1 & 1, add = i & 1;
        const bool wanted = m[a] > 0 && k[b] > 0 && (a == 1 || c->m >= M_BLOCK) && (b == 1 || c->padded >= PRODUCT_K) &&
                            (!add || c->padded > PRODUCT_K);
        if (wanted)
            status = onednn_product(&c->product[a][b][add], c->math, c->layout, m[a], k[b], add, err);
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

    pool_run(tasks > 4 ? p : NULL, (int)tasks, pack_task, c);
    pool_run(p, (int)c->panels, tile_task, c);
    return STATUS_OK;
}

/* With fewer panels than would keep the threads evenly busy, the blocks of x are shared out too, and panels converted more than
 * once. */
static int64_t parts_for(const struct call *c, int threads)
{
    const int64_t blocks = (c->m + M_BLOCK - 1) / M_BLOCK;
    const int64_t wanted = threads > 1 ? (4 * threads + c->panels - 1) / c->panels : 1;

    return min64(blocks, wanted);
}

static enum status multiply_many(struct pool *p, struct call *c, struct error *err)
{
    const enum status status = get_products(c, err);

    if (status != STATUS_OK)
        return status;
    c->m_parts = parts_for(c, pool_threads(p));
    pool_run(p, (int)round_up(c->m, M_STEP), copy_for_products, c);
    pool_run(p, (int)(c->panels * c->m_parts), panel_task, c);
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
