/* elementwise_vec.h - template: element-wise loops for one VEC_WIDTH. Included by elementwise.c alone.
 *
 * Each handles as many whole vectors as there are and returns how many elements that was; the width-1 version does the rest.
 */
#include "executor/cpu/vec.h"

VEC_FN static int64_t V(add_run)(float *y, const float *x, int64_t i, int64_t n)
{
    for (; i + VEC_WIDTH <= n; i += VEC_WIDTH)
        V(store)(y + i, V(add)(V(load)(y + i), V(load)(x + i)));
    return i;
}

VEC_FN static int64_t V(widen_run)(enum format format, const char *src, float *dst, int64_t i, int64_t n)
{
    for (; i + VEC_WIDTH <= n; i += VEC_WIDTH)
        V(store)(dst + i, format == FORMAT_F16 ? V(load_f16)(src + 2 * i) : V(load_bf16)(src + 2 * i));
    return i;
}

VEC_FN static int64_t V(narrow_run)(const float *src, char *dst, int64_t i, int64_t n)
{
    for (; i + VEC_WIDTH <= n; i += VEC_WIDTH)
        V(store_f16)(dst + 2 * i, V(load)(src + i));
    return i;
}

/* x/2 * erfc(-x/sqrt(2)). For z >= 0, erfc(z) = e^(-z^2) * (a1 t + ... + a5 t^5), t = 1/(1 + p z), absolute error below
 * 1.5e-7 (Abramowitz and Stegun, 7.1.26), and erfc(-z) = 2 - erfc(z). The error of gelu is then below |x| * 1e-7. */
VEC_INLINE VEC V(gelu)(VEC x)
{
    const VEC z = V(mul)(V(max)(x, V(sub)(V(set1)(0.0f), x)), V(set1)(0.70710678f));
    const VEC t = V(div)(V(set1)(1.0f), V(fma)(z, V(set1)(0.3275911f), V(set1)(1.0f)));
    VEC p = V(set1)(1.061405429f);

    p = V(fma)(p, t, V(set1)(-1.453152027f));
    p = V(fma)(p, t, V(set1)(1.421413741f));
    p = V(fma)(p, t, V(set1)(-0.284496736f));
    p = V(fma)(p, t, V(set1)(0.254829592f));
    const VEC erfc = V(mul)(V(mul)(p, t), V(exp)(V(sub)(V(set1)(0.0f), V(mul)(z, z))));
    const VEC upper = V(sub)(V(set1)(2.0f), erfc);
    /* erfc(-x/sqrt 2) is `upper` for x >= 0 and erfc(z) below; one of the two terms is zero */
    const VEC positive = V(mul)(V(max)(x, V(set1)(0.0f)), upper);
    const VEC negative = V(mul)(V(min)(x, V(set1)(0.0f)), erfc);
    return V(mul)(V(set1)(0.5f), V(add)(positive, negative));
}

VEC_FN static int64_t V(gelu_run)(float *y, int64_t i, int64_t n)
{
    for (; i + VEC_WIDTH <= n; i += VEC_WIDTH)
        V(store)(y + i, V(gelu)(V(load)(y + i)));
    return i;
}

/* Sum of (x - shift)^power, power 1 or 2. */
VEC_FN static float V(power_sum)(const float *x, int64_t n, float shift, int power)
{
    VEC sum[4] = {V(set1)(0.0f), V(set1)(0.0f), V(set1)(0.0f), V(set1)(0.0f)};
    const VEC s = V(set1)(shift);
    int64_t i = 0;
    float rest = 0.0f;

    for (; i + 4 * VEC_WIDTH <= n; i += 4 * VEC_WIDTH)
        UNROLL
    for (int j = 0; j < 4; j++) {
        const VEC v = V(sub)(V(load)(x + i + j * VEC_WIDTH), s);
        sum[j] = power == 1 ? V(add)(sum[j], v) : V(fma)(v, v, sum[j]);
    }
    for (; i < n; i++)
        rest += power == 1 ? x[i] - shift : (x[i] - shift) * (x[i] - shift);
    return V(sum)(V(add)(V(add)(sum[0], sum[1]), V(add)(sum[2], sum[3]))) + rest;
}

VEC_FN static int64_t V(normalise_run)(const float *x, float mean, float factor, const float *gain, const float *bias, float *y,
                                       int64_t i, int64_t n)
{
    for (; i + VEC_WIDTH <= n; i += VEC_WIDTH) {
        VEC v = V(mul)(V(sub)(V(load)(x + i), V(set1)(mean)), V(set1)(factor));
        if (gain)
            v = V(mul)(v, V(load)(gain + i));
        V(store)(y + i, bias ? V(add)(v, V(load)(bias + i)) : v);
    }
    return i;
}

VEC_FN static void V(norm_row)(const float *x, int64_t d, const float *gain, const float *bias, double eps, float *y)
{
    /* The mean of what the first mean leaves over takes away its rounding error. */
    const float rough = V(power_sum)(x, d, 0.0f, 1) / (float)d;
    const float mean = rough + V(power_sum)(x, d, rough, 1) / (float)d;
    const double variance = (double)V(power_sum)(x, d, mean, 2) / (double)d;
    const float factor = (float)(1.0 / sqrt(variance + eps));
    const int64_t i = V(normalise_run)(x, mean, factor, gain, bias, y, 0, d);

    normalise_run_w1(x, mean, factor, gain, bias, y, i, d);
}
