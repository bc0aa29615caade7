/* test_grammar.c - llama-bench's lists: what they mean, what is refused, and that nothing overflows. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/grammar.h"

/* Parses and compares with what we wrote out by hand. */
static void expect(const char *text, size_t n, const int64_t *values)
{
    struct int_list l;
    struct error err = {0};
    cr_assert_eq(list_parse(&l, "-p", text, 0, INT64_MAX, &err), STATUS_OK, "%s: %s", text, err.text);
    cr_assert_eq(l.n, n, "%s: %zu values, expected %zu", text, l.n, n);
    for (size_t i = 0; i < n; i++) {
        cr_assert_eq(l.value[i], values[i], "%s: value %zu is %lld, expected %lld", text, i, (long long)l.value[i],
                     (long long)values[i]);
    }
    list_free(&l);
}
#define EXPECT(text, ...) expect(text, sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), (int64_t[]){__VA_ARGS__})

static void refuse(const char *text, int64_t min, int64_t max, const char *part)
{
    struct int_list l;
    struct error err = {0};
    cr_assert_eq(list_parse(&l, "-p", text, min, max, &err), STATUS_INVALID, "\"%s\" was accepted", text);
    cr_assert(strstr(err.text, part), "\"%s\": message \"%s\" lacks \"%s\"", text, err.text, part);
    cr_assert(strncmp(err.text, "-p: ", 4) == 0, "message \"%s\" does not name the option", err.text);
    cr_assert_null(strchr(err.text, '\n'));
    cr_assert_null(l.value);
    cr_assert_eq(l.n, 0);
}

Test(grammar, numbers_and_commas_keep_their_order_and_repeats)
{
    EXPECT("0", 0);
    EXPECT("512", 512);
    EXPECT("8,2,8", 8, 2, 8);
    EXPECT("9223372036854775807", INT64_MAX);
}

Test(grammar, a_range_counts_by_one_by_a_step_or_by_a_factor)
{
    EXPECT("3-6", 3, 4, 5, 6);
    EXPECT("7-7", 7);
    EXPECT("128-512+128", 128, 256, 384, 512); /* 128 + 3 * 128 = 512 is still in */
    EXPECT("1-10+4", 1, 5, 9);                 /* 13 > 10 */
    EXPECT("1-64*4", 1, 4, 16, 64);
    EXPECT("3-50*4", 3, 12, 48); /* 192 > 50 */
    EXPECT("5-6+100", 5);
    EXPECT("1-3,10,2-8*2", 1, 2, 3, 10, 2, 4, 8);
}

Test(grammar, ranges_at_the_end_of_the_integers_stop)
{
    EXPECT("9223372036854775806-9223372036854775807", INT64_MAX - 1, INT64_MAX);
    EXPECT("9223372036854775800-9223372036854775807+5", INT64_MAX - 7, INT64_MAX - 2);
    /* 2^62 * 2 = 2^63 does not fit */
    EXPECT("4611686018427387904-9223372036854775807*2", INT64_C(1) << 62);
    EXPECT("1-9223372036854775807*9223372036854775807", 1, INT64_MAX);
}

Test(grammar, what_is_wrong_is_named_with_its_place)
{
    refuse("", 0, 9, "expected a whole number, found the end of the list");
    refuse("1,", 0, 9, "expected a whole number, found the end");
    refuse("1,,2", 0, 9, "found ',' at character 3");
    refuse("1-", 0, 9, "found the end");
    refuse("1-x", 0, 9, "found 'x' at character 3");
    refuse("1-2+", 0, 9, "found the end");
    refuse("1+2", 0, 9, "expected ',' or the end of the list, found '+' at character 2");
    refuse("1-2-3", 0, 9, "found '-' at character 4");
    refuse("1 2", 0, 9, "found ' ' at character 2");
    refuse("-1", 0, 9, "found '-' at character 1");
    refuse("1.5", 0, 9, "found '.' at character 2");
    refuse("0x10", 0, 9, "found 'x' at character 2");
    refuse("5-3", 0, 9, "the range 5-3 runs backwards");
    refuse("1-8*1", 0, 9, "expected a number from 2");
    refuse("1-8*0", 0, 9, "expected a number from 2");
    refuse("1-8+0", 0, 9, "expected a number from 1");
    refuse("0-8*2", 0, 9, "a range from 0 cannot grow by a factor");
}

Test(grammar, limits_hold_for_both_ends)
{
    refuse("0", 1, 64, "expected a number from 1 to 64, found 0");
    refuse("65", 1, 64, "found 65");
    refuse("1-65", 1, 64, "found 65");
    refuse("99999999999999999999999999", 0, 64, "found 99999999999999999999999999");
}

Test(grammar, a_list_is_bounded)
{
    struct int_list l;
    struct error err = {0};
    /* 1..1000000 are exactly LIST_MAX values; one more is refused, also spread over items, and at once for a huge range. */
    cr_assert_eq(list_parse(&l, "-p", "1-1000000", 0, INT64_MAX, &err), STATUS_OK);
    cr_assert_eq(l.n, LIST_MAX);
    cr_assert_eq(l.value[LIST_MAX - 1], 1000000);
    list_free(&l);
    refuse("1-1000001", 0, INT64_MAX, "more than 1000000 values");
    refuse("1-1000000,1", 0, INT64_MAX, "more than 1000000 values");
    refuse("0-9223372036854775807", 0, INT64_MAX, "more than 1000000 values");
}

/* The meaning again, written as a plain loop. */
static size_t plain_range(int64_t first, int64_t last, int64_t step, char by, int64_t *out)
{
    size_t n = 0;
    for (int64_t v = first; v <= last; v = by == '+' ? v + step : v * step) {
        out[n++] = v;
    }
    return n;
}

Test(grammar, random_ranges_agree_with_a_plain_loop)
{
    unsigned seed = (unsigned)time(NULL);
    int64_t values[1000];
    char text[64];
    printf("seed %u\n", seed);
    srand(seed);
    for (int i = 0; i < 2000; i++) {
        int64_t first = 1 + rand() % 50, last = first + rand() % 500, step = 2 + rand() % 9;
        char by = rand() % 2 ? '+' : '*';
        snprintf(text, sizeof text, "%lld-%lld%c%lld", (long long)first, (long long)last, by, (long long)step);
        expect(text, plain_range(first, last, step, by, values), values);
    }
}

/* Every text over the grammar's alphabet up to five characters is parsed or refused with one line, never anything else. */
Test(grammar, short_texts_are_all_safe)
{
    static const char ALPHABET[] = "019-+*, x";
    const int n = (int)sizeof ALPHABET - 1;
    int accepted = 0;
    for (int length = 1, count = n; length <= 5; length++, count *= n) {
        for (int code = 0; code < count; code++) {
            char text[6] = "";
            for (int i = 0, rest = code; i < length; i++, rest /= n) {
                text[i] = ALPHABET[rest % n];
            }
            struct int_list l;
            struct error err = {0};
            enum status s = list_parse(&l, "-p", text, 0, 1000, &err);
            cr_assert(s == STATUS_OK ? l.n > 0 && !err.text[0] : s == STATUS_INVALID && err.text[0] && !l.value, "\"%s\"", text);
            accepted += s == STATUS_OK;
            list_free(&l);
        }
    }
    /* Of one character the three digits are lists; of two 9 numbers; so there are more than 12, and not all 66429. */
    cr_assert(accepted > 12 && accepted < 66429, "%d accepted", accepted);
}

/* -- numbers with units ------------------------------------------------------------------------------------------------ */

/* `expected` are the values between bars. */
static void expect_quantities(const char *text, const char *expected)
{
    struct text_list l;
    struct error err = {0};
    char found[512] = "";
    cr_assert_eq(quantities_parse(&l, "budget", text, &err), STATUS_OK, "\"%s\": %s", text, err.text);
    for (size_t i = 0; i < l.n; i++) {
        snprintf(found + strlen(found), sizeof found - strlen(found), "%s%s", i ? "|" : "", l.value[i]);
    }
    cr_assert_str_eq(found, expected);
    text_list_free(&l);
}

static void refuse_quantities(const char *text, const char *complaint)
{
    struct text_list l;
    struct error err = {0};
    cr_assert_eq(quantities_parse(&l, "budget", text, &err), STATUS_INVALID, "\"%s\" was taken", text);
    cr_assert(strstr(err.text, complaint), "no \"%s\" in: %s", complaint, err.text);
}

Test(grammar, quantities_come_in_the_unit_they_are_written_in)
{
    expect_quantities("12GB/s-24GB/s+6GB/s", "12GB/s|18GB/s|24GB/s");
    expect_quantities("16 GiB-64 GiB*2", "16 GiB|32 GiB|64 GiB");
    expect_quantities("1x-2x+0.25x", "1x|1.25x|1.5x|1.75x|2x");
    expect_quantities("0.1-0.5+0.1",
                      "0.1|0.2|0.3|0.4|0.5"); /* three tenths are not 3 * 0.1 in binary: the last one still counts */
    expect_quantities("1-10*3", "1|3|9");
    expect_quantities("8GiB,1GiB-2GiB+1GiB,x", "8GiB|1GiB|2GiB|x");
    expect_quantities("512MiB-2GiB*2", "512 MiB|1 GiB|2 GiB"); /* several units: a readable one */
    expect_quantities("1e-3-2e-3+1e-3", "0.001|0.002");
    expect_quantities("5s-5s+1s", "5s");
}

Test(grammar, quantities_that_make_no_range_are_refused)
{
    refuse_quantities("8GiB-16GiB", "expected FIRST-LAST+STEP or FIRST-LAST*FACTOR");
    refuse_quantities("8GiB-16", "expected FIRST-LAST+STEP");
    refuse_quantities("8GiB-16GiB+1", "in the range's unit");
    refuse_quantities("8GiB-16GB/s+1GiB", "in the range's unit");
    refuse_quantities("8GiB-16GiB*2GiB", "in the range's unit");
    refuse_quantities("8GiB-16GiB+1GiBx", "in the range's unit");
    refuse_quantities("16GiB-8GiB+1GiB", "runs backwards");
    refuse_quantities("8GiB-16GiB+0GiB", "a step above 0");
    refuse_quantities("8GiB-16GiB*1", "a factor above 1");
    refuse_quantities("0GiB-16GiB*2", "a range from above 0");
    refuse_quantities("1-2+0.0000001", "more than 1000000 values");
    refuse_quantities("1,,2", "expected values between commas, found none");
    refuse_quantities("", "expected values between commas, found none");
}
