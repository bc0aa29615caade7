/* fit.c - see fit.h. Levenberg-Marquardt knows no bounds: it sees the residuals at the point pulled back inside them, where a
 * parameter that has left them has no effect and stays. From there it is started again until nothing improves, so that one that was
 * pulled out too early comes back.
 */
#include "solver/fit.h"

#include <gsl/gsl_errno.h>
#include <gsl/gsl_matrix.h>
#include <gsl/gsl_multifit_nlinear.h>
#include <gsl/gsl_qrng.h>
#include <gsl/gsl_vector.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Half the step of a central difference in a logarithm: its error, step^2 and rounding / step, is near 1e-10. */
#define STEP            1e-5
#define ITERATIONS_MAX  200
#define RESTARTS_MAX    20
/* A restart must better the sum of squares by this part. */
#define BETTER          1e-9
/* Columns of the Jacobian this near to a combination of others (relative to the longest) are no information: 100 times STEP's error. */
#define RANK_EPSILON    1e-8
/* Nearer than this, in the logarithm, is at the bound. */
#define BOUND_TOLERANCE 1e-7

struct fit {
    const struct fit_problem *p;
    int n_free, free[FIT_PARAMETERS_MAX]; /* the parameters that vary */
    int n_rows;                           /* residuals, filled up with zeros to as many as there are parameters */
    double value[FIT_PARAMETERS_MAX];     /* of all */
    double *root_weight;                  /* (n_residuals) */
    double *row, *low, *high;             /* (n_rows) */
    long evaluations;
    enum status failed;
    struct error *err;
};

const char *fit_state_name(enum fit_state s)
{
    static const char *const name[] = {[FIT_DETERMINED] = "determined",
                                       [FIT_FIXED] = "fixed",
                                       [FIT_AT_LOWER] = "at lower bound",
                                       [FIT_AT_UPPER] = "at upper bound",
                                       [FIT_UNDETERMINED] = "undetermined"};
    return name[s];
}

/* -- residuals as least squares sees them ------------------------------------------------------------------------------ */

/* Huber's loss as a square: r where |r| <= k, else r's sign times sqrt(2k|r| - k^2), which is smooth at k. */
static double tamed(double r, double k)
{
    return k > 0 && fabs(r) > k ? copysign(sqrt(2 * k * fabs(r) - k * k), r) : r;
}

static double lower_log(const struct fit *f, int i)
{
    return log(f->p->parameter[f->free[i]].lower);
}

static double upper_log(const struct fit *f, int i)
{
    return log(f->p->parameter[f->free[i]].upper);
}

static double clamped(const struct fit *f, int i, double x)
{
    return fmin(fmax(x, lower_log(f, i)), upper_log(f, i));
}

/* Weighted residuals at the logarithms x (n_free); parameters that do not vary keep f->value. */
static enum status evaluate(struct fit *f, const double *x, double *row)
{
    const struct fit_problem *p = f->p;
    for (int i = 0; i < f->n_free; i++)
        f->value[f->free[i]] = exp(clamped(f, i, x[i]));
    memset(row, 0, (size_t)f->n_rows * sizeof *row);
    f->evaluations++;
    enum status status = p->residuals(f->value, row, p->arg, f->err);
    for (int i = 0; i < p->n_residuals && status == STATUS_OK; i++) {
        if (!isfinite(row[i]))
            status = error_set(f->err, STATUS_INVALID, "fit: residual %d of %d: expected a finite number, found %g", i + 1,
                               p->n_residuals, row[i]);
        row[i] = f->root_weight[i] * tamed(row[i], p->huber);
    }
    f->failed = status;
    return status;
}

static double sum_of_squares(const struct fit *f, const double *row)
{
    double sum = 0;
    for (int i = 0; i < f->n_rows; i++)
        sum += row[i] * row[i];
    return sum;
}

/* Central differences, one-sided at a bound; a parameter beyond its bound has no effect. */
static enum status differentiate(struct fit *f, const double *x, gsl_matrix *jacobian)
{
    double at[FIT_PARAMETERS_MAX];
    enum status status = STATUS_OK;
    memcpy(at, x, (size_t)f->n_free * sizeof *at);
    gsl_matrix_set_zero(jacobian);
    for (int j = 0; j < f->n_free && status == STATUS_OK; j++) {
        const double from = clamped(f, j, x[j] - STEP), to = clamped(f, j, x[j] + STEP);
        if (clamped(f, j, x[j]) != x[j])
            continue;
        at[j] = from;
        status = evaluate(f, at, f->low);
        at[j] = to;
        status = status == STATUS_OK ? evaluate(f, at, f->high) : status;
        for (int i = 0; i < f->n_rows && status == STATUS_OK; i++)
            gsl_matrix_set(jacobian, (size_t)i, (size_t)j, (f->high[i] - f->low[i]) / (to - from));
        at[j] = x[j];
    }
    return status;
}

static int gsl_residuals(const gsl_vector *x, void *arg, gsl_vector *out)
{
    struct fit *f = arg;
    double at[FIT_PARAMETERS_MAX];
    for (int i = 0; i < f->n_free; i++)
        at[i] = gsl_vector_get(x, (size_t)i);
    if (evaluate(f, at, f->row) != STATUS_OK)
        return GSL_EBADFUNC;
    for (int i = 0; i < f->n_rows; i++)
        gsl_vector_set(out, (size_t)i, f->row[i]);
    return GSL_SUCCESS;
}

static int gsl_jacobian(const gsl_vector *x, void *arg, gsl_matrix *out)
{
    struct fit *f = arg;
    double at[FIT_PARAMETERS_MAX];
    for (int i = 0; i < f->n_free; i++)
        at[i] = gsl_vector_get(x, (size_t)i);
    return differentiate(f, at, out) == STATUS_OK ? GSL_SUCCESS : GSL_EBADFUNC;
}

/* -- the search ---------------------------------------------------------------------------------------------------------- */

static enum status no_memory(struct error *err)
{
    return error_set(err, STATUS_RUNTIME, "fit: out of memory");
}

/* One run of Levenberg-Marquardt from x (n_free), to x. */
static enum status descend(struct fit *f, double *x, bool *converged)
{
    gsl_multifit_nlinear_parameters settings = gsl_multifit_nlinear_default_parameters();
    gsl_multifit_nlinear_fdf functions = {.f = gsl_residuals,
                                          .df = gsl_jacobian,
                                          .n = (size_t)f->n_rows,
                                          .p = (size_t)f->n_free,
                                          .params = f};
    gsl_multifit_nlinear_workspace *w =
        gsl_multifit_nlinear_alloc(gsl_multifit_nlinear_trust, &settings, functions.n, functions.p);
    if (!w)
        return no_memory(f->err);
    gsl_vector_const_view start = gsl_vector_const_view_array(x, functions.p);
    int info = 0, code = gsl_multifit_nlinear_init(&start.vector, &functions, w);
    if (code == GSL_SUCCESS)
        code = gsl_multifit_nlinear_driver(ITERATIONS_MAX, 1e-12, 1e-14, 0, NULL, NULL, &info, w);
    /* without progress the point is as good as it gets: at a kink, or at round-off */
    *converged = code == GSL_SUCCESS || code == GSL_ENOPROG;
    for (int i = 0; i < f->n_free && f->failed == STATUS_OK; i++)
        x[i] = clamped(f, i, gsl_vector_get(w->x, (size_t)i));
    gsl_multifit_nlinear_free(w);
    return f->failed;
}

/* From x (n_free) to the best point near it; *sum gets its sum of squares. */
static enum status search_from(struct fit *f, double *x, double *sum, bool *converged)
{
    double before;
    enum status status = evaluate(f, x, f->row);
    *sum = sum_of_squares(f, f->row);
    *converged = false;
    for (int i = 0; i < RESTARTS_MAX && status == STATUS_OK; i++) {
        before = *sum;
        status = descend(f, x, converged);
        status = status == STATUS_OK ? evaluate(f, x, f->row) : status;
        *sum = sum_of_squares(f, f->row);
        if (*sum >= before * (1 - BETTER))
            break;
    }
    return status;
}

static void spread_point(const struct fit *f, gsl_qrng *spread, double *x)
{
    double unit[FIT_PARAMETERS_MAX];
    gsl_qrng_get(spread, unit);
    for (int i = 0; i < f->n_free; i++)
        x[i] = lower_log(f, i) + unit[i] * (upper_log(f, i) - lower_log(f, i));
}

/* From the values in f, from `starts` points spread evenly (Halton) over the bounds, and from p->from; leaves the best in f->value. */
static enum status search(struct fit *f, bool *converged)
{
    double best[FIT_PARAMETERS_MAX], x[FIT_PARAMETERS_MAX], first[FIT_PARAMETERS_MAX], least = INFINITY, sum;
    const int starts = f->p->starts, last = starts + (f->p->from != NULL);
    enum status status = STATUS_OK;
    gsl_qrng *spread = starts > 0 ? gsl_qrng_alloc(gsl_qrng_halton, (unsigned)f->n_free) : NULL;
    if (starts > 0 && !spread)
        return no_memory(f->err);
    for (int i = 0; i < f->n_free; i++)
        first[i] = log(f->value[f->free[i]]);
    for (int s = 0; s <= last && status == STATUS_OK; s++) {
        bool settled;
        if (s == 0)
            memcpy(x, first, sizeof x);
        else if (s <= starts)
            spread_point(f, spread, x);
        else
            for (int i = 0; i < f->n_free; i++)
                x[i] = clamped(f, i, log(f->p->from[f->free[i]]));
        status = search_from(f, x, &sum, &settled);
        if (status == STATUS_OK && sum < least) {
            memcpy(best, x, sizeof best);
            least = sum;
            *converged = settled;
        }
    }
    gsl_qrng_free(spread);
    return status == STATUS_OK ? evaluate(f, best, f->row) : status;
}

/* -- what the data knows --------------------------------------------------------------------------------------------------- */

static int count_weighted(const struct fit *f)
{
    int n = 0;
    for (int i = 0; i < f->p->n_residuals; i++)
        n += f->root_weight[i] > 0;
    return n;
}

static void note_bounds(const struct fit *f, struct fit_result *out)
{
    for (int i = 0; i < f->n_free; i++) {
        const double x = log(f->value[f->free[i]]);
        struct fit_estimate *e = &out->estimate[f->free[i]];
        *e = (struct fit_estimate){.state = x < lower_log(f, i) + BOUND_TOLERANCE   ? FIT_AT_LOWER
                                            : x > upper_log(f, i) - BOUND_TOLERANCE ? FIT_AT_UPPER
                                                                                    : FIT_DETERMINED};
    }
}

/* Keeps of the parameters that vary those inside their bounds, and fills their part of the covariance (without s^2). */
static enum status invert(struct fit *f, struct fit_result *out)
{
    double x[FIT_PARAMETERS_MAX];
    int kept = 0;
    enum status status = STATUS_OK;
    for (int i = 0; i < f->n_free; i++)
        if (out->estimate[f->free[i]].state == FIT_DETERMINED)
            f->free[kept++] = f->free[i];
    f->n_free = kept;
    memset(out->covariance, 0, sizeof out->covariance);
    if (kept == 0)
        return STATUS_OK;
    gsl_matrix *jacobian = gsl_matrix_alloc((size_t)f->n_rows, (size_t)kept);
    gsl_matrix *inverse = gsl_matrix_alloc((size_t)kept, (size_t)kept);
    if (!jacobian || !inverse) {
        status = no_memory(f->err);
        goto out;
    }
    for (int i = 0; i < kept; i++)
        x[i] = log(f->value[f->free[i]]);
    status = differentiate(f, x, jacobian);
    if (status != STATUS_OK)
        goto out;
    if (gsl_multifit_nlinear_covar(jacobian, RANK_EPSILON, inverse) != GSL_SUCCESS) {
        status = error_set(f->err, STATUS_RUNTIME, "fit: the covariance cannot be computed");
        goto out;
    }
    for (int i = 0; i < kept; i++)
        for (int j = 0; j < kept; j++)
            out->covariance[f->free[i]][f->free[j]] = gsl_matrix_get(inverse, (size_t)i, (size_t)j);
    status = evaluate(f, x, f->row);
out:
    gsl_matrix_free(jacobian);
    gsl_matrix_free(inverse);
    return status;
}

/* s^2, standard errors, and the first parameter that must be given up: dependent columns have a variance of 0, then the one with the
 * largest error beyond FIT_ERROR_MAX; -1: none. */
static int scale_errors(const struct fit *f, struct fit_result *out)
{
    const int freedom = count_weighted(f) - f->n_free;
    int worst = -1;
    for (int i = 0; i < f->n_free; i++)
        if (!(out->covariance[f->free[i]][f->free[i]] > 0))
            return f->free[i];
    out->variance = freedom > 0 ? sum_of_squares(f, f->row) / freedom : NAN;
    for (int i = 0; i < f->n_free; i++)
        for (int j = 0; j < f->n_free; j++)
            out->covariance[f->free[i]][f->free[j]] *= out->variance;
    for (int i = 0; i < f->n_free; i++) {
        const int k = f->free[i];
        out->estimate[k].relative = sqrt(out->covariance[k][k]);
        if (out->estimate[k].relative > FIT_ERROR_MAX && (worst < 0 || out->estimate[k].relative > out->estimate[worst].relative))
            worst = k;
    }
    return worst;
}

/* The parameters that vary: all but fixed ones and those given up, which keep their start. */
static void choose_free(struct fit *f, const struct fit_result *out)
{
    f->n_free = 0;
    for (int i = 0; i < f->p->n_parameters; i++) {
        const enum fit_state s = out->estimate[i].state;
        f->value[i] = f->p->parameter[i].start;
        if (s != FIT_FIXED && s != FIT_UNDETERMINED)
            f->free[f->n_free++] = i;
    }
}

/* Fits, gives up what the data does not determine, and fits the rest again. */
static enum status fit(struct fit *f, struct fit_result *out)
{
    enum status status;
    for (;;) {
        choose_free(f, out);
        out->converged = true;
        status = f->n_free > 0 ? search(f, &out->converged) : evaluate(f, NULL, f->row);
        if (status == STATUS_OK) {
            note_bounds(f, out);
            status = invert(f, out);
        }
        const int lost = status == STATUS_OK ? scale_errors(f, out) : -1;
        if (lost < 0)
            break;
        out->estimate[lost] = (struct fit_estimate){.state = FIT_UNDETERMINED};
    }
    out->n_determined = f->n_free;
    for (int i = 0; i < f->p->n_parameters; i++)
        out->estimate[i].value = f->value[i];
    return status;
}

/* -- the whole --------------------------------------------------------------------------------------------------------------- */

static enum status check(const struct fit_problem *p, struct error *err)
{
    if (p->n_parameters < 1 || p->n_parameters > FIT_PARAMETERS_MAX || p->n_residuals < 1)
        return error_set(err, STATUS_INVALID, "fit: expected 1 to %d parameters and at least 1 residual, found %d and %d",
                         FIT_PARAMETERS_MAX, p->n_parameters, p->n_residuals);
    for (int i = 0; i < p->n_parameters; i++) {
        const struct fit_parameter *q = &p->parameter[i];
        if (!(q->lower > 0 && q->lower <= q->start && q->start <= q->upper && isfinite(q->upper)))
            return error_set(err, STATUS_INVALID, "fit: %s: expected 0 < lower <= start <= upper, found %g, %g, %g", q->name,
                             q->lower, q->start, q->upper);
    }
    for (int i = 0; p->weight && i < p->n_residuals; i++)
        if (!(p->weight[i] >= 0 && isfinite(p->weight[i])))
            return error_set(err, STATUS_INVALID, "fit: weight %d: expected a number from 0, found %g", i + 1, p->weight[i]);
    return STATUS_OK;
}

static enum status open_fit(struct fit *f, const struct fit_problem *p, struct error *err)
{
    *f = (struct fit){.p = p, .err = err};
    f->n_rows = p->n_residuals > p->n_parameters ? p->n_residuals : p->n_parameters;
    f->root_weight = calloc(4 * (size_t)f->n_rows, sizeof *f->root_weight);
    if (!f->root_weight)
        return no_memory(err);
    f->row = f->root_weight + f->n_rows;
    f->low = f->row + f->n_rows;
    f->high = f->low + f->n_rows;
    for (int i = 0; i < p->n_residuals; i++)
        f->root_weight[i] = p->weight ? sqrt(p->weight[i]) : 1;
    for (int i = 0; i < p->n_parameters; i++)
        f->value[i] = p->parameter[i].start;
    return STATUS_OK;
}

/* Plain, without Huber, of the parameters in f->value. */
static enum status root_mean_square(struct fit *f, double *out)
{
    const struct fit_problem *p = f->p;
    double sum = 0, weights = 0;
    enum status status = p->residuals(f->value, f->row, p->arg, f->err);
    f->evaluations++;
    for (int i = 0; i < p->n_residuals; i++) {
        const double w = f->root_weight[i] * f->root_weight[i];
        sum += w * f->row[i] * f->row[i];
        weights += w;
    }
    *out = weights > 0 ? sqrt(sum / weights) : 0;
    return status;
}

enum status fit_solve(const struct fit_problem *p, struct fit_result *out, struct error *err)
{
    struct fit f = {0};
    gsl_error_handler_t *handler = gsl_set_error_handler_off(); /* codes instead of abort() */
    memset(out, 0, sizeof *out);
    enum status status = check(p, err);
    if (status == STATUS_OK)
        status = open_fit(&f, p, err);
    if (status == STATUS_OK)
        status = root_mean_square(&f, &out->rms_before);
    for (int i = 0; i < p->n_parameters && status == STATUS_OK; i++)
        out->estimate[i].state = p->parameter[i].lower == p->parameter[i].upper ? FIT_FIXED : FIT_DETERMINED;
    if (status == STATUS_OK)
        status = fit(&f, out);
    if (status == STATUS_OK)
        status = root_mean_square(&f, &out->rms_after);
    out->evaluations = f.evaluations;
    free(f.root_weight);
    gsl_set_error_handler(handler);
    return status;
}

double fit_carried_variance(const struct fit_result *r, int n, const double *slope)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            sum += isfinite(r->covariance[i][j]) ? slope[i] * r->covariance[i][j] * slope[j] : 0;
    return fmax(sum, 0);
}

enum status fit_leave_out(const struct fit_problem *p, const int *group, int n_groups, double *residual, struct error *err)
{
    struct fit_problem part = *p;
    struct fit_result *result = malloc(sizeof *result);
    double *weight = malloc((size_t)p->n_residuals * sizeof *weight), *all = malloc((size_t)p->n_residuals * sizeof *all);
    double value[FIT_PARAMETERS_MAX];
    enum status status = result && weight && all ? STATUS_OK : no_memory(err);
    part.weight = weight;
    for (int g = 0; g < n_groups && status == STATUS_OK; g++) {
        for (int i = 0; i < p->n_residuals; i++)
            weight[i] = group[i] == g ? 0 : p->weight ? p->weight[i] : 1;
        status = fit_solve(&part, result, err);
        for (int i = 0; i < p->n_parameters && status == STATUS_OK; i++)
            value[i] = result->estimate[i].value;
        status = status == STATUS_OK ? p->residuals(value, all, p->arg, err) : status;
        for (int i = 0; i < p->n_residuals && status == STATUS_OK; i++)
            if (group[i] == g)
                residual[i] = all[i];
    }
    free(result);
    free(weight);
    free(all);
    return status;
}
