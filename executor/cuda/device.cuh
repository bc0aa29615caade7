/* device.cuh - what the kernels share, and the places where nvcc and the host emulation (tests/emu) differ: declaring shared memory,
 * launching a kernel, three instructions, and nothing else. */
#ifndef BALLAST_EXECUTOR_CUDA_DEVICE_CUH
#define BALLAST_EXECUTOR_CUDA_DEVICE_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "executor/cuda/kernels.h"

#ifdef BALLAST_EMULATED
#define SHARED(type, name, count)                                                                                                \
    static const char name##_place = 0;                                                                                          \
    type *const name = static_cast<type *>(emu::shared(&name##_place, sizeof(type) * (count)))
#else
#define SHARED(type, name, count) __shared__ type name[count]
#endif

/* Starts kernel(args...) on the stream; cudaSuccess, or why it could not be started. */
template <class... P, class... A> int launch(void (*kernel)(P...), dim3 grid, dim3 block, cudaStream_t stream, A... args)
{
#ifdef BALLAST_EMULATED
    return emu::launch([=] { kernel(static_cast<P>(args)...); }, grid, block, 0, stream);
#else
    kernel<<<grid, block, 0, stream>>>(static_cast<P>(args)...);
    return cudaGetLastError();
#endif
}

/* c (16, 8) += a (16, 8) * b (8, 8) by a warp; a and b fp16, c f32. Lane 4 * g + t holds elements
 *     a: (g, 2t), (g, 2t + 1) in a[0], (g + 8, 2t), (g + 8, 2t + 1) in a[1];  b: (2t, g), (2t + 1, g);
 *     c: (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1)
 * with the first of two halves in the low bits (PTX ISA, "mma.m16n8k8"); so c's layout is that of a next a. */
static __device__ __forceinline__ void multiply_add(float (&c)[4], const unsigned (&a)[2], unsigned b)
{
#ifdef BALLAST_EMULATED
    emu::mma_m16n8k8(c, a, b);
#else
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(b));
#endif
}

/* c (16, 8) += a (16, 16) * b (16, 8), which Turing does in two steps. a[2], a[3] and b[1] are columns 8 to 15 of a and rows 8 to 15 of b,
 * laid out as a[0], a[1] and b[0] are (PTX ISA, "mma.m16n8k16"). */
static __device__ __forceinline__ void multiply_add(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2])
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    const unsigned low[2] = {a[0], a[1]}, high[2] = {a[2], a[3]};
    multiply_add(c, low, b[0]);
    multiply_add(c, high, b[1]);
#endif
}

/* x & mask | with, in one instruction: nvcc makes two of it where it knows both mask and with. */
static __device__ __forceinline__ unsigned masked_or(unsigned x, unsigned mask, unsigned with)
{
#ifdef BALLAST_EMULATED
    return (x & mask) | with;
#else
    unsigned y;
    asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(y) : "r"(x), "r"(mask), "r"(with));
    return y;
#endif
}

/* Words that are loaded or stored at once. */
template <int N> struct alignas(4 * N) words {
    unsigned x[N];
};

/* Element i of an array of format F32, F16 or BF16. The branch is the same for a whole grid. */
static __device__ __forceinline__ float load(const void *p, int64_t i, enum format format)
{
    if (format == FORMAT_F16)
        return __half2float(static_cast<const __half *>(p)[i]);
    if (format == FORMAT_BF16)
        return __bfloat162float(static_cast<const __nv_bfloat16 *>(p)[i]);
    return static_cast<const float *>(p)[i];
}

static __device__ __forceinline__ void store(void *p, int64_t i, enum format format, float x)
{
    if (format == FORMAT_F16)
        static_cast<__half *>(p)[i] = __float2half_rn(x);
    else if (format == FORMAT_BF16)
        static_cast<__nv_bfloat16 *>(p)[i] = __float2bfloat16_rn(x);
    else
        static_cast<float *>(p)[i] = x;
}

/* Code i of packed 4-bit codes, the even one in the low half of its byte. */
static __device__ __forceinline__ float nibble(const void *p, int64_t i)
{
    return (float)(static_cast<const unsigned char *>(p)[i / 2] >> (i % 2 * 4) & 15);
}

/* What op makes of a warp's x, in every lane. */
template <class T, class Op> static __device__ __forceinline__ T warp_reduced(T x, Op op)
{
    for (int with = 16; with > 0; with /= 2)
        x = op(x, __shfl_xor_sync(0xffffffffu, x, with));
    return x;
}

/* What op makes of a block's x, in every one of its THREADS. */
template <int THREADS, class T, class Op> static __device__ T block_reduced(T x, Op op)
{
    SHARED(T, part, THREADS / 32);
    x = warp_reduced(x, op);
    __syncthreads(); /* the last call's parts have been read */
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = x;
    __syncthreads();
    x = part[0];
    for (int i = 1; i < THREADS / 32; i++)
        x = op(x, part[i]);
    return x;
}

struct plus {
    template <class T> __device__ T operator()(T a, T b) const
    {
        return a + b;
    }
};
struct larger {
    template <class T> __device__ T operator()(T a, T b) const
    {
        return a > b ? a : b;
    }
};

#endif
