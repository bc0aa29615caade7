/* cmd_plan.c - ballast plan: the best policy, why it is the best, and the command line that runs it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/setting.h"
#include "model/atomic_file.h"

static json_t *prices_json(const struct plan *p)
{
    json_t *list = json_array();
    for (int i = 0; list && i < p->n_prices; i++) {
        json_t *replanned = isnan(p->price[i].replanned) ? json_null() : json_real(p->price[i].replanned);
        json_array_append_new(list, json_pack("{s:s, s:f, s:o, s:s}", "what", p->price[i].what, "tok_s_per_unit",
                                              p->price[i].per_unit, "replanned_tok_s", replanned, "unit", p->price[i].unit));
    }
    return list;
}

/* By its slope, or by more than the tolerance of planning again. */
static bool is_worth_something(const struct shadow_price *price)
{
    return price->per_unit > 0 || price->replanned > 1e-6;
}

/* What is worth something as a table, the rest in a line. */
static void print_prices(const struct plan *p)
{
    int worthless = 0;
    printf("\nWhat one more unit is worth:\n\n| of | tok/s | re-planned | per |\n|---|---:|---:|---|\n");
    for (int i = 0; i < p->n_prices; i++) {
        char replanned[32] = "-";
        if (!isnan(p->price[i].replanned)) {
            snprintf(replanned, sizeof replanned, "%.4g", p->price[i].replanned);
        }
        if (is_worth_something(&p->price[i])) {
            printf("| %s | %.4g | %s | %s |\n", p->price[i].what, p->price[i].per_unit, replanned, p->price[i].unit);
        }
    }
    for (int i = 0; i < p->n_prices; i++) {
        if (!is_worth_something(&p->price[i]))
            printf("%s%s", worthless++ ? ", " : "\nNothing is gained by more of: ", p->price[i].what);
    }
    printf(worthless ? "\n" : "");
}

/* What nothing in the space exceeds, this plan with its shortened percentages included. */
static double bound_tok_s(const struct plan *p, const struct prediction *shortened)
{
    return fmax(p->bound_tok_s, shortened->throughput_tok_s);
}

/* The bound, and by how much the best placement of the space, fractions of rows allowed, may exceed this plan. */
static void bound_columns(struct table *t)
{
    table_column(t, "bound_tok_s", COLUMN_BOUND);
    table_column(t, "gap_percent", COLUMN_GAP);
}

static double gap_percent(const struct plan *p, const struct prediction *shortened)
{
    return 100 * (bound_tok_s(p, shortened) / shortened->throughput_tok_s - 1);
}

static void bound_cells(struct table *t, const struct plan *p, const struct prediction *shortened)
{
    table_number(t, bound_tok_s(p, shortened));
    table_number(t, gap_percent(p, shortened));
}

static void print_proof(const struct setting *s)
{
    char bound[32], gap[32];
    printf("proof: of %lld batch sizes and switches none exceeds %s tok/s, parts of rows and sequences allowed; this plan is "
           "within %s %% of that\n",
           (long long)s->plan.points, number_up(bound_tok_s(&s->plan, &s->prediction), 5, bound, sizeof bound),
           number_up(gap_percent(&s->plan, &s->prediction), 2, gap, sizeof gap));
}

/* What binds first, second, and how far apart they are. */
static void print_binding(const struct setting *s)
{
    const struct binding *b = &s->binding;
    const char *first = s->plan.price[b->first].what;
    printf("what binds: first %s (1 %% more is %.2g %% more tokens/s). ", first, b->first_share);
    if (b->second < 0) {
        printf("It stays first with up to %.0f times as much.\n", BINDING_FACTOR_MAX);
    } else {
        printf("With %.3g times as much %s comes first (%.2g %%), at %.4g tok/s with these sizes and switches", b->factor,
               s->plan.price[b->second].what, b->second_share, b->tok_s);
        if (isnan(b->replanned_tok_s)) {
            printf(".\n");
        } else {
            printf(", %.4g planned again.\n", b->replanned_tok_s);
        }
    }
}

static enum status print(const struct setting *s, const struct options *o, struct error *err)
{
    struct table t;
    char *command = setting_command_new(s, o);
    if (!command) {
        return error_set(err, STATUS_RUNTIME, "out of memory");
    }
    table_init(&t);
    setting_columns(&t, s, o->format);
    setting_bar_columns(&t, s, "", o->format);
    table_column(&t, "relaxed_throughput_tok_s", COLUMN_NUMBER);
    bound_columns(&t);
    table_column(&t, "points", COLUMN_INT);
    table_column(&t, "points_solved", COLUMN_INT);
    table_column(&t, "boxes", COLUMN_INT);
    table_column(&t, "lps", COLUMN_INT);
    if (o->format != OUTPUT_MD) {
        table_column(&t, "run", COLUMN_TEXT);
        table_column(&t, "shadow_prices", COLUMN_TEXT);
    }
    setting_cells(&t, s, &s->prediction, o->format);
    setting_bar_cells(&t, s, o->format);
    table_number(&t, s->plan.relaxed_throughput_tok_s);
    bound_cells(&t, &s->plan, &s->prediction);
    table_int(&t, s->plan.points);
    table_int(&t, s->plan.points_solved);
    table_int(&t, s->plan.boxes);
    table_int(&t, s->plan.lps);
    if (o->format != OUTPUT_MD) {
        table_text(&t, command);
        table_json(&t, prices_json(&s->plan));
    }
    enum status status = table_write_one(&t, o->format, stdout, err);
    table_free(&t);
    if (status == STATUS_OK && o->format == OUTPUT_MD) {
        printf("\nA prediction (%s profile).\n", s->hardware.estimate);
        setting_explain(s, &s->prediction, stdout);
        print_binding(s);
        print_proof(s);
        print_prices(&s->plan);
        printf("\nTo run it:\n\n%s\n", command);
    }
    free(command);
    return status;
}

/* -- another machine ---------------------------------------------------------------------------------------------------- */

static void add_plan(struct table *t, const char *machine, const struct setting *s, double before_tok_s)
{
    char flags[512];
    table_text(t, machine);
    table_number(t, s->prediction.throughput_tok_s);
    table_number(t, 100 * (s->prediction.throughput_tok_s / before_tok_s - 1));
    table_number(t, s->prediction.latency_s);
    bound_cells(t, &s->plan, &s->prediction);
    table_text(t, policy_flags(&s->policy, &s->hardware, flags, sizeof flags));
}

/* The plan as it is and the plan on the changed machine, side by side. */
static enum status print_what_if(struct setting *s, const struct options *o, struct error *err)
{
    struct hardware changed = s->hardware;
    struct setting other = {0};
    struct table t;
    char name[256] = "";
    enum status status = options_what_if(o, &changed, err);
    for (int i = 0; i < o->n_what_ifs; i++) {
        size_t used = strlen(name);
        snprintf(name + used, sizeof name - used, "%s%s", i ? " " : "", o->what_if[i]);
    }
    if (status == STATUS_OK) {
        struct error inner = {0};
        status = setting_plan_on(&other, s, &changed, o, &inner);
        if (status != STATUS_OK) {
            error_set(err, status, "with %s: %s", name, inner.text);
        }
    }
    table_init(&t);
    table_column(&t, "machine", COLUMN_TEXT);
    table_column(&t, "throughput_tok_s", COLUMN_NUMBER);
    table_column(&t, "gain_percent", COLUMN_NUMBER);
    table_column(&t, "latency_s", COLUMN_SECONDS);
    bound_columns(&t);
    table_column(&t, "policy", COLUMN_TEXT);
    if (status == STATUS_OK) {
        add_plan(&t, s->hardware.name, s, s->prediction.throughput_tok_s);
        add_plan(&t, name, &other, s->prediction.throughput_tok_s);
        status = table_write(&t, o->format, stdout, err);
    }
    if (status == STATUS_OK && o->format == OUTPUT_MD) {
        printf("\nPredictions (%s profile). As it is:\n", s->hardware.estimate);
        setting_explain(s, &s->prediction, stdout);
        printf("\nWith %s:\n", name);
        setting_explain(&other, &other.prediction, stdout);
    }
    table_free(&t);
    placement_free(&other.placement);
    return status;
}

/* -- latency against throughput --------------------------------------------------------------------------------------------- */

static void add_corner(struct table *t, const struct setting *s, const struct corner *c)
{
    char flags[512];
    table_number(t, c->limit_s); /* without a limit an empty cell */
    table_number(t, c->plan.prediction.latency_s);
    table_number(t, c->plan.prediction.throughput_tok_s);
    bound_cells(t, &c->plan, &c->plan.prediction);
    table_int(t, policy_block(&c->plan.policy));
    table_text(t, policy_flags(&c->plan.policy, &s->hardware, flags, sizeof flags));
}

static enum status print_front(const struct setting *s, const struct options *o, struct error *err)
{
    struct front f = {0};
    struct table t;
    enum status status = setting_front(s, o, &f, err);
    table_init(&t);
    table_column(&t, "latency_limit_s", COLUMN_SECONDS);
    table_column(&t, "latency_s", COLUMN_SECONDS);
    table_column(&t, "throughput_tok_s", COLUMN_NUMBER);
    bound_columns(&t);
    table_column(&t, "block", COLUMN_INT);
    table_column(&t, "policy", COLUMN_TEXT);
    for (int i = 0; i < f.n; i++) {
        add_corner(&t, s, &f.corner[i]);
    }
    if (status == STATUS_OK) {
        status = table_write(&t, o->format, stdout, err);
    }
    table_free(&t);
    if (status == STATUS_OK && o->format == OUTPUT_MD) {
        printf(
            "\nPredictions (%s profile): corners of latency against throughput. From a row's latency up to its limit nothing has more\n"
            "throughput than its bound. %s\n",
            s->hardware.estimate,
            f.complete ? "These are all."
                       : "Others lie between the limit of a row and the latency of the one above: --pareto with more rows.");
    }
    front_free(&f);
    return status;
}

int cmd_plan(int argc, char **argv)
{
    static const struct command_usage USAGE = {
        "plan", "-m MODEL -H FILE [OPTIONS]",
        "Finds the policy with the highest throughput: batch sizes, compression, where attention runs, and where weights, cache and\n"
        "activations live. Whatever is given on the command line is fixed, the rest is searched.",
        OPTION_MODEL | OPTION_HARDWARE | OPTION_WORKLOAD | OPTION_FLEXGEN | OPTION_SEARCH | OPTION_PLAN | OPTION_FORMAT};
    struct options o;
    struct setting s = {0};
    struct error err = {0};
    int code;
    if (!options_parse(&o, &USAGE, argc, argv, &code)) {
        return code;
    }
    if (o.percent[0]) {
        error_set(&err, STATUS_INVALID, "--percent fixes the placement that is to be searched: use \"ballast predict\" for it");
    } else if (o.n_what_ifs > 0 && o.pareto) {
        error_set(&err, STATUS_INVALID,
                  "--what-if and --pareto: expected one of them; --hardware-set changes the machine of a front");
    } else if (o.policy_out && (o.n_what_ifs > 0 || o.pareto)) {
        error_set(&err, STATUS_INVALID, "--policy-out: expected a single plan, found --%s", o.pareto ? "pareto" : "what-if");
    } else if (o.n_what_ifs > 0) {
        if (setting_open(&s, &o, &err) == STATUS_OK) {
            print_what_if(&s, &o, &err);
        }
    } else if (o.pareto) {
        if (setting_load(&s, &o, &err) == STATUS_OK) {
            print_front(&s, &o, &err);
        }
    } else if (atomic_file_try(o.policy_out, &err) == STATUS_OK && setting_open(&s, &o, &err) == STATUS_OK &&
               setting_replan(&s, &o, &err) == STATUS_OK && print(&s, &o, &err) == STATUS_OK && o.policy_out) {
        policy_save(&s.policy, o.policy_out, &s.hardware, &err);
    }
    setting_close(&s);
    return err.status == STATUS_OK ? STATUS_OK : command_fail(USAGE.name, &err);
}
