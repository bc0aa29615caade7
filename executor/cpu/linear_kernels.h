/* linear_kernels.h - the inner loops of linear(): reading weights in any format, tiny products, filling panels.
 *
 * One table per instruction set. Columns are padded to a multiple of COLUMN_STEP with zeros wherever a kernel writes.
 */
#ifndef BALLAST_EXECUTOR_CPU_LINEAR_KERNELS_H
#define BALLAST_EXECUTOR_CPU_LINEAR_KERNELS_H

#include <stdint.h>

#include "executor/cpu/kernels.h"
#include "executor/cpu/onednn.h"

#define COLUMN_STEP 32
#define PANEL_N     PRODUCT_N /* rows of a panel; also the rows of a Q4 block */
#define DOT_ROWS    4         /* weight rows of one dot kernel call */
#define TILE_M_MAX  32
#define DOT_M       4 /* at most so many rows of x in one dot kernel call */

/* At most PANEL_N rows of a weight matrix; for Q4 exactly one block of it. */
struct weight_panel {
    enum format format;
    int64_t rows, cols;
    const char *data;         /* the first row */
    int64_t row_stride;       /* bytes */
    const float *scale, *min; /* Q4: (cols padded), f32, zero in the padding */
};

struct linear_kernels {
    /* out[r * DOT_M + i] = sum_c row[r][c] * x[i][c] for DOT_ROWS rows and m = 1, 2 or 4. x is (m, ldx), padded; f32, or bf16
     * in dot_bf16. */
    void (*dot)(const struct weight_panel *w, const char *const *row, const float *x, int64_t ldx, int m, float *out);
    void (*dot_bf16)(const struct weight_panel *w, const char *const *row, const uint16_t *x, int64_t ldx, int m, float *out);
    /* Columns [begin, begin + k) of the panel, rows beyond w->rows as zeros, as B of a product of that k. */
    void (*fill_f32)(const struct weight_panel *w, int64_t begin, int64_t k, enum panel_layout layout, float *out);
    void (*fill_bf16)(const struct weight_panel *w, int64_t begin, int64_t k, enum panel_layout layout, uint16_t *out);
    /* n floats, then zeros up to `padded`. */
    void (*copy_f32)(const float *x, int64_t n, int64_t padded, float *out);
    void (*copy_bf16)(const float *x, int64_t n, int64_t padded, uint16_t *out);
    /* n fp16 values at any address to f32, zeros up to `padded`. */
    void (*widen_f16)(const void *src, int64_t n, int64_t padded, float *out);
    /* y = c (+ bias), then max(0, .) if relu, for n values. */
    void (*finish)(const float *c, const float *bias, bool relu, int64_t n, float *y);
    /* AMX, for up to TILE_M_MAX rows of x packed by pack_tiles: result[i * PANEL_N + r] = sum_c W[r][c] * x[i][c] for the whole
     * panel and 16 * m_blocks rows of x, summed as a product of oneDNN's would be: depths of PRODUCT_K one after the other. */
    void (*tiles)(const struct weight_panel *w, const uint16_t *packed, int64_t padded, int m_blocks, float *result);
    /* Rows 16*block.. of x, a panel of format F32, columns [begin, begin + 32 * steps), zeros outside; `padded` columns in all.
     * */
    void (*pack_tiles)(const struct weight_panel *x, int64_t block, int64_t begin, int64_t steps, int64_t padded,
                       uint16_t *packed);
    bool blocked; /* fill_* know PANEL_BLOCKED */
};

/* for cpu_isa(); *bf16 is NULL without cpu_has_bf16(), *tiles without cpu_has_amx() */
const struct linear_kernels *linear_kernels(void);

bool cpu_has_amx(void);           /* bf16 tiles, usable by this process and at the current cpu_isa() */
void cpu_amx_allow(bool allowed); /* tests */

#endif
