/* cuda_bf16.h - bfloat16 for the host emulation: storage and conversion. */
#ifndef BALLAST_TESTS_EMU_CUDA_BF16_H
#define BALLAST_TESTS_EMU_CUDA_BF16_H

extern "C" {
#include "executor/cpu/half.h"
}

struct __nv_bfloat16 {
    uint16_t bits;
};

inline float __bfloat162float(__nv_bfloat16 b)
{
    return bf16_to_f32(b.bits);
}
inline __nv_bfloat16 __float2bfloat16_rn(float f)
{
    return __nv_bfloat16{bf16_from_f32(f)};
}

#endif
