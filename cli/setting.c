#include "cli/setting.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "executor/schedule.h"
#include "model/in_use.h"
#include "model/interval.h"
#include "model/shorten.h"
#include "model/units.h"
#include "solver/replan.h"

static bool has_policy(const struct options *o)
{
    return o->policy || o->percent[0];
}

enum status setting_search(struct setting *s, const struct options *o, struct error *err)
{
    struct search_options search_options;
    enum status status = options_search(o, &s->hardware, &search_options, err);
    if (status != STATUS_OK) {
        return status;
    }
    search_options.realise = placement_realise;
    status = search(&s->arch, &s->hardware, &s->workload, &search_options, &s->plan, err);
    s->policy = s->plan.policy;
    s->planned = true;
    return status == STATUS_OK
               ? policy_shorten(&s->arch, &s->hardware, &s->workload, search_options.max_latency_s, &s->policy, err)
               : status;
}

/* Times at the realised fractions, peaks from the placement itself. */
static enum status predict(struct setting *s, struct error *err)
{
    enum status status = cost_build(&s->cost, &s->arch, &s->hardware, &s->workload, &s->policy, err);
    if (status != STATUS_OK) {
        return status;
    }
    const double(*fraction)[TIERS_MAX] = (const double(*)[TIERS_MAX])s->placement.realised;
    struct interval bar;
    cost_predict(&s->cost, fraction, &s->prediction);
    if (cost_interval(&s->cost, &s->hardware, fraction, &bar)) {
        s->prediction.latency_low_s = bar.low_s;
        s->prediction.latency_high_s = bar.high_s;
    }
    s->prediction.pinning_s = placement_pinning_s(&s->placement, &s->hardware);
    for (int ph = 0; ph < PHASE_COUNT; ph++) {
        for (int t = 0; t < s->hardware.n_tiers; t++) {
            s->prediction.peak_bytes[ph][t] = (double)placement_peak(&s->placement, t);
            s->prediction.in_use_bytes[ph][t] =
                (double)in_use_most(&s->placement, &s->arch, &s->workload, &s->policy, (enum phase)ph, t);
        }
    }
    return STATUS_OK;
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static enum status load(struct setting *s, const struct options *before, const struct options *o, struct error *err)
{
    enum status status = STATUS_OK;
    if (!before || !same_text(before->model, o->model) || s->arch.n_layers == 0) {
        arch_free(&s->arch);
        status = options_model(o, &s->arch, err);
    }
    if (status == STATUS_OK && (!before || !same_text(before->hardware, o->hardware) || s->profile.n_tiers == 0)) {
        s->profile.n_tiers = 0;
        status = options_profile(o, &s->profile, err);
    }
    if (status == STATUS_OK) {
        s->hardware = s->profile;
        status = options_change(o, &s->hardware, err);
    }
    if (status == STATUS_OK) {
        status = options_workload(o, &s->arch, &s->workload, err);
    }
    return status;
}

static enum status place(struct setting *s, const struct options *before, const struct options *o, struct error *err)
{
    placement_free(&s->placement);
    s->planned = false;
    enum status status = load(s, before, o, err);
    if (status == STATUS_OK) {
        status = has_policy(o) ? options_policy(o, &s->hardware, &s->policy, err) : setting_search(s, o, err);
    }
    if (status == STATUS_OK) {
        status = placement_new(&s->placement, &s->arch, &s->hardware, &s->workload, &s->policy, err);
    }
    return status;
}

enum status setting_reopen(struct setting *s, const struct options *before, const struct options *o, struct error *err)
{
    enum status status = place(s, before, o, err);
    if (status == STATUS_OK) {
        status = placement_check(&s->placement, &s->hardware, err);
    }
    return status == STATUS_OK ? predict(s, err) : status;
}

enum status setting_reopen_anyway(struct setting *s, const struct options *before, const struct options *o, bool *fits,
                                  struct error *err)
{
    enum status status = place(s, before, o, err);
    *fits = status == STATUS_OK && placement_check(&s->placement, &s->hardware, NULL) == STATUS_OK;
    return status == STATUS_OK ? predict(s, err) : status;
}

enum status setting_open(struct setting *s, const struct options *o, struct error *err)
{
    memset(s, 0, sizeof *s);
    return setting_reopen(s, NULL, o, err);
}

enum status setting_load(struct setting *s, const struct options *o, struct error *err)
{
    memset(s, 0, sizeof *s);
    return load(s, NULL, o, err);
}

/* A corner's plan in the digits that are printed, and what is predicted for those. */
static enum status shorten_corner(const struct setting *s, struct corner *c, struct error *err)
{
    struct placement pl = {0};
    struct cost cost;
    enum status status =
        policy_shorten(&s->arch, &s->hardware, &s->workload, isfinite(c->limit_s) ? c->limit_s : 0, &c->plan.policy, err);
    if (status == STATUS_OK) {
        status = cost_build(&cost, &s->arch, &s->hardware, &s->workload, &c->plan.policy, err);
    }
    if (status == STATUS_OK) {
        status = placement_new(&pl, &s->arch, &s->hardware, &s->workload, &c->plan.policy, err);
    }
    if (status == STATUS_OK) {
        cost_predict(&cost, (const double(*)[TIERS_MAX])pl.realised, &c->plan.prediction);
        c->plan.bound_tok_s = fmax(c->plan.bound_tok_s, c->plan.prediction.throughput_tok_s);
    }
    placement_free(&pl);
    return status;
}

enum status setting_front(const struct setting *s, const struct options *o, struct front *out, struct error *err)
{
    struct search_options search_options;
    enum status status = options_search(o, &s->hardware, &search_options, err);
    search_options.realise = placement_realise;
    if (status == STATUS_OK) {
        status = front_build(out, &s->arch, &s->hardware, &s->workload, &search_options, (int)o->pareto, err);
    }
    for (int i = 0; status == STATUS_OK && i < out->n; i++) {
        status = shorten_corner(s, &out->corner[i], err);
    }
    return status;
}

enum status setting_replan(struct setting *s, const struct options *o, struct error *err)
{
    struct search_options search_options;
    enum status status = options_search(o, &s->hardware, &search_options, err);
    if (status == STATUS_OK) {
        status = replan_prices(&s->arch, &s->hardware, &s->workload, &search_options, &s->plan, err);
    }
    if (status == STATUS_OK) {
        status = binding_find(&s->arch, &s->hardware, &s->workload, &search_options, &s->plan, &s->binding, err);
    }
    return status;
}

enum status setting_plan_on(struct setting *out, const struct setting *s, const struct hardware *hw, const struct options *o,
                            struct error *err)
{
    *out = (struct setting){.arch = s->arch, .hardware = *hw, .workload = s->workload};
    enum status status = setting_search(out, o, err);
    if (status == STATUS_OK) {
        status = placement_new(&out->placement, &out->arch, &out->hardware, &out->workload, &out->policy, err);
    }
    return status == STATUS_OK ? predict(out, err) : status;
}

void setting_close(struct setting *s)
{
    placement_free(&s->placement);
    arch_free(&s->arch);
}

struct run_setting setting_view(const struct setting *s)
{
    return (struct run_setting){.version = ballast_version(),
                                .arch = &s->arch,
                                .hardware = &s->hardware,
                                .workload = &s->workload,
                                .policy = &s->policy,
                                .placement = &s->placement,
                                .prediction = &s->prediction};
}

enum status setting_simulate(const struct setting *s, struct trace *t, struct error *err)
{
    struct run_setting view = setting_view(s);
    struct schedule schedule = {0};
    enum status status = schedule_new(&schedule, &s->arch, &s->hardware, &s->workload, &s->policy, &s->placement, err);
    if (status == STATUS_OK) {
        status = simulate(&schedule, &view, t, err);
    }
    schedule_free(&schedule);
    return status;
}

enum status setting_replay(const struct setting *s, uint64_t seed, int replays, struct interval *latency, struct error *err)
{
    struct run_setting view = setting_view(s);
    struct schedule schedule = {0};
    enum status status = schedule_new(&schedule, &s->arch, &s->hardware, &s->workload, &s->policy, &s->placement, err);
    if (status == STATUS_OK) {
        status = simulate_noise(&schedule, &view, seed, replays, latency, err);
    }
    schedule_free(&schedule);
    return status;
}

struct prediction setting_of_trace(const struct setting *s, const struct trace *t)
{
    struct prediction p = s->prediction;
    struct trace_summary sum;
    trace_summarise(t, &sum);
    p.prefill_s = s->cost.runs * sum.prefill_s;
    p.decode_s = s->cost.runs * sum.decode_s;
    p.latency_s = s->cost.runs * sum.total_s;
    p.throughput_tok_s = p.latency_s > 0 ? s->cost.tokens / p.latency_s : 0;
    for (int ph = 0; ph < PHASE_COUNT; ph++) {
        p.bound_by[ph] = 0;
        for (int r = 0; r < resource_count(&s->hardware); r++) {
            p.busy_s[ph][r] = s->cost.runs * sum.busy_s[ph][r];
            p.bound_by[ph] = p.busy_s[ph][r] > p.busy_s[ph][p.bound_by[ph]] ? r : p.bound_by[ph];
        }
    }
    return p;
}

/* -- results ---------------------------------------------------------------------------------------------------------- */

bool setting_pins(const struct setting *s)
{
    return s->prediction.pinning_s > 0;
}

void setting_columns(struct table *t, const struct setting *s, enum output_format format)
{
    char name[96], resource[40];
    table_column(t, "model", COLUMN_TEXT);
    table_column(t, "hardware", COLUMN_TEXT);
    table_column(t, "estimate", COLUMN_TEXT);
    table_column(t, "workload.prompt_tokens", COLUMN_INT);
    table_column(t, "workload.gen_tokens", COLUMN_INT);
    if (format != OUTPUT_MD) {
        table_column(t, "policy", COLUMN_TEXT);
    }
    table_column(t, "throughput_tok_s", COLUMN_NUMBER);
    table_column(t, "latency_s", COLUMN_SECONDS);
    table_column(t, "prefill_s", COLUMN_SECONDS);
    table_column(t, "decode_s", COLUMN_SECONDS);
    if (setting_pins(s)) {
        table_column(t, "pinning_s", COLUMN_SECONDS);
    }
    for (int i = 0; i < s->hardware.n_tiers; i++) {
        snprintf(name, sizeof name, "peak_bytes.%s", s->hardware.tier[i].name);
        table_column(t, name, COLUMN_BYTES);
    }
    for (int ph = 0; ph < PHASE_COUNT; ph++) {
        for (int r = 0; r < resource_count(&s->hardware); r++) {
            snprintf(name, sizeof name, "busy_s.%s.%s", phase_name(ph), resource_name(&s->hardware, r, resource));
            table_column(t, name, COLUMN_SECONDS);
        }
        snprintf(name, sizeof name, "bound_by.%s", phase_name(ph));
        table_column(t, name, COLUMN_TEXT);
        for (int i = 0; i < s->hardware.n_tiers; i++) {
            snprintf(name, sizeof name, "in_use_bytes.%s.%s", phase_name(ph), s->hardware.tier[i].name);
            table_column(t, name, COLUMN_BYTES);
        }
    }
}

void setting_cells(struct table *t, const struct setting *s, const struct prediction *p, enum output_format format)
{
    char text[512], resource[40];
    table_text(t, s->arch.name);
    table_text(t, s->hardware.name);
    table_text(t, s->hardware.estimate);
    table_int(t, s->workload.prompt_tokens);
    table_int(t, s->workload.gen_tokens);
    if (format != OUTPUT_MD) {
        table_text(t, policy_flags(&s->policy, &s->hardware, text, sizeof text));
    }
    table_number(t, p->throughput_tok_s);
    table_number(t, p->latency_s);
    table_number(t, p->prefill_s);
    table_number(t, p->decode_s);
    if (setting_pins(s)) {
        table_number(t, p->pinning_s);
    }
    for (int i = 0; i < s->hardware.n_tiers; i++) {
        table_number(t, fmax(p->peak_bytes[PHASE_PREFILL][i], p->peak_bytes[PHASE_DECODE][i]));
    }
    for (int ph = 0; ph < PHASE_COUNT; ph++) {
        for (int r = 0; r < resource_count(&s->hardware); r++) {
            table_number(t, p->busy_s[ph][r]);
        }
        table_text(t, resource_name(&s->hardware, p->bound_by[ph], resource));
        for (int i = 0; i < s->hardware.n_tiers; i++) {
            table_number(t, p->in_use_bytes[ph][i]);
        }
    }
}

static bool shows_bar(const struct setting *s, enum output_format format)
{
    return format != OUTPUT_MD || s->prediction.latency_high_s > 0;
}

void setting_bar_columns(struct table *t, const struct setting *s, const char *prefix, enum output_format format)
{
    char name[64];
    if (shows_bar(s, format)) {
        snprintf(name, sizeof name, "%sthroughput_low_tok_s", prefix);
        table_column(t, name, COLUMN_NUMBER);
        snprintf(name, sizeof name, "%sthroughput_high_tok_s", prefix);
        table_column(t, name, COLUMN_NUMBER);
    }
}

char *setting_bar(const struct setting *s, char *buf, size_t n)
{
    const struct prediction *p = &s->prediction;
    buf[0] = '\0';
    if (p->latency_high_s > 0) {
        snprintf(buf, n, " (%.4g to %.4g)", s->cost.tokens / p->latency_high_s, s->cost.tokens / p->latency_low_s);
    }
    return buf;
}

void setting_bar_cells(struct table *t, const struct setting *s, enum output_format format)
{
    if (shows_bar(s, format)) { /* without a bar x / 0: empty cells */
        table_number(t, s->cost.tokens / s->prediction.latency_high_s);
        table_number(t, s->cost.tokens / s->prediction.latency_low_s);
    }
}

static int second_busiest(const struct setting *s, const double *busy_s, int first)
{
    int second = -1;
    for (int r = 0; r < resource_count(&s->hardware); r++) {
        if (r != first && (second < 0 || busy_s[r] > busy_s[second])) {
            second = r;
        }
    }
    return second;
}

void setting_explain(const struct setting *s, const struct prediction *p, FILE *out)
{
    char flags[512];
    fprintf(out, "policy: %s\n", policy_flags(&s->policy, &s->hardware, flags, sizeof flags));
    for (int ph = 0; ph < PHASE_COUNT; ph++) {
        char a[40], b[40];
        int first = p->bound_by[ph], second = second_busiest(s, p->busy_s[ph], first);
        double phase_s = ph == PHASE_PREFILL ? p->prefill_s : p->decode_s;
        if (phase_s <= 0) {
            continue;
        }
        fprintf(out, "%s: %s binds (busy %.0f %% of %.3g s), next is %s (%.0f %%)\n", phase_name(ph),
                resource_name(&s->hardware, first, a), 100 * p->busy_s[ph][first] / phase_s, phase_s,
                resource_name(&s->hardware, second, b), 100 * p->busy_s[ph][second] / phase_s);
    }
}

/* A word that a shell takes as it is: in single quotes, unless nothing in it is special. */
static void shell_word(FILE *out, const char *word)
{
    if (word[strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:=@%+,-")] == '\0') {
        fprintf(out, " %s", word);
        return;
    }
    fprintf(out, " '");
    for (; *word; word++) {
        fprintf(out, *word == '\'' ? "'\\''" : "%c", *word);
    }
    fprintf(out, "'");
}

static void shell_options(FILE *out, const char *name, const char *const *value, int n)
{
    for (int i = 0; i < n; i++) {
        fprintf(out, " %s", name);
        shell_word(out, value[i]);
    }
}

char *setting_command_new(const struct setting *s, const struct options *o)
{
    char flags[512], *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    if (!out) {
        return NULL;
    }
    fprintf(out, "ballast run");
    shell_options(out, "-m", &o->model, 1);
    shell_options(out, "-H", &o->hardware, 1);
    fprintf(out, " -p %lld -n %lld", (long long)s->workload.prompt_tokens, (long long)s->workload.gen_tokens);
    if (s->workload.sequences > 0) {
        fprintf(out, " --sequences %lld", (long long)s->workload.sequences);
    }
    shell_options(out, "--hardware-set", o->change, o->n_changes);
    shell_options(out, "--budget", o->budget, o->n_budgets);
    shell_options(out, "--scale", o->scale, o->n_scales);
    fprintf(out, " %s", policy_flags(&s->policy, &s->hardware, flags, sizeof flags));
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
