/* cuda_runtime.h - the part of CUDA's runtime that ballast uses, for the host emulation (emu.h says what it is): for C++ all of it, for C the
 * calls without kernels. */
#ifndef BALLAST_TESTS_EMU_CUDA_RUNTIME_H
#define BALLAST_TESTS_EMU_CUDA_RUNTIME_H

#ifdef __cplusplus

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

#define BALLAST_EMULATED 1
#define CUDART_VERSION   13000

/* -- kernels ---------------------------------------------------------------------------------------------------------- */

#define __global__ static
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__ __restrict

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
    {
    }
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

extern uint3 threadIdx, blockIdx; /* of the fiber that runs */
extern dim3 blockDim, gridDim;

void __syncthreads();
void __syncwarp(unsigned mask = 0xffffffffu);

struct CUstream_st;

namespace emu
{
/* Deposits `bytes` of a lane and gives back every lane's, 16 bytes apart, once all of `mask` have arrived. */
const unsigned char *exchange(unsigned mask, const void *value, size_t bytes);
unsigned lane();
/* The block's memory for the declaration at `place`; the same for all its threads. */
void *shared(const void *place, size_t bytes);
void *shared_dynamic();
/* The warp's mma.m16n8k8 of two fp16 matrices into an f32 one, elements spread over the lanes as PTX has it. */
void mma_m16n8k8(float c[4], const unsigned a[2], unsigned b);
int launch(std::function<void()> body, dim3 grid, dim3 block, size_t shared_bytes, CUstream_st *stream);
} // namespace emu

template <class T> T __shfl_sync(unsigned mask, T value, int from)
{
    T out;
    std::memcpy(&out, emu::exchange(mask, &value, sizeof value) + 16 * (from & 31), sizeof out);
    return out;
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, int with)
{
    return __shfl_sync(mask, value, (int)emu::lane() ^ with);
}
template <class T> T __shfl_down_sync(unsigned mask, T value, int by)
{
    const int from = (int)emu::lane() + by;
    return __shfl_sync(mask, value, from < 32 ? from : (int)emu::lane());
}
unsigned __ballot_sync(unsigned mask, int predicate);

/* Byte i of the result is that of x (0 to 3) or y (4 to 7) that digit i of the selector says. */
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector)
{
    const uint64_t both = x | (uint64_t)y << 32;
    unsigned out = 0;
    for (int i = 0; i < 4; i++)
        out |= (unsigned)(both >> 8 * (selector >> 4 * i & 7) & 255) << 8 * i;
    return out;
}

template <class T> T atomicAdd(T *p, T x) /* fibers switch elsewhere */
{
    const T before = *p;
    *p += x;
    return before;
}

inline float __uint_as_float(unsigned bits)
{
    float f;
    std::memcpy(&f, &bits, sizeof f);
    return f;
}
inline int __ffs(int bits)
{
    return __builtin_ffs(bits);
}

#else
#include <stddef.h>
#endif

/* -- the runtime ------------------------------------------------------------------------------------------------------ */

typedef enum cudaError {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInsufficientDriver = 35,
    cudaErrorNoDevice = 100,
    cudaErrorNotReady = 600,
    cudaErrorLaunchFailure = 719,
    cudaErrorUnknown = 999
} cudaError_t;
enum cudaMemcpyKind {
    cudaMemcpyHostToHost,
    cudaMemcpyHostToDevice,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice,
    cudaMemcpyDefault
};
typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;

#define cudaStreamNonBlocking  1
#define cudaEventDefault       0
#define cudaEventBlockingSync  1
#define cudaEventDisableTiming 2
#define cudaHostAllocPortable  1
#define cudaHostAllocMapped    2

enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount = 16, cudaDevAttrComputeCapabilityMajor = 75 };

struct cudaDeviceProp {
    char name[256];
    int major, minor, multiProcessorCount, l2CacheSize;
};

#ifdef __cplusplus
extern "C" {
#endif
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaRuntimeGetVersion(int *version);
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device);
cudaError_t cudaDeviceGetPCIBusId(char *text, int bytes, int device);
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *all);

const char *cudaGetErrorName(cudaError_t e);
const char *cudaGetErrorString(cudaError_t e);
cudaError_t cudaGetLastError(void);

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device);

cudaError_t cudaMalloc(void **p, size_t bytes);
cudaError_t cudaFree(void *p);
cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void *p);
cudaError_t cudaMemcpy(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemcpy2DAsync(void *dst, size_t dst_pitch, const void *src, size_t src_pitch, size_t width, size_t height,
                              enum cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream);

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t s);
cudaError_t cudaStreamSynchronize(cudaStream_t s);
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned flags);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t e);
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s);
cudaError_t cudaEventSynchronize(cudaEvent_t e);
cudaError_t cudaEventQuery(cudaEvent_t e);
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to);
#ifdef __cplusplus
}
#endif

#endif
