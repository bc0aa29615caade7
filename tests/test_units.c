/* Quantities to SI and back, and the checks of a workload, which are as small. */
#include <criterion/criterion.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/units.h"
#include "model/workload.h"

static double parsed(const char *text, enum unit_kind kind)
{
    double value = -1;
    cr_assert_eq(units_parse(text, kind, &value), 0, "'%s' was refused", text);
    return value;
}

Test(units, decimal_and_binary_prefixes_differ)
{
    cr_assert_eq(parsed("16 GiB", UNIT_BYTES), 16.0 * 1024 * 1024 * 1024);
    cr_assert_eq(parsed("16 GB", UNIT_BYTES), 16e9);
    cr_assert_eq(parsed("1 KiB", UNIT_BYTES), 1024);
    cr_assert_eq(parsed("1 kB", UNIT_BYTES), 1000);
    cr_assert_eq(parsed("1.5 TiB", UNIT_BYTES), 1.5 * 1099511627776.0);
    cr_assert_eq(parsed("0 B", UNIT_BYTES), 0);
}

Test(units, the_space_is_optional)
{
    cr_assert_eq(parsed("16GiB", UNIT_BYTES), parsed("16 GiB", UNIT_BYTES));
    cr_assert_eq(parsed("12.1GB/s", UNIT_BYTES_PER_S), 12.1e9);
}

Test(units, rates_and_times)
{
    cr_assert_eq(parsed("65 TFLOP/s", UNIT_FLOPS_PER_S), 65e12);
    cr_assert_eq(parsed("21.24 TFLOP/s", UNIT_FLOPS_PER_S), 21.24e12);
    cr_assert_eq(parsed("1e3 B/s", UNIT_BYTES_PER_S), 1000);
    /* The double nearest to 5e-6, not 5 times the double nearest to 1e-6. */
    cr_assert_eq(parsed("5 us", UNIT_SECONDS), 5e-6);
    cr_assert_eq(parsed("3 ns", UNIT_SECONDS), 3e-9);
    cr_assert_eq(parsed("0.7 ms", UNIT_SECONDS), 0.7e-3);
    cr_assert_eq(parsed("2 s", UNIT_SECONDS), 2);
    cr_assert_eq(parsed("8 %", UNIT_SHARE), 0.08);
    cr_assert_eq(parsed("12.5%", UNIT_SHARE), 0.125);
}

Test(units, what_is_not_a_quantity_is_refused_and_the_value_left_alone)
{
    static const char *const bad[] = {"",        " ",        "5",        "5 ",        "GiB",    "-5 GiB",    "+5 GiB",
                                      "nan GiB", "inf GiB",  "0x10 GiB", "5 gib",     "5 GIB",  "5 Gi",      "5 GiB ",
                                      " 5 GiB",  "5  GiB",   "5\tGiB",   "5 GiB x",   "5 GB/s", "1e999 B",   "1e300 PiB",
                                      "5. GiB",  ".5 GiB",   "5e GiB",   "5,0 GiB",   "5 us",   "5 TFLOP/s", "1e+ B",
                                      "--5 B",   "5.5.5 GB", "1e9e9 B",  "infinity B"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        double value = 42;
        cr_assert_eq(units_parse(bad[i], UNIT_BYTES, &value), -1, "'%s' was taken", bad[i]);
        cr_assert_eq(value, 42, "'%s' changed the value", bad[i]);
    }
}

Test(units, a_unit_of_another_kind_is_refused)
{
    static const char *const text[] = {"1 GiB", "1 GB/s", "1 GFLOP/s", "1 ms", "1 %"};
    for (int kind = UNIT_BYTES; kind <= UNIT_SHARE; kind++)
        for (int i = 0; i < 5; i++) {
            double value;
            cr_assert_eq(units_parse(text[i], (enum unit_kind)kind, &value), i == kind ? 0 : -1, "'%s' as kind %d", text[i],
                         kind);
        }
}

static void shows(double value, enum unit_kind kind, const char *expected)
{
    char buf[64];
    cr_assert_str_eq(units_format(value, kind, buf, sizeof buf), expected);
}

Test(units, people_read_three_digits)
{
    shows(1.234e9, UNIT_BYTES_PER_S, "1.23 GB/s");
    shows(3.5 * 1024 * 1024 * 1024, UNIT_BYTES, "3.5 GiB");
    shows(812e6, UNIT_FLOPS_PER_S, "812 MFLOP/s");
    shows(1.2e-3, UNIT_SECONDS, "1.2 ms");
    shows(0, UNIT_BYTES, "0 B");
    shows(0, UNIT_SECONDS, "0 ns");
    /* 999.6 rounds to 1000 with three digits: the next unit it is. */
    shows(999.6e6, UNIT_BYTES_PER_S, "1 GB/s");
    /* Above the largest unit the digits stay whole. */
    shows(12345, UNIT_SECONDS, "12345 s");
    /* 1010 KiB = 0.986 MiB: never an exponent. */
    shows(1010 * 1024.0, UNIT_BYTES, "0.986 MiB");
}

static void writes(double value, enum unit_kind kind, const char *expected)
{
    char buf[64];
    cr_assert_str_eq(units_write(value, kind, buf, sizeof buf), expected);
}

Test(units, files_get_exact_sizes_in_the_largest_whole_unit)
{
    writes(16.0 * 1024 * 1024 * 1024, UNIT_BYTES, "16 GiB");
    writes(1500e9, UNIT_BYTES, "1500 GB");
    writes(1e12, UNIT_BYTES, "1 TB");
    writes(17179869185.0, UNIT_BYTES, "17179869185 B"); /* 16 GiB and one */
    writes(0, UNIT_BYTES, "0 B");
    writes(1234567890.4, UNIT_BYTES_PER_S, "1.23456789 GB/s");
    writes(999999999.9999, UNIT_BYTES_PER_S, "1 GB/s"); /* nine digits of it are 1000 MB/s */
    writes(5e-6, UNIT_SECONDS, "5 us");
}

/* A random magnitude over the range that machines have. */
static double random_value(unsigned short seed[3])
{
    return pow(10, erand48(seed) * 24 - 9);
}

Test(units, what_is_written_reads_back)
{
    unsigned short seed[3] = {20, 23, 6};
    fprintf(stderr, "seed %d %d %d\n", seed[0], seed[1], seed[2]);
    for (int i = 0; i < 20000; i++) {
        char text[64], again[64];
        double value = random_value(seed), size = floor(erand48(seed) * 9007199254740992.0), read;
        for (int kind = UNIT_BYTES_PER_S; kind <= UNIT_SHARE; kind++) {
            units_write(value, (enum unit_kind)kind, text, sizeof text);
            cr_assert_eq(units_parse(text, (enum unit_kind)kind, &read), 0, "'%s'", text);
            /* Nine digits: half a unit in the ninth is 5e-9 of the smallest leading digit. */
            cr_assert_leq(fabs(read - value), 5.001e-9 * value + 0.5e-18, "%.17g as '%s'", value, text);
            cr_assert_str_eq(units_write(read, (enum unit_kind)kind, again, sizeof again), text);
        }
        units_write(size, UNIT_BYTES, text, sizeof text);
        cr_assert_eq(units_parse(text, UNIT_BYTES, &read), 0, "'%s'", text);
        cr_assert_eq(read, size, "'%s'", text);
    }
}

Test(units, texts_are_cut_to_the_buffer)
{
    char buf[8] = "xxxxxxx";
    units_format(1.234e9, UNIT_BYTES_PER_S, buf, 5); /* "1.23 GB/s" */
    cr_assert_str_eq(buf, "1.23");
    cr_assert_eq(buf[5], 'x');
}

Test(workload, positions_are_prompt_plus_generated_less_one)
{
    struct workload fits = {.prompt_tokens = 2016, .gen_tokens = 33}; /* 2016 + 33 - 1 = 2048 */
    struct workload over = {.prompt_tokens = 2016, .gen_tokens = 34};
    struct error err = {0};
    cr_assert_eq(workload_check(&fits, 2048, &err), STATUS_OK);
    cr_assert_eq(workload_check(&over, 2048, &err), STATUS_INVALID);
    cr_assert(strstr(err.text, "2048"), "%s", err.text);
    cr_assert_eq(workload_check(&over, 0, NULL), STATUS_OK, "a model without a limit");
}

Test(workload, lengths_are_positive_and_sums_do_not_overflow)
{
    struct workload none = {.prompt_tokens = 0, .gen_tokens = 1}, silent = {.prompt_tokens = 1, .gen_tokens = 0};
    struct workload huge = {.prompt_tokens = INT64_MAX, .gen_tokens = INT64_MAX}, long_answer = {1, INT64_MAX, 0};
    cr_assert_eq(workload_check(&none, 2048, NULL), STATUS_INVALID);
    cr_assert_eq(workload_check(&silent, 2048, NULL), STATUS_INVALID);
    cr_assert_eq(workload_check(&huge, INT64_MAX, NULL), STATUS_INVALID);
    cr_assert_eq(workload_check(&long_answer, 2048, NULL), STATUS_INVALID);
}
