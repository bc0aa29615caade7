/* output.c - see output.h. */
#include "cli/output.h"

#include <csv.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/units.h"

static const char *const FORMAT_NAMES[] = {"md", "csv", "json", "jsonl"};

int output_format_parse(const char *name, enum output_format *out)
{
    for (int i = 0; i < 4; i++) {
        if (strcmp(name, FORMAT_NAMES[i]) == 0) {
            *out = (enum output_format)i;
            return 0;
        }
    }
    return -1;
}

const char *output_format_name(enum output_format f)
{
    return FORMAT_NAMES[f];
}

/* -- filling --------------------------------------------------------------------------------------------------------- */

void table_init(struct table *t)
{
    memset(t, 0, sizeof *t);
}

void table_free(struct table *t)
{
    for (size_t i = 0; i < t->n_cells; i++) {
        if (t->cell[i].kind == CELL_TEXT) {
            free(t->cell[i].as.text);
        } else if (t->cell[i].kind == CELL_JSON) {
            json_decref(t->cell[i].as.json);
        }
    }
    free(t->cell);
    free(t->column);
    table_init(t);
}

/* Room for one more item; false when out of memory. */
static bool grow(void **items, size_t n, size_t *capacity, size_t item_bytes)
{
    if (n < *capacity) {
        return true;
    }
    size_t wanted = *capacity ? *capacity * 2 : 16;
    void *grown = realloc(*items, wanted * item_bytes);
    if (!grown) {
        return false;
    }
    *items = grown;
    *capacity = wanted;
    return true;
}

static void fail(struct table *t, enum status status)
{
    if (t->failed == STATUS_OK) {
        t->failed = status;
    }
}

void table_column(struct table *t, const char *name, enum column_kind kind)
{
    void *columns = t->column;
    if (!grow(&columns, t->n_columns, &t->cap_columns, sizeof *t->column)) {
        fail(t, STATUS_RUNTIME);
        return;
    }
    t->column = columns;
    struct table_column *c = &t->column[t->n_columns++];
    snprintf(c->name, sizeof c->name, "%s", name);
    c->kind = kind;
}

/* The next cell, empty; NULL once the table has failed. */
static struct table_cell *next_cell(struct table *t)
{
    void *cells = t->cell;
    if (t->failed != STATUS_OK) {
        return NULL;
    }
    if (t->n_columns == 0 || !grow(&cells, t->n_cells, &t->cap_cells, sizeof *t->cell)) {
        fail(t, STATUS_RUNTIME);
        return NULL;
    }
    t->cell = cells;
    struct table_cell *c = &t->cell[t->n_cells++];
    memset(c, 0, sizeof *c);
    return c;
}

void table_empty(struct table *t)
{
    (void)next_cell(t);
}

void table_text(struct table *t, const char *text)
{
    char *copy = text ? strdup(text) : NULL;
    if (text && !copy) {
        fail(t, STATUS_RUNTIME);
        return;
    }
    struct table_cell *c = next_cell(t);
    if (!c) {
        free(copy);
    } else if (copy) {
        c->kind = CELL_TEXT;
        c->as.text = copy;
    }
}

void table_int(struct table *t, int64_t value)
{
    struct table_cell *c = next_cell(t);
    if (c) {
        c->kind = CELL_INT;
        c->as.integer = value;
    }
}

void table_number(struct table *t, double value)
{
    struct table_cell *c = next_cell(t);
    if (c && isfinite(value)) {
        c->kind = CELL_NUMBER;
        c->as.number = value;
    }
}

void table_json(struct table *t, json_t *value)
{
    struct table_cell *c = next_cell(t);
    if (!c) {
        json_decref(value);
    } else if (value) {
        c->kind = CELL_JSON;
        c->as.json = value;
    }
}

/* -- cells as text --------------------------------------------------------------------------------------------------- */

static size_t rows(const struct table *t)
{
    return t->n_columns ? t->n_cells / t->n_columns : 0;
}

static const struct table_cell *cell_at(const struct table *t, size_t row, size_t column)
{
    return &t->cell[row * t->n_columns + column];
}

void number_exact(double value, char *buf, size_t n)
{
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(buf, n, "%.*g", digits, value);
        if (strtod(buf, NULL) == value) {
            return;
        }
    }
}

char *number_up(double value, int digits, char *buf, size_t n)
{
    snprintf(buf, n, "%.*g", digits, value);
    if (strtod(buf, NULL) < value) {
        snprintf(buf, n, "%.*g", digits, strtod(buf, NULL) + pow(10, floor(log10(fabs(value))) + 1 - digits));
    }
    return buf;
}

/* "12.3 GFLOP": units.h knows rates, so the same with the "/s" cut off. */
static void format_flops(double value, char *buf, size_t n)
{
    units_format(value, UNIT_FLOPS_PER_S, buf, n);
    char *per_second = strstr(buf, "/s");
    if (per_second) {
        *per_second = '\0';
    }
}

static void format_for_people(enum column_kind kind, double value, char *buf, size_t n)
{
    switch (kind) {
    case COLUMN_BYTES:
        units_format(value, UNIT_BYTES, buf, n);
        break;
    case COLUMN_SECONDS:
        units_format(value, UNIT_SECONDS, buf, n);
        break;
    case COLUMN_BYTES_PER_S:
        units_format(value, UNIT_BYTES_PER_S, buf, n);
        break;
    case COLUMN_FLOPS:
        format_flops(value, buf, n);
        break;
    case COLUMN_BOUND:
    case COLUMN_GAP:
        number_up(value, kind == COLUMN_BOUND ? 5 : 2, buf, n);
        break;
    case COLUMN_TEXT:
    case COLUMN_INT:
    case COLUMN_NUMBER:
        snprintf(buf, n, "%.5g", value);
        break;
    }
}

/* A cell as text; uses buf unless the cell is text itself. */
static const char *cell_text(const struct table_cell *c, enum column_kind kind, bool for_people, char *buf, size_t n)
{
    buf[0] = '\0';
    switch (c->kind) {
    case CELL_TEXT:
        return c->as.text;
    case CELL_INT:
        if (for_people && kind != COLUMN_INT && kind != COLUMN_TEXT) {
            format_for_people(kind, (double)c->as.integer, buf, n);
        } else {
            snprintf(buf, n, "%lld", (long long)c->as.integer);
        }
        break;
    case CELL_NUMBER:
        if (for_people) {
            format_for_people(kind, c->as.number, buf, n);
        } else {
            number_exact(c->as.number, buf, n);
        }
        break;
    case CELL_EMPTY:
    case CELL_JSON:
        break;
    }
    return buf;
}

/* A column that holds values for JSON only is left out elsewhere. */
static bool json_only_column(const struct table *t, size_t column)
{
    for (size_t r = 0; r < rows(t); r++) {
        if (cell_at(t, r, column)->kind == CELL_JSON) {
            return true;
        }
    }
    return false;
}

/* -- Markdown -------------------------------------------------------------------------------------------------------- */

/* Characters on screen: bytes that do not continue a UTF-8 sequence, and one more for each escaped bar. */
static int width(const char *text)
{
    int w = 0;
    for (; *text; text++) {
        w += ((unsigned char)*text & 0xC0) != 0x80;
        w += *text == '|';
    }
    return w;
}

static void put_padded(FILE *out, const char *text, int columns, bool right)
{
    int padding = columns - width(text);
    fprintf(out, "| %*s", right && padding > 0 ? padding : 0, "");
    for (const char *p = text; *p; p++) {
        if (*p == '|') {
            fputc('\\', out);
        }
        fputc(*p == '\n' ? ' ' : *p, out);
    }
    fprintf(out, "%*s ", !right && padding > 0 ? padding : 0, "");
}

static void put_rule(FILE *out, int columns, bool right)
{
    fputc('|', out);
    for (int i = 0; i < columns + 1; i++) {
        fputc('-', out);
    }
    fputc(right ? ':' : '-', out);
}

static int column_width(const struct table *t, size_t column)
{
    char buf[64];
    int widest = width(t->column[column].name);
    for (size_t r = 0; r < rows(t); r++) {
        int w = width(cell_text(cell_at(t, r, column), t->column[column].kind, true, buf, sizeof buf));
        widest = w > widest ? w : widest;
    }
    return widest < 3 ? 3 : widest;
}

static enum status write_md(const struct table *t, FILE *out)
{
    char buf[64];
    int *widths = calloc(t->n_columns, sizeof *widths); /* 0: left out */
    if (!widths) {
        return STATUS_RUNTIME;
    }
    for (size_t c = 0; c < t->n_columns; c++) {
        widths[c] = json_only_column(t, c) ? 0 : column_width(t, c);
    }
    for (size_t c = 0; c < t->n_columns; c++) {
        if (widths[c]) {
            put_padded(out, t->column[c].name, widths[c], t->column[c].kind != COLUMN_TEXT);
        }
    }
    fprintf(out, "|\n");
    for (size_t c = 0; c < t->n_columns; c++) {
        if (widths[c]) {
            put_rule(out, widths[c], t->column[c].kind != COLUMN_TEXT);
        }
    }
    fprintf(out, "|\n");
    for (size_t r = 0; r < rows(t); r++) {
        for (size_t c = 0; c < t->n_columns; c++) {
            if (widths[c]) {
                enum column_kind kind = t->column[c].kind;
                put_padded(out, cell_text(cell_at(t, r, c), kind, true, buf, sizeof buf), widths[c], kind != COLUMN_TEXT);
            }
        }
        fprintf(out, "|\n");
    }
    free(widths);
    return STATUS_OK;
}

/* One row as a table of its columns. */
static enum status write_md_one(const struct table *t, FILE *out)
{
    char buf[64];
    struct table turned;
    table_init(&turned);
    table_column(&turned, "quantity", COLUMN_TEXT);
    table_column(&turned, "value", COLUMN_TEXT);
    for (size_t c = 0; c < t->n_columns; c++) {
        const struct table_cell *cell = cell_at(t, 0, c);
        if (cell->kind != CELL_EMPTY && cell->kind != CELL_JSON) {
            table_text(&turned, t->column[c].name);
            table_text(&turned, cell_text(cell, t->column[c].kind, true, buf, sizeof buf));
        }
    }
    enum status status = turned.failed == STATUS_OK ? write_md(&turned, out) : turned.failed;
    table_free(&turned);
    return status;
}

/* -- CSV ------------------------------------------------------------------------------------------------------------- */

void csv_cell(FILE *out, const char *text, bool first)
{
    if (!first) {
        fputc(',', out);
    }
    if (strpbrk(text, ",\"\r\n")) {
        csv_fwrite(out, text, strlen(text));
    } else {
        fputs(text, out);
    }
}

static void write_csv(const struct table *t, FILE *out)
{
    char buf[64];
    bool first = true;
    for (size_t c = 0; c < t->n_columns; c++) {
        if (!json_only_column(t, c)) {
            csv_cell(out, t->column[c].name, first);
            first = false;
        }
    }
    fputc('\n', out);
    for (size_t r = 0; r < rows(t); r++) {
        first = true;
        for (size_t c = 0; c < t->n_columns; c++) {
            if (!json_only_column(t, c)) {
                csv_cell(out, cell_text(cell_at(t, r, c), t->column[c].kind, false, buf, sizeof buf), first);
                first = false;
            }
        }
        fputc('\n', out);
    }
}

/* -- JSON ------------------------------------------------------------------------------------------------------------ */

static json_t *cell_json(const struct table_cell *c)
{
    switch (c->kind) {
    case CELL_TEXT:
        return json_string(c->as.text);
    case CELL_INT:
        return json_integer(c->as.integer);
    case CELL_NUMBER:
        return json_real(c->as.number);
    case CELL_JSON:
        return json_incref(c->as.json);
    case CELL_EMPTY:
        break;
    }
    return json_null();
}

/* Sets object["a"]["b"]["c"] for the name "a.b.c"; takes `value`; -1 when out of memory. */
static int set_nested(json_t *object, const char *name, json_t *value)
{
    char key[64];
    const char *dot;
    while ((dot = strchr(name, '.')) != NULL) {
        snprintf(key, sizeof key, "%.*s", (int)(dot - name), name);
        json_t *child = json_object_get(object, key);
        if (!child) {
            child = json_object();
            if (json_object_set_new(object, key, child) != 0) {
                json_decref(value);
                return -1;
            }
        }
        object = child;
        name = dot + 1;
    }
    return json_object_set_new(object, name, value);
}

static json_t *row_json(const struct table *t, size_t row)
{
    json_t *object = json_object();
    for (size_t c = 0; object && c < t->n_columns; c++) {
        if (set_nested(object, t->column[c].name, cell_json(cell_at(t, row, c))) != 0) {
            json_decref(object);
            object = NULL;
        }
    }
    return object;
}

json_t *table_rows_json(const struct table *t)
{
    json_t *array = t->failed == STATUS_OK ? json_array() : NULL;
    for (size_t r = 0; array && r < rows(t); r++) {
        if (json_array_append_new(array, row_json(t, r)) != 0) {
            json_decref(array);
            array = NULL;
        }
    }
    return array;
}

/* Takes `value`; NULL means that memory ran out. */
static enum status dump(json_t *value, size_t flags, FILE *out)
{
    if (!value) {
        return STATUS_RUNTIME;
    }
    int failed = json_dumpf(value, out, flags | JSON_REAL_PRECISION(17));
    fputc('\n', out);
    json_decref(value);
    return failed ? STATUS_RUNTIME : STATUS_OK;
}

static enum status write_jsonl(const struct table *t, FILE *out)
{
    enum status status = STATUS_OK;
    for (size_t r = 0; status == STATUS_OK && r < rows(t); r++) {
        status = dump(row_json(t, r), JSON_COMPACT, out);
    }
    return status;
}

/* -- writing --------------------------------------------------------------------------------------------------------- */

static enum status finish(enum status status, FILE *out, struct error *err)
{
    if (status != STATUS_OK) {
        return error_set(err, STATUS_RUNTIME, "cannot write the results: out of memory");
    }
    if (fflush(out) != 0 || ferror(out)) {
        return error_set(err, STATUS_RUNTIME, "cannot write the results: output error");
    }
    return STATUS_OK;
}

static enum status write_rows(const struct table *t, enum output_format format, FILE *out)
{
    switch (format) {
    case OUTPUT_MD:
        return write_md(t, out);
    case OUTPUT_CSV:
        write_csv(t, out);
        return STATUS_OK;
    case OUTPUT_JSON:
        return dump(table_rows_json(t), JSON_INDENT(2), out);
    case OUTPUT_JSONL:
        return write_jsonl(t, out);
    }
    return STATUS_RUNTIME;
}

enum status table_write(const struct table *t, enum output_format format, FILE *out, struct error *err)
{
    return finish(t->failed == STATUS_OK ? write_rows(t, format, out) : t->failed, out, err);
}

enum status table_write_one(const struct table *t, enum output_format format, FILE *out, struct error *err)
{
    enum status status = t->failed;
    if (status == STATUS_OK && format == OUTPUT_MD) {
        status = write_md_one(t, out);
    } else if (status == STATUS_OK && format == OUTPUT_JSON) {
        status = dump(row_json(t, 0), JSON_INDENT(2), out);
    } else if (status == STATUS_OK) {
        status = write_rows(t, format, out);
    }
    return finish(status, out, err);
}
