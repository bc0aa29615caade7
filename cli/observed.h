/* observed.h - a measured trace beside what the cost model says of its operations, for any rates of the machine.
 *
 * The operations of a trace are matched one by one with those of the schedule that its header describes. What is observed is the time
 * of a group of them: one kind on one unit, or all transfers of a link (two of them are in flight together and share it); in prefill, or
 * in one of up to BINS parts of the decode steps (attention grows with the context). Latencies that pass behind another transfer, by the
 * trace's own clock, are taken off the prediction. Left out are operations that were beside work that slows them down for half of their time
 * (the other direction of a drive, or what the profile says shares something), and groups under SMALLEST of the trace's busy time.
 */
#ifndef BALLAST_CLI_OBSERVED_H
#define BALLAST_CLI_OBSERVED_H

#include "cli/setting.h"
#include "traces/trace.h"

#define OBSERVED_BINS     4
#define OBSERVED_SMALLEST 0.001

struct observed_group {
    int kind, resource; /* kind -1: all transfers of the link */
    enum phase phase;
    int bin;           /* of decode */
    double measured_s; /* all its operations */
    /* Transfers that were ready when the one before them started, and how long before their own start that was: up to so much of their latency
     * passed behind it. */
    int64_t first_gap, n_gaps;
};

/* Operations that take the same time at all rates, as far as the cost model goes. */
struct observed_class {
    int group;
    struct op op; /* one of them */
    double count;
};

struct observed {
    const char *path;
    struct setting setting;
    int n_groups;
    struct observed_group *group; /* (n_groups) owned */
    int n_classes;
    struct observed_class *class; /* (n_classes) owned */
    /* By group, from the smallest on, and the sum up to it in its group; owned. */
    double *gap_s, *gap_sum_s;
    double total_s, throughput_tok_s, predicted_throughput_tok_s; /* of the run; predicted with the profile as it is */
};

/* Reads the trace and the setting it was recorded with, on the machine and with the model that `o` names. A simulated trace, one of
 * another model or machine, or one whose operations are others is an error. The caller frees with observed_free also after a failure. */
enum status observed_load(struct observed *b, const char *path, const struct options *o, struct error *err);
void observed_free(struct observed *b); /* a zeroed struct is fine */

/* log(predicted / measured) of every group, for other rates of the same machine. */
void observed_residuals(const struct observed *b, const struct hardware *hw, double *residual);
/* Seconds of each group (n_groups). */
void observed_predict(const struct observed *b, const struct hardware *hw, double *seconds);
/* Throughput by the cost table, as `ballast predict` has it. */
enum status observed_throughput(const struct observed *b, const struct hardware *hw, double *out, struct error *err);

#endif
