/* plot_timeline.c - operations per resource: a lane for each resource and trace, predicted above measured.
 *
 * A picture is about 1000 points wide, so a long run is cut to a window: it begins at the end of prefill in both traces, so that
 * they can be compared step by step although their prefills differ, and holds as many decode steps as can be read.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "plots/figure.h"
#include "plots/plot_trace.h"

enum { LANE_EVENTS_MAX = 160, STEPS_WANTED = 3 };

struct window {
    int64_t origin_ns[2];   /* of each trace: what is drawn at 0 */
    int64_t from_ns, to_ns; /* relative to the origin */
    char what[120];
};

static int64_t first_start_ns(const struct trace *t)
{
    int64_t first = INT64_MAX;
    for (int64_t i = 0; i < t->n_events; i++)
        if (t->event[i].start_ns < first)
            first = t->event[i].start_ns;
    return t->n_events ? first : 0;
}

/* When the last operation of the steps up to `last_step` ends. */
static int64_t step_end_ns(const struct trace *t, int last_step)
{
    int64_t end = first_start_ns(t);
    for (int64_t i = 0; i < t->n_events; i++)
        if (t->event[i].step <= last_step && t->event[i].end_ns > end)
            end = t->event[i].end_ns;
    return end;
}

static int last_step(const struct trace *t)
{
    int last = 0;
    for (int64_t i = 0; i < t->n_events; i++)
        if (t->event[i].step > last)
            last = t->event[i].step;
    return last;
}

/* An operation without duration, such as a transfer of 0 bytes, is not drawn. */
static bool in_window(const struct window *w, int k, const struct trace_event *e)
{
    return e->end_ns > e->start_ns && e->end_ns - w->origin_ns[k] >= w->from_ns && e->start_ns - w->origin_ns[k] <= w->to_ns;
}

/* Most events on one lane that touch the window. */
static int64_t crowd(const struct trace_pair *p, const struct window *w)
{
    int64_t most = 0;
    for (int k = 0; k < p->n; k++) {
        int64_t count[TRACE_RESOURCES_MAX] = {0};
        for (int64_t i = 0; i < p->trace[k].n_events; i++) {
            const struct trace_event *e = &p->trace[k].event[i];
            if (in_window(w, k, e) && ++count[e->resource] > most)
                most = count[e->resource];
        }
    }
    return most;
}

/* The window that ends with decode step `steps`, with a little of prefill before it. */
static void decode_window(const struct trace_pair *p, struct window *w, int steps)
{
    int64_t to = 1;
    for (int k = 0; k < p->n; k++) {
        w->origin_ns[k] = step_end_ns(&p->trace[k], 0);
        const int64_t end = step_end_ns(&p->trace[k], steps) - w->origin_ns[k];
        if (end > to)
            to = end;
    }
    w->from_ns = -to / 12;
    w->to_ns = to;
}

static void whole_window(const struct trace_pair *p, struct window *w)
{
    int64_t to = 1;
    for (int k = 0; k < p->n; k++) {
        w->origin_ns[k] = first_start_ns(&p->trace[k]);
        const int64_t end = step_end_ns(&p->trace[k], INT32_MAX) - w->origin_ns[k];
        if (end > to)
            to = end;
    }
    w->from_ns = 0;
    w->to_ns = to;
}

static void pick_window(const struct trace_pair *p, struct window *w)
{
    int last = last_step(&p->trace[0]);
    if (p->n == 2 && last_step(&p->trace[1]) > last)
        last = last_step(&p->trace[1]);
    whole_window(p, w);
    if (crowd(p, w) <= LANE_EVENTS_MAX) {
        snprintf(w->what, sizeof w->what, last ? "the whole run: prefill and %d decode step%s" : "the whole run: prefill", last,
                 last == 1 ? "" : "s");
        return;
    }
    int steps = last < STEPS_WANTED ? last : STEPS_WANTED;
    if (steps > 0) {
        do
            decode_window(p, w, steps);
        while (crowd(p, w) > LANE_EVENTS_MAX && --steps > 0);
        snprintf(w->what, sizeof w->what, "decode step%s of %d, 0 is the end of prefill", steps == 1 ? " 1" : "s", last);
        if (steps > 1)
            snprintf(w->what, sizeof w->what, "decode steps 1 to %d of %d, 0 is the end of prefill", steps, last);
    }
    if (steps > 0)
        return;
    while (crowd(p, w) > LANE_EVENTS_MAX && w->to_ns > 1)
        w->to_ns -= (w->to_ns + 7) / 8;
    const struct plot_unit u = plot_time_unit((double)w->to_ns / 1e9);
    snprintf(w->what, sizeof w->what, "the first %.4g %s of %s", (double)w->to_ns / 1e9 / u.scale, u.name,
             last ? "decode step 1, 0 is the end of prefill" : "prefill");
    if (last)
        w->from_ns = -w->to_ns / 12;
}

/* Lanes from the top: per resource a heading, then a lane a trace. Row 0 is the top; 1 unit is one lane. */
struct lanes {
    struct names resource;
    double y[NAMES_MAX][2]; /* of the middle of the lane, downwards */
    double heading[NAMES_MAX];
    double bottom;
};

static bool took_time(const struct trace_event *e, int resource)
{
    return e->resource == resource && e->end_ns > e->start_ns;
}

static void place_lanes(const struct trace_pair *p, struct lanes *l)
{
    for (int k = 0; k < p->n; k++)
        for (int r = 0; r < p->trace[k].n_resources; r++) {
            int64_t i = 0;
            while (i < p->trace[k].n_events && !took_time(&p->trace[k].event[i], r))
                i++;
            if (i < p->trace[k].n_events) /* a resource that nothing ever used needs no lane */
                names_add(&l->resource, p->trace[k].resource_name[r]);
        }
    double y = 0;
    for (int i = 0; i < l->resource.n; i++) {
        l->heading[i] = y + 0.5;
        for (int k = 0; k < p->n; k++)
            l->y[i][k] = y + 1.4 + 1.05 * k;
        y += 1.1 + 1.05 * p->n;
    }
    l->bottom = y + 0.2;
}

/* The kinds that the window shows, in the order of the trace and not of the moment: colours stay the same from picture to
 * picture of one model. */
static void add_kinds(const struct trace_pair *p, const struct window *w, struct names *kinds)
{
    for (int k = 0; k < p->n; k++) {
        const struct trace *t = &p->trace[k];
        for (int kind = 0; kind < t->n_kinds; kind++) {
            int64_t i = 0;
            while (i < t->n_events && (t->event[i].kind != kind || !in_window(w, k, &t->event[i])))
                i++;
            if (i < t->n_events)
                names_add(kinds, t->kind_name[kind]);
        }
    }
}

static void write_events(struct figure *f, const struct trace_pair *p, const struct window *w, const struct lanes *l,
                         struct names *kinds, double unit_s)
{
    const double hair = (double)(w->to_ns - w->from_ns) / 2000; /* half a point: the least that can be seen */
    struct names resources = l->resource;
    add_kinds(p, w, kinds);
    for (int k = 0; k < p->n; k++)
        for (int64_t i = 0; i < p->trace[k].n_events; i++) {
            const struct trace *t = &p->trace[k];
            const struct trace_event *e = &t->event[i];
            double from = (double)(e->start_ns - w->origin_ns[k]), to = (double)(e->end_ns - w->origin_ns[k]);
            if (!in_window(w, k, e))
                continue;
            if (to - from < hair)
                to = from + hair;
            from = from < (double)w->from_ns ? (double)w->from_ns : from;
            to = to > (double)w->to_ns ? (double)w->to_ns : to;
            const double y = l->y[names_add(&resources, t->resource_name[e->resource])][k];
            fprintf(f->data, "%d %.9g %.9g %.4g %.4g\n", 1 + names_add(kinds, t->kind_name[e->kind]), from / 1e9 / unit_s,
                    to / 1e9 / unit_s, y - 0.45, y + 0.45);
        }
}

static void write_variables(struct figure *f, const struct trace_pair *p, const struct window *w, const struct lanes *l,
                            const struct names *kinds, struct plot_unit unit)
{
    const char *role[2 * NAMES_MAX];
    char title[160];
    int n = 0;
    fprintf(f->vars, "array HEADY[%d];array ROLEY[%d];", l->resource.n, p->n * l->resource.n);
    for (int i = 0; i < l->resource.n; i++) {
        fprintf(f->vars, "HEADY[%d]=%g;", i + 1, l->heading[i]);
        for (int k = 0; k < p->n; k++) {
            role[n++] = p->role[k];
            fprintf(f->vars, "ROLEY[%d]=%g;", n, l->y[i][k]);
        }
    }
    figure_texts(f, "HEAD", l->resource.n, l->resource.name);
    figure_texts(f, "ROLE", n, role);
    figure_texts(f, "KIND", kinds->n, kinds->name);
    figure_text(f, "title", "Operations per resource: %s", trace_pair_title(p, title));
    figure_text(f, "subtitle", "%s%s%s", w->what, *p->trace[0].workload ? "; " : "", p->trace[0].workload);
    figure_text(f, "unit", "%s", unit.name);
    figure_number(f, "x0", (double)w->from_ns / 1e9 / unit.scale);
    figure_number(f, "x1", (double)w->to_ns / 1e9 / unit.scale);
    figure_number(f, "bottom", l->bottom);
    figure_size(f, 1400, l->bottom * 22 + 190 > 700 ? l->bottom * 22 + 190 : 700);
}

enum status plot_timeline(struct figure *f, const char *csv_path, const char *second_csv, struct error *err)
{
    struct trace_pair p;
    struct lanes *l = calloc(1, sizeof *l);
    struct names kinds = {0};
    struct window w = {0};
    enum status s = trace_pair_load(&p, csv_path, second_csv, err);
    if (s == STATUS_OK && !l)
        s = error_errno(err, ENOMEM, "plot");
    if (s == STATUS_OK) {
        pick_window(&p, &w);
        place_lanes(&p, l);
        if (l->resource.n == 0)
            s = error_set(err, STATUS_INVALID, "%s: expected a trace with events, found none that took time", csv_path);
    }
    if (s == STATUS_OK) {
        const struct plot_unit unit = plot_time_unit((double)(w.to_ns - w.from_ns) / 1e9);
        write_events(f, &p, &w, l, &kinds, unit.scale);
        write_variables(f, &p, &w, l, &kinds, unit);
    }
    free(l);
    trace_pair_free(&p);
    return s;
}
