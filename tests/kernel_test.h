/* kernel_test.h - what the kernels' tests share: seeded random numbers, guarded buffers, and a walk over instruction sets. */
#ifndef BALLAST_TESTS_KERNEL_TEST_H
#define BALLAST_TESTS_KERNEL_TEST_H

#include <criterion/criterion.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/cpu/kernels.h"

/* Test seeds: BALLAST_TEST_SEED, or a fixed one; printed, so that a failure can be repeated. */
static inline uint64_t test_seed(const char *test)
{
    const char *text = getenv("BALLAST_TEST_SEED");
    const uint64_t seed = text ? strtoull(text, NULL, 10) : 20230717;

    fprintf(stderr, "%s: seed %llu\n", test, (unsigned long long)seed);
    return seed;
}

static inline uint64_t next_random(uint64_t *state) /* splitmix64 */
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static inline int64_t random_in(uint64_t *state, int64_t low, int64_t high) /* both included */
{
    return low + (int64_t)(next_random(state) % (uint64_t)(high - low + 1));
}

static inline float random_unit(uint64_t *state) /* [-1, 1) */
{
    return (float)(next_random(state) >> 40) * 0x1p-23f - 1.0f;
}

static inline float *random_array(uint64_t *state, int64_t n)
{
    float *x = malloc((size_t)(n > 0 ? n : 1) * sizeof *x);

    for (int64_t i = 0; i < n; i++)
        x[i] = random_unit(state);
    return x;
}

/* Queries and keys whose scores are exact in f32, and often equal, so that what sparse attention chooses does not hang on rounding: queries (n_q)
 * become whole 64ths up to 3, keys (rows, width) whole numbers from 0 to 15, both of them in every group of 4-bit codes, which then hold
 * them as they are. */
static inline void make_exact(float *q, int64_t n_q, float *k, int64_t rows, int64_t width)
{
    for (int64_t i = 0; i < n_q; i++)
        q[i] = rintf(3 * q[i]) / 64;
    for (int64_t i = 0; i < rows * width; i++)
        k[i] = i % width % Q4_GROUP < 2 ? (float)(15 * (i % width % Q4_GROUP)) : rintf(7.5f * (k[i] + 1));
}

/* `bytes` between two stretches of known bytes, at an odd address if `shift` is odd. */
#define GUARD 128
struct guarded {
    unsigned char *base, *data;
    int64_t bytes;
};

static inline struct guarded guarded_new(int64_t bytes, int shift)
{
    struct guarded g = {.base = malloc((size_t)bytes + 3 * GUARD), .bytes = bytes};

    memset(g.base, 0xa5, (size_t)bytes + 3 * GUARD);
    g.data = g.base + GUARD + shift;
    return g;
}

static inline void guarded_check_and_free(struct guarded *g, const char *what)
{
    for (int i = 0; i < GUARD; i++) {
        cr_assert_eq(g->data[-1 - i], 0xa5, "%s: written %d bytes before its beginning", what, 1 + i);
        cr_assert_eq(g->data[g->bytes + i], 0xa5, "%s: written %d bytes behind its end", what, i);
    }
    free(g->base);
}

/* Every instruction set this processor has. */
static inline int isa_count(void)
{
    cpu_isa_force(ISA_AVX512);
    return (int)cpu_isa() + 1;
}

static inline struct pool *pool_of(int threads)
{
    struct pool *p;

    cr_assert_eq(pool_new(&p, threads, NULL), STATUS_OK);
    return p;
}

#endif
