/* test_kernels_quant.c - 4-bit groups: the layout in bytes, the error bound, the hard cases; and 16-bit conversions. */
#include <math.h>

#include "executor/cpu/half.h"
#include "tests/kernel_test.h"

static uint16_t half_at(const unsigned char *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

Test(quant, a_vector_packed_by_hand)
{
    /* min 1, max 4, scale (4-1)/15 = 0.2; codes round((x-1)*5): 1 -> 0, 4 -> 15, 2 -> 5, 1.5 -> round(2.5) = 3 (halves go up),
     * 3 -> 10. Three bytes of codes, low nibble first, 0x0 | 0xf<<4, 0x5 | 0x3<<4, 0xa, then padding to an even count. */
    const float x[5] = {1.0f, 4.0f, 2.0f, 1.5f, 3.0f};
    unsigned char packed[8];
    float back[5];

    cr_assert_eq(format_vector_bytes(FORMAT_Q4, 5), 8);
    memset(packed, 0xee, sizeof packed);
    q4_pack_vector(x, 5, packed);
    cr_assert_eq(packed[0], 0xf0);
    cr_assert_eq(packed[1], 0x35);
    cr_assert_eq(packed[2], 0x0a);
    cr_assert_eq(packed[3], 0x00);
    cr_assert_eq(half_at(packed + 4), 0x3266); /* 0.2 = 1.6 * 2^-3: exponent 12, mantissa round(0.6*1024) = 614 = 0x266 */
    cr_assert_eq(half_at(packed + 6), 0x3c00); /* 1.0 */
    q4_unpack_vector(packed, 5, back);
    /* scale as fp16 is 1638/8192 = 0.199951171875 */
    cr_assert_float_eq(back[0], 1.0, 1e-7);
    cr_assert_float_eq(back[1], 1.0 + 15 * 0.199951171875, 1e-6);
    cr_assert_float_eq(back[3], 1.0 + 3 * 0.199951171875, 1e-6);
}

Test(quant, a_matrix_packed_by_hand)
{
    /* 2 rows, 3 columns: one block of 2 rows: 3 scales, 3 minima (12 bytes), then 2 rows of 2 bytes. Column 0: 0 and 15, scale 1;
     * column 1: constant 7, scale 0; column 2: 30 and 0, scale 2. */
    const float w[6] = {0.0f, 7.0f, 30.0f, 15.0f, 7.0f, 0.0f};
    unsigned char packed[16];
    float back[6];

    cr_assert_eq(format_matrix_bytes(FORMAT_Q4, 2, 3), 16);
    q4_pack_matrix(w, 2, 3, packed);
    const uint16_t groups[6] = {0x3c00, 0x0000, 0x4000, 0x0000, 0x4700, 0x0000};
    for (int i = 0; i < 6; i++)
        cr_assert_eq(half_at(packed + 2 * i), groups[i], "half %d is %04x", i, half_at(packed + 2 * i));
    const unsigned char codes[4] = {0x00, 0x0f, 0x0f, 0x00};
    cr_assert_arr_eq(packed + 12, codes, 4);
    q4_unpack_matrix(packed, 2, 3, back);
    cr_assert_arr_eq(back, w, sizeof w); /* all exact */
}

/* |x - x'| <= scale/2 (rounding the code; the code itself from a few f32 operations, whence the 2^-20) + 15 |scale - fp16(scale)|
 * + |min - fp16(min)|, each fp16 within 2^-11 relative or 2^-25 absolute. */
static double error_bound(double least, double most)
{
    const double scale = (most - least) / 15;
    const double scale_error = fmax(scale * 0x1p-11, 0x1p-25), min_error = fmax(fabs(least) * 0x1p-11, 0x1p-25);

    return scale / 2 * (1 + 0x1p-20) + 15 * scale_error + min_error + (fabs(least) + fabs(most)) * 0x1p-22;
}

Test(quant, vectors_come_back_within_half_a_step)
{
    uint64_t seed = test_seed("vectors_come_back_within_half_a_step");

    for (int round = 0; round < 200; round++) {
        const int64_t n = random_in(&seed, 1, 300);
        const float size = ldexpf(1.0f, (int)random_in(&seed, -12, 12)), offset = random_unit(&seed) * size;
        float *x = random_array(&seed, n), *back = malloc((size_t)n * sizeof *back);
        struct guarded packed = guarded_new(format_vector_bytes(FORMAT_Q4, n), round % 2);
        for (int64_t i = 0; i < n; i++)
            x[i] = x[i] * size + offset;
        q4_pack_vector(x, n, packed.data);
        q4_unpack_vector(packed.data, n, back);
        for (int64_t g = 0; g < n; g += Q4_GROUP) {
            const int64_t end = g + Q4_GROUP < n ? g + Q4_GROUP : n;
            float least = x[g], most = x[g];
            for (int64_t i = g; i < end; i++) {
                least = fminf(least, x[i]);
                most = fmaxf(most, x[i]);
            }
            for (int64_t i = g; i < end; i++)
                cr_assert_leq(fabs((double)x[i] - back[i]), error_bound(least, most), "n %lld, element %lld", (long long)n,
                              (long long)i);
        }
        guarded_check_and_free(&packed, "packed vector");
        free(x);
        free(back);
    }
}

Test(quant, matrices_agree_with_their_columns_as_vectors)
{
    /* A column of up to 64 rows is one group, so packing it as a vector must give the same scale, minimum and codes. */
    uint64_t seed = test_seed("matrices_agree_with_their_columns_as_vectors");

    for (int round = 0; round < 40; round++) {
        const int64_t rows = random_in(&seed, 1, 64), cols = random_in(&seed, 1, 600);
        float *w = random_array(&seed, rows * cols), *back = malloc((size_t)(rows * cols) * sizeof *back), column[64],
              column_back[64];
        struct guarded packed = guarded_new(format_matrix_bytes(FORMAT_Q4, rows, cols), round % 2);
        unsigned char vector[36];
        q4_pack_matrix(w, rows, cols, packed.data);
        q4_unpack_matrix(packed.data, rows, cols, back);
        for (int64_t c = 0; c < cols; c++) {
            for (int64_t r = 0; r < rows; r++)
                column[r] = w[r * cols + c];
            q4_pack_vector(column, rows, vector);
            q4_unpack_vector(vector, rows, column_back);
            for (int64_t r = 0; r < rows; r++)
                cr_assert_eq(back[r * cols + c], column_back[r], "rows %lld, cols %lld, (%lld, %lld)", (long long)rows,
                             (long long)cols, (long long)r, (long long)c);
        }
        guarded_check_and_free(&packed, "packed matrix");
        free(w);
        free(back);
    }
}

Test(quant, pieces_cut_at_64_rows_are_the_bytes_of_the_whole)
{
    uint64_t seed = test_seed("pieces_cut_at_64_rows");
    const int64_t rows = 150, cols = 37;
    float *w = random_array(&seed, rows * cols);
    const int64_t whole_bytes = format_matrix_bytes(FORMAT_Q4, rows, cols);
    unsigned char *whole = malloc((size_t)whole_bytes), *pieces = malloc((size_t)whole_bytes);
    int64_t at = 0;

    q4_pack_matrix(w, rows, cols, whole);
    for (int64_t r = 0; r < rows; r += 64) {
        const int64_t n = rows - r < 64 ? rows - r : 64;
        q4_pack_matrix(w + r * cols, n, cols, pieces + at);
        at += format_matrix_bytes(FORMAT_Q4, n, cols);
    }
    cr_assert_eq(at, whole_bytes);
    cr_assert_arr_eq(whole, pieces, (size_t)whole_bytes);
    free(w);
    free(whole);
    free(pieces);
}

Test(quant, every_instruction_set_gives_the_same_bytes)
{
    uint64_t seed = test_seed("every_instruction_set_gives_the_same_bytes");
    const int64_t rows = 100, cols = 333, bytes = format_matrix_bytes(FORMAT_Q4, rows, cols);
    float *w = random_array(&seed, rows * cols);
    unsigned char *first = malloc((size_t)bytes), *other = malloc((size_t)bytes);

    for (int isa = isa_count() - 1; isa >= 0; isa--) {
        cpu_isa_force((enum cpu_isa)isa);
        q4_pack_matrix(w, rows, cols, isa == isa_count() - 1 ? first : other);
        cpu_isa_force((enum cpu_isa)isa);
        q4_pack_matrix(w, rows, cols, other);
        cr_assert_arr_eq(first, other, (size_t)bytes, "instruction set %d", isa);
    }
    free(w);
    free(first);
    free(other);
}

Test(quant, hard_groups)
{
    const float values[][4] = {
        {3.5f, 3.5f, 3.5f, 3.5f},          /* constant: exact */
        {-0.0f, 0.0f, 0.0f, -0.0f},        /* zeros */
        {1e-30f, 2e-30f, 0.0f, 3e-30f},    /* range far below fp16: the minimum */
        {65504.0f, -65504.0f, 0.0f, 1.0f}, /* the whole fp16 range: scale 8733.87 */
        {1e30f, -1e30f, INFINITY, 0.0f},   /* saturates */
        {NAN, 1.0f, 2.0f, -INFINITY},      /* NaN counts as 0 */
        {NAN, NAN, NAN, NAN},
    };
    float x[64], back[64];
    unsigned char packed[64];

    for (int isa = 0; isa < isa_count(); isa++)
        for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
            cpu_isa_force((enum cpu_isa)isa);
            for (int i = 0; i < 64; i++)
                x[i] = values[v][i % 4];
            q4_pack_vector(x, 64, packed);
            q4_unpack_vector(packed, 64, back);
            for (int i = 0; i < 64; i++) {
                const float clean = isnan(x[i]) ? 0.0f : fmaxf(fminf(x[i], 65504.0f), -65504.0f);
                cr_assert(isfinite(back[i]), "case %zu, element %d", v, i);
                /* range at most 131008: bound 131008/15/2 + fp16 rounding of 65504/2048 and of 15*8734/2048 < 4470 */
                cr_assert_leq(fabsf(back[i] - clean), v < 3 ? 3e-30f : 4470.0f, "case %zu, element %d: %g for %g", v, i, back[i],
                              x[i]);
            }
        }
    for (int i = 0; i < 64; i++)
        x[i] = 3.5f;
    q4_pack_vector(x, 64, packed);
    q4_unpack_vector(packed, 64, back);
    cr_assert_arr_eq(back, x, sizeof x);
}

/* -- 16-bit floats --------------------------------------------------------------------------------------------------------- */
Test(half, every_fp16_goes_there_and_back)
{
    for (uint32_t h = 0; h < 65536; h++) {
        const float f = f16_to_f32((uint16_t)h);
        if (isnan(f))
            cr_assert(isnan(f16_to_f32(f16_from_f32(f))), "%04x", h);
        else
            cr_assert_eq(f16_from_f32(f), h, "%04x -> %g -> %04x", h, f, f16_from_f32(f));
    }
    cr_assert_eq(f16_to_f32(0x3c01), 1.0f + 0x1p-10f);
    cr_assert_eq(f16_to_f32(0x0001), 0x1p-24f);
    cr_assert_eq(f16_to_f32(0xfbff), -65504.0f);
}

Test(half, rounds_halves_to_even)
{
    /* between neighbours a < b of fp16 the middle goes to the even one, and anything off the middle to the nearer */
    for (uint32_t h = 0; h < 0x7bff; h++) {
        const float a = f16_to_f32((uint16_t)h), b = f16_to_f32((uint16_t)(h + 1)), middle = (a + b) / 2; /* exact in f32 */
        cr_assert_eq(f16_from_f32(middle), h + h % 2, "middle above %04x", h);
        cr_assert_eq(f16_from_f32(nextafterf(middle, 0.0f)), h, "below the middle above %04x", h);
        cr_assert_eq(f16_from_f32(nextafterf(middle, INFINITY)), h + 1, "above the middle above %04x", h);
    }
    cr_assert_eq(f16_from_f32(65519.996f), 0x7bff);
    cr_assert_eq(f16_from_f32(65520.0f), 0x7c00);
    cr_assert_eq(f16_from_f32_saturated(1e9f), 0x7bff);
    cr_assert_eq(f16_from_f32_saturated(-INFINITY), 0xfbff);
    cr_assert_eq(f16_from_f32_saturated(NAN), 0);
    /* bf16 keeps 8 bits: 1 + 2^-8 is half way between 1 and 1 + 2^-7, even is 1; 1 + 3*2^-8 goes up to 1 + 2^-6 */
    cr_assert_eq(bf16_from_f32(1.0f + 0x1p-8f), 0x3f80);
    cr_assert_eq(bf16_from_f32(1.0f + 3 * 0x1p-8f), 0x3f82);
    cr_assert(isnan(bf16_to_f32(bf16_from_f32(NAN))));
}

Test(half, arrays_agree_with_single_conversions_at_any_address)
{
    uint64_t seed = test_seed("arrays_agree_with_single_conversions");
    float x[77];

    for (int i = 0; i < 77; i++)
        x[i] = ldexpf(random_unit(&seed), (int)random_in(&seed, -30, 20));
    for (int isa = 0; isa < isa_count(); isa++)
        for (int n = 0; n <= 77; n++) {
            struct guarded halves = guarded_new(2 * n, n % 2);
            float back[77];
            cpu_isa_force((enum cpu_isa)isa);
            from_f32(FORMAT_F16, x, n, halves.data);
            to_f32(FORMAT_F16, halves.data, n, back);
            for (int i = 0; i < n; i++) {
                cr_assert_eq(half_at(halves.data + 2 * i), f16_from_f32(x[i]), "fp16 of %a", x[i]);
                cr_assert_eq(back[i], f16_to_f32(f16_from_f32(x[i])));
            }
            from_f32(FORMAT_BF16, x, n, halves.data);
            to_f32(FORMAT_BF16, halves.data, n, back);
            for (int i = 0; i < n; i++)
                cr_assert_eq(back[i], bf16_to_f32(bf16_from_f32(x[i])));
            guarded_check_and_free(&halves, "halves");
        }
}
