/* half.h - 16-bit floats, one at a time. The vector kernels use the processor's conversions; these are the portable ones. */
#ifndef BALLAST_EXECUTOR_CPU_HALF_H
#define BALLAST_EXECUTOR_CPU_HALF_H

#include <stdint.h>

float f16_to_f32(uint16_t h);
uint16_t f16_from_f32(float f);           /* nearest even; too large becomes infinity, NaN stays a NaN */
uint16_t f16_from_f32_saturated(float f); /* as above, but the largest finite value instead of infinity, and 0 for NaN */
float bf16_to_f32(uint16_t b);
uint16_t bf16_from_f32(float f); /* nearest even; NaN stays a NaN */

float f16_load(const void *p, int64_t i); /* element i of an array at any address */
float bf16_load(const void *p, int64_t i);
float f32_load(const void *p, int64_t i);

#endif
