/* blas.h - dense products through cuBLAS. */
#ifndef BALLAST_EXECUTOR_CUDA_BLAS_H
#define BALLAST_EXECUTOR_CUDA_BLAS_H

#include "executor/cuda/check.cuh"
#include "executor/cuda/kernels.h"

struct blas;

/* Below so much, products may fail (cuBLAS, cublasSetWorkspace). */
enum { BLAS_WORKSPACE_LEAST = 16 << 10 };

/* Works on the stream and in the borrowed device memory, at a multiple of 256, which nobody else may use meanwhile. */
enum status blas_open(struct blas **out, gpu_stream s, void *workspace, int64_t bytes, struct error *err);
void blas_close(struct blas *b); /* NULL is fine */

/* Reference: ref_linear. y (m, ldy), columns [0, rows) = x (m, cols; leading dimension ldx) times w (rows, cols), both in `format`:
 * F32, F16 or BF16; y in f32 or in the same. Accumulated in f32, without TF32. */
enum status blas_product(struct blas *b, enum format format, const void *w, int64_t rows, int64_t cols, const void *x,
                         int64_t ldx, int64_t m, void *y, enum format y_format, int64_t ldy, struct error *err);

#endif
