/* published.h - the rows of a paper's tables (papers/<name>/published.csv), built into the binary. */
#ifndef BALLAST_CLI_PUBLISHED_H
#define BALLAST_CLI_PUBLISHED_H

#include <stdint.h>

#include "cli/output.h"
#include "model/error.h"

struct published_row {
    char *cell[9]; /* owned; in the order of the columns */
    const char *table, *system, *model, *prompt_tokens, *gen_tokens, *metric, *flags, *note;
    double value;
};

struct published {
    int n;
    struct published_row *row;
};

/* The rows of one table, or of all if `table` is NULL. An unknown paper or table is an error that lists those that are there. */
enum status published_load(struct published *p, const char *paper, const char *table, struct error *err);
void published_free(struct published *p); /* a zeroed struct is fine */

/* What a table about such rows begins with: which row, and what is published. */
void published_columns(struct table *t);
void published_cells(struct table *t, const struct published_row *row);

#endif
