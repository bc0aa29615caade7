/* test_cuda_kernels.c - every CUDA kernel against the CPU's readable reference, in three orders of threads. Bounds are derived: a sum of n
 * terms in f32 is off by at most n * 2^-24 times the sum of their magnitudes, to which come a few roundings of the ends. */
#include <cuda_runtime.h>
#include <math.h>

#include "executor/cpu/half.h"
#include "executor/cuda/kernels.h"
#include "executor/sample.h"
#include "tests/emu/emu.h"
#include "tests/kernel_test.h"

#define ULP 0x1p-24

static cudaStream_t stream;

static void begin(int round, const char *test)
{
    emu_mode(round == 0 ? EMU_EAGER : EMU_SEEDED, round == 0 ? 0 : test_seed(test) + (uint64_t)round);
    cr_assert_eq(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), 0);
}

static void end(void)
{
    cudaStreamDestroy(stream);
    emu_mode(EMU_EAGER, 0);
}

/* On the kernels' own stream, which does not wait for the default one: cudaMemcpy out of pageable memory may return before its last bytes have
 * arrived. */
static void *on_device(const void *from, int64_t bytes)
{
    void *p;
    cr_assert_eq(cudaMalloc(&p, (size_t)bytes), 0);
    if (from) {
        cr_assert_eq(cudaMemcpyAsync(p, from, (size_t)bytes, cudaMemcpyHostToDevice, stream), 0);
        cr_assert_eq(cudaStreamSynchronize(stream), 0);
    }
    return p;
}

/* Waits for the stream, takes the bytes back and frees them. */
static void from_device(void *to, void *p, int64_t bytes)
{
    cr_assert_eq(cudaStreamSynchronize(stream), 0);
    if (to)
        cr_assert_eq(cudaMemcpy(to, p, (size_t)bytes, cudaMemcpyDefault), 0);
    cudaFree(p);
}

static const enum format FORMATS[] = {FORMAT_F32, FORMAT_F16, FORMAT_BF16};
/* half a unit in the last place of the format, relative */
static const double ROUNDING[] = {[FORMAT_F32] = 0x1p-24, [FORMAT_F16] = 0x1p-11, [FORMAT_BF16] = 0x1p-8};

/* x in `format`, and in x itself what that holds. */
static void *as_format(enum format format, float *x, int64_t n)
{
    const int64_t bytes = format_matrix_bytes(format, 1, n);
    void *p = malloc((size_t)bytes), *device;
    from_f32(format, x, n, p);
    to_f32(format, p, n, x);
    device = on_device(p, bytes);
    free(p);
    return device;
}

/* x (n) as `format` rounds it */
static void rounded(enum format format, float *x, int64_t n)
{
    void *bytes = malloc((size_t)format_matrix_bytes(format, 1, n));
    from_f32(format, x, n, bytes);
    to_f32(format, bytes, n, x);
    free(bytes);
}

static void from_format(enum format format, void *p, int64_t n, float *x)
{
    void *host = malloc((size_t)(4 * n));
    from_device(host, p, format_matrix_bytes(format, 1, n));
    to_f32(format, host, n, x);
    free(host);
}

/* -- norms and sums ---------------------------------------------------------------------------------------------------- */

static void check_norm(enum format in, enum format out, int64_t m, int64_t d, bool affine, uint64_t *seed)
{
    float *x = random_array(seed, m * d), *gain = random_array(seed, d), *bias = random_array(seed, d);
    float *want = malloc((size_t)(m * d) * 4), *y = malloc((size_t)(m * d) * 4);
    void *gx = as_format(in, x, m * d), *gg = on_device(gain, 4 * d), *gb = on_device(bias, 4 * d);
    void *gy = on_device(NULL, format_matrix_bytes(out, m, d));
    ref_layer_norm(x, m, d, affine ? gain : NULL, affine ? bias : NULL, 1e-5, want);
    cr_assert_eq(gpu_norm(stream, gx, in, m, d, affine ? gg : NULL, affine ? gb : NULL, 1e-5f, gy, out), 0);
    from_format(out, gy, m * d, y);
    /* |x| <= 1: the mean is off by d ULP, which the division by the deviation enlarges; the variance's relative error is
     * about (d + 4) ULP. Normalised values are below sqrt(d), and gain below 1. */
    for (int64_t i = 0; i < m * d; i++) {
        double deviation = 0, mean = 0;
        for (int64_t c = 0; c < d; c++)
            mean += x[i / d * d + c] / (double)d;
        for (int64_t c = 0; c < d; c++)
            deviation += pow(x[i / d * d + c] - mean, 2) / (double)d;
        deviation = sqrt(deviation + 1e-5);
        const double bound = 2 * (double)(d + 8) * ULP * (1 / deviation + fabs(want[i]) + 1) + ROUNDING[out] * fabs(want[i]);
        cr_assert_lt(fabs((double)y[i] - want[i]), bound, "%s to %s, %lld x %lld, element %lld: %g, expected %g", format_name(in),
                     format_name(out), (long long)m, (long long)d, (long long)i, y[i], want[i]);
    }
    from_device(NULL, gx, 0);
    from_device(NULL, gg, 0);
    from_device(NULL, gb, 0);
    free(x), free(gain), free(bias), free(want), free(y);
}

Test(cuda_kernels, norm_is_the_reference)
{
    uint64_t seed = test_seed("norm");
    for (int round = 0; round < 3; round++) {
        begin(round, "norm");
        for (int f = 0; f < 3; f++) {
            check_norm(FORMATS[f], FORMAT_F32, 3, 64, true, &seed);
            check_norm(FORMAT_F32, FORMATS[f], 2, random_in(&seed, 1, 300), round % 2 == 0, &seed);
        }
        end();
    }
}

Test(cuda_kernels, add_rounds_once)
{
    /* h + (x + bias) in f32, then rounded to h's format: the same two additions here */
    uint64_t seed = test_seed("add");
    for (int round = 0; round < 3; round++)
        for (int f = 0; f < 3; f++) {
            const int64_t m = 3, d = random_in(&seed, 1, 1300);
            float *h = random_array(&seed, m * d), *x = random_array(&seed, m * d), *bias = random_array(&seed, d);
            float *y = malloc((size_t)(m * d) * 4);
            begin(round, "add");
            void *gh = as_format(FORMATS[f], h, m * d), *gx = as_format(FORMAT_F32, x, m * d), *gb = on_device(bias, 4 * d);
            cr_assert_eq(gpu_add(stream, gh, FORMATS[f], gx, FORMAT_F32, gb, m, d), 0);
            from_format(FORMATS[f], gh, m * d, y);
            from_device(NULL, gx, 0);
            from_device(NULL, gb, 0);
            for (int64_t i = 0; i < m * d; i++) {
                float want = h[i] + (x[i] + bias[i % d]);
                rounded(FORMATS[f], &want, 1);
                cr_assert_eq(y[i], want);
            }
            end();
            free(h), free(x), free(bias), free(y);
        }
}

Test(cuda_kernels, bias_is_added_to_its_columns_alone)
{
    uint64_t seed = test_seed("bias");
    for (int round = 0; round < 3; round++) {
        const int64_t m = 3, d = random_in(&seed, 1, 1300), ld = d + random_in(&seed, 0, 5);
        float *x = random_array(&seed, m * ld), *bias = random_array(&seed, d), *y = malloc((size_t)(m * ld) * 4);
        begin(round, "bias");
        void *gx = on_device(x, m * ld * 4), *gb = on_device(bias, 4 * d);
        cr_assert_eq(gpu_bias(stream, gx, ld, gb, m, d), 0);
        from_device(y, gx, m * ld * 4);
        from_device(NULL, gb, 0);
        for (int64_t i = 0; i < m * ld; i++)
            cr_assert_eq(y[i], i % ld < d ? x[i] + bias[i % ld] : x[i]);
        end();
        free(x), free(bias), free(y);
    }
}

/* -- embeddings, activations, conversions ------------------------------------------------------------------------------ */

static void check_embed(enum format in, enum format out, uint64_t *seed)
{
    enum { SEQUENCES = 3, TOKENS = 4, FIRST = 2, OFFSET = 2 };
    const int64_t d = random_in(seed, 1, 1100), stride = d + random_in(seed, 0, 5),
                  row = random_in(seed, 0, SEQUENCES * TOKENS - 1), count = random_in(seed, 1, SEQUENCES * TOKENS - row);
    const int32_t pad[SEQUENCES] = {0, 3, FIRST + TOKENS - 1};
    float *x = random_array(seed, count * stride), *positions = random_array(seed, (FIRST + TOKENS + OFFSET) * d);
    float *h = malloc((size_t)(count * d) * 4);
    void *gx = as_format(in, x, count * stride), *gp = on_device(positions, (FIRST + TOKENS + OFFSET) * d * 4);
    void *gpad = on_device(pad, sizeof pad), *gh = on_device(NULL, count * d * 4);
    cr_assert_eq(gpu_embed(stream, gx, format_matrix_bytes(in, 1, stride), in, row, count, TOKENS, FIRST, gpad, gp, OFFSET, d, gh,
                           out),
                 0);
    from_format(out, gh, count * d, h);
    for (int64_t i = 0; i < count; i++) {
        const int64_t sequence = (row + i) / TOKENS, at = FIRST + (row + i) % TOKENS - pad[sequence];
        const float *position = positions + (at < 0 ? OFFSET - 1 : OFFSET + at) * d; /* padding looks up position -1 */
        for (int64_t c = 0; c < d; c++) {
            float want = x[i * stride + c] + position[c]; /* one addition, then h's rounding */
            rounded(out, &want, 1);
            cr_assert_eq(h[i * d + c], want, "row %lld, element %lld", (long long)i, (long long)c);
        }
    }
    from_device(NULL, gx, 0);
    from_device(NULL, gp, 0);
    from_device(NULL, gpad, 0);
    free(x), free(positions), free(h);
}

Test(cuda_kernels, embedding_adds_the_position_that_padding_leaves)
{
    uint64_t seed = test_seed("embed");
    for (int round = 0; round < 3; round++) {
        begin(round, "embed");
        for (int f = 0; f < 9; f++)
            check_embed(FORMATS[f / 3], FORMATS[f % 3], &seed);
        end();
    }
}

/* gelu(x) = x/2 erfc(z), z = -x/sqrt(2). z is off by 2^-23 relatively (its constant's rounding and the product's), which erfc turns into
 * at most 2 z^2 + 1 times as much; erfcf itself is off by 4 units of 2^-23, CUDA's most; the last product by 2^-24. */
static double gelu_bound(double x, double want)
{
    return fabs(want) * (0x1p-23 * (x * x + 1 + 4) + 0x1p-24) + (1 + fabs(x)) * 0x1p-147; /* subnormal results */
}

static void check_activation(enum activation activation, enum format format, uint64_t *seed)
{
    const int64_t m = 2, d = random_in(seed, 1, 1500), n = m * d;
    const double least[] = {[FORMAT_F32] = 0x1p-150, [FORMAT_F16] = 0x1p-25, [FORMAT_BF16] = 0x1p-134}; /* half a subnormal */
    const bool with_bias = random_in(seed, 0, 1);
    float *x = random_array(seed, n), *bias = random_array(seed, d), *y = malloc((size_t)n * 4);
    for (int64_t i = 0; i < n; i++)
        x[i] *= i % 3 ? 4.0f : 14.0f;
    void *gx = as_format(format, x, n), *gb = on_device(bias, 4 * d);
    cr_assert_eq(gpu_activate(stream, gx, format, with_bias ? gb : NULL, activation, m, d), 0);
    from_format(format, gx, n, y);
    from_device(NULL, gb, 0);
    for (int64_t i = 0; i < n; i++) {
        const float v = x[i] + (with_bias ? bias[i % d] : 0.0f);
        const double want = activation == ACTIVATION_RELU ? fmax(v, 0) : v * 0.5 * erfc(-v / sqrt(2));
        const double bound = activation == ACTIVATION_RELU ? 0 : gelu_bound(v, want);
        cr_assert_leq(fabs(y[i] - want), bound + ROUNDING[format] * (fabs(want) + bound) + least[format],
                      "%s: activation %d of %.9g is %.9g, expected %.9g", format_name(format), activation, v, y[i], want);
    }
    free(x), free(bias), free(y);
}

/* In as many launches as it takes, as it was at the call, whenever these run; what is behind its end stays 0. */
Test(cuda_kernels, a_table_goes_up_as_it_was)
{
    uint64_t seed = test_seed("put");
    static const int64_t sizes[] = {0, 1, 129, 960, 961, 5000};
    for (int round = 0; round < 3; round++) {
        begin(round, "put");
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            const int64_t n = sizes[i];
            int32_t *x = calloc((size_t)n + 1, sizeof *x), *want = calloc((size_t)n + 1, sizeof *x),
                    *y = calloc((size_t)n + 1, sizeof *x);
            void *gy = on_device(x, (n + 1) * (int64_t)sizeof *x);
            for (int64_t k = 0; k < n; k++)
                want[k] = x[k] = (int32_t)next_random(&seed);
            cr_assert_eq(gpu_put(stream, gy, x, n), 0);
            memset(x, 0, (size_t)n * sizeof *x);
            from_device(y, gy, (n + 1) * (int64_t)sizeof *x);
            cr_assert_arr_eq(y, want, ((size_t)n + 1) * sizeof *x, "%lld numbers", (long long)n);
            free(x), free(want), free(y);
        }
        end();
    }
}

/* Rows of 2 * width bytes here and there on the device and in pinned memory; the addresses are those at the call. */
static void check_gather(int64_t n, int64_t width, uint64_t *seed)
{
    const int64_t places = 7, bytes = 2 * width;
    uint16_t *table = malloc((size_t)(places * bytes)), *y = malloc((size_t)(n * bytes)), *pinned;
    const void **row = malloc((size_t)n * sizeof *row);
    int64_t *place = malloc((size_t)n * sizeof *place);
    for (int64_t i = 0; i < places * width; i++)
        table[i] = (uint16_t)next_random(seed);
    char *device = on_device(table, places * bytes);
    void *gy = on_device(NULL, n * bytes);
    cr_assert_eq(cudaHostAlloc((void **)&pinned, (size_t)(places * bytes), cudaHostAllocPortable), 0);
    memcpy(pinned, table, (size_t)(places * bytes));
    for (int64_t i = 0; i < n; i++) {
        place[i] = random_in(seed, 0, places - 1);
        row[i] = (next_random(seed) % 2 ? (char *)pinned : device) + place[i] * bytes;
    }
    cr_assert_eq(gpu_gather(stream, gy, row, n, bytes), 0);
    memset(row, 0, (size_t)n * sizeof *row);
    from_device(y, gy, n * bytes);
    for (int64_t i = 0; i < n; i++)
        cr_assert_arr_eq(y + i * width, table + place[i] * width, (size_t)bytes, "row %lld of %lld, %lld wide", (long long)i,
                         (long long)n, (long long)width);
    from_device(NULL, device, 0);
    cudaFreeHost(pinned);
    free(table), free(y), free(row), free(place);
}

Test(cuda_kernels, rows_are_gathered_from_wherever_they_are)
{
    uint64_t seed = test_seed("gather");
    for (int round = 0; round < 3; round++) {
        begin(round, "gather");
        check_gather(1, 1, &seed);
        check_gather(480, random_in(&seed, 2, 60), &seed);
        check_gather(1000, random_in(&seed, 2, 60), &seed);
        check_gather(3, 2500, &seed);
        end();
    }
}

Test(cuda_kernels, activations_are_the_reference)
{
    uint64_t seed = test_seed("activation");
    for (int round = 0; round < 3; round++) {
        begin(round, "activation");
        for (int f = 0; f < 3; f++) {
            check_activation(ACTIVATION_RELU, FORMATS[f], &seed);
            check_activation(ACTIVATION_GELU, FORMATS[f], &seed);
        }
        end();
    }
}

Test(cuda_kernels, conversion_rounds_as_the_cpu_and_keeps_what_is_between_the_rows)
{
    uint64_t seed = test_seed("convert");
    for (int round = 0; round < 3; round++) {
        begin(round, "convert");
        for (int f = 0; f < 9; f++) {
            const enum format in = FORMATS[f / 3], out = FORMATS[f % 3];
            const int64_t m = 3, d = random_in(&seed, 1, 1100), ldx = d + random_in(&seed, 0, 3),
                          ldy = d + random_in(&seed, 0, 3);
            float *x = random_array(&seed, m * ldx), *y = random_array(&seed, m * ldy), *before = malloc((size_t)(m * ldy) * 4);
            void *gx = as_format(in, x, m * ldx), *gy = as_format(out, y, m * ldy);
            memcpy(before, y, (size_t)(m * ldy) * 4);
            cr_assert_eq(gpu_convert(stream, gx, in, ldx, m, d, gy, out, ldy), 0);
            from_format(out, gy, m * ldy, y);
            from_device(NULL, gx, 0);
            rounded(out, x, m * ldx);
            for (int64_t i = 0; i < m * ldy; i++)
                cr_assert_eq(y[i], i % ldy < d ? x[i / ldy * ldx + i % ldy] : before[i]);
            free(x), free(y), free(before);
        }
        end();
    }
}

/* -- 4-bit products ------------------------------------------------------------------------------------------------------ */

/* `bytes` of device memory, 16-byte aligned and then `shift` on; *base is to be freed. */
static void *shifted_on_device(const void *from, int64_t bytes, int shift, void **base)
{
    char *copy = malloc((size_t)(bytes + shift));
    memset(copy, 0x5a, (size_t)shift);
    memcpy(copy + shift, from, (size_t)bytes);
    *base = on_device(copy, bytes + shift);
    free(copy);
    return (char *)*base + shift;
}

/* y (m, ldy) = x (m, ldx) times a packed matrix, whose addresses are so many bytes off; what was there was 0. */
static void product_at(int w_shift, int x_shift, const void *packed, int64_t rows, int64_t cols, const float *x, int64_t ldx,
                       int64_t m, enum format yf, float *y, int64_t ldy)
{
    void *halves = malloc((size_t)(2 * m * ldx)), *zeros = calloc((size_t)(m * ldy), 4), *w_base, *x_base;
    from_f32(FORMAT_F16, x, m * ldx, halves);
    void *gw = shifted_on_device(packed, format_matrix_bytes(FORMAT_Q4, rows, cols), w_shift, &w_base);
    void *gx = shifted_on_device(halves, 2 * m * ldx, x_shift, &x_base), *gy = on_device(zeros, m * ldy * 4);
    cr_assert_eq(gpu_product_q4(stream, gw, rows, cols, gx, ldx, m, gy, yf, ldy), 0);
    from_format(yf, gy, m * ldy, y);
    from_device(NULL, w_base, 0);
    from_device(NULL, x_base, 0);
    free(halves), free(zeros);
}

static void check_product(int64_t rows, int64_t cols, int64_t ldx, int64_t m, enum format yf, uint64_t *seed)
{
    const int64_t ldy = rows + 2;
    float *w = random_array(seed, rows * cols), *x = random_array(seed, m * ldx), *y = malloc((size_t)(m * ldy) * 4),
          *other = malloc((size_t)(m * ldy) * 4);
    char *packed = malloc((size_t)format_matrix_bytes(FORMAT_Q4, rows, cols));
    q4_pack_matrix(w, rows, cols, packed);
    q4_unpack_matrix(packed, rows, cols, w);
    rounded(FORMAT_F16, w, rows * cols); /* exact in f32 before, being a multiple of 2^-24 and hardly above 1: so rounded once */
    rounded(FORMAT_F16, x, m * ldx);
    product_at(0, 0, packed, rows, cols, x, ldx, m, yf, y, ldy);
    for (int64_t i = 0; i < m * ldy; i++) {
        const int64_t row = i % ldy;
        double want = 0, magnitude = 0;
        for (int64_t c = 0; c < cols && row < rows; c++) {
            want += (double)x[i / ldy * ldx + c] * w[row * cols + c];
            magnitude += fabs((double)x[i / ldy * ldx + c] * w[row * cols + c]);
        }
        /* products of fp16 are exact in f32; eight of them and the sum so far are added at a time, then the sums of warps. Tensor cores may cut off
         * where others round, which is twice the error. Then y is rounded. */
        const double summed = 2 * (9.0 / 8 * (double)(cols + 8) + 8) * ULP * magnitude;
        const double bound = row < rows ? summed + ROUNDING[yf] * (fabs(want) + summed) + (yf == FORMAT_F16 ? 0x1p-25 : 0) : 0;
        cr_assert_leq(fabs(y[i] - want), bound, "%lld x %lld, %lld rows: [%lld] is %g, not %g", (long long)rows, (long long)cols,
                      (long long)m, (long long)i, y[i], want);
    }
    /* the same operations in the same order, however wide the loads */
    for (int i = 0; i < 2; i++) {
        product_at(2 * i, 2 - 2 * i, packed, rows, cols, x, ldx, m, yf, other, ldy);
        cr_assert_arr_eq(other, y, (size_t)(m * ldy) * 4);
    }
    free(w), free(x), free(y), free(other), free(packed);
}

Test(cuda_kernels, packed_weights_multiply_as_the_reference)
{
    uint64_t seed = test_seed("product");
    for (int round = 0; round < 3; round++) {
        begin(round, "product");
        check_product(64, 64, 64, 1, FORMAT_F32, &seed);
        check_product(64, 64, 65, 2, FORMAT_F32, &seed);
        check_product(130, 320, 328, 9, FORMAT_F16, &seed); /* two of a row, more columns than the warps take at once */
        check_product(64, 128, 128, 33, FORMAT_F32, &seed);
        check_product(20, 64, 72, 70, FORMAT_F16, &seed); /* more rows than a block has */
        for (int i = 0; i < 4; i++) {
            /* a last block of fewer rows, odd columns */
            const int64_t cols = random_in(&seed, 1, 150), ldx = i < 2 ? (cols + 7) / 8 * 8 : cols + 3;
            check_product(random_in(&seed, 1, 150), cols, ldx, random_in(&seed, 1, 40), i % 2 ? FORMAT_F16 : FORMAT_F32, &seed);
        }
        end();
    }
}

/* y between one element in front and one behind, which stay. */
static void check_unpacked(int64_t rows, int64_t cols, enum format format, bool aligned, uint64_t *seed)
{
    const int64_t n = rows * cols, bytes = format_matrix_bytes(FORMAT_Q4, rows, cols), size = format == FORMAT_F32 ? 4 : 2;
    const int64_t before = aligned ? 16 / size : 1;
    float *w = random_array(seed, n), *y = random_array(seed, n + before + 1);
    const float first = 0.5f, last = 0.25f;
    char *packed = malloc((size_t)bytes);
    void *w_base;
    q4_pack_matrix(w, rows, cols, packed);
    q4_unpack_matrix(packed, rows, cols, w);
    rounded(format, w, n);
    y[before - 1] = first;
    y[before + n] = last;
    void *gw = shifted_on_device(packed, bytes, aligned ? 0 : 2, &w_base), *gy = as_format(format, y, n + before + 1);
    cr_assert_eq(gpu_unpack_q4(stream, gw, rows, cols, (char *)gy + before * size, format), 0);
    from_format(format, gy, n + before + 1, y);
    from_device(NULL, w_base, 0);
    cr_assert_eq(y[before - 1], first);
    cr_assert_eq(y[before + n], last);
    for (int64_t i = 0; i < n; i++)
        cr_assert_eq(y[before + i], w[i], "%lld x %lld, %s: element %lld", (long long)rows, (long long)cols, format_name(format),
                     (long long)i);
    free(w), free(y), free(packed);
}

Test(cuda_kernels, unpacked_weights_are_the_cpus)
{
    uint64_t seed = test_seed("unpack");
    for (int round = 0; round < 3; round++) {
        begin(round, "unpack");
        for (int f = 0; f < 2; f++) {
            check_unpacked(random_in(&seed, 1, 150), 8 * random_in(&seed, 1, 80), FORMATS[f], true, &seed);
            check_unpacked(random_in(&seed, 1, 150), 8 * random_in(&seed, 1, 80), FORMATS[f], false, &seed);
            check_unpacked(random_in(&seed, 1, 150), random_in(&seed, 1, 600), FORMATS[f], true, &seed);
        }
        end();
    }
}

/* -- the cache and attention ------------------------------------------------------------------------------------------- */

enum way { PLAIN, TENSOR, SPARSE };

struct attend_case {
    enum way way;
    struct attention_shape shape;
    enum format format;
    int64_t sequences, first, tokens;
    int splits;
    int64_t shift;       /* bytes before the cache and behind each vector: 0, or a multiple of 4 */
    int64_t page_tokens; /* 0: not in pages */
    double fraction;     /* of sparse attention */
};

/* How far from the reference an output may be, with `all` tokens; |q| |k| <= 1 and |v| <= 1. */
static double attend_bound(const struct attend_case *t, int64_t all)
{
    /* A 4-bit element of a group from a to a + R in [-1, 1] is added as scale * (code - 8), at most 8/15 R, and a + 8 * scale, at most
     * 1 - 7/15 R where that is: 1 + R/15 together, R at most 2. Both being rounded to fp16 makes less than 2^-7 of it. */
    const double size = t->format == FORMAT_Q4 ? 1 + 2.0 / 15 + 0x1p-7 : 1;
    const double e = (double)t->shape.head_dim, f32 = (double)(all + 16) * ULP * size;
    /* a score is off by (e + 6) ULP * e * scale: products, sums in a lane, its scale and offset, three sums over lanes, the score's scale; a
     * weight exp(score) by that relatively, plus 4 ULP of expf and one for each of the tokens summed; numerator and denominator each */
    const double score = (e + 6) * ULP * e * t->shape.scale * size;
    if (t->way != TENSOR)
        return 2 * (2 * score + f32) + ULP;
    /* q * scale / ln 2 and k become fp16: each relatively off by 2^-11, and below the normal numbers by 2^-25, which e elements and their
     * factors, at most 1, add up. Weights then stray by exp of that, below and above the line; weights and values become fp16 above it
     * alone, weights below the normal numbers off by 2^-25 each. Twice the f32 terms: tensor cores may cut sums off. */
    const double half = 0x1p-11, small = 0x1p-25;
    const double stray = expm1(2 * score + e * (t->shape.scale * (2 * half + half * half) + 2 * small));
    return 2 * stray / (1 - stray) + (2 * half + half * half) * (1 + stray) + (double)all * small + 2 * (2 * f32 + ULP);
}

/* The pages of `all` tokens in any order, of three more than are needed. Returns how many rows that takes. */
static int64_t shuffled_pages(const struct attend_case *t, int64_t all, int32_t *page, uint64_t *seed)
{
    const int64_t pages = t->page_tokens ? (all + t->page_tokens - 1) / t->page_tokens + 3 : 0;
    for (int64_t i = 0; i < pages; i++) {
        const int64_t j = random_in(seed, 0, i); /* inside out: page[i] = page[j], page[j] = i */
        page[i] = page[j];
        page[j] = (int32_t)i;
    }
    return t->page_tokens ? pages * t->page_tokens : all;
}

/* Keys and values of the whole cache stored by the kernel must be the CPU's bytes; then queries attend to them. */
static void check_attention(const struct attend_case *t, uint64_t *seed)
{
    const int64_t e = t->shape.head_dim, width = t->shape.kv_heads * e, all = t->first + t->tokens,
                  vector = format_vector_bytes(t->format, width) + t->shift;
    int32_t page[256] = {0};
    const int64_t rows = t->sequences * all, bytes = t->shift + shuffled_pages(t, all, page, seed) * t->sequences * 2 * vector,
                  ld = t->shape.heads * e + 5, queries = t->sequences * t->tokens;
    float *k = random_array(seed, rows * width), *v = random_array(seed, rows * width), *q = random_array(seed, queries * ld);
    float *want = malloc((size_t)(queries * ld) * 4), *out = malloc((size_t)(queries * ld) * 4);
    char *cpu = malloc((size_t)bytes), *gpu = malloc((size_t)bytes);
    int32_t pad[8];
    struct pool *pool = pool_of(1);
    if (t->way == SPARSE)
        make_exact(q, queries * ld, k, rows, width);
    for (int64_t i = 0; i < t->sequences; i++)
        pad[i] = (int32_t)random_in(seed, 0, random_in(seed, 0, 1) * all);
    struct cache_view view = {.format = t->format,
                              .base = cpu + t->shift,
                              .token_stride = t->sequences * 2 * vector,
                              .sequence_stride = 2 * vector,
                              .value_offset = vector,
                              .page = t->page_tokens ? page : NULL,
                              .page_tokens = t->page_tokens};
    memset(cpu, 0xff, (size_t)bytes); /* NaNs, in rows of nobody and between vectors */
    char *gc = on_device(cpu, bytes);
    cache_store(pool, &view, t->sequences, 0, all, width, k, v, width);
    memset(want, 0, (size_t)(queries * ld) * 4);
    if (t->way == SPARSE)
        ref_sparse_attention(&t->shape, &view, t->sequences, t->first, t->fraction, pad, q, ld, want);
    else
        ref_attention(&t->shape, &view, t->sequences, t->first, t->tokens, pad, q, ld, want);

    const struct gpu_heads h = {(int)t->shape.heads, (int)t->shape.kv_heads, (int)e, (float)t->shape.scale};
    void *gk = on_device(k, rows * width * 4), *gv = on_device(v, rows * width * 4), *gq = on_device(q, queries * ld * 4);
    void *gp = on_device(pad, (int64_t)sizeof pad), *gpage = on_device(page, (int64_t)sizeof page);
    void *scratch = on_device(NULL, t->way == SPARSE ? gpu_sparse_attention_scratch_bytes(&h, t->sequences, t->first)
                                                     : gpu_attention_scratch_bytes(&h, t->sequences, t->tokens, t->splits) + 4);
    const struct gpu_cache c = {t->format,         gc + t->shift,
                                view.token_stride, view.sequence_stride,
                                view.value_offset, t->page_tokens ? gpage : NULL,
                                t->page_tokens};
    cr_assert_eq(gpu_cache_store(stream, &c, t->sequences, 0, all, width, gk, gv, FORMAT_F32, width), 0);
    const int failure =
        t->way == SPARSE
            ? gpu_sparse_attention(stream, &h, &c, t->sequences, t->first, t->fraction, gp, gq, ld, gq, t->splits, scratch)
        : t->way == TENSOR ? gpu_prefill_attention(stream, &h, &c, t->sequences, t->first, t->tokens, gp, gq, ld, gq)
                           : gpu_attention(stream, &h, &c, t->sequences, t->first, t->tokens, gp, gq, ld, gq, t->splits, scratch);
    cr_assert_eq(failure, 0);
    from_device(out, gq, queries * ld * 4);
    from_device(gpu, gc, bytes);
    cr_assert_arr_eq(gpu, cpu, (size_t)bytes, "%s: the cache's bytes", format_name(t->format));
    const double bound = attend_bound(t, all);
    for (int64_t i = 0; i < queries * ld; i++)
        if (i % ld < t->shape.heads * e)
            cr_assert_lt(fabs((double)out[i] - want[i]), bound, "%s, %d splits: [%lld] is %g, expected %g",
                         format_name(t->format), t->splits, (long long)i, out[i], want[i]);
        else
            cr_assert_eq(out[i], q[i], "written beside the heads");
    from_device(NULL, gk, 0);
    from_device(NULL, gv, 0);
    from_device(NULL, gp, 0);
    from_device(NULL, gpage, 0);
    from_device(NULL, scratch, 0);
    pool_free(pool);
    free(k), free(v), free(q), free(want), free(out), free(cpu), free(gpu);
}

/* Which loads decode takes, by head_dim and shift, with vectors of whole 16 bytes (4-bit ones: of 4, 8, 16):
 *
 *     head_dim       shift 0                              shift 4                8
 *     16, 64         wide                                 4-bit codes: wide      4-bit codes: wide
 *     80, 128        wide                                 by element             4-bit codes: wide
 *     256            wide                                 by element             by element
 *     72, 200        wide, 4-bit codes by element         by element             by element
 *     10             by element                           by element             by element
 *
 * Heads of 72, 80 and 200 end within a group of 64. */
static void every_format(const char *name, enum way way, int64_t first_most, int64_t tokens_most, int splits_most)
{
    static const enum format formats[] = {FORMAT_F32, FORMAT_F16, FORMAT_Q4};
    static const int64_t dims[] = {16, 64, 10, 128, 80, 72, 256, 200}, shifts[] = {0, 4, 8};
    static const double fractions[] = {0.1, 0, 0.35, 1};
    uint64_t seed = test_seed(name);
    for (int round = 0; round < 3; round++) {
        begin(round, name);
        for (int i = 0; i < 24; i++) {
            const int64_t e = dims[i / 3], groups = random_in(&seed, 1, 2);
            const struct attend_case t = {.way = way,
                                          .shape = {groups * random_in(&seed, 1, 2), groups, e, 1 / sqrt((double)e)},
                                          .format = formats[i % 3],
                                          .sequences = random_in(&seed, 1, 3),
                                          .first = random_in(&seed, 0, first_most),
                                          .tokens = random_in(&seed, 1, tokens_most),
                                          .splits = (int)random_in(&seed, 1, splits_most),
                                          .shift = shifts[(i + round) % 3],
                                          .page_tokens = random_in(&seed, 0, 1) * random_in(&seed, 1, 17),
                                          .fraction = fractions[random_in(&seed, 0, 3)]};
            check_attention(&t, &seed);
        }
        end();
    }
}

Test(cuda_kernels, decode_split_over_the_cache_is_the_reference)
{
    every_format("decode", PLAIN, 150, 1, 5);
}

Test(cuda_kernels, prefill_is_the_reference)
{
    every_format("prefill", PLAIN, 4, 9, 2);
}

Test(cuda_kernels, prefill_on_tensor_cores_is_the_reference)
{
    every_format("tensor", TENSOR, 20, 50, 1);
}

Test(cuda_kernels, a_long_prompt_of_wide_heads_is_the_reference)
{
    /* more queries than a block has, and the widest fragments, not quite filled */
    uint64_t seed = test_seed("long");
    begin(1, "long");
    const struct attend_case t = {TENSOR,     {1, 1, 201, 1 / sqrt(201.0)}, FORMAT_F16, .sequences = 1, .first = 3, .tokens = 140,
                                  .splits = 1};
    check_attention(&t, &seed);
    end();
}

Test(cuda_kernels, sparse_attention_is_the_reference)
{
    every_format("sparse", SPARSE, 110, 1, 4);
}

/* -- sampling ----------------------------------------------------------------------------------------------------------- */

static float odd_logit(uint64_t *seed, int kind)
{
    static const float odd[] = {NAN, -INFINITY, 0.0f, -0.0f, 3e38f, -3e38f, 1e-40f};
    switch (kind) {
    case 0: /* whole numbers: ties everywhere */
        return (float)random_in(seed, -3, 3);
    case 1: /* what a model says */
        return 12 * random_unit(seed);
    case 2: /* nothing to choose from, or hardly anything */
        return random_in(seed, 0, 300) ? odd[random_in(seed, 0, 1)] : 1.0f;
    case 3:
        return random_in(seed, 0, 200) ? odd[random_in(seed, 0, 6)] : INFINITY;
    default:
        return random_in(seed, 0, 2) ? 12 * random_unit(seed) : odd[random_in(seed, 0, 6)];
    }
}

static void check_sampling(uint64_t *seed)
{
    static const double temperatures[] = {0, 1e-30, 0.3, 1, 2.5, 1e30}, top_ps[] = {1, 1, 1e-9, 0.5, 0.9, 1 - 0x1p-53};
    const int64_t rows = 5, vocab = random_in(seed, 1, random_in(seed, 0, 1) ? 40 : 1500);
    const int64_t sequence = random_in(seed, 0, 1000), position = random_in(seed, 0, 1000);
    const int64_t top_ks[] = {0, 1, random_in(seed, 1, vocab + 5), 40};
    const struct sampling how = {.temperature = temperatures[random_in(seed, 0, 5)],
                                 .top_k = (int)top_ks[random_in(seed, 0, 3)],
                                 .top_p = top_ps[random_in(seed, 0, 5)],
                                 .seed = next_random(seed)};
    float *x = malloc((size_t)(rows * vocab) * sizeof *x);
    void *scratch = malloc((size_t)vocab * 8);
    int32_t token[5];
    for (int64_t i = 0; i < rows * vocab; i++)
        x[i] = odd_logit(seed, (int)(i / vocab));
    void *gx = on_device(x, rows * vocab * 4), *gt = on_device(NULL, sizeof token);
    cr_assert_eq(gpu_sample(stream, &how, gx, rows, vocab, sequence, position, gt), 0);
    from_device(token, gt, sizeof token);
    from_device(NULL, gx, 0);
    for (int i = 0; i < rows; i++) {
        const int32_t want = sample_token(&how, x + i * vocab, vocab, sequence + i, position, scratch);
        cr_assert_eq(token[i], want, "temperature %g, top_k %d, top_p %g, row %d of %lld: %d, expected %d", how.temperature,
                     how.top_k, how.top_p, i, (long long)vocab, token[i], want);
    }
    free(x), free(scratch);
}

Test(cuda_kernels, the_same_seed_gives_the_same_token)
{
    uint64_t seed = test_seed("sample");
    for (int round = 0; round < 3; round++) {
        begin(round, "sample");
        for (int i = 0; i < 25; i++)
            check_sampling(&seed);
        end();
    }
}
