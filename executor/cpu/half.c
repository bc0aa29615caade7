#include "executor/cpu/half.h"

#include <string.h>

static float float_of_bits(uint32_t u)
{
    float f;

    memcpy(&f, &u, sizeof f);
    return f;
}

static uint32_t bits_of_float(float f)
{
    uint32_t u;

    memcpy(&u, &f, sizeof u);
    return u;
}

float f16_to_f32(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    const uint32_t exponent = h >> 10 & 0x1f;
    const uint32_t mantissa = h & 0x3ff;

    if (exponent == 31)
        return float_of_bits(sign | 0x7f800000 | mantissa << 13);
    if (exponent == 0) { /* zero or subnormal: mantissa * 2^-24, exact in f32 */
        const float magnitude = (float)mantissa * 0x1p-24f;
        return sign ? -magnitude : magnitude;
    }
    return float_of_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}

/* Drops `shift` low bits of v, rounding to nearest even. */
static uint32_t round_shift(uint32_t v, int shift)
{
    const uint32_t half = 1u << (shift - 1);

    return (v + half - 1 + (v >> shift & 1)) >> shift;
}

uint16_t f16_from_f32(float f)
{
    const uint32_t u = bits_of_float(f);
    const uint16_t sign = (uint16_t)(u >> 16 & 0x8000);
    const uint32_t magnitude = u & 0x7fffffff;

    if (magnitude > 0x7f800000)
        return sign | 0x7e00;
    if (magnitude >= 0x477ff000) /* 65520 and above round to infinity */
        return sign | 0x7c00;
    if (magnitude >= 0x38800000) /* 2^-14, the smallest normal: rounding may carry into the exponent, as it should */
        return sign | (uint16_t)(round_shift(magnitude, 13) - (112u << 10));
    if (magnitude < 0x33000000) /* below 2^-25: zero (2^-25 itself is a tie and goes to even zero below) */
        return sign;
    const int shift = 126 - (int)(magnitude >> 23); /* subnormal: count of 2^-24 */
    return sign | (uint16_t)round_shift((magnitude & 0x7fffff) | 0x800000, shift);
}

uint16_t f16_from_f32_saturated(float f)
{
    const float most = 65504.0f;

    if (f != f)
        return 0;
    if (f > most)
        f = most;
    if (f < -most)
        f = -most;
    return f16_from_f32(f);
}

float bf16_to_f32(uint16_t b)
{
    return float_of_bits((uint32_t)b << 16);
}

uint16_t bf16_from_f32(float f)
{
    const uint32_t u = bits_of_float(f);

    if ((u & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

float f16_load(const void *p, int64_t i)
{
    uint16_t h;

    memcpy(&h, (const char *)p + 2 * i, sizeof h);
    return f16_to_f32(h);
}

float bf16_load(const void *p, int64_t i)
{
    uint16_t b;

    memcpy(&b, (const char *)p + 2 * i, sizeof b);
    return bf16_to_f32(b);
}

float f32_load(const void *p, int64_t i)
{
    float f;

    memcpy(&f, (const char *)p + 4 * i, sizeof f);
    return f;
}
