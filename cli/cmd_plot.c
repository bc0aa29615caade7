/* cmd_plot.c - ballast plot: a picture of one or two CSV files. */
#include "cli/commands.h"
#include "cli/options.h"
#include "plots/plot.h"

/* KIND FILE [FILE2] and -o, or what is missing. */
static enum status check(const struct options *o, struct error *err)
{
    if (o->n_arguments < 2) {
        return error_set(err, STATUS_INVALID, "%s is missing: ballast plot KIND FILE [FILE2] -o OUT.png",
                         o->n_arguments == 0 ? "the kind of plot" : "the CSV file to draw");
    }
    if (o->n_arguments > 3) {
        return error_set(err, STATUS_INVALID, "unexpected argument \"%s\": a plot draws one or two files", o->argument[3]);
    }
    if (!o->file) {
        return error_set(err, STATUS_INVALID, "-o/--output is missing: give the picture to write, OUT.png or OUT.svg");
    }
    return STATUS_OK;
}

int cmd_plot(int argc, char **argv)
{
    static const struct command_usage USAGE =
        {"plot", "KIND FILE [FILE2] -o OUT.png",
         "Draws one CSV file, or a predicted and a measured one, with gnuplot into OUT.png or OUT.svg. Kinds:\n"
         "  timeline    what each resource did when, of one or two traces\n"
         "  memory      resident bytes of each tier over time, and the predicted peak\n"
         "  scatter     a table label,predicted,measured against the identity\n"
         "  throughput  a table label,batch,throughput_tok_s[,measured_tok_s] over the batch size\n"
         "  line        column --y against column --x of any table, such as a sweep's, a line for each value of --group\n"
         "  heatmap     column --value by the columns --x and --y",
         OPTION_FILE | OPTION_ARGUMENTS | OPTION_PLOT};
    struct options o;
    struct error err = {0};
    int code;
    if (!options_parse(&o, &USAGE, argc, argv, &code)) {
        return code;
    }
    if (check(&o, &err) == STATUS_OK) {
        plot_render(o.argument[0], o.argument[1], o.n_arguments > 2 ? o.argument[2] : NULL,
                    &(struct plot_columns){o.plot_x, o.plot_y, o.plot_value, o.plot_group}, o.file, &err);
    }
    return err.status == STATUS_OK ? STATUS_OK : command_fail(USAGE.name, &err);
}
