/* vec.h - one vector of floats at three widths: 1 (plain C), 8 (AVX2) and 16 (AVX-512).
 *
 * A kernel is written once, in a template header that starts with this one, and included with VEC_WIDTH defined as 1, 8
 * and 16. V(name) appends the width to a name, VEC is the vector type and VEC_FN marks a function with its instruction set, so
 * that a file compiled for plain x86-64 holds all three and the caller chooses by cpu_isa().
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include <immintrin.h>

#include "executor/cpu/half.h"

#undef V
#undef VEC
#undef VEC_FN
#undef VEC_INLINE

#ifndef BALLAST_EXECUTOR_CPU_VEC_H
#define BALLAST_EXECUTOR_CPU_VEC_H
#define VEC_JOIN2(a, b) a##_w##b
#define VEC_JOIN(a, b)  VEC_JOIN2(a, b)
/* Loops over arrays of vectors must be unrolled completely for the array to live in registers. */
#ifdef __clang__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define TARGET_W1
#define TARGET_W8   __attribute__((target("avx2,fma,f16c")))
#define TARGET_W16  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")))
#define TARGET_AMX  __attribute__((target("amx-tile,amx-bf16,avx512bf16,avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")))
#define TARGET_BF16 __attribute__((target("avx512bf16,avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")))
#endif

#define V(name) VEC_JOIN(name, VEC_WIDTH)

#if VEC_WIDTH == 16
#define VEC    __m512
#define VEC_FN TARGET_W16
#elif VEC_WIDTH == 8
#define VEC    __m256
#define VEC_FN TARGET_W8
#elif VEC_WIDTH == 1
#define VEC float
#define VEC_FN
#else
#error "VEC_WIDTH must be 1, 8 or 16"
#endif
#define VEC_INLINE ALWAYS_INLINE VEC_FN

#if VEC_WIDTH == 16 && !defined(BALLAST_VEC_16)
#define BALLAST_VEC_16
VEC_INLINE __m512 set1_w16(float x)
{
    return _mm512_set1_ps(x);
}
VEC_INLINE __m512 load_w16(const float *p)
{
    return _mm512_loadu_ps(p);
}
VEC_INLINE void store_w16(float *p, __m512 v)
{
    _mm512_storeu_ps(p, v);
}
VEC_INLINE __m512 add_w16(__m512 a, __m512 b)
{
    return _mm512_add_ps(a, b);
}
VEC_INLINE __m512 sub_w16(__m512 a, __m512 b)
{
    return _mm512_sub_ps(a, b);
}
VEC_INLINE __m512 mul_w16(__m512 a, __m512 b)
{
    return _mm512_mul_ps(a, b);
}
VEC_INLINE __m512 div_w16(__m512 a, __m512 b)
{
    return _mm512_div_ps(a, b);
}
VEC_INLINE __m512 max_w16(__m512 a, __m512 b)
{
    return _mm512_max_ps(a, b);
}
VEC_INLINE __m512 min_w16(__m512 a, __m512 b)
{
    return _mm512_min_ps(a, b);
}
VEC_INLINE __m512 fma_w16(__m512 a, __m512 b, __m512 c)
{
    return _mm512_fmadd_ps(a, b, c);
}
VEC_INLINE float sum_w16(__m512 v)
{
    return _mm512_reduce_add_ps(v);
}
VEC_INLINE float largest_w16(__m512 v)
{
    return _mm512_reduce_max_ps(v);
}
/* a bit for each lane that is at least t */
VEC_INLINE uint32_t at_least_w16(const float *p, float t)
{
    return _mm512_cmp_ps_mask(_mm512_loadu_ps(p), _mm512_set1_ps(t), _CMP_GE_OQ);
}
VEC_INLINE __m512 round_w16(__m512 v)
{
    return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
VEC_INLINE __m512 power_of_two_w16(__m512 n)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23));
}
/* v where x >= limit, else 0 */
VEC_INLINE __m512 keep_from_w16(__m512 x, float limit, __m512 v)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, _mm512_set1_ps(limit), _CMP_GE_OQ), v);
}
VEC_INLINE __m512 load_f16_w16(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
VEC_INLINE void store_f16_w16(void *p, __m512 v)
{
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
/* Truncates values in 0..255 to one byte each. */
VEC_INLINE void store_bytes_w16(uint8_t *p, __m512 v)
{
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(_mm512_cvttps_epi32(v)));
}
VEC_INLINE __m512 load_bf16_w16(const void *p)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16));
}
/* One fp16 value in all lanes. */
VEC_INLINE __m512 set1_f16_w16(const void *p)
{
    uint16_t h;

    memcpy(&h, p, sizeof h);
    return _mm512_cvtph_ps(_mm256_set1_epi16((short)h));
}
/* 16 nibbles from c (even) on, as floats 0..15. */
VEC_INLINE __m512 load_nibbles_w16(const void *p, int64_t c)
{
    const __m512 table = _mm512_set_ps(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i bytes = _mm512_cvtepu8_epi64(_mm_loadl_epi64((const __m128i *)((const char *)p + c / 2)));

    /* low dword: byte; high dword: byte >> 4; the permutation reads only the low 4 bits of each dword */
    return _mm512_permutexvar_ps(_mm512_or_si512(bytes, _mm512_slli_epi64(bytes, 28)), table);
}
#endif

#if VEC_WIDTH == 8 && !defined(BALLAST_VEC_8)
#define BALLAST_VEC_8
VEC_INLINE __m256 set1_w8(float x)
{
    return _mm256_set1_ps(x);
}
VEC_INLINE __m256 load_w8(const float *p)
{
    return _mm256_loadu_ps(p);
}
VEC_INLINE void store_w8(float *p, __m256 v)
{
    _mm256_storeu_ps(p, v);
}
VEC_INLINE __m256 add_w8(__m256 a, __m256 b)
{
    return _mm256_add_ps(a, b);
}
VEC_INLINE __m256 sub_w8(__m256 a, __m256 b)
{
    return _mm256_sub_ps(a, b);
}
VEC_INLINE __m256 mul_w8(__m256 a, __m256 b)
{
    return _mm256_mul_ps(a, b);
}
VEC_INLINE __m256 div_w8(__m256 a, __m256 b)
{
    return _mm256_div_ps(a, b);
}
VEC_INLINE __m256 max_w8(__m256 a, __m256 b)
{
    return _mm256_max_ps(a, b);
}
VEC_INLINE __m256 min_w8(__m256 a, __m256 b)
{
    return _mm256_min_ps(a, b);
}
VEC_INLINE __m256 fma_w8(__m256 a, __m256 b, __m256 c)
{
    return _mm256_fmadd_ps(a, b, c);
}
VEC_INLINE float sum_w8(__m256 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
VEC_INLINE float largest_w8(__m256 v)
{
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
VEC_INLINE uint32_t at_least_w8(const float *p, float t)
{
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(p), _mm256_set1_ps(t), _CMP_GE_OQ));
}
VEC_INLINE __m256 round_w8(__m256 v)
{
    return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
VEC_INLINE __m256 power_of_two_w8(__m256 n)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
VEC_INLINE __m256 keep_from_w8(__m256 x, float limit, __m256 v)
{
    return _mm256_and_ps(_mm256_cmp_ps(x, _mm256_set1_ps(limit), _CMP_GE_OQ), v);
}
VEC_INLINE __m256 load_f16_w8(const void *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}
VEC_INLINE void store_f16_w8(void *p, __m256 v)
{
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
VEC_INLINE void store_bytes_w8(uint8_t *p, __m256 v)
{
    const __m256i i = _mm256_cvttps_epi32(v);
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256(i, 1));

    _mm_storel_epi64((__m128i *)p, _mm_packus_epi16(words, words));
}
VEC_INLINE __m256 load_bf16_w8(const void *p)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16));
}
VEC_INLINE __m256 set1_f16_w8(const void *p)
{
    uint16_t h;

    memcpy(&h, p, sizeof h);
    return _mm256_cvtph_ps(_mm_set1_epi16((short)h));
}
VEC_INLINE __m256 load_nibbles_w8(const void *p, int64_t c)
{
    const __m256i shift = _mm256_set_epi32(28, 24, 20, 16, 12, 8, 4, 0);
    int32_t word;

    memcpy(&word, (const char *)p + c / 2, sizeof word);
    const __m256i nibbles = _mm256_srlv_epi32(_mm256_set1_epi32(word), shift);
    return _mm256_cvtepi32_ps(_mm256_and_si256(nibbles, _mm256_set1_epi32(15)));
}
#endif

#if VEC_WIDTH == 1 && !defined(BALLAST_VEC_1)
#define BALLAST_VEC_1
VEC_INLINE float set1_w1(float x)
{
    return x;
}
VEC_INLINE float load_w1(const float *p)
{
    return f32_load(p, 0);
}
VEC_INLINE void store_w1(float *p, float v)
{
    memcpy(p, &v, sizeof v);
}
VEC_INLINE float add_w1(float a, float b)
{
    return a + b;
}
VEC_INLINE float sub_w1(float a, float b)
{
    return a - b;
}
VEC_INLINE float mul_w1(float a, float b)
{
    return a * b;
}
VEC_INLINE float div_w1(float a, float b)
{
    return a / b;
}
VEC_INLINE float max_w1(float a, float b)
{
    return a > b ? a : b;
}
VEC_INLINE float min_w1(float a, float b)
{
    return a < b ? a : b;
}
/* fused as the others, so that all widths round alike */
VEC_INLINE float fma_w1(float a, float b, float c)
{
    return fmaf(a, b, c);
}
VEC_INLINE float sum_w1(float v)
{
    return v;
}
VEC_INLINE float largest_w1(float v)
{
    return v;
}
VEC_INLINE uint32_t at_least_w1(const float *p, float t)
{
    return *p >= t;
}
VEC_INLINE float round_w1(float v)
{
    return rintf(v);
}
VEC_INLINE float power_of_two_w1(float n)
{
    const uint32_t bits = (uint32_t)((int32_t)n + 127) << 23;
    float f;

    memcpy(&f, &bits, sizeof f);
    return f;
}
VEC_INLINE float keep_from_w1(float x, float limit, float v)
{
    return x >= limit ? v : 0.0f;
}
VEC_INLINE float load_f16_w1(const void *p)
{
    return f16_load(p, 0);
}
VEC_INLINE void store_f16_w1(void *p, float v)
{
    const uint16_t h = f16_from_f32(v);

    memcpy(p, &h, sizeof h);
}
VEC_INLINE void store_bytes_w1(uint8_t *p, float v)
{
    *p = (uint8_t)v;
}
VEC_INLINE float load_bf16_w1(const void *p)
{
    return bf16_load(p, 0);
}
VEC_INLINE float set1_f16_w1(const void *p)
{
    return f16_load(p, 0);
}
VEC_INLINE float load_nibbles_w1(const void *p, int64_t c)
{
    return (float)(((const uint8_t *)p)[c / 2] >> (c % 2 * 4) & 15);
}
#endif

/* The parts written in terms of the above, once per width. */
#if (VEC_WIDTH == 16 && !defined(BALLAST_VEC_COMMON_16)) || (VEC_WIDTH == 8 && !defined(BALLAST_VEC_COMMON_8)) ||                \
    (VEC_WIDTH == 1 && !defined(BALLAST_VEC_COMMON_1))
#if VEC_WIDTH == 16
#define BALLAST_VEC_COMMON_16
#elif VEC_WIDTH == 8
#define BALLAST_VEC_COMMON_8
#else
#define BALLAST_VEC_COMMON_1
#endif

/* e^x for x <= 88. With n = round(x / ln 2) and r = x - n ln 2 (ln 2 in two parts, so that n*hi is exact), |r| <= 0.347 and
 * the Taylor polynomial of degree 7 leaves r^8/8! < 6e-9 of e^r: the error is that of the rounding, below 2 ulp. Below -87,
 * where the result would leave the normal range, the result is 0. */
VEC_INLINE VEC V(exp)(VEC x)
{
    const VEC clamped = V(max)(x, V(set1)(-87.0f));
    const VEC n = V(round)(V(mul)(clamped, V(set1)(1.44269504f)));
    VEC r = V(fma)(n, V(set1)(-0.693359375f), clamped);
    VEC p = V(set1)(1.0f / 5040);

    r = V(fma)(n, V(set1)(2.12194440e-4f), r);
    p = V(fma)(p, r, V(set1)(1.0f / 720));
    p = V(fma)(p, r, V(set1)(1.0f / 120));
    p = V(fma)(p, r, V(set1)(1.0f / 24));
    p = V(fma)(p, r, V(set1)(1.0f / 6));
    p = V(fma)(p, r, V(set1)(0.5f));
    p = V(fma)(p, r, V(set1)(1.0f));
    p = V(fma)(p, r, V(set1)(1.0f));
    return V(keep_from)(x, -87.0f, V(mul)(p, V(power_of_two)(n)));
}
#endif
