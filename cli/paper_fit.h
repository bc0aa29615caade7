/* paper_fit.h - the rates of FlexGen's machine and runtime, fitted to the rows that FlexGen published. */
#ifndef BALLAST_CLI_PAPER_FIT_H
#define BALLAST_CLI_PAPER_FIT_H

#include "cli/output.h"
#include "cli/published.h"
#include "cli/setting.h"

/* What a row's metric is for a prediction or a simulation. */
double published_metric(const char *metric, const struct setting *s, double prefill_s, double decode_s);
/* Opens the setting that a row's flags describe, on `hardware`. */
enum status published_open(const struct published_row *row, const char *hardware, struct setting *s, bool *fits,
                           struct error *err);

/* Fits and prints the rates, the error in sample, and the error on each table when it is left out. Writes the profile to `path` unless that is
 * NULL. Which rows count: papers/flexgen/README.md. */
enum status paper_fit(const struct published *p, const char *path, enum output_format format, struct error *err);

#endif
