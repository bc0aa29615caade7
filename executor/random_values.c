/* random_values.c - the elements of random weights: a counter-based generator that picks from a table of 65536 values, so that
 * four elements cost one draw and no conversion. */
#include <math.h>
#include <string.h>

#include "executor/random_weights.h"
#include "model/mix.h"

#define STANDARD_DEVIATION 0.02

/* Rounded to nearest even; |x| below the largest f16. Only for tables, so clarity comes first. */
static uint16_t half_bits(double x)
{
    int exponent;
    frexp(fabs(x), &exponent); /* |x| = m * 2^exponent with m in [1/2, 1) */
    const uint16_t sign = signbit(x) ? 0x8000 : 0;
    if (x == 0 || exponent < -13) /* below 2^-14: a multiple of 2^-24 without a leading one */
        return (uint16_t)(sign | (uint16_t)lrint(ldexp(fabs(x), 24)));
    /* 11 significant bits: 1024 .. 2048, where 2048 carries into the exponent as it should. */
    const long units = lrint(ldexp(fabs(x), 11 - exponent));
    return (uint16_t)(sign | (((exponent + 14) << 10) + (units - 1024)));
}

static uint32_t single_bits(double x)
{
    const float f = (float)x;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static uint16_t bfloat_bits(double x)
{
    const uint32_t bits = single_bits(x);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static uint16_t short_bits(enum format format, double x)
{
    return format == FORMAT_F16 ? half_bits(x) : bfloat_bits(x);
}

void random_table_fill(struct random_table *t, enum format format)
{
    const double reach = STANDARD_DEVIATION * sqrt(3.0); /* a uniform variable on [-r, r] deviates by r/sqrt(3) */
    t->format = format;
    for (int i = 0; i < 65536; i++) {
        const double x = reach * ((i + 0.5) / 32768.0 - 1.0);
        if (format == FORMAT_F32)
            t->single[i] = single_bits(x);
        else
            t->half[i] = short_bits(format, x);
    }
}

uint64_t random_key(uint64_t seed, int tensor)
{
    return mix64(seed + MIX_STEP * (uint64_t)(tensor + 1));
}

/* One draw serves four elements, 16 bits each. */
static inline uint64_t draw(uint64_t key, uint64_t counter)
{
    return mix64(key + counter * MIX_STEP);
}

static inline unsigned pick(uint64_t key, int64_t i)
{
    return (unsigned)(draw(key, (uint64_t)i >> 2) >> (16 * (i & 3))) & 0xffff;
}

static void random_halves(const uint16_t *table, uint64_t key, int64_t i, int64_t end, uint16_t *out)
{
    for (; i < end && (i & 3); i++)
        *out++ = table[pick(key, i)];
    for (; i + 4 <= end; i += 4, out += 4) {
        const uint64_t r = draw(key, (uint64_t)i >> 2);
        out[0] = table[r & 0xffff];
        out[1] = table[r >> 16 & 0xffff];
        out[2] = table[r >> 32 & 0xffff];
        out[3] = table[r >> 48];
    }
    for (; i < end; i++)
        *out++ = table[pick(key, i)];
}

static void random_singles(const uint32_t *table, uint64_t key, int64_t i, int64_t end, uint32_t *out)
{
    for (; i < end && (i & 3); i++)
        *out++ = table[pick(key, i)];
    for (; i + 4 <= end; i += 4, out += 4) {
        const uint64_t r = draw(key, (uint64_t)i >> 2);
        out[0] = table[r & 0xffff];
        out[1] = table[r >> 16 & 0xffff];
        out[2] = table[r >> 32 & 0xffff];
        out[3] = table[r >> 48];
    }
    for (; i < end; i++)
        *out++ = table[pick(key, i)];
}

void random_elements(const struct random_table *t, uint64_t key, int64_t first, int64_t n, void *out)
{
    if (t->format == FORMAT_F32)
        random_singles(t->single, key, first, first + n, out);
    else
        random_halves(t->half, key, first, first + n, out);
}

void random_constant(enum format format, double value, int64_t n, void *out)
{
    const uint32_t single = single_bits(value);
    const uint16_t half = short_bits(format, value);
    if (format == FORMAT_F32)
        for (int64_t i = 0; i < n; i++)
            ((uint32_t *)out)[i] = single;
    else
        for (int64_t i = 0; i < n; i++)
            ((uint16_t *)out)[i] = half;
}
