/* check.cuh - a failed call of CUDA becomes one line: the call, the error's name and text, file and line. */
#ifndef BALLAST_EXECUTOR_CUDA_CHECK_CUH
#define BALLAST_EXECUTOR_CUDA_CHECK_CUH

#include <cuda_runtime.h>

extern "C" {
#include "model/error.h"
}

static inline enum status gpu_failed(struct error *err, const char *call, int code, const char *file, int line)
{
    const cudaError_t e = (cudaError_t)code;
    cudaGetLastError(); /* it has been reported */
    return error_set(err, STATUS_RUNTIME, "%s:%d: %s: %s (%s)", file, line, call, cudaGetErrorName(e), cudaGetErrorString(e));
}

/* STATUS_OK, or the failure in *err. */
#define GPU_TRY(err, call) gpu_try(err, call, #call, __FILE__, __LINE__)
static inline enum status gpu_try(struct error *err, int code, const char *call, const char *file, int line)
{
    return code == 0 ? STATUS_OK : gpu_failed(err, call, code, file, line);
}

#endif
