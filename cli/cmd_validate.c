/* cmd_validate.c - ballast validate: predicted against measured, over any number of traces. */
#include <stdio.h>
#include <stdlib.h>

#include "cli/commands.h"
#include "cli/options.h"
#include "traces/trace.h"
#include "traces/validate.h"

/* Reads every trace and judges them together. */
static enum status validate_files(const struct options *o, struct error *err)
{
    int n = o->n_arguments;
    struct validate_report *report = calloc(1, sizeof *report);
    struct trace *traces = calloc((size_t)n, sizeof *traces);
    const struct trace **each = calloc((size_t)n, sizeof *each);
    enum status status = STATUS_OK;
    if (!report || !traces || !each) {
        status = error_set(err, STATUS_RUNTIME, "out of memory for %d traces", n);
        goto out;
    }
    for (int i = 0; i < n; i++) {
        trace_init(&traces[i]);
        each[i] = &traces[i];
    }
    for (int i = 0; status == STATUS_OK && i < n; i++) {
        status = trace_read_csv(&traces[i], o->argument[i], err);
    }
    if (status == STATUS_OK) {
        status = validate_traces(each, n, &o->limits, report, err);
    }
    if (status == STATUS_OK) {
        status = validate_print(report, output_format_name(o->format), stdout, err);
    }
    if (status == STATUS_OK && !report->pass) {
        fflush(stdout);
        status = error_set(err, STATUS_TOLERANCE, "the prediction is outside its tolerance");
    }
out:
    for (int i = 0; traces && i < n; i++) {
        trace_free(&traces[i]);
    }
    free(each);
    free(traces);
    free(report);
    return status;
}

int cmd_validate(int argc, char **argv)
{
    static const struct command_usage USAGE =
        {"validate", "TRACE... [OPTIONS]",
         "Compares what traces measured with what their header predicted: throughput, time of each resource, peak bytes of each\n"
         "tier. Exit status 4 if an error exceeds its limit (relative: 0.1 is 10 %). Simulated traces share the cost model, so\n"
         "they check order, overlap and capacity only.",
         OPTION_LIMITS | OPTION_FORMAT | OPTION_ARGUMENTS};
    struct options o;
    struct error err = {0};
    int code;
    if (!options_parse(&o, &USAGE, argc, argv, &code)) {
        return code;
    }
    if (options_traces(&o, &err) == STATUS_OK) {
        validate_files(&o, &err);
    }
    return err.status == STATUS_OK ? STATUS_OK : command_fail(USAGE.name, &err);
}
