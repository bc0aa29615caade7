/* fit.h - fit positive parameters to observations: bounded, robust least squares, and how well the data knows each of them.
 *
 * A parameter is a rate of a machine, or a factor on one (start 1); the search works on its logarithm, so steps and errors are
 * relative. A residual is relative too: log(predicted / observed), 0.1 is about 10 %. The caller says what the parameters do:
 *
 *     struct fit_parameter p[] = {{"disk->ram.rate", 1.6e9, 0.4e9, 6.4e9}};
 *     struct fit_problem problem = {.n_parameters = 1, .parameter = p, .n_residuals = n, .residuals = mine, .arg = &data};
 *     status = fit_solve(&problem, &result, err);
 *
 * The solver is GSL's trust-region Levenberg-Marquardt on the parameters held inside their bounds. docs/calibrate.md derives the errors.
 */
#ifndef BALLAST_SOLVER_FIT_H
#define BALLAST_SOLVER_FIT_H

#include <stdbool.h>

#include "model/error.h"

#define FIT_PARAMETERS_MAX 48

struct fit_parameter {
    char name[64];
    /* Where the search begins, and what a parameter keeps that the data says nothing about. 0 < lower <= start <= upper; one with
     * lower == upper is fixed. */
    double start, lower, upper;
};

struct fit_problem {
    int n_parameters, n_residuals;
    const struct fit_parameter *parameter; /* (n_parameters) */
    const double *weight;                  /* (n_residuals), >= 0; NULL: all 1. Those of weight 0 count for nothing */
    /* Residuals beyond this count by their size and not its square (Huber), so that no outlier rules; 0: all by the square. */
    double huber;
    int starts;         /* further starting points spread over the bounds, the best result wins; 0: only the given one */
    const double *from; /* (n_parameters) one more; values outside the bounds are pulled inside; may be NULL */
    /* Fills residual (n_residuals), finite, for value (n_parameters) inside the bounds. */
    enum status (*residuals)(const double *value, double *residual, void *arg, struct error *err);
    void *arg;
};

enum fit_state {
    FIT_DETERMINED,
    FIT_FIXED,        /* lower == upper */
    FIT_AT_LOWER,     /* the data wants it beyond its bound */
    FIT_AT_UPPER,     /*   "                               */
    FIT_UNDETERMINED, /* no residual depends on it, or only together with another one, or its relative error exceeds FIT_ERROR_MAX */
};
const char *fit_state_name(enum fit_state s); /* "determined", "fixed", "at lower bound", "at upper bound", "undetermined" */

#define FIT_ERROR_MAX 1.0

struct fit_estimate {
    double value;    /* start if undetermined */
    double relative; /* standard error of its logarithm; 0 unless determined, NaN with no more residuals than parameters */
    enum fit_state state;
};

struct fit_result {
    struct fit_estimate estimate[FIT_PARAMETERS_MAX];
    /* Of the logarithms: s^2 * inverse(J'WJ) over the determined parameters; 0 elsewhere. */
    double covariance[FIT_PARAMETERS_MAX][FIT_PARAMETERS_MAX];
    double rms_before, rms_after; /* root of the weighted mean square of the residuals, at the start and at the solution */
    double variance;              /* s^2: weighted sum of squares (Huber's beyond it) / (residuals of weight > 0 - determined) */
    int n_determined;
    long evaluations; /* calls of residuals */
    bool converged;
};

/* STATUS_INVALID for a bad problem or a residual that is not finite; what the callback returns if it fails; out of memory. */
enum status fit_solve(const struct fit_problem *p, struct fit_result *out, struct error *err);

/* The variance that the determined parameters' errors give a quantity of these slopes, d log(quantity) / d log(parameter) (n). */
double fit_carried_variance(const struct fit_result *r, int n, const double *slope);

/* Every group of residuals (group[i] in 0 .. n_groups - 1) predicted by a fit to the others: residual (n_residuals) gets them. */
enum status fit_leave_out(const struct fit_problem *p, const int *group, int n_groups, double *residual, struct error *err);

#endif
