/* plot_table.c - figures of small tables: scatter (predicted against measured) and throughput (against batch size). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plots/table.h"

/* "tok/s" for tok_s, else as in the column's name. */
static const char *unit_name(const char *unit)
{
    if (*unit == 0 || strcmp(unit, "tok_s") == 0)
        return "tok/s";
    if (strcmp(unit, "bytes_per_s") == 0)
        return "B/s";
    return strcmp(unit, "bytes") == 0 ? "B" : unit;
}

/* -- scatter ----------------------------------------------------------------------------------------------------------- */

static void write_scatter(struct figure *f, const struct table *t, struct series *s)
{
    double low = 0, high = 0, other_low = 0, other_high = 0, sum = 0;
    int inside = 0;
    for (int i = 0; i < t->n; i++) {
        const double predicted = t->row[i].value[0], measured = t->row[i].value[1];
        const double error = fabs(predicted - measured) / measured;
        sum += error;
        inside += error <= 0.10;
        fprintf(f->data, "%d %.9g %.9g\n", 1 + series_of(s, t->row[i].label), measured, predicted);
    }
    table_range(t, 0, &low, &high);
    table_range(t, 1, &other_low, &other_high);
    low = other_low < low ? other_low : low;
    high = other_high > high ? other_high : high;
    const bool logarithmic = high > 20 * low;
    series_names(f, s);
    figure_number(f, "logarithmic", logarithmic);
    figure_number(f, "lo", logarithmic ? low / 1.5 : 0);
    figure_number(f, "hi", logarithmic ? high * 1.5 : high * 1.15);
    figure_text(f, "title", "Predicted against measured: %d of %d within 10 %%, off by %.1f %% on average", inside, t->n,
                100 * sum / t->n);
}

enum status plot_scatter(struct figure *f, const char *csv_path, const char *second_csv, struct error *err)
{
    (void)second_csv;
    struct table t = {.n_wanted = 3,
                      .wanted = {{.name = "label", .other = "case", .text = true},
                                 {.name = "predicted", .stem = true},
                                 {.name = "measured", .stem = true}}};
    struct series s;
    enum status status = table_read(&t, csv_path, err);
    if (status == STATUS_OK && strcmp(unit_name(t.wanted[1].unit), unit_name(t.wanted[2].unit)) != 0)
        status = error_at(err, STATUS_INVALID, csv_path, 0, "expected predicted and measured in one unit, found %s and %s",
                          unit_name(t.wanted[1].unit), unit_name(t.wanted[2].unit));
    if (status == STATUS_OK) {
        series_collect(&s, &t);
        write_scatter(f, &t, &s);
        figure_text(f, "unit", "%s", unit_name(t.wanted[1].unit));
        figure_size(f, 1100, 700);
    }
    free(t.row);
    return status;
}

/* -- throughput -------------------------------------------------------------------------------------------------------- */

static int by_label_and_batch(const void *a, const void *b)
{
    const struct table_row *x = a, *y = b;
    const int order = strcmp(x->label, y->label);
    if (order)
        return order;
    return x->value[0] < y->value[0] ? -1 : x->value[0] > y->value[0];
}

static void write_throughput(struct figure *f, const struct table *t, struct series *s)
{
    double low = 1, high = 1, ylow = 1, top = 1, mlow = 0, mtop = 0;
    table_range(t, 0, &low, &high);
    table_range(t, 1, &ylow, &top);
    const bool measured = table_range(t, 2, &mlow, &mtop);
    top = measured && mtop > top ? mtop : top;
    ylow = measured && mlow < ylow ? mlow : ylow;
    for (int i = 0; i < t->n; i++) {
        const struct table_row *r = &t->row[i];
        fprintf(f->data, "%d %.9g %.9g ", 1 + series_of(s, r->label), r->value[0], r->value[1]);
        fprintf(f->data, isnan(r->value[2]) ? "NaN\n" : "%.9g\n", r->value[2]);
    }
    const bool log_x = high >= 4 * low, log_y = top > 50 * ylow;
    series_names(f, s);
    figure_number(f, "measured", measured);
    figure_number(f, "logx", log_x);
    figure_number(f, "logy", log_y);
    figure_number(f, "xlo", log_x ? low / 1.15 : 0);
    figure_number(f, "xhi", log_x ? high * 1.15 : high * 1.05);
    figure_number(f, "ylo", log_y ? ylow / 1.4 : 0);
    figure_number(f, "yhi", log_y ? top * 1.4 : top * 1.12);
    figure_size(f, 1400, 700);
}

enum status plot_throughput(struct figure *f, const char *csv_path, const char *second_csv, struct error *err)
{
    (void)second_csv;
    struct table t = {.n_wanted = 4,
                      .wanted = {{.name = "label", .other = "series", .text = true, .optional = true},
                                 {.name = "batch"},
                                 {.name = "throughput_tok_s", .other = "predicted_tok_s"},
                                 {.name = "measured_tok_s", .other = "measured", .optional = true}}};
    struct series s;
    const enum status status = table_read(&t, csv_path, err);
    if (status == STATUS_OK) {
        series_collect(&s, &t); /* in the order of the file */
        struct table sorted = t;
        if (!s.merged)
            qsort(sorted.row, (size_t)sorted.n, sizeof *sorted.row, by_label_and_batch);
        write_throughput(f, &sorted, &s);
    }
    free(t.row);
    return status;
}
