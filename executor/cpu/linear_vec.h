/* linear_vec.h - template: the inner loops of linear() for one VEC_WIDTH. Included by linear_kernels.c alone. */
#include "executor/cpu/vec.h"

/* VEC_WIDTH weights from column c on; `format` is a constant wherever this is inlined. */
VEC_INLINE VEC V(load_weights)(enum format format, const char *row, int64_t c, const float *scale, const float *min)
{
    if (format == FORMAT_F16)
        return V(load_f16)(row + 2 * c);
    if (format == FORMAT_BF16)
        return V(load_bf16)(row + 2 * c);
    if (format == FORMAT_Q4)
        return V(fma)(V(load_nibbles)(row, c), V(load)(scale + c), V(load)(min + c));
    return V(load)((const float *)(const void *)(row + 4 * c));
}

/* As above near the end of the row: reads nothing behind column cols - 1, gives zeros there. */
VEC_INLINE VEC V(load_weights_end)(enum format format, const char *row, int64_t c, int64_t cols, const float *scale,
                                   const float *min)
{
    char copy[64] = {0};
    const int64_t begin = format == FORMAT_Q4 ? c / 2 : format == FORMAT_F32 ? 4 * c : 2 * c;
    const int64_t end = format == FORMAT_Q4 ? (cols + 1) / 2 : format == FORMAT_F32 ? 4 * cols : 2 * cols;

    if (c >= cols)
        return V(set1)(0.0f);
    memcpy(copy, row + begin, (size_t)(end - begin < 64 ? end - begin : 64));
    return format == FORMAT_Q4 ? V(load_weights)(format, copy, 0, scale + c, min + c)
                               : V(load_weights)(format, copy, 0, NULL, NULL);
}

VEC_INLINE VEC V(load_weights_safe)(enum format format, const char *row, int64_t c, int64_t cols, const float *scale,
                                    const float *min)
{
    return c + VEC_WIDTH <= cols ? V(load_weights)(format, row, c, scale, min)
                                 : V(load_weights_end)(format, row, c, cols, scale, min);
}

/* One accumulator per output and the columns in order: a result does not depend on which rows stand beside it. */
VEC_INLINE void V(dot_step)(enum format format, const struct weight_panel *w, const char *const *row, int64_t c, bool end,
                            const float *x, int64_t ldx, int m, VEC (*acc)[DOT_M])
{
    VEC weights[DOT_ROWS];

    UNROLL
    for (int r = 0; r < DOT_ROWS; r++)
        weights[r] = end ? V(load_weights_end)(format, row[r], c, w->cols, w->scale, w->min)
                         : V(load_weights)(format, row[r], c, w->scale, w->min);
    UNROLL
    for (int i = 0; i < m; i++) {
        const VEC xi = V(load)(x + i * ldx + c);
        UNROLL
        for (int r = 0; r < DOT_ROWS; r++)
            acc[r][i] = V(fma)(weights[r], xi, acc[r][i]);
    }
}

VEC_INLINE void V(dot_of)(enum format format, const struct weight_panel *w, const char *const *row, const float *x, int64_t ldx,
                          int m, float *out)
{
    VEC acc[DOT_ROWS][DOT_M];
    int64_t c = 0;

    UNROLL
    for (int r = 0; r < DOT_ROWS; r++) {
        UNROLL
        for (int i = 0; i < m; i++)
            acc[r][i] = V(set1)(0.0f);
    }
    for (; c + VEC_WIDTH <= w->cols; c += VEC_WIDTH)
        V(dot_step)(format, w, row, c, false, x, ldx, m, acc);
    if (c < w->cols)
        V(dot_step)(format, w, row, c, true, x, ldx, m, acc);
    UNROLL
    for (int r = 0; r < DOT_ROWS; r++) {
        UNROLL
        for (int i = 0; i < m; i++)
            out[r * DOT_M + i] = V(sum)(acc[r][i]);
    }
}

VEC_INLINE void V(dot_m)(enum format format, const struct weight_panel *w, const char *const *row, const float *x, int64_t ldx,
                         int m, float *out)
{
    if (m == 1)
        V(dot_of)(format, w, row, x, ldx, 1, out);
    else if (m == 2)
        V(dot_of)(format, w, row, x, ldx, 2, out);
    else
        V(dot_of)(format, w, row, x, ldx, 4, out);
}

VEC_FN static void V(dot)(const struct weight_panel *w, const char *const *row, const float *x, int64_t ldx, int m, float *out)
{
    switch (w->format) {
    case FORMAT_F16:
        V(dot_m)(FORMAT_F16, w, row, x, ldx, m, out);
        break;
    case FORMAT_BF16:
        V(dot_m)(FORMAT_BF16, w, row, x, ldx, m, out);
        break;
    case FORMAT_Q4:
        V(dot_m)(FORMAT_Q4, w, row, x, ldx, m, out);
        break;
    default:
        V(dot_m)(FORMAT_F32, w, row, x, ldx, m, out);
    }
}

VEC_INLINE void V(widen_row)(enum format format, const struct weight_panel *w, int64_t r, int64_t begin, int64_t k, float *out)
{
    const char *row = w->data + r * w->row_stride;

    for (int64_t c = 0; c < k; c += VEC_WIDTH)
        V(store)(out + c, V(load_weights_safe)(format, row, begin + c, w->cols, w->scale, w->min));
}

VEC_FN static void V(fill_rows_f32)(const struct weight_panel *w, int64_t begin, int64_t k, float *out)
{
    for (int64_t r = 0; r < PANEL_N; r++, out += k) {
        if (r >= w->rows)
            memset(out, 0, (size_t)k * sizeof *out);
        else if (w->format == FORMAT_F16)
            V(widen_row)(FORMAT_F16, w, r, begin, k, out);
        else if (w->format == FORMAT_BF16)
            V(widen_row)(FORMAT_BF16, w, r, begin, k, out);
        else if (w->format == FORMAT_Q4)
            V(widen_row)(FORMAT_Q4, w, r, begin, k, out);
        else
            V(widen_row)(FORMAT_F32, w, r, begin, k, out);
    }
}

VEC_FN static void V(widen_f16)(const void *src, int64_t n, int64_t padded, float *out)
{
    for (int64_t c = 0; c < padded; c += VEC_WIDTH)
        V(store)(out + c, V(load_weights_safe)(FORMAT_F16, src, c, n, NULL, NULL));
}

VEC_FN static void V(finish)(const float *c, const float *bias, bool relu, int64_t n, float *y)
{
    const VEC least = V(set1)(relu ? 0.0f : -INFINITY);
    int64_t i = 0;

    for (; i + VEC_WIDTH <= n; i += VEC_WIDTH) {
        VEC v = V(load)(c + i);
        if (bias)
            v = V(add)(v, V(load)(bias + i));
        V(store)(y + i, relu ? V(max)(v, least) : v);
    }
    for (; i < n; i++) {
        const float v = c[i] + (bias ? bias[i] : 0.0f);
        y[i] = relu && v < 0.0f ? 0.0f : v;
    }
}
