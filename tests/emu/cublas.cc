/* cublas.cc - the few calls of cuBLAS for the host emulation, through the CPU's library: a product is an operation of its stream.
 *
 * CUBLAS_COMPUTE_32F multiplies fp16 or bf16 operands exactly and sums in f32: sgemm of the widened matrices does the same, since the
 * product of two such numbers has at most 22 bits. Column-major C = op(A) op(B) is row-major C^T = op(B)^T op(A)^T, so oneDNN's row-major
 * sgemm gets the operands in the other order. tests/emu/test_cublas.c holds it against a plain loop.
 */
#include <algorithm>
#include <cmath>
#include <vector>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <dnnl.h>
#include <omp.h>

#include "executor/cuda/cublas.h"
#include "tests/emu/emu_internal.h"

namespace
{

const int NOT_INITIALIZED = 1, ALLOC_FAILED = 3, INVALID_VALUE = 7, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15;

emu_mistake mistake = EMU_NO_MISTAKE;

/* The library's own workspace is always enough. */
struct handle {
    CUstream_st *stream = nullptr;
    size_t workspace_bytes = SIZE_MAX;
    int math = 0;
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
    static_cast<handle *>(h)->workspace_bytes = SIZE_MAX;
    return CUBLAS_STATUS_SUCCESS;
}
int set_workspace(void *h, void *p, size_t bytes)
{
    if (reinterpret_cast<uintptr_t>(p) % 256 != 0)
        return INVALID_VALUE;
    static_cast<handle *>(h)->workspace_bytes = bytes;
    return CUBLAS_STATUS_SUCCESS;
}
int set_math(void *h, int mode)
{
    static_cast<handle *>(h)->math = mode;
    return CUBLAS_STATUS_SUCCESS;
}
const char *status_name(int status)
{
    return status == NOT_INITIALIZED ? "CUBLAS_STATUS_NOT_INITIALIZED"
           : status == ALLOC_FAILED  ? "CUBLAS_STATUS_ALLOC_FAILED"
           : status == INVALID_VALUE ? "CUBLAS_STATUS_INVALID_VALUE"
           : status == NOT_SUPPORTED ? "CUBLAS_STATUS_NOT_SUPPORTED"
                                     : "CUBLAS_STATUS_EXECUTION_FAILED";
}

float element(const void *p, int type, int64_t i)
{
    if (type == CUBLAS_TYPE_F16)
        return __half2float(static_cast<const __half *>(p)[i]);
    if (type == CUBLAS_TYPE_BF16)
        return __bfloat162float(static_cast<const __nv_bfloat16 *>(p)[i]);
    return static_cast<const float *>(p)[i];
}

/* A column-major matrix, dense. Copied whatever its type: here a sanitizer sees a read out of bounds, in the library's code it does not. */
std::vector<float> widened(const void *p, int type, int rows, int columns, int ld)
{
    std::vector<float> x((size_t)rows * columns);
    for (int64_t j = 0; j < columns; j++)
        for (int64_t i = 0; i < rows; i++)
            x[(size_t)(j * rows + i)] = element(p, type, j * ld + i);
    return x;
}

struct product {
    bool a_transposed, b_transposed;
    int m, n, k;
    float alpha, beta;
    const void *a, *b;
    int type, lda, ldb;
    float *c;
    int ldc;
};

/* As a kernel gets it wrong: fp16 accumulators, as mma.m16n8k16 has them too; or a loop over k that ends a step too early. */
void multiply_wrongly(const product &p, const float *a, const float *b)
{
    const int step = 16, end = mistake == EMU_LOST_SLICE ? std::max(0, p.k - step) : p.k;
    for (int j = 0; j < p.n; j++)
        for (int i = 0; i < p.m; i++) {
            float sum = 0, part = 0;
            for (int l = 0; l < end; l++) {
                part += a[p.a_transposed ? i * p.k + l : l * p.m + i] * b[p.b_transposed ? l * p.n + j : j * p.k + l];
                if (l % step == step - 1 || l == end - 1) {
                    sum = mistake == EMU_F16_SUMS ? __half2float(__float2half_rn(sum + part)) : sum + part;
                    part = 0;
                }
            }
            float *to = p.c + (int64_t)j * p.ldc + i;
            *to = p.alpha * sum + (p.beta == 0 ? 0 : p.beta * *to);
        }
}

void multiply(const product &p)
{
    const std::vector<float> a = widened(p.a, p.type, p.a_transposed ? p.k : p.m, p.a_transposed ? p.m : p.k, p.lda);
    const std::vector<float> b = widened(p.b, p.type, p.b_transposed ? p.n : p.k, p.b_transposed ? p.k : p.n, p.ldb);
    for (int64_t j = 0; j < p.n && p.beta == 0; j++) /* NaNs, which it must not read; and a sanitizer sees where C is */
        std::fill_n(p.c + j * p.ldc, p.m, NAN);
    if (mistake != EMU_NO_MISTAKE) {
        multiply_wrongly(p, a.data(), b.data());
        return;
    }
    omp_set_num_threads(1); /* of this thread's calls: matrices are small here */
    const dnnl_status_t status =
        dnnl_sgemm(p.b_transposed ? 'T' : 'N', p.a_transposed ? 'T' : 'N', p.n, p.m, p.k, p.alpha, b.data(),
                   p.b_transposed ? p.n : p.k, a.data(), p.a_transposed ? p.k : p.m, p.beta, p.c, p.ldc);
    if (status != dnnl_success)
        abort(); /* it has nowhere to report to */
}

/* The same, rounded into a C of 16 bits. */
void multiply_into(const product &p, void *c, int type)
{
    std::vector<float> sums((size_t)p.m * p.n);
    product wide = p;
    if (p.beta != 0)
        sums = widened(c, type, p.m, p.n, p.ldc);
    wide.c = sums.data();
    wide.ldc = p.m;
    multiply(wide);
    for (int64_t j = 0; j < p.n; j++)
        for (int64_t i = 0; i < p.m; i++) {
            const float x = sums[(size_t)(j * p.m + i)];
            if (type == CUBLAS_TYPE_F16)
                static_cast<__half *>(c)[j * p.ldc + i] = __float2half_rn(x);
            else
                static_cast<__nv_bfloat16 *>(c)[j * p.ldc + i] = __float2bfloat16_rn(x);
        }
}

int gemm(void *h, int op_a, int op_b, int m, int n, int k, const void *alpha, const void *a, int a_type, int lda, const void *b,
         int b_type, int ldb, const void *beta, void *c, int c_type, int ldc, int compute, int)
{
    const product p = {op_a == CUBLAS_OP_T,
                       op_b == CUBLAS_OP_T,
                       m,
                       n,
                       k,
                       *static_cast<const float *>(alpha),
                       *static_cast<const float *>(beta),
                       a,
                       b,
                       a_type,
                       lda,
                       ldb,
                       static_cast<float *>(c),
                       ldc};
    if (!h)
        return NOT_INITIALIZED;
    if (m < 0 || n < 0 || k < 0 || lda < std::max(1, p.a_transposed ? k : m) || ldb < std::max(1, p.b_transposed ? n : k) ||
        ldc < std::max(1, m))
        return INVALID_VALUE;
    if (a_type != b_type || (c_type != CUBLAS_TYPE_F32 && c_type != a_type) || compute != CUBLAS_COMPUTE_32F)
        return NOT_SUPPORTED;
    if (c_type != CUBLAS_TYPE_F32 && !(static_cast<handle *>(h)->math & CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION))
        return NOT_SUPPORTED; /* the library may add partial sums in 16 bits, which no bound here allows */
    if (m == 0 || n == 0)
        return CUBLAS_STATUS_SUCCESS;
    if (static_cast<handle *>(h)->workspace_bytes < 16 << 10)
        return ALLOC_FAILED;
    const auto work = [=] { c_type == CUBLAS_TYPE_F32 ? multiply(p) : multiply_into(p, c, c_type); };
    const bool issued = emu::host_work(work, static_cast<handle *>(h)->stream) == cudaSuccess;
    return issued ? (int)CUBLAS_STATUS_SUCCESS : EXECUTION_FAILED;
}

const struct cublas table = {create, destroy, set_stream, set_workspace, set_math, gemm, status_name};

} // namespace

extern "C" enum status cublas_load(struct cublas *out, struct error *)
{
    *out = table;
    return STATUS_OK;
}

extern "C" void emu_blas_mistake(enum emu_mistake m)
{
    mistake = m;
}
