/* plot_table.c - figures of small tables: scatter (predicted against measured) and throughput (against batch size). */
#include <csv.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "plots/figure.h"

enum { COLUMNS_MAX = 64, CELL_MAX = 96, ROWS_MAX = 100000, SERIES_MAX = 20, LABEL_SHOWN = 40 };

/* -- reading ---------------------------------------------------------------------------------------------------------- */

/* A column by name: one of two spellings, or `stem`_UNIT if it is a stem. */
struct wanted {
    const char *name, *other;
    bool stem, optional, text;
    int index;     /* in the file, -1 if absent */
    char unit[24]; /* after the stem */
};

struct table_row {
    char label[CELL_MAX];
    double value[3]; /* of the columns that are no text, in the order of `wanted`; NaN: an optional one is empty */
};

struct table {
    struct wanted wanted[4];
    int n_wanted, n_columns;
    int n, room;
    struct table_row *row;
};

struct cells {
    int n;
    bool ended, long_cell;
    char text[COLUMNS_MAX][CELL_MAX];
};

struct table_reader {
    const char *path;
    int line;
    struct csv_parser csv;
    struct cells cells;
    struct error *err;
};

#define COMPLAIN(r, ...) error_at((r)->err, STATUS_INVALID, (r)->path, (r)->line, __VA_ARGS__)

static void on_cell(void *text, size_t n, void *user)
{
    struct cells *c = user;
    if (c->n < COLUMNS_MAX) {
        c->long_cell |= n >= CELL_MAX;
        const size_t kept = n < CELL_MAX ? n : CELL_MAX - 1;
        memcpy(c->text[c->n], text, kept);
        c->text[c->n][kept] = 0;
    }
    c->n++;
}

static void on_end(int end, void *user)
{
    (void)end;
    ((struct cells *)user)->ended = true;
}

/* Splits a line that may have its line end into r->cells. */
static enum status split(struct table_reader *r, char *line, size_t n)
{
    r->cells.n = 0;
    r->cells.ended = r->cells.long_cell = false;
    if (n == 0 || line[n - 1] != '\n')
        return COMPLAIN(r, "expected a line end, found the end of the file: it is truncated");
    if (csv_parse(&r->csv, line, n, on_cell, on_end, &r->cells) != n || !r->cells.ended)
        return COMPLAIN(r, "expected comma-separated fields, found a stray or an open double quote");
    if (r->cells.n > COLUMNS_MAX)
        return COMPLAIN(r, "expected at most %d columns, found %d", COLUMNS_MAX, r->cells.n);
    return STATUS_OK;
}

static bool is_column(struct wanted *w, const char *cell)
{
    const size_t n = strlen(w->name);
    if (strcmp(cell, w->name) == 0 || (w->other && strcmp(cell, w->other) == 0))
        return true;
    if (!w->stem || strncmp(cell, w->name, n) != 0 || cell[n] != '_')
        return false;
    snprintf(w->unit, sizeof w->unit, "%.23s", cell + n + 1);
    return true;
}

static enum status find_columns(struct table_reader *r, struct table *t)
{
    t->n_columns = r->cells.n;
    for (int k = 0; k < t->n_wanted; k++) {
        struct wanted *w = &t->wanted[k];
        w->index = -1;
        for (int i = r->cells.n - 1; i >= 0; i--)
            if (is_column(w, r->cells.text[i]))
                w->index = i;
        if (w->index < 0 && !w->optional)
            return COMPLAIN(r, "expected a column '%s', found '%s'%s", w->name, r->cells.n ? r->cells.text[0] : "",
                            r->cells.n > 1 ? " and others" : "");
    }
    return STATUS_OK;
}

static enum status cell_number(struct table_reader *r, const struct wanted *w, double *out)
{
    const char *cell = r->cells.text[w->index];
    char *end = NULL;
    const double v = strtod(cell, &end);
    *out = NAN;
    if (*cell == 0 && w->optional)
        return STATUS_OK;
    if (end == cell || *end || !(v > 0) || !isfinite(v))
        return COMPLAIN(r, "'%s': expected a number above 0, found '%.40s'", w->name, cell);
    *out = v;
    return STATUS_OK;
}

static enum status add_row(struct table_reader *r, struct table *t)
{
    struct table_row row = {.value = {NAN, NAN, NAN}};
    enum status s = STATUS_OK;
    int n = 0;
    if (r->cells.n != t->n_columns)
        return COMPLAIN(r, "expected %d columns, found %d", t->n_columns, r->cells.n);
    if (t->n == ROWS_MAX)
        return COMPLAIN(r, "expected at most %d rows, found more", ROWS_MAX);
    for (int k = 0; s == STATUS_OK && k < t->n_wanted; k++) {
        const struct wanted *w = &t->wanted[k];
        if (w->text && w->index >= 0)
            memcpy(row.label, r->cells.text[w->index], CELL_MAX);
        else if (!w->text && ++n && w->index >= 0)
            s = cell_number(r, w, &row.value[n - 1]);
    }
    if (s == STATUS_OK && t->n == t->room) {
        const int room = t->room ? 2 * t->room : 64;
        struct table_row *grown = realloc(t->row, (size_t)room * sizeof *grown);
        if (!grown)
            return error_errno(r->err, ENOMEM, "%s", r->path);
        t->row = grown;
        t->room = room;
    }
    if (s == STATUS_OK)
        t->row[t->n++] = row;
    return s;
}

/* Lines that begin with '#' and empty lines carry no data. */
static enum status read_lines(struct table_reader *r, FILE *file, struct table *t)
{
    enum status s = STATUS_OK;
    char *line = NULL;
    size_t room = 0;
    ssize_t n;
    bool header = false;
    errno = 0;
    while (s == STATUS_OK && (n = getline(&line, &room, file)) > 0) {
        r->line++;
        if (*line == '#' || strspn(line, " \t\r\n") == (size_t)n)
            continue;
        s = split(r, line, (size_t)n);
        if (s == STATUS_OK)
            s = header ? add_row(r, t) : find_columns(r, t);
        header = true;
    }
    if (s == STATUS_OK && ferror(file))
        s = error_errno(r->err, errno, "%s: reading", r->path);
    if (s == STATUS_OK && t->n == 0)
        s = error_at(r->err, STATUS_INVALID, r->path, r->line, "expected %s, found none", header ? "rows" : "a header row");
    free(line);
    return s;
}

/* The caller frees t->row. */
static enum status read_table(struct table *t, const char *path, struct error *err)
{
    struct table_reader *r = calloc(1, sizeof *r);
    FILE *file = fopen(path, "re");
    enum status s = STATUS_OK;
    if (!r || !file) {
        s = error_errno(err, r ? errno : ENOMEM, "%s", path);
        goto out;
    }
    r->path = path;
    r->err = err;
    csv_init(&r->csv, CSV_STRICT);
    s = read_lines(r, file, t);
    csv_free(&r->csv);
out:
    if (file)
        fclose(file);
    free(r);
    return s;
}

/* -- series: rows with the same label ---------------------------------------------------------------------------------- */

struct series {
    int n;
    bool merged; /* there are more labels than a legend can hold: all rows are one series */
    char name[SERIES_MAX][LABEL_SHOWN + 4];
    char label[SERIES_MAX][CELL_MAX];
};

static int series_of(struct series *s, const char *label)
{
    int i = 0;
    while (i < s->n && strcmp(s->label[i], label) != 0)
        i++;
    if (s->merged || i == SERIES_MAX) {
        s->merged = true;
        return 0;
    }
    if (i == s->n) {
        snprintf(s->label[s->n], CELL_MAX, "%s", label);
        snprintf(s->name[s->n++], sizeof s->name[0], strlen(label) > LABEL_SHOWN ? "%.*s..." : "%.*s", LABEL_SHOWN, label);
    }
    return i;
}

static void collect_series(struct series *s, const struct table *t)
{
    memset(s, 0, sizeof *s);
    for (int i = 0; i < t->n; i++)
        series_of(s, t->row[i].label);
    if (s->merged) {
        s->n = 1;
        snprintf(s->name[0], sizeof s->name[0], "%d cases", t->n);
    }
}

static void write_series_names(struct figure *f, const struct series *s)
{
    const char *names[SERIES_MAX];
    for (int i = 0; i < s->n; i++)
        names[i] = s->name[i];
    figure_texts(f, "SERIES", s->n, names);
}

/* Lowest and highest of column c; false if there is none. */
static bool range_of(const struct table *t, int c, double *low, double *high)
{
    bool any = false;
    for (int i = 0; i < t->n; i++) {
        const double v = t->row[i].value[c];
        if (isnan(v))
            continue;
        *low = any && *low < v ? *low : v;
        *high = any && *high > v ? *high : v;
        any = true;
    }
    return any;
}

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
    range_of(t, 0, &low, &high);
    range_of(t, 1, &other_low, &other_high);
    low = other_low < low ? other_low : low;
    high = other_high > high ? other_high : high;
    const bool logarithmic = high > 20 * low;
    write_series_names(f, s);
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
    enum status status = read_table(&t, csv_path, err);
    if (status == STATUS_OK && strcmp(unit_name(t.wanted[1].unit), unit_name(t.wanted[2].unit)) != 0)
        status = error_at(err, STATUS_INVALID, csv_path, 0, "expected predicted and measured in one unit, found %s and %s",
                          unit_name(t.wanted[1].unit), unit_name(t.wanted[2].unit));
    if (status == STATUS_OK) {
        collect_series(&s, &t);
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
    range_of(t, 0, &low, &high);
    range_of(t, 1, &ylow, &top);
    const bool measured = range_of(t, 2, &mlow, &mtop);
    top = measured && mtop > top ? mtop : top;
    ylow = measured && mlow < ylow ? mlow : ylow;
    for (int i = 0; i < t->n; i++) {
        const struct table_row *r = &t->row[i];
        fprintf(f->data, "%d %.9g %.9g ", 1 + series_of(s, r->label), r->value[0], r->value[1]);
        fprintf(f->data, isnan(r->value[2]) ? "NaN\n" : "%.9g\n", r->value[2]);
    }
    const bool log_x = high >= 4 * low, log_y = top > 50 * ylow;
    write_series_names(f, s);
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
    const enum status status = read_table(&t, csv_path, err);
    if (status == STATUS_OK) {
        collect_series(&s, &t); /* in the order of the file */
        struct table sorted = t;
        if (!s.merged)
            qsort(sorted.row, (size_t)sorted.n, sizeof *sorted.row, by_label_and_batch);
        write_throughput(f, &sorted, &s);
    }
    free(t.row);
    return status;
}
