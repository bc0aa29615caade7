/* table.c - see table.h. */
#include "plots/table.h"

#include <csv.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/units.h"

enum { COLUMNS_MAX = 256, ROWS_MAX = 1000000 };

/* -- reading ---------------------------------------------------------------------------------------------------------- */

struct cells {
    int n;
    bool ended;
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
    r->cells.ended = false;
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

/* A number with a unit, or a factor ("2x"): its value in SI and the unit's name, or NULL. */
static const char *parse_quantity(const char *cell, double *value)
{
    static const struct {
        enum unit_kind kind;
        const char *name;
    } kinds[] = {{UNIT_BYTES, "B"}, {UNIT_BYTES_PER_S, "B/s"}, {UNIT_FLOPS_PER_S, "FLOP/s"}, {UNIT_SECONDS, "s"}};
    char *end;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (units_parse(cell, kinds[i].kind, value) == 0)
            return kinds[i].name;
    *value = strtod(cell, &end);
    return end != cell && strcmp(end, "x") == 0 ? "x" : NULL;
}

static enum status cell_number(struct table_reader *r, struct wanted *w, double *out)
{
    const char *cell = r->cells.text[w->index];
    char *end = NULL;
    double v = strtod(cell, &end);
    *out = NAN;
    if (*cell == 0 && w->optional)
        return STATUS_OK;
    const char *unit = w->units && *end ? parse_quantity(cell, &v) : NULL;
    if (unit && w->unit[0] && strcmp(w->unit, unit) != 0)
        return COMPLAIN(r, "'%s': expected values in %s as before, found '%.40s'", w->name, w->unit, cell);
    if (unit) {
        snprintf(w->unit, sizeof w->unit, "%s", unit);
        end = (char *)"";
    }
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
        struct wanted *w = &t->wanted[k];
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

enum status table_read(struct table *t, const char *path, struct error *err)
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

int series_of(struct series *s, const char *label)
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

void series_collect(struct series *s, const struct table *t)
{
    memset(s, 0, sizeof *s);
    for (int i = 0; i < t->n; i++)
        series_of(s, t->row[i].label);
    if (s->merged) {
        s->n = 1;
        snprintf(s->name[0], sizeof s->name[0], "%d cases", t->n);
    }
}

void series_names(struct figure *f, const struct series *s)
{
    const char *names[SERIES_MAX];
    for (int i = 0; i < s->n; i++)
        names[i] = s->name[i];
    figure_texts(f, "SERIES", s->n, names);
}

bool table_range(const struct table *t, int c, double *low, double *high)
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
