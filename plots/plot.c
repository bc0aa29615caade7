/* plot.c - the kinds of plot by name. Each turns its CSV into a figure; figure.c has gnuplot draw it. */
#include "plots/plot.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#include "plots/figure.h"

struct kind {
    const char *name, *script;
    bool second; /* takes a second file */
    enum status (*prepare)(struct figure *f, const char *csv_path, const char *second_csv, struct error *err);
};

static const struct kind kinds[] = {
    {"timeline", "timeline.gp", true, plot_timeline},
    {"memory", "memory.gp", true, plot_memory},
    {"scatter", "scatter.gp", false, plot_scatter},
    {"throughput", "throughput.gp", false, plot_throughput},
    {"line", "line.gp", false, plot_line},
    {"heatmap", "heatmap.gp", false, plot_heatmap},
};

static const struct kind *find_kind(const char *name)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    return NULL;
}

static enum status check_out_path(const char *path, struct error *err)
{
    const char *dot = strrchr(path, '.');
    if (!dot || (strcmp(dot, ".png") != 0 && strcmp(dot, ".svg") != 0))
        return error_set(err, STATUS_INVALID, "%s: expected a picture that ends in .png or .svg", path);
    for (const char *p = path; *p; p++)
        if (iscntrl((unsigned char)*p))
            return error_set(err, STATUS_INVALID, "%s: expected a printable file name", path);
    return STATUS_OK;
}

enum status plot_render(const char *kind_name, const char *csv_path, const char *second_csv, const struct plot_columns *columns,
                        const char *out_path, struct error *err)
{
    static const struct plot_columns none = {NULL, NULL, NULL, NULL};
    const struct kind *kind = find_kind(kind_name);
    if (!kind)
        return error_set(err, STATUS_INVALID, "plot: expected timeline, memory, scatter, throughput, line or heatmap, found '%s'",
                         kind_name);
    if (second_csv && !kind->second)
        return error_set(err, STATUS_INVALID, "plot: expected one file for %s, found a second: %s", kind_name, second_csv);
    struct figure f;
    enum status s = check_out_path(out_path, err);
    if (s == STATUS_OK)
        s = figure_open(&f, err);
    if (s != STATUS_OK)
        return s;
    f.columns = columns ? columns : &none;
    s = kind->prepare(&f, csv_path, second_csv, err);
    if (s == STATUS_OK)
        s = figure_draw(&f, kind->script, out_path, err);
    figure_close(&f);
    return s;
}
