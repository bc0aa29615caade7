/* published.c - see published.h. */
#include "cli/published.h"

#include <csv.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/data.h"

enum { COLUMNS = 9 };

struct reader {
    struct published *p;
    int cells; /* of the current line */
    int line;
    char *cell[COLUMNS];
    bool failed; /* out of memory, or a line of another length */
};

static void on_cell(void *text, size_t n, void *user)
{
    struct reader *r = user;
    if (r->cells < COLUMNS) {
        r->cell[r->cells] = strndup(text ? text : "", n);
        r->failed |= !r->cell[r->cells];
    }
    r->cells++;
}

static void on_line(int end, void *user)
{
    struct reader *r = user;
    (void)end;
    r->failed |= r->cells != COLUMNS;
    struct published_row *grown = r->failed || r->line++ == 0 ? NULL : realloc(r->p->row, ((size_t)r->p->n + 1) * sizeof *grown);
    if (!grown) { /* the names, or a failure */
        r->failed |= r->line > 1;
        for (int i = 0; i < COLUMNS && i < r->cells; i++) {
            free(r->cell[i]);
        }
    } else {
        r->p->row = grown;
        struct published_row *row = &grown[r->p->n++];
        memcpy(row->cell, r->cell, sizeof row->cell);
        row->table = row->cell[0];
        row->system = row->cell[1];
        row->model = row->cell[2];
        row->prompt_tokens = row->cell[3];
        row->gen_tokens = row->cell[4];
        row->metric = row->cell[5];
        row->value = strtod(row->cell[6], NULL);
        row->flags = row->cell[7];
        row->note = row->cell[8];
    }
    memset(r->cell, 0, sizeof r->cell);
    r->cells = 0;
}

static void free_row(struct published_row *row)
{
    for (int i = 0; i < COLUMNS; i++) {
        free(row->cell[i]);
    }
}

/* FlexGen's tables 2 and 13 repeat the throughputs of others. */
static bool is_of(const struct published_row *row, const char *table)
{
    bool long_prompts = strcmp(row->table, "15") == 0 || strcmp(row->table, "16") == 0;
    if (strcmp(table, "2") == 0) {
        return long_prompts;
    }
    if (strcmp(table, "13") == 0) {
        return long_prompts || strcmp(row->table, "14") == 0;
    }
    return strcmp(row->table, table) == 0;
}

/* Leaves only the rows of `table`. */
static enum status choose(struct published *p, const char *paper, const char *table, struct error *err)
{
    char tables[200] = "";
    int kept = 0;
    for (int i = 0; i < p->n; i++) {
        size_t used = strlen(tables);
        if (i == 0 || strcmp(p->row[i].table, p->row[i - 1].table) != 0) {
            snprintf(tables + used, sizeof tables - used, "%s%s", used ? ", " : "", p->row[i].table);
        }
    }
    for (int i = 0; i < p->n; i++) {
        if (is_of(&p->row[i], table)) {
            struct published_row row = p->row[i];
            p->row[i] = p->row[kept];
            p->row[kept++] = row;
        }
    }
    for (int i = kept; i < p->n; i++) {
        free_row(&p->row[i]);
    }
    p->n = kept;
    return kept > 0
               ? STATUS_OK
               : error_set(err, STATUS_INVALID, "paper %s: expected one of its tables %s, found \"%s\"", paper, tables, table);
}

enum status published_load(struct published *p, const char *paper, const char *table, struct error *err)
{
    size_t n = 0;
    char names[200];
    const char *text = data_find("papers", paper, &n);
    struct reader r = {.p = p};
    struct csv_parser csv;
    enum status status = STATUS_OK;
    *p = (struct published){0};
    if (!text) {
        return error_set(err, STATUS_INVALID, "expected a paper (%s), found \"%s\"", data_names("papers", names, sizeof names),
                         paper);
    }
    csv_init(&csv, CSV_STRICT);
    bool whole = csv_parse(&csv, text, n, on_cell, on_line, &r) == n && csv_fini(&csv, on_cell, on_line, &r) == 0;
    csv_free(&csv);
    if (!whole || r.failed) {
        status = error_set(err, STATUS_RUNTIME, "papers/%s/published.csv: cannot be read at line %d", paper, r.line);
    }
    if (status == STATUS_OK && table) {
        status = choose(p, paper, table, err);
    }
    if (status != STATUS_OK) {
        published_free(p);
    }
    return status;
}

void published_free(struct published *p)
{
    for (int i = 0; i < p->n; i++) {
        free_row(&p->row[i]);
    }
    free(p->row);
    *p = (struct published){0};
}

void published_columns(struct table *t)
{
    table_column(t, "table", COLUMN_TEXT);
    table_column(t, "system", COLUMN_TEXT);
    table_column(t, "model", COLUMN_TEXT);
    table_column(t, "prompt", COLUMN_TEXT);
    table_column(t, "metric", COLUMN_TEXT);
    table_column(t, "published", COLUMN_NUMBER);
}

void published_cells(struct table *t, const struct published_row *row)
{
    table_text(t, row->table);
    table_text(t, row->system);
    table_text(t, row->model);
    table_text(t, row->prompt_tokens);
    table_text(t, row->metric);
    table_number(t, row->value);
}
