/* cublas.cc - the few calls of cuBLAS for the host emulation: a product is an operation of its stream like a kernel. */
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "executor/cuda/cublas.h"

namespace
{

struct handle {
    CUstream_st *stream = nullptr;
};

int create(void **h)
{
    *h = new handle;
    return CUBLAS_STATUS_SUCCESS;
}
int destroy(void *h)
{
    delete static_cast<handle *>(h);
    return CUBLAS_STATUS_SUCCESS;
}
int set_stream(void *h, CUstream_st *s)
{
    static_cast<handle *>(h)->stream = s;
    return CUBLAS_STATUS_SUCCESS;
}
int set_workspace(void *, void *, size_t)
{
    return CUBLAS_STATUS_SUCCESS;
}
const char *status_name(int)
{
    return "CUBLAS_STATUS_EXECUTION_FAILED";
}

float element(const void *p, int type, int64_t i)
{
    if (type == CUBLAS_TYPE_F16)
        return __half2float(static_cast<const __half *>(p)[i]);
    if (type == CUBLAS_TYPE_BF16)
        return __bfloat162float(static_cast<const __nv_bfloat16 *>(p)[i]);
    return static_cast<const float *>(p)[i];
}

/* op(A) = A^T, op(B) = B, f32 sums, alpha 1 and beta 0: all that is asked of it; anything else is refused. */
int gemm(void *h, int op_a, int op_b, int m, int n, int k, const void *alpha, const void *a, int a_type, int lda, const void *b,
         int b_type, int ldb, const void *beta, void *c, int c_type, int ldc, int compute, int)
{
    if (op_a != CUBLAS_OP_T || op_b != CUBLAS_OP_N || a_type != b_type || c_type != CUBLAS_TYPE_F32 ||
        compute != CUBLAS_COMPUTE_32F || *static_cast<const float *>(alpha) != 1 || *static_cast<const float *>(beta) != 0 ||
        lda < k || ldb < k || ldc < m)
        return 7;
    return emu::launch(
        [=] {
            for (int64_t j = 0; j < n; j++)
                for (int64_t i = 0; i < m; i++) {
                    float sum = 0;
                    for (int64_t l = 0; l < k; l++)
                        sum += element(a, a_type, i * lda + l) * element(b, b_type, j * ldb + l);
                    static_cast<float *>(c)[j * ldc + i] = sum;
                }
        },
        dim3(1), dim3(1), 0, static_cast<handle *>(h)->stream);
}

} // namespace

const struct cublas emu_cublas = {create, destroy, set_stream, set_workspace, gemm, status_name};
