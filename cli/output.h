/* output.h - results as rows of named columns, written as Markdown for people or as CSV, JSON or JSON lines for programs.
 *
 *     table_column(&t, "model", COLUMN_TEXT);          once per column
 *     table_column(&t, "peak_bytes.ram", COLUMN_BYTES);
 *     table_text(&t, "opt-30b");                       then the cells, row after row, in the order of the columns
 *     table_number(&t, 12e9);
 *     status = table_write(&t, OUTPUT_JSON, stdout, err);
 *
 * A dot in a name nests in JSON: {"model": "opt-30b", "peak_bytes": {"ram": 12000000000}}. Programs get SI numbers with full
 * precision; people get "11.2 GiB". The first failure (memory, a cell of the wrong kind) sticks and comes out of table_write.
 */
#ifndef BALLAST_CLI_OUTPUT_H
#define BALLAST_CLI_OUTPUT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "model/error.h"

enum output_format { OUTPUT_MD, OUTPUT_CSV, OUTPUT_JSON, OUTPUT_JSONL };
int output_format_parse(const char *name, enum output_format *out); /* 0, or -1 if the name is unknown */
const char *output_format_name(enum output_format f);

/* What is never shown below what it is: in the fewest of so many digits, the last of them rounded up. Returns buf. */
char *number_up(double value, int digits, char *buf, size_t n);

/* The shortest of 15 to 17 digits that reads back as the same double. */
void number_exact(double value, char *buf, size_t n);

/* One cell, quoted if it has to be, behind a comma unless it is a row's first. */
void csv_cell(FILE *out, const char *text, bool first);

/* What a cell holds and how Markdown shows it: a BOUND in five digits as other numbers, a GAP in two,
 * both rounded up. All but TEXT and INT are doubles; BYTES may also be written with table_int. */
enum column_kind {
    COLUMN_TEXT,
    COLUMN_INT,
    COLUMN_NUMBER,
    COLUMN_BOUND,
    COLUMN_GAP,
    COLUMN_BYTES,
    COLUMN_SECONDS,
    COLUMN_BYTES_PER_S,
    COLUMN_FLOPS
};

struct table_column {
    char name[64];
    enum column_kind kind;
};

enum cell_kind { CELL_EMPTY, CELL_TEXT, CELL_INT, CELL_NUMBER, CELL_JSON };

struct table_cell {
    enum cell_kind kind;
    union {
        char *text;
        int64_t integer;
        double number;
        json_t *json;
    } as;
};

struct table {
    size_t n_columns, cap_columns, n_cells, cap_cells; /* rows = n_cells / n_columns */
    struct table_column *column;                       /* owned */
    struct table_cell *cell;                           /* (rows, n_columns) owned */
    enum status failed;
};

void table_init(struct table *t); /* no columns, no rows */
void table_free(struct table *t); /* a zeroed struct is fine */

void table_column(struct table *t, const char *name, enum column_kind kind); /* before the first cell */
void table_text(struct table *t, const char *text);                          /* copied; NULL: empty */
void table_int(struct table *t, int64_t value);
void table_number(struct table *t, double value); /* NaN or infinite: empty (null in JSON) */
void table_empty(struct table *t);
/* A value for JSON only; other formats leave the column out. Takes over the reference; NULL: empty. */
void table_json(struct table *t, json_t *value);

/* All rows: Markdown table, CSV with a header row, JSON array of objects, or one object a line. */
enum status table_write(const struct table *t, enum output_format format, FILE *out, struct error *err);
/* A table of exactly one row: Markdown "quantity | value" lines, JSON a bare object, the rest as table_write. */
enum status table_write_one(const struct table *t, enum output_format format, FILE *out, struct error *err);
/* The array of objects, to put inside another value; NULL when out of memory. */
json_t *table_rows_json(const struct table *t);

#endif
