/* cuda_fp16.h - half precision for the host emulation: storage and conversion, as the device's round to nearest even. */
#ifndef BALLAST_TESTS_EMU_CUDA_FP16_H
#define BALLAST_TESTS_EMU_CUDA_FP16_H

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

#endif
