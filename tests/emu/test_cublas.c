/* test_cublas.c - cuBLAS as it is declared in executor/cuda/cublas.h, against a plain loop: the emulation's stand-in here, the library itself on a
 * GPU. */
#include <cuda_runtime.h>
#include <math.h>

#include "executor/cuda/cublas.h"
#include "tests/emu/emu.h"
#include "tests/kernel_test.h"

static const int TYPES[] = {CUBLAS_TYPE_F32, CUBLAS_TYPE_F16, CUBLAS_TYPE_BF16};
static const enum format FORMATS[] = {FORMAT_F32, FORMAT_F16, FORMAT_BF16};
/* half a unit in the last place, relative, and the smallest step below the normal numbers */
static const double ROUNDING[] = {0x1p-24, 0x1p-11, 0x1p-8}, SMALLEST[] = {0, 0x1p-25, 0x1p-134};

static cudaStream_t stream; /* of the products, and of the copies before them: it does not wait for the default one */

struct call {
    int type;                                /* index into TYPES */
    bool a_transposed, b_transposed, narrow; /* narrow: C is of that type too, else f32 */
    int m, n, k, lda, ldb, ldc;
    float alpha, beta;
};

/* A matrix as BLAS stores it: `columns` columns, ld apart. What lies between them is NaN. */
struct matrix {
    int rows, columns, ld;
    float *value;
    void *device;
};

static void to_device(struct matrix *x, enum format format)
{
    const int64_t n = (int64_t)x->ld * x->columns, bytes = format_matrix_bytes(format, 1, n);
    void *stored = malloc((size_t)bytes + 1);
    from_f32(format, x->value, n, stored);
    to_f32(format, stored, n, x->value);
    cr_assert_eq(cudaMalloc(&x->device, (size_t)bytes + 1), 0);
    cr_assert_eq(cudaMemcpyAsync(x->device, stored, (size_t)bytes, cudaMemcpyHostToDevice, stream), 0);
    cr_assert_eq(cudaStreamSynchronize(stream), 0);
    free(stored);
}

static struct matrix matrix_new(int rows, int columns, int ld, bool numbers, enum format format, uint64_t *seed)
{
    struct matrix x = {rows, columns, ld, random_array(seed, (int64_t)ld * columns), NULL};
    for (int64_t i = 0; i < (int64_t)ld * columns; i++)
        if (!numbers || i % ld >= rows)
            x.value[i] = NAN;
    to_device(&x, format);
    return x;
}

static void matrix_free(struct matrix *x)
{
    cudaFree(x->device);
    free(x->value);
}

static int run(const struct cublas *lib, void *handle, const struct call *t, const struct matrix *a, const struct matrix *b,
               const struct matrix *c)
{
    return lib->gemm(handle, t->a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N, t->b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N, t->m, t->n,
                     t->k, &t->alpha, a->device, TYPES[t->type], t->lda, b->device, TYPES[t->type], t->ldb, &t->beta, c->device,
                     t->narrow ? TYPES[t->type] : CUBLAS_TYPE_F32, t->ldc, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
}

/* The oracle, in double. A sum of k products in f32, in any order, is off by at most k units of rounding times the sum of their magnitudes;
 * three more for alpha, beta and the addition. A unit is 2^-23: tensor cores cut off where others round. A narrow C is rounded once more. */
static void check_element(const struct call *t, const struct matrix *a, const struct matrix *b, const struct matrix *c, int i,
                          int j, double found)
{
    double sum = 0, magnitude = 0;
    for (int l = 0; l < t->k; l++) {
        const double x = a->value[t->a_transposed ? i * a->ld + l : l * a->ld + i],
                     y = b->value[t->b_transposed ? l * b->ld + j : j * b->ld + l];
        sum += x * y;
        magnitude += fabs(x * y);
    }
    const double before = t->beta == 0 ? 0 : t->beta * (double)c->value[j * c->ld + i], want = t->alpha * sum + before;
    const double error = (t->k + 3) * 0x1p-23 * (fabs(t->alpha) * magnitude + fabs(before));
    const double last = t->narrow ? ROUNDING[t->type] * (fabs(want) + error) + SMALLEST[t->type] : 0;
    cr_assert_leq(fabs(found - want), error + last, "%s, %c%c, %d x %d x %d, beta %g: (%d, %d) is %.9g, expected %.9g",
                  format_name(FORMATS[t->type]), t->a_transposed ? 'T' : 'N', t->b_transposed ? 'T' : 'N', t->m, t->n, t->k,
                  t->beta, i, j, found, want);
}

static void check(const struct cublas *lib, void *handle, const struct call *t, uint64_t *seed)
{
    const enum format format = FORMATS[t->type], c_format = t->narrow ? format : FORMAT_F32;
    struct matrix a = matrix_new(t->a_transposed ? t->k : t->m, t->a_transposed ? t->m : t->k, t->lda, true, format, seed),
                  b = matrix_new(t->b_transposed ? t->n : t->k, t->b_transposed ? t->k : t->n, t->ldb, true, format, seed),
                  c = matrix_new(t->m, t->n, t->ldc, t->beta != 0, c_format, seed); /* beta 0: C is not read */
    const int64_t n = (int64_t)t->ldc * t->n;
    float *found = malloc((size_t)n * sizeof *found + 1);
    void *stored = malloc((size_t)n * sizeof *found + 1);
    cr_assert_eq(run(lib, handle, t, &a, &b, &c), CUBLAS_STATUS_SUCCESS);
    cr_assert_eq(cudaStreamSynchronize(stream), 0);
    cr_assert_eq(cudaMemcpy(stored, c.device, (size_t)format_matrix_bytes(c_format, 1, n), cudaMemcpyDefault), 0);
    to_f32(c_format, stored, n, found);
    for (int64_t at = 0; at < n; at++)
        if (at % t->ldc < t->m)
            check_element(t, &a, &b, &c, (int)(at % t->ldc), (int)(at / t->ldc), found[at]);
        else
            cr_assert(isnan(found[at]), "written between the columns of C");
    matrix_free(&a);
    matrix_free(&b);
    matrix_free(&c);
    free(found);
    free(stored);
}

static struct call any_call(int i, uint64_t *seed)
{
    static const float alphas[] = {1, 1, -0.75f}, betas[] = {0, 1, 0.5f};
    struct call t = {.type = i % 3,
                     .a_transposed = i / 3 % 2,
                     .b_transposed = i / 6 % 2,
                     .narrow = i / 36 % 2,
                     .m = (int)random_in(seed, 1, 40),
                     .n = (int)random_in(seed, 1, 40),
                     .k = i % 7 ? (int)random_in(seed, 1, 150) : 1,
                     .alpha = alphas[random_in(seed, 0, 2)],
                     .beta = betas[i / 12 % 3]};
    t.lda = (t.a_transposed ? t.k : t.m) + (int)random_in(seed, 0, 5);
    t.ldb = (t.b_transposed ? t.n : t.k) + (int)random_in(seed, 0, 5);
    t.ldc = t.m + (int)random_in(seed, 0, 5);
    return t;
}

static void *open_library(struct cublas *lib)
{
    struct error err = {0};
    void *handle;
    cr_assert_eq(cublas_load(lib, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), 0);
    cr_assert_eq(lib->create(&handle), CUBLAS_STATUS_SUCCESS);
    cr_assert_eq(lib->set_stream(handle, stream), CUBLAS_STATUS_SUCCESS);
    cr_assert_eq(lib->set_math(handle, CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION), CUBLAS_STATUS_SUCCESS);
    return handle;
}

Test(cublas, every_transpose_type_and_beta_is_the_loop)
{
    struct cublas lib;
    uint64_t seed = test_seed("cublas");
    void *handle = open_library(&lib);
    for (int i = 0; i < 144; i++) { /* two of each type, transposes, beta and type of C */
        const struct call t = any_call(i, &seed);
        check(&lib, handle, &t, &seed);
    }
    lib.destroy(handle);
    cudaStreamDestroy(stream);
}

Test(cublas, a_leading_dimension_too_small_is_refused)
{
    struct cublas lib;
    struct matrix none = {0};
    void *handle = open_library(&lib);
    for (int which = 0; which < 3; which++) {
        const struct call t = {.m = 8, .n = 8, .k = 8, .lda = 8 - (which == 0), .ldb = 8 - (which == 1), .ldc = 8 - (which == 2)};
        const int status = run(&lib, handle, &t, &none, &none, &none);
        cr_assert_str_eq(lib.status_name(status), "CUBLAS_STATUS_INVALID_VALUE");
    }
    lib.destroy(handle);
    cudaStreamDestroy(stream);
}
