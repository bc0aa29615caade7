/* figure.h - what a figure hands to gnuplot: a temporary data file of plain numbers, and variables (texts, numbers, arrays of
 * texts) that the script reads. All text goes through variables, quoted here, so no name in a file can become a command.
 */
#ifndef BALLAST_PLOTS_FIGURE_H
#define BALLAST_PLOTS_FIGURE_H

#include <stdint.h>
#include <stdio.h>

#include "model/error.h"
#include "plots/plot.h"

struct figure {
    FILE *data;      /* written by the kind, closed before gnuplot runs */
    char *data_path; /* deleted by figure_close */
    FILE *vars;      /* gnuplot assignments, "name=value;..." */
    char *vars_text;
    size_t vars_n;
    const struct plot_columns *columns; /* of line and heatmap; never NULL, borrowed */
};

enum status figure_open(struct figure *f, struct error *err);
void figure_close(struct figure *f); /* deletes the data file; a zeroed struct is fine */

void figure_text(struct figure *f, const char *name, const char *format, ...) __attribute__((format(printf, 3, 4)));
void figure_number(struct figure *f, const char *name, double value);
void figure_size(struct figure *f, double width, double height); /* points of a PNG */
/* An array of n texts (at least one, as gnuplot has no empty arrays): name[1]... in the script. */
void figure_texts(struct figure *f, const char *name, int n, const char *const *texts);

/* Runs plots/<script> on the figure and puts the picture at out_path. */
enum status figure_draw(struct figure *f, const char *script, const char *out_path, struct error *err);

/* A unit that suits values up to `max`: value / scale is shown with the name. */
struct plot_unit {
    double scale;
    const char *name;
};
struct plot_unit plot_time_unit(double max_s);
struct plot_unit plot_bytes_unit(double max_bytes);

/* -- the kinds --------------------------------------------------------------------------------------------------------- */

enum status plot_timeline(struct figure *f, const char *csv_path, const char *second_csv, struct error *err);
enum status plot_memory(struct figure *f, const char *csv_path, const char *second_csv, struct error *err);
enum status plot_scatter(struct figure *f, const char *csv_path, const char *second_csv, struct error *err);
enum status plot_throughput(struct figure *f, const char *csv_path, const char *second_csv, struct error *err);
enum status plot_line(struct figure *f, const char *csv_path, const char *second_csv, struct error *err);
enum status plot_heatmap(struct figure *f, const char *csv_path, const char *second_csv, struct error *err);

#endif
