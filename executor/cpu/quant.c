/* quant.c - FlexGen's 4-bit compression: groups of 64, each with an fp16 scale and an fp16 minimum (model/format.h).
 *
 * Codes are found from the exact minimum and maximum; only the stored scale and minimum are rounded to fp16. Input beyond
 * +-65504 is taken as +-65504 and a NaN as 0, so that everything decodes to a finite number. A group whose scale rounds to zero
 * (constant, or a range below 15 * 2^-25) gets codes 0 and decodes to its minimum. The bytes do not depend on the
 * instruction set.
 */
#include <string.h>

#include "executor/cpu/kernels.h"
#include "model/integers.h"

#define VEC_WIDTH 1
#include "executor/cpu/quant_vec.h"
#undef VEC_WIDTH
#define VEC_WIDTH 8
#include "executor/cpu/quant_vec.h"
#undef VEC_WIDTH
#define VEC_WIDTH 16
#include "executor/cpu/quant_vec.h"
#undef VEC_WIDTH

#define TILE 256 /* columns packed at a time; even */

/* -- loops over elements at the current instruction set ------------------------------------------------------------------ */
static void widen_range(const float *x, float *least, float *most, int64_t n)
{
    int64_t i = 0;

    if (cpu_isa() == ISA_AVX512)
        i = range_run_w16(x, least, most, 0, n);
    else if (cpu_isa() == ISA_AVX2)
        i = range_run_w8(x, least, most, 0, n);
    range_run_w1(x, least, most, i, n);
}

static void find_codes(const float *x, const float *least, const float *inverse, int64_t step, uint8_t *code, int64_t n)
{
    int64_t i = 0;

    if (cpu_isa() == ISA_AVX512)
        i = code_run_w16(x, least, inverse, step, code, 0, n);
    else if (cpu_isa() == ISA_AVX2)
        i = code_run_w8(x, least, inverse, step, code, 0, n);
    code_run_w1(x, least, inverse, step, code, i, n);
}

static void decode(const void *packed, const float *scale, const float *min, int64_t step, float *w, int64_t n)
{
    int64_t i = 0;

    if (cpu_isa() == ISA_AVX512)
        i = decode_run_w16(packed, scale, min, step, w, 0, n);
    else if (cpu_isa() == ISA_AVX2)
        i = decode_run_w8(packed, scale, min, step, w, 0, n);
    decode_run_w1(packed, scale, min, step, w, i, n);
}

/* Two codes a byte, the even one in the low half; an odd last one stands alone. */
static void join_nibbles(const uint8_t *code, int64_t n, uint8_t *packed)
{
    for (int64_t i = 0; i + 1 < n; i += 2)
        packed[i / 2] = (uint8_t)(code[i] | code[i + 1] << 4);
    if (n % 2)
        packed[n / 2] = code[n - 1];
}

static void store_half(char *p, float v)
{
    const uint16_t h = f16_from_f32_saturated(v);

    memcpy(p, &h, sizeof h);
}

/* Stores the group's scale and minimum; returns the factor from x - least to its code. */
static float close_group(float least, float most, char *scale, char *min)
{
    store_half(scale, (most - least) / 15.0f);
    store_half(min, least);
    return f16_load(scale, 0) > 0.0f ? 15.0f / (most - least) : 0.0f;
}

/* -- matrices: groups down the columns ------------------------------------------------------------------------------------- */
/* Columns [c, c + n) of a block of `rows` rows; c is even. */
static void pack_tile(const float *w, int64_t rows, int64_t cols, int64_t c, int64_t n, char *block)
{
    const int64_t row_bytes = (cols + 1) / 2;
    float least[TILE], most[TILE], inverse[TILE];
    uint8_t code[TILE];

    for (int64_t i = 0; i < n; i++) {
        least[i] = 65504.0f;
        most[i] = -65504.0f;
    }
    for (int64_t r = 0; r < rows; r++)
        widen_range(w + r * cols + c, least, most, n);
    for (int64_t i = 0; i < n; i++)
        inverse[i] = close_group(least[i], most[i], block + 2 * (c + i), block + 2 * (cols + c + i));
    for (int64_t r = 0; r < rows; r++) {
        find_codes(w + r * cols + c, least, inverse, 1, code, n);
        join_nibbles(code, n, (uint8_t *)block + 4 * cols + r * row_bytes + c / 2);
    }
}

void q4_pack_matrix(const float *w, int64_t rows, int64_t cols, void *dst)
{
    char *block = dst;

    for (int64_t r = 0; r < rows; r += Q4_GROUP) {
        const int64_t n = min64(Q4_GROUP, rows - r);
        for (int64_t c = 0; c < cols; c += TILE)
            pack_tile(w + r * cols, n, cols, c, min64(TILE, cols - c), block);
        block += format_matrix_bytes(FORMAT_Q4, n, cols);
    }
}

static void unpack_tile(const char *block, int64_t rows, int64_t cols, int64_t c, int64_t n, float *w)
{
    float scale[TILE], min[TILE];

    to_f32(FORMAT_F16, block + 2 * c, n, scale);
    to_f32(FORMAT_F16, block + 2 * (cols + c), n, min);
    for (int64_t r = 0; r < rows; r++)
        decode(block + 4 * cols + r * ((cols + 1) / 2) + c / 2, scale, min, 1, w + r * cols + c, n);
}

void q4_unpack_matrix(const void *src, int64_t rows, int64_t cols, float *w)
{
    const char *block = src;

    for (int64_t r = 0; r < rows; r += Q4_GROUP) {
        const int64_t n = min64(Q4_GROUP, rows - r);
        for (int64_t c = 0; c < cols; c += TILE)
            unpack_tile(block, n, cols, c, min64(TILE, cols - c), w + r * cols);
        block += format_matrix_bytes(FORMAT_Q4, n, cols);
    }
}

/* -- vectors: groups along them -------------------------------------------------------------------------------------------- */
static int64_t vector_code_bytes(int64_t n)
{
    return ((n + 1) / 2 + 1) / 2 * 2;
}

static void pack_group(const float *x, int64_t n, uint8_t *packed, char *group)
{
    float least[Q4_GROUP], most[Q4_GROUP], inverse;
    uint8_t code[Q4_GROUP];

    for (int64_t i = 0; i < n; i++) {
        least[i] = 65504.0f;
        most[i] = -65504.0f;
    }
    widen_range(x, least, most, n);
    for (int64_t i = 1; i < n; i++) {
        least[0] = least[i] < least[0] ? least[i] : least[0];
        most[0] = most[i] > most[0] ? most[i] : most[0];
    }
    inverse = close_group(least[0], most[0], group, group + 2);
    find_codes(x, least, &inverse, 0, code, n);
    join_nibbles(code, n, packed);
}

void q4_pack_vector(const float *x, int64_t n, void *dst)
{
    uint8_t *packed = dst;
    char *group = (char *)dst + vector_code_bytes(n);

    if (n > 0)
        packed[vector_code_bytes(n) - 1] = 0; /* may be padding */
    for (int64_t i = 0; i < n; i += Q4_GROUP, group += 4)
        pack_group(x + i, min64(Q4_GROUP, n - i), packed + i / 2, group);
}

void q4_unpack_vector(const void *src, int64_t n, float *x)
{
    const char *group = (const char *)src + vector_code_bytes(n);

    for (int64_t i = 0; i < n; i += Q4_GROUP, group += 4) {
        const float scale = f16_load(group, 0), min = f16_load(group, 1);
        decode((const char *)src + i / 2, &scale, &min, 0, x + i, min64(Q4_GROUP, n - i));
    }
}
