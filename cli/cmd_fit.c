/* cmd_fit.c - ballast fit: the rates of a profile adjusted to what traces measured. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/calibrate.h"
#include "cli/commands.h"

/* -- tables ------------------------------------------------------------------------------------------------------------- */

static void fill_rates(struct table *t, const struct calibration *c, bool people)
{
    table_init(t);
    table_column(t, "rate", COLUMN_TEXT);
    table_column(t, "before", people ? COLUMN_TEXT : COLUMN_NUMBER);
    table_column(t, "after", people ? COLUMN_TEXT : COLUMN_NUMBER);
    table_column(t, "change_percent", COLUMN_NUMBER);
    table_column(t, "standard_error_percent", COLUMN_NUMBER);
    table_column(t, "state", COLUMN_TEXT);
    for (int i = 0; i < c->n_rates; i++) {
        const struct fit_estimate *e = &c->result.estimate[i];
        const double before = hardware_field_get(&c->profile, &c->rate[i]);
        const double after = hardware_field_get(&c->fitted, &c->rate[i]);
        char text[48];
        table_text(t, c->parameter[i].name);
        if (people) {
            table_text(t, units_format(before, hardware_field_unit(&c->rate[i]), text, sizeof text));
            table_text(t, units_format(after, hardware_field_unit(&c->rate[i]), text, sizeof text));
        } else {
            table_number(t, before);
            table_number(t, after);
        }
        table_number(t, before > 0 ? 100 * (after / before - 1) : NAN);
        table_number(t, 100 * calibration_error(c, i));
        table_text(t, fit_state_name(e->state));
    }
}

static void fill_resources(struct table *t, const struct calibration *c)
{
    table_init(t);
    table_column(t, "resource", COLUMN_TEXT);
    table_column(t, "spread_percent", COLUMN_NUMBER);
    for (int r = 0; r < resource_count(&c->profile); r++) {
        char name[40];
        if (c->spread[r] > 0) {
            table_text(t, resource_name(&c->profile, r, name));
            table_number(t, 100 * c->spread[r]);
        }
    }
}

static void fill_traces(struct table *t, const struct calibration *c)
{
    table_init(t);
    table_column(t, "trace", COLUMN_TEXT);
    table_column(t, "role", COLUMN_TEXT);
    table_column(t, "measured_tok_s", COLUMN_NUMBER);
    table_column(t, "throughput_error_before_percent", COLUMN_NUMBER);
    table_column(t, "after_percent", COLUMN_NUMBER);
    table_column(t, "left_out_percent", COLUMN_NUMBER);
    table_column(t, "busy_error_before_percent", COLUMN_NUMBER);
    table_column(t, "busy_after_percent", COLUMN_NUMBER);
    table_column(t, "busy_left_out_percent", COLUMN_NUMBER);
    for (int i = 0; i < c->n_traces; i++) {
        const struct calibrated_trace *e = &c->error[i];
        table_text(t, c->trace[i].path);
        table_text(t, i < c->n_fitted ? "fitted" : "held out");
        table_number(t, c->trace[i].throughput_tok_s);
        table_number(t, 100 * e->before.throughput);
        table_number(t, 100 * e->after.throughput);
        table_number(t, e->was_left_out ? 100 * e->left_out.throughput : NAN);
        table_number(t, 100 * e->before.busy);
        table_number(t, 100 * e->after.busy);
        table_number(t, e->was_left_out ? 100 * e->left_out.busy : NAN);
    }
}

/* Mean absolute errors in percent: of the fitted traces, and of those left out. */
struct means {
    double before, after, left_out, left_out_before;
    int n_left_out;
};

static struct means means_of(const struct calibration *c)
{
    struct means m = {0};
    for (int i = 0; i < c->n_traces; i++) {
        const struct calibrated_trace *e = &c->error[i];
        if (i < c->n_fitted) {
            m.before += 100 * fabs(e->before.throughput) / c->n_fitted;
            m.after += 100 * fabs(e->after.throughput) / c->n_fitted;
        }
        if (e->was_left_out) {
            m.left_out += 100 * fabs(e->left_out.throughput);
            m.left_out_before += 100 * fabs(e->before.throughput);
            m.n_left_out++;
        }
    }
    m.left_out = m.n_left_out ? m.left_out / m.n_left_out : NAN;
    m.left_out_before = m.n_left_out ? m.left_out_before / m.n_left_out : NAN;
    return m;
}

/* -- printing ------------------------------------------------------------------------------------------------------------- */

static enum status print_text(const struct calibration *c, struct error *err)
{
    struct table table[3];
    const struct means m = means_of(c);
    enum status status = STATUS_OK;
    fill_rates(&table[0], c, true);
    fill_resources(&table[1], c);
    fill_traces(&table[2], c);
    for (int i = 0; i < 3; i++) {
        status = status == STATUS_OK ? table_write(&table[i], OUTPUT_MD, stdout, err) : status;
        printf("\n");
        table_free(&table[i]);
    }
    printf("Times of %s: off by %.1f %% (root mean square) before, %.1f %% after.\n", "groups of operations",
           100 * c->result.rms_before, 100 * c->result.rms_after);
    printf("Throughput of the %d fitted: off by %.1f %% on average before, %.1f %% after.\n", c->n_fitted, m.before, m.after);
    if (m.n_left_out) {
        printf("Throughput of %d that the fit did not see: %.1f %% before, %.1f %% after.\n", m.n_left_out, m.left_out_before,
               m.left_out);
    } else {
        printf("No trace was held out: give --hold-out TRACE, or three traces or more.\n");
    }
    return status;
}

static enum status print_json(const struct calibration *c, struct error *err)
{
    struct table rates, resources, traces;
    const struct means m = means_of(c);
    fill_rates(&rates, c, false);
    fill_resources(&resources, c);
    fill_traces(&traces, c);
    json_t *all =
        json_pack("{s:o?, s:o?, s:o?, s:f, s:f, s:f, s:f}", "rates", table_rows_json(&rates), "resources",
                  table_rows_json(&resources), "traces", table_rows_json(&traces), "rms_before", c->result.rms_before,
                  "rms_after", c->result.rms_after, "mean_error_before_percent", m.before, "mean_error_after_percent", m.after);
    if (all && m.n_left_out) {
        json_object_set_new(all, "mean_error_left_out_percent", json_real(m.left_out));
    }
    bool failed = !all || json_dumpf(all, stdout, JSON_INDENT(2)) != 0;
    printf("\n");
    json_decref(all);
    table_free(&rates);
    table_free(&resources);
    table_free(&traces);
    return failed ? error_set(err, STATUS_RUNTIME, "cannot write the result") : STATUS_OK;
}

/* -- the command ---------------------------------------------------------------------------------------------------------- */

static enum status save(struct calibration *c, const struct options *o, struct error *err)
{
    char source[400];
    snprintf(source, sizeof source, "ballast fit: %d trace(s) of %s, from profile %s", c->n_fitted, o->model, o->hardware);
    if (strcmp(c->fitted.estimate, "datasheet") == 0) {
        snprintf(c->fitted.estimate, sizeof c->fitted.estimate, "mixed");
    }
    return hardware_save(&c->fitted, o->file, source, err);
}

static enum status fit(const struct options *o, struct error *err)
{
    const int n = o->n_arguments + o->n_hold_outs;
    struct calibration c = {0};
    char **path = calloc((size_t)n, sizeof *path);
    if (!path) {
        return error_set(err, STATUS_RUNTIME, "out of memory");
    }
    for (int i = 0; i < n; i++) {
        path[i] = i < o->n_arguments ? o->argument[i] : (char *)o->hold_out[i - o->n_arguments];
    }
    enum status status = calibration_open(&c, o, path, n, o->n_arguments, err);
    for (int i = 0; i < o->n_bounds && status == STATUS_OK; i++) {
        status = calibration_bound(&c, o->bound[i], err);
    }
    if (status == STATUS_OK) {
        status = calibration_run(&c, err);
    }
    if (status == STATUS_OK) {
        status = save(&c, o, err);
    }
    if (status == STATUS_OK) {
        status = o->report == OUTPUT_JSON ? print_json(&c, err) : print_text(&c, err);
    }
    calibration_free(&c);
    free(path);
    return status;
}

int cmd_fit(int argc, char **argv)
{
    static const struct command_usage USAGE = {
        "fit", "TRACE... -m MODEL -H PROFILE -o FITTED [OPTIONS]",
        "Adjusts the rates of a profile to the operations that traces measured (\"ballast run --trace\"): which, by how much, how\n"
        "certain, and the error before and after, also on traces that the fit did not see: those of --hold-out, else each of three\n"
        "or more in turn. A rate beyond a quarter to four times the profile's, or beyond its --bound, is refused.",
        OPTION_MODEL | OPTION_HARDWARE | OPTION_FILE | OPTION_FIT | OPTION_ARGUMENTS};
    struct options o;
    struct error err = {0};
    int code;
    if (!options_parse(&o, &USAGE, argc, argv, &code)) {
        return code;
    }
    if (options_traces(&o, &err) != STATUS_OK) {
        return command_fail(USAGE.name, &err);
    }
    if (!o.file) {
        error_set(&err, STATUS_INVALID, "-o/--output is missing: the file for the fitted profile");
    } else if (!o.model) {
        error_set(&err, STATUS_INVALID, "-m/--model is missing: the model of the traces");
    } else {
        fit(&o, &err);
    }
    return err.status == STATUS_OK ? STATUS_OK : command_fail(USAGE.name, &err);
}
