/* table.h - small CSV tables for figures: columns found by name, numbers, and rows with the same label as series. */
#ifndef BALLAST_PLOTS_TABLE_H
#define BALLAST_PLOTS_TABLE_H

#include <stdbool.h>

#include "plots/figure.h"

enum { CELL_MAX = 96, SERIES_MAX = 20, LABEL_SHOWN = 40 };

/* A column by name: one of two spellings, or `stem`_UNIT if it is a stem. */
struct wanted {
    const char *name, *other;
    bool stem, optional, text;
    bool units;    /* may hold 8GiB, 12GB/s, 5us or 2x, all of one kind */
    int index;     /* in the file, -1 if absent */
    char unit[24]; /* after the stem; "B", "B/s", "FLOP/s", "s" or "x" where such were found: values are in it */
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

/* Fills t from its `wanted`. The caller frees t->row. */
enum status table_read(struct table *t, const char *path, struct error *err);
/* Lowest and highest of column c; false if there is none. */
bool table_range(const struct table *t, int c, double *low, double *high);

/* Rows with the same label. */
struct series {
    int n;
    bool merged; /* there are more labels than a legend can hold: all rows are one series */
    char name[SERIES_MAX][LABEL_SHOWN + 4];
    char label[SERIES_MAX][CELL_MAX];
};
void series_collect(struct series *s, const struct table *t); /* in the order of the file */
int series_of(struct series *s, const char *label);
void series_names(struct figure *f, const struct series *s); /* SERIES of the script */

#endif
