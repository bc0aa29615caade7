/* blas.cu - cuBLAS, opened at run time. */
#include "executor/cuda/blas.h"

#include <dlfcn.h>

#include "executor/cuda/cublas.h"

struct blas {
    struct cublas lib;
    void *handle;
};

static enum status blas_try(const struct blas *b, int status, const char *call, const char *file, int line, struct error *err)
{
    if (status == CUBLAS_STATUS_SUCCESS)
        return STATUS_OK;
    return error_set(err, STATUS_RUNTIME, "%s:%d: %s: %s", file, line, call, b->lib.status_name(status));
}
#define BLAS_TRY(b, err, call) blas_try(b, (b)->lib.call, "cublas: " #call, __FILE__, __LINE__, err)

#ifndef BALLAST_EMULATED
template <class F> static bool find(void *library, const char *name, F *out)
{
    *out = reinterpret_cast<F>(dlsym(library, name));
    return *out;
}

enum status cublas_load(struct cublas *out, struct error *err)
{
    static const char *const names[] = {"libcublas.so.13", "libcublas.so.12", "libcublas.so"};
    void *library = nullptr;
    for (const char *name : names)
        library = library ? library : dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return error_set(err, STATUS_RUNTIME, "no cuBLAS: tried libcublas.so.13, .12 and libcublas.so: %.300s", dlerror());
    if (!find(library, "cublasCreate_v2", &out->create) || !find(library, "cublasDestroy_v2", &out->destroy) ||
        !find(library, "cublasSetStream_v2", &out->set_stream) || !find(library, "cublasSetWorkspace_v2", &out->set_workspace) ||
        !find(library, "cublasSetMathMode", &out->set_math) || !find(library, "cublasGemmEx", &out->gemm) ||
        !find(library, "cublasGetStatusName", &out->status_name))
        return error_set(err, STATUS_RUNTIME, "cuBLAS lacks a call: %.300s", dlerror());
    return STATUS_OK;
}
#endif

enum status blas_open(struct blas **out, gpu_stream s, void *workspace, int64_t bytes, struct error *err)
{
    struct blas *b = new struct blas();
    enum status status = cublas_load(&b->lib, err);
    *out = nullptr;
    if (status == STATUS_OK)
        status = BLAS_TRY(b, err, create(&b->handle));
    if (status == STATUS_OK)
        status = BLAS_TRY(b, err, set_stream(b->handle, s));
    if (status == STATUS_OK) /* after the stream, which sets it back */
        status = BLAS_TRY(b, err, set_workspace(b->handle, workspace, (size_t)bytes));
    if (status == STATUS_OK)
        status = BLAS_TRY(b, err, set_math(b->handle, CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION));
    if (status != STATUS_OK) {
        blas_close(b);
        return status;
    }
    *out = b;
    return STATUS_OK;
}

void blas_close(struct blas *b)
{
    if (b && b->handle)
        b->lib.destroy(b->handle);
    delete b;
}

static int type_of(enum format format)
{
    return format == FORMAT_F32 ? CUBLAS_TYPE_F32 : format == FORMAT_F16 ? CUBLAS_TYPE_F16 : CUBLAS_TYPE_BF16;
}

enum status blas_product(struct blas *b, enum format format, const void *w, int64_t rows, int64_t cols, const void *x,
                         int64_t ldx, int64_t m, void *y, enum format y_format, int64_t ldy, struct error *err)
{
    const float one = 1, zero = 0;
    const int type = type_of(format);
    if (rows == 0 || m == 0)
        return STATUS_OK;
    /* Row-major w is column-major (cols, rows), x is (cols, m) and y (rows, m): y = w^T x. */
    return BLAS_TRY(b, err,
                    gemm(b->handle, CUBLAS_OP_T, CUBLAS_OP_N, (int)rows, (int)m, (int)cols, &one, w, type, (int)cols, x, type,
                         (int)ldx, &zero, y, type_of(y_format), (int)ldy, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
}
