/* test_fit.c - the fitting core on problems whose answers can be worked out. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "solver/fit.h"

/* residual[i] = slope[i] . log(value) - observed[i]: linear in the logarithms, so least squares has a closed form. */
struct linear {
    int n, k;
    double slope[8][3], observed[8];
};

static enum status linear_residuals(const double *value, double *residual, void *arg, struct error *err)
{
    const struct linear *l = arg;
    (void)err;
    for (int i = 0; i < l->n; i++) {
        residual[i] = -l->observed[i];
        for (int j = 0; j < l->k; j++)
            residual[i] += l->slope[i][j] * log(value[j]);
    }
    return STATUS_OK;
}

static const struct fit_parameter wide[3] = {{"a", 1, 0.01, 100}, {"b", 1, 0.01, 100}, {"c", 1, 0.01, 100}};

static struct fit_problem linear_problem(struct linear *l)
{
    return (struct fit_problem){.n_parameters = l->k,
                                .parameter = wide,
                                .n_residuals = l->n,
                                .residuals = linear_residuals,
                                .arg = l};
}

static struct fit_result solve(const struct fit_problem *p)
{
    struct fit_result r;
    struct error err = {0};
    cr_assert_eq(fit_solve(p, &r, &err), STATUS_OK, "%s", err.text);
    return r;
}

static void assert_near(double found, double expected, double tolerance)
{
    cr_assert(fabs(found - expected) <= tolerance, "expected %.9g, found %.9g", expected, found);
}

Test(fit, a_straight_line_has_its_textbook_covariance)
{
    /* y = a + b x through (0, 1), (1, 2), (2, 2): b = 1/2, a = 5/3 - 1/2 = 7/6. Residuals 1/6, -1/3, 1/6: sum of squares 1/6, one
     * degree of freedom, s^2 = 1/6. inverse of [3 3; 3 5] = 1/6 [5 -3; -3 3], so the covariance is [5 -3; -3 3] / 36. */
    struct linear l = {3, 2, {{1, 0}, {1, 1}, {1, 2}}, {1, 2, 2}};
    struct fit_problem p = linear_problem(&l);
    struct fit_result r = solve(&p);
    assert_near(log(r.estimate[0].value), 7.0 / 6, 1e-8);
    assert_near(log(r.estimate[1].value), 0.5, 1e-8);
    assert_near(r.variance, 1.0 / 6, 1e-8);
    assert_near(r.covariance[0][0], 5.0 / 36, 1e-8);
    assert_near(r.covariance[0][1], -3.0 / 36, 1e-8);
    assert_near(r.covariance[1][1], 3.0 / 36, 1e-8);
    assert_near(r.estimate[1].relative, sqrt(3.0 / 36), 1e-8);
    assert_near(r.rms_before, sqrt((1 + 4 + 4) / 3.0), 1e-12);
    assert_near(r.rms_after, sqrt(1.0 / 18), 1e-8);
    cr_assert_eq(r.n_determined, 2);
    cr_assert(r.converged);
}

Test(fit, a_weight_of_two_is_the_same_row_twice)
{
    /* The mean of 0.1 and 0.4 with weights 2 and 1 is 0.2. Weighted squares 2 * 0.01 + 0.04 = 0.06 over one degree of freedom (two
     * rows): s^2 = 0.06, variance of the mean 0.06 / 3 = 0.02. */
    struct linear l = {3, 1, {{1}, {1}, {1}}, {0.1, 0.4, 77}};
    struct fit_problem p = linear_problem(&l);
    p.weight = (const double[]){2, 1, 0}; /* the last counts for nothing */
    struct fit_result r = solve(&p);
    assert_near(log(r.estimate[0].value), 0.2, 1e-8);
    assert_near(r.variance, 0.06, 1e-8);
    assert_near(r.estimate[0].relative, sqrt(0.02), 1e-8);
}

Test(fit, a_parameter_known_worse_than_to_a_factor_e_is_given_up)
{
    /* Mean 2 of 0 and 4: s^2 = 8, variance of the mean 4, error 2 > FIT_ERROR_MAX. */
    struct linear l = {2, 1, {{1}, {1}}, {0, 4}};
    struct fit_problem p = linear_problem(&l);
    struct fit_result r = solve(&p);
    cr_assert_eq(r.estimate[0].state, FIT_UNDETERMINED);
    cr_assert_eq(r.estimate[0].value, 1);
}

Test(fit, a_parameter_without_effect_keeps_its_start)
{
    /* Two rows of log(a) = 0.3 and 0.5: a = exp(0.4); b has no column. */
    struct linear l = {2, 2, {{1, 0}, {1, 0}}, {0.3, 0.5}};
    struct fit_problem p = linear_problem(&l);
    p.parameter = (const struct fit_parameter[]){wide[0], {"b", 7, 1, 10}};
    struct fit_result r = solve(&p);
    assert_near(log(r.estimate[0].value), 0.4, 1e-8);
    cr_assert_eq(r.estimate[1].state, FIT_UNDETERMINED);
    cr_assert_eq(r.estimate[1].value, 7);
    cr_assert_eq(r.estimate[1].relative, 0);
    cr_assert_eq(r.n_determined, 1);
}

Test(fit, of_two_parameters_seen_only_as_a_product_one_is_left_alone)
{
    /* log(a) + log(b) = 0.6 in three rows, with scatter: the sum is known, the parts are not. */
    struct linear l = {3, 2, {{1, 1}, {1, 1}, {1, 1}}, {0.5, 0.6, 0.7}};
    struct fit_problem p = linear_problem(&l);
    struct fit_result r = solve(&p);
    cr_assert_eq((r.estimate[0].state == FIT_UNDETERMINED) + (r.estimate[1].state == FIT_UNDETERMINED), 1);
    assert_near(log(r.estimate[0].value * r.estimate[1].value), 0.6, 1e-8);
    /* s^2 = 0.02 / 2; of the mean of three: 0.01 / 3 */
    assert_near(r.covariance[0][0] + r.covariance[1][1], 0.01 / 3, 1e-9);
}

Test(fit, a_parameter_stops_at_its_bound_and_the_others_make_the_best_of_it)
{
    /* a wants log 3, its bound is 2; rows log(a) = log 3 and log(a) + log(b) = log 3 leave b = 3 / 2 exactly. */
    struct linear l = {3, 2, {{1, 0}, {1, 1}, {1, 1}}, {log(3), log(3), log(3)}};
    struct fit_problem p = linear_problem(&l);
    p.parameter = (const struct fit_parameter[]){{"a", 1, 0.5, 2}, {"b", 1, 0.5, 2}};
    struct fit_result r = solve(&p);
    cr_assert_eq(r.estimate[0].state, FIT_AT_UPPER);
    assert_near(r.estimate[0].value, 2, 1e-6);
    cr_assert_eq(r.estimate[1].state, FIT_DETERMINED);
    assert_near(r.estimate[1].value, 1.5, 1e-6);
    l.observed[0] = l.observed[1] = l.observed[2] = log(0.1);
    r = solve(&p);
    cr_assert_eq(r.estimate[0].state, FIT_AT_LOWER);
    assert_near(r.estimate[0].value, 0.5, 1e-6);
}

Test(fit, a_fixed_parameter_does_not_move)
{
    struct linear l = {3, 2, {{1, 1}, {1, 2}, {1, 3}}, {log(2) + 1, 2 + log(2), 3 + log(2)}};
    struct fit_problem p = linear_problem(&l);
    p.parameter = (const struct fit_parameter[]){{"a", 2, 2, 2}, {"b", 1, 0.1, 100}};
    struct fit_result r = solve(&p);
    cr_assert_eq(r.estimate[0].state, FIT_FIXED);
    cr_assert_eq(r.estimate[0].value, 2);
    assert_near(log(r.estimate[1].value), 1, 1e-7);
}

Test(fit, huber_takes_the_median_of_what_is_far_out)
{
    /* Rows at -0.01, 0.01 and 1 with k = 0.021: the outlier pulls with force k, so (m + 0.01) + (m - 0.01) = k and m = 0.0105, within
     * k of both near rows. The mean is 1/3. */
    struct linear l = {3, 1, {{1}, {1}, {1}}, {-0.01, 0.01, 1}};
    struct fit_problem p = linear_problem(&l);
    p.huber = 0.021;
    struct fit_result r = solve(&p);
    assert_near(log(r.estimate[0].value), 0.0105, 1e-7);
    p.huber = 0;
    r = solve(&p);
    assert_near(log(r.estimate[0].value), 1.0 / 3, 1e-8);
}

/* The longer of two times, as where links and units overlap. */
static enum status kinked(const double *value, double *residual, void *arg, struct error *err)
{
    (void)arg;
    (void)err;
    residual[0] = log(fmax(1 / value[0], 3 / value[1]) / 2);       /* 3 / b binds: b = 1.5 */
    residual[1] = log(fmax(4 / value[0], 0.001 / value[1]) / 0.8); /* 4 / a binds: a = 5 */
    return STATUS_OK;
}

Test(fit, a_maximum_of_times_is_fitted)
{
    struct fit_problem p = {.n_parameters = 2, .parameter = wide, .n_residuals = 2, .residuals = kinked};
    struct fit_result r = solve(&p);
    assert_near(r.estimate[0].value, 5, 1e-6);
    assert_near(r.estimate[1].value, 1.5, 1e-6);
    cr_assert(isnan(r.variance)); /* two residuals, two parameters: nothing is left to say how good they are */
}

/* Two valleys: log(a) near -2 (sum 0.5) and near +2 (sum 0). */
static enum status two_valleys(const double *value, double *residual, void *arg, struct error *err)
{
    const double x = log(value[0]);
    (void)arg;
    (void)err;
    residual[0] = x * x - 4;
    residual[1] = x < 0 ? 0.5 : 0.5 * exp(-x * x);
    return STATUS_OK;
}

Test(fit, more_starts_find_the_lower_valley)
{
    struct fit_parameter q = {"a", exp(-1.5), exp(-4), exp(4)};
    struct fit_problem p = {.n_parameters = 1, .parameter = &q, .n_residuals = 2, .residuals = two_valleys};
    cr_assert(solve(&p).estimate[0].value < 1);
    p.starts = 4;
    cr_assert(solve(&p).estimate[0].value > 1);
}

Test(fit, a_group_left_out_is_predicted_by_the_others)
{
    /* Means: rows 1, 3 | 5 | 7. Without the first group the mean is 6: residuals 6 - 1 and 6 - 3; without the second 11/3; without the
     * third 3. */
    struct linear l = {4, 1, {{1}, {1}, {1}, {1}}, {0.1, 0.3, 0.5, 0.7}};
    struct fit_problem p = linear_problem(&l);
    const int group[] = {0, 0, 1, 2};
    double r[4];
    struct error err = {0};
    cr_assert_eq(fit_leave_out(&p, group, 3, r, &err), STATUS_OK, "%s", err.text);
    assert_near(r[0], 0.5, 1e-8);
    assert_near(r[1], 0.3, 1e-8);
    assert_near(r[2], 1.1 / 3 - 0.5, 1e-8);
    assert_near(r[3], 0.3 - 0.7, 1e-8);
}

static enum status not_finite(const double *value, double *residual, void *arg, struct error *err)
{
    (void)value;
    (void)arg;
    (void)err;
    residual[0] = NAN;
    return STATUS_OK;
}

static enum status failing(const double *value, double *residual, void *arg, struct error *err)
{
    (void)residual;
    (void)arg;
    return value[0] == 1 ? STATUS_OK : error_set(err, STATUS_RUNTIME, "no such point");
}

Test(fit, bad_problems_are_refused)
{
    struct linear l = {1, 1, {{1}}, {1}};
    struct fit_problem p = linear_problem(&l);
    struct fit_result r;
    struct error err = {0};
    p.parameter = &(const struct fit_parameter){"rate", 1, 2, 3};
    cr_assert_eq(fit_solve(&p, &r, &err), STATUS_INVALID);
    cr_assert_str_eq(err.text, "fit: rate: expected 0 < lower <= start <= upper, found 2, 1, 3");
    p = linear_problem(&l);
    p.residuals = not_finite;
    err = (struct error){0};
    cr_assert_eq(fit_solve(&p, &r, &err), STATUS_INVALID);
    cr_assert_str_eq(err.text, "fit: residual 1 of 1: expected a finite number, found nan");
    p.residuals = failing;
    err = (struct error){0};
    cr_assert_eq(fit_solve(&p, &r, &err), STATUS_RUNTIME);
    cr_assert_str_eq(err.text, "no such point");
    p.n_parameters = 0;
    cr_assert_eq(fit_solve(&p, &r, NULL), STATUS_INVALID);
}
