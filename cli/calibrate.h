/* calibrate.h - the rates of a profile fitted to measured traces, and how good they are. docs/calibrate.md derives the numbers.
 *
 * Every rate and launch time of the machine is a factor on the profile's value, in 1/4 .. 4; a latency lies between 0 and the profile's and
 * 10 ms. Explicit bounds take the place of these.
 */
#ifndef BALLAST_CLI_CALIBRATE_H
#define BALLAST_CLI_CALIBRATE_H

#include "cli/observed.h"
#include "model/hardware_set.h"
#include "solver/fit.h"

#define CALIBRATE_FACTOR_MAX 4.0
/* A group that is off by more than this (relative) is an outlier. */
#define CALIBRATE_HUBER      0.2
#define CALIBRATE_FOLDS_MAX  10

struct trace_error {
    double throughput; /* predicted / measured - 1 */
    double busy;       /* sum |predicted - measured| / sum measured, over the groups */
};

struct calibrated_trace {
    struct trace_error before, after;
    struct trace_error left_out; /* predicted by a fit to other traces */
    bool was_left_out;
};

struct calibration {
    struct hardware profile, fitted;
    int n_traces, n_fitted; /* the first n_fitted are fitted, the others held out */
    struct observed *trace; /* (n_traces) owned */
    struct calibrated_trace *error;
    int n_rates;
    struct hardware_field rate[FIT_PARAMETERS_MAX];
    struct fit_parameter parameter[FIT_PARAMETERS_MAX];
    struct fit_result result;
    double spread[RESOURCES_MAX]; /* relative standard deviation of a resource's time; 0: nothing observed */
};

/* Loads the traces; those from n_fitted on are held out. The caller frees with calibration_free also after a failure. */
enum status calibration_open(struct calibration *c, const struct options *o, char *const *path, int n_traces, int n_fitted,
                             struct error *err);
void calibration_free(struct calibration *c); /* a zeroed struct is fine */

/* "disk->ram.rate=0.5-2": factors, or "1GB/s-3GB/s": values. They hold the profile's value. */
enum status calibration_bound(struct calibration *c, const char *text, struct error *err);
/* Fits and fills the rest. A rate that the traces want beyond its bound is an error, unless it hardly matters: then it stays. */
enum status calibration_run(struct calibration *c, struct error *err);

/* The standard error of a rate or latency over its fitted value; NaN unless determined. */
double calibration_error(const struct calibration *c, int rate);

/* log(predicted / measured) of all groups of the fitted traces for the factors `value` (n_rates), for tests. */
enum status calibration_residuals(const double *value, double *residual, void *calibration, struct error *err);

#endif
