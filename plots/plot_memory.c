/* plot_memory.c - resident bytes of each tier over time: a panel a tier, a curve a trace, the predicted peak as a line. */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "plots/figure.h"
#include "plots/plot_trace.h"

enum { POINTS_MAX = 600, STRETCHES = 300 }; /* a curve with more points than that is a blot: it becomes its upper edge */

struct curve {
    struct figure *f;
    int id;
    int64_t origin_ns;
    double unit_s, unit_bytes;
};

static void write_point(const struct curve *c, int64_t at_ns, int64_t bytes)
{
    fprintf(c->f->data, "%d %.9g %.9g\n", c->id, (double)(at_ns - c->origin_ns) / 1e9 / c->unit_s, (double)bytes / c->unit_bytes);
}

static int64_t count_samples(const struct trace *t, int tier)
{
    int64_t n = 0;
    for (int64_t i = 0; i < t->n_samples; i++)
        n += t->sample[i].tier == tier;
    return n;
}

/* Every sample of the tier; of more than POINTS_MAX the highest level of each stretch of time. A level holds until the next
 * sample, so a stretch begins with the level that it inherits. */
static void write_curve(const struct curve *c, const struct trace *t, int tier, int64_t end_ns)
{
    const bool all = count_samples(t, tier) <= POINTS_MAX;
    const double stretch_ns = (double)(end_ns - c->origin_ns + 1) / STRETCHES;
    int64_t stretch = -1, level = -1, highest = -1;
    for (int64_t i = 0; i < t->n_samples; i++) {
        const struct trace_sample *x = &t->sample[i];
        if (x->tier != tier)
            continue;
        const int64_t here = (int64_t)((double)(x->at_ns - c->origin_ns) / stretch_ns);
        if (all) {
            write_point(c, x->at_ns, x->bytes);
        } else if (here != stretch) {
            if (stretch >= 0)
                write_point(c, c->origin_ns + (int64_t)(stretch_ns * (double)stretch), highest);
            if (stretch >= 0 && here > stretch + 1) /* nothing happened in between */
                write_point(c, c->origin_ns + (int64_t)(stretch_ns * (double)(stretch + 1)), level);
            stretch = here;
            highest = level;
        }
        level = x->bytes;
        highest = level > highest ? level : highest;
    }
    if (!all)
        write_point(c, c->origin_ns + (int64_t)(stretch_ns * (double)stretch), highest);
    if (level >= 0) /* the last level holds to the end of the run */
        write_point(c, end_ns, level);
}

static int64_t origin_ns(const struct trace *t)
{
    int64_t first = t->n_samples ? t->sample[0].at_ns : 0;
    for (int64_t i = 0; i < t->n_events; i++)
        if (t->event[i].start_ns < first)
            first = t->event[i].start_ns;
    return first;
}

static int64_t end_ns(const struct trace *t)
{
    int64_t last = t->n_samples ? t->sample[t->n_samples - 1].at_ns : 0;
    for (int64_t i = 0; i < t->n_events; i++)
        if (t->event[i].end_ns > last)
            last = t->event[i].end_ns;
    return last;
}

static int find_tier(const struct trace *t, const char *name)
{
    for (int i = 0; i < t->n_tiers; i++)
        if (strcmp(t->tier_name[i], name) == 0)
            return i;
    return -1;
}

static int64_t largest_sample(const struct trace *t, int tier)
{
    int64_t most = -1;
    for (int64_t i = 0; i < t->n_samples; i++)
        if (t->sample[i].tier == tier && t->sample[i].bytes > most)
            most = t->sample[i].bytes;
    return most;
}

/* "measured, peak 12.3 GiB" */
static void write_label(struct figure *f, int id, const char *what, double bytes)
{
    const struct plot_unit u = plot_bytes_unit(bytes);
    char name[24];
    snprintf(name, sizeof name, "LABEL[%d]", id);
    figure_text(f, name, "%s %.4g %s", what, bytes / u.scale, u.name);
}

/* One panel; false if no trace has a sample of this tier. Ids: 2i + 1 and 2i + 2 are the curves, LABEL 3i + 1... their names. */
static bool write_panel(struct figure *f, const struct trace_pair *p, const char *tier, int panel, double unit_s)
{
    int64_t most[2] = {-1, -1};
    double predicted = 0, top = 0;
    for (int k = 0; k < p->n; k++) {
        const int i = find_tier(&p->trace[k], tier);
        if (i < 0)
            continue;
        most[k] = largest_sample(&p->trace[k], i);
        top = (double)most[k] > top ? (double)most[k] : top;
        if (predicted <= 0)
            predicted = p->trace[k].predicted_peak_bytes[i];
    }
    if (most[0] < 0 && most[1] < 0)
        return false;
    top = predicted > top ? predicted : top;
    const struct plot_unit unit = plot_bytes_unit(top);
    for (int k = 0; k < p->n; k++) {
        if (most[k] < 0)
            continue;
        char what[80];
        snprintf(what, sizeof what, "%.60s, peak", p->role[k]);
        write_label(f, 3 * panel + k + 1, what, (double)most[k]);
        const struct curve c = {f, 2 * panel + k + 1, origin_ns(&p->trace[k]), unit_s, unit.scale};
        write_curve(&c, &p->trace[k], find_tier(&p->trace[k], tier), end_ns(&p->trace[k]));
    }
    if (predicted > 0)
        write_label(f, 3 * panel + 3, "predicted peak", predicted);
    fprintf(f->vars, "PEAK[%d]=%.9g;TOP[%d]=%.9g;", panel + 1, predicted / unit.scale, panel + 1,
            (top > 0 ? top : 1) / unit.scale * 1.12);
    fprintf(f->vars, "UNIT[%d]='%s';", panel + 1, unit.name);
    return true;
}

enum status plot_memory(struct figure *f, const char *csv_path, const char *second_csv, struct error *err)
{
    struct trace_pair p;
    struct names tiers = {0}, shown = {0};
    double longest_s = 0;
    bool edges = false;
    enum status s = trace_pair_load(&p, csv_path, second_csv, err);
    if (s != STATUS_OK)
        goto out;
    for (int k = 0; k < p.n; k++) {
        const double span_s = (double)(end_ns(&p.trace[k]) - origin_ns(&p.trace[k])) / 1e9;
        longest_s = span_s > longest_s ? span_s : longest_s;
        for (int i = 0; i < p.trace[k].n_tiers; i++) {
            names_add(&tiers, p.trace[k].tier_name[i]);
            edges |= count_samples(&p.trace[k], i) > POINTS_MAX;
        }
    }
    const int most = tiers.n > 0 ? tiers.n : 1;
    fprintf(f->vars, "array PEAK[%d];array TOP[%d];array UNIT[%d];array LABEL[%d];", most, most, most, 3 * most);
    for (int i = 0; i < 3 * most; i++)
        fprintf(f->vars, "LABEL[%d]='';", i + 1);
    const struct plot_unit unit = plot_time_unit(longest_s);
    for (int i = 0; i < tiers.n; i++)
        if (write_panel(f, &p, tiers.name[i], shown.n, unit.scale))
            names_add(&shown, tiers.name[i]);
    if (shown.n == 0) {
        s = error_set(err, STATUS_INVALID, "%s: expected samples of resident bytes, found none", csv_path);
        goto out;
    }
    char title[160];
    figure_texts(f, "TIER", shown.n, shown.name);
    figure_text(f, "title", "Resident bytes per tier: %s", trace_pair_title(&p, title));
    figure_text(f, "subtitle", "%s%s%s", p.trace[0].workload, *p.trace[0].workload && edges ? "; " : "",
                edges ? "the highest level in each 1/300 of the run" : "");
    figure_text(f, "unit", "%s", unit.name);
    figure_number(f, "xmax", longest_s > 0 ? longest_s / unit.scale : 1);
    figure_number(f, "first", p.n == 1 && p.trace[0].origin == TRACE_MEASURED ? 2 : 1); /* measured has one colour */
    figure_size(f, 1400, shown.n > 3 ? 900 : 700);
out:
    trace_pair_free(&p);
    return s;
}
