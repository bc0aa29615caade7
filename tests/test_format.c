#include <criterion/criterion.h>

#include "model/format.h"

Test(format, names_read_back)
{
    for (int i = 0; i < FORMAT_COUNT; i++) {
        enum format f = FORMAT_COUNT;
        cr_assert_eq(format_parse(format_name((enum format)i), &f), 0);
        cr_assert_eq((int)f, i);
    }
    enum format f = FORMAT_BF16;
    cr_assert_eq(format_parse("q8", &f), -1);
    cr_assert_eq(format_parse("", &f), -1);
    cr_assert_eq(format_parse("F16", &f), -1);
    cr_assert_eq(f, FORMAT_BF16, "a failure leaves the value alone");
}

Test(format, plain_elements)
{
    cr_assert_eq(format_matrix_bytes(FORMAT_F32, 3, 5), 3 * 5 * 4);
    cr_assert_eq(format_matrix_bytes(FORMAT_F16, 3, 5), 3 * 5 * 2);
    cr_assert_eq(format_matrix_bytes(FORMAT_BF16, 3, 5), 3 * 5 * 2);
    cr_assert_eq(format_vector_bytes(FORMAT_F32, 7), 28);
    cr_assert_eq(format_vector_bytes(FORMAT_F16, 7), 14);
    cr_assert_eq(format_matrix_bytes(FORMAT_F16, 0, 5), 0);
    /* OPT-175B: one layer's first MLP matrix, 49152 x 12288 in fp16, is beyond 32 bits with the others. */
    cr_assert_eq(format_matrix_bytes(FORMAT_F16, 4 * 12288, 12288), (int64_t)2 * 4 * 12288 * 12288);
}

Test(format, q4_takes_four_and_a_half_bits)
{
    /* 128 x 64: two blocks of 64 rows, each 64 scales and 64 minima of 2 bytes (256) and 64 * 32 packed bytes (2048). */
    cr_assert_eq(format_matrix_bytes(FORMAT_Q4, 128, 64), 2 * (256 + 2048));
    cr_assert_eq(format_matrix_bytes(FORMAT_Q4, 128, 64) * 8, 128 * 64 * 9 / 2);
}

Test(format, q4_rounds_up_odd_shapes)
{
    /* 65 x 3: two blocks (12 bytes of heads each), and 65 rows of ceil(3/2) = 2 bytes. */
    cr_assert_eq(format_matrix_bytes(FORMAT_Q4, 65, 3), 2 * 12 + 65 * 2);
    /* 1 x 1: one scale, one minimum, one byte, one that makes it even. */
    cr_assert_eq(format_matrix_bytes(FORMAT_Q4, 1, 1), 4 + 1 + 1);
    cr_assert_eq(format_matrix_bytes(FORMAT_Q4, 0, 9), 0);
    /* Matrices lie one after the other, and a device's fp16 at even addresses. */
    for (int64_t rows = 1; rows < 140; rows++)
        for (int64_t cols = 1; cols < 12; cols++)
            cr_assert_eq(format_matrix_bytes(FORMAT_Q4, rows, cols) % 2, 0, "%lld x %lld", (long long)rows, (long long)cols);
}

Test(format, pieces_cut_at_the_row_step_add_up)
{
    for (int f = 0; f < FORMAT_COUNT; f++) {
        int64_t step = format_row_step((enum format)f), whole = format_matrix_bytes((enum format)f, 200, 33);
        cr_assert_eq(step, f == FORMAT_Q4 ? 64 : 1);
        for (int64_t cut = step; cut < 200; cut += step)
            cr_assert_eq(format_matrix_bytes((enum format)f, cut, 33) + format_matrix_bytes((enum format)f, 200 - cut, 33),
                         whole);
    }
}

Test(format, q4_vectors_have_a_head_per_group)
{
    cr_assert_eq(format_vector_bytes(FORMAT_Q4, 64), 32 + 4);
    cr_assert_eq(format_vector_bytes(FORMAT_Q4, 4096) * 8, 4096 * 9 / 2);
    /* 65: 33 packed bytes padded to 34, two groups. */
    cr_assert_eq(format_vector_bytes(FORMAT_Q4, 65), 34 + 2 * 4);
    /* 1: one byte padded to 2, one group. */
    cr_assert_eq(format_vector_bytes(FORMAT_Q4, 1), 2 + 4);
    cr_assert_eq(format_vector_bytes(FORMAT_Q4, 0), 0);
}
