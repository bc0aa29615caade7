/* cuda_fp16.h - half precision for the host emulation: storage and conversion, as the device's round to nearest even. */
#ifndef BALLAST_TESTS_EMU_CUDA_FP16_H
#define BALLAST_TESTS_EMU_CUDA_FP16_H

#include <cmath>

extern "C" {
#include "executor/cpu/half.h"
}

struct __half {
    uint16_t bits;
};
typedef __half half;

inline float __half2float(__half h)
{
    return f16_to_f32(h.bits);
}
inline __half __float2half_rn(float f)
{
    return __half{f16_from_f32(f)};
}
inline unsigned short __half_as_ushort(__half h)
{
    return h.bits;
}
inline __half __ushort_as_half(unsigned short bits)
{
    return __half{bits};
}

struct alignas(4) __half2 {
    __half x, y;
};
/* Rounded to f32 first, which changes nothing as long as f32 holds the sum: all of fp16 are multiples of 2^-24, so below 1 it does. */
inline __half2 __hfma2(__half2 a, __half2 b, __half2 c)
{
    const auto fma = [](__half p, __half q, __half r) {
        return __float2half_rn(std::fmaf(__half2float(p), __half2float(q), __half2float(r)));
    };
    return {fma(a.x, b.x, c.x), fma(a.y, b.y, c.y)};
}

#endif
