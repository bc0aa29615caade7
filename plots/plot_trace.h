/* plot_trace.h - one or two traces for a figure: the predicted one first, names merged over both. */
#ifndef BALLAST_PLOTS_PLOT_TRACE_H
#define BALLAST_PLOTS_PLOT_TRACE_H

#include "traces/trace.h"

struct trace_pair {
    int n;
    struct trace trace[2];
    const char *role[2]; /* "predicted", "measured"; the file names if both are of one origin */
};

/* Reads one or two files; the caller frees the pair, also after a failure. */
enum status trace_pair_load(struct trace_pair *p, const char *csv_path, const char *second_csv, struct error *err);
void trace_pair_free(struct trace_pair *p);

enum { NAMES_MAX = 64 };

/* Different names in the order in which they were first seen. */
struct names {
    int n;
    const char *name[NAMES_MAX]; /* borrowed */
};
int names_add(struct names *names, const char *name); /* its index */

/* "MODEL on MACHINE", of the first trace that has both. */
const char *trace_pair_title(const struct trace_pair *p, char buf[160]);

#endif
