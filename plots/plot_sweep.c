/* plot_sweep.c - figures of any table's columns, such as a sweep's: lines and heat maps. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plots/table.h"

enum { GRID_MAX = 200, TICKS_MAX = 24, TEXT_MAX = 24 };

/* -- names and units -------------------------------------------------------------------------------------------------------- */

struct quantity {
    double scale; /* value / scale is shown */
    char label[96];
};

static bool ends(const char *name, const char *suffix, int *stem)
{
    const size_t n = strlen(name), k = strlen(suffix);
    *stem = (int)(n - (n < k ? n : k));
    return n > k && strcmp(name + n - k, suffix) == 0;
}

/* What cells with a unit are shown in. */
static const struct {
    const char *unit, *shown;
    double scale;
} shown_units[] = {{"B", "GiB", 1 << 30},
                   {"B/s", "GB/s", 1e9},
                   {"FLOP/s", "TFLOP/s", 1e12},
                   {"s", "us", 1e-6},
                   {"x", "times", 1}};

/* A field of the machine, without the option that changed it. */
static const char *bare_name(const char *name)
{
    static const char option[] = "hardware-set ";
    return strncmp(name, option, sizeof option - 1) == 0 ? name + sizeof option - 1 : name;
}

/* "throughput (tok/s)" for throughput_tok_s, "latency (s)" for latency_s, "peak ram (GiB)" for peak_bytes.ram. */
static struct quantity quantity_of(const struct wanted *w)
{
    struct quantity q = {.scale = 1};
    int stem;
    if (ends(w->name, "_tok_s", &stem))
        snprintf(q.label, sizeof q.label, "%.*s (tok/s)", stem, w->name);
    else if (ends(w->name, "_s", &stem))
        snprintf(q.label, sizeof q.label, "%.*s (s)", stem, w->name);
    else if (strncmp(w->name, "busy_s.", 7) == 0)
        snprintf(q.label, sizeof q.label, "busy %s (s)", w->name + 7);
    else if (strncmp(w->name, "peak_bytes.", 11) == 0) {
        q.scale = 1 << 30;
        snprintf(q.label, sizeof q.label, "peak %s (GiB)", w->name + 11);
    } else
        snprintf(q.label, sizeof q.label, "%s", w->name);
    for (size_t i = 0; i < sizeof shown_units / sizeof *shown_units; i++)
        if (strcmp(w->unit, shown_units[i].unit) == 0) {
            q.scale = shown_units[i].scale;
            snprintf(q.label, sizeof q.label, "%s (%s)", bare_name(w->name), shown_units[i].shown);
        }
    return q;
}

static const char *or_default(const char *name, const char *otherwise)
{
    return name ? name : otherwise;
}

static struct wanted number_column(const char *name)
{
    return (struct wanted){.name = name, .optional = true, .units = true};
}

/* Optional columns, so that an empty cell is no error; but the columns must be there. */
static enum status read_columns(struct table *t, const char *path, struct error *err)
{
    enum status s = table_read(t, path, err);
    for (int k = 0; k < t->n_wanted && s == STATUS_OK; k++)
        if (t->wanted[k].index < 0)
            s = error_at(err, STATUS_INVALID, path, 1, "expected a column '%s', found none", t->wanted[k].name);
    return s;
}

/* -- line ------------------------------------------------------------------------------------------------------------------- */

static int by_label_and_x(const void *a, const void *b)
{
    const struct table_row *x = a, *y = b;
    const int order = strcmp(x->label, y->label);
    if (order)
        return order;
    return x->value[0] < y->value[0] ? -1 : x->value[0] > y->value[0];
}

static void drop_empty(struct table *t)
{
    int n = 0;
    for (int i = 0; i < t->n; i++)
        if (!isnan(t->row[i].value[0]) && !isnan(t->row[i].value[1]))
            t->row[n++] = t->row[i];
    t->n = n;
}

/* Neighbours of one label and x averaged into the first; how many went into one at most. */
static int average(struct table *t)
{
    int n = 0, most = 0, same = 0;
    for (int i = 0; i < t->n; i++) {
        const struct table_row *r = &t->row[i];
        if (n > 0 && by_label_and_x(&t->row[n - 1], r) == 0) {
            t->row[n - 1].value[1] += (r->value[1] - t->row[n - 1].value[1]) / ++same;
        } else {
            t->row[n++] = *r;
            same = 1;
        }
        most = same > most ? same : most;
    }
    t->n = n;
    return most;
}

static void put_axis(struct figure *f, const char *name, const struct quantity *q, double low, double high, bool logarithmic)
{
    char var[16];
    snprintf(var, sizeof var, "%slabel", name);
    figure_text(f, var, "%s", q->label);
    snprintf(var, sizeof var, "log%s", name);
    figure_number(f, var, logarithmic);
    snprintf(var, sizeof var, "%slo", name);
    figure_number(f, var, logarithmic ? low / q->scale / 1.15 : 0);
    snprintf(var, sizeof var, "%shi", name);
    figure_number(f, var, high / q->scale * (logarithmic ? 1.15 : 1.08));
}

static enum status write_line(struct figure *f, struct table *t, const char *path, struct error *err)
{
    const struct quantity x = quantity_of(&t->wanted[0]), y = quantity_of(&t->wanted[1]);
    struct series s;
    double xlo = 1, xhi = 1, ylo = 1, yhi = 1;
    for (int i = 0; i < t->n && t->n_wanted < 3; i++)
        t->row[i].label[0] = 0;
    drop_empty(t);
    series_collect(&s, t); /* in the order of the file */
    if (!s.merged)
        qsort(t->row, (size_t)t->n, sizeof *t->row, by_label_and_x);
    const int most = average(t);
    if (t->n == 0)
        return error_at(err, STATUS_INVALID, path, 0, "expected rows with numbers in '%s' and '%s', found none",
                        t->wanted[0].name, t->wanted[1].name);
    for (int i = 0; i < t->n; i++)
        fprintf(f->data, "%d %.9g %.9g\n", 1 + series_of(&s, t->row[i].label), t->row[i].value[0] / x.scale,
                t->row[i].value[1] / y.scale);
    table_range(t, 0, &xlo, &xhi);
    table_range(t, 1, &ylo, &yhi);
    series_names(f, &s);
    put_axis(f, "x", &x, xlo, xhi, xhi >= 16 * xlo);
    put_axis(f, "y", &y, ylo, yhi, yhi >= 50 * ylo);
    figure_text(f, "title", most > 1 ? "%s against %s (means of up to %d rows)" : "%s against %s", y.label, x.label, most);
    figure_text(f, "group", "%s", t->n_wanted > 2 ? t->wanted[2].name : "");
    figure_size(f, 1300, 700);
    return STATUS_OK;
}

enum status plot_line(struct figure *f, const char *csv_path, const char *second_csv, struct error *err)
{
    (void)second_csv;
    const struct plot_columns *c = f->columns;
    struct table t = {.n_wanted = c->group ? 3 : 2,
                      .wanted = {number_column(or_default(c->x, "gpu-batch-size")),
                                 number_column(or_default(c->y, "throughput_tok_s")),
                                 {.name = c->group, .text = true, .optional = true}}};
    enum status s = read_columns(&t, csv_path, err);
    if (s == STATUS_OK)
        s = write_line(f, &t, csv_path, err);
    free(t.row);
    return s;
}

/* -- heat map --------------------------------------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The different values of column c in order; n is GRID_MAX + 1 if there are more than a picture can show. */
static int different(const struct table *t, int c, double *out)
{
    int n = 0;
    for (int i = 0; i < t->n && n <= GRID_MAX; i++) {
        const double v = t->row[i].value[c];
        if (isnan(v) || bsearch(&v, out, (size_t)n, sizeof *out, by_value))
            continue;
        out[n++] = v;
        qsort(out, (size_t)n, sizeof *out, by_value);
    }
    return n;
}

static void put_ticks(struct figure *f, const char *name, const double *value, int n, double scale)
{
    char text[TICKS_MAX][TEXT_MAX], var[16];
    const char *texts[TICKS_MAX];
    const int step = (n + TICKS_MAX - 1) / TICKS_MAX;
    int shown = 0;
    for (int i = 0; i < n; i += step, shown++) {
        snprintf(text[shown], TEXT_MAX, "%.6g", value[i] / scale);
        texts[shown] = text[shown];
    }
    snprintf(var, sizeof var, "%sTICKS", name);
    figure_texts(f, var, shown, texts);
    snprintf(var, sizeof var, "%sstep", name);
    figure_number(f, var, step);
    snprintf(var, sizeof var, "%scount", name);
    figure_number(f, var, n);
}

struct grid {
    double x[GRID_MAX + 1], y[GRID_MAX + 1], sum[GRID_MAX][GRID_MAX];
    int nx, ny, n[GRID_MAX][GRID_MAX];
};

static int fill_grid(struct grid *g, const struct table *t)
{
    int most = 0;
    for (int i = 0; i < t->n; i++) {
        const double *v = t->row[i].value;
        if (isnan(v[0]) || isnan(v[1]) || isnan(v[2]))
            continue;
        const long ix = (double *)bsearch(&v[0], g->x, (size_t)g->nx, sizeof v[0], by_value) - g->x;
        const long iy = (double *)bsearch(&v[1], g->y, (size_t)g->ny, sizeof v[0], by_value) - g->y;
        g->sum[iy][ix] += v[2];
        g->n[iy][ix]++;
        most = g->n[iy][ix] > most ? g->n[iy][ix] : most;
    }
    return most;
}

static enum status write_heatmap(struct figure *f, const struct table *t, struct grid *g, const char *path, struct error *err)
{
    const struct quantity x = quantity_of(&t->wanted[0]), y = quantity_of(&t->wanted[1]), v = quantity_of(&t->wanted[2]);
    g->nx = different(t, 0, g->x);
    g->ny = different(t, 1, g->y);
    if (g->nx > GRID_MAX || g->ny > GRID_MAX)
        return error_at(err, STATUS_INVALID, path, 0, "expected at most %d different values of '%s', found more", GRID_MAX,
                        t->wanted[g->nx > GRID_MAX ? 0 : 1].name);
    const int most = fill_grid(g, t);
    if (most == 0)
        return error_at(err, STATUS_INVALID, path, 0, "expected rows with numbers in '%s', '%s' and '%s', found none",
                        t->wanted[0].name, t->wanted[1].name, t->wanted[2].name);
    for (int i = 0; i < g->ny; i++)
        for (int j = 0; j < g->nx; j++) {
            if (g->n[i][j])
                fprintf(f->data, "%d %d %.9g\n", j, i, g->sum[i][j] / g->n[i][j] / v.scale);
            else
                fprintf(f->data, "%d %d NaN\n", j, i);
        }
    put_ticks(f, "X", g->x, g->nx, x.scale);
    put_ticks(f, "Y", g->y, g->ny, y.scale);
    figure_text(f, "xlabel", "%s", x.label);
    figure_text(f, "ylabel", "%s", y.label);
    figure_text(f, "title", most > 1 ? "%s (means of up to %d rows)" : "%s", v.label, most);
    figure_size(f, 1200, 800);
    return STATUS_OK;
}

enum status plot_heatmap(struct figure *f, const char *csv_path, const char *second_csv, struct error *err)
{
    (void)second_csv;
    const struct plot_columns *c = f->columns;
    struct table t = {.n_wanted = 3,
                      .wanted = {number_column(or_default(c->x, "gpu-batch-size")),
                                 number_column(or_default(c->y, "workload.prompt_tokens")),
                                 number_column(or_default(c->value, "throughput_tok_s"))}};
    struct grid *g = calloc(1, sizeof *g);
    enum status s = g ? read_columns(&t, csv_path, err) : error_set(err, STATUS_RUNTIME, "%s: out of memory", csv_path);
    if (s == STATUS_OK)
        s = write_heatmap(f, &t, g, csv_path, err);
    free(t.row);
    free(g);
    return s;
}
