/* plot.h - figures from CSV files, drawn by gnuplot: one file (or a predicted and a measured one) in, one picture out.
 *
 *     plot_render("timeline", "predicted.csv", "measured.csv", "timeline.png", &err);
 *
 * Kinds, and what they read (docs/traces.md shows each):
 *     timeline    one or two traces: operations on each resource; a long run is cut to a window that the title names
 *     memory      one or two traces: resident bytes of each tier over time, and the predicted peak
 *     scatter     a table label,predicted,measured: predicted against measured, the identity and a band of +-10 %
 *     throughput  a table label,batch,throughput_tok_s[,measured_tok_s]: throughput against batch size
 *     line        any table, such as a sweep's: column y against column x, a line for each value of column group
 *     heatmap     any table: column value by columns x and y
 * In a table other columns are ignored; "predicted_s" or "measured_tok_s" give the unit of a scatter, tok/s without.
 */
#ifndef BALLAST_PLOTS_PLOT_H
#define BALLAST_PLOTS_PLOT_H

#include "model/error.h"

/* For line and heatmap; each a column's name or NULL. Rows that agree in what is drawn are averaged, and the title says so. */
struct plot_columns {
    const char *x, *y, *value, *group;
};

/* Draws csv_path (and second_csv, or NULL) into out_path, which ends in .png or .svg and appears whole or not at all. The .gp
 * scripts are looked for in $BALLAST_PLOTS, beside the running program (../plots, ../share/ballast/plots) and in ./plots.
 * STATUS_INVALID: an unknown kind, a wrong file (path:line). STATUS_RUNTIME: gnuplot is missing or failed, with its message. */
enum status plot_render(const char *kind, const char *csv_path, const char *second_csv, const struct plot_columns *columns,
                        const char *out_path, struct error *err);

#endif
