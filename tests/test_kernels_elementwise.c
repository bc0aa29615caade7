/* test_kernels_elementwise.c - norms, sums and gelu against plain double arithmetic, on every instruction set. */
#include <math.h>

#include "tests/kernel_test.h"

Test(elementwise, layer_norm_by_hand)
{
    /* 1, 2, 3, 6: mean 3, variance (4+1+0+9)/4 = 3.5; with eps 0.5 the factor is 1/sqrt(4) = 1/2: -1, -0.5, 0, 1.5. */
    const float x[4] = {1, 2, 3, 6}, gain[4] = {1, 2, 3, 4}, bias[4] = {0, 0, 1, 1}, expected[4] = {-1, -1, 1, 7};
    float y[4];

    for (int isa = 0; isa < isa_count(); isa++) {
        cpu_isa_force((enum cpu_isa)isa);
        layer_norm(NULL, x, 1, 4, gain, bias, 0.5, y);
        for (int i = 0; i < 4; i++)
            cr_assert_float_eq(y[i], expected[i], 1e-6);
    }
}

Test(elementwise, layer_norm_agrees_with_the_reference)
{
    uint64_t seed = test_seed("layer_norm_agrees_with_the_reference");

    for (int round = 0; round < 60; round++) {
        const int64_t m = random_in(&seed, 1, 9), d = random_in(&seed, 1, 700);
        const float offset = round % 3 == 0 ? 100.0f : 0.0f;
        float *x = random_array(&seed, m * d), *gain = random_array(&seed, d), *bias = random_array(&seed, d);
        float *expected = malloc((size_t)(m * d) * sizeof *expected);
        struct pool *p = pool_of(1 + round % 3);
        for (int64_t i = 0; i < m * d; i++)
            x[i] += offset;
        cpu_isa_force((enum cpu_isa)(round % isa_count()));
        ref_layer_norm(x, m, d, round % 2 ? gain : NULL, round % 5 ? bias : NULL, 1e-5, expected);
        layer_norm(p, x, m, d, round % 2 ? gain : NULL, round % 5 ? bias : NULL, 1e-5, x); /* in place */
        /* (x - mean): the mean is right to about an ulp of x, 2^-17 at 100; divided by a deviation of 1/sqrt(3) (if d is not
         * tiny: the factor is at most 1/sqrt(1e-5) = 316). The factor is right to (d + 4) 2^-24 relative, |normalised| <=
         * sqrt(d). */
        const double factor_most = d < 8 ? 317 : 4;
        const double bound = (offset + 1) * 0x1p-23 * factor_most + ((double)d + 8) * 0x1p-24 * sqrt((double)d) + 1e-6;
        for (int64_t i = 0; i < m * d; i++)
            cr_assert_float_eq(x[i], expected[i], bound, "m %lld, d %lld, %lld: %g, expected %g within %g", (long long)m,
                               (long long)d, (long long)i, x[i], expected[i], bound);
        pool_free(p);
        free(x);
        free(gain);
        free(bias);
        free(expected);
    }
}

Test(elementwise, add_rows_is_exact)
{
    uint64_t seed = test_seed("add_rows_is_exact");

    for (int round = 0; round < 30; round++) {
        const int64_t n = round == 0 ? 0 : random_in(&seed, 1, 40000);
        float *x = random_array(&seed, n), *y = random_array(&seed, n), *sum = malloc((size_t)(n + 1) * sizeof *sum);
        struct pool *p = pool_of(1 + round % 3);
        for (int64_t i = 0; i < n; i++)
            sum[i] = x[i] + y[i];
        cpu_isa_force((enum cpu_isa)(round % isa_count()));
        add_rows(p, y, x, n);
        cr_assert(memcmp(y, sum, (size_t)n * sizeof *y) == 0, "n %lld", (long long)n);
        pool_free(p);
        free(x);
        free(y);
        free(sum);
    }
}

Test(elementwise, gelu_is_the_exact_one)
{
    enum { N = 20001 };
    static float x[N], y[N];

    for (int isa = 0; isa < isa_count(); isa++) {
        cpu_isa_force((enum cpu_isa)isa);
        for (int i = 0; i < N; i++)
            x[i] = y[i] = -10.0f + 0.001f * (float)i;
        gelu_rows(NULL, y, N);
        for (int i = 0; i < N; i++) {
            const double expected = 0.5 * x[i] * erfc(-(double)x[i] / sqrt(2.0));
            /* erfc within 1.5e-7 (the formula) + a few ulp of 2, halved, times |x| */
            cr_assert_float_eq(y[i], expected, fabs((double)x[i]) * (0.75e-7 + 6 * 0x1p-24) + 1e-12, "x %g: %g, expected %g",
                               x[i], y[i], expected);
        }
    }
}

Test(isa, describes_and_lowers)
{
    char text[256], tiny[8];

    cr_assert(strstr(cpu_describe(text, sizeof text), "oneDNN") != NULL, "%s", text);
    cr_assert_eq(strlen(cpu_describe(tiny, sizeof tiny)), 7);
    cpu_isa_force(ISA_SCALAR);
    cr_assert_eq(cpu_isa(), ISA_SCALAR);
    cr_assert(!cpu_has_bf16());
    cr_assert(strstr(cpu_describe(text, sizeof text), "scalar") != NULL, "%s", text);
}
