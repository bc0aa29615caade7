/* cmd_simulate.c - ballast simulate: the schedule on the cost model's clock, operation by operation. */
#include "cli/commands.h"
#include "cli/setting.h"
#include "traces/trace.h"

static enum status write_traces(const struct trace *t, const struct options *o, struct error *err)
{
    const struct trace *one[] = {t};
    enum status status = o->trace ? trace_write_csv(t, o->trace, err) : STATUS_OK;
    if (status == STATUS_OK && o->chrome_trace) {
        status = trace_write_chrome(one, 1, o->chrome_trace, err);
    }
    return status;
}

/* latency: of the replays; NULL without. */
static enum status print(const struct setting *s, const struct trace *t, const struct interval *latency, const struct options *o,
                         struct error *err)
{
    struct prediction p = setting_of_trace(s, t);
    struct table table;
    double low_tok_s = latency ? s->cost.tokens / (s->cost.runs * latency->high_s) : 0,
           high_tok_s = latency ? s->cost.tokens / (s->cost.runs * latency->low_s) : 0;
    table_init(&table);
    setting_columns(&table, s, o->format);
    table_column(&table, "operations", COLUMN_INT);
    if (latency) {
        table_column(&table, "throughput_low_tok_s", COLUMN_NUMBER);
        table_column(&table, "throughput_high_tok_s", COLUMN_NUMBER);
        table_column(&table, "replays", COLUMN_INT);
    }
    setting_cells(&table, s, &p, o->format);
    table_int(&table, t->n_events);
    if (latency) {
        table_number(&table, low_tok_s);
        table_number(&table, high_tok_s);
        table_int(&table, o->replays);
    }
    enum status status = table_write_one(&table, o->format, stdout, err);
    table_free(&table);
    if (status == STATUS_OK && o->format == OUTPUT_MD) {
        printf("\nA simulation (%s profile): predicted times in the schedule's order. The cost table alone says %.4g tok/s.\n",
               s->hardware.estimate, s->prediction.throughput_tok_s);
        if (latency) {
            printf("In 9 of 10 replays with the spread of the profile's rates, %.4g to %.4g tok/s.\n", low_tok_s, high_tok_s);
        }
        setting_explain(s, &p, stdout);
    }
    return status;
}

static enum status run_simulation(const struct setting *s, const struct options *o, struct error *err)
{
    struct trace t;
    struct interval latency;
    trace_init(&t);
    enum status status = setting_simulate(s, &t, err);
    if (status == STATUS_OK && o->noise) {
        status = setting_replay(s, o->noise_seed, (int)o->replays, &latency, err);
    }
    if (status == STATUS_OK) {
        status = write_traces(&t, o, err);
    }
    if (status == STATUS_OK) {
        status = print(s, &t, o->noise ? &latency : NULL, o, err);
    }
    trace_free(&t);
    return status;
}

int cmd_simulate(int argc, char **argv)
{
    static const struct command_usage USAGE =
        {"simulate", "-m MODEL -H FILE (--policy FILE | --percent \"wg wc cg cc hg hc\") [--trace FILE] [OPTIONS]",
         "Advances a clock over the schedule that \"ballast run\" would carry out and writes the same trace columns. Without a\n"
         "policy, for the one that \"ballast plan\" would choose.",
         OPTION_MODEL | OPTION_HARDWARE | OPTION_WORKLOAD | OPTION_POLICY | OPTION_FLEXGEN | OPTION_SEARCH | OPTION_FORMAT |
             OPTION_TRACE | OPTION_NOISE};
    struct options o;
    struct setting s = {0};
    struct error err = {0};
    int code;
    if (!options_parse(&o, &USAGE, argc, argv, &code)) {
        return code;
    }
    if (setting_open(&s, &o, &err) == STATUS_OK) {
        run_simulation(&s, &o, &err);
    }
    setting_close(&s);
    return err.status == STATUS_OK ? STATUS_OK : command_fail(USAGE.name, &err);
}
