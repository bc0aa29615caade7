/* validate.c - relative errors per term over a list of traces, their statistics, the verdict and its four ways to print.
 *
 * The relative error of a term is (predicted - measured) / measured. Two conventions keep it meaningful: the error of a
 * time measured below 1 % of its run is relative to that 1 %, so that a prediction of something that never ran is a large number
 * and not a division by zero; the throughput error is formed from the two total times, so the token count cancels.
 */
#include "traces/validate.h"

#include <csv.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define SMALLEST_SHARE 0.01 /* of the total time: busy times below it are left out */
#define COUNT_OF(a)    ((int)(sizeof(a) / sizeof(a)[0]))

enum { TERMS_MAX = COUNT_OF(((struct validate_report *)0)->term) };

void validate_limits_default(struct validate_limits *l)
{
    *l = (struct validate_limits){.mean_error = 0.10, .worst_error = 0.20, .peak_error = 0.01};
}

/* -- the order of one trace ------------------------------------------------------------------------------------------ */

static int by_resource_and_start(const void *a, const void *b)
{
    const struct trace_event *x = *(const struct trace_event *const *)a, *y = *(const struct trace_event *const *)b;
    if (x->resource != y->resource)
        return x->resource < y->resource ? -1 : 1;
    if (x->start_ns != y->start_ns)
        return x->start_ns < y->start_ns ? -1 : 1;
    return x->end_ns < y->end_ns ? -1 : x->end_ns > y->end_ns;
}

/* Names the n-th trace (from 0) for a message. */
static const char *trace_label(const struct trace *t, int n, char buf[224])
{
    snprintf(buf, 224, "trace %d (%s on %s, %s)", n + 1, t->model, t->machine, trace_origin_name(t->origin));
    return buf;
}

static enum status check_events(const struct trace *t, int n, struct error *err)
{
    char label[224];
    for (int64_t i = 0; i < t->n_events; i++) {
        const struct trace_event *e = &t->event[i];
        if (e->end_ns < e->start_ns)
            return error_set(err, STATUS_INVALID, "%s: op %d: expected an end after its start at %" PRId64 " ns, found %" PRId64,
                             trace_label(t, n, label), e->op, e->start_ns, e->end_ns);
        if (e->resource < 0 || e->resource >= t->n_resources)
            return error_set(err, STATUS_INVALID, "%s: op %d: expected one of %d resources, found number %d",
                             trace_label(t, n, label), e->op, t->n_resources, e->resource);
    }
    return STATUS_OK;
}

/* No two events share a resource for a moment; an event without duration shares nothing. */
static enum status check_overlap(const struct trace *t, int n, struct error *err)
{
    enum status s = STATUS_OK;
    const struct trace_event **sorted = malloc((size_t)(t->n_events + 1) * sizeof *sorted);
    if (!sorted)
        return error_errno(err, ENOMEM, "validate: %" PRId64 " events", t->n_events);
    int64_t kept = 0;
    for (int64_t i = 0; i < t->n_events; i++)
        if (t->event[i].end_ns > t->event[i].start_ns)
            sorted[kept++] = &t->event[i];
    qsort(sorted, (size_t)kept, sizeof *sorted, by_resource_and_start);
    for (int64_t i = 1; s == STATUS_OK && i < kept; i++) {
        const struct trace_event *a = sorted[i - 1], *b = sorted[i];
        char label[224];
        if (a->resource == b->resource && b->start_ns < a->end_ns)
            s = error_set(err, STATUS_INVALID,
                          "%s: expected one operation at a time on %s, found op %d starting at %" PRId64
                          " ns before op %d ends at %" PRId64 " ns",
                          trace_label(t, n, label), t->resource_name[a->resource], b->op, b->start_ns, a->op, a->end_ns);
    }
    free(sorted);
    return s;
}

/* -- the terms ------------------------------------------------------------------------------------------------------- */

enum term_group { GROUP_TOTAL, GROUP_PREFILL, GROUP_DECODE, GROUP_PEAK, GROUP_COUNT };

/* All errors of all terms, before they become statistics: a term has at most one error a trace. */
struct collected {
    struct validate_report *report;
    enum term_group group[TERMS_MAX];
    double *errors; /* (TERMS_MAX, n_traces) */
    int n_traces;
};

static enum status add_error(struct collected *c, enum term_group group, const char *name, double error, struct error *err)
{
    struct validate_report *r = c->report;
    int i = 0;
    while (i < r->n_terms && strcmp(r->term[i].name, name) != 0)
        i++;
    if (i == TERMS_MAX)
        return error_set(err, STATUS_INVALID, "validate: expected traces of at most %d terms in all, found more", TERMS_MAX);
    if (i == r->n_terms) {
        r->n_terms++;
        c->group[i] = group;
        snprintf(r->term[i].name, sizeof r->term[i].name, "%s", name);
    }
    c->errors[(size_t)i * (size_t)c->n_traces + (size_t)r->term[i].n++] = error;
    return STATUS_OK;
}

/* How far the measured time is beyond the error bar of the prediction, or beyond the prediction itself where it has no bar. */
static void add_beyond(struct validate_report *r, const struct trace *t, double predicted_s, double measured_s)
{
    const bool bar = t->predicted_low_s > 0 && t->predicted_high_s >= t->predicted_low_s;
    const double low = bar ? t->predicted_low_s : predicted_s, high = bar ? t->predicted_high_s : predicted_s;
    const double beyond = measured_s > high ? measured_s / high - 1 : measured_s < low ? 1 - measured_s / low : 0;
    r->n_bars += bar;
    r->n_inside += bar && beyond == 0;
    r->bar_half_width += (high - low) / 2 / predicted_s; /* sums, until they become means */
    r->beyond_mean += beyond;
    r->beyond_worst = fmax(r->beyond_worst, beyond);
}

/* predicted and measured in s; left out where both are below the smallest share of `total_s`. */
static enum status add_time(struct collected *c, enum term_group group, const char *name, double predicted, double measured,
                            double total_s, struct error *err)
{
    const double floor_s = SMALLEST_SHARE * total_s;
    if (predicted < floor_s && measured < floor_s)
        return STATUS_OK;
    const double base = measured > floor_s ? measured : floor_s;
    return add_error(c, group, name, (predicted - measured) / base, err);
}

static enum status add_times(struct collected *c, const struct trace *t, struct error *err)
{
    static const char *const phase[2] = {"prefill", "decode"};
    struct trace_summary m;
    trace_summarise(t, &m);
    const double predicted_s = t->predicted_prefill_s + t->predicted_decode_s;
    if (predicted_s <= 0 || m.total_s <= 0)
        return STATUS_OK; /* nothing was predicted, or nothing ran */
    enum status s = add_error(c, GROUP_TOTAL, "throughput", m.total_s / predicted_s - 1, err);
    add_beyond(c->report, t, predicted_s, m.total_s);
    if (s == STATUS_OK)
        s = add_time(c, GROUP_TOTAL, phase[0], t->predicted_prefill_s, m.prefill_s, m.total_s, err);
    if (s == STATUS_OK)
        s = add_time(c, GROUP_TOTAL, phase[1], t->predicted_decode_s, m.decode_s, m.total_s, err);
    for (int p = 0; p < 2; p++)
        for (int r = 0; s == STATUS_OK && r < t->n_resources; r++) {
            char name[64];
            snprintf(name, sizeof name, "%s %s busy", phase[p], t->resource_name[r]);
            s = add_time(c, GROUP_PREFILL + p, name, t->predicted_busy_s[p][r], m.busy_s[p][r], m.total_s, err);
        }
    return s;
}

/* Bytes that the trace saw on a tier at most: recorded by the arena in a run, the largest sample of a simulation. */
static double peak_bytes(const struct trace *t, int tier)
{
    int64_t peak = t->origin != TRACE_SIMULATED ? t->measured_peak_bytes[tier] : 0;
    for (int64_t i = 0; i < t->n_samples; i++)
        if (t->sample[i].tier == tier && t->sample[i].bytes > peak)
            peak = t->sample[i].bytes;
    return (double)peak;
}

static enum status add_peaks(struct collected *c, const struct trace *t, struct error *err)
{
    enum status s = STATUS_OK;
    for (int i = 0; s == STATUS_OK && i < t->n_tiers; i++) {
        const double predicted = t->predicted_peak_bytes[i], seen = peak_bytes(t, i);
        char name[64];
        snprintf(name, sizeof name, "%speak %s", t->origin == TRACE_SIMULATED ? "simulated " : "", t->tier_name[i]);
        double error = (predicted - seen) / seen;
        if (t->origin == TRACE_SIMULATED && error > 0) /* less in use than there is room for */
            error = 0;
        if (predicted > 0 && seen > 0)
            s = add_error(c, GROUP_PEAK, name, error, err);
    }
    return s;
}

static enum status add_trace(struct collected *c, const struct trace *t, int n, struct error *err)
{
    const bool timeless = t->origin != TRACE_MEASURED; /* whose times are no evidence */
    enum status s = check_events(t, n, err);
    if (s == STATUS_OK)
        s = check_overlap(t, n, err);
    if (s == STATUS_OK && !timeless)
        s = add_times(c, t, err);
    if (s == STATUS_OK)
        s = add_peaks(c, t, err);
    c->report->n_simulated += timeless;
    return s;
}

/* -- statistics and verdict ------------------------------------------------------------------------------------------ */

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void finish_term(struct validate_term *term, double *error)
{
    const int n = term->n;
    for (int i = 0; i < n; i++) {
        term->signed_mean += error[i] / n;
        error[i] = fabs(error[i]);
        term->abs_mean += error[i] / n;
    }
    qsort(error, (size_t)n, sizeof *error, by_size);
    term->abs_p90 = error[(9 * n + 9) / 10 - 1]; /* nearest rank: the ceil(0.9 n)-th */
    term->abs_worst = error[n - 1];
}

/* Puts the terms in the order of a report: totals, prefill, decode, peaks; inside a group as first seen. Returns the index of the
 * first peak. */
static int sort_terms(struct collected *c)
{
    struct validate_report *r = c->report;
    struct validate_term sorted[TERMS_MAX];
    int n = 0, first_peak = 0;
    for (int g = 0; g < GROUP_COUNT; g++) {
        first_peak = n;
        for (int i = 0; i < r->n_terms; i++)
            if (c->group[i] == (enum term_group)g)
                sorted[n++] = r->term[i];
    }
    memcpy(r->term, sorted, (size_t)n * sizeof sorted[0]);
    return first_peak;
}

static const struct validate_term *find_term(const struct validate_report *r, const char *name)
{
    for (int i = 0; i < r->n_terms; i++)
        if (strcmp(r->term[i].name, name) == 0)
            return &r->term[i];
    return NULL;
}

/* The term with the largest error from `first` on; NULL without any. */
static const struct validate_term *worst_from(const struct validate_report *r, int first)
{
    const struct validate_term *worst = first < r->n_terms ? &r->term[first] : NULL;
    for (int i = first; i < r->n_terms; i++)
        if (r->term[i].abs_worst > worst->abs_worst)
            worst = &r->term[i];
    return worst;
}

static void judge(struct validate_report *r, const struct validate_limits *l, int first_peak)
{
    const struct validate_term *tp = find_term(r, "throughput"), *peak = worst_from(r, first_peak);
    r->beyond_mean /= tp ? tp->n : 1;
    r->bar_half_width /= r->n_bars > 0 ? r->n_bars : 1;
    const bool tp_ok = tp && r->beyond_mean <= l->mean_error && r->beyond_worst <= l->worst_error;
    const bool peak_ok = !peak || peak->abs_worst <= l->peak_error;
    const int measured = r->n_traces - r->n_simulated;
    char time[104] = "no measured trace, so no time was validated", bytes[88] = "no peak to compare", bars[120] = "";
    r->pass = (tp_ok || measured == 0) && peak_ok;
    if (tp)
        snprintf(time, sizeof time, "throughput off by %.3g %% on average (limit %.3g %%), %.3g %% at worst (limit %.3g %%)",
                 100 * tp->abs_mean, 100 * l->mean_error, 100 * tp->abs_worst, 100 * l->worst_error);
    else if (measured > 0)
        snprintf(time, sizeof time, "no measured trace carries a prediction");
    if (r->n_bars > 0)
        snprintf(bars, sizeof bars, "; %d of %d inside the error bar (+-%.2g %%), beyond it %.3g %% on average, %.3g %% at worst",
                 r->n_inside, r->n_bars, 100 * r->bar_half_width, 100 * r->beyond_mean, 100 * r->beyond_worst);
    if (peak)
        snprintf(bytes, sizeof bytes, "%.32s off by %.3g %% at worst (limit %.3g %%)", peak->name, 100 * peak->abs_worst,
                 100 * l->peak_error);
    snprintf(r->verdict, sizeof r->verdict, "%s: %s%s; %s; %d measured, %d simulated", r->pass ? "PASS" : "FAIL", time, bars,
             bytes, measured, r->n_simulated);
}

enum status validate_traces(const struct trace *const *traces, int n, const struct validate_limits *limits,
                            struct validate_report *out, struct error *err)
{
    memset(out, 0, sizeof *out);
    if (n < 1)
        return error_set(err, STATUS_INVALID, "validate: expected at least one trace, found none");
    struct collected c = {.report = out, .n_traces = n, .errors = calloc((size_t)n * TERMS_MAX, sizeof(double))};
    if (!c.errors)
        return error_errno(err, ENOMEM, "validate: %d traces", n);
    out->n_traces = n;
    enum status s = STATUS_OK;
    for (int i = 0; s == STATUS_OK && i < n; i++)
        s = add_trace(&c, traces[i], i, err);
    if (s == STATUS_OK) {
        for (int i = 0; i < out->n_terms; i++)
            finish_term(&out->term[i], c.errors + (size_t)i * (size_t)n);
        judge(out, limits, sort_terms(&c));
    }
    free(c.errors);
    return s;
}

/* -- printing -------------------------------------------------------------------------------------------------------- */

static void print_md(const struct validate_report *r, FILE *out)
{
    fputs("| term | n | signed mean % | mean abs % | p90 abs % | worst % |\n|---|---:|---:|---:|---:|---:|\n", out);
    for (int i = 0; i < r->n_terms; i++) {
        const struct validate_term *t = &r->term[i];
        fprintf(out, "| %s | %d | %+.2f | %.2f | %.2f | %.2f |\n", t->name, t->n, 100 * t->signed_mean, 100 * t->abs_mean,
                100 * t->abs_p90, 100 * t->abs_worst);
    }
    fprintf(out, "\n%s\n", r->verdict);
}

static void print_csv(const struct validate_report *r, FILE *out)
{
    fputs("term,n,signed_mean_pct,abs_mean_pct,abs_p90_pct,abs_worst_pct\n", out);
    for (int i = 0; i < r->n_terms; i++) {
        const struct validate_term *t = &r->term[i];
        if (strpbrk(t->name, ",\""))
            csv_fwrite(out, t->name, strlen(t->name));
        else
            fputs(t->name, out);
        fprintf(out, ",%d,%.6g,%.6g,%.6g,%.6g\n", t->n, 100 * t->signed_mean, 100 * t->abs_mean, 100 * t->abs_p90,
                100 * t->abs_worst);
    }
    fprintf(out, "# %s\n", r->verdict);
}

/* NULL if memory is out, or if the name is no UTF-8. */
static json_t *term_json(const struct validate_term *t)
{
    return json_pack("{s:s, s:i, s:f, s:f, s:f, s:f}", "term", t->name, "n", t->n, "signed_mean_pct", 100 * t->signed_mean,
                     "abs_mean_pct", 100 * t->abs_mean, "abs_p90_pct", 100 * t->abs_p90, "abs_worst_pct", 100 * t->abs_worst);
}

static json_t *verdict_json(const struct validate_report *r)
{
    return json_pack("{s:i, s:i, s:i, s:i, s:f, s:f, s:f, s:b, s:s}", "n_traces", r->n_traces, "n_simulated", r->n_simulated,
                     "n_bars", r->n_bars, "n_inside", r->n_inside, "bar_half_width", r->bar_half_width, "beyond_mean",
                     r->beyond_mean, "beyond_worst", r->beyond_worst, "pass", r->pass, "verdict", r->verdict);
}

/* Takes `value`; a NULL value is a failure. */
static int dump(json_t *value, size_t flags, FILE *out)
{
    const int rc = value ? json_dumpf(value, out, flags | JSON_REAL_PRECISION(6)) : -1;
    json_decref(value);
    fputc('\n', out);
    return rc;
}

static int print_json(const struct validate_report *r, FILE *out)
{
    json_t *root = verdict_json(r), *terms = json_array();
    int rc = json_object_set_new(root, "terms", terms);
    for (int i = 0; rc == 0 && i < r->n_terms; i++)
        rc = json_array_append_new(terms, term_json(&r->term[i]));
    if (rc == 0)
        return dump(root, JSON_INDENT(2), out);
    json_decref(root);
    return rc;
}

static int print_jsonl(const struct validate_report *r, FILE *out)
{
    int rc = 0;
    for (int i = 0; rc == 0 && i < r->n_terms; i++)
        rc = dump(term_json(&r->term[i]), JSON_COMPACT, out);
    return rc ? rc : dump(verdict_json(r), JSON_COMPACT, out);
}

enum status validate_print(const struct validate_report *r, const char *format, FILE *out, struct error *err)
{
    int rc = 0;
    if (strcmp(format, "md") == 0)
        print_md(r, out);
    else if (strcmp(format, "csv") == 0)
        print_csv(r, out);
    else if (strcmp(format, "json") == 0)
        rc = print_json(r, out);
    else if (strcmp(format, "jsonl") == 0)
        rc = print_jsonl(r, out);
    else
        return error_set(err, STATUS_INVALID, "validate: expected format md, csv, json or jsonl, found '%s'", format);
    if (rc != 0)
        return error_set(err, STATUS_RUNTIME, "validate: the report could not be turned into %s", format);
    return ferror(out) ? error_errno(err, errno, "validate: writing the report") : STATUS_OK;
}
