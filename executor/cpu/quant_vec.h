/* quant_vec.h - template: 4-bit packing for one VEC_WIDTH. Included by quant.c alone. As in elementwise_vec.h, each loop returns
 * how far it came and the width-1 version does the rest. */
#include "executor/cpu/vec.h"

/* NaN becomes 0, and the rest is limited to what fp16 can say. */
VEC_INLINE VEC V(number)(VEC x)
{
    const VEC v = V(keep_from)(x, -INFINITY, x);

    return V(max)(V(min)(v, V(set1)(65504.0f)), V(set1)(-65504.0f));
}

/* least[i], most[i] take in x[i] */
VEC_FN static int64_t V(range_run)(const float *x, float *least, float *most, int64_t i, int64_t n)
{
    for (; i + VEC_WIDTH <= n; i += VEC_WIDTH) {
        const VEC v = V(number)(V(load)(x + i));
        V(store)(least + i, V(min)(V(load)(least + i), v));
        V(store)(most + i, V(max)(V(load)(most + i), v));
    }
    return i;
}

/* code[i] = round((x[i] - least[i]) * inverse[i]), at most 15; step 0 uses element 0 of both for all. */
VEC_FN static int64_t V(code_run)(const float *x, const float *least, const float *inverse, int64_t step, uint8_t *code,
                                  int64_t i, int64_t n)
{
    for (; i + VEC_WIDTH <= n; i += VEC_WIDTH) {
        const VEC low = step ? V(load)(least + i) : V(set1)(*least), factor = step ? V(load)(inverse + i) : V(set1)(*inverse);
        const VEC q = V(fma)(V(sub)(V(number)(V(load)(x + i)), low), factor, V(set1)(0.5f));
        V(store_bytes)(code + i, V(min)(q, V(set1)(15.0f)));
    }
    return i;
}

/* w[i] = code i of the row * scale[i] + min[i]; from an even i on */
VEC_FN static int64_t V(decode_run)(const void *packed, const float *scale, const float *min, int64_t step, float *w, int64_t i,
                                    int64_t n)
{
    for (; i + VEC_WIDTH <= n; i += VEC_WIDTH) {
        const VEC factor = step ? V(load)(scale + i) : V(set1)(*scale), low = step ? V(load)(min + i) : V(set1)(*min);
        V(store)(w + i, V(fma)(V(load_nibbles)(packed, i), factor, low));
    }
    return i;
}
