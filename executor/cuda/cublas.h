/* cublas.h - the calls of cuBLAS that we make, as function pointers: the library is opened at run time, so that one libballast_cuda.so
 * runs with that of CUDA 12 and of CUDA 13, and compiles without its header, which does not come with nvcc. Types and values are those of
 * cublas_api.h; they have not changed since CUDA 11. */
#ifndef BALLAST_EXECUTOR_CUDA_CUBLAS_H
#define BALLAST_EXECUTOR_CUDA_CUBLAS_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "model/error.h"

struct CUstream_st;

enum { CUBLAS_STATUS_SUCCESS = 0, CUBLAS_OP_N = 0, CUBLAS_OP_T = 1, CUBLAS_COMPUTE_32F = 68, CUBLAS_GEMM_DEFAULT = -1 };
/* Partial sums of a product are added in the type that it computes in, not in that of the result. */
enum { CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION = 16 };
enum { CUBLAS_TYPE_F32 = 0, CUBLAS_TYPE_F16 = 2, CUBLAS_TYPE_BF16 = 14 }; /* CUDA_R_32F, ... */

struct cublas {
    int (*create)(void **handle);
    int (*destroy)(void *handle);
    int (*set_stream)(void *handle, struct CUstream_st *stream);
    int (*set_workspace)(void *handle, void *workspace, size_t bytes); /* at a multiple of 256 */
    int (*set_math)(void *handle, int mode);
    /* Column-major C (m, n) = alpha * op(A) (m, k) * op(B) (k, n) + beta * C. */
    int (*gemm)(void *handle, int op_a, int op_b, int m, int n, int k, const void *alpha, const void *a, int a_type, int lda,
                const void *b, int b_type, int ldb, const void *beta, void *c, int c_type, int ldc, int compute, int algorithm);
    const char *(*status_name)(int status);
};

/* Opens the library, or what stands for it in the emulation. */
enum status cublas_load(struct cublas *out, struct error *err);

#ifdef __cplusplus
}
#endif

#endif
