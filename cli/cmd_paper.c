/* cmd_paper.c - ballast paper: the rows of a paper's tables, published beside predicted and simulated. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/paper_chosen.h"
#include "cli/paper_fit.h"
#include "cli/published.h"
#include "cli/setting.h"
#include "cli/words.h"

/* The paper's machine as its program drives it. */
#define PROFILE "t4-flexgen"

struct result {
    double predicted, simulated;
    double low, high; /* the error bar of `predicted`: the metric scaled as the latency of the block is */
    bool fits;
    char bound_by[40];
};

double published_metric(const char *metric, const struct setting *s, double prefill_s, double decode_s)
{
    double block = (double)policy_block(&s->policy), gen = (double)s->workload.gen_tokens;
    if (strcmp(metric, "prefill_s") == 0) {
        return prefill_s;
    }
    if (strcmp(metric, "decode_s") == 0) {
        return decode_s;
    }
    if (strcmp(metric, "decode_tok_s") == 0) {
        return block * (gen - 1) / decode_s;
    }
    return block * gen / (prefill_s + decode_s);
}

static enum status simulate_row(const struct setting *s, const char *metric, double *out, struct error *err)
{
    struct trace_summary sum;
    struct trace t;
    trace_init(&t);
    enum status status = setting_simulate(s, &t, err);
    if (status == STATUS_OK) {
        trace_summarise(&t, &sum);
        *out = published_metric(metric, s, sum.prefill_s, sum.decode_s);
    }
    trace_free(&t);
    return status;
}

enum status published_open(const struct published_row *row, const char *hardware, struct setting *s, bool *fits,
                           struct error *err)
{
    static const struct command_usage USAGE = {"paper", "", "",
                                               OPTION_MODEL | OPTION_HARDWARE | OPTION_WORKLOAD | OPTION_FLEXGEN};
    char *argv[64] = {(char *)"paper",        (char *)"-m", (char *)row->model,         (char *)"-H",
                      (char *)hardware,       (char *)"-p", (char *)row->prompt_tokens, (char *)"-n",
                      (char *)row->gen_tokens};
    struct options o;
    int code = 0;
    char *flags = strdup(row->flags);
    if (!flags) {
        return error_set(err, STATUS_RUNTIME, "out of memory");
    }
    /* the row's flags are read as a command line would be */
    int argc = 9 + words_split(flags, argv + 9, 54);
    enum status status = options_parse(&o, &USAGE, argc, argv, &code)
                             ? setting_reopen_anyway(s, NULL, &o, fits, err)
                             : error_set(err, STATUS_INVALID, "the flags of a row: %s", row->flags);
    free(flags);
    return status;
}

static enum status evaluate(const struct published_row *row, const char *hardware, struct setting *s, struct result *out,
                            struct error *err)
{
    char name[40];
    enum status status = published_open(row, hardware, s, &out->fits, err);
    if (status == STATUS_OK) {
        const struct prediction *p = &s->prediction;
        int bound = p->bound_by[strcmp(row->metric, "prefill_s") == 0 ? PHASE_PREFILL : PHASE_DECODE];
        double low = p->latency_low_s / p->latency_s, high = p->latency_high_s / p->latency_s;
        out->predicted = published_metric(row->metric, s, p->prefill_s, p->decode_s);
        out->low = published_metric(row->metric, s, p->prefill_s * high, p->decode_s * high);
        out->high = published_metric(row->metric, s, p->prefill_s * low, p->decode_s * low);
        if (out->low > out->high) { /* seconds, not a rate */
            double least = out->high;
            out->high = out->low;
            out->low = least;
        }
        snprintf(out->bound_by, sizeof out->bound_by, "%s", resource_name(&s->hardware, bound, name));
        status = simulate_row(s, row->metric, &out->simulated, err);
    }
    return status;
}

/* -- how good it is --------------------------------------------------------------------------------------------------------- */

/* What the paper says of its own system, where it says it with two digits. */
static bool counts(const struct published_row *row)
{
    return strcmp(row->metric, "throughput_tok_s") == 0 && strncmp(row->system, "FlexGen", 7) == 0 && row->value >= 0.1;
}

static double rank_of(const double *x, int n, int i)
{
    double rank = 1;
    for (int j = 0; j < n; j++) {
        rank += x[j] < x[i] ? 1 : x[j] == x[i] && j != i ? 0.5 : 0;
    }
    return rank;
}

/* Spearman's: the correlation of the ranks. */
static double rank_correlation(const double *x, const double *y, int n)
{
    double mean = (n + 1) / 2.0, xy = 0, xx = 0, yy = 0;
    for (int i = 0; i < n; i++) {
        double a = rank_of(x, n, i) - mean, b = rank_of(y, n, i) - mean;
        xy += a * b;
        xx += a * a;
        yy += b * b;
    }
    return xx > 0 && yy > 0 ? xy / sqrt(xx * yy) : NAN;
}

static void print_summary(const struct published *p, const struct result *r, bool fitted)
{
    double *x = calloc((size_t)p->n, sizeof *x), *y = calloc((size_t)p->n, sizeof *y), sum = 0, worst = 0;
    int n = 0, at = 0, inside = 0;
    for (int i = 0; i < p->n && x && y; i++) {
        if (!counts(&p->row[i])) {
            continue;
        }
        double error = fabs(r[i].predicted / p->row[i].value - 1);
        x[n] = p->row[i].value;
        y[n++] = r[i].predicted;
        sum += error;
        inside += p->row[i].value >= r[i].low && p->row[i].value <= r[i].high;
        at = error > worst ? i : at;
        worst = error > worst ? error : worst;
    }
    if (n > 0) {
        printf(
            "\nFlexGen and FlexGen(c), %d rows of 0.1 tok/s or more: off by %.1f %% on average, %.1f %% at worst (table %s, %s, %s, prompt %s); "
            "rank correlation %.3f; %d inside the 90 %% bar.\n",
            n, 100 * sum / n, 100 * worst, p->row[at].table, p->row[at].system, p->row[at].model, p->row[at].prompt_tokens,
            rank_correlation(x, y, n), inside);
    }
    if (fitted) {
        printf(
            "The profile t4-flexgen is fitted to rows of tables 3, 4 and 14 to 16: `ballast paper flexgen fit` prints the error on tables left out.\n");
    } else {
        printf("Predictions: nothing here is fitted to these rows by ballast; the profile says where its rates come from.\n");
    }
    free(x);
    free(y);
}

/* -- the table ---------------------------------------------------------------------------------------------------------------- */

static bool has_bar(const struct result *r)
{
    return r->high < INFINITY && r->high > 0 && r->low != r->high;
}

static enum status print(const struct published *p, const struct result *r, enum output_format format, bool fitted,
                         struct error *err)
{
    struct table t;
    table_init(&t);
    published_columns(&t);
    table_column(&t, "predicted", COLUMN_NUMBER);
    table_column(&t, "low", COLUMN_NUMBER);
    table_column(&t, "high", COLUMN_NUMBER);
    table_column(&t, "simulated", COLUMN_NUMBER);
    table_column(&t, "error_percent", COLUMN_NUMBER);
    table_column(&t, "fits", COLUMN_TEXT);
    table_column(&t, "bound_by", COLUMN_TEXT);
    if (format != OUTPUT_MD) {
        table_column(&t, "flags", COLUMN_TEXT);
    }
    table_column(&t, "note", COLUMN_TEXT);
    for (int i = 0; i < p->n; i++) {
        const struct published_row *row = &p->row[i];
        published_cells(&t, row);
        table_number(&t, r[i].predicted);
        table_number(&t, has_bar(&r[i]) ? r[i].low : NAN);
        table_number(&t, has_bar(&r[i]) ? r[i].high : NAN);
        table_number(&t, r[i].simulated);
        table_number(&t, 100 * (r[i].predicted / row->value - 1));
        table_text(&t, r[i].fits ? "yes" : "no");
        table_text(&t, r[i].bound_by);
        if (format != OUTPUT_MD) {
            table_text(&t, row->flags);
        }
        table_text(&t, row->note);
    }
    enum status status = table_write(&t, format, stdout, err);
    table_free(&t);
    if (status == STATUS_OK && format == OUTPUT_MD) {
        print_summary(p, r, fitted);
    }
    return status;
}

int cmd_paper(int argc, char **argv)
{
    static const struct command_usage USAGE = {
        "paper", "NAME [TABLE | chosen | fit [FILE]] [-H FILE] [-o md|csv|json|jsonl]",
        "The published rows of a paper (flexgen), all or of one table, beside what the cost model predicts and the simulator finds for\n"
        "the same policy on the paper's machine (t4-flexgen, or -H). \"fit\" fits that machine's rates to the rows, says how well the rows know each,\n"
        "how far off the tables are in and out of the sample, and writes the profile to FILE. \"chosen\" plans for every policy that the paper chose.",
        OPTION_HARDWARE | OPTION_FORMAT | OPTION_ARGUMENTS};
    struct options o;
    struct setting s = {0};
    struct published p = {0};
    struct error err = {0};
    int code;
    if (!options_parse(&o, &USAGE, argc, argv, &code)) {
        return code;
    }
    const char *hardware = o.hardware ? o.hardware : PROFILE;
    bool fit = o.n_arguments > 1 && strcmp(o.argument[1], "fit") == 0;
    bool chosen = o.n_arguments > 1 && strcmp(o.argument[1], "chosen") == 0;
    if (o.n_arguments < 1 || o.n_arguments > (fit ? 3 : 2)) {
        error_set(&err, STATUS_INVALID,
                  o.n_arguments < 1 ? "the name of a paper is missing: ballast paper flexgen" : "expected a paper and a table");
        return command_fail(USAGE.name, &err);
    }
    enum status status = published_load(&p, o.argument[0], o.n_arguments > 1 && !fit && !chosen ? o.argument[1] : NULL, &err);
    if (status == STATUS_OK && (fit || chosen)) {
        status = chosen ? paper_chosen(&p, hardware, o.format, &err)
                        : paper_fit(&p, o.n_arguments > 2 ? o.argument[2] : NULL, o.format, &err);
        published_free(&p);
        return status == STATUS_OK ? STATUS_OK : command_fail(USAGE.name, &err);
    }
    struct result *r = calloc((size_t)p.n + 1, sizeof *r);
    if (!r) {
        status = error_set(&err, STATUS_RUNTIME, "out of memory");
    }
    for (int i = 0; i < p.n && status == STATUS_OK; i++) {
        status = evaluate(&p.row[i], hardware, &s, &r[i], &err);
    }
    if (status == STATUS_OK) {
        print(&p, r, o.format, strcmp(hardware, PROFILE) == 0, &err);
    }
    free(r);
    setting_close(&s);
    published_free(&p);
    return err.status == STATUS_OK ? STATUS_OK : command_fail(USAGE.name, &err);
}
