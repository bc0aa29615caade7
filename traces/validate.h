/* validate.h - predicted against measured: per term and in total, with a verdict.
 *
 * A measured trace carries its prediction (throughput, busy time per phase and resource, peak bytes per tier). A simulated trace
 * shares the cost model, so it only validates order, overlap and capacity; it is never called a measurement.
 */
#ifndef BALLAST_TRACES_VALIDATE_H
#define BALLAST_TRACES_VALIDATE_H

#include <stdio.h>

#include "traces/trace.h"

struct validate_limits {
    double mean_error, worst_error; /* of throughput, beyond the error bar where there is one: default 0.10 and 0.20 */
    double peak_error;              /* of peak bytes: default 0.01 */
};
void validate_limits_default(struct validate_limits *l);

/* One term over all traces: signed mean, mean absolute, p90 absolute and worst relative error. */
struct validate_term {
    char name[64]; /* "throughput", "prefill", "decode", "decode disk->ram busy", "peak ram" */
    int n;
    double signed_mean, abs_mean, abs_p90, abs_worst;
};

struct validate_report {
    /* Error bars: traces whose prediction has one, those measured inside it, and the mean half width relative to the prediction. What the
     * verdict is about: the error of the throughput, counted from the nearest end of the bar. */
    int n_bars, n_inside;
    double bar_half_width, beyond_mean, beyond_worst;
    int n_terms;
    struct validate_term term[64];
    int n_traces, n_simulated; /* simulated ones, and those of an emulated GPU, are left out of every time term */
    int pass;
    char verdict[400];
};

/* Terms below 1 % of their trace's total time, or a predicted and measured time of 0, are left out. Fails on an empty list or a
 * broken order (an event that ends before it starts, or two overlapping events on one resource). */
enum status validate_traces(const struct trace *const *traces, int n, const struct validate_limits *limits,
                            struct validate_report *out, struct error *err);
/* format: "md", "csv", "json" or "jsonl". */
enum status validate_print(const struct validate_report *r, const char *format, FILE *out, struct error *err);

#endif
