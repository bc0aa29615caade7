/* observed.c - see observed.h. */
#include "cli/observed.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/words.h"
#include "executor/schedule.h"
#include "executor/sim/sim.h"
#include "model/hardware_set.h"

/* -- the setting of a trace ---------------------------------------------------------------------------------------------- */

static enum status check_origin(const struct observed *b, const struct trace *t, struct error *err)
{
    if (t->origin != TRACE_MEASURED) {
        return error_set(err, STATUS_INVALID, "%s: expected a measured trace, found one that is %s%s", b->path,
                         trace_origin_name(t->origin),
                         t->origin == TRACE_SIMULATED ? ": it would give the profile back" : ": its times mean nothing");
    }
    if (t->n_events == 0) {
        return error_set(err, STATUS_INVALID, "%s: expected operations, found none", b->path);
    }
    return STATUS_OK;
}

/* Opens the setting with the workload and the flags of the header. */
static enum status open_setting(struct observed *b, const struct trace *t, const struct options *o, struct error *err)
{
    static const struct command_usage USAGE = {"fit", "", "", OPTION_MODEL | OPTION_HARDWARE | OPTION_WORKLOAD | OPTION_FLEXGEN};
    char prompt[24], gen[24], flags[sizeof t->policy];
    long long s = 0, n = 0;
    char *argv[64] = {(char *)"fit", (char *)"-p", prompt, (char *)"-n", gen};
    struct options own;
    struct error why = {0};
    bool fits;
    if (sscanf(t->workload, "prompt=%lld gen=%lld ", &s, &n) != 2) {
        return error_set(err, STATUS_INVALID, "%s: header 'workload': expected \"prompt=N gen=N ...\", found \"%s\"", b->path,
                         t->workload);
    }
    snprintf(prompt, sizeof prompt, "%lld", s);
    snprintf(gen, sizeof gen, "%lld", n);
    snprintf(flags, sizeof flags, "%s", t->policy);
    int argc = 5 + words_split(flags, argv + 5, 58);
    if (options_read(&own, &USAGE, argc, argv, &why) != STATUS_OK) {
        return error_set(err, STATUS_INVALID, "%s: header 'policy': expected the flags of a policy: %s", b->path, why.text);
    }
    own.model = o->model;
    own.hardware = o->hardware;
    own.n_changes = o->n_changes;
    memcpy(own.change, o->change, sizeof own.change);
    own.n_scales = o->n_scales;
    memcpy(own.scale, o->scale, sizeof own.scale);
    return setting_reopen_anyway(&b->setting, NULL, &own, &fits, err);
}

static enum status same_name(const struct observed *b, const char *what, const char *expected, const char *found,
                             struct error *err)
{
    if (strcmp(expected, found) == 0) {
        return STATUS_OK;
    }
    return error_set(err, STATUS_INVALID, "%s: expected a trace of %s %s, found %s", b->path, what, expected, found);
}

/* Before anything is made of its header. */
static enum status check_names(const struct observed *b, const struct trace *t, const struct options *o, struct error *err)
{
    struct arch arch;
    struct hardware machine, *hw = &machine;
    enum status status = options_model(o, &arch, err);
    if (status != STATUS_OK) {
        return status;
    }
    status = same_name(b, "model", arch.name, t->model, err);
    arch_free(&arch);
    if (status == STATUS_OK) {
        status = options_hardware(o, hw, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    status = same_name(b, "machine", hw->name, t->machine, err);
    if (status == STATUS_OK && (t->n_tiers != hw->n_tiers || t->n_resources != resource_count(hw))) {
        status = error_set(err, STATUS_INVALID, "%s: expected the %d tiers and %d resources of %s, found %d and %d", b->path,
                           hw->n_tiers, resource_count(hw), hw->name, t->n_tiers, t->n_resources);
    }
    for (int i = 0; i < hw->n_tiers && status == STATUS_OK; i++) {
        status = same_name(b, "a machine with tier", hw->tier[i].name, t->tier_name[i], err);
    }
    for (int r = 0; r < t->n_resources && status == STATUS_OK; r++) {
        char name[40];
        status = same_name(b, "a machine with", resource_name(hw, r, name), t->resource_name[r], err);
    }
    return status;
}

/* -- operations to classes and groups ------------------------------------------------------------------------------------- */

/* An operation on its way into a class: two times, at the profile's rates and at rates that are all changed differently, tell those
 * apart that depend on anything else. */
struct seen {
    int kind, resource, bin; /* kind -1: a transfer; bin -1: prefill */
    double seconds, changed_s, measured_s;
    double gap_s; /* since the transfer before it started, if it was ready by then; else 0 */
    bool shared;  /* mostly beside work that slows it down: its time is not its own */
    struct op op;
};

static int compare_doubles(double a, double b)
{
    return (a > b) - (a < b);
}

static int by_class(const void *a, const void *b)
{
    const struct seen *x = a, *y = b;
    const int order[] = {x->resource - y->resource, x->kind - y->kind, x->bin - y->bin, compare_doubles(x->seconds, y->seconds),
                         compare_doubles(x->changed_s, y->changed_s)};
    int i = 0;
    while (i < 4 && order[i] == 0) {
        i++;
    }
    return order[i];
}

static struct hardware changed_machine(const struct hardware *hw)
{
    struct hardware out = *hw;
    struct hardware_field field[HARDWARE_FIELDS_MAX];
    int n = hardware_fields(hw, field);
    for (int i = 0; i < n; i++) {
        if (field[i].kind != FIELD_CAPACITY && field[i].kind != FIELD_WORKSPACE) {
            hardware_field_put(&out, &field[i], hardware_field_get(hw, &field[i]) * (1 + 0.01 * sqrt(i + 2)));
        }
    }
    return out;
}

static enum status wrong_operation(const struct observed *b, const struct trace *t, const struct trace_event *e,
                                   const struct schedule *schedule, struct error *err)
{
    const struct op *op = e->op < schedule->n_ops ? &schedule->op[e->op] : NULL;
    return error_set(
        err, STATUS_INVALID,
        "%s: operation %d: expected %s of step %d, layer %d, batch %d with %lld B as the header's setting has it, found %s of "
        "step %d, layer %d, batch %d with %lld B",
        b->path, e->op, op ? op_kind_name((enum op_kind)op->kind) : "none", op ? op->step : 0, op ? op->layer : 0,
        op ? op->batch : 0, op ? (long long)op->bytes : 0, t->kind_name[e->kind], e->step, e->layer, e->batch,
        (long long)e->bytes);
}

static bool is_operation(const struct trace *t, const struct trace_event *e, const struct schedule *schedule)
{
    if (e->op >= schedule->n_ops) {
        return false;
    }
    const struct op *op = &schedule->op[e->op];
    return strcmp(t->kind_name[e->kind], op_kind_name((enum op_kind)op->kind)) == 0 && e->resource == op->resource &&
           e->step == op->step && e->layer == op->layer && e->batch == op->batch && e->bytes == op->bytes;
}

static double latency_of(const struct hardware *hw, int resource)
{
    const int link = resource / 2;
    if (link >= hw->n_tiers - 1) {
        return 0;
    }
    return resource % 2 ? hw->link[link].write_latency_s : hw->link[link].read_latency_s;
}

/* A link begins its next transfer when the one before starts, if it is ready by then (executor/sim/clock.h): the part of its latency that
 * passed behind the one before is not in its time. `event_of` (n_ops): of an operation, -1 where it is missing. */
static double gap_before(const struct trace *t, const struct schedule *schedule, const int64_t *event_of,
                         const struct trace_event *e, const struct trace_event *before)
{
    const struct op *op = &schedule->op[e->op];
    if (!before || op->link < 0) {
        return 0;
    }
    for (int d = 0; d < op->n_deps; d++) {
        const int64_t at = event_of[op->dep[d]];
        if (at >= 0 && t->event[at].end_ns > before->start_ns) {
            return 0;
        }
    }
    return (double)(e->start_ns - before->start_ns) / 1e9;
}

static double hidden_s(const struct observed *b, const struct observed_group *g, double latency_s)
{
    int64_t low = 0, high = g->n_gaps; /* gaps before low are shorter than the latency, from high on they are not */
    const double *gap_s = b->gap_s + g->first_gap;
    if (latency_s <= 0 || g->n_gaps == 0) {
        return 0;
    }
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (gap_s[middle] < latency_s) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    const double shorter_s = low > 0 ? b->gap_sum_s[g->first_gap + low - 1] : 0;
    return shorter_s + (double)(g->n_gaps - low) * latency_s;
}

static int by_length(const void *a, const void *b)
{
    return compare_doubles(*(const double *)a, *(const double *)b);
}

static void sort_gaps(struct observed *b, const struct observed_group *g)
{
    double sum = 0;
    qsort(b->gap_s + g->first_gap, (size_t)g->n_gaps, sizeof *b->gap_s, by_length);
    for (int64_t i = g->first_gap; i < g->first_gap + g->n_gaps; i++) {
        b->gap_sum_s[i] = sum += b->gap_s[i];
    }
}

static int by_resource_and_start(const void *a, const void *b)
{
    const struct trace_event *x = *(const struct trace_event *const *)a, *y = *(const struct trace_event *const *)b;
    if (x->resource != y->resource) {
        return x->resource - y->resource;
    }
    if (x->start_ns != y->start_ns) {
        return x->start_ns < y->start_ns ? -1 : 1;
    }
    return x->op < y->op ? -1 : x->op > y->op;
}

/* Two directions of a drive, and what the profile says shares something. */
static bool slow_each_other(const struct hardware *hw, int a, int b)
{
    const int drive = hw->n_tiers - 2;
    if (a == b) {
        return false;
    }
    if (a / 2 == drive && b / 2 == drive) {
        return true;
    }
    for (int i = 0; i < hw->n_contentions; i++) {
        const double *share = hw->contention[i].share;
        if (share[a] > 0 && share[b] > 0 && share[a] + share[b] > 1) {
            return true;
        }
    }
    return false;
}

/* How long `e` was beside events of another resource, by start; `from` is the first of them that may end after `e` begins, and moves on. */
static double beside_s(const struct trace_event *e, const struct trace_event *const *other, int64_t n, int64_t *from)
{
    int64_t sum_ns = 0;
    while (*from < n && other[*from]->end_ns <= e->start_ns) {
        ++*from;
    }
    for (int64_t i = *from; i < n && other[i]->start_ns < e->end_ns; i++) {
        const int64_t begin = other[i]->start_ns > e->start_ns ? other[i]->start_ns : e->start_ns;
        const int64_t end = other[i]->end_ns < e->end_ns ? other[i]->end_ns : e->end_ns;
        sum_ns += end > begin ? end - begin : 0;
    }
    return (double)sum_ns / 1e9;
}

/* Marks the events of resource a that were beside those of b for at least half of their time. `order` has all events, by resource and start. */
static void mark_shared(const struct trace *t, const struct trace_event *const *order, const int64_t *first, int a, int b,
                        struct seen *seen)
{
    int64_t from = 0;
    for (int64_t i = first[a]; i < first[a + 1]; i++) {
        const struct trace_event *e = order[i];
        const double beside = beside_s(e, order + first[b], first[b + 1] - first[b], &from);
        struct seen *s = &seen[e - t->event];
        s->shared |= beside > 0 && beside >= s->measured_s / 2;
    }
}

/* Each event after the one before it on its resource when the trace was made: under another profile the schedule may have them in another order. */
static enum status compare_neighbours(const struct observed *b, const struct trace *t, const struct schedule *schedule,
                                      struct seen *seen, struct error *err)
{
    const struct hardware *hw = &b->setting.hardware;
    const int resources = resource_count(hw);
    const struct trace_event **order = malloc((size_t)t->n_events * sizeof *order);
    int64_t *event_of = malloc(((size_t)schedule->n_ops + 1) * sizeof *event_of);
    int64_t first[RESOURCES_MAX + 1] = {0};
    enum status status = STATUS_OK;
    if (order && event_of) {
        for (int32_t i = 0; i < schedule->n_ops; i++) {
            event_of[i] = -1;
        }
        for (int64_t i = 0; i < t->n_events; i++) {
            event_of[t->event[i].op] = i;
            order[i] = &t->event[i];
            first[t->event[i].resource + 1]++;
        }
        qsort(order, (size_t)t->n_events, sizeof *order, by_resource_and_start);
        for (int r = 0; r < resources; r++) {
            first[r + 1] += first[r];
        }
        for (int64_t i = 0; i < t->n_events; i++) {
            const struct trace_event *e = order[i], *before = i > first[e->resource] ? order[i - 1] : NULL;
            seen[e - t->event].gap_s = gap_before(t, schedule, event_of, e, before);
        }
        for (int r = 0; r < resources * resources; r++) {
            if (slow_each_other(hw, r / resources, r % resources)) {
                mark_shared(t, order, first, r / resources, r % resources, seen);
            }
        }
    } else {
        status = error_set(err, STATUS_RUNTIME, "%s: out of memory for %lld operations", b->path, (long long)t->n_events);
    }
    free(order);
    free(event_of);
    return status;
}

/* Those whose time is their own, in front; returns how many. */
static int64_t without_shared(struct seen *seen, int64_t n)
{
    int64_t kept = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!seen[i].shared) {
            seen[kept++] = seen[i];
        }
    }
    return kept;
}

static enum status look_at_events(const struct observed *b, const struct trace *t, const struct schedule *schedule,
                                  struct seen *seen, struct error *err)
{
    struct hardware changed = changed_machine(&b->setting.hardware);
    struct run_setting as_is = setting_view(&b->setting), other = as_is;
    const int64_t steps = b->setting.workload.gen_tokens - 1;
    other.hardware = &changed;
    for (int64_t i = 0; i < t->n_events; i++) {
        const struct trace_event *e = &t->event[i];
        if (!is_operation(t, e, schedule)) {
            return wrong_operation(b, t, e, schedule, err);
        }
        const struct op *op = &schedule->op[e->op];
        seen[i] = (struct seen){.kind = op->link >= 0 ? -1 : op->kind,
                                .resource = op->resource,
                                .bin = op->step == 0 ? -1 : (int)((op->step - 1) * OBSERVED_BINS / (steps > 0 ? steps : 1)),
                                .seconds = op_busy_s(op, &as_is),
                                .changed_s = op_busy_s(op, &other),
                                .measured_s = (double)(e->end_ns - e->start_ns) / 1e9,
                                .op = *op};
    }
    return STATUS_OK;
}

static bool same_group(const struct seen *a, const struct seen *b)
{
    return a->resource == b->resource && a->kind == b->kind && a->bin == b->bin;
}

/* From `first` to the end of its group; returns the end. Groups without time, or with too little of it, leave nothing. */
static int64_t add_group(struct observed *b, const struct seen *seen, int64_t first, int64_t n, double least_s)
{
    struct observed_group g = {.kind = seen[first].kind,
                               .resource = seen[first].resource,
                               .phase = seen[first].bin < 0 ? PHASE_PREFILL : PHASE_DECODE,
                               .bin = seen[first].bin < 0 ? 0 : seen[first].bin,
                               .first_gap =
                                   b->n_groups > 0 ? b->group[b->n_groups - 1].first_gap + b->group[b->n_groups - 1].n_gaps : 0};
    double predicted_s = 0;
    int64_t end = first;
    const int before = b->n_classes;
    for (; end < n && same_group(&seen[first], &seen[end]); end++) {
        if (end == first || by_class(&seen[end], &seen[end - 1]) != 0) {
            b->class[b->n_classes++] = (struct observed_class){.group = b->n_groups, .op = seen[end].op};
        }
        b->class[b->n_classes - 1].count++;
        g.measured_s += seen[end].measured_s;
        predicted_s += seen[end].seconds;
        if (seen[end].gap_s > 0) {
            b->gap_s[g.first_gap + g.n_gaps++] = seen[end].gap_s;
        }
    }
    sort_gaps(b, &g);
    predicted_s -= hidden_s(b, &g, latency_of(&b->setting.hardware, g.resource));
    if (g.measured_s > least_s && predicted_s > 0) {
        b->group[b->n_groups++] = g;
    } else {
        b->n_classes = before;
    }
    return end;
}

static enum status observe(struct observed *b, const struct trace *t, const struct schedule *schedule, struct error *err)
{
    const int64_t n = t->n_events;
    double busy_s = 0;
    struct seen *seen = malloc((size_t)n * sizeof *seen);
    b->class = malloc((size_t)n * sizeof *b->class);
    b->group = malloc((size_t)n * sizeof *b->group);
    b->gap_s = malloc((size_t)n * sizeof *b->gap_s);
    b->gap_sum_s = malloc((size_t)n * sizeof *b->gap_sum_s);
    enum status status = seen && b->class && b->group && b->gap_s && b->gap_sum_s
                             ? look_at_events(b, t, schedule, seen, err)
                             : error_set(err, STATUS_RUNTIME, "%s: out of memory for %lld operations", b->path, (long long)n);
    if (status == STATUS_OK) {
        status = compare_neighbours(b, t, schedule, seen, err);
    }
    if (status == STATUS_OK) {
        for (int64_t i = 0; i < n; i++) {
            busy_s += seen[i].measured_s;
        }
        const int64_t own = without_shared(seen, n);
        qsort(seen, (size_t)own, sizeof *seen, by_class);
        for (int64_t i = 0; i < own;) {
            i = add_group(b, seen, i, own, OBSERVED_SMALLEST * busy_s);
        }
        if (b->n_groups == 0) {
            status = error_set(err, STATUS_INVALID, "%s: expected operations that take time, found none", b->path);
        }
    }
    free(seen);
    return status;
}

/* -- the whole --------------------------------------------------------------------------------------------------------------- */

static enum status load(struct observed *b, const struct trace *t, const struct options *o, struct error *err)
{
    struct schedule schedule = {0};
    struct setting *s = &b->setting;
    struct trace_summary sum;
    enum status status = check_origin(b, t, err);
    if (status == STATUS_OK) {
        status = check_names(b, t, o, err);
    }
    if (status == STATUS_OK) {
        status = open_setting(b, t, o, err);
    }
    if (status == STATUS_OK) {
        status = schedule_new(&schedule, &s->arch, &s->hardware, &s->workload, &s->policy, &s->placement, err);
    }
    if (status == STATUS_OK) {
        status = observe(b, t, &schedule, err);
    }
    trace_summarise(t, &sum);
    b->total_s = sum.total_s;
    b->throughput_tok_s = sum.throughput_tok_s;
    b->predicted_throughput_tok_s = s->prediction.throughput_tok_s;
    schedule_free(&schedule);
    return status;
}

enum status observed_load(struct observed *b, const char *path, const struct options *o, struct error *err)
{
    struct trace t;
    *b = (struct observed){.path = path};
    trace_init(&t);
    enum status status = trace_read_csv(&t, path, err);
    if (status == STATUS_OK) {
        status = load(b, &t, o, err);
    }
    trace_free(&t);
    return status;
}

void observed_free(struct observed *b)
{
    setting_close(&b->setting);
    free(b->group);
    free(b->class);
    free(b->gap_s);
    free(b->gap_sum_s);
    *b = (struct observed){0};
}

void observed_predict(const struct observed *b, const struct hardware *hw, double *seconds)
{
    struct run_setting view = setting_view(&b->setting);
    view.hardware = hw;
    for (int i = 0; i < b->n_groups; i++) {
        seconds[i] = -hidden_s(b, &b->group[i], latency_of(hw, b->group[i].resource));
    }
    for (int i = 0; i < b->n_classes; i++) {
        seconds[b->class[i].group] += b->class[i].count * op_busy_s(&b->class[i].op, &view);
    }
}

void observed_residuals(const struct observed *b, const struct hardware *hw, double *residual)
{
    observed_predict(b, hw, residual);
    for (int i = 0; i < b->n_groups; i++) {
        /* rates far off can leave less than the latencies that were hidden */
        residual[i] = log(fmax(residual[i] / b->group[i].measured_s, 1e-6));
    }
}

enum status observed_throughput(const struct observed *b, const struct hardware *hw, double *out, struct error *err)
{
    const struct setting *s = &b->setting;
    struct cost *cost = malloc(sizeof *cost);
    struct prediction p = {0};
    if (!cost) {
        return error_set(err, STATUS_RUNTIME, "%s: out of memory", b->path);
    }
    enum status status = cost_build(cost, &s->arch, hw, &s->workload, &s->policy, err);
    if (status == STATUS_OK) {
        cost_predict(cost, (const double(*)[TIERS_MAX])s->placement.realised, &p);
    }
    *out = p.throughput_tok_s;
    free(cost);
    return status;
}
