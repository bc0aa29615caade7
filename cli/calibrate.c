/* calibrate.c - see calibrate.h. */
#include "cli/calibrate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What counts as more than noise, in squared standard errors: a change of a rate, or what one at a bound betters the sum of squares by. */
#define SIGNIFICANT 4.0

static enum status no_memory(struct error *err)
{
    return error_set(err, STATUS_RUNTIME, "out of memory for the groups of the traces");
}

/* -- what is fitted --------------------------------------------------------------------------------------------------------- */

/* A latency may be 0, where a factor does nothing: the parameter is a factor on the latency and this much more. */
#define LATENCY_BASE_S 10e-3
/* What a queue of 16 requests of 1 MiB takes at 1.6 GB/s, and a transfer may wait for a thread. */
#define LATENCY_MORE_S 10e-3
/* Where the second search begins. */
#define LATENCY_LATE_S 0.5e-3

static bool is_latency(const struct hardware_field *f)
{
    return f->kind == FIELD_LATENCY;
}

static bool is_fitted(const struct hardware_field *f)
{
    return f->kind != FIELD_CAPACITY && f->kind != FIELD_WORKSPACE;
}

static double base_of(const struct hardware_field *f)
{
    return is_latency(f) ? LATENCY_BASE_S : 0;
}

/* The factor that gives a field this value, and the value that a factor gives. */
static double factor_of(const struct calibration *c, int rate, double value)
{
    const double base = base_of(&c->rate[rate]);
    return (value + base) / (hardware_field_get(&c->profile, &c->rate[rate]) + base);
}

static double value_of(const struct calibration *c, int rate, double factor)
{
    const double base = base_of(&c->rate[rate]);
    return fmax((hardware_field_get(&c->profile, &c->rate[rate]) + base) * factor - base, 0);
}

static void add_rates(struct calibration *c)
{
    struct hardware_field field[HARDWARE_FIELDS_MAX];
    int n = hardware_fields(&c->profile, field);
    for (int i = 0; i < n && c->n_rates < FIT_PARAMETERS_MAX; i++) {
        const double value = hardware_field_get(&c->profile, &field[i]);
        if (!is_fitted(&field[i]) || (value <= 0 && !is_latency(&field[i]))) {
            continue;
        }
        struct fit_parameter *p = &c->parameter[c->n_rates];
        *p = (struct fit_parameter){.start = 1, .lower = 1 / CALIBRATE_FACTOR_MAX, .upper = CALIBRATE_FACTOR_MAX};
        hardware_field_name(&c->profile, &field[i], p->name, sizeof p->name);
        c->rate[c->n_rates++] = field[i];
        if (is_latency(&field[i])) {
            p->lower = factor_of(c, c->n_rates - 1, 0);
            p->upper = factor_of(c, c->n_rates - 1, value + LATENCY_MORE_S);
        }
    }
}

enum status calibration_open(struct calibration *c, const struct options *o, char *const *path, int n_traces, int n_fitted,
                             struct error *err)
{
    *c = (struct calibration){.n_fitted = n_fitted};
    enum status status = options_hardware(o, &c->profile, err);
    if (status != STATUS_OK) {
        return status;
    }
    c->fitted = c->profile;
    add_rates(c);
    c->trace = calloc((size_t)n_traces, sizeof *c->trace);
    c->error = calloc((size_t)n_traces, sizeof *c->error);
    if (!c->trace || !c->error) {
        return no_memory(err);
    }
    for (int i = 0; i < n_traces && status == STATUS_OK; i++) {
        c->n_traces++;
        status = observed_load(&c->trace[i], path[i], o, err);
    }
    return status;
}

void calibration_free(struct calibration *c)
{
    for (int i = 0; i < c->n_traces; i++) {
        observed_free(&c->trace[i]);
    }
    free(c->trace);
    free(c->error);
    *c = (struct calibration){0};
}

/* A factor, or a value with its unit. */
static bool parse_limit(const struct calibration *c, int rate, const char *text, double *out)
{
    char *end;
    double value;
    const double factor = strtod(text, &end);
    if (end != text && *end == '\0') {
        value = factor * hardware_field_get(&c->profile, &c->rate[rate]);
    } else if (units_parse(text, hardware_field_unit(&c->rate[rate]), &value)) {
        return false;
    }
    *out = factor_of(c, rate, value);
    return *out > 0 && isfinite(*out);
}

/* The '-' between two limits: not that of an exponent. */
static const char *find_dash(const char *text)
{
    for (const char *at = text + 1; *at; at++) {
        if (*at == '-' && at[-1] != 'e' && at[-1] != 'E') {
            return at;
        }
    }
    return NULL;
}

enum status calibration_bound(struct calibration *c, const char *text, struct error *err)
{
    const char *equals = strchr(text, '='), *dash = equals && equals[1] ? find_dash(equals + 1) : NULL;
    char name[64], low[48], high[48];
    int rate = 0;
    if (!equals || !dash) {
        return error_set(err, STATUS_INVALID, "--bound \"%.100s\": expected RATE=LOW-HIGH such as \"disk->ram.rate=0.5-2\"",
                         text);
    }
    snprintf(name, sizeof name, "%.*s", (int)(equals - text < 63 ? equals - text : 63), text);
    snprintf(low, sizeof low, "%.*s", (int)(dash - equals - 1 < 47 ? dash - equals - 1 : 47), equals + 1);
    snprintf(high, sizeof high, "%.47s", dash + 1);
    while (rate < c->n_rates && strcmp(c->parameter[rate].name, name) != 0) {
        rate++;
    }
    if (rate == c->n_rates) {
        return error_set(err, STATUS_INVALID, "--bound \"%.100s\": expected a rate of %s such as %s, found '%s'", text,
                         c->profile.name, c->parameter[0].name, name);
    }
    struct fit_parameter *p = &c->parameter[rate];
    if (!parse_limit(c, rate, low, &p->lower) || !parse_limit(c, rate, high, &p->upper)) {
        return error_set(err, STATUS_INVALID, "--bound \"%.100s\": expected two factors above 0, or %s twice", text,
                         units_expected(hardware_field_unit(&c->rate[rate])));
    }
    if (!(p->lower <= 1 && p->upper >= 1)) {
        return error_set(err, STATUS_INVALID,
                         "--bound \"%.100s\": expected bounds around the profile's value, found factors %g to %g", text, p->lower,
                         p->upper);
    }
    return STATUS_OK;
}

/* -- the fit ------------------------------------------------------------------------------------------------------------------ */

static void apply(const struct calibration *c, const double *factor, struct hardware *out)
{
    *out = c->profile;
    for (int i = 0; i < c->n_rates; i++) {
        if (factor[i] != 1) {
            hardware_field_put(out, &c->rate[i], value_of(c, i, factor[i]));
        }
    }
}

static int count_groups(const struct calibration *c, int n_traces)
{
    int n = 0;
    for (int i = 0; i < n_traces; i++) {
        n += c->trace[i].n_groups;
    }
    return n;
}

/* A group weighs by its share of its trace's time, and all groups of a trace together as many as they are. Traces with
 * index % CALIBRATE_FOLDS_MAX == fold weigh nothing; returns the groups of the others. */
static int fill_weights(const struct calibration *c, int fold, double *weight)
{
    int n = 0;
    for (int i = 0; i < c->n_fitted; i++) {
        const struct observed *b = &c->trace[i];
        const bool out = i % CALIBRATE_FOLDS_MAX == fold;
        double all_s = 0;
        for (int g = 0; g < b->n_groups; g++) {
            all_s += b->group[g].measured_s;
        }
        for (int g = 0; g < b->n_groups; g++) {
            *weight++ = out ? 0 : b->group[g].measured_s / all_s * b->n_groups;
        }
        n += out ? 0 : b->n_groups;
    }
    return n;
}

enum status calibration_residuals(const double *value, double *residual, void *calibration, struct error *err)
{
    const struct calibration *c = calibration;
    struct hardware hw;
    (void)err;
    apply(c, value, &hw);
    for (int i = 0; i < c->n_fitted; i++) {
        observed_residuals(&c->trace[i], &hw, residual);
        residual += c->trace[i].n_groups;
    }
    return STATUS_OK;
}

static double squares(const struct fit_result *r, int n)
{
    return r->variance * (n - r->n_determined);
}

static bool at_bound(const struct fit_estimate *e)
{
    return e->state == FIT_AT_LOWER || e->state == FIT_AT_UPPER;
}

/* A fit on its way: rates that go back to the profile's value are dropped, one after the other. */
struct solving {
    struct fit_problem problem;
    struct fit_parameter parameter[FIT_PARAMETERS_MAX];
    double from
        [FIT_PARAMETERS_MAX]; /* a second start: first with latencies, as which of them pass behind others changes with them; then the best so far */
    bool dropped[FIT_PARAMETERS_MAX];
    int n_weighted;
    struct fit_result other;
};

static void fix(struct solving *s, int rate)
{
    s->parameter[rate].lower = s->parameter[rate].upper = s->parameter[rate].start;
    s->dropped[rate] = true;
}

/* The largest part that a rate has in the time of a group, at the profile's value: |d log(time) / d log(rate)|. */
static enum status largest_part(const struct solving *s, int rate, double *out, struct error *err)
{
    const double step = 1e-3;
    const int n = s->problem.n_residuals;
    double value[FIT_PARAMETERS_MAX], *low = malloc(2 * (size_t)n * sizeof *low);
    if (!low) {
        return no_memory(err);
    }
    for (int i = 0; i < s->problem.n_parameters; i++) {
        value[i] = s->parameter[i].start;
    }
    value[rate] = s->parameter[rate].start * exp(-step);
    enum status status = s->problem.residuals(value, low, s->problem.arg, err);
    value[rate] = s->parameter[rate].start * exp(step);
    if (status == STATUS_OK) {
        status = s->problem.residuals(value, low + n, s->problem.arg, err);
    }
    *out = 0;
    for (int i = 0; i < n && status == STATUS_OK; i++) {
        *out = fmax(*out, s->problem.weight[i] > 0 ? fabs(low[n + i] - low[i]) / (2 * step) : 0);
    }
    free(low);
    return status;
}

/* Of the rates at a bound those that hardly better the sum of squares, and those whose part is everywhere smaller than what is unexplained
 * anyway: they would stand for the error of something else. */
static enum status drop_bounds(struct solving *s, struct fit_result *out, struct error *err)
{
    enum status status = STATUS_OK;
    for (int i = 0; i < s->problem.n_parameters && status == STATUS_OK; i++) {
        const struct fit_parameter kept = s->parameter[i];
        if (!at_bound(&out->estimate[i])) {
            continue;
        }
        double part = 0;
        status = largest_part(s, i, &part, err);
        fix(s, i);
        if (status == STATUS_OK) {
            status = fit_solve(&s->problem, &s->other, err);
        }
        if (part < s->other.rms_after ||
            squares(&s->other, s->n_weighted) - squares(out, s->n_weighted) < SIGNIFICANT * out->variance) {
            *out = s->other;
            i = -1; /* others may have come to a bound */
        } else {
            s->parameter[i] = kept;
            s->dropped[i] = false;
        }
    }
    return status;
}

/* The rate whose change is the fewest standard errors, if it is under two: noise must not move a rate. -1: none. */
static int least_certain(const struct solving *s, const struct fit_result *r)
{
    double least = SIGNIFICANT;
    int found = -1;
    for (int i = 0; i < s->problem.n_parameters; i++) {
        const double z = log(r->estimate[i].value / s->parameter[i].start) / r->estimate[i].relative;
        if (r->estimate[i].state == FIT_DETERMINED && z * z < least) {
            least = z * z;
            found = i;
        }
    }
    return found;
}

static enum status drop_all(struct solving *s, struct fit_result *out, struct error *err)
{
    int rate = 0;
    enum status status = fit_solve(&s->problem, out, err);
    while (status == STATUS_OK && rate >= 0) {
        for (int i = 0; i < s->problem.n_parameters; i++) {
            s->from[i] = out->estimate[i].value;
        }
        status = drop_bounds(s, out, err);
        rate = least_certain(s, out);
        if (status == STATUS_OK && rate >= 0) {
            fix(s, rate);
            status = fit_solve(&s->problem, out, err);
        }
    }
    for (int i = 0; i < s->problem.n_parameters; i++) {
        out->estimate[i].state = s->dropped[i] ? FIT_UNDETERMINED : out->estimate[i].state;
    }
    return status;
}

/* A fit to the traces that are not of the fold. Rates at a bound that matter stay at it. */
static enum status solve(const struct calibration *c, int fold, struct fit_result *out, struct error *err)
{
    const int n = count_groups(c, c->n_fitted);
    double *weight = malloc((size_t)n * sizeof *weight);
    struct solving *s = calloc(1, sizeof *s);
    enum status status = weight && s ? STATUS_OK : no_memory(err);
    if (status == STATUS_OK) {
        memcpy(s->parameter, c->parameter, sizeof s->parameter);
        for (int i = 0; i < c->n_rates; i++) {
            const double value = hardware_field_get(&c->profile, &c->rate[i]);
            s->from[i] = is_latency(&c->rate[i]) ? factor_of(c, i, value + LATENCY_LATE_S) : 1;
        }
        s->n_weighted = fill_weights(c, fold, weight);
        s->problem = (struct fit_problem){.n_parameters = c->n_rates,
                                          .parameter = s->parameter,
                                          .n_residuals = n,
                                          .weight = weight,
                                          .huber = CALIBRATE_HUBER,
                                          .from = s->from,
                                          .residuals = calibration_residuals,
                                          .arg = (void *)c};
        status = drop_all(s, out, err);
    }
    free(s);
    free(weight);
    return status;
}

static enum status refuse(const struct calibration *c, int rate, struct error *err)
{
    const struct fit_parameter *p = &c->parameter[rate];
    const struct fit_estimate *e = &c->result.estimate[rate];
    const enum unit_kind unit = hardware_field_unit(&c->rate[rate]);
    char value[48], expected[128], low[48], high[48];
    units_format(hardware_field_get(&c->profile, &c->rate[rate]), unit, value, sizeof value);
    if (is_latency(&c->rate[rate])) {
        snprintf(expected, sizeof expected, "%s to %s in place of",
                 units_format(value_of(c, rate, p->lower), unit, low, sizeof low),
                 units_format(value_of(c, rate, p->upper), unit, high, sizeof high));
    } else {
        snprintf(expected, sizeof expected, "%g to %g times", p->lower, p->upper);
    }
    return error_set(
        err, STATUS_INVALID,
        "%s: expected %s the profile's %s, the traces want %s: another machine or state; --bound \"%s=LOW-HIGH\" widens, 1-1 fixes it",
        p->name, expected, value, e->state == FIT_AT_LOWER ? "less" : "more", p->name);
}

static void machine_of(const struct calibration *c, const struct fit_result *r, struct hardware *out)
{
    double factor[FIT_PARAMETERS_MAX];
    for (int i = 0; i < c->n_rates; i++) {
        factor[i] = r->estimate[i].value;
    }
    apply(c, factor, out);
}

/* -- errors ------------------------------------------------------------------------------------------------------------------- */

static enum status error_of(const struct observed *b, const struct hardware *hw, struct trace_error *out, struct error *err)
{
    double predicted, off_s = 0, all_s = 0, *seconds = malloc((size_t)b->n_groups * sizeof *seconds);
    if (!seconds) {
        return no_memory(err);
    }
    enum status status = observed_throughput(b, hw, &predicted, err);
    observed_predict(b, hw, seconds);
    for (int i = 0; i < b->n_groups; i++) {
        off_s += fabs(seconds[i] - b->group[i].measured_s);
        all_s += b->group[i].measured_s;
    }
    *out = (struct trace_error){predicted / b->throughput_tok_s - 1, off_s / all_s};
    free(seconds);
    return status;
}

static enum status all_errors(struct calibration *c, struct error *err)
{
    enum status status = STATUS_OK;
    for (int i = 0; i < c->n_traces && status == STATUS_OK; i++) {
        struct calibrated_trace *e = &c->error[i];
        status = error_of(&c->trace[i], &c->profile, &e->before, err);
        if (status == STATUS_OK) {
            status = error_of(&c->trace[i], &c->fitted, &e->after, err);
        }
        if (i >= c->n_fitted) {
            e->left_out = e->after;
            e->was_left_out = true;
        }
    }
    return status;
}

/* Fits to all but every CALIBRATE_FOLDS_MAX-th trace from `fold` on, and predicts those. */
static enum status leave_out(struct calibration *c, int fold, struct error *err)
{
    struct fit_result *result = malloc(sizeof *result);
    struct hardware hw;
    enum status status = result ? solve(c, fold, result, err) : no_memory(err);
    if (status == STATUS_OK) {
        machine_of(c, result, &hw);
    }
    for (int i = fold; i < c->n_fitted && status == STATUS_OK; i += CALIBRATE_FOLDS_MAX) {
        status = error_of(&c->trace[i], &hw, &c->error[i].left_out, err);
        c->error[i].was_left_out = true;
    }
    free(result);
    return status;
}

/* Without traces held out, and with three or more, each is left out in turn. */
static enum status cross_validate(struct calibration *c, struct error *err)
{
    enum status status = STATUS_OK;
    if (c->n_traces > c->n_fitted || c->n_fitted < 3) {
        return STATUS_OK;
    }
    for (int fold = 0; fold < CALIBRATE_FOLDS_MAX && fold < c->n_fitted && status == STATUS_OK; fold++) {
        status = leave_out(c, fold, err);
    }
    return status;
}

/* -- how uncertain the rates are ------------------------------------------------------------------------------------------------ */

/* Seconds of every resource over the fitted traces. */
static enum status resource_seconds(const struct calibration *c, const struct hardware *hw, double *seconds, struct error *err)
{
    memset(seconds, 0, RESOURCES_MAX * sizeof *seconds);
    for (int i = 0; i < c->n_fitted; i++) {
        const struct observed *b = &c->trace[i];
        double *group_s = malloc((size_t)b->n_groups * sizeof *group_s);
        if (!group_s) {
            return no_memory(err);
        }
        observed_predict(b, hw, group_s);
        for (int g = 0; g < b->n_groups; g++) {
            seconds[b->group[g].resource] += group_s[g];
        }
        free(group_s);
    }
    return STATUS_OK;
}

/* d log(seconds) / d log(rate) of every resource, by central differences. */
static enum status slopes(const struct calibration *c, int rate, double *slope, struct error *err)
{
    const double step = 1e-4;
    double low[RESOURCES_MAX], high[RESOURCES_MAX];
    const double factor = c->result.estimate[rate].value;
    struct hardware hw = c->fitted;
    hardware_field_put(&hw, &c->rate[rate], value_of(c, rate, factor * exp(-step)));
    enum status status = resource_seconds(c, &hw, low, err);
    hardware_field_put(&hw, &c->rate[rate], value_of(c, rate, factor * exp(step)));
    if (status == STATUS_OK) {
        status = resource_seconds(c, &hw, high, err);
    }
    for (int r = 0; r < RESOURCES_MAX && status == STATUS_OK; r++) {
        slope[r] = low[r] > 0 ? log(high[r] / low[r]) / (2 * step) : 0;
    }
    return status;
}

/* The scatter of the groups of each resource, each by its share of the resource's time. */
static enum status scatter_squared(const struct calibration *c, double *scatter, struct error *err)
{
    double weight[RESOURCES_MAX] = {0}, sum[RESOURCES_MAX] = {0};
    for (int i = 0; i < c->n_fitted; i++) {
        const struct observed *b = &c->trace[i];
        double *residual = malloc((size_t)b->n_groups * sizeof *residual);
        if (!residual) {
            return no_memory(err);
        }
        observed_residuals(b, &c->fitted, residual);
        for (int g = 0; g < b->n_groups; g++) {
            weight[b->group[g].resource] += b->group[g].measured_s;
            sum[b->group[g].resource] += b->group[g].measured_s * residual[g] * residual[g];
        }
        free(residual);
    }
    for (int r = 0; r < RESOURCES_MAX; r++) {
        scatter[r] = weight[r] > 0 ? sum[r] / weight[r] : 0;
    }
    return STATUS_OK;
}

/* Of a resource's time: the scatter, and the standard errors of its rates carried through to it. */
static enum status find_spreads(struct calibration *c, struct error *err)
{
    double squared[RESOURCES_MAX], slope[FIT_PARAMETERS_MAX][RESOURCES_MAX] = {{0}};
    enum status status = scatter_squared(c, squared, err);
    for (int i = 0; i < c->n_rates && status == STATUS_OK; i++) {
        if (c->result.estimate[i].state == FIT_DETERMINED) {
            status = slopes(c, i, slope[i], err);
        }
    }
    for (int r = 0; r < RESOURCES_MAX && status == STATUS_OK; r++) {
        double of_resource[FIT_PARAMETERS_MAX];
        for (int i = 0; i < c->n_rates; i++) {
            of_resource[i] = slope[i][r];
        }
        c->spread[r] = sqrt(squared[r] + fit_carried_variance(&c->result, c->n_rates, of_resource));
    }
    return status;
}

/* What the traces say of a resource becomes the error bar of its predictions. */
static void write_spreads(struct calibration *c)
{
    for (int r = 0; r < resource_count(&c->fitted); r++) {
        if (c->spread[r] > 0) {
            resource_set_spread(&c->fitted, r, c->spread[r]);
        }
    }
}

enum status calibration_run(struct calibration *c, struct error *err)
{
    enum status status = solve(c, -1, &c->result, err);
    for (int i = 0; i < c->n_rates && status == STATUS_OK; i++) {
        if (at_bound(&c->result.estimate[i])) {
            status = refuse(c, i, err);
        }
    }
    if (status == STATUS_OK) {
        machine_of(c, &c->result, &c->fitted);
        status = find_spreads(c, err);
    }
    if (status == STATUS_OK) {
        write_spreads(c);
    }
    if (status == STATUS_OK) {
        status = all_errors(c, err);
    }
    return status == STATUS_OK ? cross_validate(c, err) : status;
}

double calibration_error(const struct calibration *c, int rate)
{
    const struct fit_estimate *e = &c->result.estimate[rate];
    const double value = hardware_field_get(&c->fitted, &c->rate[rate]);
    return e->state == FIT_DETERMINED && value > 0 ? e->relative * (value + base_of(&c->rate[rate])) / value : NAN;
}
