/* test_output.c - one table in four formats: what people read, and what programs read back without loss. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/output.h"

/* Two rows: a name with every character that CSV or Markdown must guard, an integer above 2^53, and awkward doubles. */
static void fill(struct table *t)
{
    table_init(t);
    table_column(t, "model", COLUMN_TEXT);
    table_column(t, "parameters", COLUMN_INT);
    table_column(t, "peak_bytes.ram", COLUMN_BYTES);
    table_column(t, "peak_bytes.disk", COLUMN_BYTES);
    table_column(t, "prefill_s", COLUMN_SECONDS);
    table_text(t, "a|b \"c\", d");
    table_int(t, INT64_C(9007199254740993));
    table_int(t, INT64_C(3) << 30);
    table_number(t, 0.1);
    table_number(t, 1.0 / 3);
    table_text(t, "plain");
    table_empty(t);
    table_number(t, NAN);
    table_int(t, 0);
    table_number(t, 2);
}

typedef enum status (*writer)(const struct table *t, enum output_format format, FILE *out, struct error *err);

/* The text that a writer makes; the caller frees. */
static char *written(const struct table *t, writer write, enum output_format format)
{
    char *text = NULL;
    size_t n = 0;
    struct error err = {0};
    FILE *out = open_memstream(&text, &n);
    cr_assert_not_null(out);
    cr_assert_eq(write(t, format, out, &err), STATUS_OK, "%s", err.text);
    fclose(out);
    return text;
}

Test(output, csv_quotes_what_needs_it_and_keeps_every_digit)
{
    struct table t;
    fill(&t);
    char *text = written(&t, table_write, OUTPUT_CSV);
    /* 0.1 is written as 0.1; 1/3 needs 16 digits; 3 * 2^30 = 3221225472. */
    cr_assert_str_eq(text, "model,parameters,peak_bytes.ram,peak_bytes.disk,prefill_s\n"
                           "\"a|b \"\"c\"\", d\",9007199254740993,3221225472,0.1,0.3333333333333333\n"
                           "plain,,,0,2\n");
    free(text);
    table_free(&t);
}

Test(output, json_nests_dotted_names_and_reads_back_exactly)
{
    struct table t;
    fill(&t);
    char *text = written(&t, table_write, OUTPUT_JSON);
    json_t *rows = json_loads(text, 0, NULL);
    cr_assert_eq(json_array_size(rows), 2);
    json_t *first = json_array_get(rows, 0), *second = json_array_get(rows, 1);
    cr_assert_str_eq(json_string_value(json_object_get(first, "model")), "a|b \"c\", d");
    cr_assert_eq(json_integer_value(json_object_get(first, "parameters")), INT64_C(9007199254740993));
    json_t *peak = json_object_get(first, "peak_bytes");
    cr_assert_eq(json_integer_value(json_object_get(peak, "ram")), INT64_C(3221225472));
    cr_assert_eq(json_real_value(json_object_get(peak, "disk")), 0.1);
    cr_assert_eq(json_real_value(json_object_get(first, "prefill_s")), 1.0 / 3);
    cr_assert(json_is_null(json_object_get(second, "parameters")));
    cr_assert(json_is_null(json_object_get(json_object_get(second, "peak_bytes"), "ram")), "NaN has no number in JSON");
    json_decref(rows);
    free(text);
    table_free(&t);
}

Test(output, json_lines_are_one_object_each)
{
    struct table t;
    fill(&t);
    char *text = written(&t, table_write, OUTPUT_JSONL);
    int lines = 0;
    for (char *save, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        json_t *row = json_loads(line, 0, NULL);
        cr_assert(json_is_object(row), "%s", line);
        json_decref(row);
        lines++;
    }
    cr_assert_eq(lines, 2);
    free(text);
    table_free(&t);
}

/* A bound is never shown below what it is, and a number rounded to the nearest never above a bound that it is not above. */
Test(output, bounds_are_rounded_up)
{
    static const struct {
        double value;
        const char *text;
    } cases[] = {{14.96401, "14.965"},       {14.964, "14.964"},     {9.99991, "10"}, {9.9999, "9.9999"}, {99999.2, "1e+05"},
                 {1.00001e-7, "1.0001e-07"}, {123456, "1.2346e+05"}, {0, "0"},        {0.1, "0.1"}};
    char up[32], near[32];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        cr_assert_str_eq(number_up(cases[i].value, 5, up, sizeof up), cases[i].text);
    srand(1);
    for (int i = 0; i < 100000; i++) {
        double value = pow(10, 12.0 * rand() / RAND_MAX - 6), step = pow(10, floor(log10(value)) - 4);
        number_up(value, 5, up, sizeof up);
        snprintf(near, sizeof near, "%.5g", value);
        cr_assert(strtod(up, NULL) >= value && strtod(up, NULL) < value + step * (1 + 1e-9), "%.17g as %s", value, up);
        cr_assert_geq(strtod(up, NULL), strtod(near, NULL));
    }
}

Test(output, markdown_is_aligned_and_has_units)
{
    struct table t;
    fill(&t);
    char *text = written(&t, table_write, OUTPUT_MD);
    cr_assert(strstr(text, "| a\\|b \"c\", d |"), "%s", text);
    cr_assert(strstr(text, "3 GiB"), "%s", text);
    /* All four lines (head, rule, two rows) are equally wide. */
    size_t width = strcspn(text, "\n"), lines = 0;
    for (char *line = text; *line; line += width + 1, lines++) {
        cr_assert_eq(strcspn(line, "\n"), width, "line %zu of\n%s", lines, text);
    }
    cr_assert_eq(lines, 4);
    free(text);
    table_free(&t);
}

Test(output, one_row_is_a_bare_object_or_a_list_of_quantities)
{
    struct table t;
    table_init(&t);
    table_column(&t, "policy", COLUMN_TEXT);
    table_column(&t, "steps", COLUMN_INT);
    table_json(&t, json_pack("{s:i}", "prefetch", 3));
    table_int(&t, 7);
    char *text = written(&t, table_write_one, OUTPUT_JSON);
    json_t *object = json_loads(text, 0, NULL);
    cr_assert_eq(json_integer_value(json_object_get(json_object_get(object, "policy"), "prefetch")), 3);
    json_decref(object);
    free(text);
    text = written(&t, table_write_one, OUTPUT_MD);
    cr_assert(strstr(text, "| steps    | 7"), "%s", text);
    cr_assert_null(strstr(text, "policy"), "a value for JSON only");
    free(text);
    text = written(&t, table_write_one, OUTPUT_CSV);
    cr_assert_str_eq(text, "steps\n7\n");
    free(text);
    table_free(&t);
}

Test(output, an_empty_table_is_still_a_table)
{
    struct table t;
    table_init(&t);
    table_column(&t, "model", COLUMN_TEXT);
    char *text = written(&t, table_write, OUTPUT_JSON);
    json_t *rows = json_loads(text, 0, NULL);
    cr_assert(json_is_array(rows) && json_array_size(rows) == 0, "%s", text);
    json_decref(rows);
    free(text);
    text = written(&t, table_write, OUTPUT_CSV);
    cr_assert_str_eq(text, "model\n");
    free(text);
    table_free(&t);
}

Test(output, a_full_disk_is_a_failure)
{
    struct table t;
    struct error err = {0};
    fill(&t);
    FILE *full = fopen("/dev/full", "w");
    cr_assert_not_null(full);
    for (int format = OUTPUT_MD; format <= OUTPUT_JSONL; format++) {
        memset(&err, 0, sizeof err);
        cr_assert_eq(table_write(&t, (enum output_format)format, full, &err), STATUS_RUNTIME, "format %d", format);
        cr_assert(strstr(err.text, "cannot write the results"), "%s", err.text);
    }
    fclose(full);
    table_free(&t);
}

Test(output, a_failure_in_filling_comes_out_of_writing)
{
    struct table t;
    struct error err = {0};
    table_init(&t);
    table_text(&t, "a cell without a column");
    cr_assert_eq(table_write(&t, OUTPUT_CSV, stdout, &err), STATUS_RUNTIME);
    table_free(&t);
}

Test(output, formats_have_the_names_of_llama_bench)
{
    static const char *const NAMES[] = {"md", "csv", "json", "jsonl"};
    enum output_format f;
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(output_format_parse(NAMES[i], &f), 0);
        cr_assert_str_eq(output_format_name(f), NAMES[i]);
    }
    cr_assert_eq(output_format_parse("JSON", &f), -1);
    cr_assert_eq(output_format_parse("", &f), -1);
}
