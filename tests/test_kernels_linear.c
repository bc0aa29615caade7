/* test_kernels_linear.c - linear() against the scalar reference: every format, both maths, every instruction set.
 *
 * Two kinds of comparison. With small integers every product and sum is exact in f32 (and the operands in bf16), so the result
 * must be equal: that finds any wrong index, row, column or padding. With random numbers the rounding is bounded as derived at
 * rounding_bound().
 */
#include <math.h>

#include "executor/cpu/linear_kernels.h"
#include "tests/kernel_test.h"

struct matrix_case {
    enum format format;
    enum math math;
    int64_t m, rows, cols, row_begin, ldx, ldy;
    bool relu, biased;
    int threads, shift;
    enum cpu_isa isa;
    bool amx;
};

struct operands {
    float *x, *bias, *w; /* (m, ldx), (row_begin + rows), (rows, cols) */
    struct guarded data;
    struct weight_rows rows;
};

/* Integers in [-8, 8], exact in every 16-bit format. For Q4 each group of a column holds min and min + 15, so that its scale is
 * 1. */
static float integer_weight(uint64_t *seed, enum format format, int64_t r, int64_t c, int64_t rows)
{
    const int64_t in_group = r % Q4_GROUP, group_rows = rows - (r - in_group) < Q4_GROUP ? rows - (r - in_group) : Q4_GROUP;

    if (format != FORMAT_Q4)
        return (float)random_in(seed, -8, 8);
    if (in_group == 0)
        return (float)(-8 + c % 3);
    if (in_group == 1 || group_rows == 1)
        return (float)(7 + c % 3);
    return (float)random_in(seed, -8 + c % 3, 7 + c % 3);
}

static struct operands operands_new(const struct matrix_case *t, uint64_t *seed, bool integers)
{
    const int64_t end = t->row_begin + t->rows;
    struct operands o = {.x = random_array(seed, t->m * t->ldx),
                         .bias = random_array(seed, end),
                         .w = random_array(seed, t->rows * t->cols)};

    for (int64_t i = 0; integers && i < t->m * t->ldx; i++)
        o.x[i] = (float)random_in(seed, -8, 8);
    for (int64_t i = 0; integers && i < end; i++)
        o.bias[i] = (float)random_in(seed, -100, 100);
    for (int64_t r = 0; integers && r < t->rows; r++)
        for (int64_t c = 0; c < t->cols; c++)
            o.w[r * t->cols + c] = integer_weight(seed, t->format, r, c, t->rows);
    o.data = guarded_new(format_matrix_bytes(t->format, t->rows, t->cols), t->shift);
    if (t->format == FORMAT_Q4)
        q4_pack_matrix(o.w, t->rows, t->cols, o.data.data);
    else
        from_f32(t->format, o.w, t->rows * t->cols, o.data.data);
    o.rows = (struct weight_rows){t->format, o.data.data, t->row_begin, end, t->cols};
    return o;
}

static void operands_free(struct operands *o)
{
    guarded_check_and_free(&o->data, "weights");
    free(o->x);
    free(o->bias);
    free(o->w);
}

#define UNTOUCHED -12345.0f

static float *result_new(const struct matrix_case *t)
{
    float *y = malloc((size_t)(t->m * t->ldy) * sizeof *y);

    for (int64_t i = 0; i < t->m * t->ldy; i++)
        y[i] = UNTOUCHED;
    return y;
}

/* linear() with as much scratch as it asks for, and not a byte more. */
static void run_linear(const struct matrix_case *t, const struct operands *o, const struct weight_rows *rows, float *y)
{
    struct pool *p = pool_of(t->threads);
    struct error err = {0};

    cpu_isa_force(t->isa);
    cpu_amx_allow(t->amx);
    struct guarded scratch = guarded_new(linear_scratch_bytes(t->threads, t->math, t->m, t->cols), t->shift);
    const enum status status =
        linear(p, t->math, rows, t->biased ? o->bias : NULL, t->relu, o->x, t->ldx, t->m, y, t->ldy, scratch.data, &err);
    cr_assert_eq(status, STATUS_OK, "%s", err.text);
    guarded_check_and_free(&scratch, "scratch of linear()");
    pool_free(p);
}

static const char *case_text(const struct matrix_case *t)
{
    static char text[200];

    snprintf(text, sizeof text, "%s %s isa %d%s, m %lld, rows %lld from %lld, cols %lld, threads %d", format_name(t->format),
             t->math == MATH_BF16 ? "bf16" : "f32", (int)t->isa, t->amx ? " amx" : "", (long long)t->m, (long long)t->rows,
             (long long)t->row_begin, (long long)t->cols, t->threads);
    return text;
}

/* Error of one y. With u = 2^-24: f32 sums of n terms, in any order, err by at most (n + 2) u S, S = sum |x||w| + |bias|, the
 * storing included. A bf16 operand is off by 2^-8 relatively, so each product by less than 2 * 2^-8 + 2^-16. A Q4 weight is
 * computed as q*scale + min in f32 with |q*scale|, |min| <= 3 for weights in [-1, 1]: off by 3u, so S counts 3 for each of its
 * weights. */
static double rounding_bound(const struct matrix_case *t, const struct operands *o, int64_t i, int64_t r)
{
    double sum = 1.0; /* |bias| */

    for (int64_t c = 0; c < t->cols; c++)
        sum += fabs((double)o->x[i * t->ldx + c]) *
               (t->format == FORMAT_Q4 ? 3.0 : fabs((double)o->w[(r - t->row_begin) * t->cols + c]) + 0x1p-8);
    return ((double)(t->cols + 2) * 0x1p-24 + (t->math == MATH_BF16 ? 0x1p-7 + 0x1p-16 : 0)) * sum;
}

static void check_case(const struct matrix_case *t, uint64_t *seed, bool integers)
{
    struct operands o = operands_new(t, seed, integers);
    float *y = result_new(t), *expected = result_new(t);

    run_linear(t, &o, &o.rows, y);
    ref_linear(&o.rows, t->biased ? o.bias : NULL, t->relu, o.x, t->ldx, t->m, expected, t->ldy);
    for (int64_t i = 0; i < t->m; i++)
        for (int64_t r = 0; r < t->ldy; r++) {
            const bool inside = r >= t->row_begin && r < t->row_begin + t->rows;
            const double bound = integers || !inside ? 0.0 : rounding_bound(t, &o, i, r);
            const double found = y[i * t->ldy + r], wanted = expected[i * t->ldy + r];
            cr_assert(fabs(found - wanted) <= bound, "%s: y[%lld, %lld] = %.9g, expected %.9g within %g", case_text(t),
                      (long long)i, (long long)r, found, wanted, bound);
        }
    free(y);
    free(expected);
    operands_free(&o);
}

static struct matrix_case random_case(uint64_t *seed, int64_t m, int64_t most_rows, int64_t most_cols)
{
    struct matrix_case t = {
        .format = (enum format)random_in(seed, 0, FORMAT_COUNT - 1),
        .math = (enum math)random_in(seed, 0, 1),
        .m = m,
        .rows = random_in(seed, 1, most_rows),
        .cols = random_in(seed, 1, most_cols),
        .row_begin = random_in(seed, 0, 3) * 64,
        .relu = random_in(seed, 0, 1),
        .biased = random_in(seed, 0, 3) > 0,
        .threads = (int)random_in(seed, 1, 3),
        .shift = (int)random_in(seed, 0, 7),
        .isa = (enum cpu_isa)random_in(seed, 0, isa_count() - 1),
        .amx = random_in(seed, 0, 1),
    };

    if (t.format != FORMAT_Q4)
        t.row_begin += random_in(seed, 0, 63);
    t.ldx = t.cols + random_in(seed, 0, 5);
    t.ldy = t.row_begin + t.rows + random_in(seed, 0, 5);
    return t;
}

Test(linear, integers_are_exact_for_few_rows)
{
    uint64_t seed = test_seed("integers_are_exact_for_few_rows");

    for (int round = 0; round < 300; round++) {
        const struct matrix_case t = random_case(&seed, 1 + round % 9, 200, 300);
        check_case(&t, &seed, true);
    }
}

Test(linear, integers_are_exact_for_many_rows)
{
    uint64_t seed = test_seed("integers_are_exact_for_many_rows");
    const int64_t m[] = {10, 15, 16, 17, 31, 33, 64, 100, 255, 256, 257, 300, 520};

    for (int round = 0; round < 130; round++) {
        const struct matrix_case t = random_case(&seed, m[round % 13], 200, 130);
        check_case(&t, &seed, true);
    }
}

/* Every way linear() can go, with every format: no combination is left to chance. */
static void check_every_kernel(int64_t m, int64_t rows, int64_t cols, uint64_t *seed)
{
    static const struct {
        enum cpu_isa isa;
        enum math math;
        bool amx;
    } way[] = {{ISA_SCALAR, MATH_F32, false},
               {ISA_AVX2, MATH_F32, false},
               {ISA_AVX512, MATH_F32, false},
               {ISA_AVX512, MATH_BF16, false},
               {ISA_AVX512, MATH_BF16, true}};

    for (size_t i = 0; i < sizeof way / sizeof *way; i++)
        for (int format = 0; format < FORMAT_COUNT; format++) {
            struct matrix_case t = random_case(seed, m, 1, 1);
            t.isa = way[i].isa;
            t.math = way[i].math;
            t.amx = way[i].amx;
            t.format = (enum format)format;
            t.row_begin = 64;
            t.rows = rows;
            t.cols = t.ldx = cols;
            t.ldy = t.row_begin + rows;
            check_case(&t, seed, true);
        }
}

Test(linear, integers_are_exact_over_several_depths_and_chunks)
{
    /* More than 2048 columns: partial products are added up. More than 2048 rows of x: several chunks of it. 1..4, 5..8, 9..16,
     * 17..32 and more rows go different ways; 40 and 100 rows of W need half a panel and more than one. */
    uint64_t seed = test_seed("integers_are_exact_over_several_depths_and_chunks");
    const int64_t shape[][3] = {{1, 5, 2049},  {3, 9, 5000},  {6, 40, 2100}, {16, 5, 4097}, {20, 40, 2049}, {32, 3, 6200},
                                {33, 5, 4100}, {20, 100, 70}, {1, 100, 31},  {2049, 3, 40}, {2300, 66, 33}};

    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++)
        check_every_kernel(shape[i][0], shape[i][1], shape[i][2], &seed);
}

Test(linear, one_row_one_column_and_none)
{
    uint64_t seed = test_seed("one_row_one_column_and_none");

    for (int round = 0; round < 60; round++) {
        struct matrix_case t = random_case(&seed, round % 2 ? 1 : 20, 1, 1);
        check_case(&t, &seed, true);
        t.rows = 0;
        check_case(&t, &seed, true);
    }
}

Test(linear, random_numbers_stay_within_the_rounding_bound)
{
    uint64_t seed = test_seed("random_numbers_stay_within_the_rounding_bound");

    for (int round = 0; round < 120; round++) {
        const struct matrix_case t = random_case(&seed, random_in(&seed, 1, 40), 150, round % 10 ? 300 : 2500);
        check_case(&t, &seed, false);
    }
}

/* -- what a result must not depend on ---------------------------------------------------------------------------------------- */
static const char *element_after(const struct weight_rows *w, int64_t rows)
{
    return (const char *)w->data + (w->format == FORMAT_Q4 ? rows / Q4_GROUP * format_matrix_bytes(FORMAT_Q4, Q4_GROUP, w->cols)
                                                           : format_matrix_bytes(w->format, rows, w->cols));
}

/* y from two pieces, cut after `cut` rows. */
static void run_pieces(const struct matrix_case *t, const struct operands *o, int64_t cut, float *y)
{
    struct weight_rows first = o->rows, second = o->rows;

    first.row_end = second.row_begin = t->row_begin + cut;
    second.data = element_after(&o->rows, cut);
    run_linear(t, o, &first, y);
    run_linear(t, o, &second, y);
}

Test(linear, pieces_give_bit_for_bit_the_whole)
{
    uint64_t seed = test_seed("pieces_give_bit_for_bit_the_whole");

    for (int round = 0; round < 80; round++) {
        struct matrix_case t =
            random_case(&seed, round % 3 ? random_in(&seed, 9, 300) : random_in(&seed, 1, 8), 1, round % 8 ? 400 : 2600);
        t.rows = random_in(&seed, 130, 300);
        t.ldy = t.row_begin + t.rows;
        struct operands o = operands_new(&t, &seed, false);
        float *whole = result_new(&t), *pieces = result_new(&t);
        const int64_t cut = t.format == FORMAT_Q4 ? 64 * random_in(&seed, 1, 2) : random_in(&seed, 1, t.rows - 1);
        run_linear(&t, &o, &o.rows, whole);
        t.threads = 1 + t.threads % 3; /* nor may the number of threads matter */
        run_pieces(&t, &o, cut, pieces);
        cr_assert(memcmp(whole, pieces, (size_t)(t.m * t.ldy) * sizeof *whole) == 0, "%s, cut at %lld", case_text(&t),
                  (long long)cut);
        free(whole);
        free(pieces);
        operands_free(&o);
    }
}

/* The largest m that linear() computes without oneDNN. */
static int64_t few_max(const struct matrix_case *t)
{
    cpu_isa_force(t->isa);
    cpu_amx_allow(t->amx);
    if (t->math == MATH_F32 || !cpu_has_bf16())
        return 8;
    return cpu_has_amx() ? 32 : 4;
}

static void check_independent_of_m(struct matrix_case *t, uint64_t *seed, int64_t low, int64_t high)
{
    t->m = high;
    t->rows = random_in(seed, 1, 150);
    t->cols = random_in(seed, 1, random_in(seed, 0, 3) ? 500 : 2600);
    t->ldx = t->cols;
    t->ldy = t->row_begin + t->rows;
    struct operands o = operands_new(t, seed, false);
    float *all = result_new(t), *some = result_new(t);
    run_linear(t, &o, &o.rows, all);
    t->m = random_in(seed, low, high);
    run_linear(t, &o, &o.rows, some);
    cr_assert(memcmp(all, some, (size_t)(t->m * t->ldy) * sizeof *all) == 0, "%s against m %lld", case_text(t), (long long)high);
    free(all);
    free(some);
    operands_free(&o);
}

Test(linear, a_row_does_not_depend_on_how_many_there_are)
{
    uint64_t seed = test_seed("a_row_does_not_depend_on_how_many_there_are");

    for (int round = 0; round < 60; round++) {
        struct matrix_case t = random_case(&seed, 1, 1, 1);
        check_independent_of_m(&t, &seed, 1, few_max(&t));
        /* oneDNN treats all rows alike in its products for AVX-512; for AVX2 it is not held to it. */
        if (t.isa == ISA_AVX512)
            check_independent_of_m(&t, &seed, few_max(&t) + 1, 600);
    }
}

Test(linear, scratch_follows_its_formula)
{
    cpu_isa_force(ISA_AVX2);
    /* f32, m 5 -> 8 rows, cols 33 -> 64: x 8*64*4 = 2048; a thread: panels 2*64*64*4 = 32768, results 1024*128*4 = 524288,
     * groups 2*64*4 = 512, library 1 MiB = 1048576; 64 to align. */
    cr_assert_eq(linear_scratch_bytes(1, MATH_F32, 5, 33), 64 + 2048 + 32768 + 524288 + 512 + 1048576);
    cr_assert_eq(linear_scratch_bytes(3, MATH_F32, 5, 33) - linear_scratch_bytes(2, MATH_F32, 5, 33),
                 32768 + 524288 + 512 + 1048576);
    /* no more than 1024 rows of x are held, and 2048 columns of the panels */
    cr_assert_eq(linear_scratch_bytes(1, MATH_F32, 100000, 33), linear_scratch_bytes(1, MATH_F32, 1024, 33));
    cr_assert_eq(linear_scratch_bytes(1, MATH_F32, 5, 4096) - linear_scratch_bytes(1, MATH_F32, 5, 2048),
                 8 * 2048 * 4 + 2 * 2048 * 4);
    cpu_isa_force(ISA_AVX512);
    if (cpu_has_bf16())
        cr_assert_eq(linear_scratch_bytes(1, MATH_BF16, 5, 33), 64 + 1024 + 16384 + 524288 + 512 + 1048576);
}
